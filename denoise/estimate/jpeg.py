"""JPEG quality of one image, estimated from its pixels alone."""

from __future__ import annotations

import math

import numpy as np

from denoise.arrays import Array
from denoise.estimate.blocks import block_cosines, cut_blocks

_EIGHT_BIT = 255.0
_SIDE = 8  # pixels of a block
_MAX_BLOCKS = 10_000  # sampled evenly over the image
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# Low frequencies, which most blocks contain, and their steps at quality 50 (ITU-T T.81, 1992, table K.1), of
# which the steps of other qualities are multiples.
_FREQUENCIES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3), (3, 0), (2, 2))
_STEPS = np.array([11, 12, 12, 10, 14, 14, 13, 16, 14, 16])
_STOP_STEP = 80
_MIN_COEFFICIENTS = 40
_MIN_COSINE = 0.5  # mean cosine below: 1 if all are multiples of the step, about 0 without JPEG


def jpeg_quality(page: Array, peak: float = _EIGHT_BIT) -> float:
    """Return the JPEG quality of an image `(C, H, W)` on the scale of the Independent JPEG Group, 1 to 100.

    Compression rounds every coefficient of an 8 x 8 block to a multiple of its step, and decoding changes it
    by at most half a gray level (after Fan and de Queiroz, "Identification of bitmap compression history:
    JPEG detection and quantizer estimation", 2003). So steps up to two gray levels (quality 90 and more) are
    not detected, nor is a JPEG that was turned, resized, cropped off its grid, or made noisy since: the
    result is 100. Three channels are taken for RGB.
    """
    # Keep one block of each kind: the few values of a repetitive drawing have a common step by chance.
    coefficients = np.unique(np.rint(4 * _coefficients(page, _EIGHT_BIT / peak)), axis=0) / 4
    steps = np.array([_step(column) for column in coefficients.T])
    if np.count_nonzero(steps) <= len(steps) / 2:
        return 100.0
    percent = 100 * float(np.median((steps / _STEPS)[steps > 0]))
    return 100 - percent / 2 if percent < 100 else 5000 / percent


def _coefficients(page: Array, scale: float) -> Array:
    """Return coefficients of the brightness of blocks `(N, len(_FREQUENCIES))`, in 8-bit units."""
    blocks = cut_blocks(page, _SIDE)
    step = max(1, math.ceil(math.sqrt(blocks.shape[1] * blocks.shape[3] / _MAX_BLOCKS)))
    sampled = blocks[:, ::step, :, ::step].swapaxes(2, 3).astype(np.float32)
    luma = np.tensordot(_LUMA, sampled, 1) if len(page) == 3 else sampled.mean(axis=0)
    indices = [down * _SIDE + across for down, across in _FREQUENCIES]
    return np.asarray(luma.reshape(-1, _SIDE * _SIDE) @ block_cosines(_SIDE)[:, indices] * np.float32(scale))


def _step(coefficients: Array) -> int:
    """Return the largest step of which the coefficients are multiples; 0 if there is none."""
    largest, size = 0, np.abs(coefficients)
    for step in range(2, _STOP_STEP):
        nonzero = coefficients[size > step / 2]
        if len(nonzero) < _MIN_COEFFICIENTS:
            break
        if np.cos(2 * np.pi / step * nonzero).mean() > _MIN_COSINE:
            largest = step
    return largest
