"""Classifier of recordings: speech, singing, music, or nature and machines."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.models.base import Denoiser, InputSpec

KINDS = ("speech", "singing", "music", "noise")  # noise: nature, machines, and everything else
SAMPLE_RATE = 16_000  # Hz
SEGMENT_SAMPLES = 64_000  # of one decision: 4 s

_WINDOW, HOP = 1024, 256  # samples: 64 ms resolve the harmonics of a voice
_BANDS = 64
_RANGE_HZ = (60.0, 7600.0)
_FLOOR = 1e-4  # of the mean power of a segment
_WIDTHS = (16, 32, 48, 64)


class _BatchNorm(nn.Module):
    """Batch normalisation without torch's count of batches, which is no weight (Ioffe and Szegedy 2015)."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=self.training
        )


class SoundKind(Denoiser):
    """A small convolutional network over logarithmic mel spectra; the level does not count.

    Shape:
        `(B, n)` or `(B, 1, n)` at 16 kHz to logits `(B, len(KINDS))`; trained with n = `SEGMENT_SAMPLES`.
    """

    spec = InputSpec("audio", halo=None, sample_rate=float(SAMPLE_RATE))

    window: Tensor
    bands: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(_WINDOW, device="cpu"), persistent=False)
        self.register_buffer("bands", _mel_bands(), persistent=False)
        widths = (1, *_WIDTHS)
        self.layers = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, stride=2, padding=1) for i in range(len(_WIDTHS))
        )
        self.norms = nn.ModuleList(_BatchNorm(width) for width in _WIDTHS)
        self.head = nn.Linear(2 * _WIDTHS[-1] * (_BANDS >> len(_WIDTHS)), len(KINDS))

    def forward(self, samples: Tensor) -> Tensor:
        """Return the logits of each kind."""
        return self.classify(self.powers(samples.flatten(1)))

    def training_step(self, noisy: Tensor, _target: Tensor, /) -> tuple[Tensor, Tensor]:
        """Return the logits of segments; spectra need single precision."""
        with torch.autocast(noisy.device.type, enabled=False):
            return self(noisy), noisy.new_zeros(())

    def powers(self, samples: Tensor) -> Tensor:
        """Return the power of each band in the frames of samples `(B, n)`, `(B, frames, bands)`."""
        spectrum = torch.fft.rfft(samples.unfold(-1, _WINDOW, HOP) * self.window)
        return (spectrum.real.square() + spectrum.imag.square()) @ self.bands

    def classify(self, power: Tensor) -> Tensor:
        """Return the logits of each kind, from the powers of a segment."""
        mean = power.mean((1, 2), keepdim=True)
        x = torch.log10(power / (mean + 1e-12) + _FLOOR).unsqueeze(1) / 2 + 1
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = F.relu(norm(layer(x)))
        x = x.transpose(1, 2).flatten(2)  # (B, frames, width bands)
        return self.head(torch.cat([x.mean(1), x.amax(1)], -1))


def _mel_bands() -> Tensor:
    """Return triangular bands evenly spaced in mel, `(bins, bands)`."""
    mel = [2595 * math.log10(1 + hz / 700) for hz in _RANGE_HZ]
    edges = 700 * (10 ** (torch.linspace(mel[0], mel[1], _BANDS + 2, device="cpu") / 2595) - 1)
    hz = torch.arange(_WINDOW // 2 + 1, device="cpu")[:, None] * (SAMPLE_RATE / _WINDOW)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    width = SAMPLE_RATE / _WINDOW  # no band is narrower than a bin
    rise = (hz - low) / (middle - low).clamp(min=width)
    fall = (high - hz) / (high - middle).clamp(min=width)
    bands = torch.minimum(rise, fall).clamp(min=0)
    nearest = torch.zeros_like(bands)
    nearest[(middle / width).round().long(), torch.arange(_BANDS, device="cpu")] = 1.0
    return torch.where(bands.sum(0) > 0, bands, nearest)


def build(**config: Any) -> SoundKind:
    """Build a classifier, which has no settings."""
    return SoundKind(**config)
