"""CMYK turned into RGB."""

from __future__ import annotations

import numpy as np

from denoise.arrays import Array

_ROWS = 256  # at a time


def to_rgb(inks: Array, icc: bytes | None) -> Array:
    """Convert through the file's profile to sRGB if it has one for CMYK, else by (1 - ink) * (1 - black).

    Args:
        inks: `(H, W, 4)` or more, uint8 or uint16, 0 without ink; extra samples stay.
    """
    rgb = np.empty((*inks.shape[:2], inks.shape[2] - 1), inks.dtype)
    rgb[..., 3:] = inks[..., 4:]
    for top in range(0, len(inks), _ROWS):
        rgb[top : top + _ROWS, :, :3] = _strip(np.ascontiguousarray(inks[top : top + _ROWS, :, :4]), icc)
    return rgb


def _strip(inks: Array, icc: bytes | None) -> Array:
    import imagecodecs

    if icc and icc[16:20] == b"CMYK":
        try:
            srgb = imagecodecs.cms_profile("srgb")
            return np.asarray(
                imagecodecs.cms_transform(inks, icc, srgb, colorspace="cmyk", outcolorspace="rgb")
            )
        except RuntimeError:  # a broken profile counts as none
            pass
    peak = np.iinfo(inks.dtype).max
    light = (peak - inks).astype(np.uint64)
    return ((light[..., :3] * light[..., 3:] + peak // 2) // peak).astype(inks.dtype)
