"""Find the files whose codes are nearest to those of another, and groups of near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from denoise.analysis import codes as coding
from denoise.analysis.codes import Codes
from denoise.arrays import Floats
from denoise.errors import UsageError
from pipelines.explore.jobs import SimilarJob
from pipelines.explore.reconstruct import archived_model

DUPLICATE = 0.999  # cosine similarity of near-duplicates
_TINY = 1e-12


class Match(NamedTuple):
    """File of an archive, and the cosine of the angle between its code and that of another."""

    name: str
    similarity: float


def similar(path: Path, job: SimilarJob) -> list[Match]:
    """List the most similar files of the archive, by the cosine of their mean codes.

    Codes are centred by the mean of the archive, so that what all files share does not count.

    Raises:
        WeightsError: The model is missing, or did not make the codes.
        UsageError: The archive holds a single file.
    """
    archive = coding.load(job.archive)
    if len(archive.files) < 2:
        raise UsageError(f"{job.archive}: holds one file; expected some to choose from")
    with archived_model(job.archive, archive, job.model) as model:
        code = _mean(coding.embed(path, model))
    centre, directions = directions_of(archive.files)
    query = code - centre
    cosines = directions @ (query / (np.linalg.norm(query) + _TINY))
    order = np.argsort(-cosines, kind="stable")[: job.count]
    return [Match(archive.files[index].name, float(cosines[index])) for index in order]


def duplicates(path: Path, least: float = DUPLICATE) -> list[list[str]]:
    """Group files of an archive whose codes point the same way: each is near another of its group."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    archive = coding.load(path)
    _, directions = directions_of(archive.files)
    near = csr_array(directions @ directions.T >= least)
    labels = connected_components(near, directed=False)[1]
    groups: dict[int, list[str]] = {}
    for label, file in zip(labels.tolist(), archive.files, strict=True):
        groups.setdefault(label, []).append(file.name)
    return [group for group in groups.values() if len(group) > 1]


def directions_of(files: Sequence[Codes]) -> tuple[Floats, Floats]:
    """Mean code of all files, and the unit vectors from there to the files: `(files, code_size)`."""
    means = np.stack([_mean(file) for file in files])
    centre: Floats = means.mean(axis=0)
    off = means - centre
    return centre, off / (np.linalg.norm(off, axis=1, keepdims=True) + _TINY)


def _mean(codes: Codes) -> Floats:
    return codes.codes.mean(axis=0)
