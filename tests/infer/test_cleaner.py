"""`load` and `Cleaner.clean`: any common layout, or a sentence about it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import denoise
from denoise import weights
from denoise.errors import InputError, TooLargeError, UsageError
from denoise.infer.apply import apply
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.models.table import DEFAULT_MODELS

Make = Callable[..., Any]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.fixture
def cleaner(gain: Make) -> Make:
    return lambda factor=0.5, **spec: Cleaner("half", gain(factor, **spec), "builtin:half")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (9, 7, 3), (45, 42, 5), (3, 9, 7), (5, 45, 42)])
def test_images_come_back_in_shape_and_type(cleaner: Make, shape: tuple[int, ...], dtype: str) -> None:
    full = 1 if dtype.startswith("f") else np.iinfo(dtype).max
    image = (noise(*shape) * full).astype(dtype)
    before = image.copy()
    result = cleaner(modality="image", channels=3).clean(image)
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    np.testing.assert_allclose(result, image / 2, atol=0.5 if full > 1 else 1e-6)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_is_left_alone(cleaner: Make, channels: int) -> None:
    image = noise(8, 9, channels)
    result = cleaner(modality="image", channels=3).clean(image)
    np.testing.assert_array_equal(result[..., -1], image[..., -1])
    np.testing.assert_allclose(result[..., :-1], image[..., :-1] / 2, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(700,), (700, 1), (700, 6), (2, 700)])
@pytest.mark.parametrize("modality", ["audio", "sensor"])
def test_signals_come_back_in_shape_and_type(
    cleaner: Make, shape: tuple[int, ...], dtype: str, modality: str
) -> None:
    signal = ((noise(*shape) - 0.5) * (1 if dtype.startswith("f") else 30000)).astype(dtype)
    result = cleaner(modality=modality).clean(signal)
    assert (result.shape, result.dtype) == (signal.shape, signal.dtype)
    np.testing.assert_allclose(result, signal / 2, atol=1e-6 if dtype.startswith("f") else 0.51)


def test_integer_audio_means_its_full_scale_and_a_sensor_its_own_units(gain: Make) -> None:
    class Clip(type(gain(modality="audio"))):  # type: ignore[misc]
        def forward(self, noisy: Any) -> Any:
            return noisy.clip(-0.5, 0.5)

    signal = np.array([-32768, -100, 100, 32767], np.int16)
    audio = Cleaner("clip", Clip(gain(modality="audio").spec), "").clean(signal)
    assert audio.tolist() == [-16384, -100, 100, 16384]
    counts = np.array([-30000.0, -100.0, 100.0, 30000.0])  # -32768 would be a missing value
    sensor = Cleaner("clip", Clip(gain(modality="sensor").spec), "").clean(counts)
    assert sensor.tolist() == [-0.5, -0.5, 0.5, 0.5]


def test_a_centred_and_scaled_sensor_keeps_its_units(cleaner: Make) -> None:
    signal = noise(300, 2) * 50 + [1000, -3]
    result = cleaner(0.0, modality="sensor", centre=True, scale=True).clean(signal)
    np.testing.assert_allclose(result, np.broadcast_to(signal.mean(axis=0), signal.shape), rtol=1e-5)


@pytest.mark.parametrize("value", [0, 7])
def test_silence_and_constants_come_back(cleaner: Make, value: int) -> None:
    for modality, shape in (("image", (5, 6, 3)), ("audio", (900, 2)), ("sensor", (900,))):
        constant = np.full(shape, value, np.int16)
        spec = {"centre": True, "scale": True} if modality == "sensor" else {}
        np.testing.assert_array_equal(cleaner(modality=modality, **spec).clean(constant), constant)


def test_a_lists_worth_of_numbers_and_strided_views(cleaner: Make) -> None:
    assert cleaner(modality="sensor").clean([0.0, 4.0]).tolist() == [0.0, 2.0]
    image = noise(20, 20, 3)[::-2, ::-1]
    np.testing.assert_allclose(cleaner(modality="image").clean(image), image / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros(5), r"shape \(5,\).*\(H, W\), \(H, W, C\) or \(C, H, W\)"),
        (np.zeros((2, 2, 2, 2)), r"shape \(2, 2, 2, 2\)"),
        (np.zeros((0, 4)), "nothing to clean"),
        (np.zeros((3, 4, 0)), "nothing to clean"),
        (np.zeros((3, 4), bool), "type bool"),
        (np.zeros((3, 4), complex), "type complex128"),
        (np.zeros((3, 90, 4)), r"4 channels of 3 x 90 .*3 channels of 90 x 4; give channel_axis"),
        (np.zeros((90, 80, 70)), r"70 channels of 90 x 80 .*90 channels of 80 x 70"),
        (np.array([["a"]]), "type <U1"),
        (np.array([[None]]), "type object"),
        (np.array([[0, np.nan]]), "row 0, column 1 is nan"),
    ],
)
def test_arrays_that_cannot_be_cleaned(cleaner: Make, array: np.ndarray, match: str) -> None:
    with pytest.raises(InputError, match=match):
        cleaner(modality="image").clean(array)


def test_an_ambiguous_array_is_refused_unless_the_axis_is_given(cleaner: Make) -> None:
    square = noise(60, 50)
    sensor = cleaner(modality="sensor")
    with pytest.raises(InputError, match=r"50 channels of 60 samples, or 60 channels of 50"):
        sensor.clean(square)
    for axis in (0, -1):
        assert sensor.clean(square, channel_axis=axis).shape == square.shape
    with pytest.raises(UsageError, match="channel_axis is 5"):
        sensor.clean(square, channel_axis=5)
    with pytest.raises(TooLargeError, match="2000 channels, expected 1024 at most"):
        sensor.clean(noise(9, 2000), channel_axis=-1)
    rgb = noise(3, 90, 4)
    np.testing.assert_allclose(cleaner(modality="image").clean(rgb, channel_axis=0), rgb / 2, atol=1e-6)


@pytest.mark.parametrize(("modality", "shape"), [("image", (10**6, 10**6, 3)), ("sensor", (10**13,))])
def test_a_view_of_more_than_the_memory_is_refused_before_it_is_taken(
    cleaner: Make, modality: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(
        TooLargeError, match=r"the array of shape .* needs about [0-9]+ MB of memory; [0-9]+ MB"
    ):
        cleaner(modality=modality).clean(np.broadcast_to(np.float32(0.5), shape))


def test_calls_that_cannot_be_honoured(cleaner: Make) -> None:
    with pytest.raises(UsageError, match=r"half works at 16000 Hz"):
        cleaner(modality="audio", sample_rate=16000.0).clean(noise(50))
    with pytest.raises(UsageError, match=r"half .* no sigma"):
        cleaner(modality="image").clean(noise(5, 5), sigma=25)
    for strength in (2, "1"):
        with pytest.raises(UsageError, match="strength"):
            cleaner(modality="image").clean(noise(5, 5), strength=strength)
    for rate in ("100", 1j, -1, float("nan")):
        with pytest.raises(UsageError, match=r"sample rate is .*positive number of Hz"):
            cleaner(modality="sensor").clean(noise(50), sample_rate=rate)


@pytest.mark.parametrize(("modality", "shape"), [("image", (9, 9)), ("audio", (99,)), ("sensor", (99,))])
@pytest.mark.filterwarnings("error")
def test_numbers_that_no_model_can_square_are_refused_without_warnings(
    cleaner: Make, modality: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=r"a sample has the magnitude .*e\+(299|300)"):
        cleaner(modality=modality, sample_rate=8000.0).clean(
            1e300 * noise(*shape).astype(float), sample_rate=8000
        )


def test_a_classical_row_needs_its_modality_named_when_it_has_several() -> None:
    with pytest.raises(UsageError, match=r"median .*image, sensor"):
        load("median")
    row = load("median", "sensor")
    assert (row.name, row.spec.modality, row.card) == ("median", "sensor", {})
    assert row.digest == f"builtin:median:{denoise.__version__}"
    assert load("nlm").spec.modality == "image"
    with pytest.raises(UsageError, match="nlm"):
        load("nlm", "audio")


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(UsageError, match="did you mean median"):
        load("medain")
    with pytest.raises(UsageError, match="modality"):
        load("median", "video")
    with pytest.raises(UsageError, match=r"mine\.safetensors: no such weights file"):
        load("mine.safetensors")


def test_shipped_defaults_are_named_for_each_modality() -> None:
    assert set(DEFAULT_MODELS) == {"image", "audio", "sensor"}


def test_weights_are_loaded_from_a_path_with_their_digest(
    tmp_path: Path, gain: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"weights")
    card = {"name": "mine", "modality": "sensor"}
    monkeypatch.setattr(weights, "card", lambda _: card)
    monkeypatch.setattr(weights, "load", lambda _: (gain(modality="sensor"), card))
    loaded = load(path)
    assert (loaded.name, loaded.card) == (str(path), card)
    assert loaded.digest == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(UsageError, match="cleans sensor, not image"):
        load(path, "image")


def test_clean_and_apply_agree(strided_image: Make) -> None:
    model, image = strided_image(), noise(30, 31, 3)
    cleaned = Cleaner("net", model, "").clean(image, strength=0.5)
    np.testing.assert_array_equal(
        cleaned.transpose(2, 0, 1), apply(model, image.transpose(2, 0, 1), peak=1.0, strength=0.5)
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_drawing_is_not_copied(channels: int) -> None:
    drawing = np.full((600, 800), 255, np.uint8)
    drawing[::40] = drawing[:, ::50] = 0
    page = np.repeat(drawing[None], channels, axis=0)
    auto = load("auto", "image")
    result, selection = auto.apply(page, peak=255)
    assert selection.model == "none"
    assert result is page
    cleaned = auto.clean(page)
    np.testing.assert_array_equal(cleaned, page)
    assert not np.shares_memory(cleaned, page)  # the caller may write to it
