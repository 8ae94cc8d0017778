"""Networks for images in ONNX Runtime, which starts ten times as fast as torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from denoise.arrays import Array
from denoise.models.config import AutoencoderConfig, config_from
from denoise.models.contract import Model
from denoise.models.onnx_graph import autoencoder_graph

_LIVE_MAPS = 5  # measured: feature maps of the finest scale in memory at a time


class OnnxNetwork(Model):
    """A convolutional autoencoder for images, in float32.

    Args:
        config: Fields of its config, one that `denoise.models.onnx_graph.has_graph`.
        weights: Its kernels by name.
    """

    runtime = "ONNX Runtime"

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        self._made_of = config, weights
        fields = config_from(AutoencoderConfig, config, {})
        self.spec = fields.spec
        self.bytes_per_px = 4.0 * _LIVE_MAPS * fields.widths[0] / fields.fold**2
        self._session = session(autoencoder_graph(fields, weights))

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what the session is made of: it cannot be copied itself."""
        return type(self), self._made_of

    def run(self, noisy: Array, _sigma: float | None = None, /) -> Array:
        """Denoise a batch."""
        denoised: Array = self._session.run(None, {"noisy": np.ascontiguousarray(noisy)})[0]
        return denoised


def session(graph: bytes, *, pooled: bool = True) -> Any:
    """Return what runs a graph of `denoise.models.onnx_graph` on one thread."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # on Windows it records what is run
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # threads in one layer wait for each other
    options.enable_mem_pattern = False  # a plan for each size of image
    options.enable_cpu_mem_arena = pooled
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
