"""AVIF (AV1 Image File Format 1.1): gray and RGB of 8, 10 and 12 bits, with or without alpha.

libavif codes the pixels, through imagecodecs, which writes no metadata: its boxes are added here. Pillow
reads the metadata. 10 and 12 bits are read as 16 bits, and written with the depth of the source.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterator
from typing import IO, Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import UnsupportedError
from denoise.io.image.base import (
    EXIF,
    FileBytes,
    Header,
    Picture,
    SinglePage,
    coded_space,
    icc_fits,
    lost_boxes,
    rescaled,
)
from denoise.io.image.ifd import ORIENTATION, turned_exif
from denoise.signal import ImageInfo, Metadata, Page

QUALITY = 90  # an AVIF does not state the quality that it was written with
SPEED = 6  # of libaom; slower ones take ten times as long for a tenth of the bytes
# Bits of the third byte of an `av1C` box (AV1 in ISOBMFF 1.2, 2.3.3).
DEEP, TWELVE, GRAY, ACROSS, DOWN = 0x40, 0x20, 0x10, 0x08, 0x04
SRGB, UNSPECIFIED = (1, 13, 6), (2, 2, 6)  # primaries, transfer and matrix (ITU-T H.273)
_MAX_EXIF_BYTES = 1 << 24
_PLACE = ">HHHII"  # item, data reference, number of extents, offset, length
TRANSFORMS = {  # from orientations of EXIF to properties (ISO/IEC 23008-12, 6.5.10 and 6.5.12)
    **{2: ((b"imir", 1),), 3: ((b"irot", 2),), 4: ((b"imir", 0),), 6: ((b"irot", 3),), 8: ((b"irot", 1),)},
    **{5: ((b"irot", 1), (b"imir", 0)), 7: ((b"irot", 3), (b"imir", 0))},
}


class Avif(SinglePage):
    """The AVIF format."""

    name = "AVIF"
    dtypes = ("uint8", "uint16")
    max_bits = 12
    channels = (1, 2, 3, 4)

    def header(self, data: FileBytes) -> Header:
        """Read the boxes; of the pixels only their size."""
        from PIL import AvifImagePlugin

        head, image = data[: 1 << 16], AvifImagePlugin.AvifImageFile(io.BytesIO(data[:]))
        if image.n_frames > 1:
            raise UnsupportedError("is an animated AVIF; expected a still image")
        at = head.find(b"av1C") + 6
        flags = head[at] if 6 <= at < len(head) else 0
        alpha = int(image.mode == "RGBA")
        # Pillow packs the EXIF anew where it disagrees with how the picture is shown, and loses parts of it.
        shown = image.getexif().get(ORIENTATION, 1)
        stored = _exif_item(data)
        exif, stated = turned_exif(stored, shown)
        if not stated:
            exif = image.info.get("exif", b"").removeprefix(EXIF)
        metadata = Metadata(exif=exif or None, icc=image.info.get("icc_profile"), xmp=image.info.get("xmp"))
        own: dict[str, Any] = {
            "orientation": stated,
            "exif": None if stated else (metadata.exif, stored),
            "bits": (12 if flags & TWELVE else 10) if flags & DEEP else 8,
            "pixelformat": "444" if not flags & ACROSS else "420" if flags & DOWN else "422",
        }
        if (at := head.find(b"colrnclx") + 8) >= 8:
            own["colours"] = struct.unpack_from(">HHH", head.ljust(at + 6, b"\0"), at)
        channels, dtype = (1 if flags & GRAY else 3) + alpha, "uint16" if flags & DEEP else "uint8"
        gain_map = ("the HDR gain map of the AVIF is not kept",) if b"tmap" in head else ()
        lost, page = gain_map + lost_boxes(data), Page(image.height, image.width, channels, dtype, alpha)
        texts = () if metadata.icc else coded_space(*own.get("colours", SRGB)[:2])
        return Header((page,), metadata, (), own, lost, texts)

    def decode(self, data: FileBytes, header: Header) -> Array:
        """Decode the picture, at full scale."""
        import imagecodecs

        pixels: Array = imagecodecs.avif_decode(data[:])
        return rescaled(pixels, 2 ** header.own["bits"] - 1, 65535) if pixels.dtype == np.uint16 else pixels

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Encode the picture, with the depth, colour sampling and colour space of an AVIF source."""
        import imagecodecs

        metadata, pixels, bits = info.metadata, picture.whole(), 8
        if pixels.dtype == np.uint16:
            bits = info.own.get("bits", self.max_bits)
            pixels = rescaled(pixels, 65535, 2**bits - 1)
        fits = icc_fits(metadata.icc, picture.channels, same=info.format == self.name)
        icc = metadata.icc if fits else None
        primaries, transfer, matrix = info.own.get("colours", UNSPECIFIED if icc else SRGB)
        coded = imagecodecs.avif_encode(
            pixels[..., 0] if picture.channels == 1 else pixels,
            level=QUALITY,
            speed=SPEED,
            bitspersample=bits,
            pixelformat="400" if picture.channels <= 2 else info.own.get("pixelformat", "444"),
            primaries=primaries,
            transfer=transfer,
            matrix=matrix,
        )
        shown = turned_exif(metadata.exif or b"", 1)[1]
        exif, _ = turned_exif(metadata.exif or b"", info.own.get("orientation") or shown)
        if (found := info.own.get("exif")) and exif == found[0]:
            exif = found[
                1
            ]  # without an orientation, which some readers would apply to what is turned already
        file.write(_with_metadata(bytes(coded), exif, shown, metadata.xmp or b"", icc or b""))


def _exif_item(data: FileBytes) -> bytes:
    """Return the EXIF block as it is stored; empty if it is not in one piece (ISO/IEC 14496-12, 8.11)."""
    head = data[: 1 << 16]
    item = re.search(rb"infe\x02.{3}(..)..Exif", head, re.DOTALL)
    table = re.search(rb"iloc([\x00\x01]).{3}\x44([\x00\x40])(..)", head, re.DOTALL)
    if not (item and table):
        return b""
    form = struct.Struct(">H" + "H" * table[1][0] + "H" + "I" * bool(table[2][0]) + "HII")
    rows = min(int.from_bytes(table[3]), (len(head) - table.end()) // form.size)
    for at in range(table.end(), table.end() + rows * form.size, form.size):
        number, *place, extents, offset, size = form.unpack_from(head, at)
        if number == int.from_bytes(item[1]) and extents == 1:
            start = offset + (place[-1] if table[2][0] else 0)
            block = data[start : start + min(size, _MAX_EXIF_BYTES)]
            return block[4 + int.from_bytes(block[:4]) :].removeprefix(EXIF)
    return b""


def _with_metadata(coded: bytes, exif: bytes, shown: int, xmp: bytes, icc: bytes) -> bytes:
    """Add items and properties to a file of libavif: file type, `meta` and data, the picture as item 1."""
    (_, ftyp), (_, meta), (_, data) = _boxes(coded)
    boxes = dict(_boxes(meta[4:]))
    (_, properties), (_, owners) = _boxes(boxes[b"iprp"])
    places = [struct.unpack_from(_PLACE, boxes[b"iloc"], at) for at in range(8, len(boxes[b"iloc"]), 14)]
    infos, references = boxes[b"iinf"][6:], boxes.get(b"iref", b"")[4:]
    for value, kind in ((exif and bytes(4) + exif, b"Exif\0"), (xmp, b"mime\0application/rdf+xml\0")):
        if value:
            item = len(places) + 1
            places.append((item, 0, 1, len(coded), len(value)))
            infos += _box(b"infe", struct.pack(">IHH", 2 << 24, item, 0) + kind)
            references += _box(b"cdsc", struct.pack(">HHH", item, 1, 1))
            coded += value
            data += value
    added = [(b"colr", b"prof" + icc, 0)] if icc else []
    added += [(kind, bytes([value]), 0x80) for kind, value in TRANSFORMS.get(shown, ())]
    first, number = len(list(_boxes(properties))) + 1, owners[10]  # properties of item 1
    own = bytes(index | essential for index, (_, _, essential) in enumerate(added, first))
    owners = owners[:10] + bytes([number + len(own)]) + owners[11 : 11 + number] + own + owners[11 + number :]
    properties += b"".join(_box(kind, value) for kind, value, _ in added)
    boxes[b"iprp"] = _box(b"ipco", properties) + _box(b"ipma", owners)
    boxes[b"iinf"] = struct.pack(">IH", 0, len(places)) + infos
    boxes |= {b"iref": bytes(4) + references} if references else {}
    boxes[b"iloc"] = bytes(8 + 14 * len(places))
    growth = sum(len(content) + 8 for content in boxes.values()) + 4 - len(meta)
    rows = [struct.pack(_PLACE, *place[:3], place[3] + growth, place[4]) for place in places]
    boxes[b"iloc"] = struct.pack(">IHH", 0, 0x4400, len(rows)) + b"".join(rows)
    body = meta[:4] + b"".join(_box(*box) for box in boxes.items())
    return _box(b"ftyp", ftyp) + _box(b"meta", body) + _box(b"mdat", data)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the boxes in a row (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, data[at + 8 : at + size]
        at += size


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", len(content) + 8, kind) + content


FORMAT = Avif()
