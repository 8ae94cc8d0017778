"""HEIC (ISO/IEC 23008-12), as phones write it, through pillow-heif (the extra `heif`).

libheif rotates the pixels as the file says, so the orientation in EXIF is set to upright too. 10 and 12 bits
are read as 16, and written with the depth of the source. Only the primary picture is kept.
"""

from __future__ import annotations

import io
from typing import IO, Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import UnsupportedError
from denoise.io.formats import optional_package
from denoise.io.image.base import (
    EXIF,
    FileBytes,
    Header,
    Picture,
    SinglePage,
    coded_space,
    icc_fits,
    lost_boxes,
)
from denoise.signal import ImageInfo, Metadata, Page

CHANNELS = {"L": 1, "I": 1, "LA": 2, "RGB": 3, "RGBA": 4}  # `I` with 16 bits is gray
QUALITY = 90  # of x265 through libheif: a HEIC does not state the quality that it was written with
# Facts of the primary picture that pillow-heif writes again as they are.
KEPT = (
    *("bit_depth", "chroma", "nclx_profile", "content_light_level", "mastering_display_colour_volume"),
    *("ambient_viewing_environment", "nominal_diffuse_white_luminance", "pixel_aspect_ratio", "tiling"),
    *("icc_profile_type", "thumbnails"),
)


class Heif(SinglePage):
    """The HEIC format."""

    name = "HEIC"
    dtypes = ("uint8", "uint16")
    max_bits = 12
    channels = (1, 3, 4)

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
            exif=exif and exif.removeprefix(EXIF), icc=info.get("icc_profile"), xmp=info.get("xmp")
        )
        own = {name: info[name] for name in KEPT if info.get(name)}
        nclx = info.get("nclx_profile") or {}
        space = nclx.get("color_primaries", 1), nclx.get("transfer_characteristics", 13)
        texts = () if metadata.icc else coded_space(*map(int, space))
        return Header((page,), metadata, (), own, _lost(images) + lost_boxes(data), texts)

    def decode(self, data: FileBytes, _header: Header) -> Array:
        """Decode the primary picture."""
        return np.asarray(_opened(data))

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Encode the picture, with the depth, the colour sampling and the colour space of a HEIC source."""
        heif, metadata = optional_package("HEIC"), info.metadata
        mode = next(mode for mode, channels in CHANNELS.items() if channels == picture.channels)
        deep = ";16" if picture.dtype.itemsize == 2 else ""
        size = (picture.width, picture.height)
        image = heif.from_bytes(mode + deep, size, picture.whole().tobytes())
        image.info.update({"bit_depth": self.max_bits, "chroma": 444, **info.own})
        if icc_fits(metadata.icc, picture.channels, same=info.format == self.name):
            image.info["icc_profile"] = metadata.icc
        image.save(file, quality=QUALITY, exif=metadata.exif, xmp=metadata.xmp, chroma=image.info["chroma"])


def _lost(images: Any) -> tuple[str, ...]:
    """Say which pictures besides the primary one a result lacks."""
    notes = []
    if len(images) > 1:
        notes.append(f"{len(images) - 1} further images of the HEIC are not kept")
    kinds = [*images.info.get("aux", ()), *(["depth"] if images.info.get("depth_images") else [])]
    for kind in kinds:
        name = "HDR gain map" if "gainmap" in kind else kind.rpartition(":")[2]
        notes.append(f"the {name} of the HEIC is not kept")
    return tuple(notes)


def _opened(data: FileBytes) -> Any:
    return optional_package("HEIC").open_heif(io.BytesIO(data[:]), convert_hdr_to_8bit=False)


FORMAT = Heif()
