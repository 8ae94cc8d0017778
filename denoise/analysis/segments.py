"""Segments of a file, all of one shape: tiles of images, windows of signals.

A file is read once, in blocks; memory is bounded by a block and a segment.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise import io
from denoise.arrays import Array, Floats
from denoise.errors import InputError, UnsupportedError, UsageError
from denoise.registry import unknown
from denoise.signal import MODALITIES, SensorInfo, SignalInfo

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # weights of red, green and blue (ITU-R BT.601)
_THUMBNAIL = (32, 32)  # pixels
_FLAT = 1e-6  # standard deviation, as a share of the largest value, below which a segment is constant


@dataclass(frozen=True)
class Segmentation:
    """Division of files into segments `(channels, *size)`.

    Segments cover the whole file: the last one ends with it, and a smaller file is padded by its last values.

    Args:
        modality: A name in `MODALITIES`.
        size: Height and width in pixels, or samples at `sample_rate`.
        channels: 3 for colour images, 1 for their luma; each channel of a signal gives its own segments.
        sample_rate: Hz to which signals are resampled; None keeps their own.
        whole: Resize each page of an image to `size` instead of cutting it.
        standardise: Give each segment zero mean and unit variance.
        step: Pixels or samples from one segment to the next; 0 is `size`: no overlap.

    Raises:
        UsageError: A size is invalid.
    """

    modality: str
    size: tuple[int, ...]
    channels: int = 1
    sample_rate: float | None = None
    whole: bool = False
    standardise: bool = False
    step: int = 0

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise unknown("modality", self.modality, MODALITIES)
        ndim = MODALITIES[self.modality].ndim
        if len(self.size) != ndim or min(self.size) < 1 or not 0 <= self.step <= min(self.size):
            raise UsageError(
                f"segments of {self.size} every {self.step}: expected {ndim} sizes of at least 1, "
                "and steps that leave nothing out"
            )
        if self.channels not in ((1, 3) if ndim == 2 else (1,)) or (self.whole and ndim == 1):
            raise UsageError(f"{self}: signals have one channel and are cut, images have 1 or 3")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every segment, channels first."""
        return (self.channels, *self.size)


Cut = Segmentation  # the name of earlier versions


@dataclass(frozen=True)
class Page:
    """Source of segments: a page of an image, or equally long channels of a signal."""

    # `(C, *S)`: colours without alpha, height, width; or channels and samples at the cut's rate
    shape: tuple[int, ...]
    length: int = 0  # samples in the file at its own rate; 0 for an image
    sample_rate: float | None = None  # rate of the file in Hz, if known
    channels: tuple[str, ...] = ()  # names of the channels of a signal


@dataclass(frozen=True)
class Place:
    """Start of a segment: page, channel, and row and column, or sample at the rate of the segmentation."""

    page: int
    channel: int
    start: tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """One part of a file, with its place.

    Shape:
        `values` `(C, *size)`.
    """

    index: int  # number among all segments of the file, omitted ones included
    values: Floats  # images in 0..1, audio in -1..1, sensors in their own units; or standardised
    page: int  # page of an image file, or group of equally long arrays of a log
    channel: int  # channel of a signal; 0 for images
    start: tuple[int, ...]  # first row and column in pixels, or first sample at the rate of the file
    stop: tuple[int, ...]  # first row and column, or sample, after the segment; at most the end of the file
    start_s: float | None = None  # start in seconds, if the rate of the signal is known
    stop_s: float | None = None  # end in seconds, likewise
    offset: float = 0.0  # subtracted mean; 0 unless standardised
    scale: float = 1.0  # divisor after that; 1 unless standardised


class Segments:
    """Segments of one file, in order; iterating reads the file.

    Segments with a gap (NaN) are omitted and counted in `left_out`; `pages` grows while the file is read.
    `thumbnail` has 32 x 32 pixels in gray, from 0 (the darkest) to 255 (the brightest);
    one of a single shade has that shade.

    Args:
        options: Options of its reader, such as `columns` for a sensor log.

    Raises:
        UnsupportedError: The segmentation is for another kind of file.
        UnreadableError: As `denoise.io.reader`, here or while iterating.
    """

    def __init__(self, path: str | Path, cut: Segmentation, options: Mapping[str, Any] | None = None) -> None:
        self.path, self.cut, self._options = Path(path), cut, dict(options or {})
        found = io.modality(self.path).name
        if found != cut.modality:
            raise UnsupportedError(f"{self.path}: is {found}, expected {cut.modality}")
        self.info: SignalInfo = io.probe(self.path, **self._options)
        self.left_out = 0
        self.pages: list[Page] = []
        self.thumbnail: NDArray[np.uint8] | None = None  # the first page of a picture, once it is read
        self._index = 0

    def __iter__(self) -> Iterator[Segment]:
        self.left_out = self._index = 0
        self.pages = []
        yield from self._of_image() if self.cut.modality == "image" else self._of_signal()

    def batches(self, size: int = 256) -> Iterator[list[Segment]]:
        """Iterate over lists of up to `size` segments.

        Raises:
            InputError: Every segment holds a gap.
        """
        segments = iter(self)
        empty = True
        while batch := list(itertools.islice(segments, size)):
            empty = False
            yield batch
        if empty:
            raise InputError(
                f"{self.path}: each of its {self.left_out} segments holds a gap; expected one without"
            )

    def _of_image(self) -> Iterator[Segment]:
        cut = self.cut
        with io.reader(self.path, **self._options) as pages:
            for number, page in enumerate(pages):
                info = pages.info
                planes = _coloured(
                    page[: page.shape[0] - info.passthrough_channels], info.peak or 1.0, cut.channels
                )
                self.pages.append(Page((page.shape[0] - info.passthrough_channels, *page.shape[1:])))
                if not number:
                    self.thumbnail = _thumbnail(planes)
                if cut.whole:
                    yield self._segment(_resized(planes, cut.size), number, 0, (0, 0), planes.shape[1:])
                    continue
                for top in starts(planes.shape[1], cut.size[0], cut.step):
                    for left in starts(planes.shape[2], cut.size[1], cut.step):
                        tile = planes[:, top : top + cut.size[0], left : left + cut.size[1]]
                        end = (top + tile.shape[1], left + tile.shape[2])
                        yield self._segment(_padded(tile, cut.size), number, 0, (top, left), end)

    def _of_signal(self) -> Iterator[Segment]:
        for number in range(self.info.pages):
            options = {**self._options, "recording": number} if number else self._options
            with io.reader(self.path, **options) as blocks:
                own = blocks.info.sample_rate
                rate = self.cut.sample_rate or own
                ratio = own / rate if own and rate else 1.0  # samples of the file for one of the segments
                channels, length = blocks.info.shape
                resampled = iter(blocks) if ratio == 1.0 else _resampled(blocks, own or 1.0, rate or 1.0)
                counted = _Counted(resampled)
                for start, window in _windows(counted, self.cut.size[0], self.cut.step):
                    begin = min(round(start * ratio), length)
                    end = min(round((start + self.cut.size[0]) * ratio), length)
                    for channel, values in enumerate(_padded(window, self.cut.size)):
                        if np.isnan(values).any():
                            self.left_out += 1
                            self._index += 1
                        else:
                            yield self._segment(values[None], number, channel, (begin,), (end,), own)
                names = _channel_names(blocks.info)
                self.pages.append(Page((channels, counted.samples), length, own, names))

    def _segment(
        self,
        values: Array,
        page: int,
        channel: int,
        start: tuple[int, ...],
        stop: tuple[int, ...],
        rate: float | None = None,
    ) -> Segment:
        offset, scale = 0.0, 1.0
        if self.cut.standardise:
            offset, deviation = float(values.mean()), float(values.std())
            scale = deviation if deviation > _FLAT * float(np.abs(values).max()) else 1.0
        start_s, stop_s = (start[0] / rate, stop[0] / rate) if rate else (None, None)
        standard = ((values - offset) / scale).astype(np.float32)
        self._index += 1
        return Segment(self._index - 1, standard, page, channel, start, stop, start_s, stop_s, offset, scale)


class _Counted:
    """Iterator over blocks that counts their samples."""

    def __init__(self, blocks: Iterator[Array]) -> None:
        self._blocks, self.samples = blocks, 0

    def __iter__(self) -> Iterator[Array]:
        for block in self._blocks:
            self.samples += block.shape[-1]
            yield block


def _channel_names(info: SignalInfo) -> tuple[str, ...]:
    """Columns of a log; for an array of several channels its name with numbers; else numbers."""
    names, channels = info.columns if isinstance(info, SensorInfo) else (), range(info.shape[0])
    if len(names) == len(channels):
        return names
    return tuple(f"{names[0]}_{number}" if len(names) == 1 else str(number) for number in channels)


def places(cut: Segmentation, pages: Sequence[Page]) -> Iterator[Place]:
    """Iterate over the places of a file's segments, in the order of `Segment.index`."""
    for number, page in enumerate(pages):
        if cut.whole:
            yield Place(number, 0, (0, 0))
            continue
        axes = [starts(length, size, cut.step) for length, size in zip(page.shape[1:], cut.size, strict=True)]
        channels = range(page.shape[0] if len(axes) == 1 else 1)
        # A signal is read window by window, each with all its channels.
        for start in itertools.product(*axes):
            yield from (Place(number, channel, start) for channel in channels)


def count(cut: Segmentation, pages: Sequence[Page]) -> int:
    """Count the `places`."""
    total = 0
    for page in pages:
        axes = zip(page.shape[1:], cut.size, strict=True)
        cells = math.prod(1 + -(-max(length - size, 0) // (cut.step or size)) for length, size in axes)
        total += 1 if cut.whole else cells * (page.shape[0] if len(cut.size) == 1 else 1)
    return total


def assemble(cut: Segmentation, page: Page, parts: Iterable[tuple[Place, Floats]]) -> Floats:
    """Assemble a page from its segments, in the file's own size and rate: their mean; NaN in gaps.

    Args:
        parts: Segments `(C, *size)` in the file's units, no longer standardised.

    Shape:
        `(C, H, W)` with the colours of the segments, or `(channels, samples)`.
    """
    if cut.whole:
        size = (page.shape[1], page.shape[2])
        pictures = [_resized(values, size) for _, values in parts]
        return pictures[0] if pictures else np.full((cut.channels, *size), np.nan, np.float32)
    signal = len(cut.size) == 1
    total = np.zeros((page.shape[0] if signal else cut.channels, *page.shape[1:]), np.float32)
    count = np.zeros(total.shape if signal else (1, *page.shape[1:]), np.float32)
    for place, values in parts:
        axes = zip(place.start, cut.size, page.shape[1:], strict=True)
        where = tuple(slice(start, min(start + size, length)) for start, size, length in axes)
        inside = tuple(slice(0, part.stop - part.start) for part in where)
        channels = slice(place.channel, place.channel + 1) if signal else slice(None)
        total[(channels, *where)] += values[(slice(None), *inside)]
        count[(channels, *where)] += 1
    with np.errstate(invalid="ignore"):
        pages: Floats = total / count
    if signal and cut.sample_rate and page.sample_rate and cut.sample_rate != page.sample_rate:
        from denoise.dsp.resample import resample

        gaps = np.isnan(pages)
        pages = resample(np.nan_to_num(pages), cut.sample_rate, page.sample_rate)[:, : page.length]
        pages = _padded(pages, (page.length,))
        if gaps.any():
            nearest = np.arange(page.length) * cut.sample_rate / page.sample_rate
            pages[gaps[:, np.minimum(nearest.round().astype(int), gaps.shape[1] - 1)]] = np.nan
    return pages


def starts(length: int, size: int, step: int = 0) -> list[int]:
    """List the starts of windows of `size` that cover `length`; the last one ends with it."""
    last = max(length - size, 0)
    found = list(range(0, last + 1, step or size))
    return found if found[-1] == last else [*found, last]


def _coloured(planes: Array, peak: float, channels: int) -> Floats:
    """Convert pixels to 0..1 and to the given number of channels."""
    shares = np.divide(planes, peak, dtype=np.float32)
    if len(shares) == channels:
        return shares
    if channels == 3:
        return np.repeat(shares[:1], 3, axis=0)
    return np.tensordot(_LUMA, shares[:3], 1)[None]


def _resized(planes: Floats, size: tuple[int, ...]) -> Floats:
    from PIL import Image

    if planes.shape[1:] == size:
        return planes
    wanted = (size[1], size[0])
    return np.stack([np.asarray(Image.fromarray(p).resize(wanted, Image.Resampling.LANCZOS)) for p in planes])


def _thumbnail(planes: Floats) -> NDArray[np.uint8]:
    gray = _resized(planes.mean(axis=0, keepdims=True), _THUMBNAIL)[0]
    contrast = float(np.ptp(gray))
    shown = (gray - gray.min()) / contrast if contrast > _FLAT else np.clip(gray, 0, 1)
    return np.rint(255 * shown).astype(np.uint8)


def _padded(values: Array, size: tuple[int, ...]) -> Array:
    """Pad values to a size by repeating the last ones."""
    short = [(0, full - have) for full, have in zip(size, values.shape[1:], strict=True)]
    return np.pad(values, [(0, 0), *short], mode="edge") if any(more for _, more in short) else values


def _resampled(blocks: io.Reader, from_hz: float, to_hz: float) -> Iterator[Array]:
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, blocks.info.shape[0], dtype="float32", quality="VHQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block.T, np.float32)).T
    yield stream.resample_chunk(np.empty((0, blocks.info.shape[0]), np.float32), last=True).T


def _windows(blocks: Iterable[Array], size: int, step: int) -> Iterator[tuple[int, Array]]:
    """Iterate over the start and samples `(C, size)` of each window, at the `starts` of the whole signal."""
    held: Array | None = None
    origin = start = 0  # first sample held, and of the next window
    for block in blocks:
        held = block if held is None else np.concatenate([held, block], axis=-1)
        end = origin + held.shape[-1]
        while start + size <= end:
            yield start, held[:, start - origin : start - origin + size]
            start += step or size
        keep_from = max(min(start, end - size), origin)  # the last window may start before the next one
        held, origin = held[:, keep_from - origin :], keep_from
    if held is None or not held.shape[-1]:
        return
    last = max(origin + held.shape[-1] - size, 0)
    if start == 0 or start - (step or size) < last:
        yield last, held[:, last - origin :]
