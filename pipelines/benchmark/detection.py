"""Compare anomaly detectors on labelled tables, half-supervised as in ADBench (Han et al. 2022)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denoise.arrays import Doubles, Mask
from denoise.errors import InputError, UsageError
from denoise.io.archive import arrays_of
from denoise.registry import resolve, unknown
from pipelines.batch import discover
from pipelines.batch.worker import with_path
from pipelines.benchmark.job import BenchmarkJob
from pipelines.benchmark.tables import Table

OURS = "denoise"
QUANTILE = 0.99  # share of normal rows that pass the threshold
_SEEDS = 3
_BEHIND = 0.05  # area by which a detector is called behind the best one
_MIN_NORMAL = 20
_EXPECTED = ".npz with finite X (rows x columns) and y (1 for each row that is an anomaly)"


@dataclass(frozen=True)
class DetectionRow:
    """One detector on one set: means over the seeds."""

    set: str  # name of the file
    model: str  # name of the detector
    rows: int  # number of rows of the set
    anomalies: int  # number of anomalies among them
    auroc: float  # area under the receiver operating characteristic; 0.5 is guessing
    auprc: float  # area under the curve of precision over recall; the share of anomalies is guessing
    seconds: float  # time to fit and to score
    # share of unseen normal rows above the threshold of quantile 0.99; None if it has none
    false_alarms: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return the row of `--json`."""
        return dict(vars(self))


@dataclass(frozen=True)
class DetectionResult:
    """All rows, the files that failed, and those that were ignored."""

    rows: tuple[DetectionRow, ...]
    problems: tuple[discover.Problem, ...]
    ignored: tuple[discover.Problem, ...]

    def tables(self) -> list[Table]:
        """Make a table of each kind of area, one line per set, and one of all sets together."""
        if not self.rows:  # all files failed
            return []
        models = list(dict.fromkeys(row.model for row in self.rows))
        areas = self._by_set("auroc", models)
        shown = np.array(list(areas.values()))
        behind = (shown.max(axis=1, keepdims=True) - shown > _BEHIND).sum(axis=0)
        seconds = [sum(row.seconds for row in self.rows if row.model == model) for model in models]
        summary = [
            [f"more than {_BEHIND} below the best", *map(str, behind)],
            ["fit and score, s", *(f"{value:.2f}" for value in seconds)],
            [f"false alarms at {QUANTILE}", *(self._alarms(model) for model in models)],
        ]
        return [
            _area_table("ROC curve", models, areas),
            _area_table("curve of precision over recall", models, self._by_set("auprc", models)),
            Table("all sets", ["set", *models], summary),
        ]

    def _by_set(self, figure: str, models: Sequence[str]) -> dict[tuple[str, int, int], list[float]]:
        areas: dict[tuple[str, int, int], list[float]] = {}
        for row in self.rows:
            areas.setdefault((row.set, row.rows, row.anomalies), [float("nan")] * len(models))
            areas[row.set, row.rows, row.anomalies][models.index(row.model)] = getattr(row, figure)
        return areas

    def _alarms(self, model: str) -> str:
        found = [row.false_alarms for row in self.rows if row.model == model and row.false_alarms is not None]
        return f"{np.mean(found):.4f}" if found else ""

    def as_csv(self) -> str:
        """Format the rows as CSV."""
        lines = [["" if value is None else str(value) for value in vars(row).values()] for row in self.rows]
        return "".join(",".join(line) + "\n" for line in [list(DetectionRow.__dataclass_fields__), *lines])


def compare(job: BenchmarkJob) -> DetectionResult:
    """Fit every detector on half of the normal rows of each set, and score the others and all anomalies.

    Columns are standardised by the rows that are learned from.

    Raises:
        UsageError: A detector is unknown or needs scikit-learn, which is missing; or there are no sets.
    """
    names = list(dict.fromkeys(job.models or DETECTORS))
    for name in names:
        if name not in DETECTORS:
            raise unknown("detector", name, DETECTORS)
    if any(name != OURS for name in names):
        _check_sklearn()
    found = discover.find(
        job.inputs,
        recursive=job.recursive,
        reject_reason=lambda kind: None if kind == "sensor" else f"is {kind}; expected tables",
    )
    rows: list[DetectionRow] = []
    problems = list(found.problems)
    for source in found.sources:
        try:
            values, labels = read_table(source.path)
        except InputError as error:
            problems.append(discover.Problem(source.path, with_path(str(error), source.path)))
            continue
        rows += _compared(source.path.stem, values, labels, names, job.seed)
    if not rows and not problems:
        raise UsageError(
            "nothing to measure: expected .npz files with X (rows x columns) and y (1 = anomaly)"
        )
    return DetectionResult(tuple(rows), tuple(problems), tuple(found.ignored))


def read_table(path: Path) -> tuple[Doubles, Mask]:
    """Read a labelled table: `X` (rows x columns), and `y`, which is 1 for anomalies.

    Raises:
        InputError: The file is no such table, or has too few normal rows or no anomaly.
    """
    arrays = arrays_of(path, _EXPECTED)
    try:
        values, labels = np.asarray(arrays["X"], np.float64), np.asarray(arrays["y"]).ravel() == 1
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: is no labelled table ({error}); expected {_EXPECTED}") from error
    if values.ndim != 2 or len(values) != len(labels) or not np.isfinite(values).all():
        raise InputError(f"{path}: X has shape {values.shape} and y {labels.shape}; expected {_EXPECTED}")
    normal = int((~labels).sum())
    if normal < _MIN_NORMAL or normal == len(labels):
        found = f"{normal} normal rows and {len(labels) - normal} anomalies"
        raise InputError(f"{path}: has {found}; expected {_MIN_NORMAL} and one")
    return values, labels


def _compared(
    name: str, values: Doubles, labels: Mask, models: Sequence[str], seed: int
) -> list[DetectionRow]:
    measured: dict[str, list[tuple[float, float, float, float | None]]] = {model: [] for model in models}
    for number in range(seed, seed + _SEEDS):
        normal = np.random.default_rng(number).permutation(np.flatnonzero(~labels))
        learned, unseen = np.split(normal, [len(normal) // 2])
        judged = np.concatenate([unseen, np.flatnonzero(labels)])
        mean, spread = values[learned].mean(axis=0), values[learned].std(axis=0)
        spread[spread == 0] = 1
        known, new = ((values[part] - mean) / spread for part in (learned, judged))
        for model in models:
            started = time.perf_counter()
            scores, threshold = DETECTORS[model](known, new)
            seconds = time.perf_counter() - started
            alarms = None if threshold is None else float(np.mean(scores[: len(unseen)] > threshold))
            found = labels[judged]
            areas = _area(found, scores), _mean_precision(found, scores)
            measured[model].append((*areas, seconds, alarms))
    rows = []
    for model, each in measured.items():
        auroc, auprc, seconds_each, alarms_each = zip(*each, strict=True)
        shares = [share for share in alarms_each if share is not None]
        rows.append(
            DetectionRow(
                name,
                model,
                len(labels),
                int(labels.sum()),
                float(np.mean(auroc)),
                float(np.mean(auprc)),
                float(np.sum(seconds_each)),
                float(np.mean(shares)) if shares else None,
            )
        )
    return rows


def _area(labels: Mask, scores: Doubles) -> float:
    """Area under the curve: the probability that an anomaly scores above a normal row, ties counting half."""
    from scipy.stats import rankdata

    ranks, count = rankdata(scores), int(labels.sum())
    return float((ranks[labels].sum() - count * (count + 1) / 2) / (count * (len(labels) - count)))


def _mean_precision(labels: Mask, scores: Doubles) -> float:
    """Mean of the precision at each new anomaly in descending order of the scores, ties taken together."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each score
    hits = np.cumsum(labels[order])[last]
    return float((hits / (last + 1) * np.diff(hits, prepend=0)).sum() / hits[-1])


def _area_table(curve: str, models: Sequence[str], areas: dict[tuple[str, int, int], list[float]]) -> Table:
    lines = [[name, str(rows), str(bad), *_marked(values)] for (name, rows, bad), values in areas.items()]
    lines.append(["mean", "", "", *_marked(np.mean(list(areas.values()), axis=0))])
    title = f"area under the {curve}, {len(areas)} sets, {_SEEDS} seeds"
    return Table(title, ["set", "rows", "anomalies", *models], lines)


def _marked(values: Sequence[float] | Doubles) -> list[str]:
    best = max(values)
    return [f"{value:.3f}{'*' if value == best else ''}" for value in values]


def _check_sklearn() -> None:
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise UsageError(
            f"the other detectors need scikit-learn: pip install scikit-learn, or --models {OURS}"
        )


Scores = tuple[Doubles, float | None]  # larger for anomalies, and the threshold for them


def _ours(learned: Doubles, judged: Doubles) -> Scores:
    from denoise.analysis.anomalies import AnomalyDetector

    detector = AnomalyDetector(QUANTILE).fit(learned)
    return detector.measure(judged).score, detector.threshold_


def _knn(learned: Doubles, judged: Doubles) -> Scores:
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=min(5, len(learned))).fit(learned)
    return near.kneighbors(judged)[0].mean(axis=1), None


def _pca(learned: Doubles, judged: Doubles) -> Scores:
    from sklearn.decomposition import PCA

    pca = PCA(0.9, svd_solver="full").fit(learned)
    return np.square(judged - pca.inverse_transform(pca.transform(judged))).sum(axis=1), None


def _rival(target: str, method: str, sign: int, **settings: Any) -> Callable[[Doubles, Doubles], Scores]:
    """Make a detector of an estimator of scikit-learn, which is imported on use."""

    def run(learned: Doubles, judged: Doubles) -> Scores:
        estimator = resolve(target)(**settings).fit(learned)
        return sign * getattr(estimator, method)(judged), None

    return run


DETECTORS: dict[str, Callable[[Doubles, Doubles], Scores]] = {
    OURS: _ours,
    "knn": _knn,
    "lof": _rival("sklearn.neighbors:LocalOutlierFactor", "score_samples", -1, novelty=True),
    "mahalanobis": _rival("sklearn.covariance:LedoitWolf", "mahalanobis", 1),
    "one-class-svm": _rival("sklearn.svm:OneClassSVM", "decision_function", -1, nu=0.1),
    "isolation-forest": _rival("sklearn.ensemble:IsolationForest", "score_samples", -1, random_state=0),
    "pca": _pca,
}
