"""Run a convolutional autoencoder on an image band by band of rows, without computing any overlap twice.

Each layer waits for the rows below that it needs, and skips wait for the coarse scales: the result lags
behind the input by the network's radius, and is that of one whole run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from denoise.arrays import Array
from denoise.models.layers import ResidualBlock, as_batch, fold, unfold

Rows = Tensor | None  # `(1, C, h, W)`; None while a layer waits


class _Queue:
    """Rows that wait for others."""

    def __init__(self) -> None:
        self._rows: Rows = None

    def put(self, x: Rows) -> None:
        if x is not None:
            self._rows = x if self._rows is None else torch.cat([self._rows, x], 2)

    def take(self, count: int) -> Tensor:
        assert self._rows is not None
        taken, rest = self._rows[:, :, :count], self._rows[:, :, count:]
        self._rows = rest.clone() if rest.shape[2] else None  # a view would hold all of it
        return taken


class _Layer:
    """A layer that needs `radius` rows on each side, or whole cells of `step` rows.

    The network pads with zeros, which are right at the edges of the image. Rows that such zeros inside the
    image reach are computed again with the next band.
    """

    def __init__(self, layer: Callable[[Tensor], Tensor], radius: int = 0, step: int = 1) -> None:
        self._layer, self._radius, self._step = layer, radius, step
        self._held: Rows = None
        self._start = 0  # of the held rows, those whose result was returned

    def feed(self, x: Rows, *, last: bool) -> Rows:
        if self._held is not None:
            x = self._held if x is None else torch.cat([self._held, x], 2)
        if x is None:
            return None
        stop = x.shape[2] if last else (x.shape[2] - self._radius) // self._step * self._step
        if stop <= self._start:
            self._held = x
            return None
        start, kept = self._start, max(0, stop - self._radius)
        self._held = None if last else x[:, :, kept:].clone()
        self._start = stop - kept
        if self._step > 1:
            return self._layer(x[:, :, :stop])
        return self._layer(x)[:, :, start:stop]


class RowStream:
    """Denoises one image, from its first row to its last.

    Args:
        net: `ConvBackbone` of a network without a code, whose module imports this one.
        residual: The network predicts the noise.
    """

    def __init__(self, net: Any, *, residual: bool) -> None:
        self._side, self._skips, self._residual = net.side, net.skips, residual
        self._device = net.head.weight.device
        self._head, self._tail = _Layer(net.head, 1), _Layer(net.tail, 1)
        self._encoder, self._decoder = (
            [_blocks(x) for x in stages] for stages in (net.encoder, list(net.decoder)[::-1])
        )
        self._inner = _blocks(net.inner) + _blocks(net.outer)
        self._down, self._up = [_Layer(layer, step=2) for layer in net.down], list(net.up)[::-1]
        self._waiting = [_Queue() for _ in net.down]
        self._noisy = _Queue()

    def run(self, noisy: Array, *, last: bool) -> Array | None:
        """Do as `feed` with arrays."""
        with torch.inference_mode():
            cleaned = self.feed(as_batch(noisy, self._device), last=last)
        return None if cleaned is None else cleaned.cpu().numpy()

    def feed(self, noisy: Tensor, *, last: bool) -> Rows:
        """Take the next rows `(1, C, h, W)`, and return those that are done.

        Args:
            noisy: h and W are multiples of what the network takes.
            last: The image ends with them.
        """
        self._noisy.put(noisy)
        features = self._head.feed(fold(noisy, self._side), last=last)
        features = self._tail.feed(self._scale(0, features, last), last=last)
        if features is None:
            return None
        out = unfold(features, self._side)
        input_rows = self._noisy.take(out.shape[2])
        return input_rows - out if self._residual else out

    def _scale(self, scale: int, x: Rows, last: bool) -> Rows:
        if scale == len(self._down):
            return _through(self._inner, x, last)
        x = _through(self._encoder[scale], x, last)
        if self._skips:
            self._waiting[scale].put(x)
        x = self._scale(scale + 1, self._down[scale].feed(x, last=last), last)
        if x is not None:
            x = self._up[scale](x)
            if self._skips:
                x = x.add_(self._waiting[scale].take(x.shape[2]))
        return _through(self._decoder[scale], x, last)


def _blocks(stage: nn.Module) -> list[_Layer]:
    return [_Layer(block, ResidualBlock.radius) for block in stage.children()]


def _through(layers: list[_Layer], x: Rows, last: bool) -> Rows:
    for layer in layers:
        x = layer.feed(x, last=last)
    return x
