"""Recipes: training runs as TOML files that list only the differences from the defaults here."""

from __future__ import annotations

import math
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from denoise.errors import UsageError, reason
from denoise.registry import unknown
from denoise.signal import MODALITIES

_MAX = sys.float_info.max
# Keys of earlier recipes and cards, by their present names.
_RENAMED = {"together": "max_joint_channels", "keep": "select_weights"}

# Least and largest value of numbers; others may be any that are finite.
_DOMAINS: Mapping[str, tuple[float, float]] = {
    **dict.fromkeys(("enlarge", "gray", "synthetic", "events", "cooldown", "ema"), (0, 1)),
    **dict.fromkeys(("steps", "validate_every", "batch", "items"), (1, 1e9)),
    **dict.fromkeys(("warmup", "patience", "crop"), (0, 1e9)),
    **dict.fromkeys(("lr", "weight_decay", "clip"), (0, 1e6)),
    **{"patch": (2, 1e8), "scales": (1e-3, 1e3), "level_db": (-300, 300), "equalise_db": (0, 300)},
    **{"stretch": (1, 100), "max_joint_channels": (1, 4096), "sample_rate": (0, 1e9)},
    **{"seed": (0, 2**62), "threads": (0, 4096), "checkpoint_minutes": (0, 1e6)},
}


@dataclass(frozen=True)
class ModelRecipe:
    """Network of a run."""

    architecture: str = "autoencoder"  # a row of `denoise.weights.ARCHITECTURES`
    config: Mapping[str, Any] = field(default_factory=dict)  # the fields of its config
    # shipped model or weights file to warm-start from (new blocks start as the identity); empty for random
    # weights
    init: str = ""
    bits: int = 16  # bits per stored weight: 16 or 8; see `denoise.weights.save`


@dataclass(frozen=True)
class DataRecipe:
    """Conversion of clean files to patches."""

    include: tuple[str, ...] = ("**/*",)  # glob patterns below the data folder
    patch: int = 64  # side in pixels, or length in samples
    # sizes at which every image is used (Lanczos); below 1 they remove JPEG blocking of sources
    scales: tuple[float, ...] = (1.0,)
    # share of image patches that are enlarged by 1.2 to 2 (bicubic): photos at the full size of a camera are
    # softer than reduced ones
    enlarge: float = 0.0
    flip: bool = True  # mirror and transpose images at random; invert signals at random
    gray: float = 0.0  # share of patches made gray, with the same noise in all channels
    level_db: tuple[float, float] = (0.0, 0.0)  # range of random gain of signals
    # maximum of a smooth random gain over frequency: other microphones, rooms and voices
    equalise_db: float = 0.0
    # give every patch zero mean and unit variance (sensors, whose units are arbitrary)
    standardise: bool = False
    synthetic: float = 0.0  # share of synthetic signal patches: steps, bumps, chirps, random walks
    # share of synthetic logs of events (`denoise.training.events`): what is rare in them is signal. They form
    # the group `events` of `corruptions`
    events: float = 0.0
    # share of patches in which two talkers take turns, one of them quieter (`denoise.training.talkers`). They
    # form the group `conversation` of `corruptions`
    conversation: float = 0.0
    rooms: float = 0.0  # share of patches with the reverberation of a room, which is signal
    # maximum factor of random resampling of signals, up or down; recordings may be shorter than a patch by
    # this factor
    stretch: float = 1.0
    group: str = ""  # regular expression on the relative path or array name; groups are drawn equally often
    # maximum number of channels of a recording in one patch, for models that use several; each batch draws
    # the number
    max_joint_channels: int = 1
    join: bool = False  # concatenate recordings, so that none is too short for a patch
    # Hz of the patches; recordings of another rate are resampled, those without a rate are assumed to have
    # it; 0 keeps each as it is
    sample_rate: float = 0.0
    # corruption of the input in the text form of `denoise.corruptions.parse`; `{data}` is the data folder;
    # `none` trains a plain autoencoder on clean input
    corruption: str = ""
    # train a classifier on mixtures of the kinds of sounds that folders are named for
    # (`denoise.training.kinds`)
    labelled: bool = False
    # corruption by group instead of `corruption`, which `{corruption}` in it stands for
    corruptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FitRecipe:
    """Optimisation settings."""

    steps: int = 10_000  # updates in total
    batch: int = 16  # patches per update
    loss: str = "mse"  # a row of `denoise.training.losses.LOSSES`
    optimizer: str = "adamw"  # a row of `denoise.training.optimizers.OPTIMIZERS`
    lr: float = 1e-3  # peak learning rate
    # "cosine" (warm up, then down to a hundredth), "one-cycle" (up for 30 %, then down) or "trapezoid" (warm
    # up, hold, down to zero), which can be extended while it holds
    schedule: str = "cosine"
    warmup: int = 200  # steps to reach the peak (cosine, trapezoid)
    cooldown: float = 0.3  # share of the steps in which the rate falls (trapezoid)
    weight_decay: float = 0.0  # decoupled weight decay, as in AdamW
    clip: float = 1.0  # maximum gradient norm
    # share of the initial weights in the saved ones (WiSE-FT, Wortsman et al. 2022): a model that learns
    # another task from `model.init` keeps more of what it could before
    initial_share: float = 0.0
    ema: float = 0.999  # decay of the averaged weights, which are validated and saved; 0 for none
    seed: int = 0  # seed of weights, patches and noise
    # autocast to bfloat16 where it is faster: on CUDA, and for convolutional models on CPUs with bfloat16
    # arithmetic. Weights, loss and optimiser stay in float32
    amp: bool = True
    threads: int = 0  # CPU threads; 0 leaves torch's choice
    validate_every: int = 1000  # steps between validations
    patience: int = 0  # validations without a new best before stopping early; 0 never stops
    select_weights: str = "best"  # weights to save: "best" by the validation metric, or "last"
    checkpoint_minutes: float = 5.0  # minutes between checkpoints


@dataclass(frozen=True)
class ValidateRecipe:
    """Validation during training; full tables come from `denoise benchmark`."""

    corruption: str = ""  # as in `DataRecipe`; unused if the validation folder holds `clean/` and `noisy/`
    items: int = 16  # maximum number of files
    crop: int = 0  # centre crop, in pixels or samples; 0 for whole files


@dataclass(frozen=True)
class Recipe:
    """A training run."""

    name: str
    modality: str  # a name in `MODALITIES`
    description: str = ""  # purpose of the model, in a line
    sources: str = ""  # training data and its licences
    limits: str = ""  # known weaknesses
    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    fit: FitRecipe = FitRecipe()
    validate: ValidateRecipe = ValidateRecipe()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for weights files and cards."""
        return asdict(self)


def names() -> list[str]:
    """List the shipped recipes; one in a folder is named with it, as `family/plain-image`."""
    return sorted(_names(resources.files("denoise") / "recipes", ""))


def _names(folder: Traversable, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _names(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".toml"):
            yield prefix + entry.name.removesuffix(".toml")


def load(recipe: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Load a recipe by shipped name or path, with `key=value` changes (`fit.steps=200`, or `steps=200`).

    Raises:
        UsageError: No such recipe, bad TOML, an unknown key, or a value of another type.
    """
    path = Path(recipe)
    if path.suffix != ".toml":
        if str(recipe) not in names():
            raise unknown("recipe", str(recipe), names())
        text = (resources.files("denoise") / "recipes" / f"{recipe}.toml").read_text(encoding="utf-8")
    else:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:  # ValueError: no UTF-8
            raise UsageError(
                f"{path}: cannot be read ({reason(error)}); expected a recipe in TOML"
            ) from error
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise UsageError(f"{path}: is not TOML: {error}") from error
    return changed(from_dict(table, str(recipe)), overrides)


def from_dict(table: Mapping[str, Any], where: str) -> Recipe:
    """Build a recipe from plain values, as a card holds them; `where` names their source in errors.

    Raises:
        UsageError: A key is unknown or missing, or a value has another type.
    """
    loaded: Recipe = _build(Recipe, table, where)
    if loaded.modality not in MODALITIES:
        raise UsageError(f"{where}: {unknown('modality', loaded.modality, MODALITIES)}")
    return loaded


def changed(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """Return the recipe with `key=value` changes.

    Raises:
        UsageError: A key is unknown, or a value has another type.
    """
    for text in overrides:
        recipe = _override(recipe, text)
    return recipe


def _build(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    """Build a dataclass from a table, checking every key and type."""
    hints = get_type_hints(kind)
    values = {}
    for written, value in table.items():
        key = _RENAMED.get(written, written)
        if key not in hints:
            raise UsageError(f"{where}: {unknown('key', key, hints)}")
        hint = hints[key]
        if is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise UsageError(f"{where}: {key} is {value!r}, expected a table")
            values[key] = _build(hint, value, f"{where} [{key}]")
        else:
            values[key] = _typed(value, hint, f"{where}: {key}")
    missing = [f.name for f in fields(kind) if f.name in ("name", "modality") and f.name not in values]
    if missing:
        raise UsageError(f"{where}: lacks {', '.join(missing)}")
    return kind(**values)


def _typed(value: Any, hint: Any, where: str) -> Any:
    """Check type and domain of a value; `where` ends in its key."""
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1e300 else math.inf
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        if isinstance(value, list) and (kinds[-1] is ... or len(kinds) == len(value)):
            return tuple(_typed(part, kinds[0], where) for part in value)
    elif hint in (int, float, str, bool):
        if type(value) is hint:
            low, high = _DOMAINS.get(where.rpartition(" ")[2].rpartition(".")[2], (-_MAX, _MAX))
            if hint in (int, float) and not low <= value <= high:
                raise UsageError(f"{where} is {value}, expected {low:g} to {high:g}")
            return value
    elif isinstance(value, Mapping):
        kind = get_args(hint)[1]
        return {
            key: value[key] if kind is Any else _typed(value[key], kind, f"{where}.{key}") for key in value
        }
    raise UsageError(f"{where} is {value!r}, expected {getattr(hint, '__name__', hint)}")


def _override(recipe: Recipe, text: str) -> Recipe:
    key, separator, raw = text.partition("=")
    if not separator:
        raise UsageError(f"--set {text!r}: expected key=value")
    try:
        value = tomllib.loads(f"x = {raw}")["x"]
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        value = raw  # bare words are strings
    section, _, name = key.rpartition(".")
    if section != "model.config":
        name = _RENAMED.get(name, name)
    if not section:
        parts = ("fit", "data", "validate")
        homes = [s for s in parts if name in {f.name for f in fields(getattr(recipe, s))}]
        if len(homes) != 1:
            listed = [f"{s}.{f.name}" for s in parts for f in fields(getattr(recipe, s))]
            raise unknown("recipe key", key, listed)
        section = homes[0]
    if section == "model.config":
        config = {**recipe.model.config, name: value}
        return replace(recipe, model=replace(recipe.model, config=config))
    if section not in ("fit", "data", "validate", "model"):
        raise unknown("recipe section", section, ("fit", "data", "validate", "model", "model.config"))
    part = getattr(recipe, section)
    hints = get_type_hints(type(part))

    if name not in hints:
        raise unknown(f"key in [{section}]", name, hints)
    return replace(recipe, **{section: replace(part, **{name: _typed(value, hints[name], f"--set {key}")})})
