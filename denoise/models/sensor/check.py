"""Checks of a network's correction by what the quiet parts of a log say about its noise.

Noise is dense: it is there all the time, so the correction has a usual size. What is rare and far larger than
that, in a load that switches on, a shower of rain, a tap or a peak of traffic, is an event and stays. So does
what is dense and not like noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from denoise.arrays import Doubles, Mask
from denoise.models.sensor.impulses import pulses, two_sided
from denoise.models.sensor.nearby import GRID, between, falling, frames_nearby, nearby, quantile_nearby, slide


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


@dataclass(frozen=True)
class WanderGate:
    """Removes wander around heartbeats that fits the rest of the noise, or is more than the heartbeats.

    Wander of a clean ECG is part of the recording. Noise has a smooth spectrum, so wander that stands far
    above the noise beside it in frequency is no part of that noise, and stays.
    """

    rate_hz: float  # sample rate

    beside_hz = 4.0  # noise up to there tells what is below the cutoff of wander
    fits_db = (6.0, 9.0)  # power relative to that noise: all, nothing goes
    alone = HarmGate(-4.0, -2.0, 4096)  # wander that is more than the heartbeats goes by itself
    large = HarmGate(-18.0, -14.0)  # least wander; removal below it changes more than it mends

    @property
    def halo(self) -> int:
        """The windows of the noise beside wander and of the powers."""
        return self.alone.window + self._window

    @property
    def _window(self) -> int:
        return round(0.64 * self.rate_hz / self.beside_hz)

    def __call__(self, wander: Doubles, noise: Doubles, share: Doubles) -> Doubles:
        """Return the wander `(n,)` to remove.

        Args:
            wander: What a network takes below the cutoff of wander, `(n,)`.
            noise: What it takes above, `(n,)`.
            share: What of that is applied, `(n,)`.
        """
        if not wander.any():
            return wander
        beside = slide(slide(noise, self._window) ** 2, self.alone.window)
        power = slide(wander**2, self.alone.window)
        ratio_db = 10.0 * np.log10(np.maximum(power, 1e-12) / np.maximum(beside, 1e-12))
        share = share * self.large.share(wander) * falling(ratio_db, self.fits_db)
        removed: Doubles = np.maximum(share, self.alone.share(wander)) * wander
        return removed


@dataclass(frozen=True)
class EventGuard:
    """Share of a correction to apply: all of what is of the usual size, nothing of what is far larger.

    The usual size comes from a low quantile of nearby corrections, so that it is zero where most of the log
    needs none, and events that fill half of a window do not count. Two kinds of large corrections are
    applied all the same, for they look like faults: lone samples among undisturbed neighbours if there are
    some to both sides of the signal (events go one way), and runs of one value at the end of the range. A
    log that mostly repeats its readings has no noise, and nothing of it is changed. Readings that scatter
    without a pattern, as those of a flow meter may, look like noise altogether: where more than half of the
    variance would go, nothing says that there is a signal below, and they stay.

    Noise is Gaussian, or nearly so, and independent of the signal. Where the dense part of a correction is
    not, it holds signal, such as loads that switch at random, gusts, impacts or the tail of rough readings.
    The statistic of Jarque & Bera ("Efficient tests for normality", 1980) for one reading, from skewness and
    kurtosis, tells the one; the correlation of its size with the slope of what is left tells the other.
    """

    quantile: float = 0.25  # of the sizes nearby
    gaussian: float = 0.3186  # that quantile of the size of a standard normal variable
    usual: float = 4.0  # standard deviations up to which a correction is applied
    far: float = 6.0  # standard deviations from which it is not
    lowest: float = 0.5  # minimum size of a lone correction without company, in deviations of the log
    company: int = 3  # outliers that were taken out nearby
    alone: float = 1.2  # minimum size of a lone correction, relative to its neighbours'
    calm: float = 4.0  # maximum distance of their neighbours from a cubic, in 90th percentiles nearby,
    beside: float = 0.35  # or relative to the correction
    rings: float = 0.2  # size of others within 6 samples, relative to it, from which it is part of a shock
    rails: tuple[int, int] = (3, 256)  # samples of a run at the end of the range
    repeats: tuple[float, float] = (0.35, 0.5)  # share of readings that equal the one before: all, nothing
    most: tuple[float, float] = (0.55, 0.58)  # power of dense corrections, in unit variance: all, nothing
    dense: float = 3.0  # standard deviations up to which corrections count as dense
    patternless: tuple[float, float] = (0.65, 0.8)  # variance less covariance of neighbours: at the second
    less: float = 0.15  # and above, `most` is that much lower
    odd: tuple[float, float] = (0.015, 0.03)  # statistic of Jarque and Bera: all, nothing
    bound: tuple[float, float] = (0.45, 0.55)  # correlation with the slope of what is left: all, nothing
    distinct: float = 30.0  # minimum size of a lone correction amid others that are no noise, in usual sizes
    told: bool = False  # True: the caller says what the signal is, so noise may be of any power and shape
    impulses: bool = True  # False leaves lone samples
    one_sided: bool = False  # True removes those to one side, too
    minority: float = 0.1  # least share of the lesser side in their sum
    faults: bool = True  # False leaves runs at the end of the range

    @property
    def halo(self) -> int:
        """Four neighbourhoods: usual sizes, the shape of what is of that size, shocks, sides of outliers."""
        return 4 * 4 * GRID + 32

    def __call__(self, samples: Doubles, correction: Doubles, impulses: Doubles) -> Doubles:
        """Return the part of a correction to apply.

        Args:
            samples: Input of the network, `(n,)`.
            correction: What it takes from them, `(n,)`.
            impulses: Outliers that were taken out before, `(n,)`: evidence of faults to both sides.
        """
        size = np.abs(correction)
        limit = quantile_nearby(size, self.quantile) / self.gaussian
        large = size > self.usual * limit
        equal = np.concatenate([[False], np.diff(samples) == 0.0])
        count = nearby(np.ones(samples.size))
        repeats = nearby(equal.astype(float)) / count
        low, high = self.repeats
        quiet = np.clip((high - repeats) / (high - low), 0.0, 1.0)
        like = np.ones_like(size)
        if not self.told:
            power = nearby(np.minimum(size, self.dense * limit) ** 2) / count
            part, none = self.most
            less = self.less * self._patternless(samples, count)
            quiet *= np.clip((none - less - power) / (none - part), 0.0, 1.0)
            like = self._like_noise(samples, np.where(large, 0.0, correction))
        share = quiet * np.clip(
            (self.far * limit - size) / np.maximum((self.far - self.usual) * limit, 1e-30), 0.0, 1.0
        )
        share *= like
        if not large.any():
            return share * correction
        if self.impulses:
            sure = (like > 0.5) | (size > self.distinct * limit) | (nearby(impulses != 0.0) > 0.0)
            share[self._impulses(samples, correction, large & (quiet > 0.0) & sure, impulses)] = 1.0
        if self.faults:
            share[self._rails(samples, large & (repeats < self.repeats[0]), equal)] = 1.0
        checked: Doubles = share * correction
        return checked

    def _patternless(self, samples: Doubles, count: Doubles) -> Doubles:
        """Return 0 where neighbours resemble each other, 1 where readings scatter."""
        following = np.concatenate([samples[1:], samples[-1:]])
        scatter = nearby(samples * (samples - following)) / count
        low, high = self.patternless
        patternless: Doubles = np.clip((scatter - low) / (high - low), 0.0, 1.0)
        return patternless

    def _like_noise(self, samples: Doubles, correction: Doubles) -> Doubles:
        """Return 1 where a correction is Gaussian and independent of the signal, 0 where it is not."""
        steps = np.abs(np.diff(samples - correction, prepend=np.nan, append=np.nan))
        slope = np.nan_to_num(steps[:-1]) + np.nan_to_num(steps[1:])
        size, square = np.abs(correction), correction * correction
        parts = (correction, square, square * correction, square * square, size, slope, slope * slope)
        count = frames_nearby(np.ones(samples.size))
        means = (frames_nearby(part) / count for part in (*parts, size * slope))
        first, second, third, fourth, level, slow, power, both = means
        variance = np.maximum(second - first**2, 1e-30)
        skewness = (third - 3.0 * first * second + 2.0 * first**3) / variance**1.5
        excess = (fourth - 4.0 * first * third + 6.0 * first**2 * second - 3.0 * first**4) / variance**2 - 3.0
        spread = np.maximum((second - level**2) * (power - slow**2), 1e-30)
        share = falling(skewness**2 / 6.0 + excess**2 / 24.0, self.odd)
        share *= falling((both - level * slow) / np.sqrt(spread), self.bound)
        return np.repeat(share, GRID)[: samples.size]

    def _impulses(self, samples: Doubles, correction: Doubles, large: Mask, others: Doubles) -> Mask:
        """Mark lone large corrections whose neighbours lie smoothly once they are applied.

        Where most of them have others within some samples, they are shocks that ring.
        """
        size = np.abs(correction)
        beside = np.zeros_like(size)
        beside[1:] = size[:-1]
        beside[:-1] = np.maximum(beside[:-1], size[1:])
        lone = large & (size > self.alone * beside)
        at = np.flatnonzero(lone)
        if not at.size:
            return lone
        mended = np.where(lone, samples - correction, samples)
        distance = np.abs(mended - between(mended))
        around = np.minimum(np.maximum(at[:, None] + np.arange(-2, 3), 0), distance.size - 1)
        usual = self.calm * quantile_nearby(distance, 0.9)[at]
        calm = distance[around].max(1) < np.maximum(usual, self.beside * size[at])
        heights = np.where(lone, size, 0.0)
        padded = np.pad(heights, 6)
        company = np.maximum(*(padded[at[:, None] + 6 + way * np.arange(2, 7)].max(1) for way in (-1, 1)))
        shocks = np.zeros_like(size)
        shocks[at] = np.where(company > self.rings * size[at], size[at], 0.0)
        lone[at] = calm
        lone &= nearby(shocks) < 0.5 * nearby(heights)
        if self.one_sided:
            return lone
        lone &= (size > self.lowest) | (nearby(others != 0.0) >= self.company)
        outliers = np.where(lone, correction, others)
        lone &= two_sided(outliers, self.minority, 1)
        return lone & ~pulses(samples + others, outliers)

    def _rails(self, samples: Doubles, large: Mask, equal: Mask) -> Mask:
        """Mark runs of one value at the end of the range nearby that are corrected from end to end."""
        rails = np.zeros(samples.size, bool)
        edges = np.flatnonzero(~equal)
        starts, stops = edges, np.append(edges[1:], samples.size)
        low, high = self.rails
        some = (stops - starts >= low) & (stops - starts <= high)
        starts, stops = starts[some], stops[some]
        some = large[starts] & large[stops - 1]
        reach = 4 * GRID
        for start, stop in zip(starts[some], stops[some], strict=True):
            near = samples[max(0, start - reach) : stop + reach]
            rails[start:stop] = samples[start] in (near.min(), near.max())
        return rails
