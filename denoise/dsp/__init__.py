"""Signal processing that several parts share: resampling, windows, autoregression."""
