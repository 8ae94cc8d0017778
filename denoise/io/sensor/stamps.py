"""Stamps as text: dates and times of day in the forms that instruments and spreadsheets write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import numpy as np

from denoise.arrays import Doubles
from denoise.io.sensor.numerals import MISSING, NotNumbersError, NumberForm, unquoted

_ENGLISH = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {
    **{name: n for n, name in enumerate(_ENGLISH, start=1)},
    **{"mär": 3, "mrz": 3, "mai": 5, "okt": 10, "dez": 12},  # German
}
_ZONE = r"(?:\s*(?P<zone>[+-]\d{2}:?\d{2}|(?:UTC|GMT)[+-]\d{1,2}(?::?\d{2})?|[A-Z]{1,5}))?"
_TIME = (
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,:](?P<fraction>\d+))?)?"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_CLOCK = re.compile(_TIME)
_DATES = (
    r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})",
    r"(?P<one>\d{1,2})(?P<mark>[-/.])(?P<two>\d{1,2})(?P=mark)(?P<year>\d{4}|\d{2})",
    r"(?P<day>\d{1,2})[-/ .]*(?P<name>[^\W\d]{3,9})[-/ .,]*(?P<year>\d{4}|\d{2})",
    r"(?P<name>[^\W\d]{3,9})\.? +(?P<day>\d{1,2}),? +(?P<year>\d{4})",
    r"(?P<year>\d{4})[-/ ](?P<name>[^\W\d]{3,9})[-/ ](?P<day>\d{1,2})",
)
_STAMPS = [re.compile(rf"{date}(?:[T _,]+{_TIME}{_ZONE})?") for date in _DATES]
_COMPACT = re.compile(
    r"(?P<year>(?:19|20)\d\d)(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])"
    r"(?:[T _]?(?P<hour>[01]\d|2[0-4]):?(?P<minute>[0-5]\d)?"
    r"(?::?(?P<second>[0-5]\d)(?:[.,]?(?P<fraction>\d+))?)?)?" + _ZONE
)


def _core(cell: str) -> str:
    return unquoted(cell).removesuffix("->").rstrip()


def _match(core: str) -> re.Match[str] | None:
    if not core[:1].isalnum() or len(core) < 6:
        return None
    return next((m for pattern in (*_STAMPS, _COMPACT) if (m := pattern.fullmatch(core))), None)


def _zone(text: str | None) -> timezone:
    match = re.search(r"([+-])(\d{1,2}):?(\d{2})?$", text or "")
    if match is None:
        return UTC
    shift = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
    return timezone(-shift if match[1] == "-" else shift)


def _time_of_day(parts: dict[str, str | None]) -> float:
    """Seconds since midnight."""
    hour, minute, second = (int(parts.get(name) or 0) for name in ("hour", "minute", "second"))
    if half := parts.get("half"):
        if not 1 <= hour <= 12:
            raise ValueError(hour)
        hour = hour % 12 + 12 * (half in "pP")
    if minute > 59 or second > 60:
        raise ValueError(minute)
    return hour * 3600 + minute * 60 + second + float("0." + (parts.get("fraction") or "0"))


def _stamp(core: str, day_first: bool) -> datetime:
    """Read a date, with or without a time."""
    if len(core) >= 8 and core[:4].isdigit() and core[4] in "-/":
        try:
            stamp = datetime.fromisoformat(core.replace("/", "-"))
            return stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
        except ValueError:
            pass
    match = _match(core)
    if match is None:
        raise ValueError(core)
    parts = match.groupdict()
    if "one" in parts:
        days = day_first or parts["mark"] == "."
        first, second = int(match["one"]), int(match["two"])
        day, month = (first, second) if days else (second, first)
    else:
        day = int(match["day"])
        month = int(parts["month"]) if parts.get("month") else _MONTHS.get(match["name"][:3].lower(), 0)
    year = int(match["year"])
    year += 0 if year > 99 else 2000 if year < 70 else 1900
    try:
        midnight = datetime(year, month, day, tzinfo=_zone(parts.get("zone")))
        return midnight + timedelta(seconds=_time_of_day(parts))
    except ValueError:
        raise ValueError(core) from None


def is_stamp(cell: str) -> bool:
    """True for a date, with or without a time, in either order of day and month."""
    core = _core(cell)
    for day_first in (True, False):
        try:
            _stamp(core, day_first)
        except ValueError:
            continue
        return True
    return False


def is_compact(cell: str) -> bool:
    """True for digits alone that may be a date and time: 20240330, 2024033022, 20240330221500."""
    core = _core(cell)
    return core.isdigit() and len(core) in (8, 10, 12, 14, 17) and _COMPACT.fullmatch(core) is not None


def is_clock(cell: str) -> bool:
    """True for a time of day."""
    return _CLOCK.fullmatch(_core(cell)) is not None


def is_day_first(cells: Iterable[str]) -> bool:
    """Decide between 30/03/2024 and 03/30/2024, from the first and last stamps of a file, in order.

    A part above 12 decides; else the order in which the stamps span less time.
    """
    cores = [core for core in map(_core, cells) if core.lower() not in MISSING]
    spans = []
    for day_first in (True, False):
        try:
            stamps = [_stamp(core, day_first) for core in cores]
        except ValueError:
            return not day_first
        steps = [abs((new - old).total_seconds()) for old, new in pairwise(stamps)]
        spans.append(sum(steps))
    return spans[0] <= spans[1]


def seconds_of(parts: Mapping[str, Doubles]) -> Doubles:
    """Put times together, in seconds, from arrays of years, months, days (or days of the year), hours, ..."""
    size = max(values.size for values in parts.values())
    year = np.nan_to_num(parts.get("year", np.full(size, 1970.0))).astype(int)
    month = np.clip(np.nan_to_num(parts.get("month", np.ones(size)), nan=1.0), 1, 12).astype(int)
    months = (year - 1970) * 12 + month - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(float)
    days += parts.get("day", np.ones(size)) - 1
    seconds: Doubles = days * 86400.0
    for name, factor in (("hour", 3600.0), ("minute", 60.0), ("second", 1.0)):
        seconds += factor * parts.get(name, np.zeros(size))
    return seconds


class Stamps:
    """Parses a time column to seconds: cells of kind `stamp` and `clock` (time of day); `number` as it is.

    Args:
        kind: Kind of its cells.
        form: Form of its numbers.
        day_first: True for 30/03/2024.
    """

    def __init__(self, kind: str, form: NumberForm, day_first: bool = True) -> None:
        self._kind = kind
        self._form = form
        self._day_first = day_first
        self._first: datetime | None = None

    def __call__(self, cells: Sequence[str]) -> Doubles:
        """Parse the next cells; a missing one is NaN.

        Raises:
            NotNumbersError: The first cell that is no stamp.
        """
        if self._kind == "number":
            return self._form.parse(cells)
        out = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            core = _core(cell)
            if core.lower() in MISSING:
                continue
            try:
                out[row] = self._clock(core) if self._kind == "clock" else self._since_first(core)
            except ValueError as error:
                raise NotNumbersError(row, str(error)) from None
        return out

    @staticmethod
    def _clock(core: str) -> float:
        match = _CLOCK.fullmatch(core)
        if match is None:
            raise ValueError(core)
        return _time_of_day(match.groupdict())

    def _since_first(self, core: str) -> float:
        stamp = _stamp(core, self._day_first)
        self._first = self._first or stamp  # epoch seconds as floats resolve only a quarter of a microsecond
        return (stamp - self._first).total_seconds()
