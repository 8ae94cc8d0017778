"""Differentiable PESQ (quality) and ESTOI (intelligibility) of speech."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_RATE_HZ = 16_000
_PESQ_FRAME, _PESQ_HOP = 512, 256  # 32 ms, overlapping by half

# ITU-T P.862: number of bins and threshold of hearing (dB) of each of the 49 Bark bands.
# fmt: off
_BINS = (
    1, 1, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2,
    3, 3, 3, 3, 4, 3, 4, 5, 4, 5, 6, 6, 7, 8, 9, 9, 12, 12, 15, 16, 18, 21, 25, 20,
)
_THRESHOLD_DB = (
    77.1, 63.9, 48.5, 36.9, 30.7, 25.9, 20.2, 16.6, 12.5, 9.9, 6.9, 4.9, 2.8, 1.0, -0.1, -1.4, -2.5,
    -3.4, -4.1, -4.8, -5.3, -5.7, -5.9, -6.0, -6.0, -6.0, -6.0, -5.8, -5.4, -5.1, -4.7, -4.3, -4.0,
    -3.6, -3.3, -3.1, -3.0, -3.0, -2.9, -2.8, -2.8, -2.8, -2.9, -3.2, -3.7, -4.3, -4.4, -3.8, -2.7,
)
# fmt: on
_LEVEL = 1e7  # power that both signals are scaled to, from 325 to 3250 Hz, in PESQ's units
_POWER_UNIT, _LOUDNESS_UNIT = 6.910853e-6, 0.1866055  # of P.862 at 16 kHz
_SYLLABLE, _SYLLABLE_STEP = 20, 10  # frames


@dataclass(frozen=True)
class _BarkBands:
    """Bark-band constants. Shapes: `bands` (49, 257), all others (49, 1)."""

    bands: Tensor
    threshold: Tensor
    exponent: Tensor
    width_bark: Tensor

    def to(self, device: torch.device) -> _BarkBands:
        parts = (self.bands, self.threshold, self.exponent, self.width_bark)
        return _BarkBands(*(x.to(device) for x in parts))


@functools.lru_cache(maxsize=1)
def _bark_bands() -> _BarkBands:
    counts, index = torch.tensor(_BINS), torch.arange(len(_BINS), dtype=torch.float64)
    # Bands widen from 0.31 Bark at 0 Hz to 0.59 Bark at 8 kHz; half of the lowest is below 0 Hz.
    width_bark = 0.31350 + 4.4230e-3 * index + 2.5777e-5 * index**2
    width_bark[0] = 0.157
    centre_bark = width_bark.cumsum(0) - width_bark / 2
    edges = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)])
    centre_hz = (edges[:-1] + edges[1:] - 1) / 2 * (_RATE_HZ / _PESQ_FRAME)
    # Derivative of the Bark scale of Zwicker & Terhardt 1980.
    bark_per_hz = 13 * 7.6e-4 / (1 + (7.6e-4 * centre_hz) ** 2)
    bark_per_hz += 7 * centre_hz / 7500**2 / (1 + (centre_hz / 7500) ** 4)
    bin_ = torch.arange(_PESQ_FRAME // 2 + 1)
    bands = ((bin_ >= edges[:-1, None]) & (bin_ < edges[1:, None]) & (bin_ > 0)).double()
    z = torch.exp(-2j * math.pi * bin_ / _PESQ_FRAME)  # high-pass at 100 Hz of wide-band PESQ
    bands *= (2.740826 * (1 - z) ** 2 / (1 - 1.9444777 * z + 0.94597794 * z**2)).abs() ** 2
    bands *= (_POWER_UNIT / bark_per_hz / counts)[:, None]
    exponent = 0.23 * (6 / (centre_bark + 2)).clamp(1, 2) ** 0.15  # Zwicker's, higher at low frequencies
    width_bark[0] = 0.0  # the lowest band does not count
    threshold = 10 ** (torch.tensor(_THRESHOLD_DB, dtype=torch.float64) / 10)
    return _BarkBands(bands.float(), *(x.float()[:, None] for x in (threshold, exponent, width_bark)))


def pesq(estimate: Tensor, target: Tensor) -> Tensor:
    """Differentiable PESQ of each item: ITU-T P.862 with the wide-band filter of P.862.2.

    Returns the raw score, -0.5 to 4.5, which P.862.2 maps to 1.04 to 4.64. Level, spectral colouring and slow
    gain changes are equalised; loudness is compared in Bark bands with masking, and added sound weighs more
    than lost sound. Time alignment is left out: both signals must be aligned. The formulas that replace the
    tables of the standard change no score by more than 0.1.

    Shape:
        `(B, 1, T)` at 16 kHz in, `(B,)` out; the target must not be silent.
    """
    constants = _bark_bands().to(estimate.device)
    window = torch.hann_window(_PESQ_FRAME, device=estimate.device)
    hz = torch.linspace(0, _RATE_HZ / 2, _PESQ_FRAME // 2 + 1, device=estimate.device)
    measured = ((hz >= 325) & (hz <= 3250)).to(estimate)

    def power(x: Tensor) -> Tensor:
        bins = torch.stft(x[:, 0], _PESQ_FRAME, _PESQ_HOP, window=window, center=False, return_complex=True)
        spectrum = bins.real.square() + bins.imag.square()  # (B, 257, frames)
        level = (measured @ spectrum).mean(1) * (2 / (_PESQ_FRAME * window.square().sum()))
        return (constants.bands @ spectrum) * (_LEVEL / (level + 1e-9))[:, None, None]

    def audible(x: Tensor, times: float) -> Tensor:
        return torch.where(x > times * constants.threshold, x, 0.0)

    def loudness(x: Tensor) -> Tensor:
        loud = (2 * constants.threshold) ** constants.exponent * (
            (0.5 + 0.5 * x / constants.threshold) ** constants.exponent - 1
        )
        return torch.where(x > constants.threshold, _LOUDNESS_UNIT * loud, 0.0)

    added, kept = power(estimate), power(target)
    voiced = (audible(kept, 100.0)[:, 1:].sum(1, keepdim=True) >= 1e7).to(kept)
    colours = [(audible(x, 100.0) * voiced).mean(2, keepdim=True) + 1e3 for x in (added, kept)]
    kept = kept * (colours[0] / colours[1]).clamp(0.01, 100.0)
    totals = [audible(x, 1.0)[:, 1:].sum(1, keepdim=True) for x in (kept, added)]  # (B, 1, frames)
    follow = 0.8 * 0.2 ** torch.arange(4.0, -1.0, -1.0, device=kept.device)[None, None]
    gain = F.pad((totals[0] + 5e3) / (totals[1] + 5e3), (4, 0), mode="replicate")
    added = added * F.conv1d(gain, follow / follow.sum()).clamp(3e-4, 5.0)

    louder, loud = loudness(added), loudness(kept)
    differs = ((louder - loud).abs() - 0.25 * torch.minimum(louder, loud)).clamp(min=0.0)
    asymmetry = ((added + 50) / (kept + 50)) ** 1.2
    asymmetry = torch.where(asymmetry < 3, 0.0, asymmetry.clamp(max=12.0))
    differs, bark = differs * constants.width_bark, constants.width_bark.sum()
    disturbances = ((differs.square().sum(1) / bark + 1e-9).sqrt() * bark, (differs * asymmetry).sum(1))
    importance = ((totals[0][:, 0] + 1e5) / 1e7) ** 0.04
    disturbed, asymmetric = (_over_time((x / importance).clamp(max=45.0)) for x in disturbances)
    return 4.5 - 0.1 * disturbed - 0.0309 * asymmetric


def _over_time(frames: Tensor) -> Tensor:
    """Aggregate disturbances `(B, frames)` to `(B,)`: L6 norm over 320 ms, then L2 over time."""
    syllables = F.pad(frames, (0, _SYLLABLE)).unfold(1, _SYLLABLE, _SYLLABLE_STEP)
    worst = (syllables.pow(6).mean(2) + 1e-9).pow(1 / 6)
    return worst.square().mean(1).sqrt()


_STOI_FRAME, _STOI_HOP, _STOI_FFT = 410, 205, 1024  # 25.6 ms, half of it, zero-padded length
_STOI_SEGMENT, _STOI_STEP = 30, 3  # frames: 384 ms, hop between segments


@functools.lru_cache(maxsize=1)
def _third_octaves() -> Tensor:
    """Build the band matrix of 15 third octaves from 150 Hz, `(15, 513)`."""
    hz = torch.linspace(0, 8000, _STOI_FFT // 2 + 1, dtype=torch.float64)
    centres = 150 * 2 ** (torch.arange(15, dtype=torch.float64) / 3)[:, None]
    return ((hz >= centres * 2 ** (-1 / 6)) & (hz < centres * 2 ** (1 / 6))).float()


def estoi(estimate: Tensor, target: Tensor) -> Tensor:
    """Differentiable ESTOI of each item: correlation of normalised spectra over 384 ms.

    Jensen & Taal 2016, "An algorithm for predicting the intelligibility of speech masked by modulated noise
    maskers". Computed at 16 kHz, not 10 kHz; frames with the target 40 dB below its maximum are dropped from
    the spectra, not the waveforms. Items below 384 ms score 0.

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
