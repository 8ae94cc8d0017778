"""Tell texture from noise by what a denoiser removed from an image, without a reference.

Noise is normally distributed, repeats nothing, changes from pixel to pixel, and mostly differs between the
channels. Blades of grass and grains of sand have heavier tails, threads of a cloth repeat, waves are wide,
and all of them darken red, green and blue alike.
"""

from __future__ import annotations

import math

import numpy as np

from denoise.arrays import Array
from denoise.estimate.blocks import cut_blocks

_EIGHT_BIT = 255.0
_SIDE, _WINDOW_PX = 8, 32
_MAX_PX = 512  # side of the part whose spectrum is taken
_MIN_CLEAR = 0.05  # share of blocks without clipped noise that suffices to use them alone
_USUAL = 0.9  # share of the blocks that counts: single points, which lost most, are no texture

# All limits were chosen on 51 pictures, clean and with seven kinds of noise: samples of scikit-image, photos
# of BSDS500, patterns of GIMP, and drawn cloth, foliage, stone and skies. Kurtosis: of noise 2.7 to 3.1, of
# clean cloth 2.0 to 2.5, of grass with noise 3 or 6, which loses, 3.13 to 3.9.
_LIGHT_TAILS, _HEAVY_TAILS = 2.6, 3.14
# Certain noise differs between three channels (correlation) and is no trace (8-bit units), or is strong and
# removed nearly whole. Raw noise, which grows with the light, has a kurtosis up to 4.2.
_DIFFERENT, _TRACE = 0.5, 4.0
_STRONG, _REMOVED = 10.0, 0.83
_PERIODIC = 30.0  # of one frequency over those around it: noise up to 19, cloth 64 to 316
_WIDE = 0.78  # correlation of neighbours: film grain up to 0.73, waves 0.79 and more
# Correlation of the channels: film grain up to 0.87, stone from 0.92 on. White noise of normal distribution
# may be the same in all channels: neighbours correlate by -0.22 to 0 (5 photos of scikit-image), in stone
# by 0.4.
_ALIKE, _WHITE = 0.9, 0.1


def texture_reason(before: Array, after: Array, sigma: float, *, gaussian: bool, alike: bool) -> str:
    """Return why what was removed is texture rather than noise; empty if it may be noise.

    Args:
        before: The input.
        after: The result of a denoiser.
        sigma: Estimated noise, 8-bit units.
        gaussian: The noise is normally distributed, unlike specks and the blocks of JPEG.
        alike: The noise may be the same in all channels: a JPEG has no fine detail of colours.

    Shape:
        `(C, H, W)` in 0..1, both.
    """
    removed = before - after
    correlation = _channel_correlation(removed)
    peak, neighbours = _peak_and_neighbours(removed.mean(0))
    if not alike and correlation > _ALIKE and not (gaussian and neighbours < _WHITE):
        return f"it is the same in all channels ({correlation:.0%} correlation)"
    if peak > _PERIODIC:
        return f"it repeats itself (one frequency has {peak:.0f} times the power of others)"
    if neighbours > _WIDE:
        return f"it is wide ({neighbours:.0%} correlation of neighbours)"
    if gaussian and not is_certain(removed, sigma):
        tails = _kurtosis(before, removed)
        if tails and not _LIGHT_TAILS < tails < _HEAVY_TAILS:
            return f"kurtosis {tails:.1f}"
    return ""


def is_certain(removed: Array, sigma: float) -> bool:
    """Tell whether what was removed is noise for certain, though outlines or grains may have gone with it.

    Args:
        removed: What was removed.
        sigma: Estimated noise, 8-bit units.

    Shape:
        `(C, H, W)`, in 0..1.
    """
    level = _EIGHT_BIT * float(np.sqrt(np.square(removed).mean()))
    if len(removed) == 3:
        return level >= _TRACE and _channel_correlation(removed) < _DIFFERENT
    return min(level, sigma) >= _STRONG and level > _REMOVED * sigma


def _channel_correlation(removed: Array) -> float:
    """Mean correlation of three channels; 0 of any other number."""
    if len(removed) != 3:
        return 0.0
    pixels = removed[:, ::2, ::2].reshape(3, -1)
    deviations = np.maximum(pixels.std(1), 1e-9)
    pairs = np.cov(pixels, bias=True) / np.outer(deviations, deviations)
    return float(pairs[np.triu_indices(3, 1)].mean())


def _peak_and_neighbours(plane: Array) -> tuple[float, float]:
    """Return the ratio of the highest peak in a mean spectrum to its ring, and the correlation of neighbours.

    Shape:
        `(H, W)`.
    """
    windows = (
        cut_blocks(plane[:_MAX_PX, :_MAX_PX], _WINDOW_PX).swapaxes(1, 2).reshape(-1, _WINDOW_PX, _WINDOW_PX)
    )
    taper = np.outer(*[np.hanning(_WINDOW_PX)] * 2).astype(np.float32)
    flat = (windows - windows.mean((1, 2), keepdims=True)) * taper
    power = np.square(np.abs(np.fft.fft2(flat))).sum(0)
    if not power.any():
        return 0.0, 0.0
    frequency = np.fft.fftfreq(_WINDOW_PX, 1 / _WINDOW_PX)
    ring = np.rint(np.hypot(frequency[:, None], frequency)).astype(int)
    rings = [power[ring == radius] for radius in range(2, _WINDOW_PX // 2 + 1)]
    peak = max(float(values.max() / max(np.median(values), 1e-30)) for values in rings)
    lags = np.fft.ifft2(power).real
    return peak, float((lags[0, 1] + lags[1, 0]) / (2 * lags[0, 0]))


def _kurtosis(before: Array, removed: Array) -> float:
    """Kurtosis within blocks of 8 x 8 pixels, less its standard error: 3 for noise, whose level may differ.

    Clipped noise is no normal noise, so blocks with it are left out, unless nearly all are clipped.
    """
    values, removed = (cut_blocks(image, _SIDE) for image in (before, removed))
    clear = (values.min((2, 4)) > 0) & (values.max((2, 4)) < 1)
    square = np.square(removed)
    second, fourth = (values.mean((2, 4), dtype=np.float64) for values in (square, np.square(square)))
    if clear.size and clear.mean() >= _MIN_CLEAR:
        second, fourth = second[clear], fourth[clear]
    if not second.any():
        return 0.0
    usual = second <= np.quantile(second, _USUAL)
    total = max(float(np.square(second[usual]).sum()), 1e-30)
    kurtosis = float(fourth[usual].sum()) / total * (1 + 2 / _SIDE**2)
    return kurtosis - math.sqrt(24 / (usual.sum() * _SIDE**2))
