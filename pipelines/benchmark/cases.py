"""Benchmark cases: a clean signal, its corrupted copy, and the metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from denoise import io as files
from denoise import metrics
from denoise.arrays import Array
from denoise.corruptions import corrupt
from pipelines.batch.discover import Source
from pipelines.batch.jobs import seed_for
from pipelines.benchmark.protocols import Condition

Metrics = Mapping[str, float | None]

_DEFAULT_RATE_HZ = 1.0  # of a log without a clock: no mains hum fits in


@dataclass(frozen=True)
class CleanSignal:
    """Clean file in memory, without alpha; `peak` is full scale, None for sensors.

    `extra` names metrics to measure beside those of the modality.
    """

    array: Array
    modality: str
    sample_rate: float | None
    key: str
    peak: float | None
    extra: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Folder of the file."""
        return self.key.partition(":")[0].rpartition("/")[0]

    def score(self, estimate: Array) -> Metrics:
        given = {"peak": self.peak, "sample_rate": self.sample_rate}
        found = metrics.score(self.array, estimate, self.modality, **given)
        return found | {name: metrics.metric(name)(self.array, estimate, **given) for name in self.extra}


@dataclass(frozen=True)
class Case:
    """Clean signal under one condition, with the metrics of the models' input."""

    clean: CleanSignal
    condition: Condition
    seed: int
    noisy: Array
    metrics: Metrics
    source: Path | None = None  # file of a noisy image of a real pair, whose results are measured as written


def clean_signals(source: Source, extra: tuple[str, ...] = ()) -> Iterator[CleanSignal]:
    """Read a file, to be measured by `extra` metrics, too: images in 0..1, audio in -1..1.

    An NPZ whose arrays differ in length holds several recordings.
    """
    key = source.relative.as_posix()
    array, info = files.read(source.path)
    array = array[: array.shape[0] - info.passthrough_channels]
    peak = None
    if info.modality != "sensor":
        array, peak = (array / (info.peak or 1.0)).astype(np.float32), 1.0
    yield CleanSignal(array, info.modality, info.sample_rate, key, peak, extra)
    for page in range(1, info.pages if info.modality == "sensor" else 1):
        array, info = files.read(source.path, recording=page)
        yield CleanSignal(array, info.modality, info.sample_rate, f"{key}:{page}", None, extra)


def make_case(clean: CleanSignal, condition: Condition, seed: int) -> Case | None:
    """Corrupt a signal. The seed is the same under all conditions: levels differ in strength alone.

    None if the noise cannot occur in a sensor log: ten readings an hour hold no hum of 50 Hz.
    """
    seed = seed_for(seed, clean.key)
    noisy = clean.array
    if condition.noise:
        sample_rate = clean.sample_rate
        if sample_rate is None and clean.modality == "sensor":
            sample_rate = _DEFAULT_RATE_HZ
        noisy = corrupt(noisy, condition.noise, seed=seed, peak=clean.peak, sample_rate=sample_rate)
        if clean.modality == "sensor" and np.array_equal(noisy, clean.array, equal_nan=True):
            return None
    return Case(clean, condition, seed, noisy, clean.score(noisy))
