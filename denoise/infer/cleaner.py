"""A loaded model with its name and card, ready for arrays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

from denoise.arrays import Array
from denoise.dsp.scale import sample_range
from denoise.errors import InputError, TooLargeError, UsageError
from denoise.infer.apply import apply, apply_stream, as_dtype, blend, zero_and_full_scale
from denoise.infer.containers import open_container
from denoise.infer.selection import PageSelector, Selection, Selector
from denoise.io.limits import require_memory
from denoise.io.sensor.survey import without_codes
from denoise.models.contract import InputSpec, Model, check_request

if TYPE_CHECKING:  # images may do without torch
    from denoise.infer.switch import AudioSelector
    from denoise.models.base import Denoiser

Samples = TypeVar("Samples")

_MAX_COLOURS = 4  # channels of a usual image
_MIN_RATIO = 4  # of the other axes to that of the channels, where the sizes tell it
_MAX_CHANNELS = 1024  # each has buffers of its own


@dataclass(frozen=True, repr=False)
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
    model: Model | Selector
    digest: str
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Cleaner {self.name}: cleans {self.spec.modality}>"

    @property
    def spec(self) -> InputSpec:
        """Requirements of the model on its input."""
        return self.model.spec

    @property
    def takes_sigma(self) -> bool:
        """True if the model takes the noise standard deviation."""
        return not isinstance(self.model, Selector) and self.model.takes_sigma

    def precision_of(self, selected: Iterable[str] = ()) -> str | None:
        """Return the arithmetic of the models of selections, by name; None if all are `none`."""
        if not self.selector:
            return _arithmetic(self._single)
        models = self.selector.models
        found = (_arithmetic(models[name]) for name in selected if name in models and name != "none")
        return " and ".join(dict.fromkeys(found)) or None

    @property
    def selector(self) -> Selector | None:
        """Selector; None for a single denoiser."""
        return self.model if isinstance(self.model, Selector) else None

    @property
    def denoiser(self) -> Denoiser:
        """Single denoiser, a module of torch.

        Raises:
            UsageError: The cleaner selects a denoiser for each file.
        """
        return cast("Denoiser", self._single)

    @property
    def _single(self) -> Model:
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
        selection: Selection | None = None,
    ) -> tuple[Array, Selection]:
        """Clean an array with the model selected for it; arguments as for `denoise.infer.apply.apply`.

        A selector takes the model of `selection`, if one is given, and only verifies its result.

        Black and white of an image are judged by its samples (`denoise.dsp.scale`), and three equal
        channels stay equal. Integers for which `none` is selected come back as they are, not as a copy: a
        page may be large.
        """
        options: dict[str, Any] = {"sample_rate": sample_rate, "sigma": sigma, "selection": selection}
        if not array.dtype.isnative or min(array.strides, default=0) < 0:  # torch has no such arrays
            native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
            result, selection = self.apply(native, peak=peak, keep=keep, strength=strength, **options)
            return result.astype(array.dtype, copy=False), selection
        cleaned = len(array) - keep
        if self.spec.ndim == 1 or strength == 0 or not array.size:
            return self._apply(array, peak, keep, strength, options)
        if _equal_channels(array[:cleaned]):
            gray = np.concatenate([array[:1], array[cleaned:]])
            result, selection = self._apply_image(gray, peak, keep, strength, options)
            if result is gray:
                return array, selection
            same = np.broadcast_to(result[0], (3, *result.shape[1:]))  # no copy: a page may be large
            return np.concatenate([same, result[1:]]), selection
        return self._apply_image(array, peak, keep, strength, options)

    def select(self, image: Array, peak: float | None) -> Selection:
        """Select the model for an image `(C, H, W)` without alpha; it may be dropped once it has run."""
        image = image[:1] if _equal_channels(image) else image
        black, white = sample_range(image, peak)
        if not isinstance(self.model, PageSelector):
            return Selection(self.name)
        return self.model.select(image - black if black else image, white - black)

    def _apply_image(
        self, array: Array, peak: float | None, keep: int, strength: float, options: Mapping[str, Any]
    ) -> tuple[Array, Selection]:
        """Clean an image between its black and white."""
        colours = array[: len(array) - keep]
        black, white = sample_range(colours, peak)
        if black:  # then without alpha: its samples are not negative
            shifted, selection = self._apply(colours - black, white - black, 0, strength, options)
            result = np.empty_like(array, subok=False)
            result[...] = array
            result[: len(colours)] = as_dtype(array.dtype, shifted + black)
            return result, selection
        result, selection = self._apply(array, white, keep, strength, options)
        if array.dtype.kind != "f" and array.dtype != np.uint8 and selection.model != "none":
            part = result[: len(colours)]
            np.clip(part, min(0, int(colours.min())), max(int(white), int(colours.max())), out=part)
        return result, selection

    def _apply(
        self, array: Array, peak: float | None, keep: int, strength: float, options: Mapping[str, Any]
    ) -> tuple[Array, Selection]:
        selector = self.model
        if isinstance(selector, Selector) and not isinstance(selector, PageSelector):
            zero, full = zero_and_full_scale(array, peak)
            stream = cast("AudioSelector", selector).stream(
                len(array), options["sample_rate"], strength, zero, full
            )
            cleaned = np.empty_like(array, subok=False)
            apply_stream(stream, array, cleaned)
            return cleaned, stream.selection
        options = {"peak": peak, "keep": keep, **options}
        given: Selection | None = options.pop("selection")
        if not isinstance(selector, PageSelector):
            return apply(self._single, array, strength=strength, **options), Selection(self.name)
        noisy = array[: len(array) - keep]
        selection = given or selector.select(noisy, peak)
        if selection.model == "none" and array.dtype.kind in "iu":
            return array, selection
        repaired = selector.repair(selection, noisy, peak)
        source = array if repaired is noisy else np.concatenate([repaired, array[len(noisy) :]])
        name = ""
        while True:
            if selection.model != name:
                name = selection.model
                result = apply(selector.denoiser(selection), source, **options)
            reason = selector.reject_reason(selection, repaired, result[: len(noisy)], peak)
            if not reason:
                break
            selection = selector.next_milder(selection, reason)
        selection.preserve_texture(repaired, result[: len(noisy)])
        if name == "none":
            return blend(array, result, 0.0), selection
        selection = selector.name_repair(selection, noisy, repaired, peak)
        return blend(array, blend(source, result, selection.strength), strength), selection

    def clean(
        self,
        array: Samples,
        sample_rate: float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
        channel_axis: int | None = None,
    ) -> Samples:
        """Clean an image or a signal in memory; the samples themselves are not modified.

        What goes in comes back as the same type: arrays of numpy, tensors of torch (on their device, in their
        dtype), pictures of Pillow, arrays of xarray, and frames and series of pandas and polars.

        Black and white of an image are judged by its samples: 0..255 may be of any type, 12 bits in 16, and
        floats in 0..1. Integers of audio span their type's full scale, floats are in -1..1; a sensor's signal
        has its own units. The last of 2 or 4 channels of an image is alpha and is copied.

        Args:
            array: The noisy samples. In a sensor's signal NaN is a gap, and stays one; so is a masked value,
                which stays masked, and a number that
                loggers store for a missing value, such as -999 or 9999, if it is far from all others.
            sample_rate: Hz, for signals; required by a model that has a rate of its own, unless a frame or
                series has stamps.
            strength: 1 is fully cleaned, 0 is the input.
            sigma: Noise standard deviation, for a model that uses it: images on the 8-bit scale, signals in
                their own units.
            channel_axis: Axis of the channels, 0 or -1; None finds it by the sizes: a few channels stand
                beside many pixels or samples. A table with named columns has them last; a model of sensors
                cleans those that `denoise clean` would clean.

        Shape:
            Images `(H, W)`, `(H, W, C)` or `(C, H, W)`, signals `(T,)`, `(T, C)` or `(C, T)`; the result has
            the same shape and dtype.

        Raises:
            UsageError: The model cannot honour `strength`, `sigma` or `sample_rate`.
            InputError: The array is empty, of a wrong or ambiguous shape or type, or holds values that are
                not finite.
            TooLargeError: It has too many channels, or needs more memory than is available.
        """
        check_request(self.name, self.model, strength, sigma)
        spec = self.spec
        noisy, restore, known_axis, known_rate, _ = open_container(array, spec.modality)
        sample_rate = known_rate if sample_rate is None else sample_rate
        if spec.sample_rate is not None and sample_rate is None:
            raise UsageError(f"the model {self.name} works at {spec.sample_rate:g} Hz: give the sample_rate")
        _check_array(noisy, spec.ndim, self.name)
        if spec.modality != "sensor" and np.ma.is_masked(array):
            raise InputError(
                f"the array has masked values, and the model {self.name} needs all; give array.filled(value)"
            )
        has_channels = noisy.ndim == spec.ndim + 1
        if has_channels and channel_axis is None:
            channel_axis = _channel_axis(noisy.shape) if known_axis is None else known_axis
        if channel_axis not in (None, 0, -1, spec.ndim):
            raise UsageError(f"channel_axis is {channel_axis}; expected 0, -1 or None")
        axis = channel_axis or 0
        planes = np.moveaxis(noisy, axis, 0) if has_channels else noisy[None]
        if len(planes) > _MAX_CHANNELS:
            raise TooLargeError(
                f"the array has shape {noisy.shape}: {len(planes)} channels, expected {_MAX_CHANNELS} at most"
            )
        # The result and a plane in floats, the least that any model takes
        require_memory(noisy.nbytes + 4 * planes[0].size, f"the array of shape {noisy.shape} ")
        if spec.ndim == 2 and noisy.dtype.kind == "f":
            _check_magnitude(planes)
        known = without_codes(planes) if spec.modality == "sensor" else planes
        cleaned, _ = self.apply(
            known,
            peak=_peak(noisy.dtype, spec.modality),
            keep=int(spec.ndim == 2 and len(planes) in (2, 4)),
            sample_rate=sample_rate,
            strength=strength,
            sigma=sigma,
        )
        if cleaned is known:
            cleaned = known.copy()
        if known is not planes:
            cleaned = as_dtype(noisy.dtype, np.where(np.isnan(cleaned), planes, cleaned))
        return restore(np.moveaxis(cleaned, 0, axis) if has_channels else cleaned[0])


def _arithmetic(model: Model) -> str:
    """Return the precision of a model, and what runs it unless that is torch."""
    return model.precision if model.runtime == Model.runtime else f"{model.precision} ({model.runtime})"


def _channel_axis(shape: tuple[int, ...]) -> int:
    """Find the axis of the channels, the first or the last: it is far shorter than the others."""
    first, *middle, last = shape
    longest = min([max(first, last), *middle])
    is_short = [size == 1 or size * _MIN_RATIO < longest for size in (first, last)]
    if middle:
        is_short = [
            short or size <= _MAX_COLOURS for short, size in zip(is_short, (first, last), strict=True)
        ]
    if is_short[0] != is_short[1]:
        return 0 if is_short[0] else -1
    if is_short == [True, True] and not middle:  # a single sample of several channels, or the reverse
        return -1 if last == 1 else 0
    kind = "height x width" if middle else "samples"
    as_last, as_first = " x ".join(map(str, shape[:-1])), " x ".join(map(str, shape[1:]))
    raise InputError(
        f"the array has shape {shape}: {last} channels of {as_last} {kind}, or {first} channels of "
        f"{as_first}; give channel_axis, -1 or 0"
    )


def _equal_channels(image: Array) -> bool:
    """Tell whether an image `(C, H, W)` is gray, stored as RGB."""
    if len(image) != 3 or not all(np.array_equal(image[0, 0], other[0]) for other in image[1:]):
        return False  # most colour images differ in their first row
    return all(np.array_equal(image[0], other) for other in image[1:])


def _check_array(array: Array, ndim: int, name: str) -> None:
    shapes = "(H, W), (H, W, C) or (C, H, W)" if ndim == 2 else "(T,), (T, C) or (C, T)"
    if array.ndim not in (ndim, ndim + 1):
        raise InputError(f"the array has shape {array.shape}; the model {name} takes {shapes}")
    if array.dtype.kind not in "uif":
        raise InputError(f"the array is of type {array.dtype}; expected integers or floats")
    if not array.size:
        raise InputError(f"the array has shape {array.shape}: there is nothing to clean")


def _check_magnitude(image: Array) -> None:
    largest = float(max(np.fmax.reduce(image, axis=None), -np.fmin.reduce(image, axis=None)))
    if float(np.finfo(np.float32).max) < largest < float("inf"):
        raise InputError(f"a sample has the magnitude {largest:.3g}; expected a number that float32 holds")


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
