"""Black and white of an image, and hot pixels."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from denoise.dsp.scale import sample_range
from denoise.estimate.hot_pixels import without_hot_pixels

Array = NDArray[Any]


def ramp(low: float, high: float, sigma: float = 0.0) -> Array:
    noise = np.random.default_rng(0).normal(0, 1, (1, 64, 96))
    return np.linspace(low, high, 96) + sigma * noise


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (ramp(0, 40).astype(np.uint8), (0, 255)),  # 8 bits stay 8 bits, however dark
        (ramp(0, 250).astype(np.uint16), (0, 255)),
        (ramp(0, 250).astype(np.int64), (0, 255)),
        (ramp(0, 1000).astype(np.uint16), (0, 1023)),
        (ramp(64, 4095).astype(np.uint16), (0, 4095)),
        (ramp(64, 16000).astype(np.int32), (0, 16383)),
        (ramp(64, 60000).astype(np.uint16), (0, 65535)),
        (ramp(5, 250, 12).astype(np.int16), (0, 255)),  # noise beyond the range
        (ramp(0, 1), (0, 1)),
        (ramp(0, 0.01), (0, 1)),  # dark, not small
        (ramp(0, 1, 50 / 255), (0, 1)),
        (ramp(0, 255), (0, 255)),
        (ramp(0, 255, 20), (0, 255)),
        (ramp(0, 4095, 100), (0, 4095)),
    ],
)
def test_white_is_the_fewest_bits_that_hold_the_samples(page: Array, expected: tuple[float, float]) -> None:
    assert sample_range(page, 1.0 if page.dtype.kind == "f" else float(np.iinfo(page.dtype).max)) == expected


@pytest.mark.parametrize(("low", "high"), [(-1, 1), (-300, 900), (-0.5, 0.5), (-0.2, 0.8), (0, 40)])
def test_other_floats_have_a_range_of_their_own(low: float, high: float) -> None:
    black, white = sample_range(ramp(low, high, (high - low) / 30), 1.0)
    assert (black, white) == pytest.approx((low, high), abs=0.12 * (high - low))


def test_what_is_not_finite_does_not_decide() -> None:
    page = ramp(0, 1)
    page[0, 3, 4] = np.inf
    assert sample_range(page, 1.0) == (0, 1)


@pytest.mark.parametrize("white", [255, 4095])
def test_hot_pixels_go_and_stars_stay(white: int) -> None:
    rows, columns = np.mgrid[:64, :64]
    sky = np.full((3, 64, 64), 0.08)
    for row, column, width in ((10.0, 12.0, 0.6), (30.3, 40.5, 0.8), (50.5, 20.0, 1.2)):
        distance = (rows - row) ** 2 + (columns - column) ** 2
        sky += 0.8 * np.exp(-distance / (2 * width**2))
    sky += np.random.default_rng(0).normal(0, 0.02, sky.shape)
    hot = sky.copy()
    places = [(0, 20, 30), (1, 5, 50), (2, 40, 60), (0, 60, 8)]
    for place in places:
        hot[place] = 0.7
    dtype = np.uint8 if white == 255 else np.uint16
    clean, before = (np.rint(white * image.clip(0, 1)).astype(dtype) for image in (sky, hot))
    after = without_hot_pixels(before, white)
    changed = list(zip(*np.nonzero(after != before), strict=True))
    assert sorted(changed) == sorted(places)
    assert all(abs(int(after[place]) - int(clean[place])) < 0.1 * white for place in places)


def test_dots_of_the_picture_stay() -> None:
    """A gray dot stands out in all channels, a hot pixel in one."""
    wing = 20 + np.random.default_rng(0).normal(0, 2, (3, 64, 64))
    wing[:, 8:60:9, 8:60:9] += 120
    before = np.rint(wing).astype(np.uint8)
    assert without_hot_pixels(before, 255) is before
    before[1, 30, 32] = 200
    changed = np.argwhere(without_hot_pixels(before, 255) != before)
    assert changed.tolist() == [[1, 30, 32]]


@pytest.mark.parametrize("size", [(1, 1), (4, 9), (5, 5)])
def test_small_pages_have_no_hot_pixels_at_their_edges(size: tuple[int, int]) -> None:
    page = np.random.default_rng(0).integers(0, 255, (1, *size), np.uint8)
    without_hot_pixels(page, 255)
