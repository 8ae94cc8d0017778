"""Pairs of a real noisy file and its clean counterpart, found by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from denoise import io as files
from denoise.arrays import Array
from denoise.errors import InputError
from denoise.infer.evaluate import rescale
from denoise.io.formats import writable_suffixes
from denoise.signal import SignalInfo
from pipelines.batch.discover import Problem, Source
from pipelines.benchmark.cases import Case, CleanSignal
from pipelines.benchmark.protocols import REAL, Condition

_SIDES = ("noisy", "clean")
_MARK = re.compile(rf"(.*)[_-]({'|'.join(_SIDES)})", re.IGNORECASE)
_NAMING = "expected a_noisy.jpg beside a_clean.jpg, or noisy/a.jpg beside clean/a.jpg"


@dataclass(frozen=True)
class Pair:
    """The two files of a pair; `key` is their common name."""

    key: str
    noisy: Source
    clean: Source


def find_pairs(sources: Iterable[Source]) -> tuple[list[Pair], list[Problem]]:
    """Pair files by name: `a_noisy.png` with `a_clean.png`, or `noisy/a.png` with `clean/a.png`.

    The suffixes of the two may differ. A file of no pair is a problem.
    """
    sides: dict[str, dict[str, Source]] = {}
    problems = []
    for source in sources:
        key, side = _split(source)
        if not side:
            error = f"{source.path}: its name says neither noisy nor clean; {_NAMING}"
            problems.append(Problem(source.path, error))
            continue
        first = sides.setdefault(key, {}).setdefault(side, source)
        if first is not source:
            error = f"{source.path}: {first.path} is the {side} file of the same pair; expected one"
            problems.append(Problem(source.path, error))
    pairs = []
    for key, found in sorted(sides.items()):
        if len(found) == len(_SIDES):
            pairs.append(Pair(key, **found))
        else:
            ((side, source),) = found.items()
            missing = "clean" if side == "noisy" else "noisy"
            error = f"{source.path}: has no {missing} partner; {_NAMING}"
            problems.append(Problem(source.path, error))
    return pairs, problems


def _split(source: Source) -> tuple[str, str]:
    """Return the common name of a pair, and the side; an empty side if the name has none."""
    relative = source.relative.with_suffix("")
    if match := _MARK.fullmatch(relative.name):
        return relative.with_name(match[1] or "_").as_posix(), match[2].lower()
    folders = [*relative.parent.parts]
    for index in reversed(range(len(folders))):
        if (side := folders[index].lower()) in _SIDES:
            return "/".join([*folders[:index], *folders[index + 1 :], relative.name]), side
    return relative.as_posix(), ""


def pair_cases(pair: Pair, extra: tuple[str, ...] = ()) -> Iterator[Case]:
    """Read a pair: each recording of a sensor log, or the first page of an image, in the file's own scale.

    Args:
        pair: Its files.
        extra: Metrics to measure beside those of the modality.

    Raises:
        InputError: The two differ in kind, shape or sample rate.
    """
    recording, recordings = 0, 1
    while recording < recordings:
        (noisy, info), (clean, truth) = (_read(source, recording) for source in (pair.noisy, pair.clean))
        for what, found, expected in (
            ("kind", info.modality, truth.modality),
            ("shape", noisy.shape, clean.shape),
            ("sample rate", info.sample_rate, truth.sample_rate),
        ):
            if found != expected:
                raise InputError(
                    f"{pair.noisy.path}: its {what} is {found}; {pair.clean.path} has {expected}; "
                    "expected the same"
                )
        clean = rescale(clean, truth.peak, info.peak)
        key = f"{pair.key}:{recording}" if recording else pair.key
        signal = CleanSignal(clean, info.modality, info.sample_rate, key, info.peak, extra)
        written = info.modality == "image" and pair.noisy.path.suffix.lower() in writable_suffixes("image")
        source = pair.noisy.path if written else None
        yield Case(signal, Condition(None, group=REAL), 0, noisy, signal.score(noisy), source)
        recordings = info.pages if info.modality == "sensor" else 1
        recording += 1


def _read(source: Source, recording: int) -> tuple[Array, SignalInfo]:
    array, info = files.read(source.path, **({"recording": recording} if recording else {}))
    return array[: array.shape[0] - info.passthrough_channels], replace(info, passthrough_channels=0)
