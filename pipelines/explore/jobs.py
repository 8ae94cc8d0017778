"""Settings of `embed`, `reconstruct` and `anomalies`, as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["AnomaliesJob", "EmbedJob", "ReconstructJob"]


@dataclass(frozen=True, kw_only=True)
class EmbedJob:
    """What to make codes of, and where they go.

    Args:
        inputs: Files and folders of one kind.
        output: `.npz`, `.csv` or `.parquet`.
        model: A weights file of the autoencoder family without skips; None fits one on the inputs.
        save_model: Where the one that is fitted goes; None puts it into the `.npz`.
        kind: Which modality is taken, where the inputs hold several.
        code_size: Numbers a code, of a model that is fitted.
        steps: Updates of that fit: more take longer and bring more back.
        window: What gets a code: side in pixels of tiles, seconds of recordings, samples of logs. None looks
            at pictures as a whole, and takes those of `pipelines.explore.segments.default_cut` for signals.
        bits: Of each number of a code in the `.npz`; None keeps float32.
        plot: A picture of the codes, `.png`; None draws none.
        columns: Of sensor logs, names or globs.
        seed: Decides the fit.
        recursive: Whether folders below an input folder are gone into.
        overwrite: Replace what is there.
    """

    inputs: tuple[Path, ...]
    output: Path
    model: Path | None = None
    save_model: Path | None = None
    kind: str | None = None
    code_size: int = 32
    steps: int = 1000
    window: float | None = None
    bits: int | None = None
    plot: Path | None = None
    columns: tuple[str, ...] | None = None
    seed: int = 0
    recursive: bool = True
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class ReconstructJob:
    """What to bring back from codes.

    Args:
        archive: The `.npz` of `embed`.
        output: Folder for the files.
        model: Where the weights file is now, if not where the archive says.
        overwrite: Replace what is there.
    """

    archive: Path
    output: Path
    model: Path | None = None
    overwrite: bool = False


@dataclass(frozen=True, kw_only=True)
class AnomaliesJob:
    """What to look for anomalies in, and what to compare it with.

    Args:
        inputs: Files and folders of one kind.
        output: The report, `.json` or `.csv`.
        model: A weights file that says what is normal; with `fit_on` any of the autoencoder family without
            skips, which must not have learned from these files: what it knows by heart is no measure.
        fit_on: Folder or file of normal files: an autoencoder and the threshold, or the threshold alone, come
            from them.
        save_model: Where what was learned goes.
        quantile: Share of normal excerpts, and of normal files, that are to pass; None takes the model's own,
            or 0.99.
        tail: A row of `denoise.analysis.thresholds.TAILS`.
        heat_maps: Folder for a picture of each anomalous image that shows where.
        kind: Which modality is taken, where the inputs hold several.
        code_size: Numbers a code, of an autoencoder that is fitted.
        steps: Updates of that fit.
        window: What is looked at: side in pixels of tiles, seconds of recordings, samples of logs.
        standardise: Look at the shape of each window alone, not at its level.
        columns: Of sensor logs, names or globs.
        seed: Decides the fit.
        recursive: Whether folders below an input folder are gone into.
        overwrite: Replace what is there.
    """

    inputs: tuple[Path, ...]
    output: Path
    model: Path | None = None
    fit_on: Path | None = None
    save_model: Path | None = None
    quantile: float | None = None
    tail: str = "pareto"
    heat_maps: Path | None = None
    kind: str | None = None
    code_size: int = 8
    steps: int = 1000
    window: float | None = None
    standardise: bool = False
    columns: tuple[str, ...] | None = None
    seed: int = 0
    recursive: bool = True
    overwrite: bool = False
