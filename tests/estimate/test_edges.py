"""Width of the sharpest edges."""

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from denoise.estimate.edges import edge_spread, sharpest_edges_px

Array = NDArray[Any]


def squares(sigma_px: float, noise: float = 0.0) -> Array:
    """Return dark squares on a light ground under a Gaussian blur, `(3, 256, 256)` in 8 bits."""
    row, column = np.mgrid[:1024, :1024] // 128  # four times as large, so that edges lie between pixels too
    large = np.where((row + column) % 2, 60.0, 190.0)
    soft = ndimage.gaussian_filter(large, 4 * sigma_px).reshape(256, 4, 256, 4).mean((1, 3))
    noisy = soft + np.random.default_rng(0).normal(0, noise, (3, 256, 256))
    return np.rint(noisy.clip(0, 255)).astype(np.uint8)


@pytest.mark.parametrize("sigma_px", [0.8, 1.2, 1.6])
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_the_width_of_an_edge_is_that_of_its_blur(sigma_px: float, noise: float) -> None:
    assert sharpest_edges_px(squares(sigma_px, noise), 255.0) == pytest.approx(sigma_px, rel=0.2)


def test_one_sharp_part_decides() -> None:
    both = np.concatenate([squares(2.0), squares(0.5)[:, :64]], axis=1)
    assert sharpest_edges_px(both, 255.0) < 0.7 < 1.5 < sharpest_edges_px(squares(2.0), 255.0)


def test_bands_and_scale_do_not_matter() -> None:
    page = np.concatenate([squares(1.2)] * 3, axis=1)
    widths = [
        sharpest_edges_px(page, 255.0),
        sharpest_edges_px(page[:, :256], 255.0),
        sharpest_edges_px(page.astype(np.uint16) * 257, 65535.0),
    ]
    assert widths == pytest.approx([widths[0]] * 3, rel=0.02)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (64, 64)])
def test_without_edges_it_is_not_known(size: tuple[int, int]) -> None:
    assert sharpest_edges_px(np.full((3, *size), 90, np.uint8), 255.0) == math.inf


def test_the_edges_of_shallow_focus_differ_and_those_of_a_blur_do_not() -> None:
    shallow = np.where(np.arange(256) < 112, squares(0.7, 1.0), squares(2.0, 1.0))
    assert edge_spread(squares(1.5, 1.0), 255.0) < 1.2 < 1.6 < edge_spread(shallow, 255.0)
    assert edge_spread(shallow[:, :200], 255.0) == 1.0  # too small to compare parts
    assert edge_spread(np.full((3, 300, 300), 90, np.uint8), 255.0) == 1.0
