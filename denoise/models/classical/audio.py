"""Audio denoisers without weights: an adaptive Wiener filter and a spectral gate."""

from __future__ import annotations

import numpy as np

from denoise.arrays import Array
from denoise.models.base import InputSpec
from denoise.models.classical.filters import Classical, lee_filter


class AudioWiener(Classical):
    """Adaptive Wiener filter, as `scipy.signal.wiener`; it removes consonants along with hiss.

    The noise power is the mean local variance of a moving window instead of the whole recording.
    """

    size = 5  # samples
    noise_radius = 16_384  # samples over which the noise is measured, each way
    spec = InputSpec("audio", halo=noise_radius + 2 * (size // 2))

    def denoise(self, samples: Array) -> Array:
        from scipy.ndimage import uniform_filter1d

        values = samples.astype(np.float64)
        mean = uniform_filter1d(values, self.size, mode="nearest")
        variance = np.maximum(uniform_filter1d(values**2, self.size, mode="nearest") - mean**2, 0.0)
        noise_power = uniform_filter1d(variance, 2 * self.noise_radius + 1, mode="reflect")
        return lee_filter(values, self.size, noise_power)


class SpectralGate(Classical):
    """Attenuates the cells of a short-time spectrum that hardly exceed the noise floor.

    The floor of each frequency is its minimum smoothed power over a few seconds (Martin, "Noise power
    spectral density estimation based on optimal smoothing and minimum statistics", 2001), which follows slow
    changes. The mask is smoothed against musical noise. Joint channels share one mask, of their mean power.
    """

    frame = 1024  # samples: 21 ms at 48 kHz, 64 ms at 16 kHz
    hop = 256
    floor_frames = 188  # window of the minimum, each way: 1 s at 48 kHz, 3 s at 16 kHz
    smooth_frames = 8  # window of the mean power for the floor, each way
    floor_bias = 2.58  # mean power of steady white noise over its minimum smoothed power, measured
    mask_frames = 1  # each way
    mask_bins = 2  # each way
    threshold_db = 9.0  # level of the half-open gate above the floor
    depth_db = 20.0  # attenuation of the closed gate
    passed_bins = 2  # bins over which the window spreads an offset, which is not noise
    dtype: type = np.float64  # of the arithmetic
    spec = InputSpec(
        "audio",
        multiple_of=hop,
        halo=-(-((floor_frames + 2 * smooth_frames + mask_frames + 4) * hop + frame) // hop) * hop,
        joint_channels=True,
        edge_padding="none",
    )

    def denoise(self, samples: Array) -> Array:
        rows = np.atleast_2d(samples)
        return self.gate(rows, self.silent_frames(rows)).reshape(samples.shape)

    def gate(self, rows: Array, silent: Array) -> Array:
        """Return joint channels `(C, n)` denoised; frames marked in `silent` do not count for the floor."""
        spectra = [self._analyse(row.astype(self.dtype, copy=False)) for row in rows]
        power: Array = sum(spectrum.real**2 + spectrum.imag**2 for spectrum in spectra) / len(spectra)
        gain = self._gain(power, silent)
        return np.stack([self._synthesise(gain * spectrum, rows.shape[-1]) for spectrum in spectra])

    def silent_frames(self, rows: Array) -> Array:
        """Return True for each frame of `(C, n)` in which no channel changes: digital silence."""
        changes = np.pad((np.diff(rows) != 0.0).any(axis=0), (1, 0))
        frames = np.pad(changes, (self.frame - self.hop, self.frame - 1), mode="symmetric")
        counts = np.concatenate([[0], np.cumsum(frames)])
        starts = np.arange(0, self.frame - self.hop + rows.shape[-1], self.hop)
        # The first sample of a frame differs from one outside it.
        return np.asarray(counts[starts + self.frame] - counts[starts + 1] == 0)

    def _window(self) -> Array:
        # Periodic Hann for analysis and synthesis: with an overlap of 3/4 the squares sum to 1.5.
        return np.asarray(np.sin(np.pi * np.arange(self.frame) / self.frame) ** 2, self.dtype)

    def _analyse(self, values: Array) -> Array:
        """Return the spectrum `(frames, bins)` of frames that start at multiples of `hop`."""
        margin = self.frame - self.hop
        return self._spectra(np.pad(values, (margin, margin + -values.size % self.hop), mode="symmetric"))

    def _spectra(self, padded: Array) -> Array:
        from scipy.fft import rfft

        frames = np.lib.stride_tricks.sliding_window_view(padded, self.frame)[:: self.hop]
        return np.asarray(rfft(frames * self._window(), axis=1))

    def _synthesise(self, spectrum: Array, size: int) -> Array:
        from scipy.fft import irfft

        window = self._window() / self.dtype(0.375 * self.frame / self.hop)
        frames = irfft(spectrum, self.frame, axis=1) * window
        pieces = self.frame // self.hop
        out: Array = np.zeros((len(frames) + pieces - 1, self.hop), self.dtype)
        for piece in range(pieces):
            out[piece : piece + len(frames)] += frames[:, piece * self.hop : (piece + 1) * self.hop]
        margin = self.frame - self.hop
        return out.ravel()[margin : margin + size]

    def _gain(self, power: Array, silent: Array) -> Array:
        from scipy.ndimage import uniform_filter

        local = uniform_filter(power, (2 * self.mask_frames + 1, 2 * self.mask_bins + 1), mode="nearest")
        half_open = self.floor_bias * self._floor(power, silent) * 10.0 ** (self.threshold_db / 10.0)
        mask = np.divide(local, local + half_open, out=np.zeros_like(local), where=local > 0.0)
        closed = 10.0 ** (-self.depth_db / 20.0)
        gain: Array = closed + (1.0 - closed) * mask
        gain[:, : self.passed_bins] = 1.0
        return gain

    def _floor(self, power: Array, silent: Array) -> Array:
        """Return the minimum smoothed power around each cell without silent frames; 0 among those."""
        from scipy.ndimage import maximum_filter1d, minimum_filter1d, uniform_filter1d

        smooth = uniform_filter1d(power, 2 * self.smooth_frames + 1, axis=0, mode="nearest")
        smooth = np.maximum(smooth, 0.0)  # rounding can make the running sum negative
        near_silence = maximum_filter1d(silent, 2 * (self.smooth_frames + self.frame // self.hop) + 1)
        smooth[near_silence] = np.inf
        floor: Array = minimum_filter1d(smooth, 2 * self.floor_frames + 1, axis=0, mode="nearest")
        floor[np.isinf(floor)] = 0.0
        return floor
