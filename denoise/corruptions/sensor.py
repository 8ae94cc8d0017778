"""Corruptions of sensor logs, with sizes relative to each channel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from denoise.corruptions.audio import Hum, Pink
from denoise.corruptions.base import (
    Corruption,
    TimedCorruption,
    add_at_snr,
    fill_gaps,
    sampling_rate,
    variance,
)
from denoise.corruptions.general import hold, random_rails, random_runs
from denoise.corruptions.levels import Fraction, Level, Number, SnrDb, draw, normal, uniform

Deviations = Annotated[Level, Number("standard deviations of the channel", 0)]


@dataclass(frozen=True)
class Baseline(TimedCorruption):
    """Baseline wander: a slow sway of the signal, as from breathing and electrode motion in an ECG.

    Eight sinusoids of random phase and frequencies from 0 to `frequency_hz`, different in each channel.
    Moody et al., "A noise stress test for arrhythmia detectors", Computers in Cardiology 1984.

    Args:
        snr_db: Variance of the clean channel over variance of the wander, met exactly in each channel.
        frequency_hz: Highest frequency; 0.5 Hz in ECG practice.
    """

    name = "baseline"
    modalities = ("sensor",)
    identity = math.inf

    snr_db: SnrDb = 5.0
    frequency_hz: Annotated[Level, Number("Hz", 1e-9)] = 0.5

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
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
    """A linear ramp from 0, up or down by chance: a strain gauge or gas sensor that warms or ages.

    Args:
        amount: Offset at the last sample.
    """

    name = "drift"
    modalities = ("sensor",)

    amount: Deviations = 1.0

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        ramp = torch.linspace(0, 1, clean.shape[-1], dtype=clean.dtype, device=clean.device)
        end = draw(self.amount, clean, generator) * variance(clean).sqrt() * _signs(clean, generator)
        return clean + end * ramp


@dataclass(frozen=True)
class Spikes(Corruption):
    """Single samples thrown far off: electrostatic discharge, a switching relay, a corrupted word.

    Args:
        fraction: Share of the samples that is hit, independently in each channel.
        amplitude: Mean height; each spike goes up or down by 0.5 to 1.5 times as much.
    """

    name = "spikes"
    modalities = ("sensor",)

    fraction: Fraction = 0.01
    amplitude: Deviations = 8.0

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        mean_height = draw(self.amplitude, clean, generator) * variance(clean).sqrt()
        hit = uniform(clean.shape, clean, generator) < draw(self.fraction, clean, generator)
        factor = uniform(clean.shape, clean, generator).mul_(2).sub_(1)  # -1..1
        return clean + hit * mean_height * (factor + 0.5 * torch.where(factor < 0, -1.0, 1.0))


@dataclass(frozen=True)
class Impulses(Corruption):
    """Single samples thrown off by a Laplacian amount: many barely, a few far.

    Args:
        snr_db: Variance of the clean channel over power of the impulses, met exactly in each channel.
        fraction: Share of the samples that is hit.
    """

    name = "impulses"
    modalities = ("audio", "sensor")
    identity = math.inf

    snr_db: SnrDb = 10.0
    fraction: Fraction = 0.01

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        hit = uniform(clean.shape, clean, generator) < draw(self.fraction, clean, generator)
        height = uniform(clean.shape, clean, generator).sub_(0.5).clamp(min=-0.5 + 1e-7)
        laplacian = -height.sign() * torch.log1p(-2 * height.abs())
        return add_at_snr(clean, laplacian * hit, draw(self.snr_db, clean, generator))


@dataclass(frozen=True)
class Rails(Corruption):
    """A sensor that reads the end of its range for a while: a loose plug, an overdriven amplifier.

    In bursts of 4 to 40 samples each channel reads its minimum or maximum, one of them for the whole record.
    Bursts are added in random order until the next would exceed the noise power of `snr_db`.

    Args:
        snr_db: Variance of the clean channel over power of the error; met from above, to within a burst.
    """

    name = "rails"
    modalities = ("sensor",)
    identity = math.inf

    snr_db: SnrDb = 10.0

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        filled = fill_gaps(clean)
        rail = random_rails(filled, generator)
        allowed = variance(clean) * 10 ** (-draw(self.snr_db, clean, generator) / 10) * clean.shape[-1]
        # A grid of twice the maximum length, visited in random order, keeps bursts apart.
        places = max(1, clean.shape[-1] // 80)
        shape = (*clean.shape[:2], places)
        length = (4 + 37 * uniform(shape, clean, generator)).long()
        start = (uniform(shape, clean, generator) * (80 - length)).long()
        order = uniform(shape, clean, generator).argsort(-1)
        at = torch.arange(clean.shape[-1], device=clean.device)
        place, within = (at // 80).clamp(max=places - 1), at % 80
        inside = (within >= start[..., place]) & (within < (start + length)[..., place]) & (at < 80 * places)
        error = ((rail - filled).square() * inside).double()
        each = torch.zeros(shape, dtype=torch.float64, device=clean.device)
        each.scatter_add_(-1, place.expand(error.shape), error)
        spent = each.gather(-1, order).cumsum(-1) <= allowed
        taken = torch.zeros(shape, dtype=torch.bool, device=clean.device).scatter_(-1, order, spent)
        return torch.where(inside & taken[..., place], rail, clean)


@dataclass(frozen=True)
class Mixture(TimedCorruption):
    """Industrial noise: 50 % white, 25 % pink, 15 % impulses, 10 % mains hum of a drifting frequency.

    Hum is left out if the sample rate is too low for it.

    Args:
        snr_db: Variance of the clean channel over power of the noise, met exactly in each channel.
    """

    name = "mixture"
    modalities = ("sensor",)
    identity = math.inf

    snr_db: SnrDb = 10.0

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        zero = torch.zeros((*clean.shape[:2], 1), dtype=clean.dtype, device=clean.device)
        white = add_at_snr(clean, normal(clean.shape, clean, generator), zero[:, :1]) - clean
        noise = 0.5**0.5 * white
        for share, part in ((0.25, Pink(0.0)), (0.15, Impulses(0.0)), (0.1, Hum(0.0, drift_hz=0.1))):
            noise = noise + share**0.5 * (part(clean, generator, sample_rate) - clean)
        return add_at_snr(clean, noise, draw(self.snr_db, clean, generator))


@dataclass(frozen=True)
class Stuck(Corruption):
    """A sensor that repeats its last reading for a while: a hung converter, a polling loop without news.

    Args:
        fraction: Share of the samples that are repeats, independently in each channel.
        run: Length of a run.
    """

    name = "stuck"
    modalities = ("sensor",)

    fraction: Fraction = 0.05
    run: Annotated[Level, Number("samples", 1)] = 20.0

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return hold(clean, random_runs(self.fraction, self.run, tuple(clean.shape), clean, generator))


def _signs(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Draw -1 or 1 for each channel."""
    chance = uniform((*clean.shape[:2], 1), clean, generator)
    return torch.where(chance < 0.5, -1.0, 1.0).to(clean.dtype)
