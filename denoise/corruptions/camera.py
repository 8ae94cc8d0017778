"""Camera noise: the noise of a sensor, developed to a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.corruptions.base import Corruption, fill_gaps
from denoise.corruptions.levels import Level, Number, RandomLevel, Word, draw, normal, uniform
from denoise.dsp.light import from_light, to_light


@dataclass(frozen=True)
class Camera(Corruption):
    """Shot and read noise of a camera, developed to the picture that it writes.

    The picture is converted to linear sensor values (tone curve, gamma, colour matrix, white balance), gets
    noise of variance `shot * value + read`, and is developed again. So noise is strongest in the dark
    mid-tones and correlates among channels and, after demosaicing, neighbours. Only the noise takes that
    path: the picture itself is only clipped to 0..1. White balance, matrix and exposure are drawn for each
    image. One channel is a monochrome sensor: gamma and tone curve only.

    Args:
        iso: ISO of a phone-sized pixel that holds 10,000 electrons at ISO 100; 100 is daylight, 3200 a dim
            room. shot = ISO / 1e6, and read follows it as in Brooks et al., "Unprocessing images for learned
            raw denoising", CVPR 2019, who train up to 12,000.
        demosaic: Filters of the Bayer mosaic: `malvar` (Malvar, He & Cutler, ICASSP 2004), `bilinear`, or
            `none` for three colours at each pixel, as in a scanner.
    """

    name = "camera"
    modalities = ("image",)

    iso: Annotated[Level, Number("ISO", 0, 1e6)] = 3200.0
    demosaic: Annotated[str, Word(("malvar", "bilinear", "none"))] = "malvar"

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        clean = fill_gaps(clean)
        raw = to_linear(clean.clamp(0, 1))
        if clean.shape[1] != 3:
            change = _encoded(raw + self._noise(raw, generator)) - _encoded(raw)
            return (clean + change).clamp_(0, 1)
        to_camera, gains = camera_matrices(clean, generator)
        raw = expose(mix_colours(raw, to_camera), gains)
        noise = self._noise(raw, generator) if self.demosaic == "none" else self._bayer_noise(raw, generator)
        to_srgb = torch.linalg.inv(to_camera)
        # Subtract the development without noise, so that developing does not change the picture itself.
        change = develop(raw + noise, gains, to_srgb) - develop(raw, gains, to_srgb)
        return (clean + change).clamp_(0, 1)

    def _noise(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the noise of linear values in 0..1."""
        shot = draw(self.iso, raw, generator) / 1e6
        read = math.exp(1.20) * shot**2.18
        return normal(raw.shape, raw, generator).mul_((raw * shot).add_(read).sqrt_())

    def _bayer_noise(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Draw the noise of a Bayer mosaic, and demosaic it alone, because demosaicing is linear."""
        corners = (uniform((raw.shape[0], 2), raw, generator) < 0.5).tolist()
        noise = self._noise(bayer_mosaic(raw, corners, 2), generator)
        return demosaic_linear(noise, corners, self.demosaic)


# ---- from the picture to the sensor and back -------------------------------------------------------------


def to_linear(picture: Tensor) -> Tensor:
    """Convert pixel values to light: undo the tone curve 3x^2 - 2x^3 and the gamma of sRGB."""
    return to_light((1 - 2 * picture).asin_().div_(-3).sin_().add_(0.5))


def _encoded(light: Tensor) -> Tensor:
    """Convert light to pixel values: clip, gamma of sRGB, tone curve."""
    x = from_light(light.clamp(0, 1))
    return (3 - 2 * x).mul_(x).mul_(x)


# Matrices from linear sRGB to camera colours, rows of sum 1, from the daylight matrices in DNG files of three
# full-frame cameras (Canon 5D Mark II, Nikon D3, Sony A7).
_TO_CAMERA = (
    (0.492, 0.483, 0.025, 0.011, 0.797, 0.192, -0.010, 0.212, 0.798),
    (0.595, 0.264, 0.141, -0.005, 0.837, 0.168, -0.023, 0.190, 0.833),
    (0.514, 0.341, 0.145, 0.039, 0.730, 0.231, -0.002, 0.227, 0.775),
)


def camera_matrices(clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw colour matrices `(B, 3, 3)`, sRGB to camera, and white balance times exposure `(B, 3, 1, 1)`."""
    weights = uniform((clean.shape[0], 3), clean, generator).add_(1e-3)
    known = torch.tensor(_TO_CAMERA, dtype=clean.dtype, device=clean.device)
    matrices = (weights / weights.sum(1, keepdim=True) @ known).reshape(-1, 3, 3)
    red, blue, exposure = (
        draw(RandomLevel(*span), clean, generator) for span in ((1.9, 2.4), (1.5, 1.9), (1.0, 1.6))
    )
    return matrices, torch.cat([red, torch.ones_like(red), blue], 1) * exposure


def expose(light: Tensor, gains: Tensor) -> Tensor:
    """Undo the gains; they fade out near white, so that white is a full pixel."""
    bright = ((light.mean(1, keepdim=True) - 0.9) / 0.1).clamp(0, 1) ** 2
    inverse = 1 / gains
    return (light * torch.maximum(bright + (1 - bright) * inverse, inverse)).clamp_(0, 1)


def develop(raw: Tensor, gains: Tensor, to_srgb: Tensor) -> Tensor:
    return _encoded(mix_colours((raw * gains).clamp_(max=1), to_srgb))


def mix_colours(colours: Tensor, matrices: Tensor) -> Tensor:
    return (matrices @ colours.flatten(2)).reshape(colours.shape)


# ---- the Bayer mosaic ------------------------------------------------------------------------------------

# Channel at each pixel of the 2 x 2 cell, and the filter below that gives red, green and blue there.
_COLOUR = torch.tensor([[[0, 1], [1, 2]]])
_SOURCE = torch.tensor([[[0, 2], [3, 4]], [[1, 0], [0, 1]], [[4, 3], [2, 0]]])


def _filters(green: list[list[float]], row: list[list[float]], diagonal: list[list[float]]) -> Tensor:
    """Return five filters `(5, 5, 5)` of sum 1: identity, green, row, column and diagonal neighbours."""
    kernels = torch.tensor([green, row, list(zip(*row, strict=True)), diagonal])
    filters = torch.zeros(5, 5, 5)
    filters[0, 2, 2] = 1
    filters[1:] = F.pad(kernels / kernels.sum((1, 2), keepdim=True), ((5 - len(green)) // 2,) * 4)
    return filters


_FILTERS = {
    "bilinear": _filters(
        [[0, 1, 0], [1, 0, 1], [0, 1, 0]],
        [[0, 0, 0], [1, 0, 1], [0, 0, 0]],
        [[1, 0, 1], [0, 0, 0], [1, 0, 1]],
    ),
    "malvar": _filters(
        [[0, 0, -2, 0, 0], [0, 0, 4, 0, 0], [-2, 4, 8, 4, -2], [0, 0, 4, 0, 0], [0, 0, -2, 0, 0]],
        [[0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0]],
        [[0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0]],
    ),
}


def bayer_mosaic(raw: Tensor, corners: list[list[bool]], margin: int) -> Tensor:
    """Sample by a Bayer mosaic, `(B, 1, H + 2 margin, W + 2 margin)`; the margin must be even."""
    padded = F.pad(raw, (margin,) * 4, mode="replicate")
    return padded.gather(1, tile_cell(_COLOUR, corners, padded))


def demosaic_linear(mosaic: Tensor, corners: list[list[bool]], method: str) -> Tensor:
    """Demosaic by the fixed filters of a method, `malvar` or `bilinear`.

    Shape:
        `(B, 1, H + 4, W + 4)` -> `(B, 3, H, W)`.
    """
    found = F.conv2d(mosaic, _FILTERS[method][:, None].to(mosaic))  # (B, 5, H, W)
    return found.gather(1, tile_cell(_SOURCE, corners, found))


def bayer_colour(mosaic: Tensor, corners: list[list[bool]]) -> Tensor:
    """Return the channel that each pixel of a mosaic samples: 0, 1 or 2, `(B, 1, H, W)`."""
    return tile_cell(_COLOUR, corners, mosaic)


def tile_cell(cell: Tensor, corners: list[list[bool]], like: Tensor) -> Tensor:
    """Tile a cell `(C, 2, 2)` to `(B, C, H, W)`, of the size of `like`; each item starts at its corner."""
    height, width = like.shape[2:]
    tiles = cell.to(like.device).repeat(1, height // 2 + 1, width // 2 + 1)
    return torch.stack([tiles[:, y : y + height, x : x + width] for y, x in corners])
