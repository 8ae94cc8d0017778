"""Noise estimates: near the truth on signals with known noise, the same in any blocks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from denoise.errors import UsageError
from denoise.estimate import NoiseEstimator, white_noise_sigma

Array = NDArray[Any]


def smooth_picture(height: int = 200, width: int = 240) -> Array:
    y, x = np.mgrid[:height, :width]
    return np.asarray(0.5 + 0.2 * np.sin(x / 20.0) * np.cos(y / 30.0) + 0.2 * (x > width // 2))


def estimate(
    modality: str, *blocks: Array, peak: float | None = None, sample_rate: float | None = None
) -> float:
    estimator = NoiseEstimator(modality, peak, sample_rate)
    for block in blocks:
        estimator.update(block)
    (value,) = estimator.result().values()
    return value


@pytest.mark.parametrize("sigma", [0.01, 0.05, 0.2])
def test_white_noise_on_a_picture(sigma: float) -> None:
    picture = smooth_picture() + sigma * np.random.default_rng(0).normal(size=(200, 240))
    assert white_noise_sigma(picture) == pytest.approx(sigma, rel=0.05)
    assert white_noise_sigma(smooth_picture()) < 0.1 * sigma


def test_white_noise_on_a_slow_signal() -> None:
    signal = 1e5 + 30.0 * np.sin(np.arange(5000) / 50.0)
    noise = np.random.default_rng(0).normal(size=5000)
    assert white_noise_sigma(signal + 0.3 * noise) == pytest.approx(0.3, rel=0.1)


def test_agrees_with_scikit_image_on_gaussian_noise() -> None:
    from skimage.restoration import estimate_sigma

    picture = smooth_picture() + 0.1 * np.random.default_rng(3).normal(size=(200, 240))
    expected = estimate_sigma(picture)  # type: ignore[no-untyped-call]
    assert white_noise_sigma(picture) == pytest.approx(expected, rel=1e-6)


def test_what_holds_no_noise() -> None:
    for shape in ((1,), (2,), (50,), (1, 1), (1, 9), (30, 30)):
        for value in (0.0, 0.1, -3e4):
            assert white_noise_sigma(np.full(shape, value)) == 0.0
    assert white_noise_sigma(np.full(40, np.nan)) == 0.0
    drawing = np.zeros((100, 100))
    drawing[20:40, 20:60] = 1.0  # its edges are not noise
    assert white_noise_sigma(drawing) == 0.0


def test_borders_and_gaps_do_not_count() -> None:
    rng = np.random.default_rng(1)
    picture = smooth_picture() + 0.1 * rng.normal(size=(200, 240))
    picture[:60] = 0.0
    assert white_noise_sigma(picture) == pytest.approx(0.1, rel=0.05)
    signal = rng.normal(size=4000)
    signal[1000:1700] = np.nan
    assert white_noise_sigma(signal) == pytest.approx(1.0, rel=0.1)


def test_the_estimate_scales_with_the_units() -> None:
    signal = np.random.default_rng(2).normal(size=1000)
    assert white_noise_sigma(1000.0 * signal) == pytest.approx(1000.0 * white_noise_sigma(signal))


@pytest.mark.parametrize(("dtype", "peak"), [(np.uint8, 255.0), (np.uint16, 65535.0), (np.float32, 1.0)])
def test_images_are_judged_in_8_bit_units(dtype: type, peak: float) -> None:
    rng = np.random.default_rng(4)
    noisy = np.stack([smooth_picture() + s / 255.0 * rng.normal(size=(200, 240)) for s in (5.0, 10.0, 15.0)])
    page: Array = np.clip(np.rint(noisy * peak) if peak > 1 else noisy, 0, peak).astype(dtype)
    assert estimate("image", page, peak=peak) == pytest.approx(10.0, rel=0.05)


def test_a_large_image_is_judged_by_tiles_of_all_of_it() -> None:
    page = np.random.default_rng(5).normal(size=(1, 2100, 2200)).astype(np.float32)
    page[:, :1050] *= 0.5
    assert estimate("image", page, peak=255.0) == pytest.approx(0.75, rel=0.02)


def test_a_tone_with_pauses_has_the_noise_of_its_pauses() -> None:
    rate = 16_000
    time_s = np.arange(3 * rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s) * (time_s % 1.0 < 0.6)
    noise = 0.01 * np.random.default_rng(6).normal(size=time_s.size)
    assert estimate("audio", (tone + noise)[None], peak=1.0, sample_rate=rate) == pytest.approx(
        -40.0, abs=0.7
    )
    integers = np.rint((tone + noise) * 32768).astype(np.int16)[None]
    assert estimate("audio", integers, peak=32768.0, sample_rate=rate) == pytest.approx(-40.0, abs=0.7)


def test_silence_has_no_noise() -> None:
    assert estimate("audio", np.zeros((2, 5000)), peak=1.0, sample_rate=8000.0) == -math.inf
    assert estimate("audio", np.zeros((1, 1)), peak=1.0, sample_rate=8000.0) == -math.inf
    assert estimate("sensor", np.ones((2, 5000))) == 0.0


def test_sensors_are_judged_in_their_units() -> None:
    noise = np.random.default_rng(7).normal(size=(2, 150_000)) * np.array([[1.0], [3.0]])
    noise[:, 5000:5100] = np.nan
    assert estimate("sensor", noise) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("modality", ["image", "audio", "sensor"])
def test_nothing_at_all_gives_a_result(modality: str) -> None:
    (value,) = NoiseEstimator(modality, 1.0, 8000.0).result().values()
    assert value in (0.0, -math.inf)


@given(cuts=st.lists(st.integers(0, 200_000), max_size=5), modality=st.sampled_from(["audio", "sensor"]))
@settings(max_examples=12, deadline=None)
def test_blocks_do_not_matter(cuts: list[int], modality: str) -> None:
    signal = np.random.default_rng(8).normal(size=(2, 200_000)) * np.linspace(0.01, 0.1, 200_000)
    edges = [0, *sorted(cuts), 200_000]
    blocks = [signal[:, a:b] for a, b in pairwise(edges)]
    whole = estimate(modality, signal, peak=1.0, sample_rate=16_000.0)
    assert estimate(modality, *blocks, peak=1.0, sample_rate=16_000.0) == pytest.approx(whole, rel=1e-12)


def test_an_unknown_modality_is_refused() -> None:
    with pytest.raises(UsageError, match="modality"):
        NoiseEstimator("video")
