"""Detection of electrocardiograms by the repeated spikes of heartbeats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles
from denoise.models.sensor.nearby import GRID, slide


@dataclass(frozen=True)
class Heartbeats:
    """Confidence, around each sample, that there are heartbeats: from 0 to 1.

    In the band of the QRS complex (about 5 to 20 Hz; Pan and Tompkins, "A real-time QRS detection algorithm",
    1985) an ECG has rhythmic spikes of similar height, at least one in 1.6 s, with a large share of the power
    without wander. Pulse waves and EEGs lack the spikes, earthquakes and motion the rhythm.
    """

    rate_hz: float  # sample rate

    rates_hz = (180.0, 720.0)
    frame_s = 10.0
    sustained_s = 20.0  # shorter evidence does not count
    slowest_s = 1.6
    rhythm_s = (0.33, 1.7)
    # Ramps: confidence 0 at the first value, 1 at the second.
    rhythm = (0.12, 0.2)  # of the autocorrelation of the envelope
    spiky = (4.5, 6.0)  # kurtosis
    power = (0.045, 0.06)  # of the band, as a share of what is above 0.5 Hz
    even = (0.5, 0.65)  # lesser peaks over larger ones
    lasting = (0.45, 0.7)  # mean of the above over `sustained_s`

    @property
    def possible(self) -> bool:
        """True if ECGs are digitised at this rate."""
        return self.rates_hz[0] <= self.rate_hz <= self.rates_hz[1]

    @property
    def halo(self) -> int:
        """Half a frame, half of `sustained_s`, and the window of the wander."""
        return round((self.frame_s / 2 + self.sustained_s / 2 + 0.6) * self.rate_hz) + 2 * GRID

    def __call__(self, samples: Doubles) -> Doubles:
        step = 1 << int(np.log2(self.rate_hz / 40.0))  # to about 45 to 90 Hz; it divides the grid
        band = slide(samples, round(0.04 * self.rate_hz)) - slide(samples, round(0.14 * self.rate_hz))
        envelope = slide(np.abs(band), round(0.08 * self.rate_hz))[::step]
        rate_hz, hop = self.rate_hz / step, GRID // step
        size = min(round(self.frame_s * rate_hz), envelope.size)
        if size < self.frame_s * rate_hz / 3:
            return np.zeros_like(samples)
        starts = np.arange(0, envelope.size - size + 1, hop)
        steady = samples - slide(samples, round(self.rate_hz))  # without wander
        square = band * band
        squares, fourth, power = (
            _means(values, starts * step, size * step) for values in (square, square * square, steady**2)
        )
        confidence = _ramp(fourth / np.maximum(squares, 1e-30) ** 2, self.spiky)
        confidence *= _ramp(squares / np.maximum(power, 1e-30), self.power)
        frames = np.lib.stride_tricks.sliding_window_view(envelope, size)[starts]
        for measure, limits in ((self._evenness, self.even), (self._rhythm, self.rhythm)):
            likely = np.flatnonzero(confidence)
            if not likely.size:
                return np.zeros_like(samples)
            confidence[likely] *= _ramp(measure(frames[likely], rate_hz), limits)
        near = np.ones(2 * round(self.sustained_s / 2 * rate_hz / hop) + 1)
        # "full", then cut: with fewer frames than taps, "same" would be as long as the window.
        around, of = (
            np.convolve(x, near)[near.size // 2 :][: confidence.size]
            for x in (confidence, np.ones_like(confidence))
        )
        centres = (starts + size / 2) * step
        return np.interp(np.arange(samples.size), centres, _ramp(around / of, self.lasting))

    def _evenness(self, frames: Doubles, rate_hz: float) -> Doubles:
        span = round(self.slowest_s * rate_hz)
        starts = range(0, max(1, frames.shape[1] - span + 1), max(1, span // 2))
        peaks = np.stack([frames[:, start : start + span].max(1) for start in starts])
        low, high = np.quantile(peaks, (0.2, 0.8), axis=0)
        return low / np.maximum(high, 1e-30)

    def _rhythm(self, frames: Doubles, rate_hz: float) -> Doubles:
        """Return the highest inner peak of the autocorrelation at possible distances of beats."""
        size = frames.shape[1]
        centred = frames - frames.mean(1, keepdims=True)
        spectrum = np.abs(np.fft.rfft(centred, 2 * size)) ** 2
        correlation = np.fft.irfft(spectrum)[:, :size] / (size - np.arange(size))
        low, high = round(self.rhythm_s[0] * rate_hz), min(size // 2, round(self.rhythm_s[1] * rate_hz))
        lags = correlation[:, low:high] / np.maximum(correlation[:, :1], 1e-30)
        at = lags.argmax(1)
        inside = (at > 0) & (at < lags.shape[1] - 1)
        return np.where(inside, lags.max(1), 0.0)


def _means(values: Doubles, starts: NDArray[np.int_], size: int) -> Doubles:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    stops = np.minimum(starts + size, values.size)
    return (sums[stops] - sums[starts]) / (stops - starts)


def _ramp(value: Doubles, limits: tuple[float, float]) -> Doubles:
    low, high = limits
    return np.clip((value - low) / (high - low), 0.0, 1.0)
