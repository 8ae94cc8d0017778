"""Header of a delimited text: names, units, sample rate and columns of dates, read above the data."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from math import isnan

from denoise.io.sensor.numerals import NumberForm, unquoted, word_set

_BRACKETS = r"[ _]*(?:\[?\(?\w*\)?\]?)"
_VALUE = r"\W*?[=:,;\t ]+\W*?(?P<number>\d+(?:[.,]\d+)?(?:[eE][+-]?\d+)?)"
_UNIT = r"[\"\s,;]*(?P<unit>[numµkMG]?(?:Hz|s)\b)?"
_RATE_NAMES = r"(?:sampl(?:e|ing)[ _]?(?:rate|freq(?:uency)?)|abtastrate|frame rate|\bfs\b)"
_INTERVAL_NAMES = (
    r"(?:sampl(?:e|ing)[ _]?(?:interval|period|time)|delta[_ ]?x|x[_ ]?increment|abtastintervall"
    r"|\bincrement\b)"
)
_RATE = re.compile(_RATE_NAMES + _BRACKETS + _VALUE + _UNIT, re.IGNORECASE)
_SPS = re.compile(r"\b(?P<number>\d+(?:\.\d+)?) ?sps\b(?P<unit>)", re.IGNORECASE)  # of seismometers
_INTERVAL = re.compile(_INTERVAL_NAMES + _BRACKETS + _VALUE + _UNIT, re.IGNORECASE)
_RATE_UNITS = {"khz": 1e3, "mhz": 1e6, "ghz": 1e9, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DATE_WORDS = {
    **{"jahr": "year", "yr": "year", "yyyy": "year", "monat": "month", "mon": "month", "tag": "day"},
    **{"doy": "day", "dd": "day", "day of year": "day", "stunde": "hour", "hr": "hour", "hh": "hour"},
    **{"min": "minute", "minuten": "minute", "sec": "second", "sekunde": "second"},
}
_UNITS = word_set(
    "sequence s sec second seconds ms us µs ns min h hz khz rpm bpm v volt volts mv uv µv μv nv v/v a ma "
    "w kw counts adu db % bool g mg m mm cm m/s m/s2 m/s^2 m/s² deg ° °/s deg/s dps rad rad/s c °c k f °f "
    "pa hpa kpa mpa bar mbar n nm lux lx au a.u. t ut µt gauss -"
)


def names_and_units(header: list[list[str]]) -> tuple[list[str], list[str]]:
    """Tell names from units: they stand in the last two rows, or names in the last one."""
    if not header:
        return [], []
    last = [cell.strip("'\"") for cell in header[-1]]
    is_units = [not cell or cell.lower() in _UNITS or (cell[0] in "[(" and cell[-1] in "])") for cell in last]
    if any(is_units):  # oscilloscopes write the first time and the interval there
        is_units = [unit or is_number(cell) for unit, cell in zip(is_units, last, strict=True)]
    if len(header) > 1 and len(header[-2]) == len(last) and sum(is_units) * 2 >= len(is_units):
        return [cell.strip("'") for cell in header[-2]], last
    return [cell.strip("'") for cell in header[-1]], []


def stated_rate(lines: Sequence[str]) -> float | None:
    """Read the rate, or the interval, that lines before the data state: `%Sample Rate = 250 Hz`."""
    for line in lines:
        rate, interval = _RATE.search(line) or _SPS.search(line), _INTERVAL.search(line)
        if match := rate or interval:
            factor = _RATE_UNITS.get((match["unit"] or "").lower(), 1.0)
            number = float(match["number"].replace(",", ".")) * factor
            if number > 0:
                return number if rate else 1 / number
    return None


def rate_below(header: Sequence[Sequence[str]]) -> float | None:
    """Read the interval in the row below the name Increment, as Rigol writes it."""
    for names, values in pairwise(header):
        for name, value in zip(names, values, strict=False):
            if name.strip().lower() in ("increment", "tinc", "xincrement") and is_number(value):
                interval = float(unquoted(value))
                return 1 / interval if interval > 0 else None
    return None


def leading_rate(
    rows: Sequence[Sequence[str]], kinds: Sequence[str], forms: Sequence[NumberForm]
) -> float | None:
    """Read the rate in the second row of a table without a header, behind a stamp, as Empatica writes it."""
    if len(rows) < 10 or any(kind != "number" for kind in kinds):
        return None
    try:
        values = [[form.number(cell) for form, cell in zip(forms, row, strict=True)] for row in rows[:9]]
    except ValueError:  # a note in an empty column
        return None
    stamp, rate, later = set(values[0]), set(values[1]), [value for row in values[2:] for value in row]
    is_epoch = all(9e8 < value < 4.2e9 for value in stamp)
    if len(rate) == 1 and is_epoch and 0.1 <= max(rate) <= 1e5 and max(map(abs, later)) < 1e8:
        return max(rate)
    return None


def date_parts(names: Sequence[str], kinds: Sequence[str]) -> Mapping[str, int]:
    """Find the columns of a date and time that is split over columns of numbers; empty if there is none."""
    found: dict[str, int] = {}
    for index, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        word = name.strip().lower()
        part = _DATE_WORDS.get(word, word)
        if kind == "number" and part in ("year", "month", "day", "hour", "minute", "second"):
            found.setdefault(part, index)
    return found if len(found) > 1 and ("hour" in found or "day" in found) else {}


def is_number(cell: str) -> bool:
    """True for a number, with a point before its decimals."""
    with suppress(ValueError):
        return not isnan(NumberForm().number(cell))
    return False


def name_in(cell: str) -> str:
    """Return the name that a cell holds, without its quotes."""
    return unquoted(cell).replace('""', '"')


def decoded(rows: list[list[str]]) -> tuple[list[list[str]], tuple[str, ...]]:
    """Decode names as UTF-8, or leave them in Latin-1 with a note."""
    try:
        return [[cell.encode("latin-1").decode("utf-8") for cell in row] for row in rows], ()
    except UnicodeDecodeError:
        return rows, ("not UTF-8: column names were read as Latin-1",)
