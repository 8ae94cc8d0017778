"""GIF (GIF89a): frames as they are shown; only read, because 256 colours hold no result."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from denoise.arrays import Array
from denoise.errors import UnreadableError
from denoise.io.image.base import FileBytes, Header, shown_frames
from denoise.io.limits import require_plausible_pages, require_plausible_size
from denoise.signal import Metadata, Page

LEAST_MS, USUAL_MS = 20, 100  # browsers show a frame that states less for as long as this
TRAILER = b";"
EXTENSION, IMAGE = 0x21, 0x2C  # first bytes of blocks
APPLICATION, PROFILE = 0xFF, b"ICCRGBG1012"  # kind of extensions, and that of a colour profile


class Gif:
    """The GIF format."""

    name = "GIF"

    def header(self, data: FileBytes) -> Header:
        """Read the size, and the time of each frame."""
        if TRAILER not in data[-16:]:
            raise UnreadableError("ends early: GIF data without its end mark")
        image = _opened(data)
        width, height = image.size
        require_plausible_size(4 * width * height, len(data), f"{width} x {height} pixels")
        frame = Page(height, width, 4, "uint8", 1)
        require_plausible_pages((frame,) * _frames(data[:]), len(data))  # Pillow decodes all to count them
        times = []
        for number in range(image.n_frames):
            image.seek(number)
            times.append(image.info.get("duration", 0))
        shown = [time_ms if time_ms >= LEAST_MS else USUAL_MS for time_ms in times]
        frames = tuple(Page(height, width, 4, "uint8", 1, duration_ms=time_ms) for time_ms in shown)
        if len(frames) == 1:
            frames, shown = (frame,), times
        plays = image.info["loop"] + (image.info["loop"] > 0) if "loop" in image.info else 1
        notes = ["palette turned into RGB with alpha (cleaning makes new colours)"]
        if shown != times:
            notes.append(f"times of frames below {LEAST_MS} ms turned into {USUAL_MS}, as browsers show them")
        texts = ("comment",) if image.info.get("comment") else ()
        metadata = Metadata(xmp=image.info.get("xmp"), icc=_profile(data[:]), plays=plays)
        return Header(frames, metadata, tuple(notes), texts=texts)

    def pages(self, data: FileBytes, _header: Header) -> Iterator[Array]:
        """Decode frame after frame."""
        yield from shown_frames(_opened(data), "RGBA")


def _frames(data: bytes) -> int:
    """Count the images of a GIF, up to the first block that is none."""
    return sum(kind == IMAGE for kind, _ in _blocks(data))


def _profile(data: bytes) -> bytes | None:
    """Return the colour profile (ICC.1, annex B.6)."""
    for kind, at in _blocks(data):
        if kind == EXTENSION and data[at - 1] == APPLICATION and data[at + 1 :].startswith(PROFILE):
            at += 1 + data[at]
            pieces = []
            while at < len(data) and data[at]:
                pieces.append(data[at + 1 : at + 1 + data[at]])
                at += 1 + data[at]
            return b"".join(pieces)
    return None


def _blocks(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the first byte of each block, and the position of its sub-blocks (GIF89a, 15 to 27)."""
    position = 13 + _table_bytes(data[10])
    while position + 10 < len(data) and data[position] in (EXTENSION, IMAGE):
        kind = data[position]
        position += 11 + _table_bytes(data[position + 9]) if kind == IMAGE else 2
        yield kind, position
        while position < len(data) and data[position]:
            position += 1 + data[position]
        position += 1


def _table_bytes(flags: int) -> int:
    """Size of the table of colours that flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _opened(data: FileBytes) -> Any:
    from PIL import GifImagePlugin

    return GifImagePlugin.GifImageFile(io.BytesIO(data[:]))


FORMAT = Gif()
