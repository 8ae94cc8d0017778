"""Types that go into `clean` come back as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from PIL import Image

import denoise
from denoise.errors import InputError, UsageError
from denoise.infer.containers import open_container

IMAGE = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
SIGNAL = np.random.default_rng(1).normal(size=200).cumsum()
MEDIAN = denoise.load("median", "image")
MEDIAN_1D = denoise.load("median", "sensor")
EXPECTED = MEDIAN.clean(IMAGE)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_keep_dtype_and_device(dtype: torch.dtype) -> None:
    levels = torch.from_numpy(np.moveaxis(IMAGE, -1, 0).copy())
    tensor = levels if dtype == torch.uint8 else (levels / 255).to(dtype)
    cleaned = MEDIAN.clean(tensor.requires_grad_(dtype == torch.float32))
    assert isinstance(cleaned, torch.Tensor)
    assert (cleaned.dtype, cleaned.device, cleaned.shape) == (dtype, tensor.device, tensor.shape)
    scale = 1 if dtype == torch.uint8 else 255
    assert np.abs(scale * cleaned.float().numpy() - np.moveaxis(EXPECTED, -1, 0)).max() < 1.5


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pictures_keep_mode_and_metadata(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(IMAGE[..., 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(IMAGE).convert(mode)
    picture.info["exif"] = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00"
    cleaned = MEDIAN.clean(picture)
    assert isinstance(cleaned, Image.Image)
    assert (cleaned.mode, cleaned.size) == (mode, picture.size)
    assert cleaned.info["exif"] == picture.info["exif"]
    if mode == "RGB":
        assert np.array_equal(np.asarray(cleaned), EXPECTED)
    if mode in ("LA", "RGBA"):
        assert np.array_equal(np.asarray(cleaned)[..., -1], np.asarray(picture)[..., -1])


@pytest.mark.parametrize("mode", ["P", "1", "CMYK"])
def test_a_mode_without_levels_is_refused(mode: str) -> None:
    with pytest.raises(denoise.InputError, match=f"mode {mode}; expected one of L, .*convert"):
        MEDIAN.clean(Image.fromarray(IMAGE).convert(mode))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_keep_type_names_and_other_columns(library: str) -> None:
    columns: dict[str, Any] = {
        "time_s": np.arange(200) / 10,
        "a": SIGNAL,
        "b": (1000 * SIGNAL).astype(np.int64),
        "label": ["x"] * 200,
    }
    frame: Any = pd.DataFrame(columns, index=range(5, 205)) if library == "pandas" else pl.DataFrame(columns)
    cleaned = MEDIAN_1D.clean(frame)
    assert type(cleaned) is type(frame)
    assert list(cleaned.columns) == list(columns)
    for name in ("time_s", "label"):
        assert list(cleaned[name]) == list(frame[name])
    assert np.allclose(cleaned["a"].to_numpy(), MEDIAN_1D.clean(SIGNAL))
    assert cleaned["b"].dtype == frame["b"].dtype
    assert not np.array_equal(cleaned["b"].to_numpy(), frame["b"].to_numpy())
    if library == "pandas":
        assert cleaned.index.equals(frame.index)
    series = MEDIAN_1D.clean(frame["a"])
    assert type(series) is type(frame["a"])
    assert np.allclose(series.to_numpy(), cleaned["a"].to_numpy())


def test_arrays_of_xarray_are_copied_with_new_values() -> None:
    class DataArray:  # what is used of xarray.DataArray
        __module__ = "xarray.core.dataarray"
        name = None

        def __init__(self, data: np.ndarray) -> None:
            self.data = data

        def __array__(self, *_: Any, **__: Any) -> np.ndarray:
            return self.data

        def copy(self, data: np.ndarray) -> Any:
            return DataArray(data)

    cleaned = MEDIAN_1D.clean(DataArray(SIGNAL))
    assert isinstance(cleaned, DataArray)
    assert np.allclose(cleaned.data, MEDIAN_1D.clean(SIGNAL))


def test_one_array_of_a_dataset_is_asked_for() -> None:
    dataset = type("Dataset", (), {"__module__": "xarray.core.dataset"})()
    with pytest.raises(denoise.InputError, match=r"dataset\['name'\]"):
        MEDIAN_1D.clean(dataset)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_masked_values_are_gaps_and_stay_masked(dtype: str) -> None:
    time_s = np.arange(2000) / 100
    log = 1000 * np.sin(2 * np.pi * time_s) + np.random.default_rng(0).normal(0, 100, 2000)
    mask = np.random.default_rng(1).random(2000) < 0.1
    given = np.ma.array(np.where(mask, 30000, log).astype(dtype), mask=mask, fill_value=-7)
    before = given.copy()
    cleaner = denoise.load("sensor")
    cleaned = cleaner.clean(given, sample_rate=100)
    assert type(cleaned) is np.ma.MaskedArray
    assert (cleaned.dtype, cleaned.fill_value) == (np.dtype(dtype), -7)
    assert np.array_equal(cleaned.mask, mask)
    assert np.array_equal(cleaned.data[mask], before.data[mask])
    gaps = cleaner.clean(np.where(mask, np.nan, log.astype(dtype)), sample_rate=100)
    np.testing.assert_allclose(cleaned.data[~mask], gaps[~mask], atol=0.6 if dtype == "int16" else 1e-2)
    assert np.array_equal(given.data, before.data)
    table = denoise.SignalDenoiser(sample_rate=100).fit_transform(given[:, None])
    np.testing.assert_allclose(table[~mask, 0], gaps[~mask], atol=1e-2)


def test_masked_pictures_are_refused_and_masks_without_effect_are_not() -> None:
    cleaner = denoise.load("photo-fast")
    image = np.ma.array(np.random.default_rng(0).random((24, 24)), mask=False)
    assert type(cleaner.clean(image)) is np.ma.MaskedArray
    image[3, 4] = np.ma.masked
    with pytest.raises(InputError, match=r"masked values.*filled"):
        cleaner.clean(image)


def test_a_rate_that_is_no_number_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the sample rate is '100'; it must be a positive number of Hz"):
        denoise.load("sensor").clean(SIGNAL, sample_rate="100")


def test_a_matrix_comes_back_as_one() -> None:
    given = np.random.default_rng(0).normal(size=(1, 300)).view(np.matrix)
    cleaned = denoise.load("sensor").clean(given, sample_rate=100)
    assert type(cleaned) is np.matrix
    assert cleaned.shape == given.shape


def test_lists_come_back_as_arrays() -> None:
    assert MEDIAN_1D.clean([0, 0, 9, 0, 0]).tolist() == [0, 0, 0, 0, 0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", ["a.png", Path("a.png"), b"\x89PNG", bytearray(3)])
def test_files_are_sent_to_the_function_for_files(given: Any) -> None:
    with pytest.raises(denoise.UsageError, match=r"denoise\.clean_file"):
        MEDIAN.clean(given)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_of_a_frame_the_columns_are_cleaned_that_the_command_line_would_clean(library: str) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "volts": rng.normal(size=2000),
        "count": np.arange(2000.0),
        "heading": np.cumsum(rng.normal(0, 9, 2000)) % 360,
    }
    frame: Any = pd.DataFrame(columns) if library == "pandas" else pl.DataFrame(columns)
    cleaned = denoise.load("savgol", "sensor").clean(frame)
    changed = [name for name in columns if not np.array_equal(cleaned[name].to_numpy(), columns[name])]
    assert changed == ["volts"]


def test_stamps_give_the_sample_rate() -> None:
    noisy = np.random.default_rng(0).normal(size=2000)
    series = pd.Series(noisy, index=pd.date_range("2024", periods=2000, freq="4ms"))
    ecg = denoise.load("ecg")
    np.testing.assert_allclose(ecg.clean(series).to_numpy(), ecg.clean(noisy, 250.0), atol=1e-5)
    with pytest.raises(denoise.UsageError, match="in Python sample_rate"):
        ecg.clean(pd.Series(noisy))


def test_a_frame_that_is_lazy_or_no_image_is_refused() -> None:
    with pytest.raises(denoise.InputError, match="lazy frame"):
        MEDIAN_1D.clean(pl.DataFrame({"a": SIGNAL}).lazy())
    with pytest.raises(denoise.InputError, match="table of signals"):
        MEDIAN.clean(pd.DataFrame({"a": SIGNAL, "b": SIGNAL}))


def test_a_frame_of_words_is_refused() -> None:
    with pytest.raises(denoise.InputError, match="no column of measurements"):
        open_container(pd.DataFrame({"a": ["x", "y"]}))


def test_objects_are_shown_in_one_line(tmp_path: Path) -> None:
    assert repr(MEDIAN) == "<Cleaner median: cleans image>"
    Image.fromarray(IMAGE).save(tmp_path / "<b>.png")
    report = denoise.clean_file(tmp_path / "<b>.png", tmp_path / "out.png", "median")
    assert "\n" not in repr(report)
    assert repr(report).startswith("<FileReport <b>.png: image by median, estimated_sigma ")
    html = report._repr_html_()
    assert html is not None
    assert "data:image/png;base64," in html
    assert "<b>" not in html
    (tmp_path / "out.png").unlink()
    assert report._repr_html_() is None


@pytest.mark.parametrize(
    ("before", "rate", "axes", "label"),
    [
        (IMAGE, None, 2, ""),
        (np.moveaxis(IMAGE, -1, 0), None, 2, ""),
        (IMAGE[..., 0] * np.float32(1 / 255), None, 2, ""),
        (SIGNAL, None, 1, "sample"),
        (np.stack([SIGNAL] * 3, axis=1), 50.0, 3, "time, s"),
        (np.random.default_rng(0).normal(size=8000), 16000.0, 2, "time, s"),
        (torch.zeros(3, 20, 40), None, 2, ""),
    ],
)
def test_figures_of_the_three_kinds(
    before: Any, rate: float | None, axes: int, label: str, tmp_path: Path
) -> None:
    figure = denoise.plot.before_after(before, before, rate, "both")
    assert len(figure.axes) == axes
    assert figure.axes[-1].get_xlabel() == label
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert np.asarray(Image.open(tmp_path / "a.png")).std() > 1


def test_the_traces_of_a_frame_have_the_names_of_its_columns() -> None:
    frame = pd.DataFrame({f"sensor {n}": SIGNAL for n in range(20)})
    figure = denoise.plot.before_after(frame, frame)
    assert [axes.get_ylabel() for axes in figure.axes[:2]] == ["sensor 0", "sensor 1"]


def test_a_figure_of_two_shapes_is_refused() -> None:
    with pytest.raises(denoise.InputError, match="shapes are"):
        denoise.plot.before_after(SIGNAL, SIGNAL[:-1])
    with pytest.raises(denoise.InputError, match="expected signals or images"):
        denoise.plot.before_after(None, 3)


CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "numpy": np.asarray,
    "float32": lambda values: np.asarray(values, np.float32),
    "torch": torch.tensor,
    "pandas series": pd.Series,
    "pandas frame": lambda values: pd.DataFrame({"temp": values}),
    "polars series": lambda values: pl.Series("temp", values),
    "polars frame": lambda values: pl.DataFrame({"temp": values}),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("code", [-999.0, 9999.0, -999.9, -9999.99, 99999.9, 32767.0])
def test_codes_of_missing_values_are_gaps_that_stay(container: str, code: float) -> None:
    made, gaps = CONTAINERS[container], np.arange(50, 2000, 97)
    noisy = 20 + 5 * np.sin(np.arange(2000) / 100) + np.random.default_rng(2).normal(0, 1.5, 2000)
    coded, missing = noisy.copy(), noisy.copy()
    coded[gaps], missing[gaps] = code, np.nan
    cleaner = denoise.load("sensor")
    given = made(coded)
    cleaned = np.asarray(cleaner.clean(given), np.float64).ravel()
    assert np.array_equal(np.asarray(given).ravel()[gaps], cleaned[gaps])
    expected = np.asarray(cleaner.clean(made(missing)), np.float64).ravel()
    assert np.array_equal(np.delete(cleaned, gaps), np.delete(expected, gaps))
    assert np.std(np.delete(cleaned - noisy, gaps)) > 1.0


def test_codes_among_integers_stay_and_readings_near_a_code_are_cleaned() -> None:
    noisy = np.rint(200 + 50 * np.sin(np.arange(2000) / 100) + np.random.default_rng(2).normal(0, 15, 2000))
    coded = noisy.astype(np.int16)
    coded[::97] = -9999
    cleaned = denoise.load("sensor").clean(coded)
    assert cleaned.dtype == np.int16
    assert (cleaned[::97] == -9999).all()
    assert np.delete(cleaned, np.arange(0, 2000, 97)).min() > 100
    near = noisy / 2.0  # passes through 99, which is a reading here
    near[1000] = 99.0
    assert denoise.load("sensor").clean(near)[1000] != 99.0
