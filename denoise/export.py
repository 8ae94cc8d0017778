"""ONNX export of trained models, for programs without PyTorch."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from denoise.errors import UsageError
from denoise.io.atomic import replacing
from denoise.models.base import CausalDenoiser, Denoiser
from denoise.models.field.chain import FieldChain
from denoise.models.sensor.chain import SensorChain

OPSET = 18  # version of the ONNX operators
_PACKAGES = ("onnx", "onnxscript")
_MAX_HOP_S = 6.0  # of a model with state
_MAX_SIDE = 2**24  # pixels or samples of an axis
_RANGES = {"image": "0..1", "audio": "-1..1", "sensor": "mean 0 and standard deviation 1, each channel"}


def export_onnx(model: Denoiser, path: Path, name: str) -> dict[str, str]:
    """Write a model as an ONNX graph, and return its metadata: everything needed to run it.

    Tiling, padding, scaling and resampling stay outside, and of a chain everything but the network. A
    model with a halo becomes `noisy -> denoised`, for any size divisible by `multiple_of`. A recurrent model
    becomes a graph of one hop: its state is an input, initially zero, and the next state an output.

    Args:
        model: Trained model; classical methods have no graph.

    Shape:
        `(1, channels, *S)` in and out of the graph.

    Raises:
        UsageError: The `onnx` extra is not installed, or the model cannot be exported.
    """
    if not all(find_spec(package) for package in _PACKAGES):
        raise UsageError('ONNX export needs the extra onnx: pip install "denoise-pipelines[onnx]"')
    if next(model.parameters(), None) is None:
        raise UsageError(
            f"the model {name} is a classical method, which has no graph; expected a trained model"
        )
    if isinstance(model, SensorChain | FieldChain):
        model = model.network
    if model.precision != "float32":
        raise UsageError(f"the model {name} is in {model.precision}; expected one loaded in float32")
    spec = model.spec
    facts = {
        "name": name,
        "modality": spec.modality,
        "channels": str(spec.channels),
        "multiple_of": str(spec.multiple_of),
        "range": _RANGES[spec.modality],
        "opset": str(OPSET),
    }
    if isinstance(model, CausalDenoiser):
        proto, state = _hop(model, name)
        facts |= {"sample_rate": str(spec.sample_rate), "latency": str(model.latency), "state": state}
    elif spec.halo is None:
        raise UsageError(
            f"the model {name} needs the whole image at once; expected one with a finite receptive field"
        )
    else:
        proto = _whole(model)
        facts["halo"] = str(spec.halo)
    for key, value in facts.items():
        proto.metadata_props.add(key=key, value=value)
    with replacing(path) as partial:
        partial.write_bytes(proto.SerializeToString())
    return facts


def _whole(model: Denoiser) -> Any:
    """Export the graph `noisy -> denoised` of a model with a finite receptive field."""
    spec = model.spec
    names = ("rows", "columns") if spec.ndim == 2 else ("samples",)
    axes = {
        2 + axis: spec.multiple_of * Dim(label, min=1, max=_MAX_SIDE // spec.multiple_of)
        for axis, label in enumerate(names)
    }
    noisy = torch.zeros(1, spec.channels, *(spec.multiple_of * (2 + axis) for axis in axes))
    return _proto(_Whole(model), (noisy,), ["noisy"], ["denoised"], {"noisy": axes})


def _hop(model: CausalDenoiser, name: str) -> tuple[Any, str]:
    """Export the graph of one hop of a recurrent model, and return it with the names of its state tensors."""
    state = model.initial_state(1)
    if not is_dataclass(state) or isinstance(state, type):
        raise UsageError(f"the model {name} keeps its state in {type(state).__name__}: expected a dataclass")
    if model.hop > _MAX_HOP_S * (model.spec.sample_rate or math.inf):
        hop_s = model.hop / (model.spec.sample_rate or math.inf)
        raise UsageError(
            f"the model {name} processes {hop_s:.1f} s at a time; expected at most {_MAX_HOP_S:g} s"
        )
    tensors = dict(_tensors(state))
    parts = list(tensors)
    values = tuple(tensor.clone() for tensor in tensors.values())  # shared tensors would become one input
    noisy = torch.zeros(1, model.spec.channels, model.hop)
    after = [f"{part}_after" for part in parts]
    proto = _proto(_Hop(model, state), (noisy, *values), ["noisy", *parts], ["denoised", *after], None)
    return proto, ", ".join(parts)


class _Whole(nn.Module):
    def __init__(self, model: Denoiser) -> None:
        super().__init__()
        self.model = model

    def forward(self, noisy: Tensor) -> Tensor:
        return self.model(noisy)


class _Hop(nn.Module):
    def __init__(self, model: CausalDenoiser, state: Any) -> None:
        super().__init__()
        self.model, self.state = model, state

    def forward(self, noisy: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        denoised, next_state = self.model.step(noisy, _with_tensors(self.state, iter(state)))
        return denoised, *(tensor for _, tensor in _tensors(next_state))


def _tensors(state: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state by name; those of a nested state are prefixed with its name."""
    for field in fields(state):
        value = getattr(state, field.name)
        if isinstance(value, Tensor):
            yield prefix + field.name, value
        else:
            yield from _tensors(value, f"{prefix}{field.name}_")


def _with_tensors(state: Any, tensors: Iterator[Tensor]) -> Any:
    """Return the state with its tensors replaced, in the order of `_tensors`."""
    values = ((field.name, getattr(state, field.name)) for field in fields(state))
    changed = {
        name: next(tensors) if isinstance(old, Tensor) else _with_tensors(old, tensors)
        for name, old in values
    }
    return replace(state, **changed)


def _proto(
    graph: nn.Module, inputs: tuple[Tensor, ...], names: list[str], outputs: list[str], axes: Any
) -> Any:
    """Export the ONNX model without the exporter's references to source lines."""
    with _quiet():
        program = torch.onnx.export(
            graph.eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=axes,
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for noted in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output):
        del noted.metadata_props[:]
    del proto.graph.value_info[:]
    return proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages of PyTorch's exporter about itself and about missing packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
