"""Files of compressed images (`.dnz`): a header, the coded numbers, and what else the source held.

| bytes | content |
|---|---|
| 4 | `\\x8aDNZ` |
| 1 | version |
| 1 | flags: 1 gray, 2 lossless, 4 alpha, 8 drawn |
| 1 | quality, 0 to 255 |
| 4 | start of the SHA-256 of the weights |
| 1 to 5 each | width, height, and the length of each part below (little-endian, seven bits a byte) |
| | hyper-code, coefficients, numbers outside their tables, metadata, residual, alpha |
| 4 | CRC-32 of all before |

A drawing, whose edges the transform spreads over whole blocks, is stored as WebP in place of the
coefficients where that takes no more bytes and is nearer to the source.
"""

from __future__ import annotations

import io as memory
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denoise import io
from denoise.arrays import Array
from denoise.compression.image import QUALITIES, Coded, ImageCompressor
from denoise.errors import InputError, TooLargeError, UnreadableError, UnsupportedError, reason
from denoise.io.atomic import replacing
from denoise.io.image.base import lacking
from denoise.io.image.codec import MAX_PIXELS, MEGA, black_and_white
from denoise.io.limits import require_memory
from denoise.signal import ImageInfo, Metadata, Page

SUFFIX = ".dnz"
MAGIC = b"\x8aDNZ"
VERSION = 1
_GRAY, _LOSSLESS, _ALPHA, _DRAWN = 1, 2, 4, 8
_FIXED = struct.Struct("<4sBBB4s")
_KEPT = ("exif", "icc", "xmp", "dpi")  # fields of the metadata
_MAX_METADATA_BYTES = 64 << 20
# Memory to decode a pixel, pixels that any file may have, and the most for each byte of a larger one. The
# exact decoder takes 4 s a megapixel. One shade alone has 210 pixels a byte, a drawing in WebP 10 to 150.
_BYTES_PER_PIXEL, _PIXELS, _PIXELS_PER_BYTE = 60, 6_000_000, 500
_EXACT_PIXELS, _EXACT_PIXELS_PER_BYTE = 1_000_000, 50
_DRAWN_BYTES_PER_PIXEL, _DRAWN_PIXELS, _DRAWN_PIXELS_PER_BYTE = 20, 32_000_000, 300
_WEBP_SIDE = 16383  # pixels
# Size of a picture coded quickly without loss, above which nothing is tried: hardly a photo has less.
_DRAWN_BYTES, _DRAWN_BITS = 1 << 14, 6.0  # bits per pixel
_COLOURS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_DRAWN_GAIN = 10**0.1  # of a drawing's squared error over that of the transform: 1 dB


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
    notes = (*info.notes, *info.lost)
    others = (*info.texts, *filter(None, [info.own.get("beside")]), *lacking(info.metadata, _KEPT))
    if others:
        notes += (f"{', '.join(others)}: not kept ({SUFFIX} has no place for it)",)
    if pixels.dtype != np.uint8:
        if lossless:
            raise UnsupportedError(f"{source}: has more than 8 bits a sample; expected 8 for --lossless")
        if not np.isfinite(pixels).all():
            raise UnsupportedError(f"{source}: holds NaN or infinite samples; expected finite ones")
        found = black_and_white(pixels, info.layouts[0]) if pixels.dtype.kind == "f" else None
        black, white = (0.0, float(info.peak or 1)) if found is None else found[..., None, None]
        scale = "" if found is None else f", {found[0, 0]:.6g} into 0 and {found[1, 0]:.6g} into 255"
        notes += (f"{pixels.dtype} turned into uint8{scale} ({SUFFIX} holds no more)",)
        pixels = np.rint(np.clip((pixels - black) / (white - black), 0, 1) * 255).astype(np.uint8)
    colours = len(pixels) - info.passthrough_channels
    planes, alpha = pixels[:colours], pixels[colours:]
    number = round(quality / 100 * QUALITIES)
    height, width = planes.shape[1:]
    coded, decoded = _transformed(planes, number, codec, lossless)
    flags = _GRAY * (colours == 1) | _LOSSLESS * lossless | _ALPHA * bool(len(alpha))
    error = _error(planes, decoded)
    if drawn := _drawn(planes, sum(map(len, coded)), 0.0 if lossless else error):
        coded, error, flags = (b"", drawn[0], b"", b""), drawn[1], flags | _DRAWN
        notes += (f"stored as {'WebP' if error else 'lossless WebP'}, which suits this picture better",)
    metadata = _metadata_bytes(info.metadata)
    parts = (*coded[:3], metadata, coded[3], _packed(alpha) if len(alpha) else b"")
    data = _FIXED.pack(MAGIC, VERSION, flags, number, codec.digest)
    data += b"".join(map(_varint, (width, height, *map(len, parts)))) + b"".join(parts)
    _check(Page(height, width, len(pixels), "uint8"), len(data) + 4, flags, f"{source}: ")
    if len(data) + 4 > source.stat().st_size:
        notes += ("larger than the input, which is compressed already",)
    with replacing(target, source) as partial:
        partial.write_bytes(data + struct.pack("<I", zlib.crc32(data)))
    return Compressed(
        height * width,
        source.stat().st_size,
        len(data) + 4,
        8 * (len(data) + 4 - len(metadata) - len(parts[-1])) / (height * width),
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
        if head.digest != codec.digest and not head.flags & _DRAWN:
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


def _transformed(
    planes: Array, quality: int, codec: ImageCompressor, lossless: bool
) -> tuple[tuple[bytes, bytes, bytes, bytes], Array]:
    """Code planes by the transform: its three parts and the residual, and what the parts give back."""
    height, width = planes.shape[1:]
    coded = codec.encode(np.broadcast_to(planes, (3, height, width)), quality)
    decoded = _coloured(codec.decode(coded, height, width, quality, exact=lossless), len(planes))
    residual = _packed(planes - decoded) if lossless else b""  # modulo 256
    return (coded.hyper, coded.coefficients, coded.excess, residual), decoded


def _drawn(planes: Array, most_bytes: int, most_error: float) -> tuple[bytes, float] | None:
    """Code a drawing as WebP: without loss if that fits in the bytes, or else the best that does.

    Args:
        most_error: Mean squared error that it must clearly stay below; 0 is lossless.

    Returns:
        The file and its error; None if it does not fit, or is no better.
    """
    if most_error and len(_packed(planes, quick=True)) > _DRAWN_BYTES + _DRAWN_BITS / 8 * planes[0].size:
        return None
    if len(file := _packed(planes)) <= most_bytes:
        return file, 0.0
    if not most_error or max(planes.shape) > _WEBP_SIDE:
        return None
    files = (
        _largest(_COLOURS, lambda count: _packed(_reduced(planes, count)), most_bytes),
        _largest(range(101), lambda quality: _packed(planes, quality), most_bytes),
    )
    found = [(file, _error(planes, _unpacked(file, planes.shape))) for file in files if file]
    best = min(found, key=lambda pair: pair[1], default=None)
    return best if best and best[1] * _DRAWN_GAIN <= most_error else None


def _largest(settings: Sequence[int], code: Callable[[int], bytes], most_bytes: int) -> bytes | None:
    """Find the last setting whose file fits, by bisection; None if none does."""
    low, high, best = 0, len(settings), None
    while low < high:
        middle = (low + high) // 2
        if len(file := code(settings[middle])) <= most_bytes:
            low, best = middle + 1, file
        else:
            high = middle
    return best


def _reduced(planes: Array, colours: int) -> Array:
    """Replace the colours by a few."""
    from PIL import Image

    reduced = _image(planes).quantize(colours, kmeans=1, dither=Image.Dither.NONE)
    return np.moveaxis(np.asarray(reduced.convert("RGB")), -1, 0)[: len(planes)]


def _image(planes: Array) -> Any:
    from PIL import Image

    return Image.fromarray(planes[0] if len(planes) == 1 else np.moveaxis(planes, 0, -1).copy())


def _error(one: Array, other: Array) -> float:
    """Mean squared error of samples, in blocks of rows."""
    return float(
        np.mean([np.square(a - b.astype(np.float32)).mean() for a, b in zip(one, other, strict=True)])
    )


def _pixels(head: _Head, codec: ImageCompressor) -> Array:
    page, flags = head.page, head.flags
    hyper, coefficients, excess, _, residual, alpha = head.parts
    shape = (page.channels - page.passthrough_channels, page.height, page.width)
    if flags & _DRAWN:
        picture = _unpacked(coefficients, shape)
    else:
        coded, lossless = Coded(hyper, coefficients, excess), bool(flags & _LOSSLESS)
        picture = _coloured(codec.decode(coded, *shape[1:], head.quality, exact=lossless), shape[0])
        picture = picture + _unpacked(residual, shape) if lossless else picture
    return np.concatenate([picture, _unpacked(alpha, (1, *shape[1:]))]) if alpha else picture


def _read(path: Path) -> _Head:
    """Read a file, and check everything that can be checked before memory is taken."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # 0 of the kernel's own files, which may never end
            data = file.read(_FIXED.size) if size else b""
            data += file.read() if data[:4] == MAGIC else b""  # another file may be large, or a device
    except OSError as error:
        raise UnreadableError(f"cannot be read ({error.strerror}); expected a {SUFFIX} file") from error
    if len(data) < _FIXED.size + 12 or data[:4] != MAGIC:
        raise UnreadableError(f"is no compressed picture; expected a {SUFFIX} file of denoise compress")
    _, version, flags, quality, digest = _FIXED.unpack_from(data)
    if version != VERSION or flags & ~(_GRAY | _LOSSLESS | _ALPHA | _DRAWN):
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
    _check(page, len(data), flags)
    return _Head(flags, quality, digest, page, tuple(_split(data, place, lengths)))


def _check(page: Page, size_bytes: int, flags: int, where: str = "") -> None:
    """Check that a file of this size may take the memory and the time of the page."""
    pixels, memory_px = page.height * page.width, _BYTES_PER_PIXEL
    most, per_byte = _PIXELS, _PIXELS_PER_BYTE
    if flags & _DRAWN:
        memory_px, most, per_byte = _DRAWN_BYTES_PER_PIXEL, _DRAWN_PIXELS, _DRAWN_PIXELS_PER_BYTE
    elif flags & _LOSSLESS:
        most, per_byte = _EXACT_PIXELS, _EXACT_PIXELS_PER_BYTE
    if pixels > MAX_PIXELS:
        raise TooLargeError(f"{where}has {page.size_text}, above the limit of {MAX_PIXELS / MEGA:g}")
    if pixels > max(most, per_byte * size_bytes):
        raise TooLargeError(
            f"{where}has {page.size_text} in {size_bytes} bytes; expected {pixels // per_byte} at least"
        )
    require_memory(memory_px * pixels, where)


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


def _coloured(picture: Array, colours: int) -> Array:
    """Return a picture `(3, H, W)`, or its mean as one plane."""
    if colours > 1:
        return picture
    return np.rint(picture.mean(axis=0, keepdims=True, dtype=np.float64)).astype(np.uint8)


def _packed(planes: Array, quality: int | None = None, *, quick: bool = False) -> bytes:
    """Code planes `(1 or 3, H, W)` as WebP or, if they are larger than it takes, as PNG.

    Args:
        quality: 0 to 100, with loss; None is lossless.
        quick: Less tightly.
    """
    image, file = _image(planes), memory.BytesIO()
    if max(image.size) > _WEBP_SIDE:
        image.save(file, "PNG", compress_level=1 if quick else 9)
    elif quality is None:
        effort = 0 if quick else 4
        image.convert("RGB").save(file, "WebP", lossless=True, quality=25 * effort, method=effort)
    else:
        image.convert("RGB").save(file, "WebP", quality=quality)
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
