"""SignalDenoiser follows the transformer protocol of scikit-learn, without requiring it."""

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import denoise
from denoise.errors import InputError, UsageError

X = np.random.default_rng(0).normal(size=(400, 2)).cumsum(axis=0)


def test_it_works_in_a_pipeline_and_can_be_cloned() -> None:
    denoiser = denoise.SignalDenoiser("savgol", strength=0.5)
    expected = denoise.load("savgol", "sensor").clean(X, strength=0.5)
    np.testing.assert_array_equal(denoiser.fit_transform(X), expected)
    twin = clone(denoiser)
    assert twin is not denoiser
    assert twin.get_params() == denoiser.get_params()
    pipeline = make_pipeline(StandardScaler(), twin)
    pipeline.set_params(signaldenoiser__strength=0.0)
    np.testing.assert_array_equal(pipeline.fit_transform(X), StandardScaler().fit_transform(X))


def test_it_refuses_what_it_was_not_fitted_for() -> None:
    denoiser = denoise.SignalDenoiser("savgol")
    with pytest.raises(UsageError, match="expected fit first"):
        denoiser.transform(X)
    with pytest.raises(InputError, match="3 features"):
        denoiser.fit(X).transform(np.zeros((9, 3)))
    with pytest.raises(ValueError, match="'colour'"):
        denoiser.set_params(colour=1)


def test_gaps_stay_or_are_filled() -> None:
    holed = X.copy()
    holed[100:103, 0] = np.nan
    kept = denoise.SignalDenoiser("savgol").fit_transform(holed)
    np.testing.assert_array_equal(np.isnan(kept), np.isnan(holed))
    assert np.isfinite(denoise.SignalDenoiser("savgol", fill_gaps=3).fit_transform(holed)).all()


def test_errors_are_those_of_the_protocol() -> None:
    denoiser = denoise.SignalDenoiser("savgol")
    with pytest.raises(NotFittedError, match="expected fit first"):
        denoiser.transform(X)
    for bad in (np.zeros((3, 400)), [["a", "b"]], np.array([[np.inf], [1.0]])):
        with pytest.raises(ValueError, match="expected"):
            denoiser.fit_transform(bad)
    with pytest.raises(ValueError, match=r"give X\.T"):
        denoiser.fit(X.T)  # channels first: never taken for 2 samples of 400 features
    with pytest.raises(ValueError, match="transform is 'csv'"):
        denoiser.set_output(transform="csv")
    with pytest.raises(ValueError, match="music"):
        denoise.SignalDenoiser("no such music").fit(X)


@pytest.mark.filterwarnings("ignore:.*does not inherit from:UserWarning")  # it works without scikit-learn
def test_it_passes_the_checks_of_scikit_learn() -> None:
    order = "rows are one recording in the order of time"
    expected = {f"check_methods_{name}_invariance": order for name in ("sample_order", "subset")}
    found = check_estimator(
        denoise.SignalDenoiser("median"), expected_failed_checks=expected, on_fail=None, on_skip=None
    )
    others = {row["check_name"]: row["status"] for row in found if row["status"] != "passed"}
    assert others == {**dict.fromkeys(expected, "xfail"), "check_array_api_input": "skipped"}
    assert len(found) >= 40


def _frame() -> pd.DataFrame:
    index = pd.date_range("2024-03-30 22:00", periods=400, freq="20ms", name="when")
    return pd.DataFrame(
        {
            "temp": X[:, 0].astype("float32"),
            "note": ["a"] * 400,
            "heading_deg": np.arange(400) * 7.3 % 360,
            "adc": pd.array(np.rint(X[:, 1] * 100), dtype="Int64"),
            "relay": np.arange(400) // 9 % 2,
        },
        index=index,
    )


def test_a_frame_of_pandas_keeps_its_type_index_names_and_dtypes() -> None:
    frame = _frame()
    frame.iloc[7, 3] = pd.NA
    given = frame.copy()
    out = denoise.SignalDenoiser("savgol").fit_transform(frame)
    pd.testing.assert_frame_equal(frame, given)
    assert out.index.equals(frame.index)
    assert (out.dtypes == frame.dtypes).all()
    assert out["adc"].isna().sum() == 1
    for name in ("note", "heading_deg", "relay"):  # as `denoise clean` leaves them
        pd.testing.assert_series_equal(out[name], frame[name])
    expected = denoise.load("savgol", "sensor").clean(frame[["temp"]].to_numpy(float))
    np.testing.assert_allclose(out["temp"], expected[:, 0], atol=1e-4)
    series = denoise.SignalDenoiser("savgol").fit_transform(frame["temp"])
    pd.testing.assert_series_equal(series, out["temp"])


def test_the_index_gives_the_rate_and_the_names_decide() -> None:
    frame = _frame()
    denoiser = denoise.SignalDenoiser("savgol", columns=("temp",)).fit(frame)
    assert denoiser.sample_rate_ == pytest.approx(50)
    assert denoiser.columns_ == (0,)
    with pytest.raises(ValueError, match="same order: X has 'relay' where fit had 'temp'"):
        denoiser.transform(frame[frame.columns[::-1]])
    with pytest.raises(ValueError, match="4 features"):
        denoiser.transform(frame.iloc[:, :4])


def test_the_rate_of_the_index_is_the_one_that_cleans() -> None:
    """Hum is at 50 Hz only at the right rate."""
    time_s = np.arange(8000) / 500.0
    clean = np.sin(2 * np.pi * 0.7 * time_s)
    hum = clean + 0.3 * np.sin(2 * np.pi * 50.0 * time_s)
    index = pd.date_range("2024-03-30 22:00", periods=hum.size, freq="2ms", tz="Europe/Berlin")
    out = denoise.SignalDenoiser().fit_transform(pd.DataFrame({"volts": hum}, index=index))
    np.testing.assert_allclose(out["volts"], denoise.load("sensor").clean(hum, 500.0), atol=1e-6)
    assert np.std(out["volts"] - clean) < 0.1 * np.std(hum - clean)
    with_column = pl.DataFrame({"time": index.tz_localize(None), "volts": hum})
    again = denoise.SignalDenoiser().fit_transform(with_column)
    np.testing.assert_allclose(again["volts"], out["volts"], atol=1e-6)


def test_a_frame_of_polars_keeps_its_type_and_dtypes() -> None:
    frame = pl.from_dict({"when": _frame().index.to_numpy(), **{n: _frame()[n].to_list() for n in _frame()}})
    frame = frame.with_columns(pl.col("temp").cast(pl.Float32))
    denoiser = denoise.SignalDenoiser("savgol").fit(frame)
    out = denoiser.transform(frame)
    assert out.schema == frame.schema
    assert denoiser.sample_rate_ == pytest.approx(50)
    assert out.drop("temp", "adc").equals(frame.drop("temp", "adc"))
    assert not out["temp"].equals(frame["temp"])
    assert isinstance(denoiser.fit_transform(frame["temp"]), pl.Series)
    with pytest.raises(InputError, match=r"give X\.collect\(\)"):
        denoiser.fit(frame.lazy())


@pytest.mark.parametrize("library", [pd, pl])
def test_set_output_selects_the_type(library: Any) -> None:
    denoiser = denoise.SignalDenoiser("savgol").set_output(transform=library.__name__)
    out = clone(denoiser).fit_transform(X)
    assert isinstance(out, library.DataFrame)
    assert list(out.columns) == ["x0", "x1"]
    assert isinstance(denoiser.fit_transform(_frame()[["temp"]]), library.DataFrame)
    with config_context(transform_output=library.__name__):
        assert isinstance(denoise.SignalDenoiser("savgol").fit_transform(X), library.DataFrame)


def test_it_does_without_scikit_learn() -> None:
    code = (
        "import denoise, sys; denoise.SignalDenoiser('savgol').fit_transform([[1.0], [2.0]] * 50); "
        "assert not {'sklearn', 'pandas', 'polars'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("kind", ["array", "pandas", "polars"])
def test_codes_of_missing_values_are_gaps_that_stay(kind: str) -> None:
    noisy = 20 + 5 * np.sin(np.arange(2000) / 100) + np.random.default_rng(2).normal(0, 1.5, 2000)
    gaps = np.arange(50, 2000, 97)
    coded, missing = noisy.copy(), noisy.copy()
    coded[gaps], missing[gaps] = -999.0, np.nan
    made = {
        "array": lambda values: values[:, None],
        "pandas": lambda values: pd.DataFrame({"temp": values}),
        "polars": lambda values: pl.DataFrame({"temp": values}),
    }[kind]
    cleaned = np.asarray(denoise.SignalDenoiser().fit_transform(made(coded)))[:, 0]
    assert (cleaned[gaps] == -999.0).all()
    expected = np.asarray(denoise.SignalDenoiser().fit_transform(made(missing)))[:, 0]
    assert np.array_equal(np.delete(cleaned, gaps), np.delete(expected, gaps))
    filled = np.asarray(denoise.SignalDenoiser(fill_gaps=2).fit_transform(made(coded)))[:, 0]
    assert filled.min() > 0  # as the command line fills them
