"""Compute codes of files, by a model that is given or fitted on them."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from denoise import weights
from denoise.analysis import codes as coding
from denoise.analysis.codes import Codes
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.encoder import SOURCES, PretrainedEncoder
from denoise.analysis.origin import misfits, origin
from denoise.analysis.segments import Segmentation, count
from denoise.errors import UsageError
from pipelines.batch.discover import Source
from pipelines.explore import code_map
from pipelines.explore.jobs import EmbedJob
from pipelines.explore.segments import Files, default_segmentation, find, fit_embedding, sample, windowed
from pipelines.report import as_utf8, check_outputs, write_csv, writing

SUFFIXES = (".npz", ".csv", ".parquet")
_NOISE = 0.1  # training noise, relative to the segments' deviation: prevents overfitting to few of them


@dataclass(frozen=True)
class EmbedResult:
    """Result of an embedding."""

    cut: Segmentation  # segmentation of the files
    codes: tuple[Codes, ...]  # codes of each file that has some
    paths: tuple[Path, ...]  # those files
    files: Files  # all files, with their problems
    n_train: int  # number of segments that the model was fitted on; 0 for a given model
    snr_db: float  # energy of the segments about their mean over the energy of the reconstruction error
    bytes_written: int  # size of the output
    notes: tuple[str, ...] = ()  # sentences about files that differ from those of a given model

    @property
    def code_size(self) -> int:
        """Numbers per code."""
        return len(self.codes[0].codes[0])

    @property
    def count(self) -> int:
        """Number of codes."""
        return sum(len(file.codes) for file in self.codes)

    @property
    def left_out(self) -> int:
        """Number of segments without a code, because they hold gaps."""
        return sum(count(self.cut, file.pages) - len(file.codes) for file in self.codes)


def embed(job: EmbedJob) -> EmbedResult:
    """Write the codes of files.

    Raises:
        UsageError: An output is of another kind or exists, the model has no code, or no file can be read.
    """
    models, maps = (".safetensors",), (".png",)
    check_outputs({job.output: SUFFIXES, job.plot: maps, job.save_model: models}, job.inputs, job.overwrite)
    archive = job.output.suffix.lower() == ".npz"
    if job.bits is not None and not archive:
        raise UsageError(f"{job.output}: quantised codes are for an archive, expected .npz")
    if job.pretrained and (job.model or job.save_model):
        raise UsageError("--pretrained cannot be combined with --model or --save-model")
    if job.model and job.save_model:
        raise UsageError(f"{job.save_model}: nothing is fitted where a model is given")
    items = None
    embedding: AutoencoderEmbedding | PretrainedEncoder
    if job.model:
        embedding, cut = AutoencoderEmbedding.load(job.model)
    elif job.pretrained:
        cut = windowed(SOURCES[job.pretrained].cut, job.window)
        embedding = PretrainedEncoder(job.pretrained, cut)
    given = job.model or job.pretrained
    files = find(
        job.inputs, cut.modality if given else job.kind, recursive=job.recursive, columns=job.columns
    )
    if not given:
        cut = default_segmentation(files, job.window)
        items = sample(files, cut, seed=job.seed)
        embedding = fit_embedding(items, cut, job.code_size, job.seed, steps=job.steps, noise=_NOISE)
    done = list(files.each(lambda source: coding.embed(source.path, (embedding, cut), options=files.options)))
    if not done:
        raise UsageError(f"none of {len(files.sources)} files has a code: {files.problems[0].error}")
    sources = [source for source, _ in done]
    found = [replace(codes, name=name) for (_, codes), name in zip(done, _names(sources), strict=True)]
    error, energy = sum(file.squared_error for file in found), sum(file.energy for file in found)
    snr_db = float(10 * np.log10(energy / error)) if error and energy else float("inf")
    facts: dict[str, Any] = {"results": {"snr_db": round(snr_db, 2)}}
    learned = weights.card(job.model).get("learned") if job.model else None
    known = learned if isinstance(learned, dict) else {}
    notes = [f"{file.name}: {note}" for file in found for note in misfits(cut, file.pages, known)]
    if items is not None:
        digest = hashlib.sha256(items.tobytes()).hexdigest()
        facts["learned"] = {"files": len(found), "excerpts": len(items), "data_digest": digest}
        facts["learned"] |= origin(cut, [page for file in found for page in file.pages])
    with _weights_file(job, embedding, cut, facts) as model:
        if archive:
            keep_model = not (given or job.save_model)
            with writing(job.output) as partial:
                coding.save(partial, cut, found, model, keep_model=keep_model, bits=job.bits)
        else:
            _write_table(job.output, cut, found)
    if job.plot:
        code_map.draw(job.plot, found, [source.path.parent for source in sources], job.projection)
    n_train = 0 if items is None else len(items)
    size, paths = job.output.stat().st_size, tuple(source.path for source in sources)
    return EmbedResult(cut, tuple(found), paths, files, n_train, snr_db, size, tuple(notes))


def _names(sources: Sequence[Source]) -> list[str]:
    """Unique names of the files: their places below the inputs, or their full paths."""
    names = [source.relative.as_posix() for source in sources]
    if len(set(names)) == len(names):
        return names
    return [source.path.resolve().as_posix().lstrip("/") for source in sources]


@contextmanager
def _weights_file(
    job: EmbedJob,
    embedding: AutoencoderEmbedding | PretrainedEncoder,
    cut: Segmentation,
    facts: Mapping[str, Any],
) -> Iterator[Path]:
    """Provide the model as a file: the given one, the one to save, or a temporary one."""
    if isinstance(embedding, PretrainedEncoder):
        yield embedding.path
        return
    if job.model:
        yield job.model
        return
    with tempfile.TemporaryDirectory() as folder:
        path = job.save_model or Path(folder) / "codes.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        embedding.save(path, path.stem, cut, **facts)
        yield path


def _write_table(path: Path, cut: Segmentation, files: Sequence[Codes]) -> None:
    """Write one row per code: the start of its segment, and its numbers."""
    places = [place for file in files for place in file.places(cut)]
    axes = ("row_px", "column_px") if cut.modality == "image" else ("sample",)
    columns: dict[str, Any] = {
        "file": [as_utf8(file.name) for file in files for _ in file.codes],
        "page": [place.page for place in places],
        "channel": [place.channel for place in places],
    }
    columns |= {name: [place.start[axis] for place in places] for axis, name in enumerate(axes)}
    numbers = np.concatenate([file.codes for file in files])
    columns |= {f"code{index}": numbers[:, index] for index in range(numbers.shape[1])}
    if path.suffix.lower() == ".csv":
        write_csv(path, columns, zip(*columns.values(), strict=True))
        return
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError(
            f"{path}: Parquet needs pyarrow, which is not installed; expected the extra: "
            "pip install 'denoise-pipelines[parquet]'"
        ) from error
    with writing(path) as partial:
        parquet.write_table(pyarrow.table(columns), partial)
