"""Deblurring: estimate the blur of the whole image, invert it, refine the result.

The log spectrum is that of the scene, which falls smoothly, plus that of the blur, whose zeros and slopes
stand out, so the blur can be estimated. A Wiener filter inverts it as far as noise allows. A network takes
the image with two such results and removes ringing and noise (after Dong, Roth and Schiele, "Deep Wiener
deconvolution", 2020, whose blur is given).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.arrays import Array
from denoise.corruptions.base import fast_length
from denoise.corruptions.blur import convolve
from denoise.estimate.image import noise_sigma
from denoise.models.autoencoder import ConvBackbone
from denoise.models.base import Denoiser, InputSpec
from denoise.models.config import AutoencoderConfig, config_from
from denoise.models.table import build as build_classical

_EIGHT_BIT = 255.0
_TILE_PX = 128  # side of the windows that the spectrum is averaged over
_MAX_TILES = 8  # per axis; they are spread over the image
_FADE_PX = 32  # margin that fades out, so that the periodic filter does not ring
_INVERSE_RADIUS_PX = 96  # effective radius of an inverse filter
_MIN_SIGMA = 0.5 / 255  # standard deviation: rounding alone leaves 0.3/255
_NOISY_RING = (0.25, 0.5)  # cycles per pixel; the faintest ring of the spectrum between these is noise
# The filters assume a scene of power 1 / (balance * (f^2 + _FLAT)) in 0..1 and cycles per pixel, like photos.
# One balance is cautious and one bold; the best single one is about 5000.
_BALANCES = (8000.0, 2000.0)
_FLAT = 0.01  # limits ringing of long motions, whose zeros lie at low frequencies
_DRAWN = 0.6  # share of pixels equal to their neighbour, in drawings
_BLURRED_PX = 0.5  # standard deviation of a kernel that is certainly blur
# Images below both are left unchanged: 23 sharp photos have kernels up to 0.16 px and noise of 0.5/255.
_SHARP_PX, _CLEAN_SIGMA = 0.2, 0.8
_MIN_RATIO = 1e-5  # of noise to scene


@dataclass(frozen=True)
class DeblurConfig:
    """Sizes of a deblurring model."""

    reach: int = 16  # largest radius of a blur in pixels
    hidden: int = 512  # units of each layer of the estimator
    # features per scale of the refining network. Without widths there is none, and the output is one Wiener
    # result: train the estimator first this way, on many images at little cost
    widths: tuple[int, ...] = (64, 128, 160)
    blocks: int | tuple[int, ...] = 1  # residual blocks per scale on each side of it
    fold: int = 2  # side of the cell of pixels folded into channels at its input


class Blurring(NamedTuple):
    """The blur kernel `(B, k, k)` and noise standard deviation `(B,)` of a batch of images."""

    kernel: Tensor
    sigma: Tensor


class BlurEstimator(nn.Module):
    """Maps spectra to point-symmetric kernels, such as those of a lens and of an even shake."""

    distance: Tensor
    ring: Tensor
    ring_size: Tensor
    steep: Tensor
    taper: Tensor

    def __init__(self, reach: int, hidden: int) -> None:
        super().__init__()
        self.reach, side = reach, 2 * reach + 1
        self.numbers = side * side // 2 + 1  # of half a kernel, its centre included
        offset = torch.arange(-reach, reach + 1, dtype=torch.float32, device="cpu")
        distance = torch.hypot(offset[:, None], offset).flatten()[: self.numbers]
        self.register_buffer("distance", distance, persistent=False)
        frequency = torch.fft.fftfreq(_TILE_PX, device="cpu")
        radius = torch.hypot(frequency[:, None], frequency)
        ring = (radius * _TILE_PX).round().long().flatten()
        rings = _TILE_PX // 2
        self.register_buffer("ring", ring, persistent=False)
        self.register_buffer("ring_size", torch.bincount(ring).float(), persistent=False)
        # Compensates the power of natural scenes, which falls as the square of the frequency.
        steep = 4 * torch.sin(math.pi * frequency).square()
        self.register_buffer("steep", steep[:, None] + steep, persistent=False)
        taper = torch.hann_window(_TILE_PX, periodic=False, device="cpu")
        self.register_buffer("taper", torch.outer(taper, taper), persistent=False)
        self.encode_proj = nn.Linear(2 * self.numbers + rings + 1, hidden)
        self.hidden = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.out = nn.Linear(hidden, self.numbers)
        nn.init.uniform_(self.out.weight, -0.02, 0.02)

    def forward(self, tiles: Tensor) -> Blurring:
        """Estimate blur and noise from tiles `(B, n, C, _TILE_PX, _TILE_PX)` in 0..1."""
        power = self._power(tiles)  # (B, tile, tile)
        rings = self._mean_by_radius(power)
        low, high = (round(edge * _TILE_PX) for edge in _NOISY_RING)
        sigma = rings[:, low:high].min(1).values.sqrt().clamp(min=_MIN_SIGMA)
        level = torch.log(power * self.steep + 0.3 * sigma.square()[:, None, None])
        profile = self._mean_by_radius(level)
        features = [
            self._cepstrum(level),
            self._cepstrum(level - profile[:, self.ring].view_as(level)),  # direction-dependent part
            profile[:, : _TILE_PX // 2] / 2 + 5,
            torch.log(255 * sigma)[:, None],
        ]
        x = F.gelu(self.encode_proj(torch.cat(features, 1)))
        for layer in self.hidden:
            x = x + F.gelu(layer(x))
        half = self.out(x)
        logits = torch.cat([half, half[:, :-1].flip(1)], 1)
        side = 2 * self.reach + 1
        return Blurring(F.softmax(logits, 1).view(-1, side, side), sigma)

    def _power(self, tiles: Tensor) -> Tensor:
        """Return the mean periodogram over tiles and channels; white noise of sigma has the power sigma^2."""
        tapered = (tiles - tiles.mean((-2, -1), keepdim=True)) * self.taper
        return torch.fft.fft2(tapered).abs().square().mean((1, 2)) / self.taper.square().sum()

    def _mean_by_radius(self, spectrum: Tensor) -> Tensor:
        sums = spectrum.new_zeros(len(spectrum), len(self.ring_size))
        return sums.index_add_(1, self.ring, spectrum.flatten(1)) / self.ring_size

    def _cepstrum(self, level: Tensor) -> Tensor:
        """Return half the inner part of the cepstrum, weighted to equal scale."""
        middle = _TILE_PX // 2
        inner = slice(middle - self.reach, middle + self.reach + 1)
        cepstrum = torch.fft.fftshift(torch.fft.ifft2(level).real, dim=(1, 2))[:, inner, inner]
        return cepstrum.flatten(1)[:, : self.numbers] * self.distance * (_TILE_PX / 30)


class Deblurrer(Denoiser):
    """Estimates the blur of images `(B, 3, H, W)`, inverts it and refines the result."""

    def __init__(self, config: DeblurConfig) -> None:
        super().__init__()
        self._config = config
        self.estimator = BlurEstimator(config.reach, config.hidden)
        self.refiner: ConvBackbone | None = None
        multiple_of, self.halo = 1, _INVERSE_RADIUS_PX
        if config.widths:
            network = AutoencoderConfig(
                "image",
                channels=3 * (1 + len(_BALANCES)),  # the image and its Wiener results
                widths=config.widths,
                blocks=config.blocks,
                fold=config.fold,
            )
            self.refiner = ConvBackbone(network)
            multiple_of = network.spec.multiple_of
            self.halo = -(-_INVERSE_RADIUS_PX // multiple_of) * multiple_of + (network.spec.halo or 0)
        # The filters ring less at a repeated edge than at a mirrored one.
        self.spec = InputSpec("image", channels=3, multiple_of=multiple_of, halo=None, edge_padding="edge")

    def config(self) -> dict[str, Any]:
        """Return the fields of `DeblurConfig`."""
        return asdict(self._config)

    def forward(self, noisy: Tensor) -> Tensor:
        """Deblur and denoise a batch, estimating blur and noise."""
        return self.undo(noisy, self.estimate(noisy))

    def estimate(self, noisy: Tensor) -> Blurring:
        """Estimate blur and noise of each image of a batch."""
        with torch.autocast(noisy.device.type, enabled=False):
            return self.estimator(_tiles(noisy.float()))

    def undo(self, noisy: Tensor, blurring: Blurring) -> Tensor:
        """Return the images without the given blur and noise."""
        with torch.autocast(noisy.device.type, enabled=False):
            noisy = noisy.float()
            attempts = [wiener(noisy, blurring, balance) for balance in _BALANCES]
        if self.refiner is None:
            return attempts[0]
        stacked = torch.cat([noisy, *attempts], 1).contiguous(memory_format=torch.channels_last)
        features, skips = self.refiner.encode(stacked)
        removed: Tensor = self.refiner.decode(features, skips)[:, :3]
        return noisy - removed

    def training_step(self, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Train the refiner, or else the estimator by the misfit of the target under the estimated blur."""
        if self.refiner is not None:
            with torch.no_grad():
                blurring = self.estimate(noisy)
            return self.undo(noisy, blurring), noisy.new_zeros(())
        blurring = self.estimate(noisy)
        with torch.autocast(noisy.device.type, enabled=False):
            noisy_gray, gray = (x.float().mean(1, keepdim=True) for x in (noisy, target))
            misfit = (convolve(gray, blurring.kernel) - noisy_gray).square().mean((1, 2, 3))
            return noisy, torch.log(misfit + _MIN_SIGMA**2).mean()

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the weights of another run; those of an estimator alone leave the refiner unchanged."""
        missing, unexpected = self.load_state_dict(weights, strict=False)
        if unexpected or any(not key.startswith("refiner.") for key in missing):
            raise RuntimeError(f"only one of the two models has {', '.join([*missing, *unexpected])}")

    def confirms_blur(self, page: Array, peak: float) -> bool:
        """Test the kernel: sharp photos give at most 0.1 px, a blur of 1 px gives more than 0.7.

        Drawings, which have exactly equal neighbours, never pass, because their spectrum is no evidence.
        """
        same = float(np.mean(page[:, :, 1:] == page[:, :, :-1]))
        return same < _DRAWN and self.blur_width_px(page, peak) > _BLURRED_PX

    def blur_width_px(self, page: Array, peak: float) -> float:
        """Return the standard deviation of the kernel, mean of both axes."""
        return _width_px(self._blurring(page, peak))

    def prepare(self, page: Array, peak: float) -> Denoiser:
        """Return a denoiser for the tiles with the blur of the image, or the identity if it is sharp."""
        blurring = self._blurring(page, peak)
        if _width_px(blurring) < _SHARP_PX and noise_sigma(page, peak) < _CLEAN_SIGMA:
            return build_classical("none", "image")
        return _Fitted(self, blurring)

    def _blurring(self, page: Array, peak: float) -> Blurring:
        parameter = next(self.parameters())
        whole = torch.from_numpy(page if page.flags.writeable else page.copy())[None]
        tiles = _tiles(whole).to(parameter.device, torch.float32) / peak
        with torch.inference_mode():
            return self.estimator(tiles.expand(-1, -1, 3, -1, -1))


def _width_px(blurring: Blurring) -> float:
    """Return the standard deviation of the first kernel, mean of both axes."""
    kernel = blurring.kernel[0]
    square = (torch.arange(len(kernel), device=kernel.device) - len(kernel) // 2).float().square()
    return math.sqrt(float(kernel.sum(0) @ square + kernel.sum(1) @ square) / 2)


class _Fitted(Denoiser):
    """A deblurrer for the tiles of one image."""

    def __init__(self, model: Deblurrer, blurring: Blurring) -> None:
        super().__init__()
        self.model, self.blurring = model, blurring
        self.spec = replace(model.spec, halo=model.halo)

    def forward(self, noisy: Tensor) -> Tensor:
        kernel, level = self.blurring
        batch = len(noisy)
        return self.model.undo(noisy, Blurring(kernel.expand(batch, -1, -1), level.expand(batch)))


def wiener(noisy: Tensor, blurring: Blurring, balance: float) -> Tensor:
    """Invert the blur of images in 0..1 where the scene is stronger than the noise (Wiener 1949).

    `balance` is the assumed noise-to-scene ratio over noise power and (nearly) frequency squared.
    """
    kernel, sigma = blurring
    height, width = noisy.shape[2:]
    radius = kernel.shape[-1] // 2
    margin = radius + _FADE_PX
    mean = noisy.mean((2, 3), keepdim=True)
    padded = F.pad(noisy, (margin,) * 4, mode="replicate") - mean
    size = tuple(fast_length(n) for n in padded.shape[2:])
    padded = padded * _fade(padded.shape[2], noisy)[:, None] * _fade(padded.shape[3], noisy)
    transfer = torch.fft.rfft2(kernel, s=size)[:, None]  # of a kernel shifted by `radius`
    down = torch.fft.fftfreq(size[0], device=noisy.device)[:, None]
    across = torch.fft.rfftfreq(size[1], device=noisy.device)
    scene = down.square() + across.square() + _FLAT
    ratio = balance * sigma.square()[:, None, None, None] * scene + _MIN_RATIO
    spectrum = torch.fft.rfft2(padded, s=size) * transfer.conj() / (transfer.abs().square() + ratio)
    restored: Tensor = torch.fft.irfft2(spectrum, s=size)
    start = margin - radius
    return restored[..., start : start + height, start : start + width] + mean


def _fade(size: int, like: Tensor) -> Tensor:
    rising = torch.linspace(0, 1, _FADE_PX + 1, device=like.device)[1:]
    return torch.cat([rising, like.new_ones(size - 2 * _FADE_PX), rising.flip(0)])


def _tiles(images: Tensor) -> Tensor:
    """Return tiles `(B, n, C, _TILE_PX, _TILE_PX)` spread over images; edges of small images are repeated."""
    bottom, right = (max(0, _TILE_PX - n) for n in images.shape[2:])
    if bottom or right:
        images = F.pad(images.float(), (0, right, 0, bottom), mode="replicate")
    height, width = images.shape[2:]
    corners = itertools.product(_starts(height), _starts(width))
    return torch.stack([images[..., y : y + _TILE_PX, x : x + _TILE_PX] for y, x in corners], 1)


def _starts(size: int) -> list[int]:
    """Return positions half a tile apart, or up to `_MAX_TILES` spread evenly."""
    last = size - _TILE_PX
    count = min(_MAX_TILES, 1 + math.ceil(2 * last / _TILE_PX))
    return [round(last * k / max(1, count - 1)) for k in range(count)]


def build(**config: Any) -> Deblurrer:
    """Build a deblurrer from the fields of its config."""
    return Deblurrer(config_from(DeblurConfig, config, {}))
