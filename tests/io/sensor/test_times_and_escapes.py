"""Times of day in workbooks, and quotes behind backslashes in texts."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest

from denoise import io
from denoise.io.sensor.dialect import Dialect
from denoise.signal import SensorInfo

COUNT = 300
READINGS = 20 + np.random.default_rng(3).normal(size=COUNT)


def sheet(path: Path, cells: list[Any]) -> SensorInfo:
    book = openpyxl.Workbook()
    page: Any = book.active
    page.append(["t", "v"])
    for cell, value in zip(cells, READINGS.tolist(), strict=True):
        page.append([cell, value])
    book.save(path)
    with io.reader(path) as reader:
        assert isinstance(reader.info, SensorInfo)
        return reader.info


@pytest.mark.parametrize("start_s", [0, 86_400 - 100])  # and over midnight
def test_times_of_day_are_the_clock_of_a_workbook(tmp_path: Path, start_s: int) -> None:
    at = [divmod((start_s + 2 * row) % 86_400, 60) for row in range(COUNT)]
    info = sheet(tmp_path / "a.xlsx", [datetime.time(m // 60, m % 60, s) for m, s in at])
    assert info.columns == ("v",)
    assert info.sample_rate == pytest.approx(0.5)
    assert info.clock is not None
    assert not info.clock.pauses


def test_durations_are_the_clock_of_a_workbook(tmp_path: Path) -> None:
    info = sheet(
        tmp_path / "a.xlsx", [datetime.timedelta(hours=23, seconds=10 * row) for row in range(COUNT)]
    )
    assert info.sample_rate == pytest.approx(0.1)


def test_cells_of_several_kinds_are_told_in_words(tmp_path: Path) -> None:
    cells = [datetime.time(1, 2, row % 60) if row % 2 else "late" for row in range(COUNT)]
    info = sheet(tmp_path / "a.xlsx", cells)
    assert "left as they are: t (times of day and text)" in info.notes
    assert "datetime" not in " ".join(info.notes)


ESCAPED = [
    r'"x\"y"',
    r'"say \"hi, you\""',
    r'"\""',
    '"a ""b"" c"',
    r'"C:\"',
    "plain",
    '"two, parts"',
    r'"5\"""',
]


def test_a_quote_behind_a_backslash_ends_no_cell(tmp_path: Path) -> None:
    rows = [f"{row / 10:.1f},{READINGS[row]:.3f},{ESCAPED[row % len(ESCAPED)]}" for row in range(COUNT)]
    text = "time,a,n\n" + "\n".join(rows) + "\n"
    (tmp_path / "a.csv").write_text(text)
    with io.reader(tmp_path / "a.csv") as reader:
        values, info = np.concatenate(list(reader), axis=1), reader.info
    assert isinstance(info, SensorInfo)
    assert info.names == ("time", "a", "n")
    assert info.sample_rate == pytest.approx(10)
    np.testing.assert_allclose(values[0], READINGS.round(3))
    io.write(tmp_path / "b.csv", values, info)
    assert (tmp_path / "b.csv").read_text() == text


def test_a_quoted_cell_may_still_go_on_in_the_next_line() -> None:
    dialect = Dialect(",", "\n")
    assert dialect.is_open('1,"a')
    assert dialect.is_open('1,"a ""b')
    assert not dialect.is_open(r'1,"a\"b"')
    assert dialect.split(r'1,"a\",b",2') == ["1", r'"a\"', 'b"', "2"]  # a path, as RFC 4180 has it
