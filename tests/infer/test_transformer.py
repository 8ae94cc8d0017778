"""SignalDenoiser follows the transformer protocol of scikit-learn, without requiring it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

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
    with pytest.raises(UsageError, match="fit before transform"):
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


def test_it_does_without_scikit_learn() -> None:
    code = "import denoise, sys; denoise.SignalDenoiser(); assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
