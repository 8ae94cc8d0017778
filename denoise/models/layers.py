"""Layers that several networks share, for signals and images alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.arrays import Array


class Conv1dAs2d(nn.Conv1d):
    """`Conv1d` on signals stored as images one pixel high, `(B, C, 1, T)`.

    With the channels of a sample adjacent in memory, a CPU trains a network of these three times as fast in
    bfloat16, and runs it in two thirds of the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride, padding = self.weight.unsqueeze(2), (1, self.stride[0]), (0, self.padding[0])
        return F.conv2d(x, kernel, self.bias, stride, padding)  # type: ignore[arg-type]


class ConvTranspose1dAs2d(nn.ConvTranspose1d):
    """`ConvTranspose1d` on signals stored as images one pixel high, as in `Conv1dAs2d`."""

    def forward(self, x: Tensor, _output_size: list[int] | None = None) -> Tensor:
        kernel, stride, padding = self.weight.unsqueeze(2), (1, self.stride[0]), (0, self.padding[0])
        return F.conv_transpose2d(x, kernel, self.bias, stride, padding)  # type: ignore[arg-type]


# The operators that differ between signals and images, by number of axes.
CONV: tuple[Any, ...] = (None, Conv1dAs2d, nn.Conv2d)
CONV_TRANSPOSE: tuple[Any, ...] = (None, ConvTranspose1dAs2d, nn.ConvTranspose2d)

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),  # safe: no other layer uses the output of the one before it
    "leaky-relu": partial(nn.LeakyReLU, inplace=True),
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "linear": nn.Identity,
}


def multiplying_in(precision: str, x: Tensor) -> AbstractContextManager[Any]:
    """Return the context in which layers multiply bfloat16 if that is the precision, and else as outside."""
    return torch.autocast(x.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def fold(x: Tensor, side: int) -> Tensor:
    """Move each cell of `side` samples per axis into channels.

    Shape:
        `(B, C, *S)` -> `(B, C * side**ndim, *S / side)`.
    """
    if side == 1:
        return x
    if x.ndim == 4:
        return F.pixel_unshuffle(x, side)
    return x.reshape(*x.shape[:2], -1, side).transpose(2, 3).flatten(1, 2)


def unfold(x: Tensor, side: int) -> Tensor:
    """Undo `fold`."""
    if side == 1:
        return x
    if x.ndim == 4:
        return F.pixel_shuffle(x, side)
    return x.reshape(x.shape[0], -1, side, x.shape[-1]).transpose(2, 3).flatten(2, 3)


def as_batch(samples: Array, device: torch.device | None) -> Tensor:
    """Copy arrays `(B, C, *S)` into a tensor, of images with the channels of a pixel side by side.

    Convolutions on a CPU are fastest so. A copy has the same strides whatever those of the array: they choose
    the kernel, which shows in bfloat16.
    """
    layout = torch.channels_last if samples.ndim == 4 else torch.contiguous_format
    return torch.from_numpy(samples).clone(memory_format=layout).to(device)


def as_image(x: Tensor) -> Tensor:
    """Return a signal as an image one pixel high, channels last; an image as it is."""
    return x if x.ndim == 4 else x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """x + conv(act(conv(x))), size and width kept (He et al. 2016, without norms)."""

    radius = 2  # positions on each side that an output depends on

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

    def zero_init(self) -> None:
        """Become the identity, where training starts."""
        for parameter in self.body[-1].parameters():
            nn.init.zeros_(parameter)


class CrossChannel(nn.Module):
    """x + V mean(relu(U x)), the mean over the other channels of the recording.

    The result does not depend on the order of the channels (Zaheer et al. 2017, "Deep Sets"); a single
    channel passes unchanged, and so does every channel of a new layer.
    """

    def __init__(self, ndim: int, width: int, activation: str, bias: bool) -> None:
        super().__init__()
        conv = CONV[ndim]
        self.encode_proj = nn.Sequential(conv(width, width, 1, bias=bias), ACTIVATIONS[activation]())
        self.decode_proj = conv(width, width, 1, bias=bias)
        for parameter in self.decode_proj.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, channels: int) -> Tensor:
        """Mix features `(B * channels, width, *S)`."""
        if channels == 1:
            return x
        features: Tensor = self.encode_proj(x)
        features = features.reshape(-1, channels, *features.shape[1:])
        others = (features.sum(1, keepdim=True) - features) / (channels - 1)
        mixed: Tensor = self.decode_proj(others.flatten(0, 1))
        return x + mixed
