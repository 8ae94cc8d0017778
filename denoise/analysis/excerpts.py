"""One file as excerpts of one shape, as an autoencoder takes them in: tiles of images, windows of signals.

A file is read once, block by block, in memory that the block and the excerpt bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise import io
from denoise.errors import UnsupportedError, UsageError
from denoise.registry import unknown
from denoise.signal import MODALITIES, SignalInfo

__all__ = ["Cut", "Excerpt", "Excerpts", "starts"]

Array = NDArray[Any]
Floats = NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green and blue (ITU-R BT.601)
_FLAT = 1e-6  # standard deviation, as a share of the largest value, below which an excerpt is constant


@dataclass(frozen=True)
class Cut:
    """How files are cut into excerpts `(channels, *size)`.

    The whole file is covered: where the last excerpt would reach past its end, it starts earlier, and a file
    that is smaller than one excerpt is continued by its last values.

    Args:
        modality: A name in `MODALITIES`.
        size: Of an excerpt: height and width in pixels, or samples at `sample_rate`.
        channels: 3 for colours together, 1 for gray images (colours become their luma); signals have 1, and
            each of their channels gives excerpts of its own.
        sample_rate: Hz to which signals are resampled; None leaves each at its own.
        whole: Images are not cut: each page is one excerpt, resized to `size` whatever its shape.
        standardise: Each excerpt gets zero mean and unit variance, for signals whose units say nothing.
        step: Pixels or samples from one excerpt to the next; 0 is their size, so that none overlap.

    Raises:
        UsageError: The sizes cannot be.
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
                f"excerpts of {self.size} every {self.step}: expected {ndim} sizes of at least 1, "
                "and steps that leave nothing out"
            )
        if self.channels not in ((1, 3) if ndim == 2 else (1,)) or (self.whole and ndim == 1):
            raise UsageError(f"{self}: signals have one channel and are cut, images have 1 or 3")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of every excerpt, channels first."""
        return (self.channels, *self.size)


@dataclass(frozen=True)
class Excerpt:
    """One part of a file, and where it is.

    Args:
        values: Images in 0..1, audio in -1..1, sensors in their own units; or standardised.
        page: Of an image file, or of a log whose arrays differ in length.
        channel: Of a signal; 0 for images.
        start: First row and column in pixels, or first sample of the file (at its own rate).
        stop: Behind the last ones. An excerpt that is larger than its file stops where the file does.
        start_s: Seconds from the begin of a signal whose rate is known, else None.
        stop_s: The same of its end.
        offset: What was subtracted from the file's values, and
        scale: by what they were divided then: 0 and 1 unless the cut standardises.

    Shape:
        `values` `(C, *size)`.
    """

    values: Floats
    page: int
    channel: int
    start: tuple[int, ...]
    stop: tuple[int, ...]
    start_s: float | None = None
    stop_s: float | None = None
    offset: float = 0.0
    scale: float = 1.0


class Excerpts:
    """The excerpts of one file, in order; iterating reads the file.

    Excerpts of sensor logs that hold a gap (NaN) are left out and counted in `left_out`.

    Args:
        path: The file.
        cut: How it is cut.
        options: For the reader of its codec, such as `columns` for a sensor log.

    Raises:
        UnsupportedError: The file is of another kind than the cut.
        UnreadableError: As `denoise.io.reader`, here or while iterating.
    """

    def __init__(self, path: str | Path, cut: Cut, options: Mapping[str, Any] | None = None) -> None:
        self.path, self.cut, self._options = Path(path), cut, dict(options or {})
        found = io.modality(self.path).name
        if found != cut.modality:
            raise UnsupportedError(f"{self.path}: is {found}, expected {cut.modality}")
        self.info: SignalInfo = io.probe(self.path, **self._options)
        self.left_out = 0

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of a signal; of an image none."""
        if self.cut.modality == "image":
            return ("",)
        names = self.info.extra.get("columns") if self.cut.modality == "sensor" else None
        count = self.info.shape[0]
        named = tuple(map(str, names)) if names is not None else ()
        return named if len(named) == count else tuple(str(channel) for channel in range(count))

    def __iter__(self) -> Iterator[Excerpt]:
        self.left_out = 0
        yield from self._of_image() if self.cut.modality == "image" else self._of_signal()

    def _of_image(self) -> Iterator[Excerpt]:
        cut = self.cut
        with io.reader(self.path, **self._options) as pages:
            for number, page in enumerate(pages):
                info = pages.info
                planes = _coloured(page[: page.shape[0] - info.keep], info.peak or 1.0, cut.channels)
                if cut.whole:
                    end = planes.shape[1:]
                    yield self._excerpt(_resized(planes, cut.size), number, 0, (0, 0), end)
                    continue
                (height, width), (tall, wide) = planes.shape[1:], cut.size
                for top in starts(height, tall, cut.step):
                    for left in starts(width, wide, cut.step):
                        tile = planes[:, top : top + tall, left : left + wide]
                        end = (top + tile.shape[1], left + tile.shape[2])
                        yield self._excerpt(_continued(tile, cut.size), number, 0, (top, left), end)

    def _of_signal(self) -> Iterator[Excerpt]:
        for number in range(self.info.pages):
            options = {**self._options, "page": number} if number else self._options
            with io.reader(self.path, **options) as blocks:
                own = blocks.info.sample_rate
                rate = self.cut.sample_rate or own
                ratio = own / rate if own and rate else 1.0  # samples of the file for one of the excerpts
                length = blocks.info.shape[1]
                resampled = blocks if ratio == 1.0 else _resampled(blocks, own or 1.0, rate or 1.0)
                for start, window in _windows(resampled, self.cut.size[0], self.cut.step):
                    begin = min(round(start * ratio), length)
                    end = min(round((start + self.cut.size[0]) * ratio), length)
                    for channel, values in enumerate(_continued(window, self.cut.size)):
                        if np.isnan(values).any():
                            self.left_out += 1
                        else:
                            yield self._excerpt(values[None], number, channel, (begin,), (end,), own)

    def _excerpt(
        self,
        values: Array,
        page: int,
        channel: int,
        start: tuple[int, ...],
        stop: tuple[int, ...],
        rate: float | None = None,
    ) -> Excerpt:
        offset, scale = 0.0, 1.0
        if self.cut.standardise:
            offset, deviation = float(values.mean()), float(values.std())
            scale = deviation if deviation > _FLAT * float(np.abs(values).max()) else 1.0
        start_s, stop_s = (start[0] / rate, stop[0] / rate) if rate else (None, None)
        standard = ((values - offset) / scale).astype(np.float32)
        return Excerpt(standard, page, channel, start, stop, start_s, stop_s, offset, scale)


def starts(length: int, size: int, step: int = 0) -> list[int]:
    """Where windows of `size` begin that cover `length`; the last one ends with it."""
    last = max(length - size, 0)
    found = list(range(0, last + 1, step or size))
    return found if found[-1] == last else [*found, last]


def _coloured(planes: Array, peak: float, channels: int) -> Floats:
    """Pixels in 0..1, with as many channels as the model takes."""
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


def _continued(values: Array, size: tuple[int, ...]) -> Array:
    """An excerpt that is too small, continued by its last values."""
    short = [(0, full - have) for full, have in zip(size, values.shape[1:], strict=True)]
    return np.pad(values, [(0, 0), *short], mode="edge") if any(more for _, more in short) else values


def _resampled(blocks: io.Reader, from_hz: float, to_hz: float) -> Iterator[Array]:
    import soxr

    stream = soxr.ResampleStream(from_hz, to_hz, blocks.info.shape[0], dtype="float32", quality="VHQ")
    for block in blocks:
        yield stream.resample_chunk(np.ascontiguousarray(block.T, np.float32)).T
    yield stream.resample_chunk(np.empty((0, blocks.info.shape[0]), np.float32), last=True).T


def _windows(blocks: Iterator[Array] | io.Reader, size: int, step: int) -> Iterator[tuple[int, Array]]:
    """First sample and samples `(C, size)` of each window, as `starts` would cut the whole signal."""
    held: Array | None = None
    origin = start = 0  # of what is held, of the next window
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
