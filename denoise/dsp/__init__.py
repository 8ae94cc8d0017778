"""Shared signal processing: resampling, windows, autoregression, hum."""
