"""Deblurring in three steps: estimate the blur of the whole picture, undo it, refine what came of that.

A lens or a shake blurs all of a picture alike, so that all of it tells how: the logarithm of its spectrum is
that of the scene, which falls off smoothly, plus that of the blur, whose zeros and slopes stand out. Once the
blur is known, a Wiener filter undoes what noise allows, and a network that sees the picture beside two such
attempts keeps what is scene and drops what is ringing and noise (after Dong, Roth and Schiele, "Deep Wiener
deconvolution", 2020, which is told the blur).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.corruptions.base import fast_length
from denoise.corruptions.blur import convolve
from denoise.estimate.image import noise_sigma
from denoise.models import build as build_classical
from denoise.models.autoencoder import AutoencoderConfig, ConvBackbone
from denoise.models.base import Denoiser, InputSpec
from denoise.models.layers import config_from

__all__ = ["Blurring", "DeblurConfig", "Deblurrer", "build"]

_TILE_PX = 128  # side of the windows that the spectrum is averaged over
_TILES = 8  # per axis, at most; they are spread over the picture
_FADE_PX = 32  # around a picture, so that a filter which takes it for periodic does not ring
_SEEN_PX = 96  # how far an inverse filter looks, as good as
_FAINTEST = 0.5 / 255  # standard deviation: rounding alone leaves 0.3/255
_NOISY_RING = (0.25, 0.5)  # cycles a pixel: where the faintest ring of the spectrum is taken for noise
# What the filters take for the power of the scene, in 0..1 and cycles a pixel, as photos have it:
# 1 / (balance * (f^2 + _FLAT)). One is timid and one bold; a single one is best at about 5000.
_BALANCES = (8000.0, 2000.0)
_FLAT = 0.01  # without it a long motion, whose zeros lie at low frequencies, rings far and wide
_DRAWN = 0.6  # the share of pixels that equal the one beside them
_BLURRED_PX = 0.5  # standard deviation of a kernel: what surely is blur
# What needs no sharpening: of 23 sharp photos the kernel is 0.16 px wide at most, and the noise 0.5/255.
_SHARP_PX, _CLEAN_SIGMA = 0.2, 0.8
_LEAST = 1e-5  # of the ratio of noise to scene


@dataclass(frozen=True)
class DeblurConfig:
    """Sizes of a deblurring model.

    Args:
        reach: Pixels that a blur may reach to each side.
        hidden: Units of each layer of the estimator.
        widths: Features per scale of the refining network; without any there is none, and what comes out is
            one attempt: so the estimator is trained first, which needs many pictures and little arithmetic.
        blocks: Residual blocks per scale on each side of it.
        fold: Side of the cell of pixels folded into channels at its input.
    """

    reach: int = 16
    hidden: int = 512
    widths: tuple[int, ...] = (64, 128, 160)
    blocks: int | tuple[int, ...] = 1
    fold: int = 2


class Blurring(NamedTuple):
    """What became of pictures: each convolved with a kernel `(B, k, k)`, and noise of sigma `(B,)` on top."""

    kernel: Tensor
    sigma: Tensor


class BlurEstimator(nn.Module):
    """From spectra to kernels that are the same both ways, as those of a lens and of an even shake are."""

    distance: Tensor
    ring: Tensor
    ring_size: Tensor
    steep: Tensor
    taper: Tensor

    def __init__(self, reach: int, hidden: int) -> None:
        super().__init__()
        self.reach, side = reach, 2 * reach + 1
        self.numbers = side * side // 2 + 1  # of half a kernel, its centre included
        offset = torch.arange(-reach, reach + 1, dtype=torch.float32)
        distance = torch.hypot(offset[:, None], offset).flatten()[: self.numbers]
        self.register_buffer("distance", distance, persistent=False)
        frequency = torch.fft.fftfreq(_TILE_PX, device="cpu")
        radius = torch.hypot(frequency[:, None], frequency)
        ring = (radius * _TILE_PX).round().long().flatten()
        rings = _TILE_PX // 2
        self.register_buffer("ring", ring, persistent=False)
        self.register_buffer("ring_size", torch.bincount(ring).float(), persistent=False)
        # The power of natural scenes falls as the square of the frequency; this takes that fall away.
        steep = 4 * torch.sin(math.pi * frequency).square()
        self.register_buffer("steep", steep[:, None] + steep, persistent=False)
        taper = torch.hann_window(_TILE_PX, periodic=False, device="cpu")
        self.register_buffer("taper", torch.outer(taper, taper), persistent=False)
        self.encode_proj = nn.Linear(2 * self.numbers + rings + 1, hidden)
        self.hidden = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.out = nn.Linear(hidden, self.numbers)
        nn.init.normal_(self.out.weight, std=0.01)

    def forward(self, tiles: Tensor) -> Blurring:
        """The blur and noise of pictures `(B, n, C, _TILE_PX, _TILE_PX)`, given by tiles, in 0..1."""
        power = self._power(tiles)  # (B, tile, tile)
        rings = self._by_ring(power)
        low, high = (round(edge * _TILE_PX) for edge in _NOISY_RING)
        sigma = rings[:, low:high].min(1).values.sqrt().clamp(min=_FAINTEST)
        level = torch.log(power * self.steep + 0.3 * sigma.square()[:, None, None])
        profile = self._by_ring(level)
        features = [
            self._cepstrum(level),
            self._cepstrum(level - profile[:, self.ring].view_as(level)),  # what depends on the direction
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
        """Periodogram, mean over tiles and channels; white noise of sigma has the power sigma^2."""
        tapered = (tiles - tiles.mean((-2, -1), keepdim=True)) * self.taper
        power: Tensor = torch.fft.fft2(tapered).abs().square().mean((1, 2)) / self.taper.square().sum()
        return power

    def _by_ring(self, spectrum: Tensor) -> Tensor:
        sums = spectrum.new_zeros(len(spectrum), len(self.ring_size))
        return sums.index_add_(1, self.ring, spectrum.flatten(1)) / self.ring_size

    def _cepstrum(self, level: Tensor) -> Tensor:
        """Half the inner part of the transform of a log spectrum, weighed so that all of it counts alike."""
        middle = _TILE_PX // 2
        inner = slice(middle - self.reach, middle + self.reach + 1)
        cepstrum = torch.fft.fftshift(torch.fft.ifft2(level).real, dim=(1, 2))[:, inner, inner]
        weighed: Tensor = cepstrum.flatten(1)[:, : self.numbers] * self.distance * (_TILE_PX / 30)
        return weighed


def _refining(config: DeblurConfig) -> AutoencoderConfig:
    """A network for pictures beside the attempts on them."""
    channels = 3 * (1 + len(_BALANCES))
    return AutoencoderConfig(
        "image", channels=channels, widths=config.widths, blocks=config.blocks, fold=config.fold
    )


class Deblurrer(Denoiser):
    """Estimates the blur of the whole picture, undoes it and refines the result.

    Shape:
        `(B, 3, H, W)` in and out, H and W multiples of `spec.multiple_of`.
    """

    def __init__(self, config: DeblurConfig) -> None:
        super().__init__()
        self._config = config
        self.estimator = BlurEstimator(config.reach, config.hidden)
        self.refiner: ConvBackbone | None = None
        multiple_of, self.halo = 1, _SEEN_PX
        if config.widths:
            self.refiner = ConvBackbone(_refining(config))
            multiple_of = self.refiner.multiple_of
            self.halo = -(-_SEEN_PX // multiple_of) * multiple_of + self.refiner.halo
        # Its filters ring less at an edge whose last values repeat than at one that is mirrored.
        self.spec = InputSpec("image", channels=3, multiple_of=multiple_of, halo=None, edge_padding="edge")

    def config(self) -> dict[str, Any]:
        """The fields of `DeblurConfig`."""
        return asdict(self._config)

    def forward(self, noisy: Tensor) -> Tensor:
        """Deblur and denoise a batch; blur and noise are found by the network itself."""
        return self.undo(noisy, self.estimate(noisy))

    def estimate(self, noisy: Tensor) -> Blurring:
        """The blur and the noise of each picture of a batch."""
        with torch.autocast(noisy.device.type, enabled=False):
            blurring: Blurring = self.estimator(_tiles(noisy.float()))
            return blurring

    def undo(self, noisy: Tensor, blurring: Blurring) -> Tensor:
        """The pictures without that blur and that noise."""
        with torch.autocast(noisy.device.type, enabled=False):
            noisy = noisy.float()
            attempts = [wiener(noisy, blurring, balance) for balance in _BALANCES]
        if self.refiner is None:
            return attempts[0]
        seen = torch.cat([noisy, *attempts], 1).contiguous(memory_format=torch.channels_last)
        features, skips = self.refiner.encode(seen)
        removed: Tensor = self.refiner.decode(features, skips)[:, :3]
        return noisy - removed

    def training_step(self, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """One half is trained at a time.

        Without a refiner the estimator: by how badly its blur makes the noisy batch of the clean one. With
        one the refiner, on the blur that is estimated.
        """
        if self.refiner is not None:
            with torch.no_grad():
                blurring = self.estimate(noisy)
            return self.undo(noisy, blurring), noisy.new_zeros(())
        blurring = self.estimate(noisy)
        with torch.autocast(noisy.device.type, enabled=False):
            noisy_gray, gray = (x.float().mean(1, keepdim=True) for x in (noisy, target))
            misfit = (convolve(gray, blurring.kernel) - noisy_gray).square().mean((1, 2, 3))
            return noisy, torch.log(misfit + _FAINTEST**2).mean()

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of another run; those of an estimator alone leave the refiner as it is."""
        lacking, foreign = self.load_state_dict(weights, strict=False)
        if foreign or any(not key.startswith("refiner.") for key in lacking):
            raise RuntimeError(f"only one of the two models has {', '.join([*lacking, *foreign])}")

    def confirms_blur(self, page: NDArray[Any], peak: float) -> bool:
        """By the kernel: of sharp photos it is 0.1 px wide at most, of one blurred by 1 px more than 0.7.

        Drawings have no spectrum that says anything; they are told by neighbours that are exactly the same.
        """
        same = float(np.mean(page[:, :, 1:] == page[:, :, :-1]))
        return same < _DRAWN and _width_px(self._blurring(page, peak)) > _BLURRED_PX

    def prepare(self, page: NDArray[Any], peak: float) -> Denoiser:
        """A denoiser for the parts of this page, which knows the blur of all of it.

        What is neither blurred nor noisy is left as it is.
        """
        blurring = self._blurring(page, peak)
        if _width_px(blurring) < _SHARP_PX and noise_sigma(page, peak) < _CLEAN_SIGMA:
            return build_classical("none", "image")
        return _Fitted(self, blurring)

    def _blurring(self, page: NDArray[Any], peak: float) -> Blurring:
        parameter = next(self.parameters())
        whole = torch.from_numpy(page if page.flags.writeable else page.copy())[None]
        tiles = _tiles(whole).to(parameter.device, torch.float32) / peak
        with torch.inference_mode():
            blurring: Blurring = self.estimator(tiles.expand(-1, -1, 3, -1, -1))
            return blurring


def _width_px(blurring: Blurring) -> float:
    """Standard deviation of the first kernel, along an axis in the mean."""
    kernel = blurring.kernel[0]
    square = (torch.arange(len(kernel), device=kernel.device) - len(kernel) // 2).float().square()
    return math.sqrt(float(kernel.sum(0) @ square + kernel.sum(1) @ square) / 2)


class _Fitted(Denoiser):
    """A deblurrer for the parts of one picture."""

    def __init__(self, model: Deblurrer, blurring: Blurring) -> None:
        super().__init__()
        self.model, self.blurring = model, blurring
        self.spec = replace(model.spec, halo=model.halo)

    def forward(self, noisy: Tensor) -> Tensor:
        kernel, level = self.blurring
        batch = len(noisy)
        return self.model.undo(noisy, Blurring(kernel.expand(batch, -1, -1), level.expand(batch)))


def wiener(noisy: Tensor, blurring: Blurring, balance: float) -> Tensor:
    """Undo a blur where the scene is stronger than the noise (Wiener 1949).

    Args:
        noisy: Pictures `(B, C, H, W)` in 0..1.
        blurring: Of each.
        balance: The ratio of noise to scene that is assumed, over noise power and (nearly) frequency squared.
    """
    kernel, sigma = blurring
    height, width = noisy.shape[2:]
    reach = kernel.shape[-1] // 2
    margin = reach + _FADE_PX
    mean = noisy.mean((2, 3), keepdim=True)
    padded = F.pad(noisy, (margin,) * 4, mode="replicate") - mean
    size = tuple(fast_length(n) for n in padded.shape[2:])
    padded = padded * _fade(padded.shape[2], noisy)[:, None] * _fade(padded.shape[3], noisy)
    transfer = torch.fft.rfft2(kernel, s=size)[:, None]  # of a kernel that lies `reach` too far on
    down = torch.fft.fftfreq(size[0], device=noisy.device)[:, None]
    across = torch.fft.rfftfreq(size[1], device=noisy.device)
    ratio = balance * sigma.square()[:, None, None, None] * (down.square() + across.square() + _FLAT) + _LEAST
    spectrum = torch.fft.rfft2(padded, s=size) * transfer.conj() / (transfer.abs().square() + ratio)
    restored: Tensor = torch.fft.irfft2(spectrum, s=size)
    top = margin - reach
    return restored[..., top : top + height, top : top + width] + mean


def _fade(size: int, like: Tensor) -> Tensor:
    rising = torch.linspace(0, 1, _FADE_PX + 1, device=like.device)[1:]
    return torch.cat([rising, like.new_ones(size - 2 * _FADE_PX), rising.flip(0)])


def _tiles(pictures: Tensor) -> Tensor:
    """Tiles spread evenly over pictures `(B, C, H, W)`; the edges of one that is too small are continued.

    Shape:
        `(B, n, C, _TILE_PX, _TILE_PX)`.
    """
    lacking = [max(0, _TILE_PX - n) for n in pictures.shape[2:]]
    if any(lacking):
        pictures = F.pad(pictures.float(), (0, lacking[1], 0, lacking[0]), mode="replicate")
    height, width = pictures.shape[2:]
    return torch.stack(
        [
            pictures[..., top : top + _TILE_PX, left : left + _TILE_PX]
            for top in _starts(height)
            for left in _starts(width)
        ],
        1,
    )


def _starts(size: int) -> list[int]:
    """Half a tile apart, where that is not too many."""
    last = size - _TILE_PX
    count = min(_TILES, 1 + math.ceil(2 * last / _TILE_PX))
    return [round(last * k / max(1, count - 1)) for k in range(count)]


def build(**config: Any) -> Deblurrer:
    """A deblurrer from the fields of its config."""
    return Deblurrer(config_from(DeblurConfig, config, {}))
