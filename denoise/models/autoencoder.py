"""The autoencoder family from one definition: encoder, bottleneck, decoder, in 1-D and 2-D.

A variant is a config, not a class: it picks a row of `BACKBONES`, of `BOTTLENECKS` and of `PENALTIES`, and
sizes. What its input is corrupted by is decided where it is trained.

| member | what makes it one |
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
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.errors import UsageError
from denoise.models.base import Denoiser, InputSpec
from denoise.models.bottleneck import BOTTLENECKS
from denoise.models.penalties import PENALTIES
from denoise.registry import unknown
from denoise.signal import MODALITIES

__all__ = ["ACTIVATIONS", "BACKBONES", "Autoencoder", "AutoencoderConfig", "build"]


class LineConv(nn.Conv1d):
    """`Conv1d` on signals that lie as pictures one pixel high, `(B, C, 1, T)`.

    With the channels of a sample side by side, a CPU trains a network of these three times as fast in
    bfloat16, and runs it in two thirds of the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = self.weight.unsqueeze(2), (1, self.stride[0]), (0, self.padding[0])
        return F.conv2d(x, kernel, self.bias, stride, padding)  # type: ignore[arg-type]


class LineConvTranspose(nn.ConvTranspose1d):
    """The same of `ConvTranspose1d`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:  # noqa: ARG002
        kernel, stride, padding = self.weight.unsqueeze(2), (1, self.stride[0]), (0, self.padding[0])
        return F.conv_transpose2d(x, kernel, self.bias, stride, padding)  # type: ignore[arg-type]


# The operators that differ between signals and images, by number of axes.
CONV: tuple[Any, ...] = (None, LineConv, nn.Conv2d)
CONV_TRANSPOSE: tuple[Any, ...] = (None, LineConvTranspose, nn.ConvTranspose2d)

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {
        "relu": partial(nn.ReLU, inplace=True),  # each stands right behind a layer, whose output is its own
        "leaky-relu": partial(nn.LeakyReLU, inplace=True),
        "gelu": nn.GELU,
        "tanh": nn.Tanh,
        "sigmoid": nn.Sigmoid,
        "linear": nn.Identity,
    }
)


@dataclass(frozen=True)
class AutoencoderConfig:
    """One member of the family.

    Args:
        modality: A name in `MODALITIES`; it sets the number of axes.
        channels: 3 for colour images, 1 otherwise.
        backbone: A row of `BACKBONES`: "conv" for any size, "dense" for fixed patches.
        widths: Features per scale (conv), or hidden units per layer (dense), from the input inwards.
        blocks: Residual blocks per scale on each side (conv): one number, or one for each of `widths`.
        bottleneck: A row of `BOTTLENECKS`.
        code: Size of the code: channels of the innermost map (conv) or units (dense); 0 keeps the last width.
        activation: A row of `ACTIVATIONS`.
        code_activation: The row that the code goes through: "sigmoid" for units that are on or off.
        penalty: A row of `PENALTIES`, what the training adds to the loss; empty for none.
        penalty_weight: By what it is multiplied.
        target_activation: The mean that penalty "kl" wants of every unit of the code.
        beta: Weight of the divergence of a variational code (Higgins et al. 2017).
        free_bits: Nats a unit of a variational code may hold for free (Kingma et al. 2016).
        skips: Add each encoder scale to the decoder scale of its size. Without, all goes through the code.
        residual: Predict the noise and subtract it, rather than the signal (Zhang et al. 2017).
        bias: Additive constants. Without them and with ReLU the network is scale-equivariant, so that it
            generalises to noise levels it never saw (Mohan et al. 2020).
        gaps: Take, behind the channels of a signal, as many that are 1 in a gap and 0 elsewhere. So the
            network knows that nobody measured what bridges it.
        cross: Take all channels of a recording together, any number in any order, and let each know what the
            others show at its scales (conv, of signals with `channels` 1): see `CrossChannel`.
        fold: Side of the cell of pixels or samples folded into channels at the input (Shi et al. 2016): a
            quarter of the positions at 2, and that much faster.
        patch: Side or length of the patches that a dense network sees.
    """

    modality: str
    channels: int = 1
    backbone: str = "conv"
    widths: tuple[int, ...] = (32, 64, 128)
    blocks: int | tuple[int, ...] = 1
    bottleneck: str = "plain"
    code: int = 0
    activation: str = "relu"
    code_activation: str = "linear"
    penalty: str = ""
    penalty_weight: float = 0.0
    target_activation: float = 0.05
    beta: float = 1.0
    free_bits: float = 0.0
    skips: bool = True
    residual: bool = True
    bias: bool = False
    gaps: bool = False
    cross: bool = False
    fold: int = 1
    patch: int = 16


def fold(x: Tensor, side: int) -> Tensor:
    """Move each cell of `side` samples per axis into channels.

    Shape:
        `(B, C, *S)` -> `(B, C * side**ndim, *S / side)`.
    """
    if side == 1:
        return x
    if x.ndim == 4:
        return nn.functional.pixel_unshuffle(x, side)
    return x.reshape(*x.shape[:2], -1, side).transpose(2, 3).flatten(1, 2)


def unfold(x: Tensor, side: int) -> Tensor:
    """Undo `fold`."""
    if side == 1:
        return x
    if x.ndim == 4:
        return nn.functional.pixel_shuffle(x, side)
    return x.reshape(x.shape[0], -1, side, x.shape[-1]).transpose(2, 3).flatten(2, 3)


def plane(x: Tensor) -> Tensor:
    """A signal as a picture one pixel high, channels last; an image as it is."""
    return x if x.ndim == 4 else x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))), size and width kept (He et al. 2016, without norms)."""

    def __init__(self, ndim: int, width: int, activation: str, bias: bool) -> None:
        super().__init__()
        conv = CONV[ndim]
        self.body = nn.Sequential(
            conv(width, width, 3, padding=1, bias=bias),
            ACTIVATIONS[activation](),
            conv(width, width, 3, padding=1, bias=bias),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out.add_(x)  # in place: nothing else holds it

    def vanish(self) -> None:
        """Become the identity, from which training can set out."""
        for parameter in self.body[-1].parameters():
            nn.init.zeros_(parameter)


class CrossChannel(nn.Module):
    """x + V mean(relu(U x)), the mean being over the other channels of the recording.

    Whatever the order of the channels, each gets the same (Zaheer et al. 2017, "Deep Sets"); one that is
    alone stays as it is.
    """

    def __init__(self, ndim: int, width: int, activation: str, bias: bool) -> None:
        super().__init__()
        conv = CONV[ndim]
        self.into = nn.Sequential(conv(width, width, 1, bias=bias), ACTIVATIONS[activation]())
        self.out_of = conv(width, width, 1, bias=bias)
        self.vanish()

    def forward(self, x: Tensor, channels: int) -> Tensor:
        """Mix features `(B * channels, width, *S)`."""
        if channels == 1:
            return x
        shown: Tensor = self.into(x)
        shown = shown.reshape(-1, channels, *shown.shape[1:])
        others = (shown.sum(1, keepdim=True) - shown) / (channels - 1)
        told: Tensor = self.out_of(others.flatten(0, 1))
        return x + told

    def vanish(self) -> None:
        """Leave every channel to itself, from which training can set out."""
        for parameter in self.out_of.parameters():
            nn.init.zeros_(parameter)


class ConvBackbone(nn.Module):
    """A convolutional encoder and its mirror image (Masci et al. 2011); with skips a U-Net.

    Ronneberger et al. 2015; the skips are added, not concatenated, which costs nothing.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        ndim = MODALITIES[config.modality].ndim
        conv, up = CONV[ndim], CONV_TRANSPOSE[ndim]
        widths, bias = config.widths, config.bias
        folded = config.channels * config.fold**ndim
        self.ndim = ndim

        blocks = config.blocks if isinstance(config.blocks, tuple) else (config.blocks,) * len(widths)

        def stage(scale: int) -> nn.Sequential:
            return nn.Sequential(
                *(ResidualBlock(ndim, widths[scale], config.activation, bias) for _ in range(blocks[scale]))
            )

        pairs = list(itertools.pairwise(widths))
        outer = range(len(pairs))
        self.side, self.skips = config.fold, config.skips
        self.head = conv(folded * (1 + config.gaps), widths[0], 3, padding=1, bias=bias)
        self.encoder = nn.ModuleList(map(stage, outer))
        self.down = nn.ModuleList(conv(fine, coarse, 2, stride=2, bias=bias) for fine, coarse in pairs)
        self.inner = stage(len(pairs))
        self.cross = nn.ModuleList(
            CrossChannel(ndim, width, config.activation, bias) for width in (widths if config.cross else ())
        )
        self.outer = stage(len(pairs))
        self.up = nn.ModuleList(up(coarse, fine, 2, stride=2, bias=bias) for fine, coarse in reversed(pairs))
        self.decoder = nn.ModuleList(map(stage, reversed(outer)))
        self.tail = conv(widths[0], folded, 3, padding=1, bias=bias)

        self.code_in, self.code_axis = widths[-1], 1
        self.multiple_of = config.fold * 2 ** len(pairs)
        # Each 3-tap convolution reaches one position of its own scale to each side; folding and striding
        # align positions to cells, which adds less than one cell of the coarsest scale.
        steps = [config.fold * 2**i for i in range(len(widths))]
        convolutions = sum(4 * count * step for count, step in zip(blocks, steps, strict=True))
        reach = 2 * steps[0] + convolutions + self.multiple_of
        self.halo = math.ceil(reach / self.multiple_of) * self.multiple_of

    def code_layers(self, code: int, ndim: int, bias: bool) -> tuple[nn.Module, nn.Module]:
        """The layers into and out of a code of `code` channels."""
        conv: Any = (None, nn.Conv1d, nn.Conv2d)[ndim]
        return conv(self.code_in, code, 1, bias=bias), conv(code, self.code_in, 1, bias=bias)

    def encode(self, x: Tensor, channels: int = 1) -> tuple[Tensor, list[Tensor]]:
        """Features of the innermost scale, and what each outer scale passes across.

        With `cross`, each `channels` items in a row are the channels of one recording.
        """
        x = self.head(plane(fold(x, self.side)))  # (B, w0, *S/side); of a signal (B, w0, 1, T/side)
        across = []
        for scale, (stage, down) in enumerate(zip(self.encoder, self.down, strict=True)):
            x = self._crossed(stage(x), scale, channels)
            across.append(x)
            x = down(x)  # (B, w[i+1], half of each axis)
        return self._line(self._crossed(self.inner(x), len(across), channels)), across

    def _crossed(self, x: Tensor, scale: int, channels: int) -> Tensor:
        mixed: Tensor = self.cross[scale](x, channels) if self.cross else x
        return mixed

    def decode(self, x: Tensor, across: list[Tensor]) -> Tensor:
        """Back to the size of the input; an empty `across` decodes from the code alone."""
        x = self.outer(plane(x))
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = up(x)  # (B, w[i], double each axis)
            if self.skips and across:
                x = x.add_(across.pop())
            x = stage(x)
        return unfold(self._line(self.tail(x)), self.side)

    def _line(self, x: Tensor) -> Tensor:
        """Undo `plane`."""
        return x.squeeze(2) if self.ndim == 1 else x


class DenseBackbone(nn.Module):
    """Fully connected layers over patches that do not overlap (Hinton & Salakhutdinov 2006)."""

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
        self.multiple_of = self.halo = config.patch

    def code_layers(self, code: int, ndim: int, bias: bool) -> tuple[nn.Module, nn.Module]:  # noqa: ARG002
        """The layers into and out of a code of `code` units."""
        return nn.Linear(self.code_in, code, bias=bias), nn.Linear(code, self.code_in, bias=bias)

    def encode(self, x: Tensor, channels: int = 1) -> tuple[Tensor, list[Tensor]]:  # noqa: ARG002
        """One vector of features per patch, `(B, *S/patch, width)`; nothing goes across."""
        return self.encoder(fold(x, self.side).movedim(1, -1)), []

    def decode(self, x: Tensor, across: list[Tensor]) -> Tensor:  # noqa: ARG002
        """Patches back in their places."""
        return unfold(self.decoder(x).movedim(-1, 1), self.side)


BACKBONES: Mapping[str, Callable[[AutoencoderConfig], ConvBackbone | DenseBackbone]] = MappingProxyType(
    {"conv": ConvBackbone, "dense": DenseBackbone}
)


class Autoencoder(Denoiser):
    """Encoder, bottleneck, decoder, as its config says.

    Shape:
        `(B, channels, *S)` in and out, each axis a multiple of `spec.multiple_of`; any number of channels
        with `cross`.

    Raises:
        UsageError: The config names a row that is in no table, or sizes that cannot be.
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
            raise UsageError(f"autoencoder blocks are {config.blocks}: expected one, or one per width")
        if config.bottleneck == "variational" and (not config.code or config.skips or config.residual):
            raise UsageError("a variational autoencoder needs a code size, and neither skips nor residual")
        if config.cross and (config.backbone, config.channels, config.modality) != ("conv", 1, "sensor"):
            raise UsageError("cross is for sensors, of which a convolutional backbone takes 1 channel each")
        if config.penalty == "kl" and config.code_activation != "sigmoid":
            raise UsageError('penalty "kl" is for a code of shares: set code_activation to "sigmoid"')
        self._config = config
        self.backbone = BACKBONES[config.backbone](config)
        bottleneck = BOTTLENECKS[config.bottleneck]
        into: nn.Module = nn.Identity()
        out_of: nn.Module = nn.Identity()
        if config.code:
            ndim = MODALITIES[config.modality].ndim
            into = self.backbone.code_layers(bottleneck.numbers * config.code, ndim, config.bias)[0]
            out_of = self.backbone.code_layers(config.code, ndim, config.bias)[1]
        if config.code_activation != "linear":
            into = nn.Sequential(into, ACTIVATIONS[config.code_activation]())
        self.bottleneck = bottleneck(into, out_of, self.backbone.code_axis)
        self.spec = InputSpec(
            modality=config.modality,
            channels=config.channels,
            multiple_of=self.backbone.multiple_of,
            halo=self.backbone.halo,
            joint_channels=config.cross,
            takes_gap_mask=config.gaps,
            centre=config.modality == "sensor",
            scale=config.modality == "sensor",
        )

    def config(self) -> dict[str, Any]:
        """The fields of `AutoencoderConfig`."""
        return asdict(self._config)

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of a network of as many or fewer blocks, scales or inputs, and do what it does.

        Further blocks begin as the identity; further scales, gaps and other channels count for nothing until
        they learn to.
        """
        mine = self.state_dict()
        weights = _deepened(weights, mine) if isinstance(self.backbone, ConvBackbone) else weights
        lacking, foreign = self.load_state_dict(weights, strict=False)
        for name, module in self.named_modules():
            if isinstance(module, ResidualBlock) and f"{name}.body.0.weight" in lacking:
                module.vanish()
                lacking = [key for key in lacking if not key.startswith(f"{name}.")]
            elif isinstance(module, CrossChannel):  # it has vanished since it was made
                lacking = [key for key in lacking if not key.startswith(f"{name}.")]
        if lacking or foreign:
            raise RuntimeError(f"{', '.join([*lacking, *foreign])} are in one of the two only")

    def encode(self, x: Tensor) -> Tensor:
        """The code alone; of a variational one the mean.

        Shape:
            `(B, code, *S / multiple_of)` (conv), `(B, *S / multiple_of, code)` (dense).
        """
        code: Tensor = self.bottleneck.encode(self.backbone.encode(*self._apart(x))[0])
        return code

    def decode(self, code: Tensor) -> Tensor:
        """What the code alone says of the signal, without skips or the input."""
        return self.backbone.decode(self.bottleneck.decode(code), [])

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch; the noise level is found by the network itself."""
        rows, channels = self._apart(self._told(noisy))
        features, across = self.backbone.encode(rows, channels)
        out = self.backbone.decode(self.bottleneck.decode(self.bottleneck.encode(features)), across)
        out = out.reshape(len(noisy), -1, *out.shape[2:])
        return noisy[:, : out.shape[1]] - out if self._config.residual else out

    def training_step(self, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """The denoised batch, and what its code adds to the loss; nothing is asked of what stands in gaps."""
        config = self._config
        missing = noisy.isnan() if config.gaps else None
        if missing is not None:
            noisy = torch.cat([bridged(noisy, missing), missing.to(noisy)], 1)
        if config.penalty:
            noisy = noisy.detach().requires_grad_()  # the contractive penalty asks how the code follows it
        features, across = self.backbone.encode(*self._apart(noisy))
        code, divergence = self.bottleneck.draw(features, config.free_bits)
        out = self.backbone.decode(self.bottleneck.decode(code), across)
        out = out.reshape(len(noisy), -1, *out.shape[2:])
        # Per value of the signal, as the losses are: with `mse`, beta 1 is the evidence lower bound of a
        # decoder whose values have the variance 1/2.
        added = config.beta * divergence * (len(noisy) / noisy.numel())
        if config.penalty:
            units = code.movedim(self.backbone.code_axis, -1).flatten(0, -2)
            penalty = PENALTIES[config.penalty](units, noisy, config.target_activation)
            added = added + config.penalty_weight * penalty
        estimate = noisy[:, : out.shape[1]] - out if config.residual else out
        return estimate if missing is None else torch.where(missing, target, estimate), added

    def _apart(self, x: Tensor) -> tuple[Tensor, int]:
        """Of a network that looks across channels, each channel as an item, and how many a recording has."""
        if not self._config.cross:
            return x, 1
        parts = x.reshape(len(x), 1 + self._config.gaps, -1, x.shape[2])  # (B, 2, C, T): signals, gaps
        return parts.transpose(1, 2).flatten(0, 1), parts.shape[2]

    def _told(self, noisy: Tensor) -> Tensor:
        """With a channel that says where gaps are, if the network wants one and it is not there."""
        whole = self._config.gaps and noisy.shape[1] == self._config.channels
        return torch.cat([noisy, torch.zeros_like(noisy)], 1) if whole else noisy

    @torch.no_grad()
    def sample(self, count: int, size: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw signals from the prior of a variational code, a standard normal distribution.

        Args:
            count: How many.
            size: Of each, without channels; multiples of `spec.multiple_of`.
            generator: Decides them.

        Shape:
            `(count, channels, *size)`.
        """
        cells = tuple(n // self.spec.multiple_of for n in size)
        code = torch.randn(count, *cells, self._config.code, generator=generator)
        return self.decode(code.movedim(-1, self.backbone.code_axis))


def bridged(x: Tensor, missing: Tensor) -> Tensor:
    """Signals `(B, C, T)` with a straight line across each gap, and the nearest value held at the ends."""
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


def _deepened(weights: Mapping[str, Tensor], mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a backbone in the places that they have in one of more scales and inputs."""
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
    """An autoencoder from the fields of its config."""
    for key in ("widths", "blocks"):  # lists, where they come from TOML or JSON
        if isinstance(config.get(key), list):
            config[key] = tuple(config[key])
    return Autoencoder(AutoencoderConfig(**config))
