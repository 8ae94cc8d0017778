"""Events in sensor logs: what is rare and real stays, whatever the network takes it for."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import signal

import denoise
from denoise.infer.apply import apply
from denoise.models.sensor.chain import SensorChain
from denoise.models.sensor.check import EventGuard
from denoise.models.sensor.impulses import MOVED, MOVED_SURELY, Impulses, pulses
from tests.models.test_sensor_chain import Share

Floats = NDArray[np.float64]


def cleaned(log: Floats, rate_hz: float) -> Floats:
    return np.asarray(denoise.load("sensor").clean(log, rate_hz))


def rain(rng: np.random.Generator) -> Floats:
    """Tips of 0.2 mm in showers, every five minutes."""
    log = np.zeros(3000)
    for start in rng.integers(0, 2900, 12):
        shower = slice(start, start + rng.integers(3, 40))
        log[shower] += 0.2 * rng.poisson(0.7, log[shower].size)
    return log


def load(rng: np.random.Generator) -> Floats:
    """An appliance of 1500 W, on a third of the time, off to some watts, every minute."""
    on = np.zeros(2000, bool)
    for start in rng.integers(0, 1900, 16):
        on[start : start + rng.integers(5, 90)] = True
    return np.where(on, rng.normal(1500, 20, 2000), np.abs(rng.normal(4, 1, 2000))).round()


def peaks(rng: np.random.Generator) -> Floats:
    """A server's load, nearly idle, with lone peaks."""
    log = 0.13 + 0.01 * rng.standard_normal(4000)
    log[rng.integers(0, 4000, 25)] += rng.uniform(0.5, 2.0, 25)
    return log


def taps(rng: np.random.Generator) -> Floats:
    """A slow motion with taps: a shock of both signs that rings for some samples."""
    log = np.sin(np.arange(8192) / 300.0)
    ringing = np.exp(-np.arange(12) / 3.0) * np.cos(2.2 * np.arange(12))
    for start in rng.integers(100, 8000, 8):
        log[start : start + 12] += rng.choice([-8.0, 8.0]) * ringing
    return log


@pytest.mark.parametrize(("make", "rate_hz"), [(rain, 1 / 300), (load, 1 / 60), (peaks, 1 / 300)])
def test_sums_and_peaks_of_events_stay(make: object, rate_hz: float) -> None:
    assert callable(make)
    log = make(np.random.default_rng(0))
    after = cleaned(log, rate_hz)
    assert after.sum() == pytest.approx(log.sum(), rel=0.01)
    tall = np.abs(log - np.median(log)) > 4 * log.std()
    height = (after - np.median(log))[tall] / (log - np.median(log))[tall]
    assert np.all(height >= 0.5)
    assert after.min() >= log.min() >= 0


def test_a_rain_gauge_stays_as_it_is() -> None:
    log = rain(np.random.default_rng(1))
    np.testing.assert_allclose(cleaned(log, 1 / 300), log, atol=1e-5)


@pytest.mark.parametrize("watts", [150.0, 400.0])
@pytest.mark.parametrize("noise_watts", [2.0, 5.0, 15.0])
def test_a_load_that_switches_at_random_stays(watts: float, noise_watts: float) -> None:
    rng = np.random.default_rng(0)
    clean = 40.0 + watts * (rng.random(2000) < 0.3) + 900.0 * (rng.random(2000) < 0.05)
    log = clean + noise_watts * rng.standard_normal(clean.size)
    assert np.std(cleaned(log, 100.0) - clean) < 1.05 * np.std(log - clean)


def gusts(rng: np.random.Generator) -> Floats:
    mean = np.exp(0.9 * signal.lfilter([0.05], [1, -0.95], rng.standard_normal(8192)))
    return np.asarray(mean * (1 + 0.3 * np.abs(rng.standard_normal(8192))))


def impacts(rng: np.random.Generator) -> Floats:
    hits = np.where(rng.random(8192) < 0.015, rng.uniform(0.5, 1.5, 8192), 0.0)
    ringing = np.exp(-np.arange(12) / 3.0) * np.cos(1.5 * np.arange(12))
    return np.convolve(hits, ringing)[:8192]


def telegraph(rng: np.random.Generator) -> Floats:
    return np.cumsum(rng.random(8192) < 0.2) % 2.0


def keyed(rng: np.random.Generator) -> Floats:
    return np.sin(np.arange(8192)) * np.repeat(rng.integers(0, 2, 410), 20)[:8192]


def rough(rng: np.random.Generator) -> Floats:
    return np.asarray(rng.laplace(size=8192))


@pytest.mark.parametrize("make", [gusts, impacts, telegraph, keyed, rough])
@pytest.mark.parametrize("snr_db", [15.0, 25.0])
def test_what_is_not_like_noise_stays(make: object, snr_db: float) -> None:
    assert callable(make)
    rng = np.random.default_rng(0)
    clean = make(rng)
    noise = clean.std() * 10 ** (-snr_db / 20) * rng.standard_normal(clean.size)
    assert np.std(cleaned(clean + noise, 100.0) - clean) < 1.1 * np.std(noise)


def test_levels_lose_noise_that_does_not_hide_them() -> None:
    rng = np.random.default_rng(0)
    clean = 10.0 * (np.arange(8192) // 700 % 2)
    noise = rng.standard_normal(clean.size)
    assert np.std(cleaned(clean + noise, 100.0) - clean) < 0.6


def test_taps_keep_their_first_shock() -> None:
    log = taps(np.random.default_rng(0))
    tall = np.abs(log) > 4 * log.std()
    assert tall.sum() >= 8
    assert np.all(cleaned(log, 285.7)[tall] / log[tall] > 0.7)


def test_strikes_at_the_end_of_swings_are_signal_and_faults_at_any_time_are_not() -> None:
    """An accelerometer at an ankle: rest, and walking with swings, strikes of one reading and rebounds."""
    rng = np.random.default_rng(0)
    log = 0.1 * signal.lfilter([1.0], [1.0, -0.9], rng.standard_normal(8192))
    strikes = np.zeros(log.size)
    at = np.cumsum(rng.integers(55, 75, 60)) + 2500
    for place in at:
        log[place - 12 : place] += 1.5 * np.hanning(24)[:12] + 0.3 * rng.standard_normal(12)
        log[place + 1 : place + 10] += 0.5 * rng.standard_normal(9)
    strikes[at] = rng.uniform(-9.0, -3.0, at.size)
    strikes[at + 2] = rng.uniform(1.0, 4.0, at.size)
    for moved in (MOVED, MOVED_SURELY):
        assert pulses(log + strikes, strikes, moved)[at].mean() > 0.95
    faults = np.zeros(log.size)
    faults[rng.choice(log.size, 80, replace=False)] = rng.uniform(3.0, 9.0, 80) * rng.choice([-1.0, 1.0], 80)
    assert not pulses(log + faults, faults, MOVED_SURELY)[faults != 0.0].any()
    assert pulses(log + faults, faults)[faults != 0.0].mean() < 0.2


def test_what_is_next_to_nothing_is_no_correction(monkeypatch: pytest.MonkeyPatch) -> None:
    log = np.round(np.sin(np.arange(4096) / 30.0), 1)
    chain = SensorChain(Share(0.5))
    monkeypatch.setattr(SensorChain, "check", lambda _self, found: np.full_like(found.noise, 1e-6))
    assert np.array_equal(apply(chain, log[None], peak=None, sample_rate=100.0)[0], log)


def test_events_stay_in_dense_noise_that_goes() -> None:
    rng = np.random.default_rng(0)
    clean = np.sin(np.arange(16_384) / 40.0)
    clean[3000:3008] += 12.0
    after = cleaned(clean + 0.3 * rng.standard_normal(clean.size), 100.0)
    assert np.all(after[3001:3007] > 9.0)
    quiet = np.r_[np.arange(2500), np.arange(3600, 16_384)]
    assert np.std((after - clean)[quiet]) < 0.15  # half of the noise


@pytest.mark.parametrize("first", [[1e6], [1_502_540_489.0, 64.0], [-999.0]])
def test_wild_first_readings_stay_and_disturb_nothing(first: list[float]) -> None:
    rng = np.random.default_rng(0)
    log = 21.0 + np.sin(np.arange(3000) / 200.0) + 0.1 * rng.standard_normal(3000)
    alone = cleaned(log[len(first) :], 10.0)
    log[: len(first)] = first
    after = cleaned(log, 10.0)
    np.testing.assert_array_equal(after[: len(first)], first)
    assert np.abs(after[len(first) :] - alone).max() < 0.3
    assert np.std(after[len(first) :] - alone) < 0.03


@pytest.mark.parametrize("giants", [[2000], [1500, 1501, 1502]])
def test_giants_stay_and_disturb_nothing(giants: list[int]) -> None:
    rng = np.random.default_rng(0)
    log = 21.0 + np.sin(np.arange(3000) / 200.0) + 0.1 * rng.standard_normal(3000)
    alone = cleaned(log, 10.0)
    glitch = log.copy()
    glitch[giants] = 1e6
    after = cleaned(glitch, 10.0)
    np.testing.assert_allclose(after[giants], 1e6)
    rest = np.delete(after - alone, giants)
    assert np.std(rest) < 0.01
    assert np.std(rest[900:]) < 1e-3 or len(giants) > 1
    removed = np.asarray(denoise.load("sensor", remove=("impulses",)).clean(glitch, 10.0))
    assert len(giants) > 1 or np.abs(removed - log).max() < 0.6


def test_the_output_stays_in_the_range_of_the_input() -> None:
    rng = np.random.default_rng(0)
    log = np.maximum(0.9 + np.sin(np.arange(8192) / 30.0) + 0.3 * rng.standard_normal(8192), 0.0)
    after = cleaned(log, 100.0)
    assert after.min() >= log.min() == 0.0
    assert after.max() <= log.max()
    assert np.abs(after - log).max() > 0.1


def test_lone_outliers_to_one_side_go_on_request() -> None:
    log = np.sin(np.arange(8192) / 50.0) + 0.01 * np.random.default_rng(0).standard_normal(8192)
    spikes = log.copy()
    spikes[200::500] += 5.0
    np.testing.assert_array_equal(Impulses()(spikes), spikes)
    assert np.abs(Impulses(one_sided=True)(spikes) - log).max() < 0.1
    removed = denoise.load("sensor", remove=("impulses",)).clean(spikes, 100.0)
    assert np.abs(removed - log).max() < 0.5


def test_an_onset_is_no_outlier() -> None:
    rng = np.random.default_rng(0)
    quake = 0.01 * rng.standard_normal(8192)
    quake[4000:5000] += rng.standard_normal(1000) * np.exp(-np.arange(1000) / 300.0)
    np.testing.assert_array_equal(Impulses()(quake), quake)


def test_what_is_of_the_usual_size_is_applied_and_what_is_far_larger_is_not() -> None:
    rng = np.random.default_rng(0)
    noise = 0.5 * rng.standard_normal(8192)
    wave, none = 1.2 * np.sin(np.arange(8192) / 40.0), np.zeros(8192)
    np.testing.assert_allclose(EventGuard()(wave + noise, noise, none), noise)
    event = noise.copy()
    event[4000:4020] = 5.0 + 0.05 * np.arange(20)
    kept = EventGuard()(wave + event, event, none)
    np.testing.assert_array_equal(kept[4000:4020], 0.0)
    np.testing.assert_array_equal(np.delete(kept, range(4000, 4020)), np.delete(noise, range(4000, 4020)))


def test_readings_that_are_nothing_but_noise_stay() -> None:
    rng = np.random.default_rng(0)
    flow = 31.0 + 0.4 * rng.standard_normal(8192)
    cleaner = denoise.load("sensor")
    np.testing.assert_allclose(cleaner.clean(flow, 1.0), flow, atol=1e-5)
    chain = cleaner.denoiser
    assert isinstance(chain, SensorChain)
    with torch.inference_mode():
        chain(torch.from_numpy((flow - 31.0) / 0.4).float()[None, None])
    assert chain.diagnostics()["left_noise_db"] > -1.0
    drift = np.sin(np.arange(8192) / 300.0)
    loud = drift + 0.6 * rng.standard_normal(8192)  # 1.4 dB: there is a signal below
    assert np.std(cleaned(loud, 1.0) - drift) < 0.2


def test_impulses_side_by_side_go_in_the_company_of_many_and_taps_stay() -> None:
    rng = np.random.default_rng(0)
    log = np.sin(np.arange(8192) / 50.0) + 0.01 * rng.standard_normal(8192)
    pair = log.copy()
    pair[4000:4002] += (5.0, -7.0)
    np.testing.assert_array_equal(Impulses()(pair), pair)  # a shock
    many = pair.copy()
    many[100:8000:150] += rng.choice([-1, 1], 53) * rng.uniform(3.0, 5.0, 53)
    assert np.abs(Impulses()(many) - log).max() < 0.1


def test_faint_impulses_go_in_the_company_of_many() -> None:
    rng = np.random.default_rng(0)
    log = np.sin(np.arange(8192) / 50.0) + 0.01 * rng.standard_normal(8192)
    faint = np.zeros(8192)
    faint[175:8000:300], faint[325:8000:300] = 0.11, -0.11
    np.testing.assert_array_equal(Impulses()(log + faint), log + faint)
    many = log + faint
    many[100:8000:150] += rng.choice([-1, 1], 53) * rng.uniform(3.0, 5.0, 53)
    left = np.abs(Impulses()(many) - log)[faint != 0]
    assert np.mean(left < 0.06) > 0.8


def test_blocks_of_events_equal_the_whole() -> None:
    rng = np.random.default_rng(0)
    log = np.concatenate([peaks(rng) for _ in range(16)])
    log[::301] -= 3.0
    chain = SensorChain(Share(0.5))
    whole = apply(chain, log[None], peak=None, sample_rate=1.0, tile=65_536)
    parts = apply(chain, log[None], peak=None, sample_rate=1.0, tile=5000)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
