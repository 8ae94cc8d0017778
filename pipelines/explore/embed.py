"""Compute codes of files, by a model that is given or fitted on them."""

from __future__ import annotations

import csv
import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from denoise.analysis import codes as coding
from denoise.analysis.codes import Codes
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.segments import Segmentation, count
from denoise.errors import UsageError
from pipelines.batch.discover import Source, refuse_overlap
from pipelines.explore import code_map
from pipelines.explore.jobs import EmbedJob
from pipelines.explore.segments import Files, default_segmentation, find, fit_embedding, sample
from pipelines.report import writing

__all__ = ["SUFFIXES", "EmbedResult", "embed", "refuse_existing"]

SUFFIXES = (".npz", ".csv", ".parquet")
_NOISE = 0.1  # in training, of the excerpts' deviation: keeps a network from learning few of them by heart


@dataclass(frozen=True)
class EmbedResult:
    """Result of an embedding.

    Args:
        cut: How the files were cut.
        code_size: Numbers a code.
        codes: Of each file that has some.
        files: All of them, with what went wrong.
        learned_from: How many excerpts the model was fitted on; 0 where it was given.
        snr_db: Energy of the excerpts about their mean over what the codes do not bring back.
        bytes_written: Of the output.
    """

    cut: Segmentation
    code_size: int
    codes: tuple[Codes, ...]
    files: Files
    learned_from: int
    snr_db: float
    bytes_written: int

    @property
    def count(self) -> int:
        """Number of codes."""
        return sum(len(file.codes) for file in self.codes)

    @property
    def left_out(self) -> int:
        """Number of excerpts without a code, as they hold gaps."""
        return sum(count(self.cut, file.pages) - len(file.codes) for file in self.codes)


def embed(job: EmbedJob) -> EmbedResult:
    """Write the codes of files.

    Raises:
        UsageError: The call cannot work: an output of another kind or already there, a model without a
            code, or nothing to read.
        OutputError: The output cannot be written.
    """
    _check(job)
    learned = None
    if job.model:
        embedding, cut = AutoencoderEmbedding.load(job.model)
        files = _find(job, cut.modality)
    else:
        files = _find(job, job.kind)
        cut = default_segmentation(files, job.window)
        learned = sample(files, cut, seed=job.seed)
        embedding = fit_embedding(learned, cut, job.code_size, job.seed, steps=job.steps, noise=_NOISE)
    done = list(files.each(lambda source: coding.embed(source.path, (embedding, cut), options=files.options)))
    sources, found = [source for source, _ in done], [codes for _, codes in done]
    if not found:
        raise UsageError(f"none of {len(files.sources)} files has a code: {files.problems[0].error}")
    found = [replace(codes, name=name) for codes, name in zip(found, _names(sources), strict=True)]
    error, energy = sum(file.squared_error for file in found), sum(file.energy for file in found)
    snr_db = float(10 * np.log10(energy / error)) if error and energy else float("inf")
    facts: dict[str, Any] = {"results": {"snr_db": round(snr_db, 2)}}
    if learned is not None:
        digest = hashlib.sha256(learned.tobytes()).hexdigest()
        facts["learned"] = {"files": len(found), "excerpts": len(learned), "data_digest": digest}
    with _weights_file(job, embedding, cut, facts) as model, writing(job.output) as partial:
        if job.output.suffix.lower() == ".npz":
            coding.save(
                partial, cut, found, model, keep_model=not (job.model or job.save_model), bits=job.bits
            )
        else:
            _write_table(partial, job.output, cut, found)
    if job.plot:
        code_map.draw(job.plot, found, [source.path.parent for source in sources])
    size = job.output.stat().st_size
    return EmbedResult(
        cut,
        found[0].codes.shape[1],
        tuple(found),
        files,
        0 if learned is None else len(learned),
        snr_db,
        size,
    )


def _check(job: EmbedJob) -> None:
    suffix = job.output.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{job.output}: codes are written as {' '.join(SUFFIXES)}, not {suffix or 'that'}")
    if job.bits is not None and suffix != ".npz":
        raise UsageError(f"{job.output}: quantised codes are for an archive, expected .npz")
    if job.plot and job.plot.suffix.lower() != ".png":
        raise UsageError(f"{job.plot}: the map is written as .png")
    if job.save_model and job.save_model.suffix.lower() != ".safetensors":
        raise UsageError(f"{job.save_model}: a model is written as .safetensors")
    if job.model and job.save_model:
        raise UsageError(f"{job.save_model}: nothing is fitted where a model is given")
    for path in filter(None, (job.output, job.plot, job.save_model)):
        refuse_existing(path, job.overwrite)
        for folder in filter(Path.is_dir, job.inputs):
            refuse_overlap(folder, path)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file.

    Raises:
        UsageError: It exists, and `overwrite` is not set.
    """
    if not overwrite and path.exists():
        raise UsageError(f"{path}: is there already; --overwrite replaces it")


def _find(job: EmbedJob, kind: str | None) -> Files:
    options = {"columns": job.columns} if job.columns else {}
    return find(job.inputs, kind, recursive=job.recursive, options=options)


def _names(sources: Sequence[Source]) -> list[str]:
    """Unique names of the files: their places below the inputs, or their full paths."""
    names = [source.relative.as_posix() for source in sources]
    if len(set(names)) == len(names):
        return names
    return [source.path.resolve().as_posix().lstrip("/") for source in sources]


@contextmanager
def _weights_file(
    job: EmbedJob, embedding: AutoencoderEmbedding, cut: Segmentation, facts: Mapping[str, Any]
) -> Iterator[Path]:
    """The model as a file: the given one, the one to be kept, or one for a moment."""
    if job.model:
        yield job.model
        return
    with tempfile.TemporaryDirectory() as folder:
        path = job.save_model or Path(folder) / "codes.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        embedding.save(path, path.stem, cut, **facts)
        yield path


def _write_table(partial: Path, path: Path, cut: Segmentation, files: Sequence[Codes]) -> None:
    """A row a code: where its excerpt begins, and its numbers."""
    places = [place for file in files for place in file.places(cut)]
    axes = ("row_px", "column_px") if cut.modality == "image" else ("sample",)
    columns: dict[str, Any] = {
        "file": [file.name for file in files for _ in file.codes],
        "page": [place.page for place in places],
        "channel": [place.channel for place in places],
    }
    columns |= {name: [place.start[axis] for place in places] for axis, name in enumerate(axes)}
    numbers = np.concatenate([file.codes for file in files])
    columns |= {f"code{index}": numbers[:, index] for index in range(numbers.shape[1])}
    if path.suffix.lower() == ".csv":
        with partial.open("w", newline="", encoding="utf-8") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"{path}: Parquet needs pyarrow, which is not installed; expected the extra: "
            "pip install 'denoise-pipelines[parquet]'"
        ) from error
    parquet.write_table(pyarrow.table(columns), partial)
