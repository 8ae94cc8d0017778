"""Models side by side: the same clean files, the same noise, what each makes of it and what it costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from denoise import io as files
from denoise import metrics
from denoise.corruptions import corrupt
from denoise.errors import DenoiseError, UsageError
from denoise.infer import Cleaner, catalogue, load
from denoise.infer.apply import apply
from denoise.signal import MODALITIES
from pipelines.batch import discover
from pipelines.batch.huge_pages import use_huge_pages
from pipelines.batch.jobs import seed_for
from pipelines.batch.worker import about
from pipelines.benchmark import protocols
from pipelines.benchmark.deconvolution import TOLD, Blurred, deconvolve
from pipelines.benchmark.job import BenchmarkJob
from pipelines.benchmark.protocols import Condition
from pipelines.report import mean

if TYPE_CHECKING:
    from pipelines.benchmark.contact_sheet import ContactSheet

__all__ = ["BenchmarkRow", "Benchmarked", "Case", "Metrics", "Truth", "benchmark"]

Array = NDArray[Any]
Metrics = Mapping[str, float | None]

_UNCHANGED_DB = 60.0  # of an output: nobody sees what is wrong with it
_SLOW_HZ = 1.0  # what a log without a clock is taken for: no hum fits in


@dataclass(frozen=True)
class BenchmarkRow:
    """One model under one condition: means over the files, before and after it, and its cost.

    Args:
        model: Its name.
        modality: A name in `MODALITIES`.
        noise: The spec of the noise, level included; `none` is the clean file.
        level: What was swept; None where the spec was taken as it is.
        files: How many files the means are over.
        metrics: Of what the model made.
        noisy_metrics: Of what it was given.
        cost: `s_per_mpx` (seconds a megapixel) or `real_time_factor` (seconds a second of signal), and for
            sensors `s_per_msample` (seconds a million samples).
        group: The spec whose levels were swept.
        families: Of sensors under a protocol: how much better the files of each family became, in dB of SNR.
            A family is a folder.
        fidelity: Of clean sensor logs: the SNR of what came out, mean over the families; each file counts to
            60 dB, as what is not changed at all does.
    """

    model: str
    modality: str
    noise: str
    level: float | None
    files: int
    metrics: Metrics
    noisy_metrics: Metrics
    cost: Mapping[str, float]
    group: str = ""
    families: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    fidelity: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The form of `--json`."""
        return dict(vars(self))

    @property
    def headline(self) -> float | None:
        """The figure that a table leads with."""
        return self.metrics[MODALITIES[self.modality].headline]

    @property
    def noisy_headline(self) -> float | None:
        """The same of the noisy input."""
        return self.noisy_metrics[MODALITIES[self.modality].headline]

    @property
    def gain(self) -> float | None:
        """How much better the headline figure is than that of the noisy input."""
        before = self.noisy_headline
        if self.families:
            return mean(mean(gains) for gains in self.families.values())
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
    families: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Truth:
    """A clean file in memory: images in 0..1 and without alpha, audio in -1..1."""

    array: Array
    modality: str
    sample_rate: float | None
    key: str

    @property
    def family(self) -> str:
        """The folder that it lies in."""
        return self.key.partition(":")[0].rpartition("/")[0]

    @property
    def peak(self) -> float | None:
        return None if self.modality == "sensor" else 1.0

    def score(self, estimate: Array) -> Metrics:
        return metrics.score(
            self.array, estimate, self.modality, peak=self.peak, sample_rate=self.sample_rate
        )


@dataclass(frozen=True)
class Case:
    """A file under one condition, with the metrics of what the models are given."""

    truth: Truth
    condition: Condition
    seed: int
    noisy: Array
    metrics: Metrics


@dataclass(frozen=True)
class _Contender:
    """What takes part under a name."""

    name: str
    denoise: Callable[[Case], Array]


def benchmark(job: BenchmarkJob, sheet: ContactSheet | None = None) -> Benchmarked:
    """Corrupt each input deterministically, run every model over it, and measure.

    Models are blind: none is told the level, but for the deconvolutions of `TOLD`. Nothing is clipped or
    rounded in between, as in published tables. An image of several pages counts with its first.

    Args:
        job: What is compared on what.
        sheet: Shown every case of an image.

    Raises:
        UsageError: No input is of a kind that the noise and one of the models are for.
    """
    conditions = {m: protocols.conditions(job.noise, job.levels, job.protocol, m) for m in MODALITIES}
    use_huge_pages()
    contenders = {m: _contenders(job, m, found) for m, found in conditions.items()}

    def declines(modality: str) -> str | None:
        return None if contenders[modality] else f"is {modality}; the noise or the models are for other kinds"

    found = discover.find(job.inputs, recursive=job.recursive, declines=declines)
    if sheet:
        sheet.check({source.modality for source in found.sources})
    tallies: dict[tuple[str, str, int], _Tally] = {}
    problems = list(found.problems)
    for source in found.sources:
        try:
            for truth in _truths(source):
                for index, condition in enumerate(conditions[truth.modality]):
                    case = _case(truth, condition, job.seed)
                    if case is None:
                        continue
                    row = sheet.row(case, len(conditions[truth.modality])) if sheet else None
                    for contender in contenders[truth.modality]:
                        tally = tallies.setdefault((truth.modality, contender.name, index), _Tally())
                        denoised, found_metrics = _measure(contender, case, tally)
                        if row:
                            row.add(contender.name, denoised, found_metrics)
        except DenoiseError as error:
            problems.append(discover.Problem(source.path, about(str(error), source.path)))
    if not tallies and not problems:
        raise UsageError(
            f"nothing to measure: no input is of a kind for {job.noise or job.protocol} "
            f"and {', '.join(job.models)}"
        )
    order = {name: place for place, name in enumerate(job.models)}
    ordered = sorted(tallies, key=lambda of: (list(MODALITIES).index(of[0]), order[of[1]], of[2]))
    ceiling_db = protocols.find(job.protocol).ceiling_db if job.protocol else None
    rows = [_row(of[0], of[1], conditions[of[0]][of[2]], tallies[of], ceiling_db) for of in ordered]
    return Benchmarked(tuple(rows), tuple(problems), tuple(found.ignored))


def _contenders(job: BenchmarkJob, modality: str, conditions: Sequence[Condition]) -> list[_Contender]:
    """Those of the models that are for a modality; none where there is nothing to do."""
    if not conditions:
        return []
    contenders = []
    for name in job.models:
        if name in TOLD:
            if modality == "image":
                contenders.append(_told(name, conditions))
        elif modality in catalogue.find(name).modalities:
            staged = modality == "sensor" and catalogue.find(name).kind == "learned"
            stages = (job.remove, job.keep) if staged else ((), ())
            contenders.append(_blind(load(name, modality, job.precision, *stages)))
    return contenders


def _blind(cleaner: Cleaner) -> _Contender:
    _warm_up(cleaner)
    return _Contender(
        cleaner.name,
        lambda case: apply(
            cleaner.model, case.noisy, peak=case.truth.peak, sample_rate=case.truth.sample_rate
        ),
    )


def _told(name: str, conditions: Sequence[Condition]) -> _Contender:
    truths = [Blurred.by(condition.noise, seed=0) for condition in conditions]  # refuses what is no blur
    deconvolve(name, np.full((1, 64, 64), 0.5, np.float32), truths[0])  # its imports are not a file's cost
    return _Contender(
        name, lambda case: deconvolve(name, case.noisy, Blurred.by(case.condition.noise, case.seed))
    )


def _warm_up(cleaner: Cleaner) -> None:
    """Run a model once on a little noise, so that what it imports and allocates is not the cost of a file."""
    spec = cleaner.spec
    shape = (1, 64, 64) if spec.ndim == 2 else (1, 4096)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    apply(cleaner.model, noise, peak=1.0, sample_rate=spec.sample_rate or 16000.0)


def _truths(source: discover.Source) -> Iterator[Truth]:
    """What a file holds; an NPZ whose arrays differ in length holds several recordings."""
    key = source.relative.as_posix()
    array, info = files.read(source.path)
    array = array[: array.shape[0] - info.passthrough_channels]
    if info.modality != "sensor":
        array = (array / (info.peak or 1.0)).astype(np.float32)
    yield Truth(array, info.modality, info.sample_rate, key)
    for page in range(1, info.pages if info.modality == "sensor" else 1):
        array, info = files.read(source.path, recording=page)
        yield Truth(array, info.modality, info.sample_rate, f"{key}:{page}")


def _case(truth: Truth, condition: Condition, seed: int) -> Case | None:
    """The corrupted file. Its seed is the same in all conditions: levels differ in strength alone.

    None where the noise cannot be in a sensor's file: there is no hum of 50 Hz in ten readings an hour.
    """
    seed = seed_for(seed, truth.key)
    noisy = truth.array
    if condition.noise:
        sample_rate = truth.sample_rate
        if sample_rate is None and truth.modality == "sensor":
            sample_rate = _SLOW_HZ
        noisy = corrupt(noisy, condition.noise, seed=seed, peak=truth.peak, sample_rate=sample_rate)
        if truth.modality == "sensor" and np.array_equal(noisy, truth.array, equal_nan=True):
            return None
    return Case(truth, condition, seed, noisy, truth.score(noisy))


def _measure(contender: _Contender, case: Case, tally: _Tally) -> tuple[Array, Metrics]:
    started = time.perf_counter()
    denoised = contender.denoise(case)
    tally.seconds += time.perf_counter() - started
    samples = int(np.prod(denoised.shape[1:]))
    tally.samples += samples
    tally.duration_s += samples / case.truth.sample_rate if case.truth.sample_rate else 0.0
    tally.metrics.append(case.truth.score(denoised))
    tally.noisy.append(case.metrics)
    tally.families.append(case.truth.family)
    return denoised, tally.metrics[-1]


def _row(
    modality: str, model: str, condition: Condition, tally: _Tally, ceiling_db: float | None
) -> BenchmarkRow:
    return BenchmarkRow(
        model,
        modality,
        str(condition),
        condition.level,
        len(tally.metrics),
        _means(tally.metrics),
        _means(tally.noisy),
        _cost(modality, tally),
        condition.group,
        _families(tally, ceiling_db) if modality == "sensor" and ceiling_db and condition.noise else {},
        _fidelity(tally) if modality == "sensor" and not condition.noise else None,
    )


def _fidelity(tally: _Tally) -> float | None:
    families: dict[str, list[float]] = {}
    for family, found in zip(tally.families, tally.metrics, strict=True):
        snr_db = found["snr_db"]
        families.setdefault(family, []).append(
            _UNCHANGED_DB if snr_db is None else min(snr_db, _UNCHANGED_DB)
        )
    return mean(mean(values) for values in families.values())


def _families(tally: _Tally, ceiling_db: float) -> dict[str, tuple[float, ...]]:
    """The gain of each file in dB of SNR, by family; no output is taken for better than `ceiling_db`."""
    gains: dict[str, list[float]] = {}
    for family, before, after in zip(tally.families, tally.noisy, tally.metrics, strict=True):
        given, got = (math.inf if m["snr_db"] is None else m["snr_db"] for m in (before, after))
        gains.setdefault(family, []).append(min(got, ceiling_db) - min(given, ceiling_db))
    return {family: tuple(found) for family, found in gains.items()}


def _means(tables: list[Metrics]) -> Metrics:
    return {name: mean(found[name] for found in tables) for name in tables[0]}


def _cost(modality: str, tally: _Tally) -> dict[str, float]:
    if modality == "image":
        return {"s_per_mpx": tally.seconds / tally.samples * 1e6}
    cost = {"real_time_factor": tally.seconds / tally.duration_s} if tally.duration_s else {}
    return cost if modality == "audio" else {**cost, "s_per_msample": tally.seconds / tally.samples * 1e6}
