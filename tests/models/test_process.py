"""Rough signals: wind and loads are not taken for noise, and noise on slow signals still goes."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

import denoise
from denoise.infer.apply import apply
from denoise.models.sensor.chain import SensorChain
from denoise.models.sensor.process import ProcessGate, SlowGate

Floats = NDArray[np.float64]
SIZE = 5000


def wandering(rng: np.random.Generator, memory: float, size: int = SIZE) -> Floats:
    """An Ornstein-Uhlenbeck process of unit variance with a memory in readings."""
    a = np.exp(-1.0 / memory)
    return lfilter([np.sqrt(1.0 - a * a)], [1.0, -a], rng.standard_normal(size + 500))[500:]


def pink(rng: np.random.Generator, size: int = SIZE) -> Floats:
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum[1:] /= np.sqrt(np.arange(1, spectrum.size))
    noise = np.fft.irfft(spectrum, size)
    return noise / noise.std()


def slow(size: int = SIZE) -> Floats:
    return np.sin(np.arange(size) / 60.0) + 0.5 * np.sin(np.arange(size) / 171.0 + 1.0)


def gain_db(true: Floats, noisy: Floats, rate_hz: float | None) -> float:
    cleaned = denoise.load("sensor").clean(noisy, rate_hz)
    return float(10.0 * np.log10(np.mean((noisy - true) ** 2) / np.mean((cleaned - true) ** 2)))


@pytest.mark.parametrize("memory", [3.0, 6.0, 12.0])
@pytest.mark.parametrize("rate_hz", [1.0 / 600.0, 1.0, 20.0])
def test_wind_and_loads_are_not_smoothed(memory: float, rate_hz: float) -> None:
    rng = np.random.default_rng(int(memory))
    wind = 6.0 + 1.5 * slow() + 1.2 * wandering(rng, memory)
    assert gain_db(wind, wind + 0.1 * rng.standard_normal(SIZE), rate_hz) > -0.5
    cleaned = denoise.load("sensor").clean(wind, rate_hz)
    assert np.mean((cleaned - wind) ** 2) < 1e-3 * np.var(wind)


@pytest.mark.parametrize("noise", [np.random.Generator.standard_normal, pink])
def test_noise_of_instruments_still_goes(noise) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)
    signal = slow()
    noisy = signal + 0.3 * noise(rng, SIZE)
    np.testing.assert_array_equal(ProcessGate().share(noisy, 0.3 * noise(rng, SIZE)), 1.0)
    assert gain_db(signal, noisy, 10.0) > 1.0


def test_beats_beside_a_process_do_not_hide_it() -> None:
    """Blood pressure of each beat has a line at the rate of breathing."""
    rng = np.random.default_rng(0)
    pressure = 5.0 * wandering(rng, 6.0) + 3.0 * np.sin(2.0 * np.pi * np.arange(SIZE) / 4.0)
    assert gain_db(pressure, pressure + 0.5 * rng.standard_normal(SIZE), 1.0) > -0.5


def test_what_removes_only_the_white_noise_of_a_process_is_applied() -> None:
    rng = np.random.default_rng(0)
    noise = 0.5 * rng.standard_normal(SIZE)
    log = wandering(rng, 8.0) + noise
    np.testing.assert_array_equal(ProcessGate().share(log, noise), 1.0)
    assert ProcessGate().share(log, 2.0 * noise).max() == 0.0


def test_the_chain_tells_what_it_left_and_its_blocks_equal_the_whole() -> None:
    rng = np.random.default_rng(0)
    wind = 1.5 * np.sin(np.arange(65_536) / 300.0) + wandering(rng, 5.0, 65_536)
    chain = denoise.load("sensor").denoiser.for_sample_rate(1.0)
    assert isinstance(chain, SensorChain)
    whole = apply(chain, wind[None], peak=None, sample_rate=1.0, tile=65_536)
    parts = apply(chain, wind[None], peak=None, sample_rate=1.0, tile=20_000)
    np.testing.assert_allclose(parts, whole, atol=1e-4)


@pytest.mark.parametrize("memory", [1.0, 2.0, 5.0])
@pytest.mark.parametrize("size", [700, 1500, SIZE])
@pytest.mark.parametrize("rate_hz", [1.0 / 86400.0, None])
def test_days_and_hours_of_weather_are_not_smoothed(memory: float, size: int, rate_hz: float | None) -> None:
    """Daily temperatures and hourly winds have a memory of a few readings; some files do not say which."""
    rng = np.random.default_rng(size)
    weather = 10.0 + 4.0 * slow(size) + 2.0 * wandering(rng, memory, size)
    cleaned = denoise.load("sensor").clean(weather, rate_hz)
    np.testing.assert_allclose(cleaned, weather, atol=1e-5 * np.ptp(weather))
    for noise_db in (-25.0, -15.0, -10.0):
        noise = 10.0 ** (noise_db / 20.0) * weather.std() * rng.standard_normal(size)
        assert gain_db(weather, weather + noise, rate_hz) > -0.5


def test_noise_of_a_beating_pulse_goes_without_a_rate() -> None:
    rng = np.random.default_rng(0)
    pulse = np.exp(5.0 * np.cos(np.cumsum(2.0 * np.pi / 90.0 * (1.0 + 0.1 * slow()))))
    pulse /= pulse.std()
    assert gain_db(pulse, pulse + 0.3 * rng.standard_normal(SIZE), None) > 5.0


def test_noise_on_an_hourly_temperature_still_goes() -> None:
    rng = np.random.default_rng(0)
    temperature = 15.0 + 5.0 * np.sin(2.0 * np.pi * np.arange(SIZE) / 24.0) + 2.0 * slow()
    assert gain_db(temperature, temperature + rng.standard_normal(SIZE), 1.0 / 3600.0) > 5.0


def test_pink_noise_that_no_process_explains_goes_from_a_slow_log() -> None:
    size = 8192
    rng = np.random.default_rng(1)
    indoors = 20.0 + 2.0 * slow(size)
    assert gain_db(indoors, indoors + 1.5 * pink(rng, size), 1.0 / 600.0) > 1.5
    flow = 2.0 * slow(size) + wandering(rng, 6.0, size)
    np.testing.assert_array_equal(SlowGate().share(flow, wandering(rng, 1.0, size)), 0.0)


def test_counts_by_the_hour_stay() -> None:
    rng = np.random.default_rng(0)
    calls = rng.poisson(20.0 + 15.0 * np.sin(2.0 * np.pi * np.arange(SIZE) / 168.0)).astype(float)
    cleaned = denoise.load("sensor").clean(calls, 1.0 / 3600.0)
    assert np.mean((cleaned - calls) ** 2) < 10.0**-4.5 * np.var(calls)


def test_as_much_has_to_be_removed_from_a_slow_log_as_there_is_white_noise() -> None:
    rng = np.random.default_rng(0)
    noise = 0.3 * rng.standard_normal(SIZE)
    log = slow() + noise
    np.testing.assert_array_equal(SlowGate().share(log, noise), 1.0)
    for factor in (0.5, 1.5):
        np.testing.assert_array_equal(SlowGate().share(log, factor * noise), 0.0)
    np.testing.assert_array_equal(SlowGate().share(log[:600], noise[:600]), 0.0)  # too few readings


def test_a_fault_of_a_slow_log_stands_out_of_its_weather() -> None:
    fault = np.where(np.arange(SIZE) == 2000, 2.0, 0.0)
    gust = wandering(np.random.default_rng(0), 1.0) + fault
    haze = slow() + 0.1 * pink(np.random.default_rng(1)) + fault
    np.testing.assert_array_equal(SlowGate().share(haze, fault)[2000], 1.0)
    np.testing.assert_array_equal(SlowGate().share(gust, fault), 0.0)
