"""Camera raw data (DNG, NEF, CR2, ARW, ...); only read, through rawpy (LibRaw, the extra `raw`).

The sensor mosaic is developed to 16-bit sRGB with the camera's white balance and orientation, and without
brightening. The EXIF of files that are TIFF, as most are, is kept without the tags that describe the mosaic.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from denoise.io.formats import optional_package
from denoise.io.image.base import Array, FileBytes, Header, SinglePage
from denoise.io.image.ifd import Entry, Tags, packed_exif, read_below, read_entries
from denoise.signal import Metadata, Page

SRGB_GAMMA = (2.4, 12.92)  # exponent and slope at black (IEC 61966-2-1)
ORIENTATION, SHORT, XMP_TAG = 274, 3, 700
DESCRIPTIVE = frozenset([270, 271, 272, 305, 306, 315, 33432])  # subject, camera, date and author
TURNED = 4  # bit of LibRaw's flip: rows and columns are swapped


class Raw(SinglePage):
    """Camera raw formats."""

    name = "camera raw"

    def header(self, data: FileBytes) -> Header:
        """Open the file with LibRaw; of the pixels read only their size."""
        with _opened(data) as raw:
            sizes = raw.sizes
        height, width = (
            (sizes.iwidth, sizes.iheight) if sizes.flip & TURNED else (sizes.iheight, sizes.iwidth)
        )
        notes = ("camera raw is only read: the result is 16-bit sRGB of another format",)
        return Header((Page(height, width, 3, "uint16"),), _metadata(data), notes)

    def decode(self, data: FileBytes, _header: Header) -> Array:
        """Develop the picture."""
        with _opened(data) as raw:
            pixels: Array = raw.postprocess(
                output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=SRGB_GAMMA
            )
        return pixels


def _opened(data: FileBytes) -> Any:
    return optional_package("camera raw").imread(io.BytesIO(data[:]))


def _metadata(data: FileBytes) -> Metadata:
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return Metadata()
    entries = read_entries(data, struct.unpack(order + "I", data[4:8])[0], order)
    kept = [entry for entry in entries if entry.code in DESCRIPTIVE]
    kept.append(Entry(ORIENTATION, SHORT, 1, struct.pack(order + "H", 1)))  # LibRaw has turned the picture
    tags = Tags(order, tuple(kept), read_below(data, entries, order))
    xmp = next((entry.value for entry in entries if entry.code == XMP_TAG), None)
    return Metadata(exif=packed_exif(tags), xmp=xmp)


FORMAT = Raw()
