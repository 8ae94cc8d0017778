"""Bytes that the views of a page may take, and media encoded to fit them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from denoise.arrays import Array

NAMES = ("before", "after", "removed")  # of the two sides of a view, and of what differs
MAX_VIEWS = 500  # files with a view on one page; the others have their row in the table
_PAGE_BYTES = 17e6  # of all media: a browser opens 25 MB, and base64 takes a third more
_MAX_VIEW_BYTES = 900e3
_QUALITY = 82


@dataclass(frozen=True)
class Budget:
    """Bytes for the view of one file."""

    size_bytes: float = _MAX_VIEW_BYTES  # encoded media, before base64

    @classmethod
    def for_files(cls, files: int) -> Budget:
        """Share the page among its files."""
        return cls(min(_MAX_VIEW_BYTES, _PAGE_BYTES / max(1, min(files, MAX_VIEWS))))

    def share(self, part: float) -> float:
        """Bytes of a part of the view."""
        return part * self.size_bytes


def data_uri(media: bytes, kind: str) -> str:
    """Encode media for the page itself."""
    return f"data:{kind};base64,{base64.b64encode(media).decode('ascii')}"


def jpeg(pixels: Array, quality: int, icc: bytes | None = None) -> bytes:
    """Encode a crop to be seen enlarged: with all of its colour, which WebP halves in both directions."""
    from PIL import Image

    coded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        coded, "JPEG", quality=quality, subsampling=0, icc_profile=icc or b""
    )
    return coded.getvalue()


def _webp(pixels: Array, icc: bytes | None = None) -> bytes:
    """Encode 8-bit pixels `(H, W, 3)` or `(H, W)`."""
    from PIL import Image

    coded = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        coded, "WEBP", quality=_QUALITY, icc_profile=icc or b""
    )
    return coded.getvalue()


def encode_pictures(
    pictures: Sequence[Array], max_side: int, size_bytes: float, icc: bytes | None = None
) -> tuple[list[bytes], float]:
    """Encode pictures of one size, all scaled alike until they fit.

    Args:
        pictures: 8-bit `(H, W, 3)` or `(H, W)`.
        max_side: Pixels of the longer side.
        size_bytes: Of all together.
        icc: Profile of their colours.

    Returns:
        The encoded pictures, and the scale, at most 1.
    """
    from PIL import Image

    height, width = pictures[0].shape[:2]
    scale = min(1.0, max_side / max(height, width))
    while True:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        coded = [
            _webp(
                picture
                if size == (width, height)
                else np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX)),
                icc,
            )
            for picture in pictures
        ]
        total = sum(map(len, coded))
        if total <= size_bytes or max(size) <= 64:
            return coded, scale
        scale *= max(0.5, min(0.9, 0.95 * (size_bytes / total) ** 0.5))
