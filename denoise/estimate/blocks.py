"""Square blocks of an image, and their cosine transform."""

from __future__ import annotations

import math

import numpy as np

from denoise.arrays import Array


def cut_blocks(image: Array, side: int) -> Array:
    """Cut an image into blocks; what is left over at the far edges is dropped.

    Shape:
        `(..., H, W)` -> `(..., H // side, side, W // side, side)`.
    """
    rows, columns = (size // side for size in image.shape[-2:])
    whole = image[..., : rows * side, : columns * side]
    return whole.reshape(*image.shape[:-2], rows, side, columns, side)


def block_cosines(side: int) -> Array:
    """Return the matrix that transforms flattened blocks `(N, side**2)` by an orthonormal DCT-II."""
    index = np.arange(side)
    rows = np.cos(np.pi * (2 * index + 1) * index[:, None] / (2 * side)) * math.sqrt(2 / side)
    rows[0] /= math.sqrt(2)
    return np.kron(rows, rows).T.astype(np.float32)
