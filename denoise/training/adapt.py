"""Adapt a trained model to a user's own files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median_low
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from denoise import metrics, weights
from denoise.errors import InputError, UsageError
from denoise.infer.apply import apply
from denoise.io.atomic import replacing
from denoise.models import AUTO, AUTO_PICKS, DEFAULT_MODELS
from denoise.models.base import Denoiser, InputSpec
from denoise.registry import unknown
from denoise.signal import MODALITIES
from denoise.training import recipe
from denoise.training import self_supervised as targets
from denoise.training.data import Batches, Pair, Patches, synthetic
from denoise.training.fit import Progress, fit
from denoise.training.recipe import FitRecipe, ModelRecipe, Recipe

__all__ = ["FIT", "Adaptation", "adapt"]

# A short run at a gentle rate.
FIT = FitRecipe(
    steps=300,
    batch=8,
    lr=3e-4,
    schedule="trapezoid",
    warmup=30,
    cooldown=0.7,
    ema=0.99,
    validate_every=100,
)
_REPLAYED = 0.25  # the share of a batch that is as the model was trained before, so that it does not forget
_CORRELATED = 0.2  # lines whose noise is the same to this degree tell nothing of each other
# What is clean already must come out as it went in, to this degree, by the metric of its kind.
_LEAST_CLEAN_DB = MappingProxyType({"psnr_db": 30.0, "snr_db": 20.0, "si_sdr_db": 20.0})
_CLEAN_SIDE = 256  # pixels of the clean photos that this is measured on

# Photos that come with scikit-image: to remember by, and to measure by.
_REMEMBERED = ("astronaut", "coffee", "rocket", "immunohistochemistry", "brick", "grass")
_MEASURED = ("chelsea", "camera", "coins", "gravel")


@dataclass(frozen=True)
class Adaptation:
    """What came of it.

    Args:
        way: A row of `denoise.training.self_supervised.WAYS`: where the targets came from.
        metric: Of the first three figures, against the targets that were held out.
        noisy: Of the files as they are.
        before: Of the model that was adapted.
        after: Of the adapted one.
        clean_before: The figure of a clean file that went through the first model, against itself: the
            least of several, None where there are none.
        clean_after: The same for the adapted one: what it may do to files that need nothing.
        files: How many were trained on.
        held_out: How many recordings, or parts of one, were judged by.
        minutes: Of training.
        notes: Sentences about what was left out.
    """

    way: str
    metric: str
    noisy: float
    before: float
    after: float
    clean_before: float | None
    clean_after: float | None
    files: int
    held_out: int
    minutes: float
    notes: tuple[str, ...] = ()


def adapt(
    noisy: str | Path,
    output: str | Path,
    *,
    pairs: str | Path | None = None,
    model: str | Path | None = None,
    overrides: Iterable[str] = (),
    overwrite: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> Adaptation:
    """Train a model further on noisy files of one's own, and save it if it does better on those held out.

    With `pairs` it learns from clean files. Without, from repeated shots where a folder holds several of one
    scene, which need not be clean (Lehtinen et al., "Noise2Noise", 2018). From single files it learns where
    their noise is white, by adding more (Pang et al., "Recorrupted-to-Recorrupted", 2021), or is smeared
    along one axis of an image, from neighbouring lines (after Huang et al., "Neighbor2Neighbor", 2021).

    A fifth of the scenes, or of a single one, is held out. Its targets are noisy unless there are pairs: a
    figure against them is lower than against clean ones, and rises with it.

    Args:
        noisy: Folder of noisy files.
        output: Where the `.safetensors` go.
        pairs: Folder of clean files with the same names.
        model: A shipped model or a weights file to start from; by default the one for these files.
        overrides: Changes of the recipe as for `denoise.training.recipe.load`, such as `fit.steps=500`.
        overwrite: Replace `output` where it exists.
        report: Called with the `Progress` of training.

    Raises:
        InputError: The files do not allow it, or the adapted model is no better; nothing was saved.
        UsageError: There is no such model, `output` exists, or the recipe cannot be changed so.
    """
    noisy, output = Path(noisy), Path(output)
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise UsageError(
            f"{output}: cannot be the output, expected a .safetensors file in a folder that exists"
        )
    if output.exists() and not overwrite:
        raise UsageError(f"{output}: exists already, expected a new name, or --overwrite to replace it")
    start = _start(model, noisy)
    network, card = weights.load(weights.pretrained().get(start, Path(start)))
    spec, former = network.spec, recipe.from_dict(card.get("recipe", {}), f"{start}: recipe")
    way, scenes, notes = targets.read(noisy, spec, Path(pairs) if pairs else None)
    axes = list(range(1, spec.ndim + 1))
    if not way:
        way, axes = _alone(noisy, scenes, spec)
        scenes = [targets.with_noise(scene) for scene in scenes] if way == "recorrupted" else scenes
    learned, judged = targets.divide(scenes)
    judges = [judge for judge in (targets.WAYS[way].judge, way) if judge]
    by_judge = [targets.held_out(judged, judge, axes) for judge in judges]
    sides = [targets.longest_side(scene, way, axes) for scene in learned]
    room = min(former.data.patch, median_low(sides))  # half of the files have it, and more; they are used
    learned = [scene for scene, side in zip(learned, sides, strict=True) if side >= room]
    most = room // spec.multiple_of * spec.multiple_of
    if not most:
        raise InputError(
            f"{noisy}: its files leave {room} pixels or samples to learn from, expected {spec.multiple_of}"
        )
    plan = Recipe(
        name=output.stem,
        modality=spec.modality,
        description=f"{card['name']}, adapted: {targets.WAYS[way].told}",
        sources=f"{former.sources}; then files of its user",
        model=ModelRecipe(card["architecture"], card["config"], init=start),
        data=replace(former.data, patch=most),
        # Of noisy targets only the mean squared error is least at the clean signal.
        fit=replace(FIT, loss=former.fit.loss if way == "pairs" else "mse"),
    )
    plan = recipe.changed(plan, overrides)
    if not 0 < plan.data.patch <= most:
        raise UsageError(f"data.patch is {plan.data.patch}, expected 1 to {most} for the files in {noisy}")
    own = targets.OwnPatches(learned, way, axes, plan.data.patch, spec.channels, plan.data.flip)
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder) / "adapted.safetensors"
        facts = fit(plan, _Remembering(own, plan, spec.channels), by_judge[0], trained, report=report)
        adapted = weights.load(trained)[0]
        clean = _clean(spec.modality, by_judge[0] if way == "pairs" else [])
        metric = MODALITIES[spec.modality].headline
        # By the judge that sees the least gain.
        noisy_figure, before, after = min(
            (
                tuple(mean(_figures(metric, held_out, model)) for model in (None, network, adapted))
                for held_out in by_judge
            ),
            key=lambda figures: figures[2] - figures[1],
        )
        found = Adaptation(
            way=way,
            metric=metric,
            noisy=noisy_figure,
            before=before,
            after=after,
            clean_before=min(_figures(metric, clean, network), default=None),
            clean_after=min(_figures(metric, clean, adapted), default=None),
            files=own.files,
            held_out=len(judged),
            minutes=facts["training"]["minutes"],
            notes=tuple(notes),
        )
        _check(found, noisy)
        weights.annotate(trained, {"adapted": {"from": card["name"], **asdict(found)}})
        with replacing(output) as partial:
            shutil.copyfile(trained, partial)
    return found


def _start(model: str | Path | None, noisy: Path) -> str:
    """The shipped model or the weights file to start from."""
    if model is None:
        found = targets.modalities(noisy)
        if len(found) > 1:
            raise UsageError(f"{noisy}: holds {' and '.join(found)} files; say which model to adapt")
        model = DEFAULT_MODELS[found[0]]
    name = AUTO_PICKS[0] if model == AUTO else str(model)
    shipped = weights.pretrained()
    if name not in shipped and not Path(name).exists() and not Path(name).suffix:
        raise unknown("trained model", name, shipped)
    return name


def _alone(noisy: Path, scenes: Sequence[targets.Scene], spec: InputSpec) -> tuple[str, list[int]]:
    """The way that the noise of single files allows, and the axes along which it is independent.

    Raises:
        InputError: There are none.
    """
    lacking = "give clean files, or repeated shots of the same scene in a folder of their own"
    if (
        spec.modality == "audio"
    ):  # its noise is anything but white, and speech has no flat parts to tell it by
        raise InputError(f"{noisy}: from single recordings of sound nothing can be learned; {lacking}")
    axes = list(range(1, spec.ndim + 1))
    found = {axis: targets.correlation(scenes, axis) for axis in axes}
    free = [axis for axis in axes if abs(found[axis]) < _CORRELATED]
    if not free:
        least = min(found.values(), key=abs)
        raise InputError(
            f"{noisy}: the noise of neighbouring pixels or samples is correlated ({least:.2f}, expected less "
            f"than {_CORRELATED}), so it cannot be told from the signal; {lacking}"
        )
    return ("recorrupted" if free == axes else "neighbours"), free


class _Remembering:
    """Batches of one's own patches, and a share of those that the model was trained on before: `Batches`."""

    def __init__(self, own: targets.OwnPatches, plan: Recipe, channels: int) -> None:
        self.own, self.files, self.digest = own, own.files, own.digest
        self.former: Batches | None = None
        side = plan.data.patch
        known: list[NDArray[Any]] = []
        if plan.modality == "image":
            known = [photo for photo in _photos(_REMEMBERED) if min(photo.shape[1:]) >= side]
        elif plan.modality == "sensor":
            known = [np.zeros((1, side), np.float32)]  # its patches are drawn
        if known and plan.data.corruption:
            drawn = float(plan.modality == "sensor")
            data = replace(plan.data, group="", join=False, stretch=1.0, synthetic=drawn)
            names = [str(i) for i in range(len(known))]
            self.former = Patches(names, known, replace(plan, data=data), channels, Path())

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """`size` patches, noisy and their targets, `(size, channels, *patch)`."""
        former = round(_REPLAYED * size) if self.former else 0
        noisy, target = self.own.batch(size - former, generator)
        if not self.former or not former:
            return noisy, target
        seen, wanted = self.former.batch(former, generator)
        seen[::2] = wanted[::2]  # half of them clean: those must stay as they are
        return torch.cat([noisy, seen]), torch.cat([target, wanted])


def _photos(names: Sequence[str]) -> list[NDArray[Any]]:
    """Photos of scikit-image, `(C, H, W)`."""
    from skimage import data

    photos = (np.atleast_3d(getattr(data, name)()) for name in names)
    return [np.ascontiguousarray(photo.transpose(2, 0, 1)) for photo in photos]


def _clean(modality: str, held_out: Sequence[Pair]) -> list[Pair]:
    """Clean files as their own targets: those that were held out, or photos, or drawn signals."""
    if held_out:
        return [(target, target, rate) for _, target, rate in held_out]
    known: list[NDArray[np.float32]] = []
    if modality == "image":
        cut = slice(_CLEAN_SIDE)
        known = [photo[:, cut, cut].astype(np.float32) / np.float32(255) for photo in _photos(_MEASURED)]
    elif modality == "sensor":
        known = list(synthetic(8, 8192, torch.Generator().manual_seed(0)).numpy())
    return [(clean, clean, None) for clean in known]


def _figures(name: str, held_out: Sequence[Pair], model: Denoiser | None) -> list[float]:
    """A metric of each that is held out, cleaned by the model."""
    metric = metrics.metric(name)
    return [
        metric(target, apply(model, noisy, peak=1.0, sample_rate=rate) if model else noisy, peak=1.0)
        for noisy, target, rate in held_out
    ]


def _check(found: Adaptation, noisy: Path) -> None:
    """Refuse a model that does harm."""
    unit = found.metric.removesuffix("_db").replace("_", "-").upper()
    if not found.after > found.before:
        raise InputError(
            f"{noisy}: the adapted model is no better on what was held out: {found.after:.2f} dB of {unit} "
            f"against {found.before:.2f} dB; nothing was saved"
        )
    if found.clean_before is None or found.clean_after is None:
        return
    least = min(
        _LEAST_CLEAN_DB[found.metric], found.clean_before - 3
    )  # the first model may not have reached it either
    if found.clean_after < least:
        raise InputError(
            f"{noisy}: the adapted model damages clean files: {found.clean_after:.1f} dB of {unit} are left, "
            f"expected {least:.1f} dB and more; nothing was saved"
        )
