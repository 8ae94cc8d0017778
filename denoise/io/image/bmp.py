"""BMP: 8-bit gray, RGB and RGBA; palettes and 16-bit pixels are read as RGB.

Its only metadata is a resolution. Pillow decodes (run lengths and bit fields included); this module encodes,
strip by strip.
"""

from __future__ import annotations

import io
import struct
from typing import IO, TYPE_CHECKING

import numpy as np

from denoise.arrays import Array
from denoise.errors import OutputError, UnreadableError
from denoise.io.image.base import FileBytes, Header, Picture, SinglePage, behind, upright
from denoise.io.image.ifd import turned_exif
from denoise.signal import ImageInfo, Metadata, Page

if TYPE_CHECKING:
    from PIL.BmpImagePlugin import BmpImageFile

INCH_M = 0.0254
MODES = {"L": 1, "RGB": 3, "RGBA": 4}  # Pillow's names of the layouts of a page
HEAD_BYTES = 4096  # both headers and the palette fit
STRIP_ROWS = 256
FILE_HEADER_BYTES, INFO_HEADER_BYTES, V4_HEADER_BYTES = 14, 40, 108
BIT_FIELDS = 3  # the compression with masks for the four channels
RUN_LENGTHS = (1, 2)  # compressions
MAX_RUN_PX = 256  # for each byte of runs: 255 take two bytes
SMALL_PX = 1_000_000  # any smaller picture is harmless, whatever its runs
BGRA_MASKS = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
MAX_FILE_BYTES = 2**32 - 1  # the header has 32 bits


class Bmp(SinglePage):
    """The BMP format."""

    name = "BMP"
    dtypes = ("uint8",)
    takes_xmp = False
    holds = ("dpi",)
    channels = (1, 3, 4)

    def header(self, data: FileBytes) -> Header:
        """Read both headers."""
        image = _opened(data[:HEAD_BYTES])
        mode = _mode(image)
        packed = image.info.get("compression") in RUN_LENGTHS
        if packed and image.height * image.width > max(MAX_RUN_PX * len(data), SMALL_PX):
            raise UnreadableError(f"is damaged: {image.width} x {image.height} pixels in {len(data)} bytes")
        notes: tuple[str, ...] = ()
        notes += ("palette turned into RGB (cleaning makes new colours)",) if image.mode == "P" else ()
        notes += (
            ("1-bit gray turned into 8-bit gray (cleaning makes new shades)",) if image.mode == "1" else ()
        )
        per_metre = (0, 0)
        if struct.unpack("<I", data[14:18])[0] >= INFO_HEADER_BYTES:
            per_metre = struct.unpack("<ii", data[38:46])
        start, bits = struct.unpack("<I", data[10:14])[0], _bits(data)
        notes += (
            (f"{bits}-bit pixels turned into {8 * MODES[mode]}-bit pixels",)
            if bits in (16, 32) and bits != 8 * MODES[mode]
            else ()
        )
        stride = -(-image.width * bits // 32) * 4
        end = start + stride * image.height
        if packed:  # as long as the headers say
            end = max(int.from_bytes(data[2:6], "little"), start + int.from_bytes(data[34:38], "little"))
        dpi = (per_metre[0] * INCH_M, per_metre[1] * INCH_M) if min(per_metre) > 0 else None
        page = Page(image.height, image.width, MODES[mode], "uint8", int(mode == "RGBA"))
        return Header((page,), Metadata(dpi=dpi), notes, lost=behind(data, end))

    def decode(self, data: FileBytes, header: Header) -> Array:
        """Decode the picture; copy it in strips, because Pillow already holds four bytes a pixel."""
        image, page = _opened(data[:]), header.pages[0]
        image.load()
        pixels = np.empty((page.height, page.width, page.channels), np.uint8)
        for top in range(0, page.height, STRIP_ROWS):
            strip = image.crop((0, top, page.width, min(top + STRIP_ROWS, page.height)))
            rows = np.asarray(strip.convert(_mode(image)))
            pixels[top : top + STRIP_ROWS] = rows.reshape(-1, *pixels.shape[1:])
        return pixels

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Write the headers, then the rows from the last to the first, blue before red, padded to 4 bytes."""
        _, orientation = turned_exif(info.metadata.exif or b"")
        height, width, strips = picture.height, picture.width, picture.strips(picture.rows_per_strip())
        if orientation > 1:  # for which a BMP has no place
            whole = upright(picture.whole(), orientation)
            height, width, strips = *whole.shape[:2], iter([whole])
        stride = -(-width * picture.channels // 4) * 4
        size = (height, width, picture.channels)
        head = _head(size, stride * height, info.metadata.dpi or (0.0, 0.0))
        file.write(head)
        end = len(head) + stride * height
        for strip in strips:
            rows = np.zeros((len(strip), stride), np.uint8)
            order = [0] if picture.channels == 1 else [2, 1, 0, 3][: picture.channels]
            rows[:, : width * picture.channels] = strip[::-1, :, order].reshape(len(strip), -1)
            end -= rows.nbytes
            file.seek(end)
            file.write(rows.data)


def _head(size: tuple[int, int, int], pixel_bytes: int, dpi: tuple[float, float]) -> bytes:
    height, width, channels = size
    palette = b"".join(bytes([v, v, v, 0]) for v in range(256)) if channels == 1 else b""
    masks = struct.pack("<4I", *BGRA_MASKS) if channels == 4 else b""
    header = V4_HEADER_BYTES if masks else INFO_HEADER_BYTES
    start = FILE_HEADER_BYTES + header + len(palette)
    if start + pixel_bytes > MAX_FILE_BYTES:
        raise OutputError(
            f"cannot be written: BMP holds up to 4 GiB, and the picture takes {pixel_bytes} bytes"
        )
    per_metre = (round(resolution / INCH_M) for resolution in dpi)
    info = struct.pack(
        "<IiiHHIIiiII",
        header,
        width,
        height,
        1,
        8 * channels,
        BIT_FIELDS if masks else 0,
        pixel_bytes,
        *per_metre,
        256 if palette else 0,
        0,
    )
    srgb = masks and masks + b"BGRs" + bytes(header - INFO_HEADER_BYTES - 20)
    return b"BM" + struct.pack("<IHHI", start + pixel_bytes, 0, 0, start) + info + srgb + palette


def _bits(data: FileBytes) -> int:
    """Bits of a pixel; the headers of OS/2 have shorter fields before it."""
    at = 24 if struct.unpack("<I", data[14:18])[0] == 12 else 28
    return int.from_bytes(data[at : at + 2], "little")


def _opened(data: bytes) -> BmpImageFile:
    from PIL.BmpImagePlugin import BmpImageFile  # not Image.open: it tries other formats, and warns of size

    return BmpImageFile(io.BytesIO(data))


def _mode(image: BmpImageFile) -> str:
    return {"1": "L", "L": "L", "RGBA": "RGBA"}.get(image.mode, "RGB")


FORMAT = Bmp()
