"""Texture that a denoiser takes for noise: threads, grains, waves and blades."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from denoise.infer.texture import is_certain, texture_reason

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
    stone = smooth(white(12, 1), 0.6) * np.array([1, 0.9, 0.8], np.float32)[:, None, None]
    assert "channels" in reason(stone)
    assert reason(stone, alike=True) == ""  # in a JPEG noise is like that
    assert reason(stone[:1]) == ""  # and gray tells nothing
    assert reason(np.repeat(white(6, 1), 3, axis=0)) == ""  # white noise may be alike


def test_waves_are_wide() -> None:
    assert "wide" in reason(smooth(white(6), 1.5))


def test_tails_of_both_kinds() -> None:
    blades = white(8) * (np.random.default_rng(1).random((3, SIZE, SIZE)) < 0.2)
    assert "kurtosis" in reason(blades)
    assert reason(blades, gaussian=False) == ""
    bands = 0.012 * np.sign(white(1))
    assert "kurtosis" in reason(bands)


def test_certain_noise_may_take_texture_with_it() -> None:
    blades = white(16, 1, 2) * (np.random.default_rng(1).random((1, SIZE, SIZE)) < 0.3)
    gray, colour = white(15, 1) + blades, white(5) + blades / 3
    level = 255 * float(gray.std())
    assert reason(gray, level) == ""
    assert "kurtosis" in reason(gray, 3.0)  # the estimate contradicts
    assert "kurtosis" in reason(gray, 2 * level)  # most of it is left
    assert reason(colour, 0.0) == ""  # the channels differ


def test_raw_noise_is_no_texture() -> None:
    light = np.tile(np.linspace(0.02, 1, SIZE, dtype=np.float32).reshape(1, -1) ** 2, (3, SIZE, 1))
    assert reason(smooth(white(20), 0.4) * np.sqrt(light[:, :, ::-1]), 6.0) == ""


def test_noise_of_a_sensor_differs_between_the_channels() -> None:
    assert is_certain(white(5), 0.0)
    assert not is_certain(white(2), 2.0)  # a trace of anything
    assert not is_certain(white(3) + white(9, 1, 2), 9.0)
    assert is_certain(white(12, 1), 12.0)
    assert not is_certain(np.repeat(white(20, 1), 3, 0), 20.0)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (32, 32)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.full((3, *size), 0.5, np.float32)
    assert texture_reason(image, image, 0.0, gaussian=True, alike=False) == ""
    noisy = image + np.random.default_rng(0).normal(0, 0.02, image.shape).astype(np.float32)
    texture_reason(noisy, image, 5.0, gaussian=True, alike=False)
