"""Contract of automatic selection: a model for each image or recording."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import partial

from denoise.arrays import Array
from denoise.models.contract import InputSpec, Model


@dataclass(frozen=True)
class Selection:
    """The model for one image or recording, and why."""

    model: str  # name of the model; `none` leaves the input as it is
    strength: float = 1.0  # share of the model's correction to apply
    reason: str = ""  # a sentence for the user; empty if there was no choice
    # models that were tried before it, and whose results were rejected
    dropped: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def figures(self) -> dict[str, float]:
        """The measurements the selection is based on: the numbers among the fields that a subclass adds."""
        added = {field.name: getattr(self, field.name) for field in fields(self)[len(fields(Selection)) :]}
        return {name: value for name, value in added.items() if isinstance(value, float)}

    @property
    def sigma(self) -> float | None:
        """Noise of an image in 8-bit units; None if it was not measured."""
        return None

    def preserve_texture(self, _noisy: Array, _cleaned: Array, /) -> None:
        """Restore to `cleaned`, in place, the texture that the model removed along with the noise."""


class ModelsAtUse(Mapping[str, Model]):
    """Models by name, some built when they are used first: their libraries take a while to load.

    Args:
        models: Each a model, or what builds it.
    """

    def __init__(self, models: Mapping[str, Model | partial[Model]]) -> None:
        self._models = dict(models)

    def __getitem__(self, name: str) -> Model:
        model = self._models[name]
        if isinstance(model, partial):
            model = self._models[name] = model()
        return model

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


class Selector:
    """Several models, of which one is selected for each image, or for each passage of a recording."""

    spec: InputSpec

    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = models


class PageSelector(Selector, ABC):
    """Selects one of its models for each image."""

    @abstractmethod
    def select(self, page: Array, peak: float | None) -> Selection:
        """Select the model for an image `(C, H, W)` without alpha, whose full scale is `peak`."""

    def repair(self, _selection: Selection, noisy: Array, _peak: float | None, /) -> Array:
        """Return the input without single bad samples, or the input itself."""
        return noisy

    def name_repair(
        self, selection: Selection, _noisy: Array, _repaired: Array, _peak: float | None, /
    ) -> Selection:
        """Return the selection whose reason names what `repair` replaced."""
        return selection

    def denoiser(self, selection: Selection, /) -> Model:
        """Return the model of a selection."""
        return self.models[selection.model]

    def reject_reason(
        self, _selection: Selection, _before: Array, _after: Array, _peak: float | None, /
    ) -> str:
        """Return why the whole correction (third) of an input (second) is bad; empty if it is not."""
        return ""

    def next_milder(self, selection: Selection, _reason: str, /) -> Selection:
        """Return what to try after a selection that was rejected for a reason."""
        return selection
