"""The base of the readers and writers of sensor logs, and of their formats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from denoise.arrays import Array, Doubles, Mask
from denoise.errors import DenoiseError, OutputError, UnreadableError, UsageError, reason
from denoise.io.atomic import replacing
from denoise.registry import unknown
from denoise.signal import DECIMALS, DELIMITERS, SECONDS, Clock, Domain, SensorInfo

BLOCK = 65536  # samples a block
PIECE = 1 << 18  # samples of all channels together that are read at once


@dataclass(frozen=True)
class LogOptions:
    """Options for reading a log.

    Raises:
        UsageError: The rate is not a positive number, or the unit is unknown.
    """

    # names or globs of columns to clean; None takes every numeric column but times, row counters and flags
    columns: Iterable[str] | None = None
    exclude: Iterable[str] = ()  # names or globs of columns to leave as they are
    sample_rate: float | None = None  # Hz; overrides the rate in the file
    # unit of the time column, a key of `SECONDS`; overrides its name, not its type
    time_unit: str | None = None
    delimiter: str | None = None  # of delimited text: a key of `DELIMITERS`; None detects it
    decimal: str | None = None  # its decimal mark: a key of `DECIMALS`; None detects it

    only_measurements: bool = False  # refuse a log whose columns are all of kinds that must not change
    judged: bool = False  # take constants, flags and held values, too: they are judged, not changed
    keep_resolution: bool = False  # write text with as many decimals as its column has

    def __post_init__(self) -> None:
        rate = self.sample_rate
        if rate is not None and not (np.isfinite(rate) and rate > 0):
            raise UsageError(f"the sample rate is {rate}; expected Hz above 0")
        if self.time_unit is not None and self.time_unit not in SECONDS:
            raise unknown("time unit", self.time_unit, SECONDS)
        if self.delimiter is not None and self.delimiter not in DELIMITERS:
            raise unknown("delimiter", self.delimiter, DELIMITERS)
        if self.decimal is not None and self.decimal not in DECIMALS:
            raise unknown("decimal mark", self.decimal, DECIMALS)


def check_recording(path: Path, recording: int, recordings: int) -> None:
    """Refuse the number of a recording that the file does not hold."""
    if not 0 <= recording < recordings:
        raise UsageError(f"{path}: has no recording {recording}; expected 0 to {recordings - 1}")


def sensor_info(source: Path, shape: tuple[int, int], **fields: Any) -> SensorInfo:
    """Describe a log whose blocks are float64 of this shape."""
    return SensorInfo(source, "sensor", shape, "float64", None, **fields)


@contextmanager
def naming_damage(name: str, expected: str) -> Iterator[None]:
    """Turn any failure to decode bytes into an `UnreadableError`.

    On damaged files numpy and zipfile let through the errors of tokenize, ast, zlib and struct.
    """
    try:
        yield
    except DenoiseError:
        raise
    except Exception as error:
        raise UnreadableError(f"{name}: {reason(error)}; expected {expected}") from error


def reblock(pieces: Iterable[Doubles], block: int) -> Iterator[Doubles]:
    """Cut pieces `(C, k)` into blocks `(C, block)`; the last may be shorter."""
    if block < 1:
        raise UsageError(f"the block is {block} samples; expected at least 1")
    held: list[Doubles] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += piece.shape[1]
        if size < block:
            continue
        joined = np.concatenate(held, axis=1) if len(held) > 1 else held[0]
        whole = size - size % block
        for start in range(0, whole, block):
            yield joined[:, start : start + block].copy()
        held, size = [joined[:, whole:]], size - whole
    if size:
        yield np.concatenate(held, axis=1)


def changed_samples(old: Doubles, new: Doubles, tolerance: Doubles | float = 0.0) -> Mask:
    """Mask of samples where `new` differs from `old` by more than `tolerance`; two gaps are equal."""
    with np.errstate(over="ignore", invalid="ignore"):
        same = np.abs(new - old) <= tolerance
    return np.asarray(~(same | (np.isnan(old) & np.isnan(new))))


def fit_dtype(
    values: Doubles, dtype: np.dtype[Any], path: Path, limits: tuple[float, float] | None = None
) -> tuple[Array, int]:
    """Convert values to a file's own dtype, and count those that were clipped to its range.

    Args:
        limits: The smallest and the largest value, where the file packs integers narrower than the dtype.

    Raises:
        OutputError: A gap among integers, which have no value for it.
    """
    if (dtype.kind != "f" or limits) and np.isnan(values).any():
        form = "an integer" if limits else dtype.name
        raise OutputError(f"{path}: a gap cannot be written as {form}; expected a number for each sample")
    if dtype.kind != "f":
        values = np.rint(values)
    info = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    low, limit = limits or (float(info.min), float(info.max))
    outside = (values > limit) | (values < low)
    clipped = int(outside.sum())
    if dtype.kind == "f":
        return np.clip(values, low, limit).astype(dtype), clipped
    out = np.clip(values, low, np.nextafter(limit, 0) if limit > 2**53 else limit).astype(dtype)
    if clipped and not limits:  # floats cannot hold the largest 64-bit integers
        out[values > limit] = np.iinfo(dtype).max
        out[values < low] = np.iinfo(dtype).min
    return out, clipped


def with_gaps(values: Doubles, domain: Domain = Domain()) -> Doubles:  # noqa: B008
    """Replace infinities, the codes of missing values and invalid ones by NaN; they stay in the file."""
    missing = np.isinf(values)
    if domain.codes:
        missing |= np.isin(values, domain.codes)
    if domain.valid != Domain.valid:
        missing |= (values < domain.valid[0]) | (values > domain.valid[1])
    return np.where(missing, np.nan, values) if missing.any() else values


def channels_with_gaps(block: Doubles, domains: Sequence[Domain]) -> Doubles:
    """Replace what is missing in each channel of a block `(C, n)` by NaN."""
    if not any(domain.codes or domain.valid != Domain.valid for domain in domains):
        return with_gaps(block)
    return np.stack([with_gaps(row, domain) for row, domain in zip(block, domains, strict=True)])


def admitted(pieces: Iterable[Doubles], domains: Sequence[Domain]) -> Iterator[Doubles]:
    """Prepare pieces `(C, k)` for a filter: infinities and codes are gaps, angles go on past the circle."""
    last = np.full(len(domains), np.nan)  # the last angle of each channel, as it came and as it went on
    turns = np.zeros(len(domains))
    for piece in pieces:
        out = channels_with_gaps(piece, domains)
        if out is piece and any(domain.period for domain in domains):
            out = piece.copy()
        for row, domain in enumerate(domains):
            known = np.flatnonzero(np.isfinite(out[row]))
            if domain.period and known.size:
                steps = np.diff(out[row, known], prepend=last[row])
                last[row] = out[row, known[-1]]
                jumps = np.nan_to_num(np.rint(steps / domain.period))
                out[row, known] += domain.period * (turns[row] - np.cumsum(jumps))
                turns[row] -= jumps.sum()
        yield out


def confined(block: Doubles, domains: Sequence[Domain]) -> Doubles:
    """Bring a cleaned block `(C, n)` back into the domains of its channels."""
    if not domains:
        return block
    low, high = (np.array([[getattr(domain, name)] for domain in domains]) for name in ("low", "high"))
    period = np.array([[domain.period] for domain in domains])
    circle = np.where(period > 0, period, 1.0)
    with np.errstate(invalid="ignore"):
        turned = block - circle * np.floor((block - np.where(period > 0, low, 0.0)) / circle)
    return np.where(period > 0, turned, np.clip(block, low, high))


@dataclass(frozen=True)
class SensorFormat:
    """One format of sensor logs."""

    # opens a log: path, what the caller wants, number of the recording, samples a block
    reader: Callable[[Path, LogOptions, int, int], SensorReader]
    # opens a copy of the source of an info for its new samples
    writer: Callable[[Path, SensorInfo], SensorWriter]


class SensorReader:
    """Yields float64 blocks `(C, block)`; each `iter` starts again at the first sample."""

    info: SensorInfo

    def __init__(self, info: SensorInfo, block: int = BLOCK) -> None:
        self.info = info
        self._block = block

    def pieces(self) -> Iterator[Doubles]:
        """Yield the samples in pieces `(C, k)` of any size."""
        raise NotImplementedError

    def stamps(self) -> Iterator[Doubles]:
        """Yield the times of the samples of each block, in seconds; NaN for a missing stamp.

        The log must have an `info.clock`.
        """
        clock = self.info.clock
        assert clock is not None
        for block in reblock(self.stamp_pieces(clock), self._block):
            yield block[0] * SECONDS[clock.unit]

    def stamp_pieces(self, clock: Clock) -> Iterator[Doubles]:
        """Yield the stamps in the column's own unit, in pieces `(1, k)`."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Doubles]:
        return reblock(admitted(self.pieces(), self.info.domains), self._block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        pass  # files are open only during iteration


class SensorWriter:
    """Takes float64 blocks `(C, n)` and writes the source again with the chosen samples replaced.

    The source is read again in step, so only changed samples can differ.

    Args:
        path: The final name.
        info: From the reader of the source.
        shapes: Channels and samples of each recording of the file, in order.
        domains: The domains of the channels of each recording; None takes those of `info` for the only one.
    """

    def __init__(
        self,
        path: Path,
        info: SensorInfo,
        shapes: Sequence[tuple[int, int]],
        domains: Sequence[Sequence[Domain]] | None = None,
    ) -> None:
        self.clipped = 0
        self.notes: tuple[str, ...] = ()  # what the file could not take, once it is written
        self.path = path
        self.info = info
        self._shapes = shapes
        self._domains = domains or [info.domains]
        self._recording = self._start = 0  # that the next block belongs to, and its first sample there
        self._stack = ExitStack()

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Prepare to write `temporary`; push what must be closed onto the stack."""
        raise NotImplementedError

    def put(self, block: Doubles, recording: int, start: int) -> None:
        """Write the next samples: those of a recording from `start` on."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write everything behind the last sample."""

    def write(self, block: Array) -> None:
        """Take the next block `(C, n)`.

        Raises:
            OutputError: It has another number of channels, passes the end, or holds an infinity.
        """
        values = np.asarray(block, dtype=np.float64)
        given = f"{self.path}: a block of shape {values.shape} was given"
        if values.ndim != 2:
            raise OutputError(f"{given}; expected (channels, samples)")
        if self._recording == len(self._shapes):
            if values.shape[1]:
                raise OutputError(f"{given}, past the end of {self.info.source}; expected no more samples")
            return
        channels, samples = self._shapes[self._recording]
        if values.shape[0] != channels:
            raise OutputError(f"{given}; expected {channels} channels")
        if self._start + values.shape[1] > samples:
            raise OutputError(f"{given}; expected at most {samples - self._start} samples more")
        if np.isinf(values).any():
            raise OutputError(f"{given} that holds an infinity; expected finite numbers or gaps")
        self.put(confined(values, self._domains[self._recording]), self._recording, self._start)
        self._start += values.shape[1]
        if self._start == samples:
            self._recording, self._start = self._recording + 1, 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.open(stack.enter_context(replacing(self.path, self.info.source)), stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *failure: Any) -> None:
        if failure[1] is not None:
            self._stack.__exit__(*failure)
            return
        with self._stack:
            if self._recording < len(self._shapes):
                taken = sum(samples for _, samples in self._shapes[: self._recording]) + self._start
                samples = sum(samples for _, samples in self._shapes)
                raise OutputError(f"{self.path}: {taken} samples were given; expected {samples}")
            self.finish()
            if self.clipped:
                many = "s" * (self.clipped > 1)
                self.notes += (f"clipped {self.clipped} sample{many} to the range of the file's numbers",)
