"""HEIC (ISO/IEC 23008-12), as phones write it; only read, through pillow-heif (the extra `heif`).

libheif turns pixels upright as the file says, so the orientation in EXIF is set to upright too. The picture
is the primary one; depth maps, bursts and thumbnails are not kept. 10 and 12 bits come out as 16.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from denoise.errors import UnsupportedError
from denoise.io.image.base import Array, FileBytes, Header, Metadata, Page

__all__ = ["FORMAT"]

CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
EXIF_PREFIX = b"Exif\0\0"


class Heif:
    """The HEIC format."""

    name = "HEIC"

    def header(self, data: FileBytes) -> Header:
        """Read the boxes; of the pixels only their size."""
        pillow_heif, images = _opened(data)
        info = dict(images.info)
        pillow_heif.set_orientation(info)
        mode, _, deep = images.mode.partition(";")
        if mode not in CHANNELS:
            raise UnsupportedError(
                f"is HEIC data of mode {images.mode}; gray or RGB, with or without alpha, is expected"
            )
        width, height = images.size
        channels = CHANNELS[mode]
        page = Page(height, width, channels, "uint16" if deep else "uint8", int(channels in (2, 4)))
        exif = info.get("exif")
        metadata = Metadata(
            exif=exif and exif.removeprefix(EXIF_PREFIX), icc=info.get("icc_profile"), xmp=info.get("xmp")
        )
        notes: tuple[str, ...] = ("HEIC is only read: the result is of another format",)
        if len(images) > 1:
            notes += (f"{len(images) - 1} further images of the HEIC are not kept",)
        return Header((page,), metadata, notes)

    def pages(self, data: FileBytes, header: Header) -> Iterator[Array]:
        """Decode the primary picture."""
        del header
        _, images = _opened(data)
        yield np.asarray(images)


def _opened(data: FileBytes) -> tuple[Any, Any]:
    try:
        import pillow_heif
    except ImportError as error:
        raise UnsupportedError(
            "is HEIC data, which needs pillow-heif; expected the extra: pip install 'denoise-pipelines[heif]'"
        ) from error
    return pillow_heif, pillow_heif.open_heif(io.BytesIO(data.whole()), convert_hdr_to_8bit=False)


FORMAT = Heif()
