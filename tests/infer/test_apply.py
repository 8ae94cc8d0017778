"""Arrays in memory: tiled equals whole, and shape and dtype are preserved."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from denoise.errors import DenoiseError, InputError, UsageError
from denoise.infer import tiles
from denoise.infer.apply import apply
from denoise.infer.progress import showing_shares
from denoise.infer.tiles import Memory
from denoise.models.autoencoder import build

Make = Callable[..., Any]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", [(1, 1), (1, 37), (37, 1), (2, 3), (21, 18), (37, 41)])
@pytest.mark.parametrize("tile", [3, 16, 1000])
def test_tiled_equals_one_run_of_the_network(strided_image: Make, shape: tuple[int, int], tile: int) -> None:
    model, image = strided_image(), noise(3, *shape)
    edge = [(0, 0), *((0, size % 2) for size in shape)]
    with torch.inference_mode():
        whole = model(torch.from_numpy(np.pad(image, edge, mode="reflect"))[None])[0].numpy()
    whole = whole[:, : shape[0], : shape[1]]
    if shape == (1, 1):
        whole = image  # constant: nothing to clean
    np.testing.assert_allclose(apply(model, image, peak=1.0, tile=tile), whole, atol=1e-5)


def test_a_halo_below_the_reach_is_caught_by_the_same_comparison(strided_image: Make) -> None:
    model, image = strided_image(), noise(3, 40, 40)
    whole = apply(model, image, peak=1.0, tile=40)
    model.spec = type(model.spec)("image", 3, multiple_of=2, halo=1)
    assert np.abs(apply(model, image, peak=1.0, tile=8) - whole).max() > 1e-4


def test_a_model_without_a_halo_is_never_cut(gain: Make) -> None:
    model = gain(modality="image", halo=None)
    apply(model, noise(1, 90, 1700), peak=1.0, tile=16)
    assert (model.longest, model.calls) == (1700, 1)


def test_default_tiles_keep_to_the_memory_and_equal_the_whole(
    strided_image: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image, sizes = strided_image(), noise(3, 150, 210), []
    whole = apply(model, image, peak=1.0, tile=1000)
    model.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0][0, 0].numel()))
    budget = 100_000  # bytes
    monkeypatch.setattr("denoise.infer.apply.MEMORY", Memory(0, budget, budget))
    tiled = apply(model, image, peak=1.0)
    assert len(sizes[1:]) > 4
    assert max(sizes[1:]) * tiles.bytes_per_pixel(model) <= budget
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "peak"), [("uint8", 255), ("uint16", 65535), (">u2", 65535), ("int32", 2**31 - 1)]
)
def test_integers_pass_a_neutral_model_unchanged(gain: Make, dtype: str, peak: float) -> None:
    image = (noise(3, 20, 31) * peak).astype(dtype)
    result = apply(gain(1.0, modality="image", channels=3), image, peak=peak)
    assert result.dtype == image.dtype
    np.testing.assert_array_equal(result, image)


def test_integers_are_rounded_and_clipped(gain: Make) -> None:
    image = np.array([[[0, 101, 200]]], np.uint8)
    np.testing.assert_array_equal(apply(gain(0.75, modality="image"), image, peak=255), [[[0, 76, 150]]])
    np.testing.assert_array_equal(apply(gain(2.0, modality="image"), image, peak=255), [[[0, 202, 255]]])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_keep_their_type(gain: Make, dtype: str) -> None:
    image = noise(1, 9, 9).astype(dtype)
    result = apply(gain(modality="image"), image, peak=1.0)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, image / 2, rtol=2e-3)


def test_channel_counts_other_than_the_models(gain: Make, strided_image: Make) -> None:
    image = noise(5, 12, 13)
    for channels in (1, 3):
        together = apply(strided_image(channels), image, peak=1.0)
        alone = [apply(strided_image(channels), plane[None], peak=1.0)[0] for plane in image]
        np.testing.assert_allclose(together, alone, atol=1e-6)
    gray = apply(gain(modality="image", channels=3), image[:1], peak=1.0)
    np.testing.assert_allclose(gray, image[:1] / 2, atol=1e-6)


def test_alpha_is_copied_through(gain: Make) -> None:
    image = noise(4, 8, 8)
    result = apply(gain(modality="image", channels=3), image, peak=1.0, keep=1)
    np.testing.assert_array_equal(result[3], image[3])
    np.testing.assert_allclose(result[:3], image[:3] / 2, atol=1e-6)


def test_a_constant_channel_comes_back_unchanged(gain: Make) -> None:
    image = noise(3, 8, 8)
    image[1] = 0.7
    result = apply(gain(modality="image", channels=3), image, peak=1.0)
    np.testing.assert_array_equal(result[1], image[1])
    assert (result[0] != image[0]).all()


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_strength_mixes_input_and_answer(gain: Make, strength: float) -> None:
    image = noise(1, 8, 9)
    result = apply(gain(modality="image"), image, peak=1.0, strength=strength)
    np.testing.assert_allclose(result, image * (1 - strength / 2), atol=1e-6)
    if strength == 0:
        np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_strength_outside_its_range_is_refused(gain: Make, strength: float) -> None:
    with pytest.raises(UsageError, match="strength"):
        apply(gain(modality="image"), noise(1, 8, 9), peak=1.0, strength=strength)


def test_sigma_is_on_the_8_bit_scale_for_images(sigma_gain: Make) -> None:
    model = sigma_gain(modality="image")
    apply(model, (noise(1, 8, 8) * 65535).astype(np.uint16), peak=65535, sigma=51)
    assert model.sigmas == [pytest.approx(0.2)]


def test_sigma_is_refused_by_a_model_that_takes_none(gain: Make) -> None:
    with pytest.raises(UsageError, match=r"Gain.*no sigma"):
        apply(gain(modality="image"), noise(1, 8, 9), peak=1.0, sigma=25)


def test_the_input_is_not_touched_and_the_memory_order_is_kept(gain: Make) -> None:
    interleaved = noise(10, 11, 3)
    image = interleaved.transpose(2, 0, 1)
    before = image.copy()
    interleaved.flags.writeable = False
    result = apply(gain(modality="image", channels=3), image, peak=1.0)
    np.testing.assert_array_equal(image, before)
    assert result.strides == image.strides


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pixel_that_is_no_number_is_named(gain: Make, value: float) -> None:
    image = noise(1, 30, 40)
    image[0, 21, 35] = value
    with pytest.raises(InputError, match="row 21, column 35"):
        apply(gain(modality="image"), image, peak=1.0, tile=16)


def test_an_answer_that_is_no_number_is_an_error(gain: Make) -> None:
    with pytest.raises(DenoiseError, match="not a finite"):
        apply(gain(float("nan"), modality="image"), noise(1, 8, 8), peak=1.0)


def test_the_number_of_axes_must_be_the_models(gain: Make) -> None:
    with pytest.raises(UsageError, match=r"\(3, 5\)"):
        apply(gain(modality="image"), noise(3, 5), peak=1.0)


def test_signals_go_block_by_block(strided_signal: Any) -> None:
    signal = noise(2, 999)
    with torch.inference_mode():
        whole = strided_signal(torch.from_numpy(np.pad(signal, ((0, 0), (0, 1)), mode="edge"))[:, None])[:, 0]
    result = apply(strided_signal, signal, peak=None, tile=50)
    np.testing.assert_allclose(result, whole[:, :999].numpy(), atol=1e-5)


def test_integer_signals_use_their_full_scale(gain: Make) -> None:
    model = gain(modality="audio")
    loud = np.array([[-32768, -1001, 0, 32767]], np.int16)
    np.testing.assert_array_equal(apply(model, loud, peak=32768.0), [[-16384, -500, 0, 16384]])
    unsigned = np.array([[0, 128, 228]], np.uint8)
    np.testing.assert_array_equal(apply(model, unsigned, peak=128.0), [[64, 128, 178]])


@pytest.mark.parametrize("shape", [(3, 201, 330), (1, 201, 130), (3, 97, 600)])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_strips_bands_and_threads_leave_the_result_as_it_is(
    shape: tuple[int, int, int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(modality="image", channels=3, widths=(8, 12), blocks=1, fold=2).eval()
    image = (noise(*shape) * 255).astype(np.uint8)
    whole = apply(model, image, peak=255.0, tile=1000)
    budget = int(tiles.bytes_per_pixel(model) * 1.4 * 150 * 90)
    monkeypatch.setattr("denoise.infer.apply.MEMORY", Memory(0, budget, budget))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    shares: list[float] = []
    with showing_shares(shares.append):
        result = apply(model, image, peak=255.0)
    assert len(shares) > 2
    assert max(shares) == 1
    steps = np.abs(result.astype(int) - whole)  # on some processors a kernel rounds otherwise by the shape
    assert steps.max() <= 1
    assert np.count_nonzero(steps) < 1e-4 * steps.size


def test_an_error_in_a_thread_is_that_of_the_image(strided_image: Make) -> None:
    image = noise(3, 64, 64)
    image[1, 60, 60] = np.nan
    with pytest.raises(InputError, match="row 60, column 60"):
        apply(strided_image(), image, peak=1.0, tile=16)
