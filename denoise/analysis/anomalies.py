"""Outlier detection by an autoencoder, on arrays and on files."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise import weights
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.estimator import Parameters
from denoise.analysis.segments import Page, Segment, Segmentation, Segments
from denoise.analysis.thresholds import TAILS, Tail, combined_p_value
from denoise.errors import InputError, UsageError, WeightsError
from denoise.registry import unknown

__all__ = ["AnomalyDetector", "FileAnomalies", "Measured", "anomalies"]

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_AXES = 128  # principal axes of the residuals; all others share one variance
_WEIGHTS = np.array([1.0, 0.95, 0.5])  # weights of the parts of a score
_UNIT = 0.9  # quantile of normal items at which each part of a score is 1
_MIN_ITEMS = 20  # normal items for training
_FACTS = "anomalies"  # key in the card of a weights file
_HALF, _SINGLE = "<f2", "<f4"  # precisions in a card


@dataclass(frozen=True)
class Measured:
    """Scores of items.

    Args:
        score: Larger for anomalies; about half of normal items score below 0, and 90 % below 1.
        p_value: Probability that a normal item scores as high or higher.
        error: Mean squared error of the reconstruction, in the units of the items squared.
        elbo: Evidence lower bound of a variational autoencoder in nats, up to a constant, for a decoder of
            variance 1/2 in the scale of training; None for others.

    Shape:
        `(n,)` each.
    """

    score: Doubles
    p_value: Doubles
    error: Doubles
    elbo: Doubles | None


class AnomalyDetector(Parameters):
    """Outlier detector with scikit-learn's protocol, which also localises anomalies.

    An autoencoder trained on normal items reconstructs others badly (Japkowicz et al. 1995). Its residual is
    whitened by the covariance on normal items. Exaggerated normal items and flat ones, such as a sensor that
    stands still, are reconstructed well, so the energy about the normal mean and the inverse variance count
    too, with less weight. The score is the largest of the three logarithms, each in units of its spread on
    normal items. The threshold comes from held-out normal items.

    >>> import numpy as np
    >>> import denoise
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 1)) * np.arange(8) + rng.normal(0, 0.1, (300, 8))
    >>> detector = denoise.AnomalyDetector(code_size=1, steps=200).fit(X)
    >>> detector.predict([[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 9, 4, 5, 6, 7]]).tolist()
    [1, -1]

    Args:
        quantile: Share of normal items that pass.
        tail: Model of the scores above all normal ones: one of `denoise.analysis.thresholds.TAILS`.
        code_size: Numbers per code: few, so that anomalies cannot be encoded.
        steps: Training steps of the autoencoder.
        settings: Other parameters of `AutoencoderEmbedding`, such as `config`.
        held_out: Share of the items of `fit` that set the threshold.
        seed: Seed of weights, batches and the choice of held-out items.
    """

    def __init__(
        self,
        quantile: float = 0.99,
        tail: str = TAILS[0],
        code_size: int = 8,
        steps: int = 1000,
        settings: Mapping[str, Any] | None = None,
        held_out: float = 0.2,
        seed: int = 0,
    ) -> None:
        # The protocol stores parameters unchanged; `fit` checks them.
        self.quantile = quantile
        self.tail = tail
        self.code_size = code_size
        self.steps = steps
        self.settings = settings
        self.held_out = held_out
        self.seed = seed

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002
        """Train on normal items, and set the threshold on held-out ones of them.

        Shape:
            As `AutoencoderEmbedding.fit`: `(n, samples)`, `(n, height, width)`, or with channels.

        Raises:
            InputError: `X` is not such an array of finite numbers, or has fewer than 25 items.
            UsageError: A parameter is out of its range.
        """
        self._check()
        items = np.asarray(X)
        held = round(self.held_out * len(items)) if items.ndim else 0
        if len(items) - held < _MIN_ITEMS or held < 1:
            raise InputError(
                f"X has {len(items)} items; expected at least {_MIN_ITEMS} for training and one held out"
            )
        order = np.random.default_rng(self.seed).permutation(len(items))
        settings = {"code_size": self.code_size, "steps": self.steps, "seed": self.seed}
        training = items[np.sort(order[held:])]
        embedding = AutoencoderEmbedding(**{**settings, **(self.settings or {})}).fit(training)
        return self.calibrate(embedding, training, items[np.sort(order[:held])])

    def calibrate(self, embedding: AutoencoderEmbedding, normal: ArrayLike, held_out: ArrayLike) -> Self:
        """Use a fitted autoencoder.

        Args:
            embedding: Autoencoder fitted on normal items.
            normal: Normal items for the covariance of the residuals; they may be its training data.
            held_out: Other normal items, which set the threshold.

        Raises:
            InputError: The items have another shape than those of the autoencoder.
            UsageError: A parameter is out of its range.
        """
        self._check()
        self.embedding_ = embedding
        residual, standard = self._residuals(normal)
        self._centre = _stored(standard.mean(axis=0))
        residual = residual[:: max(1, -(-len(residual) // (20 * _AXES)))]
        self._mean = _stored(residual.mean(axis=0))
        left = residual - self._mean
        # The covariance is only needed along the axes on which the normal residuals lie.
        _, singular, axes = np.linalg.svd(left.astype(np.float64), full_matrices=False)
        variances = singular**2 / len(left)
        count = min(_AXES, len(variances))
        rest = max(residual.shape[1] - count, 1)
        even = variances.sum() / residual.shape[1]
        shrunk = _shrinkage(left, variances)
        self._axes = _stored(axes[:count])
        kept = (1 - shrunk) * variances[:count] + shrunk * even + 1e-12
        self._variances = kept.astype(_SINGLE).astype(np.float64)
        self._rest = float((1 - shrunk) * variances[count:].sum() / rest + shrunk * even) + 1e-12
        parts = self._parts(*self._residuals(held_out))
        self._middle = np.median(parts, axis=1)
        self._unit = np.maximum(np.quantile(parts, _UNIT, axis=1) - self._middle, 1e-3) / _WEIGHTS
        self.tail_ = Tail.of(self._score(parts).astype(_SINGLE), self.tail)
        self._set_threshold()
        return self

    def _set_threshold(self) -> None:
        self.threshold_ = self.tail_.threshold(self.quantile)
        self.offset_ = -self.threshold_
        self.n_features_in_ = math.prod(self.embedding_.item_shape_)

    def measure(self, X: ArrayLike) -> Measured:
        """Compute score, probability and reconstruction error of each item.

        Raises:
            UsageError: `fit` was not called.
            InputError: `X` has items of another shape, or holds what is not finite.
        """
        self._check_fitted()
        residual, standard = self._residuals(X)
        score = self._score(self._parts(residual, standard))
        squares = np.square(residual, dtype=np.float64)
        nats = self.embedding_.divergence(X)
        elbo = None if nats is None else -(squares.sum(axis=1) + nats)
        error = squares.mean(axis=1) * self.embedding_.scale_**2
        return Measured(score, self.tail_.p_values(score), error, elbo)

    def score_samples(self, X: ArrayLike) -> Doubles:
        """Negate the scores: lower is more abnormal.

        Raises:
            UsageError: `fit` was not called.
            InputError: `X` has items of another shape, or holds what is not finite.
        """
        return -self.measure(X).score

    def decision_function(self, X: ArrayLike) -> Doubles:
        """Compute `score_samples` relative to the threshold: negative for anomalies."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Label normal items 1 and anomalies -1."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def fit_predict(self, X: ArrayLike, y: object = None) -> NDArray[np.int64]:
        """Fit, then predict the same items."""
        return self.fit(X, y).predict(X)

    def explain(self, X: ArrayLike) -> Floats:
        """Localise anomalies by the whitened squared residual of each value.

        Shape:
            `(n, channels, *size)`; the mean over a normal item is about 1.

        Raises:
            UsageError: `fit` was not called.
            InputError: `X` has items of another shape, or holds what is not finite.
        """
        self._check_fitted()
        left = self._residuals(X)[0] - self._mean
        along = left @ self._axes.T
        gain = 1 / np.sqrt(self._variances) - 1 / math.sqrt(self._rest)
        whitened = left / math.sqrt(self._rest) + (along * gain) @ self._axes
        squares: Floats = np.square(whitened).astype(np.float32)
        return squares.reshape(-1, *self.embedding_.item_shape_)

    def _residuals(self, X: ArrayLike) -> tuple[Floats, Floats]:
        """Compute the residual of each item, and the items: both `(n, values)` in the scale of training."""
        back = self.embedding_.inverse_transform(self.embedding_.transform(X))
        items = np.asarray(X, np.float32).reshape(len(back), -1)
        offset, scale = np.float32(self.embedding_.offset_), np.float32(self.embedding_.scale_)
        return (items - back.reshape(len(back), -1)) / scale, (items - offset) / scale

    def _parts(self, residual: Floats, standard: Floats) -> Doubles:
        """Logarithms of whitened residual, energy about the normal mean, and 1 / variance: `(3, n)`."""
        left = residual - self._mean
        along = np.square(left @ self._axes.T, dtype=np.float64)
        beside = np.square(left, dtype=np.float64).sum(axis=1) - along.sum(axis=1)
        whitened = (along / self._variances).sum(axis=1) + np.maximum(beside, 0) / self._rest
        energy = np.square(standard - self._centre, dtype=np.float64).sum(axis=1)
        variance = standard.var(axis=1, dtype=np.float64)
        parts: Doubles = np.log(np.stack([whitened, energy, variance]) + 1e-9)
        parts[2] *= -1
        return parts

    def _score(self, parts: Doubles) -> Doubles:
        scores: Doubles = ((parts - self._middle[:, None]) / self._unit[:, None]).max(axis=0)
        return scores

    def save(self, path: str | Path, name: str, cut: Segmentation, **facts: Any) -> None:
        """Write autoencoder and threshold as one weights file, which `denoise embed --model` also accepts.

        Args:
            path: `.safetensors`.
            name: Name of the model.
            cut: Segmentation of its files.
            facts: Other entries of its card.
        """
        self._check_fitted()
        known = {
            "quantile": self.quantile,
            "tail": self.tail_.kind,
            "middle": self._middle.tolist(),
            "unit": self._unit.tolist(),
            "rest": self._rest,
            "variances": _packed(self._variances, _SINGLE),
            "scores": _packed(self.tail_.scores, _SINGLE),
            "mean": _packed(self._mean, _HALF),
            "centre": _packed(self._centre, _HALF),
            "axes": _packed(self._axes, _HALF),
        }
        self.embedding_.save(path, name, cut, **{_FACTS: known}, **facts)

    @classmethod
    def load(cls, path: str | Path, quantile: float | None = None) -> tuple[Self, Segmentation]:
        """Load a detector, and the segmentation of its files.

        Args:
            path: Weights file of `save`.
            quantile: Share of normal items that pass; None takes the saved one.

        Raises:
            UsageError: The file has a model but no threshold, or the quantile is out of range.
            WeightsError: This version cannot use the file.
        """
        embedding, cut = AutoencoderEmbedding.load(path)
        known = weights.card(path).get(_FACTS)
        if known is None:
            raise UsageError(
                f"{path}: has no threshold; expected a file of denoise anomalies --save-model, "
                "or normal files (--fit-on)"
            )
        try:
            detector = cls(float(known["quantile"]) if quantile is None else quantile)
            detector._check()
            detector._restore(embedding, known)
        except UsageError:
            raise
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise WeightsError(f"{path}: its card has no valid threshold ({error})") from error
        return detector, cut

    def _restore(self, embedding: AutoencoderEmbedding, known: Mapping[str, Any]) -> None:
        values = math.prod(embedding.item_shape_)
        self.embedding_, self.code_size = embedding, embedding.code_size
        self._mean = _unpacked(known["mean"], _HALF, values)
        self._axes = _unpacked(known["axes"], _HALF).reshape(-1, values)
        self._centre = _unpacked(known["centre"], _HALF, values)
        self._variances = _unpacked(known["variances"], _SINGLE).astype(np.float64)
        self._middle, self._unit = np.array([known["middle"], known["unit"]], np.float64).reshape(2, 3)
        self._rest = float(known["rest"])
        numbers = np.array([*self._variances, self._rest, *self._unit], np.float64)
        if len(self._variances) != len(self._axes) or not (numbers > 0).all():
            raise ValueError("variances must be positive")
        self.tail_ = Tail.of(_unpacked(known["scores"], _SINGLE), str(known["tail"]))
        self.tail = self.tail_.kind
        self._set_threshold()

    def _check(self) -> None:
        for name, value in (("quantile", self.quantile), ("held_out", self.held_out)):
            if not 0 < value < 1:
                raise UsageError(f"{name} is {value}; expected a share between 0 and 1")
        if self.tail not in TAILS:
            raise unknown("tail", self.tail, TAILS)

    def _check_fitted(self) -> None:
        if not hasattr(self, "tail_"):
            raise UsageError(f"this {type(self).__name__} is not fitted; expected fit first")

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "tail_")

    def __sklearn_tags__(self) -> Any:
        """Tags of an outlier detector; only scikit-learn calls this."""
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(three_d_array=True),
        )


@dataclass(frozen=True)
class FileAnomalies:
    """Anomalies of one file.

    Args:
        measured: Scores of its segments.
        segments: Places of the segments, without their values.
        pages: Sources of the segments.
        left_out: Number of omitted segments, which hold gaps.
        p_value: Probability that a normal file of as many segments has one as extreme as the worst here.
        quantile: Share of normal files that pass.
        threshold: Score above which a segment is an anomaly.
    """

    measured: Measured
    segments: tuple[Segment, ...]
    pages: tuple[Page, ...]
    left_out: int
    p_value: float
    quantile: float
    threshold: float

    @property
    def anomalous(self) -> bool:
        """Classification of the file as a whole."""
        return self.p_value <= 1 - self.quantile

    @property
    def flags(self) -> NDArray[np.bool_]:
        """Mask of the anomalous segments."""
        return self.measured.score > self.threshold


def anomalies(
    path: str | Path,
    detector: str | Path | tuple[AnomalyDetector, Segmentation],
    *,
    options: Mapping[str, Any] | None = None,
) -> FileAnomalies:
    """Find the anomalies of one file, which is read in parts.

    Args:
        path: Image, recording or sensor log.
        detector: Weights file of `AnomalyDetector.save`, or the result of `AnomalyDetector.load`.
        options: Options of the reader, such as `columns` for a sensor log.

    Raises:
        InputError: The file cannot be read, is of another kind, or each segment holds a gap.
        UsageError: The weights file has no threshold.
    """
    loaded, cut = detector if isinstance(detector, tuple) else AnomalyDetector.load(detector)
    source = Segments(path, cut, options)
    places: list[Segment] = []
    found: list[Measured] = []
    for batch in source.batches():
        found.append(loaded.measure(np.stack([segment.values for segment in batch])))
        places.extend(replace(segment, values=segment.values[:0]) for segment in batch)
    elbos = [part.elbo for part in found if part.elbo is not None]
    measured = Measured(
        np.concatenate([part.score for part in found]),
        np.concatenate([part.p_value for part in found]),
        np.concatenate([part.error for part in found]),
        np.concatenate(elbos) if elbos else None,
    )
    return FileAnomalies(
        measured,
        tuple(places),
        tuple(source.pages),
        source.left_out,
        combined_p_value(measured.p_value),
        loaded.quantile,
        loaded.threshold_,
    )


def _shrinkage(centred: Floats, variances: Doubles) -> float:
    """Shrinkage of the covariance towards one variance for all axes, in 0..1 (Ledoit & Wolf 2004)."""
    count, size = centred.shape
    squares = np.square(centred, dtype=np.float64).sum(axis=1)
    spread = float((variances**2).sum() - variances.sum() ** 2 / size)
    noise = float((squares**2).mean() - (variances**2).sum()) / count
    return min(1.0, max(noise, 0.0) / spread) if spread > 0 else 1.0


def _stored(array: NDArray[Any]) -> Floats:
    """Round to the precision of a card, so that a saved detector gives the same scores."""
    return array.astype(_HALF).astype(np.float32)


def _packed(array: ArrayLike, dtype: str) -> str:
    """Encode numbers as text for a card."""
    return base64.b64encode(np.asarray(array).astype(dtype).tobytes()).decode("ascii")


def _unpacked(text: str, dtype: str, count: int | None = None) -> Floats:
    numbers = np.frombuffer(base64.b64decode(text, validate=True), dtype).astype(np.float32)
    if not numbers.size or not np.isfinite(numbers).all() or count not in (None, numbers.size):
        raise ValueError(f"{numbers.size} numbers, or some that are not finite")
    return numbers
