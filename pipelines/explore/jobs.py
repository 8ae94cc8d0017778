"""Settings of `embed`, `reconstruct`, `similar`, `anomalies`, `compress` and `decompress`, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from denoise.options import MAX_SEED, Option, Options
from denoise.signal import MODALITIES

Overwrite = Annotated[bool, Option("Replace existing files.")]
SaveModel = Annotated[Path | None, Option("Save the fitted model as .safetensors.", metavar="FILE")]
ArchivedModel = Annotated[
    Path | None,
    Option("Weights that made the codes.", metavar="FILE", unset="in the archive, or where it says"),
]
PROJECTIONS = ("pca", "tsne", "umap")
_WINDOW = Option(
    "Size of a window: pixels a side, seconds, or samples of a log.",
    low=0,
    low_open=True,
    metavar="SIZE",
    unset="whole pictures; 0.064 s; 128 samples",
)
_TILE = replace(_WINDOW, unset="16 pixels, small pictures as a whole; 0.064 s; 128 samples")


@dataclass(frozen=True, kw_only=True)
class _FittingJob(Options):
    """Files of one kind, and an autoencoder that is fitted unless a model is given."""

    inputs: tuple[Path, ...]
    kind: Annotated[
        str | None, Option("Kind of files to use, if the inputs hold several.", choices=tuple(MODALITIES))
    ] = None
    steps: Annotated[int, Option("Training steps: more take longer and lose less.", low=1, high=10**9)] = 1000
    columns: Annotated[
        tuple[str, ...] | None,
        Option("Columns of sensor logs, names or globs.", metavar="A,B,..", unset="all measurements"),
    ] = None
    seed: Annotated[int, Option("Seed of the training.", low=0, high=MAX_SEED)] = 0
    recursive: Annotated[bool, Option("Include folders below the inputs.")] = True
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class EmbedJob(_FittingJob):
    """Compute the codes of files."""

    output: Annotated[Path, Option("The codes: .npz, .csv or .parquet.", short="-o", metavar="FILE")]
    model: Annotated[
        Path | None,
        Option("Weights of an autoencoder without skips.", metavar="FILE", unset="fitted on the inputs"),
    ] = None
    pretrained: Annotated[
        str | None,
        Option(
            "Encoder of a shipped model instead of a fitted one: nothing is trained.",
            choices=("photo", "speech", "sensor"),  # denoise.analysis.encoder.SOURCES is slow to import
        ),
    ] = None
    save_model: SaveModel = None
    code_size: Annotated[int, Option("Numbers per code of a fitted model.", low=1, high=4096)] = 32
    window: Annotated[float | None, _WINDOW] = None
    bits: Annotated[
        int | None,
        Option(
            "Bits per number of a code: a small file, for denoise reconstruct.",
            low=1,
            high=16,
            flag="--quantize",
            metavar="BITS",
            unset="float32",
        ),
    ] = None
    plot: Annotated[
        Path | None, Option("Draw a map of the codes, one colour per folder.", metavar="FILE.png")
    ] = None
    projection: Annotated[
        str, Option("Projection of codes for maps: tsne and umap need the extra maps.", choices=PROJECTIONS)
    ] = "pca"


@dataclass(frozen=True, kw_only=True)
class ReconstructJob(Options):
    """Reconstruct files from the codes of `archive`."""

    archive: Path
    output: Annotated[Path, Option("Folder for the files.", short="-o", metavar="DIR")]
    model: ArchivedModel = None
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class SimilarJob(Options):
    """Find the files of `archive` that are similar to another."""

    archive: Annotated[
        Path, Option("Archive of denoise embed to search in.", flag="--in", metavar="CODES.npz")
    ]
    count: Annotated[int, Option("Number of files to list.", short="-k", low=1, high=10**9)] = 10
    model: ArchivedModel = None


_Codec = Annotated[
    Path | None,
    Option("Weights of an image codec, of denoise train.", metavar="FILE", unset="the shipped ones"),
]
_Output = Annotated[Path, Option("File, or folder for several.", short="-o", metavar="PATH")]


@dataclass(frozen=True, kw_only=True)
class CompressJob(Options):
    """Compress images."""

    inputs: tuple[Path, ...]
    output: _Output
    quality: Annotated[float, Option("0 is the smallest file, 100 the best picture.", low=0, high=100)] = 50.0
    lossless: Annotated[bool, Option("Store the residual too: every sample is restored exactly.")] = False
    model: _Codec = None
    recursive: Annotated[bool, Option("Include folders below the inputs.")] = True
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class DecompressJob(Options):
    """Restore compressed images."""

    inputs: tuple[Path, ...]
    output: _Output
    model: _Codec = None
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class AnomaliesJob(_FittingJob):
    """Find files that differ from normal ones."""

    output: Annotated[
        Path | None,
        Option("Write all figures: .json or .csv; with --online .csv.", short="-o", metavar="FILE"),
    ] = None
    fit_on: Annotated[Path | None, Option("Folder of normal files for training.", metavar="DIR")] = None
    model: Annotated[
        Path | None,
        Option(
            "Model of --save-model; with --fit-on an autoencoder without skips trained on other files.",
            metavar="FILE",
        ),
    ] = None
    save_model: SaveModel = None
    quantile: Annotated[
        float | None,
        Option(
            "Share of normal windows, and of normal files, that pass.",
            low=0,
            high=1,
            low_open=True,
            high_open=True,
            metavar="Q",
            unset="0.99, or the model's",
        ),
    ] = None
    tail: Annotated[
        str,
        Option(
            "Rank scores above all normal ones by an extreme-value fit, or not at all.",
            choices=("pareto", "quantile"),  # denoise.analysis.thresholds.TAILS is slow to import
        ),
    ] = "pareto"
    heat_maps: Annotated[
        Path | None, Option("Draw each anomalous picture, red where it is anomalous.", metavar="DIR")
    ] = None
    code_size: Annotated[int, Option("Numbers per code of a fitted model.", low=1, high=4096)] = 8
    window: Annotated[float | None, _TILE] = None
    standardise: Annotated[bool, Option("Ignore the level of each window; judge its shape alone.")] = False
    online: Annotated[
        bool, Option("Judge each row of a sensor log by the rows before it; nothing else is learned from.")
    ] = False
