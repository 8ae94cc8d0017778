"""Transformer of the scikit-learn protocol, without the dependency."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise.analysis.estimator import Parameters
from denoise.errors import InputError, UsageError
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.gaps import GapFiller, check_fill_gaps

__all__ = ["SignalDenoiser"]


class SignalDenoiser(Parameters):
    """Cleans the columns of `X`, each a signal over the rows; NaN is a gap.

    Nothing is trained: `fit` stores the number of columns, and each `transform` treats its rows as one
    recording. So rows must be in the order of time, and must not be shuffled or split inside a recording.

    >>> import numpy as np
    >>> import denoise
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> denoise.SignalDenoiser("savgol").fit_transform(X).shape
    (500, 3)

    Args:
        model: A name or path for `denoise.load`, or a loaded `Cleaner`.
        sample_rate: Hz; needed by a model that has a rate of its own.
        strength: 1 is fully cleaned, 0 is the input.
        sigma: Noise standard deviation in the signals' units, for a model that uses it.
        fill_gaps: Length in samples of the longest gap to fill; 0 leaves NaN in place.
    """

    def __init__(
        self,
        model: str | Cleaner = "sensor",
        sample_rate: float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
        fill_gaps: int = 0,
    ) -> None:
        # The protocol requires parameters to be stored unchanged; `fit` checks them.
        self.model = model
        self.sample_rate = sample_rate
        self.strength = strength
        self.sigma = sigma
        self.fill_gaps = fill_gaps

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002
        """Load the model, and store the columns of `X`.

        Shape:
            `(n_samples, n_features)`.

        Raises:
            InputError: `X` is no table of real numbers.
            UsageError: A parameter is out of its range, or the model is not for sensor signals.
        """
        table = _table(X)
        check_fill_gaps(self.fill_gaps)
        self.cleaner_ = self.model if isinstance(self.model, Cleaner) else load(self.model, "sensor")
        if self.cleaner_.spec.modality != "sensor":
            kind = self.cleaner_.spec.modality
            raise UsageError(f"the model {self.cleaner_.name} cleans {kind}, not sensor")
        self.n_features_in_ = table.shape[1]
        names = getattr(X, "columns", None)
        if names is not None and all(isinstance(name, str) for name in names):
            self.feature_names_in_ = np.asarray(names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return self

    def transform(self, X: ArrayLike) -> NDArray[Any]:
        """Return the cleaned table, float64; `X` itself stays unchanged.

        Shape:
            `(n_samples, n_features)` in and out.

        Raises:
            UsageError: `fit` was not called.
            InputError: `X` is no table of as many columns, or holds an infinity.
        """
        if not hasattr(self, "cleaner_"):
            raise UsageError(f"this {type(self).__name__} is not fitted; expected fit before transform")
        table = _table(X)
        if table.shape[1] != self.n_features_in_:
            raise InputError(
                f"X has {table.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        if self.fill_gaps:
            table = GapFiller(table.shape[1], self.fill_gaps)(table.T, True).T
        return self.cleaner_.clean(table, self.sample_rate, self.strength, self.sigma, channel_axis=-1)

    def fit_transform(self, X: ArrayLike, y: object = None) -> NDArray[Any]:
        """Run `fit`, then `transform` the same table."""
        return self.fit(X, y).transform(X)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> NDArray[Any]:
        """Return the names of the columns, which are those of the input."""
        if input_features is not None:
            return np.asarray(input_features, dtype=object)
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = np.array([f"x{index}" for index in range(self.n_features_in_)], dtype=object)
        return np.asarray(names)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cleaner_")

    def __sklearn_tags__(self) -> Any:
        """Tags for scikit-learn, its only caller: a transformer that allows NaN."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            estimator_type="transformer",
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(),
            input_tags=InputTags(allow_nan=True),
        )


def _table(array: ArrayLike) -> NDArray[np.float64]:
    table = np.asarray(array)
    if table.dtype.kind == "O":
        try:
            table = table.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"X contains a value that is not a number: {error}; expected real numbers"
            ) from error
    if table.ndim != 2 or table.dtype.kind not in "iufb" or not table.size:
        raise InputError(
            f"X is an array of {table.dtype} of shape {table.shape}; "
            "expected real numbers, samples x features"
        )
    return table.astype(np.float64)
