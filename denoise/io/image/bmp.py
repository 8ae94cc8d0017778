"""BMP: 8-bit gray, RGB and RGBA; palettes and 16-bit pixels come out as RGB.

It holds no metadata but a resolution. Pillow decodes (run lengths and bit fields included); encoding is here,
strip by strip.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from denoise.errors import OutputError, UnreadableError
from denoise.io.image.base import Array, FileBytes, Header, Metadata, Page, Picture
from denoise.signal import SignalInfo

if TYPE_CHECKING:
    from PIL.BmpImagePlugin import BmpImageFile

__all__ = ["FORMAT"]

INCH_M = 0.0254
MODES = {"L": 1, "RGB": 3, "RGBA": 4}  # Pillow's names of what a page may be
HEAD_BYTES = 4096  # hold both headers and the palette
STRIP_ROWS = 256
FILE_HEADER_BYTES, INFO_HEADER_BYTES, V4_HEADER_BYTES = 14, 40, 108
BIT_FIELDS = 3  # the compression that says where the four channels are
RUN_LENGTHS = (1, 2)  # compressions
RUN_PX = 256  # that a byte of runs stands for, and more: 255 take two
MANY_PX = 1_000_000  # fewer are decoded without asking whether that many runs are there
BGRA_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
FILE_BYTES = 2**32 - 1  # the longest file that the header can tell


class Bmp:
    """The BMP format."""

    name = "BMP"
    dtypes = ("uint8",)
    channels = (1, 3, 4)
    multipage = False

    def header(self, data: FileBytes) -> Header:
        """Read both headers."""
        image = _opened(data[:HEAD_BYTES])
        mode = _mode(image)
        packed = image.info.get("compression") in RUN_LENGTHS
        if packed and image.height * image.width > max(RUN_PX * len(data), MANY_PX):
            raise UnreadableError(f"is damaged: {image.width} x {image.height} pixels in {len(data)} bytes")
        notes: tuple[str, ...] = ()
        notes += ("palette turned into RGB (cleaning makes new colours)",) if image.mode == "P" else ()
        notes += (
            ("1-bit gray turned into 8-bit gray (cleaning makes new shades)",) if image.mode == "1" else ()
        )
        per_metre = (0, 0)
        if struct.unpack("<I", data[14:18])[0] >= INFO_HEADER_BYTES:
            per_metre = struct.unpack("<ii", data[38:46])
        dpi = (per_metre[0] * INCH_M, per_metre[1] * INCH_M) if min(per_metre) > 0 else None
        page = Page(image.height, image.width, MODES[mode], "uint8", int(mode == "RGBA"))
        return Header((page,), Metadata(dpi=dpi), notes)

    def pages(self, data: FileBytes, header: Header) -> Iterator[Array]:
        """Decode the one page; copied out in strips, for Pillow holds four bytes a pixel already."""
        yield _decoded(_opened(data.whole()), header.pages[0])

    @contextmanager
    def sink(self, path: Path, info: SignalInfo, metadata: Metadata) -> Iterator[BmpSink]:
        """Open `path` for one picture."""
        del info
        with path.open("wb") as file:
            yield BmpSink(file, metadata)


class BmpSink:
    """Writes one picture."""

    def __init__(self, file: IO[bytes], metadata: Metadata) -> None:
        self._file = file
        self._dpi = metadata.dpi or (0.0, 0.0)

    def write(self, picture: Picture) -> None:
        """Write the headers, then the rows from the last to the first, blue before red, padded to 4 bytes."""
        stride = -(-picture.width * picture.channels // 4) * 4
        head = self._head(picture, stride * picture.height)
        self._file.write(head)
        end = len(head) + stride * picture.height
        for strip in picture.strips(picture.rows_per_strip()):
            rows = np.zeros((len(strip), stride), np.uint8)
            order = [0] if picture.channels == 1 else [2, 1, 0, 3][: picture.channels]
            rows[:, : picture.width * picture.channels] = strip[::-1, :, order].reshape(len(strip), -1)
            end -= rows.nbytes
            self._file.seek(end)
            self._file.write(rows.data)

    def _head(self, picture: Picture, pixel_bytes: int) -> bytes:
        palette = b"".join(bytes([v, v, v, 0]) for v in range(256)) if picture.channels == 1 else b""
        masks = struct.pack("<4I", *BGRA_MASKS) if picture.channels == 4 else b""
        size = V4_HEADER_BYTES if masks else INFO_HEADER_BYTES
        start = FILE_HEADER_BYTES + size + len(palette)
        if start + pixel_bytes > FILE_BYTES:
            raise OutputError(f"cannot be written: BMP holds up to 4 GiB, {pixel_bytes} bytes are needed")
        per_metre = (round(dpi / INCH_M) for dpi in self._dpi)
        info = struct.pack(
            "<IiiHHIIiiII",
            size,
            picture.width,
            picture.height,
            1,
            8 * picture.channels,
            BIT_FIELDS if masks else 0,
            pixel_bytes,
            *per_metre,
            256 if palette else 0,
            0,
        )
        srgb = masks and masks + b"BGRs" + bytes(size - INFO_HEADER_BYTES - 20)
        return b"BM" + struct.pack("<IHHI", start + pixel_bytes, 0, 0, start) + info + srgb + palette


def _decoded(image: BmpImageFile, page: Page) -> Array:
    image.load()
    pixels = np.empty((page.height, page.width, page.channels), np.uint8)
    for top in range(0, page.height, STRIP_ROWS):
        strip = image.crop((0, top, page.width, min(top + STRIP_ROWS, page.height)))
        pixels[top : top + STRIP_ROWS] = np.asarray(strip.convert(_mode(image))).reshape(
            -1, *pixels.shape[1:]
        )
    return pixels


def _opened(data: bytes) -> BmpImageFile:
    from PIL.BmpImagePlugin import BmpImageFile  # not Image.open: it tries other formats, and warns of size

    return BmpImageFile(io.BytesIO(data))


def _mode(image: BmpImageFile) -> str:
    return {"1": "L", "L": "L", "RGBA": "RGBA"}.get(image.mode, "RGB")


FORMAT = Bmp()
