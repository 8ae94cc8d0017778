"""Stages that remove hum of the mains and slow wander from sensor signals.

Each is a function of one channel with a standard deviation of about one. Its output depends on `halo` samples
to each side, so blocks with that many neighbours, put together, equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles
from denoise.models.sensor.nearby import GRID, falling, slide

Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Mains:
    """Removes 50 or 60 Hz and harmonics by least squares under a sliding window locked to the grid's phase.

    A short window tracks the phase of the first harmonic as the grid frequency drifts; a longer window at
    that phase fits all harmonics. The amount removed depends on how far the line stands above the spectrum
    beside it. A machine's tone beside the frequency of the grid stays, or at twice that of another tone, and
    so does a sweep that passes it. A current or voltage of the mains stays, too: a line that is nearly all of
    the log, or that is switched or controlled, and is most of what happens while it is on.
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
    off_hz = (0.12, 0.16)  # deviation from the grid up to which a line goes, and from which it stays
    lasts_s = 3.0  # minimum duration of hum
    whole = (0.7, 0.8)  # variance of a log that is mostly hum: all, nothing of it goes
    switched = (0.5, 0.65)  # least amplitude within `lasts_s`, over the largest: of a current, of hum
    most = (0.5, 0.6)  # largest share of the variance nearby: of hum, of a current
    max_window = 8192  # samples of a window
    # Minimum rate at which the spectrum beside a line is measured: at 50 Hz, a constant would fold onto that
    # line.
    thinned_hz = 100.0
    min_s = 0.5  # minimum length of a signal

    @property
    def halo(self) -> int:
        """Radius of the windows: phase, amplitude, evidence, duration."""
        return 2 * self._window(self.follow_s) + 2 * self._window(self.fit_s) + 3 * self._window(self.lasts_s)

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
        present *= self._steadiness(line) * (1.0 - self._switching(samples, line))
        if not present.any():
            return samples
        present *= 1.0 - self._halving(samples, line)
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

    def _switching(self, samples: Doubles, line: Complex) -> Doubles:
        """Return how surely a line `(n,)` is a current that is switched or controlled: 0 to 1."""
        from scipy.ndimage import maximum_filter1d, minimum_filter1d

        follow, near = self._window(self.follow_s), 4 * self._window(self.lasts_s) // self._step
        size = np.abs(line[:: self._step])
        end = (follow // 2 + GRID) // self._step  # nothing, or padding, is beyond the ends
        if size.size > 4 * end:
            size[:end], size[-end:] = size[end], size[-end - 1]
        variance = (slide(samples * samples, follow) - slide(samples, follow) ** 2)[:: self._step]
        share = maximum_filter1d(2.0 * size**2 / np.maximum(variance, 1e-30), near)
        varies = falling(
            minimum_filter1d(size, near) / np.maximum(maximum_filter1d(size, near), 1e-30), self.switched
        )
        at = np.arange(samples.size)
        surely: Doubles = np.interp(
            at, np.arange(size.size) * self._step, varies * (1.0 - falling(share, self.most))
        )
        return surely

    def _halving(self, samples: Doubles, line: Complex) -> Doubles:
        """Return how surely a line is a harmonic of a machine, which has a tone at half of its frequency."""
        half = np.exp(-0.5j * np.unwrap(np.angle(line)))
        base = samples * _turning(samples.size, -0.5 * self.grid_hz / self.rate_hz) * half
        return self._presence(base, self._window(self.fit_s), self.faint)

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


@lru_cache(maxsize=16)
def _turning(size: int, cycles: float) -> Complex:
    """Return a complex exponential that advances by `cycles` per sample."""
    coarse, fine = GRID * np.arange(-(-size // GRID)), np.arange(GRID)
    rows, columns = (np.exp(2j * np.pi * ((cycles * at) % 1.0)) for at in (coarse, fine))
    turning: Complex = np.outer(rows, columns).ravel()[:size]
    return turning


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
