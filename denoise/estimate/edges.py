"""Width of the sharpest edges of an image: a blur of all of it is not wider, and alike in all parts."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

import numpy as np
import torch
from torch.nn import functional as F

from denoise.arrays import Array

_HEIGHT = 0.2  # of full scale: noise hardly moves the slope of such edges
_REACH_PX = 3  # on either side of an edge, over which its height is measured
_SHARPEST = 0.95  # quantile of their slopes: thin lines and single bad samples are steeper still
_MIN_EDGES = 100
_PARTS, _PART_PX = 3, 80  # along each axis, and the least side of one, which holds edges of several objects
_MIN_EDGES_PART, _MIN_PARTS = 40, 4  # enough edges in a part, and enough such parts
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
    return _width_px(page, peak, _MIN_EDGES)


def edge_spread(page: Array, peak: float) -> float:
    """Compare the sharpest edges of the parts of an image: 1 where all are alike, more in shallow focus.

    Returns:
        Ratio of the upper quartile of their widths to the lower one; 1 for small images, and if few parts
        have edges.

    Shape:
        `(C, H, W)`.
    """
    if min(page.shape[1:]) < _PARTS * _PART_PX:
        return 1.0
    rows, columns = (np.linspace(0, size, _PARTS + 1).astype(int) for size in page.shape[1:])
    parts = [page[:, top:end, left:right] for top, end in pairwise(rows) for left, right in pairwise(columns)]
    widths = [width for part in parts if math.isfinite(width := _width_px(part, peak, _MIN_EDGES_PART))]
    if len(widths) < _MIN_PARTS:
        return 1.0
    lower, upper = np.quantile(widths, [0.25, 0.75])
    return float(upper / lower)


def _width_px(page: Array, peak: float, least: int) -> float:
    slopes = [
        _slopes(np.divide(page[:, top : top + _BAND_ROWS].mean(0), peak, dtype=np.float32))
        for top in range(0, page.shape[1], _BAND_ROWS)
    ]
    found = np.concatenate(slopes)
    if len(found) < least:
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
