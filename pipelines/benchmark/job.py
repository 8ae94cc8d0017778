"""Settings of a benchmark, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from denoise.models import PRECISIONS

__all__ = ["BenchmarkJob"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkJob:
    """Compare models.

    Args:
        inputs: Clean files and folders of them.
        noise: A spec as `denoise.corruptions.parse` takes it; its level is replaced by each of `levels`.
        protocol: A name in `pipelines.benchmark.protocols.PROTOCOLS`, in place of a noise and its levels.
        models: Names and weights files; each takes part in the modalities it cleans.
        levels: In the unit of the noise; without any the spec is taken as it is.
        seed: With a file's place in the tree it decides the noise.
        recursive: Whether folders below an input folder are gone into.
        precision: One of `denoise.models.PRECISIONS`, for trained models of images.
        remove: What each trained model is to take out of sensor logs however faint it is.
        keep: What each is to leave in.
    """

    inputs: tuple[Path, ...]
    noise: str | None = None
    protocol: str | None = None
    models: tuple[str, ...] = ()
    levels: tuple[float, ...] = ()
    seed: int = 0
    recursive: bool = True
    precision: str = PRECISIONS[0]
    remove: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
