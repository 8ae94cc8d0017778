"""Black and white of one image, by its samples rather than by their type."""

from __future__ import annotations

import numpy as np

from denoise.arrays import Array

_BITS = (8, 10, 12, 14, 16, 20, 24, 32, 64)  # of cameras, scanners and integer types
_BLOCK_PX = 8  # means over such blocks are nearly free of noise, which may exceed the range
_TOLERANCE = 0.25  # of the range 0..1: noise and sharpening halos may exceed it by so much
_NEGATIVE = 0.1  # blocks further below 0 are no noise: a background was subtracted
_INTEGER_TOLERANCE = 1.1
_LOWEST_WHITE = 128.0  # floats with a brighter block are taken for integers


def sample_range(page: Array, peak: float | None) -> tuple[float, float]:
    """Return the values that mean black and white.

    Files of 16 bits may hold 12-bit samples, and arrays of any type may hold 0..255. So the white of unsigned
    integers is that of the fewest bits that hold all samples, and floats are in 0..1 unless whole blocks of
    them lie outside. Signed samples of which whole blocks are negative, as after the subtraction of a
    background, are judged by their own range.

    Args:
        page: The samples; what is not finite is left out.
        peak: Full scale of the file or type; returned for 8 bits.

    Shape:
        `(C, H, W)`.
    """
    if page.dtype == np.uint8 or not page.size:
        return 0.0, peak or 255.0
    if page.dtype.kind == "u":
        return 0.0, _full_scale(float(page.max()))
    low, high = float(np.nanmin(page)), float(np.nanmax(page))
    is_float = page.dtype.kind == "f"
    if not (np.isfinite(low) and np.isfinite(high)):  # cleaning reports the pixel
        return 0.0, peak or 1.0
    if is_float and low >= 0 and high <= 1:
        return 0.0, 1.0
    if not is_float and low >= 0:
        return 0.0, _full_scale(high)
    low, high = _block_extremes(page)
    if is_float and low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
        return (0.0, 1.0) if low >= -_NEGATIVE else (low, max(low + 1, high))
    black = min(0.0, low)
    if black > -_TOLERANCE * high and high > _LOWEST_WHITE:  # noise around black
        return 0.0, _full_scale(high / _INTEGER_TOLERANCE)
    return black, high if high > black else black + 1.0


def _full_scale(maximum: float) -> float:
    return float(next(2**bits - 1 for bits in _BITS if maximum <= 2**bits - 1 or bits == _BITS[-1]))


def _block_extremes(page: Array) -> tuple[float, float]:
    """Return the minimum and maximum of block means; of the samples if the page is smaller than a block."""
    if min(page.shape[1:]) < _BLOCK_PX:
        return float(page.min()), float(page.max())
    rows, columns = (size // _BLOCK_PX for size in page.shape[1:])
    blocks = page[:, : rows * _BLOCK_PX, : columns * _BLOCK_PX]
    means = blocks.reshape(len(page), rows, _BLOCK_PX, columns, _BLOCK_PX).mean((2, 4), dtype=np.float64)
    return float(means.min()), float(means.max())
