"""Single frames of a `SpectralGru` in ONNX Runtime, whose calls cost less than those of torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from denoise.arrays import Array
from denoise.models.onnx_graph import Graph
from denoise.models.onnx_network import session


class SingleFrames:
    """Computes the mask of one frame.

    Args:
        network: A `SpectralGru` on the CPU.
        slope: Of its leaky rectifiers.
    """

    def __init__(self, network: Any, slope: float) -> None:
        self._session = session(_frame_graph(network, slope), pooled=False)

    def mask(self, features: Array, memory: Array) -> tuple[Array, Array]:
        """Return real and imaginary part of the mask over its limit, and the memory after the frame.

        Args:
            features: Compressed spectrum, `(B, 3, bins)`.
            memory: State of the recurrent layers, `(layers, B, memory)`.

        Shape:
            `(B, 2, bins)` and `(layers, B, memory)`.
        """
        states = {f"state{layer}": state[None] for layer, state in enumerate(memory)}
        mask, *after = self._session.run(None, {"features": features, **states})
        return mask, np.concatenate(after)


def _frame_graph(network: Any, slope: float) -> bytes:
    """Return the graph of one frame; its layers are those of `SpectralGru._mask`."""
    graph, weights = Graph(), {name: value.float().numpy() for name, value in network.state_dict().items()}

    def convolved(operator: str, x: str, layer: str) -> str:
        inputs = (graph.constant(weights[f"{layer}.{part}"]) for part in ("weight", "bias"))
        return graph.add(operator, x, *inputs, strides=[2], pads=[2, 2])

    def projected(x: str, layer: str) -> str:
        product = graph.add("MatMul", x, graph.constant(weights[f"{layer}.weight"].T))
        return graph.add("Add", product, graph.constant(weights[f"{layer}.bias"]))

    x, skips = "features", []
    for scale in range(len(network.encoder)):
        x = graph.add("LeakyRelu", convolved("Conv", x, f"encoder.{scale}"), alpha=slope)
        skips.append(x)
    code = graph.add("Relu", projected(graph.add("Flatten", x), "encode_proj"))
    x = code = graph.add("Unsqueeze", code, graph.constant(np.array([0])))  # one step
    layers, units = network.memory.num_layers, network.memory.hidden_size
    for layer in range(layers):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        arrays = [weights[f"memory.{name}_l{layer}"] for name in names]
        graph.gru(x, f"state{layer}", *arrays, last=(x := f"after{layer}"))
    x = projected(graph.add("Concat", x, code, axis=2), "decode_proj")
    width = network.decoder[0].in_channels
    cells = weights["decode_proj.bias"].size // width
    x = graph.add("Reshape", x, graph.constant(np.array([-1, width, cells])))
    for scale in range(len(network.decoder)):
        x = convolved("ConvTranspose", graph.add("Add", x, skips.pop()), f"decoder.{scale}")
        x = graph.add("LeakyRelu", x, alpha=slope) if skips else graph.add("Tanh", x, to="mask")
    state = (1, "batch", units)
    return graph.model(
        {"features": ("batch", 3, network.bins), **{f"state{layer}": state for layer in range(layers)}},
        {"mask": ("batch", 2, network.bins), **{f"after{layer}": state for layer in range(layers)}},
    )
