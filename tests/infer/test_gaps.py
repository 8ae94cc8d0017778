"""Pauses of a clock become gaps; short gaps are filled from both sides."""

from pathlib import Path

import numpy as np
import pytest

import denoise
from denoise.errors import UsageError
from denoise.infer.gaps import GapFiller
from denoise.io.sensor.clock import StampSurvey

T = np.arange(9000)
WAVES = np.stack([np.sin(T / 9) + 0.5 * np.sin(T / 3.7), np.cos(T / 21)])
NOISY = WAVES + np.random.default_rng(0).normal(0, 0.01, WAVES.shape)


def filled(signal: np.ndarray, max_samples: int) -> np.ndarray:
    return GapFiller(len(signal), max_samples)(signal, True)


def test_a_gap_is_filled_from_both_sides_and_nothing_else_moves() -> None:
    holed = NOISY.copy()
    for start, size in ((700, 1), (2040, 16), (5000, 64)):
        holed[0, start : start + size] = np.nan
    holed[0, 3000:3100] = holed[1, :5] = holed[1, -3:] = np.nan
    result = filled(holed, 64)
    known = ~np.isnan(holed)
    np.testing.assert_array_equal(result[known], holed[known])
    for start, size in ((700, 1), (2040, 16), (5000, 64)):
        error = result[0, start : start + size] - WAVES[0, start : start + size]
        assert np.sqrt(np.mean(error**2)) < 0.05
    assert np.isnan(result[0, 3000:3100]).all()
    assert np.isnan(result[1, :5]).all()


@pytest.mark.parametrize("block", [1000, 333, 9000])
def test_what_fills_a_gap_does_not_depend_on_the_blocks(block: int) -> None:
    holed = NOISY.copy()
    holed[0, 4090:4100] = np.nan
    filler = GapFiller(2, 20)
    parts = [filler(holed[:, at : at + block], at + block >= 9000) for at in range(0, 9000, block)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), filled(holed, 20))
    assert filler.notes == ("1 gap filled, 10 samples",)


def test_a_short_gap_beside_one_that_stays_is_filled() -> None:
    holed = NOISY[:1].copy()
    for start, stop in ((2000, 2200), (2215, 2219), (2230, 2233), (2240, 2500)):
        holed[0, start:stop] = np.nan
    result = filled(holed, 64)[0]
    assert np.isnan(result[2000:2200]).all()
    assert np.isnan(result[2240:2500]).all()
    assert np.abs(result[2200:2240] - WAVES[0, 2200:2240]).max() < 0.3


def test_a_gap_at_the_edge_of_a_burst_is_not_filled_far_beyond_what_was_seen() -> None:
    rng = np.random.default_rng(1)
    calm = 0.05 * np.convolve(rng.standard_normal(4096), np.hanning(31), "same")
    holed = calm + 0.001 * rng.standard_normal(4096)
    holed[2000:] += 5 * np.exp(-np.arange(2096) / 6.0) * np.cos(np.arange(2096) / 2.0)
    holed[1985:2001] = np.nan
    result = filled(holed[None], 64)[0, 1985:2001]
    low, high = np.nanmin(holed), np.nanmax(holed)
    assert low - 0.2 * (high - low) < result.min()
    assert result.max() < high + 0.2 * (high - low)


def test_a_gap_is_filled_by_what_the_signal_is_near_it() -> None:
    rng = np.random.default_rng(2)
    time = np.arange(6144)
    before = np.sin(time / 9.0) + np.sin(time / 3.1)
    now = 0.05 * np.sin(time / 2.2 + 0.02 * np.cumsum(rng.standard_normal(6144)))
    log = np.where(time < 4096, before, now) + 0.001 * rng.standard_normal(6144)
    errors = []
    for start in range(4700, 5600, 50):
        holed = log.copy()
        holed[start : start + 16] = np.nan
        errors.append(filled(holed[None], 64)[0, start : start + 16] - log[start : start + 16])
    assert np.sqrt(np.mean(np.square(errors))) < 0.003


def test_gaps_stay_unless_they_are_to_be_filled(tmp_path: Path) -> None:
    cells = [f"{i / 100:.2f},{v:.3f}" for i, v in enumerate(NOISY[0, :900])]
    cells[400], cells[401] = "4.00,", "4.01,"
    (tmp_path / "a.csv").write_text("time_s,x\n" + "\n".join(cells) + "\n")
    denoise.clean_file(tmp_path / "a.csv", tmp_path / "b.csv", "savgol")
    assert (tmp_path / "b.csv").read_text().splitlines()[401] == "4.00,"
    report = denoise.clean_file(tmp_path / "a.csv", tmp_path / "c.csv", "savgol", fill_gaps=2)
    value = float((tmp_path / "c.csv").read_text().splitlines()[401].split(",")[1])
    assert value == pytest.approx(WAVES[0, 400], abs=0.05)
    assert "1 gap filled, 2 samples" in report.notes
    with pytest.raises(UsageError, match="fill_gaps"):
        denoise.clean_file(tmp_path / "a.csv", tmp_path / "d.csv", "savgol", fill_gaps=-1)


def test_a_pause_of_the_clock_keeps_its_two_sides_apart(tmp_path: Path) -> None:
    steps = np.where(np.arange(600) < 300, 0.0, 10.0)
    for name, pause in (("whole", 0.0), ("paused", 60.0)):
        rows = [f"{i / 100 + pause * (i >= 300):.2f},{v:.3f}" for i, v in enumerate(steps)]
        (tmp_path / f"{name}.csv").write_text("time_s,x\n" + "\n".join(rows) + "\n")
        denoise.clean_file(tmp_path / f"{name}.csv", tmp_path / f"{name}_out.csv", "savgol", columns=("x",))
    whole, paused = (
        np.loadtxt(tmp_path / f"{name}_out.csv", delimiter=",", skiprows=1)[:, 1]
        for name in ("whole", "paused")
    )
    assert np.abs(paused - steps).max() < np.abs(whole - steps).max()


def test_the_rate_of_rounded_stamps_is_theirs_and_jitter_is_told() -> None:
    survey = StampSurvey()
    stamps = np.rint(np.arange(20000) / 700 * 1000)  # whole ms: steps of 1 and 2
    stamps[7000:] += 60000
    for part in np.array_split(stamps, 7):
        survey.add(part)
    assert 1000 / survey.interval == pytest.approx(700, rel=1e-5)
    assert survey.pauses == 1
    assert 0.3 < survey.jitter / survey.interval < 0.4
