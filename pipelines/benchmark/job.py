"""Settings of benchmarks, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from denoise.models.table import PRECISIONS
from denoise.options import MAX_SEED, MAX_WORKERS, Ensemble, Keep, Option, Options, Precision, Remove
from pipelines.benchmark.protocols import ANOMALIES, EVENTS, PROTOCOLS, REAL


@dataclass(frozen=True, kw_only=True)
class BenchmarkJob(Options):
    """Compare models on clean files, or on pairs of noisy and clean files, given as `inputs`."""

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
        Option(
            f"{' or '.join(PROTOCOLS)}: a table of degradations in place of a noise; {REAL}: pairs of files; "
            f"{ANOMALIES}: detectors on labelled tables; {EVENTS}: on labelled series.",
            metavar="NAME",
        ),
    ] = None
    models: Annotated[
        tuple[str, ...],
        Option(
            "Names or weights files; each takes part in the modalities it cleans.",
            metavar="A,B,..",
            unset="the default of clean",
        ),
    ] = ()
    metrics: Annotated[
        tuple[str, ...], Option("Metrics to measure besides, such as pesq,estoi.", metavar="A,B,..")
    ] = ()
    seed: Annotated[
        int, Option("Seed of the noise, together with the place of a file in the tree.", low=0, high=MAX_SEED)
    ] = 0
    seeds: Annotated[int, Option("Noises to draw for each file, by as many seeds.", low=1, high=1000)] = 1
    peers: Annotated[
        bool, Option("Also run packages of others that are installed: bm3d, noisereduce, neurokit2, ...")
    ] = False
    recursive: Annotated[bool, Option("Include folders below the inputs.")] = True
    precision: Precision = PRECISIONS[0]
    ensemble: Ensemble = None
    remove: Remove = ()
    keep: Keep = ()


@dataclass(frozen=True, kw_only=True)
class CostJob(Options):
    """Time models, given by name or weights file, for every modality that they clean."""

    models: tuple[str, ...]
    side_px: Annotated[int, Option("Side of the square image.", "px", low=1, high=20_000, flag="--side")] = (
        1000
    )
    samples: Annotated[int, Option("Length of the signal.", low=1, high=10**9)] = 480_000
    rounds: Annotated[int, Option("Turns for each; the median counts.", low=1, high=10_000)] = 5
    threads: Annotated[
        int | None, Option("Number of torch's threads.", low=1, high=MAX_WORKERS, unset="all cores")
    ] = None
    precision: Annotated[
        tuple[str, ...],
        Option("Arithmetics to time, of " + ", ".join(PRECISIONS[1:]) + ".", metavar="A,B,..", unset="all"),
    ] = ()
    ensemble: Ensemble = None
