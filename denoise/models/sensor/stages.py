"""Stages that remove faults of sensor signals before a network denoises them.

Each stage is a function of one channel with a standard deviation of about one. Its output depends on `halo`
samples to each side, so blocks with that many neighbours, put together, equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles, Mask
from denoise.dsp.autoregressive import fill_autoregressive

Complex = NDArray[np.complex128]

_THIN = 8
_REPEATS = 0.9  # share of readings that repeat the one before, above which a log is silent or switches
_MANY = 0.25  # share of readings in runs of equal values, from which these are pauses of a signal
_ALIKE = 0.02  # variation of their heights for each after the first, up to three, below which they are pulses
GRID = 256  # samples; frames of all stages lie on it, so results do not depend on where blocks begin


class Stage(Protocol):
    """A stage that removes one kind of fault."""

    @property
    def halo(self) -> int:
        """Samples to each side that an output value depends on."""

    def __call__(self, samples: Doubles, /) -> Doubles:
        """Return the samples `(n,)` without the fault."""


# ---- first readings ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FirstReadings:
    """Replaces wild first readings by the one after them: a glitch at start-up, or stamps above the samples.

    A first reading is wild if it differs from the third by far more than nearby readings from each other.
    """

    count: int = 2
    near: int = 64  # samples
    wild: float = 8.0  # times the largest step nearby
    halo: int = 0  # at the start of a block they are neighbours only

    def __call__(self, samples: Doubles) -> Doubles:
        count = self.count
        if samples.size < 8:
            return samples
        steps = np.abs(np.diff(samples[count : count + self.near]))
        wild = np.abs(samples[:count] - samples[count]) > self.wild * steps.max()
        if not wild.any():
            return samples
        calm = samples.copy()
        calm[:count][wild] = samples[count]
        return calm


@dataclass(frozen=True)
class Giants:
    """Replaces readings beyond any signal by a line between their neighbours, so that these are cleaned as if
    they were not there.
    """

    far: float = 60.0  # in deviations of the log, to which such readings do not count
    halo: int = 0  # a neighbour is close by

    def __call__(self, samples: Doubles) -> Doubles:
        at = np.flatnonzero(np.abs(samples) > self.far)
        rest = np.flatnonzero(np.abs(samples) <= self.far)
        if not at.size or not rest.size:
            return samples
        return _replaced(samples, at, np.interp(np.arange(samples.size), rest, samples[rest]))


# ---- impulses ---------------------------------------------------------------------------------------------


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
    halo: int = 4 * (8 * GRID + 32)

    def __call__(self, samples: Doubles) -> Doubles:
        if samples.size < 16:
            return samples
        given, found = samples, np.zeros(samples.size, bool)
        for _ in range(self.rounds):
            at, cubic = self._outliers(samples, self.far)
            if not at.size:
                break
            found[at] = True
            samples = _replaced(samples, at, cubic)
        in_company = nearby(found) >= self.company
        if not self.one_sided:
            samples = np.where((np.abs(given - samples) < self.lowest) & ~in_company, given, samples)
        if in_company.any():
            at, cubic = self._outliers(samples, self.low)
            at = at[in_company[at]]
            samples = _replaced(samples, at, cubic)
            samples = self._without_clusters(samples, in_company)
        if self.one_sided:
            return samples
        return np.where(pulses(given, given - samples), given, samples)

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
        around = _rest(_replaced(samples, at, cubic), at, 2)
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
        mended = _replaced(samples, at, cubic)
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
        around = _rest(_replaced(samples, at, line), at, self.side)
        return _replaced(samples, at[around < self.calm * np.abs(samples - line)[at]], line)

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


def _replaced(samples: Doubles, at: NDArray[np.int_], values: Doubles) -> Doubles:
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


def pulses(samples: Doubles, removed: Doubles) -> Mask:
    """Tell where outliers are the signal: pulses of a current, ticks of a counter, the tail of rough noise.

    Beside those nearly all readings repeat the one before, or they have one height.

    Args:
        samples: Log of unit variance, `(n,)`.
        removed: Height of each outlier at its place, 0 elsewhere, `(n,)`.
    """
    if not removed.any():
        return np.zeros(samples.size, bool)
    size = np.abs(removed)
    kept = size == 0.0
    equal = kept[1:] & kept[:-1]
    same = np.concatenate([[False], equal & (np.diff(samples) == 0.0)])
    signal: Mask = nearby(same) > _REPEATS * nearby(np.concatenate([[False], equal]))
    for sign in (1.0, -1.0, 0.0):  # ups, downs, all
        side = removed * sign > 0.0 if sign else size > 0.0
        count, total = nearby(side), nearby(side * size)
        spread = nearby(side * size**2) * count / np.maximum(total, 1e-30) ** 2 - 1.0
        alike = (count > 1) & (spread < (_ALIKE * np.minimum(count - 1.0, 3.0)) ** 2)
        signal |= alike & (side | (sign == 0.0))
    return signal


def nearby(values: NDArray) -> Doubles:  # type: ignore[type-arg]
    """Return the sum of the values within about four frames of each sample, the same within a frame."""
    return np.repeat(frames_nearby(values), GRID)[: values.size]


def frames_nearby(values: NDArray) -> Doubles:  # type: ignore[type-arg]
    """Return the sum of the values within about four frames of each frame."""
    frames = -(-values.size // GRID)
    sums = np.zeros(frames + 1)
    np.cumsum(frame_sums(values), out=sums[1:])
    at = np.arange(frames)
    near: Doubles = sums[np.minimum(at + 5, frames)] - sums[np.maximum(at - 4, 0)]
    return near


def frame_sums(values: NDArray) -> Doubles:  # type: ignore[type-arg]
    """Return the sum of the values in each frame."""
    sums: Doubles = np.add.reduceat(values, np.arange(0, values.size, GRID), dtype=float)
    return sums


def between(samples: Doubles) -> Doubles:
    """Return the cubic through the two samples to each side; the first and last two unchanged."""
    out = samples.copy()
    near, far = samples[1:-3] + samples[3:-1], samples[:-4] + samples[4:]
    out[2:-2] = (4.0 * near - far) / 6.0
    return out


def quantile_nearby(sizes: Doubles, share: float, zeros: bool = True) -> Doubles:
    """Return a quantile of the sizes within about four frames of each sample, the same within a frame.

    One of eight sizes suffices, at places that no regular staircase avoids.

    Args:
        sizes: Numbers of 0 or more, `(n,)`.
        share: Quantile, from 0 to 1.
        zeros: False leaves zeros out.
    """
    frames, row = -(-sizes.size // GRID), GRID // _THIN
    thin = np.full((frames + 8) * row, np.inf, np.float32)
    count = -(-sizes.size // _THIN)
    given = sizes[np.minimum(np.arange(count) * _THIN + np.arange(count) % _THIN, sizes.size - 1)]
    thin[4 * row : 4 * row + given.size] = given if zeros else np.where(given > 0.0, given, np.inf)
    near = np.lib.stride_tricks.sliding_window_view(thin.reshape(-1, row), 9, axis=0).reshape(frames, -1)
    near = np.sort(near, axis=1)  # what is missing comes last
    known = np.isfinite(near).sum(1)
    place = np.clip((share * known).astype(int), 0, np.maximum(known - 1, 0))
    quantiles = np.where(known > 0, near[np.arange(frames), place], 0.0).astype(np.float64)
    return np.repeat(quantiles, GRID)[: sizes.size]


# ---- stuck readings --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repair:
    """Replaces false readings (a rail, a sentinel such as -999, a stuck value) by autoregression.

    Runs of equal values are natural in slow and coarsely quantised logs, and at rest. A run is a fault if the
    signal jumps to and from it by more than elsewhere, and it is the extreme of its surroundings, or if the
    signal jumps at one end and the run is longer than nearby runs explain. What rests at its lowest value
    before it switches on is none.
    """

    min_run: int = 3  # samples, at an extreme
    min_stuck_run: int = 8  # samples, elsewhere
    max_run: int = 256  # samples; a longer run is a signal at rest
    jump: float = 4.0  # times the `usual` quantile of nearby second differences
    usual: float = 0.9
    chance: float = 1e-7  # probability of a run of equal values below which it is a fault
    settled: float = 1e-3  # steps beside a run, relative to the jump at its other end, of what comes to rest
    halo: int = 2048

    def __call__(self, samples: Doubles) -> Doubles:
        faulty = self.find(samples)
        return fill_autoregressive(samples, faulty) if faulty.any() else samples

    def find(self, samples: Doubles) -> Mask:
        """Return a mask of the false readings."""
        from scipy.ndimage import maximum_filter1d, minimum_filter1d

        faulty = np.zeros(samples.size, bool)
        edges = np.flatnonzero(np.diff(samples) != 0.0) + 1
        starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [samples.size]])
        long = (stops - starts >= self.min_run) & (stops - starts <= self.max_run)
        # At the ends of a block the neighbours are unknown, and the rest may be padding.
        long &= (starts >= 3) & (stops <= samples.size - 3)
        if not long.any():
            return faulty
        starts, stops = starts[long], stops[long]
        bends = np.abs(np.diff(samples, 2, append=samples[-2:]))
        bends[bends < 1e-9] = 0.0  # of a straight line, but for rounding
        usual = quantile_nearby(bends, self.usual, zeros=False)[starts]
        before, after = np.roll(samples, 1), np.roll(samples, -1)
        pulse = np.minimum(np.abs(samples - before), np.abs(samples - after)) > 10.0 * np.abs(before - after)
        calm = np.where(pulse, before, samples)  # a pulse of one sample beside a run is no jump of it
        into = calm[starts] - 2 * calm[starts - 1] + calm[starts - 2]
        out = calm[stops - 1] - 2 * calm[stops] + calm[stops + 1]
        jumps_in, jumps_out = (np.abs(jump) > self.jump * usual + 1e-9 for jump in (into, out))
        window = self.halo + 1
        extreme = samples[starts] >= maximum_filter1d(samples, window)[starts]
        extreme |= samples[starts] <= minimum_filter1d(samples, window)[starts]
        # The share of equal neighbours outside such runs gives the probability of this run by chance.
        equal = np.concatenate([[0], np.cumsum(np.diff(samples) == 0.0)])
        in_runs = np.zeros(samples.size + 1)
        steps = np.abs(np.diff(samples))
        four = np.arange(4)
        at_start, at_stop = (
            steps[np.clip(ends[:, None] + four, 0, steps.size - 1)].max(1) for ends in (starts - 4, stops - 1)
        )
        settles = (at_start < self.settled * np.abs(out)) | (at_stop < self.settled * np.abs(into))
        stuck = (jumps_in | jumps_out) & (stops - starts >= self.min_stuck_run) & ~settles
        in_runs[stops] = stuck * (stops - 1 - starts)
        in_runs = np.cumsum(in_runs)
        low = np.maximum(starts - self.halo // 2, 0)
        high = np.minimum(stops + self.halo // 2, samples.size - 1)
        near, repeated = high - low, in_runs[high] - in_runs[low]
        others = equal[high] - equal[low] - repeated
        chance = np.clip(others / near, 1e-3, 1.0) ** (stops - 1 - starts)
        stuck &= (chance < self.chance) & (repeated < _MANY * near)
        faults = (jumps_in & jumps_out & extreme) | stuck
        faults &= others < _REPEATS * (near - repeated)  # else a load that switches
        for start, stop in zip(starts[faults], stops[faults], strict=True):
            faulty[start:stop] = True
        return faulty


# ---- hum of the mains ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mains:
    """Removes 50 or 60 Hz and harmonics by least squares under a sliding window locked to the grid's phase.

    A short window tracks the phase of the first harmonic as the grid frequency drifts; a longer window at
    that phase fits all harmonics. The amount removed depends on how far the line stands above the spectrum
    beside it. A machine's tone beside the frequency of the grid stays, as does a sweep that passes it, and a
    line that is nearly the whole log: a current or voltage of the mains.
    """

    rate_hz: float  # sample rate
    grid_hz: float = 50.0  # nominal frequency
    harmonics: int = 5  # number of harmonics, the first included

    faint: float = 1e-2  # power below which hum stays, in a signal of unit variance
    faint_harmonic: float = 3e-3  # the same, of a harmonic of hum that goes

    follow_s = 0.8
    fit_s = 2.0
    clear = (
        6.0,
        20.0,
    )  # ratio to the power beside it: below the first a line stays, above the second it goes
    off_hz = (0.2, 0.35)  # deviation from the grid up to which a line goes, and from which it stays
    lasts_s = 3.0  # minimum duration of hum
    whole = (0.7, 0.8)  # variance of a log that is mostly hum: all, nothing of it goes
    max_window = 8192  # samples of a window
    # Minimum rate at which the spectrum beside a line is measured: at 50 Hz, a constant would fold onto that
    # line.
    thinned_hz = 100.0
    min_s = 0.5  # minimum length of a signal

    @property
    def halo(self) -> int:
        """Radius of the windows: phase, amplitude, evidence, duration."""
        return 2 * self._window(self.follow_s) + 2 * self._window(self.fit_s) + self._window(self.lasts_s)

    @property
    def possible(self) -> bool:
        """True if the rate covers the line and the spectrum beside it."""
        return self.grid_hz + 6.0 < self.rate_hz / 2

    def _window(self, seconds: float) -> int:
        return min(self.max_window, round(seconds * self.rate_hz)) // 4 * 4

    def __call__(self, samples: Doubles) -> Doubles:
        follow, fit = self._window(self.follow_s), self._window(self.fit_s)
        if not self.possible or samples.size < self.min_s * self.rate_hz:
            return samples
        carrier = _turning(samples.size, -self.grid_hz / self.rate_hz)
        base = samples * carrier
        present = self._presence(base, follow, self.faint)
        if not present.any():
            return samples
        line = slide(base, follow)
        present *= self._steadiness(line)
        if not present.any():
            return samples
        step = np.abs(line)
        phase = carrier * np.conj(line) / np.where(step > 0, step, 1.0)
        phase = np.where(step > 0, phase, carrier)
        hum = np.zeros_like(samples)
        turn: Complex = np.ones(samples.size, np.complex128)
        for harmonic in range(1, self.harmonics + 1):
            if harmonic * self.grid_hz + 3.0 > self.rate_hz / 2:
                break
            turn = turn * phase
            rest = turn * (samples - hum)
            gain = self._presence(rest, fit, min(self.faint, self.faint_harmonic)) * (present > 0)
            if gain.any():
                hum += gain * 2.0 * np.real(slide(rest, fit) * np.conj(turn))
        return samples - hum

    def _steadiness(self, line: Complex) -> Doubles:
        """Return how surely a line `(n,)` is hum, not of a machine, a sweep or all of the log: 0 to 1."""
        from scipy.ndimage import maximum_filter1d, minimum_filter1d

        step = self._step
        thin = line[::step]
        lag = max(1, round(0.1 * self.rate_hz / step))
        fit = self._window(self.fit_s) // step
        follow = (
            self._window(self.follow_s) // step
        )  # a longer one is biased to the line, which passes better
        turned = np.angle(slide(thin[lag:] * np.conj(thin[:-lag]), follow)) / (2.0 * np.pi * lag * step)
        steady = falling(np.abs(turned) * self.rate_hz, self.off_hz)
        lasts = max(1, self._window(self.lasts_s) // step)
        steady = maximum_filter1d(minimum_filter1d(steady, lasts), lasts)
        power = maximum_filter1d(2.0 * slide(np.abs(thin) ** 2, fit), 2 * lasts)
        at = np.arange(line.size)
        sure: Doubles = np.interp(at, np.arange(steady.size) * step + lag * step / 2, steady)
        sure *= np.interp(at, np.arange(power.size) * step, falling(power, self.whole))
        return sure

    @property
    def _step(self) -> int:
        """A few Hz of bandwidth need fewer samples; these lie on the grid."""
        return min(GRID, 1 << max(0, int(np.log2(self.rate_hz / self.thinned_hz))))

    def _presence(self, base: Complex, window: int, faint: float) -> Doubles:
        """Return how clearly a line, shifted to 0 Hz, stands out of the spectrum beside it: 0 to 1."""
        step = self._step
        thin = slide(base, 2 * step)[::step]
        line = slide(thin, window // step)
        beside = np.zeros(thin.size)
        for offset_hz in (-4.0, -2.5, 2.5, 4.0):
            turned = thin * _turning(thin.size, -offset_hz * step / self.rate_hz)
            beside += np.abs(slide(turned, window // step)) ** 2 / 4.0
        fit = self._window(self.fit_s) // step
        power, beside = (slide(p, fit) for p in (np.abs(line) ** 2, beside))
        ratio = power / np.maximum(beside, 1e-30)
        low, high = self.clear
        gain = np.clip((ratio - low) / (high - low), 0.0, 1.0) * (2.0 * power > faint)
        gains: Doubles = np.interp(np.arange(base.size), np.arange(0, base.size, step), gain)
        return gains


def falling(values: Doubles, limits: tuple[float, float]) -> Doubles:
    """Return 1 up to the first limit, 0 from the second."""
    low, high = limits
    share: Doubles = np.clip((high - values) / (high - low), 0.0, 1.0)
    return share


@lru_cache(maxsize=16)
def _turning(size: int, cycles: float) -> Complex:
    """Return a complex exponential that advances by `cycles` per sample."""
    coarse, fine = GRID * np.arange(-(-size // GRID)), np.arange(GRID)
    rows, columns = (np.exp(2j * np.pi * ((cycles * at) % 1.0)) for at in (coarse, fine))
    turning: Complex = np.outer(rows, columns).ravel()[:size]
    return turning


def slide(values: NDArray, window: int) -> NDArray:  # type: ignore[type-arg]
    """Return the mean under a smooth window (two boxes); at an end, over the samples there are."""
    box = max(1, window // 2) | 1
    means = _boxes(values, box)
    weights = _boxes(np.ones(min(values.size, 2 * box)), box)
    if values.size < 2 * box:
        means /= weights
        return means
    means[:box] /= weights[:box]  # both boxes are full inside
    means[-box:] /= weights[-box:]
    return means


def _boxes(values: NDArray, box: int) -> NDArray:  # type: ignore[type-arg]
    """Apply a moving average twice, with zeros beyond the ends."""
    size, half = values.size, box // 2
    sums = np.zeros(size + box, values.dtype)
    for _ in range(2):
        np.cumsum(values, out=sums[half + 1 : half + 1 + size])
        sums[half + 1 + size :] = sums[half + size]
        values = sums[box:] - sums[:-box]
    values *= 1.0 / box**2
    return values


# ---- baseline wander -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BaselineWander:
    """Removes components slower than `cutoff_hz`, such as breathing in an ECG, but not the mean."""

    rate_hz: float  # sample rate
    cutoff_hz: float = 0.5  # ECG practice puts it at 0.5 Hz

    max_window = 16384  # samples of the window

    @property
    def halo(self) -> int:
        """Radius of two boxes."""
        return self._window()

    def _window(self) -> int:
        # Two boxes of w samples are 3 dB down at 0.32 / w of the sample rate.
        return min(self.max_window, round(2 * 0.32 * self.rate_hz / self.cutoff_hz))

    def __call__(self, samples: Doubles) -> Doubles:
        window = self._window()
        if window < 4 or samples.size < 2 * window:
            return samples
        calm: Doubles = samples - slide(samples, window)
        return calm


# ---- no harm ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HarmGate:
    """Reverts corrections so faint that they are more likely signal than noise.

    On a clean signal a network still removes its finest detail, some 30 dB down. Noise of that level does
    little harm, so the local power of the correction decides which share of it is applied.
    """

    faint_db: float = -20.0  # power up to which the correction is reverted, in dB of the signal's variance
    full_db: float = -18.0  # power from which all of it is applied
    window: int = 2048  # samples

    @property
    def halo(self) -> int:
        """Radius of two boxes."""
        return self.window

    def share(self, correction: Doubles) -> Doubles:
        """Return the share to apply of a correction `(n,)` of a signal of unit variance."""
        power_db = 10.0 * np.log10(np.maximum(slide(correction**2, self.window), 1e-12))
        share: Doubles = np.clip((power_db - self.faint_db) / (self.full_db - self.faint_db), 0.0, 1.0)
        return share
