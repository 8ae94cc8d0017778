"""Select the measurements and the time column of a sensor log.

The selection uses names and numbers only, so it is the same for text, arrays and tables:

    surveys = [ColumnSurvey(name) for name in names]  # fed chunk by chunk, in constant memory
    clock = find_clock(surveys, options.time_unit)    # the time column, its unit, the rate
    chosen = choose(path, surveys, clock, options)    # indices of the columns to clean
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from denoise.errors import InputError, UsageError
from denoise.io.sensor.base import LogOptions, sensor_info
from denoise.io.sensor.clock import StampSurvey, unwrapped
from denoise.signal import SECONDS, Clock, SensorInfo

__all__ = ["ColumnSurvey", "choose", "describe", "find_clock", "table_info", "unit_in"]

Floats = NDArray[np.float64]

_UNIT_WORDS = {
    **{unit: unit for unit in SECONDS},
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("usec", "µs", "μs", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("nsec", "nanos", "nanosecond", "nanoseconds"), "ns"),
    **dict.fromkeys(("minute", "minutes"), "min"),
    **dict.fromkeys(("hour", "hours"), "h"),
}
# A column with such a name is never a measurement; the weaker words count only if the values also grow.
_TIME_WORDS = {"time", "timestamp", "timestamps", "datetime", "date", "epoch", "unixtime", "utc", "elapsed"}
_WEAK_TIME_WORDS = {"t", "ts", "clock", "zeit", "temps", "tiempo", "tempo", *_UNIT_WORDS}
_LABEL = re.compile(
    r"(?:.*[_\s])?(?:id|idx|index|sample|samples|label|labels|class|activity|status|state|flag|flags|event|"
    r"marker|annotation|annotations|quality|counter|seq)"
)
_MIN_REPORTED_JITTER = 1e-3  # less is rounding of a perfect clock
_EPOCH_MIN, _EPOCH_MAX = 9e8, 4.2e9  # seconds: the years 1998 to 2103


def _words(name: str) -> list[str]:
    split_units = re.sub(r"(time|timestamp)([munµ]s)\b", r"\1 \2", name.lower())
    return [word for word in re.split(r"[^a-zµμ]+", split_units) if word]


def unit_in(text: str) -> str | None:
    """Time unit at the end of a column name (`t [ms]`, `time_us`, `millis`) or of a cell of a units row."""
    words = _words(text)
    return _UNIT_WORDS.get(words[-1]) if words else None


class ColumnSurvey:
    """Statistics of one column, updated chunk by chunk.

    Args:
        name: The name that the user types.
        unit: The time unit that the file states (an ISO column, a units row); None takes that of the name.
        stamps: The type of a column of stamps, whose unit overrides the caller's; empty for others.
        wraps: True if the values are times of day in seconds: a step back of half a day or more is midnight.
    """

    def __init__(self, name: str, unit: str | None = None, stamps: str = "", wraps: bool = False) -> None:
        words = set(_words(name))
        self.name = name
        self.unit = unit or unit_in(name)
        self.stamp_type = stamps
        self.wraps = wraps
        self.time_named = bool(stamps) or bool(words & _TIME_WORDS)
        self.maybe_time_named = self.time_named or bool(words & _WEAK_TIME_WORDS)
        self.labelled = _LABEL.fullmatch(name.strip().lower()) is not None
        self.numeric = True  # cleared by the codec for text, objects, booleans
        self.reject_reason = ""  # then: what is there, and where
        self.infinite = ""  # where the first infinity is, if any
        self.values = 0  # samples that are not gaps
        self.integers = True
        self.distinct: set[float] = set()  # the first few different values
        self.increasing = True  # never a step back
        self.step: float | None = None  # between neighbours, while it is always the same
        self.constant_step = True
        self.steps = 0
        self.steps_back = 0
        self.regular_steps = 0  # within half to one and a half of the median
        self.span = 0.0  # sum of all steps
        self.stamps = StampSurvey(wraps)
        self._last = np.nan
        self.largest = 0.0

    def add(self, values: Floats) -> None:
        """Add the next samples; NaN is a gap."""
        finite = values[np.isfinite(values)]
        if finite.size:
            self.values += finite.size
            self.largest = max(self.largest, float(np.abs(finite).max()))
            self.integers = self.integers and bool((finite == np.rint(finite)).all())
            if len(self.distinct) < 3:
                self.distinct.update(np.unique(finite)[:3].tolist())
        if self.time_named or self.increasing:
            with np.errstate(over="ignore", invalid="ignore"):  # near the largest float: not a clock
                self._add_steps(values)
            self.stamps.add(values)

    def _add_steps(self, values: Floats) -> None:
        steps = np.diff(values, prepend=self._last)
        if values.size:
            self._last = float(values[-1])
        steps = steps[np.isfinite(steps)]
        if not steps.size:
            return
        if self.wraps:
            steps = unwrapped(steps)
        self.steps += steps.size
        self.steps_back += int((steps < 0).sum())
        self.increasing = self.steps_back == 0
        self.span += float(steps.sum())
        self.step = float(steps[0]) if self.step is None else self.step
        self.constant_step = self.constant_step and bool((steps == self.step).all())
        median = float(np.median(steps))
        self.regular_steps += int((np.abs(steps - median) <= 0.5 * abs(median)).sum())

    @property
    def interval(self) -> float:
        """Usual time between two stamps, in the column's unit; 0 if there is none."""
        return self.stamps.interval

    @property
    def is_index(self) -> bool:
        """True for a counter of rows: integers in constant steps."""
        return self.integers and self.constant_step and self.steps >= 2 and bool(self.step)

    @property
    def is_flag(self) -> bool:
        """True for integers of at most two values, or integers with the name of a label."""
        return self.integers and (self.labelled or (len(self.distinct) <= 2 and self.values > 2))

    @property
    def is_time(self) -> bool:
        """True for times, by name and values."""
        grows = self.steps >= 1 and self.span > 0 and self.steps_back <= 0.1 * self.steps
        if self.time_named:
            return grows
        return self.maybe_time_named and grows and self.increasing

    @property
    def is_regular_ramp(self) -> bool:
        """True for values that grow in nearly equal steps, as those of a time column with an unknown name."""
        regular = self.steps >= 3 and self.regular_steps >= 0.95 * self.steps
        return self.increasing and regular and self.interval > 0


def _guess_unit(column: ColumnSurvey) -> str:
    for unit in ("s", "ms", "us", "ns"):
        if _EPOCH_MIN < column.largest * SECONDS[unit] < _EPOCH_MAX:
            return unit
    if not column.integers or column.interval <= 1:
        return "s"
    return "ms" if column.interval < 1000 else "us" if column.interval < 1e6 else "ns"


def find_clock(columns: Sequence[ColumnSurvey], time_unit: str | None = None) -> Clock | None:
    """Find the time column: the first that has its name and grows, else a first column that grows evenly."""
    known = [column for column in columns if column.numeric]
    candidates = [column for column in known if column.is_time and column.interval > 0]
    if not candidates and known and columns[0] is known[0]:
        first = known[0]
        candidates = [first] if first.is_regular_ramp and not first.is_index and len(known) > 1 else []
    if not candidates:
        return None
    column = candidates[0]
    stated = column.unit if column.stamp_type or not time_unit else time_unit
    unit = stated or _guess_unit(column)
    rate = 1.0 / (column.interval * SECONDS[unit])
    if abs(rate - round(rate)) < 1e-6 * rate:  # 100.00000000001 is the sum of rounded steps
        rate = float(round(rate))
    jitter, max_step_s = column.stamps.jitter / column.interval, column.stamps.max_step * SECONDS[unit]
    place, pauses = columns.index(column), column.stamps.pauses
    return Clock(place, column.name, unit, stated is None, rate, jitter, pauses, max_step_s, column.wraps)


def _named(path: Path, names: Sequence[str], pattern: str, *, may_miss: bool = False) -> list[int]:
    """Find the columns of a name or glob; with `may_miss` a glob may match none."""
    found = [index for index, name in enumerate(names) if name == pattern]
    if len(found) > 1:
        places = " and ".join(str(index + 1) for index in found)
        raise InputError(f"{path}: the column {pattern!r} appears {len(found)} times (positions {places})")
    if not found and any(sign in pattern for sign in "*?["):
        found = [index for index, name in enumerate(names) if fnmatch.fnmatchcase(name, pattern)]
        if may_miss:
            return found
    if not found:
        near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise InputError(f"{path}: no column {pattern!r}; {hint}{'It' if hint else 'it'} has: {shown}")
    return found


def choose(
    path: Path, columns: Sequence[ColumnSurvey], clock: Clock | None, options: LogOptions
) -> tuple[int, ...]:
    """Select the columns to clean; return their indices in the order of the file.

    The time column is cleaned only if it is named. If only row counters and flags are left, as in a constant
    log, these are taken, unless they are excluded.

    Raises:
        InputError: A named column is missing, ambiguous or not numeric; no numeric column is left; a chosen
            column holds an infinity.
    """
    names = [column.name for column in columns]
    excluded = {i for pattern in options.exclude for i in _named(path, names, pattern, may_miss=True)}
    if options.columns is not None:
        chosen = sorted({index for pattern in options.columns for index in _named(path, names, pattern)})
        if not chosen:
            raise UsageError("the list of columns is empty; expected at least one name")
        chosen = [index for index in chosen if index not in excluded]
        for column in (columns[index] for index in chosen):
            if not column.numeric or not column.values:
                found = column.reject_reason or "every cell is missing"
                raise InputError(f"{path}: column {column.name!r} has no numbers to clean: {found}")
    else:
        usable = [
            i for i, c in enumerate(columns) if c.numeric and c.values and not _is_time_column(i, c, clock)
        ]
        chosen = [i for i in usable if not (columns[i].is_index or columns[i].is_flag)] or usable
        chosen = [index for index in chosen if index not in excluded]
    if not chosen and excluded:
        raise InputError(f"{path}: every column of measurements is excluded; expected one to clean")
    if not chosen:
        reasons = "; ".join(f"{c.name}: {c.reject_reason}" for c in columns[:5] if c.reject_reason)
        detail = f" ({reasons})" if reasons else ""
        raise InputError(
            f"{path}: no column of measurements{detail}; expected numbers besides the time column"
        )
    for column in (columns[index] for index in chosen):
        if column.infinite:
            raise InputError(
                f"{path}: {column.infinite}, column {column.name!r} holds an infinity; "
                "expected a finite number or a missing value"
            )
    return tuple(chosen)


def _is_time_column(index: int, column: ColumnSurvey, clock: Clock | None) -> bool:
    return column.time_named or column.is_time or (clock is not None and index == clock.index)


def describe(
    columns: Sequence[ColumnSurvey], chosen: Sequence[int], clock: Clock | None, sample_rate: float | None
) -> tuple[str, ...]:
    """Write notes for the user: the time column, the rate, and the columns that are left as they are."""
    notes = []
    if clock is not None:
        guess = " (guessed)" if clock.guessed else ""
        facts = [f"time column {clock.name!r} in {clock.unit}{guess}: {clock.sample_rate:.6g} Hz"]
        if clock.jitter >= _MIN_REPORTED_JITTER:
            facts.append(f"jitter {100 * clock.jitter:.2g} % of the interval")
        if clock.pauses:
            facts.append(f"{clock.pauses} pause{'s' * (clock.pauses != 1)}")
        notes.append(", ".join(facts))
    if sample_rate is not None:
        notes.append(f"sample rate {sample_rate:g} Hz as given")
    left = []
    for index, column in enumerate(columns):
        if index in chosen or (clock is not None and index == clock.index):
            continue
        if column.numeric:
            kind = "time" if _is_time_column(index, column, clock) else "counter" if column.is_index else ""
            kind = kind or ("flag" if column.is_flag else "")
        else:
            kind = column.reject_reason
        left.append(f"{column.name} ({kind})" if kind else column.name)
    if left:
        shown = ", ".join(left[:8]) + (f" and {len(left) - 8} more" if len(left) > 8 else "")
        notes.append(f"left as they are: {shown}")
    return tuple(notes)


def table_info(
    path: Path, columns: Sequence[ColumnSurvey], rows: int, options: LogOptions
) -> tuple[SensorInfo, tuple[int, ...]]:
    """Describe a table whose columns have been surveyed; also return the indices of those to clean."""
    clock = find_clock(columns, options.time_unit)
    for column in columns:
        if column.stamp_type and column.numeric:  # stamps are no measurements
            column.numeric, column.reject_reason = False, column.stamp_type
    chosen = choose(path, columns, clock, options)
    names, rate = tuple(column.name for column in columns), options.sample_rate
    notes = describe(columns, chosen, clock, rate)
    if rate is None and clock is None:
        notes += ("no sample rate: mains hum and heartbeats are not looked for; give --sample-rate",)
    info = sensor_info(
        path,
        (len(chosen), rows),
        sample_rate=rate or (clock.sample_rate if clock else None),
        notes=notes,
        names=names,
        columns=tuple(names[index] for index in chosen),
        clock=clock,
        time_column=clock.name if clock else None,
    )
    return info, chosen
