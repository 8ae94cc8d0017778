"""Images of every format in the table; a block is a page `(C, H, W)`.

Pixels are read as they are stored, in the file's own dtype: EXIF orientation is kept as a tag, never applied.
Everything else in a file goes into the output: byte for byte in the same format, translated in another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from denoise.arrays import Array
from denoise.dsp.scale import sample_range
from denoise.errors import (
    InputError,
    OutputError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
    counted,
    printable,
    reason,
)
from denoise.io.atomic import replacing
from denoise.io.base import Codec
from denoise.io.formats import FORMATS, Format, format_of_suffix, unknown_suffix
from denoise.io.image.base import FileBytes, Header, Picture, ReadableFormat, WritableFormat, icc_fits
from denoise.io.limits import require_memory, require_plausible_page, require_plausible_pages
from denoise.io.sniff import format_of, read_head
from denoise.io.stamp import xmp_with
from denoise.registry import resolve
from denoise.signal import ImageInfo, Page, SignalInfo

MAX_PIXELS = 500_000_000  # of one page; a file above is refused as a decompression bomb
MEGA = 1_000_000
_COLOURS = ("gray", "RGB")
ROUNDING_LOSS = 1 / 12  # mean squared error of rounding, in squared steps
LOSS_CROP_PX = 512  # a side of what is written to measure the loss
_IN_CAMERA_SPACE, _LINEAR_DNG = "denoise.io.image.raw:IN_CAMERA_SPACE", "denoise.io.image.dng:FORMAT"


class ImageReader:
    """Yields the pages of one file.

    `info` describes the first page until a page is yielded, then that page: the pages of a TIFF may differ in
    shape, dtype, peak and alpha.

    Args:
        path: The file; its contents decide the format.
        max_pixels: The most pixels that a page may claim.
        camera_space: Develop camera raw data for a linear DNG, in the colours of the camera.
        gaps: Let NaN pass in a TIFF, where it marks pixels without data.

    Raises:
        UnreadableError: Missing, empty, cut short, damaged, or no image.
        UnsupportedError: Sound, but of a kind that is not handled (animations, 32-bit integers, ...).
        TooLargeError: A page above `max_pixels`, or one that a file of its size cannot hold.
    """

    def __init__(
        self, path: Path, *, max_pixels: int = MAX_PIXELS, camera_space: bool = False, gaps: bool = False
    ) -> None:
        self._path = path
        with ExitStack() as opening:
            row = format_of(read_head(path, "an image"), path.suffix)
            if row.modality != "image":
                raise UnreadableError(f"{path}: holds {row.name} data; expected an image")
            self._data = FileBytes(opening.enter_context(path.open("rb")))
            camera = camera_space and row.name == "camera raw"
            self._format: ReadableFormat = resolve(_IN_CAMERA_SPACE if camera else row.codec)
            self._gaps = gaps and row.name == "TIFF"
            self._header = _header(path, self._format, self._data, max_pixels)
            self.info = _info(path, row, self._header)
            self._stack = opening.pop_all()

    def __iter__(self) -> Iterator[Array]:
        """Decode page after page.

        Raises:
            UnreadableError: The pixels are cut short, damaged, NaN or infinite.
        """
        pages = self._format.pages(self._data, self._header)
        for number, page in enumerate(self._header.pages):
            yield self._decoded(pages, number, page)  # no name keeps it: a large page is the caller's alone

    def _decoded(self, pages: Iterator[Array], number: int, page: Page) -> Array:
        with _decoding(self._path, self._format):
            pixels = next(pages)
            pixels = pixels[..., None] if pixels.ndim == 2 else pixels
            if pixels.shape != (page.height, page.width, page.channels) or pixels.dtype != page.dtype:
                raise UnreadableError(
                    f"is damaged: page {number + 1} decodes to {pixels.shape} {pixels.dtype}, "
                    f"its header says {page.shape} {page.dtype}"
                )
            _require_finite(pixels, number, self._gaps)
        self.info = replace(self.info, **_page_fields(page))
        return np.moveaxis(pixels, -1, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._stack.close()


class ImageWriter:
    """Takes pages and makes a file of them.

    A block in the dtype of `info` is written as it is. Floats, in the same scale, are rounded and clipped;
    `clipped` counts the clipped samples. Data that the target cannot hold are converted (16 bits to 8, alpha
    laid on white), and `notes` says so. The suffix decides the format, unless it is the source's own: then
    the source's format does.
    """

    def __init__(self, path: Path, info: SignalInfo) -> None:
        self.clipped = 0
        self._path = path
        self._info = ImageInfo.of(info)
        self.notes: tuple[str, ...] = self._info.lost
        self._format = _target(path, self._info)
        self._written = 0
        self._stack = ExitStack()
        self._sink: Callable[[Picture], None]

    def __enter__(self) -> Self:
        same = self._info.format == self._format.name
        info = self._info if same else replace(self._info, own={})  # only the same format understands it
        info = self._stamped(info)
        if info.finer and info.own.get("finer"):
            self.notes += (
                "written at quality 97: as coarse as its source the traces of JPEG would come back",
            )
        if beside := self._info.own.get("beside"):
            self.notes += (f"{beside}: {'kept, not cleaned' if same else 'not kept'}",)
        if not same and (lost := (*self._info.texts, *self._format.lacks(self._info.metadata))):
            self.notes += (f"{', '.join(lost)}: not kept ({self._format.name} has no place for it)",)
        with ExitStack() as opening:
            temporary = opening.enter_context(replacing(self._path, self._info.source))
            self._sink = opening.enter_context(self._format.sink(temporary, info))
            self._stack = opening.pop_all()
        return self

    def _stamped(self, info: ImageInfo) -> ImageInfo:
        """Put the stamp into the metadata, if one is asked for and the format has a place."""
        xmp = xmp_with(info.metadata.xmp, info.stamp) if info.stamp and self._format.takes_xmp else None
        if info.stamp and xmp is None:
            self.notes += (f"not stamped: {self._format.name} has no place for it",)
        if xmp is None:
            return info
        metadata = replace(info.metadata, xmp=xmp)
        return replace(info, metadata=metadata, own=self._format.with_xmp(info.own, xmp) if info.own else {})

    def write(self, block: Array) -> None:
        """Write the next page, `(C, H, W)`.

        Raises:
            UnsupportedError: A second page for a format that holds one.
            OutputError: NaN in the block, or a size that the format cannot hold.
        """
        frames = self._format.animated and self._info.animated
        if self._written and not (self._format.multipage or frames):
            raise UnsupportedError(
                f"{self._path}: {self._format.name} holds one image and "
                f"{self._info.source} has {self._info.pages}; write to .tif"
            )
        if self._info.animated and not frames:
            self.notes += (f"the times of the frames: not kept ({self._format.name} has none)",)
        page = self._page(block)
        bands = page.channels - page.passthrough_channels
        if bands > 3 and self._format.channels:
            raise UnsupportedError(
                f"{self._path}: {self._format.name} holds gray or RGB and "
                f"{self._info.source} has {bands} bands; write to .tif"
            )
        dtype, channels = self._target_dtype(page), self._target_channels(page)
        levels = black_and_white(block, page) if page.dtype == "float32" and dtype != "float32" else None
        picture = Picture(block, page, dtype, channels, levels)
        with _encoding(self._path, self._format):
            self._sink(picture)
        lost = (
            *_conversions(page, picture, levels, self._format),
            *self._lost_bits(picture),
            *self._lost_profile(picture),
        )
        self.notes = tuple(dict.fromkeys((*self.notes, *lost)))
        self.clipped += picture.clipped
        self._written += 1

    def writing_loss(self, block: Array) -> float:
        """Measure the mean squared error of writing a block on its middle, in squared steps of its samples.

        Of other formats than JPEG it is that of rounding.
        """
        measure = getattr(self._format, "writing_loss", None)
        if measure is None or block.dtype != np.uint8 or self._info.format != self._format.name:
            return ROUNDING_LOSS
        top, left = ((size - min(size, LOSS_CROP_PX)) // 2 for size in block.shape[1:])
        crop = block[:, top : top + LOSS_CROP_PX, left : left + LOSS_CROP_PX]
        return float(measure(self._info, np.ascontiguousarray(np.moveaxis(crop, 0, -1))))

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)

    def _page(self, block: Array) -> Page:
        """Describe the block: as the source's page, except for the block's own shape and dtype."""
        if self._written < len(self._info.layouts):
            source = self._info.layouts[self._written]
        else:
            channels, height, width = self._info.shape
            source = Page(height, width, channels, self._info.dtype, self._info.passthrough_channels)
        channels, height, width = block.shape
        same = channels == source.channels
        passthrough = source.passthrough_channels if same else int(channels in (2, 4))
        dtype = str(block.dtype) if block.dtype.kind == "u" else source.dtype  # floats are in its scale
        return Page(height, width, channels, dtype, passthrough, source.alpha or not same)

    def _target_dtype(self, page: Page) -> str:
        supported = self._format.dtypes
        return page.dtype if page.dtype in supported else supported[-1]  # floats become 16 bits if possible

    def _target_channels(self, page: Page) -> int:
        supported, colours = self._format.channels, page.channels - page.passthrough_channels
        if not supported:
            return page.channels
        wanted = [*((colours + 1, 4) if page.alpha_channels else ()), colours, 3]
        return next(int(count) for count in wanted if count in supported)

    def _lost_bits(self, picture: Picture) -> tuple[str, ...]:
        """Name the bits of a sample that the format lacks."""
        own, most = self._info.own, self._format.max_bits
        bits = own.get("bits") or own.get("bit_depth") or 16
        if picture.dtype != np.uint16 or bits <= most:
            return ()
        return (f"{bits} bits of each sample turned into {most} ({self._format.name} holds no more)",)

    def _lost_profile(self, picture: Picture) -> tuple[str, ...]:
        """Sentence about a profile that the result cannot have, though its format holds profiles."""
        icc, same = self._info.metadata.icc, self._info.format == self._format.name
        if not icc or icc_fits(icc, picture.channels, same=same) or "icc" not in self._format.holds:
            return ()
        space = printable(icc[16:20].decode("latin-1")).strip() or "no colour space"
        return (f"an ICC profile for {space}: not kept (the result is {_COLOURS[picture.channels > 2]})",)


CODEC = Codec(ImageReader, ImageWriter)


def black_and_white(block: Array, page: Page) -> Array | None:
    """Return black and white of each channel of floats, `(2, C)`; None if they are 0 and 1.

    Samples with another black are measurements, whose extremes are not cut off.
    """
    colours = page.channels - page.passthrough_channels
    levels = np.array([sample_range(block[:colours], page.peak)] * colours).reshape(-1, 2)
    if levels[0, 0]:
        low, high = block[:colours].min(), block[:colours].max()
        levels = np.stack([np.minimum(levels[:, 0], low), np.maximum(levels[:, 1], high)], axis=1)
    alpha = [sample_range(block[channel : channel + 1], page.peak) for channel in range(colours, len(block))]
    found = np.concatenate([levels, np.reshape(alpha, (-1, 2))]).T
    return None if (found == [[0.0], [1.0]]).all() else found


def _conversions(page: Page, picture: Picture, levels: Array | None, target: WritableFormat) -> Iterator[str]:
    """Describe the information that the target cannot hold."""
    if picture.dtype != page.dtype:
        scale = ""
        if levels is not None:
            scale = f", {levels[0, 0]:.6g} into 0 and {levels[1, 0]:.6g} into {picture.peak:.0f}"
        yield f"{page.dtype} turned into {picture.dtype}{scale} ({target.name} holds no more)"
    if page.alpha_channels and picture.channels in (1, 3):
        yield f"alpha laid on white ({target.name} holds none)"
    if (extra := page.passthrough_channels - page.alpha_channels) and target.channels:
        yield f"{counted(extra, 'extra sample')} of each pixel: not kept ({target.name} holds none)"


def _target(path: Path, info: ImageInfo) -> WritableFormat:
    """Select the format that `path` is written in."""
    suffix, own = path.suffix.lower(), FORMATS.get(info.format)
    if suffix == info.source.suffix.lower() and own and own.writable:
        row: Format | None = own  # a JPEG with the suffix .png stays one under that name
    else:
        row = format_of_suffix(suffix)
    if row is None or row.modality != "image":
        raise unknown_suffix(path, "image")
    if suffix == ".dng" and "matrix" in info.own:  # developed in the colours of the camera
        return resolve(_LINEAR_DNG)
    if not row.writable:
        raise UnsupportedError(
            f"{path}: {row.name} is only read; write another, such as {row.written_suffix}"
        )
    return resolve(row.codec)


def _header(path: Path, source: ReadableFormat, data: FileBytes, max_pixels: int) -> Header:
    with _decoding(path, source):
        header = source.header(data)
        for page in header.pages:
            if not min(page.shape):
                raise UnreadableError(f"is damaged: a page of {page.width} x {page.height} pixels")
            if page.height * page.width > max_pixels:
                raise TooLargeError(
                    f"claims {page.size_text}, above the limit of {max_pixels / MEGA:g} (--max-pixels)"
                )
            require_plausible_page(page, page.reading_bytes, len(data))
        require_plausible_pages(header.pages, len(data))
        require_memory(max((page.working_bytes for page in header.pages), default=0))
    return header


def _page_fields(page: Page) -> dict[str, Any]:
    """Fields of an info that describe its current page."""
    return {
        "shape": page.shape,
        "dtype": page.dtype,
        "peak": page.peak,
        "passthrough_channels": page.passthrough_channels,
        "alpha": page.passthrough_channels > 0 and page.alpha,
        "bands": page.bands,
    }


def _info(path: Path, row: Format, header: Header) -> ImageInfo:
    suffix = path.suffix.lower()
    notes = header.notes
    if suffix not in row.suffixes and row.writable:
        notes = (f"holds {row.name} data under the suffix {suffix or '(none)'}, and keeps both", *notes)
    return ImageInfo(
        source=path,
        modality="image",
        **_page_fields(header.pages[0]),
        pages=len(header.pages),
        notes=notes,
        format=row.name,
        metadata=header.metadata,
        layouts=header.pages,
        own=header.own,
        lost=header.lost,
        texts=header.texts,
    )


@contextmanager
def _decoding(path: Path, source: ReadableFormat) -> Iterator[None]:
    """Put the file's name in front of errors; any error of a decoder means a damaged file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # errors are raised; warnings are the library's opinion
            yield
    except InputError as error:
        raise type(error)(f"{path}: {error}") from error
    except MemoryError as error:
        raise TooLargeError(f"{path}: does not fit into memory") from error
    except Exception as error:
        raise UnreadableError(f"{path}: is damaged {source.name} data ({reason(error)})") from error


@contextmanager
def _encoding(path: Path, target: WritableFormat) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except OutputError as error:
        raise OutputError(f"{path}: {error}") from error
    except (ValueError, RuntimeError) as error:
        raise OutputError(f"{path}: cannot be written as {target.name}: {reason(error)}") from error


def _require_finite(pixels: Array, number: int, gaps: bool) -> None:
    if pixels.dtype.kind != "f":
        return
    rows = max(1, (8 << 20) // max(1, pixels[:1].nbytes))
    wrong, first = 0, (0, 0)
    for top in range(0, len(pixels), rows):
        bad = np.isinf(pixels[top : top + rows]) if gaps else ~np.isfinite(pixels[top : top + rows])
        if bad.any() and not wrong:
            row, column = np.argwhere(bad)[0][:2]
            first = (top + int(row), int(column))
        wrong += int(np.count_nonzero(bad))
    if wrong:
        kind = "infinite" if gaps else "NaN or infinite"
        raise UnreadableError(
            f"holds {wrong} {kind} values on page {number + 1} (the first at row {first[0]}, "
            f"column {first[1]}); expected finite ones"
        )
