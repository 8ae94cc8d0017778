"""Compare detectors on labelled series, in the standard profile of NAB (Lavin & Ahmad 2015)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denoise import io
from denoise.analysis.online import OnlineDetector, times_of
from denoise.arrays import Doubles, Mask
from denoise.errors import DenoiseError, InputError, UsageError
from denoise.registry import unknown
from pipelines.batch import discover
from pipelines.batch.worker import with_path
from pipelines.benchmark.job import BenchmarkJob
from pipelines.benchmark.tables import Table

LABEL = "label"  # column that is 1 in the window of an event
_FALSE_ALARM = 0.11  # weight of an alarm outside the windows, of a missed window 1
_WARM_UP, _MAX_WARM_UP = 0.15, 750  # share of the rows that do not count, and most of them
_MAX_THRESHOLDS = 400


@dataclass(frozen=True)
class Series:
    """Labelled series: values `(n, channels)`, mask of the windows, and times in seconds."""

    name: str
    values: Doubles
    label: Mask
    times_s: Doubles | None

    @property
    def windows(self) -> list[tuple[int, int]]:
        """First row of each window, and the row after its last."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], self.label.astype(int), [0]])))
        return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


@dataclass(frozen=True)
class EventRow:
    """One detector on one series, at the threshold that is best for all of them together."""

    set: str  # name of the series; `all` for the whole
    model: str  # name of the detector
    rows: int  # rows of the series
    events: int  # number of windows
    found: int  # windows with an alarm
    false_alarms: int  # alarms outside the windows
    # 100 for every event at the start of its window without a false alarm, 0 for no alarm at all
    score: float

    def as_dict(self) -> dict[str, Any]:
        """Return the row of `--json`."""
        return dict(vars(self))


@dataclass(frozen=True)
class EventResult:
    """All rows, the files that failed, and those that were ignored."""

    rows: tuple[EventRow, ...]
    problems: tuple[discover.Problem, ...]
    ignored: tuple[discover.Problem, ...]

    def tables(self) -> list[Table]:
        """Make a table of the scores, one line per series, and one of alarms."""
        if not self.rows:  # all files failed
            return []
        models = list(dict.fromkeys(row.model for row in self.rows))
        by_set: dict[str, list[EventRow]] = {}
        for row in self.rows:
            by_set.setdefault(row.set, []).append(row)
        lines = [
            [name, str(rows[0].events), *(f"{row.score:.1f}" if row.events else "" for row in rows)]
            for name, rows in by_set.items()
        ]
        whole = by_set["all"]
        alarms = [
            ["events found", *(f"{row.found} of {row.events}" for row in whole)],
            ["false alarms", *(str(row.false_alarms) for row in whole)],
        ]
        title = f"score in the standard profile, {len(by_set) - 1} series"
        return [Table(title, ["set", "events", *models], lines), Table("alarms", ["set", *models], alarms)]

    def as_csv(self) -> str:
        """Format the rows as CSV."""
        lines = [[str(value) for value in vars(row).values()] for row in self.rows]
        return "".join(",".join(line) + "\n" for line in [list(EventRow.__dataclass_fields__), *lines])


def compare(job: BenchmarkJob) -> EventResult:
    """Score each series by each detector, and count alarms at the best threshold of each detector.

    The threshold is chosen with the labels, as in the published table, one for all series.

    Raises:
        UsageError: A detector is unknown, or no series holds an event.
    """
    names = list(dict.fromkeys(job.models or DETECTORS))
    for name in names:
        if name not in DETECTORS:
            raise unknown("detector", name, DETECTORS)
    found = discover.find(
        job.inputs,
        recursive=job.recursive,
        reject_reason=lambda kind: None if kind == "sensor" else f"is {kind}; expected logs",
    )
    problems, series = list(found.problems), []
    for source in found.sources:
        try:
            series.append(_read(source.path))
        except DenoiseError as error:
            problems.append(discover.Problem(source.path, with_path(str(error), source.path)))
    if not any(one.windows for one in series):
        raise UsageError(f"no series holds an event: expected logs with a column {LABEL!r}, 1 during events")
    rows = [row for name in names for row in _rows(name, series)]
    return EventResult(tuple(rows), tuple(problems), tuple(found.ignored))


def _read(path: Path) -> Series:
    """Read a log whose column `label` is 1 in the window of each event."""
    info = io.probe(path, judged=True)
    names = list(getattr(info, "names", ()))
    if LABEL not in names:
        raise InputError(f"{path}: has the columns {', '.join(names)}; expected {LABEL!r} among them")
    label = io.read(path, columns=(LABEL,))[0][0] == 1
    measured = tuple(name for name in getattr(info, "columns", ()) if name != LABEL)
    if not measured:
        raise InputError(f"{path}: has no measurement beside {LABEL!r}")
    with io.reader(path, columns=measured) as log:
        values = np.concatenate(list(log), axis=1)
        return Series(path.stem, values.T, label, np.concatenate(list(times_of(log))))


def _rows(model: str, series: Sequence[Series]) -> list[EventRow]:
    scores = [np.nan_to_num(DETECTORS[model](one)) for one in series]
    tried = np.unique(np.concatenate(scores))
    if len(tried) > _MAX_THRESHOLDS:
        tried = np.unique(np.quantile(tried, 1 - np.geomspace(1e-6, 1, _MAX_THRESHOLDS)))
    totals = [sum(_gain(one, s >= at) for one, s in zip(series, scores, strict=True)) for at in tried]
    # No alarm at all is worth nothing more than to miss every window.
    events = sum(len(one.windows) for one in series)
    best = float(tried[int(np.argmax(totals))]) if max(totals) > -events else np.inf
    rows = []
    for one, s in zip(series, scores, strict=True):
        alarms = _counted(s >= best)
        hits = sum(bool(alarms[start:stop].any()) for start, stop in one.windows)
        score = profile_score(one, s >= best) if one.windows else 0.0
        false = int((alarms & ~one.label).sum())
        rows.append(EventRow(one.name, model, len(one.values), len(one.windows), hits, false, score))
    score = 100 * (max(max(totals), -events) + events) / (2 * events)
    length, hits, false = (
        sum(getattr(row, name) for row in rows) for name in ("rows", "found", "false_alarms")
    )
    return [*rows, EventRow("all", model, length, events, hits, false, score)]


def profile_score(series: Series, alarms: Mask) -> float:
    """Score of alarms in the standard profile: 100 is perfect, 0 is silence, below are many false alarms."""
    events = len(series.windows)
    return 100 * (_gain(series, alarms) + events) / (2 * events)


def _gain(series: Series, alarms: Mask) -> float:
    """Sum of what alarms are worth: 1 early in a window, falling to 0 at its end, -1 for a missed one."""
    counted, total = _counted(alarms), 0.0
    worth = np.full(len(counted), -1.0)  # of an alarm outside the windows
    for start, stop in series.windows:
        worth[stop:] = _sigmoid(np.minimum((np.arange(stop, len(counted)) - stop + 1) / (stop - start), 3.0))
        hits = np.flatnonzero(counted[start:stop])
        if hits.size:
            total += float(_sigmoid(-(stop - start - hits[0]) / (stop - start)) / _sigmoid(-1.0))
        else:
            total -= 1
    return total + _FALSE_ALARM * float(worth[counted & ~series.label].sum())


def _counted(alarms: Mask) -> Mask:
    """Alarms after the first part of the series, which is for warming up."""
    return alarms & (np.arange(len(alarms)) >= min(int(_WARM_UP * len(alarms)), _MAX_WARM_UP))


def _sigmoid(place: float | Doubles) -> Any:
    return 2 / (1 + np.exp(5 * np.asarray(place))) - 1


def _ours(series: Series) -> Doubles:
    found = OnlineDetector(series.values.shape[1]).scores(series.values, series.times_s)
    return np.array([row.score for row in found])


def _deviation(series: Series) -> Doubles:
    """Largest deviation of a row from the mean of the 200 before it, in their standard deviations."""
    values = np.nan_to_num(series.values)
    count, rows = 200, np.arange(len(values))
    first = np.maximum(rows - count, 0)
    size = np.maximum(rows - first, 1)[:, None]
    sums = np.concatenate([np.zeros((1, values.shape[1])), values.cumsum(axis=0)])
    squares = np.concatenate([np.zeros((1, values.shape[1])), np.square(values).cumsum(axis=0)])
    mean = (sums[rows] - sums[first]) / size
    variance = np.maximum((squares[rows] - squares[first]) / size - mean**2, 0)
    return (np.abs(values - mean) / (np.sqrt(variance) + 1e-9)).max(axis=1)


DETECTORS: dict[str, Callable[[Series], Doubles]] = {
    "denoise": _ours,
    "deviation": _deviation,
    "random": lambda series: np.random.default_rng(0).random(len(series.values)),
}
