"""Outlier detection on arrays and on files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise import weights
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.estimator import Estimator, value_errors
from denoise.analysis.evidence import Evidence, RowEvidence, WindowEvidence, is_signal, packed, unpacked
from denoise.analysis.origin import listed, rate_misfit
from denoise.analysis.segments import Page, Segment, Segmentation, Segments
from denoise.analysis.thresholds import TAILS, Tail, UnitScores, combined_p_value, combined_score
from denoise.arrays import Array, Doubles, Floats, Mask
from denoise.errors import InputError, UsageError, WeightsError
from denoise.io.sensor.columns import LEFT
from denoise.registry import unknown
from denoise.signal import SensorInfo, SignalInfo

KINDS = ("auto", "rows", "windows")

HELD_OUT = 0.4  # share of normal files for the threshold, each checked by that of the others
_MIN_ITEMS = 20  # normal items for training an autoencoder
_FEW = 200  # fewer items of two axes are rows: too few to train and to hold some out
_MIN_ROWS = 10  # normal rows of a table
_FACTS = "anomalies"  # key in the card of a weights file
_SINGLE = "<f4"  # precision of scores in a card


@dataclass(frozen=True)
class Measured:
    """Scores of items.

    Shape:
        `(n,)` each.
    """

    score: Doubles  # larger for anomalies: about -log10 of the share of normal items that score as high
    p_value: Doubles  # probability that a normal item scores as high or higher
    error: Doubles  # mean squared error of the reconstruction, in the units of the items squared
    # evidence lower bound of a variational autoencoder in nats, up to a constant, for a decoder of variance
    # 1/2 in the scale of training; None for others
    elbo: Doubles | None


@dataclass(eq=False, repr=False)
class AnomalyDetector(Estimator):
    """Outlier detector with scikit-learn's protocol, which also localises anomalies.

    Rows of a table are judged by `RowEvidence`, windows of signals and images by `WindowEvidence`, which
    trains an autoencoder. Each kind of evidence becomes a p-value by its distribution on normal items; the
    score is their harmonic mean (Wilson 2019), and the threshold comes from its distribution on normal
    items. Rows are judged by the other rows (leave one out), windows are held out. Before `fit` the other
    methods raise a UsageError, for items of another shape or that are not finite an InputError.

    >>> import numpy as np
    >>> import denoise
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(300, 1)) * np.arange(8) + rng.normal(0, 0.1, (300, 8))
    >>> detector = denoise.AnomalyDetector().fit(X)
    >>> detector.predict([[0, 1, 2, 3, 4, 5, 6, 7], [0, 1, 2, 9, 4, 5, 6, 7]]).tolist()
    [1, -1]

    Args:
        quantile: Share of normal items that pass.
        tail: Model of the scores above all normal ones: one of `denoise.analysis.thresholds.TAILS`.
        code_size: Numbers per code of the autoencoder: few, so that anomalies cannot be encoded.
        steps: Training steps of the autoencoder.
        settings: Other parameters of `AutoencoderEmbedding`, such as `config`.
        held_out: Share of the windows of `fit` that set the threshold, drawn one by one: windows that overlap
            need `calibrate`.
        seed: Seed of weights, batches and the choice of held-out items.
        kind: One of `KINDS`. "auto" takes `X` of two axes for rows of a table, unless it has 200 items or
            more and neighbouring columns are as alike as samples of a signal.
    """

    quantile: float = 0.99
    tail: str = TAILS[0]
    code_size: int = 8
    steps: int = 600
    settings: Mapping[str, Any] | None = None
    held_out: float = 0.2
    seed: int = 0
    kind: str = KINDS[0]

    _kind, _fitted = "outlier_detector", "tail_"

    @value_errors()
    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002
        """Learn what normal items are like, and set the threshold.

        Shape:
            `(n, columns)` for rows; as `AutoencoderEmbedding.fit` for windows.

        Raises:
            InputError: `X` is not such an array of finite numbers, or has fewer than 10 rows or 25 windows.
            UsageError: A parameter is out of its range.
        """
        self._check()
        items = np.asarray(X)
        if self._are_rows(items):
            rows = _rows(items)
            if len(rows) < _MIN_ROWS:
                raise InputError(f"X has {len(rows)} rows; expected at least {_MIN_ROWS}")
            evidence = RowEvidence(rows)
            self._adopt(evidence, rows.shape[1:], evidence.own_scores())
            self._store_features(X, self.n_features_in_)
            return self
        held = round(self.held_out * len(items)) if items.ndim else 0
        if len(items) - held < _MIN_ITEMS or held < 1:
            raise InputError(
                f"X has {len(items)} items; expected at least {_MIN_ITEMS} for training and one held out"
            )
        order = np.random.default_rng(self.seed).permutation(len(items))
        settings = {"code_size": self.code_size, "steps": self.steps, "seed": self.seed}
        training = items[np.sort(order[held:])]
        embedding = AutoencoderEmbedding(**{**settings, **(self.settings or {})}).fit(training)
        self.calibrate(embedding, training, items[np.sort(order[:held])])
        self._store_features(X, self.n_features_in_)
        return self

    def _are_rows(self, items: Array) -> bool:
        if self.kind != "auto" or items.ndim != 2 or items.dtype.kind not in "iufb" or not items.size:
            return self.kind == "rows"
        signal = (self.settings or {}).get("modality") is not None
        return not signal and (len(items) < _FEW or not np.isfinite(items).all() or not is_signal(items))

    def calibrate(
        self,
        embedding: AutoencoderEmbedding,
        normal: ArrayLike,
        held_out: ArrayLike,
        units: ArrayLike | None = None,
    ) -> Self:
        """Use a fitted autoencoder.

        Args:
            normal: Normal items for the evidence; they may be its training data.
            held_out: Other normal items, which set the threshold.
            units: Number of the unit, such as the file, of each of these. Items of a unit are alike: each
                unit is then judged by the others, and few of them widen the threshold.

        Raises:
            InputError: The items have another shape than those of the autoencoder.
            UsageError: A parameter is out of its range, or there is only one unit.
        """
        self._check()
        evidence = WindowEvidence(embedding, normal)
        return self._adopt(evidence, embedding.item_shape_, evidence.scores(held_out), units)

    def _adopt(
        self, evidence: Evidence, shape: tuple[int, ...], normal: Doubles, units: ArrayLike | None = None
    ) -> Self:
        """Set the evidence for items of a shape, and its distribution on normal ones."""
        self.evidence_: Evidence = evidence
        self.item_shape_ = shape
        self.columns_: tuple[str, ...] = ()  # names in the normal logs; empty if they have none
        self.sample_rates_: tuple[float, ...] = ()  # least and largest of theirs in Hz; empty if unknown
        normal = normal.astype(_SINGLE)
        self._tails = [Tail.of(line) for line in normal]
        self.unit_nats_, self.false_alarms_ = 1.0, None
        if units is None:
            self.tail_ = Tail.of(self._score(normal).astype(_SINGLE), self.tail)
        else:
            found = UnitScores.of(normal, units, self.tail, self.quantile)
            self.tail_, self.unit_nats_, self.false_alarms_ = found.tail, found.nats, found.alarms
        self._set_threshold()
        return self

    def _set_threshold(self) -> None:
        self.threshold_ = self.tail_.threshold(self.quantile)
        self.offset_ = -self.threshold_
        self.n_features_in_ = math.prod(self.item_shape_)

    @property
    def notes_(self) -> tuple[str, ...]:
        """Remarks on the normal items, such as constant columns, or too few for the quantile."""
        self._check_fitted()
        units, times = self.tail_.units, 1 / (1 - self.quantile)
        if not 0 < units < times - 1 - 1e-6:
            return self.evidence_.notes
        few = f"{units} normal files or stretches set the threshold: too few to count one in {times:.0f}"
        needed, most = math.ceil((times - 1 - 1e-6) / HELD_OUT), math.floor(100 - 100 / (units + 1)) / 100
        advice = f"which takes about {needed} normal files, or a quantile of {most:g} at most"
        return (*self.evidence_.notes, f"{few}, {advice}")

    @value_errors()
    def measure(self, X: ArrayLike) -> Measured:
        """Compute score, probability and reconstruction error of each item."""
        self._check_fitted()
        items = self._like_fitted(X)
        score = self._score(self.evidence_.scores(items))
        error = np.square(self.evidence_.residual(items), dtype=np.float64).mean(axis=1)
        return Measured(score, self.tail_.p_values(score), error, self.evidence_.elbo(items))

    def _like_fitted(self, X: ArrayLike) -> ArrayLike:
        self._check_names(X)
        if isinstance(self.evidence_, WindowEvidence):
            return X  # which the autoencoder checks
        rows = _rows(np.asarray(X))
        if rows.shape[1:] != self.item_shape_:
            raise InputError(f"X has rows of {rows.shape[1]} columns; expected {self.n_features_in_}")
        return rows

    def score_samples(self, X: ArrayLike) -> Doubles:
        """Negate the scores: lower is more abnormal."""
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

    @value_errors()
    def explain(self, X: ArrayLike) -> Floats:
        """Localise anomalies by the squared deviation of each value, in units of its spread on normal items.

        Shape:
            `(n, columns)` for rows, `(n, channels, *size)` for windows; the mean of normal ones is about 1.
        """
        self._check_fitted()
        squares: Floats = np.square(self.evidence_.whitened(self._like_fitted(X)))
        return squares.reshape(-1, *self.item_shape_)

    def _score(self, logs: Doubles) -> Doubles:
        """Combine the log scores of each kind of evidence into one score per item."""
        return combined_score(self._tails, logs)

    @property
    def embedding_(self) -> AutoencoderEmbedding | None:
        """Autoencoder of windows; None for rows."""
        self._check_fitted()
        return self.evidence_.embedding if isinstance(self.evidence_, WindowEvidence) else None

    def save(self, path: str | Path, name: str, cut: Segmentation, **facts: Any) -> None:
        """Write autoencoder and threshold as one weights file, which `denoise embed --model` also accepts.

        Args:
            facts: Other entries of its card.

        Raises:
            UsageError: It is a detector of rows, which has no weights.
        """
        self._check_fitted()
        if not isinstance(self.evidence_, WindowEvidence):
            raise UsageError(
                f"{path}: a detector of rows has no weights; expected one of windows, or pickle it"
            )
        known = {
            "quantile": self.quantile,
            "tail": self.tail_.kind,
            "units": self.tail_.units,
            "columns": list(self.columns_),
            "sample_rates_hz": list(self.sample_rates_),
            "unit_nats": self.unit_nats_,
            "scores": packed(self.tail_.scores, _SINGLE),
            "tails": [packed(tail.scores, _SINGLE) for tail in self._tails],
            **self.evidence_.as_card(),
        }
        self.evidence_.embedding.save(path, name, cut, **{_FACTS: known}, **facts)

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
        evidence = WindowEvidence.of_card(embedding, known)
        self.evidence_, self.item_shape_, self.code_size = (
            evidence,
            embedding.item_shape_,
            embedding.code_size,
        )
        self._tails = [Tail.of(unpacked(text, _SINGLE)) for text in known["tails"]]
        if len(self._tails) != len(evidence.names):
            raise ValueError(f"{len(self._tails)} distributions of {evidence.names}")
        self.columns_ = tuple(map(str, known.get("columns", ())))
        self.sample_rates_ = tuple(map(float, known.get("sample_rates_hz", ())))
        units, self.unit_nats_ = int(known.get("units", 0)), float(known.get("unit_nats", 1.0))
        if units < 0 or not self.unit_nats_ >= 1:
            raise ValueError(f"{units} units of {self.unit_nats_} nats")
        self.false_alarms_ = None
        self.tail_ = Tail.of(unpacked(known["scores"], _SINGLE), str(known["tail"]), units)
        self.tail = self.tail_.kind
        self._set_threshold()

    def _check(self) -> None:
        for name, value in (("quantile", self.quantile), ("held_out", self.held_out)):
            if not 0 < value < 1:
                raise UsageError(f"{name} is {value}; expected a share between 0 and 1")
        if self.tail not in TAILS:
            raise unknown("tail", self.tail, TAILS)
        if self.kind not in KINDS:
            raise unknown("kind", self.kind, KINDS)


@dataclass(frozen=True)
class FileAnomalies:
    """Anomalies of one file."""

    measured: Measured  # scores of its segments
    segments: tuple[Segment, ...]  # places of the segments, without their values
    pages: tuple[Page, ...]  # sources of the segments
    left_out: int  # number of omitted segments, which hold gaps
    p_value: float  # probability that a normal file of as many segments has one as extreme as the worst here
    quantile: float  # share of normal files that pass
    threshold: float  # score above which a segment is an anomaly
    notes: tuple[str, ...] = ()  # sentences about the threshold, and columns that are not judged

    @property
    def anomalous(self) -> bool:
        """Classification of the file as a whole."""
        return self.p_value <= 1 - self.quantile

    @property
    def flags(self) -> Mask:
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
    judged = {"judged": True} if cut.modality == "sensor" else {}
    source = Segments(path, cut, {**judged, **(options or {})})
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
        combined_p_value(measured.p_value, loaded.tail_.units, loaded.unit_nats_),
        loaded.quantile,
        loaded.threshold_,
        (
            *loaded.notes_,
            *_foreign(source.pages, loaded.columns_),
            *_lacking(source, loaded.columns_),
            *rate_misfit([page.sample_rate for page in source.pages], loaded.sample_rates_),
            *not_judged(source.info),
        ),
    )


def _foreign(pages: Sequence[Page], known: Sequence[str]) -> tuple[str, ...]:
    """Return the sentence about columns that the normal logs do not have."""
    foreign = list(dict.fromkeys(name for page in pages for name in page.channels if name not in known))
    if not known or not foreign:
        return ()
    return (f"judged as the columns {listed(known)}, though normal logs have none named {listed(foreign)}",)


def _lacking(source: Segments, known: Sequence[str]) -> tuple[str, ...]:
    """Return the sentence about columns of the normal logs that a log does not have."""
    present = {name for page in source.pages for name in page.channels}
    present |= set(source.info.names) if isinstance(source.info, SensorInfo) else set()
    lacking = [name for name in known if name not in present]
    return (f"lacks columns of the normal logs: {listed(lacking)}",) if lacking else ()


def not_judged(info: SignalInfo) -> tuple[str, ...]:
    """Return the sentences about columns of a log that are not judged, such as counters."""
    return tuple(note.replace(LEFT, "not judged") for note in info.notes if note.startswith(LEFT))


def _rows(array: Array) -> Doubles:
    """Check the rows of a table."""
    if array.dtype.kind not in "iufb" or array.ndim != 2 or not array.size:
        raise InputError(f"X is an array of {array.dtype} of shape {array.shape}; expected rows x columns")
    if not np.isfinite(array).all():
        raise InputError("X holds NaN or infinite numbers; expected finite ones")
    return array.astype(np.float64)
