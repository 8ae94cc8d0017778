"""Training losses: one function and one row each; all take `(estimate, target)` batches and give a scalar."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.training.perceptual import estoi, pesq

__all__ = ["LOSSES", "charbonnier", "l1", "log_mse", "mse", "speech", "ssim"]


def mse(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean squared error: the mean of the posterior, and the highest PSNR at one noise level."""
    return F.mse_loss(estimate, target)


def l1(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error: less swayed by outliers than `mse`."""
    return F.l1_loss(estimate, target)


def charbonnier(estimate: Tensor, target: Tensor) -> Tensor:
    """A smooth l1 (Charbonnier et al. 1994)."""
    return torch.sqrt((estimate - target).square() + 1e-6).mean()


def log_mse(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean over the batch of each item's error in nepers: what PSNR and SNR average.

    It weighs a faint and a strong noise alike, where `mse` hears the strong one only. The floor (50 dB below
    unit variance) keeps the nearly perfect items from taking over.
    """
    error = (estimate - target).square().flatten(1).mean(1)
    return torch.log(error + 1e-5).mean()


def ssim(estimate: Tensor, target: Tensor) -> Tensor:
    """One minus structural similarity (Wang et al. 2004) in windows of 7, for signals in 0..1."""
    window = F.avg_pool2d if target.ndim == 4 else F.avg_pool1d

    def mean(x: Tensor) -> Tensor:
        return window(x, 7, stride=1)

    mean_e, mean_t = mean(estimate), mean(target)
    variance_e, variance_t = (
        mean(estimate.square()) - mean_e.square(),
        mean(target.square()) - mean_t.square(),
    )
    covariance = mean(estimate * target) - mean_e * mean_t
    likeness = (2 * mean_e * mean_t + 1e-4) * (2 * covariance + 9e-4)
    most = (mean_e.square() + mean_t.square() + 1e-4) * (variance_e + variance_t + 9e-4)
    return 1 - (likeness / most).mean()


def speech(estimate: Tensor, target: Tensor) -> Tensor:
    """Compressed complex and magnitude spectra, and scale-invariant SDR.

    The power 0.3 weighs quiet sounds about as hearing does (Ephrat et al. 2018); the waveform term
    (Le Roux et al. 2019) holds the phase.

    Shape:
        `(B, 1, T)` at 16 kHz.
    """
    window = torch.hann_window(512, device=estimate.device)

    def spectrum(x: Tensor) -> tuple[Tensor, Tensor]:
        bins = torch.stft(x[:, 0], 512, 256, window=window, return_complex=True)  # (B, 257, frames)
        power = bins.real.square() + bins.imag.square() + 1e-8
        compressed = torch.view_as_real(bins) * power.pow(-0.35).unsqueeze(-1)  # |X|^0.3 with X's phase
        return power.pow(0.15), compressed

    magnitude, complex_ = spectrum(estimate)
    magnitude_target, complex_target = spectrum(target)
    spectral = 0.7 * F.mse_loss(magnitude, magnitude_target) + 0.3 * 2 * F.mse_loss(complex_, complex_target)
    return spectral + 0.01 * _si_sdr_loss(estimate, target)


def heard_speech(estimate: Tensor, target: Tensor) -> Tensor:
    """`speech`, and differentiable PESQ and ESTOI: see `denoise.training.perceptual`.

    Shape:
        `(B, 1, T)` at 16 kHz.
    """
    heard = _heard(target.flatten(1))
    said = 0.03 * pesq(estimate, target) + 0.4 * estoi(estimate, target)
    return speech(estimate, target) - torch.where(heard, said, 0.0).mean()


def _heard(target: Tensor) -> Tensor:
    """Which items `(B, T)` hold a signal: are above -60 dB."""
    return target.square().mean(1) > 1e-6


def _si_sdr_loss(estimate: Tensor, target: Tensor) -> Tensor:
    """Minus SI-SDR in nepers over items that hold a signal; silence has no scale to be invariant to."""
    estimate, target = estimate.flatten(1), target.flatten(1)
    energy = target.square().sum(1, keepdim=True)
    heard = _heard(target).float()
    projected = (estimate * target).sum(1, keepdim=True) / (energy + 1e-8) * target
    ratio = (projected.square().sum(1) + 1e-8) / ((estimate - projected).square().sum(1) + 1e-8)
    return -(torch.log(ratio).clamp(-10.0, 8.0) * heard).sum() / heard.sum().clamp(min=1.0)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "mse": mse,
        "l1": l1,
        "charbonnier": charbonnier,
        "log_mse": log_mse,
        "ssim": ssim,
        "speech": speech,
        "heard_speech": heard_speech,
    }
)
