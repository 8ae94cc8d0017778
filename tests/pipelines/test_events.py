"""`denoise benchmark --protocol events`: the standard profile on labelled series."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.benchmark.events import Series, profile_score

Run = Callable[..., Any]
ROWS, START, STOP = 1000, 600, 700


def series() -> Series:
    rows = np.arange(ROWS)
    return Series("s", np.zeros((ROWS, 1)), (rows >= START) & (rows < STOP), None)


def alarms(*rows: int) -> Any:
    return np.isin(np.arange(ROWS), rows)


def test_an_early_alarm_is_worth_all_and_silence_nothing() -> None:
    assert profile_score(series(), alarms(START)) == pytest.approx(100)
    assert profile_score(series(), alarms()) == 0
    early, late = (profile_score(series(), alarms(row)) for row in (START + 20, STOP - 5))
    assert 100 > early > late > 50
    assert profile_score(series(), alarms(START, START + 1, START + 2)) == pytest.approx(
        100
    )  # the first counts


def test_a_false_alarm_costs_a_ninth_and_less_right_after_a_window() -> None:
    far = profile_score(series(), alarms(START, 300))
    near = profile_score(series(), alarms(START, STOP))
    assert far == pytest.approx(100 - 100 * 0.11 / 2)
    assert far < near < 100
    assert profile_score(series(), alarms(START, 100)) == pytest.approx(100)  # the first 15 % do not count


def test_series_are_scored_by_their_column_of_labels(tmp_path: Path, denoise: Run) -> None:
    values = np.random.default_rng(0).normal(size=400)
    values[300:303] += 15
    label = (np.arange(400) >= 290) & (np.arange(400) < 330)
    for name, column in (("good", "label"), ("other", "b")):
        lines = "".join(
            f"{n},{v:.4f},{int(one)}\n" for n, (v, one) in enumerate(zip(values, label, strict=True))
        )
        (tmp_path / f"{name}.csv").write_text(f"time,x,{column}\n{lines}")
    out = tmp_path / "r.json"
    result = denoise("benchmark", tmp_path, "--protocol", "events", "--json", out)
    assert result.exit_code == 1
    assert "expected 'label' among them" in result.stdout
    rows = {(row["set"], row["model"]): row for row in json.loads(out.read_text())["rows"]}
    assert rows["all", "denoise"]["score"] > 90
    assert rows["all", "denoise"]["found"] == 1
    assert (
        rows["all", "denoise"]["score"] >= rows["all", "deviation"]["score"] > rows["all", "random"]["score"]
    )
    assert denoise("benchmark", tmp_path / "other.csv", "--protocol", "events").exit_code == 2
