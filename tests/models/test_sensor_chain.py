"""What can be asked to be taken out of a sensor log before its network."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

import denoise
from denoise.errors import UsageError
from denoise.models import build
from denoise.models.sensor import SensorChain
from pipelines.cli import cli

RATE_HZ = 250.0
Floats = NDArray[np.float64]


def slow(samples: int = 16_384) -> Floats:
    """Beats, about one a second, on nothing else."""
    time_s = np.arange(samples) / RATE_HZ
    beats = np.exp(-(((time_s * 1.1) % 1 - 0.5) ** 2) / 0.002)
    return np.asarray((beats - beats.mean()) / beats.std())


def through(remove: tuple[str, ...], samples: Floats, rate_hz: float | None = RATE_HZ) -> Floats:
    chain = SensorChain(build("none", "sensor"), remove).at_rate(rate_hz)
    return chain(torch.from_numpy(samples)[None, None])[0, 0].numpy()


def decibels(signal: Floats, error: Floats) -> float:
    return float(10 * np.log10(np.mean(signal**2) / np.mean(error**2)))


def test_a_network_comes_without_stages_unless_they_are_asked_for() -> None:
    assert not isinstance(denoise.load("sensor").model, SensorChain)
    assert isinstance(denoise.load("sensor", remove=("mains",)).model, SensorChain)


@pytest.mark.parametrize("grid_hz", [50.0, 60.0])
def test_hum_of_either_grid_goes_also_while_its_frequency_drifts(grid_hz: float) -> None:
    clean, time_s = slow(), np.arange(16_384) / RATE_HZ
    turns = grid_hz * time_s + 0.3 * np.sin(2 * np.pi * time_s / 30)  # within 0.06 Hz of the grid
    hum = np.sin(2 * np.pi * turns) + 0.4 * np.sin(4 * np.pi * turns + 1)
    inside = slice(2048, -2048)
    left = through(("mains",), clean + hum) - clean
    assert decibels(hum[inside], left[inside]) > 20


def test_a_reading_that_hangs_at_a_rail_is_filled_in() -> None:
    clean = slow() + 0.3 * np.sin(np.arange(16_384) / 9.0)
    stuck = clean.copy()
    for start in range(500, 16_000, 700):
        stuck[start : start + 20] = clean.max() + 1
    repaired = through(("faults",), stuck)
    assert decibels(clean, repaired - clean) > decibels(clean, stuck - clean) + 12


def test_slow_wander_goes_and_beats_stay() -> None:
    clean = slow()
    wander = 3 * np.sin(2 * np.pi * 0.1 * np.arange(16_384) / RATE_HZ)
    left = through(("baseline",), clean + wander) - clean
    inside = slice(2048, -2048)
    assert decibels(wander[inside], (left - left[inside].mean())[inside]) > 10


@pytest.mark.parametrize("remove", [("faults",), ("mains",), ("baseline",), ("faults", "mains", "baseline")])
def test_units_and_offsets_do_not_matter(remove: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    log = slow() + 0.2 * rng.standard_normal(16_384) + np.sin(2 * np.pi * 50 * np.arange(16_384) / RATE_HZ)
    cleaner = denoise.load("sensor", remove=remove)
    one = cleaner.clean(log, RATE_HZ)
    other = cleaner.clean(1000 * log + 77, RATE_HZ)
    assert float(np.abs((other - 77) / 1000 - one).max()) < 1e-6


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown stage 'hum'"):
        denoise.load("sensor", remove=("hum",))
    with pytest.raises(UsageError, match="is for networks for sensors"):
        denoise.load("wavelet", "sensor", remove=("mains",))
    with pytest.raises(UsageError, match="give the sample rate"):
        denoise.load("sensor", remove=("mains",)).clean(slow())


def test_the_row_of_a_file_tells_what_was_taken_out(tmp_path: Path) -> None:
    time_s = np.arange(8192) / RATE_HZ
    log = slow(8192) + np.sin(2 * np.pi * 50 * time_s)
    text = "".join(f"{t:.3f},{x:.5f}\n" for t, x in zip(time_s, log, strict=True))
    (tmp_path / "a.csv").write_text("time,x\n" + text)
    run: Callable[..., Any] = CliRunner().invoke
    result = run(cli, ["clean", str(tmp_path / "a.csv"), "-o", str(tmp_path / "out"), "--remove", "mains"])
    assert result.exit_code == 0, result.output
    (row,) = (
        json.loads(line) for line in (tmp_path / "out" / "denoise-manifest.jsonl").read_text().splitlines()
    )
    # The hum has half the power of a unit sine; of all that varies, 1.5, that is -4.8 dB.
    assert row["metrics"]["removed_mains_db"] == pytest.approx(-4.8, abs=0.5)
