"""Denoisers without weights for images and sensor logs: baselines for learned models.

Each estimates the noise; a `SigmaClassical` row also takes its level as `sigma`. The constants of a row are
class attributes; subclass to change them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from denoise.arrays import Array
from denoise.estimate import white_noise_sigma
from denoise.models.base import Denoiser, InputSpec, SigmaDenoiser


class Classical(Denoiser):
    """A denoiser that is a function of numpy arrays; subclasses define `spec` and `denoise`."""

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch `(B, spec.channels, *S)`, item by item."""
        return self._each(noisy, self.denoise)

    def denoise(self, samples: Array) -> Array:
        """Denoise one channel `(*S)`, or an RGB image or joint channels `(C, *S)`."""
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
    """The identity, as the reference of benchmarks."""

    is_identity = True
    spec = InputSpec("image")

    def denoise(self, samples: Array) -> Array:
        return samples


class AudioIdentity(ImageIdentity):
    """The identity for audio."""

    spec = InputSpec("audio")


class SensorIdentity(ImageIdentity):
    """The identity for sensor logs."""

    spec = InputSpec("sensor", centre=True)


class ImageMedian(Classical):
    """Median of a square window, for salt-and-pepper noise and dead pixels."""

    size = 3  # px
    spec = InputSpec("image", halo=1)

    def denoise(self, samples: Array) -> Array:
        from scipy.ndimage import median_filter

        return np.asarray(median_filter(samples, self.size, mode="nearest"))


class SensorMedian(ImageMedian):
    """Running median, for spikes."""

    size = 5  # samples
    spec = InputSpec("sensor", halo=2, centre=True)


class ImageGaussian(Classical):
    """Gaussian blur."""

    blur_px = 1.0
    spec = InputSpec("image", halo=4)  # the kernel is cut at 4 standard deviations

    def denoise(self, samples: Array) -> Array:
        from scipy.ndimage import gaussian_filter

        values = samples.astype(np.float64)
        return np.asarray(gaussian_filter(values, self.blur_px, radius=self.spec.halo, mode="nearest"))


class ImageWiener(SigmaClassical):
    """Adaptive Wiener filter, which shrinks each pixel towards its local mean.

    Lee, "Digital image enhancement and noise filtering by use of local statistics" (1980).
    It differs from `scipy.signal.wiener` in repeated edges and in the noise estimate, by wavelets instead of
    the mean local variance, which takes texture for noise.
    """

    size = 5  # px
    spec = InputSpec("image", halo=None)

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        sigma = white_noise_sigma(samples) if sigma is None else sigma
        return lee_filter(samples, self.size, sigma**2)


def lee_filter(samples: Array, size: int, noise_power: float | Array) -> Array:
    """Shrink each sample of `(*S)` towards the mean of its window by noise power over window variance.

    The window has an odd side `size`; `noise_power` is one for all, or one per sample.
    """
    from scipy.ndimage import uniform_filter

    values = samples.astype(np.float64)
    mean: Array = uniform_filter(values, size, mode="nearest")
    variance = uniform_filter(values**2, size, mode="nearest") - mean**2
    excess = np.maximum(variance - noise_power, 0.0)
    gain = np.divide(excess, variance, out=np.zeros_like(excess), where=excess > 0.0)
    return np.asarray(mean + gain * (values - mean))


class ImageTotalVariation(SigmaClassical):
    """Total-variation denoising, for flat areas with sharp edges such as drawings; it flattens texture.

    Rudin, Osher and Fatemi (1992), by the iteration of Chambolle, "An algorithm for total variation
    minimization" (2004).
    """

    weight_per_sigma = 0.75
    spec = InputSpec("image", halo=None)

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        from skimage.restoration import denoise_tv_chambolle

        sigma = white_noise_sigma(samples) if sigma is None else sigma
        if sigma == 0.0:
            return samples
        return denoise_tv_chambolle(samples, self.weight_per_sigma * sigma)  # type: ignore[no-untyped-call]


class SensorTotalVariation(ImageTotalVariation):
    """Total-variation denoising, for logs of steps and plateaus."""

    weight_per_sigma = 2.0
    spec = InputSpec("sensor", halo=None, centre=True)


def _is_gray(picture: Array) -> bool:
    """Return whether the three channels are equal, as a gray file has them in a colour model."""
    return np.array_equal(picture[0], picture[1]) and np.array_equal(picture[0], picture[2])


# Orthonormal gray, red-blue and green-magenta, which preserves white noise of equal channels.
_OPPONENT = np.array([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
_OPPONENT /= np.linalg.norm(_OPPONENT, axis=1, keepdims=True)


class ImageWavelet(SigmaClassical):
    """Soft thresholds in the wavelet domain, set by BayesShrink, on luma and two colour differences.

    Chang, Yu and Vetterli, "Adaptive wavelet thresholding for image denoising and compression" (2000). Unless
    `sigma` is given, each channel is measured alone, because camera noise differs among the three.
    """

    wavelet = "sym4"
    levels = 5
    spec = InputSpec("image", channels=3, halo=None)

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        if _is_gray(samples):
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
        return np.asarray(denoise_wavelet(channel, sigma, wavelet=self.wavelet, wavelet_levels=levels))


class NonLocalMeans(SigmaClassical):
    """Mean of pixels with similar surroundings (Buades, Coll and Morel, 2005): the best here on photos."""

    patch_px = 5
    search_radius_px = 6
    h_per_sigma = 0.6
    spec = InputSpec("image", channels=3, halo=None)

    def denoise(self, samples: Array, sigma: float | None = None) -> Array:
        from skimage.restoration import denoise_nl_means

        if sigma is None:
            sigma = float(np.mean([white_noise_sigma(channel) for channel in samples]))
        if sigma == 0.0:
            return samples
        picture = samples[:1] if _is_gray(samples) else samples
        out: Array = denoise_nl_means(
            np.moveaxis(picture, 0, -1),
            patch_size=self.patch_px,
            patch_distance=self.search_radius_px,
            h=self.h_per_sigma * sigma,
            sigma=sigma,
            channel_axis=-1,
        )
        return np.moveaxis(out.reshape(*samples.shape[1:], -1), -1, 0)


class SavitzkyGolay(Classical):
    """Least-squares cubic over a running window (Savitzky and Golay, 1964), which preserves peak heights."""

    window = 11  # samples
    order = 3
    # The radius is 5 samples, but 10 near the ends, where the window stops moving.
    spec = InputSpec("sensor", halo=10, centre=True)

    def denoise(self, samples: Array) -> Array:
        from scipy.signal import savgol_filter

        window = min(self.window, samples.size - 1 + samples.size % 2)  # odd
        if window <= self.order:
            return samples
        return np.asarray(savgol_filter(samples.astype(np.float64), window, self.order, mode="interp"))


class Butterworth(Classical):
    """Butterworth low-pass, run forwards and backwards to avoid a delay."""

    order = 4
    cutoff = 0.2  # of the Nyquist frequency
    # After this many samples its ringing is below the rounding of float32.
    spec = InputSpec("sensor", halo=96, centre=True)

    def denoise(self, samples: Array) -> Array:
        from scipy.signal import butter, sosfiltfilt

        sections = butter(self.order, self.cutoff, output="sos")
        padding = min(3 * 2 * self.order, samples.size - 1)
        return np.asarray(sosfiltfilt(sections, samples.astype(np.float64), padlen=padding))


class SensorWavelet(SigmaClassical):
    """BayesShrink on the undecimated wavelet transform: the best row here on white noise of sensor logs.

    Coifman and Donoho, "Translation-invariant de-noising" (1995), with the thresholds of Chang, Yu and
    Vetterli (2000).
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
        # The transform is circular and halves its length `levels` times: mirror the ends over its support.
        support = pywt.Wavelet(self.wavelet).dec_len << levels
        right = support + -(samples.size + 2 * support) % (1 << levels)
        padded = np.pad(samples.astype(np.float64), (support, right), mode="symmetric")
        rough, *details = pywt.swt(padded, self.wavelet, levels, trim_approx=True)
        shrunk = [pywt.threshold(d, _bayes_threshold(d, sigma), "soft") for d in details]
        return np.asarray(pywt.iswt([rough, *shrunk], self.wavelet)[support : support + samples.size])


class SensorHampel(Classical):
    """`SensorWavelet` after a Hampel filter, which replaces outliers by the running median.

    Hampel, "The influence curve and its role in robust estimation" (1974).
    """

    spec = InputSpec("sensor", halo=None, centre=True)
    window = 11  # samples
    threshold = 3.0  # standard deviations, by the median absolute deviation

    def denoise(self, samples: Array) -> Array:
        from scipy.ndimage import median_filter

        median = median_filter(samples, self.window, mode="nearest")
        distance = np.abs(samples - median)
        deviation = 1.4826 * median_filter(distance, self.window, mode="nearest")
        return SensorWavelet().denoise(np.where(distance > self.threshold * deviation, median, samples))


def _bayes_threshold(details: Array, sigma: float) -> float:
    """Return noise variance over signal deviation, near optimal for Laplacian details."""
    signal_variance = float(np.mean(details**2)) - sigma**2
    return sigma**2 / signal_variance**0.5 if signal_variance > 0.0 else float(np.abs(details).max())
