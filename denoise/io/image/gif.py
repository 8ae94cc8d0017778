"""GIF (GIF89a): frames as they are shown; only read, because 256 colours hold no result."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from denoise.arrays import Array
from denoise.errors import UnreadableError
from denoise.io.image.base import FileBytes, Header, shown_frames
from denoise.io.limits import require_plausible_size
from denoise.signal import Metadata, Page

USUAL_MS = 100  # browsers show a frame that states less than 20 ms for as long as this
TRAILER = b";"


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
        times = []
        for number in range(image.n_frames):
            image.seek(number)
            time_ms = image.info.get("duration", 0)
            times.append(time_ms if time_ms >= 20 else USUAL_MS)
        frames = tuple(Page(height, width, 4, "uint8", 1, duration_ms=time_ms) for time_ms in times)
        if len(frames) == 1:
            frames = (Page(height, width, 4, "uint8", 1),)
        plays = image.info["loop"] + (image.info["loop"] > 0) if "loop" in image.info else 1
        note = "GIF is only read: the result is a WebP, with all colours"
        texts = ("comment",) if image.info.get("comment") else ()
        return Header(frames, Metadata(xmp=image.info.get("xmp"), plays=plays), (note,), texts=texts)

    def pages(self, data: FileBytes, _header: Header) -> Iterator[Array]:
        """Decode frame after frame."""
        yield from shown_frames(_opened(data), "RGBA")


def _opened(data: FileBytes) -> Any:
    from PIL import GifImagePlugin

    return GifImagePlugin.GifImageFile(io.BytesIO(data[:]))


FORMAT = Gif()
