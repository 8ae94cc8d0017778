"""WebP (RFC 9649): 8-bit RGB and RGBA, lossless where the source was.

The pixels are libwebp's through imagecodecs; the container around them (RIFF, the extended header, profile,
EXIF, XMP) is read and written here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from denoise.errors import OutputError, UnreadableError, UnsupportedError
from denoise.io.image.base import Array, FileBytes, Header, Metadata, Page, Picture, Sliced, icc_fits
from denoise.signal import SignalInfo

__all__ = ["FORMAT"]

QUALITY = 95.0  # of lossy files: a WebP does not tell the quality it was written with
SIDE_PX = 16383  # the format's longest side
HAS_ICC, HAS_ALPHA, HAS_EXIF, HAS_XMP, ANIMATED = 0x20, 0x10, 0x08, 0x04, 0x02  # flags in VP8X
EXIF_PREFIX = b"Exif\0\0"  # some writers put JPEG's prefix in

Chunk = tuple[bytes, bytes]


class WebP:
    """The WebP format."""

    name = "WebP"
    dtypes = ("uint8",)
    channels = (3, 4)
    multipage = False

    def header(self, data: FileBytes) -> Header:
        """Read the container; of the pixels only their size."""
        chunks = dict(reversed(list(_chunks(data))))  # of several of one kind the first counts
        if b"ANIM" in chunks or b"ANMF" in chunks:
            raise UnsupportedError("is an animated WebP; still images are expected")
        lossless = b"VP8L" in chunks
        if lossless:
            width, height, alpha = _lossless_header(chunks[b"VP8L"])
        elif b"VP8 " in chunks:
            width, height = _lossy_header(chunks[b"VP8 "])
            alpha = b"ALPH" in chunks
        else:
            raise UnreadableError("is damaged: WebP data without a picture")
        exif = chunks.get(b"EXIF")
        metadata = Metadata(
            exif=exif and exif.removeprefix(EXIF_PREFIX), icc=chunks.get(b"ICCP"), xmp=chunks.get(b"XMP ")
        )
        page = Page(height, width, 4 if alpha else 3, "uint8", int(alpha))
        return Header((page,), metadata, (), {"lossless": lossless})

    def pages(self, data: FileBytes, header: Header) -> Iterator[Array]:
        """Decode the one page."""
        import imagecodecs

        yield imagecodecs.webp_decode(data.whole(), hasalpha=header.pages[0].channels == 4)

    @contextmanager
    def sink(self, path: Path, info: SignalInfo, metadata: Metadata) -> Iterator[WebPSink]:
        """Open `path` for one picture."""
        with path.open("wb") as file:
            # What was lossless before stays so, whatever its format was.
            lossless = info.extra.get("own", {}).get("lossless", info.extra.get("format") != "JPEG")
            yield WebPSink(file, lossless, metadata)


class WebPSink:
    """Writes one picture."""

    def __init__(self, file: IO[bytes], lossless: bool, metadata: Metadata) -> None:
        self._file = file
        self._lossless = lossless
        self._metadata = metadata

    def write(self, picture: Picture) -> None:
        """Encode the pixels and wrap them."""
        import imagecodecs

        if max(picture.height, picture.width) > SIDE_PX:
            raise OutputError(
                f"cannot be written: WebP holds up to {SIDE_PX} pixels a side, "
                f"the picture has {picture.width} x {picture.height}"
            )
        encoded = imagecodecs.webp_encode(picture.whole(), level=QUALITY, lossless=self._lossless)
        pixels = [chunk for chunk in _chunks(bytes(encoded)) if chunk[0] in (b"VP8 ", b"VP8L", b"ALPH")]
        icc = self._metadata.icc if icc_fits(self._metadata.icc, picture.channels) else None
        chunks = [(b"ICCP", icc), *pixels, (b"EXIF", self._metadata.exif), (b"XMP ", self._metadata.xmp)]
        _write(self._file, [(kind, content) for kind, content in chunks if content], picture)


def _write(file: IO[bytes], chunks: list[Chunk], picture: Picture) -> None:
    kinds = {kind for kind, _ in chunks}
    flags = sum(
        flag
        for flag, kind in ((HAS_ICC, b"ICCP"), (HAS_EXIF, b"EXIF"), (HAS_XMP, b"XMP "), (HAS_ALPHA, b"ALPH"))
        if kind in kinds
    )
    if b"VP8L" in kinds and picture.channels == 4:
        flags |= HAS_ALPHA
    if flags:
        sides = (side.to_bytes(3, "little") for side in (picture.width - 1, picture.height - 1))
        chunks = [(b"VP8X", bytes([flags, 0, 0, 0]) + b"".join(sides)), *chunks]
    size = 4 + sum(8 + len(content) + len(content) % 2 for _, content in chunks)
    file.write(b"RIFF" + struct.pack("<I", size) + b"WEBP")
    for kind, content in chunks:
        file.write(kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2))


def _chunks(data: Sliced) -> Iterator[Chunk]:
    if len(data) < 20:
        raise UnreadableError(f"ends early: WebP data of {len(data)} bytes")
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data) + 1:  # some writers count the last padding byte and do not write it
        raise UnreadableError(f"ends early: WebP data of {end} bytes of which {len(data)} are there")
    position = 12
    while position + 8 <= min(end, len(data)):
        kind, size = struct.unpack("<4sI", data[position : position + 8])
        if position + 8 + size > len(data):
            raise UnreadableError(f"ends early: a WebP chunk of {size} bytes is cut short")
        yield kind, bytes(data[position + 8 : position + 8 + size])
        position += 8 + size + size % 2


def _lossless_header(content: bytes) -> tuple[int, int, bool]:
    """Width, height and whether alpha is used (RFC 9649, 3.4)."""
    if len(content) < 5 or content[0] != 0x2F:
        raise UnreadableError("is damaged: WebP lossless data without its signature")
    bits = int.from_bytes(content[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)


def _lossy_header(content: bytes) -> tuple[int, int]:
    """Width and height of a VP8 key frame (RFC 6386, 9.1)."""
    if len(content) < 10 or content[3:6] != b"\x9d\x01\x2a":
        raise UnreadableError("is damaged: WebP lossy data without a key frame")
    width, height = struct.unpack("<HH", content[6:10])
    return width & 0x3FFF, height & 0x3FFF


FORMAT = WebP()
