"""One weights file: a `.safetensors` with a JSON header that rebuilds the model. Nothing in it can run.

A file may come from anywhere, so nothing in it is believed: the header is checked before a byte of a tensor
is read, and the model that its config asks for is measured, without memory, before it is built.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from denoise.errors import UsageError, WeightsError, reason
from denoise.io.atomic import replacing
from denoise.registry import lookup
from denoise.signal import MODALITIES

if TYPE_CHECKING:
    from torch import Tensor

    from denoise.models.base import Denoiser

__all__ = [
    "ARCHITECTURES",
    "FORMAT",
    "annotate",
    "build",
    "card",
    "digest",
    "load",
    "pretrained",
    "save",
    "verify",
]

FORMAT = 1  # raised when a file of an older kind can no longer be read

# What builds a learned model from the keywords of its config.
ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "autoencoder": "denoise.models.autoencoder:build",
        "deblur": "denoise.models.deblur:build",
        "spectral-gru": "denoise.models.speech.spectral_gru:build",
        "spectral-bigru": "denoise.models.speech.spectral_bigru:build",
        "gated-speech": "denoise.models.speech.gated_speech:build",
    }
)

_HEADER_LIMIT = 10_000_000  # bytes; a header says how long it is, and need not be believed
_DTYPE_BYTES = MappingProxyType({"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I8": 1})
_SCALE = ":scale"  # behind the name of a tensor of 8 bits: what a step is worth, in each of its rows
_CARD_TEXTS = ("name", "modality", "architecture")
_TENSOR_DIGEST = "tensors_sha256"  # in the card: of all tensors, by name


@dataclass(frozen=True)
class _Header:
    """What stands before the tensors of a file.

    Args:
        card: What the file says of itself.
        tensors: Name to dtype, shape and `data_offsets`, as safetensors writes them.
        start: Byte at which the tensors begin.
    """

    card: dict[str, Any]
    tensors: dict[str, dict[str, Any]]
    start: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape, of the weights."""
        return {
            name: tuple(tensor["shape"]) for name, tensor in self.tensors.items() if not name.endswith(_SCALE)
        }


def pretrained() -> dict[str, Path]:
    """The weights that ship with the package, by name."""
    folder = Path(__file__).parent / "pretrained"
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def build(architecture: str, config: Mapping[str, Any]) -> Denoiser:
    """A model with fresh weights.

    Raises:
        UsageError: No such architecture.
    """
    model: Denoiser = lookup(ARCHITECTURES, architecture, "architecture")(**config)
    return model


def digest(path: Path) -> str:
    """SHA-256 of the file: what names a model in a manifest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def card(path: str | Path) -> dict[str, Any]:
    """What a weights file says of itself, read from its header alone (without torch).

    Raises:
        WeightsError: It is not a weights file of this project, or of another format version.
    """
    return _header(Path(path)).card


def _header(path: Path) -> _Header:
    """Read and check all that stands before the tensors."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if head[:2] in (b"PK", b"\x80\x02"):
                raise WeightsError(f"{path}: is a pickle, which could run anything; expected .safetensors")
            if not 2 <= length <= min(size - 8, _HEADER_LIMIT):
                raise WeightsError(
                    f"{path}: is not a weights file, expected .safetensors made by denoise train"
                )
            tensors = json.loads(file.read(length))
            found = json.loads(tensors.pop("__metadata__")["denoise"])
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}), expected a weights file") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: has no denoise header, expected .safetensors made by denoise train"
        ) from error
    _check_card(path, found)
    _check_tensors(path, tensors, size - 8 - length)
    return _Header(found, tensors, 8 + length)


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


def _check_tensors(path: Path, tensors: Mapping[str, Any], size: int) -> None:
    """Each is of floats, has the bytes that its shape needs, and all fill the rest of the file exactly."""
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors, expected those of a model")
    spans = sorted(_span(path, name, tensor) for name, tensor in tensors.items())
    end = 0
    for start, stop, name in spans:
        if start != end:
            fault = "overlaps" if start < end else "leaves a gap behind"
            raise WeightsError(
                f"{path}: the tensor {name[:60]!r} {fault} the one before it, expected tensors end to end"
            )
        end = stop
    if end != size:
        raise WeightsError(f"{path}: has {size} bytes of tensors, expected the {end} that its header claims")


def _span(path: Path, name: str, tensor: Any) -> tuple[int, int, str]:
    """First byte and end of a tensor, once they are what its shape and dtype need."""
    label = f"{path}: the tensor {name[:60]!r}"
    try:
        dtype, shape, (start, stop) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
        numbers = (*shape, start, stop)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{label} has no dtype, shape and data_offsets, expected all three") from error
    if not isinstance(dtype, str) or dtype not in _DTYPE_BYTES:
        known = ", ".join(_DTYPE_BYTES)
        raise WeightsError(f"{label} has dtype {str(dtype)[:20]!r}, expected one of {known}")
    if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise WeightsError(f"{label} has sizes that are no counts, expected whole numbers from 0")
    needed = math.prod(shape) * _DTYPE_BYTES[dtype]
    if stop - start != needed:
        raise WeightsError(f"{label} has {stop - start} bytes, expected {needed} for its shape {shape}")
    return start, stop, name


def _digest_of_tensors(tensors: Mapping[str, Any], data: memoryview) -> str:
    """SHA-256 over the tensors by name: their names, dtypes, shapes and bytes, whatever their order."""
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
    """Write a model and its card; `facts` is what the card tells beyond the model (recipe, results, data).

    Weights are stored in half precision: half the bytes, and an error far below what the network leaves. With
    8 `bits`, matrices and kernels are whole numbers of steps, a step for each row: half the bytes again.

    Raises:
        UsageError: `bits` is neither 8 nor 16.
    """
    from safetensors.torch import save as to_bytes

    if bits not in (8, 16):
        raise UsageError(f"weights of {bits} bits were asked for; expected 8 or 16")
    parameters = {key: value.detach().cpu().half().contiguous() for key, value in model.state_dict().items()}
    stored = _in_steps(parameters) if bits == 8 else parameters
    data = to_bytes(stored)
    length = struct.unpack("<Q", data[:8])[0]
    tensors = json.loads(data[8 : 8 + length])
    header = {
        "format": FORMAT,
        "name": name,
        "modality": model.spec.modality,
        "architecture": architecture,
        "config": model.config(),
        "parameters": sum(p.numel() for p in parameters.values()),
        _TENSOR_DIGEST: _digest_of_tensors(tensors, memoryview(data)[8 + length :]),
        **facts,
    }
    _write(Path(path), data, header)


def _in_steps(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same, but tensors of two axes and more as int8 and, in half precision, what a step is worth."""
    import torch

    stored = {}
    for key, value in parameters.items():
        stored[key] = value
        if value.ndim > 1:
            rows = value.float().flatten(1)
            scale = (rows.abs().amax(1) / 127).clamp(min=1e-7).half()
            # The scale itself is rounded: the largest weight may lie a little beyond the last step.
            steps = (rows / scale.float()[:, None]).round().clamp(-127, 127)
            stored[key], stored[key + _SCALE] = steps.to(torch.int8).view_as(value), scale
    return stored


def _from_steps(path: Path, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights in float32, whatever they are stored in.

    Raises:
        WeightsError: A tensor of 8 bits has no scale for each of its rows, or the other way round.
    """
    import torch

    parameters = {key: value.float() for key, value in stored.items() if not key.endswith(_SCALE)}
    scaled = {key for key, value in stored.items() if value.dtype == torch.int8}
    if scaled != {key.removesuffix(_SCALE) for key in stored if key.endswith(_SCALE)}:
        raise WeightsError(f"{path}: holds tensors of 8 bits, expected a scale for each of them")
    for key in scaled:
        rows, scale = parameters[key], stored[key + _SCALE].float()
        if scale.shape != rows.shape[:1]:
            raise WeightsError(
                f"{path}: the tensor {key[:60]!r} has {tuple(rows.shape)[:1]} rows and "
                f"{tuple(scale.shape)} scales, expected one for each"
            )
        parameters[key] = rows * scale.view(-1, *[1] * (rows.ndim - 1))
    return parameters


def annotate(path: str | Path, facts: Mapping[str, Any]) -> None:
    """Add to the card of a weights file what was learned after training: measured results, limits."""
    path = Path(path)
    header, data = _header(path), path.read_bytes()
    found = _digest_of_tensors(header.tensors, memoryview(data)[header.start :])
    _write(path, data, {_TENSOR_DIGEST: found, **header.card, **facts})


def _write(path: Path, data: bytes, header: Mapping[str, Any]) -> None:
    """Write the bytes of a `.safetensors` with another card, which is the metadata in its header."""
    length = struct.unpack("<Q", data[:8])[0]
    table = json.loads(data[8 : 8 + length])
    table["__metadata__"] = {"denoise": json.dumps(header, ensure_ascii=False)}
    text = json.dumps(table, ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of eight bytes
    with replacing(path) as partial:
        partial.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def load(path: str | Path) -> tuple[Denoiser, dict[str, Any]]:
    """A model from its weights file, ready to use, and its card.

    Raises:
        WeightsError: The file is damaged, of another format, or does not fit the model it names.
    """
    from safetensors.torch import load_file

    path = Path(path)
    header = _header(path)
    _check_digest(path, header)
    with _fitting(path):
        model = _built(path, header)
        parameters = _from_steps(path, load_file(path))
        _check_finite(path, parameters)
        model.load_state_dict(parameters)
    return model.eval().requires_grad_(False), header.card


def verify(path: str | Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Go through a weights file that came from somewhere: its card, and a sentence for each thing checked.

    Raises:
        WeightsError: The first thing that is wrong.
    """
    import torch

    path = Path(path)
    header = _header(path)
    count = sum(math.prod(shape) for shape in header.shapes.values())
    checked = [
        f"header: a card of format {FORMAT}, no pickle, {path.stat().st_size} bytes all accounted for",
        f"tensors: {len(header.shapes)} with {count} numbers, end to end, of shape and dtype as they claim",
    ]
    recorded = _check_digest(path, header)
    checked.append(
        f"digest: the tensors are those of the card, sha256 {recorded}"
        if recorded
        else "digest: the card has none to compare with"
    )
    model, _ = load(path)
    checked.append("model: its config gives exactly these tensors; all numbers are finite")
    spec = model.spec
    sides = [spec.multiple_of] * spec.ndim
    with _fitting(path), torch.no_grad():
        answer = model(torch.zeros(1, spec.channels, *sides))
        if answer.shape != (1, spec.channels, *sides) or not bool(torch.isfinite(answer).all()):
            raise WeightsError(f"{path}: the model does not answer silence with as many finite numbers")
    checked.append(f"run: it answers silence of {' x '.join(map(str, sides))} with as many finite numbers")
    return header.card, tuple(checked)


def _check_digest(path: Path, header: _Header) -> str:
    """Compare the tensors with the digest in the card; gives it, empty where the card has none."""
    recorded = header.card.get(_TENSOR_DIGEST, "")
    if recorded:
        data = memoryview(path.read_bytes())[header.start :]
        found = _digest_of_tensors(header.tensors, data)
        if found != recorded:
            raise WeightsError(
                f"{path}: its tensors were changed: they have the digest {found}, "
                f"expected {str(recorded)[:64]} as its card says"
            )
    return str(recorded)


@contextmanager
def _fitting(path: Path) -> Iterator[None]:
    """Whatever goes wrong between a config and its tensors, in one sentence."""
    from safetensors import SafetensorError

    try:
        yield
    except (SafetensorError, UsageError, ArithmeticError, LookupError, MemoryError) as error:
        raise WeightsError(f"{path}: the weights do not fit the model they name: {reason(error)}") from error
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"{path}: the weights do not fit the model they name: {reason(error)}") from error


def _built(path: Path, header: _Header) -> Denoiser:
    """A model for these tensors.

    It is first built on PyTorch's `meta` device, which has shapes and no memory, and with no more parameters
    than the file has tensors: a config of a few bytes may ask for a million layers of a million channels.
    """
    import torch
    from torch.nn.modules.module import register_module_parameter_registration_hook

    left = 2 * len(header.shapes)  # some layers register a parameter twice

    def count(_module: Any, _name: str, parameter: Tensor | None) -> None:
        nonlocal left
        left -= parameter is not None and parameter.is_meta  # other threads build real ones
        if left < 0:
            raise WeightsError(f"{path}: its config asks for more than its {len(header.shapes)} tensors")

    hook = register_module_parameter_registration_hook(count)
    try:
        with torch.device("meta"):
            plan = build(header.card["architecture"], header.card["config"])
    finally:
        hook.remove()
    wanted = {name: tuple(value.shape) for name, value in plan.state_dict().items()}
    for name in sorted(wanted.keys() | header.shapes.keys()):
        need, have = wanted.get(name), header.shapes.get(name)
        if need != have:
            raise WeightsError(
                f"{path}: the weights do not fit the model they name: "
                f"the tensor {name[:60]!r} has shape {have}, expected {need}"
            )
    if plan.spec.modality != header.card["modality"]:
        raise WeightsError(
            f"{path}: its card says {header.card['modality']}, its config {plan.spec.modality}, "
            "expected the same"
        )
    return build(header.card["architecture"], header.card["config"])


def _check_finite(path: Path, parameters: Mapping[str, Tensor]) -> None:
    import torch

    for name, value in parameters.items():
        if not bool(torch.isfinite(value).all()):
            raise WeightsError(
                f"{path}: the tensor {name!r} holds NaN or infinite weights, expected finite numbers"
            )
