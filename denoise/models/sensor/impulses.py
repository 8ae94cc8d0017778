"""Stage that removes single outliers of sensor signals, and what tells faults from events.

It is a function of one channel with a standard deviation of about one. Its output depends on `halo` samples
to each side, so blocks with that many neighbours, put together, equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles, Mask
from denoise.models.sensor.nearby import GRID, between, nearby, quantile_nearby

REPEATS = 0.9  # share of readings that repeat the one before, above which a log is silent or switches
_ALIKE = 0.02  # variation of their heights for each after the first, up to three, below which they are pulses
_REACH = 8  # samples to each side of an outlier whose mean tells whether it comes with a movement
# Standard errors of that mean and of the activity there, together and of the latter, from which it does: of
# outliers that the rules find, mostly amid calm, and of those that a network finds.
MOVED_SURELY, MOVED = (5.5, 2.25), (2.9, 0.5)
_LEAST_MOVED = 4  # outliers nearby


@dataclass(frozen=True)
class Impulses:
    """Removes single outliers, by the cubic through their four neighbours.

    An outlier is far from that cubic, relative to its surroundings on both sides, and its neighbours are
    close to theirs once it is replaced: neither a step nor a peak of several samples is one, nor a swing in a
    burst. Faults go both ways and events one way, so where all outliers nearby lie to one side, as tips of a
    rain gauge, pulses and peaks of traffic do, they stay. The foot of a wider peak, beside which it stays
    rough, is no evidence of another side. The second round finds a smaller outlier beside a larger one. In
    the company of many, lower outliers are faults too, and some that chance puts side by side. Pulses of a
    log that is silent besides, or of equal heights, are signal (`pulses`).
    """

    far: float = 6.0  # times the 90th percentile of nearby distances
    burst: float = 4.0  # times the median distance of `side` samples, on either side
    side: int = 12
    quiet: float = 0.5  # largest distance of its neighbours after replacement, relative to its own
    clear: float = 0.3  # the same, of an outlier that tells of a side
    one_sided: bool = False  # True removes those to one side, too
    minority: float = 0.1  # least share of the lesser side, in heights to the power of `weight`
    weight: float = 0.5
    least: int = 1  # least number to the lesser side
    rounds: int = 2
    ripple: int = 8  # samples to each side whose ripples are compared
    rough: float = 0.1  # their least size, relative to the outlier
    alike: float = 0.2  # their mean correlation with those around others, above which outliers are signal
    company: int = 8  # outliers nearby that make a fault of a lower one, and of two or three together
    lowest: float = 0.7  # height of an outlier without company, in deviations of the log
    low: float = 3.0  # `far` in company
    calm: float = 0.2  # largest distance beside two or three together, after replacement, relative to theirs
    halo: int = 4 * (8 * GRID + 32) + GRID

    def __call__(self, samples: Doubles) -> Doubles:
        if samples.size < 16:
            return samples
        given, found = samples, np.zeros(samples.size, bool)
        for _ in range(self.rounds):
            at, cubic = self._outliers(samples, self.far)
            if not at.size:
                break
            found[at] = True
            samples = replaced(samples, at, cubic)
        in_company = nearby(found) >= self.company
        if not self.one_sided:
            samples = np.where((np.abs(given - samples) < self.lowest) & ~in_company, given, samples)
        if in_company.any():
            at, cubic = self._outliers(samples, self.low)
            at = at[in_company[at]]
            samples = replaced(samples, at, cubic)
            samples = self._without_clusters(samples, in_company)
        if self.one_sided:
            return samples
        return np.where(pulses(given, given - samples, MOVED_SURELY), given, samples)

    def _outliers(self, samples: Doubles, far: float) -> tuple[NDArray[np.int_], Doubles]:
        """Return the places of outliers, and the cubic through the neighbours of each sample."""
        cubic = between(samples)
        distance = np.abs(samples - cubic)
        most = far * np.maximum(quantile_nearby(distance, 0.9), quantile_nearby(distance, 0.25, zeros=False))
        # Beside an outlier the cubics are off by two thirds of it; beside a step by as much as at it.
        alone = distance > 1.25 * np.maximum(np.roll(distance, 1), np.roll(distance, -1))
        at = np.flatnonzero((distance > most) & (most > 0.0) & alone)
        at = at[distance[at] > self.burst * self._beside(distance, at)]
        if not at.size:
            return at, cubic
        around = _rest(replaced(samples, at, cubic), at, 2)
        quiet = around < np.minimum(self.quiet * distance[at], most[at])
        at, around = at[quiet], around[quiet]
        odd = ~self._repeated(samples, at, cubic)
        at, around = at[odd], around[odd]
        if not self.one_sided:
            heights = np.zeros_like(samples)
            clear = at[around < self.clear * distance[at]]
            heights[clear] = np.sign(samples[clear] - cubic[clear]) * distance[clear] ** self.weight
            at = at[two_sided(heights, self.minority, self.least)[at]]
        return at, cubic

    def _repeated(self, samples: Doubles, at: NDArray[np.int_], cubic: Doubles) -> Mask:
        """Mark outliers amid the same ripples as others nearby: heartbeats at a low rate, not faults."""
        repeated = np.zeros(at.size, bool)
        mended = replaced(samples, at, cubic)
        ripples = np.pad(mended - between(mended), self.ripple)
        up = samples[at] > cubic[at]
        for side in (up, ~up):
            places = at[side]
            around = ripples[places[:, None] + np.arange(2 * self.ripple + 1)]
            size = np.linalg.norm(around, axis=1, keepdims=True)
            height = np.abs(samples[places] - cubic[places])[:, None]
            around = np.where(size > self.rough * height, around / np.maximum(size, 1e-30), 0.0)
            sums = np.zeros((-(-samples.size // GRID) + 9, around.shape[1] + 1))
            np.add.at(sums, places // GRID + 5, np.pad(around, ((0, 0), (0, 1)), constant_values=1.0))
            sums = np.cumsum(sums, axis=0)
            near = sums[places // GRID + 9] - sums[places // GRID]
            others = near[:, -1] - 1.0
            alike = (np.sum(near[:, :-1] * around, axis=1) - 1.0) / np.maximum(others, 1.0)
            chance = 0.7 / np.sqrt(np.maximum(others, 1.0))
            repeated[side] = alike > np.maximum(self.alike, chance)
        beats, found = np.zeros(samples.size, bool), np.zeros(samples.size, bool)
        beats[at[repeated]] = found[at] = True
        return repeated | (2.0 * nearby(beats) > nearby(found))[at]

    def _without_clusters(self, samples: Doubles, in_company: Mask) -> Doubles:
        """Replace two or three outliers side by side by a line between their neighbours."""
        from scipy.ndimage import maximum_filter1d, median_filter

        distance = np.abs(samples - median_filter(samples, 7))
        most = np.maximum(self.far * quantile_nearby(distance, 0.9), 0.1 * maximum_filter1d(distance, 7))
        mask = (distance > most) & (most > 0.0) & in_company
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]])))
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            mask[start:stop] &= stop - start <= 3
        at = np.flatnonzero(mask)
        if not at.size:
            return samples
        line = np.interp(np.arange(samples.size), np.flatnonzero(~mask), samples[~mask])
        around = _rest(replaced(samples, at, line), at, self.side)
        return replaced(samples, at[around < self.calm * np.abs(samples - line)[at]], line)

    def _beside(self, distance: Doubles, at: NDArray[np.int_]) -> Doubles:
        """Return the median distance of the samples just before or just after each, the larger one."""
        sides = [at[:, None] + way * np.arange(3, 3 + self.side) for way in (-1, 1)]
        usual = [np.median(distance[np.clip(side, 0, distance.size - 1)], axis=1) for side in sides]
        larger: Doubles = np.maximum(*usual)
        return larger


def _rest(samples: Doubles, at: NDArray[np.int_], radius: int) -> Doubles:
    """Return the largest distance from its cubic, of the samples within a radius of each place."""
    distance = np.abs(samples - between(samples))
    near = at[:, None] + np.arange(-radius, radius + 1)
    largest: Doubles = distance[np.clip(near, 0, samples.size - 1)].max(1)
    return largest


def replaced(samples: Doubles, at: NDArray[np.int_], values: Doubles) -> Doubles:
    """Return a copy with the values at some places."""
    out = samples.copy()
    out[at] = values[at]
    return out


def two_sided(heights: Doubles, minority: float, least: int) -> Mask:
    """Tell where outliers lie to both sides of a log.

    Args:
        heights: Signed height of each outlier at its place, 0 elsewhere, `(n,)`.
        minority: Least share of the lesser side in the sum of the heights nearby.
        least: Least number of outliers to it.
    """
    sides = np.maximum(heights, 0.0), np.maximum(-heights, 0.0)
    above, below = (nearby(side) for side in sides)
    some = [nearby(side > 0.0) >= least for side in sides]
    both: Mask = (np.minimum(above, below) > minority * (above + below)) & some[0] & some[1]
    return both


def pulses(samples: Doubles, removed: Doubles, moved: tuple[float, float] = MOVED) -> Mask:
    """Tell where outliers are the signal: pulses of a current, ticks of a counter, the tail of rough noise.

    Beside those nearly all readings repeat the one before, or they have one height, or they come with a
    movement (`_moved`).

    Args:
        samples: Log of unit variance, `(n,)`.
        removed: Height of each outlier at its place, 0 elsewhere, `(n,)`.
        moved: Evidence that they come with a movement from which they do.
    """
    if not removed.any():
        return np.zeros(samples.size, bool)
    size = np.abs(removed)
    kept = size == 0.0
    equal = kept[1:] & kept[:-1]
    same = np.concatenate([[False], equal & (np.diff(samples) == 0.0)])
    signal: Mask = nearby(same) > REPEATS * nearby(np.concatenate([[False], equal]))
    for sign in (1.0, -1.0, 0.0):  # ups, downs, all
        side = removed * sign > 0.0 if sign else size > 0.0
        count, total = nearby(side), nearby(side * size)
        spread = nearby(side * size**2) * count / np.maximum(total, 1e-30) ** 2 - 1.0
        alike = (count > 1) & (spread < (_ALIKE * np.minimum(count - 1.0, 3.0)) ** 2)
        signal |= alike & (side | (sign == 0.0))
    return signal | _moved(samples - removed, removed, moved)


def _moved(samples: Doubles, removed: Doubles, least: tuple[float, float]) -> Mask:
    """Tell where outliers come with a movement, as heel strikes do at the end of a swing.

    Faults come at any time, so what is around them is, on average, like what is elsewhere. The average
    around events (Gerstein & Kiang, "An approach to the quantitative analysis of electrophysiological data
    from single neurons", 1960), weighted by height, and the activity beside them tell of movements.

    Args:
        samples: Log without the outliers, `(n,)`.
        removed: Height of each outlier at its place, 0 elsewhere, `(n,)`.
        least: Standard errors of both together, and of the activity.
    """
    moved = np.zeros(samples.size, bool)
    at = np.flatnonzero(removed)
    frames = at // GRID
    count = nearby(np.ones(samples.size))
    frequent = nearby(removed != 0.0) >= _LEAST_MOVED
    if not frequent[at].any():
        return moved
    steps = np.abs(np.diff(samples, append=samples[-1:]))
    activity = np.log(np.convolve(steps, np.full(_REACH - 1, 1.0 / (_REACH - 1)))[3 : 3 + steps.size] + 1e-6)
    offsets = np.concatenate([np.arange(-_REACH, -1), np.arange(2, _REACH + 1)])
    beside = np.array([-_REACH // 2 - 1, _REACH // 2 + 1])

    def errors(values: Doubles, offsets: NDArray[np.int_], weights: Doubles) -> Doubles:
        """Return by how many standard errors values at offsets from outliers nearby are off their mean."""
        mean = (nearby(values) / count)[at, None]
        deviation = np.sqrt(np.maximum((nearby(values**2) / count)[at, None] - mean**2, 1e-12))
        around = values[np.clip(at[:, None] + offsets, 0, values.size - 1)]
        sums = np.zeros((-(-values.size // GRID) + 9, offsets.size + 2))
        np.add.at(sums, frames + 5, weights[:, None] * np.column_stack([around, np.ones(at.size), weights]))
        sums = np.cumsum(sums, axis=0)
        near = sums[frames + 9] - sums[frames]
        off = (near[:, :-2] - mean * near[:, -2:-1]) / deviation
        errors: Doubles = off / np.sqrt(np.maximum(near[:, -1:], 1e-30))
        return errors

    heights = np.abs(removed[at])
    busy = errors(activity, beside, heights).mean(1)
    for side in (removed[at] > 0.0, removed[at] < 0.0):
        shifted = np.abs(errors(samples, offsets, heights * side)).max(1)
        moved[at[side]] = ((shifted + busy > least[0]) & (busy > least[1]) & frequent[at])[side]
    return moved
