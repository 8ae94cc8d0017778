"""Settings of a benchmark, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from denoise.models.table import PRECISIONS
from denoise.options import Keep, Option, Options, Precision, Remove
from pipelines.benchmark.protocols import PROTOCOLS

__all__ = ["BenchmarkJob"]


@dataclass(frozen=True, kw_only=True)
class BenchmarkJob(Options):
    """Compare models on clean files, given as `inputs`."""

    inputs: tuple[Path, ...]
    noise: Annotated[str | None, Option("Such as gaussian, jpeg or pink.", metavar="SPEC")] = None
    levels: Annotated[
        tuple[float, ...],
        Option(
            "Levels in the unit of the noise (gaussian: 0 to 255 on images, dB of SNR on signals).",
            metavar="A,B,..",
        ),
    ] = ()
    protocol: Annotated[
        str | None,
        Option(f"Table of degradations in place of a noise: {' or '.join(PROTOCOLS)}.", metavar="NAME"),
    ] = None
    models: Annotated[
        tuple[str, ...],
        Option("Names or weights files; each takes part in the modalities it cleans.", metavar="A,B,.."),
    ]
    seed: Annotated[int, Option("Seed of the noise, together with the place of a file in the tree.")] = 0
    recursive: Annotated[bool, Option("Include folders below the inputs.")] = True
    precision: Precision = PRECISIONS[0]
    remove: Remove = ()
    keep: Keep = ()
