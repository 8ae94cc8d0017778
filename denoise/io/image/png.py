"""PNG (ISO/IEC 15948): 8 and 16 bits, gray to RGBA, animations; palettes and low bit depths become 8 bits.

libpng decodes. This module encodes strip by strip, so that a picture is never in memory twice: filter each
row, deflate, wrap in chunks. Chunks of metadata are copied byte for byte.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import count
from typing import IO, Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import UnreadableError, UnsupportedError
from denoise.io.image.base import (
    EXIF,
    FileBytes,
    Header,
    Picture,
    SinglePage,
    Sliced,
    behind,
    icc_fits,
    shown_frames,
)
from denoise.io.limits import require_few
from denoise.signal import ImageInfo, Metadata, Page

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types in IHDR
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 3, GRAY_ALPHA: 2, RGBA: 4}
COPIED = b"iCCP sRGB gAMA cHRM cICP mDCV cLLI eXIf pHYs iTXt tEXt zTXt tIME sCAL oFFs pCAL sTER sPLT".split()
COPIED_IF_UNCHANGED = b"sBIT bKGD".split()  # their layout depends on the colour type
PIXELS = b"IHDR PLTE tRNS IDAT IEND".split()
WRITTEN_ANEW = {*PIXELS, *b"acTL fcTL fdAT iDOT".split()}  # the last is Apple's: offsets of the pixels
SAFE_TO_COPY = 0x20  # bit of the last letter of a type (PNG 5.4)
AS_SRGB = (  # what a picture without a description of its colours has, too
    (b"gAMA", struct.pack(">I", 45455)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    (b"cICP", b"\1\x0d\0\1"),
)
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
ERASED, PREVIOUS = 1, 2  # what becomes of the place of a frame behind it, in fcTL
INCH_M = 0.0254
DEFLATE_LEVEL = 3  # for photos within 1 % of level 6, in a third of the time

Chunk = tuple[bytes, bytes]  # type, content


class Png(SinglePage):
    """The PNG format."""

    name = "PNG"
    dtypes = ("uint8", "uint16")
    channels = (1, 2, 3, 4)
    animated = True
    holds = ("exif", "icc", "xmp", "dpi")

    def header(self, data: FileBytes) -> Header:
        """Read every chunk but the pixels."""
        chunks = list(_chunks(data))
        kinds = [kind for kind, _ in chunks]
        if kinds[:1] != [b"IHDR"] or len(chunks[0][1]) != 13:
            raise UnreadableError("is damaged: PNG data without a header chunk")
        width, height, depth, colour = struct.unpack(">IIBB", chunks[0][1][:10])
        if colour not in CHANNELS or not width or not height or chunks[0][1][12] > 1:
            raise UnreadableError(
                f"is damaged: PNG data with colour type {colour}, {width} x {height} pixels and interlace "
                f"method {chunks[0][1][12]}"
            )
        if b"acTL" in kinds and kinds.count(b"fcTL") > 1:
            return _animated_header(data, chunks, width, height, depth, colour)
        see_through = b"tRNS" in kinds
        channels = CHANNELS[colour] + see_through
        dtype = "uint16" if depth == 16 else "uint8"
        changed = colour == PALETTE or depth < 8 or see_through
        page = Page(height, width, channels, dtype, int(channels in (2, 4)))
        kept, lost = _sorted(chunks, COPIED if changed else COPIED + COPIED_IF_UNCHANGED, data)
        notes = _notes(colour, depth, see_through)
        return Header((page,), _metadata(kept), notes, {"chunks": kept}, lost, _texts(kept))

    def decode(self, data: FileBytes, _header: Header) -> Array:
        """Decode the picture."""
        import imagecodecs

        spans = list(_spans(data))
        if b"IEND" not in (kind for kind, _, _ in spans):
            raise UnreadableError("ends early: PNG data without its end chunk")
        needed = bytearray(SIGNATURE)  # libpng need not parse metadata
        for kind, start, end in spans:
            if kind in PIXELS:
                needed += data[start:end]
        return imagecodecs.png_decode(needed)

    def with_xmp(self, own: Mapping[str, Any], xmp: bytes) -> Mapping[str, Any]:
        """Put another XMP packet behind the chunks."""
        others = [chunk for chunk in own["chunks"] if not chunk[1].startswith(XMP_KEYWORD)]
        return {**own, "chunks": (*others, (b"iTXt", XMP_KEYWORD + b"\0\0\0\0" + xmp))}

    def frames(self, data: FileBytes, header: Header) -> Iterator[Array]:
        """Decode the frames of an animation, each as it is shown."""
        from PIL import PngImagePlugin

        mode = "RGBA" if header.pages[0].passthrough_channels else "RGB"
        return shown_frames(PngImagePlugin.PngImageFile(io.BytesIO(data[:])), mode)

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Write the header, the metadata and the filtered, deflated rows."""
        self._begin(file, info, picture)
        for piece in self._deflated(picture):
            _write_chunk(file, b"IDAT", piece)
        _write_chunk(file, b"IEND", b"")

    @contextmanager
    def animation(self, file: IO[bytes], info: ImageInfo) -> Iterator[Callable[[Picture], None]]:
        """Write whole frames, each in place of the one before."""
        numbers, times = count(), iter(info.layouts)

        def write(picture: Picture) -> None:
            time_s = Fraction((next(times).duration_ms or 0) / 1000).limit_denominator(1000)
            number = next(numbers)
            if not number:
                self._begin(file, info, picture)
                _write_chunk(file, b"acTL", struct.pack(">II", len(info.layouts), info.metadata.plays))
            place = (picture.width, picture.height, 0, 0, min(time_s.numerator, 0xFFFF), time_s.denominator)
            _write_chunk(file, b"fcTL", struct.pack(">5IHHBB", number, *place, 0, 0))
            for piece in self._deflated(picture):
                if number:
                    _write_chunk(file, b"fdAT", struct.pack(">I", next(numbers)) + piece)
                else:
                    _write_chunk(file, b"IDAT", piece)

        yield write
        _write_chunk(file, b"IEND", b"")

    def _begin(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        colour = {1: GRAY, 2: GRAY_ALPHA, 3: RGB, 4: RGBA}[picture.channels]
        depth = 8 * picture.dtype.itemsize
        file.write(SIGNATURE)
        _write_chunk(
            file, b"IHDR", struct.pack(">IIBBBBB", picture.width, picture.height, depth, colour, 0, 0, 0)
        )
        own = info.own.get("chunks")
        for kind, content in _described(info, picture.channels) if own is None else own:
            _write_chunk(file, kind, content)

    def _deflated(self, picture: Picture) -> Iterator[bytes]:
        step = picture.channels * picture.dtype.itemsize  # bytes to the left neighbour
        above = np.zeros((1, picture.width * step), np.uint8)
        squeeze = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
        # Filtering takes some 18 bytes a sample for a while: a quarter of the usual strip stays in the cache.
        for strip in picture.strips(max(1, picture.rows_per_strip() // 4)):
            rows = strip.astype(strip.dtype.newbyteorder(">"), copy=False).view(np.uint8)
            rows = rows.reshape(len(strip), -1)
            if piece := squeeze.compress(_filtered(rows, above, step).data):
                yield piece
            above = rows[-1:]
        yield squeeze.flush()


def _write_chunk(file: IO[bytes], kind: bytes, content: bytes) -> None:
    check = zlib.crc32(content, zlib.crc32(kind))
    file.write(struct.pack(">I4s", len(content), kind) + content + struct.pack(">I", check))


def _filtered(rows: Array, above: Array, step: int) -> Array:
    """Filter each row with the filter whose residuals have the smallest sum (PNG 12.8).

    Shape:
        `rows` `(n, m)` bytes, `above` `(1, m)`, the result `(n, m + 1)`.
    """
    up = np.concatenate([above, rows[:-1]])
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    corner = np.zeros_like(rows)
    corner[:, step:] = up[:, :-step]
    best = rows - left
    number = np.ones(len(rows), np.uint8)
    smallest = _cost(best)
    for filter_type, guess in ((2, up), (4, _paeth(left, up, corner))):
        residual = rows - guess
        cost = _cost(residual)
        better = cost < smallest
        best[better], number[better], smallest[better] = residual[better], filter_type, cost[better]
    return np.concatenate([number[:, None], best], axis=1)


def _cost(residual: Array) -> Array:
    return np.abs(residual.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.uint32)


def _paeth(left: Array, up: Array, corner: Array) -> Array:
    """Select the neighbour nearest to left + up - corner; ties go left, up, corner (Paeth 1991)."""
    from_corner_up = np.subtract(up, corner, dtype=np.int16)
    from_corner_left = np.subtract(left, corner, dtype=np.int16)
    to_left, to_up = np.abs(from_corner_up), np.abs(from_corner_left)
    to_corner = np.abs(from_corner_up + from_corner_left)
    chosen = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, chosen)


def _spans(data: Sliced) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of every chunk up to the last."""
    position, kind = len(SIGNATURE), b""
    while position + 12 <= len(data) and kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data):
            raise UnreadableError(f"ends early: a PNG chunk of {length} bytes is cut short")
        yield kind, position, end
        position = end


def _chunks(data: Sliced) -> Iterator[Chunk]:
    """Yield every chunk; pixel chunks without their content."""
    others = 0
    for kind, start, end in _spans(data):
        if kind in (b"IDAT", b"fdAT"):
            yield kind, b""
            continue
        others += kind != b"fcTL"
        require_few(others, "chunks")
        if kind[:1].isupper() or _is_sound(data, start, end):  # libpng refuses damaged pixels
            yield kind, bytes(data[start + 8 : end - 4])


def _is_sound(data: Sliced, start: int, end: int) -> bool:
    """Tell whether the checksum of a chunk is right."""
    return zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end], "big")


def _sorted(
    chunks: list[Chunk], copied: Collection[bytes], data: FileBytes
) -> tuple[tuple[Chunk, ...], tuple[str, ...]]:
    """Chunks that are copied, with private ones that may be, and sentences about the others."""
    kept, lost = list[Chunk](), dict[str, None]()
    for kind, content in chunks:
        if kind in copied or (kind[:2].islower() and kind[3] & SAFE_TO_COPY and kind not in WRITTEN_ANEW):
            kept.append((kind, content))
        elif kind not in WRITTEN_ANEW:
            lost[kind.decode("latin-1")] = None
    spans = list(_spans(data))
    damaged = dict.fromkeys(
        kind.decode("latin-1")
        for kind, start, end in spans
        if kind[:1].islower() and kind != b"fdAT" and not _is_sound(data, start, end)
    )
    sentences = tuple(
        f"{words}: {', '.join(names)}"
        for words, names in (("PNG chunks not kept", lost), ("damaged PNG chunks not kept", damaged))
        if names
    )
    return tuple(kept), sentences + behind(data, spans[-1][2])


def _animated_header(
    data: FileBytes, chunks: list[Chunk], width: int, height: int, depth: int, colour: int
) -> Header:
    """Describe an animation, whose frames may be transparent in any colour type (PNG 3.0, 11.3.6).

    Frames of colours alone are opaque if none is erased behind itself, for the first fills the picture.
    """
    if depth == 16:
        raise UnsupportedError("is an animated PNG of 16 bits; expected 8 bits or a still image")
    kinds = [kind for kind, _ in chunks]
    frames = [content for kind, content in chunks if kind == b"fcTL"]
    plays = next(content for kind, content in chunks if kind == b"acTL")
    if kinds.index(b"fcTL") > kinds.index(b"IDAT") if b"IDAT" in kinds else True:
        raise UnsupportedError(
            "is an animated PNG whose first picture is no frame; expected an animation alone"
        )
    if len(plays) != 8 or any(len(frame) != 26 for frame in frames):
        raise UnreadableError("is damaged: an animated PNG with wrong frames")
    times = [(num, den or 100) for num, den in (struct.unpack(">HH", frame[20:24]) for frame in frames)]
    # At the first frame, a return to what was before erases, too.
    erased = frames[0][4:12] != struct.pack(">II", width, height) or frames[0][24] == PREVIOUS
    erased |= any(frame[24] == ERASED for frame in frames)
    alpha = int(colour in (GRAY_ALPHA, RGBA) or b"tRNS" in kinds or erased)
    pages = tuple(
        Page(height, width, 3 + alpha, "uint8", alpha, duration_ms=1000 * num / den) for num, den in times
    )
    kept, lost = _sorted(chunks, COPIED, data)
    metadata = replace(_metadata(kept), plays=int.from_bytes(plays[4:]))
    changed = CHANNELS[colour] != 3 + alpha or colour == PALETTE
    notes = (f"the frames are written as RGB{' with alpha' if alpha else ''}",) if changed else ()
    return Header(pages, metadata, notes, {"chunks": kept}, lost, _texts(kept))


def _notes(colour: int, depth: int, see_through: bool) -> tuple[str, ...]:
    made = "with alpha " if see_through else ""
    if colour == PALETTE:
        return (f"palette turned into RGB {made}(cleaning makes new colours)",)
    if depth < 8:
        return (f"{depth}-bit gray turned into 8-bit gray {made}(cleaning makes new shades)",)
    if see_through:
        return ("the transparent colour turned into an alpha channel",)
    return ()


def _texts(chunks: tuple[Chunk, ...]) -> tuple[str, ...]:
    """List the keywords of textual chunks, and the other chunks that `_metadata` does not translate."""
    kinds, names = {kind for kind, _ in chunks}, dict[str, None]()
    ignored = {b"iCCP", b"eXIf", b"sRGB"}
    if kinds & {b"iCCP", b"sRGB", b"cICP"}:  # of several descriptions of colour the best counts
        ignored |= {b"gAMA", b"cHRM"}
    for kind, content in chunks:
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            if not content.startswith(XMP_KEYWORD):
                names[content.partition(b"\0")[0][:79].decode("latin-1")] = None
        elif kind == b"pHYs" and content[8:] == b"\1":
            continue
        elif kind not in ignored and (kind, content) not in AS_SRGB:
            names[kind.decode("latin-1")] = None
    return tuple(names)


def _metadata(chunks: tuple[Chunk, ...]) -> Metadata:
    found: dict[str, Any] = {}
    for kind, content in chunks:
        if kind == b"eXIf":
            found["exif"] = content.removeprefix(EXIF)  # which some writers add
        elif kind == b"iCCP" and "icc" not in found:  # inflate one, not each of thousands
            found["icc"] = _inflated(content.partition(b"\0")[2][1:])
        elif kind == b"pHYs" and len(content) == 9 and content[8] == 1:
            across, down = struct.unpack(">II", content[:8])
            found["dpi"] = (across * INCH_M, down * INCH_M)
        elif kind == b"iTXt" and content.startswith(XMP_KEYWORD) and "xmp" not in found:
            deflated, rest = content[len(XMP_KEYWORD) : len(XMP_KEYWORD) + 1], content[len(XMP_KEYWORD) + 2 :]
            text = rest.split(b"\0", 2)[-1]  # after the language and the translated keyword
            found["xmp"] = _inflated(text) if deflated == b"\1" else text
    return Metadata(**found)


def _inflated(content: bytes, limit_bytes: int = 64 << 20) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(content, limit_bytes)
    except zlib.error:
        return None


def _described(info: ImageInfo, channels: int) -> tuple[Chunk, ...]:
    """Make chunks of metadata that comes from another format."""
    metadata, chunks = info.metadata, list[Chunk]()
    if metadata.icc and icc_fits(metadata.icc, channels):
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        across, down = (round(dpi / INCH_M) for dpi in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", across, down, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", XMP_KEYWORD + b"\0\0\0\0" + metadata.xmp))
    return tuple(chunks)


FORMAT = Png()
