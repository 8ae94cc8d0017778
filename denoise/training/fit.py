"""The training loop, to be read from top to bottom."""

from __future__ import annotations

import contextlib
import math
import time
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from denoise import metrics, weights
from denoise.errors import InputError, UsageError, WeightsError
from denoise.infer.apply import apply
from denoise.infer.catalogue import weights_path
from denoise.io.atomic import replacing
from denoise.machine import has_bf16
from denoise.models.base import Denoiser
from denoise.models.layers import Conv1dAs2d
from denoise.registry import unknown
from denoise.signal import MODALITIES
from denoise.training.data import Batches, Pair, Patches, pairs
from denoise.training.kinds import KindMixtures
from denoise.training.losses import LOSSES
from denoise.training.optimizers import OPTIMIZERS
from denoise.training.recipe import FitRecipe, Recipe


@dataclass(frozen=True)
class Progress:
    """Progress of a training run."""

    step: int  # updates done
    steps: int  # updates in total
    loss: float  # mean training loss since the last report
    samples_per_s: float  # patches per second since the last report
    metric: str | None = None  # name of the validation metric; None between validations
    value: float | None = None  # validation metric of the model
    before: float | None = None  # validation metric of the noisy input
    # step, loss and metric of every validation so far, including those before a resumption
    curve: Sequence[Mapping[str, float]] = ()


def fit(
    recipe: Recipe,
    data: Path | Mapping[Path, float] | Batches,
    validate: Path | Sequence[Pair] | None,
    out: Path,
    *,
    resume: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Train a model by a recipe, save its weights, and return the card saved with them.

    The checkpoint is written beside the weights, with the suffix `.checkpoint`. A run resumed from it ends
    with the same weights as an uninterrupted one.

    Args:
        recipe: Model, data and optimisation settings.
        data: Folder of clean files, several with the odds of each, or a source of batches.
        validate: Folder of clean files or of `clean/` and `noisy/` pairs, or the pairs themselves; None skips
            validation.
        out: Path of the `.safetensors` to write.
        resume: Continue from the checkpoint if there is one.
        report: Called with the `Progress` about every ten seconds and at each validation.

    Raises:
        InputError: A folder holds nothing usable.
        UsageError: The recipe names an unknown row, or the checkpoint belongs to another recipe.
    """
    plan = recipe.fit
    if plan.loss not in LOSSES:
        raise unknown("loss", plan.loss, LOSSES)
    if plan.select_weights not in ("best", "last"):
        raise unknown("weights to select", plan.select_weights, ("best", "last"))
    if plan.optimizer not in OPTIMIZERS:
        raise unknown("optimizer", plan.optimizer, OPTIMIZERS)
    loss_of = LOSSES[plan.loss]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if plan.threads:
        torch.set_num_threads(plan.threads)

    torch.manual_seed(plan.seed)  # for the initial weights; patches and noise use their own generators
    model = weights.build_new(recipe.model.architecture, recipe.model.config).to(device)
    if recipe.model.init:
        _start_from(model, recipe)
    initial = {key: value.detach().clone() for key, value in model.state_dict().items()}
    if model.spec.modality != recipe.modality:
        raise UsageError(
            f"recipe {recipe.name}: a {model.spec.modality} model cannot train on {recipe.modality}"
        )
    patches: Batches
    if not isinstance(data, Path | Mapping):
        patches = data
    elif recipe.data.labelled:
        if validate is not None:
            raise UsageError(f"recipe {recipe.name}: a classifier is not validated in training")
        patches = KindMixtures.read(data, recipe)
    else:
        patches = Patches.read(data, recipe, model.spec.channels, device)
    held_out = list(
        pairs(validate, recipe, recipe.validate) if isinstance(validate, Path) else validate or ()
    )

    layout = torch.channels_last if model.spec.ndim == 2 else torch.contiguous_format
    model = model.to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = OPTIMIZERS[plan.optimizer](model, plan.lr, plan.weight_decay)
    convolves = any(isinstance(layer, Conv1dAs2d | nn.Conv2d) for layer in model.modules())
    amp = plan.amp and (device.type == "cuda" or (convolves and has_bf16()))
    state = _State(model, optimizer)
    checkpoint = out.with_suffix(".checkpoint")
    if resume and checkpoint.exists():
        state.restore(checkpoint, recipe, patches.digest)

    def seed_of(step: int) -> int:
        return plan.seed * 1_000_003 + step

    def batch_of(step: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed_of(step))
        noisy, target = patches.batch(plan.batch, generator)
        return noisy.to(device, memory_format=layout), target.to(device, memory_format=layout)

    started = marked = saved = time.monotonic()
    losses: list[Tensor] = []
    model.train()
    remaining = range(state.step, state.step if state.stopped else plan.steps)
    for noisy, target in _prefetch(batch_of, remaining, device):
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * _schedule(plan, state.step)
        # A resumed run draws what the model itself draws, too: other numbers than those of the batch.
        torch.manual_seed(~seed_of(state.step))
        with torch.autocast(device.type, torch.bfloat16) if amp else contextlib.nullcontext():
            estimate, added = model.training_step(noisy, target)
        loss = loss_of(estimate.float(), target) + added
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimizer.step()
        state.step += 1
        state.average(model, plan.ema)
        losses.append(loss.detach())  # reading it now would synchronise with a GPU

        now, last = time.monotonic(), state.step == plan.steps
        validates = bool(held_out) and (last or state.step % plan.validate_every == 0)
        saves = last or now - saved > 60 * plan.checkpoint_minutes
        if validates or saves or now - marked > 10:
            mean_loss = float(torch.stack(losses).mean())
            if not math.isfinite(mean_loss):
                raise UsageError(
                    f"recipe {recipe.name}: the loss is {mean_loss} at step {state.step}; lower fit.lr"
                )
            rate = len(losses) * plan.batch / (time.monotonic() - marked)
            progress = Progress(state.step, plan.steps, mean_loss, rate)
            if validates:
                metric, value, before = state.evaluate(model, held_out, recipe)
                state.curve.append({"step": state.step, "loss": mean_loss, metric: value})
                state.keep_best(value, plan.patience)
                progress = replace(progress, metric=metric, value=value, before=before, curve=state.curve)
            report(progress)
            losses, marked = [], time.monotonic()
        if saves or state.stopped:
            state.seconds += time.monotonic() - started
            started = saved = time.monotonic()
            state.save(checkpoint, recipe, patches.digest)
        if state.stopped:
            break

    facts = {
        "recipe": recipe.as_dict(),
        "training": {
            "steps": state.step,
            "minutes": round(state.seconds / 60, 1),
            "device": str(device),
            "files": patches.files,
            "data_digest": patches.digest,
            "skipped": list(patches.skipped),
            "best": state.best if state.curve else None,
            "curve": state.curve,
        },
    }
    final = state.averaged or model.state_dict()
    trained = (state.best_weights if plan.select_weights == "best" else final) or final
    model.load_state_dict(
        {key: torch.lerp(x, initial[key].to(x), plan.initial_share) for key, x in trained.items()}
        if plan.initial_share
        else trained
    )
    weights.save(
        out,
        model,
        name=recipe.name,
        architecture=recipe.model.architecture,
        facts=facts,
        bits=recipe.model.bits,
    )
    return weights.card(out)


def _start_from(model: Denoiser, recipe: Recipe) -> None:
    """Initialise a model with the weights of `model.init`, as far as they fit."""
    name = recipe.model.init
    start = weights.load(weights_path(name))[0].state_dict()
    try:
        model.warm_start(start)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise UsageError(f"recipe {recipe.name}: cannot start from {name}: {reason}") from error


def _prefetch(
    batch_of: Callable[[int], tuple[Tensor, Tensor]], steps: range, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batch of each step; on a GPU batches are made two steps ahead on a second CUDA stream."""
    if device.type != "cuda":
        yield from map(batch_of, steps)
        return
    stream = torch.cuda.Stream(device, priority=-1)  # type: ignore[no-untyped-call]

    def make(step: int) -> tuple[tuple[Tensor, Tensor], torch.cuda.Event]:
        with torch.cuda.stream(stream):
            return batch_of(step), stream.record_event()

    with ThreadPoolExecutor(1) as pool:
        pending = deque(pool.submit(make, step) for step in steps[:2])
        for step in steps:
            batch, ready = pending.popleft().result()
            if step + 2 in steps:
                pending.append(pool.submit(make, step + 2))
            current = torch.cuda.current_stream(device)
            current.synchronize()  # first: a full launch queue would block both threads
            current.wait_event(ready)
            for part in batch:
                part.record_stream(current)  # keep its memory until this stream has used it
            yield batch


def _schedule(plan: FitRecipe, step: int) -> float:
    """Return the learning rate at a step as a share of its peak."""
    if plan.schedule == "trapezoid":
        rising = (step + 1) / max(1, plan.warmup)
        falling = (plan.steps - step) / max(1.0, plan.cooldown * plan.steps)
        return min(1.0, rising, falling)
    if plan.schedule == "cosine":
        warmup, start, floor = plan.warmup, 0.0, 0.01
    elif plan.schedule == "one-cycle":  # Smith & Topin 2019
        warmup, start, floor = round(0.3 * plan.steps), 0.04, 1e-4
    else:
        raise unknown("schedule", plan.schedule, ("cosine", "one-cycle", "trapezoid"))
    if step < warmup:
        return start + (1 - start) * (step + 1) / warmup
    done = (step - warmup) / max(1, plan.steps - warmup)
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


class _State:
    """State of a run: everything a checkpoint holds besides the recipe."""

    def __init__(self, model: Denoiser, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.step = 0
        self.seconds = 0.0
        self.averaged: dict[str, Tensor] = {}
        self.best = -math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.since_best = 0
        self.stopped = False
        self.curve: list[dict[str, float]] = []

    def average(self, model: Denoiser, decay: float) -> None:
        """Update the exponential moving average of the weights; its decay starts lower and rises."""
        if not decay:
            return
        if not self.averaged:
            self.averaged = {key: value.detach().clone() for key, value in model.state_dict().items()}
            return
        new_share = 1 - min(decay, (1 + self.step) / (10 + self.step))
        for key, value in model.state_dict().items():
            self.averaged[key].lerp_(value.detach(), new_share)

    def evaluate(self, model: Denoiser, held_out: Sequence[Pair], recipe: Recipe) -> tuple[str, float, float]:
        """Return the headline metric, its mean over the validation pairs, and that of the noisy input."""
        name = MODALITIES[recipe.modality].headline
        metric = metrics.metric(name)
        current = {key: value.detach().clone() for key, value in model.state_dict().items()}
        model.load_state_dict(self.averaged or current)
        device = next(model.parameters()).device
        model.to("cpu").eval()
        after, before = [], []
        for noisy, target, rate in held_out:
            denoised = apply(model, noisy, peak=1.0, sample_rate=rate)
            after.append(metric(target, denoised, peak=1.0))
            before.append(metric(target, noisy, peak=1.0))
        model.to(device).train()
        model.load_state_dict(current)
        return name, float(np.mean(after)), float(np.mean(before))

    def keep_best(self, value: float, patience: int) -> None:
        """Store the best weights, and stop after `patience` validations without a better value."""
        if value > self.best:
            self.best, self.since_best = value, 0
            source = self.averaged or self.model.state_dict()
            self.best_weights = {key: tensor.detach().clone() for key, tensor in source.items()}
            return
        self.since_best += 1
        self.stopped = bool(patience) and self.since_best >= patience

    def save(self, path: Path, recipe: Recipe, data_digest: str) -> None:
        """Write the checkpoint atomically."""
        content = {
            "recipe": _comparable(recipe),
            "data_digest": data_digest,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "steps": recipe.fit.steps,
            **{key: getattr(self, key) for key in _SAVED},
        }
        with replacing(path) as partial:
            torch.save(content, partial)

    def restore(self, path: Path, recipe: Recipe, data_digest: str) -> None:
        """Load the state that `save` wrote.

        Raises:
            WeightsError: The file is not a checkpoint, or damaged.
            UsageError: The checkpoint belongs to another recipe, or to other data.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                if part := archive.testzip():  # torch.load does not check
                    raise WeightsError(
                        f"{path}: is damaged: {part} has another checksum (--overwrite starts anew)"
                    )
            device = next(self.model.parameters()).device
            content = torch.load(path, map_location=device, weights_only=True)
            if content["recipe"] != _comparable(recipe):
                raise UsageError(
                    f"{path}: belongs to another recipe or other settings; expected those of {recipe.name} "
                    "(--overwrite starts anew)"
                )
            if content["data_digest"] != data_digest:
                raise UsageError(
                    f"{path}: belongs to a run on other data; expected the same files, or --overwrite, which "
                    "starts anew"
                )
            if not _same_so_far(recipe.fit, content["steps"], content["step"]):
                raise UsageError(
                    f"{path}: is of a run of {content['steps']} steps, expected {recipe.fit.steps}; "
                    "the number can change only before the cooldown of a trapezoid schedule"
                )
            for key in ("model", "averaged", "best_weights"):
                content[key] = {weights.current_name(name): x for name, x in (content[key] or {}).items()}
            self.model.load_state_dict(content["model"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (BadZipFile, RuntimeError, KeyError, EOFError, ValueError, UnpicklingError) as error:
            raise WeightsError(f"{path}: is not a checkpoint that can be resumed") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        for key in _SAVED:
            setattr(self, key, content[key])


_SAVED = ("step", "seconds", "averaged", "best", "best_weights", "since_best", "stopped", "curve")


def _comparable(recipe: Recipe) -> str:
    """Return the recipe as text, without the fields that may change between parts of one run."""
    plain = recipe.as_dict()
    for key in ("description", "sources", "limits"):
        plain.pop(key)
    for key in ("steps", "threads", "checkpoint_minutes", "validate_every", "select_weights"):
        plain["fit"].pop(key)
    return repr(plain)


def _same_so_far(plan: FitRecipe, steps: int, done: int) -> bool:
    """Tell whether a run of `steps` in total had the same learning rates so far as one of `plan.steps`."""
    if plan.schedule == "trapezoid":
        return plan.steps == steps or done <= (1 - plan.cooldown) * min(plan.steps, steps)
    return plan.steps == steps
