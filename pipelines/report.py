"""Terminal progress, tables, and JSON output."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoise.errors import OutputError, UsageError, printable
from denoise.metrics import finite_mean
from denoise.signal import MODALITIES
from pipelines.batch.manifest import Entry, jsonable
from pipelines.batch.run import OnEntry, Result
from pipelines.batch.store import MANIFEST_NAME

if TYPE_CHECKING:  # importing it would import torch's company
    from pipelines.score import Scores

__all__ = [
    "STDOUT",
    "as_json",
    "check_report",
    "files",
    "lines",
    "markdown",
    "progress",
    "scores",
    "summary",
    "table",
    "write_csv",
    "write_json",
    "write_text",
    "writing",
]

STDOUT = Path("-")
# First bytes of the reports that commands write; only these are replaced.
_HEADS = {
    "JSON": rb'\{\n  "(?:rows|counts|checks|mean|failed|quantile|model|threads|plan)"',
    "CSV": rb"model,modality,",
    "Markdown": rb"[^\n]{1,200}\n\n\| model ",
    "HTML": rb"<!doctype html>\n<!-- denoise report",
    "picture": rb".{0,4000}(?:[Mm]atplotlib|denoise)",
}
_HEAD_BYTES = 4096
MAX_ROWS = 40  # of a table; all rows are in --json and the manifest


@contextmanager
def progress(total: int) -> Iterator[OnEntry]:
    """Show entries on stderr as they come: a bar on a terminal, a line for each file elsewhere."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, unit="file", dynamic_ncols=True) as bar:
            yield lambda _: bar.update()
        return
    numbers = count(1)
    yield lambda entry: print(printable(_line(next(numbers), total, entry)), file=sys.stderr)


@contextmanager
def lines(total: int) -> Iterator[OnEntry]:
    """Show entries on stderr as they come: a line for each, and one for each of its notes."""
    numbers = count(1)

    def show(entry: Entry) -> None:
        shown = [_line(next(numbers), total, entry), *(f"  {note}" for note in _notes(entry))]
        print("\n".join(map(printable, shown)), file=sys.stderr)

    yield show


def _line(number: int, total: int, entry: Entry) -> str:
    return f"[{number}/{total}] {entry.status} {entry.source}: {entry.error or f'{entry.seconds:.2f} s'}"


def summary(result: Result, *, max_rows: int = MAX_ROWS) -> str:
    """Format a table for each modality, the ignored files, and the failures with their reasons."""
    parts = []
    for modality in MODALITIES:
        entries = [e for e in result.entries if e.modality == modality and e.status != "failed"]
        if entries:
            parts.append(_entries_table(modality, entries, max_rows))
    if result.ignored:
        kinds = sorted({printable(problem.path.suffix.lower()) or "(none)" for problem in result.ignored})
        parts.append(f"Ignored, of other kinds: {len(result.ignored)} ({' '.join(kinds)})")
    for status in ("salvaged", "failed"):
        errors = [entry.error for entry in result.entries if entry.status == status]
        if errors:
            parts.append(
                "\n".join(
                    [f"{status.title()}: {len(errors)}", *(f"  {printable(str(error))}" for error in errors)]
                )
            )
    counts = ", ".join(f"{number} {status}" for status, number in sorted(result.counts.items()))
    return "\n\n".join([*parts, counts])


def _entries_table(modality: str, entries: list[Entry], max_rows: int) -> str:
    names = list(dict.fromkeys(_base(name) for entry in entries for name in entry.metrics))
    rows = [
        [
            entry.source,
            entry.status,
            entry.model or "",
            f"{entry.seconds:.2f}",
            *(_change([entry], name) for name in names),
        ]
        for entry in entries[:max_rows]
    ]
    if len(entries) > max_rows:
        rows.append([f"... and {len(entries) - max_rows} more"])
    if len(entries) > 1 and names:
        means = (_change(entries, name) if _comparable(modality, name) else "" for name in names)
        rows.append(["mean", "", "", "", *means])
    notes = _notes(entries[0]) if len(entries) == 1 else ()  # those of many files are in the manifest
    text = table(["file", "status", "model", "s", *names], rows, words=3)
    return "\n".join(
        [f"{modality}: {files(len(entries))}", text, *(f"  {printable(note)}" for note in notes)]
    )


def _notes(entry: Entry) -> tuple[str, ...]:
    """Notes of an entry, without what its error says."""
    return tuple(note for note in entry.notes if note not in (entry.error or ""))


def _base(name: str) -> str:
    """Name of a figure without its side, before (input) or after (output)."""
    return name.removesuffix("_before").removesuffix("_after")


def _comparable(modality: str, name: str) -> bool:
    """Check that a figure has one unit in all files; sensor logs share only decibels."""
    return modality != "sensor" or name.endswith("_db")


def _change(entries: Sequence[Entry], name: str) -> str:
    """Format the mean of a figure over the entries that have it: before and after, or its one value.

    With a reference, the figure of the output has the plain name. Without one, the plain name is that of a
    measurement of the input, which a pair repeats.
    """
    pairs, single = [], []
    for metrics in (entry.metrics for entry in entries):
        before = metrics.get(f"{name}_before")
        after = metrics.get(f"{name}_after", metrics.get(name) if before is not None else None)
        if before is not None or after is not None:
            pairs.append((before, after))
        elif metrics.get(name) is not None:
            single.append(metrics[name])
    if pairs:
        return " -> ".join(_number(finite_mean(side)) for side in zip(*pairs, strict=True))
    return _number(finite_mean(single))


def scores(found: Scores, *, max_rows: int = MAX_ROWS) -> str:
    """Format a table of pairs for each modality, and the failures with their reasons."""
    parts = []
    for modality in MODALITIES:
        rows = [row for row in found.rows if row.modality == modality and row.metrics is not None]
        if not rows:
            continue
        names = list(rows[0].metrics or ())
        lines = [[str(row.estimate), *(_number((row.metrics or {}).get(n)) for n in names)] for row in rows]
        if len(rows) > max_rows:
            lines[max_rows:] = [[f"... and {len(rows) - max_rows} more"]]
        if len(rows) > 1:
            means = (
                _number(finite_mean((row.metrics or {}).get(name) for row in rows))
                if _comparable(modality, name)
                else ""
                for name in names
            )
            lines.append(["mean", *means])
        parts.append(table([modality, *names], lines))
    if found.failed:
        parts.append("\n".join(["Failed:", *(f"  {printable(str(row.error))}" for row in found.failed)]))
    return "\n\n".join(parts)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Align columns: the first `words` of them left, figures right."""
    filled = [[*map(printable, row), *[""] * (len(header) - len(row))] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in filled) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        sized = list(zip(row, widths, strict=True))
        cells = [*(c.ljust(w) for c, w in sized[:words]), *(c.rjust(w) for c, w in sized[words:])]
        return "  " + "  ".join(cells).rstrip()

    return "\n".join(map(line, filled))


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> str:
    """Format a Markdown table."""
    rule = ["---" if column < words else "---:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


def files(number: int) -> str:
    """Format a number of files."""
    return "1 file" if number == 1 else f"{number} files"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a report; NaN and infinity become null.

    Raises:
        OutputError: It cannot be written.
    """
    write_text(path, as_json(data) + "\n")


def as_json(data: Mapping[str, Any]) -> str:
    """Format data as JSON; NaN and infinity become null."""
    return json.dumps(jsonable(data), indent=2, allow_nan=False)


def check_report(path: Path, kind: str) -> None:
    """Refuse to write a report over anything but an earlier report, before work starts.

    Args:
        path: Path of the report; `-` is standard output.
        kind: `JSON`, `CSV`, `HTML`, `Markdown` or `picture`.

    Raises:
        UsageError: The path is that of another file, such as a photo or a device.
    """
    if path == STDOUT:
        if kind == "picture":
            raise UsageError("-: a picture is not written to standard output; expected a file name")
        return
    if path.name == MANIFEST_NAME or path.name.startswith(".denoise"):
        raise UsageError(f"{path}: is a name of the manifest and its companions; choose another")
    if not os.path.lexists(path):
        return
    if not path.is_file():
        raise UsageError(f"{path}: is no regular file; expected a new name, or - for standard output")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if head and not re.match(_HEADS[kind], head, re.DOTALL):
        raise UsageError(f"{path}: exists, and is no earlier report; choose another name, or remove it")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole; `-` is standard output.

    Raises:
        OutputError: It cannot be written.
    """
    if path == STDOUT:
        sys.stdout.write(text.encode("utf-8", "replace").decode())
        return
    with writing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV table.

    Raises:
        OutputError: It cannot be written.
    """
    with writing(path) as partial, partial.open("w", newline="", encoding="utf-8") as text:
        csv.writer(text, lineterminator="\n").writerows(chain([header], rows))


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Provide a temporary path that becomes `path`; missing folders are made.

    Raises:
        OutputError: It cannot be written.
    """
    from denoise.io.atomic import replacing

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: its folder cannot be made: {error.strerror}") from error
    with replacing(path) as partial:
        yield partial
