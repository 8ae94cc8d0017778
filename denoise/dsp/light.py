"""Light behind the pixel values of a picture, and back (sRGB, IEC 61966-2-1)."""

from __future__ import annotations

import torch
from torch import Tensor


def to_light(values: Tensor) -> Tensor:
    """Convert pixel values, 0 black and 1 white, to linear light; values below 0 stay below 0."""
    curved = ((values.clamp(min=0) + 0.055) / 1.055).pow_(2.4)
    return torch.where(values <= 0.04045, values / 12.92, curved)


def from_light(light: Tensor) -> Tensor:
    """Convert linear light to pixel values, the inverse of `to_light`."""
    curved = light.clamp(min=0).pow_(1 / 2.4).mul_(1.055).sub_(0.055)
    return torch.where(light <= 0.0031308, light * 12.92, curved)
