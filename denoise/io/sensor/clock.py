"""Measure the stamps of a log: interval, jitter, pauses, and missing samples.

The interval is the slope of the stamps over their numbers, by least squares over the runs between pauses:
rounded stamps (360 Hz in whole milliseconds: 3, 3, 2, ...) and stamps that come in bursts do not bend it. A
step that is too long, or back in time, ends a run, so neither a pause nor a wrong stamp biases the slope.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Array, Doubles, Mask
from denoise.signal import Clock

_DAY_S = 86400.0
_PIECE = 1 << 16  # stamps that are measured together
_PAUSE_RATIO = 1.5  # to the 90th percentile of the steps; a lost sample doubles a step
_MIN_INTERVAL, _MAX_INTERVAL = 1e-15, 1e15  # in any unit


def missing_samples(clock: Clock, stamps_s: Doubles, before_s: float = np.nan) -> NDArray[np.int64]:
    """Count the samples missing before each sample: those that the pause before it would have held.

    A missing stamp is NaN; `before_s` is the last stamp before these.
    """
    known = np.flatnonzero(np.isfinite(stamps_s))
    if not known.size:
        return np.zeros(stamps_s.size, np.int64)
    counts = np.diff(known, prepend=-1)
    steps = np.diff(stamps_s[known], prepend=before_s)
    steps = np.nan_to_num(unwrapped(steps) if clock.wraps else steps)
    samples = np.rint(steps * clock.sample_rate - counts)
    out = np.zeros(stamps_s.size, np.int64)
    out[known] = np.where(steps > clock.max_step_s * counts, np.maximum(samples, 0), 0)
    return out


def unwrapped(steps: Doubles) -> Doubles:
    """Add a day to each step between times of day that goes back half a day or more: midnight."""
    return np.where(steps < -_DAY_S / 2, steps + _DAY_S, steps)


class StampSurvey:
    """Measures a column of stamps, in constant memory; times of day in seconds wrap."""

    def __init__(self, wraps: bool = False) -> None:
        self.pauses = 0
        self.max_step = 0.0  # pauses aside
        self._wraps = wraps
        self._held: list[Doubles] = []
        self._size = 0
        self._sxx = self._sxy = 0.0  # of numbers and stamps, within runs
        self._count = 0  # steps within runs, their mean and squares about it
        self._mean = self._squares = 0.0

    def add(self, values: Doubles) -> None:
        """Add the next stamps; NaN is a missing one."""
        self._held.append(values)
        self._size += values.size
        if self._size >= _PIECE:
            self._flush()

    @property
    def interval(self) -> float:
        """Time between two stamps, in the column's unit; 0 if there is none."""
        self._flush()
        interval = self._sxy / self._sxx if self._sxx > 0 else 0.0
        return interval if _MIN_INTERVAL < interval < _MAX_INTERVAL else 0.0

    @property
    def jitter(self) -> float:
        """Standard deviation of the steps, in the column's unit."""
        return float(np.sqrt(self._squares / self._count)) if self._count else 0.0

    def _flush(self) -> None:
        values = np.concatenate(self._held) if self._held else np.empty(0)
        numbers = np.flatnonzero(np.isfinite(values))
        if numbers.size < 2:
            return
        stamps, counts = values[numbers], np.diff(numbers)
        self._held, self._size = [values[numbers[-1] :]], values.size - int(numbers[-1])
        with np.errstate(over="ignore", invalid="ignore"):  # not a clock: see the limits of an interval
            steps = np.diff(stamps)
            steps = (unwrapped(steps) if self._wraps else steps) / counts
            limit = _PAUSE_RATIO * float(np.quantile(steps, 0.9))
            if not 0 < limit < _MAX_INTERVAL:
                return
            inner = (steps >= 0) & (steps <= limit)
            self.pauses += int((steps > limit).sum())
            self._add_runs(steps, counts, inner)
            self._add_steps(steps[inner])

    def _add_runs(self, steps: Doubles, counts: Array, inner: Mask) -> None:
        starts = np.concatenate([[0], np.flatnonzero(~inner) + 1])
        x = np.concatenate([[0.0], np.cumsum(counts)])
        y = np.concatenate([[0.0], np.cumsum(np.where(inner, steps * counts, 0.0))])
        sizes = np.diff(starts, append=x.size)
        x -= np.repeat(np.add.reduceat(x, starts) / sizes, sizes)
        y -= np.repeat(np.add.reduceat(y, starts) / sizes, sizes)
        self._sxx += float(x @ x)
        self._sxy += float(x @ y)

    def _add_steps(self, steps: Doubles) -> None:
        count = self._count + steps.size
        mean = float(steps.mean())
        shift = mean - self._mean
        self._squares += float(((steps - mean) ** 2).sum()) + shift**2 * self._count * steps.size / count
        self._mean += shift * steps.size / count
        self._count = count
        self.max_step = max(self.max_step, float(steps.max()))
