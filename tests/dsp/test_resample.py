"""Resampling in blocks: aligned, without aliases, and with little delay if `low_latency`."""

import math
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from denoise.dsp.resample import resampler

RATES = [
    (48_000, 16_000),
    (16_000, 48_000),
    (44_100, 16_000),
    (16_000, 44_100),
    (8_000, 16_000),
    (96_000, 16_000),
]


def tone(hz: float, rate: float, seconds: float = 0.5) -> NDArray[np.float32]:
    phase = 2 * np.pi * hz * np.arange(round(seconds * rate)) / rate
    return np.stack([np.sin(phase), np.cos(phase)]).astype(np.float32)


def in_blocks(x: NDArray[np.float32], ratio: float, size: int, *, prompt: bool = True) -> NDArray[np.float32]:
    change = resampler(ratio, len(x), low_latency=prompt)
    starts = range(0, x.shape[1], size)
    return np.concatenate([change(x[:, i : i + size], i + size >= x.shape[1]) for i in starts], 1)


@pytest.mark.parametrize(("before", "after"), RATES)
def test_a_tone_stays_in_time(before: int, after: int) -> None:
    out = in_blocks(tone(1000, before), after / before, before // 100)
    assert out.shape == (2, after // 2)
    error = np.abs(out - tone(1000, after))[:, after // 50 : -after // 50]
    assert error.max() < 10 ** (-60 / 20)


@pytest.mark.parametrize(("before", "after"), [(48_000, 16_000), (44_100, 16_000), (16_000, 44_100)])
@pytest.mark.parametrize("size", [1, 7, 480, 10**6])
def test_the_blocks_do_not_matter(before: int, after: int, size: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, 2000)).astype(np.float32)
    out = in_blocks(x, after / before, size)
    assert out.shape[1] == math.ceil(2000 * after / before)
    np.testing.assert_allclose(out, in_blocks(x, after / before, 333), atol=2e-6)


@pytest.mark.parametrize(("before", "after", "hz"), [(48_000, 16_000, 8_300), (16_000, 48_000, 7_000)])
def test_what_the_lower_rate_cannot_hold_is_gone(before: int, after: int, hz: float) -> None:
    out = in_blocks(tone(hz, before), after / before, 480)[:, after // 50 : -after // 50]
    window = np.hanning(out.shape[1])
    lines = np.abs(np.fft.rfft(out * window)) ** 2
    at = np.fft.rfftfreq(out.shape[1], 1 / after)
    wanted = np.abs(at - hz) < 100
    inside, outside = lines[:, wanted].sum(), lines[:, ~wanted].sum()
    if hz > after / 2:
        assert outside < 10 ** (-60 / 10) * window.sum() ** 2
    else:
        assert outside < 10 ** (-60 / 10) * inside


@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_noise_comes_back_whole_from_a_higher_rate(rate: int) -> None:
    x = np.random.default_rng(0).standard_normal((1, rate)).astype(np.float32)
    up, down = (resampler(r, 1, low_latency=True, whole_band=True) for r in (16_000 / rate, rate / 16_000))
    error = np.abs(np.fft.rfft(down(up(x, True), True)[:, :rate] - x)) ** 2
    topmost = error[:, -error.shape[1] // 50 :]
    assert topmost.mean() < 0.01 * rate  # the power of the noise in a bin
    assert error.mean() < 0.001 * rate


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_prompt_is_hardly_late(rate: int) -> None:
    late = {}
    for prompt in (True, False):
        change, given, late[prompt] = resampler(16_000 / rate, 1, low_latency=prompt), 0, 0.0
        for block in range(1, 101):
            given += change(np.zeros((1, rate // 100), np.float32), False).shape[1]
            late[prompt] = max(late[prompt], block / 100 - given / 16_000)
    assert late[True] < 0.004 < late[False]


def test_rates_in_no_simple_ratio_are_in_time_too() -> None:
    rate = 44_099.7
    out = in_blocks(tone(1000, rate), 16_000 / rate, 441)
    error = np.abs(out - tone(1000, 16_000)[:, : out.shape[1]])[:, 500:-500]
    assert error.max() < 1e-3


def test_filters_cost_no_import_of_scipy_signal() -> None:
    """It takes half a CPU second, as long as ten seconds of music."""
    code = """if True:
        import sys, numpy as np
        from denoise.dsp.autoregressive import fill_autoregressive
        from denoise.dsp.resample import resampler
        resampler(3, 1, low_latency=True)
        tone = np.sin(np.arange(1000))
        filled = fill_autoregressive(tone, np.arange(1000) // 5 == 100)
        assert abs(filled - tone).max() < 0.01
        assert "scipy.signal" not in sys.modules
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
