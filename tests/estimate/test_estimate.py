"""Noise estimates: accurate on signals with known noise, and the same in any blocks."""

import math
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from denoise import io
from denoise.corruptions import parse
from denoise.errors import UsageError
from denoise.estimate import NoiseEstimator, white_noise_sigma
from denoise.estimate.image import blur_px, noise_sigma
from denoise.estimate.jpeg import jpeg_quality

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


def test_signals_without_noise() -> None:
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
def test_image_noise_is_in_8_bit_units(dtype: type, peak: float) -> None:
    rng = np.random.default_rng(4)
    noisy = np.stack([smooth_picture() + s / 255.0 * rng.normal(size=(200, 240)) for s in (5.0, 10.0, 15.0)])
    page: Array = np.clip(np.rint(noisy * peak) if peak > 1 else noisy, 0, peak).astype(dtype)
    assert estimate("image", page, peak=peak) == pytest.approx(math.sqrt((25 + 100 + 225) / 3), rel=0.05)


def test_pages_have_equal_weight() -> None:
    pages = [smooth_picture()[None] * 255 + s * noise(1, 200, 240) for s in (4.0, 8.0)]
    assert estimate("image", *pages, peak=255.0) == pytest.approx(6.0, rel=0.05)


# ---- pictures --------------------------------------------------------------------------------------------

PHOTOS = Path(__file__).parents[2] / "data" / "samples" / "reference" / "photos"


def noise(*shape: int) -> Array:
    return np.random.default_rng(9).normal(size=shape)


@pytest.fixture(scope="module")
def photos() -> list[Array]:
    """Clean samples in 8-bit units, gray and colour, without alpha."""
    pages = []
    for path in sorted(PHOTOS.iterdir()):
        array, info = io.read(path)
        pages.append(array[: len(array) - info.passthrough_channels] * np.float32(255 / (info.peak or 1)))
    assert len(pages) >= 5
    return pages


def test_the_noise_of_photos(photos: list[Array]) -> None:
    levels = (0, 2, 5, 15, 50)
    found = np.array([[noise_sigma(page + s * noise(*page.shape)) for s in levels] for page in photos])
    assert np.abs(found - levels).mean() < 0.4
    assert np.abs(found - levels).max() < 1.5
    assert (np.diff(found) > 0).all()


def test_correlated_noise_is_measured(photos: list[Array]) -> None:
    for page in photos:
        white = noise(*page.shape)
        smooth = sum(np.roll(white, shift, (1, 2)) for shift in ((0, 0), (0, 1), (1, 0), (1, 1))) / 2
        assert smooth.std() == pytest.approx(1.0, abs=0.05)
        assert 2.5 < noise_sigma(page + 5 * smooth) < 6.5


def test_gray_and_colour_and_any_depth_agree(photos: list[Array]) -> None:
    for page in photos:
        noisy = np.clip(page + 8 * noise(*page.shape), 0, 255)
        eight, sixteen = np.rint(noisy).astype(np.uint8), np.rint(noisy * 257).astype(np.uint16)
        expected = noise_sigma(eight)
        assert noise_sigma(sixteen, 65535.0) == pytest.approx(expected, abs=0.1)
        assert noise_sigma((noisy / 255).astype(np.float32), 1.0) == pytest.approx(expected, abs=0.1)
        assert noise_sigma(eight[:1]) == pytest.approx(expected, abs=0.5)
        assert blur_px(sixteen, 65535.0, 8.0) == pytest.approx(blur_px(eight, 255.0, 8.0), abs=0.05)


@pytest.mark.parametrize("period_px", [1, 2, 5, 8, 16, 40])
def test_drawings_hold_no_noise(period_px: int) -> None:
    row, column = np.mgrid[:200, :240]
    checks = (40 + 180 * ((row // period_px + column // period_px) % 2)).astype(np.uint8)
    grid = np.where((row % period_px == 0) | (column % period_px == 0), 30, 250).astype(np.uint8)
    for drawing in (checks, grid, (row + column) // 2):
        assert noise_sigma(np.stack([drawing] * 3)) < 0.1
        assert noise_sigma(drawing[None]) < 0.1


def test_texture_is_not_noise() -> None:
    row, column = np.mgrid[:200, :240]
    grain = noise(1, 200, 240) * np.exp(1.5 * np.sin(row / 15) * np.cos(column / 20))  # of varying strength
    assert noise_sigma(128 + 4 * grain) < 1.5
    assert noise_sigma(128 + 4 * grain + 6 * noise(2, 200, 240)[1]) == pytest.approx(6, abs=1)


def test_clipped_parts_do_not_hide_the_noise() -> None:
    page = smooth_picture()[None] * 255 + 6 * noise(1, 200, 240)
    page[:, 60:120, 40:160] = 400.0
    assert noise_sigma(np.clip(page, 0, 255).astype(np.uint8)) == pytest.approx(6, rel=0.05)


def test_specks_are_noise_and_dots_are_not() -> None:
    rng = np.random.default_rng(0)
    page = np.stack([smooth_picture() * 255] * 3)
    specks = np.where(rng.random(page.shape) < 0.02, 255 * rng.integers(0, 2, page.shape), page)
    assert noise_sigma(specks) == pytest.approx((specks - page).std(), rel=0.1)
    dotted = page.copy()
    dotted[:, 10::12, ::3] = 0
    assert noise_sigma(dotted) < 0.5


def test_an_image_smaller_than_a_block_has_no_estimate() -> None:
    for shape in ((1, 1, 1), (3, 7, 30), (3, 8, 8), (1, 30, 9)):
        assert noise_sigma(np.zeros(shape, np.uint8)) == blur_px(np.zeros(shape, np.uint8)) == 0.0


def test_a_large_image_costs_no_more_than_its_blocks() -> None:
    page = np.full((1, 5000, 6000), 90, np.uint8)
    page[:, ::3, ::2] = 100
    page[:, :, 2500:] = np.random.default_rng(3).integers(80, 120, (1, 5000, 3500), np.uint8)
    tracemalloc.start()
    noise_sigma(page), blur_px(page)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < page.nbytes


@pytest.mark.parametrize("sigma", [0.0, 5.0])
def test_the_blur_of_photos(photos: list[Array], sigma: float) -> None:
    for page in photos:
        found = []
        for radius_px in (0.0, 1.0, 2.0):
            blurred = ndimage.gaussian_filter(page, (0, radius_px, radius_px), mode="nearest")
            found.append(blur_px(blurred + sigma * noise(*page.shape), 255.0, sigma))
        assert found == sorted(found)
        assert found[0] < 0.85 < found[1]
        np.testing.assert_allclose(found[1:], (1, 2), rtol=0.4)


@pytest.mark.parametrize("axis", [1, 2])
def test_motion_is_blur_although_it_leaves_edges_sharp(photos: list[Array], axis: int) -> None:
    for page in photos:
        moved = ndimage.uniform_filter1d(page, 9, axis=axis, mode="nearest")
        assert blur_px(moved) > 1.2


def test_a_blurred_background_is_not_blur(photos: list[Array]) -> None:
    page = photos[1].copy()
    half = page.shape[2] // 2
    page[:, :, :half] = ndimage.gaussian_filter(page[:, :, :half], (0, 3, 3))
    assert blur_px(page) < 0.85


def test_a_tone_with_pauses_has_the_noise_of_its_pauses() -> None:
    rate = 16_000
    time_s = np.arange(3 * rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s) * (time_s % 1.0 < 0.6)
    noise = 0.01 * np.random.default_rng(6).normal(size=time_s.size)
    for offset in (0.0, 0.3):
        found = estimate("audio", (tone + noise + offset)[None], peak=1.0, sample_rate=rate)
        assert found == pytest.approx(-40.0, abs=0.7)
    integers = np.rint((tone + noise) * 32768).astype(np.int16)[None]
    assert estimate("audio", integers, peak=32768.0, sample_rate=rate) == pytest.approx(-40.0, abs=0.7)


def test_silence_has_no_noise() -> None:
    assert estimate("audio", np.zeros((2, 5000)), peak=1.0, sample_rate=8000.0) == -math.inf
    assert estimate("audio", np.zeros((1, 1)), peak=1.0, sample_rate=8000.0) == -math.inf
    assert estimate("sensor", np.ones((2, 5000))) == 0.0


def test_sensor_noise_is_in_the_units_of_the_log() -> None:
    noise = np.random.default_rng(7).normal(size=(2, 150_000)) * np.array([[1.0], [3.0]])
    noise[:, 5000:5100] = np.nan
    assert estimate("sensor", noise) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("modality", ["image", "audio", "sensor"])
def test_empty_input_gives_a_result(modality: str) -> None:
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


# ---- JPEG ------------------------------------------------------------------------------------------------


def compressed(page: Array, quality: float) -> Array:
    """A page in 8-bit units after JPEG."""
    import torch

    generator = torch.Generator().manual_seed(0)
    coded = parse(f"jpeg:quality={quality}")(torch.from_numpy(page[None] / 255).float(), generator)
    return np.asarray(coded[0] * 255)


@pytest.mark.parametrize("quality", [30, 50, 70, 85])
def test_the_quality_of_a_jpeg(photos: list[Array], quality: int) -> None:
    found = [jpeg_quality(compressed(photo, quality)) for photo in photos]
    assert found == pytest.approx([quality] * len(photos), abs=4)


def test_images_without_traces_of_jpeg(photos: list[Array]) -> None:
    for photo in photos:
        assert jpeg_quality(photo) == 100
        assert jpeg_quality(compressed(photo, 95)) == 100
        assert jpeg_quality(compressed(photo, 50)[:, 3:, 5:]) == 100  # off the grid
        assert jpeg_quality(compressed(photo, 50) + 5 * noise(*photo.shape)) == 100
    for size in ((1, 1), (7, 90), (8, 8), (64, 64)):
        assert jpeg_quality(np.zeros((3, *size), np.uint8)) == 100
        assert jpeg_quality(100 + 20 * noise(1, *size)) == 100


@pytest.mark.parametrize(("dtype", "peak"), [(np.uint8, 255.0), (np.uint16, 65535.0), (np.float32, 1.0)])
def test_a_jpeg_is_one_at_any_depth(photos: list[Array], dtype: type, peak: float) -> None:
    scaled = compressed(photos[0], 60) * (peak / 255)
    page: Array = (np.rint(scaled) if peak > 1 else scaled).astype(dtype)
    assert jpeg_quality(page, peak) == pytest.approx(60, abs=4)
