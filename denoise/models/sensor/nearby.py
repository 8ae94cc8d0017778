"""Sums, means and quantiles of what is near each sample, by frames on one grid.

The grid does not depend on where blocks begin, so blocks, put together, equal the whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles

GRID = 256  # samples; frames of all stages and checks lie on it
_THIN = 8


def nearby(values: NDArray) -> Doubles:  # type: ignore[type-arg]
    """Return the sum of the values within about four frames of each sample, the same within a frame."""
    return np.repeat(frames_nearby(values), GRID)[: values.size]


def frames_nearby(values: NDArray) -> Doubles:  # type: ignore[type-arg]
    """Return the sum of the values within about four frames of each frame."""
    frames = -(-values.size // GRID)
    sums = np.zeros(frames + 1)
    np.cumsum(frame_sums(values), out=sums[1:])
    at = np.arange(frames)
    near: Doubles = sums[np.minimum(at + 5, frames)] - sums[np.maximum(at - 4, 0)]
    return near


def frame_sums(values: NDArray) -> Doubles:  # type: ignore[type-arg]
    """Return the sum of the values in each frame."""
    sums: Doubles = np.add.reduceat(values, np.arange(0, values.size, GRID), dtype=float)
    return sums


def between(samples: Doubles) -> Doubles:
    """Return the cubic through the two samples to each side; the first and last two unchanged."""
    out = samples.copy()
    near, far = samples[1:-3] + samples[3:-1], samples[:-4] + samples[4:]
    out[2:-2] = (4.0 * near - far) / 6.0
    return out


def quantile_nearby(sizes: Doubles, share: float, zeros: bool = True) -> Doubles:
    """Return a quantile of the sizes within about four frames of each sample, the same within a frame.

    One of eight sizes suffices, at places that no regular staircase avoids.

    Args:
        sizes: Numbers of 0 or more, `(n,)`.
        share: Quantile, from 0 to 1.
        zeros: False leaves zeros out.
    """
    frames, row = -(-sizes.size // GRID), GRID // _THIN
    thin = np.full((frames + 8) * row, np.inf, np.float32)
    count = -(-sizes.size // _THIN)
    given = sizes[np.minimum(np.arange(count) * _THIN + np.arange(count) % _THIN, sizes.size - 1)]
    thin[4 * row : 4 * row + given.size] = given if zeros else np.where(given > 0.0, given, np.inf)
    near = np.lib.stride_tricks.sliding_window_view(thin.reshape(-1, row), 9, axis=0).reshape(frames, -1)
    near = np.sort(near, axis=1)  # what is missing comes last
    known = np.isfinite(near).sum(1)
    place = np.clip((share * known).astype(int), 0, np.maximum(known - 1, 0))
    quantiles = np.where(known > 0, near[np.arange(frames), place], 0.0).astype(np.float64)
    return np.repeat(quantiles, GRID)[: sizes.size]


def slide(values: NDArray, window: int) -> NDArray:  # type: ignore[type-arg]
    """Return the mean under a smooth window (two boxes); at an end, over the samples there are."""
    box = max(1, window // 2) | 1
    means = _boxes(values, box)
    weights = _boxes(np.ones(min(values.size, 2 * box)), box)
    if values.size < 2 * box:
        means /= weights
        return means
    means[:box] /= weights[:box]  # both boxes are full inside
    means[-box:] /= weights[-box:]
    return means


def _boxes(values: NDArray, box: int) -> NDArray:  # type: ignore[type-arg]
    """Apply a moving average twice, with zeros beyond the ends."""
    size, half = values.size, box // 2
    sums = np.zeros(size + box, values.dtype)
    for _ in range(2):
        np.cumsum(values, out=sums[half + 1 : half + 1 + size])
        sums[half + 1 + size :] = sums[half + size]
        values = sums[box:] - sums[:-box]
    values *= 1.0 / box**2
    return values


def falling(values: Doubles, limits: tuple[float, float]) -> Doubles:
    """Return 1 up to the first limit, 0 from the second."""
    low, high = limits
    share: Doubles = np.clip((high - values) / (high - low), 0.0, 1.0)
    return share
