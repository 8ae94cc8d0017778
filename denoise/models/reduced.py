"""Layers of a network in fewer bits: 8-bit integers (images) and bfloat16."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from denoise.models.autoencoder import Autoencoder, ConvBackbone
from denoise.models.base import Denoiser
from denoise.models.layers import ResidualBlock

_SHARE = 0.9999  # of the values that a range without its margin holds
_MARGIN = (
    1.25  # of ranges: other photos exceed those measured, and what saturates costs more than a coarser step
)
_STEP_FLOOR = 1e-8  # a channel of zeros has a step, too
_FAINTEST = 0.01  # least range of hidden values, of the largest: more of a silent channel would saturate
_EVERY = 7  # the quantile is of every seventh value


class Int8Block(nn.Module):
    """`ResidualBlock` whose convolutions multiply 8-bit integers; the sum stays in float32.

    The ranges are fixed, so a tile gives what the whole image gives. Weights have a step per output channel
    (Krishnamoorthi 2018, "Quantizing deep convolutional networks for efficient inference"). So have the input
    and the hidden values, whose channels differ most: the kernels take up their steps (Xiao et al. 2023,
    "SmoothQuant"). Of one step for all, faint channels keep too little: on smoothed noise that costs twice as
    much.

    Args:
        block: Without bias, its activation ReLU.
        input_range: Largest absolute value of each channel of the input, or of all.
        hidden_range: Largest value of each channel after the activation, or of all.
    """

    def __init__(
        self,
        block: ResidualBlock,
        input_range: float | Sequence[float],
        hidden_range: float | Sequence[float],
    ) -> None:
        super().__init__()
        self.block, self._ranges = block, (input_range, hidden_range)
        first, _, second = block.body
        assert isinstance(first, nn.Conv2d)
        assert isinstance(second, nn.Conv2d)
        step, hidden = (
            (torch.as_tensor(limit, dtype=torch.float32) / levels).expand(first.in_channels)[:, None, None]
            for limit, levels in ((input_range, 127), (hidden_range, 255))
        )
        step = step.clamp(min=_STEP_FLOOR)
        hidden = hidden.clamp(min=max(_STEP_FLOOR, _FAINTEST * float(hidden.max())))
        self._per_step = 1 / step
        self._first = _packed(first.weight * step / hidden[:, None])
        self._second = _packed(second.weight * hidden)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what the packed kernels are made of: they cannot be copied themselves."""
        return type(self), (self.block, *self._ranges)

    def forward(self, x: Tensor) -> Tensor:
        steps = x * self._per_step
        rounded = steps.add_(128.5).clamp_(0, 255).to(torch.uint8)  # zero is 128
        hidden = _convolved((rounded, 1.0, 128, *self._first), torch.uint8, "relu")
        return _convolved((hidden, 1.0, 0, *self._second), torch.float32, "none").add_(x)


def _packed(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Round a kernel to integers, in the layout of the processor, with its steps and zero points."""
    weight = weight.detach()
    step = (weight.abs().amax((1, 2, 3)) / 127).clamp(min=_STEP_FLOOR)
    rounded = (weight / step[:, None, None, None]).round().to(torch.int8)
    packed = torch.ops.onednn.qconv_prepack(rounded, step, 1.0, 0, [1, 1], [1, 1], [1, 1], 1, None)
    return packed, step, torch.zeros(len(step), dtype=torch.int32)


def _convolved(factors: tuple[Any, ...], dtype: torch.dtype, activation: str) -> Tensor:
    """Convolve 8-bit integers with a 3 x 3 kernel; outside the image is zero."""
    sides = ([1, 1], [1, 1], [1, 1], 1)  # stride, padding, dilation, groups
    result: Tensor = torch.ops.onednn.qconv2d_pointwise(
        *factors, None, *sides, 1.0, 0, dtype, activation, [], ""
    )
    return result


class Bf16Block(nn.Module):
    """`ResidualBlock` whose convolutions multiply bfloat16; the sum stays in float32."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.body = copy.deepcopy(block.body).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.body(x.bfloat16())
        return added.float().add_(x)


def has_blocks(network: Denoiser) -> bool:
    """Return whether a network has residual blocks that these can replace."""
    if not isinstance(network, Autoencoder) or not isinstance(network.backbone, ConvBackbone):
        return False
    config = network.config()
    return config["activation"] == "relu" and not config["bias"]


def in_bf16(network: Denoiser) -> Denoiser:
    """Return a copy of a network that `has_blocks`, with these in bfloat16."""
    return _replaced(network, lambda block, _number: Bf16Block(block))


Range = Sequence[float | Sequence[float]]  # of the input and of hidden values, for each channel or for all


def in_int8(network: Denoiser, ranges: Sequence[Range], *, bf16: bool) -> Denoiser:
    """Return a copy of a network that `has_blocks`, with these in int8 but those of three stages.

    In the first, the innermost and the last, features are those of the picture, which must cancel where it
    has hardly any noise: they alone cost a tenth of a decibel of such photos, the others a hundredth.

    Args:
        ranges: For each block but those of the last stage, as `block_ranges` measures.
        bf16: Run the blocks of the three stages in bfloat16.

    Raises:
        ValueError: There are more or fewer ranges than blocks.
    """
    count = len(list(_places(network, last=False)))
    if len(ranges) != count:
        raise ValueError(f"{len(ranges)} ranges, expected {count}")
    backbone = network.backbone
    assert isinstance(backbone, ConvBackbone)
    stages = (backbone.encoder[0] if len(backbone.encoder) else backbone.inner, backbone.inner)
    exact = {id(block) for stage in stages for block in stage.children()}

    def reduced(block: ResidualBlock, number: int) -> nn.Module:
        if number < count and id(block) not in exact:
            return Int8Block(block, *ranges[number])
        return Bf16Block(block) if bf16 else block

    return _replaced(network, reduced)


def block_ranges(network: Denoiser, images: Sequence[Tensor]) -> list[tuple[list[float], list[float]]]:
    """Measure the ranges of each channel of the input and of hidden values, for each block of `in_int8`.

    Args:
        images: Batches `(1, C, H, W)` of noisy images, of all levels that the network is for.
    """
    blocks = [stage[place] for stage, place in _places(network, last=False)]
    found = [[torch.zeros(()), torch.zeros(())] for _ in blocks]

    def watch(ranges: list[Tensor], which: int) -> Callable[[nn.Module, Any], None]:
        def hook(_module: nn.Module, inputs: Any) -> None:
            values = inputs[0].detach().abs().transpose(0, 1).flatten(1)[:, ::_EVERY]
            ranges[which] = torch.maximum(ranges[which], torch.quantile(values, _SHARE, dim=1))

        return hook

    hooks = [
        body[place].register_forward_pre_hook(watch(ranges, which))
        for block, ranges in zip(blocks, found, strict=True)
        if isinstance(body := block.body, nn.Sequential)
        for which, place in enumerate((0, 2))
    ]
    try:
        with torch.inference_mode():
            for image in images:
                network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return [((_MARGIN * inputs).tolist(), (_MARGIN * hidden).tolist()) for inputs, hidden in found]


def _replaced(network: Denoiser, reduced: Callable[[ResidualBlock, int], nn.Module]) -> Denoiser:
    """Copy a network, but for its blocks, which are replaced."""
    copies: dict[int, nn.Module] = {}
    for number, (stage, place) in enumerate(_places(network, last=True)):
        block = stage[place]
        assert isinstance(block, ResidualBlock)
        copies[id(block)] = reduced(block, number)
    return copy.deepcopy(network, copies).eval()


def _places(network: Denoiser, *, last: bool) -> Iterator[tuple[nn.Sequential, int]]:
    """Yield stage and place of the blocks from the input on, with the last stage or without."""
    backbone = network.backbone
    assert isinstance(backbone, ConvBackbone)
    stages = [*backbone.encoder, backbone.inner, backbone.outer, *backbone.decoder]
    for stage in stages if last else stages[:-1]:
        assert isinstance(stage, nn.Sequential)
        yield from ((stage, place) for place in range(len(stage)))
