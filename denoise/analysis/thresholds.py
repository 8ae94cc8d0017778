"""How unlikely a score is among normal ones: their quantiles, and beyond the largest an extreme-value fit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise.errors import UsageError
from denoise.registry import unknown

__all__ = ["TAILS", "Tail", "least_of"]

TAILS = ("pareto", "quantile")

_PEAKS = 0.1  # the share of the scores that are peaks, but at least
_FEWEST_PEAKS = 10  # so many, as fewer say little, and at most half of the scores


@dataclass(frozen=True)
class Tail:
    """The scores of normal items, and what follows from them for others.

    Below the peaks it is the share of normal scores that are at least as large, the new one counted in: a
    score as normal as they are gets `p` or less at most `p` of the time (conformal, Vovk et al. 2005). From
    there on, with "pareto", it is the generalised Pareto distribution of the excesses over a threshold, to
    which the tail of almost any distribution tends (Pickands 1975), by probability-weighted moments
    (Hosking & Wallis 1987). Its shape is never below 0: a tail that ends would be sure of what it has not
    seen.

    Args:
        scores: Of normal items that nothing was fitted on, in ascending order.
        kind: One of `TAILS`; "quantile" never gives less than one in as many as there are scores, and one.
    """

    scores: tuple[float, ...]
    kind: str = "pareto"

    @classmethod
    def of(cls, scores: ArrayLike, kind: str = "pareto") -> Tail:
        """The tail of normal scores in any order.

        Raises:
            UsageError: No such kind, or no scores.
        """
        values = np.sort(np.asarray(scores, np.float64).ravel())
        if kind not in TAILS:
            raise unknown("tail", kind, TAILS)
        if not values.size or not np.isfinite(values).all():
            raise UsageError("there are no finite scores of normal items; expected some to compare with")
        return cls(tuple(values.tolist()), kind)

    @property
    def peaks(self) -> tuple[float, float, float] | None:
        """Threshold, scale and shape of the generalised Pareto distribution; None where it is not used."""
        values = np.array(self.scores)
        count = max(round(_PEAKS * len(values)), _FEWEST_PEAKS)
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

    def p_values(self, scores: ArrayLike) -> NDArray[np.float64]:
        """How often a normal item would score at least as high, in 0..1, of the same shape."""
        values, normal = np.asarray(scores, np.float64), np.array(self.scores)
        at_least = len(normal) - np.searchsorted(normal, values, side="left")
        p = ((1.0 + at_least) / (len(normal) + 1.0)).astype(np.float64)
        if (found := self.peaks) is None:
            return p
        threshold, scale, shape = found
        over = np.maximum(values - threshold, 0.0) / scale
        decay = np.exp(-over) if shape == 0 else (1.0 + shape * over) ** (-1.0 / shape)
        above = (1.0 + np.count_nonzero(normal > threshold)) / (len(normal) + 1.0)
        return np.where(values > threshold, above * decay, p)

    def threshold(self, quantile: float) -> float:
        """The score above which an item is taken for an anomaly; infinite where none can be told.

        Args:
            quantile: The share of normal items below it, in 0..1.
        """
        rarity = 1.0 - quantile
        if (found := self.peaks) is not None:
            threshold, scale, shape = found
            above = (1.0 + sum(score > threshold for score in self.scores)) / (len(self.scores) + 1.0)
            if rarity < above:
                times = above / rarity
                return threshold + scale * float(np.log(times) if shape == 0 else (times**shape - 1) / shape)
        allowed = int(np.floor(rarity * (len(self.scores) + 1.0) + 1e-9)) - 1  # normal ones at least as high
        return self.scores[-1 - allowed] if allowed >= 0 else float("inf")


def least_of(p_values: NDArray[np.float64]) -> float:
    """How often the least of so many probabilities is as small as here (Šidák 1967).

    It is exact where they are independent, and too large, which is the safe side, where they are alike.
    """
    least = min(float(p_values.min()), 1.0 - 1e-12)
    return -math.expm1(p_values.size * math.log1p(-least))
