"""Denoisers of sensor logs."""
