"""How noisy and how blurred one picture seems to be, from its pixels alone."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["block_cosines", "blur_px", "noise_sigma"]

Array = NDArray[Any]

_EIGHT_BIT = 255.0

_TILE_PX = 256
_TILES = 4  # per axis: a picture that is larger than so many tiles is judged by them

# ---- noise -----------------------------------------------------------------------------------------------

_SIDE = 8  # pixels of a block
_BLOCKS = 10_000  # looked at in a picture of any size, spread over all of it
_FLATTEST = 0.005  # the share of the blocks that is taken for flat
_FEWEST = 40  # blocks; fewer give no stable mean
_CLIPPED = 0.03  # the share of pixels of black or white that spoils a block
_UNCLIPPED = 0.1  # the share of unspoilt blocks that is enough to judge by them alone
_REPEATED = 0.25  # the share of different blocks below which a pattern repeats itself
_ROLL_OFF = 1.44  # by so much may white noise and faint texture tilt the spectrum before it counts as tilted
# Noise is as strong in blocks that are less flat, texture is not. By this ratio it is told from noise: below
# the first all is noise, above the second all is texture, as far as texture goes.
_LESS_FLAT = (0.10, 0.12)  # the blocks to compare with, in order of flatness
_NOISE_RATIO, _TEXTURE_RATIO = 1.2, 1.4
# 8-bit units: what texture holds at most in the flattest blocks of clean photos and JPEGs of quality 90, at
# the finest frequencies, and below them; and what noise is not looked for under.
_FINEST_TEXTURE, _TEXTURE, _TRACE = 4.2, 6.0, 1.4
_COLOUR_TRACE = 0.55  # the last, for the differences of colours, where photos hold far less

# 8-bit units and standard deviations of other noise: by so much a speck is beyond all its neighbours.
_SPECK, _OUTLIER = 60.0, 4.0
_SPECKLED = (0.0015, 0.003)  # the share of such pixels: clean photos have 0.001 at most

# Three colours as brightness and two differences; a rotation, so that white noise stays what it is.
_ROTATION = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
_ROTATION /= np.linalg.norm(_ROTATION, axis=1, keepdims=True)


def block_cosines(side: int) -> Array:
    """What takes flattened blocks `(N, side**2)` to their discrete cosine transform (orthonormal, DCT-II)."""
    index = np.arange(side)
    rows = np.cos(np.pi * (2 * index + 1) * index[:, None] / (2 * side)) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    return np.kron(rows, rows).T.astype(np.float32)


_FREQUENCY = np.add.outer(np.arange(_SIDE), np.arange(_SIDE)).ravel()  # half periods a block, both axes
# How flat a block is, and how much noise it holds, are read from different coefficients: in white noise they
# are independent, so choosing the flattest blocks does not choose the quietest noise.
_BANDS = [np.flatnonzero(np.isin(_FREQUENCY, sums)) for sums in ((2, 4, 6), (5,), (7, 9), (12, 13, 14))]
_COARSE, _MIDDLE, _FINE, _FINEST = range(len(_BANDS))
_TRANSFORM = np.ascontiguousarray(block_cosines(_SIDE)[:, np.concatenate(_BANDS)])
_MEANS = np.repeat(np.eye(len(_BANDS), dtype=np.float32), [len(band) for band in _BANDS], axis=0)
_MEANS /= _MEANS.sum(axis=0)


def noise_sigma(page: Array, peak: float = _EIGHT_BIT) -> float:
    """Standard deviation of the noise in a picture: of what is everywhere, and of specks of salt and pepper.

    Noise is in every block of a picture, texture is not. So the blocks with the least coarse detail are taken
    for flat, and their finest detail for noise (after Ponomarenko et al., "An automatic approach to lossy
    compression of AVIRIS images", 2007). White noise is as strong at all frequencies; noise that was
    demosaiced, resized or JPEG-compressed is weaker in the finest, so what the middle frequencies hold beyond
    that, and beyond what texture can explain, counts as noise too. Blocks that touch black or white, where
    noise is cut off, are left out unless nearly all do, and a pattern that repeats itself is not noise.

    Args:
        page: One picture; three channels are taken for RGB.
        peak: The value that means full scale.

    Shape:
        `(C, H, W)`, any dtype.

    Returns:
        Sigma in 8-bit units, the root of the mean square over channels; 0 for less than one block.
    """
    if min(page.shape[1:]) < _SIDE or not page.shape[0]:
        return 0.0
    scale = _EIGHT_BIT / peak
    spread = _spread_variance(page, scale)
    steep = max(_SPECK, _OUTLIER * math.sqrt(spread)) / scale
    specks = [_specks(tile, steep) for tile in _tiles(page)]
    return math.sqrt(spread + scale**2 * float(np.mean(specks)))


def _spread_variance(page: Array, scale: float) -> float:
    """Of the noise that is everywhere; `scale` takes the picture to 8-bit units."""
    blocks = _blocks(page)
    # Where noise was clipped many pixels share the least or the greatest value; without clipping, one does.
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
    # What is in the colours is in the brightness too, where texture might hide it.
    return float(max(certain, min(possible, colour)) + 2 * colour) / 3


def _specks(page: Array, steep: float) -> float:
    """Variance that pixels far above, and others far below, all their neighbours make."""
    height, width = (size - 2 for size in page.shape[1:])
    around = [page[:, y : y + height, x : x + width] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
    above, below = functools.reduce(np.maximum, around), functools.reduce(np.minimum, around)
    middle = page[:, 1:-1, 1:-1].astype(np.float32)
    high, low = middle > above + np.float32(steep), middle < below - np.float32(steep)
    share = 2 * min(high.mean(), low.mean())  # a drawing has dots of one kind
    specks = high | low
    jumps = middle[specks] - (above[specks].astype(np.float32) + below[specks]) / 2
    first, last = _SPECKLED
    certainty: float = min(1.0, max(0.0, (share - first) / (last - first)))
    variance: float = np.square(jumps).sum() / specks.size
    return certainty * variance


def _blocks(page: Array) -> Array:
    """Overlapping blocks, `(C, N, 64)`."""
    windows = np.lib.stride_tricks.sliding_window_view(page, (_SIDE, _SIDE), axis=(1, 2))
    step = max(2, math.ceil(math.sqrt(windows[0, ..., 0, 0].size / _BLOCKS)))
    chosen = windows[:, ::step, ::step]
    return chosen.reshape(len(page), -1, _SIDE * _SIDE)


class _Spectrum(NamedTuple):
    """Mean squares of the flattest blocks' coefficients, and what of them is as strong in less flat ones."""

    white: float  # at the finest frequencies
    correlated: float  # below them
    white_share: float
    correlated_share: float


def _spectrum(blocks: Array, rounding: float) -> _Spectrum:
    """Of one channel's blocks `(N, 64)`."""
    power = np.square(blocks @ _TRANSFORM) @ _MEANS  # (N, 4): mean square in each band
    power = power[np.argsort(power[:, _COARSE])]
    count = len(power)
    flat = power[: max(_FEWEST, round(_FLATTEST * count))]
    if _repeats(flat):
        return _Spectrum(0.0, 0.0, 0.0, 0.0)
    first, last = (round(share * count) for share in _LESS_FLAT)
    less_flat = power[first : max(last, first + _FEWEST)]
    # Blocks that are no rougher than the noise makes them are flat as well, and steady the mean.
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
    """Whether these blocks are a few, over and over: a drawn pattern, however fine, and not noise."""
    detail = flat[:, [_MIDDLE, _FINE, _FINEST]].sum(axis=1)
    return np.unique(np.rint(100 * detail / max(detail.max(), 1e-9))).size < _REPEATED * len(flat)


def _variance(spectrum: _Spectrum, trace: float) -> float:
    excess = spectrum.correlated - _ROLL_OFF * spectrum.white - trace**2
    return spectrum.white + max(0.0, excess)


def _gray_variances(blocks: Array, rounding: float, scale: float) -> tuple[float, float]:
    """Variance of what is surely noise, and of what may be."""
    found = _spectrum(blocks, rounding)
    possible = _variance(found, scale * _TRACE)
    excess = possible - found.white
    texture = (1 - found.white_share) * min(found.white, (scale * _FINEST_TEXTURE) ** 2)
    texture += (1 - found.correlated_share) * min(excess, (scale * _TEXTURE) ** 2)
    return possible - texture, possible


def _noise_share(flat: float, less_flat: float) -> float:
    """How much of what is in flat blocks is noise, by how much more there is in less flat ones."""
    if flat <= 0.0:
        return 0.0
    ratio = math.sqrt(max(0.0, less_flat) / flat)
    return min(1.0, max(0.0, (_TEXTURE_RATIO - ratio) / (_TEXTURE_RATIO - _NOISE_RATIO)))


# ---- blur ------------------------------------------------------------------------------------------------

_SCALE_PX = 0.7  # Gaussian under which slopes are taken; the re-blurred ones under twice that
_CALM = 5.0  # 8-bit units: above, the Gaussian grows, so that the slope of the noise does not
_STEEP = 3.0  # 8-bit units a pixel: gentler slopes are shading
_NOISE_SLOPES = 5.0  # an edge is so many standard deviations of the noise's slope
_STEEPEST = 0.3  # the share of the edges that is judged: what is in focus, in a picture with depth
_EDGES = 8  # of the steepest in one direction; fewer say nothing about it
# Lines and corners look sharper than the lone edge of the theory, and no photo has edges of no width: a fit
# to photos under Gaussian blur of 0 to 3 px.
_GAIN, _OFFSET = 1.3, 0.45


def blur_px(page: Array, peak: float = _EIGHT_BIT, sigma: float = 0.0) -> float:
    """Radius of the blur of a picture, as the standard deviation of a Gaussian.

    Blurring again hardly flattens an edge that is blurred already: the ratio of its slopes before and after
    gives its width (Zhuo and Sim, "Defocus map estimation from a single image", 2011). The median over the
    steepest edges is taken for each of four directions, and the largest counts: a camera that moved leaves
    the edges along its path sharp.

    Args:
        page: One picture.
        peak: The value that means full scale.
        sigma: Standard deviation of its noise in 8-bit units, so that noise is not taken for edges.

    Shape:
        `(C, H, W)`, any dtype.

    Returns:
        Pixels; Photos without blur read up to 0.8; 0 is sharper than that, or no edges to tell.
    """
    scale_px = _SCALE_PX * math.sqrt(max(1.0, sigma / _CALM))
    tiles = [tile.mean(axis=0, dtype=np.float32) * np.float32(_EIGHT_BIT / peak) for tile in _tiles(page)]
    for scale in (scale_px, 2 * scale_px):  # gentle edges drown in noise, unless that is averaged more widely
        steep = max(_STEEP, _NOISE_SLOPES * sigma / (scale**2 * math.sqrt(8 * math.pi)))
        slope, variance, direction = np.concatenate([_edges(tile, scale, steep) for tile in tiles], axis=1)
        found = [_typical(slope[direction == k], variance[direction == k]) for k in range(4)]
        if max(found) > -math.inf:
            return math.sqrt(max(0.0, _GAIN * max(found) + _OFFSET))
    return 0.0


def _typical(slope: Array, variance: Array) -> float:
    """The median variance of the steepest edges; minus infinity if they are too few."""
    if slope.size < _EDGES / _STEEPEST:
        return -math.inf
    return float(np.median(variance[slope >= np.quantile(slope, 1 - _STEEPEST)]))


def _tiles(page: Array) -> Iterator[Array]:
    """The picture, or tiles spread over it."""
    height, width = page.shape[1:]
    tile = _TILE_PX if height * width > (_TILES * _TILE_PX) ** 2 else max(height, width)
    for top in _starts(height, tile):
        for left in _starts(width, tile):
            yield page[:, top : top + tile, left : left + tile]


def _starts(size: int, tile: int) -> list[int]:
    last = max(0, size - tile)
    return sorted({round(last * k / (_TILES - 1)) for k in range(_TILES)})


def _edges(gray: Array, scale_px: float, steep: float) -> Array:
    """Slope, variance of the blur and direction (0 to 3, of 45 degrees) of the crests of the slope."""
    from scipy import ndimage

    def slopes(scale_px: float) -> list[Array]:
        return [
            ndimage.gaussian_filter(gray, scale_px, order=order, mode="nearest", truncate=3.0)
            for order in ((1, 0), (0, 1))
        ]

    down, across = slopes(scale_px)
    slope = np.hypot(down, across)
    crest = (slope >= steep) & (slope == ndimage.maximum_filter(slope, 3))
    wide_down, wide_across = (wide[crest] for wide in slopes(2 * scale_px))
    down, across, slope = down[crest], across[crest], slope[crest]
    flattened = np.maximum(down * wide_down + across * wide_across, 1e-6) / slope  # along the same direction
    ratio = np.maximum((slope / flattened) ** 2, 1.001)
    variance = scale_px**2 * (4 - ratio) / (ratio - 1)
    direction = np.rint(np.arctan2(down, across) / (np.pi / 4)) % 4
    return np.stack([slope, variance, direction])
