"""Cells with marks, units and codes, a last line that is cut off, and steps back in time."""

from pathlib import Path

import numpy as np
import pytest

from denoise.infer.file import clean_file
from denoise.io.sensor.numerals import find_suffix, is_flagged

SIZE = 3000
READINGS = 20.0 + 3.0 * np.sin(np.arange(SIZE) / 22.0) + 0.5 * np.random.default_rng(0).standard_normal(SIZE)


def cells(suffix: str = "") -> list[str]:
    return [f"{value:.2f}{suffix}" for value in READINGS]


def cleaned(tmp_path: Path, temp: list[str], end: str = "\n") -> tuple[list[str], list[str], str]:
    """The rows of a log before and after cleaning, and its notes."""
    source, result = tmp_path / "in.csv", tmp_path / "out.csv"
    rows = [f"{row / 10:.1f},{cell}" for row, cell in enumerate(temp)]
    head = ",".join(["t_s", "temp", "more"][: 2 + temp[0].count(",")])
    source.write_text(head + "\n" + "\n".join(rows) + end, encoding="utf-8")
    notes = clean_file(source, result).notes
    before, after = (path.read_text(encoding="utf-8").split("\n") for path in (source, result))
    assert len(before) == len(after)
    return before, after, "\n".join(notes)


def test_readings_with_marks_stay_as_they_are_and_disturb_nothing(tmp_path: Path) -> None:
    marked = cells()
    marked[100], marked[500], marked[501] = "918.96*", "<16.5", "> 990.0"
    before, after, notes = cleaned(tmp_path, marked)
    plain = cleaned(tmp_path, cells())[1]
    for row in (100, 500, 501):
        assert after[row + 1] == before[row + 1]
    far = [row for row in range(1, SIZE) if abs(row - 101) > 20 and abs(row - 501) > 20]
    np.testing.assert_allclose(
        *([float(rows[row].split(",")[1]) for row in far] for rows in (after, plain)), atol=0.1
    )
    assert "'918.96*' in temp has a mark (3 such cells): kept, and counted as missing" in notes


def test_a_column_of_many_marked_readings_is_left(tmp_path: Path) -> None:
    before, after, notes = cleaned(tmp_path, [f"<{cell}" if cell < "19" else cell for cell in cells()])
    assert after == before
    assert "cells such as '<" in notes


@pytest.mark.parametrize("unit", ["%", " °C", " m/s"])
def test_a_unit_in_each_cell_is_written_back(tmp_path: Path, unit: str) -> None:
    _, after, _ = cleaned(tmp_path, cells(unit))
    assert all(row.endswith(unit) for row in after[1:-1])
    plain = cleaned(tmp_path, cells())[1]
    assert [row.removesuffix(unit) for row in after] == plain


@pytest.mark.parametrize("some", ["20.10", "20.10 °F", "N 20.10"])
def test_a_unit_that_some_cells_lack_leaves_the_column(tmp_path: Path, some: str) -> None:
    mixed = cells(" °C")
    mixed[2000] = some
    before, after, notes = cleaned(tmp_path, mixed)
    assert after == before
    assert some in notes or "text such as" in notes


def test_what_may_be_a_code_is_no_unit() -> None:
    assert (
        find_suffix(["48.1N", "48.2N"]) == find_suffix(["12A", "13A"]) == find_suffix(["1.5e", "2.5e"]) == ""
    )
    assert find_suffix(["1.5 %", "-", "2 %"]) == " %"
    assert [is_flagged(text) for text in ("18.96*", "<16.5", "*", "<", "12.5", "16A", "1.5e*")] == [
        True,
        True,
    ] + 5 * [False]


@pytest.mark.parametrize("cut", ["300.0", "3"])
def test_a_last_line_that_is_cut_off_stays(tmp_path: Path, cut: str) -> None:
    _, after, notes = cleaned(tmp_path, cells(), f"\n{cut}")
    assert after[-1] == cut
    assert f"the last line is cut off: '{cut}' is kept as it is" in notes
    assert after[:-1] == cleaned(tmp_path, cells(), "")[1]


@pytest.mark.parametrize("code", ["-999999.99", "99999999"])
def test_long_codes_of_missing_values_stay(tmp_path: Path, code: str) -> None:
    coded = cells()
    coded[50::97] = [code] * len(coded[50::97])
    before, after, notes = cleaned(tmp_path, coded)
    assert f"{code} in temp stands for a missing value ({len(coded[50::97])} samples): kept" in notes
    assert [row for row in after if code in row] == [row for row in before if code in row]
    assert after[50] != before[50]


def test_steps_back_in_time_are_told(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    times = np.arange(SIZE) / 10.0
    times[2000:] -= 50.0
    np.savetxt(source, np.c_[times, READINGS], "%.2f", ",", header="t_s,temp", comments="")
    assert "10 Hz, 1 step back in time" in clean_file(source, tmp_path / "out.csv").notes[0]


def test_ratings_in_rows_of_no_order_stay(tmp_path: Path) -> None:
    rng, source, result = np.random.default_rng(1), tmp_path / "in.csv", tmp_path / "out.csv"
    years, rating, faith = rng.choice([0.125, 1.5, 4.0, 7.0, 15.0], 800), *rng.integers(1, 6, (2, 800))
    wave = np.round(2.0 * np.sin(np.arange(800) / 20.0) + 0.8 * rng.standard_normal(800))
    table = np.c_[years, rating, faith, wave]
    np.savetxt(source, table, "%g", ",", header="years,rating,faith,wave", comments="")
    (note,) = (note for note in clean_file(source, result).notes if note.startswith("left as they are"))
    why = "a few values, in no order in time"
    assert note == f"left as they are: years ({why}), rating ({why}), faith ({why})"
    np.testing.assert_array_equal(np.loadtxt(result, delimiter=",", skiprows=1)[:, :3], table[:, :3])
    timed = np.c_[np.arange(800), table]
    np.savetxt(source, timed, "%g", ",", header="time_s,years,rating,faith,wave", comments="")
    assert not any("no order" in note for note in clean_file(source, result).notes)


def test_numbers_of_stations_keep_their_zeros(tmp_path: Path) -> None:
    stations = [f"00{row}" for row in np.random.default_rng(1).integers(190, 215, SIZE)]
    before, after, notes = cleaned(tmp_path, [f"{a},{b}" for a, b in zip(cells(), stations, strict=True)])
    assert [row.split(",")[2:] for row in after] == [row.split(",")[2:] for row in before]
    assert "(numbers with leading zeros)" in notes
    assert after != before


def test_a_column_of_numbers_beyond_the_largest_is_not_called_empty(tmp_path: Path) -> None:
    *_, notes = cleaned(tmp_path, [f"{cell},1e400" for cell in cells()])
    assert "(no finite number)" in notes
