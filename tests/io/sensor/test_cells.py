"""Changed cells keep blanks, quotes and line ends of the old ones, and a file that changed is read again."""

import os
from pathlib import Path

import numpy as np
import pytest

from denoise import io
from denoise.io.sensor.cells import CellFormat, replaced
from denoise.io.sensor.numerals import NumberForm
from denoise.signal import Domain

POINT, COMMA, GROUPS = NumberForm("."), NumberForm(","), NumberForm(",", ".")


@pytest.mark.parametrize(
    ("form", "cells", "expected"),
    [
        (POINT, ["1.5", "2.5"], ["1.750", "2.750"]),
        (POINT, ["1.5\r", "2.5\r"], ["1.750\r", "2.750\r"]),
        (POINT, ["1.5\r", "2.5"], ["1.750\r", "2.750"]),  # the last line has no end
        (POINT, ["1.5\r\r", "2.5\r"], ["1.750\r\r", "2.750\r"]),
        (POINT, ['"1.5"', "2.5"], ['"1.750"', "2.750"]),
        (POINT, ["    1.5", " 2.5 "], ["  1.750", " 2.750 "]),
        (POINT, ["1.5\xa0", "2.5"], ["1.750\xa0", "2.750"]),
        (COMMA, ["1,5", "2,5"], ["1,750", "2,750"]),
        (GROUPS, ["1.001,5", "2,5"], ["1.001,750", "2,750"]),
    ],
)
def test_a_cell_keeps_what_is_around_its_number(
    form: NumberForm, cells: list[str], expected: list[str]
) -> None:
    style = CellFormat(".3f", 3, form, "nan")
    values = form.parse(cells)
    assert replaced(cells, values + 0.25, style, Domain()) == expected
    assert replaced(cells, values, style, Domain()) == cells


def test_a_file_that_was_written_again_is_surveyed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rates_hz = []
    for step in ("0.10", "0.20"):  # of one size, and with one time of change
        path.write_text("time_s,x\n" + "".join(f"{i * float(step):09.2f},{i % 7}.5\n" for i in range(99)))
        os.utime(path, ns=(10**18, 10**18))
        rates_hz.append(io.probe(path).sample_rate)
    np.testing.assert_allclose(rates_hz, [10.0, 5.0])
