"""The contract of corruptions, their composition, and shared physics.

A corruption is a frozen dataclass. Each field that text can set is annotated with a `Number` (unit and
domain) or a `Word` (choices), which construction, parsing and error messages read.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

import numpy as np
import torch
from torch import Tensor

from denoise.arrays import Array
from denoise.corruptions.levels import Level, Number, Word, format_value
from denoise.errors import InputError, UsageError


@dataclass(frozen=True)
class Corruption:
    """A seeded, physical degradation of a clean batch, for training, `corrupt` and `benchmark` alike.

    Subclasses are frozen dataclasses that implement `apply`. `name` is the row in `CORRUPTIONS`,
    `text_fields` are the fields that text can set, and `level` is the one that a benchmark sweeps, by default
    the first. `identity` is the level at which nothing happens; None if there is no such level.
    """

    name: ClassVar[str]
    modalities: ClassVar[tuple[str, ...]]
    level: ClassVar[str | None] = None
    identity: ClassVar[float | None] = 0.0
    text_fields: ClassVar[Mapping[str, Number | Word]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.text_fields = {
            field: mark
            for field, hint in get_type_hints(cls, include_extras=True).items()
            for mark in getattr(hint, "__metadata__", ())
            if isinstance(mark, Number | Word)
        }
        if cls.level is None:
            cls.level = next(iter(cls.text_fields), None)

    def __post_init__(self) -> None:
        for field, kind in self.text_fields.items():
            value = getattr(self, field)
            if value is not None:
                kind.check(f"{self.name}: {field}", value)

    def __call__(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        """Return a corrupted copy of a batch `(B, C, *S)`, in the same dtype and on the same device.

        Args:
            clean: Images in 0..1, audio in -1..1, sensors in their own units. NaN marks a gap, and stays.
            sample_rate: Hz; required by corruptions stated in Hz or seconds.

        Raises:
            UsageError: The corruption is not for this kind of signal, or it needs a sample rate.
        """
        self._check_input(clean)
        work = clean if clean.dtype in (torch.float32, torch.float64) else clean.float()
        if isinstance(self, TimedCorruption):
            corrupted = self.apply(work, generator, sample_rate)
        else:
            corrupted = self.apply(work, generator)
        return corrupted.masked_fill(work.isnan(), math.nan).to(clean.dtype)

    def apply(self, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Return the corrupted float32 or float64 batch as a new tensor; gaps may get any value."""
        raise NotImplementedError

    def level_for(self, _modality: str | None, /) -> str | None:
        """Return the field that a benchmark sweeps on signals of this modality."""
        return self.level

    def __str__(self) -> str:
        default = {field.name: field.default for field in dataclasses.fields(self)}
        values = {field: getattr(self, field) for field in self.text_fields}
        shown = [
            f"{field}={format_value(value)}"
            for field, value in values.items()
            if value is not None and (field == self.level or value != default[field])
        ]
        return f"{self.name}:{','.join(shown)}" if shown else self.name

    def _check_input(self, clean: Tensor) -> None:
        image = clean.ndim == 4
        if clean.ndim not in (3, 4) or not clean.is_floating_point():
            found = f"{str(clean.dtype).removeprefix('torch.')} {tuple(clean.shape)}"
            raise UsageError(f"{self.name}: expected a floating-point batch (B, C, *S), got {found}")
        if not any((modality == "image") == image for modality in self.modalities):
            kind = "an image" if image else "a signal"
            fit = " and ".join(self.modalities) or "no modality (its parts share none)"
            raise UsageError(f"{self} is for {fit}, not for {kind}")


@dataclass(frozen=True)
class TimedCorruption(Corruption):
    """A corruption that needs the sample rate, because a part of it is stated in Hz or seconds."""

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        """Return the corrupted batch as `Corruption.apply` does; `sample_rate` is in Hz."""
        raise NotImplementedError


@dataclass(frozen=True)
class Chain(TimedCorruption):
    """One corruption after another, as light passes lens, sensor and JPEG; `a+b` in text.

    It is for the modalities that all its parts share. A relative level, such as an SNR, refers to the output
    of the parts before it. Chains within chains are flattened.
    """

    name = "chain"
    identity = None
    parts: tuple[Corruption, ...]

    def __post_init__(self) -> None:
        flat = [p for part in self.parts for p in (part.parts if isinstance(part, Chain) else (part,))]
        if not flat:
            raise UsageError("a chain needs at least one corruption")
        object.__setattr__(self, "parts", tuple(flat))
        object.__setattr__(self, "modalities", _shared_modalities(self.parts))

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        for part in self.parts:
            clean = part(clean, generator, sample_rate)
        return clean

    def __str__(self) -> str:
        return "+".join(f"({part})" if isinstance(part, Choice) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Choice(TimedCorruption):
    """One of several corruptions for each item of the batch, by weight; `0.7*a|0.3*b` in text.

    Args:
        parts: The corruptions; the choice is for the modalities that all of them share.
        weights: Relative frequency of each; all equal by default.
    """

    name = "choice"
    identity = None
    parts: tuple[Corruption, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        parts = tuple(self.parts)
        weights = tuple(self.weights) or (1.0,) * len(parts)
        if not parts or len(weights) != len(parts):
            raise UsageError(f"a choice of {len(parts)} corruptions has {len(weights)} weights")
        if not all(0 <= w < math.inf for w in weights) or not sum(weights) > 0:
            raise UsageError(f"the weights {weights} of a choice must be finite and >= 0, and one > 0")
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "modalities", _shared_modalities(parts))

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        weights = torch.tensor(self.weights, dtype=torch.float64, device=generator.device)
        picks = torch.multinomial(weights, clean.shape[0], replacement=True, generator=generator)
        # Read all counts at once: each read from a GPU blocks.
        counts = torch.bincount(picks, minlength=len(self.parts)).tolist()
        order = picks.argsort(stable=True).to(clean.device)
        out = torch.empty_like(clean)
        for part, rows in zip(self.parts, torch.split(order, counts), strict=True):
            if rows.numel():
                out[rows] = part(clean[rows], generator, sample_rate)
        return out

    def __str__(self) -> str:
        parts = [f"({part})" if isinstance(part, Choice) else str(part) for part in self.parts]
        if all(weight == 1 for weight in self.weights) and len(parts) > 1:
            return "|".join(parts)
        return "|".join(
            f"{format_value(weight)}*{part}" for weight, part in zip(self.weights, parts, strict=True)
        )


def _shared_modalities(parts: tuple[Corruption, ...]) -> tuple[str, ...]:
    return tuple(m for m in parts[0].modalities if all(m in part.modalities for part in parts))


def with_level(corruption: Corruption, value: Level, modality: str | None = None) -> Corruption:
    """Return the corruption at another level, as a benchmark sweeps it.

    `modality` selects the level field of `gaussian`: `sigma` on images, `snr_db` on signals.

    Raises:
        UsageError: The corruption is a chain or a choice, which have no single level.
    """
    field = corruption.level_for(modality)
    if field is None:
        raise UsageError(f"{corruption} has no single level to sweep; give one corruption by name")
    changes: dict[str, Any] = {field: value}
    if corruption.level is not None and corruption.level != field:
        changes[corruption.level] = None
    return dataclasses.replace(corruption, **changes)


def variance(clean: Tensor) -> Tensor:
    """Return the variance `(B, C, 1, ...)` of each channel without gaps (NaN); 0 for an empty channel."""
    axes = tuple(range(2, clean.ndim))
    deviation = clean - clean.nanmean(axes, keepdim=True)
    return deviation.square_().nanmean(axes, keepdim=True).nan_to_num_(0.0)


def add_at_snr(clean: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise, scaled so that each channel has exactly the given signal-to-noise ratio.

    The signal's power is its variance, because an offset carries no signal. A constant channel gets no noise.
    """
    power = noise.square().mean(tuple(range(2, noise.ndim)), keepdim=True)
    wanted = variance(clean) * 10 ** (-snr_db / 10)
    gain = torch.where(power > 0, (wanted / power).sqrt(), 0.0)
    return clean + noise * gain


def fill_gaps(clean: Tensor) -> Tensor:
    """Replace gaps (NaN), which filters would spread, by the channel's mean."""
    if not bool(clean.isnan().any()):
        return clean
    mean = clean.nanmean(tuple(range(2, clean.ndim)), keepdim=True).nan_to_num(0.0)
    return torch.where(clean.isnan(), mean, clean)


def fast_length(minimum: int) -> int:
    """Return the first length from `minimum` with a fast Fourier transform: no prime factor above 5."""
    return next(length for length in itertools.count(minimum) if 30**32 % length == 0)


def sampling_rate(corruption: Corruption, sample_rate: float | None) -> float:
    """Return the sample rate, or raise a UsageError if there is none."""
    if sample_rate is None or not sample_rate > 0:
        raise UsageError(f"{corruption.name} is stated in Hz or seconds and needs the sample rate")
    return sample_rate


def corrupt(
    array: Array, corruption: Corruption, *, seed: int, peak: float | None, sample_rate: float | None = None
) -> Array:
    """Return a corrupted copy of an image or signal `(C, *S)` in its own dtype, rounded and clipped.

    Args:
        peak: Full-scale value (255, 65535, 1.0); None for a sensor's own units.
        sample_rate: Hz, for signals.

    Raises:
        InputError: The result has gaps (NaN), which the dtype cannot hold.
    """
    exact = array.dtype in (np.float64, np.int32, np.int64, np.uint32)  # more bits than float32 holds
    scale = 1.0 if peak is None else float(peak)
    clean = torch.from_numpy(array.astype(np.float64 if exact else np.float32))[None] / scale  # (1, C, *S)
    generator = torch.Generator().manual_seed(seed)
    noisy: Array = (corruption(clean, generator, sample_rate)[0] * scale).numpy()
    if not np.issubdtype(array.dtype, np.integer):
        return noisy.astype(array.dtype, copy=False)
    if np.isnan(noisy).any():
        raise InputError(f"{corruption} leaves gaps (NaN), which {array.dtype} samples cannot hold")
    limits = np.iinfo(array.dtype)
    top = limits.max if peak is None else min(limits.max, scale)
    return np.clip(np.rint(noisy), limits.min, top).astype(array.dtype)
