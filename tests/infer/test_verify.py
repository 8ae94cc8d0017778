"""Checks of a result against its input."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from denoise.dsp.light import from_light, to_light
from denoise.infer.verify import reblur_error, reject_cleaned, reject_sharpened

Array = NDArray[Any]


def scene() -> Array:
    """Draw rectangles of many sizes on a gentle slope, `(3, 256, 256)` in 0..1."""
    rng = np.random.default_rng(0)
    picture = np.tile(np.linspace(0.3, 0.5, 256, dtype=np.float32), (3, 256, 1))
    for _ in range(25):
        top, left, height, width = rng.integers(0, 200), rng.integers(0, 200), *rng.integers(8, 50, 2)
        picture[:, top : top + height, left : left + width] = rng.uniform(0.2, 0.8, (3, 1, 1))
    return picture


def with_noise(image: Array, sigma: float, width_px: float = 0.0) -> Array:
    noise = np.random.default_rng(1).normal(size=image.shape)
    if width_px:
        noise = ndimage.gaussian_filter(noise, (0, width_px, width_px))
    return (image + noise * (sigma / 255 / noise.std())).astype(np.float32)


def blurred(image: Array, sigma_px: float) -> Array:
    return ndimage.gaussian_filter(image, (0, sigma_px, sigma_px))


def sharpened(image: Array) -> Array:
    return image + 2 * (image - blurred(image, 1.0))


@pytest.mark.parametrize("width_px", [0.0, 1.0])
def test_removing_noise_passes(width_px: float) -> None:
    assert reject_cleaned(with_noise(scene(), 5, width_px), scene()) == ""


def test_removing_outlines_is_rejected() -> None:
    assert "outlines" in reject_cleaned(scene()[:1], blurred(scene()[:1], 0.7))
    assert reject_cleaned(scene(), blurred(scene(), 0.7))
    noisy = with_noise(scene(), 15)
    assert reject_cleaned(noisy, blurred(noisy, 3.0), 15.0) == ""  # strong noise may take some with it


def test_removing_texture_is_rejected() -> None:
    rng = np.random.default_rng(2)
    blades = rng.normal(0, 9, (1, 256, 256)) * (rng.random((1, 256, 256)) < 0.2) / 255
    grass = scene() + blades.astype(np.float32)
    assert "texture" in reject_cleaned(with_noise(grass, 3), scene())
    assert reject_cleaned(with_noise(grass, 3), scene(), gaussian=False) == ""
    assert reject_cleaned(with_noise(grass, 30), scene()) == ""


def test_noise_of_any_level_is_no_texture() -> None:
    levels = np.repeat(np.repeat(np.random.default_rng(3).uniform(0.2, 8, (32, 32)), 8, 0), 8, 1)
    noise = np.random.default_rng(1).normal(size=(3, 256, 256)) * levels / 255
    assert reject_cleaned((scene() + noise).astype(np.float32), scene()) == ""


def test_noise_that_is_clipped_at_black_is_no_texture() -> None:
    night = np.where(scene() > 0.45, scene(), 0.01).astype(np.float32)
    assert reject_cleaned(with_noise(night, 10).clip(0, 1), night) == ""


def test_noise_that_grows_is_rejected() -> None:
    noisy = with_noise(scene(), 4, 0.7)
    assert "noise of flat parts" in reject_cleaned(noisy, with_noise(scene(), 8))
    assert "noise of flat parts" in reject_sharpened(noisy, sharpened(noisy), 4)


def test_the_sharp_picture_of_a_blurred_one_passes() -> None:
    assert reject_sharpened(with_noise(blurred(scene(), 2.0), 1), scene(), 1.0) == ""


def test_a_proven_blur_may_hide_texture_but_not_everything() -> None:
    def result(texture: float) -> Array:
        return with_noise(scene(), texture)

    soft = with_noise(blurred(scene(), 1.1), 1)
    assert "noise of flat parts" in reject_sharpened(soft, result(8), 9.0, 1.1)
    assert reject_sharpened(soft, result(8), 9.0, 1.1, proven=True) == ""
    assert "noise of flat parts" in reject_sharpened(soft, result(40), 9.0, 1.1, proven=True)


def test_a_wide_blur_needs_a_wide_kernel() -> None:
    moved = np.mean([np.roll(scene(), shift, 2) for shift in range(-15, 16)], axis=0)
    assert "blurred again" in reject_sharpened(moved, scene(), 1.0, 1.0)
    assert reject_sharpened(moved, scene(), 1.0, 6.0) == ""


def test_a_blur_of_light_is_compared_in_light() -> None:
    hard = np.clip((scene() - 0.2) / 0.6, 0, 1).astype(np.float32)
    soft = from_light(torch.from_numpy(blurred(to_light(torch.from_numpy(hard)).numpy(), 2.0))).numpy()
    assert reblur_error(soft, hard, linear=True) < 0.8 * reblur_error(soft, hard)


def test_another_picture_is_rejected() -> None:
    other = scene()[:, ::-1, ::-1].copy()
    assert "blurred again" in reject_sharpened(blurred(scene(), 2.0), other, 1.0)
    assert reblur_error(blurred(scene(), 1.5), scene()) < 1.5


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (17, 16)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.full((3, *size), 0.5, np.float32)
    assert reject_cleaned(image, image) == ""
    assert reject_sharpened(image, image, 0.0) == ""
