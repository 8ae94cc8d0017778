"""Light behind the pixel values of a picture, and back (sRGB, IEC 61966-2-1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from denoise.arrays import Array

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", "Array", "Tensor")


def to_light(values: Values) -> Values:
    """Convert pixel values, 0 black and 1 white, to linear light; values below 0 stay below 0."""
    curved = ((values.clip(0) + 0.055) / 1.055) ** 2.4
    return _where(values <= 0.04045, values / 12.92, curved)


def from_light(light: Values) -> Values:
    """Convert linear light to pixel values, the inverse of `to_light`."""
    curved = light.clip(0) ** (1 / 2.4) * 1.055 - 0.055
    return _where(light <= 0.0031308, light * 12.92, curved)


def _where(condition: Any, values: Any, others: Any) -> Any:
    if isinstance(condition, np.ndarray):
        return np.where(condition, values, others)
    import torch

    return torch.where(condition, values, others)
