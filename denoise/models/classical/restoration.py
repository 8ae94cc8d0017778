"""Restoration of recordings other than speech (music, nature, machines): the model `audio`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise.errors import UsageError
from denoise.models.base import InputSpec
from denoise.models.classical.audio import SpectralGate
from denoise.models.classical.filters import Classical

__all__ = ["AudioRestoration", "ClickRepair", "HissGate", "HumFilter"]

Array = NDArray[Any]

_RATE = 48_000.0  # Hz


class HissGate(SpectralGate):
    """A spectral gate that spares what is steady and sounds: tones that last, drones, chords.

    Hiss has a smooth spectrum, so the floor of a frequency is never far above the median of the floors around
    it; a note that is held longer than the floor is sought stands out of them. With a noise profile the floor
    is that of the profile.
    """

    frame = 2048  # samples: 43 ms
    hop = 512
    floor_frames = 188  # each way: 2 s
    floor_bias = 2.65  # as of the base class, measured
    mask_bins = 1
    depth_db = 18.0
    tone_bins = 12  # each way: 280 Hz
    tone_excess = 2.0  # of the floor over the median around it that is still hiss
    step_frames = 16  # the median is taken once in so many, for the floor moves slowly
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
        smooth: Array = np.minimum(floor, self.tone_excess * around)
        return smooth

    def measure(self, noise: Array) -> Array:
        """The profile of noise alone, `(C, n)`: its mean power in each bin.

        Raises:
            UsageError: It is shorter than one frame.
        """
        if noise.shape[-1] < self.frame:
            raise UsageError(
                f"the noise profile lasts {noise.shape[-1] / _RATE:.3f} s, expected at least "
                f"{self.frame / _RATE:.3f} s"
            )
        spectra = np.stack([self._analyse(row.astype(np.float64)) for row in noise])
        profile: Array = (spectra.real**2 + spectra.imag**2).mean(axis=(0, 1))
        return profile


class HumFilter(SpectralGate):
    """Takes away the mains: lines at multiples of 50 or 60 Hz that stand as they are for seconds.

    Frames are long enough (0.7 s) to tell a line from its neighbours. A line is hum where its least power
    over some seconds exceeds the median around it, and only where several of one mains frequency do; only
    that least power is subtracted, so a bass note on top of it stays.
    """

    frame = 32_768  # samples: bins are 1.5 Hz apart
    hop = 8_192
    floor_frames = 11  # each way: 1.9 s
    smooth_frames = 1
    floor_bias = 1.2  # mean power of a steady line in noise over its least
    mains_hz = (50.0, 60.0)
    highest = 20  # multiples
    fewest = 2  # lines of one mains frequency, to be believed
    slack_bins = 1  # each way, for mains that run fast or slow; more for higher multiples
    prominence = 10.0  # of a line over the median around it, in power
    around_bins = 12  # each way
    leave = 0.03  # of amplitude, at least
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
        top = min(round(self.highest * max(self.mains_hz) / width) + 2 * self.around_bins, power.shape[1])
        low = power[:, :top]
        smooth = np.maximum(uniform_filter1d(low, 2 * self.smooth_frames + 1, axis=0, mode="nearest"), 0.0)
        steady = minimum_filter1d(smooth, 2 * self.floor_frames + 1, axis=0, mode="nearest")
        around = median_filter(steady, (1, 2 * self.around_bins + 1), mode="nearest")
        prominent = steady > self.prominence * around
        for mains in self.mains_hz:
            bins = [round(multiple * mains / width) for multiple in range(1, self.highest + 1)]
            near = [slice(b - self._slack(i), b + self._slack(i) + 1) for i, b in enumerate(bins, 1)]
            wider = [slice(at.start - 2, at.stop + 2) for at in near]  # the window spreads a line
            # A line whose top is beside the multiple is a tone that happens to be near.
            found = np.stack(
                [
                    prominent[:, at].any(axis=1) & (steady[:, at].max(axis=1) == steady[:, wide].max(axis=1))
                    for at, wide in zip(near, wider, strict=True)
                ]
            )  # (lines, frames)
            believed = found.sum(axis=0) >= self.fewest
            for wide, line in zip(wider, found, strict=True):
                hum = (believed & line)[:, None]
                share = np.divide(
                    self.floor_bias * steady[:, wide],
                    low[:, wide],
                    out=np.zeros_like(low[:, wide]),
                    where=low[:, wide] > 0.0,
                )
                left = np.sqrt(np.clip(1.0 - share, self.leave**2, 1.0))
                gain[:, wide] = np.where(hum, np.minimum(gain[:, wide], left), gain[:, wide])
        return gain

    def _slack(self, multiple: int) -> int:
        return self.slack_bins + int(np.sqrt(multiple)) // 2


class ClickRepair(Classical):
    """Replaces clicks of up to 1.5 ms by what their surroundings predict.

    A click is what a short-term linear prediction fails at, far more than at anything near (Vaseghi and
    Rayner, "Detection and suppression of impulsive noise in speech communication systems", 1990), and after
    which all is as before: the onset of a note goes on. It is replaced by the least-squares interpolation of
    the autoregressive process (Janssen, Veldhuis and Vries 1986).
    """

    frame = 4096  # samples for which one prediction holds
    order = 24
    standing_out = 15.0  # of the prediction error over its median size
    longest = 72  # samples: 1.5 ms
    margin = 4  # samples on each side of what stands out that are replaced too
    quiet = 240  # samples on each side that a click must stand out of
    spec = InputSpec("audio", multiple_of=frame, halo=2 * frame, sample_rate=_RATE)

    def denoise(self, samples: Array) -> Array:
        out = samples.astype(np.float64)
        values = np.pad(out, (self.frame, self.frame + -out.size % self.frame))
        for start in range(0, values.size - 2 * self.frame, self.frame):
            part = values[start : start + 3 * self.frame]  # the frame, and one on each side
            predictor = self._predictor(part)
            for first, last in self._clicks(part, predictor):
                at = start - self.frame + first
                if self.frame <= first < 2 * self.frame and at + last - first <= out.size:
                    around = part[first - self.quiet : last + self.quiet]
                    out[at : at + last - first] = self._interpolate(around, predictor)
        return out

    def _predictor(self, part: Array) -> Array:
        """Coefficients `1, a1 ... ap` that whiten it (autocorrelation method, a little noise added)."""
        from scipy.linalg import solve_toeplitz

        spectrum = np.fft.rfft(part * np.hanning(part.size), 2 * part.size)
        lags = np.fft.irfft(np.abs(spectrum) ** 2)[: self.order + 1]
        whitening: Array = np.eye(1, self.order + 1)[0]
        if lags[0] > 0.0:
            lags[0] *= 1.0 + 1e-9
            whitening[1:] = solve_toeplitz(lags[:-1], -lags[1:])
        return whitening

    def _clicks(self, part: Array, predictor: Array) -> list[tuple[int, int]]:
        """First and behind the last sample of each click."""
        from scipy.signal import lfilter

        error = np.abs(lfilter(predictor, [1.0], part))
        usual = float(np.median(error))
        if usual <= 0.0:
            return []
        above = np.flatnonzero(error > self.standing_out * usual)
        if not above.size:
            return []
        groups = np.split(above, np.flatnonzero(np.diff(above) > self.order + self.margin) + 1)
        found = []
        for group in groups:
            first, last = int(group[0]) - self.margin, int(group[-1]) + 1 + self.margin
            before, after = (
                error[max(first - self.quiet, 0) : first],
                error[last + self.order :][: self.quiet],
            )
            alone = max(before.max(initial=0.0), after.max(initial=0.0)) < error[group].max() / 4
            goes_on = np.mean(after**2) > 9.0 * np.mean(before**2) if before.size and after.size else True
            inside = first >= self.quiet and last <= part.size - self.quiet
            if last - first <= self.longest + 2 * self.margin and alone and inside and not goes_on:
                found.append((first, last))
        return found

    def _interpolate(self, around: Array, predictor: Array) -> Array:
        """What is between the first and the last `quiet` samples, with the least prediction error."""
        from scipy.linalg import toeplitz

        unknown = slice(self.quiet, around.size - self.quiet)
        rows = around.size - self.order
        errors = toeplitz(  # of the prediction, as a matrix (rows, around)
            np.append(predictor[-1], np.zeros(rows - 1)), np.append(predictor[::-1], np.zeros(rows - 1))
        )
        touched = slice(unknown.start - self.order, unknown.stop)
        known = around.copy()
        known[unknown] = 0.0
        solution: Array = np.linalg.lstsq(errors[touched, unknown], -(errors[touched] @ known), rcond=None)[0]
        return solution


class AudioRestoration(Classical):
    """The model `audio` of the modality audio: removes clicks, then hum, then hiss, without trained weights.

    Each step works at 48 kHz with a halo of its own, so recordings of any length stream through.

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
        """The same for noise that was recorded alone, `(C, n)` at 48 kHz."""
        return AudioRestoration(self._hiss.measure(noise))
