"""Vibration: a filter invents no impacts, and those of a damaged bearing stay."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

import denoise
from denoise.models.sensor.vibration import SteadyFilter, ToneGate

Floats = NDArray[np.float64]
RATE_HZ = 12_000.0


def resonant(force: Floats) -> Floats:
    """Response of a housing with resonances at 1.1, 2.8 and 3.5 kHz, of unit variance."""
    response = np.zeros_like(force)
    for hz, gain in ((1100, 1.0), (2800, 0.7), (3500, 0.5)):
        pole = 0.985 * np.exp(2j * np.pi * hz / RATE_HZ)
        response += gain * lfilter([1.0], np.real(np.poly([pole, pole.conjugate()])), force)
    return response / response.std()


def healthy(rng: np.random.Generator) -> Floats:
    turning = 0.5 * np.sin(2 * np.pi * 29.2 * np.arange(16384) / RATE_HZ)
    vibration = resonant(rng.standard_normal(16384)) + turning
    return vibration / vibration.std()


def damaged(rng: np.random.Generator) -> Floats:
    """Impacts 30 times a second, above a bearing that is quiet otherwise."""
    force = 0.03 * rng.standard_normal(16384)
    force[(np.arange(40) * RATE_HZ / 30).astype(int)] += rng.uniform(0.8, 1.2, 40)
    return resonant(force)


def kurtosis(signal: Floats) -> float:
    centred = signal - signal.mean()
    return float(np.mean(centred**4) / np.mean(centred**2) ** 2)


def noise(rng: np.random.Generator, snr_db: float) -> Floats:
    return 10.0 ** (-snr_db / 20.0) * rng.standard_normal(16384)


@pytest.mark.parametrize("snr_db", [-6.0, -3.0, 0.0, 3.0, 6.0])
def test_a_healthy_bearing_gets_no_impacts(snr_db: float) -> None:
    rng = np.random.default_rng(0)
    cleaner = denoise.load("sensor")
    for _ in range(3):
        vibration = healthy(rng)
        noisy = vibration + noise(rng, snr_db)
        cleaned = cleaner.clean(noisy, RATE_HZ)
        assert kurtosis(cleaned) < max(kurtosis(vibration), kurtosis(noisy)) + 0.4
        assert np.mean((cleaned - vibration) ** 2) <= np.mean((noisy - vibration) ** 2)


@pytest.mark.parametrize("snr_db", [0.0, 3.0, 6.0])
def test_impacts_of_a_damaged_bearing_stay(snr_db: float) -> None:
    rng = np.random.default_rng(1)
    vibration = damaged(rng)
    noisy = vibration + noise(rng, snr_db)
    cleaned = denoise.load("sensor").clean(noisy, RATE_HZ)
    assert kurtosis(vibration) > 5
    assert kurtosis(cleaned) >= kurtosis(noisy)
    assert np.mean((cleaned - vibration) ** 2) < 0.7 * np.mean((noisy - vibration) ** 2)


def test_a_correction_that_takes_quiet_moments_becomes_a_filter() -> None:
    """A gate that passes loud samples alone makes impacts of Gaussian noise; its linear part is a factor."""
    signal = np.random.default_rng(2).standard_normal(32768)
    correction = np.where(np.abs(signal) < 1.5, signal, 0.0)
    assert kurtosis(signal - correction) > 6
    steady = SteadyFilter(RATE_HZ)(signal, correction)
    assert kurtosis(signal - steady) < 3.3
    factor = np.sum(correction * signal) / np.sum(signal**2)
    np.testing.assert_allclose(steady[4096:-4096], factor * signal[4096:-4096], atol=0.4)


def test_a_correction_that_invents_nothing_stays() -> None:
    rng = np.random.default_rng(3)
    correction = 0.5 * rng.standard_normal(32768)
    impacts = damaged(rng)
    signal = np.concatenate([impacts, impacts]) + correction
    steady = SteadyFilter(RATE_HZ)(signal, correction)
    assert np.mean((steady - correction) ** 2) < 0.05 * np.mean(correction**2)


def test_a_tone_is_no_noise() -> None:
    rng = np.random.default_rng(6)
    time = np.arange(8192)
    rattle = np.sin(2 * np.pi * time / 8.1 + np.sin(time / 300)) * (1 + 0.3 * np.sin(time / 500))
    assert ToneGate().share(rattle + 0.3 * rng.standard_normal(8192)).max() == 0
    pink = np.cumsum(rng.standard_normal(8192))
    for noise in (rng.standard_normal(8192), pink - pink.mean(), np.diff(pink, prepend=0.0)):
        assert ToneGate().share(noise).min() > 0.9
    log = 0.8 * rattle + np.sin(time / 200)
    np.testing.assert_allclose(denoise.load("sensor").clean(log, 285.7), log, atol=1e-5)


def test_slow_logs_have_too_few_samples_for_it() -> None:
    assert SteadyFilter(RATE_HZ).possible
    assert not SteadyFilter(360.0).possible
    assert not SteadyFilter(0.0).possible
