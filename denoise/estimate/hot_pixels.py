"""Hot pixels of a camera: single samples far above their neighbours."""

from __future__ import annotations

from functools import reduce

import numpy as np

from denoise.arrays import Array

_EIGHT_BIT = 255.0
_EXCESS = 20.0  # 8-bit units above the brightest neighbour
_OUTLIER = 8.0  # standard deviations above the median of the neighbourhood
_SPREAD = 0.12  # excess of the four next samples, relative to that of the centre: a star has more
_DEVIATION = 1.4826  # of a normal distribution, relative to its median absolute deviation
_RADIUS = 2


def without_hot_pixels(page: Array, white: float) -> Array:
    """Replace hot pixels by the median of their neighbours, channel by channel.

    A star is spread over its neighbours by the lens, a hot pixel is one sample of one channel.

    Args:
        page: The image; it is not changed.
        white: The value that means white, black being 0.

    Shape:
        `(C, H, W)` in and out; without hot pixels the page itself is returned.
    """
    if min(page.shape[1:]) <= 2 * _RADIUS:
        return page
    repaired = page
    for index, channel in enumerate(page):
        places, medians = _hot(channel, _EXCESS / _EIGHT_BIT * white)
        if len(places):
            repaired = page.copy() if repaired is page else repaired
            repaired[index][tuple(places.T)] = medians.astype(page.dtype)
    return repaired


def _hot(channel: Array, excess: float) -> tuple[Array, Array]:
    """Return the places of hot pixels, `(N, 2)`, and the medians around them, `(N,)`."""
    places = _peaks(channel, excess)
    if not len(places):
        return places, places[:, 0]
    shifts = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1].reshape(2, -1).T
    shifts = shifts[np.any(shifts != 0, axis=1)]
    limits = np.array(channel.shape)[:, None, None] - 1
    rows, columns = np.clip((places[:, None] + shifts).transpose(2, 0, 1), 0, limits)
    around = channel[rows, columns].astype(np.float64)
    middle = np.median(around, axis=1)
    deviation = _DEVIATION * np.median(np.abs(around - middle[:, None]), axis=1)
    above = channel[tuple(places.T)] - middle
    next_to = around[:, np.abs(shifts).sum(1) == 1].mean(1) - middle
    hot = (above > _OUTLIER * deviation) & (next_to < _SPREAD * above)
    return places[hot], middle[hot]


def _peaks(channel: Array, excess: float) -> Array:
    """Return the places of samples that exceed their eight neighbours by `excess`, `(N, 2)`."""
    height, width = (size - 2 for size in channel.shape)
    around = [channel[y : y + height, x : x + width] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    inner, highest = channel[1:-1, 1:-1], reduce(np.maximum, around)
    # Where the first holds, the difference of unsigned samples is right.
    return np.argwhere((inner > highest) & (inner - highest > excess)) + 1
