"""Noise injection for training, `denoise corrupt` and `denoise benchmark`.

>>> import torch
>>> from denoise import corruptions
>>> noise = corruptions.parse("gaussian:sigma=25")
>>> noisy = noise(torch.full((1, 3, 8, 8), 0.5), torch.Generator().manual_seed(0))
>>> noisy.shape
torch.Size([1, 3, 8, 8])
"""

from denoise.corruptions.base import Chain, Choice, Corruption, corrupt, with_level
from denoise.corruptions.levels import Level, RandomLevel
from denoise.corruptions.spec import CORRUPTIONS, parse

__all__ = [
    "CORRUPTIONS",
    "Chain",
    "Choice",
    "Corruption",
    "Level",
    "RandomLevel",
    "corrupt",
    "parse",
    "with_level",
]
