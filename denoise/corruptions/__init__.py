"""The noise-injection transforms: one definition feeds training, `denoise corrupt` and `denoise benchmark`.

>>> import torch
>>> from denoise import corruptions
>>> noise = corruptions.parse("gaussian:sigma=25")
>>> noisy = noise(torch.full((1, 3, 8, 8), 0.5), torch.Generator().manual_seed(0))
>>> noisy.shape
torch.Size([1, 3, 8, 8])

To add one: a frozen dataclass in `general`, `image`, `audio` or `sensor`, and its row in `spec.CORRUPTIONS`.
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
