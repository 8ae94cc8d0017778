"""Blind estimate of a blur kernel of any shape."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from denoise.corruptions import parse
from denoise.corruptions.blur import Blur, convolve
from denoise.estimate.blur_kernel import agreement, blur_kernel, overlap, richest_window, width_px

Array = NDArray[np.float32]


def scene(height: int, width: int, seed: int = 0) -> Array:
    """Overlapping rectangles of all sizes, as a model of edges."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width), 0.5, np.float32)
    for _ in range(150):
        top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
        tall, wide = (4 + rng.exponential(20, 2)).astype(int)
        picture[top : top + tall, left : left + wide] = 0.1 + 0.8 * rng.random()
    return picture


def kernel_of(text: str, seed: int) -> Array:
    blur = parse(text)
    assert isinstance(blur, Blur)
    return blur.kernel(torch.Generator().manual_seed(seed)).numpy()


def blurred(picture: Array, kernel: Array, sigma: float = 1.0) -> Array:
    image = convolve(torch.from_numpy(picture)[None, None], torch.from_numpy(kernel)[None])[0, 0].numpy()
    noise = np.random.default_rng(1).normal(0, sigma / 255, image.shape)
    return (image + noise).astype(np.float32)


@pytest.mark.parametrize("seed", [0, 3])
def test_the_path_of_a_shake_is_found(seed: int) -> None:
    kernel = kernel_of("shake:extent_px=13", seed)
    found = blur_kernel(blurred(scene(200, 220), kernel), 19)
    assert found.shape == (19, 19)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1, abs=1e-5)
    assert agreement(found, kernel) > 0.8
    offset = np.arange(19) - 9
    assert abs(found.sum(1) @ offset) <= 0.51
    assert abs(found.sum(0) @ offset) <= 0.51


def test_two_pictures_shaken_alike_agree_and_others_do_not() -> None:
    first, second = kernel_of("shake:extent_px=13", 0), kernel_of("shake:extent_px=13", 3)
    found = [
        blur_kernel(blurred(scene(160, 180, seed), kernel), 19)
        for seed, kernel in ((1, first), (2, first), (3, second))
    ]
    assert agreement(found[0], found[1]) > 0.75
    assert agreement(found[0], found[2]) < 0.7


def test_saturated_lights_do_not_hide_the_path() -> None:
    kernel = kernel_of("shake:extent_px=13", 0)
    bright = scene(200, 220)
    for top, left in np.random.default_rng(5).integers(20, 180, (12, 2)):
        bright[top : top + 2, left : left + 2] = 20.0
    lit = np.minimum(blurred(bright, kernel), 1.0)
    assert agreement(blur_kernel(lit, 19), kernel) > 0.7


def test_kernels_are_judged_by_their_shape() -> None:
    disk, path = kernel_of("defocus:radius_px=3", 0), kernel_of("shake:extent_px=13", 3)
    assert agreement(disk, disk[::-1, ::-1]) == pytest.approx(1)
    assert agreement(path, path[::-1, ::-1]) < 0.8
    assert width_px(disk) == pytest.approx(3 / 2, rel=0.1)  # of a uniform disk, along each axis
    assert agreement(np.roll(np.pad(disk, 4), 2, 0), disk) == pytest.approx(1)
    assert overlap(np.pad(path, 4), path) == pytest.approx(1)
    assert overlap(np.roll(np.pad(path, 4), 3, 0), path) < 0.6


def test_the_window_lies_where_the_structure_is() -> None:
    gray = np.full((300, 600), 0.5, np.float32)
    gray[100:300, 380:580] = scene(200, 200)
    gray[:, :200] = 1.0 * (np.arange(200) % 2)  # stronger, but saturated
    rows, columns = richest_window(gray, 200)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (200, 200)
    assert columns.start >= 280
