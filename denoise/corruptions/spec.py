"""The table of corruptions, and their text form: `gaussian:sigma=0..55+jpeg`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from denoise.corruptions.base import Chain, Choice, Corruption
from denoise.errors import UsageError
from denoise.registry import Extensible, lookup

CORRUPTIONS: Mapping[str, str] = Extensible(
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
        "shake": "denoise.corruptions.blur:Shake",
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
    },
    "denoise.corruptions",
    dict.setdefault,
)


def parse(text: str) -> Corruption:
    """Build a corruption from its text form; `str` is the inverse.

    `gaussian:sigma=25` sets fields, `gaussian:sigma=0..55` draws one for each item, `+` chains, `|` chooses
    (with weights: `0.7*a|0.3*b`), parentheses group, and double quotes protect a path with such signs.

    Raises:
        UsageError: A corruption or field is unknown, or a value is invalid.

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
        try:
            values[key] = known[key].read(value)
        except ValueError:
            raise UsageError(
                f"{name}: {key}={value} is neither a number nor a range low..high ({known[key]})"
            ) from None
    return kind(**values)


def _split(text: str, mark: str) -> list[str]:
    """Split at each `mark` outside quotes and parentheses."""
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
        raise UsageError(f"{text!r} has an unmatched {'quote' if quoted else 'parenthesis'}")
    return [*pieces, text[start:]]


def _describe(kind: type[Corruption]) -> str:
    return f"its fields: {', '.join(f'{field} ({mark})' for field, mark in kind.text_fields.items())}"
