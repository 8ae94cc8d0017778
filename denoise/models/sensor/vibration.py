"""Checks of a network's correction for vibration: no tone is noise, and noise holds no impacts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles
from denoise.models.sensor.nearby import GRID, falling, frame_sums, slide

FRAME = 2 * GRID  # samples of a spectrum; they overlap by half
HANN, _SHORT_HANN = (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size) for size in (FRAME, 64))


@dataclass(frozen=True)
class ToneGate:
    """Reverts corrections that are a tone, such as the rattle of a phone: noise has no line in its spectrum.

    Nor has it one in each short frame, as the sweep of a shaker has. Hum of the mains is removed before, by
    its frequency.
    """

    line: tuple[float, float] = (0.3, 0.45)  # share of a line in the power nearby: all, nothing is applied
    lowest: int = 4  # bin; what is slower may be wander
    sweep: tuple[float, float] = (
        0.45,
        0.6,
    )  # of a line of each short frame: white noise has 0.25
    near: int = 4 * GRID  # samples to each side

    @property
    def halo(self) -> int:
        """Frames nearby."""
        return self.near + FRAME

    def share(self, correction: Doubles) -> Doubles:
        """Return the share to apply of a correction `(n,)`."""
        power = sum_nearby(np.abs(spectra(correction, HANN)) ** 2, self.near)
        line = _lines(power)[:, self.lowest :].max(1)
        share = falling(line / np.maximum(power.sum(1), 1e-30), self.line)
        short = np.abs(spectra(correction, _SHORT_HANN)) ** 2
        sums = np.stack([_lines(short)[:, 2:].max(1), short.sum(1)], axis=1)
        sweep, total = sum_nearby(sums, self.near, _SHORT_HANN.size // 2).T
        at = np.arange(correction.size)
        shares: Doubles = np.interp(at, GRID * np.arange(share.size), share)
        share = falling(sweep / np.maximum(total, 1e-30), self.sweep)
        shares *= np.interp(at, _SHORT_HANN.size // 2 * np.arange(share.size), share)
        return shares


def _lines(power: Doubles) -> Doubles:
    """Return the power of each three neighbouring bins, `(frames, bins - 2)`."""
    sums: Doubles = power[:, :-2] + power[:, 1:-1] + power[:, 2:]
    return sums


@dataclass(frozen=True)
class SteadyFilter:
    """Replaces a correction by its linear part where it would invent impacts.

    A network takes more from quiet moments than from loud ones. Vibration of a healthy machine is close to
    Gaussian, so what is left there has a kurtosis that maintenance takes for damage. Cumulants of independent
    signals add up, and the fourth of Gaussian noise is zero (Mendel, "Tutorial on higher-order statistics",
    1991): what is cleaned can have no larger one than its input has. Where it has, the correction is blended
    with what a filter, the same for quiet and loud moments, makes of it: at each frequency the share of the
    input that the network removes nearby. A filter of Gaussian vibration leaves it Gaussian. Impacts of a
    damaged bearing are in the input's cumulant, so the correction stays as it is around them.
    """

    rate_hz: float  # sample rate

    lowest_hz = 1000.0  # slower logs have too few samples to estimate a fourth moment
    near = 32 * GRID  # samples to each side in which the machine runs steadily
    shares = 10  # steps from the correction to its linear part

    @property
    def possible(self) -> bool:
        """True if the log is fast enough to hold vibration."""
        return self.rate_hz >= self.lowest_hz

    @property
    def halo(self) -> int:
        """Window of the spectra or the moments."""
        return self.near + FRAME

    def __call__(self, samples: Doubles, correction: Doubles) -> Doubles:
        """Return the correction `(n,)` of samples `(n,)`, or what of it is linear, or a blend."""
        if samples.size < 4 * FRAME or not correction.any():
            return correction
        linear = self._linear_part(samples, correction)
        supported = np.maximum(self._moments(samples)[1], 0.0)
        limit = supported / np.maximum(self._moments(samples - correction)[0], 1e-30) ** 2
        blend = np.ones_like(limit)
        for step in range(self.shares, -1, -1):
            share = step / self.shares
            variance, cumulant = self._moments(samples - correction - share * (linear - correction))
            fits = cumulant <= limit * variance**2
            blend[fits] = np.minimum(blend[fits], share)
        at = np.arange(samples.size)
        share = np.interp(at, at[GRID // 2 :: GRID], blend)
        blended: Doubles = correction + share * (linear - correction)
        return blended

    def _linear_part(self, samples: Doubles, correction: Doubles) -> Doubles:
        window = np.sqrt(HANN)
        given, taken = (spectra(values, window) for values in (samples, correction))
        both, power = (
            sum_nearby(values, self.near) for values in (np.real(taken * np.conj(given)), np.abs(given) ** 2)
        )
        filtered = np.fft.irfft(np.clip(both / np.maximum(power, 1e-30), 0.0, 1.0) * given) * window
        halves = filtered.reshape(len(filtered), 2, GRID)
        whole = np.zeros((len(filtered) + 1, GRID))
        whole[:-1] += halves[:, 0]
        whole[1:] += halves[:, 1]
        linear: Doubles = whole.reshape(-1)[GRID : GRID + samples.size]
        return linear

    def _moments(self, samples: Doubles) -> tuple[Doubles, Doubles]:
        """Return the variance and the fourth cumulant nearby, of each frame of `GRID` samples."""
        square = samples * samples
        count = frame_sums(np.ones(samples.size))
        first, second, third, fourth = (
            slide(frame_sums(part) / count, self.near // GRID)
            for part in (samples, square, square * samples, square * square)
        )
        variance = second - first**2
        central = fourth - 4.0 * first * third + 6.0 * first**2 * second - 3.0 * first**4
        return variance, central - 3.0 * variance**2


def spectra(values: Doubles, window: Doubles) -> NDArray[np.complex128]:
    """Return the spectra of half overlapping frames, `(frames, bins)`; the first is centred on sample 0."""
    hop = window.size // 2
    padded = np.pad(values, (hop, hop + -values.size % hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window.size)[::hop]
    found: NDArray[np.complex128] = np.fft.rfft(frames * window)
    return found


def sum_nearby(frames: Doubles, near: int, hop: int = GRID) -> Doubles:
    """Return the sum of the frames `(frames, bins)` within a number of samples of each."""
    reach = near // hop
    sums = np.pad(np.cumsum(frames, axis=0), ((1, 0), (0, 0)))
    at = np.arange(len(frames))
    total: Doubles = sums[np.minimum(at + reach + 1, len(frames))] - sums[np.maximum(at - reach, 0)]
    return total
