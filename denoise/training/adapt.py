"""Adaptation of a trained model to a user's own files."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, median_low

import numpy as np
import torch
from torch import Generator, Tensor

from denoise import metrics, weights
from denoise.arrays import Array, Floats
from denoise.errors import InputError, UsageError
from denoise.infer.apply import apply
from denoise.infer.catalogue import weights_path
from denoise.io.atomic import replacing
from denoise.models.base import Denoiser, InputSpec
from denoise.models.table import DEFAULT_MODELS, PICKS
from denoise.signal import MODALITIES
from denoise.training import recipe, self_supervised
from denoise.training.data import Batches, Pair, Patches, synthetic
from denoise.training.fit import Progress, fit
from denoise.training.recipe import FitRecipe, ModelRecipe, Recipe
from denoise.training.self_supervised import TARGET_METHODS, Scene, SelfSupervisedPatches

# A short run at a low learning rate.
FIT = FitRecipe(
    steps=300, batch=8, lr=3e-4, schedule="trapezoid", warmup=30, cooldown=0.7, ema=0.99, validate_every=100
)
_REPLAYED = 0.25  # share of a batch drawn from the original training task, against forgetting
_MAX_CORRELATION = 0.2  # of the noise of neighbouring lines, for methods that assume it independent
# Clean input must be returned at least this faithfully, by the metric of its modality.
_MIN_CLEAN_DB = {"psnr_db": 30.0, "snr_db": 20.0, "si_sdr_db": 20.0}
_CLEAN_SIDE = 256  # pixels of the clean photos measured

# Photos shipped with scikit-image: for replay, and to measure the damage to clean input.
_REPLAY_PHOTOS = ("astronaut", "coffee", "rocket", "immunohistochemistry", "brick", "grass")
_CLEAN_PHOTOS = ("chelsea", "camera", "coins", "gravel")


@dataclass(frozen=True)
class Adaptation:
    """Result of an adaptation.

    Args:
        way: The row of `denoise.training.self_supervised.TARGET_METHODS` that gave the targets.
        metric: Metric of the next three figures, against the held-out targets.
        noisy: Figure of the files as they are.
        before: Figure of the original model.
        after: Figure of the adapted model.
        clean_before: Lowest figure of clean files cleaned by the original model, against themselves; None
            without clean files.
        clean_after: The same for the adapted model.
        files: Number of training files.
        held_out: Number of recordings, or parts of one, scored.
        minutes: Training time.
        notes: Notes on skipped files.
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
    """Fine-tune a model on a user's noisy files, and save it if it improves on held-out ones.

    The targets are clean files (`pairs`), repeated shots of a scene in one folder (Lehtinen et al.,
    "Noise2Noise", 2018), or made from single files: with white noise by adding more of it (Pang et al.,
    "Recorrupted-to-Recorrupted", 2021), with noise correlated along one image axis from neighbouring lines
    (after Huang et al., "Neighbor2Neighbor", 2021).

    A fifth of the scenes, or of a single one, is held out. Without `pairs` its targets are noisy: figures
    are lower than against clean targets, and rank models alike.

    Args:
        noisy: Folder of noisy files.
        output: Path of the `.safetensors` to write.
        pairs: Folder of clean files with the same names.
        model: Shipped model or weights file to start from; by default that of the modality.
        overrides: Recipe changes as in `denoise.training.recipe.load`, such as `fit.steps=500`.
        overwrite: Replace an existing `output`.
        report: Called with the `Progress` of training.

    Raises:
        InputError: The files do not allow it, or the adapted model is no better; nothing was saved.
        UsageError: The model is unknown, `output` exists, or an override is invalid.
    """
    noisy, output = Path(noisy), Path(output)
    if output.suffix != ".safetensors" or not output.parent.is_dir():
        raise UsageError(
            f"{output}: cannot be the output, expected a .safetensors file in a folder that exists"
        )
    if output.exists() and not overwrite:
        raise UsageError(f"{output}: exists already, expected a new name, or --overwrite to replace it")
    start = _start(model, noisy)
    network, card = weights.load(weights_path(start))
    spec, former = network.spec, recipe.from_dict(card.get("recipe", {}), f"{start}: recipe")
    method, scenes, notes = self_supervised.read(noisy, spec, Path(pairs) if pairs else None)
    axes = list(range(1, spec.ndim + 1))
    if not method:
        method, axes = _method_for_single_files(noisy, scenes, spec)
        if method == "recorrupted":
            scenes = [self_supervised.with_noise_model(scene) for scene in scenes]
    training, scoring = self_supervised.divide(scenes)
    checks = [check for check in (TARGET_METHODS[method].cross_check, method) if check]
    held_out_by_check = [self_supervised.held_out(scoring, check, axes) for check in checks]
    sides = [self_supervised.max_patch_side(scene, method, axes) for scene in training]
    room = min(former.data.patch, median_low(sides))  # at least half of the files have it, and are used
    training = [scene for scene, side in zip(training, sides, strict=True) if side >= room]
    max_patch = room // spec.multiple_of * spec.multiple_of
    if not max_patch:
        raise InputError(
            f"{noisy}: its files leave {room} pixels or samples to learn from; expected at least "
            f"{spec.multiple_of}"
        )
    plan = Recipe(
        name=output.stem,
        modality=spec.modality,
        description=f"{card['name']}, adapted: {TARGET_METHODS[method].description}",
        sources=f"{former.sources}; then the user's files",
        model=ModelRecipe(card["architecture"], card["config"], init=start),
        data=replace(former.data, patch=max_patch),
        # With noisy targets, only the mean squared error has its minimum at the clean signal.
        fit=replace(FIT, loss=former.fit.loss if method == "pairs" else "mse"),
    )
    plan = recipe.changed(plan, overrides)
    if not 0 < plan.data.patch <= max_patch:
        raise UsageError(
            f"data.patch is {plan.data.patch}; expected 1 to {max_patch} for the files in {noisy}"
        )
    own = SelfSupervisedPatches(training, method, axes, plan.data.patch, spec.channels, plan.data.flip)
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder) / "adapted.safetensors"
        batches = _WithReplay(own, plan, spec.channels)
        facts = fit(plan, batches, held_out_by_check[0], trained, report=report)
        adapted = weights.load(trained)[0]
        clean = _clean_pairs(spec.modality, held_out_by_check[0] if method == "pairs" else [])
        metric = MODALITIES[spec.modality].headline
        # Report the check with the smallest gain.
        noisy_figure, before, after = min(
            (
                tuple(mean(_figures(metric, held_out, model)) for model in (None, network, adapted))
                for held_out in held_out_by_check
            ),
            key=lambda figures: figures[2] - figures[1],
        )
        found = Adaptation(
            way=method,
            metric=metric,
            noisy=noisy_figure,
            before=before,
            after=after,
            clean_before=min(_figures(metric, clean, network), default=None),
            clean_after=min(_figures(metric, clean, adapted), default=None),
            files=own.files,
            held_out=len(scoring),
            minutes=facts["training"]["minutes"],
            notes=tuple(notes),
        )
        _check(found, noisy)
        weights.annotate(trained, {"adapted": {"from": card["name"], **asdict(found)}})
        with replacing(output) as partial:
            shutil.copyfile(trained, partial)
    return found


def _start(model: str | Path | None, noisy: Path) -> str:
    """Name the shipped model or the weights file to start from."""
    modality = "image"
    if model is None:
        found = self_supervised.modalities(noisy)
        if len(found) > 1:
            raise UsageError(f"{noisy}: holds {' and '.join(found)} files; name the model to adapt (--model)")
        modality = found[0]
        model = DEFAULT_MODELS[modality]
    return PICKS[str(model)][modality][0] if model in PICKS else str(model)


def _method_for_single_files(noisy: Path, scenes: Sequence[Scene], spec: InputSpec) -> tuple[str, list[int]]:
    """Choose the method that the noise of single files allows, and the axes along which it is independent."""
    advice = "give clean files, or repeated shots of the same scene in a folder of their own"
    if spec.modality == "audio":  # its noise is not white, and speech has no flat parts to measure it in
        raise InputError(f"{noisy}: single audio recordings cannot be learned from; {advice}")
    axes = list(range(1, spec.ndim + 1))
    found = {axis: self_supervised.correlation(scenes, axis) for axis in axes}
    independent = [axis for axis in axes if abs(found[axis]) < _MAX_CORRELATION]
    if not independent:
        lowest = min(found.values(), key=abs)
        raise InputError(
            f"{noisy}: the noise of neighbouring pixels or samples is correlated ({lowest:.2f}, expected "
            f"less than {_MAX_CORRELATION}), which makes it indistinguishable from the signal; {advice}"
        )
    return ("recorrupted" if independent == axes else "neighbours"), independent


class _WithReplay:
    """Batches of the user's patches with a share from the original training task (a `Batches`)."""

    def __init__(self, own: SelfSupervisedPatches, plan: Recipe, channels: int) -> None:
        self.own, self.files, self.digest, self.skipped = own, own.files, own.digest, own.skipped
        self.former: Batches | None = None
        side = plan.data.patch
        arrays: list[Array] = []
        if plan.modality == "image":
            arrays = [photo for photo in _photos(_REPLAY_PHOTOS) if min(photo.shape[1:]) >= side]
        elif plan.modality == "sensor":
            arrays = [np.zeros((1, side), np.float32)]  # a placeholder: all patches are synthetic
        if arrays and plan.data.corruption:
            synthetic_share = float(plan.modality == "sensor")
            data = replace(plan.data, group="", join=False, stretch=1.0, synthetic=synthetic_share)
            names = [str(i) for i in range(len(arrays))]
            self.former = Patches(names, arrays, replace(plan, data=data), channels, Path())

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw `size` patches: noisy and target, `(size, channels, *patch)` each."""
        replayed = round(_REPLAYED * size) if self.former else 0
        noisy, target = self.own.batch(size - replayed, generator)
        if not self.former or not replayed:
            return noisy, target
        former_noisy, former_target = self.former.batch(replayed, generator)
        former_noisy[::2] = former_target[::2]  # half of them clean, so that clean input stays unchanged
        return torch.cat([noisy, former_noisy]), torch.cat([target, former_target])


def _photos(names: Sequence[str]) -> list[Array]:
    """Load photos shipped with scikit-image, `(C, H, W)`."""
    from skimage import data

    photos = (np.atleast_3d(getattr(data, name)()) for name in names)
    return [np.ascontiguousarray(photo.transpose(2, 0, 1)) for photo in photos]


def _clean_pairs(modality: str, held_out: Sequence[Pair]) -> list[Pair]:
    """Pair clean arrays with themselves: the held-out targets, else photos or synthetic signals."""
    if held_out:
        return [(target, target, rate) for _, target, rate in held_out]
    arrays: list[Floats] = []
    if modality == "image":
        cut = slice(_CLEAN_SIDE)
        arrays = [photo[:, cut, cut].astype(np.float32) / np.float32(255) for photo in _photos(_CLEAN_PHOTOS)]
    elif modality == "sensor":
        arrays = list(synthetic(8, 8192, torch.Generator().manual_seed(0)).numpy())
    return [(clean, clean, None) for clean in arrays]


def _figures(name: str, held_out: Sequence[Pair], model: Denoiser | None) -> list[float]:
    """Compute a metric of each held-out pair, cleaned by the model or as it is."""
    metric = metrics.metric(name)
    return [
        metric(target, apply(model, noisy, peak=1.0, sample_rate=rate) if model else noisy, peak=1.0)
        for noisy, target, rate in held_out
    ]


def _check(found: Adaptation, noisy: Path) -> None:
    """Raise `InputError` for a model that is no better, or damages clean input."""
    unit = found.metric.removesuffix("_db").replace("_", "-").upper()
    if not found.after > found.before:
        raise InputError(
            f"{noisy}: the adapted model is no better on the held-out files ({found.after:.2f} dB {unit}, "
            f"before {found.before:.2f} dB); nothing was saved"
        )
    if found.clean_before is None or found.clean_after is None:
        return
    # The original model may miss the limit as well.
    limit = min(_MIN_CLEAN_DB[found.metric], found.clean_before - 3)
    if found.clean_after < limit:
        raise InputError(
            f"{noisy}: the adapted model damages clean files ({found.clean_after:.1f} dB {unit}, expected at "
            f"least {limit:.1f} dB); nothing was saved"
        )
