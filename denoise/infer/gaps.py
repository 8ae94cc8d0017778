"""Gaps in signals: pauses of the clock become gaps, and short gaps are filled.

A gap is filled by least squares under autoregressive models, from both sides at once (Janssen, Veldhuis and
Vries, 1986): the values that make the prediction error of the whole stretch smallest. Models of several
orders answer, small ones of what is near and large ones of what is around, and each counts as much as it does
well on gaps of that length which are cut, for the purpose, out of what is known nearby (Bates and Granger,
1969).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from denoise.errors import UsageError
from denoise.infer.stages import SampleQueue
from denoise.infer.stream import Stream
from denoise.io.sensor.clock import missing_samples
from denoise.signal import MAX_FILL_SAMPLES, Clock

__all__ = ["GapFiller", "Timeline", "check_fill", "filled"]

Array = NDArray[Any]
Floats = NDArray[np.float64]

_HOP = 2048  # samples that share their large models, which are fitted to them and as many to either side
_LARGE = (64, 256)  # orders
_CELL = 256  # samples that share their small models and how much each counts; they divide the hop
_SMALL = ((16, 512), (32, 512), (64, 1024))  # orders, and samples to either side that they are fitted to
_TRIALS = 48  # gaps that are cut to weigh the models
_CLEAR = 24  # samples that must be known to either side of such a gap
_NEAR = 640  # samples to either side in which they are cut
_BEYOND = 0.1  # of the range of what is known near a gap, by which what fills it may leave it
_RIDGE = 1e-9  # of the mean power: smooth signals are predicted so well that rounding would decide
_LONGEST_PAUSE = 8  # samples that a pause is given at most: a longer bridge looks like a signal without noise


class _Model(NamedTuple):
    errors: Floats  # the prediction error filter (1, -a1, ..., -ap)
    level: float  # of the signal where it was fitted
    doubt: float  # by what factor its error is larger than on what it was fitted to (Akaike 1969)


def check_fill(fill_gaps: int) -> None:
    """Refuse a longest gap that cannot be filled.

    Raises:
        UsageError: It is not from 0 to `MAX_FILL_SAMPLES` samples.
    """
    if not 0 <= fill_gaps <= MAX_FILL_SAMPLES:
        raise UsageError(f"fill_gaps is {fill_gaps}; expected 0 (none) to {MAX_FILL_SAMPLES} samples")


class Timeline:
    """A stream for samples whose clock may pause, and whose short gaps may be filled.

    Where the clock pauses, the samples that are missing are put in as a gap, so that neighbours in the file
    that are none in time do not touch; they are taken out again at the end. Jitter is left alone: samples
    that are resampled to a regular grid and back lose more than a model loses by it (docs/formats.md).

    Args:
        stream: What cleans.
        channels: Number of channels.
        clock: Of the samples, if there is one.
        fill_gaps: Samples of the longest gap that is filled.
    """

    def __init__(self, stream: Stream, channels: int, clock: Clock | None = None, fill_gaps: int = 0) -> None:
        self._stream, self._clock = stream, clock
        self._filler = GapFiller(channels, fill_gaps) if fill_gaps else None
        self._real = SampleQueue(1)  # which samples of the stream are in the file
        self._stamps = np.empty(0)  # from the last that is known

    def feed(self, block: Array, stamps_s: Floats | None = None) -> Array:
        """Take the next samples `(C, n)` and their stamps, in seconds; give what is finished."""
        if self._clock and stamps_s is not None:
            block = self._with_pauses(self._clock, block, stamps_s)
        else:
            self._real.append(np.ones((1, block.shape[1]), np.float32))
        return self._out(self._stream.feed(self._filler.feed(block) if self._filler else block))

    def flush(self) -> Array:
        """The rest."""
        done = [self._stream.feed(self._filler.flush())] if self._filler else []
        return self._out(np.concatenate([*done, self._stream.flush()], axis=1))

    @property
    def notes(self) -> tuple[str, ...]:
        """What became of the gaps, where they were to be filled."""
        return self._filler.notes if self._filler else ()

    def _with_pauses(self, clock: Clock, block: Array, stamps_s: Floats) -> Array:
        joined = np.concatenate([self._stamps, stamps_s])
        missing = missing_samples(clock, joined)[self._stamps.size :]
        known = np.flatnonzero(np.isfinite(joined))
        self._stamps = joined[known[-1] :] if known.size else joined
        places = np.arange(block.shape[1]) + np.cumsum(np.minimum(missing, _LONGEST_PAUSE))
        size = int(places[-1]) + 1 if places.size else 0
        wide = np.full((block.shape[0], size), np.nan)
        wide[:, places] = block
        real = np.zeros((1, size), np.float32)
        real[:, places] = 1
        self._real.append(real)
        return wide

    def _out(self, cleaned: Array) -> Array:
        return cleaned[:, self._real.take(cleaned.shape[1])[0] > 0]


class GapFiller:
    """Fills gaps that are short, in blocks of any size; what comes out does not depend on the blocks' sizes.

    A gap is filled if it has known samples on both sides. Output lags input by 6144 samples at most.

    Args:
        channels: Number of channels.
        longest: Samples of the longest gap that is filled.
    """

    def __init__(self, channels: int, longest: int) -> None:
        check_fill(longest)
        self._longest = longest
        self._held = np.empty((channels, 0))
        self._at = 0  # in `held`: of the hop that is next
        self.filled = self.kept = 0  # gaps
        self.samples = 0  # that were filled

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence, if there were gaps."""
        if not self.filled + self.kept:
            return ()
        left = f"; {self.kept} longer or at an end stay" if self.kept else ""
        return (f"{self.filled} gaps filled, {self.samples} samples{left}",)

    def feed(self, block: Array) -> Array:
        """Take the next samples `(C, n)`, NaN being gaps; give what is finished, as float64."""
        self._held = np.concatenate([self._held, block], axis=1)
        done = []
        while self._held.shape[1] >= self._at + 2 * _HOP:
            done.append(self._next_hop())
        return np.concatenate(done, axis=1) if done else self._held[:, :0]

    def flush(self) -> Array:
        """The rest, once the signal has ended."""
        done = [self._held[:, :0]]
        while self._held.shape[1] > self._at:
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

    def _fill(self, row: Floats, hop: slice) -> None:
        """Fill, in place, the gaps of a row that start in a hop."""
        if not np.isnan(row[hop]).any():
            return
        gaps = [(start, stop) for start, stop in _runs(np.isnan(row)) if hop.start <= start < hop.stop]
        self.kept += len(gaps)
        gaps = [(a, b) for a, b in gaps if b - a <= self._longest and a > 0 and b < row.size]
        if not gaps:
            return
        large = [_model(row, order) for order in _LARGE]
        for cell in sorted({start // _CELL for start, _ in gaps}):
            centre = cell * _CELL + _CELL // 2
            near = [(row[max(0, centre - n) : centre + n], order) for order, n in _SMALL]
            models = [_model(x, p) for x, p in near if np.isfinite(x).sum() > 4 * p] + large
            trials: dict[int, _Trials] = {}
            for start, stop in gaps:
                if start // _CELL != cell:
                    continue
                size = stop - start
                if size not in trials:
                    trials[size] = _trials(row, models, size, centre)
                gone = np.flatnonzero(np.isnan(row))
                before, after = gone[gone < start], gone[gone >= stop]
                room = min(
                    start - (int(before[-1]) + 1 if before.size else 0),
                    (int(after[0]) if after.size else row.size) - stop,
                )
                # Where less is known beside the gap than a model looks back, one of that order answers.
                short = _model(row, room) if max(m.errors.size for m in models) - 1 > room else models[0]
                answers = [
                    _interpolated(row, [start], size, m if m.errors.size - 1 <= room else short)[0]
                    for m in models
                ]
                answer = _weights(trials[size], _unrest(row, start, size)) @ np.array(answers)
                # Where something begins at the edge of a gap, models go far beyond all that was ever seen.
                seen = row[max(0, start - _CELL) : stop + _CELL]
                low, high = np.nanmin(seen), np.nanmax(seen)
                more = _BEYOND * (high - low)
                row[start:stop] = np.clip(answer, low - more, high + more)
                self.filled, self.samples = self.filled + 1, self.samples + size
        self.kept -= len(gaps)


def filled(signal: Array, longest: int) -> Array:
    """A whole signal `(C, n)` with its short gaps filled, as float64."""
    filler = GapFiller(len(signal), longest)
    return np.concatenate([filler.feed(signal), filler.flush()], axis=1)


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and stop of each run of True."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _model(row: Floats, order: int) -> _Model:
    """Of the known samples of a row, by least squares forwards and backwards."""
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
    weights = np.linalg.solve(normal + _RIDGE * power * np.eye(order), right)
    return _Model(np.concatenate([[1.0], -weights]), level, (frames + order) / max(frames - order, 1))


def _interpolated(row: Floats, starts: Sequence[int] | NDArray[np.int_], size: int, model: _Model) -> Floats:
    """What a model puts into gaps of one size; as many samples as it looks back must be known on both sides.

    Shape:
        `(gaps, size)`.
    """
    from scipy.linalg import solve_toeplitz

    order = model.errors.size - 1
    half = np.append(np.correlate(model.errors, model.errors, "full")[order:], 0.0)
    beside = np.r_[-order:0, size : size + order]
    pulls = half[np.minimum(np.abs(beside[:, None] - np.arange(size)), order + 1)]  # (2 * order, size)
    known = row[np.asarray(starts)[:, None] + beside] - model.level
    column = np.zeros(size)
    column[: half.size] = half[:size]
    column[0] *= 1.0 + _RIDGE
    answers: Floats = model.level + solve_toeplitz(column, -(known @ pulls).T).T
    return answers


class _Trials(NamedTuple):
    errors: Floats  # log of the mean square error, (models, trials)
    unrest: Floats  # of the signal beside each trial


def _trials(row: Floats, models: Sequence[_Model], size: int, centre: int) -> _Trials:
    """How well models do on gaps of a size that are cut around a place, as far as there is room."""
    margin = max(_CLEAR, *(model.errors.size - 1 for model in models))
    first, last = max(margin, centre - _NEAR), min(row.size - size - margin, centre + _NEAR)
    clear = np.concatenate([[0], np.cumsum(np.isnan(row))])
    places = np.arange(first, max(first, last))
    # What is missing near a trial would spoil it; what is missing farther off, a line stands in for.
    places = places[clear[places - _CLEAR] == clear[places + size + _CLEAR]]
    if not places.size:
        return _Trials(np.zeros((len(models), 1)), np.ones(1))
    places = places[np.unique(np.linspace(0, places.size - 1, _TRIALS).astype(int))]
    missing = np.isnan(row)
    bridged = row.copy()
    bridged[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(~missing), row[~missing])
    true = row[places[:, None] + np.arange(size)]
    errors = np.stack(
        [np.mean((_interpolated(bridged, places, size, m) - true) ** 2, axis=1) for m in models]
    )
    doubt = np.log([model.doubt for model in models])
    unrest = np.array([_unrest(row, place, size) for place in places])
    return _Trials(np.log(errors + np.finfo(float).tiny) + doubt[:, None], unrest)


def _unrest(row: Floats, start: int, size: int) -> float:
    """By how much the known samples beside a place differ from their neighbours."""
    beside = np.r_[row[max(0, start - _CLEAR) : start], np.nan, row[start + size : start + size + _CLEAR]]
    steps = np.diff(beside)
    steps = steps[np.isfinite(steps)]
    return float(np.mean(steps**2)) if steps.size else 0.0


def _weights(trials: _Trials, unrest: float) -> Floats:
    """How much each model's answer counts: by the inverse square of its mean square error on trials.

    The mean is that of logarithms, so that a burst has one vote among the others; and trials count that lie
    in as much unrest as the gap does, since who is best at rest need not be so in a burst.
    """
    tiny = np.finfo(float).tiny
    apart = (np.log(trials.unrest + tiny) - np.log(unrest + tiny)) / 2.0
    like = np.exp(-np.minimum(apart**2 / 2.0, 7.0))
    votes = trials.errors @ like / like.sum()
    rated = np.exp(-2.0 * (votes - votes.min()))
    weights: Floats = rated / rated.sum()
    return weights
