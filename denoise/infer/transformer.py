"""Transformer of the scikit-learn protocol, without the dependency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from denoise.analysis.estimator import Transformer, value_errors
from denoise.arrays import Array, Doubles
from denoise.errors import InputError, UsageError
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.frames import Table, as_frame, measurements, rate_of, table_of
from denoise.infer.gaps import GapFiller, check_fill_gaps
from denoise.io.sensor.base import admitted, confined
from denoise.io.sensor.kinds import domain_of
from denoise.io.sensor.survey import without_codes


@dataclass(eq=False, repr=False)
class SignalDenoiser(Transformer):
    """Cleans the columns of `X`, each a signal over the rows.

    NaN is a gap. So is a number that loggers store for a missing value, such as -999, if it is far from all
    others. Both stay in their cells.

    Nothing is trained: `fit` stores the columns, and each `transform` treats its rows as one recording. So
    rows must be in the order of time, and must not be shuffled or split inside a recording.

    Of a frame of pandas or polars, the columns are cleaned that `denoise clean` would clean; the result has
    the same type, index, names and dtypes. An index or a column of stamps gives the sample rate. Of an array,
    all columns are cleaned.

    >>> import numpy as np
    >>> import denoise
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> denoise.SignalDenoiser("savgol").fit_transform(X).shape
    (500, 3)

    Args:
        model: A name or path for `denoise.load`, or a loaded `Cleaner`.
        sample_rate: Hz; needed by a model that has a rate of its own; None takes that of the stamps.
        strength: 1 is fully cleaned, 0 is the input.
        sigma: Noise standard deviation in the signals' units, for a model that uses it.
        fill_gaps: Length in samples of the longest gap to fill; 0 leaves NaN in place.
        columns: Names or globs of the columns of a frame to clean; None takes the measurements.
        exclude: Names or globs of columns to leave as they are.
    """

    model: str | Cleaner = "sensor"
    sample_rate: float | None = None
    strength: float = 1.0
    sigma: float | None = None
    fill_gaps: int = 0
    columns: Iterable[str] | None = None
    exclude: Iterable[str] = ()

    _input_tags = {"allow_nan": True}  # noqa: RUF012
    _fitted = "cleaner_"

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002
        """Load the model, and store the columns of `X`.

        Shape:
            `(n_samples, n_features)`.

        Raises:
            InputError: `X` is no table of real numbers, or has the axes of channels and samples; also a
                ValueError.
            UsageError: A parameter is out of its range, or the model is not for sensor signals; also a
                ValueError.
        """
        with value_errors():
            table = table_of(X)
            check_fill_gaps(self.fill_gaps)
            self.cleaner_ = self.model if isinstance(self.model, Cleaner) else load(self.model, "sensor")
            if self.cleaner_.spec.modality != "sensor":
                kind = self.cleaner_.spec.modality
                raise UsageError(f"the model {self.cleaner_.name} cleans {kind}, not sensor")
            self.columns_ = measurements(table, self.columns, self.exclude)
            self.sample_rate_ = rate_of(table)
        self._store_features(X, len(table.columns))
        return self

    def transform(self, X: ArrayLike) -> Any:
        """Return the cleaned table; `X` itself stays unchanged.

        An array gives float64; a frame or series gives one of its own type, unless `set_output` chose
        another.

        Shape:
            `(n_samples, n_features)` in and out.

        Raises:
            UsageError: `fit` was not called; also a NotFittedError of scikit-learn.
            InputError: `X` is no table of the same columns in the same order; also a ValueError.
        """
        self._check_fitted()
        with value_errors():
            table = table_of(X)
            self._check_columns(X, table)
            chosen = [table.columns[index] for index in self.columns_]
            if any(column is None for column in chosen):
                raise InputError(
                    "X has a column of other things where fit had numbers; expected the same columns"
                )
            cleaned = self._cleaned(table, np.array(chosen)) if chosen else ()
            result = table.with_columns(dict(zip(self.columns_, cleaned, strict=True)))
        library = self._output()
        return (
            result if library == "default" else as_frame(result, library, list(self.get_feature_names_out()))
        )

    def _cleaned(self, table: Table, signals: Doubles) -> Doubles:
        """Clean signals `(C, T)` within the domains of their columns."""
        domains = [domain_of(table.surveys[index]) for index in self.columns_] if table.surveys else []
        known = signals
        if domains:
            known = np.concatenate(list(admitted([signals], domains)), axis=1)
        elif np.isinf(signals).any():
            raise InputError("X holds an infinity; expected finite numbers, or NaN for a gap")
        else:
            known = without_codes(signals)
        if self.fill_gaps:
            known = GapFiller(len(known), self.fill_gaps)(known, True)
        rate = self.sample_rate or rate_of(table) or self.sample_rate_
        cleaned = self.cleaner_.clean(known.T, rate, self.strength, self.sigma, channel_axis=-1).T
        cleaned = confined(np.asarray(cleaned, np.float64), domains)
        return np.where(np.isnan(cleaned), signals, cleaned)  # codes and infinities stay in their cells

    def _check_columns(self, X: Any, table: Table) -> None:
        if len(table.columns) != self.n_features_in_:
            raise InputError(
                f"X has {len(table.columns)} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        self._check_names(X)

    def fit_transform(self, X: ArrayLike, y: object = None) -> Any:
        """Run `fit`, then `transform` the same table."""
        return self.fit(X, y).transform(X)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> Array:
        """Return the names of the columns, which are those of the input."""
        if input_features is not None:
            return np.asarray(input_features, dtype=object)
        names = getattr(self, "feature_names_in_", None)
        if names is None:
            names = np.array([f"x{index}" for index in range(self.n_features_in_)], dtype=object)
        return np.asarray(names)
