"""Single frames of a `SpectralGru` in numpy, whose calls cost less than those of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from denoise.arrays import Array


class SingleFrames:
    """Computes the mask of one frame by products of matrices, with copies of the weights laid out for them.

    Args:
        network: A `SpectralGru` on the CPU.
        slope: Of its leaky rectifiers.
    """

    def __init__(self, network: Any, slope: float) -> None:
        self._slope = slope
        self._encoder = [_weights(conv, 0, 2, 1) for conv in network.encoder]
        self._decoder = [_weights(conv, 0, 2, 1) for conv in network.decoder]
        self._in, self._out = _weights(network.encode_proj, 1, 0), _weights(network.decode_proj, 1, 0)
        gru = {name: _array(value) for name, value in network.memory.named_parameters()}
        self._layers = [
            [
                (np.ascontiguousarray(gru[f"weight_{side}_l{layer}"].T), gru[f"bias_{side}_l{layer}"])
                for side in ("ih", "hh")
            ]
            for layer in range(network.memory.num_layers)
        ]

    def mask(self, features: Array, memory: Array) -> tuple[Array, Array]:
        """Return real and imaginary part of the mask over its limit, and the memory after the frame.

        Args:
            features: Compressed spectrum, `(B, bins, 3)`.
            memory: State of the recurrent layers, `(layers, B, memory)`.

        Shape:
            `(B, bins, 2)` and `(layers, B, memory)`.
        """
        rows, x, skips = len(features), features, []
        for weight, bias in self._encoder:
            x = self._leaky(_strided(x, weight) + bias)
            skips.append(x)  # (B, half the bins, width)
        weight, bias = self._in
        code = np.maximum(x.swapaxes(1, 2).reshape(rows, -1) @ weight + bias, 0)
        context, states = code, []
        for layer, state in zip(self._layers, memory, strict=True):
            context = _recurrent(context, state, *layer)
            states.append(context)
        weight, bias = self._out
        x = np.concatenate([context, code], 1) @ weight + bias
        x = x.reshape(rows, skips[-1].shape[2], -1).swapaxes(1, 2)
        for weight, bias in self._decoder:
            x = _transposed(skips.pop() + x, weight) + bias
            if skips:
                x = self._leaky(x)
        return np.tanh(x), np.stack(states)

    def _leaky(self, x: Array) -> Array:
        return np.maximum(x, self._slope * x)


def _array(tensor: Tensor) -> Array:
    return np.asarray(tensor.detach().float().numpy())


def _weights(layer: nn.Module, *axes: int) -> tuple[Array, Array]:
    """Return the weight of a layer as a matrix, the first of these axes by the others, and its bias."""
    weight = _array(layer.weight).transpose(axes)  # type: ignore[arg-type]
    return np.ascontiguousarray(weight.reshape(len(weight), -1)), _array(layer.bias)  # type: ignore[arg-type]


def _strided(x: Array, weight: Array) -> Array:
    """Convolve `(B, n, C)` with 5 taps and stride 2, padded by 2 zeros."""
    rows, bins, width = x.shape
    padded = np.zeros((rows, bins + 4, width), np.float32)
    padded[:, 2:-2] = x
    row, step, item = padded.strides
    # Channels are adjacent, so that the taps of an output are one run of memory.
    taps = np.ndarray((rows, bins // 2, 5 * width), np.float32, padded, 0, (row, 2 * step, item))
    return np.asarray(np.ascontiguousarray(taps) @ weight.T)


def _transposed(x: Array, weight: Array) -> Array:
    """Convolve `(B, n, C)` the other way: 6 taps and stride 2, without the first and last two outputs."""
    rows, bins, _ = x.shape
    left, out, right = np.moveaxis((x @ weight).reshape(rows, bins, 3, -1), 2, 0)
    out = out.copy()
    out[:, :-1] += left[:, 1:]
    out[:, 1:] += right[:, :-1]
    return np.asarray(out.reshape(rows, 2 * bins, -1))


def _recurrent(x: Array, state: Array, taken: tuple[Array, Array], kept: tuple[Array, Array]) -> Array:
    """Return the next state of one recurrent layer (Cho et al. 2014)."""
    size = state.shape[1]
    new, old = x @ taken[0] + taken[1], state @ kept[0] + kept[1]
    gates = 1 / (1 + np.exp(-(new[:, : 2 * size] + old[:, : 2 * size])))
    candidate = np.tanh(new[:, 2 * size :] + gates[:, :size] * old[:, 2 * size :])
    return np.asarray(candidate + gates[:, size:] * (state - candidate))
