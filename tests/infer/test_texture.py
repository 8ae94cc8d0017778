"""Texture that a denoiser takes for noise: threads, grains, waves and blades."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from denoise.infer.texture import differs, is_strong, texture_reason

Array = NDArray[Any]

SIZE = 192
MEAN = np.full((3, SIZE, SIZE), 0.5, np.float32)


def white(sigma: float, channels: int = 3, seed: int = 0) -> Array:
    """Noise `(channels, SIZE, SIZE)` of a deviation in 8-bit units, in 0..1."""
    rng = np.random.default_rng(seed)
    return (rng.normal(0, sigma / 255, (channels, SIZE, SIZE))).astype(np.float32)


def smooth(noise: Array, width_px: float) -> Array:
    wide = ndimage.gaussian_filter(noise, (0, width_px, width_px))
    return np.asarray(wide * (noise.std() / wide.std()))


def cloth(sigma: float, thread_px: float = 5.0) -> Array:
    row, column = np.mgrid[:SIZE, :SIZE]
    threads = np.sin(2 * np.pi * row / thread_px) + np.sin(2 * np.pi * column / thread_px)
    return (threads / threads.std() * sigma / 255 * np.ones((3, 1, 1))).astype(np.float32)


def reason(removed: Array, sigma: float = 4.0, gaussian: bool = True, alike: bool = False) -> str:
    mean = MEAN[: len(removed)]
    return texture_reason(mean + removed, mean, sigma, gaussian=gaussian, alike=alike)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sigma", [1, 4, 12, 40])
def test_noise_is_no_texture(sigma: float, channels: int) -> None:
    assert reason(white(sigma, channels), sigma) == ""


def test_film_grain_is_no_texture() -> None:
    grain = smooth(0.85 * white(6, 1) + 0.35 * white(6), 0.6)
    assert reason(grain) == ""


def test_a_cloth_repeats_itself() -> None:
    assert "repeats" in reason(white(3) + cloth(4))
    assert "repeats" in reason(white(3, 1) + cloth(4)[:1], gaussian=False)


def test_stone_is_alike_in_all_channels() -> None:
    stone = white(6, 1) * np.array([1, 0.9, 0.8], np.float32)[:, None, None]
    assert "channels" in reason(stone)
    assert reason(stone, alike=True) == ""  # in a JPEG noise is like that
    assert reason(stone[:1]) == ""  # and gray tells nothing


def test_waves_are_wide() -> None:
    assert "wide" in reason(smooth(white(6), 1.5))


def test_tails_of_both_kinds() -> None:
    blades = white(12) * (np.random.default_rng(1).random((3, SIZE, SIZE)) < 0.2)
    assert "kurtosis" in reason(blades)
    assert reason(blades, gaussian=False) == ""
    bands = 0.016 * np.sign(white(1))
    assert "kurtosis" in reason(bands)


def test_strong_noise_may_take_texture_with_it() -> None:
    rng = np.random.default_rng(1)
    blades = white(16, 1, 2) * (rng.random((1, SIZE, SIZE)) < 0.3)
    both = white(15, 1) + blades
    level = 255 * float(both.std())
    assert reason(both, level) == ""
    assert "kurtosis" in reason(both, 3.0)  # the level of the noise alone says it
    assert not is_strong(both, 2 * level)  # most of it is left


def test_noise_of_a_sensor_differs_between_the_channels() -> None:
    assert differs(white(3))
    assert not differs(white(3) + white(9, 1, 2))
    assert not differs(white(3, 1))
    assert not is_strong(np.repeat(white(20, 1), 3, 0), 20.0)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (32, 32)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.full((3, *size), 0.5, np.float32)
    assert texture_reason(image, image, 0.0, gaussian=True, alike=False) == ""
    noisy = image + np.random.default_rng(0).normal(0, 0.02, image.shape).astype(np.float32)
    texture_reason(noisy, image, 5.0, gaussian=True, alike=False)
