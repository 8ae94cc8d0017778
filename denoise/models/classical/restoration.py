"""Restoration of recordings other than speech: clicks, hum and hiss."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise.dsp.autoregressive import interpolate
from denoise.errors import UsageError
from denoise.models.base import InputSpec
from denoise.models.classical.audio import SpectralGate
from denoise.models.classical.filters import Classical

__all__ = ["AudioRestoration", "ClickRepair", "HissGate", "HumFilter"]

Array = NDArray[Any]

_RATE = 48_000.0  # Hz


class HissGate(SpectralGate):
    """A spectral gate that preserves steady tones: held notes, drones, chords.

    Hiss has a smooth spectrum, so floors are limited to a multiple of the median of the neighbouring
    frequencies. A noise profile replaces the floors.
    """

    frame = 2048  # samples: 43 ms
    hop = 512
    floor_frames = 188  # each way: 2 s
    floor_bias = 2.65  # measured as in the base class
    mask_bins = 1
    depth_db = 18.0
    tone_bins = 12  # each way: 280 Hz
    tone_excess = 2.0  # maximum floor of hiss over the median around it
    step_frames = 16  # interval of the median, because the floor changes slowly
    spec = InputSpec(
        "audio",
        multiple_of=hop,
        halo=(floor_frames + step_frames + 2 * SpectralGate.smooth_frames + SpectralGate.mask_frames + 4)
        * hop
        + frame,
        sample_rate=_RATE,
        joint_channels=True,
    )

    def __init__(self, profile: Array | None = None) -> None:
        super().__init__()
        self._profile = profile

    def _floor(self, power: Array) -> Array:
        from scipy.ndimage import median_filter

        if self._profile is not None:
            return np.broadcast_to(self._profile / self.floor_bias, power.shape)
        floor = super()._floor(power)
        coarse = median_filter(floor[:: self.step_frames], (1, 2 * self.tone_bins + 1), mode="nearest")
        around = np.repeat(coarse, self.step_frames, axis=0)[: len(floor)]
        return np.asarray(np.minimum(floor, self.tone_excess * around))

    def measure(self, noise: Array) -> Array:
        """Return the mean power of noise alone `(C, n)` in each bin; it must last a frame."""
        if noise.shape[-1] < self.frame:
            found, minimum = noise.shape[-1] / _RATE, self.frame / _RATE
            raise UsageError(f"the noise profile lasts {found:.3f} s, expected at least {minimum:.3f} s")
        spectra = np.stack([self._analyse(row.astype(np.float64)) for row in noise])
        return np.asarray((spectra.real**2 + spectra.imag**2).mean(axis=(0, 1)))


class HumFilter(SpectralGate):
    """Removes mains hum: steady lines at multiples of 50 or 60 Hz.

    A line is hum while its minimum power over some seconds exceeds the median around it, and if several lines
    of one mains frequency do. Only that minimum is subtracted, which preserves a bass note on top of it.
    """

    frame = 32_768  # samples: bins are 1.5 Hz apart
    hop = 8_192
    floor_frames = 11  # each way: 1.9 s
    smooth_frames = 1
    floor_bias = 1.2  # mean power of a steady line in noise over its minimum
    mains_hz = (50.0, 60.0)
    max_multiple = 20
    min_lines = 2  # of one mains frequency
    slack_bins = 1  # each way, for deviations of the mains frequency; more for higher multiples
    prominence = 10.0  # power of a line over the median around it
    around_bins = 12  # each way
    min_gain = 0.03
    spec = InputSpec(
        "audio",
        multiple_of=hop,
        halo=(floor_frames + 2 * smooth_frames + 4) * hop + frame,
        sample_rate=_RATE,
        joint_channels=True,
    )

    def _gain(self, power: Array) -> Array:
        from scipy.ndimage import median_filter, minimum_filter1d, uniform_filter1d

        gain = np.ones_like(power)
        width = _RATE / self.frame
        stop = round(self.max_multiple * max(self.mains_hz) / width) + 2 * self.around_bins
        low = power[:, :stop]
        smooth = np.maximum(uniform_filter1d(low, 2 * self.smooth_frames + 1, axis=0, mode="nearest"), 0.0)
        steady = minimum_filter1d(smooth, 2 * self.floor_frames + 1, axis=0, mode="nearest")
        around = median_filter(steady, (1, 2 * self.around_bins + 1), mode="nearest")
        prominent = steady > self.prominence * around
        for mains in self.mains_hz:
            bins = [round(multiple * mains / width) for multiple in range(1, self.max_multiple + 1)]
            slack = [self.slack_bins + int(np.sqrt(i)) // 2 for i in range(1, self.max_multiple + 1)]
            near = [slice(b - s, b + s + 1) for b, s in zip(bins, slack, strict=True)]
            wider = [slice(at.start - 2, at.stop + 2) for at in near]  # the window spreads a line
            # A line with its peak beside the multiple is a tone.
            found = np.stack(
                [
                    prominent[:, at].any(axis=1) & (steady[:, at].max(axis=1) == steady[:, wide].max(axis=1))
                    for at, wide in zip(near, wider, strict=True)
                ]
            )  # (lines, frames)
            enough = found.sum(axis=0) >= self.min_lines
            for wide, line in zip(wider, found, strict=True):
                hum = (enough & line)[:, None]
                share = np.divide(
                    self.floor_bias * steady[:, wide],
                    low[:, wide],
                    out=np.zeros_like(low[:, wide]),
                    where=low[:, wide] > 0.0,
                )
                line_gain = np.sqrt(np.clip(1.0 - share, self.min_gain**2, 1.0))
                gain[:, wide] = np.where(hum, np.minimum(gain[:, wide], line_gain), gain[:, wide])
        return gain


class ClickRepair(Classical):
    """Replaces clicks of up to 1.5 ms by interpolation.

    At a click a short-term linear prediction fails far more than around it (Vaseghi and Rayner, "Detection
    and suppression of impulsive noise in speech communication systems", 1990), and unlike at the onset of a
    note, the signal continues as before. The interpolation is autoregressive (Janssen, Veldhuis and Vries
    1986).
    """

    frame = 4096  # samples of one prediction
    order = 24
    threshold = 15.0  # prediction error over its median
    max_length = 72  # samples: 1.5 ms
    margin = 4  # samples replaced on each side of the detected ones
    context = 240  # samples on each side with a smaller error
    spec = InputSpec("audio", multiple_of=frame, halo=2 * frame, sample_rate=_RATE)

    def denoise(self, samples: Array) -> Array:
        out = samples.astype(np.float64)
        values = np.pad(out, (self.frame, self.frame + -out.size % self.frame))
        for start in range(0, values.size - 2 * self.frame, self.frame):
            part = values[start : start + 3 * self.frame]  # the frame and its neighbours
            predictor = self._predictor(part)
            for first, last in self._clicks(part, predictor):
                at = start - self.frame + first
                if self.frame <= first < 2 * self.frame and at + last - first <= out.size:
                    around = part[first - self.context : last + self.context]
                    holes = np.arange(self.context, around.size - self.context)
                    out[at : at + last - first] = interpolate(around[None], holes, predictor)[0]
        return out

    def _predictor(self, part: Array) -> Array:
        """Return coefficients `1, a1 ... ap` that whiten it (autocorrelation method, with a little noise)."""
        from scipy.linalg import solve_toeplitz

        spectrum = np.fft.rfft(part * np.hanning(part.size), 2 * part.size)
        lags = np.fft.irfft(np.abs(spectrum) ** 2)[: self.order + 1]
        whitening: Array = np.eye(1, self.order + 1)[0]
        if lags[0] > 0.0:
            lags[0] *= 1.0 + 1e-9
            whitening[1:] = solve_toeplitz(lags[:-1], -lags[1:])
        return whitening

    def _clicks(self, part: Array, predictor: Array) -> list[tuple[int, int]]:
        """Return the start and end of each click."""
        from scipy.signal import lfilter

        error = np.abs(lfilter(predictor, [1.0], part))
        median = float(np.median(error))
        above = np.flatnonzero(error > self.threshold * median)
        if median <= 0.0 or not above.size:
            return []
        groups = np.split(above, np.flatnonzero(np.diff(above) > self.order + self.margin) + 1)
        clicks = []
        for group in groups:
            first, last = int(group[0]) - self.margin, int(group[-1]) + 1 + self.margin
            before = error[max(first - self.context, 0) : first]
            after = error[last + self.order :][: self.context]
            isolated = max(before.max(initial=0.0), after.max(initial=0.0)) < error[group].max() / 4
            onset = np.mean(after**2) > 9.0 * np.mean(before**2) if before.size and after.size else True
            inside = first >= self.context and last <= part.size - self.context
            if last - first <= self.max_length + 2 * self.margin and isolated and inside and not onset:
                clicks.append((first, last))
        return clicks


class AudioRestoration(Classical):
    """The model `audio`: removes clicks, then hum, then hiss, at 48 kHz.

    Args:
        profile: Known noise power in each bin of `HissGate`.
    """

    spec = InputSpec(
        "audio",
        multiple_of=HumFilter.hop,
        halo=-(-((ClickRepair.spec.halo or 0) + (HissGate.spec.halo or 0)) // HumFilter.hop) * HumFilter.hop
        + (HumFilter.spec.halo or 0),
        sample_rate=_RATE,
        joint_channels=True,
    )

    def __init__(self, profile: Array | None = None) -> None:
        super().__init__()
        self._clicks, self._hum, self._hiss = ClickRepair(), HumFilter(), HissGate(profile)

    def denoise(self, samples: Array) -> Array:
        rows = np.stack([self._clicks.denoise(row) for row in np.atleast_2d(samples)])
        rows = self._hiss.denoise(self._hum.denoise(rows))
        return rows.reshape(samples.shape)

    def with_profile(self, noise: Array) -> AudioRestoration:
        """Return a model for the given noise alone, `(C, n)` at 48 kHz."""
        return AudioRestoration(self._hiss.measure(noise))
