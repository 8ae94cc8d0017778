"""Checks of a network's correction for rough signals: wind, loads and weather are not taken for noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from denoise.arrays import Doubles
from denoise.models.sensor.nearby import GRID, between, falling, frame_sums, quantile_nearby
from denoise.models.sensor.vibration import FRAME, HANN, spectra, sum_nearby

# Bins of a frame's spectrum, in bands of a smooth one; below them is trend.
_EDGES = np.array([6, 8, 12, 16, 24, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 257])
_BINS = np.diff(_EDGES).astype(float)
_INDEPENDENT = 0.37  # share of independent values among overlapping frames and neighbouring bins
_ROUNDS = 60
_LINE = 2.5  # times the median beside it, of a bin that is left out
_NORMAL = 0.3186  # lower quartile of the size of a standard normal variable
_CLOSE = 1.0  # log likelihood below the best one up to which a fit may be true


@dataclass(frozen=True)
class ProcessGate:
    """Reverts corrections where a first-order process and faint white noise explain the log.

    Turbulent wind, the load of a building or a flow wander from reading to reading. The spectrum of such an
    Ornstein-Uhlenbeck process ("On the theory of the Brownian motion", 1930) falls with the square of the
    frequency, and levels off at the highest since it is sampled. Instruments have white or pink noise.
    Two explanations are fitted to the spectrum nearby by Whittle's likelihood ("Estimation and information in
    stationary time series", 1953), with the updates of Fevotte et al. ("Nonnegative matrix factorization with
    the Itakura-Saito divergence", 2009): a slow signal with white and pink noise, and a slow signal with a
    process and white noise. The log stays if the process explains it well and no worse than noise, if its
    slopes are Gaussian, and if more would be removed than there is white noise.
    """

    near: int = 32 * GRID  # samples to each side
    least: int = 4 * GRID  # samples of a log; fewer have no spectrum to fit
    falls_db: float = 1.0  # least fall of the spectrum in its last octave; white noise has none
    misfit: tuple[float, float] = (18.0, 22.0)  # log likelihood below a perfect fit: all, nothing stays
    worse: tuple[float, float] = (-0.25, 0.25)  # log likelihood below that of pink noise: the same
    excess: tuple[float, float] = (0.8, 1.2)  # excess kurtosis of slopes: the same
    more_db: tuple[float, float] = (
        1.2,
        1.8,
    )  # removed power over the least white noise: of none, of a process

    @property
    def halo(self) -> int:
        """The spectra nearby, and slopes of means."""
        return self.near + FRAME

    def share(self, samples: Doubles, correction: Doubles) -> Doubles:
        """Return the share to apply of a correction `(n,)` of samples `(n,)`."""
        everything = np.ones(samples.size)
        if samples.size < self.least or not correction.any():
            return everything
        parts = (everything, correction**2, *_fourths(samples))
        counts, removed, squares, fourths, slow_squares, slow_fourths = _sums(parts, self.near)
        power, weight = _power(samples, self.near)
        removed *= np.sum(HANN**2) / counts
        excess = counts * np.maximum(
            fourths / np.maximum(squares, 1e-30) ** 2, slow_fourths / np.maximum(slow_squares, 1e-30) ** 2
        )
        falls = power[:, 64:128].mean(1) > 10.0 ** (self.falls_db / 10.0) * power[:, 192:].mean(1)
        likely = np.flatnonzero(falls & (excess - 3.0 < self.excess[1]) & (removed > 0.0))
        if not likely.size:
            return everything
        bands, weight = _bands(_without_lines(power[likely])), weight[likely]
        level = bands.mean(1)
        of_noise, *_ = _fits(bands / level[:, None], _NOISE, weight)
        of_process, floor, _ = _white_noise(bands, weight)
        ratio_db = 10.0 * np.log10(removed[likely] / np.maximum(floor, 1e-12 * level))
        process = falling(of_process, self.misfit) * falling(of_process - of_noise.min(1), self.worse)
        process *= falling(excess[likely] - 3.0, self.excess) * (1.0 - falling(ratio_db, self.more_db))
        shares = np.ones(len(counts))
        shares[likely] -= process
        return _between(shares, samples.size)


@dataclass(frozen=True)
class SlowGate:
    """Applies a correction of a slow log only where it is noise that can be told from the log.

    From one day or hour to the next much happens, so weather, loads and counts look like noise. What an
    instrument adds at such a rate is white. It can be told where it alone makes up most of the spectrum, so
    that the filter of Wiener ("Extrapolation, interpolation, and smoothing of stationary time series", 1949)
    would leave little of it. As much of it has to be removed as there is in a fit of a process and white
    noise (`ProcessGate`), or white and pink noise have to explain the spectrum clearly better than any
    process. The size of the correction may not follow the log, as that of counts does. Lone corrections are
    applied where they stand out of how rough the log is, as outliers do (`Impulses`).

    A log without a sample rate may be slow, and counts as such where a process explains it, as it does
    weather and seldom heartbeats or vibration.
    """

    known: bool = True  # that the log is slow
    near: int = 32 * GRID  # samples to each side
    least: int = 5 * GRID // 2  # samples of a log; fewer have no spectrum to fit, and stay if known
    explained: tuple[float, float] = (20.0, 25.0)  # log likelihood of a process below a perfect one
    more_db: tuple[float, float] = (1.2, 1.8)  # removed power over the least white noise: all, nothing goes
    less_db: tuple[float, float] = (2.5, 3.5)  # that noise over the removed power: the same
    left: tuple[float, float] = (0.3, 0.4)  # share of the noise that a Wiener filter leaves: the same
    misfit: tuple[float, float] = (12.0, 16.0)  # log likelihood of pink noise below a perfect fit: the same
    better: tuple[float, float] = (4.0, 5.0)  # that of a process below that of pink noise: nothing, all goes
    level: tuple[float, float] = (0.14, 0.2)  # correlation of its size with what is left: all, nothing goes
    lone: float = 6.0  # least size of a lone correction, in usual ones and in 90th percentiles of roughness

    @property
    def halo(self) -> int:
        """The spectra nearby."""
        return self.near + FRAME

    def share(self, samples: Doubles, correction: Doubles) -> Doubles:
        """Return the share to apply of a correction `(n,)` of samples `(n,)`."""
        if not correction.any():
            return np.zeros(samples.size)
        enough = samples.size >= self.least
        share = self._noise(samples, correction) if enough else np.full(samples.size, float(not self.known))
        size = np.abs(correction)
        lone = size > self.lone * quantile_nearby(size, 0.25) / _NORMAL
        mended = np.where(lone, samples - correction, samples)
        distance = np.abs(mended - between(mended))
        rough = np.maximum(quantile_nearby(distance, 0.9), quantile_nearby(distance, 0.25, zeros=False))
        share[lone & (size > self.lone * rough)] = 1.0
        return share

    def _noise(self, samples: Doubles, correction: Doubles) -> Doubles:
        """Return the share of what is not alone."""
        left, size = samples - correction, np.abs(correction)
        parts = (np.ones(samples.size), size, size * size, left, left * left, size * left)
        counts, *sums = _sums(parts, self.near)
        mean, removed, level, square, both = (part / counts for part in sums)
        spread = (removed - mean**2) * (square - level**2)
        follows = np.abs(both - mean * level) / np.sqrt(np.maximum(spread, 1e-30))
        power, weight = _power(samples, self.near)
        shares = np.zeros(len(counts))
        some = np.flatnonzero((removed > 0.0) & ((follows < self.level[1]) | (not self.known)))
        bands = _bands(_without_lines(power[some]))
        of_process, floor, stays = _white_noise(bands, weight[some])
        noise = np.maximum(floor / np.sum(HANN**2), 1e-30)
        ratio_db = 10.0 * np.log10(removed[some] / noise)
        white = falling(ratio_db, self.more_db) * falling(-ratio_db, self.less_db) * falling(stays, self.left)
        of_noise = _fits(bands / bands.mean(1, keepdims=True), _NOISE, weight[some])[0].min(1)
        pink = falling(of_noise, self.misfit) * (1.0 - falling(of_process - of_noise, self.better))
        shares[some] = np.maximum(white, pink) * falling(follows[some], self.level)
        if not self.known:
            shares[some] = 1.0 - falling(of_process, self.explained) * (1.0 - shares[some])
        return _between(shares, samples.size)


def _sums(parts: Sequence[Doubles], near: int) -> list[Doubles]:
    """Return the sums of values `(n,)` nearby, of each frame."""
    return [sum_nearby(frame_sums(part)[:, None], near)[:, 0] for part in parts]


def _power(samples: Doubles, near: int) -> tuple[Doubles, Doubles]:
    """Return the mean spectra `(frames, bins)` nearby, and how many independent ones are in each."""
    power = np.abs(spectra(samples, HANN)) ** 2
    whole = np.ones((len(power), 1))
    power[[0, -1]] = whole[[0, -1]] = 0.0  # half of these lies beyond the ends
    count = -(-samples.size // GRID)
    frames = sum_nearby(whole, near)[:count]
    return sum_nearby(power, near)[:count] / frames, _INDEPENDENT * frames[:, 0]


def _between(shares: Doubles, size: int) -> Doubles:
    share: Doubles = np.interp(np.arange(size), GRID * np.arange(shares.size), shares)
    return share


def _fourths(samples: Doubles) -> tuple[Doubles, ...]:
    """Return squares and fourth powers of the slopes between means of 2, and of 8 samples, `(n,)` each."""
    powers = []
    for count in (2, 8):
        sums = np.cumsum(np.pad(samples, (count + 1, count - 1), "edge"))
        means = (sums[count:] - sums[:-count]) / count
        square = (means[count:] - means[:-count]) ** 2
        powers += [square, square * square]
    return tuple(powers)


def _bands(power: Doubles) -> Doubles:
    bands: Doubles = np.add.reduceat(power, _EDGES[:-1], axis=-1) / _BINS
    return bands


def _without_lines(power: Doubles) -> Doubles:
    """Return spectra `(frames, bins)` with lines replaced by what is beside them."""
    from scipy.ndimage import median_filter

    upper = power[:, 12:]
    ends = np.pad(upper, ((0, 0), (8, 8)), "edge")
    beside = median_filter(ends.ravel(), 17).reshape(ends.shape)[:, 8:-8]  # faster than row by row
    without = power.copy()
    without[:, 12:] = np.where(upper > _LINE * beside, beside, upper)
    return without


def _white_noise(power: Doubles, weight: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Fit processes and white noise to spectra `(frames, bands)`.

    Returns:
        The log likelihood of the best fit below that of a perfect one; and of the fits that may be true, the
        least white noise, and the largest share of it that a Wiener filter leaves, `(frames,)` each.
    """
    level = power.mean(1)
    below, model, white = _fits(power / level[:, None], _PROCESS, weight)
    best = below.min(1)
    true = below < best[:, None] + _CLOSE
    stays = 1.0 - white * (_BINS / model).sum(-1) / _BINS.sum()
    return best, level * np.where(true, white, np.inf).min(1), np.where(true, stays, 0.0).max(1)


def _fits(power: Doubles, shapes: Doubles, weight: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Fit sums of spectra, of which the first is white, to others.

    Args:
        power: Mean 1, `(frames, bands)`.
        shapes: The spectra to add up, of mean 1, for each explanation, `(explanations, parts, bands)`.
        weight: Independent spectra in each, `(frames,)`.

    Returns:
        The log likelihood below that of a perfect fit, `(frames, explanations)`, the fits, `(frames,
        explanations, bands)`, and their white parts, `(frames, explanations)`.
    """
    parts: Doubles = np.full((len(shapes), len(power), shapes.shape[1]), 1.0 / shapes.shape[1])
    back = np.ascontiguousarray(shapes.transpose(0, 2, 1))
    for _ in range(_ROUNDS):
        model = parts @ shapes
        weighted = _BINS / model
        parts *= ((weighted * power / model) @ back) / (weighted @ back)
    model = parts @ shapes
    ratio = power / model
    below = weight * np.sum(_BINS * (ratio - np.log(ratio) - 1.0), axis=-1)
    return below.T, model.transpose(1, 0, 2), parts[..., 0].T


def _shapes() -> tuple[Doubles, Doubles]:
    """Return the spectra of a slow signal with noise, and with a process and white noise."""
    bins = np.maximum(np.arange(FRAME // 2 + 1.0), 0.5)
    memories = [np.exp(-1.0 / readings) for readings in (2.0, 3.5, 6.0, 12.0)] + [1.0]
    turning = np.cos(2.0 * np.pi * bins / FRAME)
    processes = [1.0 / (1.0 + memory**2 - 2.0 * memory * turning) for memory in memories]
    processes.append(bins ** (-5.0 / 3.0))  # turbulence (Kolmogorov, 1941)
    slow = [bins**-3.0, bins**-5.0]
    white, pink = np.ones_like(bins), 1.0 / bins

    def of(*spectrum: Doubles) -> Doubles:
        bands = _bands(np.stack(spectrum))
        shapes: Doubles = bands / bands.mean(1, keepdims=True)
        return shapes

    noise = [of(white, pink, part) for part in slow]
    return np.stack(noise), np.stack([of(white, process, part) for process in processes for part in slow])


_NOISE, _PROCESS = _shapes()
