"""Images: PNG, JPEG, WebP, TIFF, BMP, read-only HEIC and camera raw; a block is a page `(C, H, W)`.

Pixels come as they are stored, in the file's own dtype: EXIF orientation is kept as a tag, never applied.
What a file holds besides pixels goes back into the output, byte for byte where the format is the same,
translated where it is another.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np

from denoise.errors import (
    InputError,
    OutputError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
    reason,
)
from denoise.io.atomic import replacing
from denoise.io.image.base import Array, FileBytes, Format, Header, Metadata, Page, Picture, Readable, Sink
from denoise.io.limits import fits
from denoise.io.sniff import HEAD_BYTES, KINDS, Kind, kind_of
from denoise.registry import resolve
from denoise.signal import SignalInfo

__all__ = ["CODEC", "FORMATS", "ImageCodec", "ImageReader", "ImageWriter"]

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "PNG": "denoise.io.image.png:FORMAT",
        "JPEG": "denoise.io.image.jpeg:FORMAT",
        "WebP": "denoise.io.image.webp:FORMAT",
        "TIFF": "denoise.io.image.tiff:FORMAT",
        "BMP": "denoise.io.image.bmp:FORMAT",
        "HEIC": "denoise.io.image.heif:FORMAT",
        "camera raw": "denoise.io.image.raw:FORMAT",
    }
)
MAX_PIXELS = 500_000_000  # of one page; above, a file is taken for a decompression bomb
MEGA = 1_000_000


class ImageCodec:
    """The images' row in `denoise.io.CODECS`."""

    def probe(self, path: Path, *, max_pixels: int = MAX_PIXELS) -> SignalInfo:
        """What an image file holds, from its header.

        Args:
            max_pixels: The most pixels that a page may claim.

        Raises:
            UnreadableError: Missing, empty, cut short, damaged, or no image.
            UnsupportedError: Sound, but of a kind that is not handled (animations, 32-bit integers, ...).
            TooLargeError: A page above `max_pixels`, or one that a file of its size cannot hold.
        """
        with _opened(path) as data:
            kind = _kind(path, data)
            return _info(path, kind, _header(path, kind, data, max_pixels))

    def reader(self, path: Path, *, max_pixels: int = MAX_PIXELS) -> ImageReader:
        """Open an image file page by page; arguments and errors as `probe`."""
        return ImageReader(path, max_pixels)

    def writer(self, path: Path, info: SignalInfo) -> ImageWriter:
        """Open an image file for pages like those that `info` describes.

        The suffix decides the format, unless it is the source's own: then the source's format does.
        """
        return ImageWriter(path, info)


class ImageReader:
    """Yields the pages of one file.

    `info` describes the first page until a page is yielded, then that page: the pages of a TIFF may differ in
    shape, dtype, peak and alpha.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._path = path
        with ExitStack() as opening:
            self._data = opening.enter_context(_opened(path))
            kind = _kind(path, self._data)
            self._format: Readable = resolve(FORMATS[kind.name])
            self._header = _header(path, kind, self._data, max_pixels)
            self.info = _info(path, kind, self._header)
            self._stack = opening.pop_all()

    def __iter__(self) -> Iterator[Array]:
        """Decode page after page.

        Raises:
            UnreadableError: The pixels are cut short, damaged, NaN or infinite.
        """
        pages = self._format.pages(self._data, self._header)
        for number, page in enumerate(self._header.pages):
            yield self._decoded(pages, number, page)  # kept in no name: a large page is the caller's alone

    def _decoded(self, pages: Iterator[Array], number: int, page: Page) -> Array:
        with _decoding(self._path, self._format):
            pixels = next(pages)
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            if pixels.shape != (page.height, page.width, page.channels) or pixels.dtype != page.dtype:
                raise UnreadableError(
                    f"is damaged: page {number + 1} decodes to {pixels.shape} {pixels.dtype}, "
                    f"its header says {page.shape} {page.dtype}"
                )
            _require_finite(pixels, number)
        extra = {**self.info.extra, "alpha": page.keep > 0 and page.alpha}
        self.info = replace(
            self.info, shape=page.shape, dtype=page.dtype, peak=page.peak, keep=page.keep, extra=extra
        )
        return np.moveaxis(pixels, -1, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class ImageWriter:
    """Takes pages, makes a file of them.

    A block in the info's own dtype is written as it is. Floats, in the same scale, are rounded and clipped,
    which `clipped` counts. What the target cannot hold is converted (16 bits to 8, alpha laid on white);
    `notes` tells.
    """

    def __init__(self, path: Path, info: SignalInfo) -> None:
        self.clipped = 0
        self.notes: tuple[str, ...] = ()
        self._path = path
        self._info = info
        self._format = _target(path, info)
        self._written = 0
        self._stack = ExitStack()
        self._sink: Sink

    def __enter__(self) -> Self:
        # Only the same format understands what its reader put aside.
        same = self._info.extra.get("format") == self._format.name
        extra = self._info.extra if same else {k: v for k, v in self._info.extra.items() if k != "own"}
        info = replace(self._info, extra=extra)
        metadata = self._info.extra.get("metadata", Metadata())
        with ExitStack() as opening:
            temporary = opening.enter_context(replacing(self._path))
            self._sink = opening.enter_context(self._format.sink(temporary, info, metadata))
            self._stack = opening.pop_all()
        return self

    def write(self, block: Array) -> None:
        """Write the next page, `(C, H, W)`.

        Raises:
            UnsupportedError: A second page for a format that holds one.
            OutputError: NaN in the block, or a size that the format cannot hold.
        """
        if self._written and not self._format.multipage:
            raise UnsupportedError(
                f"{self._path}: {self._format.name} holds one image and "
                f"{self._info.source} has {self._info.pages}; write to .tif"
            )
        page = self._page(block)
        picture = Picture(block, page, self._target_dtype(page), self._target_channels(page))
        with _encoding(self._path, self._format):
            self._sink.write(picture)
        self.notes = tuple(dict.fromkeys((*self.notes, *_conversions(page, picture, self._format))))
        self.clipped += picture.clipped
        self._written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _page(self, block: Array) -> Page:
        """What the block's numbers mean: as the source's page, unless its shape or dtype says otherwise."""
        known: tuple[Page, ...] = self._info.extra.get("pages", ())
        if self._written < len(known):
            source = known[self._written]
        else:
            channels, height, width = self._info.shape
            source = Page(height, width, channels, self._info.dtype, self._info.keep)
        channels, height, width = block.shape
        keep = source.keep if channels == source.channels else int(channels in (2, 4))
        dtype = (
            str(block.dtype) if block.dtype.kind == "u" else source.dtype
        )  # floats are in the source's scale
        return Page(height, width, channels, dtype, keep)

    def _target_dtype(self, page: Page) -> str:
        held = self._format.dtypes
        if page.dtype in held:
            return page.dtype
        return held[-1]  # the finest: floats become 16 bits where there is room

    def _target_channels(self, page: Page) -> int:
        held, colours = self._format.channels, page.channels - page.keep
        wanted = [page.channels, *((colours + 1, 4) if page.keep else ()), colours, 3]
        return next(int(count) for count in wanted if count in held or not held)


CODEC = ImageCodec()


def _conversions(page: Page, picture: Picture, target: Format) -> Iterator[str]:
    """What was lost or changed because the target holds less."""
    if picture.dtype != page.dtype:
        yield f"{page.dtype} turned into {picture.dtype} ({target.name} holds no more)"
    if page.keep and picture.channels in (1, 3):
        yield f"alpha laid on white ({target.name} holds none)"


def _target(path: Path, info: SignalInfo) -> Format:
    """The format that `path` is written in."""
    suffix, own = path.suffix.lower(), KINDS.get(info.extra.get("format", ""))
    kinds = [kind for name, kind in KINDS.items() if name in FORMATS]
    if suffix == info.source.suffix.lower() and own and not own.written:
        kind = own  # a JPEG that is called .png stays one under that name
    else:
        named = [kind for kind in kinds if suffix in kind.suffixes]
        if not named:
            known = " ".join(s for kind in kinds if not kind.written for s in kind.suffixes)
            raise UnsupportedError(f"{path}: the suffix {suffix or '(none)'} is not one of {known}")
        kind = named[0]
    if kind.written:
        raise UnsupportedError(f"{path}: {kind.name} is only read; expected another, such as {kind.written}")
    found: Format = resolve(FORMATS[kind.name])
    return found


@contextmanager
def _opened(path: Path) -> Iterator[FileBytes]:
    """The file's bytes, once it is known to be one with bytes in it."""
    try:
        if path.is_dir():
            raise UnreadableError(f"{path}: is a directory, an image file was expected")
        with path.open("rb") as handle:
            data = FileBytes(handle)
            if not len(data):
                raise UnreadableError(f"{path}: is empty (0 bytes), an image file was expected")
            yield data
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror or error}") from error


def _kind(path: Path, data: FileBytes) -> Kind:
    """What the file holds, if that is an image."""
    kind = kind_of(data[:HEAD_BYTES], path.suffix)
    if kind.name not in FORMATS:
        raise UnreadableError(f"{path}: holds {kind.name} data, expected an image")
    return kind


def _header(path: Path, kind: Kind, data: FileBytes, max_pixels: int) -> Header:
    found: Readable = resolve(FORMATS[kind.name])
    with _decoding(path, found):
        header, claimed_bytes = found.header(data), 0
        for page in header.pages:
            if not min(page.shape):
                raise UnreadableError(f"is damaged: a page of {page.width} x {page.height} pixels")
            claim = f"claims {page.width} x {page.height} = {page.height * page.width / MEGA:.0f} megapixels"
            if page.height * page.width > max_pixels:
                raise TooLargeError(f"{claim}, above the limit of {max_pixels / MEGA:g} (--max-pixels)")
            claimed_bytes += page.nbytes
            if not fits(claimed_bytes, len(data)):
                all_pages = f" on one of {len(header.pages)} pages" if len(header.pages) > 1 else ""
                raise TooLargeError(f"{claim}{all_pages} in {len(data)} bytes, which cannot hold so much")
    return header


def _info(path: Path, kind: Kind, header: Header) -> SignalInfo:
    first = header.pages[0]
    suffix = path.suffix.lower()
    notes = header.notes
    if suffix not in kind.suffixes and not kind.written:
        notes = (f"holds {kind.name} data under the suffix {suffix or '(none)'}, and keeps both", *notes)
    extra = {
        "format": kind.name,
        "alpha": first.keep > 0 and first.alpha,
        "metadata": header.metadata,
        "pages": header.pages,
        "own": header.own,
    }
    return SignalInfo(
        source=path,
        modality="image",
        shape=first.shape,
        dtype=first.dtype,
        peak=first.peak,
        keep=first.keep,
        pages=len(header.pages),
        notes=notes,
        extra=extra,
    )


@contextmanager
def _decoding(path: Path, expected: Readable) -> Iterator[None]:
    """Put the file's name before what goes wrong; whatever a decoder raises means a damaged file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is raised; the rest is a library's opinion
            yield
    except InputError as error:
        raise type(error)(f"{path}: {error}") from error
    except MemoryError as error:
        raise TooLargeError(f"{path}: does not fit into memory") from error
    except Exception as error:
        raise UnreadableError(f"{path}: is damaged {expected.name} data ({reason(error)})") from error


@contextmanager
def _encoding(path: Path, target: Format) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OutputError as error:
        raise OutputError(f"{path}: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise OutputError(f"{path}: cannot be written as {target.name}: {reason(error)}") from error


def _require_finite(pixels: Array, number: int) -> None:
    if pixels.dtype.kind != "f":
        return
    rows = max(1, (8 << 20) // max(1, pixels[:1].nbytes))
    wrong, first = 0, (0, 0)
    for top in range(0, len(pixels), rows):
        bad = ~np.isfinite(pixels[top : top + rows])
        if bad.any() and not wrong:
            row, column = np.argwhere(bad)[0][:2]
            first = (top + int(row), int(column))
        wrong += int(np.count_nonzero(bad))
    if wrong:
        raise UnreadableError(
            f"holds {wrong} NaN or infinite values on page {number + 1} (the first at row {first[0]}, "
            f"column {first[1]}); finite ones are expected"
        )
