"""Blur of a lens, proven by the spectrum."""

import functools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from skimage import data

from denoise.corruptions import corrupt, parse
from denoise.estimate.lens_blur import lens_blur

Array = NDArray[Any]


@functools.cache
def scene(name: str = "coffee") -> Array:
    """Return a sharp photo, `(3, 320, 320)` in 0..1."""
    photo: Array = getattr(data, name)()[20:340, 60:380]
    return np.moveaxis(photo, -1, 0).astype(np.float32) / 255


def shot(spec: str, name: str = "coffee", seed: int = 0) -> Array:
    """Return the photo after blur and noise, in 8 bits."""
    blurred = corrupt(scene(name), parse(spec), seed=seed, peak=1.0)
    return np.rint(255 * np.clip(blurred, 0, 1)).astype(np.uint8)


@pytest.mark.parametrize("name", ["coffee", "astronaut"])
@pytest.mark.parametrize("radius_px", [3.5, 5, 7])
@pytest.mark.parametrize("rest", ["gaussian:sigma=2+jpeg:quality=95", "gaussian:sigma=4"])
def test_a_disk_is_measured(name: str, radius_px: float, rest: str) -> None:
    found = lens_blur(shot(f"defocus:radius_px={radius_px}+{rest}", name), 255.0)
    assert found is not None
    assert found.radius_px == pytest.approx(radius_px, abs=0.3)
    assert found.width_px == pytest.approx(radius_px / 2, abs=0.15)


@pytest.mark.parametrize("domain", ["light", "values"])
@pytest.mark.parametrize("radius_px", [3, 4.5])
def test_it_is_told_whether_light_was_blurred(domain: str, radius_px: float) -> None:
    found = lens_blur(shot(f"defocus:radius_px={radius_px},domain={domain}+gaussian:sigma=2"), 255.0)
    assert found is not None
    assert found.linear == (domain == "light")
    assert found.radius_px == pytest.approx(radius_px, abs=0.3)
    assert found.sigma == pytest.approx(2 / 3**0.5, rel=0.35)


@pytest.mark.parametrize("sigma_px", [1.5, 2.5])
def test_a_soft_lens_is_no_disk(sigma_px: float) -> None:
    found = lens_blur(shot(f"gaussian-blur:sigma_px={sigma_px}+gaussian:sigma=2"), 255.0)
    assert found is not None
    assert found.radius_px == 0
    assert found.width_px == pytest.approx(sigma_px, abs=0.3)


@pytest.mark.parametrize("name", ["astronaut", "chelsea", "coffee"])
@pytest.mark.parametrize("radius_px", [1.5, 2])
def test_a_small_disk_is_not_taken_for_a_wide_gaussian(name: str, radius_px: float) -> None:
    """Undone by a Gaussian of 1.5 px, a disk of 2 px overshoots at each edge."""
    page = shot(f"defocus:radius_px={radius_px},domain=light+gaussian:sigma=1+jpeg:quality=92", name)
    found = lens_blur(page, 255.0)
    assert found is None or found.width_px < 1.3 * radius_px / 2


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_the_noise_is_measured(sigma: float) -> None:
    found = lens_blur(shot(f"defocus:radius_px=3+gaussian:sigma={sigma}"), 255.0)
    assert found is not None
    assert found.sigma == pytest.approx(sigma / 3**0.5, rel=0.15)  # the mean of three channels


@pytest.mark.parametrize(
    "spec",
    [
        "gaussian:sigma=0",
        "gaussian:sigma=10",
        "gaussian-blur:sigma_px=0.6+gaussian:sigma=1",
        "motion-blur:length_px=15,angle_deg=30+gaussian:sigma=2",
        "shake:extent_px=20+gaussian:sigma=1",
        "in-camera:iso=6400,reduction=1,sharpening=0+jpeg:quality=90",
    ],
)
@pytest.mark.parametrize("name", ["coffee", "astronaut"])
def test_nothing_else_is_taken_for_a_lens(spec: str, name: str) -> None:
    assert lens_blur(shot(spec, name), 255.0) is None


def test_a_blur_that_differs_by_direction_is_no_lens() -> None:
    """The mean of its power over the directions looks like that of a soft lens."""
    along_rows = ndimage.gaussian_filter(scene(), (0, 1.0, 2.5))
    noisy = along_rows + np.random.default_rng(0).normal(0, 2 / 255, along_rows.shape)
    assert lens_blur(np.rint(255 * noisy.clip(0, 1)).astype(np.uint8), 255.0) is None


@pytest.mark.parametrize(("near_px", "far_px"), [(2, 4), (3, 5)])
def test_parts_with_another_blur_are_counted(near_px: float, far_px: float) -> None:
    rest = "gaussian:sigma=2+jpeg:quality=95"
    near, far = (shot(f"defocus:radius_px={radius_px}+{rest}") for radius_px in (near_px, far_px))
    even, uneven = (lens_blur(np.concatenate([near, other[:, :, ::-1]], 2), 255.0) for other in (near, far))
    assert even is not None
    assert even.other_parts == 0
    assert uneven is not None
    assert uneven.other_parts == 4


def test_the_scale_and_the_channels_do_not_matter() -> None:
    page = shot("defocus:radius_px=4+gaussian:sigma=2")
    found = [
        lens_blur(page, 255.0),
        lens_blur(page.astype(np.uint16) * 257, 65535.0),
        lens_blur(page[:1], 255.0),
    ]
    assert [blur and blur.radius_px for blur in found] == [4, 4, 4]


@pytest.mark.parametrize("size", [(1, 1), (127, 400), (128, 128)])
def test_what_is_small_or_flat_proves_nothing(size: tuple[int, int]) -> None:
    assert lens_blur(np.full((3, *size), 90, np.uint8), 255.0) is None
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(128, 400, size), 6)
    assert lens_blur(np.rint(smooth.clip(0, 255)).astype(np.uint8)[None], 255.0) is None
