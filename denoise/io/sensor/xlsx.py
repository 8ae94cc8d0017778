"""Workbooks of Excel, through openpyxl (the extra `xlsx`): the first sheet with a table of numbers.

The cells of cleaned columns are replaced; other cells and sheets, formulas, styles, charts and pictures are
kept, drawn shapes and the last values of formulas are not. A column of formulas is left as it is. The whole
workbook is in memory.
"""

from __future__ import annotations

import datetime
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import NothingToCleanError, UnsupportedError
from denoise.io.formats import optional_package
from denoise.io.limits import require_few, require_plausible_size
from denoise.io.sensor.base import changed_samples, naming_damage
from denoise.io.sensor.npz import ArchiveFormat, Member, loaded

_MIN_ROWS = 3  # of a table
_MIN_SHARE = 0.5  # of numbers in a column that is one
_NO_VALUES = (
    "formulas are kept without their last values: readers that do not calculate find empty cells until the "
    "workbook is saved by a spreadsheet program"
)
_PROPERTIES = "docProps/core.xml"
_STAMP, _EPOCH = re.compile(rb"\d{4}-\d\d-\d\dT[\d:.]+Z?"), b"1980-01-01T00:00:00Z"
_MERGED = re.compile(rb"<mergeCell [^>]*?ref=[\"']([A-Z]+[0-9]+:[A-Z]+[0-9]+)[\"']")
_DAY_US = 86_400_000_000
_CELL_BYTES = 32  # at least, of one in memory
_DATES = (datetime.datetime, datetime.date)
_TIMES = (datetime.time, datetime.timedelta)


@dataclass(frozen=True)
class _Table:
    """The table of a sheet: its place, counted from 0, and its columns."""

    sheet: str
    first_row: int
    columns: Mapping[str, tuple[int, Sequence[Any]]]  # name to place and cells


class _Xlsx:
    """Columns by the names above them, or by their letters."""

    def members(self, path: Path) -> dict[str, Member]:
        return {
            name: self._member(f"{path}: {name}", cells) for name, (_, cells) in _table(path).columns.items()
        }

    def _member(self, label: str, cells: Sequence[Any]) -> Member:
        given = [cell for cell in cells if cell is not None]
        if given and all(isinstance(cell, _DATES) for cell in given):
            return loaded(np.array(cells, "datetime64[us]"), label)
        if given and all(isinstance(cell, _TIMES) for cell in given):
            return loaded(_times(cells), label)
        numbers = [cell if _is_number(cell) else None for cell in cells]
        count = sum(cell is not None for cell in numbers)
        found = loaded(np.array(numbers, np.float64), label)
        found = replace(found, shown_whole=all(isinstance(cell, int | None) for cell in numbers))
        if any(isinstance(cell, str) and cell.startswith("=") for cell in given):
            return Member(None, "formulas", found.load)
        if count < max(1, _MIN_SHARE * len(given)):
            return Member(None, _described(given), found.load)
        return found

    def save(self, source: Path, temporary: Path, changed: Mapping[str, bytes]) -> tuple[str, ...]:
        table, workbook = _table(source), _open(source)
        sheet = workbook[table.sheet]
        for name, samples in changed.items():
            place, cells = table.columns[name]
            old = np.array([cell if _is_number(cell) else None for cell in cells], np.float64)
            new = np.frombuffer(samples)
            for row in np.flatnonzero(changed_samples(old, new)).tolist():
                sheet.cell(table.first_row + row + 1, place + 1).value = float(new[row])
        workbook.save(temporary)
        _without_clock(source, temporary)
        every = (cell for sheet in workbook.worksheets for row in sheet.iter_rows() for cell in row)
        return (_NO_VALUES,) if any(cell.data_type == "f" for cell in every) else ()


def _times(cells: Sequence[Any]) -> Array:
    """Turn times of day, which start again at midnight, and durations into stamps of one unbroken time."""
    stamps = np.full(len(cells), np.datetime64("NaT"), "datetime64[us]")
    days, last = 0, 0
    for row, cell in enumerate(cells):
        if isinstance(cell, datetime.timedelta):
            us = cell // datetime.timedelta(microseconds=1)
        elif cell is None:
            continue
        else:
            us = ((cell.hour * 60 + cell.minute) * 60 + cell.second) * 1_000_000 + cell.microsecond
            days += us < last - _DAY_US // 2
            us, last = us + days * _DAY_US, us
        stamps[row] = np.datetime64(us, "us")
    return stamps


def _described(given: Sequence[Any]) -> str:
    """Say what the cells of a column are that are no numbers."""
    if not given:
        return "empty"
    kinds: dict[str, Any] = {
        "times of day": datetime.time,
        "durations": datetime.timedelta,
        "dates": _DATES,
        "text": str,
    }
    found = [name for name, kind in kinds.items() if any(isinstance(cell, kind) for cell in given)]
    if found and found[0] != "text":
        return " and ".join(found)
    return f"text such as {str(given[0])!r}"


def _without_clock(source: Path, written: Path) -> None:
    """Give a workbook the properties of its source and no times of its own, so that a rerun has its bytes."""
    with zipfile.ZipFile(source) as archive:
        old = archive.read(_PROPERTIES) if _PROPERTIES in archive.namelist() else None
    with zipfile.ZipFile(written) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[_PROPERTIES] = old or _STAMP.sub(_EPOCH, parts[_PROPERTIES])
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # of 1980


def _open(path: Path) -> Any:
    openpyxl = optional_package("XLSX", f"{path}: ")
    with naming_damage(str(path), "a sound workbook"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on parts that openpyxl drops
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
            require_plausible_size(claimed, path.stat().st_size, f"{claimed} bytes of sheets", f"{path}: ")
            sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
            merged = [area for name in sheets for area in _MERGED.findall(archive.read(name))]
        _check_cells(path, sum(map(_cells, merged)), "merged cells")  # openpyxl makes an object of each
        return openpyxl.load_workbook(path, keep_vba=path.suffix.lower() == ".xlsm")


def _cells(area: bytes) -> int:
    """Count the cells of an area, such as `A1:XFD1048576`."""
    from openpyxl.utils import range_boundaries

    left, top, right, bottom = (number or 0 for number in range_boundaries(area.decode("latin-1")))
    return (right - left + 1) * (bottom - top + 1)


def _check_cells(path: Path, cells: int, kind: str) -> None:
    require_plausible_size(cells * _CELL_BYTES, path.stat().st_size, f"{cells} {kind}", f"{path}: ")


def _table(path: Path) -> _Table:
    """Find the first sheet whose last rows hold numbers; names stand in the rows above."""
    for sheet in _open(path).worksheets:
        _check_cells(path, sheet.max_row * sheet.max_column, "cells up to the last one")
        rows = list(sheet.iter_rows(values_only=True))
        first = next((n for n, row in enumerate(rows) if _is_data(row)), None)
        if first is None or len(rows) - first < _MIN_ROWS:
            continue
        require_few(len(rows[first]), "columns", f"{path}: ")
        while all(cell is None for cell in rows[-1]):
            rows.pop()
        above = max(rows[:first], key=_words, default=())
        names = [str(cell) if isinstance(cell, str) and cell.strip() else "" for cell in above]
        columns: dict[str, tuple[int, Sequence[Any]]] = {}
        for place, cells in enumerate(zip(*rows[first:], strict=True)):
            if all(cell is None for cell in cells):
                continue
            name = (names[place] if place < len(names) else "") or sheet.cell(1, place + 1).column_letter
            if name in columns:
                raise UnsupportedError(f"{path}: two columns are named {name!r}; expected different names")
            columns[name] = place, cells
        return _Table(sheet.title, first, columns)
    # A workbook of notes beside recordings is copied.
    raise NothingToCleanError(
        f"{path}: no sheet holds a table of numbers; expected rows of numbers under names"
    )


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool)


def _is_data(row: Sequence[Any]) -> bool:
    """True for a row with a number, and no more words than numbers and dates."""
    numbers = sum(_is_number(cell) or isinstance(cell, _DATES + _TIMES) for cell in row)
    return any(map(_is_number, row)) and numbers >= _words(row)


def _words(row: Sequence[Any]) -> int:
    return sum(isinstance(cell, str) and not cell.startswith("=") for cell in row)


FORMAT = ArchiveFormat(_Xlsx())
