"""Noise and blur of one image, estimated from its pixels alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from denoise.arrays import Array
from denoise.estimate.blocks import block_cosines

_EIGHT_BIT = 255.0

_TILE_PX = 160
_MAX_TILES = 4  # per axis: larger images are sampled by this many tiles

# ---- noise -----------------------------------------------------------------------------------------------

_SIDE = 8  # pixels of a block
_MAX_BLOCKS = 10_000  # sampled evenly over the image
_FLAT_SHARE = 0.005  # share of the blocks that is taken for flat
_MIN_BLOCKS = 40  # for a stable mean
_CLIPPED = 0.03  # share of black or white pixels that excludes a block
_UNCLIPPED = 0.1  # share of unclipped blocks that suffices to use them alone
_REPEATED = 0.25  # share of different blocks below which a pattern repeats itself
_ROLL_OFF = 1.44  # tilt of the spectrum that white noise and faint texture can have
# Noise is as strong in less flat blocks, but texture is stronger there. Ratios of deviations up to the first
# mean noise, from the second on texture.
_LESS_FLAT = (0.10, 0.12)  # quantiles of flatness of the blocks to compare with
_NOISE_RATIO, _TEXTURE_RATIO = 1.2, 1.4
# 8-bit units: maximum texture in the flattest blocks of clean photos and JPEGs of quality 90, at the finest
# frequencies and below them, and the noise that is too faint to count.
_FINEST_TEXTURE, _TEXTURE, _TRACE = 4.2, 6.0, 1.4
_COLOUR_TRACE = 0.55  # for differences of colours, which are far fainter in photos

# Excess of a speck over all its neighbours, in 8-bit units and in standard deviations of the other noise.
_SPECK, _OUTLIER = 60.0, 4.0
_HIDING = 30.0  # 8-bit units
_SPECKLED = (0.0015, 0.003)  # share of such pixels: clean photos have at most 0.001

# Rotation of RGB to brightness and two differences, which preserves white noise.
_ROTATION = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
_ROTATION /= np.linalg.norm(_ROTATION, axis=1, keepdims=True)


_FREQUENCY = np.add.outer(np.arange(_SIDE), np.arange(_SIDE)).ravel()  # half periods per block, both axes
# Measure flatness and noise by different coefficients: those of white noise are independent, so selecting the
# flattest blocks does not select the faintest noise.
_BANDS = [np.flatnonzero(np.isin(_FREQUENCY, sums)) for sums in ((2, 4, 6), (5,), (7, 9), (12, 13, 14))]
_COARSE, _MIDDLE, _FINE, _FINEST = range(len(_BANDS))
_TRANSFORM = np.ascontiguousarray(block_cosines(_SIDE)[:, np.concatenate(_BANDS)])
_MEANS = np.repeat(np.eye(len(_BANDS), dtype=np.float32), [len(band) for band in _BANDS], axis=0)
_MEANS /= _MEANS.sum(axis=0)


def noise_sigma(page: Array, peak: float = _EIGHT_BIT) -> float:
    """Return the standard deviation of the noise of an image `(C, H, W)`, in 8-bit units.

    Noise is in every block of an image, texture is not. So the blocks with the least coarse detail are taken
    for flat, and their finest detail for noise (after Ponomarenko et al., "An automatic approach to lossy
    compression of AVIRIS images", 2007). Noise that was demosaiced, resized or JPEG-compressed is weaker at
    the finest frequencies; so the excess of the middle frequencies, unless texture can explain it, counts as
    noise too. Blocks at black or white, where noise is clipped, are excluded unless nearly all are, and a
    pattern that repeats itself is not noise. Specks of salt and pepper are measured apart, and added.

    The result is the root mean square over channels, of which three are taken for RGB; it is 0 if the image
    is smaller than a block.
    """
    if min(page.shape[1:]) < _SIDE or not page.shape[0]:
        return 0.0
    spread, specks = _variances(page, _EIGHT_BIT / peak)
    return math.sqrt(spread + specks)


def speckled(page: Array, peak: float = _EIGHT_BIT) -> bool:
    """Return whether an image `(C, H, W)` has specks of salt and pepper."""
    return min(page.shape[1:]) >= _SIDE and _variances(page, _EIGHT_BIT / peak)[1] > 0


def speck_excess(page: Array, peak: float = _EIGHT_BIT) -> float:
    """Return by how much specks exceed all their neighbours, at least; 0 where there can be none.

    Many specks pass for strong noise, which hides them.

    Shape:
        `(C, H, W)`, up to `peak`, in whose units the result is.
    """
    if min(page.shape[1:]) < _SIDE:
        return 0.0
    spread, specks = _variances(page, _EIGHT_BIT / peak)
    return _SPECK * peak / _EIGHT_BIT if specks or spread > _HIDING**2 else 0.0


def _variances(page: Array, scale: float) -> tuple[float, float]:
    """Return the variance of the noise without specks, and that of the specks, in squared 8-bit units."""
    spread = _spread_variance(page, scale)
    steep = max(_SPECK, _OUTLIER * math.sqrt(spread)) / scale
    return spread, scale**2 * float(np.mean([_specks(tile, steep) for tile in _tiles(page)]))


def _spread_variance(page: Array, scale: float) -> float:
    """Return the variance of the noise without specks; `scale` converts to 8-bit units."""
    blocks = _blocks(page)
    # Clipping leaves many pixels at the minimum or maximum; without it, one is there.
    at_limit = np.packbits((blocks == blocks.min()) | (blocks == blocks.max()), axis=2).view(np.uint64)
    clipped = np.bitwise_count(at_limit).mean(axis=(0, 2)) > _CLIPPED * _SIDE**2
    if np.count_nonzero(~clipped) >= _UNCLIPPED * clipped.size:
        blocks = blocks[:, ~clipped]
    values = blocks.astype(np.float32) * np.float32(scale)
    rounding = scale**2 / 12 if page.dtype.kind in "ui" else 0.0
    if len(values) != 3:
        return float(np.mean([_gray_variances(channel, rounding, 1.0)[0] for channel in values]))
    brightness, *colours = np.tensordot(_ROTATION, values, 1)
    colour = float(np.mean([_variance(_spectrum(c, rounding), _COLOUR_TRACE) for c in colours]))
    certain, possible = _gray_variances(brightness, rounding, math.sqrt(3))
    # Noise of the colours is in the brightness too, where texture may hide it.
    return float(max(certain, min(possible, colour)) + 2 * colour) / 3


def _specks(page: Array, steep: float) -> float:
    """Return the variance due to pixels far above or far below all their neighbours."""
    height, width = (size - 2 for size in page.shape[1:])
    around = [page[:, y : y + height, x : x + width] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    above, below = functools.reduce(np.maximum, around), functools.reduce(np.minimum, around)
    middle = page[:, 1:-1, 1:-1].astype(np.float32)
    high, low = middle > above + np.float32(steep), middle < below - np.float32(steep)
    share = 2 * min(high.mean(), low.mean())  # the dots of a drawing are of one kind only
    specks = high | low
    jumps = middle[specks] - (above[specks].astype(np.float32) + below[specks]) / 2
    first, last = _SPECKLED
    certainty: float = min(1.0, max(0.0, (share - first) / (last - first)))
    variance: float = np.square(jumps).sum() / specks.size
    return certainty * variance


def _blocks(page: Array) -> Array:
    """Return overlapping blocks `(C, N, 64)`."""
    windows = np.lib.stride_tricks.sliding_window_view(page, (_SIDE, _SIDE), axis=(1, 2))
    step = max(2, math.ceil(math.sqrt(windows[0, ..., 0, 0].size / _MAX_BLOCKS)))
    return windows[:, ::step, ::step].reshape(len(page), -1, _SIDE * _SIDE)


class _Spectrum(NamedTuple):
    """Mean squares of the coefficients of the flattest blocks, and the shares of them that are noise."""

    white: float  # at the finest frequencies
    correlated: float  # below them
    white_share: float
    correlated_share: float


def _spectrum(blocks: Array, rounding: float) -> _Spectrum:
    """Return the spectrum of one channel's blocks `(N, 64)`."""
    power = np.square(blocks @ _TRANSFORM) @ _MEANS  # (N, 4): mean square in each band
    power = power[np.argsort(power[:, _COARSE])]
    count = len(power)
    flat = power[: max(_MIN_BLOCKS, round(_FLAT_SHARE * count))]
    if _repeats(flat):
        return _Spectrum(0.0, 0.0, 0.0, 0.0)
    first, last = (round(share * count) for share in _LESS_FLAT)
    less_flat = power[first : max(last, first + _MIN_BLOCKS)]
    # Blocks that are as rough as noise alone are flat as well, and make the mean more stable.
    rough = int(np.searchsorted(power[:, _COARSE], flat[:, _FINEST].mean()))
    white = float(power[: max(len(flat), rough), _FINEST].mean()) - rounding
    levels, less_flat_levels = (np.median(part, axis=0) - rounding for part in (flat, less_flat))
    correlated = float(levels[[_MIDDLE, _FINE]].mean())
    shares = [
        min(_noise_share(levels[band], less_flat_levels[band]) for band in bands)
        for bands in ((_FINEST,), (_MIDDLE, _FINE))
    ]
    return _Spectrum(max(0.0, white), correlated, *shares)


def _repeats(flat: Array) -> bool:
    """Return whether the blocks repeat, as those of drawn patterns do."""
    detail = flat[:, [_MIDDLE, _FINE, _FINEST]].sum(axis=1)
    return np.unique(np.rint(100 * detail / max(detail.max(), 1e-9))).size < _REPEATED * len(flat)


def _variance(spectrum: _Spectrum, trace: float) -> float:
    excess = spectrum.correlated - _ROLL_OFF * spectrum.white - trace**2
    return spectrum.white + max(0.0, excess)


def _gray_variances(blocks: Array, rounding: float, scale: float) -> tuple[float, float]:
    """Return the variance of what is certainly noise, and of what may be noise."""
    found = _spectrum(blocks, rounding)
    possible = _variance(found, scale * _TRACE)
    excess = possible - found.white
    texture = (1 - found.white_share) * min(found.white, (scale * _FINEST_TEXTURE) ** 2)
    texture += (1 - found.correlated_share) * min(excess, (scale * _TEXTURE) ** 2)
    return possible - texture, possible


def _noise_share(flat: float, less_flat: float) -> float:
    """Return the share of noise in flat blocks, by their ratio to less flat ones."""
    if flat <= 0.0:
        return 0.0
    ratio = math.sqrt(max(0.0, less_flat) / flat)
    return min(1.0, max(0.0, (_TEXTURE_RATIO - ratio) / (_TEXTURE_RATIO - _NOISE_RATIO)))


# ---- blur ------------------------------------------------------------------------------------------------

_SCALE_PX = 0.7  # standard deviation of the Gaussian derivative; twice that for the re-blurred slopes
_LOW_NOISE = 5.0  # 8-bit units: above, the Gaussian widens, so that the slope of the noise does not grow
_MIN_SLOPE = 3.0  # 8-bit units per pixel: gentler slopes are shading
_MIN_SNR = 5.0  # slope of an edge over the standard deviation of the slopes of noise
_STEEPEST = 0.3  # share of the edges that counts: those in focus, in an image with depth
_MIN_EDGES = 8  # of the steepest in one direction
# Lines and corners are sharper than the lone edge of the theory, and edges of photos have a width: a fit to
# photos under Gaussian blur of 0 to 3 px.
_GAIN, _OFFSET = 1.3, 0.45


def blur_px(page: Array, peak: float = _EIGHT_BIT, sigma: float = 0.0) -> float:
    """Return the blur of an image `(C, H, W)` as the standard deviation of a Gaussian, in pixels.

    Blurring again hardly flattens a blurred edge: the ratio of its slopes before and after gives its width
    (Zhuo and Sim, "Defocus map estimation from a single image", 2011). Of the medians over the steepest edges
    in four directions the largest counts, because motion leaves the edges along its path sharp.

    Photos without blur give up to 0.8, sharper images and those without edges 0. `sigma`, the standard
    deviation of the noise in 8-bit units, prevents that noise is taken for edges.
    """
    scale_px = _SCALE_PX * math.sqrt(max(1.0, sigma / _LOW_NOISE))
    tiles = [tile.mean(axis=0, dtype=np.float32) * np.float32(_EIGHT_BIT / peak) for tile in _tiles(page)]
    for scale in (scale_px, 2 * scale_px):  # gentle edges exceed the noise only under a wider Gaussian
        steep = max(_MIN_SLOPE, _MIN_SNR * sigma / (scale**2 * math.sqrt(8 * math.pi)))
        slope, variance, direction = np.concatenate([_edges(tile, scale, steep) for tile in tiles], axis=1)
        widest = max(_steepest_median(slope[direction == k], variance[direction == k]) for k in range(4))
        if widest > -math.inf:
            return math.sqrt(max(0.0, _GAIN * widest + _OFFSET))
    return 0.0


def _steepest_median(slope: Array, variance: Array) -> float:
    """Return the median variance of the steepest edges; minus infinity if they are too few."""
    if slope.size < _MIN_EDGES / _STEEPEST:
        return -math.inf
    return float(np.median(variance[slope >= np.quantile(slope, 1 - _STEEPEST)]))


def _tiles(page: Array) -> Iterator[Array]:
    """Yield the image, or tiles spread over it if it is large."""
    height, width = page.shape[1:]
    tile = _TILE_PX if height * width > (_MAX_TILES * _TILE_PX) ** 2 else max(height, width)
    for top in _starts(height, tile):
        for left in _starts(width, tile):
            yield page[:, top : top + tile, left : left + tile]


def _starts(size: int, tile: int) -> list[int]:
    last = max(0, size - tile)
    return sorted({round(last * k / (_MAX_TILES - 1)) for k in range(_MAX_TILES)})


def _edges(gray: Array, scale_px: float, steep: float) -> Array:
    """Return slope, variance of the blur, and direction (0 to 3, times 45 degrees) at the crests of edges."""
    down, across = _slopes(gray, scale_px)
    slope = np.hypot(down, across)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(slope, 1), (3, 3))
    crest = (slope >= steep) & (slope == around.max((2, 3)))
    wide_down, wide_across = (wide[crest] for wide in _slopes(gray, 2 * scale_px))
    down, across, slope = down[crest], across[crest], slope[crest]
    flattened = np.maximum(down * wide_down + across * wide_across, 1e-6) / slope  # along the same direction
    ratio = np.maximum((slope / flattened) ** 2, 1.001)
    variance = scale_px**2 * (4 - ratio) / (ratio - 1)
    direction = np.rint(np.arctan2(down, across) / (np.pi / 4)) % 4
    return np.stack([slope, variance, direction])


def _slopes(gray: Array, scale_px: float) -> tuple[Array, Array]:
    """Return the derivatives of a Gaussian along both axes; importing scipy takes longer than they."""
    radius = int(3 * scale_px + 0.5)
    at = np.arange(-radius, radius + 1)
    bell = np.exp(-0.5 * np.square(at / scale_px))
    bell /= bell.sum()
    slope = bell * at / scale_px**2
    padded = np.pad(gray, radius, mode="edge")
    height, width = gray.shape

    def correlate(down: Array, across: Array) -> Array:
        rows = np.zeros_like(padded[:height])
        for k, tap in enumerate(down.astype(gray.dtype)):
            rows += tap * padded[k : k + height]
        result = np.zeros_like(gray)
        for k, tap in enumerate(across.astype(gray.dtype)):
            result += tap * rows[:, k : k + width]
        return result

    return correlate(slope, bell), correlate(bell, slope)
