"""Stages before the sensor network: removals by default, on demand, and never."""

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
from denoise.infer.apply import apply
from denoise.models.base import Denoiser, InputSpec
from denoise.models.sensor.chain import SensorChain
from denoise.models.sensor.check import HarmGate
from denoise.models.sensor.faults import Repair
from denoise.models.sensor.mains import Mains
from pipelines.cli.group import cli

RATE_HZ = 250.0
Floats = NDArray[np.float64]


def slow(samples: int = 16_384) -> Floats:
    """Heartbeats, about one a second, without noise."""
    time_s = np.arange(samples) / RATE_HZ
    beats = np.exp(-(((time_s * 1.1) % 1 - 0.5) ** 2) / 0.002)
    return np.asarray((beats - beats.mean()) / beats.std())


class Nothing(Denoiser):
    """A network that finds no noise."""

    spec = InputSpec("sensor", halo=8, centre=True, scale=True)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy[:, :1].clone()


class Share(Nothing):
    """A network whose estimate of the noise is a share of its input."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return (1.0 - self.share) * noisy[:, :1]


def through(
    samples: Floats,
    remove: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
    network: Denoiser | None = None,
    heart: Denoiser | None = None,
) -> Floats:
    chain = SensorChain(network or Nothing(), heart, remove, keep)
    return apply(chain, samples[None], peak=None, sample_rate=RATE_HZ)[0]


def decibels(signal: Floats, error: Floats) -> float:
    return float(10 * np.log10(np.mean(signal**2) / np.mean(error**2)))


def hum(samples: int = 16_384, grid_hz: float = 50.0, power: float = 0.5) -> Floats:
    """Mains hum whose frequency drifts within 0.06 Hz, with one harmonic."""
    time_s = np.arange(samples) / RATE_HZ
    turns = grid_hz * time_s + 0.3 * np.sin(2 * np.pi * time_s / 30)
    line = np.sin(2 * np.pi * turns) + 0.4 * np.sin(4 * np.pi * turns + 1)
    return np.asarray(line * np.sqrt(power / np.mean(line**2)))


@pytest.mark.parametrize("grid_hz", [50.0, 60.0])
def test_clear_hum_of_either_grid_goes_unasked_also_while_its_frequency_drifts(grid_hz: float) -> None:
    clean, line = slow(), hum(grid_hz=grid_hz)
    inside = slice(2048, -2048)
    assert decibels(line[inside], (through(clean + line) - clean)[inside]) > 20


@pytest.mark.parametrize("rate_hz", [200.0, 240.0, 250.0, 400.0, 480.0, 800.0, 1000.0])
@pytest.mark.parametrize("grid_hz", [50.0, 60.0])
def test_a_level_that_moves_is_no_hum(rate_hz: float, grid_hz: float) -> None:
    """A level folds onto the line if the spectrum is thinned to the rate of the grid."""
    time = np.arange(8192) / rate_hz
    level = 3.0 + np.sin(0.5 * time) + np.where(time > 5.0, 2.0, 0.0)
    log = level + 0.01 * np.random.default_rng(0).standard_normal(time.size)
    np.testing.assert_array_equal(Mains(rate_hz, grid_hz)(log), log)


def test_faint_hum_goes_where_it_was_asked_for() -> None:
    clean, line = slow(), hum(power=0.001)
    inside = slice(2048, -2048)
    np.testing.assert_allclose(through(clean + line), clean + line, atol=1e-6)
    assert decibels(line[inside], (through(clean + line, remove=("mains",)) - clean)[inside]) > 12


@pytest.mark.parametrize("turns_hz", [49.8, 50.18, 59.83, 25.0, 29.9])
def test_a_motor_beside_the_mains_stays(turns_hz: float) -> None:
    """Its tones are the rotation and harmonics of it."""
    t = np.arange(8000) / 1000.0
    tones = sum(0.4 / k * np.sin(2 * np.pi * k * turns_hz * t + k) for k in (1, 2, 3, 4))
    clean = tones + 0.5 * np.sin(2 * np.pi * 187 * t)
    for log in (clean, clean + 0.05 * np.random.default_rng(0).standard_normal(t.size)):
        for grid_hz in (50.0, 60.0):
            np.testing.assert_allclose(Mains(1000.0, grid_hz)(log), log, atol=0.02)


def test_a_current_that_is_switched_stays() -> None:
    t = np.arange(6000) / 1000.0
    rng = np.random.default_rng(0)
    inrush = (t > 1.0) * (1.0 + 5.0 * np.exp(-(t - 1.0).clip(0.0) / 0.3)) * np.sin(2 * np.pi * 50 * t)
    level = np.interp(t, [0.0, 1.0, 1.5, 4.0, 5.0], [0.0, 0.0, 1.0, 1.0, 0.2])
    sensor = 0.5 * level + 0.3 * np.sin(2 * np.pi * 50 * t) * (t > 1.0)
    for current in (inrush, sensor):
        log = current / current.std() + 0.01 * rng.standard_normal(t.size)
        np.testing.assert_array_equal(Mains(1000.0)(log), log)


def test_a_line_that_is_not_of_the_mains_stays() -> None:
    clean = slow() + np.sin(2 * np.pi * 46.0 * np.arange(16_384) / RATE_HZ)
    np.testing.assert_allclose(through(clean), clean, atol=1e-6)


def test_a_reading_that_hangs_at_a_rail_is_filled_in() -> None:
    clean = slow() + 0.3 * np.sin(np.arange(16_384) / 9.0)
    stuck = clean.copy()
    for start in range(500, 16_000, 700):
        stuck[start : start + 20] = clean.max() + 1
    assert decibels(clean, through(stuck) - clean) > decibels(clean, stuck - clean) + 12


def test_a_load_that_rests_before_it_switches_and_a_staircase_stay() -> None:
    rng = np.random.default_rng(5)
    load = rng.choice([3.0, 4.0], 16_384)
    for start in range(200, 16_000, 700):
        load[start - 7 : start] = 3.0
        load[start : start + 200] = 1500.0 + np.round(rng.normal(0.0, 20.0, 200))
    hours = np.arange(16_384) // 16 % 24
    for log in (load, hours.astype(float)):
        np.testing.assert_array_equal(Repair()(log), log)


def test_wild_readings_go_and_steps_and_peaks_stay() -> None:
    rng = np.random.default_rng(0)
    clean = slow() + 0.02 * rng.standard_normal(16_384)
    clean[5000:] += 4.0
    clean[9000:9002] += 3.0  # a peak of two samples
    np.testing.assert_allclose(through(clean), clean, atol=1e-6)
    wild = clean.copy()
    hit = np.arange(300, 16_000, 97)
    wild[hit] += rng.choice([-1, 1], hit.size) * rng.uniform(1, 9, hit.size)
    assert decibels(clean, through(wild) - clean) > decibels(clean, wild - clean) + 15


@pytest.mark.parametrize("rate_hz", [10.0, 64.0, 250.0, None])
def test_one_jerk_to_the_other_side_makes_no_faults_of_movements(rate_hz: float | None) -> None:
    """Below 100 Hz a movement can be one reading wide, and without a rate nobody knows."""
    rng = np.random.default_rng(0)
    calm = np.sin(np.arange(2000) / 40.0) + 0.02 * rng.standard_normal(2000)
    jerks = np.zeros(2000)
    jerks[[700, 890, 1103]], jerks[1320] = [8.0, 9.0, 11.0], -10.0
    chain = SensorChain(Nothing()).for_sample_rate(rate_hz)

    def left(heights: Floats) -> Floats:
        given = (calm + heights)[None]
        return apply(chain, given, peak=None, sample_rate=rate_hz)[0] - calm

    if rate_hz and rate_hz >= 100.0:
        assert np.abs(left(jerks)).max() < 1.0
    else:
        np.testing.assert_allclose(left(jerks), jerks, atol=1e-5)
    jerks[1530] = -7.0
    assert np.abs(left(jerks)).max() < 1.0


def test_heartbeats_at_a_low_rate_are_no_impulses() -> None:
    """At 100 Hz an R wave is one sample high and the S wave behind it one low, at every beat."""
    rng = np.random.default_rng(3)
    beats = np.cumsum(rng.integers(80, 110, 160))
    log = 0.02 * rng.standard_normal(16_384)
    for offset, height in (
        (-2, -0.2),
        (-1, 0.1),
        (0, 5.0),
        (1, -0.3),
        (2, 0.15),
        (50, -3.0),
        (51, 0.2),
        (52, -0.1),
    ):
        log[beats + offset] += height
    np.testing.assert_allclose(through(log), log, atol=1e-6)


def test_a_few_odd_beats_amid_others_are_no_impulses() -> None:
    log = 0.02 * np.random.default_rng(4).standard_normal(16_384)
    for offset, height in ((-2, -0.5), (-1, 3.0), (0, 6.0), (1, 2.5), (2, -0.5)):
        log[np.arange(100, 16_300, 220) + offset] += height
    log[[3501, 3907, 9005, 9411]] += [-6.0, 6.0, 5.0, -5.0]  # paced and ectopic ones, a sample wide
    np.testing.assert_allclose(through(log), log, atol=1e-6)
    flat = log - np.where(np.abs(log) > 0.2, log, 0.0)
    flat[[3501, 3907, 9005, 9411]] += [-6.0, 4.0, 5.0, -7.0]
    assert np.abs(through(flat)).max() < 0.2  # without a rhythm they are faults


@pytest.mark.parametrize("rate_hz", [30.0, 100.0])
def test_a_pulse_wave_keeps_its_beats_and_the_gaps_of_its_contact(rate_hz: float) -> None:
    """Gaps go one way; where a longer one ends, the first reading after it lies above its cubic."""
    beat = (1.2 * np.arange(4096) / rate_hz) % 1
    pulse = np.exp(-(((beat - 0.4) / 0.11) ** 2)) + 0.35 * np.exp(-(((beat - 0.75) / 0.14) ** 2))
    pulse += 0.15 * np.random.default_rng(5).standard_normal(4096)
    gaps = pulse.copy()
    gaps[[1024, 1364, 1809, 2451]] -= 8.0
    gaps[[1025, 1365, 1810, 2452]] -= 1.0
    for start in (700, 1500, 2900):
        gaps[start : start + 6] -= [2.4, 8.0, 8.0, 8.0, 8.0, 5.0]
    for log in (pulse, gaps):
        after = apply(SensorChain(Nothing()), log[None], peak=None, sample_rate=rate_hz)[0]
        np.testing.assert_allclose(after, log, atol=1e-6)


def test_a_wild_reading_in_a_flat_stretch_makes_no_fault_of_it() -> None:
    flat = np.round(8 * slow()) / 8  # a coarse converter: most readings equal their neighbours
    wild = flat.copy()
    wild[500:16_000:422] += 6.0
    wild[711:16_000:422] -= 6.0
    np.testing.assert_array_equal(
        through(wild), wild
    )  # who reads 6 more or less each time is no fault either


def test_slow_wander_goes_where_it_was_asked_for_and_beats_stay() -> None:
    clean = slow()
    wander = 3 * np.sin(2 * np.pi * 0.1 * np.arange(16_384) / RATE_HZ)
    np.testing.assert_allclose(through(clean + wander), clean + wander, atol=1e-6)
    left = through(clean + wander, remove=("baseline",)) - clean
    inside = slice(2048, -2048)
    assert decibels(wander[inside], (left - left[inside].mean())[inside]) > 10


def test_what_is_to_be_kept_stays_whatever_the_network_does() -> None:
    clean, line = slow(), hum()
    wild = clean + line
    wild[300::977] += 8.0
    kept = through(wild, keep=("impulses", "faults", "mains"))
    np.testing.assert_allclose(kept, wild, atol=1e-6)
    wander = 3 * np.sin(2 * np.pi * 0.1 * np.arange(16_384) / RATE_HZ)
    halved = through(clean + wander, keep=("baseline",), network=Share(0.5))
    inside = slice(2048, -2048)
    assert decibels(wander[inside], (halved - clean / 2 - wander)[inside]) > 12


def test_a_faint_correction_is_taken_back_and_a_clear_one_is_not() -> None:
    clean = np.random.default_rng(0).standard_normal(16_384)
    np.testing.assert_allclose(through(clean, network=Share(0.03)), clean, atol=1e-6)  # -30 dB
    np.testing.assert_allclose(HarmGate().share(0.3 * clean), 1.0)


def test_heartbeats_get_the_network_for_them_and_nothing_else_does() -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(16_384) / RATE_HZ
    phase = (1.1 * time_s) % 1
    ecg = np.exp(-(((phase - 0.4) / 0.012) ** 2)) + 0.2 * np.exp(-(((phase - 0.65) / 0.05) ** 2))
    ecg /= ecg.std()
    noises = {
        "white": rng.standard_normal(16_384),
        "wander": 3 * np.sin(2 * np.pi * 0.15 * time_s),
        "muscles": np.convolve(rng.standard_normal(16_384), [0.5, 0.5], "same"),
    }
    for name, noise in noises.items():
        assert through(ecg + noise, heart=Share(1.0)).std() < 0.15, name  # a faint wander stays
    pulse = np.sin(2 * np.pi * 1.1 * time_s) + 0.4 * np.sin(2 * np.pi * 2.2 * time_s + 1)
    event = rng.standard_normal(16_384) * np.exp(-(((time_s - 20) / 3) ** 2))
    for other in (pulse, event, rng.standard_normal(16_384), np.cumsum(rng.standard_normal(16_384))):
        np.testing.assert_allclose(through(other, heart=Share(1.0)), other, atol=1e-6 * np.abs(other).max())


class Unsteady(Nothing):
    """A network whose estimate of the noise is the mean of 2 s, and a share of what is left."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        wander = torch.nn.functional.avg_pool1d(noisy[:, :1], 501, 1, 250, count_include_pad=False)
        return (1.0 - self.share) * (noisy[:, :1] - wander)


def test_wander_of_an_ecg_goes_where_it_fits_the_noise_or_exceeds_the_heartbeats() -> None:
    rng = np.random.default_rng(0)
    time_s = np.arange(16_384) / RATE_HZ
    wander = 0.4 * np.sin(2 * np.pi * 0.08 * time_s)
    beats = ecg(RATE_HZ, 16_384 / RATE_HZ)
    inside = slice(2048, -2048)

    def taken_db(log: Floats, heart: torch.nn.Module, swing: Floats = wander, **options: Any) -> float:
        rest = through(log, heart=heart, **options) - beats
        return decibels(swing[inside], rest[inside] - rest[inside].mean())

    np.testing.assert_allclose(through(beats + wander, heart=Unsteady(0.0)), beats + wander, atol=1e-6)
    assert taken_db(beats + wander, Unsteady(0.0), remove=("baseline",)) > 10
    assert taken_db(beats + 5 * wander, Unsteady(0.0), 5 * wander) > 10
    # white noise has hardly any power up to 4 Hz, so the wander is none of it; slow noise has
    white = 0.3 * rng.standard_normal(time_s.size)
    slowly = np.convolve(rng.standard_normal(time_s.size + 24), np.ones(25) / 5, "valid")
    for noise, low, high in ((white, -0.5, 0.5), (0.3 * slowly, 5, 99)):
        log = beats + wander + noise
        assert low < taken_db(log, Known((wander + noise) / log.std())) < high

    chain = SensorChain(Nothing(), Unsteady(0.0), sample_rate=RATE_HZ).eval()  # a note says how much is left
    log = beats + wander
    chain(torch.from_numpy((log - log.mean()) / log.std())[None, None])
    left_db = 10 * np.log10(np.var(wander) / np.var(log))
    assert chain.diagnostics()["left_wander_db"] == pytest.approx(left_db, abs=1)


class Known(Nothing):
    """A network that knows what was added to a log, in its deviations."""

    def __init__(self, added: Floats) -> None:
        super().__init__()
        self.added = torch.from_numpy(added)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy[:, :1] - self.added[: noisy.shape[-1]].to(noisy)


def ecg(rate_hz: float, seconds: float = 30.0) -> Floats:
    """A schematic electrocardiogram of unit variance: P, QRS and T, 66 beats a minute."""
    phase = (1.1 * np.arange(round(seconds * rate_hz)) / rate_hz) % 1
    waves = (
        (0.2, 0.025, 0.12),
        (0.37, 0.01, -0.12),
        (0.4, 0.012, 1.0),
        (0.43, 0.01, -0.2),
        (0.65, 0.05, 0.25),
    )
    log = sum(height * np.exp(-(((phase - at) / width) ** 2)) for at, width, height in waves)
    return np.asarray((log - log.mean()) / log.std())


@pytest.mark.parametrize("rate_hz", [125.0, 360.0, 1000.0])
def test_an_ecg_of_any_rate_is_cleaned_in_the_band_of_its_network(rate_hz: float) -> None:
    clean = ecg(rate_hz)
    time_s = np.arange(clean.size) / rate_hz
    noise = 0.6 * np.sin(2 * np.pi * 0.2 * time_s)  # wander
    cleaner = denoise.load("ecg")
    inside = slice(round(6 * rate_hz), -round(6 * rate_hz))
    left = (cleaner.clean(clean + noise, rate_hz) - clean)[inside]
    assert decibels(noise[inside], left - left.mean()) > 6
    assert np.std(cleaner.clean(clean, rate_hz) - clean) < 0.18
    with_gap = clean.copy()
    with_gap[1000:1030] = np.nan
    np.testing.assert_array_equal(np.isnan(cleaner.clean(with_gap, rate_hz)), np.isnan(with_gap))


def test_a_network_for_ecgs_asks_for_the_rate() -> None:
    with pytest.raises(UsageError, match=r"at the 0\.00167 Hz of the log heartbeats"):
        denoise.load("ecg").clean(ecg(360.0), 1 / 600)
    with pytest.raises(UsageError, match="180 to 720 Hz, and the log has no sample rate: give it"):
        denoise.load("ecg").clean(ecg(360.0))


@pytest.mark.parametrize("block", [5000, 20_000])
def test_blocks_put_together_equal_the_whole(block: int) -> None:
    rng = np.random.default_rng(0)
    log = np.tile(slow(), 4) + 0.3 * rng.standard_normal(65_536) + np.r_[hum(32_768), np.zeros(32_768)]
    log[30_000:40_000] = rng.standard_normal(10_000)
    log[::701] += 5.0
    log[3000:65_000:4001] = np.nan
    chain = SensorChain(Share(0.3), Share(0.6))
    whole = apply(chain, log[None], peak=None, sample_rate=RATE_HZ, tile=65_536)
    parts = apply(chain, log[None], peak=None, sample_rate=RATE_HZ, tile=block)
    np.testing.assert_allclose(parts, whole, atol=1e-6)


class Common(Nothing):
    """A network whose estimate of the noise is a channel's deviation from the mean of all."""

    spec = InputSpec("sensor", halo=8, centre=True, scale=True, joint_channels=True)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy.mean(1, keepdim=True).expand_as(noisy)


@pytest.mark.parametrize("block", [5000, 20_000])
def test_channels_go_together_through_a_network_that_looks_across_them(block: int) -> None:
    rng = np.random.default_rng(0)
    wave = sum(np.sin(np.arange(20_480) / period) for period in (3.0, 5.0, 9.0, 14.0)) / 2.0
    wave += rng.uniform(-1.5, 1.5, 20_480)  # tones alone would stay
    log = np.stack([30 * wave + 5, 2 * wave, 7 + np.zeros(20_480)])
    log[:2] += rng.uniform(-1.0, 1.0, (2, 20_480))
    log[0, 5000:5100] = np.nan
    chain = SensorChain(Common(), Share(1.0))
    out = apply(chain, log, peak=None, sample_rate=RATE_HZ, tile=block)
    scaled = (out - np.nanmean(log, 1, keepdims=True)) / np.where(
        [[1], [1], [0]], np.nanstd(log, 1, keepdims=True), 1
    )
    inside = slice(6000, -6000)
    np.testing.assert_allclose(scaled[0, inside], scaled[1, inside], atol=1e-4)
    swapped = apply(chain, log[[2, 0, 1]], peak=None, sample_rate=RATE_HZ, tile=20_480)
    np.testing.assert_allclose(swapped, out[[2, 0, 1]], atol=1e-5)


@pytest.mark.parametrize("remove", [(), ("mains",), ("baseline",)])
def test_units_and_offsets_do_not_matter(remove: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    log = slow() + 0.2 * rng.standard_normal(16_384) + hum()
    log[::701] += 5.0
    cleaner = denoise.load("sensor", remove=remove)
    one = cleaner.clean(log, RATE_HZ)
    other = cleaner.clean(1000 * log + 77, RATE_HZ)
    assert float(np.abs((other - 77) / 1000 - one).max()) < 1e-6 * log.std()


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown stage 'hum'"):
        denoise.load("sensor", remove=("hum",))
    with pytest.raises(UsageError, match="requires a network for sensors"):
        denoise.load("wavelet", "sensor", remove=("mains",))
    with pytest.raises(UsageError, match="to remove mains, give the sample rate"):
        denoise.load("sensor", remove=("mains",)).clean(slow())
    with pytest.raises(UsageError, match="to keep baseline, give the sample rate"):
        denoise.load("sensor", keep=("baseline",)).clean(slow())
    with pytest.raises(UsageError, match="faults: is in remove and in keep"):
        denoise.load("sensor", remove=("faults",), keep=("faults",))


def test_the_row_of_a_file_tells_what_was_taken_out(tmp_path: Path) -> None:
    time_s = np.arange(8192) / RATE_HZ
    log = slow(8192) + np.sin(2 * np.pi * 50 * time_s)
    text = "".join(f"{t:.3f},{x:.5f}\n" for t, x in zip(time_s, log, strict=True))
    (tmp_path / "a.csv").write_text("time,x\n" + text)
    run: Callable[..., Any] = CliRunner().invoke
    result = run(cli, ["clean", str(tmp_path / "a.csv"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    (row,) = (
        json.loads(line) for line in (tmp_path / "out" / "denoise-manifest.jsonl").read_text().splitlines()
    )
    # The hum has half the power of a unit sine: of the total variance, 1.5, that is -4.8 dB.
    assert row["metrics"]["removed_mains_db"] == pytest.approx(-4.8, abs=0.5)
    assert any(note.startswith("taken out") and "mains -4." in note for note in row["notes"])
    assert "removed_faults_db" not in row["metrics"]
    result = run(cli, ["clean", str(tmp_path / "a.csv"), "-o", str(tmp_path / "kept"), "--keep", "mains"])
    assert result.exit_code == 0, result.output
    assert "removed_mains_db" not in (tmp_path / "kept" / "denoise-manifest.jsonl").read_text()
