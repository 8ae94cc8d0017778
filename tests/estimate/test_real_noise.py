"""Noise of photos that was smoothed, and what is no photo."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from denoise.estimate.drawing import is_drawing
from denoise.estimate.real_noise import flattest_crops, real_noise

Array = NDArray[Any]


def slope(size: int = 320) -> Array:
    """Return a gentle slope with a textured right half, `(3, size, size)` in 0..1."""
    picture = np.tile(np.linspace(0.2, 0.7, size), (3, size, 1)).transpose(0, 2, 1).copy()
    picture[:, :, size // 2 :] += ndimage.gaussian_filter(
        np.random.default_rng(5).normal(0, 0.5, (size, size - size // 2)), 2
    )
    return np.clip(picture, 0.05, 0.95)


def noise(sigma: float, width_px: float, size: int = 320) -> Array:
    drawn = np.random.default_rng(1).normal(size=(3, size, size))
    if width_px:
        drawn = ndimage.gaussian_filter(drawn, (0, width_px, width_px), mode="wrap")
    return drawn * (sigma / 255 / drawn.std())


def plain(crops: Array) -> Array:
    """Denoise perfectly where the picture is flat."""
    return ndimage.gaussian_filter(crops, (0, 0, 6, 6)).astype(np.float32)


@pytest.mark.parametrize("sigma", [2.0, 10.0])
def test_white_noise_is_measured(sigma: float) -> None:
    found = real_noise(slope() + noise(sigma, 0), 1.0, plain)
    assert found.removed == pytest.approx(sigma, rel=0.1)
    assert found.sigma == pytest.approx(sigma, rel=0.25)  # the few crops are no more certain of its colour
    assert found.whiteness > 0.4
    assert found.levels == pytest.approx(sigma, rel=0.2)
    assert (np.diff(found.brightness) >= 0).all()


def test_smoothed_noise_is_told_from_white_noise() -> None:
    found = real_noise(slope() + noise(4, 1.2), 1.0, plain)
    assert found.whiteness < 0.3
    assert found.removed == pytest.approx(4, rel=0.25)
    assert found.sigma > found.removed


def test_the_scale_does_not_matter() -> None:
    picture = slope() + noise(4, 1.0)
    found = [real_noise(picture * peak, peak, plain).sigma for peak in (1.0, 65535.0)]
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_flat_crops_are_chosen() -> None:
    crops = flattest_crops(slope() + noise(3, 0), 1.0, 64)
    assert crops.shape[1:] == (3, 64, 64)
    assert crops.std((2, 3)).max() < 0.05


@pytest.mark.parametrize("size", [(3, 3), (16, 16), (1, 500), (40, 70)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_size(channels: int, size: tuple[int, int]) -> None:
    assert real_noise(np.full((channels, *size), 100, np.uint8), 255.0, plain).sigma < 0.1


def test_drawings_are_told_from_photos() -> None:
    photo = np.rint(255 * np.clip(slope() + noise(3, 0), 0, 1)).astype(np.uint8)
    assert not is_drawing(photo)
    assert not is_drawing(photo[:1] // 16 * 16 + np.uint8(3) * (photo[:1] % 3))
    assert is_drawing(photo[:, :16, :16])  # an icon
    assert is_drawing(
        np.where(slope() > np.random.default_rng(0).uniform(size=(1, 320, 320)), 255, 0)
    )  # dither
    screen = np.full((3, 200, 300), 250)
    screen[:, 20:60, 30:90] = 60
    assert is_drawing(screen)
