"""Corruptions of images: blur of optics and motion, and JPEG."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.corruptions.base import Corruption, Level, Number, RandomLevel, Word, draw, fill_gaps

__all__ = ["Defocus", "GaussianBlur", "Jpeg", "MotionBlur"]


@dataclass(frozen=True)
class GaussianBlur(Corruption):
    """Blur by a Gaussian: turbulence, a soft lens, the point spread of a microscope.

    The level is the standard deviation of the kernel along each axis. Edge pixels are continued outwards.

    Args:
        sigma_px: Pixels; 0 is sharp.
    """

    name = "gaussian-blur"
    modalities = ("image",)
    level = "sigma_px"
    identity = 0.0

    sigma_px: Annotated[Level, Number("pixels", 0, 200)] = 1.5

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:  # noqa: ARG002
        sigma = draw(self.sigma_px, clean, generator)[..., 0]  # (B, 1, 1)
        offset = _offsets(4 * float(sigma.max()), clean)
        # Below a hundredth of a pixel the neighbours underflow to 0: a kernel that is exactly one pixel.
        kernel = torch.exp(-0.5 * (offset / sigma.clamp(min=0.01)) ** 2)[:, 0]  # (B, k)
        kernel = kernel / kernel.sum(-1, keepdim=True)
        return _convolve(_convolve(clean, kernel[:, None, :]), kernel[:, :, None])


@dataclass(frozen=True)
class Defocus(Corruption):
    """Blur by a uniform disk: a lens out of focus (the circle of confusion).

    The level is the radius of the disk. Edge pixels are continued outwards.

    Args:
        radius_px: Pixels; 0 is sharp, and so is nearly all below half a pixel.
    """

    name = "defocus"
    modalities = ("image",)
    level = "radius_px"
    identity = 0.0

    radius_px: Annotated[Level, Number("pixels", 0, 100)] = 3.0

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:  # noqa: ARG002
        radius = draw(self.radius_px, clean, generator)[..., 0]  # (B, 1, 1)
        reach = math.ceil(float(radius.max()))
        # A pixel on the rim counts by how much of it lies in the disk: 5 x 5 points of each are asked.
        points = torch.arange(-5 * reach - 2, 5 * reach + 3, dtype=clean.dtype, device=clean.device) / 5
        inside = (torch.hypot(points[:, None], points[None, :]) <= radius).to(clean.dtype)  # (B, 5k, 5k)
        kernel = F.avg_pool2d(inside[:, None], 5)[:, 0]  # (B, k, k)
        return _convolve(clean, kernel / kernel.sum((-2, -1), keepdim=True))


@dataclass(frozen=True)
class MotionBlur(Corruption):
    """Blur along a straight line: the camera moved evenly while the shutter was open.

    The level is the length of the path. Edge pixels are continued outwards.

    Args:
        length_px: Pixels that the image moved during the exposure; 0 is sharp.
        angle_deg: Direction, degrees anticlockwise from the row; by default another one for each image.
    """

    name = "motion-blur"
    modalities = ("image",)
    level = "length_px"
    identity = 0.0

    length_px: Annotated[Level, Number("pixels", 0, 200)] = 9.0
    angle_deg: Annotated[Level, Number("degrees", -360, 360)] = RandomLevel(0, 180)  # noqa: RUF009 (frozen)

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:  # noqa: ARG002
        length = draw(self.length_px, clean, generator)[..., 0]  # (B, 1, 1)
        angle = torch.deg2rad(draw(self.angle_deg, clean, generator)[..., 0])
        offset = _offsets(float(length.max()) / 2, clean)
        # Where the shutter's many instants put a point, shared out among the four nearest pixels.
        instants = 4 * offset.numel()
        time = (torch.arange(instants, dtype=clean.dtype, device=clean.device) + 0.5) / instants - 0.5
        path = (time * length).transpose(1, 2)  # (B, instants, 1)
        across = (1 - (offset - path * angle.cos()).abs()).clamp(min=0)  # (B, instants, k)
        down = (1 - (offset + path * angle.sin()).abs()).clamp(min=0)
        return _convolve(clean, down.transpose(1, 2) @ across / instants)


@dataclass(frozen=True)
class Jpeg(Corruption):
    """JPEG compression: rounded to 8 bits, coded, and decoded again.

    The level is the quality of the Independent JPEG Group's scale, as cameras and programs give it. One or
    three channels are coded as gray or YCbCr; any other number channel by channel, as gray. No quality is
    lossless.

    Args:
        quality: 1 to 100, rounded.
        subsampling: How colour is thinned out; `4:2:0`, a quarter of it, is what most cameras and phones do.
    """

    name = "jpeg"
    modalities = ("image",)
    level = "quality"

    quality: Annotated[Level, Number("IJG quality", 1, 100)] = 50.0
    subsampling: Annotated[str, Word(("4:4:4", "4:2:2", "4:2:0"))] = "4:2:0"

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:  # noqa: ARG002
        quality = draw(self.quality, clean, generator).flatten().tolist()
        pixels = (fill_gaps(clean).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        coded = np.empty_like(pixels)
        for item, quality_of_item in enumerate(quality):
            for channels in [slice(None)] if pixels.shape[1] in (1, 3) else _each(pixels.shape[1]):
                coded[item, channels] = self._code(pixels[item, channels], round(quality_of_item))
        return torch.from_numpy(coded).to(clean) / 255

    def _code(self, pixels: np.ndarray, quality: int) -> np.ndarray:
        """Code and decode `(1 or 3, H, W)`."""
        from PIL import Image

        picture = Image.fromarray(
            pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
        )
        coded = io.BytesIO()
        picture.save(coded, "JPEG", quality=quality, subsampling=self.subsampling)
        decoded = np.asarray(Image.open(coded))
        return np.atleast_3d(decoded).transpose(2, 0, 1)


def _each(channels: int) -> list[slice]:
    return [slice(channel, channel + 1) for channel in range(channels)]


def _offsets(reach: float, like: Tensor) -> Tensor:
    """Pixel offsets from the centre of a kernel that reaches this far."""
    radius = math.ceil(reach)
    return torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)


def _convolve(clean: Tensor, kernels: Tensor) -> Tensor:
    """Filter each image by its own kernel `(B, h, w)`, of odd sizes, its edge pixels continued."""
    batch, channels, height, width = clean.shape
    down, across = kernels.shape[1] // 2, kernels.shape[2] // 2
    padded = F.pad(fill_gaps(clean), (across, across, down, down), mode="replicate")
    # One group per image and channel, so that one call serves kernels that differ from item to item.
    weights = kernels.repeat_interleave(channels, dim=0).unsqueeze(1)  # (B*C, 1, h, w)
    blurred = F.conv2d(
        padded.reshape(1, batch * channels, *padded.shape[2:]), weights, groups=batch * channels
    )
    return blurred.reshape(batch, channels, height, width)
