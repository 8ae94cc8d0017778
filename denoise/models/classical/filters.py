"""Denoisers without weights, from scipy and scikit-image: the baselines that a learned model has to beat.

Each estimates the noise it removes; a `SigmaClassical` row also takes its level as `sigma`.
The constants of a row are class attributes; subclass to change them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoise.estimate import white_noise_sigma
from denoise.models.base import Denoiser, InputSpec, SigmaDenoiser

__all__ = [
    "AudioIdentity",
    "Butterworth",
    "Classical",
    "ImageGaussian",
    "ImageIdentity",
    "ImageMedian",
    "ImageTotalVariation",
    "ImageWavelet",
    "ImageWiener",
    "NonLocalMeans",
    "SavitzkyGolay",
    "SensorHampel",
    "SensorIdentity",
    "SensorMedian",
    "SensorTotalVariation",
    "SensorWavelet",
    "SigmaClassical",
]

Array = NDArray[Any]


class Classical(Denoiser):
    """A denoiser that is a function of numpy arrays: a subclass gives `spec` and `denoise`."""

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch `(B, spec.channels, *S)`, item by item."""
        return self._each(noisy, self.denoise)

    def denoise(self, samples: Array) -> Array:
        """Denoise one channel `(*S)`; or `(C, *S)`, an RGB image or joint channels."""
        raise NotImplementedError

    def _each(self, noisy: Tensor, denoise: Callable[[Array], Array]) -> Tensor:
        denoised = np.empty(noisy.shape, dtype=np.float32)
        single = self.spec.channels == 1 and not self.spec.joint_channels
        for item, out in zip(noisy.detach().cpu().numpy(), denoised, strict=True):
            out[...] = denoise(item[0] if single else item)
        return torch.from_numpy(denoised).to(noisy)


class SigmaClassical(Classical, SigmaDenoiser):
    """A classical denoiser that estimates the noise level unless it is given."""

    def forward(self, noisy: Tensor, sigma: float | None = None) -> Tensor:
        """Denoise a batch, item by item; `sigma` is in the units of the batch."""
        return self._each(noisy, partial(self.denoise, sigma=sigma))

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        """Denoise one item at a noise level."""
        raise NotImplementedError


class ImageIdentity(Classical):
    """Gives back what it gets: the row that a benchmark measures the others against."""

    spec = InputSpec("image")

    def denoise(self, samples: Array) -> Array:
        return samples


class AudioIdentity(ImageIdentity):
    """The same for audio."""

    spec = InputSpec("audio")


class SensorIdentity(ImageIdentity):
    """The same for sensors."""

    spec = InputSpec("sensor", centre=True)


class ImageMedian(Classical):
    """Median of a square window: for salt-and-pepper and dead pixels; blunt for anything else."""

    size = 3  # px
    spec = InputSpec("image", halo=1)

    def denoise(self, samples: Array) -> Array:
        from scipy.ndimage import median_filter

        out: Array = median_filter(samples, self.size, mode="nearest")
        return out


class SensorMedian(ImageMedian):
    """Running median: for spikes."""

    size = 5  # samples
    spec = InputSpec("sensor", halo=2, centre=True)


class ImageGaussian(Classical):
    """Gaussian blur."""

    blur_px = 1.0
    spec = InputSpec("image", halo=4)  # the kernel is cut at 4 standard deviations

    def denoise(self, samples: Array) -> Array:
        from scipy.ndimage import gaussian_filter

        out: Array = gaussian_filter(
            samples.astype(np.float64), self.blur_px, radius=self.spec.halo, mode="nearest"
        )
        return out


class ImageWiener(SigmaClassical):
    """Adaptive Wiener filter: the local mean, plus as much of the rest as its variance exceeds the noise's.

    Lee, "Digital image enhancement and noise filtering by use of local statistics" (1980); the rule of
    `scipy.signal.wiener`, with edges that repeat instead of fading to black, and the noise measured by
    wavelets instead of by the mean local variance, which takes all texture for noise.
    """

    size = 5  # px
    spec = InputSpec("image", halo=None)

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        sigma = white_noise_sigma(samples) if sigma is None else sigma
        return lee_filter(samples, self.size, sigma**2)


def lee_filter(samples: Array, size: int, noise_power: float | Array) -> Array:
    """Shrink each sample towards the mean of its window by noise power over window variance.

    Args:
        samples: `(*S)`.
        size: Side of the window, odd.
        noise_power: Noise variance, one for all or one per sample.
    """
    from scipy.ndimage import uniform_filter

    values = samples.astype(np.float64)
    mean: Array = uniform_filter(values, size, mode="nearest")
    variance = uniform_filter(values**2, size, mode="nearest") - mean**2
    excess = np.maximum(variance - noise_power, 0.0)
    gain = np.divide(excess, variance, out=np.zeros_like(excess), where=excess > 0.0)
    denoised: Array = mean + gain * (values - mean)
    return denoised


class ImageTotalVariation(SigmaClassical):
    """The picture of least total variation near the noisy one.

    Rudin, Osher and Fatemi (1992), by the iteration of Chambolle, "An algorithm for total variation
    minimization" (2004). For drawings and other flat areas with sharp edges; it turns texture into patches.
    """

    weight_per_sigma = 0.75
    spec = InputSpec("image", halo=None)

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        from skimage.restoration import denoise_tv_chambolle

        sigma = white_noise_sigma(samples) if sigma is None else sigma
        if sigma == 0.0:
            return samples
        out: Array = denoise_tv_chambolle(samples, self.weight_per_sigma * sigma)  # type: ignore[no-untyped-call]
        return out


class SensorTotalVariation(ImageTotalVariation):
    """The same for logs of steps and plateaus."""

    weight_per_sigma = 2.0
    spec = InputSpec("sensor", halo=None, centre=True)


def _gray(picture: Array) -> bool:
    """Whether `(3, H, W)` holds one channel three times, as gray files come to colour rows."""
    return np.array_equal(picture[0], picture[1]) and np.array_equal(picture[0], picture[2])


# Gray, red-blue and green-magenta, orthonormal: white noise of equal channels stays so.
_OPPONENT = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
_OPPONENT /= np.linalg.norm(_OPPONENT, axis=1, keepdims=True)


class ImageWavelet(SigmaClassical):
    """Soft thresholds in the wavelet domain, set by BayesShrink, on luma and two colour differences.

    Chang, Yu and Vetterli, "Adaptive wavelet thresholding for image denoising and compression" (2000).
    Colour differences have few details, so most of their noise goes. Blind, each is measured by itself: the
    noise of a camera is not the same in all three.
    """

    wavelet = "sym4"
    levels = 5
    spec = InputSpec("image", channels=3, halo=None)

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        if _gray(samples):
            return np.broadcast_to(self._channel(samples[0], sigma), samples.shape)
        opponent = np.tensordot(_OPPONENT, samples, axes=1)
        denoised = np.stack([self._channel(channel, sigma) for channel in opponent])
        return np.tensordot(_OPPONENT.T, denoised, axes=1)

    def _channel(self, channel: Array, sigma: float | None) -> Array:
        from pywt import dwt_max_level
        from skimage.restoration import denoise_wavelet

        sigma = white_noise_sigma(channel) if sigma is None else sigma
        levels = min(self.levels, dwt_max_level(min(channel.shape), self.wavelet))
        if sigma == 0.0 or levels == 0:
            return channel
        out: Array = denoise_wavelet(channel, sigma, wavelet=self.wavelet, wavelet_levels=levels)
        return out


class NonLocalMeans(SigmaClassical):
    """Mean of the pixels whose surroundings look alike (Buades, Coll and Morel, 2005).

    The best of these rows on photographs, and the slowest.
    """

    patch_px = 5
    reach_px = 6
    h_per_sigma = 0.6
    spec = InputSpec("image", channels=3, halo=None)

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        from skimage.restoration import denoise_nl_means

        if sigma is None:
            sigma = float(np.mean([white_noise_sigma(channel) for channel in samples]))
        if sigma == 0.0:
            return samples
        picture = samples[:1] if _gray(samples) else samples
        out: Array = denoise_nl_means(
            np.moveaxis(picture, 0, -1),
            patch_size=self.patch_px,
            patch_distance=self.reach_px,
            h=self.h_per_sigma * sigma,
            sigma=sigma,
            channel_axis=-1,
        )
        return np.moveaxis(out.reshape(*samples.shape[1:], -1), -1, 0)


class SavitzkyGolay(Classical):
    """Least-squares cubic over a running window (Savitzky and Golay, 1964): keeps the height of peaks."""

    window = 11  # samples
    order = 3
    # An output value looks 5 samples each way; near the ends the window stands still, so 10.
    spec = InputSpec("sensor", halo=10, centre=True)

    def denoise(self, samples: Array) -> Array:
        from scipy.signal import savgol_filter

        window = min(self.window, samples.size - 1 + samples.size % 2)  # odd
        if window <= self.order:
            return samples
        out: Array = savgol_filter(samples.astype(np.float64), window, self.order, mode="interp")
        return out


class Butterworth(Classical):
    """Butterworth low-pass, run forwards and backwards so that nothing is shifted in time."""

    order = 4
    cutoff = 0.2  # of the Nyquist frequency
    # Its ringing never quite ends: after this many samples it is below the rounding of float32.
    spec = InputSpec("sensor", halo=96, centre=True)

    def denoise(self, samples: Array) -> Array:
        from scipy.signal import butter, sosfiltfilt

        sections = butter(self.order, self.cutoff, output="sos")
        padding = min(3 * 2 * self.order, samples.size - 1)
        out: Array = sosfiltfilt(sections, samples.astype(np.float64), padlen=padding)
        return out


class SensorWavelet(SigmaClassical):
    """BayesShrink on the undecimated wavelet transform, so that a shift of the input only shifts the output.

    Coifman and Donoho, "Translation-invariant de-noising" (1995), with the thresholds of Chang, Yu and
    Vetterli (2000). The best of these rows on white noise.
    """

    wavelet = "sym4"
    levels = 6
    spec = InputSpec("sensor", halo=None, centre=True)

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        import pywt

        sigma = white_noise_sigma(samples) if sigma is None else sigma
        levels = min(self.levels, int(np.log2(samples.size)))
        if sigma == 0.0 or levels == 0:
            return samples
        # The transform is circular and halves its length `levels` times: mirror the ends beyond its reach.
        reach = pywt.Wavelet(self.wavelet).dec_len << levels
        unit = 1 << levels
        right = reach + -(samples.size + 2 * reach) % unit
        padded = np.pad(samples.astype(np.float64), (reach, right), mode="symmetric")
        rough, *details = pywt.swt(padded, self.wavelet, levels, trim_approx=True)
        shrunk = [pywt.threshold(d, _bayes_threshold(d, sigma), "soft") for d in details]
        out: Array = pywt.iswt([rough, *shrunk], self.wavelet)
        return out[reach : reach + samples.size]


class SensorHampel(Classical):
    """The same after a Hampel filter: a reading far from the median around it gives way to that.

    Hampel, "The influence curve and its role in robust estimation" (1974), as engineers use it on logs.
    """

    spec = InputSpec("sensor", halo=None, centre=True)
    window = 11  # samples
    far = 3.0  # deviations, by the median absolute one

    def __init__(self) -> None:
        super().__init__()
        self._wavelet = SensorWavelet()

    def denoise(self, samples: Array) -> Array:
        from scipy.ndimage import median_filter

        middle = median_filter(samples, self.window, mode="nearest")
        distance = np.abs(samples - middle)
        usual = 1.4826 * median_filter(distance, self.window, mode="nearest")
        return self._wavelet.denoise(np.where(distance > self.far * usual, middle, samples))


def _bayes_threshold(details: Array, sigma: float) -> float:
    """Noise variance over signal deviation, near optimal for Laplacian details; all goes in pure noise."""
    signal_variance = float(np.mean(details**2)) - sigma**2
    return sigma**2 / signal_variance**0.5 if signal_variance > 0.0 else float(np.abs(details).max())
