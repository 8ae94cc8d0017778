"""Training losses: one function and one row each; all take `(estimate, target)` batches and give a scalar."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

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
    """`speech`, and what an ear would notice: see `disturbance`.

    Shape:
        `(B, 1, T)` at 16 kHz.
    """
    return speech(estimate, target) + 0.05 * disturbance(estimate, target).mean()


def understood_speech(estimate: Tensor, target: Tensor) -> Tensor:
    """`heard_speech`, and what of the words is lost: see `intelligibility`.

    Shape:
        `(B, 1, T)` at 16 kHz.
    """
    return heard_speech(estimate, target) - 0.4 * intelligibility(estimate, target).mean()


_BARKS = 49
_GAMMA = 0.23  # Zwicker's exponent of loudness
_LISTENING_DB = 79.0  # sound pressure level at which PESQ plays the target


@functools.lru_cache(maxsize=1)
def _ear() -> tuple[Tensor, Tensor]:
    """Of 49 bands that are equally wide in Bark: which bins they add `(49, 257)`, and thresholds `(49, 1)`.

    Bark after Zwicker and Terhardt (1980), the threshold of hearing after Terhardt (1979).
    """
    hz = torch.linspace(0, 8000, 257, dtype=torch.float64)
    bark = 13 * torch.atan(7.6e-4 * hz) + 3.5 * torch.atan((hz / 7500) ** 2)
    place = bark / bark[-1] * (_BARKS - 1)
    bands = (1 - (place - torch.arange(_BARKS)[:, None]).abs()).clamp(min=0)
    khz = (bands @ hz / bands.sum(1)).clamp(min=50) / 1000
    threshold_db = 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
    return bands.float(), (10 ** (threshold_db / 10))[:, None].float()


def disturbance(estimate: Tensor, target: Tensor) -> Tensor:
    """What PESQ takes off its 4.5 points, item by item, made differentiable.

    Loudness in Bark bands is compared, small differences are masked, and what was added weighs more than what
    was lost (Martin-Donas et al. 2018, "A deep learning loss function based on the perceptual evaluation of
    the speech quality"; ITU-T P.862). The time alignment and the equalisation of PESQ are left out.

    Shape:
        `(B, 1, T)` at 16 kHz in, `(B,)` out.
    """
    bands, threshold = (x.to(estimate.device) for x in _ear())
    window = torch.hann_window(512, device=estimate.device)
    level = target.square().mean((1, 2))
    unit = 10 ** (_LISTENING_DB / 10) / (level + 1e-7) * 2 / (512 * window.square().sum())

    def power(x: Tensor) -> Tensor:
        bins = torch.stft(x[:, 0], 512, 256, window=window, return_complex=True)  # (B, 257, frames)
        return bands @ ((bins.real.square() + bins.imag.square()) * unit[:, None, None])

    def loudness(x: Tensor) -> Tensor:
        loud: Tensor = (2 * threshold) ** _GAMMA * ((0.5 + 0.5 * x / threshold) ** _GAMMA - 1)
        return loud.clamp(min=0)

    power_estimate, power_target = power(estimate), power(target)
    loud_estimate, loud_target = loudness(power_estimate), loudness(power_target)
    masked = 0.25 * torch.minimum(loud_estimate, loud_target)
    differs = ((loud_estimate - loud_target).abs() - masked).clamp(min=0)
    added = ((power_estimate.detach() + 50) / (power_target + 50)) ** 1.2
    added = added.clamp(max=12) * (added >= 3)
    scale = 0.1866 * 21.0  # sone in PESQ's units, times the width of all bands in Bark
    frames = 0.1 * scale * (differs.square().mean(1) + 1e-6).sqrt() + 0.0309 * scale * (differs * added).mean(
        1
    )
    return frames.mean(1)


_STOI_FRAME, _STOI_HOP, _STOI_FFT = 410, 205, 1024  # 25.6 ms, half of it, and what it is filled up to
_STOI_SEGMENT, _STOI_STEP = 30, 3  # frames: 384 ms, and from one segment to the next


@functools.lru_cache(maxsize=1)
def _third_octaves() -> Tensor:
    """Which bins each of 15 bands adds, from 150 Hz on, `(15, 513)`."""
    hz = torch.linspace(0, 8000, _STOI_FFT // 2 + 1, dtype=torch.float64)
    centres = 150 * 2 ** (torch.arange(15, dtype=torch.float64) / 3)[:, None]
    return ((hz >= centres * 2 ** (-1 / 6)) & (hz < centres * 2 ** (1 / 6))).float()


def intelligibility(estimate: Tensor, target: Tensor) -> Tensor:
    """ESTOI, item by item, made differentiable: how alike the spectra are over 384 ms, whatever their levels.

    Jensen & Taal 2016, "An algorithm for predicting the intelligibility of speech masked by modulated noise
    maskers". It stays at 16 kHz where the original goes down to 10 kHz, and frames in which the target is
    40 dB below its loudest are left out of the spectra, not of the waveforms. Shorter items count 0.

    Shape:
        `(B, 1, T)` at 16 kHz in, `(B,)` out, in -1..1.
    """
    if estimate.shape[-1] < _STOI_FRAME + (_STOI_SEGMENT - 1) * _STOI_HOP:
        return estimate.new_zeros(len(estimate))
    window = torch.hann_window(_STOI_FRAME, device=estimate.device)
    bands = _third_octaves().to(estimate.device)

    def spectrum(x: Tensor) -> Tensor:
        frames = x[:, 0].unfold(1, _STOI_FRAME, _STOI_HOP) * window
        bins = torch.fft.rfft(frames, _STOI_FFT)  # (B, frames, 513)
        amplitudes: Tensor = ((bins.real.square() + bins.imag.square()) @ bands.T + 1e-10).sqrt()
        return amplitudes.transpose(1, 2)

    def normalised(x: Tensor, dim: int) -> Tensor:
        centred = x - x.mean(dim, keepdim=True)
        return centred / (centred.square().sum(dim, keepdim=True) + 1e-10).sqrt()

    energy = (target[:, 0].unfold(1, _STOI_FRAME, _STOI_HOP) * window).square().sum(2)
    silent = energy <= 1e-4 * energy.amax(1, keepdim=True)
    order = silent.int().argsort(dim=1, stable=True)[:, None].expand(-1, len(bands), -1)
    alike = []
    for x in (estimate, target):
        segments = spectrum(x).gather(2, order).unfold(2, _STOI_SEGMENT, _STOI_STEP).transpose(1, 2)
        alike.append(normalised(normalised(segments, 3), 2))  # (B, segments, 15, 30): in time, over bands
    likeness = (alike[0] * alike[1]).sum((2, 3)) / _STOI_SEGMENT
    last = (~silent).sum(1, keepdim=True) - _STOI_SEGMENT
    counts = torch.arange(likeness.shape[1], device=likeness.device) * _STOI_STEP <= last
    return (likeness * counts).sum(1) / counts.sum(1).clamp(min=1)


def _si_sdr_loss(estimate: Tensor, target: Tensor) -> Tensor:
    """Minus SI-SDR in nepers over items that hold a signal; silence has no scale to be invariant to."""
    estimate, target = estimate.flatten(1), target.flatten(1)
    energy = target.square().sum(1, keepdim=True)
    projected = (estimate * target).sum(1, keepdim=True) / (energy + 1e-8) * target
    ratio = (projected.square().sum(1) + 1e-8) / ((estimate - projected).square().sum(1) + 1e-8)
    heard = (energy[:, 0] > 1e-6 * target.shape[1]).float()
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
        "understood_speech": understood_speech,
    }
)
