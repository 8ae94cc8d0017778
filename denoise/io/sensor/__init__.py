"""Sensor logs, one module a format."""
