"""Levels of corruptions: fixed or random, with units and domains."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from denoise.errors import UsageError

_MAX = 1e30  # of a finite level: samples are single floats


@dataclass(frozen=True)
class RandomLevel:
    """A level drawn uniformly from `low` to `high`, anew for each item of a batch; `low..high` in text."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise UsageError(f"the range {self} must be low..high, both finite and low <= high")

    def __str__(self) -> str:
        return f"{format_value(self.low)}..{format_value(self.high)}"


Level = float | RandomLevel


@dataclass(frozen=True)
class Number:
    """Unit and domain of a numeric field, which it annotates: `Annotated[Level, Number("dB")]`.

    `fixed` fields take one number for the whole batch, and refuse a range.
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
        low, high = max(self.low, -_MAX), min(self.high, _MAX)
        if not all(low <= end <= high or end == self.high for end in ends):  # which may be infinity
            span = f"{format_value(self.low)} to {format_value(high)} {self.unit}"
            raise UsageError(f"{field}={format_value(value)} is outside {span}")

    def read(self, text: str) -> Level:
        """Return the number or range that `text` states, or raise a ValueError."""
        low, dots, high = text.partition("..")
        return RandomLevel(float(low), float(high)) if dots else float(low)

    def __str__(self) -> str:
        return self.unit


@dataclass(frozen=True)
class Word:
    """Choices of a text field, which it annotates; any text if there are none."""

    choices: tuple[str, ...] = ()

    def check(self, field: str, value: Any) -> None:
        """Raise a UsageError unless `value` is one of the choices."""
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            raise UsageError(f"{field}={value} is not {' or '.join(self.choices) or 'text'}")

    def read(self, text: str) -> str:
        """Return the text without its double quotes; a doubled quote inside stands for one."""
        return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text

    def __str__(self) -> str:
        return "|".join(self.choices) or "text"


SnrDb = Annotated[Level, Number("dB", -200)]
Fraction = Annotated[Level, Number("of 1", 0, 1)]


def draw(level: Level, clean: Tensor, generator: torch.Generator) -> Tensor:
    """Return the level of each item of `clean` as `(B, 1, ..., 1)`."""
    shape = (clean.shape[0],) + (1,) * (clean.ndim - 1)
    if isinstance(level, RandomLevel):
        return uniform(shape, clean, generator).mul_(level.high - level.low).add_(level.low)
    return torch.full(shape, level, dtype=clean.dtype, device=clean.device)


# Draw on the generator's device, so that a seed gives the same noise on every device of the signal.


def draw_log(level: Level, clean: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the level of each item as `draw` does, but log-uniformly: each octave of a range is as likely."""
    if not isinstance(level, RandomLevel):
        return draw(level, clean, generator)
    return draw(RandomLevel(math.log(level.low), math.log(level.high)), clean, generator).exp_()


def normal(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw independent N(0, 1) values in the dtype and on the device of `like`."""
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def uniform(shape: tuple[int, ...] | torch.Size, like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw independent values from `[0, 1)` in the dtype and on the device of `like`."""
    drawn = torch.rand(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return drawn.to(like.device)


def format_value(value: Any) -> str:
    """Return the text form of a level or word."""
    if isinstance(value, RandomLevel):
        return str(value)
    if isinstance(value, str):
        return f'"{value.replace(chr(34), chr(34) * 2)}"' if re.search(r'[+|,()"\s]', value) else value
    # repr round-trips; its "1e+16" would be cut at the plus.
    return repr(float(value)).removesuffix(".0").replace("e+", "e")
