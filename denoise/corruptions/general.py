"""Corruptions of several kinds of signals: noise, rounding and lost samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from denoise.corruptions.base import Corruption, fill_gaps, variance
from denoise.corruptions.levels import Fraction, Level, Number, Word, draw, normal, uniform
from denoise.errors import UsageError


@dataclass(frozen=True)
class Gaussian(Corruption):
    """Additive white Gaussian noise, independent in each sample and channel, without clipping.

    The level is `sigma` on images and `snr_db` on signals; exactly one is set.

    Args:
        sigma: Standard deviation: 25 is 25/255 of full scale.
        snr_db: Variance of each clean channel about its mean over the variance of the noise.
    """

    name = "gaussian"
    modalities = ("image", "audio", "sensor")

    sigma: Annotated[Level | None, Number("8-bit units", 0)] = None
    snr_db: Annotated[Level | None, Number("dB", -200)] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sigma is not None and self.snr_db is not None:
            raise UsageError("gaussian takes sigma (images) or snr_db (signals), not both")
        if self.sigma is not None:
            object.__setattr__(self, "modalities", ("image",))

    def level_for(self, modality: str | None, /) -> str:
        by_snr = self.snr_db is not None if modality is None else modality != "image"
        return "snr_db" if by_snr else "sigma"

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        noise = normal(clean.shape, clean, generator)
        return noise.mul_(self._deviation(clean, generator)).add_(clean)

    def _check_input(self, clean: Tensor) -> None:
        if self.sigma is not None and clean.ndim == 3:
            raise UsageError(f"{self}: sigma is for images (8-bit units); give snr_db for a signal")
        super()._check_input(clean)

    def _deviation(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        if self.snr_db is not None:
            return (variance(clean) * 10 ** (-draw(self.snr_db, clean, generator) / 10)).sqrt()
        if self.sigma is None:
            raise UsageError("gaussian needs its level: sigma= for images (8-bit units), snr_db= for signals")
        return draw(self.sigma, clean, generator).div_(255)


@dataclass(frozen=True)
class PoissonGaussian(Corruption):
    """Shot noise of the light plus read noise of the electronics, as in raw pixels.

    A pixel of brightness `x` collects Poisson(x * photons) electrons, to which the amplifier adds
    N(0, read_electrons); the variance is `x / photons + (read_electrons / photons)^2`. Foi et al., "Practical
    Poissonian-Gaussian noise modeling and fitting for single-image raw-data", IEEE TIP 2008.

    Args:
        photons: Electrons of a pixel at full scale, in proportion to the exposure; infinite means no noise.
        read_electrons: Standard deviation of the read noise.
    """

    name = "poisson-gaussian"
    modalities = ("image",)
    identity = math.inf

    photons: Annotated[Level, Number("electrons at full scale", 1e-3)] = 1000.0
    read_electrons: Annotated[Level, Number("electrons", 0)] = 2.0

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        photons = draw(self.photons, clean, generator)
        mean = (clean * photons).clamp_(min=0).nan_to_num_(0.0, posinf=0.0)
        electrons = torch.poisson(mean.to(generator.device), generator=generator).to(clean.device)
        read = normal(clean.shape, clean, generator).mul_(draw(self.read_electrons, clean, generator))
        return torch.where(photons.isinf(), clean, electrons.add_(read).div_(photons))


@dataclass(frozen=True)
class SaltPepper(Corruption):
    """Impulse noise: pixels at full scale or at zero, as from dead and hot photosites or bit errors.

    Args:
        fraction: Share of the pixels, half of them white and half black, in all channels at once.
    """

    name = "salt-pepper"
    modalities = ("image",)

    fraction: Fraction = 0.05

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        chance = uniform((clean.shape[0], 1, *clean.shape[2:]), clean, generator)
        fraction = draw(self.fraction, clean, generator)
        # One draw decides both: pepper below half the fraction, salt from there to the fraction.
        return torch.where(chance < fraction, (chance >= fraction / 2).to(clean.dtype), clean)


@dataclass(frozen=True)
class Speckle(Corruption):
    """Multiplicative noise `x * (1 + n)`: ultrasound, radar and laser images, unstable sensor gains.

    The mean of L independent measurements of fully developed speckle has sigma = 1/sqrt(L), and nears a
    Gaussian (Goodman, "Some fundamental properties of speckle", JOSA 1976).

    Args:
        sigma: Standard deviation of `n`.
    """

    name = "speckle"
    modalities = ("image", "audio", "sensor")

    sigma: Annotated[Level, Number("of the local value", 0)] = 0.1

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        factor = normal(clean.shape, clean, generator).mul_(draw(self.sigma, clean, generator)).add_(1)
        return factor.mul_(clean)


@dataclass(frozen=True)
class Quantise(Corruption):
    """Uniform rounding to the 2^bits values of an analogue-digital converter, without dither.

    The error of a loud signal has a variance of step^2 / 12, so a bit is worth 6.02 dB (Bennett, "Spectra of
    quantized signals", Bell System Technical Journal 1948). Values outside the range are clipped.

    Args:
        bits: Resolution, also fractional; infinite means no rounding.
        full_scale: The range is -full_scale..full_scale (audio: 1); by default 0..1 for images, and from
            minimum to maximum of each channel for signals.
    """

    name = "quantise"
    modalities = ("image", "audio", "sensor")
    identity = math.inf

    bits: Annotated[Level, Number("bits", 1)] = 6.0
    full_scale: Annotated[Level | None, Number("signal units", 1e-12)] = None

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        low, high = self._span(clean, generator)
        step = (high - low) / (2 ** draw(self.bits, clean, generator) - 1)
        codes = ((clean.clamp(low, high) - low) / step).round_()
        return torch.where(step > 0, codes * step + low, clean)

    def _span(self, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.full_scale is not None:
            span = draw(self.full_scale, clean, generator)
            return -span, span
        if clean.ndim == 4:
            return torch.zeros_like(clean[:1, :1, :1, :1]), torch.ones_like(clean[:1, :1, :1, :1])
        return fill_gaps(clean).aminmax(dim=-1, keepdim=True)


@dataclass(frozen=True)
class Dropout(Corruption):
    """Lost samples in runs: packets that did not arrive, a loose connector, dead pixels of a row.

    Runs start at random, may touch, follow the rows of an image, and are the same in all channels.

    Args:
        fraction: Share of the samples that is lost.
        run: Length of a run.
        fill: Replacement: `zero`; `hold`, the last value before; `rail`, the minimum or the maximum of the
            channel, one of them for the whole record; `gap`, NaN.
    """

    name = "dropout"
    modalities = ("image", "audio", "sensor")

    fraction: Fraction = 0.05
    run: Annotated[Level, Number("samples", 1)] = 8.0
    fill: Annotated[str, Word(("zero", "hold", "rail", "gap"))] = "zero"

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        shape = (clean.shape[0], 1, *clean.shape[2:])
        lost = random_runs(self.fraction, self.run, shape, clean, generator)
        match self.fill:
            case "zero":
                return clean.masked_fill(lost, 0.0)
            case "gap":
                return clean.masked_fill(lost, math.nan)
            case "hold":
                return hold(clean, lost)
        return torch.where(lost, random_rails(fill_gaps(clean), generator), clean)


def random_rails(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Return the minimum or the maximum of each channel, by chance, as `(B, C, 1, ...)`."""
    axes = tuple(range(2, clean.ndim))
    upper = uniform((*clean.shape[:2], *(1 for _ in axes)), clean, generator) < 0.5
    return torch.where(upper, clean.amax(axes, keepdim=True), clean.amin(axes, keepdim=True))


def random_runs(
    fraction: Level, run: Level, shape: tuple[int, ...], clean: Tensor, generator: torch.Generator
) -> Tensor:
    """Return a mask whose true runs along the last axis cover `fraction` of it on average.

    Runs start independently at each sample with probability p, also before the first. A sample is free if
    none of the last `run` samples was a start: 1 - fraction = (1 - p)^run.
    """
    length = draw(run, clean, generator).round_().double()
    start_chance = -torch.expm1(torch.log1p(-draw(fraction, clean, generator).double()) / length)
    lead = min(int(length.max()), 10 * shape[-1]) if length.numel() else 0
    starts = uniform((*shape[:-1], shape[-1] + lead), clean, generator) < start_chance
    position = torch.arange(-lead, shape[-1], device=clean.device)
    last_start = torch.where(starts, position, -(2**62)).cummax(-1).values[..., lead:]
    return position[lead:] - last_start < length


def hold(clean: Tensor, stuck: Tensor) -> Tensor:
    """Replace each stuck sample by the last free one before it on the last axis, or else by the first."""
    position = torch.arange(clean.shape[-1], device=clean.device)
    source = torch.where(stuck, 0, position).cummax(-1).values
    return clean.gather(-1, source.expand(clean.shape))
