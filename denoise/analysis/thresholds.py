"""Probability of a score among normal ones: empirical, with an extreme-value fit for the tail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from denoise.arrays import Doubles
from denoise.errors import UsageError
from denoise.registry import unknown

TAILS = ("pareto", "quantile")

_PEAKS, _PEAKS_OF_UNITS = 0.1, 0.2  # share of the scores that count as peaks; of scores in few units
_MIN_PEAKS = 10  # for a fit, of twice as many scores
_FOLDS = 10  # of units, each left out
_SAME = 0.01  # between scores of equal items: one counts itself among the normal ones, the other does not
_TIED = 0.002  # share of normal scores that are the same, from which items of few values are assumed


@dataclass(frozen=True)
class Tail:
    """Distribution of the scores of normal items.

    Below the peaks, p is the share of normal scores that are at least as large, the new one included: a
    normal item gets `p` or less with probability `p` at most (conformal, Vovk et al. 2005). Above, "pareto"
    fits the generalised Pareto distribution of excesses over a threshold (Pickands 1975) by
    probability-weighted moments (Hosking & Wallis 1987). Its shape is at least 0, so that no
    unseen score gets probability 0.

    Items of few values have few scores. A new one that equals many normal ones is as rare as these, whatever
    a fit says.

    Scores of the same unit, such as tiles of a picture, are alike, so they say less than their number.
    Then the shape is at least the inverse of the number of units: the predictive distribution of an
    exponential whose mean is known from so many. "quantile" counts units, and the new one among them.
    """

    scores: tuple[float, ...]  # scores of held-out normal items, in ascending order
    kind: str = "pareto"  # one of `TAILS`; the minimum of "quantile" is 1 / (n + 1)
    units: int = 0  # number of independent units that the scores come from; 0: each is one

    @classmethod
    def of(cls, scores: ArrayLike, kind: str = "pareto", units: int = 0) -> Tail:
        """Make the distribution of normal scores in any order.

        Raises:
            UsageError: The kind is unknown, or there are no finite scores.
        """
        values = np.sort(np.asarray(scores, np.float64).ravel())
        if kind not in TAILS:
            raise unknown("tail", kind, TAILS)
        if not values.size or not np.isfinite(values).all():
            raise UsageError("the normal items have no finite scores; expected at least one")
        return cls(tuple(values.tolist()), kind, units)

    @property
    def peaks(self) -> tuple[float, float, float] | None:
        """Threshold, scale and shape of the generalised Pareto distribution; None if there is none."""
        values = np.array(self.scores)
        share = _PEAKS_OF_UNITS if self.units else _PEAKS
        count = max(round(share * len(values)), _MIN_PEAKS)
        if self.kind != "pareto" or 2 * count > len(values):
            return None
        threshold = float(values[-1 - count])
        excess = values[-count:] - threshold
        if not excess[-1] > 0:
            return None
        mean = float(excess.mean())
        ranks = (np.arange(len(excess)) + 0.65) / len(excess)
        weighted = float((excess * (1 - ranks)).mean())
        shape = 2 - mean / (mean - 2 * weighted) if mean > 2 * weighted else 0.0
        shape = min(max(shape, 1 / self.units if self.units else 0.0), 0.5)
        return threshold, mean * (1 - shape), shape

    def p_values(self, scores: ArrayLike) -> Doubles:
        """Compute the probability that a normal item scores at least as high, element by element."""
        return np.exp(self.log_p_values(scores))

    def log_p_values(self, scores: ArrayLike) -> Doubles:
        """Compute the logarithms of `p_values`, which never underflow."""
        values, normal = np.asarray(scores, np.float64), np.array(self.scores)
        at_least = len(normal) - np.searchsorted(normal, values - _SAME)
        count = self._count
        log_p: Doubles = np.log((1.0 + at_least * count / len(normal)) / (count + 1.0))
        if (found := self.peaks) is None:
            return log_p
        threshold, scale, shape = found
        over = np.maximum(values - threshold, 0.0) / scale
        decay = -over if shape == 0 else -np.log1p(shape * over) / shape
        above = (1.0 + np.count_nonzero(normal > threshold)) / (len(normal) + 1.0)
        fitted = np.where(values > threshold, math.log(above) + decay, log_p)
        ties, shares = self._ties(normal)
        following = np.searchsorted(ties, values - _SAME)  # p is no less than that of the next ones
        return np.maximum(fitted, np.append(np.log(shares), -np.inf)[following])

    def threshold(self, quantile: float) -> float:
        """Compute the score above which an item is an anomaly; infinite with too few normal scores."""
        rarity, normal = 1.0 - quantile, np.array(self.scores)
        if (found := self.peaks) is not None:
            threshold, scale, shape = found
            above = (1.0 + np.count_nonzero(normal > threshold)) / (len(normal) + 1.0)
            if rarity < above:
                times = above / rarity
                excess = math.log(times) if shape == 0 else (times**shape - 1) / shape
                ties, shares = self._ties(normal)
                return max([threshold + scale * excess, *(ties[shares >= rarity][-1:] + _SAME)])
        allowed = (rarity * (self._count + 1.0) - 1.0) / self._count  # share of normal ones at least as high
        at_least = math.floor(allowed * len(normal) + 1e-9)
        return self.scores[-1 - at_least] + _SAME if at_least >= 0 else math.inf

    def _ties(self, normal: Doubles) -> tuple[Doubles, Doubles]:
        """Scores that many normal items have, in ascending order, and the share of items at least as high."""
        first, end = np.searchsorted(normal, normal - _SAME), np.searchsorted(normal, normal + _SAME)
        ties = normal[end - first > max(1.0, _TIED * len(normal))]
        at_least = 1 + len(normal) - np.searchsorted(normal, ties).astype(np.float64)
        return ties, at_least / (len(normal) + 1.0)

    @property
    def _count(self) -> int:
        """Number of independent scores."""
        return self.units if self.units and self.kind == "quantile" else len(self.scores)


def combined_score(tails: Sequence[Tail], logs: ArrayLike) -> Doubles:
    """Combine the log scores of each kind of evidence `(kinds, n)` by their tails: -log10 of a p-value."""
    pairs = zip(tails, np.asarray(logs), strict=True)
    return harmonic_rarity([-tail.log_p_values(line) for tail, line in pairs]) / math.log(10)


@dataclass(frozen=True)
class UnitScores:
    """Scores of normal items by the other units, and what they say of new units."""

    tail: Tail  # their distribution
    nats: float  # mean of -ln of `combined_p_value` over the units, at least 1 as of independent items
    alarms: int  # items above a threshold from the other units

    @classmethod
    def of(cls, logs: ArrayLike, units: ArrayLike, kind: str, quantile: float) -> UnitScores:
        """Score each tenth of the units (each unit of few) by the tails of the others.

        Args:
            logs: Log scores `(kinds, n)` of normal items.
            units: Number of the unit of each item, of at least two.
            kind: One of `TAILS`.
            quantile: Share of normal items that should pass.
        """
        lines = np.asarray(logs)
        names, unit = np.unique(np.asarray(units), return_inverse=True)
        if len(names) < 2:
            raise UsageError("the normal items are of one unit; expected at least two")
        fold = unit % _FOLDS
        scores = np.empty(lines.shape[1], np.float32)  # as in a card
        for left_out in range(min(_FOLDS, len(names))):
            mine = fold == left_out
            tails = [Tail.of(line[~mine]) for line in lines]
            scores[mine] = combined_score(tails, lines[:, mine])
        tail = Tail.of(scores, kind, len(names))
        p_values = tail.p_values(scores)
        rarities = [-math.log(combined_p_value(p_values[unit == index])) for index in range(len(names))]
        alarms = 0
        for left_out in range(min(_FOLDS, len(names))):
            mine = fold == left_out
            others = Tail.of(scores[~mine], kind, len(np.unique(unit[~mine])))
            alarms += int(np.count_nonzero(scores[mine] > others.threshold(quantile)))
        return cls(tail, max(1.0, float(np.mean(rarities))), alarms)


def harmonic_rarity(rarity: ArrayLike) -> Doubles:
    """Combine p-values by their harmonic mean (Wilson 2019), which is led by the smallest, also if dependent.

    Args:
        rarity: Negative natural logarithms of the p-values, combined along the first axis.
    """
    nats = np.asarray(rarity, np.float64)
    most = nats.max(axis=0)
    combined: Doubles = most + np.log(np.exp(nats - most).mean(axis=0))
    return combined


def combined_p_value(p_values: Doubles, units: int = 0, nats: float = 1.0) -> float:
    """Combine the p-values of the items of a unit by their minimum (Šidák 1967).

    The result is exact for independent ones, and conservative for correlated ones.

    Args:
        units: Number of normal units that `nats` is the mean of; 0 if none differs from others.
        nats: Mean of -ln of the result over normal units, of which the result is then the predictive
            distribution (exponential, of a mean that so many units tell).
    """
    least = min(float(p_values.min()), 1.0 - 1e-12)
    p_value = -math.expm1(p_values.size * math.log1p(-least))
    if not units or p_value <= 0:
        return p_value
    return float((1 - math.log(p_value) / (units * nats)) ** -units)
