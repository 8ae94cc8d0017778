"""Blind estimates of noise, blur and compression, from the samples alone.

Texture can hide faint noise, or be taken for it. True figures need a reference: see `denoise.metrics`.
"""

from denoise.estimate.noise import NoiseEstimator, white_noise_sigma

__all__ = ["NoiseEstimator", "white_noise_sigma"]
