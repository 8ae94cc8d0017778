"""A loaded model with its name and card, ready for arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise.errors import InputError, UsageError
from denoise.infer.apply import apply
from denoise.infer.selection import Selection, Selector
from denoise.infer.stages import DEFAULT_BLOCK
from denoise.infer.stream import check_request
from denoise.models.base import Denoiser, InputSpec, SigmaDenoiser

__all__ = ["Cleaner"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Cleaner:
    """A denoiser, or a selector among several, ready for arrays.

    Args:
        name: The name or path it was loaded by.
        model: The denoiser or selector itself.
        digest: Differs between models that clean differently (see `CatalogueRow.digest`).
        card: The card of the weights file: recipe, data, measured metrics. Empty for classical methods.
        notes: Sentences for the user about how it runs on this machine.
    """

    name: str
    model: Denoiser | Selector
    digest: str
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> InputSpec:
        """Requirements of the model on its input."""
        return self.model.spec

    @property
    def takes_sigma(self) -> bool:
        """True if the model takes the noise standard deviation."""
        return isinstance(self.model, SigmaDenoiser)

    @property
    def selector(self) -> Selector | None:
        """Selector; None for a single denoiser."""
        return self.model if isinstance(self.model, Selector) else None

    @property
    def denoiser(self) -> Denoiser:
        """Single denoiser.

        Raises:
            UsageError: The cleaner selects a denoiser for each file.
        """
        if isinstance(self.model, Selector):
            raise UsageError(
                f"the model {self.name} selects another model once it has the whole image or recording; "
                "expected the name of a single model"
            )
        return self.model

    def apply(
        self,
        array: Array,
        *,
        peak: float | None,
        keep: int = 0,
        sample_rate: float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
    ) -> tuple[Array, Selection]:
        """Clean an array with the model selected for it; arguments as for `denoise.infer.apply.apply`."""
        cleaned = len(array) - keep
        options: dict[str, Any] = {"peak": peak, "keep": keep, "sample_rate": sample_rate, "sigma": sigma}
        if not (selector := self.selector):
            result = apply(self.denoiser, array, strength=strength, **options)
            return result, Selection(self.name)
        selection = selector.select(_blocks(array[:cleaned]), peak, array.shape[-1], sample_rate)
        while True:
            model = selector.models[selection.model]
            result = apply(model, array, strength=strength * selection.strength, **options)
            selection.preserve_texture(array[:cleaned], result[:cleaned])
            reason = selector.reject_reason(selection, array[:cleaned], result[:cleaned], peak)
            if not reason:
                break
            selection = selector.next_milder(selection, reason)
        return result, selection

    def clean(
        self,
        array: Array,
        sample_rate: float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
    ) -> Array:
        """Clean an image or a signal in memory; the array itself is not modified.

        Integers span their type's full scale (a sensor's signal: its own units). Float images are in 0..1,
        float audio in -1..1. The last of 2 or 4 channels of an image is alpha and is copied.

        Args:
            array: The noisy samples. In a sensor's signal NaN is a gap, and stays one.
            sample_rate: Hz, for signals; required by a model that has a rate of its own.
            strength: 1 is fully cleaned, 0 is the input.
            sigma: Noise standard deviation, for a model that uses it: images on the 8-bit scale, signals in
                their own units.

        Shape:
            Images `(H, W)` or `(H, W, C)`, signals `(T,)` or `(T, C)`; the result has the same shape and
            dtype.

        Raises:
            UsageError: The model cannot honour `strength`, `sigma` or `sample_rate`.
            InputError: The array is empty, of a wrong shape or type, or holds values that are not finite.
        """
        check_request(self.name, self.model, strength, sigma)
        spec = self.spec
        if spec.sample_rate is not None and sample_rate is None:
            raise UsageError(f"the model {self.name} works at {spec.sample_rate:g} Hz: give the sample_rate")
        noisy = np.asarray(array)
        _check_array(noisy, spec.ndim, self.name)
        has_channels = noisy.ndim == spec.ndim + 1
        planes = np.moveaxis(noisy, -1, 0) if has_channels else noisy[None]
        cleaned, _ = self.apply(
            planes,
            peak=_peak(noisy.dtype, spec.modality),
            keep=int(spec.ndim == 2 and len(planes) in (2, 4)),
            sample_rate=sample_rate,
            strength=strength,
            sigma=sigma,
        )
        return np.moveaxis(cleaned, 0, -1) if has_channels else cleaned[0]


def _blocks(array: Array) -> Iterable[Array]:
    """Yield an image whole, a signal block by block."""
    if array.ndim == 3:
        return [array]
    return (array[:, start : start + DEFAULT_BLOCK] for start in range(0, array.shape[-1], DEFAULT_BLOCK))


def _check_array(array: Array, ndim: int, name: str) -> None:
    shapes = "(H, W) or (H, W, C)" if ndim == 2 else "(T,) or (T, C)"
    if array.ndim not in (ndim, ndim + 1):
        raise InputError(f"the array has shape {array.shape}; the model {name} takes {shapes}")
    if array.dtype.kind not in "uif":
        raise InputError(f"the array is of type {array.dtype}; expected integers or floats")
    if not array.size:
        raise InputError(f"the array has shape {array.shape}: there is nothing to clean")


def _peak(dtype: np.dtype[Any], modality: str) -> float | None:
    """Return the full scale of an array that has no file."""
    if modality == "sensor":
        return None
    if dtype.kind == "f":
        return 1.0
    limits = np.iinfo(dtype)
    if modality == "image":
        return float(limits.max)
    return float((int(limits.max) - int(limits.min) + 1) // 2)
