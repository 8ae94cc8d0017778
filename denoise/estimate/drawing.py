"""Tell drawings, screenshots, dithered and tiny pictures from photos."""

from __future__ import annotations

import numpy as np

from denoise.arrays import Array

_MIN_SIDE = 32  # pixels: a smaller picture is an icon
_MAX_COLOURS = 8  # dither, halftone and line art have so few values a channel
_SAME = (
    0.6  # share of pixels that equal their neighbour; photos have 0.54 at most, saved as JPEG of quality 75
)
_ROWS = 256  # examined at a time
_MAX_ROWS = 2048


def is_drawing(page: Array) -> bool:
    """Return whether a page is drawn rather than photographed, by repeated pixels and by its few colours.

    Shape:
        `(C, H, W)`.
    """
    height, width = page.shape[1:]
    if min(height, width) < _MIN_SIDE:
        return True
    step = max(1, height // _MAX_ROWS)
    across = np.all(page[:, ::step, 1:] == page[:, ::step, :-1], axis=0)
    down = np.all(page[:, 1::step] == page[:, :-1:step][:, : page[:, 1::step].shape[1]], axis=0)
    if max(across.mean(), down.mean()) >= _SAME:
        return True
    middle = page[:, height // 2 - min(height, _ROWS) // 2 :][:, :_ROWS]
    return all(np.unique(channel).size <= _MAX_COLOURS for channel in middle)
