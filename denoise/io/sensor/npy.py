"""NPY files of any size in blocks, and the layout of an array in bytes.

Nothing is unpickled, sizes in headers are checked against the file, and unchanged samples keep their bytes: a
writer copies the source and replaces samples in place.

Time is axis 0, unless the array is 2-D with `shape[0] <= 64` and `shape[0] * 8 < shape[1]`: few channels of
many samples, stored channel by channel.
"""

from __future__ import annotations

import io
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from denoise.arrays import Array, Doubles
from denoise.errors import UnreadableError, UnsupportedError
from denoise.io.sensor.base import (
    PIECE,
    LogOptions,
    SensorFormat,
    SensorReader,
    SensorWriter,
    changed_samples,
    channels_with_gaps,
    check_recording,
    fit_dtype,
    naming_damage,
    sensor_info,
)
from denoise.io.sensor.columns import code_notes, describe
from denoise.io.sensor.survey import CodeSurvey
from denoise.signal import Domain, SensorInfo

MAX_CHANNELS_FIRST = 64
HEAD_BYTES = 1 << 16  # more than the header of an array of numbers takes


@dataclass(frozen=True)
class ArrayLayout:
    """The layout of one array in its bytes."""

    dtype: np.dtype[Any]  # dtype in the file, byte order included
    offset: int  # bytes before the first sample
    shape: tuple[int, ...]  # shape in numpy
    samples: int  # length of the time axis
    channels: int  # length of the other axis; 1 for a 1-D array
    time_first: bool  # True if time is axis 0
    interleaved: bool  # True if the channels of one instant are adjacent; else channel follows channel
    # the smallest and the largest value, where the file packs integers narrower than the dtype
    limits: tuple[float, float] | None = None

    @property
    def note(self) -> str:
        """The meaning of the axes; empty for 1-D arrays."""
        if len(self.shape) == 1:
            return ""
        axes = "time is axis 0, channels axis 1" if self.time_first else "channels are axis 0, time is axis 1"
        return f"array of shape {self.shape}: {axes}"

    def get(self, file: IO[bytes], start: int, stop: int) -> Array:
        """Read samples `start` to `stop` as `(C, n)` in the file's dtype."""
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

    def pieces(self, file: IO[bytes]) -> Iterator[Doubles]:
        """Yield all samples as float64 `(C, n)`, in pieces."""
        step = max(PIECE // self.channels, 1)
        for start in range(0, self.samples, step):
            yield floats(self.get(file, start, min(start + step, self.samples)))

    def replace(
        self, file: IO[bytes], start: int, block: Doubles, domains: Sequence[Domain], path: Path
    ) -> tuple[int, bool]:
        """Write the samples that differ; return the number of clipped ones, and True if any differed."""
        old = self.get(file, start, start + block.shape[1])
        changed = changed_samples(channels_with_gaps(floats(old), domains), block)
        if not changed.any():
            return 0, False
        new = old.copy()  # unchanged 64-bit integers are not rounded to float64
        new[changed], clipped = fit_dtype(block[changed], self.dtype, path, self.limits)
        self.put(file, start, new)
        return clipped, True


def floats(values: Array) -> Doubles:
    with np.errstate(invalid="ignore"):  # a damaged float32 may be a signalling NaN
        return values.astype(np.float64)


def npy_layout(file: IO[bytes], size: int, name: str) -> ArrayLayout:
    """Read the header of `size` bytes of `.npy`, at whose start the file is."""
    with naming_damage(name, "a numpy array"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2
        # The reader of version (2, 0) accepts (3, 0) as well; unlike numpy.load it never reads the data.
        head = io.BytesIO(file.read(HEAD_BYTES))  # it may claim to be 4 GB long
        old = np.lib.format.read_magic(head) == (1, 0)
        read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(head)
        if min(shape, default=0) < 0:
            raise ValueError(f"a shape of {shape}")
    if dtype.hasobject:
        raise UnsupportedError(
            f"{name}: the array holds pickled Python objects, which are never loaded; expected numbers"
        )
    offset = head.tell()
    layout = time_axis(dtype, shape, fortran, offset, name)
    needed = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size < needed:
        raise UnreadableError(
            f"{name}: {size} bytes; expected {needed} for shape {shape} of {dtype}: it is cut short"
        )
    return layout


def time_axis(
    dtype: np.dtype[Any], shape: tuple[int, ...], fortran: bool, offset: int, name: str
) -> ArrayLayout:
    """Decide the axis of time of an array, and its layout; in Fortran order the first index varies fastest.

    Raises:
        UnsupportedError: It holds no signal.
    """
    if dtype.kind not in "iuf" or len(shape) not in (1, 2):
        axes = "x".join(map(str, shape)) or "no axis"
        raise UnsupportedError(
            f"{name}: an array of {dtype} with shape {axes}; expected real numbers in 1-D or 2-D"
        )
    if 0 in shape:
        raise UnsupportedError(f"{name}: the array of shape {shape} is empty; expected samples")
    flat = len(shape) == 1
    time_first = flat or not (shape[0] <= MAX_CHANNELS_FIRST and shape[0] * 8 < shape[1])
    channels = 1 if flat else shape[1] if time_first else shape[0]
    samples = shape[0] if time_first else shape[1]
    return ArrayLayout(dtype, offset, shape, samples, channels, time_first, time_first != fortran or flat)


def _survey(layout: ArrayLayout, file: IO[bytes], judged: bool) -> tuple[tuple[Domain, ...], list[str]]:
    """Find what stays: the codes of missing values of each channel, and the first infinity, as notes."""
    survey, infinity, start = CodeSurvey(layout.channels), "", 0
    if judged:
        survey.only_known()
    for piece in layout.pieces(file):
        survey.add(piece)
        if not infinity and np.isinf(piece).any():
            channel, sample = (int(index[0]) for index in np.nonzero(np.isinf(piece)))
            infinity = f"an infinity, sample {start + sample} of channel {channel}, is kept as a gap"
        start += piece.shape[1]
    notes = [infinity] if infinity else []
    for channel, codes in enumerate(survey.codes):
        notes += code_notes(codes, survey.unlisted, f"channel {channel}")
    return tuple(map(survey.domain, range(layout.channels))), notes


class NpyReader(SensorReader):
    """Reads an `.npy` file in blocks."""

    def pieces(self) -> Iterator[Doubles]:
        """Read pieces of about two megabytes."""
        with self.info.source.open("rb") as file:
            yield from self.info.own.pieces(file)


class NpyWriter(SensorWriter):
    """Writes a copy of an `.npy` file with its samples replaced."""

    def __init__(self, path: Path, info: SensorInfo) -> None:
        self._layout: ArrayLayout = info.own
        super().__init__(path, info, [(self._layout.channels, self._layout.samples)])

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Copy the source."""
        shutil.copyfile(self.info.source, temporary)
        self._file = stack.enter_context(temporary.open("r+b"))

    def put(self, block: Doubles, _recording: int, start: int) -> None:
        """Replace the samples that differ."""
        self.clipped += self._layout.replace(self._file, start, block, self.info.domains, self.path)[0]


def _reader(path: Path, options: LogOptions, recording: int, block: int) -> NpyReader:
    check_recording(path, recording, 1)
    with path.open("rb") as file:
        layout = npy_layout(file, path.stat().st_size, str(path))
        domains, kept = _survey(layout, file, options.judged)
    if options.columns is not None or tuple(options.exclude):
        raise UnsupportedError(f"{path}: an .npy array has no column names to choose from; expected a table")
    given = options.sample_rate
    info = sensor_info(
        path,
        (layout.channels, layout.samples),
        sample_rate=given,
        notes=(*filter(None, [layout.note, *kept]), *describe((), (), None, given)),
        domains=domains,
        own=layout,
    )
    return NpyReader(info, block)


FORMAT = SensorFormat(_reader, NpyWriter)
