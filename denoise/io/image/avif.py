"""AVIF (AV1 Image File Format 1.1): 8-bit gray, RGB and RGBA through Pillow; more bits are read as 8."""

from __future__ import annotations

import io
from typing import IO, Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import UnsupportedError
from denoise.io.image.base import EXIF, FileBytes, Header, Picture, SinglePage, icc_fits
from denoise.signal import ImageInfo, Metadata, Page

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
QUALITY = 90  # an AVIF does not state the quality that it was written with
# Bits of the third byte of an `av1C` box.
DEEP, ACROSS, DOWN = 0x40, 0x08, 0x04


class Avif(SinglePage):
    """The AVIF format."""

    name = "AVIF"
    dtypes = ("uint8",)
    channels = (1, 3, 4)

    def header(self, data: FileBytes) -> Header:
        """Read the boxes; of the pixels only their size."""
        image = _opened(data)
        if image.n_frames > 1:
            raise UnsupportedError("is an animated AVIF; expected a still image")
        channels = CHANNELS[image.mode]
        flags = _coding_flags(data)
        notes = ("10 or 12 bits turned into 8 (AVIF is written with 8)",) if flags & DEEP else ()
        exif = image.info.get("exif")
        metadata = Metadata(
            exif=exif and exif.removeprefix(EXIF),
            icc=image.info.get("icc_profile"),
            xmp=image.info.get("xmp"),
        )
        own = {"subsampling": "4:4:4" if not flags & ACROSS else "4:2:0" if flags & DOWN else "4:2:2"}
        return Header(
            (Page(image.height, image.width, channels, "uint8", int(channels == 4)),), metadata, notes, own
        )

    def decode(self, data: FileBytes, _header: Header) -> Array:
        """Decode the picture."""
        return np.asarray(_opened(data))

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Encode the picture, with the colour sampling of an AVIF source."""
        from PIL import Image

        metadata, pixels = info.metadata, picture.whole()
        Image.fromarray(pixels[..., 0] if picture.channels == 1 else pixels).save(
            file,
            "AVIF",
            quality=QUALITY,
            subsampling="4:0:0" if picture.channels == 1 else info.own.get("subsampling", "4:4:4"),
            icc_profile=metadata.icc if icc_fits(metadata.icc, picture.channels) else None,
            exif=metadata.exif or b"",
            xmp=metadata.xmp or b"",
        )


def _opened(data: FileBytes) -> Any:
    from PIL import AvifImagePlugin

    return AvifImagePlugin.AvifImageFile(io.BytesIO(data[:]))


def _coding_flags(data: FileBytes) -> int:
    """Read the depth and the colour sampling of the first picture (AV1 in ISOBMFF 1.2, 2.3.3)."""
    head = data[: 1 << 16]
    at = head.find(b"av1C") + 4
    return head[at + 2] if 4 <= at < len(head) - 2 else 0


FORMAT = Avif()
