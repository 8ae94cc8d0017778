"""Recordings of whole numbers with a scale: the common part of EDF, BDF and WFDB.

A file is a sequence of records; each holds the samples of one signal after another. A sample is a stored
number of 8 to 24 bits, and means `(stored - zero) / gain` in the unit of its signal. A writer copies the file
and replaces the stored numbers whose values changed: rounded, and clipped to the signal's range.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles
from denoise.errors import OutputError, UnreadableError
from denoise.io.sensor.base import (
    PIECE,
    LogOptions,
    SensorReader,
    SensorWriter,
    changed_samples,
    check_recording,
    fit_dtype,
    naming_damage,
    sensor_info,
    with_gaps,
)
from denoise.io.sensor.columns import choose, describe
from denoise.io.sensor.kinds import domain_of
from denoise.io.sensor.survey import ColumnSurvey
from denoise.signal import Clock, Domain, SensorInfo

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Code:
    """The binary code of whole numbers."""

    bits: int  # per sample
    low: int  # the smallest number
    high: int  # the largest number
    offset: int = 0  # added before storing, if numbers are stored without a sign

    def size_bytes(self, samples: int) -> int:
        """Count the bytes of N samples."""
        return -(-samples * self.bits // 8)

    def decode(self, data: bytes, samples: int) -> Integers:
        """Decode the first N samples; a pair of 12-bit samples takes three bytes."""
        octets = np.frombuffer(data, np.uint8)
        octets = np.pad(octets, (0, -octets.size % 3)).astype(np.int64)
        if self.bits == 12:
            low, middle, high = octets.reshape(-1, 3).T
            numbers = np.stack([low | (middle & 0x0F) << 8, high | (middle & 0xF0) << 4], axis=1).ravel()
        else:
            width = self.bits // 8
            columns = octets[: samples * width].reshape(-1, width)
            numbers = (columns << 8 * np.arange(width)).sum(axis=1)
        numbers = numbers[:samples] - self.offset
        return numbers if self.offset else numbers - ((numbers >> self.bits - 1) << self.bits)

    def encode(self, numbers: Integers) -> bytes:
        """Encode numbers, starting on a whole byte."""
        stored = (numbers + self.offset) & ((1 << self.bits) - 1)
        if self.bits == 12:
            first, second = np.pad(stored, (0, stored.size % 2)).reshape(-1, 2).T
            octets = np.stack([first & 0xFF, first >> 8 | second >> 8 << 4, second & 0xFF], axis=1)
        else:
            octets = stored[:, None] >> 8 * np.arange(self.bits // 8) & 0xFF
        return octets.astype(np.uint8).tobytes()[: self.size_bytes(numbers.size)]


CODES: Mapping[str, Code] = {
    "212": Code(12, -2048, 2047),
    "16": Code(16, -(1 << 15), (1 << 15) - 1),
    "24": Code(24, -(1 << 23), (1 << 23) - 1),
    "80": Code(8, -128, 127, offset=128),
    "8": Code(8, -128, 127),
}


@dataclass(frozen=True)
class Store:
    """One file of samples."""

    path: Path
    offset: int  # bytes before the first record
    code: Code  # how a sample is stored
    counts: tuple[int, ...]  # samples of each signal in a record
    records: int

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Place in a record of the first sample of each signal, and of the end."""
        return tuple(accumulate(self.counts, initial=0))

    @property
    def width(self) -> int:
        """Samples in a record."""
        return self.starts[-1]

    def check(self, size_bytes: int) -> None:
        """Refuse a file that is cut short."""
        needed = self.offset + self.code.size_bytes(self.records * self.width)
        if size_bytes < needed:
            raise UnreadableError(f"{self.path}: {size_bytes} bytes; expected {needed}: it is cut short")

    def open(self) -> IO[bytes]:
        """Open its samples for reading."""
        return self.path.open("rb")

    def unpack(self, place: Path) -> None:
        """Copy its samples, to be replaced there."""
        shutil.copyfile(self.path, place)

    def pack(self, place: Path) -> None:
        """Turn a copy into a file of its own form."""

    def get(self, file: IO[bytes], start: int, stop: int) -> Integers:
        """Read records `start` to `stop` as `(records, width)`."""
        first, last = self._span(start, stop)
        file.seek(self.offset + self.code.size_bytes(first))
        data = file.read(self.code.size_bytes(last - first))
        numbers = self.code.decode(data, last - first)
        return numbers[start * self.width - first :][: (stop - start) * self.width].reshape(-1, self.width)

    def put(self, file: IO[bytes], start: int, numbers: Integers) -> None:
        """Write records `(records, width)` from `start` on."""
        first, last = self._span(start, start + len(numbers))
        file.seek(self.offset + self.code.size_bytes(first))
        span = self.code.decode(file.read(self.code.size_bytes(last - first)), last - first)
        span[start * self.width - first :][: numbers.size] = numbers.ravel()
        file.seek(self.offset + self.code.size_bytes(first))
        file.write(self.code.encode(span))

    def _span(self, start: int, stop: int) -> tuple[int, int]:
        """Extend records to samples on whole bytes: 12-bit samples come in pairs."""
        first, last = start * self.width, stop * self.width
        if self.code.bits % 8:
            first, last = first - first % 2, min(last + last % 2, self.records * self.width)
        return first, last


@dataclass(frozen=True)
class FlacStore(Store):
    """One file of samples that is packed as FLAC, a channel for each signal; it is unpacked in memory."""

    def check(self, size_bytes: int) -> None:
        """Refuse a file that is cut short."""
        with self._sound() as sound:
            if sound.frames < self.records or sound.channels != self.width:
                raise UnreadableError(
                    f"{self.path}: {sound.frames} samples of {sound.channels} signals in {size_bytes} bytes; "
                    f"expected {self.records} of {self.width}"
                )

    def open(self) -> IO[bytes]:
        """Open its samples for reading."""
        return io.BytesIO(self._unpacked())

    def unpack(self, place: Path) -> None:
        """Write its samples without packing, to be replaced there."""
        place.write_bytes(self._unpacked())

    def pack(self, place: Path) -> None:
        """Pack a copy as FLAC, at the rate and depth of the source."""
        import soundfile

        numbers = self.code.decode(place.read_bytes(), self.records * self.width)
        samples = (numbers << (32 - self.code.bits)).astype(np.int32).reshape(-1, self.width)
        with self._sound() as sound:
            rate, subtype = sound.samplerate, sound.subtype
        soundfile.write(place, samples, rate, subtype, format="FLAC")

    def _unpacked(self) -> bytes:
        with naming_damage(str(self.path), "samples packed as FLAC"), self._sound() as sound:
            samples = sound.read(self.records, dtype="int32", always_2d=True)
        return self.code.encode(samples.ravel().astype(np.int64) >> (32 - self.code.bits))

    def _sound(self) -> Any:
        import soundfile

        with naming_damage(str(self.path), "samples packed as FLAC"):
            return soundfile.SoundFile(self.path)


@dataclass(frozen=True)
class Signal:
    """One signal of a recording."""

    name: str  # its name in the file
    store: int  # index of its file
    place: int  # its place among the signals of that file
    gain: float  # stored units per unit of the signal
    zero: float  # the stored number that means 0
    low: int  # the smallest stored number that may be written
    high: int  # the largest one
    missing: int | None = None  # the stored number that means a gap
    sample_rate: float | None = None  # Hz
    reject_reason: str = ""  # its kind, if it is no signal

    def columns(self, store: Store) -> slice:
        """Slice of its samples in a record."""
        return slice(*store.starts[self.place : self.place + 2])

    def physical(self, stored: Integers) -> Doubles:
        """Convert stored numbers to the signal's own unit, gaps to NaN."""
        values = np.asarray((stored - self.zero) / self.gain, np.float64)
        if self.missing is not None:
            values[stored == self.missing] = np.nan
        return values

    def stored(self, values: Doubles, path: Path) -> tuple[Integers, int]:
        """Convert values to stored numbers, and count the clipped ones."""
        gaps = np.isnan(values)
        if gaps.any() and self.missing is None:
            raise OutputError(f"{path}: {self.name!r} has no code for a gap; expected numbers")
        numbers = np.where(gaps, self.low, values * self.gain + self.zero)
        out, clipped = fit_dtype(numbers, np.dtype(np.int64), path, (self.low, self.high))
        out[gaps] = self.missing or 0
        return out, clipped


@dataclass(frozen=True)
class _Recording:
    """Signals of one length, which are cleaned together."""

    signals: tuple[Signal, ...]
    domains: tuple[Domain, ...]  # of each
    samples: int
    count: int  # samples a record


@dataclass(frozen=True)
class Layout:
    """The samples of a recording of whole numbers."""

    stores: tuple[Store, ...]  # the files of samples
    recordings: tuple[_Recording, ...]  # its signals, grouped by length
    onsets_s: Doubles | None  # when each record begins, if there are pauses between records
    header: Any  # the header, for the format's own writer


class ScaledReader(SensorReader):
    """Reads the chosen signals of one recording."""

    def __init__(self, info: SensorInfo, block: int, recording: _Recording) -> None:
        super().__init__(info, block)
        self._recording = recording

    def pieces(self) -> Iterator[Doubles]:
        """Read some records at a time."""
        return map(np.stack, _pieces(self.info.own.stores, self._recording.signals))

    def stamp_pieces(self, clock: Clock) -> Iterator[Doubles]:
        """Interpolate between the onsets of records."""
        inside = np.arange(self._recording.count) / clock.sample_rate
        for onset_s in self.info.own.onsets_s:
            yield (onset_s + inside)[None]


def _pieces(stores: Sequence[Store], signals: Sequence[Signal]) -> Iterator[list[Doubles]]:
    """Read some records at a time, and yield the samples of each signal in them."""
    used = sorted({signal.store for signal in signals})
    step = max(1, PIECE // sum(stores[index].width for index in used))
    records = stores[used[0]].records
    with ExitStack() as stack:
        files = {index: stack.enter_context(stores[index].open()) for index in used}
        for start in range(0, records, step):
            held = {i: stores[i].get(file, start, min(start + step, records)) for i, file in files.items()}
            yield [s.physical(held[s.store][:, s.columns(stores[s.store])].ravel()) for s in signals]


def scaled_reader(
    path: Path,
    stores: Sequence[Store],
    signals: Sequence[Signal],
    options: LogOptions,
    recording: int,
    block: int,
    onsets_s: Doubles | None = None,
    header: Any = None,
) -> ScaledReader:
    """Open the chosen signals of a file whose header has been read; a recording has signals of one length."""
    surveys = []
    for signal in signals:
        survey = ColumnSurvey(signal.name, step=1.0 / abs(signal.gain or 1.0))
        surveys.append(survey)
        survey.numeric, survey.reject_reason = not signal.reject_reason, signal.reject_reason
    numeric = [(signal, survey) for signal, survey in zip(signals, surveys, strict=True) if survey.numeric]
    for pieces in _pieces(stores, [signal for signal, _ in numeric]) if numeric else ():
        for (_, survey), piece in zip(numeric, pieces, strict=True):
            survey.add(piece)
    chosen = choose(path, surveys, None, options)
    groups: dict[int, list[int]] = {}
    for index in chosen:
        groups.setdefault(stores[signals[index].store].counts[signals[index].place], []).append(index)
    recordings = tuple(
        _Recording(
            tuple(signals[index] for index in group),
            tuple(domain_of(surveys[index]) for index in group),
            count * stores[signals[group[0]].store].records,
            count,
        )
        for count, group in groups.items()
    )
    check_recording(path, recording, len(recordings))
    here = recordings[recording]
    rate = here.signals[0].sample_rate
    notes = describe(surveys, chosen, None, options.sample_rate)
    clock = None
    if onsets_s is not None and rate:
        steps = np.diff(onsets_s) - here.count / rate
        pauses = int((steps > 0.5 / rate).sum())
        clock = Clock(-1, "onsets of records", "s", False, rate, 0.0, pauses, 1.5 / rate)
        notes = (*notes, f"{pauses} pause{'s' * (pauses != 1)} between records")
    info = sensor_info(
        path,
        (len(here.signals), here.samples),
        sample_rate=options.sample_rate or rate,
        pages=len(recordings),
        notes=notes,
        names=tuple(signal.name for signal in signals),
        columns=tuple(signal.name for signal in here.signals),
        clock=clock,
        domains=here.domains,
        own=Layout(tuple(stores), recordings, onsets_s, header),
    )
    return ScaledReader(info, block, here)


class ScaledWriter(SensorWriter):
    """Writes copies of the stores with the samples of the chosen signals replaced."""

    def __init__(self, path: Path, info: SensorInfo) -> None:
        self._recordings: tuple[_Recording, ...] = info.own.recordings
        self.stores: tuple[Store, ...] = info.own.stores
        shapes = [(len(each.signals), each.samples) for each in self._recordings]
        super().__init__(path, info, shapes, [each.domains for each in self._recordings])
        self._files: list[IO[bytes]] = []
        self._copies: list[Path] = []
        self.changed: set[int] = set()  # stores

    def places(self, temporary: Path, _stack: ExitStack) -> list[Path]:
        """Give the temporary file of each store."""
        return [temporary]

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Copy the stores."""
        for store, place in zip(self.stores, self.places(temporary, stack), strict=True):
            store.unpack(place)
            self._copies.append(place)
            self._files.append(stack.enter_context(place.open("r+b")))

    def put(self, block: Doubles, recording: int, start: int) -> None:
        """Replace the samples that differ."""
        here = self._recordings[recording]
        first, last = start // here.count, -(-(start + block.shape[1]) // here.count)
        for index in sorted({signal.store for signal in here.signals}):
            store = self.stores[index]
            held = store.get(self._files[index], first, last)
            changed = False
            at = start - first * here.count
            for signal, domain, values in zip(here.signals, here.domains, block, strict=True):
                if signal.store == index:
                    changed |= self._replace(held[:, signal.columns(store)], at, signal, domain, values)
            if changed:
                store.put(self._files[index], first, held)
                self.changed.add(index)

    def _replace(self, held: Integers, at: int, signal: Signal, domain: Domain, values: Doubles) -> bool:
        """Put values into `(records, count)`, from sample `at` on; return True if any differed."""
        flat = held.ravel()
        cut = slice(at, at + values.size)
        changed = changed_samples(with_gaps(signal.physical(flat[cut]), domain), values)
        if not changed.any():
            return False
        numbers, clipped = signal.stored(values[changed], self.path)
        self.clipped += clipped
        flat[cut][changed] = numbers
        held[:] = flat.reshape(held.shape)
        return True

    def finish(self) -> None:
        """Flush the copies."""
        for file in self._files:
            file.flush()

    def pack(self) -> None:
        """Give the copies the form of their stores, after the last look at them."""
        for store, copy in zip(self.stores, self._copies, strict=True):
            store.pack(copy)

    def written_records(self, index: int) -> Iterator[Integers]:
        """Yield the records of a store as written, in pieces."""
        store = self.stores[index]
        step = max(1, PIECE // store.width)
        for start in range(0, store.records, step):
            yield store.get(self._files[index], start, min(start + step, store.records))
