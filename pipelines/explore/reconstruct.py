"""Turn codes into files."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from denoise import weights
from denoise.analysis import codes as coding
from denoise.analysis.codes import CodeArchive, Codes
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.segments import Segmentation
from denoise.errors import InputError, OutputError, UnreadableError, WeightsError, reason
from pipelines.batch.discover import Problem
from pipelines.explore.embed import refuse_existing
from pipelines.explore.jobs import ReconstructJob

__all__ = ["ReconstructResult", "reconstruct"]


@dataclass(frozen=True)
class ReconstructResult:
    """Files that were written, and problems with others."""

    written: tuple[Path, ...]
    problems: tuple[Problem, ...]


def reconstruct(job: ReconstructJob) -> ReconstructResult:
    """Turn codes into files again.

    Raises:
        UnreadableError: The archive cannot be read.
        WeightsError: The model is missing, or is another.
        UsageError: A file would be replaced.
        OutputError: The folder cannot be made.
    """
    archive = coding.load(job.archive)
    modality = archive.cut.modality
    targets = _targets(job, archive.files, modality)
    for target in targets:
        refuse_existing(target, job.overwrite)
    written: list[Path] = []
    problems: list[Problem] = []
    with _model(job, archive) as model:
        for codes, target in zip(archive.files, targets, strict=True):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                coding.write_pages(target, coding.reconstruct(codes, model), codes, modality)
                written.append(target)
            except OSError as error:
                raise OutputError(f"{target}: its folder cannot be made: {error.strerror}") from error
            except (InputError, ValueError) as error:  # pages of sizes that cannot be
                problems.append(Problem(target, f"{target}: cannot be brought back: {reason(error)}"))
    return ReconstructResult(tuple(written), tuple(problems))


def _targets(job: ReconstructJob, files: Sequence[Codes], modality: str) -> list[Path]:
    """Path of each result; a suffix is appended to that of the source where two results would collide."""
    names = [PurePosixPath(codes.name) for codes in files]
    for name in names:
        if not name.name or name.is_absolute() or ".." in name.parts:
            raise UnreadableError(f"{job.archive}: names a file {str(name)!r}, expected one below the folder")
    suffixes = [coding.suffix_of(codes, modality) for codes in files]
    short = [name.with_suffix(suffix) for name, suffix in zip(names, suffixes, strict=True)]
    often = Counter(short)
    return [
        job.output / (one if often[one] == 1 else name.with_name(name.name + suffix))
        for one, name, suffix in zip(short, names, suffixes, strict=True)
    ]


@contextmanager
def _model(job: ReconstructJob, archive: CodeArchive) -> Iterator[tuple[AutoencoderEmbedding, Segmentation]]:
    """The model that made the codes: out of the archive, from where it says, or from where it is now."""
    with tempfile.TemporaryDirectory() as folder:
        path = job.model or Path(archive.model_path)
        if archive.model and not job.model:
            path = Path(folder) / "codes.safetensors"
            path.write_bytes(archive.model)
        if not path.is_file():
            raise WeightsError(
                f"{path}: is not there; expected the weights that made {job.archive} (--model)"
            )
        if weights.digest(path) != archive.model_digest:
            raise WeightsError(f"{path}: is not the model that made {job.archive}; its digest is another")
        yield AutoencoderEmbedding.load(path)[0], archive.cut
