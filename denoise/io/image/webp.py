"""WebP (RFC 9649): 8-bit RGB and RGBA, lossless where the source was.

libwebp codes the pixels, through imagecodecs; this module reads and writes the container (RIFF, the extended
header, profile, EXIF, XMP).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

from denoise.errors import OutputError, UnreadableError, UnsupportedError
from denoise.io.image.base import EXIF, Array, FileBytes, Header, Picture, SinglePage, Sliced, icc_fits
from denoise.signal import ImageInfo, Metadata, Page

QUALITY = 95.0  # of lossy files: a WebP does not state the quality that it was written with
MAX_SIDE_PX = 16383
HAS_ICC, HAS_ALPHA, HAS_EXIF, HAS_XMP, ANIMATED = 0x20, 0x10, 0x08, 0x04, 0x02  # flags in VP8X

Chunk = tuple[bytes, bytes]


class WebP(SinglePage):
    """The WebP format."""

    name = "WebP"
    dtypes = ("uint8",)
    channels = (3, 4)

    def header(self, data: FileBytes) -> Header:
        """Read the container; of the pixels only their size."""
        chunks = dict(reversed(list(_chunks(data))))  # of several of one kind the first counts
        if b"ANIM" in chunks or b"ANMF" in chunks:
            raise UnsupportedError("is an animated WebP; expected a still image")
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
            exif=exif and exif.removeprefix(EXIF), icc=chunks.get(b"ICCP"), xmp=chunks.get(b"XMP ")
        )
        page = Page(height, width, 4 if alpha else 3, "uint8", int(alpha))
        return Header((page,), metadata, (), {"lossless": lossless})

    def decode(self, data: FileBytes, header: Header) -> Array:
        """Decode the picture."""
        import imagecodecs

        pixels: Array = imagecodecs.webp_decode(data[:], hasalpha=header.pages[0].channels == 4)
        return pixels

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Encode the pixels and wrap them; a lossless source stays lossless, whatever its format."""
        import imagecodecs

        if max(picture.height, picture.width) > MAX_SIDE_PX:
            raise OutputError(
                f"cannot be written: WebP holds up to {MAX_SIDE_PX} pixels a side, "
                f"the picture has {picture.width} x {picture.height}"
            )
        lossless = info.own.get("lossless", info.format != "JPEG")
        encoded = imagecodecs.webp_encode(picture.whole(), level=QUALITY, lossless=lossless)
        pixels = [chunk for chunk in _chunks(bytes(encoded)) if chunk[0] in (b"VP8 ", b"VP8L", b"ALPH")]
        metadata = info.metadata
        icc = metadata.icc if icc_fits(metadata.icc, picture.channels) else None
        chunks = [(b"ICCP", icc), *pixels, (b"EXIF", metadata.exif), (b"XMP ", metadata.xmp)]
        _write(file, [(kind, content) for kind, content in chunks if content], picture)


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
    if end > len(data) + 1:  # some writers count the last padding byte without writing it
        raise UnreadableError(f"ends early: {len(data)} of {end} bytes of WebP data")
    position = 12
    while position + 8 <= min(end, len(data)):
        kind, size = struct.unpack("<4sI", data[position : position + 8])
        if position + 8 + size > len(data):
            raise UnreadableError(f"ends early: a WebP chunk of {size} bytes is cut short")
        yield kind, bytes(data[position + 8 : position + 8 + size])
        position += 8 + size + size % 2


def _lossless_header(content: bytes) -> tuple[int, int, bool]:
    """Read width, height, and the flag of alpha (RFC 9649, 3.4)."""
    if len(content) < 5 or content[0] != 0x2F:
        raise UnreadableError("is damaged: WebP lossless data without its signature")
    bits = int.from_bytes(content[1:5], "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)


def _lossy_header(content: bytes) -> tuple[int, int]:
    """Read width and height of a VP8 key frame (RFC 6386, 9.1)."""
    if len(content) < 10 or content[3:6] != b"\x9d\x01\x2a":
        raise UnreadableError("is damaged: WebP lossy data without a key frame")
    width, height = struct.unpack("<HH", content[6:10])
    return width & 0x3FFF, height & 0x3FFF


FORMAT = WebP()
