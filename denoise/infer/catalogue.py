"""The models that can be named, and what is known of them without loading any."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import denoise
from denoise import weights
from denoise.errors import UsageError
from denoise.models import AUDIO_PICKS, AUTO, AUTO_PICKS, DEFAULT_MODELS, LIVE_MODEL, MODELS
from denoise.registry import unknown

__all__ = ["CatalogueRow", "catalogue", "find", "for_modality"]


@dataclass(frozen=True)
class CatalogueRow:
    """One model.

    Args:
        name: What `--model` takes.
        modalities: What it cleans.
        path: Its weights file; None for a classical method, which has none.
        card: What its weights file says of itself.
        picks: The weights files among which it chooses for each file.
    """

    name: str
    modalities: tuple[str, ...]
    path: Path | None = None
    card: dict[str, Any] = field(default_factory=dict)
    picks: tuple[Path, ...] = ()

    @property
    def kind(self) -> str:
        """Whether it was trained, or chooses among those that were."""
        return "automatic" if self.picks else "learned" if self.path else "classical"

    @property
    def size_bytes(self) -> int:
        """Size of the weights file; 0 without one."""
        return self.path.stat().st_size if self.path else 0

    @property
    def digest(self) -> str:
        """What changes when its results may: the weights, or the version of the package that computes it."""
        if self.picks:
            return f"{self.name}:{'+'.join(map(weights.digest, self.picks))}:{denoise.__version__}"
        return weights.digest(self.path) if self.path else f"builtin:{self.name}:{denoise.__version__}"


def catalogue() -> list[CatalogueRow]:
    """Everything that ships: learned models first."""
    learned = [_learned(name, path) for name, path in weights.pretrained().items()]
    return [_automatic(), *learned] + [CatalogueRow(name, tuple(row)) for name, row in MODELS.items()]


def find(name: str) -> CatalogueRow:
    """The model of that name, or in that weights file.

    Raises:
        UsageError: There is neither.
        WeightsError: The file is there, but of another format or version.
    """
    if name == AUTO:
        return _automatic()
    if name in MODELS:
        return CatalogueRow(name, tuple(MODELS[name]))
    shipped = weights.pretrained()
    if name in shipped:
        return _learned(name, shipped[name])
    if Path(name).exists():
        return _learned(name, Path(name))
    if Path(name).suffix == ".safetensors":
        raise UsageError(f"{name}: no such weights file")
    raise unknown("model", name, [AUTO, *MODELS, *shipped])


def for_modality(name: str | None, modality: str) -> CatalogueRow:
    """The model `name`, or the default one of a modality.

    Raises:
        UsageError: It is for other modalities.
    """
    row = find(name or DEFAULT_MODELS[modality])
    if modality not in row.modalities:
        raise UsageError(f"model {row.name!r} cleans {' and '.join(row.modalities)}, not {modality}")
    return row


def _automatic() -> CatalogueRow:
    names = (*AUTO_PICKS, *AUDIO_PICKS, LIVE_MODEL)
    shipped = {name: path for name, path in weights.pretrained().items() if name in names}
    picks = [name for name in shipped if name != LIVE_MODEL]
    return CatalogueRow(
        AUTO, ("image", "audio"), card={"picks": [*picks, "audio", "none"]}, picks=tuple(shipped.values())
    )


def _learned(name: str, path: Path) -> CatalogueRow:
    card = weights.card(path)
    return CatalogueRow(name, (card["modality"],), path, card)
