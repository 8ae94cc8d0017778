"""Corruptions of sensor logs. Sensors have units of their own, so sizes are relative to the channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from denoise.corruptions.base import (
    Corruption,
    Fraction,
    Level,
    Number,
    SnrDb,
    add_at_snr,
    draw,
    sampling_rate,
    uniform,
    variance,
)
from denoise.corruptions.general import hold, random_runs

__all__ = ["Baseline", "Drift", "Spikes", "Stuck"]

Deviations = Annotated[Level, Number("standard deviations of the channel", 0)]


@dataclass(frozen=True)
class Baseline(Corruption):
    """Baseline wander: a slow sway under the signal, as breathing and electrode motion put under an ECG.

    Eight sinusoids of random phase with frequencies drawn between 0 and `frequency_hz`, different in each
    channel. The level is `snr_db`: variance of the clean channel over variance of the wander. Moody et al.,
    "A noise stress test for arrhythmia detectors", Computers in Cardiology 1984.

    Args:
        snr_db: dB, met exactly in each channel.
        frequency_hz: The fastest sway; ECG practice puts it at 0.5 Hz.
    """

    name = "baseline"
    modalities = ("sensor",)
    level = "snr_db"
    identity = math.inf

    snr_db: SnrDb = 5.0
    frequency_hz: Annotated[Level, Number("Hz", 1e-9)] = 0.5

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:
        fastest = draw(self.frequency_hz, clean, generator) / sampling_rate(self, sample_rate)
        time = torch.arange(clean.shape[-1], dtype=clean.dtype, device=clean.device)
        wander = torch.zeros_like(clean)
        for _ in range(8):
            frequency = fastest * uniform((*clean.shape[:2], 1), clean, generator)  # cycles per sample
            phase = uniform((*clean.shape[:2], 1), clean, generator)
            wander += torch.sin(2 * math.pi * (frequency * time + phase))
        wander -= wander.mean(-1, keepdim=True)
        return add_at_snr(clean, wander, draw(self.snr_db, clean, generator))


@dataclass(frozen=True)
class Drift(Corruption):
    """A reading that wanders off steadily: the zero point of a strain gauge or gas sensor that warms or ages.

    A straight ramp from 0 at the first sample to `amount` at the last, up or down by chance in each channel.

    Args:
        amount: Offset at the end of the record, in standard deviations of the clean channel.
    """

    name = "drift"
    modalities = ("sensor",)
    level = "amount"
    identity = 0.0

    amount: Deviations = 1.0

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:  # noqa: ARG002
        ramp = torch.linspace(0, 1, clean.shape[-1], dtype=clean.dtype, device=clean.device)
        end = draw(self.amount, clean, generator) * variance(clean).sqrt() * _signs(clean, generator)
        return clean + end * ramp


@dataclass(frozen=True)
class Spikes(Corruption):
    """Single samples thrown far off: electrostatic discharge, a switching relay, a corrupted word.

    The level is the fraction of samples hit, independently in each channel. A spike goes up or down by
    chance, by `amplitude` times a factor between 0.5 and 1.5.

    Args:
        fraction: Share of the samples, 0 to 1.
        amplitude: Mean height, in standard deviations of the clean channel.
    """

    name = "spikes"
    modalities = ("sensor",)
    level = "fraction"
    identity = 0.0

    fraction: Fraction = 0.01
    amplitude: Deviations = 8.0

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:  # noqa: ARG002
        mean_height = draw(self.amplitude, clean, generator) * variance(clean).sqrt()
        hit = uniform(clean.shape, clean, generator) < draw(self.fraction, clean, generator)
        factor = uniform(clean.shape, clean, generator).mul_(2).sub_(1)  # -1..1
        return clean + hit * mean_height * (factor + 0.5 * torch.where(factor < 0, -1.0, 1.0))


@dataclass(frozen=True)
class Stuck(Corruption):
    """A sensor that repeats its last reading for a while: a hung converter, a polling loop without news.

    The level is the fraction of samples that are repeats, independently in each channel.

    Args:
        fraction: Share of the samples, 0 to 1.
        run: Samples that it hangs at a time.
    """

    name = "stuck"
    modalities = ("sensor",)
    level = "fraction"
    identity = 0.0

    fraction: Fraction = 0.05
    run: Annotated[Level, Number("samples", 1)] = 20.0

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:  # noqa: ARG002
        return hold(clean, random_runs(self.fraction, self.run, tuple(clean.shape), clean, generator))


def _signs(clean: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 for each channel."""
    chance = uniform((*clean.shape[:2], 1), clean, generator)
    return torch.where(chance < 0.5, -1.0, 1.0).to(clean.dtype)
