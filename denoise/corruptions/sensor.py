"""Corruptions of sensor logs. Sensors have units of their own, so sizes are relative to the channel."""

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
from denoise.corruptions.general import hold, random_runs
from denoise.corruptions.levels import Fraction, Level, Number, SnrDb, draw, normal, uniform

__all__ = ["Baseline", "Drift", "Impulses", "Mixture", "Rails", "Spikes", "Stuck"]

Deviations = Annotated[Level, Number("standard deviations of the channel", 0)]


@dataclass(frozen=True)
class Baseline(TimedCorruption):
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

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
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

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        mean_height = draw(self.amplitude, clean, generator) * variance(clean).sqrt()
        hit = uniform(clean.shape, clean, generator) < draw(self.fraction, clean, generator)
        factor = uniform(clean.shape, clean, generator).mul_(2).sub_(1)  # -1..1
        return clean + hit * mean_height * (factor + 0.5 * torch.where(factor < 0, -1.0, 1.0))


@dataclass(frozen=True)
class Impulses(Corruption):
    """Single samples thrown off by a Laplacian amount: many barely, a few far.

    Args:
        snr_db: Variance of the clean channel over power of the impulses, in dB, met exactly in each channel.
        fraction: Share of the samples that are hit, 0 to 1.
    """

    name = "impulses"
    modalities = ("audio", "sensor")
    level = "snr_db"
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
    """A sensor that reads the end of its range for a while: a loose plug, an amplifier that is overdriven.

    In bursts of 4 to 40 samples each channel reads its own least or greatest value, one of them for the whole
    record. Bursts are added at random until the next would be too much for `snr_db`: the level is met from
    above, to within a burst.

    Args:
        snr_db: Variance of the clean channel over power of the error, in dB.
    """

    name = "rails"
    modalities = ("sensor",)
    level = "snr_db"
    identity = math.inf

    snr_db: SnrDb = 10.0

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        filled = fill_gaps(clean)
        upper = uniform((*clean.shape[:2], 1), clean, generator) < 0.5
        rail = torch.where(upper, filled.amax(-1, keepdim=True), filled.amin(-1, keepdim=True))
        allowed = variance(clean) * 10 ** (-draw(self.snr_db, clean, generator) / 10) * clean.shape[-1]
        # Places on a grid of twice the longest burst, taken in random order: bursts do not touch.
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
    """What a channel in a plant picks up at once: half the noise is white, a quarter pink, 15 % are impulses,
    10 % hum of the mains with a frequency that wanders. Where the sample rate is too low for hum, there is
    none.

    Args:
        snr_db: Variance of the clean channel over power of the noise, in dB, met exactly in each channel.
    """

    name = "mixture"
    modalities = ("sensor",)
    level = "snr_db"
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

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return hold(clean, random_runs(self.fraction, self.run, tuple(clean.shape), clean, generator))


def _signs(clean: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 for each channel."""
    chance = uniform((*clean.shape[:2], 1), clean, generator)
    return torch.where(chance < 0.5, -1.0, 1.0).to(clean.dtype)
