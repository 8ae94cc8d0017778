"""The parts that the image formats share: bytes, headers, and conversion of pixels for writing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, BinaryIO, Protocol, overload

import numpy as np

from denoise.arrays import Array
from denoise.errors import OutputError, printable
from denoise.io.image.ifd import X_RESOLUTION, parsed_exif
from denoise.signal import ImageInfo, Metadata, Page

EXIF = b"Exif\0\0"  # JPEG's prefix of the block, which some writers add elsewhere
TURNS: Mapping[int, Callable[[Array], Array]] = {  # from each orientation of EXIF to upright
    **{2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1]},
    **{5: lambda p: p.swapaxes(0, 1), 6: lambda p: np.rot90(p, -1), 8: np.rot90},
    7: lambda p: p[::-1, ::-1].swapaxes(0, 1),
}

STRIP_BYTES = 1 << 20  # of pixels converted at once: little memory, and few calls


class FileBytes:
    """An open file that slices like bytes, and reads only the slice.

    It is not an mmap: a mapped file that another process truncates kills the reader (SIGBUS).
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


Sliced = bytes | FileBytes


def behind(data: FileBytes, end: int) -> tuple[str, ...]:
    """Sentence about the bytes of a file from `end` on, which no writer keeps; none if they are filling."""
    start = end
    while start < len(data):
        piece = data[start : start + STRIP_BYTES]
        if piece.strip(b"\0"):
            return (f"{len(data) - end} bytes behind the picture: not kept",)
        start += len(piece)
    return ()


def lost_boxes(data: FileBytes, *kept: bytes) -> tuple[str, ...]:
    """Sentences about the boxes of a file, and the bytes behind them, that no writer keeps.

    Args:
        kept: Boxes of the picture and its metadata, besides those of the base format (ISO/IEC 14496-12).
    """
    position, lost = 0, dict[str, None]()
    while position + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[position : position + 8])
        size = (
            int.from_bytes(data[position + 8 : position + 16]) if size == 1 else size or len(data) - position
        )
        if size < 8 or position + size > len(data):
            break
        if kind not in (*kept, b"ftyp", b"meta", b"mdat", b"free", b"skip"):
            lost[printable(kind.decode("latin-1"))] = None
        position += size
    named = (f"boxes not kept: {', '.join(lost)}",) if lost else ()
    return named + behind(data, position)


@dataclass(frozen=True)
class Header:
    """Everything known of a file before a pixel is decoded.

    `own` is data for the format's own writer, `lost` what no writer keeps, in sentences, `texts` the names of
    comments and other facts that no other format takes, which are part of `own`.
    """

    pages: tuple[Page, ...]
    metadata: Metadata = field(default_factory=Metadata)
    notes: tuple[str, ...] = ()
    own: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    lost: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()


class ReadableFormat(Protocol):
    """An image format that is read: its header and its pages, from bytes.

    Its functions raise `InputError`s without the file name; the codec puts it in front.
    """

    name: str

    def header(self, data: FileBytes) -> Header: ...
    def pages(self, data: FileBytes, header: Header) -> Iterator[Array]: ...  # (H, W) or (H, W, C)


class WritableFormat(ReadableFormat, Protocol):
    """An image format that is also written: pictures to a path."""

    dtypes: tuple[str, ...]  # supported, the one with most digits last
    channels: tuple[int, ...]  # supported numbers of them; empty: any
    multipage: bool
    animated: bool
    takes_xmp: bool
    max_bits: int  # of uint16
    holds: tuple[str, ...]  # fields of `Metadata`

    def lacks(self, metadata: Metadata) -> tuple[str, ...]: ...  # names of what it has no place for

    def with_xmp(self, own: Mapping[str, Any], xmp: bytes) -> Mapping[str, Any]: ...

    def sink(self, path: Path, info: ImageInfo) -> AbstractContextManager[Callable[[Picture], None]]: ...


class SinglePage:
    """Base of the formats whose files hold one picture, or an animation if they are `animated`."""

    multipage = False
    animated = False
    takes_xmp = True
    max_bits = 16
    holds: tuple[str, ...] = ("exif", "icc", "xmp")  # fields of `Metadata`

    def lacks(self, metadata: Metadata) -> tuple[str, ...]:
        """Name the metadata that a file has no place for."""
        return lacking(metadata, self.holds)

    def with_xmp(self, own: Mapping[str, Any], _xmp: bytes) -> Mapping[str, Any]:
        """Put another XMP packet into the data for the writer."""
        return own

    def decode(self, data: FileBytes, header: Header) -> Array:
        """Decode the picture as `(H, W)` or `(H, W, C)`."""
        raise NotImplementedError

    def encode(self, file: IO[bytes], info: ImageInfo, picture: Picture) -> None:
        """Write the picture, with the metadata of `info`."""
        raise NotImplementedError

    def frames(self, data: FileBytes, header: Header) -> Iterator[Array]:
        """Decode the frames of an animation, each as it is shown."""
        raise NotImplementedError

    def animation(
        self, file: IO[bytes], info: ImageInfo
    ) -> AbstractContextManager[Callable[[Picture], None]]:
        """Begin an animation of whole frames."""
        raise NotImplementedError

    def pages(self, data: FileBytes, header: Header) -> Iterator[Array]:
        """Decode the one page, or the frames of an animation."""
        if len(header.pages) > 1:
            yield from self.frames(data, header)
        else:
            yield self.decode(data, header)

    @contextmanager
    def sink(self, path: Path, info: ImageInfo) -> Iterator[Callable[[Picture], None]]:
        """Open `path` for one picture, or for the frames of an animation."""
        with path.open("wb") as file:
            if info.animated and self.animated:
                with self.animation(file, info) as write:
                    yield write
            else:
                yield partial(self.encode, file, info)


def shown_frames(image: Any, mode: str) -> Iterator[Array]:
    """Decode the frames of an image of Pillow, drawn one upon the other as their file says."""
    for number in range(image.n_frames):
        image.seek(number)
        yield np.asarray(image.convert(mode))


class Picture:
    """A block `(C, H, W)`, converted to the rows that a format can hold.

    Conversion goes strip by strip, so that writing needs no second picture in memory.

    Args:
        page: The layout of the block: its white, and its passthrough channels.
        dtype: Dtype of the rows.
        channels: Channels of the rows: gray is repeated for colour, alpha is laid on white where there is no
            room for it.
        levels: Black and white of each channel of the block, in place of 0 and the page's white.

    Shape:
        `levels` is `(2, C)`.
    """

    def __init__(
        self, block: Array, page: Page, dtype: str, channels: int, levels: Array | None = None
    ) -> None:
        self.height: int = block.shape[1]
        self.width: int = block.shape[2]
        self.channels = channels
        self.dtype = np.dtype(dtype)
        self.clipped = 0  # samples so far that were out of range
        self._block = block
        self._page = page
        self._levels = levels
        same = block.dtype == self.dtype and dtype == page.dtype
        self.peak = Page(0, 0, 0, dtype).peak
        self._cast: Callable[[Array], Array] = (lambda rows: rows) if same else self._rescale

    def rows_per_strip(self) -> int:
        """Strip height that keeps strips near `STRIP_BYTES`; a multiple of 16."""
        row_bytes = int(self.width * self.channels * self.dtype.itemsize)
        return max(16, STRIP_BYTES // max(row_bytes, 1) // 16 * 16)

    def strips(self, rows: int) -> Iterator[Array]:
        """Yield C-contiguous `(<= rows, W, channels)` arrays, top to bottom."""
        for start in range(0, self.height, rows):
            strip = np.moveaxis(self._block[:, start : start + rows], 0, -1)
            if self._levels is not None:
                black, white = self._levels
                strip = (strip - black) / (white - black) * self._page.peak
            rows_out = np.ascontiguousarray(self._cast(self._relayer(strip)))
            # Axes of length 1 may keep any stride, which some encoders misread; a flat array has one.
            yield rows_out.reshape(-1).reshape(rows_out.shape)

    def whole(self) -> Array:
        """Return `(H, W, channels)`, C-contiguous; no copy if the block is a transposed view of that."""
        return next(self.strips(self.height))

    def _relayer(self, strip: Array) -> Array:
        """Convert the block's channels to the format's."""
        colours = strip.shape[-1] - self._page.passthrough_channels
        if strip.shape[-1] == self.channels:
            return strip
        if self._page.passthrough_channels and self._page.alpha and self.channels in (1, 3):
            strip = _on_white(strip[..., :colours], strip[..., colours : colours + 1], self._page.peak)
        else:
            strip = strip[..., : colours + self._page.alpha_channels]
        if colours == 1 and self.channels >= 3:
            strip = np.concatenate([strip[..., :1]] * 3 + [strip[..., 1:]], axis=-1)
        return strip

    def _rescale(self, rows: Array) -> Array:
        """Scale by the ratio of the whites, round and clip to the dtype of the rows."""
        scaled = rows.astype(np.float64) * (self.peak / self._page.peak)
        if self.dtype.kind == "f":
            return scaled.astype(self.dtype)
        if not np.isfinite(scaled).all():
            raise OutputError("the result holds NaN or infinite values")
        np.rint(scaled, out=scaled)
        self.clipped += int(np.count_nonzero((scaled < 0) | (scaled > self.peak)))
        return scaled.clip(0, self.peak).astype(self.dtype)


def _on_white(colour: Array, alpha: Array, peak: float) -> Array:
    share = alpha.astype(np.float64) / peak
    mixed = colour * share + peak * (1 - share)
    return mixed.astype(colour.dtype) if colour.dtype.kind == "f" else np.rint(mixed).astype(colour.dtype)


def rescaled(pixels: Array, peak: int, full: int) -> Array:
    """Scale 16-bit pixels from one white to another."""
    return ((pixels.astype(np.uint32) * full + peak // 2) // peak).astype(np.uint16)


def icc_fits(icc: bytes | None, channels: int, *, same: bool = False) -> bool:
    """Check that a profile's colour space (ICC.1, bytes 16-19) is gray, or RGB, as `channels` are.

    Args:
        same: The source has the same format: either profile stays, but none for inks, which turned into RGB.
    """
    space = (icc or b"")[16:20]
    return space in (b"GRAY", b"RGB ") if same else space == (b"GRAY" if channels <= 2 else b"RGB ")


def lacking(metadata: Metadata, holds: Collection[str]) -> tuple[str, ...]:
    """Name the metadata besides those fields; a resolution is in EXIF too, if that has it."""
    names = {"exif": "EXIF", "icc": "ICC profile", "xmp": "XMP", "iptc": "IPTC", "dpi": "resolution"}
    lost = {name: words for name, words in names.items() if getattr(metadata, name) and name not in holds}
    tags = parsed_exif(metadata.exif) if metadata.exif and "exif" in holds else None
    if tags and any(entry.code == X_RESOLUTION for entry in tags.entries):
        lost.pop("dpi", None)
    return tuple(lost.values())


def coded_space(primaries: int, transfer: int) -> tuple[str, ...]:
    """Name a colour space by its code points (ITU-T H.273), if it is not near that of sRGB."""
    usual = primaries in (1, 2) and transfer in (1, 2, 6, 13)
    return () if usual else (f"colour space (CICP {primaries}/{transfer})",)


def upright(pixels: Array, orientation: int) -> Array:
    """Turn pixels `(H, W, channels)` as an orientation of EXIF says, for formats that have none."""
    return np.ascontiguousarray(TURNS[orientation](pixels) if orientation in TURNS else pixels)
