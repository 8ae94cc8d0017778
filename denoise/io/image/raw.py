"""Camera raw data (DNG, NEF, CR2, ARW, ...), through rawpy (LibRaw, the extra `raw`).

The sensor mosaic is developed to 16-bit sRGB with the camera's white balance and orientation, and without
brightening, and gets the profile of that space; for a linear DNG (`dng`), to the colours of the camera. EXIF
is kept without the tags that describe the mosaic.
"""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from typing import Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import UnsupportedError
from denoise.io.formats import optional_package
from denoise.io.image.base import EXIF, FileBytes, Header, SinglePage, Sliced
from denoise.io.image.ifd import EXIF_TAG, GPS_TAG, Entry, Tags, packed_exif, read_below, read_entries
from denoise.signal import Metadata, Page

SRGB_GAMMA = (2.4, 12.92)  # exponent and slope at black (IEC 61966-2-1)
XYZ_FROM_SRGB = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
ORIENTATION, SHORT, XMP_TAG = 274, 3, 700
ORDERS = {b"II": "<", b"MM": ">"}
HEAD_BYTES = 1 << 20  # where the tags of RAF and CR3 are
DESCRIPTIVE = frozenset([270, 271, 272, 305, 306, 315, 33432])  # subject, camera, date and author
TURNED = 4  # bit of LibRaw's flip: rows and columns are swapped


class Raw(SinglePage):
    """Camera raw formats.

    Args:
        camera_space: Keep the colours of the camera, white-balanced, under the curve of sRGB.
    """

    name = "camera raw"

    def __init__(self, *, camera_space: bool = False) -> None:
        self._camera_space = camera_space

    def header(self, data: FileBytes) -> Header:
        """Open the file with LibRaw; of the pixels read only their size."""
        with _opened(data) as raw:
            sizes = raw.sizes
            colours = _colours(raw) if self._camera_space else None
        height, width = (
            (sizes.iwidth, sizes.iheight) if sizes.flip & TURNED else (sizes.iheight, sizes.iwidth)
        )
        page, metadata = Page(height, width, 3, "uint16"), _metadata(data)
        if colours:
            notes = ("the mosaic was developed: the result is a linear DNG in the colours of the camera",)
            return Header((page,), replace(metadata, icc=None), notes, colours)
        return Header((page,), metadata, ("camera raw was developed: the result is 16-bit sRGB",))

    def decode(self, data: FileBytes, _header: Header) -> Array:
        """Develop the picture."""
        space = optional_package("camera raw").ColorSpace
        with _opened(data) as raw:
            pixels: Array = raw.postprocess(
                output_bps=16,
                use_camera_wb=True,
                no_auto_bright=True,
                gamma=SRGB_GAMMA,
                output_color=space.raw if self._camera_space else space.sRGB,
                adjust_maximum_thr=0.0 if self._camera_space else 0.75,
            )
        return pixels


def _colours(raw: Any) -> dict[str, Array]:
    """Return the matrix from CIE XYZ to the colours of the camera, `(3, 3)`, and their white balance."""
    matrix, to_srgb = raw.rgb_xyz_matrix[:3], raw.color_matrix[:, :3]
    given, usual = (np.array(balance[:3]) for balance in (raw.camera_whitebalance, raw.daylight_whitebalance))
    if raw.num_colors != 3 or not (matrix.any() or np.linalg.det(to_srgb)) or not usual.all():
        raise UnsupportedError("is of a camera whose colours LibRaw does not know; write it to .tif")
    if not matrix.any():
        matrix = np.linalg.inv(XYZ_FROM_SRGB @ to_srgb) / usual[:, None]  # of a DNG, balanced for daylight
    balance = given if given.all() else usual
    return {"matrix": matrix, "balance": balance / balance.min()}


def _opened(data: FileBytes) -> Any:
    return optional_package("camera raw").imread(io.BytesIO(data[:]))


def _metadata(data: FileBytes) -> Metadata:
    """Read the tags of a file that is TIFF, holds a JPEG with EXIF (RAF), or has boxes of tags (CR3)."""
    head = data[:HEAD_BYTES]
    if at := head.find(b"ftypcrx ") + 1:
        blocks = [head[at:].partition(kind)[2] for kind in (b"CMT1", b"CMT2", b"CMT4")]
        first, *others = (_entries(block) for block in blocks)
        below = {code: found[1] for code, found in zip((EXIF_TAG, GPS_TAG), others, strict=True) if found[1]}
        return _described(*first, below)
    tagged = data if head[:2] in ORDERS else head[head.find(EXIF) + len(EXIF) :]
    order, entries = _entries(tagged)
    return _described(order, entries, read_below(tagged, entries, order))


def _entries(data: Sliced) -> tuple[str, tuple[Entry, ...]]:
    """Read the order and the first directory of a TIFF structure; nothing if it is none."""
    order = ORDERS.get(bytes(data[:2]), "")
    if not order or len(data) < 8:
        return "<", ()
    return order, read_entries(data, struct.unpack(order + "I", data[4:8])[0], order)


def _described(order: str, entries: tuple[Entry, ...], below: dict[int, tuple[Entry, ...]]) -> Metadata:
    """Keep what describes the photo, not the mosaic; name the colour space of the developed pixels."""
    import imagecodecs

    kept = [entry for entry in entries if entry.code in DESCRIPTIVE]
    kept.append(Entry(ORIENTATION, SHORT, 1, struct.pack(order + "H", 1)))  # LibRaw has turned the picture
    xmp = next((entry.value for entry in entries if entry.code == XMP_TAG), None)
    exif = packed_exif(Tags(order, tuple(kept), below))
    return Metadata(exif=exif, xmp=xmp, icc=bytes(imagecodecs.cms_profile("srgb")))


FORMAT = Raw()
IN_CAMERA_SPACE = Raw(camera_space=True)
