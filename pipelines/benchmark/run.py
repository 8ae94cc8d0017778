"""Compare models on the same files and noise: quality and cost."""

from __future__ import annotations

import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from denoise import io as files
from denoise.arrays import Array
from denoise.errors import DenoiseError, UsageError
from denoise.infer import catalogue
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.file import clean_file
from denoise.infer.selection import Selection
from denoise.metrics import finite_mean, metric
from denoise.models.table import DEFAULT_MODELS
from denoise.signal import MODALITIES
from pipelines.batch import discover
from pipelines.batch.allocation import tune_allocation
from pipelines.batch.worker import with_path
from pipelines.benchmark import protocols
from pipelines.benchmark.cases import Case, CleanSignal, Metrics, clean_signals, make_case
from pipelines.benchmark.deconvolution import Blurred, deconvolve, is_non_blind
from pipelines.benchmark.job import BenchmarkJob
from pipelines.benchmark.pairs import find_pairs, pair_cases
from pipelines.benchmark.peers import installed
from pipelines.benchmark.protocols import REAL, Condition

if TYPE_CHECKING:
    from pipelines.benchmark.contact_sheet import ContactSheet

WORSE_DB = 0.1  # of the headline metric: a real file that loses more counts as worse than its input
_UNCHANGED_DB = 60.0  # outputs better than this count as unchanged
_EIGHT_BIT = 255.0
_PERFECT_DB = 100.0  # a file counts at most this much


class FileCase(NamedTuple):
    """One file: what a model did to it."""

    key: str  # name of the file, or common name of the pair
    family: str  # folder of the file
    seed: int  # seed of its noise
    before: float  # headline metric of the input; a perfect file counts as 100 dB
    after: float  # the same of the output
    metrics: Metrics  # of the output
    noisy_metrics: Metrics  # of the input
    model: str  # the model that was used; of `auto`, the one it selected
    strength: float  # share of its correction that was applied
    reason: str  # reason of the selection
    dropped: tuple[str, ...]  # models that were tried before, and whose results were rejected
    noise_sigma: float | None  # standard deviation of the noise of an image in 8-bit units, by its pair
    estimated_sigma: float | None  # the same as `auto` estimated it; None for other models

    @property
    def gain(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class BenchmarkRow:
    """One model under one condition: means over the files, before and after it, and its cost."""

    model: str
    modality: str  # a name in `MODALITIES`
    noise: str  # spec of the noise, level included; `none` is the clean file
    level: float | None  # level of the sweep; None if the spec was taken as it is
    files: int  # number of files in the means
    metrics: Metrics  # metrics of the model's output
    noisy_metrics: Metrics  # metrics of its input
    # `s_per_mpx` (seconds per megapixel) or `real_time_factor` (seconds per second of signal), and for
    # sensors `s_per_msample` (seconds per million samples)
    cost: Mapping[str, float]
    group: str = ""  # the spec whose levels were swept
    # for sensors under a protocol: each family's gains in dB of SNR, one per file. A family is a folder
    families: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    # for clean sensor logs: SNR of the output, mean over the families; each file counts at most 60 dB, as an
    # unchanged one does
    fidelity: float | None = None
    cases: tuple[FileCase, ...] = ()  # the files one by one, once for each of their noises

    def as_dict(self) -> dict[str, Any]:
        """Return the row of `--json`."""
        return {**vars(self), "cases": [{**case._asdict(), "gain": case.gain} for case in self.cases]}

    @property
    def gains_by_file(self) -> dict[str, float]:
        """Gain in the headline metric of each file, mean over its noises."""
        gains: dict[str, list[float]] = {}
        for case in self.cases:
            gains.setdefault(case.key, []).append(case.gain)
        return {key: float(np.mean(found)) for key, found in gains.items()}

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
class RealRow(BenchmarkRow):
    """One model over real pairs: what it did to each file."""

    median_gain: float = 0.0  # median over the files of the gain in the headline metric
    worst_gain: float = 0.0  # minimum over the files
    worst_file: str = ""  # the file of that gain
    worse_share: float = 0.0  # share of the files that lost more than `WORSE_DB`
    # number of files by the model that was used; of `auto`, by the one it selected
    decisions: Mapping[str, int] = field(default_factory=dict)
    # number of files by the models that were tried, and whose results were rejected
    dropped: Mapping[str, int] = field(default_factory=dict)
    # mean absolute error of the estimated noise level of images in 8-bit units; None without estimates
    sigma_error: float | None = None

    @property
    def headline(self) -> float | None:
        """Mean over the files."""
        return finite_mean(case.after for case in self.cases)

    @property
    def noisy_headline(self) -> float | None:
        """Mean over the files."""
        return finite_mean(case.before for case in self.cases)


@dataclass(frozen=True)
class BenchmarkResult:
    """All rows, the files that failed, and those that were ignored."""

    rows: tuple[BenchmarkRow, ...] | tuple[RealRow, ...]
    problems: tuple[discover.Problem, ...]
    ignored: tuple[discover.Problem, ...]


@dataclass
class _Totals:
    """Results of one model over the files so far."""

    cases: list[FileCase] = field(default_factory=list)
    seconds: float = 0.0
    samples: int = 0  # pixels of an image, samples of a channel
    duration_s: float = 0.0  # 0 without a sample rate


Denoise = Callable[[Case], tuple[Array, Selection]]


def benchmark(job: BenchmarkJob, sheet: ContactSheet | None = None) -> BenchmarkResult:
    """Corrupt each input deterministically, run every model over it, and measure; or measure real pairs.

    Models are blind: no level is given, except to the deconvolutions of `NON_BLIND`. Nothing is clipped or
    rounded in between, as in published tables; the images of real pairs are measured as `clean` writes them.
    An image of several pages counts with its first.

    Raises:
        UsageError: No input is of a kind that the noise and one of the models are for.
    """
    for name in job.metrics:
        metric(name)
    conditions = {m: protocols.conditions(job.noise, job.levels, job.protocol, m) for m in MODALITIES}
    names = {m: _names(job, m) if found else [] for m, found in conditions.items()}

    def reject_reason(modality: str) -> str | None:
        return None if names[modality] else f"is {modality}; the noise or the models are for other kinds"

    found = discover.find(job.inputs, recursive=job.recursive, reject_reason=reject_reason)
    present = {source.modality for source in found.sources}
    if sheet:
        sheet.check(present)
    tune_allocation()
    entrants = {m: _entrants(job, m, names[m], conditions[m]) for m in MODALITIES if m in present}
    totals: dict[tuple[str, str, int], _Totals] = defaultdict(_Totals)
    problems = list(found.problems)
    for path, cases in _files(job, found.sources, conditions, problems):
        try:
            for index, case in cases:
                modality = case.clean.modality
                row = sheet.row(case, len(conditions[modality])) if sheet else None
                for name, denoise in entrants[modality].items():
                    key = (modality, name, index)
                    denoised, metrics = _measure(denoise, case, totals[key])
                    if row:
                        row.add(name, denoised, metrics)
        except DenoiseError as error:
            problems.append(discover.Problem(path, with_path(str(error), path)))
    if not totals and not problems:
        raise UsageError(
            f"nothing to measure: no input is of a kind for {job.noise or job.protocol} "
            f"and {', '.join(job.models) or 'the default models'}"
        )
    protocol = protocols.find(job.protocol) if job.protocol else None
    ceiling_db = protocol.ceiling_db if protocol else None
    rows = [
        _row(modality, model, conditions[modality][index], totals[modality, model, index], ceiling_db)
        for modality, models in entrants.items()
        for model in models
        for index in range(len(conditions[modality]))
        if totals[modality, model, index].cases
    ]
    return BenchmarkResult(tuple(rows), tuple(problems), tuple(found.ignored))


_Cases = Iterable[tuple[int, Case]]  # a case with the place of its condition


def _files(
    job: BenchmarkJob,
    sources: Sequence[discover.Source],
    conditions: Mapping[str, Sequence[Condition]],
    problems: list[discover.Problem],
) -> Iterator[tuple[Path, _Cases]]:
    """Yield each file, or pair of files, with its cases, which are read on iteration."""
    if job.protocol == REAL:
        pairs, unpaired = find_pairs(sources)
        problems += unpaired
        for pair in pairs:
            yield pair.noisy.path, ((0, case) for case in pair_cases(pair, job.metrics))
        return
    for source in sources:
        signals = clean_signals(source, job.metrics)
        yield source.path, _corrupted(signals, conditions, range(job.seed, job.seed + job.seeds))


def _corrupted(
    signals: Iterable[CleanSignal], conditions: Mapping[str, Sequence[Condition]], seeds: Iterable[int]
) -> _Cases:
    for clean in signals:
        for index, condition in enumerate(conditions[clean.modality]):
            for seed in seeds:
                if case := make_case(clean, condition, seed):
                    yield index, case


def _names(job: BenchmarkJob, modality: str) -> list[str]:
    """Names of the models for a modality."""
    names = dict.fromkeys(job.models or (DEFAULT_MODELS[modality],))
    return [
        name
        for name in names
        if (modality == "image" if is_non_blind(name) else modality in catalogue.find(name).modalities)
    ]


def _entrants(
    job: BenchmarkJob, modality: str, names: Iterable[str], conditions: Sequence[Condition]
) -> dict[str, Denoise]:
    """Load the models for a modality."""
    entrants: dict[str, Denoise] = {}
    for name in names:
        if is_non_blind(name):
            entrants[name] = _non_blind(name, conditions)
        else:
            network = catalogue.find(name).kind != "classical"
            stages = (job.remove, job.keep) if network and modality == "sensor" else ((), ())
            ensemble = job.ensemble if network and modality == "image" else None
            cleaner = load(name, modality, job.precision, *stages, ensemble)
            entrants[cleaner.name] = _blind(cleaner)
    return {**entrants, **(installed(modality) if job.peers else {})}


def _blind(cleaner: Cleaner) -> Denoise:
    # One run on noise, so that imports and allocations do not count for the first file.
    shape = (1, 64, 64) if cleaner.spec.ndim == 2 else (1, 4096)
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    cleaner.apply(noise, peak=1.0, sample_rate=cleaner.spec.sample_rate or 16000.0)

    def denoise(case: Case) -> tuple[Array, Selection]:
        if case.source:
            return _written(case.source, cleaner)
        return cleaner.apply(case.noisy, peak=case.clean.peak, sample_rate=case.clean.sample_rate)

    return denoise


def _written(source: Path, cleaner: Cleaner) -> tuple[Array, Selection]:
    """Clean an image file, and read what was written, the loss of encoding included."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / source.name
        report = clean_file(source, target, cleaner)
        array, info = files.read(target)
    return array[: array.shape[0] - info.passthrough_channels], report.selections[0]


def _non_blind(name: str, conditions: Sequence[Condition]) -> Denoise:
    blurs = [Blurred.by(condition.noise, seed=0) for condition in conditions]  # refuses noise without a blur
    deconvolve(name, np.full((1, 64, 64), 0.5, np.float32), blurs[0])  # its imports are not a file's cost

    def denoise(case: Case) -> tuple[Array, Selection]:
        return deconvolve(name, case.noisy, Blurred.by(case.condition.noise, case.seed)), Selection(name)

    return denoise


def _measure(denoise: Denoise, case: Case, totals: _Totals) -> tuple[Array, Metrics]:
    started = time.perf_counter()
    denoised, selection = denoise(case)
    totals.seconds += time.perf_counter() - started
    samples = int(np.prod(denoised.shape[1:]))
    totals.samples += samples
    totals.duration_s += samples / case.clean.sample_rate if case.clean.sample_rate else 0.0
    metrics = case.clean.score(denoised)
    name = MODALITIES[case.clean.modality].headline
    before_db = _bounded_db(case.metrics[name])
    found = FileCase(
        case.clean.key,
        case.clean.family,
        case.seed,
        before_db,
        _bounded_db(metrics[name]),
        metrics,
        case.metrics,
        selection.model,
        selection.strength,
        selection.reason,
        selection.dropped,
        _EIGHT_BIT * 10 ** (-before_db / 20) if case.clean.modality == "image" else None,
        selection.figures.get("estimated_sigma"),
    )
    totals.cases.append(found)
    return denoised, metrics


def _row(
    modality: str, model: str, condition: Condition, totals: _Totals, ceiling_db: float | None
) -> BenchmarkRow:
    sensor = modality == "sensor"
    row = BenchmarkRow(
        model,
        modality,
        str(condition),
        condition.level,
        len({case.key for case in totals.cases}),
        _means([case.metrics for case in totals.cases]),
        _means([case.noisy_metrics for case in totals.cases]),
        _cost(modality, totals),
        condition.group,
        _gains_db(totals, ceiling_db) if sensor and ceiling_db and condition.noise else {},
        _fidelity_db(totals) if sensor and not condition.noise else None,
        tuple(totals.cases),
    )
    return _real_row(row) if condition.group == REAL else row


def _real_row(row: BenchmarkRow) -> RealRow:
    cases = row.cases
    errors = [
        abs(case.estimated_sigma - case.noise_sigma)
        for case in cases
        if case.estimated_sigma is not None and case.noise_sigma is not None
    ]
    worst = min(cases, key=lambda case: case.gain)
    dropped = Counter(model for case in cases for model in dict.fromkeys(case.dropped))
    return RealRow(
        **vars(row),
        median_gain=float(np.median([case.gain for case in cases])),
        worst_gain=worst.gain,
        worst_file=worst.key,
        worse_share=float(np.mean([case.gain < -WORSE_DB for case in cases])),
        decisions=dict(Counter(case.model for case in cases).most_common()),
        dropped=dict(dropped.most_common()),
        sigma_error=float(np.mean(errors)) if errors else None,
    )


def _bounded_db(value: float | None) -> float:
    """Limit a metric in dB: a perfect file has an infinite one."""
    return _PERFECT_DB if value is None else float(np.clip(value, -_PERFECT_DB, _PERFECT_DB))


def _gains_db(totals: _Totals, ceiling_db: float) -> dict[str, tuple[float, ...]]:
    """Gains of the files in dB of SNR, by family; outputs better than `ceiling_db` count as that."""
    gains: dict[str, tuple[float, ...]] = {}
    for case in totals.cases:
        gain_db = _capped_snr_db(case.metrics, ceiling_db) - _capped_snr_db(case.noisy_metrics, ceiling_db)
        gains[case.family] = (*gains.get(case.family, ()), gain_db)
    return gains


def _fidelity_db(totals: _Totals) -> float | None:
    families: dict[str, list[float]] = {}
    for case in totals.cases:
        families.setdefault(case.family, []).append(_capped_snr_db(case.metrics, _UNCHANGED_DB))
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
