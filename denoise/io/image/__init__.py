"""Images: PNG, JPEG, WebP, TIFF, BMP; a block is a page `(C, H, W)` in the file's own dtype.

Pixels come as they are stored: EXIF orientation is kept as a tag, never applied. What a file holds besides
pixels goes back into the output, byte for byte where the format is the same, translated where it is another.
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

from denoise.errors import InputError, OutputError, TooLargeError, UnreadableError, UnsupportedError
from denoise.io.atomic import replacing
from denoise.io.image.base import Array, FileBytes, Format, Header, Metadata, Page, Picture, Sink
from denoise.io.image.sniff import found_kind
from denoise.registry import resolve
from denoise.signal import SignalInfo

__all__ = ["CODEC", "FORMATS", "ImageCodec", "ImageReader", "ImageWriter"]

FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".png": "denoise.io.image.png:FORMAT",
        ".jpg": "denoise.io.image.jpeg:FORMAT",
        ".jpeg": "denoise.io.image.jpeg:FORMAT",
        ".webp": "denoise.io.image.webp:FORMAT",
        ".tif": "denoise.io.image.tiff:FORMAT",
        ".tiff": "denoise.io.image.tiff:FORMAT",
        ".bmp": "denoise.io.image.bmp:FORMAT",
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
            UnreadableError: Missing, empty, cut short, damaged, or of another format than its suffix says.
            UnsupportedError: Sound, but of a kind that is not handled (animations, 32-bit integers, ...).
            TooLargeError: A page above `max_pixels`.
        """
        with _opened(path) as data:
            return _info(path, _header(path, data, max_pixels))

    def reader(self, path: Path, *, max_pixels: int = MAX_PIXELS) -> ImageReader:
        """Open an image file page by page; arguments and errors as `probe`."""
        return ImageReader(path, max_pixels)

    def writer(self, path: Path, info: SignalInfo) -> ImageWriter:
        """Open an image file for pages like those that `info` describes; the suffix decides the format."""
        return ImageWriter(path, info)


class ImageReader:
    """Yields the pages of one file.

    `info` describes the first page until a page is yielded, then that page: the pages of a TIFF may differ in
    shape, dtype, peak and alpha.
    """

    def __init__(self, path: Path, max_pixels: int) -> None:
        self._path = path
        self._format = _format(path)
        with ExitStack() as opening:
            self._data = opening.enter_context(_opened(path))
            self._header = _header(path, self._data, max_pixels)
            self.info = _info(path, self._header)
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
        self.info = replace(self.info, shape=page.shape, dtype=page.dtype, peak=page.peak, keep=page.keep)
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
        self._format = _format(path)
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


def _format(path: Path) -> Format:
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise UnsupportedError(f"{path}: the suffix {suffix or '(none)'} is not one of {' '.join(FORMATS)}")
    found: Format = resolve(FORMATS[suffix])
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


def _header(path: Path, data: FileBytes, max_pixels: int) -> Header:
    expected = _format(path)
    kind, suffix = found_kind(data[:512])
    if kind != expected.name:
        hint = f"; rename it to {suffix}" if suffix in FORMATS else ""
        raise UnreadableError(f"{path}: holds {kind} data, expected {expected.name}{hint}")
    with _decoding(path, expected):
        header = expected.header(data)
        for page in header.pages:
            if page.height * page.width > max_pixels:
                raise TooLargeError(
                    f"claims {page.width} x {page.height} = {page.height * page.width / MEGA:.0f} "
                    f"megapixels, above the limit of {max_pixels / MEGA:g} (--max-pixels)"
                )
    return header


def _info(path: Path, header: Header) -> SignalInfo:
    first = header.pages[0]
    extra = {
        "format": _format(path).name,
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
        notes=header.notes,
        extra=extra,
    )


@contextmanager
def _decoding(path: Path, expected: Format) -> Iterator[None]:
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
        raise UnreadableError(f"{path}: is damaged {expected.name} data ({error})") from error


@contextmanager
def _encoding(path: Path, target: Format) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OutputError as error:
        raise OutputError(f"{path}: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise OutputError(f"{path}: cannot be written as {target.name}: {error}") from error


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
