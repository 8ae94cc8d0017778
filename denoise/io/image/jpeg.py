"""JPEG (ITU-T T.81): gray and colour; CMYK is read as RGB.

libjpeg-turbo decodes, through imagecodecs (three bytes a pixel, where Pillow takes four). libjpeg encodes,
through Pillow, which accepts quantisation tables: those of the source keep its quality. A large picture is
encoded in strips that are joined by restart markers (T.81 B.2.1): each strip is a restart interval, which by
definition depends on nothing before it, so the decoded pixels equal those of one piece.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import IO, Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import UnreadableError, UnsupportedError
from denoise.io.image import inks, iptc
from denoise.io.image.base import EXIF, FileBytes, Header, Picture, SinglePage, Sliced, icc_fits
from denoise.io.image.ifd import read_entries
from denoise.io.image.jpeg_scans import Frame, Scan, fault
from denoise.io.limits import require_few
from denoise.signal import ImageInfo, Metadata, Page

XMP, ICC = b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
EOI, SOS, DQT, DRI, COM = 0xD9, 0xDA, 0xDB, 0xDD, 0xFE
APP0, APP1, APP2, APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xED, 0xEE
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn, without DHT, JPG, DAC
JPEG_LS = 0xF7
DECODED_FRAMES = frozenset(b"\xc0\xc1\xc2\xc9\xca")  # baseline, extended, progressive; two arithmetic
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
MAX_SEGMENT_BYTES = 65533  # of content
MAX_INTERVAL_UNITS = 65535
NEW_QUALITY = 95  # for pictures from another format
KEPT_QUALITY = 90  # tables as fine as this are kept
FINER_QUALITY = 97  # for cleaned pictures whose own tables are coarser; 95 loses what deblocking gains
MAX_SCANS = 500  # encoders make about ten; each passes over the whole picture, so thousands take hours
MAX_WHOLE_PX = 16_000_000  # encoded in one piece, with Huffman tables of its own; above, in strips
JFIF = b"JFIF\0\1\1\0\0\1\0\1\0\0"  # without a resolution
MPF = b"MPF\0"  # index of further images (CIPA DC-007)
MP_ENTRIES, MP_ENTRY_BYTES = 0xB002, 16
TRANSLATED = (EXIF, XMP, ICC, MPF, iptc.APP13)  # further images are named as such
GAIN_MAPS = (b"ns.adobe.com/hdr-gain-map", b"urn:iso:std:iso:ts:21496", b"HDRGainMap")
AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # a marker other than stuffing, fill and restarts
ZIGZAG = sorted(range(64), key=lambda k: (k // 8 + k % 8, (k // 8 if (k // 8 + k % 8) % 2 else k % 8)))

Segment = tuple[int, bytes]  # marker, content


@dataclass(frozen=True)
class Component:
    """A row of the frame header: sampling factors, and the number of the quantisation table."""

    name: int
    across: int
    down: int
    table: int


SUBSAMPLING = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0"}  # by pixels across and down, as written


class Jpeg(SinglePage):
    """The JPEG format."""

    name = "JPEG"
    dtypes = ("uint8",)
    channels = (1, 3)
    holds = ("exif", "icc", "xmp", "dpi", "iptc")

    def header(self, data: FileBytes) -> Header:
        """Read every segment before the first scan."""
        segments = _segments(data)[0]
        marker, frame = next(((m, c) for m, c in segments if m in (*FRAMES, JPEG_LS)), (0, b""))
        if len(frame) < 6:
            raise UnreadableError("is damaged: JPEG data without a frame header")
        precision, height, width, count = struct.unpack(">BHHB", frame[:6])
        if marker == JPEG_LS:
            raise UnsupportedError("is JPEG-LS, which no decoder here reads; expected JPEG")
        if marker not in DECODED_FRAMES or precision != 8 or count not in (1, 3, 4) or not height:
            raise UnsupportedError(
                f"is a JPEG with {count} components of {precision} bits (frame type {marker - 0xC0}); "
                "expected 8-bit gray, colour or CMYK, lossy"
            )
        components = [
            Component(n, s >> 4, s & 15, t) for n, s, t in struct.iter_unpack("BBB", frame[6 : 6 + 3 * count])
        ]
        notes = ("CMYK turned into RGB",) if count == 4 else ()
        _, late, end = _scans(data[:])
        segments += late
        index = _index_at(data[:end], segments)
        tables = _component_tables(segments, components)
        own = {
            # The encoder writes its own APP14.
            "segments": tuple(
                s for s in segments if APP0 <= s[0] <= APP0 + 15 or s[0] == COM if s[0] != APP14
            ),
            "behind": data[end:],
            "shift": end - index,
            "beside": _behind(segments, data[end:]),
            "tables": tables,
            "finer": _finer(tables),
            "subsampling": _subsampling(components),
            "progressive": marker in (0xC2, 0xCA),
            "keep_rgb": _adobe(segments) == 0 and count == 3 and not _is_jfif(segments),
            "inverted": _adobe(segments) is not None,
        }
        page = Page(height, width, 1 if count == 1 else 3, "uint8")
        lost, resources = _lost_sampling(components), _resources(segments)
        metadata = replace(_metadata(segments), iptc=resources.get(iptc.RECORD))
        return Header((page,), metadata, notes, own, lost, _texts(segments, resources))

    def decode(self, data: FileBytes, header: Header) -> Array:
        """Decode the picture; CMYK through the file's profile."""
        import imagecodecs

        whole = data[:]
        if wrong := fault(whole, _frame(whole), _scans(whole)[0]):
            raise UnreadableError(f"is damaged: JPEG data in which {wrong}")
        pixels: Array = imagecodecs.jpeg8_decode(whole)
        if pixels.ndim == 3 and pixels.shape[-1] == 4:
            # As Adobe writes it, 255 means no ink.
            return inks.to_rgb(255 - pixels if header.own["inverted"] else pixels, header.metadata.icc)
        return pixels

    def lacks(self, metadata: Metadata) -> tuple[str, ...]:
        """Name the metadata that a file has no place for, which may be too long for a segment."""
        parts = {"EXIF": _exif(metadata), "XMP": _xmp(metadata), "IPTC": _iptc(metadata)}
        return tuple(name for name, part in parts.items() if len(part) > MAX_SEGMENT_BYTES)

    def with_xmp(self, own: Mapping[str, Any], xmp: bytes) -> Mapping[str, Any]:
        """Put another XMP packet behind the first segment."""
        first, *others = [s for s in own["segments"] if not s[1].startswith(XMP)] or [(APP0, JFIF)]
        return {**own, "segments": (first, (APP1, XMP + xmp), *others)}

    def writing_loss(self, info: ImageInfo, crop: Array) -> float:
        """Measure the mean squared error of writing pixels `(H, W, C)`, in squared steps."""
        import imagecodecs

        read = imagecodecs.jpeg8_decode(_encoded(crop, _own(info), whole=True)).reshape(crop.shape)
        return float(np.square(np.subtract(read, crop, dtype=np.float32)).mean())

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Encode in one piece, or, above `MAX_WHOLE_PX`, in strips."""
        own, icc = _own(info), info.metadata.icc
        rows = picture.height if picture.height * picture.width <= MAX_WHOLE_PX else _strip_rows(picture)
        pieces = (_encoded(strip, own, whole=rows == picture.height) for strip in picture.strips(rows))
        head, scan = _split(next(pieces))
        if rows < picture.height:
            width_px, height_px = _unit_px(picture, own)
            units = -(-picture.width // width_px) * (rows // height_px)
            head = _with_intervals(head, picture.height, units)
        segments = own["segments"] if own else _described(info.metadata)
        if not icc_fits(icc, picture.channels, same=info.format == self.name):
            segments = [segment for segment in segments if not segment[1].startswith(ICC)]
        first = b"\xff\xd8" + b"".join(_packed(*segment) for segment in segments)
        file.write(first + head)
        file.write(scan)
        for number, piece in enumerate(pieces):
            file.write(bytes([0xFF, 0xD0 + number % 8]))
            file.write(_split(piece)[1])
        file.write(b"\xff\xd9")
        if own.get("behind"):
            end, index = file.tell(), _index_at(first, segments)
            file.write(own["behind"])
            if index:
                file.seek(index)
                content = next(c for m, c in segments if m == APP2 and c.startswith(MPF))
                file.write(_moved(content[len(MPF) :], end, end - index - own["shift"]))


def _own(info: ImageInfo) -> Mapping[str, Any]:
    """Data of the source's file, with finer tables if those are wanted."""
    own = info.own
    return {**own, "tables": own["finer"]} if info.finer and own.get("finer") else own


def _unit_px(picture: Picture, own: Mapping[str, Any]) -> tuple[int, int]:
    """Width and height of a minimum coded unit."""
    if picture.channels == 1:
        return 8, 8
    return {"4:4:4": (8, 8), "4:2:2": (16, 8), "4:2:0": (16, 16)}[own.get("subsampling", "4:4:4")]


def _encoded(strip: Array, own: Mapping[str, Any], *, whole: bool) -> bytes:
    from PIL import Image

    options: dict[str, Any] = {"qtables": own["tables"]} if own else {"quality": NEW_QUALITY}
    if strip.shape[-1] == 3:
        options["subsampling"] = own.get("subsampling", "4:4:4")
        options["keep_rgb"] = own.get("keep_rgb", False)
    if whole:
        options |= {"optimize": True, "progressive": own.get("progressive", False)}
    piece = io.BytesIO()
    Image.fromarray(strip[..., 0] if strip.shape[-1] == 1 else strip).save(piece, "JPEG", **options)
    return piece.getvalue()


def frame_px(data: Sliced) -> int:
    """Count the pixels that a JPEG stream claims."""
    frame = next((content for marker, content in _segments(data)[0] if marker in FRAMES), b"")
    return int.from_bytes(frame[1:3], "big") * int.from_bytes(frame[3:5], "big")


def _strip_rows(picture: Picture) -> int:
    """Rows of one restart interval: near the usual strip, and never more units than T.81 allows."""
    max_rows = MAX_INTERVAL_UNITS // -(-picture.width // 8) * 8
    return min(picture.rows_per_strip(), max_rows // 16 * 16)


def _split(piece: bytes) -> tuple[bytes, bytes]:
    """Split into the head (without SOI and the encoder's own APP0) and the data of the first scan on."""
    segments, start = _segments(piece)
    head = b"".join(_packed(*segment) for segment in segments if segment[0] != APP0)
    return head, piece[start:-2]


def _with_intervals(head: bytes, height: int, units: int) -> bytes:
    """Turn a strip's head into the whole picture's: the full height, and a restart interval of `units`."""
    parts = []
    for marker, content in _segments(b"\xff\xd8" + head)[0]:
        if marker in FRAMES:
            content = content[:1] + struct.pack(">H", height) + content[3:]
        if marker == SOS:
            parts.append(_packed(DRI, struct.pack(">H", units)))
        parts.append(_packed(marker, content))
    return b"".join(parts)


def _packed(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _segments(data: Sliced) -> tuple[list[Segment], int]:
    """Read the segments up to the first SOS, inclusive, and the position of its data."""
    position, found = 2, list[Segment]()
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise UnreadableError("is damaged: JPEG data with a gap between its segments")
        if data[position + 1] == 0xFF:  # fill
            position += 1
            continue
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == EOI:
            break
        end = position + 2 + length
        if length < 2 or end > len(data):
            break
        found.append((marker, bytes(data[position + 4 : end])))
        require_few(len(found), "segments")
        position = end
        if marker == SOS:
            return found, position
    raise UnreadableError("ends early: JPEG data without a picture")


def _scans(data: bytes) -> tuple[list[Scan], list[Segment], int]:
    """Follow the scans up to the end marker; return them, the metadata amid them, and where that ends."""
    segments, start = _segments(data)
    interval, head = _interval(segments, 0), segments[-1][1]
    found, late, position = list[Scan](), list[Segment](), start
    while match := AFTER_SCAN.search(data, position):
        marker, position = match[0][1], match.end()
        if head:
            found.append(Scan.of(head, interval, start, match.start()))
            head = b""
        if marker == EOI:
            return found, late, position
        end = position + int.from_bytes(data[position : position + 2], "big")
        content = data[position + 2 : end]
        interval = _interval([(marker, content)], interval)
        if marker == COM or (APP0 < marker <= APP0 + 15 and marker != APP14):
            late.append((marker, content))
            require_few(len(late), "segments")
        if marker == SOS:
            head, start = content, end
            if len(found) >= MAX_SCANS:
                raise UnreadableError(f"is damaged: JPEG data with more than {MAX_SCANS} scans")
        position = end
    raise UnreadableError("ends early: JPEG data without its end marker")


def _interval(segments: Sequence[Segment], before: int) -> int:
    """Units between restart markers, as the last of the segments sets it."""
    return next((int.from_bytes(c[:2], "big") for m, c in reversed(segments) if m == DRI), before)


def _frame(data: Sliced) -> Frame:
    marker, content = next(segment for segment in _segments(data)[0] if segment[0] in FRAMES)
    rows = [*struct.iter_unpack("BBB", content[6 : 6 + 3 * content[5]])]
    across, down = (max(1, *(f >> 4 for _, f, _ in rows)), max(1, *(f & 15 for _, f, _ in rows)))
    height, width = struct.unpack(">HH", content[1:5])
    return Frame(marker, height, width, tuple(name for name, _, _ in rows), (across, down))


def _component_tables(segments: Sequence[Segment], components: Sequence[Component]) -> list[list[int]]:
    """Read one quantisation table per component, in natural order; the last one serves the rest.

    CMYK and YCCK take the first three, which become luma and chroma.
    """
    tables: dict[int, list[int]] = {}
    for marker, content in segments:
        while marker == DQT and content:
            wide, number = content[0] >> 4, content[0] & 15
            size = 128 if wide else 64
            if len(content) <= size:
                raise UnreadableError("is damaged: JPEG data with a short quantisation table")
            values = struct.unpack(">64H" if wide else "64B", content[1 : 1 + size])
            tables[number] = [value for _, value in sorted(zip(ZIGZAG, values, strict=True))]
            content = content[1 + size :]
    chosen = [component.table for component in components[:3]]
    while len(chosen) > 1 and chosen[-1] == chosen[-2]:
        chosen.pop()
    if not tables.keys() >= set(chosen):
        raise UnreadableError("is damaged: JPEG data without its quantisation tables")
    return [tables[number] for number in chosen]


def _finer(tables: list[list[int]]) -> list[list[int]] | None:
    """Make coarse tables as fine as those of `FINER_QUALITY`; None of tables that are fine enough."""
    if np.mean(tables[0]) <= np.mean(_tables_of(KEPT_QUALITY)[0]):
        return None
    pairs = zip(tables, _tables_of(FINER_QUALITY), strict=False)
    return [np.minimum(*pair).tolist() for pair in pairs]


@cache
def _tables_of(quality: int) -> list[list[int]]:
    """Read libjpeg's tables of a quality, for luma and chroma, in natural order."""
    from PIL import Image

    piece = io.BytesIO()
    Image.new("RGB", (8, 8)).save(piece, "JPEG", quality=quality)
    return _component_tables(_segments(piece.getvalue())[0], [Component(k, 1, 1, k) for k in range(2)])


def _steps(components: Sequence[Component]) -> tuple[int, int]:
    """Pixels across and down for each sample of colour."""
    if len(components) != 3:
        return 1, 1
    luma, *chroma = components
    return (
        min(luma.across // max(c.across, 1) for c in chroma),
        min(luma.down // max(c.down, 1) for c in chroma),
    )


def _subsampling(components: Sequence[Component]) -> str:
    """Select the sampling scheme for the encoder: the source's, or the next finer one that it supports."""
    return {**SUBSAMPLING, (4, 1): "4:2:2"}.get(_steps(components), "4:4:4")


def _lost_sampling(components: Sequence[Component]) -> tuple[str, ...]:
    """Sentence about a sampling scheme that the encoder does not support."""
    if _steps(components) in SUBSAMPLING:
        return ()
    return (f"its sampling of colour, which the encoder lacks, turned into {_subsampling(components)}",)


def _adobe(segments: Sequence[Segment]) -> int | None:
    """Read the colour transform in Adobe's segment: 0 none, 1 YCbCr, 2 YCCK."""
    return next((c[11] for m, c in segments if m == APP14 and c.startswith(b"Adobe") and len(c) >= 12), None)


def _is_jfif(segments: Sequence[Segment]) -> bool:
    """True if the colours are YCbCr whatever Adobe's segment says, as every decoder reads them."""
    return any(marker == APP0 and content.startswith(b"JFIF\0") for marker, content in segments)


def _index_at(data: bytes, segments: Sequence[Segment]) -> int:
    """Find the index of further images, which is the origin of its own offsets; 0 if there is none."""
    found = next((_packed(m, c) for m, c in segments if m == APP2 and c.startswith(MPF)), None)
    return data.find(found) + 4 + len(MPF) if found and found in data else 0


def _behind(segments: Sequence[Segment], rest: bytes) -> str:
    """Name what follows the picture in its file; empty if nothing does."""
    if not rest.strip(b"\0"):
        return ""
    if any(name in part for name in GAIN_MAPS for part in (rest[:65536], *(c for _, c in segments))):
        return "the HDR gain map"
    if any(content.startswith(MPF) for _, content in segments):
        return "the further images of the file"
    return "the video of a motion photo" if b"ftyp" in rest[:64] else f"{len(rest)} bytes behind the picture"


def _moved(index: bytes, end: int, shift: int) -> bytes:
    """Correct an index of images: the size of the first, and the offsets of those behind it."""
    order = "<" if index.startswith(b"II") else ">"
    found = bytearray(index)
    first = struct.unpack_from(order + "I", index, 4)[0] if len(index) >= 8 else 0
    for entry in read_entries(index, first, order):
        if entry.code == MP_ENTRIES:
            at = index.find(entry.value)
            for start in range(at, at + len(entry.value) - MP_ENTRY_BYTES + 1, MP_ENTRY_BYTES):
                offset = struct.unpack_from(order + "I", found, start + 8)[0]
                place, value = (8, offset + shift) if offset else (4, end)
                struct.pack_into(order + "I", found, start + place, value % 2**32)
    return bytes(found)


def _metadata(segments: Sequence[Segment]) -> Metadata:
    found: dict[str, Any] = {}
    profile: dict[int, bytes] = {}
    for marker, content in segments:
        if marker == APP0 and content.startswith(b"JFIF\0") and len(content) >= 12:
            unit, across, down = struct.unpack(">BHH", content[7:12])
            if unit in (1, 2) and across and down:
                inch = 2.54 if unit == 2 else 1.0
                found["dpi"] = (across * inch, down * inch)
        elif content.startswith(EXIF):
            found.setdefault("exif", content[len(EXIF) :])
        elif content.startswith(XMP):
            found.setdefault("xmp", content[len(XMP) :])
        elif marker == APP2 and content.startswith(ICC) and len(content) > 14:
            profile[content[12]] = content[14:]
    if profile:
        found["icc"] = b"".join(profile[number] for number in sorted(profile))
    return Metadata(**found)


def _exif(metadata: Metadata) -> bytes:
    return EXIF + metadata.exif if metadata.exif else b""


def _xmp(metadata: Metadata) -> bytes:
    return XMP + metadata.xmp if metadata.xmp else b""


def _iptc(metadata: Metadata) -> bytes:
    return iptc.APP13 + iptc.packed_record(metadata.iptc) if metadata.iptc else b""


def _resources(segments: Sequence[Segment]) -> dict[int, bytes]:
    """Read Photoshop's resources, which may be split over several segments."""
    parts = [c for m, c in segments if m == APP13 and c.startswith(iptc.APP13)]
    return iptc.read_resources(b"".join(part.removeprefix(iptc.APP13) for part in parts))


def _texts(segments: Sequence[Segment], resources: dict[int, bytes]) -> tuple[str, ...]:
    """Name the comments and segments that `_metadata` does not translate."""
    names = dict.fromkeys(("comment",) if any(marker == COM for marker, _ in segments) else ())
    names |= dict.fromkeys(iptc.others(resources))
    for marker, content in segments:
        if APP1 <= marker <= APP0 + 15 and marker != APP14 and not content.startswith(TRANSLATED):
            names["extended XMP" if content.startswith(EXTENDED_XMP) else f"APP{marker - APP0}"] = None
    return tuple(names)


def _described(metadata: Metadata) -> tuple[Segment, ...]:
    """Make segments of metadata that comes from another format; drop any that is too long for a segment."""
    across, down = (min(round(dpi), 65535) for dpi in metadata.dpi or (0, 0))
    density = (1, across, down) if across and down else (0, 1, 1)
    found: list[Segment] = [(APP0, JFIF[:7] + struct.pack(">BHH", *density) + b"\0\0")]
    parts = ((APP1, _exif(metadata)), (APP1, _xmp(metadata)), (APP13, _iptc(metadata)))
    found += [(marker, part) for marker, part in parts if part and len(part) <= MAX_SEGMENT_BYTES]
    size = MAX_SEGMENT_BYTES - len(ICC) - 2
    icc = metadata.icc or b""
    pieces = [icc[at : at + size] for at in range(0, len(icc), size)]
    if len(pieces) <= 255:
        found += [(APP2, ICC + bytes([n + 1, len(pieces)]) + piece) for n, piece in enumerate(pieces)]
    return tuple(found)


FORMAT = Jpeg()
