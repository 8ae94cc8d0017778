"""Probability of a score among normal ones: empirical, with an extreme-value fit for the tail."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from denoise.arrays import Doubles
from denoise.errors import UsageError
from denoise.registry import unknown

TAILS = ("pareto", "quantile")

_PEAKS = 0.1  # share of the scores that count as peaks
_MIN_PEAKS = 10  # for a fit, of twice as many scores


@dataclass(frozen=True)
class Tail:
    """Distribution of the scores of normal items.

    Below the peaks, p is the share of normal scores that are at least as large, the new one included: a
    normal item gets `p` or less with probability `p` at most (conformal, Vovk et al. 2005). Above, "pareto"
    fits the generalised Pareto distribution of excesses over a threshold (Pickands 1975) by
    probability-weighted moments (Hosking & Wallis 1987). Its shape is at least 0, so that no
    unseen score gets probability 0.
    """

    scores: tuple[float, ...]  # scores of held-out normal items, in ascending order
    kind: str = "pareto"  # one of `TAILS`; the minimum of "quantile" is 1 / (n + 1)

    @classmethod
    def of(cls, scores: ArrayLike, kind: str = "pareto") -> Tail:
        """Make the distribution of normal scores in any order.

        Raises:
            UsageError: The kind is unknown, or there are no finite scores.
        """
        values = np.sort(np.asarray(scores, np.float64).ravel())
        if kind not in TAILS:
            raise unknown("tail", kind, TAILS)
        if not values.size or not np.isfinite(values).all():
            raise UsageError("the normal items have no finite scores; expected at least one")
        return cls(tuple(values.tolist()), kind)

    @property
    def peaks(self) -> tuple[float, float, float] | None:
        """Threshold, scale and shape of the generalised Pareto distribution; None if there is none."""
        values = np.array(self.scores)
        count = max(round(_PEAKS * len(values)), _MIN_PEAKS)
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
        if shape <= 0:
            return threshold, mean, 0.0
        shape = min(shape, 0.5)
        return threshold, mean * (1 - shape), shape

    def p_values(self, scores: ArrayLike) -> Doubles:
        """Compute the probability that a normal item scores at least as high, element by element."""
        return np.exp(self.log_p_values(scores))

    def log_p_values(self, scores: ArrayLike) -> Doubles:
        """Compute the logarithms of `p_values`, which never underflow."""
        values, normal = np.asarray(scores, np.float64), np.array(self.scores)
        at_least = len(normal) - np.searchsorted(normal, values, side="left")
        log_p: Doubles = np.log((1.0 + at_least) / (len(normal) + 1.0))
        if (found := self.peaks) is None:
            return log_p
        threshold, scale, shape = found
        over = np.maximum(values - threshold, 0.0) / scale
        decay = -over if shape == 0 else -np.log1p(shape * over) / shape
        above = (1.0 + np.count_nonzero(normal > threshold)) / (len(normal) + 1.0)
        return np.where(values > threshold, math.log(above) + decay, log_p)

    def threshold(self, quantile: float) -> float:
        """Compute the score above which an item is an anomaly; infinite with too few normal scores."""
        rarity = 1.0 - quantile
        if (found := self.peaks) is not None:
            threshold, scale, shape = found
            above = (1.0 + sum(score > threshold for score in self.scores)) / (len(self.scores) + 1.0)
            if rarity < above:
                times = above / rarity
                return threshold + scale * float(np.log(times) if shape == 0 else (times**shape - 1) / shape)
        allowed = int(np.floor(rarity * (len(self.scores) + 1.0) + 1e-9)) - 1  # normal ones at least as high
        return self.scores[-1 - allowed] if allowed >= 0 else float("inf")


def harmonic_rarity(rarity: ArrayLike) -> Doubles:
    """Combine p-values by their harmonic mean (Wilson 2019), which is led by the smallest, also if dependent.

    Args:
        rarity: Negative natural logarithms of the p-values, combined along the first axis.
    """
    nats = np.asarray(rarity, np.float64)
    most = nats.max(axis=0)
    combined: Doubles = most + np.log(np.exp(nats - most).mean(axis=0))
    return combined


def combined_p_value(p_values: Doubles) -> float:
    """Combine p-values by their minimum (Šidák 1967).

    The result is exact for independent ones, and conservative for correlated ones.
    """
    least = min(float(p_values.min()), 1.0 - 1e-12)
    return -math.expm1(p_values.size * math.log1p(-least))
