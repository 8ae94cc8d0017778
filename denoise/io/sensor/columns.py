"""Select the measurements and the time column of a sensor log.

The selection uses names and numbers only, so it is the same for text, arrays and tables:

    surveys = [ColumnSurvey(name) for name in names]  # fed chunk by chunk, in constant memory
    clock = find_clock(surveys, options.time_unit)    # the time column, its unit, the rate
    chosen = choose(path, surveys, clock, options)    # indices of the columns to clean
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from denoise.errors import InputError, NothingToCleanError, UsageError, counted
from denoise.io.sensor.base import LogOptions, sensor_info
from denoise.io.sensor.kinds import CONSTANT, JUDGED, domain_of, kinds_of
from denoise.io.sensor.numerals import shown, word_set
from denoise.io.sensor.survey import CodeSurvey, ColumnSurvey
from denoise.signal import SECONDS, Clock, SensorInfo

LEFT = "left as they are"  # begin of the note about the other columns

_MIN_REPORTED_JITTER = 1e-3  # less is rounding of a perfect clock
_EPOCH_MIN, _EPOCH_MAX = 9e8, 4.2e9  # seconds: the years 1998 to 2103
_TICKS = (6.3e17, 6.7e17)  # of .NET: 100 ns since the year 1, from 1997 to 2124
_DAY_NUMBERS = ((25_000, 75_000), (700_000, 770_000))  # of Excel, since 1899, and of MATLAB, since 0


_DAYS_OF_YEAR = word_set("doy jday yday julian dayofyear day_of_year")


def _guess_unit(column: ColumnSurvey) -> str:
    """Guess the unit of a time column from its values."""
    low, high = column.bounds
    if column.name.lower() in _DAYS_OF_YEAR:
        return "d"
    is_date = not column.integers or "date" in column.name.lower()
    if is_date and any(start < low <= high < stop for start, stop in _DAY_NUMBERS):
        return "d"
    if _TICKS[0] < low <= high < _TICKS[1]:
        return "ticks"
    for unit in ("s", "ms", "us", "ns"):
        if _EPOCH_MIN < column.largest * SECONDS[unit] < _EPOCH_MAX:
            return unit
    interval = column.interval
    if interval <= 1:
        return "s"
    if not column.integers:  # 3.90625: steps of 256 Hz in milliseconds, and of nothing round in seconds
        rate = 1e3 / interval
        return "ms" if interval < 1000 and rate > 1 and abs(rate - round(rate)) < 1e-3 * rate else "s"
    if round(interval) % 60 == 0 and interval <= 86400:  # a minute, an hour, a day
        return "s"
    return "ms" if interval < 1000 else "us" if interval < 1e6 else "ns"


def find_clock(columns: Sequence[ColumnSurvey], time_unit: str | None = None) -> Clock | None:
    """Find the time column: the first that has its name and grows, else a first column that grows evenly."""
    known = [column for column in columns if column.numeric]
    candidates = [column for column in known if column.is_time and column.interval > 0]
    if not candidates and known and columns[0] is known[0]:
        first = known[0]
        is_clock = first.is_regular_ramp and not first.is_index and "year" not in first.name.lower()
        candidates = [first] if is_clock and len(known) > 1 else []
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

    Without names, these are the measurements. A log of nothing but constants gives these; one without any
    gives its other columns of numbers, unless only measurements are wanted.

    Raises:
        InputError: A named column is missing, ambiguous or not numeric; no numeric column is left.
        NothingToCleanError: No column of numbers is a measurement, and only these are wanted.
    """
    names = [column.name for column in columns]
    excluded = {i for pattern in options.exclude for i in _named(path, names, pattern, may_miss=True)}
    if options.judged:
        for column in columns:
            column.listed.only_known()
    kinds = kinds_of(columns, clock)
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
        usable = [i for i, c in enumerate(columns) if c.numeric and c.values]
        wanted = ("", *(JUDGED if options.judged else ()))
        chosen = [i for i in usable if kinds[i] in wanted and i not in excluded]
        if not chosen:
            chosen = [i for i in usable if kinds[i] == CONSTANT and i not in excluded]
        left = [f"{columns[i].name} ({kinds[i]})" for i in usable if kinds[i] != "time" and i not in excluded]
        left += [f"{c.name} ({c.reject_reason})" for c in columns if not c.numeric and not c.stamp_type]
        if not chosen and left and not options.only_measurements:
            chosen = [i for i in usable if kinds[i] != "time" and i not in excluded]
        if not chosen and left and usable:
            raise NothingToCleanError(
                f"{path}: holds nothing that may be cleaned: {', '.join(left[:8])}; expected a measurement; "
                "name columns with --columns to clean them all the same"
            )
    if not chosen and excluded:
        raise InputError(f"{path}: every column of measurements is excluded; expected one to clean")
    if not chosen:
        reasons = "; ".join(f"{c.name}: {c.reject_reason}" for c in columns[:5] if c.reject_reason)
        detail = f" ({reasons})" if reasons else ""
        raise InputError(
            f"{path}: no column of measurements{detail}; expected numbers besides the time column"
        )
    return tuple(chosen)


def code_notes(codes: Mapping[float, int], unlisted: Collection[float], name: str) -> list[str]:
    """Write a note for each code of missing values of a column, and how often it occurs."""
    return [
        f"{code:.9g} in {name}, {count} times, is far from all others: kept, and left out of the cleaning"
        if code in unlisted
        else f"{code:.9g} in {name} stands for a missing value ({counted(count, 'sample')}): kept"
        for code, count in codes.items()
    ]


def decimals_note(names: Sequence[str]) -> list[str]:
    """Write a note about columns of whole numbers, if there are any, which get decimals."""
    return [f"whole numbers of {', '.join(names[:8])} get decimals where they are cleaned"] if names else []


def declared_notes(survey: CodeSurvey, name: str) -> list[str]:
    """Write a note for each kind of missing values that the file declares."""
    notes = [
        f"{code:.9g} in {name} stands for a missing value, says the file ({counted(count, 'sample')}): kept"
        for code, count in survey.declared_codes.items()
    ]
    if survey.invalid:
        valid = f"{survey.declared.low:.9g} to {survey.declared.high:.9g}"
        outside = f"{counted(survey.invalid, 'sample')} of {name} outside {valid}, which the file calls valid"
        notes.append(f"{outside}: counted as missing, kept")
    return notes


def describe(
    columns: Sequence[ColumnSurvey],
    chosen: Sequence[int],
    clock: Clock | None,
    sample_rate: float | None,
    named: bool = True,
) -> tuple[str, ...]:
    """Write notes for the user: the time column, the rate, and the columns that are left as they are.

    Args:
        sample_rate: Rate that the caller gave, Hz.
        named: True if the caller named the columns.
    """
    notes = []
    if clock is not None:
        guess = " (guessed)" if clock.guessed else ""
        facts = [f"time column {clock.name!r} in {clock.unit}{guess}: {clock.sample_rate:.6g} Hz"]
        if clock.jitter >= _MIN_REPORTED_JITTER:
            facts.append(f"jitter {100 * clock.jitter:.2g} % of the interval")
        if clock.index >= 0 and (back := columns[clock.index].steps_back):
            facts.append(f"{back} step{'s' * (back != 1)} back in time")
        if clock.pauses:
            facts.append(f"{clock.pauses} pause{'s' * (clock.pauses != 1)}")
        notes.append(", ".join(facts))
    if sample_rate is not None:
        notes.append(f"sample rate {sample_rate:g} Hz as given")
    for index in chosen:
        if columns[index].infinite:
            notes.append(f"an infinity in {columns[index].name}, {columns[index].infinite}, is kept as a gap")
        if columns[index].flagged:
            first, count = shown(columns[index].first_flagged), columns[index].flagged
            what = f"{first!r} in {columns[index].name} has a mark" + f" ({count} such cells)" * (count > 1)
            notes.append(f"{what}: kept, and counted as missing")
        listed, name = columns[index].listed, columns[index].name
        notes += declared_notes(listed, name) + code_notes(columns[index].codes, listed.unlisted, name)
    left = []
    kinds = kinds_of(columns, clock)
    if chosen and not named and all(kinds[index] not in ("", CONSTANT) for index in chosen):
        found = ", ".join(f"{columns[index].name} ({kinds[index]})" for index in chosen[:8])
        notes.append(f"nothing here is a measurement, so it is only copied: {found}")
    for index, column in enumerate(columns):
        if index in chosen or (clock is not None and index == clock.index):
            continue
        reason = kinds[index] or column.reject_reason or _why_none(column)
        left.append(f"{column.name} ({reason})" if reason else column.name)
    if left:
        more = f" and {len(left) - 8} more" if len(left) > 8 else ""
        notes.append(f"{LEFT}: {', '.join(left[:8])}{more}")
    return tuple(notes)


def table_info(
    path: Path,
    columns: Sequence[ColumnSurvey],
    rows: int,
    options: LogOptions,
    combined: ColumnSurvey | None = None,
    stated_rate: float | None = None,
) -> tuple[SensorInfo, tuple[int, ...]]:
    """Describe a table whose columns have been surveyed; also return the indices of those to clean.

    Args:
        combined: Times put together from several columns: they are the clock, as column -1, if no column is.
        stated_rate: Sample rate that the file states without a clock, Hz.
    """
    clock = find_clock(columns, options.time_unit)
    if clock is None and combined is not None and (found := find_clock([combined])):
        clock = replace(found, index=-1)
    for column in columns:
        if column.stamp_type and column.numeric:  # stamps are no measurements
            column.numeric, column.reject_reason = False, column.stamp_type
    chosen = choose(path, columns, clock, options)
    names, rate = tuple(column.name for column in columns), options.sample_rate
    notes = describe(columns, chosen, clock, rate, options.columns is not None)
    if rate is None and clock is None and stated_rate:
        rate = stated_rate
        notes += (f"sample rate {rate:g} Hz as the file states it",)
    if rate is None and clock is None:
        notes += ("no sample rate: hum and heartbeats are not told, weather less surely; give --sample-rate",)
        for column in columns:
            if column.maybe_time_named and column.steps_back > 0.9 * column.steps > 0:
                notes += (f"the times in {column.name} run backwards: sort the rows",)
    info = sensor_info(
        path,
        (len(chosen), rows),
        sample_rate=rate or (clock.sample_rate if clock else None),
        notes=notes,
        names=names,
        columns=tuple(names[index] for index in chosen),
        clock=clock,
        time_column=clock.name if clock else None,
        domains=tuple(domain_of(columns[index]) for index in chosen),
    )
    return info, chosen


def _why_none(column: ColumnSurvey) -> str:
    """Tell why a column has no values; empty if it has some."""
    return "" if column.values else "no finite number" if column.infinite else "empty"
