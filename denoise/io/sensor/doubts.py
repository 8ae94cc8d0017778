"""Doubts about a delimited text: readings that differ, and rows that are no samples of one recording."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from denoise.errors import InputError, UnsupportedError
from denoise.io.sensor.numerals import NumberForm, unquoted
from denoise.io.sensor.stamps import is_clock

_SENTENCE = re.compile(r"[$!][A-Z]{4,}.*\*[0-9A-Fa-f]{2}")
_WHOLE = re.compile(r"[+-]?\d+")
_SOURCES = re.compile(
    r"(?:.*[^a-z])?(?:id|sensor|device|channel|node|station|probe|tag|name|field|entity|host|measurement|variable"
    r"|series|location|room|site|unit|machine)"
)
_MIN_ROWS = 20  # that show how the rows of a table follow each other


def refuse_records(path: Path, lines: Sequence[str]) -> None:
    """Refuse texts of records that are no table, though they can be split like one.

    Raises:
        UnsupportedError: It is JSON, or sentences with checksums.
    """
    if lines and re.match(r"\{|\[\s*[\[{]", lines[0]):
        raise UnsupportedError(f"{path}: is JSON; expected a table in text: export it as CSV")
    if sum(_SENTENCE.fullmatch(line) is not None for line in lines) > len(lines) / 2:
        raise UnsupportedError(
            f"{path}: holds NMEA sentences, whose checksums a changed number would break; "
            "expected a table in text: export it as CSV"
        )


def find_parts(rows: Sequence[Sequence[str]]) -> tuple[int, str] | None:
    """Find two neighbouring columns that may be the parts of one number: 20,52 or 3,425.0.

    Returns:
        The first of them, and `parts` if they are surely parts or `doubt`; None if all are columns.
    """
    columns = [[cell.strip() for cell in column] for column in zip(*rows, strict=True)]
    for index, (left, right) in enumerate(pairwise(columns)):
        if verdict := _parts(left, right):
            return index, verdict
    return None


def _parts(left: Sequence[str], right: Sequence[str]) -> str:
    """Tell if two columns are parts of numbers: `parts`, `doubt`, or nothing.

    Fractions of a fixed length and thousands begin with 0 in one of ten; fractions of any length never end
    in 0. A fraction turns over when the number before it counts one up or down; a column does not.
    """
    if not all(map(_WHOLE.fullmatch, left)) or any(
        len(cell.lstrip("+-")) > 1 and cell[0] == "0" for cell in left
    ):
        return ""
    ends = [cell.partition(".")[0] for cell in right]
    lengths = set(map(len, ends))
    if not all(end.isdigit() for end in ends) or (list(ends) != list(right) and lengths != {3}):
        return ""
    begins_with_0 = any(len(end) > 1 and end[0] == "0" for end in ends)
    if len(lengths) > 1:
        ends_with_0 = any(len(end) > 1 and end[-1] == "0" for end in ends)
        return "" if ends_with_0 and not begins_with_0 else "doubt"
    whole, part = np.array(left, float), np.array(ends, float) / 10.0 ** min(lengths)
    ones = np.abs(np.diff(whole)) == 1
    if ones.sum() > 2 and np.median(np.abs(np.diff(part)[ones])) < 0.15:
        return ""
    if begins_with_0:
        return "parts"
    return "" if lengths != {1} and len(set(left)) > 2 and len(ends) >= 50 else "doubt"


def refuse_layouts(path: Path, names: Sequence[str], rows: Sequence[Sequence[str]], named: bool) -> None:
    """Refuse tables whose rows hold more than one sample of a column.

    Raises:
        InputError: Times of day name the columns, or a recording is wrapped into rows.
    """
    if sum(map(is_clock, names)) > 7:
        raise InputError(
            f"{path}: times of day such as {next(filter(is_clock, names))!r} name the columns; "
            "expected a row for each sample: unpivot it"
        )
    if named or len(rows) < _MIN_ROWS or len(names) < 4:
        return
    try:
        table = np.array([[NumberForm().number(cell) for cell in row] for row in rows])
    except ValueError:
        return
    with np.errstate(over="ignore", invalid="ignore"):  # values near the largest float
        down, on = np.abs(np.diff(table, axis=0)).mean(), np.abs(table[1:, 0] - table[:-1, -1]).mean()
        along = np.abs(np.diff(table, axis=1)).mean()
    if max(on, along) < 0.5 * down:
        raise InputError(
            f"{path}: each row goes on where the one before it ends, as a recording wrapped into rows of "
            f"{len(names)}; expected a row for each sample: write one number a line"
        )


def refuse_sources(
    path: Path, names: Sequence[str], columns: Sequence[Sequence[str]], forms: Sequence[NumberForm]
) -> None:
    """Refuse tables in which the readings of several sensors follow each other in one column.

    Raises:
        InputError: A column names the sensor of each row, and readings differ by it.
    """
    for name, column in zip(names, columns, strict=True):
        if not _SOURCES.fullmatch(name.lower()):
            continue
        labels = np.array([unquoted(cell) for cell in column])
        sources, group = np.unique(labels, return_inverse=True)
        if not 1 < sources.size <= 64 or np.mean(np.diff(group) != 0) < 0.25 or labels.size < _MIN_ROWS:
            continue
        order = np.argsort(group, kind="stable")
        same = np.diff(group[order]) == 0
        for other, cells, form in zip(names, columns, forms, strict=True):
            try:
                values = form.parse(cells)
            except InputError:
                continue
            mixed, apart = np.abs(np.diff(values)), np.abs(np.diff(values[order])[same])
            if other != name and np.nanmean(apart) < 0.25 * np.nanmean(mixed) and np.ptp(values) > 0:
                one, two = map(str, sources[:2])
                raise InputError(
                    f"{path}: {other!r} holds readings of {one!r}, {two!r} ... in turn, by {name!r}; "
                    f"expected one recording a column: split the file by {name!r}, or name columns with "
                    "--columns to clean them all the same"
                )
