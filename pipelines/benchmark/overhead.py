"""Time a batch against its model alone: the cost of files and workers."""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from denoise import io
from denoise.errors import UsageError
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.machine import cores
from denoise.options import CleanOptions
from pipelines.batch import discover
from pipelines.batch import run as batch
from pipelines.batch.allocation import tune_allocation
from pipelines.batch.discover import Item
from pipelines.batch.jobs import CleanJob
from pipelines.batch.manifest import Entry


@dataclass(frozen=True)
class Overhead:
    """Wall-clock seconds."""

    model: str
    files: int  # number of files cleaned
    model_seconds: float  # model alone: arrays in memory, one after another, on all cores
    first_seconds: float  # batch until its first file: starting processes, loading the model
    batch_seconds: float  # batch from then on, from files to files

    @property
    def ratio(self) -> float:
        """Time of the batch over that of the model alone."""
        return self.batch_seconds / self.model_seconds

    def as_dict(self) -> dict[str, Any]:
        """Return the form of `--json`."""
        return asdict(self) | {"ratio": self.ratio}


def measure(model: str, inputs: tuple[Path, ...], workers: int | None = None) -> Overhead:
    """Clean the files in memory, then again as a batch into a temporary folder.

    Files of other kinds than those of the model are skipped.

    Raises:
        UsageError: The model cleans none of the files, or a file fails.
    """
    tune_allocation()
    torch.set_num_threads(cores())
    with tempfile.TemporaryDirectory() as folder:
        cleaning = CleanJob(
            inputs=inputs,
            output=Path(folder),
            options=CleanOptions(model=model),
            workers=workers,
            overwrite=True,
        )
        plan = discover.plan(cleaning.inputs, cleaning.output, reject_reason=cleaning.reject_reason)
        if not plan.items:
            raise UsageError(f"{model} cleans none of {', '.join(map(str, inputs))}")
        cleaners = {modality: load(model, modality) for modality in plan.modalities}
        for item in {item.modality: item for item in plan.items}.values():
            _model_seconds(cleaners[item.modality], item)  # the first run sets things up and does not count
        model_seconds = sum(_model_seconds(cleaners[item.modality], item) for item in plan.items)
        first_seconds, batch_seconds = _batch_seconds(cleaning, len(plan.items))
    return Overhead(model, len(plan.items), model_seconds, first_seconds, batch_seconds)


def _model_seconds(cleaner: Cleaner, item: Item) -> float:
    with io.reader(item.source) as reader:
        info = reader.info
        blocks = list(reader)
    if info.modality != "image":
        blocks = [np.concatenate(blocks, axis=-1)]
    keep, started = info.passthrough_channels, time.perf_counter()
    for block in blocks:
        cleaner.apply(block, peak=info.peak, keep=keep, sample_rate=info.sample_rate)
    return time.perf_counter() - started


def _batch_seconds(job: CleanJob, files: int) -> tuple[float, float]:
    """Seconds until the first file starts, and from then on."""
    begun: list[float] = []

    def on_entry(entry: Entry) -> None:
        begun.append(time.perf_counter() - entry.seconds)

    started = time.perf_counter()
    result = batch.run(job, lambda _: nullcontext(on_entry))
    ended = time.perf_counter()
    errors = [entry.error for entry in result.entries if entry.status != "ok"]
    if errors:
        raise UsageError(f"{len(errors)} of {files} files fail, among them: {errors[0]}")
    return min(begun) - started, ended - min(begun)


def as_text(found: Overhead) -> str:
    """Two lines of text."""
    return (
        f"{found.files} files: {found.model} alone {found.model_seconds:.2f} s, the batch "
        f"{found.batch_seconds:.2f} s, {found.ratio:.3f} of it\n"
        f"before the first file {found.first_seconds:.2f} s, once a batch"
    )
