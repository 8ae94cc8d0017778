"""How coarsely a picture was compressed as JPEG, from its pixels alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise.estimate.image import block_cosines

__all__ = ["jpeg_quality"]

Array = NDArray[Any]

_EIGHT_BIT = 255.0
_SIDE = 8  # pixels of a block, from the corner of the picture on
_BLOCKS = 10_000  # looked at in a picture of any size, spread over all of it
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# The coarse frequencies, which most blocks have something of, and the steps that the JPEG standard proposes
# for them (ITU-T T.81, 1992, table K.1): those of quality 50; those of the others are multiples of them.
_FREQUENCIES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0), (2, 2))
_STEPS = np.array([11, 12, 12, 10, 14, 14, 13, 16, 14, 16])
_COARSEST = 80
_FEWEST = 40  # coefficients; fewer say nothing of a step
_CERTAIN = 0.5  # of the mean cosine below: 1 is all on multiples of the step; without JPEG it is about 0


def jpeg_quality(page: Array, peak: float = _EIGHT_BIT) -> float:
    """The quality, on the scale of the Independent JPEG Group, at which a picture was compressed.

    Compression leaves every coefficient of an 8 x 8 block on a multiple of its step, and decoding moves it by
    half a gray level at most (after Fan and de Queiroz, "Identification of bitmap compression history: JPEG
    detection and quantizer estimation", 2003). So steps of two gray levels and less (quality 90 and more) are
    not seen, nor is a JPEG that was turned, resized, cropped off its grid or got noise since.

    Args:
        page: One picture; three channels are taken for RGB.
        peak: The value that means full scale.

    Shape:
        `(C, H, W)`, any dtype.

    Returns:
        1 to 100; 100 where there is no trace.
    """
    # One block of each kind: what a drawing repeats lies on few values, which have a common step by chance.
    coefficients = np.unique(np.rint(4 * _coefficients(page, _EIGHT_BIT / peak)), axis=0) / 4
    steps = np.array([_step(column) for column in coefficients.T])
    if np.count_nonzero(steps) <= len(steps) / 2:
        return 100.0
    percent = 100 * float(np.median((steps / _STEPS)[steps > 0]))
    return 100 - percent / 2 if percent < 100 else 5000 / percent


def _coefficients(page: Array, scale: float) -> Array:
    """Of the brightness of blocks, `(N, len(_FREQUENCIES))`, in 8-bit units."""
    rows, columns = (size // _SIDE for size in page.shape[1:])
    blocks = page[:, : rows * _SIDE, : columns * _SIDE].reshape(len(page), rows, _SIDE, columns, _SIDE)
    step = max(1, math.ceil(math.sqrt(rows * columns / _BLOCKS)))
    chosen = blocks[:, ::step, :, ::step].swapaxes(2, 3).astype(np.float32)
    luma = np.tensordot(_LUMA, chosen, 1) if len(page) == 3 else chosen.mean(axis=0)
    places = [down * _SIDE + across for down, across in _FREQUENCIES]
    found: Array = luma.reshape(-1, _SIDE * _SIDE) @ block_cosines(_SIDE)[:, places] * np.float32(scale)
    return found


def _step(coefficients: Array) -> int:
    """The largest step that the coefficients lie on multiples of; 0 if there is none."""
    largest, size = 0, np.abs(coefficients)
    for step in range(2, _COARSEST):
        some = coefficients[size > step / 2]
        if len(some) < _FEWEST:
            break
        if np.cos(2 * np.pi / step * some).mean() > _CERTAIN:
            largest = step
    return largest
