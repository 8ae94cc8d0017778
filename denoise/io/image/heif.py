"""HEIC (ISO/IEC 23008-12), as phones write it; only read, through pillow-heif (the extra `heif`).

libheif rotates the pixels as the file says, so the orientation in EXIF is set to upright too. Only the
primary picture is read; depth maps, bursts and thumbnails are not kept. 10 and 12 bits are read as 16.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from denoise.errors import UnsupportedError
from denoise.io.formats import optional_package
from denoise.io.image.base import Array, FileBytes, Header, SinglePage
from denoise.signal import Metadata, Page

__all__ = ["FORMAT"]

CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
EXIF_PREFIX = b"Exif\0\0"


class Heif(SinglePage):
    """The HEIC format."""

    name = "HEIC"

    def header(self, data: FileBytes) -> Header:
        """Read the boxes; of the pixels only their size."""
        images = _opened(data)
        info = dict(images.info)
        optional_package("HEIC").set_orientation(info)
        mode, _, deep = images.mode.partition(";")
        if mode not in CHANNELS:
            raise UnsupportedError(
                f"is HEIC data of mode {images.mode}; expected gray or RGB, with or without alpha"
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

    def decode(self, data: FileBytes, _header: Header) -> Array:
        """Decode the primary picture."""
        return np.asarray(_opened(data))


def _opened(data: FileBytes) -> Any:
    return optional_package("HEIC").open_heif(io.BytesIO(data[:]), convert_hdr_to_8bit=False)


FORMAT = Heif()
