"""Anomalies of a series as it comes: each row is judged by the rows before it alone."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from denoise import io
from denoise.analysis.thresholds import harmonic_rarity
from denoise.arrays import Doubles
from denoise.errors import InputError, UsageError
from denoise.io.sensor.base import SensorReader

DAY_S = 86_400.0
WARM_UP = 30  # distances, and again scores, without a verdict on the next
WINDOWS = (1, 8, 32)  # rows of the windows that are compared with earlier ones
SILENCE = 100  # rows after a score in which only a much higher one counts
_HIGHER_NATS = 1.0  # that is, one e times as rare
_MEMORY = 4096  # rows that are remembered
_NEAREST = 5  # earlier windows
_DAYS, _BESIDE, _NEAREST_DAYS = 10, 3, 3  # days, rows beside the same time of the day, and values of these
_MIN_ROWS, _SAME_TIME_S = 12, 3600.0  # rows of a day, and seconds between the same times of two days
_FORGOTTEN = 0.25  # share of the rows, from the first on, whose distances a young series forgets
_APART = 32  # rows between the largest distances: those of overlapping windows are one
_TOP, _FEW = 20, 5  # largest scores, to which the tail of a distribution is fitted, and fewest of them
_MAX_NATS = 100.0  # rarest p-value


class RowScore(NamedTuple):
    """Verdict on one row."""

    # -log10 of the harmonic mean of the p-values of all evidence; 0 in the silence after a score as high
    score: float
    # share of earlier rows with as much evidence, extrapolated beyond the largest; where a score counts, the
    # rows of an earlier event are one
    p_value: float


class OnlineDetector:
    """Detector of anomalies in a series of any length, in bounded time and memory per row.

    The windows of the last 1, 8 and 32 rows are compared with their five nearest among the earlier ones
    (Burnaev & Ishimtsev 2016), and the row with those at the same time of the last ten days. Each distance
    becomes a p-value by its own past, with an exponential tail of its logarithm (Hill 1975), fitted to the
    largest that lie apart, lest an event hides the next; their harmonic mean is the score: one kind of
    evidence is enough. The past is the last 4096 rows, so a slow drift becomes normal, and without the first
    quarter of a series, whose distances are large for want of neighbours. One event gives one high score:
    those that follow within 100 rows count only if they are e times as rare.

    >>> import numpy as np
    >>> from denoise.analysis.online import OnlineDetector
    >>> series = np.random.default_rng(0).normal(size=500)
    >>> series[400] = 12
    >>> scores = OnlineDetector().scores(series[:, None])
    >>> max(range(500), key=lambda row: scores[row].score)
    400

    Args:
        channels: Values per row; a row is as strange as the strangest.
    """

    def __init__(self, channels: int = 1) -> None:
        if channels < 1:
            raise UsageError(f"a series has {channels} channels; expected at least one")
        self._channels = [_Channel() for _ in range(channels)]
        self._total = _Past()
        self._recent: deque[tuple[int, float]] = deque()  # rising scores that still silence others
        self._row = 0

    def update(self, row: ArrayLike, time_s: float = math.nan) -> RowScore:
        """Judge the next row, and remember it; a row of gaps (NaN) alone has no evidence.

        Args:
            time_s: Time of the row in seconds from any start; a row without one is not compared with other
                days, nor are those of fewer than 12 rows a day.

        Raises:
            InputError: The row has another number of values.
        """
        values = np.atleast_1d(np.asarray(row, np.float64))
        if values.shape != (len(self._channels),):
            raise InputError(f"a row has shape {values.shape}; expected ({len(self._channels)},)")
        pairs = zip(self._channels, values.tolist(), strict=True)
        evidence = [channel.update(value, time_s) for channel, value in pairs if math.isfinite(value)]
        self._row += 1
        found = [nats for nats in evidence if nats is not None]
        if not found:
            return RowScore(0.0, 1.0)
        nats = max(found)
        score = self._unless_silent(nats)
        rarity = self._total.update(nats, SILENCE if score else 1) or 0.0  # an event is compared with events
        return RowScore(score / math.log(10), math.exp(-rarity))

    def scores(self, rows: ArrayLike, times_s: ArrayLike | None = None) -> list[RowScore]:
        """Judge rows `(n, channels)`, of times `(n,)`, one after another."""
        values = np.asarray(rows, np.float64)
        times = np.full(len(values), np.nan) if times_s is None else np.asarray(times_s, np.float64)
        return [self.update(row, time) for row, time in zip(values, times.tolist(), strict=True)]

    def _unless_silent(self, nats: float) -> float:
        recent = self._recent
        while recent and recent[0][0] < self._row - SILENCE:
            recent.popleft()
        if recent and nats <= recent[-1][1] + _HIGHER_NATS:
            return 0.0
        recent.append((self._row, nats))
        return nats


class _Channel:
    """Evidence of one series."""

    def __init__(self) -> None:
        self._pasts = [_Past(_FORGOTTEN) for _ in (*WINDOWS, "day")]
        self._values = np.zeros(0)
        self._times = np.zeros(0)  # never falling; a missing one is that of the row before

    def update(self, value: float, time_s: float) -> float | None:
        """Compute the rarity of the next value by all evidence, in nats; None without evidence so far."""
        kept = -_MEMORY - max(WINDOWS)
        latest = self._times[-1] if len(self._times) else -math.inf
        self._values = np.append(self._values[kept:], value)
        self._times = np.append(self._times[kept:], time_s if time_s > latest else latest)
        distances = [self._novelty(size) for size in WINDOWS]
        distances.append(self._off_season() if math.isfinite(time_s) else None)
        pairs = zip(self._pasts, distances, strict=True)
        rarities = [
            past.update(past.logarithm(distance), _APART) for past, distance in pairs if distance is not None
        ]
        nats = [rarity for rarity in rarities if rarity is not None]
        return float(harmonic_rarity(nats)) if nats else None

    def _novelty(self, size: int) -> float | None:
        """Mean distance of the last window to the nearest that end before it begins."""
        if len(self._values) < 2 * size + _NEAREST:
            return None
        earlier = sliding_window_view(self._values[:-size], size)
        off = earlier - self._values[-size:]
        squares = np.einsum("ij,ij->i", off, off)
        return float(np.sqrt(np.partition(squares, _NEAREST - 1)[:_NEAREST]).mean())

    def _off_season(self) -> float | None:
        """Mean difference to the nearest values at the same time of earlier days."""
        last = len(self._times) - 1
        then = self._times[last] - DAY_S * np.arange(1, _DAYS + 1)
        places = np.searchsorted(self._times, then)
        places -= then - self._times[places - 1] < self._times[places] - then  # the nearer of two
        if last - places[0] < _MIN_ROWS:
            return None
        places = places[(places >= _BESIDE) & (np.abs(self._times[places] - then) <= _SAME_TIME_S)]
        if len(places) < 2:
            return None
        beside = np.minimum(places[:, None] + np.arange(-_BESIDE, _BESIDE + 1), last - 1)
        off = np.abs(self._values[beside.ravel()] - self._values[last])
        return float(np.partition(off, _NEAREST_DAYS - 1)[:_NEAREST_DAYS].mean())


class _Past:
    """Distribution of the last scores of one kind.

    Args:
        forgotten: Share of all scores, from the first on, that are left out.
    """

    def __init__(self, forgotten: float = 0.0) -> None:
        self._forgotten = forgotten
        self._scores = np.zeros(0)
        self._sum, self._count = 0.0, 0

    def logarithm(self, distance: float) -> float:
        """Logarithm of a distance, above a thousandth of the mean so far; minus infinity of none."""
        self._sum += distance
        if not distance:
            return -math.inf
        return math.log(distance + 1e-3 * self._sum / (self._count + 1) + 1e-12)

    def update(self, score: float, apart: int) -> float | None:
        """Compute -ln p of a score among those before, and add it; None while they are too few.

        Args:
            apart: Distance in time from which on two of the largest scores count as two.
        """
        nats = self._nats(score, apart) if len(self._scores) >= WARM_UP else None
        self._count += 1
        kept = min(_MEMORY, max(WARM_UP, math.ceil((1 - self._forgotten) * self._count)))
        self._scores = np.append(self._scores, score)[-kept:]
        return nats

    def _nats(self, score: float, apart: int) -> float:
        count = len(self._scores)
        at_least = int(np.count_nonzero(self._scores >= score))
        by_rank = -math.log((at_least + 1) / (count + 1))
        top, apart = min(_TOP, count // 5), max(1, min(apart, count // 100))
        if at_least > 2 * apart * top:  # more than lie around so many of the largest
            return by_rank
        largest = _peaks(self._scores, top, apart)
        if largest and score <= largest[-1]:
            return by_rank
        threshold = largest[-1] if largest else -math.inf
        mean = sum(largest) / len(largest) - threshold if len(largest) >= _FEW else 0.0
        if mean <= 0:  # flags and constants have no tail: by its logarithm the first of all is twice as rare
            return by_rank if at_least else 2 * by_rank
        # predictive: the mean of few is uncertain
        over = len(largest) * math.log1p((score - threshold) / mean / len(largest))
        return min(over - math.log((len(largest) + 1) / (count + 1)), _MAX_NATS)


def _peaks(scores: Doubles, count: int, apart: int) -> list[float]:
    """Return the largest scores, in descending order, of which no two are closer than `apart` in time."""
    left, found = scores.copy(), list[float]()
    while len(found) < count and (largest := float(left[at := int(left.argmax())])) > -math.inf:
        found.append(largest)
        left[max(at - apart + 1, 0) : at + apart] = -math.inf
    return found


def times_of(log: io.Reader) -> Iterator[Doubles]:
    """Yield the times of each block in seconds, NaN where there are none; no time depends on later rows."""
    assert isinstance(log, SensorReader)
    rate, clock, first, days, latest = log.info.sample_rate, log.info.clock, 0, 0.0, -math.inf
    if clock is None:
        for block in log:
            yield (first + np.arange(block.shape[1])) / rate if rate else np.full(block.shape[1], np.nan)
            first += block.shape[1]
        return
    for stamps in log.stamps():
        times = stamps.copy()
        for index, stamp in enumerate(stamps.tolist()):
            if clock.wraps and stamp + days < latest - DAY_S / 2:
                days += DAY_S
            times[index] = stamp + days
            latest = times[index] if math.isfinite(stamp) else latest
        yield times
