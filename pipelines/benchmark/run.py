"""Compare models on the same files and noise: quality and cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from denoise.errors import DenoiseError, UsageError
from denoise.infer import catalogue
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.metrics import finite_mean
from denoise.signal import MODALITIES
from pipelines.batch import discover
from pipelines.batch.huge_pages import use_huge_pages
from pipelines.batch.worker import with_path
from pipelines.benchmark import protocols
from pipelines.benchmark.cases import Array, Case, Metrics, clean_signals, make_case
from pipelines.benchmark.deconvolution import Blurred, deconvolve, is_non_blind
from pipelines.benchmark.job import BenchmarkJob
from pipelines.benchmark.protocols import Condition

if TYPE_CHECKING:
    from pipelines.benchmark.contact_sheet import ContactSheet

__all__ = ["BenchmarkResult", "BenchmarkRow", "benchmark"]

_UNCHANGED_DB = 60.0  # outputs better than this count as unchanged


@dataclass(frozen=True)
class BenchmarkRow:
    """One model under one condition: means over the files, before and after it, and its cost.

    Args:
        model: Name of the model.
        modality: A name in `MODALITIES`.
        noise: Spec of the noise, level included; `none` is the clean file.
        level: Level of the sweep; None if the spec was taken as it is.
        files: Number of files in the means.
        metrics: Metrics of the model's output.
        noisy_metrics: Metrics of its input.
        cost: `s_per_mpx` (seconds per megapixel) or `real_time_factor` (seconds per second of signal), and
            for sensors `s_per_msample` (seconds per million samples).
        group: The spec whose levels were swept.
        families: For sensors under a protocol: each family's gains in dB of SNR, one per file. A family is a
            folder.
        fidelity: For clean sensor logs: SNR of the output, mean over the families; each file counts at most
            60 dB, as an unchanged one does.
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

    @property
    def headline(self) -> float | None:
        """First metric of the tables."""
        return self.metrics[MODALITIES[self.modality].headline]

    @property
    def noisy_headline(self) -> float | None:
        """First metric of the noisy input."""
        return self.noisy_metrics[MODALITIES[self.modality].headline]

    @property
    def gain(self) -> float | None:
        """Difference between the headline metric and that of the noisy input."""
        before = self.noisy_headline
        if self.families:
            return finite_mean(finite_mean(gains) for gains in self.families.values())
        return None if self.headline is None or before is None else self.headline - before


@dataclass(frozen=True)
class BenchmarkResult:
    """All rows, the files that failed, and those that were ignored."""

    rows: tuple[BenchmarkRow, ...]
    problems: tuple[discover.Problem, ...]
    ignored: tuple[discover.Problem, ...]


@dataclass
class _Totals:
    """Results of one model over the files so far."""

    cases: list[tuple[str, Metrics, Metrics]] = field(default_factory=list)  # family; before and after
    seconds: float = 0.0
    samples: int = 0  # pixels of an image, samples of a channel
    duration_s: float = 0.0  # 0 without a sample rate


Denoise = Callable[[Case], Array]


def benchmark(job: BenchmarkJob, sheet: ContactSheet | None = None) -> BenchmarkResult:
    """Corrupt each input deterministically, run every model over it, and measure.

    Models are blind: no level is given, except to the deconvolutions of `NON_BLIND`. Nothing is clipped or
    rounded in between, as in published tables. An image of several pages counts with its first.

    Args:
        job: Models, inputs and noise.
        sheet: Receives every case of an image.

    Raises:
        UsageError: No input is of a kind that the noise and one of the models are for.
    """
    conditions = {m: protocols.conditions(job.noise, job.levels, job.protocol, m) for m in MODALITIES}
    use_huge_pages()
    entrants = {m: _entrants(job, m, found) for m, found in conditions.items()}

    def reject_reason(modality: str) -> str | None:
        return None if entrants[modality] else f"is {modality}; the noise or the models are for other kinds"

    found = discover.find(job.inputs, recursive=job.recursive, reject_reason=reject_reason)
    if sheet:
        sheet.check({source.modality for source in found.sources})
    totals: dict[tuple[str, str, int], _Totals] = {}
    problems = list(found.problems)
    for source in found.sources:
        try:
            for clean in clean_signals(source):
                for index, condition in enumerate(conditions[clean.modality]):
                    case = make_case(clean, condition, job.seed)
                    if case is None:
                        continue
                    row = sheet.row(case, len(conditions[clean.modality])) if sheet else None
                    for name, denoise in entrants[clean.modality].items():
                        key = (clean.modality, name, index)
                        denoised, metrics = _measure(denoise, case, totals.setdefault(key, _Totals()))
                        if row:
                            row.add(name, denoised, metrics)
        except DenoiseError as error:
            problems.append(discover.Problem(source.path, with_path(str(error), source.path)))
    if not totals and not problems:
        raise UsageError(
            f"nothing to measure: no input is of a kind for {job.noise or job.protocol} "
            f"and {', '.join(job.models)}"
        )
    ceiling_db = protocols.find(job.protocol).ceiling_db if job.protocol else None
    rows = [
        _row(modality, model, conditions[modality][index], totals[modality, model, index], ceiling_db)
        for modality in MODALITIES
        for model in dict.fromkeys(job.models)
        for index in range(len(conditions[modality]))
        if (modality, model, index) in totals
    ]
    return BenchmarkResult(tuple(rows), tuple(problems), tuple(found.ignored))


def _entrants(job: BenchmarkJob, modality: str, conditions: Sequence[Condition]) -> dict[str, Denoise]:
    """Load the models for a modality; none if there are no conditions."""
    entrants: dict[str, Denoise] = {}
    for name in job.models if conditions else ():
        if is_non_blind(name):
            if modality == "image":
                entrants[name] = _non_blind(name, conditions)
        elif modality in catalogue.find(name).modalities:
            staged = modality == "sensor" and catalogue.find(name).kind == "learned"
            stages = (job.remove, job.keep) if staged else ((), ())
            cleaner = load(name, modality, job.precision, *stages)
            entrants[cleaner.name] = _blind(cleaner)
    return entrants


def _blind(cleaner: Cleaner) -> Denoise:
    # One run on noise, so that imports and allocations do not count for the first file.
    shape = (1, 64, 64) if cleaner.spec.ndim == 2 else (1, 4096)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    cleaner.apply(noise, peak=1.0, sample_rate=cleaner.spec.sample_rate or 16000.0)
    return lambda case: cleaner.apply(case.noisy, peak=case.clean.peak, sample_rate=case.clean.sample_rate)[0]


def _non_blind(name: str, conditions: Sequence[Condition]) -> Denoise:
    blurs = [Blurred.by(condition.noise, seed=0) for condition in conditions]  # refuses noise without a blur
    deconvolve(name, np.full((1, 64, 64), 0.5, np.float32), blurs[0])  # its imports are not a file's cost
    return lambda case: deconvolve(name, case.noisy, Blurred.by(case.condition.noise, case.seed))


def _measure(denoise: Denoise, case: Case, totals: _Totals) -> tuple[Array, Metrics]:
    started = time.perf_counter()
    denoised = denoise(case)
    totals.seconds += time.perf_counter() - started
    samples = int(np.prod(denoised.shape[1:]))
    totals.samples += samples
    totals.duration_s += samples / case.clean.sample_rate if case.clean.sample_rate else 0.0
    metrics = case.clean.score(denoised)
    totals.cases.append((case.clean.family, case.metrics, metrics))
    return denoised, metrics


def _row(
    modality: str, model: str, condition: Condition, totals: _Totals, ceiling_db: float | None
) -> BenchmarkRow:
    sensor = modality == "sensor"
    return BenchmarkRow(
        model,
        modality,
        str(condition),
        condition.level,
        len(totals.cases),
        _means([after for _, _, after in totals.cases]),
        _means([before for _, before, _ in totals.cases]),
        _cost(modality, totals),
        condition.group,
        _gains_db(totals, ceiling_db) if sensor and ceiling_db and condition.noise else {},
        _fidelity_db(totals) if sensor and not condition.noise else None,
    )


def _gains_db(totals: _Totals, ceiling_db: float) -> dict[str, tuple[float, ...]]:
    """Gains of the files in dB of SNR, by family; outputs better than `ceiling_db` count as that."""
    gains: dict[str, tuple[float, ...]] = {}
    for family, before, after in totals.cases:
        gain_db = _capped_snr_db(after, ceiling_db) - _capped_snr_db(before, ceiling_db)
        gains[family] = (*gains.get(family, ()), gain_db)
    return gains


def _fidelity_db(totals: _Totals) -> float | None:
    families: dict[str, list[float]] = {}
    for family, _, after in totals.cases:
        families.setdefault(family, []).append(_capped_snr_db(after, _UNCHANGED_DB))
    return finite_mean(finite_mean(values) for values in families.values())


def _capped_snr_db(found: Metrics, ceiling_db: float) -> float:
    snr_db = found["snr_db"]
    return ceiling_db if snr_db is None else min(snr_db, ceiling_db)


def _means(tables: list[Metrics]) -> Metrics:
    return {name: finite_mean(found[name] for found in tables) for name in tables[0]}


def _cost(modality: str, totals: _Totals) -> dict[str, float]:
    if modality == "image":
        return {"s_per_mpx": totals.seconds / totals.samples * 1e6}
    cost = {"real_time_factor": totals.seconds / totals.duration_s} if totals.duration_s else {}
    return cost if modality == "audio" else {**cost, "s_per_msample": totals.seconds / totals.samples * 1e6}
