"""Models side by side: the same clean files, the same noise, what each makes of it and what it costs."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise import io as files
from denoise import metrics
from denoise.corruptions import Corruption, corrupt, parse, with_level
from denoise.errors import DenoiseError, UsageError
from denoise.infer import Cleaner, load
from denoise.infer.apply import apply
from denoise.signal import MODALITIES
from pipelines import catalogue, discover
from pipelines.job import BenchmarkJob, seed_for
from pipelines.report import files as count
from pipelines.report import mean, table, writing
from pipelines.worker import about

__all__ = ["BenchmarkRow", "Benchmarked", "as_csv", "as_table", "benchmark", "plot"]

PLOT_SUFFIXES = (".png", ".svg", ".pdf")

Array = NDArray[Any]
Metrics = Mapping[str, float | None]


@dataclass(frozen=True)
class BenchmarkRow:
    """One model at one level: means over the files, before and after it, and its cost.

    Args:
        model: Its name.
        modality: A name in `MODALITIES`.
        noise: The spec of the noise, level included.
        level: What was swept; None where the spec was taken as it is.
        files: How many files the means are over.
        metrics: Of what the model made.
        noisy_metrics: Of what it was given.
        cost: `s_per_mpx` (seconds a megapixel) or `real_time_factor` (seconds a second of signal), and for
            sensors `s_per_msample` (seconds a million samples).
    """

    model: str
    modality: str
    noise: str
    level: float | None
    files: int
    metrics: Metrics
    noisy_metrics: Metrics
    cost: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """The form of `--json`."""
        return dict(vars(self))

    @property
    def headline(self) -> float | None:
        """The figure that a table leads with."""
        return self.metrics[MODALITIES[self.modality].headline]

    @property
    def gain(self) -> float | None:
        """How much better the headline figure is than that of the noisy input."""
        before = self.noisy_metrics[MODALITIES[self.modality].headline]
        return None if self.headline is None or before is None else self.headline - before


@dataclass(frozen=True)
class Benchmarked:
    """Every row, what could not be read, and what was passed over."""

    rows: tuple[BenchmarkRow, ...]
    problems: tuple[discover.Problem, ...]
    ignored: tuple[discover.Problem, ...]


@dataclass
class _Tally:
    """What one model did to the files so far."""

    metrics: list[Metrics] = field(default_factory=list)
    noisy: list[Metrics] = field(default_factory=list)
    seconds: float = 0.0
    samples: int = 0  # pixels of an image, samples of a channel
    duration_s: float = 0.0  # 0 for what has no sample rate


@dataclass(frozen=True)
class _Truth:
    """A clean file in memory: images in 0..1 and without alpha, audio in -1..1."""

    array: Array
    modality: str
    sample_rate: float | None
    key: str

    @property
    def peak(self) -> float | None:
        return None if self.modality == "sensor" else 1.0


def benchmark(job: BenchmarkJob) -> Benchmarked:
    """Corrupt each input deterministically, run every model over it, and measure.

    Models are blind: none is told the level. Nothing is clipped or rounded in between, as in published
    tables. An image of several pages counts with its first.

    Raises:
        UsageError: No input is of a kind that the noise and one of the models are for.
    """
    noise = parse(job.noise)
    models = {m: _models(job.models, m) for m in MODALITIES if m in noise.modalities}

    def declines(modality: str) -> str | None:
        return None if models.get(modality) else f"is {modality}; the noise or the models are for other kinds"

    found = discover.find(job.inputs, recursive=job.recursive, declines=declines)
    tallies: dict[tuple[str, str, float | None], _Tally] = {}
    problems = list(found.problems)
    for source in found.sources:
        try:
            for truth in _truths(source):
                for level, noisy in _noisy(truth, noise, job):
                    for cleaner in models[truth.modality]:
                        tally = tallies.setdefault((truth.modality, cleaner.name, level), _Tally())
                        _measure(cleaner, truth, noisy, tally)
        except DenoiseError as error:
            problems.append(discover.Problem(source.path, about(str(error), source.path)))
    if not tallies and not problems:
        raise UsageError(
            f"nothing to measure: no input is of a kind for {job.noise} and {', '.join(job.models)}"
        )
    rows = [_row(*where, noise, tally) for where, tally in tallies.items()]
    order = {name: index for index, name in enumerate(job.models)}
    rows.sort(key=lambda row: (list(MODALITIES).index(row.modality), order[row.model], row.level or 0))
    return Benchmarked(tuple(rows), tuple(problems), tuple(found.ignored))


def _models(names: tuple[str, ...], modality: str) -> list[Cleaner]:
    cleaners = [load(name, modality) for name in names if modality in catalogue.find(name).modalities]
    for cleaner in cleaners:
        _warm_up(cleaner)
    return cleaners


def _warm_up(cleaner: Cleaner) -> None:
    """Run a model once on a little noise, so that what it imports and allocates is not the cost of a file."""
    spec = cleaner.spec
    shape = (1, 64, 64) if spec.ndim == 2 else (1, 4096)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    apply(cleaner.model, noise, peak=1.0, sample_rate=spec.sample_rate or 16000.0)


def _truths(source: discover.Source) -> Iterator[_Truth]:
    """What a file holds; an NPZ whose arrays differ in length holds several recordings."""
    key = source.relative.as_posix()
    array, info = files.read(source.path)
    array = array[: array.shape[0] - info.keep]
    if info.modality != "sensor":
        array = (array / (info.peak or 1.0)).astype(np.float32)
    yield _Truth(array, info.modality, info.sample_rate, key)
    for page in range(1, info.pages if info.modality == "sensor" else 1):
        array, info = files.read(source.path, page=page)
        yield _Truth(array, info.modality, info.sample_rate, f"{key}:{page}")


def _noisy(truth: _Truth, noise: Corruption, job: BenchmarkJob) -> Iterator[tuple[float | None, Array]]:
    """The corrupted file at each level. Its seed is the same at all levels: they differ in strength alone."""
    seed = seed_for(job.seed, truth.key)
    for level in job.levels or (None,):
        at_level = noise if level is None else with_level(noise, level, truth.modality)
        yield level, corrupt(truth.array, at_level, seed=seed, peak=truth.peak, sample_rate=truth.sample_rate)


def _measure(cleaner: Cleaner, truth: _Truth, noisy: Array, tally: _Tally) -> None:
    started = time.perf_counter()
    denoised = apply(cleaner.model, noisy, peak=truth.peak, sample_rate=truth.sample_rate)
    tally.seconds += time.perf_counter() - started
    samples = int(np.prod(truth.array.shape[1:]))
    tally.samples += samples
    tally.duration_s += samples / truth.sample_rate if truth.sample_rate else 0.0
    tally.metrics.append(_score(truth, denoised))
    tally.noisy.append(_score(truth, noisy))


def _score(truth: _Truth, estimate: Array) -> Metrics:
    return metrics.score(
        truth.array, estimate, truth.modality, peak=truth.peak, sample_rate=truth.sample_rate
    )


def _row(modality: str, model: str, level: float | None, noise: Corruption, tally: _Tally) -> BenchmarkRow:
    spec = str(noise if level is None else with_level(noise, level, modality))
    means, noisy_means = _means(tally.metrics), _means(tally.noisy)
    return BenchmarkRow(
        model, modality, spec, level, len(tally.metrics), means, noisy_means, _cost(modality, tally)
    )


def _means(tables: list[Metrics]) -> Metrics:
    return {name: mean(found[name] for found in tables) for name in tables[0]}


def _cost(modality: str, tally: _Tally) -> dict[str, float]:
    if modality == "image":
        return {"s_per_mpx": tally.seconds / tally.samples * 1e6}
    cost = {"real_time_factor": tally.seconds / tally.duration_s} if tally.duration_s else {}
    return cost if modality == "audio" else {**cost, "s_per_msample": tally.seconds / tally.samples * 1e6}


# ---- what is shown ---------------------------------------------------------------------------------------


def as_table(rows: tuple[BenchmarkRow, ...]) -> str:
    """A table for each modality, a line a model: for each level the headline figure and its gain."""
    parts = []
    for modality in dict.fromkeys(row.modality for row in rows):
        ours = [row for row in rows if row.modality == modality]
        noises = list(dict.fromkeys(row.noise for row in ours))
        by_model: dict[str, dict[str, BenchmarkRow]] = {}
        for row in ours:
            by_model.setdefault(row.model, {})[row.noise] = row
        first = next(iter(by_model.values()))
        header = [
            MODALITIES[modality].headline,
            *(cell for noise in noises for cell in (noise, "gain")),
            *ours[0].cost,
        ]
        noisy = ["(noisy)"]
        for noise in noises:
            noisy += [_figure(first[noise].noisy_metrics[MODALITIES[modality].headline]), ""]
        lines = [
            _line(model, [found[noise] for noise in noises if noise in found])
            for model, found in by_model.items()
        ]
        parts.append(f"{modality}: {count(ours[0].files)}\n" + table(header, [noisy, *lines]))
    return "\n\n".join(parts)


def _line(model: str, rows: list[BenchmarkRow]) -> list[str]:
    cells = [model]
    for row in rows:
        cells += [_figure(row.headline), _figure(row.gain, "+.2f")]
    costs = [f"{mean(row.cost[name] for row in rows):.3g}" for name in rows[0].cost]
    return cells + costs


def _figure(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else format(value, form)


def as_csv(rows: tuple[BenchmarkRow, ...]) -> str:
    """One line a row; noisy metrics are prefixed `noisy_`."""
    flat = [
        {
            **{name: getattr(row, name) for name in ("model", "modality", "noise", "level", "files")},
            **row.metrics,
            **{f"noisy_{name}": value for name, value in row.noisy_metrics.items()},
            **row.cost,
        }
        for row in rows
    ]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, list(dict.fromkeys(name for line in flat for name in line)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def check_plot(path: Path) -> None:
    """Refuse, before the work, a file name that no plot can be written to."""
    if path.suffix.lower() not in PLOT_SUFFIXES:
        raise UsageError(
            f"{path}: a plot is written as {' '.join(PLOT_SUFFIXES)}, not {path.suffix or 'that'}"
        )


def plot(rows: tuple[BenchmarkRow, ...], path: Path) -> None:
    """Headline metric over level, a panel for each modality, a line for each model.

    Raises:
        OutputError: It cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    modalities = list(dict.fromkeys(row.modality for row in rows))
    figure = Figure(figsize=(6 * len(modalities), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for modality, axes in zip(modalities, figure.subplots(1, len(modalities), squeeze=False)[0], strict=True):
        ours = [row for row in rows if row.modality == modality]
        for model in dict.fromkeys(row.model for row in ours):
            line = [row for row in ours if row.model == model]
            levels = [row.level if row.level is not None else 0.0 for row in line]
            axes.plot(
                levels, [np.nan if row.headline is None else row.headline for row in line], "o-", label=model
            )
        axes.set(
            title=modality,
            xlabel=ours[0].noise.partition(":")[0] + " level",
            ylabel=MODALITIES[modality].headline,
        )
        axes.grid(alpha=0.3)
        axes.legend()
    with writing(path) as partial:
        figure.savefig(partial, format=path.suffix[1:].lower(), dpi=120)
