"""Corruptions of images: correlated noise, JPEG compression, scanner noise."""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from denoise.corruptions.base import Corruption, fast_length, fill_gaps
from denoise.corruptions.levels import Level, Number, Word, draw, normal


@dataclass(frozen=True)
class Correlated(Corruption):
    """Smooth Gaussian noise, as resizing and the denoising of cameras leave it; without clipping.

    Args:
        sigma: Standard deviation at any width: 25 is 25/255 of full scale.
        width_px: Standard deviation of the Gaussian filter; 0 is white noise. Noise d pixels apart correlates
            by exp(-(d / (2 width))^2).
        chroma: The correlation of the channels is 1 - chroma: 0 is the same noise in all.
    """

    name = "correlated"
    modalities = ("image",)

    sigma: Annotated[Level, Number("8-bit units", 0)] = 15.0
    width_px: Annotated[Level, Number("pixels", 0, 50)] = 0.8
    chroma: Annotated[Level, Number("of 1", 0, 1)] = 0.5

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        items, channels, height, width = clean.shape
        sigma = draw(self.sigma, clean, generator) / 255
        width_px = draw(self.width_px, clean, generator)
        chroma = draw(self.chroma, clean, generator)
        # The filter is circular: this margin decorrelates opposite edges.
        margin = math.ceil(6 * float(width_px.max()))
        size = [fast_length(n + margin) for n in (height, width)]
        white = normal((items, channels + 1, *size), clean, generator)
        white = (1 - chroma).sqrt() * white[:, :1] + chroma.sqrt() * white[:, 1:]
        down, across = (
            torch.exp(-2 * (math.pi * width_px * torch.fft.fftfreq(n).to(clean)) ** 2) for n in size
        )  # (B, 1, 1, n)
        gain = sigma / (down.square().mean(-1, keepdim=True) * across.square().mean(-1, keepdim=True)).sqrt()
        response = down.transpose(2, 3) * across[..., : size[1] // 2 + 1] * gain
        noise: Tensor = torch.fft.irfft2(torch.fft.rfft2(white) * response, s=size)
        return clean + noise[..., :height, :width]


@dataclass(frozen=True)
class Jpeg(Corruption):
    """JPEG compression: round to 8 bits, code, and decode again.

    One or three channels are coded as gray or YCbCr; any other number channel by channel, as gray. No quality
    is lossless.

    Args:
        quality: Quality on the scale of the Independent JPEG Group, rounded to an integer.
        subsampling: Chroma subsampling; most cameras and phones use `4:2:0`.
    """

    name = "jpeg"
    modalities = ("image",)
    identity = None

    quality: Annotated[Level, Number("IJG quality", 1, 100)] = 50.0
    subsampling: Annotated[str, Word(("4:4:4", "4:2:2", "4:2:0"))] = "4:2:0"

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        quality = draw(self.quality, clean, generator).flatten().tolist()
        pixels = (fill_gaps(clean).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        coded = np.empty_like(pixels)

        def code(item: int) -> None:
            count = pixels.shape[1]
            for channels in np.split(np.arange(count), 1 if count in (1, 3) else count):
                coded[item, channels] = self._code(pixels[item, channels], round(quality[item]))

        list(_threads().map(code, range(len(quality))))
        return torch.from_numpy(coded).to(clean) / 255

    def _code(self, pixels: np.ndarray, quality: int) -> np.ndarray:
        """Code and decode `(1 or 3, H, W)`."""
        import imagecodecs

        # Copy, because the codec refuses the strides of a view with a side of one pixel.
        picture = (pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).copy(order="C")
        subsampling = self.subsampling.replace(":", "")
        coded = imagecodecs.jpeg8_encode(picture, level=quality, subsampling=subsampling)
        return np.atleast_3d(imagecodecs.jpeg8_decode(coded)).transpose(2, 0, 1)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(torch.get_num_threads())


@dataclass(frozen=True)
class Scanner(Corruption):
    """Noise of a picture taken line by line: laser-scanning and electron microscopes, flatbed scanners.

    Shot noise grows with the light, a slow amplifier smears it along the line (a first-order low-pass), and
    the amplifier's zero changes from line to line. Lines are rows, and each channel has its own detector.
    Values are not clipped.

    Args:
        sigma: Standard deviation at half of full scale, without the stripes: 25 is 25/255.
        width_px: Noise d pixels apart on a line correlates by exp(-d / width).
        shot: Share of the variance at half of full scale that grows with the light.
        stripes: Standard deviation of a line's offset over sigma.
    """

    name = "scanner"
    modalities = ("image",)

    sigma: Annotated[Level, Number("8-bit units", 0)] = 25.0
    width_px: Annotated[Level, Number("pixels", 0, 50)] = 2.0
    shot: Annotated[Level, Number("of 1", 0, 1)] = 0.8
    stripes: Annotated[Level, Number("of sigma", 0)] = 0.5

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        sigma = draw(self.sigma, clean, generator) / 255
        decay = torch.exp(-1 / draw(self.width_px, clean, generator))  # from pixel to pixel
        shot = draw(self.shot, clean, generator)
        # The filter is circular: in this margin the response decays to nothing.
        length = fast_length(clean.shape[-1] + math.ceil(-12 / math.log(float(decay.max()) + 1e-9)))
        phase = -2 * math.pi * torch.fft.rfftfreq(length).to(clean)
        turn = torch.polar(torch.ones_like(phase), phase)
        response = (1 - decay**2).sqrt() / (1 - decay * turn)
        white = normal((*clean.shape[:3], length), clean, generator)
        noise = torch.fft.irfft(torch.fft.rfft(white) * response, n=length)[..., : clean.shape[-1]]
        noise = noise * (1 - shot + 2 * shot * fill_gaps(clean).clamp(min=0)).sqrt()
        offsets = normal((*clean.shape[:3], 1), clean, generator) * draw(self.stripes, clean, generator)
        return clean + sigma * (noise + offsets)
