"""Configs of networks: how they are read, and that of the autoencoder family."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from denoise.models.contract import InputSpec

Config = TypeVar("Config")


def config_from(kind: type[Config], values: Mapping[str, Any], renamed: Mapping[str, str]) -> Config:
    """Build a config dataclass from what TOML or JSON states.

    Args:
        values: Its fields; lists become tuples.
        renamed: Old name to new name of fields, for recipes and weights files written before.
    """
    fields = {renamed.get(name, name): value for name, value in values.items()}
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})


@dataclass(frozen=True)
class AutoencoderConfig:
    """One member of the family."""

    modality: str  # a name in `MODALITIES`; it sets the number of axes
    channels: int = 1  # 3 for colour images, 1 otherwise
    backbone: str = "conv"  # a row of `BACKBONES`: "conv" for any size, "dense" for fixed patches
    # features per scale (conv), or hidden units per layer (dense), from the input inwards
    widths: tuple[int, ...] = (32, 64, 128)
    # residual blocks per scale on each side (conv): one number, or one for each of `widths`
    blocks: int | tuple[int, ...] = 1
    bottleneck: str = "plain"  # a row of `BOTTLENECKS`
    # size of the code: channels of the innermost map (conv) or units (dense); 0 keeps the last width
    code: int = 0
    activation: str = "relu"  # a row of `ACTIVATIONS`
    # a row of `ACTIVATIONS` for the code: "sigmoid" for units that are on or off
    code_activation: str = "linear"
    penalty: str = ""  # a row of `PENALTIES` that training adds to the loss; empty for none
    penalty_weight: float = 0.0  # its factor
    target_activation: float = 0.05  # mean activation that penalty "kl" wants of each unit of the code
    beta: float = 1.0  # weight of the divergence of a variational code (Higgins et al. 2017)
    free_bits: float = 0.0  # nats per unit of a variational code that are not penalised (Kingma et al. 2016)
    # add each encoder scale to the decoder scale of its size. Without skips everything passes through the
    # code
    skips: bool = True
    residual: bool = True  # predict the noise and subtract it, rather than the signal (Zhang et al. 2017)
    # additive constants. Without them and with ReLU the network is scale-equivariant, so it generalises to
    # noise levels outside its training (Mohan et al. 2020)
    bias: bool = False
    # take one mask channel per signal channel, 1 inside gaps, so that bridged values are marked
    gaps: bool = False
    # take all channels of a recording, any number in any order, and mix their features at each scale (conv,
    # of signals with `channels` 1): see `CrossChannel`
    cross_channel: bool = False
    # side of the cell of pixels or samples folded into channels at the input (Shi et al. 2016): 2 leaves a
    # quarter of the positions, and is that much faster
    fold: int = 1
    patch: int = 16  # side or length of the patches of a dense network

    def blocks_of(self, scale: int) -> int:
        """Number of residual blocks of a scale, on each side."""
        return self.blocks[scale] if isinstance(self.blocks, tuple) else self.blocks

    @property
    def spec(self) -> InputSpec:
        """Requirements of the network on its input."""
        multiple_of = halo = self.patch
        if self.backbone == "conv":
            # Each 3-tap convolution adds one position of its own scale to each side; folding and striding
            # align positions to cells, which adds less than one cell of the coarsest scale.
            steps = [self.fold * 2**scale for scale in range(len(self.widths))]
            multiple_of = steps[-1]
            convolutions = sum(4 * self.blocks_of(scale) * step for scale, step in enumerate(steps))
            halo = math.ceil((2 * self.fold + convolutions) / multiple_of + 1) * multiple_of
        is_sensor = self.modality == "sensor"
        return InputSpec(
            modality=self.modality,
            channels=self.channels,
            multiple_of=multiple_of,
            halo=halo,
            joint_channels=self.cross_channel,
            takes_gap_mask=self.gaps,
            centre=is_sensor,
            scale=is_sensor,
        )
