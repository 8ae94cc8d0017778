"""ONNX graph of a convolutional autoencoder for images, from its config and weights, without torch or onnx.

The bytes are those of the protocol buffers of ONNX (onnx.proto, IR version 8): a field is its number and the
kind of its value, and a message inside another is its length and its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from denoise.arrays import Array
from denoise.models.config import AutoencoderConfig

_IR_VERSION, _OPSET = 8, 18
_FLOAT = 1  # of the data types
_VARINT, _BYTES = 0, 2  # kinds of values
_INT, _TEXT, _INTS = 2, 3, 7  # types of attributes


def has_graph(config: AutoencoderConfig) -> bool:
    """Return whether `autoencoder_graph` knows the layers of a config."""
    plain = (config.backbone, config.bottleneck, config.activation) == ("conv", "plain", "relu")
    coded = config.code or config.code_activation != "linear"
    return config.modality == "image" and plain and not (coded or config.bias or config.gaps)


def autoencoder_graph(config: AutoencoderConfig, weights: Mapping[str, Array]) -> bytes:
    """Return the graph `noisy -> denoised` of a network that `has_graph`.

    Args:
        config: Its config.
        weights: Kernels in float32, by their names in `denoise.models.autoencoder`.

    Shape:
        `(B, channels, H, W)` in and out of the graph; H and W are multiples of `config.multiple_of`.
    """
    graph = _Graph()

    def convolved(x: str, name: str, *, stride: int = 0, transposed: bool = False) -> str:
        kernel = weights[f"backbone.{name}.weight"]
        if name == "head":  # `SpaceToDepth` has the channels of a cell innermost, torch outermost
            outputs, side = len(kernel), config.fold
            kernel = kernel.reshape(outputs, -1, side, side, 3, 3).transpose(0, 2, 3, 1, 4, 5)
            kernel = kernel.reshape(outputs, -1, 3, 3)
        inputs = x, graph.constant(kernel)
        if not stride:
            return graph.add("Conv", *inputs, pads=[1] * 4)
        return graph.add("ConvTranspose" if transposed else "Conv", *inputs, strides=[stride] * 2)

    def stage(x: str, name: str, scale: int) -> str:
        for block in range(config.blocks_of(scale)):
            hidden = graph.add("Relu", convolved(x, f"{name}.{block}.body.0"))
            x = graph.add("Add", convolved(hidden, f"{name}.{block}.body.2"), x)
        return x

    inner = len(config.widths) - 1
    folds = config.fold > 1
    x = graph.add("SpaceToDepth", "noisy", blocksize=config.fold) if folds else "noisy"
    x, skips = convolved(x, "head"), []
    for scale in range(inner):
        skips.append(x := stage(x, f"encoder.{scale}", scale))
        x = convolved(x, f"down.{scale}", stride=2)
    x = stage(stage(x, "inner", inner), "outer", inner)
    for place, scale in enumerate(reversed(range(inner))):
        x = convolved(x, f"up.{place}", stride=2, transposed=True)
        x = stage(graph.add("Add", x, skips[scale]) if config.skips else x, f"decoder.{place}", scale)
    x = convolved(x, "tail")
    x = graph.add("DepthToSpace", x, blocksize=config.fold, mode="CRD") if folds else x
    graph.add(*(("Sub", "noisy", x) if config.residual else ("Identity", x)), to="denoised")
    return graph.model(config.channels)


class _Graph:
    """Nodes and constants of a graph, as they are added."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []  # joined once: the kernels are large

    def constant(self, values: Array) -> str:
        """Add an array in float32, and return its name."""
        name = f"constant{len(self._parts)}"
        sizes = b"".join(_number(1, size) for size in values.shape)
        data = np.ascontiguousarray(values, "<f4").data.cast("B")
        facts = sizes + _number(2, _FLOAT) + _text(8, name) + _start(9, len(data))
        self._parts += [_start(5, len(facts) + len(data)) + facts, data]
        return name

    def add(self, operator: str, *inputs: str, to: str = "", **attributes: int | str | Sequence[int]) -> str:
        """Add a node, and return the name of its output, which `to` may give."""
        name = to or f"value{len(self._parts)}"
        node = b"".join(_text(1, given) for given in inputs) + _text(2, name) + _text(4, operator)
        for key, value in attributes.items():
            node += _field(5, _text(1, key) + _attribute(value))
        self._parts.append(_field(1, node))
        return name

    def model(self, channels: int) -> bytes:
        """Return the bytes of the model."""
        ends = b""
        for number, name in ((11, "noisy"), (12, "denoised")):
            sizes = b"".join(
                _field(1, _text(2, size) if isinstance(size, str) else _number(1, size))
                for size in ("batch", channels, "rows", "columns")
            )
            kind = _field(1, _number(1, _FLOAT) + _field(2, sizes))
            ends += _field(number, _text(1, name) + _field(2, kind))
        self._parts.append(_text(2, "denoise") + ends)
        graph = _start(7, sum(map(len, self._parts)))
        return b"".join([_number(1, _IR_VERSION), graph, *self._parts, _field(8, _number(2, _OPSET))])


def _attribute(value: int | str | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _number(3, value) + _number(20, _INT)
    if isinstance(value, str):
        return _text(4, value) + _number(20, _TEXT)
    return b"".join(_number(8, part) for part in value) + _number(20, _INTS)


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | _VARINT) + _varint(value)


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())


def _field(number: int, value: bytes) -> bytes:
    return _start(number, len(value)) + value


def _start(number: int, size: int) -> bytes:
    """Return what stands before the bytes of a field."""
    return _varint(number << 3 | _BYTES) + _varint(size)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the eighth says that more follow."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
