"""Blur of images: a soft lens, a lens out of focus, a camera that moved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.corruptions.base import Corruption, fast_length, fill_gaps
from denoise.corruptions.levels import Level, Number, RandomLevel, draw

__all__ = ["Blur", "Defocus", "GaussianBlur", "MotionBlur", "convolve"]


@dataclass(frozen=True)
class Blur(Corruption):
    """Convolution with a point-spread function of sum 1, centred on its centroid: the picture does not shift.

    Subclasses draw the kernels; edge pixels are continued outwards.
    """

    modalities = ("image",)
    identity = 0.0

    def kernels(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """The kernel of each item of `clean`.

        Shape:
            `(B, k, k)`, k odd; (row, column).
        """
        raise NotImplementedError

    def kernel(self, generator: torch.Generator) -> Tensor:
        """The kernel that a single image is convolved with when it is blurred from the same generator state.

        For deconvolution that is told the truth.

        Shape:
            `(k, k)`, k odd.
        """
        return self.kernels(torch.zeros(1, 1, 1, 1), generator)[0]

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        return convolve(fill_gaps(clean), self.kernels(clean, generator))


@dataclass(frozen=True)
class GaussianBlur(Blur):
    """Blur by a Gaussian: turbulence, a soft lens, the point spread of a microscope.

    The level is the standard deviation of the kernel along each axis. Edge pixels are continued outwards.

    Args:
        sigma_px: Pixels; 0 is sharp.
    """

    name = "gaussian-blur"
    level = "sigma_px"

    sigma_px: Annotated[Level, Number("pixels", 0, 200)] = 1.5

    def kernels(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        sigma = draw(self.sigma_px, clean, generator)[..., 0]  # (B, 1, 1)
        offset = _offsets(4 * float(sigma.max()), clean)
        # Below a hundredth of a pixel the neighbours underflow to 0: a kernel that is exactly one pixel.
        across = torch.exp(-0.5 * (offset / sigma.clamp(min=0.01)) ** 2)  # (B, 1, k)
        across = across / across.sum(-1, keepdim=True)
        return across.transpose(1, 2) * across


@dataclass(frozen=True)
class Defocus(Blur):
    """Blur by a uniform disk: a lens out of focus (the circle of confusion).

    The level is the radius of the disk. Edge pixels are continued outwards.

    Args:
        radius_px: Pixels; 0 is sharp, and so is nearly all below half a pixel.
    """

    name = "defocus"
    level = "radius_px"

    radius_px: Annotated[Level, Number("pixels", 0, 100)] = 3.0

    def kernels(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        radius = draw(self.radius_px, clean, generator)[..., 0]  # (B, 1, 1)
        reach = math.ceil(float(radius.max()))
        # A pixel on the rim counts by how much of it lies in the disk: 5 x 5 points of each are asked.
        points = torch.arange(-5 * reach - 2, 5 * reach + 3, dtype=clean.dtype, device=clean.device) / 5
        inside = (torch.hypot(points[:, None], points[None, :]) <= radius).to(clean.dtype)  # (B, 5k, 5k)
        kernels = F.avg_pool2d(inside[:, None], 5)[:, 0]  # (B, k, k)
        return kernels / kernels.sum((-2, -1), keepdim=True)


@dataclass(frozen=True)
class MotionBlur(Blur):
    """Blur along a line or an arc: the camera moved evenly, and turned, while the shutter was open.

    The level is the length of the path. Edge pixels are continued outwards.

    Args:
        length_px: Pixels that the image moved during the exposure, measured along the path; 0 is sharp.
        angle_deg: Direction half-way, degrees anticlockwise from the row; by default another one for each
            image.
        curve_deg: Degrees that the direction turns from the start of the path to its end; 0 is straight.
    """

    name = "motion-blur"
    level = "length_px"

    length_px: Annotated[Level, Number("pixels", 0, 200)] = 9.0
    angle_deg: Annotated[Level, Number("degrees", -360, 360)] = RandomLevel(0, 180)  # noqa: RUF009 (frozen)
    curve_deg: Annotated[Level, Number("degrees", -360, 360)] = 0.0

    def kernels(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        length = draw(self.length_px, clean, generator)[..., 0]  # (B, 1, 1)
        angle = torch.deg2rad(draw(self.angle_deg, clean, generator)[..., 0])
        curve = torch.deg2rad(draw(self.curve_deg, clean, generator)[..., 0])
        # No point of a path is farther than half its length from the centroid.
        offset = _offsets(float(length.max()) / 2, clean)
        # Where the shutter's many instants put a point, shared out among the four nearest pixels.
        instants = 4 * offset.numel()
        time = (torch.arange(instants, dtype=clean.dtype, device=clean.device) + 0.5) / instants - 0.5
        turned = (time * curve / 2).transpose(1, 2)  # (B, instants, 1)
        # The chord from the middle of an arc to a point on it; torch.sinc has the pi in it.
        chord = (time * length).transpose(1, 2) * torch.sinc(turned / math.pi)
        x, y = chord * torch.cos(angle + turned), -chord * torch.sin(angle + turned)  # rows count downwards
        across = (1 - (offset - x + x.mean(1, keepdim=True)).abs()).clamp(min=0)  # (B, instants, k)
        down = (1 - (offset - y + y.mean(1, keepdim=True)).abs()).clamp(min=0)
        return down.transpose(1, 2) @ across / instants


def _offsets(reach: float, like: Tensor) -> Tensor:
    """Pixel offsets from the centre of a kernel that reaches this far."""
    radius = math.ceil(reach)
    return torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with its own kernel `(B, k, k)`, its edge pixels continued."""
    height, width = images.shape[2:]
    reach = kernels.shape[-1] // 2
    if reach == 0:
        return images.clone()
    padded = F.pad(images, (reach,) * 4, mode="replicate")
    size = tuple(fast_length(n) for n in padded.shape[2:])
    spectrum = torch.fft.rfft2(padded, s=size) * torch.fft.rfft2(kernels[:, None], s=size)
    # The convolution closes into a circle; what that touches lies before the cut.
    cut = (..., slice(2 * reach, 2 * reach + height), slice(2 * reach, 2 * reach + width))
    blurred: Tensor = torch.fft.irfft2(spectrum, s=size)[cut]
    return blurred.contiguous()
