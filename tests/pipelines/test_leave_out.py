"""Thresholds chosen by leaving one source out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.benchmark import leave_out as module
from pipelines.benchmark.leave_out import SETTINGS, leave_out
from pipelines.benchmark.protocols import PROTOCOLS


def test_a_source_has_no_part_in_the_thresholds_that_judge_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two sources like a setting that harms the third, which then is judged by it."""
    harmed = {"a": 0, "b": 0, "c": 1}  # setting that harms the source

    def measure(name: str, *_: object) -> module._Source:
        source = module._Source(name)
        gains = [3.0, 3.0, *[1.0] * (len(SETTINGS) - 2)]
        gains[harmed[name]] = -9.0 if name == "c" else 2.95
        source.add(False, gains)
        source.add(True, [60.0 if at != harmed[name] else 20.0 for at in range(len(SETTINGS))])
        return source

    monkeypatch.setattr(module, "_measure", measure)
    for name in harmed:
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "x.npz", x=np.arange(100.0))
    rows = {row[0]: row for row in leave_out(tmp_path)}
    assert rows["c"][2] == str(SETTINGS[1])  # which a and b like, and which harms c
    assert rows["c"][3:5] == ["100.0 %", "-9.0"]
    assert rows["all"][3:5] == ["33.3 %", "-9.0"]


def test_recordings_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweeps = {"none": (), "gaussian": (5.0,), "pink": (5.0,)}
    short = {"sensor": replace(PROTOCOLS["sensor"], sweeps=sweeps)}
    monkeypatch.setattr(module, "PROTOCOLS", short)
    rng = np.random.default_rng(0)
    for name, width in (("slow", 60.0), ("fast", 9.0)):
        (tmp_path / name).mkdir()
        wave = np.sin(np.arange(2048) / width) + 0.5 * np.sin(np.arange(2048) / (0.37 * width))
        np.savez(tmp_path / name / "x.npz", x=wave + 1e-4 * rng.standard_normal(2048), fs=np.float64(100.0))
    rows = leave_out(tmp_path)
    assert [row[0] for row in rows] == ["fast", "slow", "all"]
    assert rows[-1][3] == "0.0 %"
    assert float(rows[-1][5]) > 5
    assert rows[-1][6] == "100 %"
