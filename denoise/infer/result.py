"""Result of cleaning a file, and the copy of the input that takes its place if nothing is gained."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from denoise import io
from denoise.infer.cleaner import Cleaner
from denoise.infer.selection import Selection
from denoise.io import Writer
from denoise.io.atomic import replacing
from denoise.options import CleanOptions
from denoise.signal import AudioInfo, SignalInfo


class FileResult(NamedTuple):
    """Result for a file."""

    info: SignalInfo  # facts of the input
    size: int  # pixels, or samples of a channel
    metrics: dict[str, float]  # figures by name
    notes: tuple[str, ...]  # of the reader, the writer and the stream
    clipped: int  # samples outside the range of the file
    selections: tuple[Selection, ...]  # choice of `auto` for a recording, or for each page


def as_before(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of a file that was copied: after is what was before."""
    before = {name.removesuffix("_before"): figures[name] for name in figures if name.endswith("_before")}
    after = {f"{name}_after" if f"{name}_after" in figures else name: before[name] for name in before}
    return {**figures, **after}


def not_written(selections: Sequence[Selection]) -> list[Selection]:
    """Return the selections of a file that was copied although models changed it: the models were dropped."""
    return [
        replace(
            selection,
            model="none",
            reason=selection.reason
            and f"none: {selection.model} was tried, and not written: "
            + selection.reason.removeprefix(f"{selection.model}: "),
            dropped=(*selection.dropped, selection.model),
        )
        if selection.model != "none"
        else selection
        for selection in selections
    ]


def stamped(info: SignalInfo, cleaner: Cleaner, options: CleanOptions) -> SignalInfo:
    """Add what is done to a file, if it is asked for."""
    if not options.stamp:
        return info
    import denoise

    facts = {"program": "denoise", "version": denoise.__version__, "model": cleaner.name}
    return replace(info, stamp=(*facts.items(), ("strength", f"{options.bounded_strength:g}")))


class _UnchangedError(Exception):
    """Nothing is changed: the input takes the place of what was written."""


def stop_writing(unchanged: bool) -> None:
    if unchanged:
        raise _UnchangedError


@contextmanager
def writer_or_copy(source: Path, destination: Path, info: SignalInfo) -> Iterator[Writer]:
    """Open the destination; a block that raises `_UnchangedError` makes it a copy of the source instead."""
    try:
        with io.writer(destination, info) as sink:
            yield sink
    except _UnchangedError:
        copy(source, destination)


def copy(source: Path, destination: Path) -> None:
    """Copy a file that needs no change: encoding it again would change a JPEG, and drop what is unknown."""
    with replacing(destination, source) as partial:
        shutil.copyfile(source, partial)


def writer_notes(sink: Writer) -> tuple[str, ...]:
    """Notes of a writer that converts, such as 16 bits to 8."""
    return tuple(getattr(sink, "notes", ()))


def mean_figures(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each figure over the pages or recordings that have it."""
    names = dict.fromkeys(name for found in figures for name in found)
    return {name: float(np.mean([found[name] for found in figures if name in found])) for name in names}


def salvaged(info: SignalInfo) -> str | None:
    return info.salvaged if isinstance(info, AudioInfo) else None
