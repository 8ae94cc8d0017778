"""Files of compressed images (`.dnz`): a header, the coded numbers, and what else the source held.

| bytes | content |
|---|---|
| 4 | `\\x8aDNZ` |
| 1 | version |
| 1 | flags: 1 gray, 2 lossless, 4 alpha |
| 1 | quality, 0 to 255 |
| 4 | start of the SHA-256 of the weights |
| 1 to 5 each | width, height, and the length of each part below (little-endian, seven bits a byte) |
| | hyper-code, coefficients, numbers outside their tables, metadata, residual, alpha |
| 4 | CRC-32 of all before |
"""

from __future__ import annotations

import io as memory
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from denoise import io
from denoise.arrays import Array
from denoise.compression.image import QUALITIES, Coded, ImageCompressor
from denoise.errors import InputError, TooLargeError, UnreadableError, UnsupportedError, reason
from denoise.io.atomic import replacing
from denoise.io.image.codec import MAX_PIXELS, MEGA
from denoise.io.limits import PICTURE_BYTES, require_memory
from denoise.signal import ImageInfo, Metadata, Page

SUFFIX = ".dnz"
MAGIC = b"\x8aDNZ"
VERSION = 1
_GRAY, _LOSSLESS, _ALPHA = 1, 2, 4
_FIXED = struct.Struct("<4sBBB4s")
_MAX_METADATA_BYTES = 64 << 20
_BYTES_PER_PIXEL = 110  # memory to decode
_MAX_PIXELS_PER_BYTE = 2000  # a smooth photo at the lowest quality has 500
_WEBP_SIDE = 16383  # pixels


@dataclass(frozen=True)
class Compressed:
    """Result of compressing a file."""

    pixels: int
    bytes_before: int  # of the source
    bytes_after: int  # of the result
    bits_per_pixel: float  # of the picture, without metadata and alpha
    psnr_db: float  # of the decoded picture to the source; infinite if lossless
    notes: tuple[str, ...]  # what was converted


@dataclass(frozen=True)
class _Head:
    flags: int
    quality: int
    digest: bytes
    page: Page
    parts: tuple[bytes, ...]  # hyper-code, coefficients, excess, metadata, residual, alpha


def compress(
    source: Path, target: Path, quality: float, codec: ImageCompressor, *, lossless: bool = False
) -> Compressed:
    """Compress an image file.

    Args:
        quality: 0 to 100; 50 is about 0.5 bits a pixel.
        lossless: Store the residual too: the decoded pixels are those of the source.

    Raises:
        InputError: The file cannot be read, or has more than 8 bits or several pages.
    """
    pixels, info = io.read(source)
    info = ImageInfo.of(info)
    if info.modality != "image":
        raise UnsupportedError(f"{source}: is {info.modality}; expected an image")
    if info.pages > 1 or info.bands or info.passthrough_channels > 1:
        raise UnsupportedError(f"{source}: has several pages or bands; expected one picture, gray or RGB")
    notes = info.notes
    if pixels.dtype != np.uint8:
        if lossless:
            raise UnsupportedError(f"{source}: has more than 8 bits a sample; expected 8 for --lossless")
        notes += (f"{pixels.dtype} turned into uint8 ({SUFFIX} holds no more)",)
        pixels = np.rint(np.clip(pixels / float(info.peak or 1), 0, 1) * 255).astype(np.uint8)
    colours = len(pixels) - info.passthrough_channels
    picture = np.broadcast_to(pixels[:colours], (3, *pixels.shape[1:]))
    number = round(quality / 100 * QUALITIES)
    coded = codec.encode(picture, number)
    height, width = picture.shape[1:]
    decoded = (
        codec.decode(coded, height, width, number, exact=lossless)[:colours]
        if colours == 3
        else _gray(codec.decode(coded, height, width, number, exact=lossless))
    )
    error = np.mean((decoded.astype(np.float32) - pixels[:colours]) ** 2, dtype=np.float64)
    residual = _packed(pixels[:colours] - decoded) if lossless else b""  # modulo 256
    alpha = _packed(pixels[colours:]) if info.passthrough_channels else b""
    metadata = _metadata_bytes(info.metadata)
    flags = _GRAY * (colours == 1) | _LOSSLESS * lossless | _ALPHA * bool(alpha)
    parts = (coded.hyper, coded.coefficients, coded.excess, metadata, residual, alpha)
    data = _FIXED.pack(MAGIC, VERSION, flags, number, codec.digest)
    data += b"".join(map(_varint, (width, height, *map(len, parts)))) + b"".join(parts)
    _check(Page(height, width, len(pixels), "uint8"), len(data) + 4, f"{source}: ")
    with replacing(target) as partial:
        partial.write_bytes(data + struct.pack("<I", zlib.crc32(data)))
    return Compressed(
        height * width,
        source.stat().st_size,
        len(data) + 4,
        8 * (len(data) + 4 - len(metadata) - len(alpha)) / (height * width),
        float("inf") if lossless or not error else float(10 * np.log10(255**2 / error)),
        notes,
    )


def decompress(source: Path, target: Path, codec: ImageCompressor) -> ImageInfo:
    """Write the picture of a compressed file in the format of the target's suffix; return its description.

    Raises:
        InputError: The file is damaged, claims too much, or was made by another codec.
    """
    try:
        head = _read(source)
        if head.digest != codec.digest:
            raise UnsupportedError("was made by other weights; expected those of this version (--model)")
        pixels = _pixels(head, codec)
        metadata = _metadata(head.parts[3])
    except InputError as error:
        raise type(error)(f"{source}: {error}") from error
    page = head.page
    info = ImageInfo(
        source=source,
        modality="image",
        shape=page.shape,
        dtype="uint8",
        peak=255.0,
        passthrough_channels=page.passthrough_channels,
        alpha=page.passthrough_channels > 0,
        metadata=metadata,
        layouts=(page,),
    )
    io.write(target, pixels, info)
    return info


def _pixels(head: _Head, codec: ImageCompressor) -> Array:
    page, lossless = head.page, bool(head.flags & _LOSSLESS)
    hyper, coefficients, excess, _, residual, alpha = head.parts
    picture = codec.decode(
        Coded(hyper, coefficients, excess), page.height, page.width, head.quality, exact=lossless
    )
    if head.flags & _GRAY:
        picture = _gray(picture)
    if lossless:
        picture = picture + _unpacked(residual, picture.shape)
    return np.concatenate([picture, _unpacked(alpha, (1, *picture.shape[1:]))]) if alpha else picture


def _read(path: Path) -> _Head:
    """Read a file, and check everything that can be checked before memory is taken."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror}); expected a {SUFFIX} file") from error
    if len(data) < _FIXED.size + 12 or data[:4] != MAGIC:
        raise UnreadableError(f"is no compressed picture; expected a {SUFFIX} file of denoise compress")
    _, version, flags, quality, digest = _FIXED.unpack_from(data)
    if version != VERSION or flags & ~(_GRAY | _LOSSLESS | _ALPHA):
        raise UnsupportedError(f"has version {version} of the format; expected {VERSION}")
    if zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        raise UnreadableError("is damaged or cut short: its checksum differs")
    numbers, place = [], _FIXED.size
    for _ in range(8):
        number, place = _number(data, place)
        numbers.append(number)
    width, height, *lengths = numbers
    if not width or not height or place + sum(lengths) + 4 != len(data):
        raise UnreadableError("is damaged: the sizes in its header do not fit")
    alpha = bool(flags & _ALPHA)
    page = Page(height, width, (1 if flags & _GRAY else 3) + alpha, "uint8", int(alpha))
    _check(page, len(data))
    return _Head(flags, quality, digest, page, tuple(_split(data, place, lengths)))


def _check(page: Page, size_bytes: int, where: str = "") -> None:
    """Check that a file of this size may take the memory of the page."""
    if page.height * page.width > MAX_PIXELS:
        raise TooLargeError(f"{where}has {page.size_text}, above the limit of {MAX_PIXELS / MEGA:g}")
    needed = _BYTES_PER_PIXEL * page.height * page.width
    if needed > PICTURE_BYTES and page.height * page.width > _MAX_PIXELS_PER_BYTE * size_bytes:
        raise TooLargeError(f"{where}has {page.size_text} in {size_bytes} bytes; refused, as no photo has")
    require_memory(needed, where)


def _split(data: bytes, place: int, lengths: list[int]) -> Iterator[bytes]:
    for length in lengths:
        yield data[place : place + length]
        place += length


def _varint(number: int) -> bytes:
    """Write a number in groups of seven bits, the lowest first."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes((*found, number))


def _number(data: bytes, place: int) -> tuple[int, int]:
    """Read a number of `_varint`, and where the next begins."""
    number = 0
    for shift in range(0, 35, 7):
        if place >= len(data):
            break
        number |= (data[place] & 127) << shift
        place += 1
        if data[place - 1] < 128:
            return number, place
    raise UnreadableError("is damaged: the sizes in its header do not fit")


def _gray(picture: Array) -> Array:
    return np.rint(picture.mean(axis=0, keepdims=True, dtype=np.float64)).astype(np.uint8)


def _packed(planes: Array) -> bytes:
    """Code planes `(1 or 3, H, W)` without loss, as WebP or, if they are larger than it takes, as PNG."""
    from PIL import Image

    image = Image.fromarray(
        np.ascontiguousarray(
            np.moveaxis(planes, 0, -1).squeeze(-1) if len(planes) == 1 else np.moveaxis(planes, 0, -1)
        )
    )
    file = memory.BytesIO()
    if max(image.size) > _WEBP_SIDE:
        image.save(file, "PNG", optimize=True)
    else:
        image.convert("RGB").save(file, "WebP", lossless=True, quality=100, method=4)
    return file.getvalue()


def _unpacked(data: bytes, shape: tuple[int, ...]) -> Array:
    from PIL import Image

    try:
        with Image.open(memory.BytesIO(data), formats=("WEBP", "PNG")) as image:
            if image.size != (shape[2], shape[1]):
                raise UnreadableError("is damaged: its residual or alpha has another size")
            planes = np.moveaxis(np.asarray(image.convert("RGB")), -1, 0)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableError(
            f"is damaged: its residual or alpha cannot be read ({reason(error)})"
        ) from error
    return planes[: shape[0]]


def _metadata_bytes(metadata: Metadata) -> bytes:
    dpi = struct.pack("<dd", *metadata.dpi) if metadata.dpi else b""
    parts = (metadata.exif or b"", metadata.icc or b"", metadata.xmp or b"", dpi)
    packed = zlib.compress(b"".join(struct.pack("<I", len(part)) + part for part in parts), 9)
    return packed if any(parts) else b""


def _metadata(data: bytes) -> Metadata:
    if not data:
        return Metadata()
    try:
        plain = zlib.decompressobj().decompress(data, _MAX_METADATA_BYTES)
        parts, place = [], 0
        for _ in range(4):
            (length,) = struct.unpack_from("<I", plain, place)
            parts.append(plain[place + 4 : place + 4 + length])
            place += 4 + length
        if place != len(plain):
            raise UnreadableError("is damaged: its metadata are cut short")
        exif, icc, xmp, dpi = parts
        across, down = struct.unpack("<dd", dpi) if dpi else (0.0, 0.0)
    except (zlib.error, struct.error) as error:
        raise UnreadableError(f"is damaged: its metadata cannot be read ({reason(error)})") from error
    return Metadata(exif or None, icc or None, xmp or None, (across, down) if dpi else None)
