"""Numpy files: NPY in blocks of a file of any size, NPZ one array at a time in memory.

Nothing is unpickled, no size is taken from a header before the file is known to be that long, and whatever is
not changed keeps its bytes: a writer starts from a copy of the source and replaces samples in place.

Time is axis 0, unless the array is 2-D with `shape[0] <= 64` and `shape[0] * 8 < shape[1]`: few channels of
many samples, stored channel by channel.
"""

from __future__ import annotations

import io
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from denoise.errors import (
    DenoiseError,
    InputError,
    OutputError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
    reason,
)
from denoise.io.claims import fits
from denoise.io.sensor_columns import (
    BLOCK,
    Clock,
    ColumnSurvey,
    SensorReader,
    SensorWriter,
    changed_samples,
    check_page,
    checked_rate,
    choose,
    describe,
    find_clock,
    fit_dtype,
)
from denoise.signal import SignalInfo

__all__ = ["NPY", "NPZ", "ArrayLayout"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

PIECE = 1 << 18  # samples of all channels together that are surveyed at a time
MAX_CHANNELS_FIRST = 64
HEAD_BYTES = 1 << 16  # more than the header of an array of numbers takes
RATE_NAMES = re.compile(
    r"fs|sr|sfreq|f_s|rate|sample_?rate|sampling_?(?:rate|frequency)|frequency|samplerate_hz|fs_hz"
)


@dataclass(frozen=True)
class ArrayLayout:
    """Where the samples of one array stand in its `.npy` bytes.

    Args:
        dtype: Of the file, byte order included.
        offset: Bytes before the first sample.
        shape: As numpy would give it.
        samples: Along time.
        channels: Along the other axis; 1 for a 1-D array.
        time_first: Time is axis 0.
        interleaved: All channels of one instant stand together; otherwise channel follows channel.
    """

    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]
    samples: int
    channels: int
    time_first: bool
    interleaved: bool

    @property
    def note(self) -> str:
        """How the axes were understood; empty for 1-D arrays."""
        if len(self.shape) == 1:
            return ""
        axes = "time is axis 0, channels axis 1" if self.time_first else "channels are axis 0, time is axis 1"
        return f"array of shape {self.shape}: {axes}"

    def get(self, file: IO[bytes], start: int, stop: int) -> Array:
        """Samples `start` to `stop` as `(C, n)` in the file's dtype."""
        count = stop - start
        parts = []
        for position, number in self._segments(start, count):
            file.seek(position)
            parts.append(np.frombuffer(file.read(number * self.dtype.itemsize), self.dtype))
        if self.interleaved:
            return parts[0].reshape(count, self.channels).T
        return np.stack(parts)

    def put(self, file: IO[bytes], start: int, values: Array) -> None:
        """Write `(C, n)` in the file's dtype over the samples from `start` on."""
        flat = [values.T] if self.interleaved else list(values)
        for (position, _), part in zip(self._segments(start, values.shape[1]), flat, strict=True):
            file.seek(position)
            file.write(np.ascontiguousarray(part, dtype=self.dtype).tobytes())

    def _segments(self, start: int, count: int) -> list[tuple[int, int]]:
        """Byte position and number of items of each contiguous run."""
        size = self.dtype.itemsize
        if self.interleaved:
            return [(self.offset + start * self.channels * size, count * self.channels)]
        return [
            (self.offset + (channel * self.samples + start) * size, count) for channel in range(self.channels)
        ]

    def pieces(self, file: IO[bytes]) -> Iterator[Floats]:
        """All samples as float64 `(C, n)`, a piece at a time."""
        step = max(PIECE // self.channels, 1)
        for start in range(0, self.samples, step):
            yield _floats(self.get(file, start, min(start + step, self.samples)))

    def replace(self, file: IO[bytes], start: int, block: Floats, path: Path) -> tuple[int, bool]:
        """Put those samples that differ; gives how many were clipped, and whether any differed."""
        old = self.get(file, start, start + block.shape[1])
        changed = changed_samples(_floats(old), block)
        if not changed.any():
            return 0, False
        new = old.copy()  # in its own dtype: 64-bit integers that did not change are not rounded to float64
        new[changed], clipped = fit_dtype(block[changed], self.dtype, path)
        self.put(file, start, new)
        return clipped, True


def _floats(values: Array) -> Floats:
    with np.errstate(invalid="ignore"):  # a damaged float32 may be a signalling NaN
        return values.astype(np.float64)


@contextmanager
def _damage_named(name: str, expected: str) -> Iterator[None]:
    """Make any failure to decode bytes an `UnreadableError`.

    On damaged files numpy and zipfile let through what their parts raise: tokenize, ast, zlib, struct.
    """
    try:
        yield
    except DenoiseError:
        raise
    except Exception as error:
        raise UnreadableError(f"{name}: {reason(error)}; expected {expected}") from error


def _layout(file: IO[bytes], size: int, name: str) -> ArrayLayout:
    """Read the header of `.npy` bytes.

    Args:
        file: At the start of the bytes.
        size: How many bytes there are in all.
        name: For messages.
    """
    with _damage_named(name, "a numpy array"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2
        # The reader of version (2, 0) takes (3, 0) as well; unlike numpy.load it never looks at the data.
        head = io.BytesIO(file.read(HEAD_BYTES))  # it may claim to be 4 GB long
        old = np.lib.format.read_magic(head) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(head)
    if dtype.hasobject:
        raise UnsupportedError(
            f"{name}: the array holds pickled Python objects, which are never loaded; expected numbers"
        )
    if dtype.kind not in "iuf" or len(shape) not in (1, 2):
        axes = "x".join(map(str, shape)) or "no axis"
        raise UnsupportedError(
            f"{name}: an array of {dtype} with shape {axes}; expected real numbers in 1-D or 2-D"
        )
    if 0 in shape:
        raise UnsupportedError(f"{name}: the array of shape {shape} is empty; expected samples")
    offset = head.tell()
    needed = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size < needed:
        raise UnreadableError(
            f"{name}: {size} bytes; expected {needed} for shape {shape} of {dtype}: it is cut short"
        )
    flat = len(shape) == 1
    time_first = flat or not (shape[0] <= MAX_CHANNELS_FIRST and shape[0] * 8 < shape[1])
    channels = 1 if flat else shape[1] if time_first else shape[0]
    samples = shape[0] if time_first else shape[1]
    return ArrayLayout(dtype, offset, shape, samples, channels, time_first, time_first != fortran or flat)


def _find_infinity(layout: ArrayLayout, file: IO[bytes], name: str) -> None:
    if layout.dtype.kind != "f":
        return
    start = 0
    for piece in layout.pieces(file):
        if np.isinf(piece).any():
            channel, sample = (int(index[0]) for index in np.nonzero(np.isinf(piece)))
            raise InputError(
                f"{name}: sample {start + sample} of channel {channel} is an infinity; "
                "expected finite numbers or NaN"
            )
        start += piece.shape[1]


class NpyReader(SensorReader):
    """Reads an `.npy` file in blocks."""

    def pieces(self) -> Iterator[Floats]:
        """Pieces of about two megabytes."""
        with self.info.source.open("rb") as file:
            yield from self.info.extra["layout"].pieces(file)


class NpyWriter(SensorWriter):
    """Writes a copy of an `.npy` file with its samples replaced."""

    def __init__(self, path: Path, info: SignalInfo) -> None:
        self._layout: ArrayLayout = info.extra["layout"]
        super().__init__(path, info, self._layout.samples)
        self._start = 0

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Copy the source."""
        shutil.copyfile(self.info.source, temporary)
        self._file = stack.enter_context(temporary.open("r+b"))

    def put(self, block: Floats) -> None:
        """Replace the next samples where they differ."""
        self.check_channels(block, self._layout.channels)
        clipped, _ = self._layout.replace(self._file, self._start, block, self.path)
        self.clipped += clipped
        self._start += block.shape[1]


def _npy_reader(
    path: Path,
    *,
    columns: Iterable[str] | None = None,
    sample_rate: float | None = None,
    page: int = 0,
    block: int = BLOCK,
) -> NpyReader:
    check_page(path, page, 1)
    with path.open("rb") as file:
        layout = _layout(file, path.stat().st_size, str(path))
        _find_infinity(layout, file, str(path))
    if columns is not None:
        raise UnsupportedError(
            f"{path}: columns were chosen by name, but an .npy array has none; expected a table"
        )
    given = checked_rate(sample_rate)
    info = SignalInfo(
        source=path,
        modality="sensor",
        shape=(layout.channels, layout.samples),
        dtype="float64",
        peak=None,
        sample_rate=given,
        notes=tuple(filter(None, [layout.note])) + describe((), (), None, given),
        extra={"layout": layout},
    )
    return NpyReader(info, block)


def _npy_writer(path: Path, info: SignalInfo) -> NpyWriter:
    return NpyWriter(path, info)


@dataclass(frozen=True)
class _Page:
    """Arrays that are cleaned together: their channels stand one after the other in a block."""

    members: tuple[str, ...]
    samples: int
    channels: int


# The entry in the archive; where its samples are, or None if it is no signal, and then why not.
_Member = tuple[zipfile.ZipInfo, ArrayLayout | None, str]


def _members(path: Path) -> dict[str, _Member]:
    """The arrays of an NPZ in its order, from their headers alone."""
    found: dict[str, _Member] = {}
    with _damage_named(str(path), "a sound NPZ archive"), zipfile.ZipFile(path) as archive:
        claimed, held = sum(entry.file_size for entry in archive.infolist()), path.stat().st_size
        if not fits(claimed, held):
            raise TooLargeError(
                f"{path}: claims {claimed} bytes of arrays in {held} bytes, which cannot hold so much; "
                "expected measurements"
            )
        for entry in archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if entry.flag_bits & 1:
                raise UnsupportedError(f"{path}: {name!r} is encrypted; expected a plain NPZ")
            if name == entry.filename:
                found[name] = entry, None, "not an array"
                continue
            label = f"{path}: {name}"
            try:
                with archive.open(entry) as file:
                    layout = _layout(file, entry.file_size, label)
            except UnsupportedError as error:
                found[name] = entry, None, str(error).removeprefix(f"{label}: ").partition(";")[0]
                continue
            found[name] = (entry, layout, "") if layout.samples > 1 else (entry, None, "a single value")
    if not found:
        raise UnreadableError(f"{path}: the archive holds no arrays; expected sensor data")
    return found


def _load(path: Path, entry: zipfile.ZipInfo) -> io.BytesIO:
    with _damage_named(f"{path}: {entry.filename}", "a sound NPZ archive"), zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read(entry))


def _stated_rate(path: Path, members: dict[str, _Member]) -> tuple[str, float]:
    """A single number called `fs` or the like; name and Hz, or 0."""
    for name, (entry, _, _) in members.items():
        if RATE_NAMES.fullmatch(name.lower()) and entry.file_size < 1024:
            try:
                value = np.load(_load(path, entry), allow_pickle=False)
            except ValueError:
                continue
            if (
                value.size == 1
                and value.dtype.kind in "iuf"
                and np.isfinite(value).all()
                and value.item() > 0
            ):
                return name, float(value.item())
    return "", 0.0


class NpzReader(SensorReader):
    """Reads the chosen arrays of one page."""

    def __init__(self, info: SignalInfo, block: int, page: _Page) -> None:
        super().__init__(info, block)
        self._page = page

    def pieces(self) -> Iterator[Floats]:
        """The channels of all arrays of the page side by side."""
        signals = self.info.extra["signals"]
        loaded = [
            (signals[name][1], _load(self.info.source, signals[name][0])) for name in self._page.members
        ]
        step = max(PIECE // self._page.channels, 1)
        for start in range(0, self._page.samples, step):
            stop = min(start + step, self._page.samples)
            yield np.concatenate([_floats(layout.get(file, start, stop)) for layout, file in loaded])


class NpzWriter(SensorWriter):
    """Writes the archive again with the chosen arrays replaced, the others as they are."""

    def __init__(self, path: Path, info: SignalInfo) -> None:
        self._pages: tuple[_Page, ...] = info.extra["pages"]
        self._signals: dict[str, tuple[zipfile.ZipInfo, ArrayLayout]] = info.extra["signals"]
        super().__init__(path, info, sum(page.samples for page in self._pages))
        self._number = 0  # of the page that is being written
        self._start = 0  # samples of it that are
        self._loaded: dict[str, io.BytesIO] = {}

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Start a copy of the source as it is; the arrays that change are put in at the end."""
        self._temporary = temporary
        shutil.copyfile(self.info.source, temporary)
        stack.callback(self._loaded.clear)

    def put(self, block: Floats) -> None:
        """Replace the next samples of the page; a page ends with its last sample."""
        page = self._pages[self._number]
        self.check_channels(block, page.channels)
        if self._start + block.shape[1] > page.samples:
            raise OutputError(
                f"{self.path}: a block goes past sample {page.samples}, the end of page {self._number}"
            )
        channel = 0
        for name in page.members:
            entry, layout = self._signals[name]
            part = block[channel : channel + layout.channels]
            channel += layout.channels
            file = self._loaded.get(name) or _load(self.info.source, entry)
            clipped, changed = layout.replace(file, self._start, part, self.path)
            self.clipped += clipped
            if changed or name in self._loaded or block.shape[1] < page.samples:
                self._loaded[name] = file
        self._start += block.shape[1]
        if self._start == page.samples:
            self._number, self._start = self._number + 1, 0

    def finish(self) -> None:
        """Write the archive anew if anything changed."""
        source = self.info.source
        changed = {
            name: file.getvalue()
            for name, file in self._loaded.items()
            if file.getvalue() != _load(source, self._signals[name][0]).getvalue()
        }
        if not changed:
            return
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(self._temporary, "w") as new:
            new.comment = old.comment
            for entry in old.infolist():
                name = entry.filename.removesuffix(".npy")
                data = changed.get(name) or _load(source, entry).getvalue()
                new.writestr(copy(entry), data, compress_type=entry.compress_type)


def _npz_reader(
    path: Path,
    *,
    columns: Iterable[str] | None = None,
    sample_rate: float | None = None,
    page: int = 0,
    block: int = BLOCK,
) -> NpzReader:
    members = _members(path)
    given = checked_rate(sample_rate)
    looks = []
    for name, (entry, layout, why_not) in members.items():
        look = ColumnSurvey(name)
        looks.append(look)
        if layout is None:
            look.numeric, look.why_not = False, why_not
            continue
        file = _load(path, entry)
        for piece in layout.pieces(file):
            if layout.channels == 1:
                look.add(piece[0])
            else:  # a table of channels is no time column and no flag, whatever it holds
                look.values += int(np.isfinite(piece).sum())
                look.integers = look.increasing = False
            if np.isinf(piece).any() and not look.infinite:
                look.infinite = f"array {name!r}"
    clock = find_clock(looks)
    chosen = choose(path, looks, clock, columns)
    names = [looks[index].name for index in chosen]
    signals = {
        name: (entry, layout) for name, (entry, layout, _) in members.items() if layout and name in names
    }
    pages = _pages(signals)
    check_page(path, page, len(pages))
    stated_name, stated = _stated_rate(path, members)
    rate = given or stated or _clock_rate(clock, members, pages[page])
    notes = [f"{name}: {signals[name][1].note}" for name in names if signals[name][1].note]
    notes += [f"sample rate {stated:g} Hz from {stated_name!r}"] if stated and not given else []
    notes += describe(looks, chosen, clock, given)
    info = SignalInfo(
        source=path,
        modality="sensor",
        shape=(pages[page].channels, pages[page].samples),
        dtype="float64",
        peak=None,
        sample_rate=rate,
        pages=len(pages),
        notes=tuple(notes),
        extra={
            "names": tuple(members),
            "columns": pages[page].members,
            "time_column": clock.name if clock else None,
            "pages": pages,
            "signals": signals,
        },
    )
    return NpzReader(info, block, pages[page])


def _pages(signals: dict[str, tuple[zipfile.ZipInfo, ArrayLayout]]) -> tuple[_Page, ...]:
    """All arrays as channels of one page where their lengths agree, else a page for each."""
    layouts = {name: layout for name, (_, layout) in signals.items()}
    if len({layout.samples for layout in layouts.values()}) == 1:
        samples = next(iter(layouts.values())).samples
        return (_Page(tuple(layouts), samples, sum(layout.channels for layout in layouts.values())),)
    return tuple(_Page((name,), layout.samples, layout.channels) for name, layout in layouts.items())


def _clock_rate(clock: Clock | None, members: dict[str, _Member], page: _Page) -> float | None:
    """The rate of a time vector, for arrays of its length."""
    layout = members[clock.name][1] if clock else None
    return clock.sample_rate if clock and layout and layout.samples == page.samples else None


def _npz_writer(path: Path, info: SignalInfo) -> NpzWriter:
    return NpzWriter(path, info)


NPY: Any = SimpleNamespace(reader=_npy_reader, writer=_npy_writer)
NPZ: Any = SimpleNamespace(reader=_npz_reader, writer=_npz_writer)
