"""Stages that remove wild first readings, giants and stuck readings from sensor signals.

Each is a function of one channel with a standard deviation of about one. Its output depends on `halo` samples
to each side, so blocks with that many neighbours, put together, equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denoise.arrays import Doubles, Mask
from denoise.dsp.autoregressive import fill_autoregressive
from denoise.models.sensor.impulses import REPEATS, replaced
from denoise.models.sensor.nearby import quantile_nearby

# Share of readings in runs of equal values, from which these are pauses of a signal: in the midst of its
# range, and at its end, where a sensor out of contact also stays.
_MANY, _MANY_AT_END = 0.1, 0.3


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
        return replaced(samples, at, np.interp(np.arange(samples.size), rest, samples[rest]))


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
        at_end = np.zeros(samples.size + 1)
        at_end[stops] = extreme * (stops - starts)
        at_end = np.cumsum(at_end)
        extreme &= at_end[high] - at_end[low] < _MANY_AT_END * near
        faults = (jumps_in & jumps_out & extreme) | stuck
        faults &= others < REPEATS * (near - repeated)  # else a load that switches
        for start, stop in zip(starts[faults], stops[faults], strict=True):
            faulty[start:stop] = True
        return faulty
