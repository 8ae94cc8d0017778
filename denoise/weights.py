"""Weights files: a `.safetensors` with a JSON card that rebuilds the model, and no executable content.

Files are untrusted: safetensors checks the tensor table against the file, and the model that the config asks
for is measured on the meta device, without memory, before it is built.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoise.errors import UsageError, WeightsError, reason
from denoise.io.atomic import replacing
from denoise.registry import lookup
from denoise.signal import MODALITIES

if TYPE_CHECKING:
    from torch import Tensor

    from denoise.arrays import Array
    from denoise.models.base import Denoiser

DETECTOR = Path(__file__).parent / "detectors" / "sound-kind.safetensors"  # of the kinds of recordings
FORMAT = 1  # raised when older files can no longer be read

# Builders of trained models, called with the config as keywords.
ARCHITECTURES: Mapping[str, str] = {
    "autoencoder": "denoise.models.autoencoder:build",
    "deblur": "denoise.models.deblur:build",
    "image-codec": "denoise.models.image_codec:build",
    "spectral-gru": "denoise.models.speech.spectral_gru:build",
    "spectral-bigru": "denoise.models.speech.spectral_bigru:build",
    "gated-speech": "denoise.models.speech.gated_speech:build",
    "floor-gain": "denoise.models.field.floor_gain:build",
    "sound-kind": "denoise.models.sound_kind:build",
}

_MAX_HEADER = 10_000_000  # bytes; the length in the file is untrusted
# dtypes of tensors, and those of numpy that hold their bytes
_DTYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8", "I8": "i1"}
_MAX_HALO = {1: 2**20, 2: 4096}  # samples; pixels
_MAX_NUMBER = 2**20  # in a config: no size or rate is larger
_MAX_TENSORS = 10_000
_MAX_PARAMETERS = 1 << 30  # of a model to train
_MAX_MULTIPLE = 2**16  # samples or pixels
SCALE = ":scale"  # suffix of the tensor that holds the step size of each row of an 8-bit tensor
_MISFITS = (  # what building a model from an untrusted config may raise
    UsageError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
_CARD_TEXTS = ("name", "modality", "architecture")
# Old name to new name of modules, for files written before: the parts of a tensor's name.
_RENAMED = {"into": "encode_proj", "out_of": "decode_proj", "after": "backward_gru"}
_TENSOR_DIGEST = "tensors_sha256"  # key in the card


@dataclass(frozen=True)
class _Header:
    """Header of a file."""

    card: dict[str, Any]
    # name to dtype, shape and `data_offsets`, as safetensors writes them; not checked yet
    table: dict[str, Any]
    start: int  # byte at which the tensors begin


def current_name(name: str) -> str:
    """Return the name that a tensor, perhaps of an older file, has in today's models."""
    return ".".join(_RENAMED.get(part, part) for part in name.split("."))


def pretrained() -> dict[str, Path]:
    """List the shipped weights by name."""
    folder = Path(__file__).parent / "pretrained"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def build(architecture: str, config: Mapping[str, Any]) -> Denoiser:
    """Build a model with initial weights.

    Raises:
        UsageError: The architecture is unknown.
    """
    return lookup(ARCHITECTURES, architecture, "architecture")(**config)


def build_new(architecture: str, config: Mapping[str, Any]) -> Denoiser:
    """Build a model to be trained from a config that anybody may have written.

    Raises:
        UsageError: The architecture is unknown, or the config asks for no model, or for a giant.
    """
    lookup(ARCHITECTURES, architecture, "architecture")
    try:
        if (largest := max(_numbers(config), default=0)) > _MAX_NUMBER:
            raise ValueError(f"the number {largest:.6g}, expected {_MAX_NUMBER} at most")
        plan = _planned(architecture, config, _MAX_TENSORS, f"more than {_MAX_TENSORS} tensors")
        if (count := sum(each.numel() for each in plan.parameters())) > _MAX_PARAMETERS:
            raise ValueError(f"{count:.3g} parameters, expected {_MAX_PARAMETERS:.3g} at most")
        return build(architecture, config)
    except Exception as error:  # constructors of layers raise errors of any kind
        raise UsageError(f"model.config of {architecture}: {_misfit(error)}") from error


def _misfit(error: Exception) -> str:
    """Say what a config holds too much in words other than those of Python's constructors."""
    return re.sub(r".* got an unexpected keyword argument (.*)", r"has no parameter \1", reason(error))


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file, which identifies a model in a manifest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card(path: str | Path) -> dict[str, Any]:
    """Read the card of a weights file from its header alone, without torch.

    Raises:
        WeightsError: The file is no weights file of this project, or of another format version.
    """
    return _header(Path(path)).card


def _header(path: Path) -> _Header:
    """Read the header, and check the card in it."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8) if size else b""  # the kernel's own say so, and may never end
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if head[:2] in (b"PK", b"\x80\x02"):
                raise WeightsError(f"{path}: is a pickle, which can execute code; expected .safetensors")
            if not 2 <= length <= min(size - 8, _MAX_HEADER):
                raise WeightsError(
                    f"{path}: is not a weights file, expected .safetensors made by denoise train"
                )
            table = json.loads(file.read(length))
            found = json.loads(table.pop("__metadata__")["denoise"])
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}), expected a weights file") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: has no denoise header, expected .safetensors made by denoise train"
        ) from error
    _check_card(path, found)
    return _Header(found, table, 8 + length)


def _check_card(path: Path, found: Any) -> None:
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        version = found.get("format") if isinstance(found, dict) else found
        raise WeightsError(f"{path}: has weights format {repr(version)[:20]}, expected {FORMAT}")
    missing = [key for key in _CARD_TEXTS if not isinstance(found.get(key), str)]
    missing += [] if isinstance(found.get("config"), dict) else ["config"]
    if missing:
        raise WeightsError(f"{path}: its card lacks {', '.join(missing)}, expected name, model and config")
    if found["modality"] not in MODALITIES:
        raise WeightsError(
            f"{path}: is for the modality {found['modality'][:20]!r}, expected one of {', '.join(MODALITIES)}"
        )


def _tensors(path: Path, header: _Header) -> dict[str, Array]:
    """Read the tensors as they are stored; safetensors checks that they fill the file exactly."""
    from safetensors import SafetensorError, deserialize

    data = path.read_bytes()
    try:
        stored = dict(deserialize(data))  # type: ignore[no-untyped-call]
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(f"{path}: its tensors do not fit its header: {reason(error)}") from error
    if not stored:
        raise WeightsError(f"{path}: holds no tensors, expected those of a model")
    for name, tensor in header.table.items():
        if tensor["dtype"] not in _DTYPES:
            raise WeightsError(
                f"{path}: the tensor {name[:60]!r} has dtype {tensor['dtype']}, "
                f"expected one of {', '.join(_DTYPES)}"
            )
    recorded = header.card.get(_TENSOR_DIGEST, "")
    found = _digest_of_tensors(header.table, memoryview(data)[header.start :])
    if recorded and found != recorded:
        raise WeightsError(
            f"{path}: its tensors were changed: they have the digest {found}, "
            f"expected {str(recorded)[:64]} as its card says"
        )
    return {name: _array(tensor) for name, tensor in stored.items()}


def _array(tensor: Mapping[str, Any]) -> Array:
    """Return the values of a stored tensor; those of bfloat16 are the upper halves of float32."""
    import numpy as np

    values = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
    return values if tensor["dtype"] != "BF16" else (values.astype("<u4") << 16).view("<f4")


def _digest_of_tensors(tensors: Mapping[str, Any], data: memoryview) -> str:
    """Compute a SHA-256 over names, dtypes, shapes and bytes of the tensors, sorted by name."""
    total = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        start, stop = tensor["data_offsets"]
        total.update(json.dumps([name, tensor["dtype"], tensor["shape"]]).encode())
        total.update(data[start:stop])
    return total.hexdigest()


def save(
    path: str | Path,
    model: Denoiser,
    *,
    name: str,
    architecture: str,
    facts: Mapping[str, Any],
    bits: int = 16,
) -> None:
    """Write a model and its card; `facts` are its further entries (recipe, results, data).

    Weights are stored in half precision, whose error is far below that of the network. With 8 `bits`,
    matrices and kernels are stored as integers with a step size per row.

    Raises:
        UsageError: `bits` is neither 8 nor 16.
    """
    from safetensors.torch import save as to_bytes

    if bits not in (8, 16):
        raise UsageError(f"cannot store weights of {bits} bits; expected 8 or 16")
    parameters = {key: value.detach().cpu().half().contiguous() for key, value in model.state_dict().items()}
    header = {
        "format": FORMAT,
        "name": name,
        "modality": model.spec.modality,
        "architecture": architecture,
        "config": model.config(),
        "parameters": sum(p.numel() for p in parameters.values()),
        **facts,
    }
    _write(Path(path), to_bytes(_quantised(parameters) if bits == 8 else parameters), header)


def _quantised(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Store tensors of two axes and more as int8 with a half-precision step size per row."""
    import torch

    stored = {}
    for key, value in parameters.items():
        stored[key] = value
        if value.ndim > 1:
            rows = value.float().flatten(1)
            scale = (rows.abs().amax(1) / 127).clamp(min=1e-7).half()
            # The scale is rounded too, so the largest weight may exceed 127 steps slightly.
            steps = (rows / scale.float()[:, None]).round().clamp(-127, 127)
            stored[key], stored[key + SCALE] = steps.to(torch.int8).view_as(value), scale
    return stored


def _dequantised(path: Path, stored: Mapping[str, Array]) -> dict[str, Array]:
    """Convert stored tensors to float32 weights."""
    import numpy as np

    parameters = {key: value.astype(np.float32) for key, value in stored.items() if not key.endswith(SCALE)}
    scaled = {key for key, value in stored.items() if value.dtype == np.int8}
    if scaled != {key.removesuffix(SCALE) for key in stored if key.endswith(SCALE)}:
        raise WeightsError(f"{path}: holds tensors of 8 bits, expected a scale for each of them")
    for key in scaled:
        rows, scale = parameters[key], stored[key + SCALE].astype(np.float32)
        if scale.shape != rows.shape[:1]:
            raise WeightsError(
                f"{path}: the tensor {key[:60]!r} has {tuple(rows.shape)[:1]} rows and "
                f"{tuple(scale.shape)} scales, expected one for each"
            )
        rows *= scale.reshape(-1, *[1] * (rows.ndim - 1))
    return parameters


def annotate(path: str | Path, facts: Mapping[str, Any]) -> None:
    """Add entries to the card of a weights file, such as measured results."""
    path = Path(path)
    _write(path, path.read_bytes(), {**_header(path).card, **facts})


def replace_tensors(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Store other tensors in a weights file, under its card."""
    from safetensors.torch import save as to_bytes

    path = Path(path)
    card = {key: value for key, value in _header(path).card.items() if key != _TENSOR_DIGEST}
    _write(path, to_bytes(dict(tensors)), card)


def _write(path: Path, data: bytes, card: Mapping[str, Any]) -> None:
    """Write the bytes of a `.safetensors` with a new card, and the digest of its tensors if it has none."""
    length = struct.unpack("<Q", data[:8])[0]
    table = json.loads(data[8 : 8 + length])
    table.pop("__metadata__", None)
    found = _digest_of_tensors(table, memoryview(data)[8 + length :])
    table["__metadata__"] = {"denoise": json.dumps({_TENSOR_DIGEST: found, **card})}
    text = json.dumps(table, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight bytes
    with replacing(path) as partial:
        partial.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def load(path: str | Path) -> tuple[Denoiser, dict[str, Any]]:
    """Load a model, ready to use, and its card.

    Raises:
        WeightsError: The file is damaged, of another format, or does not fit the model it names.
    """
    import torch

    path = Path(path)
    header = _header(path)
    parameters = _parameters(path, header)
    with _fitting(path):
        model = _built(path, header.card, {name: value.shape for name, value in parameters.items()})
        _check_finite(path, parameters)
        model.load_state_dict({name: torch.from_numpy(value) for name, value in parameters.items()})
    return model.eval().requires_grad_(False), header.card


def arrays(path: str | Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Read the weights of a shipped model in float32, and its card, without torch; `load` checks more.

    Raises:
        WeightsError: The file is damaged, or of another format.
    """
    path = Path(path)
    header = _header(path)
    return _parameters(path, header), header.card


def _parameters(path: Path, header: _Header) -> dict[str, Array]:
    """Return the weights by the names of today's models."""
    with _fitting(path):
        return {current_name(k): v for k, v in _dequantised(path, _tensors(path, header)).items()}


def verify(path: str | Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Check a weights file of unknown origin: its card, and a sentence for each check passed.

    Raises:
        WeightsError: The first check that failed.
    """
    import torch

    path = Path(path)
    header = _header(path)
    stored = _tensors(path, header)
    recorded = header.card.get(_TENSOR_DIGEST, "")
    model, _ = load(path)
    spec = model.spec
    sides = [spec.multiple_of] * spec.ndim
    with _fitting(path), torch.no_grad():
        answer = model(torch.zeros(1, spec.channels, *sides))
        if answer.shape != (1, spec.channels, *sides) or not bool(torch.isfinite(answer).all()):
            raise WeightsError(f"{path}: the model returns other than finite numbers of the input's shape")
    count = sum(value.size for name, value in stored.items() if not name.endswith(SCALE))
    return header.card, (
        f"header: a card of format {FORMAT}, no pickle, {path.stat().st_size} bytes accounted for",
        f"tensors: {len(stored)} with {count} weights, end to end, of the shapes and dtypes they claim",
        f"digest: the tensors are those of the card, sha256 {recorded}"
        if recorded
        else "digest: the card has none to compare with",
        "model: its config gives exactly these tensors; all numbers are finite",
        f"run: it returns finite numbers for zeros of {' x '.join(map(str, sides))}",
    )


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Turn any error between a config and its tensors into one sentence."""
    try:
        yield
    except WeightsError:
        raise
    except _MISFITS as error:
        raise WeightsError(f"{path}: the weights do not fit the model they name: {_misfit(error)}") from error


def _built(path: Path, card: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Denoiser:
    """Build the model described by the card, after checking its size on the meta device.

    A config of a few bytes may ask for a million layers of a million channels; on the meta device they take
    no memory, and construction stops at more parameters than the file has tensors.
    """
    if (largest := max(_numbers(card["config"]), default=0)) > _MAX_NUMBER:
        raise WeightsError(f"{path}: its config has the number {largest:.6g}, expected {_MAX_NUMBER} at most")
    if len(shapes) > _MAX_TENSORS:
        raise WeightsError(f"{path}: holds {len(shapes)} tensors, expected {_MAX_TENSORS} at most")
    # Some layers register a parameter twice.
    what = f"{path}: its config asks for more than its {len(shapes)} tensors"
    plan = _planned(card["architecture"], card["config"], 2 * len(shapes), what)
    wanted = {name: tuple(value.shape) for name, value in plan.state_dict().items()}
    for name in sorted(wanted.keys() | shapes.keys()):
        need, have = wanted.get(name), shapes.get(name)
        if need != have:
            raise WeightsError(
                f"{path}: the weights do not fit the model they name: "
                f"the tensor {name[:60]!r} has shape {have}, expected {need}"
            )
    if plan.spec.modality != card["modality"]:
        raise WeightsError(
            f"{path}: its card says {card['modality']}, its config {plan.spec.modality}, expected the same"
        )
    rate = plan.spec.sample_rate
    if rate is not None and not (isinstance(rate, int | float) and 0 < rate < math.inf):
        raise WeightsError(f"{path}: its sample rate is {rate}, expected a positive number of Hz")
    _check_reach(path, plan)
    import torch

    with torch.random.fork_rng(devices=[]):  # the initial weights are replaced; the caller's numbers stay
        return build(card["architecture"], card["config"])


def _planned(architecture: str, config: Mapping[str, Any], most: int, sentence: str) -> Denoiser:
    """Build a model on the meta device; raise a WeightsError at more than `most` parameters."""
    import torch
    from torch.nn.modules.module import register_module_parameter_registration_hook

    left = most

    def count(_module: Any, _name: str, parameter: Tensor | None) -> None:
        nonlocal left
        left -= parameter is not None and parameter.is_meta  # other threads build real ones
        if left < 0:
            raise WeightsError(sentence)

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            return build(architecture, config)
    finally:
        hook.remove()


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers in a config."""
    if isinstance(value, int | float) and math.isfinite(value):
        yield abs(value)
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _numbers(part)


def _check_reach(path: Path, plan: Denoiser) -> None:
    """Refuse a model that reads, or keeps, far more than any recording or image needs.

    A dilation of a few digits gives a receptive field, and so a state, of gigabytes.
    """
    spec = plan.spec
    limits = {"receptive field": (spec.halo or 0, _MAX_HALO[spec.ndim])}
    limits["block"] = (spec.multiple_of, _MAX_MULTIPLE)
    limits["delay"] = (getattr(plan, "latency", 0), _MAX_HALO[1])
    for name, (found, most) in limits.items():
        if found > most:
            raise WeightsError(
                f"{path}: its config gives a {name} of {found} samples, expected {most} at most"
            )


def _check_finite(path: Path, parameters: Mapping[str, Array]) -> None:
    import numpy as np

    for name, value in parameters.items():
        if not np.isfinite(value).all():
            raise WeightsError(
                f"{path}: the tensor {name!r} holds NaN or infinite weights, expected finite numbers"
            )
