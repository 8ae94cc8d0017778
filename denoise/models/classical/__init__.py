"""Denoisers without training."""
