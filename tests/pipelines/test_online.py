"""`denoise anomalies --online`: one line for each row of the input."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., Any]


def test_each_row_of_a_log_has_its_line(tmp_path: Path, denoise: Run) -> None:
    values = np.random.default_rng(0).normal(20, 1, 400)
    values[300] = 40
    times = np.datetime64("2024-03-01T00:00:00") + np.arange(400) * np.timedelta64(30, "m")
    lines = [f"{time},{value:.3f}\n" for time, value in zip(times, values, strict=True)]
    lines[120] = f"{times[120]},\n"
    log, out = tmp_path / "log.csv", tmp_path / "scores.csv"
    log.write_text("time,x\n" + "".join(lines))
    result = denoise("anomalies", log, "--online", "-o", out)
    assert result.exit_code == 0, result.output
    assert "row 300 (540000 s)" in result.stdout
    with out.open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [int(row["row"]) for row in rows] == list(range(400))
    assert float(rows[300]["start_s"]) == 300 * 1800
    assert rows[300]["anomalous"] == "True"
    assert float(rows[300]["p_value"]) < 1e-3
    assert sum(row["anomalous"] == "True" for row in rows) <= 4
    assert denoise("anomalies", log, "--online", "-o", out).exit_code == 2  # exists
    assert "with --online .csv" in " ".join(denoise("anomalies", "--help").stdout.split())
    for arguments, sentence in (
        (("-o", tmp_path / "s.json"), "written as .csv"),
        (("-o", tmp_path / "s.csv", "--fit-on", tmp_path), "--fit-on cannot be set with --online"),
    ):
        refused = denoise("anomalies", log, "--online", *arguments)
        assert refused.exit_code == 2
        assert sentence in refused.stderr


def test_a_flag_and_a_constant_are_judged_and_a_counter_is_named(tmp_path: Path, denoise: Run) -> None:
    n = np.arange(400)
    log, out = tmp_path / "log.csv", tmp_path / "scores.csv"
    flag, level = (n % 40 < 20) ^ ((n >= 300) & (n < 310)), np.where(n == 350, 9, 7)
    cells = zip(n, flag.astype(int), level, strict=True)
    log.write_text("time,pump,valve,count\n" + "".join(f"{t / 10:.1f},{f},{v},{t}\n" for t, f, v in cells))
    result = denoise("anomalies", log, "--online", "-o", out)
    assert result.exit_code == 0, result.output
    assert "not judged: count (counter)" in result.stdout
    with out.open(newline="") as text:
        found = [int(row["row"]) for row in csv.DictReader(text) if row["anomalous"] == "True"]
    assert any(300 <= row < 320 for row in found)
    assert 350 in found
    assert len(found) <= 8


@pytest.mark.parametrize("form", ["regular", "irregular", "time of day"])
def test_no_row_of_a_file_depends_on_later_ones(tmp_path: Path, denoise: Run, form: str) -> None:
    """Neither do the times: the mean rate of a log is known at its end only."""
    rng = np.random.default_rng(0)
    seconds = np.arange(900) * 1800 if form != "irregular" else np.cumsum(rng.choice([300, 1800, 5400], 900))
    values = np.sin(2 * np.pi * seconds / 86400) + rng.normal(0, 0.1, 900)
    stamps = np.datetime64("2024-03-01T00:00:00") + seconds.astype("timedelta64[s]")
    lines = [
        f"{str(t)[11:] if form == 'time of day' else t},{v:.4f}\n"
        for t, v in zip(stamps, values, strict=True)
    ]
    changed = [line.split(",")[0] + f",{1e3 * n}\n" for n, line in enumerate(lines)]
    found = []
    for name, rows in (("whole", lines), ("first", lines[:600]), ("changed", lines[:600] + changed[600:])):
        (tmp_path / f"{name}.csv").write_text("time,x\n" + "".join(rows))
        out = tmp_path / f"{name}_scores.csv"
        assert denoise("anomalies", tmp_path / f"{name}.csv", "--online", "-o", out).exit_code == 0
        with out.open(newline="") as text:
            found.append([line[1:] for line in csv.reader(text)][1:])
        assert len(found[-1]) == len(rows)
    assert found[0][:600] == found[1] == found[2][:600]
    assert float(found[0][-1][2]) == seconds[-1] - seconds[0]
