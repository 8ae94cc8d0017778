"""Find the files whose codes are nearest to those of another, and groups of near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from denoise.analysis import codes as coding
from denoise.analysis.codes import Codes
from denoise.analysis.origin import misfits, origin
from denoise.arrays import Floats
from denoise.errors import UsageError
from pipelines.explore.jobs import SimilarJob
from pipelines.explore.reconstruct import archived_model

DUPLICATE = 0.999  # cosine of the codes of near-duplicates
SAME_PICTURE = 0.95  # correlation of the thumbnails of near-duplicates
_SAME_SHADE = 1.0  # difference of two one-coloured thumbnails, of 255
_TINY = 1e-12


class Match(NamedTuple):
    """File of an archive, and the cosine of the angle between its code and that of another."""

    name: str
    similarity: float


def similar(path: Path, job: SimilarJob) -> tuple[list[Match], tuple[str, ...]]:
    """List the most similar files of the archive, by the cosine of their mean codes.

    Codes are centred by the mean of the archive, so that what all files share does not count. Sentences say
    in what the file differs from those of the archive.

    Raises:
        WeightsError: The model is missing, or did not make the codes.
        UsageError: The archive holds a single file.
    """
    archive = coding.load(job.archive)
    if len(archive.files) < 2:
        raise UsageError(f"{job.archive}: holds one file; expected some to choose from")
    with archived_model(job.archive, archive, job.model) as model:
        found = coding.embed(path, model)
    code, pages = _mean(found), [page for file in archive.files for page in file.pages]
    centre, directions = directions_of(archive.files)
    cosines = directions @ _directions((code - centre)[None])[0]
    order = np.argsort(-cosines, kind="stable")[: job.count]
    matches = [Match(archive.files[index].name, float(cosines[index])) for index in order]
    return matches, misfits(archive.cut, found.pages, origin(archive.cut, pages))


def duplicates(path: Path) -> list[list[str]]:
    """Group the near-duplicates of an archive: each is near another of its group.

    Pictures are near-duplicates if their thumbnails correlate, or have the same single shade; other files if
    their codes point the same way.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    archive = coding.load(path)
    thumbnails = [file.thumbnail.ravel() for file in archive.files if file.thumbnail is not None]
    if thumbnails:
        pixels = np.stack(thumbnails).astype(np.float32)
        shades = pixels.mean(axis=1, keepdims=True)
        directions = _directions(pixels - shades)
        flat = directions[:, -1] == 1  # of one shade, so that they correlate with nothing
        near = directions @ directions.T >= SAME_PICTURE
        near &= ~np.outer(flat, flat) | (np.abs(shades - shades.T) <= _SAME_SHADE)
    else:
        directions = directions_of(archive.files)[1]
        near = directions @ directions.T >= DUPLICATE
    labels = connected_components(csr_array(near), directed=False)[1]
    groups: dict[int, list[str]] = {}
    for label, file in zip(labels.tolist(), archive.files, strict=True):
        groups.setdefault(label, []).append(file.name)
    return [group for group in groups.values() if len(group) > 1]


def directions_of(files: Sequence[Codes]) -> tuple[Floats, Floats]:
    """Mean code of all files, and the unit vectors from there to the files: `(files, code_size + 1)`."""
    means = np.stack([_mean(file) for file in files])
    centre: Floats = means.mean(axis=0)
    return centre, _directions(means - centre)


def _directions(off: Floats) -> Floats:
    """Unit vectors along others; those without a direction get one more axis, so that they are alike."""
    length = np.linalg.norm(off, axis=1, keepdims=True)
    none = length <= _TINY
    return np.concatenate([off / np.where(none, 1, length), none], axis=1, dtype=np.float32)


def _mean(codes: Codes) -> Floats:
    return codes.codes.mean(axis=0)
