"""One weights file: a `.safetensors` with a JSON header that rebuilds the model. Nothing in it can run."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from denoise.errors import WeightsError
from denoise.io.atomic import replacing
from denoise.registry import lookup

if TYPE_CHECKING:
    from denoise.models.base import Denoiser

__all__ = ["ARCHITECTURES", "FORMAT", "annotate", "build", "card", "digest", "load", "pretrained", "save"]

FORMAT = 1  # raised when a file of an older kind can no longer be read

# What builds a learned model from the keywords of its config.
ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "autoencoder": "denoise.models.autoencoder:build",
        "spectral-gru": "denoise.models.audio:build",
    }
)

_HEADER_LIMIT = 10_000_000  # bytes; a header says how long it is, and need not be believed


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
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= length <= min(size - 8, _HEADER_LIMIT):
                raise WeightsError(
                    f"{path}: is not a weights file, expected .safetensors made by denoise train"
                )
            header = json.loads(file.read(length))
            text = header["__metadata__"]["denoise"]
            found: dict[str, Any] = json.loads(text)
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}), expected a weights file") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path}: has no denoise header, expected .safetensors made by denoise train"
        ) from error
    if found.get("format") != FORMAT:
        raise WeightsError(f"{path}: has weights format {found.get('format')!r}, expected {FORMAT}")
    return found


def save(
    path: str | Path, model: Denoiser, *, name: str, architecture: str, facts: Mapping[str, Any]
) -> None:
    """Write a model and its card; `facts` is what the card tells beyond the model (recipe, results, data).

    Weights are stored in half precision: half the bytes, and an error far below what the network leaves.
    """
    from safetensors.torch import save as to_bytes

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
    _write(Path(path), to_bytes(parameters), header)


def annotate(path: str | Path, facts: Mapping[str, Any]) -> None:
    """Add to the card of a weights file what was learned after training: measured results, limits."""
    path = Path(path)
    _write(path, path.read_bytes(), {**card(path), **facts})


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
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from denoise.errors import UsageError

    path = Path(path)
    found = card(path)
    try:
        parameters = load_file(path)
        model = build(found["architecture"], found["config"])
        model.load_state_dict({key: value.float() for key, value in parameters.items()})
    except (SafetensorError, UsageError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: the weights do not fit the model they name: {reason}") from error
    if not all(bool(torch.isfinite(value).all()) for value in parameters.values()):
        raise WeightsError(f"{path}: holds NaN or infinite weights, expected finite numbers")
    return model.eval().requires_grad_(False), found
