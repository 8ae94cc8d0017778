"""Single bad samples: hot pixels of a camera, and salt and pepper."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np

from denoise.arrays import Array

_EIGHT_BIT = 255.0
_EXCESS = 20.0  # 8-bit units above the brightest neighbour
_OUTLIER = 8.0  # standard deviations above the median of the neighbourhood
_SPREAD = 0.12  # excess of the four next samples, relative to that of the centre: a star has more
_DEVIATION = 1.4826  # of a normal distribution, relative to its median absolute deviation
_RADIUS = 2

# Salt and pepper, chosen on eight pictures of scikit-image with 0.5 to 30 % of it.
_STEP = 20.0  # 8-bit units off the median of the neighbours
_AT_LIMIT = 0.9  # share of the lone peaks, and of the lone pits, that are at the end of the range
_LEAST = 0.00075  # share of the samples that are lone peaks, and lone pits: clean photos have less
_LONE = 0.2  # lone samples of those to replace: the lines of a drawing hang together, chance does not
_DEVIATIONS = 4.0  # beyond the mean number of specks around a place: more are part of the picture
_MIN_KNOWN, _MIN_NEXT = 6, 3  # samples to take a median of, at all and of the next ones alone
_CHUNK = 1 << 16  # places looked at together


def without_hot_pixels(page: Array, white: float) -> Array:
    """Replace hot pixels by the median of their neighbours, channel by channel.

    A star is spread over its neighbours by the lens, a hot pixel is one sample of one channel. A dot that
    stands out in every channel is part of the picture, such as those on the wings of a butterfly.

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
        if len(places) and len(page) > 1:
            lone = ~np.all([_stands_out(other, places) for other in page], axis=0)
            places, medians = places[lone], medians[lone]
        if len(places):
            repaired = page.copy() if repaired is page else repaired
            repaired[index][tuple(places.T)] = medians.astype(page.dtype)
    return repaired


def without_salt_and_pepper(page: Array, white: float, excess: float) -> Array:
    """Replace samples at either end of the range by the median of the others around them, channel by channel.

    An adaptive median filter (Hwang and Haddad, "Adaptive median filters", 1995), but only where lone peaks
    and lone pits are nearly all at the ends of the range: those of texture have many values.

    Args:
        page: The image; it is not changed.
        white: The value that means white, black being 0.
        excess: Least distance of a lone sample from all its neighbours, in the units of the page.

    Shape:
        `(C, H, W)` in and out; without salt and pepper the page itself is returned.
    """
    ends = [(channel.min(), channel.max()) for channel in page]
    lone, at_end = np.zeros(2), np.zeros(2)
    for channel, (darkest, brightest) in zip(page, ends, strict=True):
        peaks, pits = _peaks(channel, excess), _peaks(brightest - channel, excess)
        for index, (places, end) in enumerate(((peaks, brightest), (pits, darkest))):
            lone[index] += len(places)
            at_end[index] += np.count_nonzero(channel[tuple(places.T)] == end)
    if lone.min() < _LEAST * page.size or np.any(at_end < _AT_LIMIT * lone):
        return page
    expected = ((2 * _RADIUS + 1) ** 2 - 1) * _share(lone.max() / page.size)
    most = expected + _DEVIATIONS * math.sqrt(expected) + 1
    repaired, count = page.copy(), 0
    for channel, result, limits in zip(page, repaired, ends, strict=True):
        places = np.argwhere((channel == limits[0]) | (channel == limits[1]))
        for start in range(0, len(places), _CHUNK):
            part = places[start : start + _CHUNK]
            bad, medians = _off_the_median(channel, part, limits, _STEP / _EIGHT_BIT * white, most)
            result[tuple(bad.T)] = medians.astype(page.dtype)
            count += len(bad)
    return repaired if count and lone.sum() >= _LONE * count else page


def _share(lone: float) -> float:
    """Return the share of specks at one end, given that of those without another among eight neighbours."""
    share = lone
    for _ in range(8):  # p (1 - p)^8 has a maximum at 1/9
        share = min(1 / 9, lone / (1 - share) ** 8)
    return share


def _off_the_median(
    channel: Array, places: Array, ends: tuple[Array, Array], step: float, most: float
) -> tuple[Array, Array]:
    """Return the places that are off the median of the known samples around, and these medians.

    Args:
        channel: The channel, `(H, W)`.
        places: The samples at the ends of the range, `(N, 2)`.
        ends: The values there, which are not known.
        step: Least difference.
        most: Number of samples around a place that may be at the same end.
    """
    around, shifts = _around(channel, places)
    own = channel[tuple(places.T)]
    known = (around != ends[0]) & (around != ends[1])
    open_ = ((around == own[:, None]).sum(1) <= most) & (known.sum(1) >= _MIN_KNOWN)
    places, own, around, known = places[open_], own[open_], around[open_], known[open_]
    near = known & (np.abs(shifts).max(1) == 1)
    used = np.where(near.sum(1, keepdims=True) >= _MIN_NEXT, near, known)
    medians = np.nanmedian(np.where(used, around, np.nan), axis=1) if len(places) else np.zeros(0)
    if channel.dtype.kind != "f":
        medians = np.rint(medians)
    off = np.abs(own - medians) > step
    return places[off], medians[off]


def _hot(channel: Array, excess: float) -> tuple[Array, Array]:
    """Return the places of hot pixels, `(N, 2)`, and the medians around them, `(N,)`."""
    places = _peaks(channel, excess)
    if not len(places):
        return places, places[:, 0]
    around, shifts = _around(channel, places)
    middle = np.median(around, axis=1)
    deviation = _DEVIATION * np.median(np.abs(around - middle[:, None]), axis=1)
    above = channel[tuple(places.T)] - middle
    next_to = around[:, np.abs(shifts).sum(1) == 1].mean(1) - middle
    hot = (above > _OUTLIER * deviation) & (next_to < _SPREAD * above)
    return places[hot], middle[hot]


def _stands_out(channel: Array, places: Array) -> Array:
    """Tell which places differ from the median around them by half of what makes a hot pixel, `(N,)`."""
    around, _ = _around(channel, places)
    middle = np.median(around, axis=1, keepdims=True)
    deviation = _DEVIATION * np.median(np.abs(around - middle), axis=1)
    above = channel[tuple(places.T)] - middle[:, 0]
    return above > np.maximum(_OUTLIER / 2 * deviation, 0)


def _around(channel: Array, places: Array) -> tuple[Array, Array]:
    """Return the samples around places, `(N, 24)`, and how far they are off, `(24, 2)`."""
    shifts = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1].reshape(2, -1).T
    shifts = shifts[np.any(shifts != 0, axis=1)]
    limits = np.array(channel.shape)[:, None, None] - 1
    rows, columns = np.clip((places[:, None] + shifts).transpose(2, 0, 1), 0, limits)
    return channel[rows, columns].astype(np.float64), shifts


def _peaks(channel: Array, excess: float) -> Array:
    """Return the places of samples that exceed their eight neighbours by `excess`, `(N, 2)`."""
    height, width = (size - 2 for size in channel.shape)
    around = [channel[y : y + height, x : x + width] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    inner, highest = channel[1:-1, 1:-1], reduce(np.maximum, around)
    # Where the first holds, the difference of unsigned samples is right.
    return np.argwhere((inner > highest) & (inner - highest > excess)) + 1
