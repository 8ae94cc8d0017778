"""The autoencoder family from one definition: encoder, bottleneck, decoder, in 1-D and 2-D.

A variant is a config, not a class: it picks a row of `BACKBONES`, of `BOTTLENECKS` and of `PENALTIES`, and
sizes. The recipe decides what corrupts its input.

| member | defined by |
|---|---|
| plain (Hinton & Salakhutdinov 2006) | a code smaller than the input |
| denoising (Vincent et al. 2008) | a corrupted input, in the recipe |
| sparse (Ng 2011) | penalty `l1` or `kl` on the code |
| contractive (Rifai et al. 2011) | penalty `contractive` |
| variational (Kingma & Welling 2014) | bottleneck `variational` |
| convolutional (Masci et al. 2011) | backbone `conv` |
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from denoise.errors import UsageError
from denoise.models.base import Denoiser
from denoise.models.bottleneck import BOTTLENECKS
from denoise.models.config import AutoencoderConfig, config_from
from denoise.models.layers import (
    ACTIVATIONS,
    CONV,
    CONV_TRANSPOSE,
    CrossChannel,
    ResidualBlock,
    as_image,
    fold,
    unfold,
)
from denoise.models.penalties import PENALTIES, CodeBatch
from denoise.models.row_stream import RowStream
from denoise.registry import unknown
from denoise.signal import MODALITIES

_RENAMED = {"cross": "cross_channel"}  # fields of recipes and weights files before


class ConvBackbone(nn.Module):
    """A convolutional encoder and its mirror image (Masci et al. 2011); with skips a U-Net.

    The skips are added rather than concatenated (Ronneberger et al. 2015), which costs nothing.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        ndim = MODALITIES[config.modality].ndim
        conv, up = CONV[ndim], CONV_TRANSPOSE[ndim]
        widths, bias = config.widths, config.bias
        folded = config.channels * config.fold**ndim
        self.ndim = ndim

        def stage(scale: int) -> nn.Sequential:
            return nn.Sequential(
                *(
                    ResidualBlock(ndim, widths[scale], config.activation, bias)
                    for _ in range(config.blocks_of(scale))
                )
            )

        pairs = list(itertools.pairwise(widths))
        outer = range(len(pairs))
        self.side, self.skips = config.fold, config.skips
        self.head = conv(folded * (1 + config.gaps), widths[0], 3, padding=1, bias=bias)
        self.encoder = nn.ModuleList(map(stage, outer))
        self.down = nn.ModuleList(conv(fine, coarse, 2, stride=2, bias=bias) for fine, coarse in pairs)
        self.inner = stage(len(pairs))
        self.cross = nn.ModuleList(
            CrossChannel(ndim, width, config.activation, bias)
            for width in (widths if config.cross_channel else ())
        )
        self.outer = stage(len(pairs))
        self.up = nn.ModuleList(up(coarse, fine, 2, stride=2, bias=bias) for fine, coarse in reversed(pairs))
        self.decoder = nn.ModuleList(map(stage, reversed(outer)))
        self.tail = conv(widths[0], folded, 3, padding=1, bias=bias)

        self.code_in, self.code_axis = widths[-1], 1

    def code_layers(self, code: int, bias: bool) -> tuple[nn.Module, nn.Module]:
        """Return the layers into and out of a code of `code` channels."""
        conv: Any = (None, nn.Conv1d, nn.Conv2d)[self.ndim]
        return conv(self.code_in, code, 1, bias=bias), conv(code, self.code_in, 1, bias=bias)

    def encode(self, x: Tensor, channels: int = 1) -> tuple[Tensor, list[Tensor]]:
        """Return the features of the innermost scale, and the skips of the outer scales.

        With `cross_channel`, each `channels` consecutive items are the channels of one recording.
        """
        x = self.head(as_image(fold(x, self.side)))  # (B, w0, *S/side); of a signal (B, w0, 1, T/side)
        skips = []
        for scale, (stage, down) in enumerate(zip(self.encoder, self.down, strict=True)):
            x = self._mix_channels(stage(x), scale, channels)
            skips.append(x)
            x = down(x)  # (B, w[i+1], half of each axis)
        return self._as_signal(self._mix_channels(self.inner(x), len(skips), channels)), skips

    def _mix_channels(self, x: Tensor, scale: int, channels: int) -> Tensor:
        return self.cross[scale](x, channels) if self.cross else x

    def decode(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """Return a batch of the size of the input; empty `skips` decode from the code alone."""
        x = self.outer(as_image(x))
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = up(x)  # (B, w[i], double each axis)
            if self.skips and skips:
                x = x.add_(skips.pop())
            x = stage(x)
        return unfold(self._as_signal(self.tail(x)), self.side)

    def _as_signal(self, x: Tensor) -> Tensor:
        """Undo `as_image`."""
        return x.squeeze(2) if self.ndim == 1 else x


class DenseBackbone(nn.Module):
    """Fully connected layers over non-overlapping patches (Hinton & Salakhutdinov 2006)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        ndim = MODALITIES[config.modality].ndim
        sizes = [config.channels * config.patch**ndim, *config.widths]

        def layers(sizes: list[int], last: bool) -> nn.Sequential:
            modules: list[nn.Module] = []
            for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
                modules.append(nn.Linear(fan_in, fan_out, bias=config.bias))
                if last or i < len(sizes) - 2:
                    modules.append(ACTIVATIONS[config.activation]())
            return nn.Sequential(*modules)

        self.side = config.patch
        self.encoder = layers(sizes, last=True)
        self.decoder = layers(sizes[::-1], last=False)
        self.code_in, self.code_axis = sizes[-1], -1

    def code_layers(self, code: int, bias: bool) -> tuple[nn.Module, nn.Module]:
        """Return the layers into and out of a code of `code` units."""
        return nn.Linear(self.code_in, code, bias=bias), nn.Linear(code, self.code_in, bias=bias)

    def encode(self, x: Tensor, _channels: int = 1, /) -> tuple[Tensor, list[Tensor]]:
        """Return one feature vector per patch, `(B, *S/patch, width)`, and no skips."""
        return self.encoder(fold(x, self.side).movedim(1, -1)), []

    def decode(self, x: Tensor, _skips: list[Tensor], /) -> Tensor:
        """Return the patches in their places."""
        return unfold(self.decoder(x).movedim(-1, 1), self.side)


BACKBONES: Mapping[str, Callable[[AutoencoderConfig], ConvBackbone | DenseBackbone]] = {
    "conv": ConvBackbone,
    "dense": DenseBackbone,
}


class Autoencoder(Denoiser):
    """Encoder, bottleneck and decoder of a config.

    Shape:
        `(B, channels, *S)` in and out, each axis a multiple of `spec.multiple_of`; any number of channels
        with `cross_channel`.

    Raises:
        UsageError: The config names an unknown row, or its sizes or options are not valid together.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        for kind, name, table in (
            ("modality", config.modality, MODALITIES),
            ("backbone", config.backbone, BACKBONES),
            ("bottleneck", config.bottleneck, BOTTLENECKS),
            ("activation", config.activation, ACTIVATIONS),
            ("activation", config.code_activation, ACTIVATIONS),
            ("penalty", config.penalty or "l1", PENALTIES),
        ):
            if name not in table:
                raise unknown(kind, name, table)
        blocks = config.blocks if isinstance(config.blocks, tuple) else (config.blocks,)
        if not config.widths or min(*config.widths, *blocks, config.fold, config.patch) < 1:
            raise UsageError(f"autoencoder sizes must be positive, found {config}")
        if len(blocks) not in (1, len(config.widths)):
            raise UsageError(f"autoencoder blocks are {config.blocks}; expected one number, or one per width")
        if config.bottleneck == "variational" and (not config.code or config.skips or config.residual):
            raise UsageError("a variational autoencoder needs code > 0, and skips and residual false")
        if config.cross_channel and (config.backbone, config.channels, config.modality) != (
            "conv",
            1,
            "sensor",
        ):
            raise UsageError('cross_channel needs modality "sensor", backbone "conv" and channels 1')
        if config.penalty == "kl" and config.code_activation != "sigmoid":
            raise UsageError('penalty "kl" needs activations in 0..1: set code_activation to "sigmoid"')
        self._config = config
        self.backbone = BACKBONES[config.backbone](config)
        bottleneck = BOTTLENECKS[config.bottleneck]
        encode_proj: nn.Module = nn.Identity()
        decode_proj: nn.Module = nn.Identity()
        if config.code:
            encode_proj = self.backbone.code_layers(bottleneck.values_per_unit * config.code, config.bias)[0]
            decode_proj = self.backbone.code_layers(config.code, config.bias)[1]
        if config.code_activation != "linear":
            encode_proj = nn.Sequential(encode_proj, ACTIVATIONS[config.code_activation]())
        self.bottleneck = bottleneck(encode_proj, decode_proj, self.backbone.code_axis, config.free_bits)
        self.spec = config.spec

    def config(self) -> dict[str, Any]:
        """Return the fields of `AutoencoderConfig`."""
        return asdict(self._config)

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the weights of a network of as many or fewer blocks, scales or inputs.

        The result is the same function: new blocks start as the identity, and new scales, mask channels and
        cross-channel layers at zero.
        """
        mine = self.state_dict()
        weights = _deepen(weights, mine) if isinstance(self.backbone, ConvBackbone) else weights
        lacking, foreign = self.load_state_dict(weights, strict=False)
        for name, module in self.named_modules():
            if isinstance(module, ResidualBlock) and f"{name}.body.0.weight" in lacking:
                module.zero_init()
                lacking = [key for key in lacking if not key.startswith(f"{name}.")]
            elif isinstance(module, CrossChannel):  # the identity since it was built
                lacking = [key for key in lacking if not key.startswith(f"{name}.")]
        if lacking or foreign:
            raise RuntimeError(f"only one of the two models has {', '.join([*lacking, *foreign])}")

    def encode(self, x: Tensor) -> Tensor:
        """Return the code; of a variational autoencoder its mean.

        Shape:
            `(B, code, *S / multiple_of)` (conv), `(B, *S / multiple_of, code)` (dense).
        """
        return self.bottleneck.encode(self.backbone.encode(*self._split_channels(x))[0])

    def decode(self, code: Tensor) -> Tensor:
        """Return the signal that the code alone stands for, without skips or the input."""
        return self.backbone.decode(self.bottleneck.decode(code), [])

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch; the noise level is found by the network itself."""
        rows, channels = self._split_channels(self._with_gap_mask(noisy))
        features, skips = self.backbone.encode(rows, channels)
        out = self.backbone.decode(self.bottleneck.decode(self.bottleneck.encode(features)), skips)
        out = out.reshape(len(noisy), -1, *out.shape[2:])
        return noisy[:, : out.shape[1]] - out if self._config.residual else out

    def row_stream(self) -> RowStream | None:
        """Return a run by bands of rows for an image, if the network is convolutional."""
        net, config = self.backbone, self._config
        coded = config.code or config.code_activation != "linear"
        if coded or not isinstance(net, ConvBackbone) or config.modality != "image":
            return None
        return RowStream(net, residual=config.residual)

    def training_step(self, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the denoised batch and the penalty of its code; values inside gaps have no loss."""
        config = self._config
        missing = noisy.isnan() if config.gaps else None
        if missing is not None:
            noisy = torch.cat([bridge_gaps(noisy, missing), missing.to(noisy)], 1)
        if config.penalty:
            noisy = noisy.detach().requires_grad_()  # for the contractive penalty
        features, skips = self.backbone.encode(*self._split_channels(noisy))
        code, divergence = self.bottleneck.draw(features)
        out = self.backbone.decode(self.bottleneck.decode(code), skips)
        out = out.reshape(len(noisy), -1, *out.shape[2:])
        # Per value of the signal, as the losses are: with `mse`, beta 1 is the evidence lower bound of a
        # decoder with variance 1/2.
        added = config.beta * divergence * (len(noisy) / noisy.numel())
        if config.penalty:
            units = code.movedim(self.backbone.code_axis, -1).flatten(0, -2)
            penalty = PENALTIES[config.penalty](CodeBatch(units, noisy, config.target_activation))
            added = added + config.penalty_weight * penalty
        estimate = noisy[:, : out.shape[1]] - out if config.residual else out
        return estimate if missing is None else torch.where(missing, target, estimate), added

    def _split_channels(self, x: Tensor) -> tuple[Tensor, int]:
        """Return each channel as an item if the network mixes channels, and the number of channels."""
        if not self._config.cross_channel:
            return x, 1
        parts = x.reshape(len(x), 1 + self._config.gaps, -1, x.shape[2])  # (B, 2, C, T): signals, gaps
        return parts.transpose(1, 2).flatten(0, 1), parts.shape[2]

    def _with_gap_mask(self, noisy: Tensor) -> Tensor:
        """Append an empty gap mask if the network takes one and the batch has none."""
        lacking = self._config.gaps and noisy.shape[1] == self._config.channels
        return torch.cat([noisy, torch.zeros_like(noisy)], 1) if lacking else noisy

    @torch.no_grad()
    def sample(self, count: int, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw signals from the prior of a variational code, a standard normal distribution.

        Args:
            size: Size of each, without channels; multiples of `spec.multiple_of`.

        Shape:
            `(count, channels, *size)`.
        """
        cells = tuple(n // self.spec.multiple_of for n in size)
        code = torch.randn(count, *cells, self._config.code, generator=generator)
        return self.decode(code.movedim(-1, self.backbone.code_axis))


def bridge_gaps(x: Tensor, missing: Tensor) -> Tensor:
    """Interpolate signals `(B, C, T)` linearly across each gap; hold the nearest value at the ends."""
    if not bool(missing.any()):
        return x
    last = x.shape[-1] - 1
    at = torch.arange(last + 1, device=x.device)
    before = torch.where(missing, -1, at).cummax(-1).values
    after = torch.where(missing, last + 1, at).flip(-1).cummin(-1).values.flip(-1)
    left = torch.where(before < 0, after, before).clamp(max=last)
    right = torch.where(after > last, before, after).clamp(min=0)
    values = x.nan_to_num(0.0)
    start, end = values.gather(-1, left), values.gather(-1, right)
    return torch.where(missing, start + (end - start) * (at - left) / (right - left).clamp(min=1), values)


def _deepen(weights: Mapping[str, Tensor], mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Move the weights of a backbone to their places in one of more scales and inputs."""
    scales, wanted = (
        sum(re.fullmatch(r"backbone.down.\d+.weight", k) is not None for k in of) for of in (weights, mine)
    )
    more = wanted - scales
    grown = {} if more > 0 else dict(weights)
    for key, value in weights.items() if more > 0 else ():
        part, _, rest = key.removeprefix("backbone.").partition(".")
        match part:
            case "inner":
                key = f"backbone.encoder.{scales}.{rest}"
            case "outer":
                key = f"backbone.decoder.{more - 1}.{rest}"
            case "up" | "decoder":
                place, _, rest = rest.partition(".")
                key = f"backbone.{part}.{int(place) + more}.{rest}"
        grown[key] = value
    if more > 0:
        new = {k: v for k, v in mine.items() if k not in grown and k.startswith("backbone.")}
        idle = f"backbone.up.{more - 1}."
        grown |= {k: torch.zeros_like(v) if k.startswith(idle) else v for k, v in new.items()}
    head = "backbone.head.weight"
    if head in grown and (inputs := mine[head].shape[1] - grown[head].shape[1]) > 0:
        zeros = grown[head].new_zeros(len(grown[head]), inputs, *grown[head].shape[2:])
        grown[head] = torch.cat([grown[head], zeros], 1)
    return grown


def build(**config: Any) -> Autoencoder:
    """Build an autoencoder from the fields of its config."""
    return Autoencoder(config_from(AutoencoderConfig, config, _RENAMED))
