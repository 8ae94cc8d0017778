"""What decides a training run, as data: a TOML file that lists only what differs from the defaults here."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_type_hints

from denoise.errors import UsageError
from denoise.registry import unknown
from denoise.signal import MODALITIES

__all__ = [
    "DataRecipe",
    "FitRecipe",
    "ModelRecipe",
    "Recipe",
    "ValidateRecipe",
    "changed",
    "from_dict",
    "load",
    "names",
]


@dataclass(frozen=True)
class ModelRecipe:
    """Which network.

    Args:
        architecture: A row of `denoise.weights.ARCHITECTURES`.
        config: The fields of its config.
        init: A shipped model or a weights file to start from; a deeper network starts as what it was before.
            Empty for random weights.
        bits: Of the weights in their file, 16 or 8; see `denoise.weights.save`.
    """

    architecture: str = "autoencoder"
    config: Mapping[str, Any] = field(default_factory=dict)
    init: str = ""
    bits: int = 16


@dataclass(frozen=True)
class DataRecipe:
    """How clean files become patches.

    Args:
        include: Glob patterns below the data folder.
        patch: Side in pixels, or length in samples.
        scales: Every image is also kept at these sizes (Lanczos), which rids JPEG sources of their blocking.
        enlarge: Share of image patches that are enlarged by 1.2 to 2 (bicubic): photos at the full size of a
            camera are softer than reduced ones.
        flip: Mirror at random; turn images by quarters; turn signals upside down.
        gray: Share of patches whose colours are averaged and whose noise is the same in all channels, so that
            a colour model knows gray photos.
        level_db: Range of random gain for signals, relative to the patch as it is.
        equalise_db: Signals get a smooth random gain over frequency, at most this much up or down: other
            microphones, other rooms, deeper voices.
        standardise: Give every patch zero mean and unit variance (sensors, whose units say nothing).
        synthetic: Share of patches that are drawn, not recorded: steps, bumps, chirps, walks.
        stretch: A signal patch is resampled by a random factor up to this, and down to its inverse; so a
            recording may be that much shorter than a patch.
        group: Regular expression on the relative path or array name; groups are drawn equally often.
        together: The most channels of a recording in one patch, for a model that looks across them; each
            batch draws how many, from 1, and takes recordings that have them.
        join: Lay short recordings end to end, so that none is too short for a patch.
        sample_rate: Hz of the patches: recordings of another rate are resampled, those that state none are
            taken to have it; 0 leaves all as they are.
        corruption: What makes the noisy input, in the text form of `denoise.corruptions.parse`; `{data}`
            stands for the data folder; `none` for nothing, which trains an autoencoder to copy.
        corruptions: By group, what takes the place of `corruption`; `{corruption}` in it stands for that.
    """

    include: tuple[str, ...] = ("**/*",)
    patch: int = 64
    scales: tuple[float, ...] = (1.0,)
    enlarge: float = 0.0
    flip: bool = True
    gray: float = 0.0
    level_db: tuple[float, float] = (0.0, 0.0)
    equalise_db: float = 0.0
    standardise: bool = False
    synthetic: float = 0.0
    stretch: float = 1.0
    group: str = ""
    together: int = 1
    join: bool = False
    sample_rate: float = 0.0
    corruption: str = ""
    corruptions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FitRecipe:
    """How the network is fitted.

    Args:
        steps: Updates in all.
        batch: Patches per update.
        loss: A row of `denoise.losses.LOSSES`.
        optimizer: A row of `denoise.optimizers.OPTIMIZERS`.
        lr: Peak learning rate.
        schedule: "cosine" (warm up, then down to a hundredth), "one-cycle" (up for 30 %, then down) or
            "trapezoid" (warm up, hold, down to zero): its run can be given more steps while it holds.
        warmup: Steps to reach the peak (cosine, trapezoid).
        cooldown: Share of the steps in which the rate falls (trapezoid).
        weight_decay: As in AdamW.
        clip: Largest gradient norm.
        ema: Decay of the averaged weights, which are what is validated and saved; 0 for none.
        seed: Decides weights, patches and noise.
        amp: bfloat16 autocast where it pays: on CUDA, and for what convolves on CPUs that multiply bfloat16
            themselves (half the time and less). The weights, the loss and the optimiser stay in float32.
        threads: CPU threads; 0 leaves torch's choice.
        validate_every: Steps between validations.
        patience: Validations without a new best before stopping early; 0 never stops.
        keep: Which weights are saved: "best" by the validation figure, or "last" where that figure is not
            all that counts.
        checkpoint_minutes: Minutes between checkpoints.
    """

    steps: int = 10_000
    batch: int = 16
    loss: str = "mse"
    optimizer: str = "adamw"
    lr: float = 1e-3
    schedule: str = "cosine"
    warmup: int = 200
    cooldown: float = 0.3
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    seed: int = 0
    amp: bool = True
    threads: int = 0
    validate_every: int = 1000
    patience: int = 0
    keep: str = "best"
    checkpoint_minutes: float = 5.0


@dataclass(frozen=True)
class ValidateRecipe:
    """What the live figure is measured on; full tables come from `denoise benchmark`.

    Args:
        corruption: As in `DataRecipe`; unused where the validation folder holds `clean/` and `noisy/`.
        items: At most this many files.
        crop: Centre crop, in pixels or samples; 0 for whole files.
    """

    corruption: str = ""
    items: int = 16
    crop: int = 0


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Args:
        name: Of the model.
        modality: A name in `MODALITIES`.
        description: What the model is for, in a line.
        sources: What it is trained on, and under which licences.
        limits: What it is known to be weak at.
    """

    name: str
    modality: str
    description: str = ""
    sources: str = ""
    limits: str = ""
    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    fit: FitRecipe = FitRecipe()
    validate: ValidateRecipe = ValidateRecipe()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for weights files and cards."""
        return asdict(self)


def names() -> list[str]:
    """The recipes that ship with the package; those in a folder are named with it, `family/plain-image`."""
    return sorted(_names(resources.files("denoise") / "recipes", ""))


def _names(folder: Traversable, prefix: str) -> Iterator[str]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _names(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".toml"):
            yield prefix + entry.name.removesuffix(".toml")


def load(recipe: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """A recipe by shipped name or by path, with `key=value` changes (`fit.steps=200`, or `steps=200`).

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
        except OSError as error:
            raise UsageError(
                f"{path}: cannot be read ({error.strerror}); expected a recipe in TOML"
            ) from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: is not TOML: {error}") from error
    return changed(from_dict(table, str(recipe)), overrides)


def from_dict(table: Mapping[str, Any], where: str) -> Recipe:
    """A recipe from plain values, as a card holds them; `where` they are from, for error messages.

    Raises:
        UsageError: A key is unknown or lacking, or a value is of another type.
    """
    loaded: Recipe = _build(Recipe, table, where)
    if loaded.modality not in MODALITIES:
        raise UsageError(f"{where}: {unknown('modality', loaded.modality, MODALITIES)}")
    return loaded


def changed(recipe: Recipe, overrides: Iterable[str]) -> Recipe:
    """The recipe with `key=value` changes.

    Raises:
        UsageError: An unknown key, or a value of another type.
    """
    for text in overrides:
        recipe = _override(recipe, text)
    return recipe


def _build(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass from a table, every key and type checked."""
    hints = get_type_hints(kind)
    values = {}
    for key, value in table.items():
        if key not in hints:
            raise UsageError(f"{where}: {unknown('key', key, hints)}")
        hint = hints[key]
        if is_dataclass(hint):
            values[key] = _build(hint, value, f"{where} [{key}]")
        else:
            values[key] = _typed(value, hint, f"{where}: {key}")
    missing = [f.name for f in fields(kind) if f.name in ("name", "modality") and f.name not in values]
    if missing:
        raise UsageError(f"{where}: lacks {', '.join(missing)}")
    return kind(**values)


def _typed(value: Any, hint: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if str(hint).startswith("tuple"):
        if isinstance(value, list):
            return tuple(value)
    elif hint in (int, float, str, bool):
        if type(value) is hint:
            return value
    elif isinstance(value, Mapping):
        return dict(value)
    raise UsageError(f"{where} is {value!r}, expected {getattr(hint, '__name__', hint)}")


def _override(recipe: Recipe, text: str) -> Recipe:
    key, separator, raw = text.partition("=")
    if not separator:
        raise UsageError(f"--set {text!r}: expected key=value")
    try:
        value = tomllib.loads(f"x = {raw}")["x"]
    except tomllib.TOMLDecodeError:
        value = raw  # bare words are strings
    section, _, name = key.rpartition(".")
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
