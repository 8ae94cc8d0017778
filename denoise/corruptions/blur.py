"""Blur of images: Gaussian, defocus, motion and camera shake."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.corruptions.base import Corruption, fast_length, fill_gaps
from denoise.corruptions.levels import Level, Number, RandomLevel, Word, draw, normal, uniform
from denoise.dsp.light import from_light, to_light

_ANY_DIRECTION = RandomLevel(0, 180)

_INSTANTS = 400  # of an exposure
_TREMOR = RandomLevel(0.02, 0.25)  # share of the exposure over which the tremor keeps its velocity
_DRIFT = RandomLevel(0.0, 1.5)  # steady velocity, relative to that of the tremor
_JERK = RandomLevel(0.0, 4.0)  # strongest sudden change of velocity, relative to the same


@dataclass(frozen=True)
class Blur(Corruption):
    """Convolution with a kernel of sum 1, centred on its centroid; edge pixels are repeated outwards.

    Args:
        domain: What is blurred: the light behind the pixel values (sRGB), as lenses and shutters do, or the
            values themselves, as programs do.
    """

    modalities = ("image",)

    domain: Annotated[str, Word(("values", "light"))] = field(default="values", kw_only=True)

    def kernels(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Return the kernel of each item of `clean` as `(B, k, k)`, k odd."""
        raise NotImplementedError

    def kernel(self, generator: torch.Generator) -> Tensor:
        """Return the kernel `(k, k)` that blurs a single image from the same generator state."""
        return self.kernels(torch.zeros(1, 1, 1, 1), generator)[0]

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        kernels = self.kernels(clean, generator)
        if self.domain == "light":
            return from_light(convolve(to_light(fill_gaps(clean)), kernels))
        return convolve(fill_gaps(clean), kernels)


@dataclass(frozen=True)
class GaussianBlur(Blur):
    """Blur by a Gaussian: turbulence, a soft lens, the point spread of a microscope.

    Args:
        sigma_px: Standard deviation of the kernel along each axis; 0 is sharp.
        domain: What is blurred: `values` or `light`, see `Blur`.
    """

    name = "gaussian-blur"
    level = "sigma_px"

    sigma_px: Annotated[Level, Number("pixels", 0, 200)] = 1.5

    def kernels(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        sigma = draw(self.sigma_px, clean, generator)[..., 0]  # (B, 1, 1)
        offset = _offsets(4 * float(sigma.max()), clean)
        # At 0.01 px the neighbours underflow to 0, which leaves exactly one pixel.
        across = torch.exp(-0.5 * (offset / sigma.clamp(min=0.01)) ** 2)  # (B, 1, k)
        across = across / across.sum(-1, keepdim=True)
        return across.transpose(1, 2) * across


@dataclass(frozen=True)
class Defocus(Blur):
    """Blur by a uniform disk: a lens out of focus (the circle of confusion).

    Args:
        radius_px: Radius of the disk; 0 is sharp, and 0.5 nearly so.
        domain: What is blurred: `values` or `light`, see `Blur`.
    """

    name = "defocus"
    level = "radius_px"

    radius_px: Annotated[Level, Number("pixels", 0, 100)] = 3.0

    def kernels(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        radius = draw(self.radius_px, clean, generator)[..., 0]  # (B, 1, 1)
        end = 5 * math.ceil(float(radius.max())) + 2
        # Weigh a pixel by its area in the disk, sampled at 5 x 5 points.
        points = torch.arange(-end, end + 1, dtype=clean.dtype, device=clean.device) / 5
        inside = (torch.hypot(points[:, None], points[None, :]) <= radius).to(clean.dtype)  # (B, 5k, 5k)
        kernels = F.avg_pool2d(inside[:, None], 5)[:, 0]  # (B, k, k)
        return kernels / kernels.sum((-2, -1), keepdim=True)


@dataclass(frozen=True)
class MotionBlur(Blur):
    """Blur along a line or an arc: the camera moved evenly, and turned, during the exposure.

    Args:
        length_px: Length of the path; 0 is sharp.
        angle_deg: Direction half-way, anticlockwise from the row; random by default.
        curve_deg: Turn of the direction from start to end; 0 is straight.
        domain: What is blurred: `values` or `light`, see `Blur`.
    """

    name = "motion-blur"
    level = "length_px"

    length_px: Annotated[Level, Number("pixels", 0, 200)] = 9.0
    angle_deg: Annotated[Level, Number("degrees", -360, 360)] = _ANY_DIRECTION
    curve_deg: Annotated[Level, Number("degrees", -360, 360)] = 0.0

    def kernels(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        length = draw(self.length_px, clean, generator)[..., 0]  # (B, 1, 1)
        angle = torch.deg2rad(draw(self.angle_deg, clean, generator)[..., 0])
        curve = torch.deg2rad(draw(self.curve_deg, clean, generator)[..., 0])
        # Points of a path are at most half its length from the centroid.
        offset = _offsets(float(length.max()) / 2, clean)
        # Share each instant of the exposure among its four nearest pixels.
        instants = 4 * offset.numel()
        time = (torch.arange(instants, dtype=clean.dtype, device=clean.device) + 0.5) / instants - 0.5
        turned = (time * curve / 2).transpose(1, 2)  # (B, instants, 1)
        # Chord from the middle of the arc to each point; torch.sinc includes the factor pi.
        chord = (time * length).transpose(1, 2) * torch.sinc(turned / math.pi)
        x, y = chord * torch.cos(angle + turned), -chord * torch.sin(angle + turned)  # rows count downwards
        across = (1 - (offset - x + x.mean(1, keepdim=True)).abs()).clamp(min=0)  # (B, instants, k)
        down = (1 - (offset - y + y.mean(1, keepdim=True)).abs()).clamp(min=0)
        return down.transpose(1, 2) @ across / instants


@dataclass(frozen=True)
class Shake(Blur):
    """Blur by the tremor of the hand that holds a camera.

    The velocity is a steady drift, a random tremor that is forgotten after a while, and one jerk, such as
    that of the finger on the release (after Boracchi and Foi, "Modeling the performance of image
    restoration from motion blur", 2012). Their proportions differ from item to item.

    Args:
        extent_px: Longer side of the box around the path; 0 is sharp.
        domain: What is blurred: `values` or `light`, see `Blur`.
    """

    name = "shake"
    level = "extent_px"

    extent_px: Annotated[Level, Number("pixels", 0, 200)] = 15.0

    def kernels(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        extent = draw(self.extent_px, clean, generator)[..., 0]  # (B, 1, 1)
        path = _tremor(clean, generator)  # (B, 2, instants)
        size = (path.amax(2) - path.amin(2)).amax(1)[:, None, None]
        path = path * (extent / size)
        path = path - path.mean(2, keepdim=True)
        offset = _offsets(float(path.abs().max()), clean)
        down, across = ((1 - (offset - axis[..., None]).abs()).clamp(min=0) for axis in path.unbind(1))
        return down.transpose(1, 2) @ across / _INSTANTS


def _tremor(clean: Tensor, generator: torch.Generator) -> Tensor:
    """Return random paths `(B, 2, instants)`, of any scale."""
    batch = len(clean)
    memory, drift, jerk = (
        draw(level, clean, generator)[:, 0, 0] for level in (_TREMOR, _DRIFT, _JERK)
    )  # (B, 1) each
    kept = torch.exp(-1 / (memory * _INSTANTS))
    push = (1 - kept.square()).sqrt()[..., None] * normal((batch, 2, _INSTANTS), clean, generator)
    when = (uniform((batch, 1, 1), clean, generator) * _INSTANTS).long().expand(-1, 2, -1)
    jerks = jerk[..., None] * normal((batch, 2, 1), clean, generator)
    push = push.scatter_add(2, when, jerks)
    velocity, velocities = normal((batch, 2), clean, generator), []
    for instant in push.unbind(2):
        velocity = kept * velocity + instant
        velocities.append(velocity)
    steady = drift * normal((batch, 2), clean, generator)
    return (torch.stack(velocities, 2) + steady[..., None]).cumsum(2)


def _offsets(radius_px: float, like: Tensor) -> Tensor:
    """Return the pixel offsets from the centre of a kernel."""
    radius = math.ceil(radius_px)
    return torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel of `(B, k, k)`, edge pixels repeated."""
    height, width = images.shape[2:]
    radius = kernels.shape[-1] // 2
    if radius == 0:
        return images.clone()
    padded = F.pad(images, (radius,) * 4, mode="replicate")
    size = tuple(fast_length(n) for n in padded.shape[2:])
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernels[:, None], s=size)
    # The convolution is circular; the samples that wrap around lie before the cut.
    cut = (..., slice(2 * radius, 2 * radius + height), slice(2 * radius, 2 * radius + width))
    blurred: Tensor = torch.fft.irfft2(spectrum, s=size)[cut]
    return blurred.contiguous()
