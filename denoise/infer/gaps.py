"""Gaps in signals: pauses of the clock, and filling of short gaps.

A gap is filled from both sides by autoregressive models (`denoise.dsp.autoregressive`) of several orders:
small ones fitted nearby and large ones fitted around them. Their weights follow from their errors on gaps of
that length that are cut out of known samples nearby (Bates and Granger, 1969).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Array, Doubles, Mask
from denoise.dsp.autoregressive import RIDGE, interpolate
from denoise.errors import UsageError, counted
from denoise.infer.stages import SampleQueue
from denoise.io.sensor.clock import missing_samples
from denoise.signal import MAX_FILL_SAMPLES, Clock

_HOP = 2048  # samples that share large models, which are fitted to them and as many to either side
_LARGE = (64, 256)  # orders
_CELL = 256  # samples that share small models and the weights of all; they divide the hop
_SMALL = ((16, 512), (32, 512), (64, 1024))  # orders, and samples to either side that they are fitted to
_MAX_TRIALS = 48  # gaps that are cut to weigh the models
_MARGIN = 24  # samples that must be known to either side of such a gap
_TRIAL_RADIUS = 640  # samples to either side in which they are cut
_MAX_OVERSHOOT = 0.1  # beyond the known values near a gap, as a share of their range
_MAX_PAUSE = 8  # samples that a pause is given: a longer bridge looks like a signal without noise
_TINY = np.finfo(float).tiny


class _Model(NamedTuple):
    errors: Doubles  # the prediction error filter (1, -a1, ..., -ap)
    level: float  # of the signal where it was fitted
    overfit_factor: float  # expected error over that on the samples it was fitted to (Akaike 1969)


def check_fill_gaps(fill_gaps: int) -> None:
    """Check the length of the longest gap to fill.

    Raises:
        UsageError: It is not from 0 to `MAX_FILL_SAMPLES` samples.
    """
    if not 0 <= fill_gaps <= MAX_FILL_SAMPLES:
        raise UsageError(f"fill_gaps is {fill_gaps}; expected 0 (none) to {MAX_FILL_SAMPLES} samples")


class ClockPauses:
    """Inserts a gap where the clock pauses, and removes it from the output.

    So neighbours in the file that are far apart in time do not influence each other. Jitter is left alone:
    resampling to a regular grid and back loses more than a model loses by jitter (docs/formats.md).
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._in_file = SampleQueue(1)  # 1 for samples of the file, 0 for inserted ones
        self._stamps = np.empty(0)  # from the last known one on

    def insert(self, block: Array, stamps_s: Doubles | None) -> Array:
        """Return the next samples `(C, n)` with the missing ones as NaN; stamps in seconds."""
        if stamps_s is None:
            self._in_file.append(np.ones((1, block.shape[1]), np.float32))
            return block
        stamps = np.concatenate([self._stamps, stamps_s])
        missing = missing_samples(self._clock, stamps)[self._stamps.size :]
        known = np.flatnonzero(np.isfinite(stamps))
        self._stamps = stamps[known[-1] :] if known.size else stamps
        places = np.arange(block.shape[1]) + np.cumsum(np.minimum(missing, _MAX_PAUSE))
        size = int(places[-1]) + 1 if places.size else 0
        wide = np.full((block.shape[0], size), np.nan)
        wide[:, places] = block
        in_file = np.zeros((1, size), np.float32)
        in_file[:, places] = 1
        self._in_file.append(in_file)
        return wide

    def remove(self, cleaned: Array) -> Array:
        """Return the next output without the inserted samples."""
        return cleaned[:, self._in_file.take(cleaned.shape[1])[0] > 0]


class GapFiller:
    """Fills short gaps with known samples on both sides; the result does not depend on the blocks' sizes.

    A stage of float64. Output lags input by at most 6144 samples.
    """

    def __init__(self, channels: int, max_samples: int) -> None:
        check_fill_gaps(max_samples)
        self._max_samples = max_samples
        self._held = np.empty((channels, 0))
        self._at = 0  # start of the next hop in `_held`
        self._n_filled = self._n_kept = self._samples_filled = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence, if there were gaps."""
        if not self._n_filled + self._n_kept:
            return ()
        left = f"; {self._n_kept} longer or at an end stay" if self._n_kept else ""
        return (f"{counted(self._n_filled, 'gap')} filled, {counted(self._samples_filled, 'sample')}{left}",)

    def __call__(self, block: Array, last: bool, /) -> Array:
        self._held = np.concatenate([self._held, block], axis=1)
        done = [self._held[:, :0]]
        while self._held.shape[1] >= self._at + 2 * _HOP or (last and self._held.shape[1] > self._at):
            done.append(self._next_hop())
        return np.concatenate(done, axis=1)

    def _next_hop(self) -> Array:
        window = self._held[:, : self._at + 2 * _HOP]
        hop = slice(self._at, min(self._at + _HOP, window.shape[1]))
        for row in window:
            self._fill(row, hop)
        done = window[:, hop].copy()
        drop = hop.stop - min(hop.stop, _HOP)
        self._held, self._at = self._held[:, drop:].copy(), hop.stop - drop
        return done

    def _fill(self, row: Doubles, hop: slice) -> None:
        """Fill, in place, the gaps of a row that start in a hop."""
        if not np.isnan(row[hop]).any():
            return
        gaps = [(start, stop) for start, stop in _runs(np.isnan(row)) if hop.start <= start < hop.stop]
        self._n_kept += len(gaps)
        gaps = [(a, b) for a, b in gaps if b - a <= self._max_samples and a > 0 and b < row.size]
        self._n_kept -= len(gaps)
        large = [_fit(row, order) for order in _LARGE] if gaps else []
        for cell in sorted({start // _CELL for start, _ in gaps}):
            centre = cell * _CELL + _CELL // 2
            near = [(row[max(0, centre - n) : centre + n], order) for order, n in _SMALL]
            models = [_fit(x, p) for x, p in near if np.isfinite(x).sum() > 4 * p] + large
            max_order = max(model.errors.size for model in models) - 1
            trials: dict[int, _Trials] = {}
            for start, stop in gaps:
                if start // _CELL != cell:
                    continue
                size = stop - start
                if size not in trials:
                    trials[size] = _run_trials(row, models, size, centre)
                gone = np.flatnonzero(np.isnan(row))
                before, after = gone[gone < start], gone[gone >= stop]
                room = min(
                    start - (int(before[-1]) + 1 if before.size else 0),
                    (int(after[0]) if after.size else row.size) - stop,
                )
                # With fewer known samples beside the gap than a model's order, one of that order stands in.
                short = _fit(row, room) if max_order > room else models[0]
                fitting = [model if model.errors.size - 1 <= room else short for model in models]
                answers = [_interpolate(row, np.array([start]), size, model)[0] for model in fitting]
                answer = _weights(trials[size], _local_variation(row, start, size)) @ np.array(answers)
                # An event that begins at the edge of a gap makes models overshoot.
                around = row[max(0, start - _CELL) : stop + _CELL]
                low, high = np.nanmin(around), np.nanmax(around)
                margin = _MAX_OVERSHOOT * (high - low)
                row[start:stop] = np.clip(answer, low - margin, high + margin)
                self._n_filled, self._samples_filled = self._n_filled + 1, self._samples_filled + size


def _runs(mask: Mask) -> list[tuple[int, int]]:
    """Return start and stop of each run of True."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _fit(row: Doubles, order: int) -> _Model:
    """Fit a model to the known samples of a row, by least squares forwards and backwards."""
    level = float(np.nanmean(row))
    known = [row[start:stop] - level for start, stop in _runs(~np.isnan(row))]
    order = min(order, max(1, max((run.size for run in known), default=0) // 3))
    normal, right, frames = np.zeros((order, order)), np.zeros(order), 0
    for run in known:
        if run.size <= order:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(run, order + 1)
        frames += len(windows)
        for frame in (windows, windows[:, ::-1]):
            past = frame[:, order - 1 :: -1]
            normal += past.T @ past
            right += past.T @ frame[:, order]
    power = float(np.trace(normal)) / order
    if not power:
        return _Model(np.concatenate([[1.0], np.zeros(order)]), level, 1.0)
    weights = np.linalg.solve(normal + RIDGE * power * np.eye(order), right)
    return _Model(np.concatenate([[1.0], -weights]), level, (frames + order) / max(frames - order, 1))


def _interpolate(row: Doubles, starts: NDArray[np.int_], size: int, model: _Model) -> Doubles:
    """Return the values of gaps of one size, `(gaps, size)`; `order` samples on both sides must be known."""
    order = model.errors.size - 1
    pieces = row[starts[:, None] + np.arange(-order, size + order)] - model.level
    return model.level + interpolate(pieces, np.arange(order, order + size), model.errors, RIDGE)


class _Trials(NamedTuple):
    log_errors: Doubles  # log of the mean square error, (models, trials)
    variation: Doubles  # of the signal beside each trial


def _run_trials(row: Doubles, models: Sequence[_Model], size: int, centre: int) -> _Trials:
    """Measure models on gaps of a size that are cut around a place, as far as there is room."""
    margin = max(_MARGIN, *(model.errors.size - 1 for model in models))
    first, last = max(margin, centre - _TRIAL_RADIUS), min(row.size - size - margin, centre + _TRIAL_RADIUS)
    missing = np.isnan(row)
    count = np.concatenate([[0], np.cumsum(missing)])
    places = np.arange(first, max(first, last))
    # No sample may be missing near a trial; missing samples farther off are bridged by a line.
    places = places[count[places - _MARGIN] == count[places + size + _MARGIN]]
    if not places.size:
        return _Trials(np.zeros((len(models), 1)), np.ones(1))
    places = places[np.unique(np.linspace(0, places.size - 1, _MAX_TRIALS).astype(int))]
    bridged = row.copy()
    bridged[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(~missing), row[~missing])
    true = row[places[:, None] + np.arange(size)]
    errors = np.stack([np.mean((_interpolate(bridged, places, size, m) - true) ** 2, axis=1) for m in models])
    overfit = np.log([model.overfit_factor for model in models])
    variation = np.array([_local_variation(row, place, size) for place in places])
    return _Trials(np.log(errors + _TINY) + overfit[:, None], variation)


def _local_variation(row: Doubles, start: int, size: int) -> float:
    """Return the mean square difference between neighbouring known samples beside a gap."""
    stop = start + size
    steps = np.diff(np.r_[row[max(0, start - _MARGIN) : start], np.nan, row[stop : stop + _MARGIN]])
    steps = steps[np.isfinite(steps)]
    return float(np.mean(steps**2)) if steps.size else 0.0


def _weights(trials: _Trials, variation: float) -> Doubles:
    """Weigh models by the inverse square of their mean square error on trials.

    The mean is that of logarithms, so a burst does not outweigh the other trials. Trials count more if the
    signal varies there as much as beside the gap, because the best model at rest may not be so in a burst.
    """
    distance = (np.log(trials.variation + _TINY) - np.log(variation + _TINY)) / 2.0
    similarity = np.exp(-np.minimum(distance**2 / 2.0, 7.0))
    mean_errors = trials.log_errors @ similarity / similarity.sum()
    raw = np.exp(-2.0 * (mean_errors - mean_errors.min()))
    return raw / raw.sum()
