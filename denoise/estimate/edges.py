"""Width of the sharpest edges of an image: a blur of all of it is not wider."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import torch
from torch.nn import functional as F

from denoise.arrays import Array

_HEIGHT = 0.2  # of full scale: noise hardly moves the slope of such edges
_REACH_PX = 3  # on either side of an edge, over which its height is measured
_SHARPEST = 0.95  # quantile of their slopes: thin lines and single bad samples are steeper still
_MIN_EDGES = 100
_BAND_ROWS = 512


def sharpest_edges_px(page: Array, peak: float) -> float:
    """Return the width of the sharpest edges of an image, as the standard deviation of a Gaussian blur.

    The steepest step between neighbours, relative to the height of the edge, tells its width. The spectrum
    does not tell a scene that is soft by itself, or a small disk, from a Gaussian that is wider.

    Args:
        page: The image.
        peak: The value that means full scale.

    Returns:
        Width in pixels; infinite without enough edges of a fifth of full scale.

    Shape:
        `(C, H, W)`.
    """
    slopes = [
        _slopes(np.divide(page[:, top : top + _BAND_ROWS].mean(0), peak, dtype=np.float32))
        for top in range(0, page.shape[1], _BAND_ROWS)
    ]
    found = np.concatenate(slopes)
    if len(found) < _MIN_EDGES:
        return math.inf
    share = min(float(np.quantile(found, _SHARPEST)), 0.999)  # of the height that lies within one pixel
    return 0.5 / NormalDist().inv_cdf((1 + share) / 2)


def _slopes(luma: Array) -> Array:
    """Return the steepest step of each edge relative to its height."""
    if min(luma.shape) < 2:
        return np.zeros(0, np.float32)
    image = torch.from_numpy(luma)[None]
    height = (_highest(image, _REACH_PX) + _highest(-image, _REACH_PX))[:, :-1, :-1]
    down, across = (image.diff(dim=axis).abs() for axis in (1, 2))
    steps = torch.maximum(down[:, :, :-1], across[:, :-1])
    edge = (height > _HEIGHT) & (steps >= _highest(steps, 1))
    found: Array = (steps[edge] / height[edge]).numpy()
    return found


def _highest(images: torch.Tensor, reach: int) -> torch.Tensor:
    """Return the largest value around each pixel."""
    side = 2 * reach + 1
    rows = F.max_pool2d(images, (side, 1), 1, (reach, 0))
    return F.max_pool2d(rows, (1, side), 1, (0, reach))
