"""Kinds of columns that a filter must not touch, by their names, units and values; domains of the others.

A counter, an angle, a state or a position is no noisy measurement, though it is a column of numbers: a filter
would give half a satellite, a meter that runs backwards, or south between 350 and 10 degrees. Such columns
are left as they are unless the user names them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from denoise.io.sensor.numerals import word_set
from denoise.io.sensor.survey import MAX_LEVELS, ColumnSurvey, is_time_name
from denoise.signal import Clock, Domain

CONSTANT = "constant"
# Kinds that are never changed, and whose values may still be wrong.
UNORDERED = "a few values, in no order in time"
JUDGED = (CONSTANT, "flag", "two levels", "setpoint", "holds its value for long", UNORDERED)
_MIN_STEPS = 50  # before values alone tell the kind of a column
_MAX_CHANGES = 0.05  # of the steps of a column that holds its value for long
_MIN_ZEROS = 0.5  # of the samples of a column that counts something in each interval
_MIN_FILLED = 0.1  # of the samples of a column that can be cleaned
_MAX_RATINGS = 16  # different values of a rating
_UNORDERED = (1.6, 2.4)  # squared steps over variance of rows in no order, as those of a survey
_MIN_UNORDERED = 3  # of these columns in a survey
_MAX_RESETS = 0.01  # of the steps of a total: overflow, or a restart

_CLOCK_PARTS = {  # names of parts of a date or time, and the largest value of each
    **dict.fromkeys(("year", "yr", "yyyy", "jahr"), 2200),
    **dict.fromkeys(("month", "mon", "mm", "monat"), 12),
    **dict.fromkeys(("day", "dd", "tag", "dom", "weekday", "dow"), 31),
    **dict.fromkeys(("doy", "dayofyear", "julian", "julianday", "jday", "day of year", "julian day"), 366),
    **dict.fromkeys(("hour", "hr", "hh", "stunde", "hour of day"), 24),
    **dict.fromkeys(("minute", "min", "mi", "minuten"), 59),
    **dict.fromkeys(("second", "sec", "ss", "sekunde"), 60),
    "hhmm": 2400,
    "hhmmss": 240000,
}
_HEADINGS = word_set(
    "heading hdg bearing azimuth azi compass cog winddir winddirection wdir wd windrichtung richtung "
    "direction yaw"
)
_ANGLES = word_set("angle phase theta phi psi roll pitch winkel rotation crank hue")
_ANGLE_UNITS = word_set("deg ° degree degrees degs grad degn degt rad radians")
_POSITIONS = word_set("lat latitude lon lng long longitude breitengrad längengrad")
_SATELLITES = word_set("sats satellites nsat numsv svs hdop vdop pdop gdop fix")
_MOTIONS = word_set("rate vel velocity speed spd acc accel acceleration force g dps ms us latency torque")
_SETPOINTS = word_set(
    "setpoint setpoints setpt soll sollwert target command cmd threshold limit commanded desired"
)
_LABELS = word_set(
    "id idx index sample samples label labels class activity status state flag flags event marker "
    "annotation annotations quality counter seq mode gear stage code valid enabled enable switch alarm "
    "warning station stations node version type group checksum crc qc qn trigger button door lap cycle "
    "bit din dout errors fault packet frame subject trial block user"
)
_COUNTS = word_set(
    "count number num persons people vehicles cars requests clicks visitors calls packets okta oktas "
    "floor pieces pcs items passengers tips bikes restarts steps strides laps reps"
)
_TOTALS = word_set(
    "total totals tot cumulative cum accumulated accum sum energy kwh wh mwh odometer mileage encoder "
    "ticks revolutions steps pulses meter counter count bytes zähler zählerstand volume uptime runtime "
    "hours"
)
_AMOUNTS = word_set("rain rainfall precip precipitation regen niederschlag tip tips hail")
_QUATERNION = re.compile(
    r"(?:.*[\W_])?(?:(?:q|quat|quaternion|orientation|rotation|rot|att)[\W_]*([wxyz0-4ijk]|real)|([wxyz]))"
)
_QUATERNION_ENDS = ({*"wxyz"}, {*"0123"}, {*"1234"}, {*"ijk", "real"})
_PERCENT = word_set("% pct percent prozent humidity rh soc feuchte")


def _words(name: str) -> list[str]:
    """Split a name at signs, digits and capitals: `WindDir_D1_WVT` to wind, dir, d, wvt."""
    spaced = re.sub(r"(?<=[a-zäöü])(?=[A-ZÄÖÜ])", " ", name)
    return re.findall(r"[^\W\d_]+|%|°", spaced.lower())


def _unit(column: ColumnSurvey) -> str:
    """The unit of a column, from a row of units or from brackets in its name, lower case."""
    text = column.unit_text
    if not text and (match := re.search(r"[\[(/]\s*([^\])]*?)\s*[\])]?$", column.name)):
        text = match[1]
    return text.strip("[]() ").lower()


def _period(column: ColumnSurvey) -> float:
    """The full circle in the unit of an angle."""
    if column.period:
        return column.period
    low, high = column.bounds
    is_radians = _unit(column).startswith("rad") or "rad" in _words(column.name)
    return 2 * math.pi if is_radians or (high - low <= 6.3 and not column.integers and high < 6.3) else 360.0


def _is_angle(column: ColumnSurvey, words: set[str]) -> bool:
    pairs = "".join(_words(column.name))
    low, high = column.bounds
    if not -360 <= low <= high <= 360.001 or words & _MOTIONS or "/" in _unit(column):
        return False
    if (
        column.period
        or words & _HEADINGS
        or any(pairs.startswith(name) for name in ("winddir", "windrichtung"))
    ):
        return True
    is_angle = bool(words & _ANGLES) or _unit(column) in _ANGLE_UNITS or words & {"deg", "degrees"} != set()
    return is_angle and column.max_jump > 0.5 * _period(column)  # it wraps; others are like any reading


def _is_total(column: ColumnSurvey, words: set[str]) -> bool:
    if column.values < 4 or not column.changes or len(column.levels) < 3:
        return False
    if not column.falls:  # a reading with noise falls, too
        return column.values > _MIN_STEPS or bool(words & _TOTALS)
    return bool(words & _TOTALS) and column.bounds[0] >= 0 and column.falls <= _MAX_RESETS * column.values


def _is_date_part(column: ColumnSurvey) -> bool:
    """True for whole numbers with the name and the range of a part of a date or time."""
    names = _words(column.name)
    limit = _CLOCK_PARTS.get(" ".join(names), _CLOCK_PARTS.get("".join(names)))
    low, high = column.bounds
    return limit is not None and 0 <= low <= high <= limit and (column.integers or limit == 366)


def _kind(column: ColumnSurvey) -> str:
    """Tell the kind of a column of numbers; empty for a measurement."""
    names, words = _words(column.name), set(_words(column.name))
    low, high = column.bounds
    joined = " ".join(names)
    if _is_date_part(column):
        return "part of a date"
    if column.is_code_only:
        return "only codes of missing values"
    if column.is_index:
        return "counter"
    if column.zero_padded and column.integers:
        return "numbers with leading zeros"  # of stations or serial numbers
    if column.values > 1 and len(column.levels) == 1 and not column.codes:
        return CONSTANT
    if words & _SETPOINTS or names[-1:] == ["sp"]:
        return "setpoint"
    if column.values > 2 and len(column.levels) == 2 and not column.codes and column.values == column.samples:
        if column.integers:
            return "flag"
        if column.values >= _MIN_STEPS:
            return "two levels"
    if column.values < _MIN_FILLED * column.samples:
        return "mostly missing"
    if words & _POSITIONS and not words & _MOTIONS and -180 <= low <= high <= 180:
        return "position"
    if words & _SATELLITES:
        return "satellites"
    if column.integers and names and (names[-1] in _LABELS or joined in _LABELS):
        return "label"
    if column.integers and _is_count(column, names):
        return "count in whole steps"
    if _is_angle(column, words):
        return "angle"
    if _is_total(column, words):
        return "total" if column.falls else "never falls"
    if low == 0 < high and (words & _AMOUNTS or column.zeros >= max(_MIN_ZEROS * column.values, _MIN_STEPS)):
        return "amounts of single events"
    steps = column.values - 1
    if (
        steps >= _MIN_STEPS
        and 0 < column.changes <= _MAX_CHANGES * steps
        and len(column.levels) <= MAX_LEVELS
    ):
        return "holds its value for long"
    return ""


def _is_unordered(column: ColumnSurvey) -> bool:
    """True for a few values in rows of no order: neighbours resemble each other no more than others."""
    low, high = _UNORDERED
    few = column.numeric and 2 < len(column.levels) <= _MAX_RATINGS and column.values > _MIN_STEPS
    return few and low < column.scatter < high


def _is_count(column: ColumnSurvey, names: Sequence[str]) -> bool:
    return column.bounds[0] >= 0 and bool(_COUNTS & {*names[-1:], _unit(column)})


def _quaternions(columns: Sequence[ColumnSurvey]) -> set[int]:
    """Find the components of rotations: four neighbours within -1 to 1, of unit norm or with such names."""
    found: set[int] = set()
    for start in range(len(columns) - 3):
        group = columns[start : start + 4]
        matches = [_QUATERNION.fullmatch(column.name.strip().lower()) for column in group]
        if not all(c.numeric and c.values and max(map(abs, c.bounds)) <= 1.001 for c in group):
            continue
        named = all(matches) and {match[1] or match[2] for match in matches if match} in _QUATERNION_ENDS
        if named or _are_unit(group):
            found |= set(range(start, start + 4))
    return found


def _are_unit(group: Sequence[ColumnSurvey]) -> bool:
    """True if columns are the components of vectors of unit length that turn."""
    if len({column.first_values.size for column in group}) > 1:
        return False
    first = np.stack([column.first_values for column in group])
    first = first[:, np.isfinite(first).all(axis=0)]
    turning = (np.ptp(first, axis=1) > 0.01).sum() >= 2 if first.size else False
    norms = np.linalg.norm(first, axis=0)
    return bool(turning) and norms.size >= _MIN_STEPS and bool(np.all(np.abs(norms - 1.0) < 2e-3))


def _is_time(index: int, column: ColumnSurvey, clock: Clock | None) -> bool:
    if clock is not None and index == clock.index:
        return True
    is_named = column.time_named and is_time_name(column.name)
    is_alone = column.maybe_time_named and column.samples == 1
    return (is_named or is_alone or column.is_time) and not _is_date_part(column)


def kinds_of(columns: Sequence[ColumnSurvey], clock: Clock | None) -> tuple[str, ...]:
    """Tell why each column must stay as it is; empty for a measurement, and for one that holds no numbers."""
    quaternions = _quaternions(columns)
    kinds = []
    for index, column in enumerate(columns):
        if not column.numeric or not column.values:
            kinds.append("")
        elif _is_time(index, column, clock):
            kinds.append("time")
        else:
            kinds.append("quaternion" if index in quaternions else _kind(column))
    unordered = [index for index, column in enumerate(columns) if not kinds[index] and _is_unordered(column)]
    if clock is None and len(unordered) >= _MIN_UNORDERED:
        for index in unordered:
            kinds[index] = UNORDERED
    return tuple(kinds)


def domain_of(column: ColumnSurvey) -> Domain:
    """Give the values that a cleaned column may have: what is never negative, or a share, stays so."""
    low, high = column.bounds
    words = set(_words(column.name))
    if _is_angle(column, words):
        period = _period(column)
        return column.listed.domain(period=period, low=-0.5 * period if low < 0 else 0.0)
    is_percent = bool(words & _PERCENT or {_unit(column)} & _PERCENT)
    return column.listed.domain(
        low=0.0 if low >= 0 else -math.inf,
        high=100.0 if is_percent and low >= 0 and high <= 100 else 0.0 if high <= 0 and low < 0 else math.inf,
    )
