"""Learned transform coding of images: a transform and a hyperprior, with one knob for the rate.

The analysis is a cosine transform of blocks of 16 x 16 in opponent colours plus a convolutional correction,
the synthesis its inverse plus a correction; both corrections start at zero, so training starts from a working
codec. The coefficients are rounded, and coded with logistic distributions whose locations and scales are in a
second, much smaller code (Minnen, Ballé & Toderici 2018, "Joint autoregressive and hierarchical priors").
Factors per coefficient set the rate: those of a few qualities are learned, others interpolated (Cui et al.
2021, "Asymmetric gained deep image compression").
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.errors import UsageError
from denoise.models.base import Denoiser, InputSpec
from denoise.models.config import config_from
from denoise.models.layers import ResidualBlock

BLOCK = 16  # side of a block in pixels
CELL = 32  # pixels per value of the hyper-code on each axis; images are padded to a multiple of it
_LAMBDA = (0.001, 0.05)  # weight of the squared error (of 0..255) at the lowest and the highest quality
_FALL = ((190.0, 1.25), (42.0, 1.6), (21.0, 1.5))  # size and power of the spectrum of each colour axis
_STEP = 4.8  # quantisation step times the root of lambda, where training starts


@dataclass(frozen=True)
class ImageCodecConfig:
    """Sizes of the transform and of the hyperprior."""

    widths: tuple[int, int, int] = (64, 128, 128)  # features at 1/4, 1/8 and 1/16 of the size
    blocks: tuple[int, int, int] = (2, 2, 1)  # residual blocks at each, on each side
    luma: int = 256  # coefficients of a block that are kept, of the lowest frequencies, in brightness
    chroma: int = 32  # and in each of the two colour differences
    hyper: int = 64  # channels of the hyper-code
    hyper_width: int = 104  # features of the hyperprior
    rates: int = 6  # qualities with factors of their own


class ImageCodec(Denoiser):
    """Analysis, synthesis and entropy model of a config; as a denoiser, coding at the middle quality.

    Shape:
        `(B, 3, H, W)` in and out, in 0..1, each side a multiple of 32; its coefficients are
        `(B, luma + 2 * chroma, H / 16, W / 16)`, the hyper-code `(B, hyper, H / 32, W / 32)`.
    """

    basis: Tensor  # of cosines, `(coefficients, 3, 16, 16)`

    def __init__(self, config: ImageCodecConfig) -> None:
        super().__init__()
        sizes = (*config.widths, *config.blocks, config.hyper, config.hyper_width, config.rates - 1)
        if min(sizes) < 1 or not 0 < config.chroma <= config.luma <= BLOCK**2:
            raise UsageError(
                f"sizes of an image codec must be positive, at most 256 coefficients; found {config}"
            )
        self._config = config
        fine, middle, coarse = config.widths
        self.spec = InputSpec("image", channels=3, multiple_of=CELL, halo=256)
        basis, typical = _cosines(config.luma, config.chroma)
        kept = len(basis)
        self.register_buffer("basis", basis, persistent=False)

        def stage(width: int, blocks: int) -> list[nn.Module]:
            return [ResidualBlock(2, width, "relu", bias=True) for _ in range(blocks)]

        self.analysis = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, fine, 3, padding=1),
            *stage(fine, config.blocks[0]),
            nn.Conv2d(fine, middle, 2, stride=2),
            *stage(middle, config.blocks[1]),
            nn.Conv2d(middle, coarse, 2, stride=2),
            *stage(coarse, config.blocks[2]),
        )
        self.analysis_tail = _zero(nn.Conv2d(coarse, kept, 1))
        self.synthesis_head = nn.Conv2d(kept, coarse, 1)
        self.synthesis = nn.Sequential(
            *stage(coarse, config.blocks[2]),
            nn.Conv2d(coarse, 4 * middle, 1),
            nn.PixelShuffle(2),
            *stage(middle, config.blocks[1]),
            nn.Conv2d(middle, 4 * fine, 1),
            nn.PixelShuffle(2),
            *stage(fine, config.blocks[0]),
        )
        self.synthesis_tail = _zero(nn.Conv2d(fine, 48, 3, padding=1))
        inner, code = config.hyper_width, config.hyper
        self.hyper_analysis = nn.Sequential(
            nn.Conv2d(kept, inner, 1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 2, stride=2),
            nn.ReLU(),
            nn.Conv2d(inner, code, 3, padding=1),
        )
        self.hyper_synthesis = nn.Sequential(
            nn.Conv2d(code, inner, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(inner, 4 * inner, 1),
            nn.PixelShuffle(2),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(inner, 2 * kept, 1),
        )
        # One row per learned quality, the worst first, of logarithms. They are flat because weights files
        # store matrices in 8 bits, which is too coarse for factors.
        gain = (self.lambdas(torch.linspace(0, 1, config.rates))[:, None].sqrt() / _STEP).log()
        spread = typical.log() + gain  # of the coefficients' magnitudes, in steps
        self.log_gain = _table(gain.expand(-1, kept))
        self.log_inverse = _table(-gain.expand(-1, kept))
        self.log_scale = _table(spread.clamp(min=-2.5))
        self.log_input = _table(-spread.clamp(min=0.0))
        self.log_analysis = _table((gain - gain[-1]).expand(-1, coarse))
        self.log_coarse = _table(torch.zeros(config.rates, coarse))
        self.log_fine = _table(torch.zeros(config.rates, fine))
        self.log_tail = _table(-gain.expand(-1, 48) - math.log(255.0))
        self.log_hyper = _table(torch.full((config.rates, code), -0.7))
        # Weights, means and scales of three logistic distributions for each channel of the hyper-code.
        prior = torch.tensor([[-2.0, 0, -2], [-1, 0, 1], [-1.5] * 3])
        self.prior = _table(prior[:, None].expand(-1, code, -1))

    def config(self) -> dict[str, Any]:
        """Return the fields of `ImageCodecConfig`."""
        return asdict(self._config)

    @staticmethod
    def lambdas(quality: Tensor) -> Tensor:
        """Return the weight of the squared error at qualities of 0..1."""
        low, high = _LAMBDA
        return low * (high / low) ** quality

    def at(self, table: Tensor, quality: Tensor) -> Tensor:
        """Interpolate the rows of a table at qualities of 0..1: `(B, channels, 1, 1)`."""
        table = table.view(self._config.rates, -1)
        place = quality * (len(table) - 1)
        low = place.floor().clamp(max=len(table) - 2)
        rows = table[low.long()]
        mixed = rows + (place - low)[:, None] * (table[low.long() + 1] - rows)
        return mixed[:, :, None, None]

    def analyse(self, x: Tensor, quality: Tensor) -> Tensor:
        """Return the coefficients in steps of the quantiser, not rounded."""
        features = self.analysis(x) * self.at(self.log_analysis, quality).exp()
        correction = self.analysis_tail(features)
        with torch.autocast(x.device.type, enabled=False):
            linear = F.conv2d(255.0 * (x.float() - 0.5), self.basis, stride=BLOCK)
            return linear * self.at(self.log_gain, quality).exp() + correction.float()

    def synthesise(self, steps: Tensor, quality: Tensor) -> Tensor:
        """Return the image of coefficients in steps."""
        features = self.synthesis_head(steps * self.at(self.log_input, quality).exp())
        features = self.synthesis(features * self.at(self.log_coarse, quality).exp())
        correction = self.synthesis_tail(features * self.at(self.log_fine, quality).exp())
        with torch.autocast(steps.device.type, enabled=False):
            linear = steps.float() * self.at(self.log_inverse, quality).exp()
            linear = F.conv_transpose2d(linear, self.basis, stride=BLOCK) / 255.0 + 0.5
            return linear + F.pixel_shuffle(correction.float() * self.at(self.log_tail, quality).exp(), 4)

    def hyper_code(self, steps: Tensor, quality: Tensor) -> Tensor:
        """Return the hyper-code of coefficients, not rounded."""
        compressed = steps.sign() * steps.abs().log1p()
        return self.hyper_analysis(compressed) * self.at(self.log_hyper, quality).exp()

    def distribution(self, code: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Return location and logarithm of the scale of each coefficient, in steps."""
        location, scale = self.hyper_synthesis(code / self.at(self.log_hyper, quality).exp()).chunk(2, 1)
        return location.float(), scale.float() + self.at(self.log_scale, quality)

    def forward(self, noisy: Tensor) -> Tensor:
        """Code and decode a batch at the middle quality."""
        quality = torch.full((len(noisy),), 0.5, device=noisy.device)
        steps = self.analyse(noisy, quality)
        location, _ = self.distribution(self.hyper_code(steps, quality).round(), quality)
        return self.synthesise((steps - location).round() + location, quality)

    def training_step(self, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the decoded batch, and its bits per pixel plus lambda times its squared error.

        Every item has a quality of its own, evenly spread. Uniform noise stands for rounding in the rate, and
        rounding passes gradients in the distortion (Minnen & Singh 2020). Items of all qualities count about
        the same.
        """
        spread = torch.arange(len(noisy), device=noisy.device)
        quality = (spread + torch.rand(len(noisy), device=noisy.device)) / len(noisy)
        steps = self.analyse(noisy, quality)
        code = self.hyper_code(steps, quality).float()
        location, log_scale = self.distribution(_rounded(code), quality)
        estimate = self.synthesise(_rounded(steps - location) + location, quality)
        with torch.autocast(noisy.device.type, enabled=False):
            bits = _nats(_dithered(steps - location), log_scale).flatten(1).sum(1)
            bits = bits + self._hyper_nats(_dithered(code)).flatten(1).sum(1)
            rate = bits / (math.log(2.0) * target[0, 0].numel())
            lambdas = self.lambdas(quality)
            error = 255.0**2 * (estimate - target).square().flatten(1).mean(1)
            cost = (rate + lambdas * error) * (_LAMBDA[0] / lambdas).sqrt()
        return estimate, cost.mean()

    def _hyper_nats(self, code: Tensor) -> Tensor:
        weights, means, scales = (part[:, None, None] for part in self.prior.view(3, -1, 3))
        parts = weights.log_softmax(-1) - _nats(code[..., None] - means, scales)
        return -parts.logsumexp(-1)


def _cosines(luma: int, chroma: int) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis `(luma + 2 * chroma, 3, 16, 16)`, and typical magnitudes in photos."""
    place = torch.arange(BLOCK, dtype=torch.float64)
    rows = torch.cos(math.pi / BLOCK * (place + 0.5) * place[:, None]) * math.sqrt(2 / BLOCK)
    rows[0] /= math.sqrt(2)
    planes = torch.einsum("uy,vx->uvyx", rows, rows).flatten(0, 1)
    frequency = (place[:, None].square() + place.square()).sqrt().flatten()
    order = frequency.argsort(stable=True)
    planes, frequency = planes[order], frequency[order].clamp(min=0.23)
    colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    colours /= colours.norm(dim=1, keepdim=True)
    kept = (luma, chroma, chroma)
    basis = [
        colour[None, :, None, None] * planes[:count, None]
        for colour, count in zip(colours, kept, strict=True)
    ]
    # Mean magnitudes of each in photos of 0..255, fitted to 29 of them.
    spread = [scale / frequency[:count] ** power for (scale, power), count in zip(_FALL, kept, strict=True)]
    # On a grid, so that decoders agree to the last bit.
    return (torch.cat(basis) * 2**16).round().float() / 2**16, torch.cat(spread).float()


def _nats(x: Tensor, log_scale: Tensor) -> Tensor:
    """Return minus the logarithm of the probability of x - 1/2 .. x + 1/2 in a logistic distribution at 0."""
    inverse = torch.exp(-log_scale.clamp(-4.0, 7.0))
    above, below = (x.abs() + 0.5) * inverse, (x.abs() - 0.5) * inverse
    return F.softplus(-above) + F.softplus(below) - torch.log(-torch.expm1(-inverse))


def _rounded(x: Tensor) -> Tensor:
    return x + (x.round() - x).detach()


def _dithered(x: Tensor) -> Tensor:
    return x + torch.rand_like(x) - 0.5


def _table(rows: Tensor) -> nn.Parameter:
    return nn.Parameter(rows.flatten().clone())


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def build(**config: Any) -> ImageCodec:
    """Build an image codec from the fields of its config."""
    return ImageCodec(config_from(ImageCodecConfig, config, {}))
