"""Frames and errors of the estimators, as users of scikit-learn expect them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from denoise import AnomalyDetector, AutoencoderEmbedding
from denoise.errors import InputError, UsageError

ROWS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
FRAME = pd.DataFrame(ROWS, columns=["speed", "load", "heat"])


@pytest.mark.parametrize(
    ("estimator", "method"),
    [
        (AnomalyDetector(), "predict"),
        (AutoencoderEmbedding(code_size=2, steps=2, config={"widths": (8,)}), "transform"),
    ],
    ids=["detector", "embedding"],
)
def test_columns_are_known_by_name_and_errors_are_value_errors(estimator: object, method: str) -> None:
    apply = getattr(estimator.fit(FRAME), method)  # type: ignore[attr-defined]
    assert estimator.n_features_in_ == 3  # type: ignore[attr-defined]
    assert estimator.feature_names_in_.tolist() == list(FRAME)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(apply(FRAME), apply(ROWS))
    for other in (FRAME[["load", "speed", "heat"]], FRAME.rename(columns={"heat": "cold"}), FRAME[["load"]]):
        with pytest.raises(InputError) as raised:
            apply(other)
        assert isinstance(raised.value, ValueError)
    for wrong in (ROWS[:, :2], np.full((4, 3), np.nan), "rows"):
        with pytest.raises(InputError) as raised:
            apply(wrong)
        assert isinstance(raised.value, ValueError)
    with pytest.raises(UsageError) as refused:
        type(estimator)(steps=0, **({"kind": "windows"} if method == "predict" else {})).fit(ROWS)
    assert isinstance(refused.value, ValueError)
    assert not hasattr(estimator.fit(ROWS), "feature_names_in_")  # type: ignore[attr-defined]
