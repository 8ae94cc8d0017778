"""Terminal progress, tables, and JSON output."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from denoise.errors import OutputError, UsageError, counted, printable
from denoise.infer.progress import file_in_progress, showing_shares
from denoise.metrics import finite_mean
from denoise.signal import MODALITIES
from pipelines.batch.discover import STDOUT as STDOUT
from pipelines.batch.discover import Problem, refuse_below_file, refuse_overlap
from pipelines.batch.lock import no_empty_folder
from pipelines.batch.manifest import Entry, jsonable
from pipelines.batch.run import OnEntry, Result
from pipelines.batch.store import MANIFEST_NAME

if TYPE_CHECKING:  # importing it would import torch's company
    from pipelines.score import Scores

# First bytes of the reports that commands write; only these are replaced.
_HEADS = {
    "JSON": rb'\{\n  "(?:rows|counts|checks|mean|failed|quantile|model|threads|plan)"',
    "CSV": rb"(?:model,modality|set,model),",
    "Markdown": rb"[^\n]{1,200}\n\n\| (?:model|set|degradation|\w+_db) ",
    "LaTeX": rb"\\begin\{table\}",
    "log": rb'\{"time": "',
    "curve": rb"step,",
    "HTML": rb"<!doctype html>\n<!-- denoise report",
    "picture": rb".{0,8000}(?:[Mm]atplotlib|denoise)",  # a PDF names it at its end
}
_HEAD_BYTES = 4096
_UTF8_ERRORS = "backslashreplace"
MAX_ROWS = 40  # of a table; all rows are in --json and the manifest
MIN_GROUPED = 20  # files, from which on a batch is shown as medians
MAX_NAMED = 5  # files of one cause
_NOT_SHOWN = ("failed", "planned")  # in the tables
_NOTHING = {("estimated_jpeg_quality", 100.0)}  # figures that say that there are no traces
WIDTH = 80  # letters of a line
MAX_WIDTH = 1000  # of a terminal; beyond, a table is as wide as it gets


@contextmanager
def progress(total: int) -> Iterator[OnEntry]:
    """Show entries on stderr as they come: a bar on a terminal, a line for each file elsewhere."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        counts, totals = Counter[str](), defaultdict[str, float](float)
        shown = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        with tqdm(total=total, dynamic_ncols=True, bar_format=shown) as bar:

            def name(file: Path) -> None:
                bar.set_description_str(printable(_elided(file.name, 24)), refresh=False)

            def show(entry: Entry) -> None:
                counts[entry.status] += 1
                with suppress(OSError):  # of files that are not here
                    totals["bytes"] += Path(entry.source).stat().st_size
                elapsed_s = max(bar.format_dict["elapsed"], 0.1)
                speed = f"{totals['bytes'] / 1e6 / elapsed_s:.1f} MB/s"
                if entry.duration_s:
                    totals["recordings"] += 1
                    totals["seconds"] += entry.duration_s
                if totals["recordings"] == counts.total() - counts["failed"] > 0:
                    speed = f"{number(totals['seconds'] / elapsed_s)} x real time"
                failed = f", {counts['failed']} failed" if counts["failed"] else ""
                bar.set_postfix_str(speed + failed, refresh=False)
                name(Path(entry.source))
                bar.update()

            def show_share(share: float) -> None:
                if share < 1:  # small files are cleaned at once
                    if file := file_in_progress():
                        name(file)
                    bar.set_postfix_str(f"{share:.0%} of this file")

            with showing_shares(show_share):
                yield show
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
    found = entry.error.removeprefix(f"{entry.source}: ") if entry.error else f"{entry.seconds:.2f} s"
    return f"[{number}/{total}] {entry.status} {entry.source}: {found}"


def summary(
    result: Result, *, verbose: bool = False, width: int = WIDTH, wrap: bool = False, colour: bool = False
) -> str:
    """Format a table for each modality, the ignored files, and the failures by their causes.

    Args:
        verbose: Show every file with its whole name and all figures, however wide and long that is.
        width: Letters of a line; names are shortened and figures left out until the table fits.
        wrap: Break notes and reasons that are longer than a line; programs read them whole.
        colour: Draw failures in red.
    """
    parts = []
    single = verbose or len(result.entries) < MIN_GROUPED
    for modality in MODALITIES:
        entries = [
            e for e in result.entries if e.modality == modality and e.status not in ("failed", "planned")
        ]
        if entries:
            shown = _entries_table if single else _medians_table
            parts.append(shown(modality, entries, sys.maxsize if verbose else width))
    parts += ignored_lines(result.ignored)
    for status in ("salvaged", "failed"):
        errors = [(entry.source, str(entry.error)) for entry in result.entries if entry.status == status]
        if errors:
            head = f"{status.title()}: {len(errors)}"
            head = f"\x1b[31m{head}\x1b[0m" if colour else head
            parts.append("\n".join([head, *causes(errors)]))
    if wrap:  # tables fit, or are as wide as they were asked for
        lines = "\n\n".join(parts).split("\n")
        parts = ["\n".join(line if "  " in line.strip() else wrapped(line, width) for line in lines)]
    counts = ", ".join(f"{number} {status}" for status, number in sorted(result.counts.items()))
    return "\n\n".join([*parts, counts])


def wrapped(line: str, width: int) -> str:
    """Break a line at blanks where it is longer than `width`; what follows is indented further."""
    hanging = " " * (len(line) - len(line.lstrip()) + 2)
    return textwrap.fill(
        line, max(width, 20), subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )


def ignored_lines(ignored: Iterable[Problem]) -> Iterator[str]:
    """Count ignored files by the reason, with their suffixes."""
    by_reason: dict[str, list[str]] = {}
    for problem in ignored:
        reason = "backups of files beside them" if problem.backup else "of other kinds"
        by_reason.setdefault(reason, []).append(printable(problem.path.suffix.lower()) or "(none)")
    for reason, suffixes in by_reason.items():
        yield f"Ignored, {reason}: {len(suffixes)} ({' '.join(sorted({*suffixes}))})"


def causes(errors: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Group failed files, each with its sentence, by their reason."""
    by_cause: dict[str, list[str]] = {}
    for source, error in errors:
        by_cause.setdefault(error.removeprefix(f"{source}: "), []).append(source)
    for cause, sources in sorted(by_cause.items(), key=lambda item: -len(item[1])):
        if len(sources) == 1:
            yield printable(f"  {cause}" if sources[0] in cause else f"  {sources[0]}: {cause}")
            continue
        yield printable(f"  {cause}: {files(len(sources))}")
        yield from (printable(f"    {source}") for source in sources[:MAX_NAMED])
        if len(sources) > MAX_NAMED:
            yield f"    ... and {len(sources) - MAX_NAMED} more"


def _entries_table(modality: str, entries: list[Entry], width: int) -> str:
    names = figure_names(entries)
    states = {entry.status for entry in entries} != {"ok"}
    sources = [entry.source for entry in entries]
    rows = [
        [
            name,
            *([entry.status] if states else []),
            entry.model or "",
            f"{entry.seconds:.2f}",
            *(format_change([entry], figure) for figure in names),
        ]
        for name, entry in zip(sources if width > MAX_WIDTH else short_names(sources), entries, strict=True)
    ]
    outside: list[str] = []
    if len(entries) > 1 and names:
        means = (format_change(entries, name) if comparable(modality, name) else "" for name in names)
        rows.append(["mean", *[""] * (2 + states), *means])
        ends = {name: [f"{name}{end}" for end in ("", "_before", "_after")] for name in names}
        outside = _outside_of_mean(
            {name: [entry.metrics.get(key) for entry in entries for key in ends[name]] for name in names}
        )
    notes = _notes(entries[0]) if len(entries) == 1 else ()  # those of many files are in the manifest
    head = ["file", *(["status"] if states else []), "model", "s"]
    text = table(*_fitted([*head, *names], rows, width), words=len(head) - 1)
    return "\n".join(
        [f"{modality}: {files(len(entries))}", text, *outside, *(f"  {printable(note)}" for note in notes)]
    )


def _medians_table(modality: str, entries: list[Entry], width: int) -> str:
    """Format one line for many files."""
    names = figure_names(entries)
    names = [name for name in names if comparable(modality, name)]
    cells = [number(median(entry.seconds for entry in entries))]
    cells += [format_change(entries, name, _finite_median) for name in names]
    models = Counter(entry.model for entry in entries if entry.model)
    used = ", ".join(f"{name} {count}" for name, count in models.most_common())
    return "\n".join(
        [
            f"{modality}: {files(len(entries))} ({used}), medians",
            table(*_fitted(["s", *names], [cells], width), words=0),
        ]
    )


def _finite_median(values: Iterable[float | None]) -> float | None:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return median(finite) if finite else None


def _fitted(header: list[str], rows: list[list[str]], width: int) -> tuple[list[str], list[list[str]]]:
    """Leave out the last columns, then shorten the names in the first, until a table fits."""
    gap, least = 2, 16

    def widths(columns: int) -> list[int]:
        return [max(len(printable(row[n])) for row in (header, *rows)) for n in range(columns)]

    columns = len(header)
    while columns > 4 and sum(w + gap for w in widths(columns)[1:]) + gap + least > width:
        columns -= 1
    room = max(least, width - gap - sum(w + gap for w in widths(columns)[1:]))
    cut = [[_elided(row[0], room), *row[1:columns]] for row in rows]
    return header[:columns], cut


def _elided(name: str, length: int) -> str:
    """Keep the start and the end of a long name."""
    if len(name) <= length:
        return name
    tail = (length - 3) * 2 // 3
    return f"{name[: length - 3 - tail]}...{name[len(name) - tail :]}"


def short_names(sources: Sequence[str]) -> list[str]:
    """Leave out the folders that all names share."""
    try:
        shared = len(Path(os.path.commonpath([Path(name).parent for name in sources])).parts)
    except ValueError:  # no names, or relative ones beside absolute ones
        shared = 0
    return [str(Path(*Path(name).parts[shared:])) for name in sources]


def _notes(entry: Entry) -> tuple[str, ...]:
    """Notes of an entry, without what its error says."""
    return tuple(note for note in entry.notes if note not in (entry.error or ""))


def figure_names(entries: Iterable[Entry]) -> list[str]:
    """Names of the figures of entries, without their sides, and without those that found nothing."""
    figures = chain.from_iterable(entry.metrics.items() for entry in entries)
    found = (base_name(name) for name, value in figures if (base_name(name), value) not in _NOTHING)
    return list(dict.fromkeys(found))


def base_name(name: str) -> str:
    """Name of a figure without its side, before (input) or after (output)."""
    return name.removesuffix("_before").removesuffix("_after")


def comparable(modality: str, name: str) -> bool:
    """Check that a figure has one unit in all files; sensor logs share only decibels."""
    return modality != "sensor" or name.endswith("_db")


def format_change(
    entries: Sequence[Entry], name: str, mean: Callable[[Iterable[Any]], float | None] = finite_mean
) -> str:
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
        return " -> ".join(number(mean(side)) for side in zip(*pairs, strict=True))
    return number(mean(single))


def scores(found: Scores, *, max_rows: int = MAX_ROWS) -> str:
    """Format a table of pairs for each modality, and the failures by their causes."""
    parts = []
    for modality in MODALITIES:
        rows = [row for row in found.rows if row.modality == modality and row.metrics is not None]
        if not rows:
            continue
        names = list(rows[0].metrics or ())
        short = short_names([str(row.estimate) for row in rows])
        notes: list[str] = []
        lines = [
            [name, *(number((row.metrics or {}).get(n)) for n in names)]
            for name, row in zip(short, rows, strict=True)
        ]
        if len(rows) > max_rows:
            lines[max_rows:] = [[f"... and {len(rows) - max_rows} more", *[""] * len(names)]]
        if len(rows) > 1:
            means = (
                number(finite_mean((row.metrics or {}).get(name) for row in rows))
                if comparable(modality, name)
                else ""
                for name in names
            )
            lines.append(["mean", *means])
            notes += _outside_of_mean({n: [(row.metrics or {}).get(n) for row in rows] for n in names})
        notes += [
            f"  {printable(f'{row.estimate}: {note}')}" for row in rows[:max_rows] for note in row.notes
        ]
        parts.append("\n".join([table(*_fitted([modality, *names], lines, WIDTH)), *notes]))
    if found.failed:
        errors = [(str(row.estimate), str(row.error)) for row in found.failed]
        parts.append("\n".join([f"Failed: {len(errors)}", *causes(errors)]))
    return "\n\n".join(parts)


def _outside_of_mean(figures: Mapping[str, Iterable[float | None]]) -> list[str]:
    """Say which figures a mean leaves out, since they are not finite; those that are absent are seen."""
    counts = {
        name: sum(value is not None and not math.isfinite(value) for value in values)
        for name, values in figures.items()
    }
    found = ", ".join(f"{number} of {name}" for name, number in counts.items() if number)
    return [f"  not in the mean, since not finite: {found}"] if found else []


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
    return counted(number, "file")


def number(value: float | None, sign: str = "") -> str:
    """Format a figure: two decimals, three digits of a small one, only whole ones of a large one.

    A `sign` of `+` shows that, too.
    """
    if value is None:
        return "-"
    digits = ".0f" if abs(value) >= 1e4 else ".2f" if abs(value) >= 1 or value == 0 else ".3g"
    return f"{value + 0.0:{sign if value else ''}{digits}}"


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write a report; NaN and infinity become null."""
    write_text(path, as_json(data) + "\n")


def as_json(data: Mapping[str, Any]) -> str:
    """Format data as JSON; NaN and infinity become null."""
    return json.dumps(jsonable(data), indent=2, allow_nan=False)


def check_outputs(
    outputs: Mapping[Path | None, tuple[str, ...]], inputs: Iterable[Path], overwrite: bool
) -> None:
    """Refuse the outputs of a command that writes a few files, before work starts.

    Args:
        outputs: Suffixes that each may have; none for a folder.
        inputs: Files and folders that no output may overlap.
        overwrite: Accept existing files.

    Raises:
        UsageError: An output has another suffix, exists, is no file, or overlaps an input.
    """
    for path, suffixes in outputs.items():
        if path is None:
            continue
        refuse_below_file(path.parent if suffixes else path)
        if suffixes and path.suffix.lower() not in suffixes:
            raise UsageError(f"{path}: is written as {' or '.join(suffixes)}; choose such a name")
        if os.path.lexists(path) and not (path.is_file() if suffixes else path.is_dir()):
            raise UsageError(
                f"{path}: is no {'regular file' if suffixes else 'folder'}; choose another output"
            )
        exists = path.exists() if suffixes else path.is_dir() and any(path.iterdir())
        if exists and not overwrite:
            raise UsageError(f"{path}: exists already; --overwrite replaces it")
        for folder in inputs:
            if folder.is_dir():
                refuse_overlap(folder, path)
            elif path.exists() and folder.exists() and path.samefile(folder):
                raise UsageError(f"{path}: is an input; choose another output")


def check_report(path: Path, kind: str) -> None:
    """Refuse to write a report over anything but an earlier report, before work starts.

    Args:
        path: Path of the report; `-` is standard output.
        kind: `JSON`, `CSV`, `curve`, `HTML`, `log`, `Markdown` or `picture`.

    Raises:
        UsageError: The path is that of another file, such as a photo or a device.
    """
    if path == STDOUT:
        if kind == "picture":
            raise UsageError("-: a picture is not written to standard output; expected a file name")
        return
    if path.name == MANIFEST_NAME or path.name.startswith(".denoise"):
        raise UsageError(f"{path}: is a name of the manifest and its companions; choose another")
    refuse_below_file(path.parent)
    try:
        path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:  # its name is too long, say
        raise UsageError(f"{path}: cannot be written: {error.strerror}") from error
    if not path.is_file():
        piped = "" if kind == "picture" else ", or - for standard output"
        raise UsageError(f"{path}: is no regular file; expected a new name{piped}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(max(_HEAD_BYTES, path.stat().st_size - _HEAD_BYTES))
            head += file.read()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if head and not re.match(_HEADS[kind], head, re.DOTALL):
        raise UsageError(f"{path}: exists, and is no earlier report; choose another name, or remove it")


def as_utf8(text: str) -> str:
    """Escape the bytes of file names that are not UTF-8, as JSON does: two names stay two."""
    return text.encode("utf-8", _UTF8_ERRORS).decode()


def write_text(path: Path, text: str) -> None:
    """Write a text file whole; `-` is standard output."""
    if path == STDOUT:
        sys.stdout.write(as_utf8(text))
        return
    with writing(path) as partial:
        partial.write_text(as_utf8(text), encoding="utf-8", newline="")


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV table."""
    with (
        writing(path) as partial,
        partial.open("w", newline="", encoding="utf-8", errors=_UTF8_ERRORS) as text,
    ):
        csv.writer(text, lineterminator="\n").writerows(chain([header], rows))


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Provide a temporary path that becomes `path`; missing folders are made."""
    from denoise.io.atomic import replacing

    with no_empty_folder(path.parent):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path}: its folder cannot be made: {error.strerror}") from error
        with replacing(path) as partial:
            yield partial
