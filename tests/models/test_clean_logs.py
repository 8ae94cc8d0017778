"""Clean logs stay as they are: sweeps, pulses, levels and machines."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import signal

import denoise

Floats = NDArray[np.float64]
SIZE = 9000


def snr_db(clean: Floats, rate_hz: float) -> float:
    after = np.asarray(denoise.load("sensor").clean(clean, rate_hz))
    error = np.mean((after - clean) ** 2)
    return float(10 * np.log10(np.var(clean) / max(error, 1e-30)))


def tones(rate_hz: float) -> dict[str, Floats]:
    t = np.arange(SIZE) / rate_hz
    top = 0.4 * rate_hz
    bursts = np.sin(2 * np.pi * 0.21 * np.arange(SIZE)) * (np.sin(2 * np.pi * 0.5 * t) > 0.3)
    return {
        "sweep": 9.81 * signal.chirp(t, 1, t[-1], min(100, top)),
        "logarithmic sweep": signal.chirp(t, 1, t[-1], top, "log"),
        "stepped sine": np.sin(
            2 * np.pi * np.cumsum(np.repeat(np.geomspace(2, top, 9), SIZE // 9)) / rate_hz
        ),
        "frequency modulation about 60 Hz": np.sin(2 * np.pi * 61 * t + 7 * np.sin(2 * np.pi * 0.4 * t)),
        "amplitude modulation": (1 + 0.8 * np.sin(2 * np.pi * t)) * np.sin(2 * np.pi * 0.11 * rate_hz * t),
        "bursts": bursts,
        "keyed tone": np.sin(0.35 * np.arange(SIZE))
        * np.repeat(np.random.default_rng(0).integers(0, 2, SIZE // 20), 20),
        "motor at 29.7 Hz": sum(np.sin(2 * np.pi * 29.7 * k * t) / k for k in (1, 2, 3)),
        "voltage of the mains": 325 * np.sin(2 * np.pi * 50 * t),
        "square": signal.square(2 * np.pi * 61 * t),
        "saw": signal.sawtooth(2 * np.pi * 5.3 * t),
    }


def hammer(rng: np.random.Generator) -> Floats:
    hits = np.zeros(SIZE)
    hits[300 : SIZE - 300 : 1700] = rng.uniform(0.5, 1.5, len(hits[300 : SIZE - 300 : 1700]))
    k = np.arange(300)
    return np.convolve(hits, np.exp(-k / 60) * np.sin(0.5 * k))[:SIZE]


def pulses(rng: np.random.Generator, noise: float, width: int = 1) -> Floats:
    """A current that is flat but for pulses of 12 A to either side."""
    log = np.zeros(SIZE)
    for at in rng.choice(SIZE - width, 24, replace=False):
        log[at : at + width] = rng.choice([-12.0, 12.0])
    return log + noise * rng.standard_normal(SIZE)


def spikes(rng: np.random.Generator) -> Floats:
    """Bursts of one sample to both sides of a rate that is 5 otherwise."""
    log = np.full(SIZE, 5.0)
    log[rng.choice(SIZE, 25, replace=False)] += rng.uniform(1, 60, 25) * rng.choice([-1, 1], 25)
    return log


def chatter(rng: np.random.Generator) -> Floats:
    log = np.zeros(SIZE)
    for at in rng.choice(SIZE - 300, 12, replace=False):
        length = rng.integers(20, 200)
        log[at : at + length] = 24
        log[at + rng.integers(0, 12, 6)], log[at + length + rng.integers(0, 12, 6)] = 0, 24
    return log


def loads(rng: np.random.Generator) -> Floats:
    log = np.full(SIZE, 60.0)
    for at in rng.integers(0, SIZE - 200, 30):
        log[at : at + rng.integers(5, 150)] = rng.choice([500.0, 1500.0, 2200.0])
    return log


def doors(rng: np.random.Generator) -> Floats:
    log = 4 + 0.3 * np.sin(np.arange(SIZE) / 40)
    for at in rng.choice(SIZE - 300, 15, replace=False):
        rise = rng.integers(2, 12)
        k = np.arange(300)
        log[at : at + 300] += rng.uniform(3, 8) * np.where(k < rise, (k + 1) / rise, np.exp((rise - k) / 12))
    return np.round(log, 1)


def settling(rng: np.random.Generator) -> Floats:
    stairs = np.repeat(rng.permutation(SIZE // 75), 75) * 0.3125
    return np.asarray(signal.lfilter([0.3], [1, -0.7], stairs))


def shocks(rng: np.random.Generator) -> Floats:
    """Taps that ring at a standstill."""
    log = np.full(SIZE, 9.81)
    k = np.arange(12)
    for at in rng.choice(SIZE - 40, 18, replace=False):
        log[at : at + 12] += rng.uniform(1, 3) * np.exp(-k / 2.5) * np.cos(1.5 * k)
    return log


def steps(rng: np.random.Generator) -> Floats:
    """The force under a foot, which is zero between steps."""
    phase = np.arange(SIZE) / 50 % 1.1 / 0.6
    force = 800 * np.sqrt(np.sin(np.pi * phase.clip(0, 1)).clip(0))
    return np.round(force * (1 + 0.02 * rng.standard_normal()), 1)


@pytest.mark.parametrize("rate_hz", [200.0, 256.0, 1000.0])
def test_tones_stay(rate_hz: float) -> None:
    for name, clean in tones(rate_hz).items():
        assert snr_db(clean, rate_hz) >= 45, name


@pytest.mark.parametrize("rate_hz", [0.1, 10.0])
@pytest.mark.parametrize("make", [hammer, spikes, chatter, loads, doors, settling, shocks, steps])
def test_events_stay(make: object, rate_hz: float) -> None:
    assert callable(make)
    assert snr_db(make(np.random.default_rng(7)), rate_hz) >= 45


@pytest.mark.parametrize(("noise", "width"), [(0, 1), (0.01, 1), (0, 3), (0.01, 3)])
def test_pulses_of_one_height_stay(noise: float, width: int) -> None:
    assert snr_db(pulses(np.random.default_rng(8), noise, width), 50.0) >= 45


def test_faults_of_different_heights_still_go() -> None:
    rng = np.random.default_rng(9)
    clean = np.sin(np.arange(SIZE) / 60) + 0.01 * rng.standard_normal(SIZE)
    faulty = clean.copy()
    at = rng.choice(SIZE, 60, replace=False)
    faulty[at] += rng.uniform(3, 9, 60) * rng.choice([-1, 1], 60)
    after = np.asarray(denoise.load("sensor").clean(faulty, 50.0))
    assert np.var(after - clean) < 0.01 * np.var(faulty - clean)


def test_hum_goes_from_a_signal_but_not_from_beside_a_sweep() -> None:
    rng = np.random.default_rng(10)
    t = np.arange(SIZE) / 500
    hum = 0.5 * np.sin(2 * np.pi * (50 * t + 0.02 * np.sin(t)))
    clean = np.cumsum(rng.standard_normal(SIZE)) / 40
    after = np.asarray(denoise.load("sensor").clean(clean + hum, 500.0))
    assert np.var(after - clean) < 0.03 * np.var(hum)
