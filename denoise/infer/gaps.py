"""Gaps in signals: pauses of the clock become gaps, and short gaps are filled.

A gap is filled by least squares under autoregressive models, from both sides at once (Janssen, Veldhuis and
Vries, 1986): the values that make the prediction error of the whole stretch smallest. Models of several
orders answer, and each counts as much as it does well on gaps of that length which are cut, for the purpose,
out of what is known around it (Bates and Granger, 1969).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise.errors import UsageError
from denoise.infer.stream import SampleQueue, Stream
from denoise.io.sensor_clock import Clock
from denoise.signal import LONGEST_FILL

__all__ = ["GapFiller", "Timeline", "check_fill", "filled"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Model = Floats  # the prediction error filter (1, -a1, ..., -ap)

_HOP = 2048  # samples that share their models, which are fitted to them and as many to either side
_ORDERS = (16, 32, 64, 256)
_TRIALS = 32  # gaps that are cut to weigh the models
_RIDGE = 1e-9  # of the mean power: smooth signals are predicted so well that rounding would decide
_LONGEST_PAUSE = 8  # samples that a pause is given at most: a longer bridge looks like a signal without noise


def check_fill(fill_gaps: int) -> None:
    """Refuse a longest gap that cannot be filled.

    Raises:
        UsageError: It is not from 0 to `LONGEST_FILL` samples.
    """
    if not 0 <= fill_gaps <= LONGEST_FILL:
        raise UsageError(f"fill_gaps is {fill_gaps}; expected 0 (none) to {LONGEST_FILL} samples")


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
        missing = clock.missing(joined)[self._stamps.size :]
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
        models = _models(row)
        weights: dict[int, Floats] = {}
        level = float(np.nanmean(row))
        for start, stop in gaps:
            size = stop - start
            if size not in weights:
                weights[size] = _weights(row - level, models, size)
            following = np.flatnonzero(np.isnan(row[stop:]))
            room = min(start, int(following[0]) if following.size else row.size - stop)
            answers = [_interpolated(row - level, start, stop, _shortened(row, m, room)) for m in models]
            row[start:stop] = level + weights[size] @ np.array(answers)
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


def _models(row: Floats) -> list[Model]:
    """Prediction error filters of the known samples, by least squares forwards and backwards."""
    level = float(np.nanmean(row))
    known = [row[start:stop] - level for start, stop in _runs(~np.isnan(row))]
    longest = max(run.size for run in known)
    return [_fitted(known, min(order, max(1, longest // 3))) for order in _ORDERS]


def _fitted(known: Sequence[Floats], order: int) -> Model:
    normal, right = np.zeros((order, order)), np.zeros(order)
    for run in known:
        if run.size <= order:
            continue
        frames = np.lib.stride_tricks.sliding_window_view(run, order + 1)
        for frame in (frames, frames[:, ::-1]):
            past = frame[:, order - 1 :: -1]
            normal += past.T @ past
            right += past.T @ frame[:, order]
    power = float(np.trace(normal)) / order
    if not power:
        return np.concatenate([[1.0], np.zeros(order)])
    return np.concatenate([[1.0], -np.linalg.solve(normal + _RIDGE * power * np.eye(order), right)])


def _shortened(row: Floats, model: Model, room: int) -> Model:
    """The model itself, or, where less is known beside the gap than it looks back, one of that order."""
    if model.size - 1 <= room:
        return model
    level = float(np.nanmean(row))
    return _fitted([row[start:stop] - level for start, stop in _runs(~np.isnan(row))], room)


def _interpolated(row: Floats, start: int, stop: int, model: Model) -> Floats:
    """What a model puts into a gap; there must be `model.size - 1` known samples on both sides."""
    from scipy.linalg import solve_toeplitz

    order, size = model.size - 1, stop - start
    around = row[start - order : stop + order].copy()
    around[order : order + size] = 0.0
    half = np.correlate(model, model, "full")[order:]
    pull = np.convolve(around, np.concatenate([half[:0:-1], half]))[2 * order : 2 * order + size]
    column = np.zeros(size)
    column[: half.size] = half[:size]
    column[0] *= 1.0 + _RIDGE
    answer: Floats = solve_toeplitz(column, -pull)
    return answer


def _weights(row: Floats, models: Sequence[Model], size: int) -> Floats:
    """How much each model's answer counts: by the inverse square of its mean square error on trials."""
    order = max(model.size for model in models) - 1
    span = size + 2 * order
    clear = np.concatenate([[0], np.cumsum(np.isnan(row))])
    places = np.flatnonzero(clear[span:] == clear[:-span]) if row.size >= span else np.empty(0, int)
    if not places.size:
        return np.full(len(models), 1.0 / len(models))
    places = places[np.unique(np.linspace(0, places.size - 1, _TRIALS).astype(int))] + order
    errors = np.array(
        [
            [np.mean((_interpolated(row, at, at + size, model) - row[at : at + size]) ** 2) for at in places]
            for model in models
        ]
    )
    # The mean of logarithms: a burst in a quiet signal has one vote among the others.
    votes = np.log(errors + np.finfo(float).tiny).mean(axis=1)
    rated = np.exp(-2.0 * (votes - votes.min()))
    weights: Floats = rated / rated.sum()
    return weights
