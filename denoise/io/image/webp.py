"""WebP (RFC 9649): 8-bit RGB and RGBA, lossless where the source was; animations as whole frames.

libwebp codes the pixels, through imagecodecs; this module reads and writes the container (RIFF, the extended
header, profile, EXIF, XMP).
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import IO

from denoise.arrays import Array
from denoise.errors import OutputError, UnreadableError
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
from denoise.signal import ImageInfo, Metadata, Page

QUALITY = 95.0  # of lossy files: a WebP does not state the quality that it was written with
MAX_SIDE_PX = 16383
HAS_ALPHA = 0x10  # flag in VP8X; the others, by the chunk that each announces:
FLAGS = ((0x20, b"ICCP"), (HAS_ALPHA, b"ALPH"), (0x08, b"EXIF"), (0x04, b"XMP "), (0x02, b"ANIM"))
KNOWN = {b"VP8X", b"VP8 ", b"VP8L", b"ANMF", *(kind for _, kind in FLAGS)}  # others are copied
UNBLENDED = b"\2"  # flags of a frame: it replaces the pixels below, and stays

Chunk = tuple[bytes, bytes]


class WebP(SinglePage):
    """The WebP format."""

    name = "WebP"
    dtypes = ("uint8",)
    channels = (3, 4)
    animated = True

    def header(self, data: FileBytes) -> Header:
        """Read the container; of the pixels only their size."""
        listed = list(_chunks(data))
        chunks = dict(reversed(listed))  # of several of one kind the first counts
        frames = [content for kind, content in listed if kind == b"ANMF"]
        others = tuple(chunk for chunk in listed if chunk[0] not in KNOWN)
        end = 8 + int.from_bytes(data[4:8], "little")
        lost = behind(data, end + end % 2)
        if frames and len(chunks.get(b"VP8X", b"")) == 10 and len(chunks.get(b"ANIM", b"")) == 6:
            header = _animated_header(chunks, frames)
            return replace(header, own={**header.own, "others": others}, lost=lost)
        lossless = b"VP8L" in chunks
        if lossless:
            width, height, alpha = _lossless_header(chunks[b"VP8L"])
        elif b"VP8 " in chunks:
            width, height = _lossy_header(chunks[b"VP8 "])
            alpha = b"ALPH" in chunks
        else:
            raise UnreadableError("is damaged: WebP data without a picture")
        page = Page(height, width, 4 if alpha else 3, "uint8", int(alpha))
        return Header((page,), _metadata(chunks), (), {"lossless": lossless, "others": others}, lost)

    def decode(self, data: FileBytes, header: Header) -> Array:
        """Decode the picture."""
        import imagecodecs

        return imagecodecs.webp_decode(data[:], hasalpha=header.pages[0].channels == 4)

    def frames(self, data: FileBytes, header: Header) -> Iterator[Array]:
        """Decode the frames of an animation, each as it is shown."""
        from PIL import WebPImagePlugin

        image = WebPImagePlugin.WebPImageFile(io.BytesIO(data[:]))
        return shown_frames(image, "RGBA" if header.pages[0].channels == 4 else "RGB")

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Encode the pixels and wrap them; a lossless source stays lossless, whatever its format."""
        _write(file, self._coded(info, picture), info, picture.width, picture.height, picture.channels)

    @contextmanager
    def animation(self, file: IO[bytes], info: ImageInfo) -> Iterator[Callable[[Picture], None]]:
        """Write whole frames, each in place of the one before."""
        chunks = [(b"ANIM", bytes(4) + struct.pack("<H", min(info.metadata.plays, 0xFFFF)))]
        times = iter(info.layouts)

        def write(picture: Picture) -> None:
            coded = b"".join(map(_packed, self._coded(info, picture)))
            sides = _sides(picture.width, picture.height)
            time_ms = min(round(next(times).duration_ms or 0), 0xFFFFFF)
            chunks.append((b"ANMF", bytes(6) + sides + time_ms.to_bytes(3, "little") + UNBLENDED + coded))

        yield write
        channels, height, width = info.shape
        _write(file, chunks, info, width, height, channels)

    def _coded(self, info: ImageInfo, picture: Picture) -> list[Chunk]:
        """Encode the pixels, as chunks."""
        import imagecodecs

        if max(picture.height, picture.width) > MAX_SIDE_PX:
            raise OutputError(
                f"cannot be written: WebP holds up to {MAX_SIDE_PX} pixels a side, "
                f"the picture has {picture.width} x {picture.height}"
            )
        lossless = info.own.get("lossless", info.format != "JPEG")
        encoded = imagecodecs.webp_encode(picture.whole(), level=QUALITY, lossless=lossless)
        return [chunk for chunk in _chunks(bytes(encoded)) if chunk[0] in (b"VP8 ", b"VP8L", b"ALPH")]


def _write(
    file: IO[bytes], pixels: list[Chunk], info: ImageInfo, width: int, height: int, channels: int
) -> None:
    metadata, others = info.metadata, info.own.get("others", ())
    icc = metadata.icc if icc_fits(metadata.icc, channels, same=info.format == "WebP") else None
    parts = [(b"ICCP", icc), *pixels, (b"EXIF", metadata.exif), (b"XMP ", metadata.xmp)]
    chunks = [(kind, content) for kind, content in parts if content]
    kinds = {kind for kind, _ in chunks}
    flags = sum(flag for flag, kind in FLAGS if kind in kinds)
    if channels == 4 and kinds & {b"VP8L", b"ANIM"}:
        flags |= HAS_ALPHA
    if flags or others:
        chunks.insert(0, (b"VP8X", bytes([flags, 0, 0, 0]) + _sides(width, height)))
    chunks += others
    size = 4 + sum(8 + len(content) + len(content) % 2 for _, content in chunks)
    file.write(b"RIFF" + struct.pack("<I", size) + b"WEBP")
    for chunk in chunks:
        file.write(_packed(chunk))


def _packed(chunk: Chunk) -> bytes:
    kind, content = chunk
    return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _sides(width: int, height: int) -> bytes:
    return (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def _metadata(chunks: Mapping[bytes, bytes]) -> Metadata:
    exif = chunks.get(b"EXIF")
    return Metadata(exif=exif and exif.removeprefix(EXIF), icc=chunks.get(b"ICCP"), xmp=chunks.get(b"XMP "))


def _animated_header(chunks: Mapping[bytes, bytes], frames: list[bytes]) -> Header:
    """Describe an animation (RFC 9649, 2.7.1)."""
    canvas, plays = chunks[b"VP8X"], int.from_bytes(chunks[b"ANIM"][4:], "little")
    width, height = (int.from_bytes(canvas[at : at + 3], "little") + 1 for at in (4, 7))
    alpha = bool(canvas[0] & HAS_ALPHA)
    pages = tuple(
        Page(
            height,
            width,
            4 if alpha else 3,
            "uint8",
            int(alpha),
            duration_ms=int.from_bytes(frame[12:15], "little"),
        )
        for frame in frames
    )
    own = {"lossless": all(b"VP8L" in frame[16:64] for frame in frames)}
    return Header(pages, replace(_metadata(chunks), plays=plays), (), own)


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
