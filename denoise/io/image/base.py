"""What the image formats share: the page, the metadata, and the picture on its way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from denoise.errors import OutputError
from denoise.signal import SignalInfo

__all__ = [
    "Array",
    "FileBytes",
    "Format",
    "Header",
    "Metadata",
    "Page",
    "Picture",
    "Readable",
    "Sink",
    "Sliced",
    "icc_fits",
]

Array = NDArray[Any]

STRIP_BYTES = 1 << 20  # of pixels converted at once: small beside the picture, large beside the call overhead


class Sliced(Protocol):
    """Bytes, or a file that slices like them."""

    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, where: int, /) -> int: ...
    @overload
    def __getitem__(self, where: slice, /) -> bytes: ...


class FileBytes:
    """An open file that slices like bytes, reading only what is asked for.

    Not an mmap: a mapped file that another process cuts short kills the reader (SIGBUS).
    """

    def __init__(self, handle: BinaryIO) -> None:
        self.handle = handle
        self._size = handle.seek(0, 2)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, where: int) -> int: ...
    @overload
    def __getitem__(self, where: slice) -> bytes: ...
    def __getitem__(self, where: int | slice) -> int | bytes:
        start, stop, _ = where.indices(self._size) if isinstance(where, slice) else (where, where + 1, 1)
        self.handle.seek(start)
        found: bytes = self.handle.read(max(0, stop - start))
        return found if isinstance(where, slice) else found[0]

    def whole(self) -> bytes:
        """Every byte."""
        return self[:]


@dataclass(frozen=True)
class Metadata:
    """What every format can mean, whatever it calls it.

    Args:
        exif: A TIFF structure (it starts with `II` or `MM`), the orientation tag among its entries.
        icc: An ICC profile.
        xmp: An XMP packet, UTF-8.
        dpi: Dots per inch, horizontal and vertical.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Page:
    """One image of a file, as its decoder gives it.

    Args:
        channels: Alpha and other extra samples included.
        keep: How many trailing channels are not colour (alpha).
        alpha: Whether the first of them is transparency.
    """

    height: int
    width: int
    channels: int
    dtype: str
    keep: int = 0
    alpha: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        return self.channels, self.height, self.width

    @property
    def peak(self) -> float:
        """The value that means white."""
        return _peak(np.dtype(self.dtype))

    @property
    def nbytes(self) -> int:
        """Memory that its pixels take."""
        return self.height * self.width * self.channels * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Header:
    """All that is known of a file before a pixel is decoded; `own` is what only its format understands."""

    pages: tuple[Page, ...]
    metadata: Metadata = Metadata()
    notes: tuple[str, ...] = ()
    own: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


class Sink(Protocol):
    """Takes the pictures of one open file, in order."""

    def write(self, picture: Picture) -> None: ...


class Readable(Protocol):
    """An image format that is read: its header and its pages, from bytes.

    Its functions raise `InputError`s without the file name; the codec in `denoise.io.image` puts it in front.
    """

    name: str

    def header(self, data: FileBytes) -> Header: ...
    def pages(self, data: FileBytes, header: Header) -> Iterator[Array]: ...  # (H, W) or (H, W, C)


class Format(Readable, Protocol):
    """An image format that is also written: pictures to a path."""

    dtypes: tuple[str, ...]  # that it can hold, best first
    channels: tuple[int, ...]  # counts that it can hold; empty: any
    multipage: bool

    def sink(self, path: Path, info: SignalInfo, metadata: Metadata) -> AbstractContextManager[Sink]: ...


class Picture:
    """A block `(C, H, W)` seen as the rows that a format can hold, converted strip by strip.

    A strip at a time, so that writing needs no second picture in memory, whatever the block's layout.

    Args:
        block: `(C, H, W)`; never changed.
        page: What the block's numbers mean: its white, and how many of the last channels are not colour.
        dtype: Of the rows.
        channels: Of the rows: gray is repeated for colour, alpha laid on white where there is no room for it.
    """

    def __init__(self, block: Array, page: Page, dtype: str, channels: int) -> None:
        self.height: int = block.shape[1]
        self.width: int = block.shape[2]
        self.channels = channels
        self.dtype = np.dtype(dtype)
        self.clipped = 0  # samples so far that did not fit
        self._block = block
        self._page = page
        same = block.dtype == self.dtype and self.dtype == np.dtype(page.dtype)
        self.peak = _peak(self.dtype)
        self._cast: Callable[[Array], Array] = (lambda rows: rows) if same else self._rescale

    def rows_per_strip(self) -> int:
        """A strip height that keeps strips near `STRIP_BYTES`; a multiple of 16."""
        row_bytes = int(self.width * self.channels * self.dtype.itemsize)
        return max(16, STRIP_BYTES // max(row_bytes, 1) // 16 * 16)

    def strips(self, rows: int) -> Iterator[Array]:
        """C-contiguous `(<= rows, W, channels)` arrays, top to bottom."""
        for start in range(0, self.height, rows):
            strip = np.moveaxis(self._block[:, start : start + rows], 0, -1)
            rows_out = np.ascontiguousarray(self._cast(self._relayer(strip)))
            # Axes of length 1 may keep any stride, which some encoders take for another layout: flat has one.
            yield rows_out.reshape(-1).reshape(rows_out.shape)

    def whole(self) -> Array:
        """`(H, W, channels)`, C-contiguous: no copy where the block is a transposed view of just that."""
        return next(self.strips(self.height))

    def _relayer(self, strip: Array) -> Array:
        """From the block's channels to the format's."""
        colours = strip.shape[-1] - self._page.keep
        if strip.shape[-1] == self.channels:
            return strip
        if self._page.keep and self.channels in (1, 3):
            strip = _on_white(strip[..., :colours], strip[..., colours : colours + 1], self._page.peak)
        else:
            strip = strip[..., : colours + min(self._page.keep, 1)]
        if colours == 1 and self.channels >= 3:
            strip = np.concatenate([strip[..., :1]] * 3 + [strip[..., 1:]], axis=-1)
        return strip

    def _rescale(self, rows: Array) -> Array:
        """From the page's scale to the rows' dtype: scaled by the ratio of the whites, rounded, clipped."""
        scaled = rows.astype(np.float64) * (self.peak / self._page.peak)
        if self.dtype.kind == "f":
            return scaled.astype(self.dtype)
        if not np.isfinite(scaled).all():
            raise OutputError("the result holds NaN or infinite values")
        np.rint(scaled, out=scaled)
        self.clipped += int(np.count_nonzero((scaled < 0) | (scaled > self.peak)))
        return scaled.clip(0, self.peak).astype(self.dtype)


def _peak(dtype: np.dtype[Any]) -> float:
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0


def _on_white(colour: Array, alpha: Array, peak: float) -> Array:
    share = alpha.astype(np.float64) / peak
    mixed = colour * share + peak * (1 - share)
    return mixed.astype(colour.dtype) if colour.dtype.kind == "f" else np.rint(mixed).astype(colour.dtype)


def icc_fits(icc: bytes | None, channels: int) -> bool:
    """Whether a profile's colour space (ICC.1, bytes 16-19) is that of `channels` gray or RGB channels."""
    space = (icc or b"")[16:20]
    return space == (b"GRAY" if channels <= 2 else b"RGB ")
