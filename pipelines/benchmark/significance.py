"""Uncertainty of a benchmark: bootstrap intervals over files, and paired tests between models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from denoise.arrays import Array
from pipelines.benchmark.run import BenchmarkRow

_RESAMPLES = 4999
_MIN_TESTED = 6  # files: with fewer, no rank test reaches 0.05


class Comparison(NamedTuple):
    """Mean gain of a model under one condition, and its difference to the first model."""

    model: str  # name of the model
    modality: str  # a name in `MODALITIES`
    noise: str  # spec of the noise
    files: int  # number of files; the noises drawn for one file are averaged first
    gain: float  # mean over the files of the gain in the headline metric
    interval: tuple[float, float] | None  # its bootstrap 95 % interval over the files; None of a single file
    against: str | None = None  # the first model; None of itself
    difference: float | None = None  # mean difference of the gains, file by file
    difference_interval: tuple[float, float] | None = None  # its bootstrap 95 % interval
    # wilcoxon's signed-rank test of the differences, two-sided, corrected by Holm for the models of the
    # condition; None of fewer than six files
    p_value: float | None = None


def comparisons(rows: Sequence[BenchmarkRow]) -> list[Comparison]:
    """Compare the models under each condition, with the first of them, over the files that both cleaned."""
    found = []
    for modality, noise in dict.fromkeys((row.modality, row.noise) for row in rows):
        ours = [row for row in rows if (row.modality, row.noise) == (modality, noise)]
        gains = [row.gains_by_file for row in ours]
        differences = [
            np.array([of[key] - gains[0][key] for key in of if key in gains[0]]) for of in gains[1:]
        ]
        tested = iter(
            [(None, None, None, None)]
            + [
                (ours[0].model, float(values.mean()), _interval(values), p_value)
                for values, p_value in zip(differences, _p_values(differences), strict=True)
            ]
        )
        for row, of in zip(ours, gains, strict=True):
            values = np.array(list(of.values()))
            mean = float(values.mean())
            found.append(
                Comparison(row.model, modality, noise, len(of), mean, _interval(values), *next(tested))
            )
    return found


def _interval(values: Array) -> tuple[float, float] | None:
    """Return the percentile interval (Efron, 1979) of the mean."""
    from scipy.stats import bootstrap

    if len(values) < 2:
        return None
    found = bootstrap(
        (values,), np.mean, n_resamples=_RESAMPLES, batch=500, method="percentile", rng=0
    ).confidence_interval
    return float(found.low), float(found.high)


def _p_values(differences: Sequence[Array]) -> list[float | None]:
    """Test the differences (Wilcoxon, 1945), and correct for their number (Holm, 1979)."""
    from scipy.stats import wilcoxon

    if not differences or min(map(len, differences)) < _MIN_TESTED:
        return [None] * len(differences)
    raw = np.array([float(wilcoxon(values).pvalue) if values.any() else 1.0 for values in differences])
    order = np.argsort(raw)
    steps = np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)).clip(max=1.0)
    corrected = np.empty_like(raw)
    corrected[order] = steps
    return [float(value) for value in corrected]
