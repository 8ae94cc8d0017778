"""Reconstruct files from their codes."""

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
from denoise.analysis.encoder import SOURCES, PretrainedEncoder
from denoise.analysis.segments import Segmentation
from denoise.errors import InputError, OutputError, UnreadableError, UsageError, WeightsError, reason
from pipelines.batch.discover import Problem
from pipelines.explore.jobs import ReconstructJob
from pipelines.report import check_outputs


@dataclass(frozen=True)
class ReconstructResult:
    """Written files, and problems with others."""

    written: tuple[Path, ...]
    problems: tuple[Problem, ...]


def reconstruct(job: ReconstructJob) -> ReconstructResult:
    """Reconstruct the files of an archive of codes.

    Raises:
        WeightsError: The model is missing, or did not make the codes.
        UsageError: A file would be replaced.
    """
    archive = coding.load(job.archive)
    modality = archive.cut.modality
    targets = _targets(job, archive.files, modality)
    check_outputs({target: (target.suffix.lower(),) for target in targets}, (), job.overwrite)
    written: list[Path] = []
    problems: list[Problem] = []
    with archived_model(job.archive, archive, job.model) as (embedding, cut):
        if not isinstance(embedding, AutoencoderEmbedding):
            raise UsageError(f"{job.archive}: holds codes of --pretrained, which cannot be decoded")
        model = embedding, cut
        for codes, target in zip(archive.files, targets, strict=True):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                coding.write_pages(target, coding.reconstruct(codes, model), codes, modality)
                written.append(target)
            except OSError as error:
                raise OutputError(f"{target}: its folder cannot be made: {error.strerror}") from error
            except (InputError, ValueError) as error:  # pages of invalid sizes
                problems.append(Problem(target, f"{target}: cannot be reconstructed: {reason(error)}"))
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
    targets = [
        job.output / (one if often[one] == 1 else name.with_name(name.name + suffix))
        for one, name, suffix in zip(short, names, suffixes, strict=True)
    ]
    twice = [target for target, number in Counter(targets).items() if number > 1]
    if twice:
        raise UnreadableError(f"{job.archive}: names two files that would be written to {twice[0]}")
    return targets


@contextmanager
def archived_model(
    name: Path, archive: CodeArchive, given: Path | None = None
) -> Iterator[tuple[AutoencoderEmbedding | PretrainedEncoder, Segmentation]]:
    """Load the model that made codes: the one given, or from their archive, or by its path or name in it.

    Raises:
        WeightsError: The model is missing, or did not make the codes.
    """
    with tempfile.TemporaryDirectory() as folder:
        shipped = archive.model_path.removeprefix(coding.PRETRAINED)
        pretrained = shipped in SOURCES and shipped != archive.model_path and not given
        path = weights.pretrained()[shipped] if pretrained else given or Path(archive.model_path)
        if archive.model and not given:
            path = Path(folder) / "codes.safetensors"
            path.write_bytes(archive.model)
        if not path.is_file():
            raise WeightsError(f"{path}: no such file; expected the weights that made {name} (--model)")
        if weights.digest(path) != archive.model_digest:
            raise WeightsError(f"{path}: is not the model that made {name}: their digests differ")
        yield (
            PretrainedEncoder(shipped, archive.cut) if pretrained else AutoencoderEmbedding.load(path)[0],
            archive.cut,
        )
