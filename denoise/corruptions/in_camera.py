"""Noise of a photo as the camera stores it: demosaiced, smoothed and sharpened."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.corruptions.base import Corruption, fill_gaps
from denoise.corruptions.camera import (
    bayer_colour,
    bayer_mosaic,
    camera_matrices,
    demosaic_linear,
    develop,
    expose,
    mix_colours,
    to_linear,
)
from denoise.corruptions.image import Correlated
from denoise.corruptions.levels import Level, Number, RandomLevel, draw, draw_log, normal, uniform

# Fit to 8,347 shot and read noise profiles of 433 cameras (darktable's database, measured by its users): the
# variance of linear sensor values x in 0..1 is shot * x + read. The shot noise of one camera grows with the
# ISO by the slope; log(read) follows log(shot) linearly; both scatter from camera to camera.
_SHOT_ISO_100 = 3.1e-6
_SHOT_SLOPE, _SHOT_SCATTER = 0.92, 0.5
_READ_SLOPE, _READ_OFFSET, _READ_SCATTER = 1.235, -3.33, 1.0
# The profiles assume another full scale than this chain. Set so that the noise density of luma between 0.03
# and 0.12 cycles a pixel agrees with real photos at ISO 1600 to 6400.
_PROFILE_SCALE = 8.0
# Log of the white balance gains of red and blue: mean and scatter, as in the ratios of the same profiles.
_RED_GAIN, _BLUE_GAIN, _GAIN_SCATTER = 0.76, 0.66, 0.2

_LUMA = (0.299, 0.587, 0.114)
_TO_YCC = torch.tensor([_LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)])


@dataclass(frozen=True)
class InCamera(Corruption):
    """Shot and read noise of a raw image, developed the way a camera makes its JPEG.

    The photo is taken back to linear sensor values and sampled by a Bayer mosaic. Noise and banding are
    added there. Demosaicing, white balance, colour matrix and tone curve follow, then chroma and luma noise
    reduction, sharpening and resizing, each of which shapes the noise. Only the noise takes this way, so the
    photo itself stays as sharp as it is. A gray photo gets noise as if its colours had been averaged. JPEG is
    a corruption of its own, to be chained.

    Noise reduction is modelled by its effect on flat areas: it leaves coarse noise and removes fine noise,
    and less of it near edges. Demosaicing is drawn for each image: Malvar, He & Cutler (ICASSP 2004),
    Hamilton & Adams (US patent 5,629,734, 1997), bilinear, or none (three colours a pixel, as after binning).

    Args:
        iso: Sensitivity of an average full-frame camera; a range is drawn log-uniformly.
        reduction: Strength of noise reduction: 0 is none; at 1 the amplitude of luma noise falls with
            frequency as 1/f.
        sharpening: Gain of the finest detail minus 1.
        blotches: Amplitude of coarse chroma noise (3 to 15 px wide), relative to the noise of the luma.
        banding: Standard deviation of row or column offsets, relative to the read noise of a pixel.
    """

    name = "in-camera"
    modalities = ("image",)
    level = "iso"
    identity = None

    iso: Annotated[Level, Number("ISO", 1, 1e6)] = 3200.0
    reduction: Annotated[Level, Number("of 1", 0, 1)] = 0.5
    sharpening: Annotated[Level, Number("of 1", 0, 5)] = 0.3
    blotches: Annotated[Level, Number("of the luma noise", 0, 5)] = 0.2
    banding: Annotated[Level, Number("of the read noise", 0, 5)] = 0.1

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        photo = fill_gaps(clean).clamp(0, 1)
        if photo.shape[1] != 3:  # each channel is a gray photo
            gray = photo.flatten(0, 1)[:, None]
            change = self._noise(gray.expand(-1, 3, -1, -1), generator).mean(1)
            return (photo + change.view_as(photo)).clamp_(0, 1)
        return (photo + self._noise(photo, generator)).clamp_(0, 1)

    def _noise(self, photo: Tensor, generator: torch.Generator) -> Tensor:
        """Difference that noise makes to the developed photo, `(B, 3, H, W)`."""
        size = photo.shape[2:]
        inner = _sensor_size(size, generator)
        if inner != size:
            photo = F.interpolate(photo, size=inner, mode="bilinear", align_corners=False).clamp_(0, 1)
        matrices, gains = _camera(photo, generator)
        raw = expose(mix_colours(to_linear(photo), matrices), gains)
        noise = self._demosaiced_noise(raw, generator)
        back = torch.linalg.inv(matrices)
        change = develop(raw + noise, gains, back) - develop(raw, gains, back)
        change = self._processed(change, photo, generator)
        if inner != size:
            change = F.interpolate(change, size=size, mode="bicubic", antialias=True, align_corners=False)
        return change

    def _demosaiced_noise(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        """Noise of the mosaic after demosaicing: the difference of demosaicing with and without it."""
        shot, read = _profile(draw_log(self.iso, raw, generator), generator)
        banding = draw(self.banding, raw, generator)
        corners = (uniform((len(raw), 2), raw, generator) < 0.5).tolist()
        methods = torch.randint(
            len(DEMOSAIC), (len(raw),), generator=generator, device=generator.device
        ).tolist()
        noise = torch.empty_like(raw)
        for index, method in enumerate(DEMOSAIC.values()):
            items = [item for item, drawn in enumerate(methods) if drawn == index]
            if items:
                part, corner = raw[items], [corners[item] for item in items]
                add = _Sensor(shot[items], read[items], banding[items], generator)
                noise[items] = method(part, corner, add)
        return noise

    def _processed(self, noise: Tensor, photo: Tensor, generator: torch.Generator) -> Tensor:
        """Noise after noise reduction and sharpening, with blotches."""
        height, width = noise.shape[2:]
        down = torch.fft.fftfreq(height, device=noise.device).to(noise)[:, None]
        across = torch.fft.rfftfreq(width, device=noise.device).to(noise)
        square = down.square() + across.square()  # (H, W/2+1), cycles a pixel, squared

        def level(low: float, high: float) -> Tensor:
            return draw_log(RandomLevel(low, high), noise, generator)

        strength = draw(self.reduction, noise, generator)
        luma = (1 + square / level(0.04, 0.25) ** 2) ** -strength
        # Cameras smooth chroma more than luma, nearly always.
        chroma = torch.exp(-2 * (math.pi * level(0.7, 5.0) * (0.3 + 0.7 * strength)) ** 2 * square)
        chroma = chroma * luma.sqrt() * level(0.35, 1.0)
        sharp = 1 + draw(self.sharpening, noise, generator) * (
            1 - torch.exp(-2 * (math.pi * level(0.5, 1.5)) ** 2 * square)
        )
        to_ycc = _TO_YCC.to(noise)
        spectrum = torch.fft.rfft2(mix_colours(noise, to_ycc))
        response = torch.cat([luma * sharp, chroma, chroma], 1)
        smooth = torch.fft.irfft2(spectrum * response, s=(height, width))
        # Noise reduction stops at edges, so more of the noise stays there.
        kept = 0.3 * uniform((len(noise), 1, 1, 1), noise, generator) * _edges(photo)
        smooth = torch.lerp(smooth, mix_colours(noise, to_ycc), kept)
        amount = (
            draw(self.blotches, noise, generator) * smooth[:, :1].square().mean((2, 3), keepdim=True).sqrt()
        )
        smooth[:, 1:] += amount * _blotches(smooth[:, 1:], square, level(1.2, 6.0), generator)
        return mix_colours(smooth, torch.linalg.inv(to_ycc))


@dataclass(frozen=True)
class FilmGrain(Corruption):
    """Grain of scanned film: smooth over a pixel or two, strongest in the mid-tones, mostly luma.

    Its variance is proportional to x (1 - x), as of a random dot model in which a share x of the area is
    covered (after Newson et al., "A stochastic film grain model for resolution-independent rendering", 2017).

    Args:
        sigma: Standard deviation at mid-gray in 8-bit units; a range is drawn log-uniformly.
        width_px: Standard deviation of the Gaussian that shapes the grain, in pixels.
        chroma: Share of the variance that is independent in each channel.
    """

    name = "film-grain"
    modalities = ("image",)
    level = "sigma"
    identity = None

    sigma: Annotated[Level, Number("8-bit units", 0.01)] = 10.0
    width_px: Annotated[Level, Number("pixels", 0, 50)] = 0.8
    chroma: Annotated[Level, Number("of 1", 0, 1)] = 0.2

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        photo = fill_gaps(clean).clamp(0, 1)
        grain = Correlated(255.0, self.width_px, self.chroma)(torch.zeros_like(photo), generator)
        sigma = draw_log(self.sigma, photo, generator) / 255
        return (photo + grain * (2 * sigma * (photo * (1 - photo)).sqrt())).clamp_(0, 1)


# ---- the sensor ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sensor:
    """Noise of linear sensor values: shot and read noise, and offsets of rows or columns."""

    shot: Tensor  # (B, 1, 1, 1), as read and banding
    read: Tensor
    banding: Tensor
    generator: torch.Generator

    def __call__(self, raw: Tensor) -> Tensor:
        noise = normal(raw.shape, raw, self.generator).mul_((raw * self.shot + self.read).sqrt_())
        rows = normal((len(raw), 1, raw.shape[2], 1), raw, self.generator)
        columns = normal((len(raw), 1, 1, raw.shape[3]), raw, self.generator)
        vertical = uniform((len(raw), 1, 1, 1), raw, self.generator) < 0.5
        return noise.add_(self.banding * self.read.sqrt() * torch.where(vertical, rows, columns))


def _profile(iso: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shot and read noise of one camera for each image."""
    scatter = normal((2, *iso.shape), iso, generator)
    shot = _SHOT_ISO_100 * (iso / 100) ** _SHOT_SLOPE * torch.exp(_SHOT_SCATTER * scatter[0])
    read = torch.exp(_READ_SLOPE * shot.log() + _READ_OFFSET + _READ_SCATTER * scatter[1])
    return _PROFILE_SCALE * shot, _PROFILE_SCALE * read


def _camera(photo: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Colour matrices `(B, 3, 3)` and gains `(B, 3, 1, 1)`: white balance times exposure."""
    matrices, exposed = camera_matrices(photo, generator)
    means = torch.tensor([_RED_GAIN, 0.0, _BLUE_GAIN]).to(photo)[:, None, None]
    scatter = normal((len(photo), 3, 1, 1), photo, generator) * _GAIN_SCATTER
    scatter[:, 1] = 0
    return matrices, exposed[:, 1:2] * torch.exp(means + scatter.clamp_(-0.5, 0.5))


def _sensor_size(size: torch.Size, generator: torch.Generator) -> torch.Size:
    """Size of the picture before the camera resized it: mostly the same, else 0.7 to 2 times."""
    pick, step = torch.rand(2, generator=generator, device=generator.device).tolist()
    scale = 1.0 if pick < 0.6 else 1 + step if pick < 0.85 else 0.7 + 0.3 * step
    return torch.Size(max(8, 2 * round(n * scale / 2)) for n in size) if scale != 1 else size


def _edges(photo: Tensor) -> Tensor:
    """Strength of edges, 0 to 1, `(B, 1, H, W)`: steps of 20 in 8 bits and more count as edges."""
    luma = photo.mean(1, keepdim=True)
    padded = F.pad(luma, (1, 1, 1, 1), mode="replicate")
    slope = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]).abs() + (
        padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]
    ).abs()
    return (F.max_pool2d(slope, 3, 1, 1) * (255 / 40)).clamp_(0, 1)


def _blotches(like: Tensor, square: Tensor, width_px: Tensor, generator: torch.Generator) -> Tensor:
    """Smooth noise of unit variance, shaped by a Gaussian of that width."""
    response = torch.exp(-2 * (math.pi * width_px) ** 2 * square)
    noise = torch.fft.irfft2(
        torch.fft.rfft2(normal(like.shape, like, generator)) * response, s=like.shape[2:]
    )
    return noise / noise.square().mean((1, 2, 3), keepdim=True).sqrt()


# ---- demosaicing -----------------------------------------------------------------------------------------

Corners = list[list[bool]]  # of each image, where in the 2 x 2 cell of the mosaic it begins
AddNoise = Callable[[Tensor], Tensor]


def _linear_noise(name: str) -> Callable[[Tensor, Corners, AddNoise], Tensor]:
    # A linear filter turns noise into noise: the picture need not pass through it.
    return lambda raw, corners, noise: demosaic_linear(noise(bayer_mosaic(raw, corners, 2)), corners, name)


def _directed_noise(raw: Tensor, corners: Corners, noise: AddNoise) -> Tensor:
    mosaic = bayer_mosaic(raw, corners, _MARGIN)
    both = torch.cat([mosaic + noise(mosaic), mosaic])
    noisy, clean = hamilton_adams(both, corners + corners).chunk(2)
    return noisy - clean


_MARGIN = 4  # even, so that the cell begins at the same corner


def hamilton_adams(mosaic: Tensor, corners: Corners) -> Tensor:
    """Demosaic along edges: green from the direction of the smaller gradient, then colour differences.

    Shape:
        `(B, 1, H + 8, W + 8)` -> `(B, 3, H, W)`.
    """
    colour = bayer_colour(mosaic, corners)  # (B, 1, h, w) of 0, 1, 2
    near, far, curve = (
        torch.tensor(taps).to(mosaic) for taps in ([1.0, 0, -1], [0.5, 0, 0.5], [-1.0, 0, 2, 0, -1])
    )

    def along(x: Tensor, taps: Tensor, axis: int) -> Tensor:
        shape = [1, 1, 1, 1]
        shape[axis] = len(taps)
        pad = len(taps) // 2
        padding = (pad, pad, 0, 0) if axis == 3 else (0, 0, pad, pad)
        return F.conv2d(F.pad(x, padding, mode="reflect"), taps.view(shape))

    greens, gradients = [], []
    for axis in (2, 3):
        second = along(mosaic, curve, axis)
        greens.append(along(mosaic, far, axis) + second / 4)
        gradients.append(along(mosaic, near, axis).abs() + second.abs())
    down, across = gradients
    mean = (greens[0] + greens[1]) / 2
    guess = torch.where(down < across, greens[0], torch.where(down > across, greens[1], mean))
    green = torch.where(colour == 1, mosaic, guess)
    kernel = torch.tensor([[0.25, 0.5, 0.25], [0.5, 1, 0.5], [0.25, 0.5, 0.25]]).to(mosaic)[None, None]
    planes = []
    for channel in (0, 2):
        seen = (colour == channel).to(mosaic)
        difference = F.conv2d((mosaic - green) * seen, kernel, padding=1)
        planes.append(green + difference)
    full = torch.cat([planes[0], green, planes[1]], 1)
    return full[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


DEMOSAIC: Mapping[str, Callable[[Tensor, Corners, AddNoise], Tensor]] = {
    "malvar": _linear_noise("malvar"),
    "bilinear": _linear_noise("bilinear"),
    "hamilton-adams": _directed_noise,
    "none": lambda raw, _corners, noise: noise(raw),
}
