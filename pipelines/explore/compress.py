"""Compress images of folders into `.dnz` files, and back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from denoise.compression import file as coding
from denoise.compression.image import ImageCompressor
from denoise.errors import InputError, OutputError, UsageError
from denoise.io.formats import FORMATS
from pipelines.batch.discover import Problem, refuse_file_name
from pipelines.batch.lock import no_empty_folder
from pipelines.batch.worker import with_path
from pipelines.explore.jobs import CompressJob, DecompressJob
from pipelines.explore.segments import find
from pipelines.report import check_outputs


@dataclass
class CompressResult:
    """Written files with the figures of each, and the problems with others."""

    written: list[tuple[Path, Any]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def compress(job: CompressJob) -> CompressResult:
    """Compress images; the figures of each are a `Compressed`.

    Raises:
        UsageError: An output exists or has another suffix, or there is no image.
    """
    found = find(job.inputs, "image", recursive=job.recursive)
    pairs = [(source.path, source.relative) for source in found.sources]
    codec = ImageCompressor(job.model) if job.model else ImageCompressor()

    def run(source: Path, target: Path) -> coding.Compressed:
        return coding.compress(source, target, job.quality, codec, lossless=job.lossless)

    result = CompressResult(problems=list(found.problems))
    return _each(pairs, job.inputs, job.output, (coding.SUFFIX,), job.overwrite, run, result)


def decompress(job: DecompressJob) -> CompressResult:
    """Restore images, as PNG in a folder; the figures of each are its `ImageInfo`.

    Raises:
        UsageError: An output exists or is no image, or there is no compressed file.
    """
    suffixes = tuple(
        s for row in FORMATS.values() if row.modality == "image" and row.writable for s in row.suffixes
    )
    codec = ImageCompressor(job.model) if job.model else ImageCompressor()
    pairs = [pair for path in job.inputs for pair in _packed(path)]
    if not pairs:
        raise UsageError(
            f"{job.inputs[0]}: holds no {coding.SUFFIX} files; expected those of denoise compress"
        )

    def run(source: Path, target: Path) -> Any:
        return coding.decompress(source, target, codec)

    return _each(pairs, job.inputs, job.output, suffixes, job.overwrite, run, CompressResult())


def _packed(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield compressed files below a path, and the place of each below it."""
    if path.is_dir():
        for found in sorted(path.rglob(f"*{coding.SUFFIX}")):
            yield found, found.relative_to(path)
    else:
        yield path, Path(path.name)


def _each(
    pairs: Sequence[tuple[Path, Path]],
    inputs: Sequence[Path],
    output: Path,
    suffixes: tuple[str, ...],
    overwrite: bool,
    run: Callable[[Path, Path], Any],
    result: CompressResult,
) -> CompressResult:
    """Process each file into the output, or below it if that is a folder; one error costs one file."""
    single = len(inputs) == 1 and not inputs[0].is_dir() and bool(output.suffix)
    suffix = suffixes[0]
    if not single:
        refuse_file_name(output, suffixes)
    names = [relative.with_suffix(suffix) for _, relative in pairs]
    often = Counter(names)
    for (source, relative), name in zip(pairs, names, strict=True):
        unique = name if often[name] == 1 else relative.with_name(relative.name + suffix)
        target = output if single else output / unique
        check_outputs({target: suffixes if single else (suffix,)}, inputs if single else (), overwrite)
        try:
            with no_empty_folder(target.parent):
                target.parent.mkdir(parents=True, exist_ok=True)
                result.written.append((target, run(source, target)))
        except InputError as error:
            result.problems.append(Problem(source, with_path(str(error), source)))
        except MemoryError:
            result.problems.append(Problem(source, f"{source}: does not fit into memory"))
        except OSError as error:
            raise OutputError(f"{target}: cannot be written: {os.strerror(error.errno or 0)}") from error
    return result
