"""What every corruption shares: levels that are fixed or drawn, composition, and the text form.

A corruption is a frozen dataclass. Each field that text can set is annotated with what it means (`Number`:
unit and domain; `Word`: choices); construction, parsing and error messages all read it there.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, get_type_hints

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoise.errors import InputError, UsageError
from denoise.registry import lookup

__all__ = [
    "CORRUPTIONS",
    "Chain",
    "Choice",
    "Corruption",
    "Fraction",
    "Level",
    "Number",
    "RandomLevel",
    "SnrDb",
    "Word",
    "add_at_snr",
    "corrupt",
    "draw",
    "draw_log",
    "fast_length",
    "fill_gaps",
    "normal",
    "parse",
    "sampling_rate",
    "uniform",
    "variance",
    "with_level",
]

CORRUPTIONS: Mapping[str, str] = MappingProxyType(
    {
        "gaussian": "denoise.corruptions.general:Gaussian",
        "poisson-gaussian": "denoise.corruptions.general:PoissonGaussian",
        "salt-pepper": "denoise.corruptions.general:SaltPepper",
        "speckle": "denoise.corruptions.general:Speckle",
        "quantise": "denoise.corruptions.general:Quantise",
        "dropout": "denoise.corruptions.general:Dropout",
        "camera": "denoise.corruptions.camera:Camera",
        "in-camera": "denoise.corruptions.in_camera:InCamera",
        "film-grain": "denoise.corruptions.in_camera:FilmGrain",
        "correlated": "denoise.corruptions.image:Correlated",
        "gaussian-blur": "denoise.corruptions.blur:GaussianBlur",
        "defocus": "denoise.corruptions.blur:Defocus",
        "motion-blur": "denoise.corruptions.blur:MotionBlur",
        "jpeg": "denoise.corruptions.image:Jpeg",
        "scanner": "denoise.corruptions.image:Scanner",
        "white": "denoise.corruptions.audio:White",
        "pink": "denoise.corruptions.audio:Pink",
        "brown": "denoise.corruptions.audio:Brown",
        "coloured": "denoise.corruptions.audio:Coloured",
        "hum": "denoise.corruptions.audio:Hum",
        "clip": "denoise.corruptions.audio:Clip",
        "background": "denoise.corruptions.audio:Background",
        "reverb": "denoise.corruptions.audio:Reverb",
        "band-limit": "denoise.corruptions.audio:BandLimit",
        "baseline": "denoise.corruptions.sensor:Baseline",
        "drift": "denoise.corruptions.sensor:Drift",
        "spikes": "denoise.corruptions.sensor:Spikes",
        "impulses": "denoise.corruptions.sensor:Impulses",
        "rails": "denoise.corruptions.sensor:Rails",
        "mixture": "denoise.corruptions.sensor:Mixture",
        "stuck": "denoise.corruptions.sensor:Stuck",
    }
)


# ---- levels ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RandomLevel:
    """A level drawn uniformly from `low` to `high`, anew for each item of a batch; `low..high` in text."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise UsageError(f"the range {self} must go from a finite number up to another")

    def __str__(self) -> str:
        return f"{_format(self.low)}..{_format(self.high)}"


Level = float | RandomLevel


@dataclass(frozen=True)
class Number:
    """What the numbers of a field mean; it annotates the field: `Annotated[Level, Number("dB")]`.

    Args:
        unit: For error messages.
        low: The least value that makes sense.
        high: The greatest.
        fixed: One number for the whole batch: a range is refused.
    """

    unit: str
    low: float = -math.inf
    high: float = math.inf
    fixed: bool = False

    def check(self, field: str, value: Any) -> None:
        """Raise a UsageError unless `value` is within the domain."""
        if isinstance(value, RandomLevel) and self.fixed:
            raise UsageError(f"{field} takes one number, not the range {value}")
        if isinstance(value, bool) or not isinstance(value, int | float | RandomLevel):
            raise UsageError(f"{field}={value!r} is not a number")
        ends = (value.low, value.high) if isinstance(value, RandomLevel) else (value,)
        if not all(self.low <= end <= self.high for end in ends):
            span = f"{_format(self.low)} to {_format(self.high)} {self.unit}"
            raise UsageError(f"{field}={_format(value)} is outside {span}")

    def read(self, field: str, text: str) -> Level:
        """The number or range that `text` states."""
        low, dots, high = text.partition("..")
        try:
            return RandomLevel(float(low), float(high)) if dots else float(low)
        except ValueError:
            raise UsageError(
                f"{field}={text} is neither a number nor a range low..high ({self.unit})"
            ) from None

    def __str__(self) -> str:
        return self.unit


@dataclass(frozen=True)
class Word:
    """Annotates a field that holds a word: one of `choices`, or any text where there are none."""

    choices: tuple[str, ...] = ()

    def check(self, field: str, value: Any) -> None:
        """Raise a UsageError unless `value` is one of the choices."""
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            raise UsageError(f"{field}={value} is not {' or '.join(self.choices) or 'text'}")

    def read(self, field: str, text: str) -> str:  # noqa: ARG002
        """The text without the double quotes around it; a doubled quote within stands for one."""
        return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text

    def __str__(self) -> str:
        return "|".join(self.choices) or "text"


SnrDb = Annotated[Level, Number("dB", -200)]
Fraction = Annotated[Level, Number("of 1", 0, 1)]


def draw(level: Level, clean: Tensor, generator: torch.Generator) -> Tensor:
    """The level of each item of `clean`.

    Shape:
        `(B, 1, ..., 1)`: it broadcasts against `clean`.
    """
    shape = (clean.shape[0],) + (1,) * (clean.ndim - 1)
    if isinstance(level, RandomLevel):
        return uniform(shape, clean, generator).mul_(level.high - level.low).add_(level.low)
    return torch.full(shape, level, dtype=clean.dtype, device=clean.device)


def draw_log(level: Level, clean: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the level of each item as `draw` does, but log-uniformly: each octave of a range is as likely."""
    if not isinstance(level, RandomLevel):
        return draw(level, clean, generator)
    return draw(RandomLevel(math.log(level.low), math.log(level.high)), clean, generator).exp_()


# The draws happen on the generator's device, so a seed means the same noise wherever the signal lives.


def normal(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator) -> Tensor:
    """Independent N(0, 1) draws in the dtype and on the device of `like`."""
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def uniform(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator) -> Tensor:
    """Independent draws from `[0, 1)` in the dtype and on the device of `like`."""
    drawn = torch.rand(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


# ---- the contract ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Corruption:
    """A seeded, physical degradation of a clean batch, for training, `corrupt` and `benchmark` alike.

    Subclasses are frozen dataclasses that implement `apply`. `name` is the row in `CORRUPTIONS`, `modalities`
    what it makes sense for, `level` the field that a benchmark sweeps, and `identity` the value of that field
    at which nothing happens (None where there is no such value). `text_fields` are those that text can set.
    """

    name: ClassVar[str]
    modalities: ClassVar[tuple[str, ...]]
    level: ClassVar[str | None] = None
    identity: ClassVar[float | None] = None
    text_fields: ClassVar[Mapping[str, Number | Word]]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.text_fields = {
            field: mark
            for field, hint in get_type_hints(cls, include_extras=True).items()
            for mark in getattr(hint, "__metadata__", ())
            if isinstance(mark, Number | Word)
        }

    def __post_init__(self) -> None:
        for field, kind in self.text_fields.items():
            value = getattr(self, field)
            if value is not None:
                kind.check(f"{self.name}: {field}", value)

    def __call__(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None = None) -> Tensor:
        """Corrupt a batch; `clean` is left as it is.

        Args:
            clean: Images in 0..1, audio in -1..1, sensors in their own units. NaN marks a gap, and stays.
            generator: All randomness comes from here.
            sample_rate: Hz; only what is stated in Hz or seconds needs it.

        Shape:
            `(B, C, *S)` in and out, same dtype and device.

        Raises:
            UsageError: The corruption is not for this kind of signal, or it needs a sample rate.
        """
        self._check_input(clean)
        work = clean if clean.dtype in (torch.float32, torch.float64) else clean.float()
        corrupted = self.apply(work, generator, sample_rate)
        return corrupted.masked_fill(work.isnan(), math.nan).to(clean.dtype)

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:
        """The corruption itself, on float32 or float64: a new tensor, in which gaps need not be kept."""
        raise NotImplementedError

    def level_for(self, modality: str | None) -> str | None:  # noqa: ARG002
        """The field that a benchmark sweeps on signals of this modality."""
        return self.level

    def __str__(self) -> str:
        default = {field.name: field.default for field in dataclasses.fields(self)}
        values = {field: getattr(self, field) for field in self.text_fields}
        shown = [
            f"{field}={_format(value)}"
            for field, value in values.items()
            if value is not None and (field == self.level or value != default[field])
        ]
        return f"{self.name}:{','.join(shown)}" if shown else self.name

    def _check_input(self, clean: Tensor) -> None:
        image = clean.ndim == 4
        if clean.ndim not in (3, 4) or not clean.is_floating_point():
            found = f"{str(clean.dtype).removeprefix('torch.')} {tuple(clean.shape)}"
            raise UsageError(f"{self.name}: a floating-point batch (B, C, *S) was expected, not {found}")
        if not any((modality == "image") == image for modality in self.modalities):
            kind = "an image" if image else "a signal"
            fit = " and ".join(self.modalities) or "nothing that all its parts share"
            raise UsageError(f"{self} is for {fit}, not for {kind}")


@dataclass(frozen=True)
class Chain(Corruption):
    """One corruption after another, as light passes lens, sensor and JPEG; `a+b` in text.

    It is for the modalities that all its parts share. A level that is relative to the signal, such as an SNR,
    is relative to what the parts before it made. Chains within chains are flattened.
    """

    name = "chain"
    parts: tuple[Corruption, ...]

    def __post_init__(self) -> None:
        flat = [p for part in self.parts for p in (part.parts if isinstance(part, Chain) else (part,))]
        if not flat:
            raise UsageError("a chain needs at least one corruption")
        object.__setattr__(self, "parts", tuple(flat))
        object.__setattr__(self, "modalities", _shared_modalities(self.parts))

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:
        for part in self.parts:
            clean = part(clean, generator, sample_rate)
        return clean

    def __str__(self) -> str:
        return "+".join(f"({part})" if isinstance(part, Choice) else str(part) for part in self.parts)


@dataclass(frozen=True)
class Choice(Corruption):
    """One of several corruptions for each item of the batch, by weight; `0.7*a|0.3*b` in text.

    Args:
        parts: What to choose from; it is for the modalities that all of them share.
        weights: How often each is taken, in any scale; all alike where none are given.
    """

    name = "choice"
    parts: tuple[Corruption, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        parts = tuple(self.parts)
        weights = tuple(self.weights) or (1.0,) * len(parts)
        if not parts or len(weights) != len(parts):
            raise UsageError(f"a choice of {len(parts)} corruptions has {len(weights)} weights")
        if not all(0 <= w < math.inf for w in weights) or not sum(weights) > 0:
            raise UsageError(f"the weights {weights} of a choice must be at least 0, and one of them above")
        object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "modalities", _shared_modalities(parts))

    def apply(self, clean: Tensor, generator: torch.Generator, sample_rate: float | None) -> Tensor:
        weights = torch.tensor(self.weights, dtype=torch.float64, device=generator.device)
        picks = torch.multinomial(weights, clean.shape[0], replacement=True, generator=generator)
        # How many each part gets is asked once, for the answer of a GPU has to be waited for.
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
        return "|".join(f"{_format(weight)}*{part}" for weight, part in zip(self.weights, parts, strict=True))


def _shared_modalities(parts: tuple[Corruption, ...]) -> tuple[str, ...]:
    return tuple(m for m in parts[0].modalities if all(m in part.modalities for part in parts))


def with_level(corruption: Corruption, value: Level, modality: str | None = None) -> Corruption:
    """The same corruption at another level, as a benchmark sweeps it.

    Args:
        corruption: One row; a chain or a choice has no one level.
        value: In the unit of its level field.
        modality: Where the field depends on it: `gaussian` takes `sigma` on images, `snr_db` on signals.

    Raises:
        UsageError: It has no level to sweep.
    """
    field = corruption.level_for(modality)
    if field is None:
        raise UsageError(f"{corruption} has no single level to sweep; give one corruption by name")
    changes: dict[str, Any] = {field: value}
    if corruption.level is not None and corruption.level != field:
        changes[corruption.level] = None
    return dataclasses.replace(corruption, **changes)


# ---- text ------------------------------------------------------------------------------------------------


def parse(text: str) -> Corruption:
    """A corruption from its text form; `str` gives the text back.

    `gaussian:sigma=25` sets fields, `gaussian:sigma=0..55` draws one for each item, `+` chains, `|` chooses
    (with weights: `0.7*a|0.3*b`), parentheses group, and double quotes protect a path with such signs in it.

    Raises:
        UsageError: An unknown corruption or field, or a value that is no number or out of its domain.

    >>> str(parse("gaussian:sigma=0..55 + jpeg:quality=50"))
    'gaussian:sigma=0..55+jpeg:quality=50'
    """
    choices = _split(text, "|")
    if len(choices) == 1 and not _WEIGHT.match(text):
        return _parse_chain(text)
    weights, parts = [], []
    for choice in choices:
        weight = _WEIGHT.match(choice)
        weights.append(float(weight[1]) if weight else 1.0)
        parts.append(_parse_chain(choice[weight.end() :] if weight else choice))
    return Choice(tuple(parts), tuple(weights))


_WEIGHT = re.compile(r"\s*(\d+\.?\d*(?:e-?\d+)?|\.\d+)\s*\*", re.IGNORECASE)


def _parse_chain(text: str) -> Corruption:
    parts = tuple(_parse_one(piece.strip()) for piece in _split(text, "+"))
    return parts[0] if len(parts) == 1 else Chain(parts)


def _parse_one(text: str) -> Corruption:
    if text.startswith("(") and text.endswith(")"):
        return parse(text[1:-1])
    name, _, rest = text.partition(":")
    kind: type[Corruption] = lookup(CORRUPTIONS, name.strip(), "corruption")
    known = kind.text_fields
    values: dict[str, Any] = {}
    for item in _split(rest, ",") if rest.strip() else []:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value:
            raise UsageError(f"{name}: {item.strip()!r} is not of the form field=value; {_describe(kind)}")
        if key not in known:
            near = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"{name} has no field {key!r}{hint}; {_describe(kind)}")
        if key in values:
            raise UsageError(f"{name}: {key} is given twice")
        values[key] = known[key].read(f"{kind.name}: {key}", value)
    return kind(**values)


def _split(text: str, mark: str) -> list[str]:
    """Cut at each `mark` that stands outside quotes and parentheses."""
    pieces, depth, quoted, start = [], 0, False, 0
    for index, sign in enumerate(text):
        if sign == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif sign in "()":
            depth += 1 if sign == "(" else -1
            if depth < 0:
                break
        elif sign == mark and depth == 0:
            pieces.append(text[start:index])
            start = index + 1
    if quoted or depth:
        raise UsageError(f"{text!r} has a {'quote' if quoted else 'parenthesis'} without its partner")
    return [*pieces, text[start:]]


def _describe(kind: type[Corruption]) -> str:
    return f"its fields: {', '.join(f'{field} ({mark})' for field, mark in kind.text_fields.items())}"


def _format(value: Any) -> str:
    if isinstance(value, RandomLevel):
        return str(value)
    if isinstance(value, str):
        return f'"{value.replace(chr(34), chr(34) * 2)}"' if re.search(r'[+|,()"\s]', value) else value
    # repr round-trips; its "1e+16" would be cut at the plus.
    return repr(float(value)).removesuffix(".0").replace("e+", "e")


# ---- shared physics --------------------------------------------------------------------------------------


def variance(clean: Tensor) -> Tensor:
    """The variance of each channel about its mean, gaps (NaN) left out; 0 where there is nothing.

    Shape:
        `(B, C, 1, ...)`.
    """
    axes = tuple(range(2, clean.ndim))
    deviation = clean - clean.nanmean(axes, keepdim=True)
    return deviation.square_().nanmean(axes, keepdim=True).nan_to_num_(0.0)


def add_at_snr(clean: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """`clean` plus `noise` scaled so that each channel has exactly this signal-to-noise ratio.

    The signal's power is its variance: an offset says nothing about how loud the signal is.
    A constant channel has none, and gets no noise.
    """
    power = noise.square().mean(tuple(range(2, noise.ndim)), keepdim=True)
    wanted = variance(clean) * 10 ** (-snr_db / 10)
    gain = torch.where(power > 0, (wanted / power).sqrt(), 0.0)
    return clean + noise * gain


def fill_gaps(clean: Tensor) -> Tensor:
    """`clean` with each gap (NaN) held at the channel's mean, for filters that would spread it."""
    if not bool(clean.isnan().any()):
        return clean
    mean = clean.nanmean(tuple(range(2, clean.ndim)), keepdim=True).nan_to_num(0.0)
    return torch.where(clean.isnan(), mean, clean)


def fast_length(least: int) -> int:
    """The next length from `least` on that a Fourier transform is fast at: no prime factor above 5."""
    return next(length for length in itertools.count(least) if 30**32 % length == 0)


def sampling_rate(corruption: Corruption, sample_rate: float | None) -> float:
    """`sample_rate`, or a clear error where a corruption stated in Hz or seconds got none."""
    if sample_rate is None or not sample_rate > 0:
        raise UsageError(
            f"{corruption.name} is stated in Hz or seconds and needs the sample rate of the signal"
        )
    return sample_rate


# ---- arrays ----------------------------------------------------------------------------------------------


def corrupt(
    array: NDArray[Any],
    corruption: Corruption,
    *,
    seed: int,
    peak: float | None,
    sample_rate: float | None = None,
) -> NDArray[Any]:
    """Corrupt one image or signal as it stands in a file.

    Args:
        array: Any integer or float dtype; it is left as it is.
        corruption: What to do.
        seed: The same seed gives the same noise.
        peak: The value that means full scale (255, 65535, 1.0); None for a sensor's own units.
        sample_rate: Hz, for signals.

    Shape:
        `(C, *S)` in and out, same dtype; integers are rounded and clipped.

    Raises:
        InputError: Gaps (NaN) came out, and the dtype has no room for them.
    """
    exact = array.dtype in (np.float64, np.int32, np.int64, np.uint32)  # more bits than float32 holds
    scale = 1.0 if peak is None else float(peak)
    clean = torch.from_numpy(array.astype(np.float64 if exact else np.float32))[None] / scale  # (1, C, *S)
    generator = torch.Generator().manual_seed(seed)
    noisy: NDArray[Any] = (corruption(clean, generator, sample_rate)[0] * scale).numpy()
    if not np.issubdtype(array.dtype, np.integer):
        return noisy.astype(array.dtype, copy=False)
    if np.isnan(noisy).any():
        raise InputError(f"{corruption} leaves gaps (NaN), which {array.dtype} samples cannot hold")
    limits = np.iinfo(array.dtype)
    top = limits.max if peak is None else min(limits.max, scale)
    rounded: NDArray[Any] = np.clip(np.rint(noisy), limits.min, top).astype(array.dtype)
    return rounded
