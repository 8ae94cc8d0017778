"""Training losses, one function and one row each: `(estimate, target)` batches to a scalar."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.training.perceptual import estoi, pesq


def mse(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean squared error, which the posterior mean minimises."""
    return F.mse_loss(estimate, target)


def l1(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error, less sensitive to outliers than `mse`."""
    return F.l1_loss(estimate, target)


def charbonnier(estimate: Tensor, target: Tensor) -> Tensor:
    """Smooth l1 (Charbonnier et al. 1994)."""
    return torch.sqrt((estimate - target).square() + 1e-6).mean()


def log_mse(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean log squared error of the items, the quantity that PSNR and SNR average.

    It weighs faint and strong noise alike, where strong noise dominates `mse`. A floor 50 dB below unit
    variance keeps nearly perfect items from dominating.
    """
    error = (estimate - target).square().flatten(1).mean(1)
    return torch.log(error + 1e-5).mean()


def ssim(estimate: Tensor, target: Tensor) -> Tensor:
    """One minus the structural similarity (Wang et al. 2004) in windows of 7, for signals in 0..1."""
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
    limit = (mean_e.square() + mean_t.square() + 1e-4) * (variance_e + variance_t + 9e-4)
    return 1 - (likeness / limit).mean()


def speech(estimate: Tensor, target: Tensor) -> Tensor:
    """Error of compressed complex and magnitude spectra, minus scale-invariant SDR.

    The power 0.3 approximates loudness (Ephrat et al. 2018); SI-SDR (Le Roux et al. 2019) fixes the phase.

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


def speech_perceptual(estimate: Tensor, target: Tensor) -> Tensor:
    """Loss `speech` minus differentiable PESQ and ESTOI (see `denoise.training.perceptual`).

    Shape:
        `(B, 1, T)` at 16 kHz.
    """
    scores = 0.03 * pesq(estimate, target) + 0.4 * estoi(estimate, target)
    return speech(estimate, target) - torch.where(_active(target.flatten(1)), scores, 0.0).mean()


def speech_gentle(estimate: Tensor, target: Tensor) -> Tensor:
    """Loss `speech_perceptual` plus the squared loss of magnitude where the estimate is below the target.

    Over-attenuation of weak voices costs more than noise that stays, as in VoiceFilter-Lite (Wang et al.
    2020), here with compressed magnitudes.

    Shape:
        `(B, 1, T)` at 16 kHz.
    """
    window = torch.hann_window(512, device=estimate.device)
    kept, wanted = (
        torch.stft(x[:, 0], 512, 256, window=window, return_complex=True).abs().square().add(1e-8).pow(0.15)
        for x in (estimate, target)
    )
    return speech_perceptual(estimate, target) + 0.3 * (wanted - kept).clamp(min=0.0).square().mean()


def segment_sdr(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean log error of four segments of each item, relative to their energy: negative SDR in nepers.

    Floors 50 dB below a segment and 20 dB below its item's mean keep clean items and pauses from dominating.

    Shape:
        `(B, C, T)`.
    """
    parts = target.shape[-1] // 4
    error, energy = (
        x[..., : 4 * parts].reshape(*x.shape[:2], 4, parts).square().mean((1, 3))
        for x in (estimate - target, target)
    )
    energy = energy + 1e-2 * energy.mean(1, keepdim=True) + 1e-12
    return torch.log(error / energy + 1e-5).mean()


def cross_entropy(estimate: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of the logits of classes and their probabilities, `(B, classes)`, slightly smoothed."""
    return F.cross_entropy(estimate, target, label_smoothing=0.05)


def none(estimate: Tensor, _target: Tensor) -> Tensor:
    """Zero, for models whose training step returns the whole loss."""
    return estimate.new_zeros(())


def _active(target: Tensor) -> Tensor:
    """Mark the items of `(B, T)` whose power exceeds -60 dB."""
    return target.square().mean(1) > 1e-6


def _si_sdr_loss(estimate: Tensor, target: Tensor) -> Tensor:
    """Negative SI-SDR in nepers over active items; silence has no scale to be invariant to."""
    estimate, target = estimate.flatten(1), target.flatten(1)
    energy = target.square().sum(1, keepdim=True)
    active = _active(target).float()
    projected = (estimate * target).sum(1, keepdim=True) / (energy + 1e-8) * target
    ratio = (projected.square().sum(1) + 1e-8) / ((estimate - projected).square().sum(1) + 1e-8)
    return -(torch.log(ratio).clamp(-10.0, 8.0) * active).sum() / active.sum().clamp(min=1.0)


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "l1": l1,
    "charbonnier": charbonnier,
    "log_mse": log_mse,
    "ssim": ssim,
    "speech": speech,
    "speech_perceptual": speech_perceptual,
    "speech_gentle": speech_gentle,
    "segment_sdr": segment_sdr,
    "cross_entropy": cross_entropy,
    "none": none,
    "heard_speech": speech_perceptual,  # its name in earlier recipes
}
