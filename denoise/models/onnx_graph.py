"""ONNX graphs: their bytes, and those of an autoencoder for images and of a recurrent layer.

Neither torch nor onnx is needed.
The bytes are those of the protocol buffers of ONNX (onnx.proto, IR version 8): a field is its number and the
kind of its value, and a message inside another is its length and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

from denoise.arrays import Array
from denoise.models.config import AutoencoderConfig

_IR_VERSION, _OPSET = 8, 18
_FLOAT, _INT64 = 1, 7  # of the data types
_VARINT, _BYTES, _SINGLE = 0, 2, 5  # kinds of values
_REAL, _INT, _TEXT, _INTS = 1, 2, 3, 7  # types of attributes


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
    graph = Graph()

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
    shape = ("batch", config.channels, "rows", "columns")
    return graph.model({"noisy": shape}, {"denoised": shape})


def gru_graph(taken: Array, kept: Array, taken_bias: Array, kept_bias: Array) -> bytes:
    """Return the graph `(x, first) -> states` of a recurrent layer (Cho et al. 2014).

    Args:
        taken: Weights of the input, `(3 units, inputs)`, in torch's order: reset, update, candidate.
        kept: The same of the last state, `(3 units, units)`.
        taken_bias: `(3 units,)`.
        kept_bias: `(3 units,)`.

    Shape:
        `x` `(T, B, inputs)`, `first` `(1, B, units)`, `states` `(T, 1, B, units)`.
    """
    graph, units = Graph(), kept.shape[1]
    graph.gru("x", "first", taken, kept, taken_bias, kept_bias, states="states")
    return graph.model(
        {"x": ("steps", "batch", taken.shape[1]), "first": (1, "batch", units)},
        {"states": ("steps", 1, "batch", units)},
    )


def _update_first(values: Array) -> Array:
    """Reorder torch's gates for ONNX: update, reset, candidate."""
    reset, update, candidate = np.split(values, 3)
    return np.concatenate([update, reset, candidate])


Shape = Sequence[int | str]
_Attribute = float | str | Sequence[int]


class Graph:
    """Nodes and constants of a graph, as they are added."""

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []  # joined once: the kernels are large

    def constant(self, values: Array) -> str:
        """Add an array, in float32 or int64, and return its name."""
        name = f"constant{len(self._parts)}"
        sizes = b"".join(_number(1, size) for size in values.shape)
        kind, dtype = (_INT64, "<i8") if values.dtype.kind == "i" else (_FLOAT, "<f4")
        data = np.ascontiguousarray(values, dtype).data.cast("B")
        facts = sizes + _number(2, kind) + _text(8, name) + _start(9, len(data))
        self._parts += [_start(5, len(facts) + len(data)) + facts, data]
        return name

    def add(self, operator: str, *inputs: str, to: str = "", **attributes: _Attribute) -> str:
        """Add a node, and return the name of its output, which `to` may give."""
        name = to or f"value{len(self._parts)}"
        self._node(operator, inputs, [name], attributes)
        return name

    def gru(
        self,
        x: str,
        first: str,
        taken: Array,
        kept: Array,
        taken_bias: Array,
        kept_bias: Array,
        *,
        states: str = "",
        last: str = "",
    ) -> None:
        """Add a recurrent layer; the arguments are those of `gru_graph`.

        Args:
            states: Name for the states of all steps, `(T, 1, B, units)`.
            last: Name for the last, `(1, B, units)`.
        """
        arrays = [*(_update_first(values)[None] for values in (taken, kept))]
        arrays.append(np.concatenate([_update_first(taken_bias), _update_first(kept_bias)])[None])
        inputs = [x, *map(self.constant, arrays), "", first]
        sizes = {"hidden_size": kept.shape[1], "linear_before_reset": 1}
        self._node("GRU", inputs, [states, last], sizes)

    def _node(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        attributes: Mapping[str, _Attribute],
    ) -> None:
        node = b"".join(_text(1, name) for name in inputs) + b"".join(_text(2, name) for name in outputs)
        node += _text(4, operator)
        for key, value in attributes.items():
            node += _field(5, _text(1, key) + _attribute(value))
        self._parts.append(_field(1, node))

    def model(self, inputs: Mapping[str, Shape], outputs: Mapping[str, Shape]) -> bytes:
        """Return the bytes of the model; a name as the size of an axis means any size."""
        ends = b""
        for number, arrays in ((11, inputs), (12, outputs)):
            for name, shape in arrays.items():
                sizes = b"".join(
                    _field(1, _text(2, size) if isinstance(size, str) else _number(1, size)) for size in shape
                )
                kind = _field(1, _number(1, _FLOAT) + _field(2, sizes))
                ends += _field(number, _text(1, name) + _field(2, kind))
        self._parts.append(_text(2, "denoise") + ends)
        graph = _start(7, sum(map(len, self._parts)))
        return b"".join([_number(1, _IR_VERSION), graph, *self._parts, _field(8, _number(2, _OPSET))])


def _attribute(value: _Attribute) -> bytes:
    if isinstance(value, float):
        return _varint(2 << 3 | _SINGLE) + struct.pack("<f", value) + _number(20, _REAL)
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
