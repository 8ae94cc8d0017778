"""Measure estimates against references, file by file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from denoise import io, metrics
from denoise.arrays import Array
from denoise.errors import DenoiseError, InputError, UsageError
from denoise.infer.evaluate import open_partner
from denoise.infer.result import mean_figures
from denoise.io.formats import modality_of
from denoise.io.sensor.base import SensorReader
from denoise.metrics import finite_mean
from denoise.signal import SensorInfo, SignalInfo
from pipelines.batch import discover


@dataclass(frozen=True)
class ScoreRow:
    """Pair of files: its metrics, or the reason why it has none."""

    reference: Path
    estimate: Path
    modality: str | None = None
    metrics: Mapping[str, float] | None = None
    error: str | None = None
    notes: tuple[str, ...] = ()  # sentences about what was not compared


@dataclass(frozen=True)
class Scores:
    """All pairs, and the mean of each metric over those with a finite value."""

    rows: tuple[ScoreRow, ...]

    @property
    def scored(self) -> tuple[ScoreRow, ...]:
        """Pairs with metrics."""
        return tuple(row for row in self.rows if row.metrics is not None)

    @property
    def failed(self) -> tuple[ScoreRow, ...]:
        """Pairs without metrics."""
        return tuple(row for row in self.rows if row.metrics is None)

    @property
    def means(self) -> dict[str, float | None]:
        """Mean of each metric."""
        tables = [row.metrics for row in self.rows if row.metrics is not None]
        names = dict.fromkeys(name for found in tables for name in found)
        return {name: finite_mean(found.get(name) for found in tables) for name in names}

    def as_dict(self) -> dict[str, Any]:
        """Return the report of `--json`."""
        rows = [
            {
                "reference": str(row.reference),
                "estimate": str(row.estimate),
                "metrics": row.metrics,
                "notes": [*row.notes],
            }
            for row in self.scored
        ]
        failed = [
            {"reference": str(row.reference), "estimate": str(row.estimate), "error": row.error}
            for row in self.failed
        ]
        return {"rows": rows, "mean": self.means, "failed": failed}


def score(reference: Path, estimate: Path, extra: tuple[str, ...] = ()) -> Scores:
    """Compare two files, or two folders whose files are paired by relative path.

    A file that has no partner, or does not fit it, is listed as failed.

    Args:
        reference: Noise-free file or folder.
        estimate: File or folder to measure.
        extra: Names in `denoise.metrics.METRICS` to measure beside those that the modality always has.

    Raises:
        UsageError: One is a folder and the other is not, there is nothing to compare, or no such metric.
    """
    for name in extra:
        metrics.metric(name)
    for path in (reference, estimate):
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    if reference.is_dir() != estimate.is_dir():
        raise UsageError(f"{reference} and {estimate}: expected two files or two folders")
    if not reference.is_dir():
        return Scores((_row(reference, estimate, extra),))
    references, estimates = discover.find([reference]), discover.find([estimate])
    relatives = dict.fromkeys(
        source.relative for found in (references, estimates) for source in found.sources
    )
    if not relatives:
        raise UsageError(f"{reference} and {estimate}: hold no files that can be compared")
    rows = [_row(reference / relative, estimate / relative, extra) for relative in sorted(relatives)]
    problems = [
        ScoreRow(problem.path, problem.path, error=problem.error)
        for problem in (*references.problems, *estimates.problems)
    ]
    return Scores((*rows, *problems))


def _row(reference: Path, estimate: Path, extra: tuple[str, ...]) -> ScoreRow:
    for path, partner in ((reference, estimate), (estimate, reference)):
        if not path.exists():
            return ScoreRow(reference, estimate, error=f"{partner}: has no partner; expected {path}")
    try:
        modality = modality_of(reference).name
        found, notes = score_file(reference, estimate, extra)
        return ScoreRow(reference, estimate, modality, found, notes=notes)
    except DenoiseError as error:
        return ScoreRow(reference, estimate, error=str(error))


def score_file(
    reference: Path, estimate: Path, extra: tuple[str, ...] = ()
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Measure one pair of files; all pages of an image count together, recordings of a log one by one.

    Files of different bit depths are compared as shares of full scale, without alpha, and columns of logs by
    their names. Metrics of `extra` are means over the pages, and all are means over the recordings.

    Returns:
        The metrics, and notes on what was not compared.

    Raises:
        InputError: Their kinds, shapes, rates or names of columns differ.
    """
    info = io.probe(reference)
    found, notes = _score_recording(reference, estimate, extra, {})
    recordings = [found]
    for number in range(1, info.pages if info.modality == "sensor" else 1):
        found, more = _score_recording(reference, estimate, extra, {"recording": number})
        recordings.append(found)
        notes += more
    return mean_figures(recordings), tuple(dict.fromkeys(notes))


def _score_recording(
    reference: Path, estimate: Path, extra: tuple[str, ...], options: Mapping[str, Any]
) -> tuple[dict[str, float], tuple[str, ...]]:
    with io.reader(reference, **options) as truth:
        _check_alike(truth.info, io.probe(estimate))
        opened, order = open_partner(estimate, truth.info, options)
        info = truth.info
        scorer = metrics.Scorer(info.modality, peak=info.peak, sample_rate=info.sample_rate)
        named: dict[str, list[float]] = {name: [] for name in extra}
        gaps = samples = 0
        with opened as guess:
            for true_part, guessed_part in zip(_parts(truth), _parts(guess), strict=True):
                guessed_part = guessed_part[order]
                if true_part.shape != guessed_part.shape:
                    raise InputError(
                        f"{estimate}: its shape is {guessed_part.shape}; {reference} has {true_part.shape}"
                    )
                guessed_part = guessed_part * _scale(info, guess.info)
                scorer.update(true_part, guessed_part)
                gaps += int((np.isnan(true_part) | np.isnan(guessed_part)).sum())
                samples += true_part.size
                for name, values in named.items():
                    measure = metrics.metric(name)
                    values.append(
                        measure(true_part, guessed_part, peak=info.peak, sample_rate=info.sample_rate)
                    )
            notes = [f"{gaps} of {samples} samples are gaps and not compared"] if gaps else []
            notes += _time_notes(truth, guess) + _pairing_notes(truth.info, guess.info)
    return {**scorer.result(), **{name: float(np.mean(values)) for name, values in named.items()}}, (*notes,)


def _pairing_notes(reference: SignalInfo, estimate: SignalInfo) -> list[str]:
    """Say that columns are compared in their order, where one of two logs has no names."""
    infos = [info for info in (reference, estimate) if isinstance(info, SensorInfo)]
    if reference.shape[0] < 2 or len(infos) < 2 or all(info.columns for info in infos):
        return []
    return ["columns are compared by their position: not both files name them"]


def _time_notes(reference: io.Reader, estimate: io.Reader) -> list[str]:
    """Say if the times of two logs differ by half a sample or more: rows are compared in their order."""
    if not (isinstance(reference, SensorReader) and isinstance(estimate, SensorReader)):
        return []
    clock = reference.info.clock
    if clock is None or estimate.info.clock is None:
        return []
    expected, found = (np.concatenate(list(reader.stamps())) for reader in (reference, estimate))
    shifts = np.abs(found - expected)
    if not np.isfinite(shifts).any() or np.nanmax(shifts) * clock.sample_rate < 0.5:
        return []
    return [f"the times differ by up to {np.nanmax(shifts):.4g} s: rows are compared in their order"]


def _parts(reader: io.Reader) -> Iterator[Array]:
    """Iterate over the colours of each page; a signal is one part, since blocks of two formats may differ."""
    if reader.info.modality == "image":
        for page in reader:
            yield page[: page.shape[0] - reader.info.passthrough_channels]
    else:
        yield np.concatenate(list(reader), axis=-1)


def _scale(reference: SignalInfo, estimate: SignalInfo) -> float:
    """Factor from the range of an estimate to that of the reference."""
    return reference.peak / estimate.peak if reference.peak and estimate.peak else 1.0


def _check_alike(reference: SignalInfo, estimate: SignalInfo) -> None:
    for what, expected, found in (
        ("kind", reference.modality, estimate.modality),
        ("number of pages", reference.pages, estimate.pages),
        ("sample rate", reference.sample_rate, estimate.sample_rate),
    ):
        if expected != found:
            raise InputError(f"{estimate.source}: its {what} is {found}; {reference.source} has {expected}")
