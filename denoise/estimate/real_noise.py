"""Noise of a real photo, estimated by what a denoiser removes from flat parts.

Noise that was demosaiced, smoothed and compressed in a camera is weak at the finest frequencies, where
estimators of white noise measure. A denoiser trained on such noise recognises it by its shape. In flat parts
it removes noise only, so what it removes there gives the level for each brightness and each frequency.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from denoise.arrays import Array
from denoise.estimate.blocks import cut_blocks

Denoise = Callable[[Array], Array]  # (N, 3, side, side) in 0..1 -> the same, cleaned

_EIGHT_BIT = 255.0
_CROP_PX = 64
_CROPS_PER_LEVEL, _LEVELS = 2, 3  # flattest crops of the dark, the middle and the bright third
_MAX_CANDIDATES = 400
_CELL_PX = 8  # the structure of a crop is measured on means of such cells, which average noise out
_BLOCK_PX = 16
_CLIPPED = (0.03, 0.97)  # mean of a crop: beyond, noise is cut off
# A denoiser removes nearly all of white noise but, of smoothed noise, the less the coarser it is. By the
# whiteness, noise is smoothed up to the first value and white from the second on. The rest is the log of the
# level of smoothed noise: a constant, and what the log of what was removed and the whiteness add. Fit to the
# mean absolute error on 242 training photos with noise of the in-camera chain, and 84 with white noise.
_WHITE = (0.35, 0.6)
_LEVEL, _PER_REMOVED, _PER_WHITENESS = 0.75, 0.65, 1.17
_TRACE = 0.15  # 8-bit units, below which the logarithm ends


@dataclass(frozen=True)
class RealNoise:
    """Noise of one photo, in 8-bit units."""

    sigma: float  # standard deviation over the photo, all frequencies, root mean square of its channels
    removed: float  # standard deviation of what the denoiser removed from flat parts
    brightness: Array  # mean brightness of the crops, in 0..255, ascending, `(N,)`
    levels: Array  # what was removed at each, `(N,)`
    # density of the finest frequencies over that of the coarse ones: 1 for white noise, below 0.3 for noise
    # that was smoothed
    whiteness: float
    # power density of what was removed, relative to white noise of the same level, in eight bands of equal
    # width from 0 to half a cycle a pixel, `(8,)`
    spectrum: Array


def real_noise(page: Array, peak: float, denoise: Denoise) -> RealNoise:
    """Estimate the noise of a photo.

    Args:
        page: The photo; one channel is repeated, of two or more than three the first is taken.
        peak: The value that means full scale.
        denoise: Cleans a batch of crops.

    Shape:
        `(C, H, W)`.

    Returns:
        Zero noise for a page of less than 16 pixels a side.
    """
    side = min(_CROP_PX, *(size // _BLOCK_PX * _BLOCK_PX for size in page.shape[1:]))
    if side < _BLOCK_PX:
        return RealNoise(0.0, 0.0, np.zeros(0), np.zeros(0), 1.0, np.ones(8))
    crops = flattest_crops(page, peak, side)
    cleaned = np.asarray(denoise(crops), np.float32)
    removed = (crops - cleaned) * np.float32(_EIGHT_BIT)
    flat = _flat_blocks(cleaned)  # (N, blocks)
    power = _blocks(np.square(removed).mean(1)).mean(-1)  # (N, blocks)
    levels = np.sqrt((power * flat).sum(1) / flat.sum(1))
    spectrum = _spectrum(removed.mean(1))
    total = math.sqrt(float(np.square(levels).mean()))
    brightness = _EIGHT_BIT * cleaned.mean((1, 2, 3))
    order = np.argsort(brightness)
    whiteness = float(spectrum[-1]) / max(float(spectrum[1:4].mean()), 1e-9)
    sigma = _total_sigma(total, whiteness)
    return RealNoise(sigma, total, brightness[order], levels[order], whiteness, spectrum)


def flattest_crops(page: Array, peak: float, side: int) -> Array:
    """Cut the crops with the least coarse structure from the dark, middle and bright third of a photo.

    Shape:
        `(C, H, W)` -> `(N, 3, side, side)` in 0..1, N at most 6.
    """
    channels = page[:3] if len(page) >= 3 else page[[0, 0, 0]]
    height, width = page.shape[1:]
    step = max(side // 2, math.ceil(math.sqrt(height * width / _MAX_CANDIDATES)))
    places = [(top, left) for top in _starts(height, side, step) for left in _starts(width, side, step)]
    green = np.stack([channels[1, top : top + side, left : left + side] for top, left in places])
    cells = green.reshape(len(places), side // _CELL_PX, _CELL_PX, -1, _CELL_PX)
    means = cells.mean((2, 4), dtype=np.float32) / np.float32(peak)
    structure = sum(np.abs(np.diff(means, axis=axis)).mean((1, 2)) for axis in (1, 2))
    level = means.mean((1, 2))
    clipped = (level <= _CLIPPED[0]) | (level >= _CLIPPED[1])
    found = np.column_stack([clipped, structure, level, places])
    chosen = []
    for part in np.array_split(found[np.argsort(level, kind="stable")], _LEVELS):
        taken: list[tuple[int, int]] = []
        for _, _, _, top, left in sorted(part.tolist()):
            apart = all(max(abs(top - other[0]), abs(left - other[1])) >= side // 2 for other in taken)
            if apart and len(taken) < _CROPS_PER_LEVEL:
                taken.append((int(top), int(left)))
        chosen += taken
    cut = [channels[:, top : top + side, left : left + side] for top, left in chosen]
    return np.stack(cut).astype(np.float32) / np.float32(peak)


def _starts(size: int, side: int, step: int) -> list[int]:
    return [*range(0, size - side, step), size - side]


def _flat_blocks(cleaned: Array) -> Array:
    """Return the flatter half of the blocks of each crop, by the spread of their means over 4 x 4 pixels."""
    blocks = _blocks(cleaned.mean(1))
    cells = blocks.reshape(*blocks.shape[:2], 4, 4, 4, 4).mean((3, 5)).reshape(*blocks.shape[:2], 16)
    spread = cells.std(-1)
    return spread <= np.median(spread, axis=1, keepdims=True)


def _blocks(planes: Array) -> Array:
    """Cut `(N, side, side)` into blocks, `(N, blocks, 256)`."""
    return cut_blocks(planes, _BLOCK_PX).swapaxes(2, 3).reshape(len(planes), -1, _BLOCK_PX**2)


def _spectrum(planes: Array) -> Array:
    power = np.square(np.abs(np.fft.fft2(planes - planes.mean((1, 2), keepdims=True)))).mean(0)
    frequency = np.fft.fftfreq(planes.shape[-1])
    radius = np.hypot(frequency[:, None], frequency)
    bands = np.minimum((radius * 16).astype(int), 8).ravel()
    sums, counts = (np.bincount(bands, weight, 9)[:8] for weight in (power.ravel(), None))
    mean = float(power.mean())
    return sums / np.maximum(counts, 1) / mean if mean > 0 else np.ones(8)


def _total_sigma(removed: float, whiteness: float) -> float:
    """Noise level by what was removed: the coarser the noise, the more of it is left."""
    smoothed, white = _WHITE
    log_level = _LEVEL + _PER_REMOVED * math.log(removed + _TRACE) + _PER_WHITENESS * min(whiteness, white)
    share = min(1.0, max(0.0, (whiteness - smoothed) / (white - smoothed)))
    return share * removed + (1 - share) * max(removed, math.exp(log_level) - _TRACE)
