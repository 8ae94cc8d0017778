"""Camera raw data (DNG, NEF, CR2, ARW, ...); only read, through rawpy (LibRaw, the extra `raw`).

The mosaic of the sensor becomes 16-bit sRGB: the camera's white balance and orientation, no brightening. EXIF
is kept where the file is a TIFF, as most are, without the tags that speak of the mosaic.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

from denoise.errors import UnsupportedError
from denoise.io.image.base import Array, FileBytes, Header, Metadata, Page
from denoise.io.image.ifd import Entry, Tags, packed_exif, read_below, read_entries

__all__ = ["FORMAT"]

SRGB_GAMMA = (2.4, 12.92)  # exponent and slope at black (IEC 61966-2-1)
ORIENTATION, SHORT, XMP_TAG = 274, 3, 700
DESCRIPTIVE = frozenset([270, 271, 272, 305, 306, 315, 33432])  # what was taken, by what, when and by whom
TURNED = 4  # bit of LibRaw's flip: rows and columns change places


class Raw:
    """Camera raw formats."""

    name = "camera raw"

    def header(self, data: FileBytes) -> Header:
        """Read what LibRaw needs for a decision; of the pixels only their size."""
        with _opened(data) as raw:
            sizes = raw.sizes
        height, width = (
            (sizes.iwidth, sizes.iheight) if sizes.flip & TURNED else (sizes.iheight, sizes.iwidth)
        )
        notes = ("camera raw is only read: the result is 16-bit sRGB of another format",)
        return Header((Page(height, width, 3, "uint16"),), _metadata(data), notes)

    def pages(self, data: FileBytes, header: Header) -> Iterator[Array]:
        """Develop the picture."""
        del header
        with _opened(data) as raw:
            yield raw.postprocess(output_bps=16, use_camera_wb=True, no_auto_bright=True, gamma=SRGB_GAMMA)


def _opened(data: FileBytes) -> Any:
    try:
        import rawpy
    except ImportError as error:
        raise UnsupportedError(
            "is camera raw data, which needs rawpy; expected the extra: pip install 'denoise-pipelines[raw]'"
        ) from error
    return rawpy.imread(io.BytesIO(data.whole()))


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
