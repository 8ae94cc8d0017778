"""Reports of batches and of scores, as pages."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from denoise.errors import DenoiseError, reason
from denoise.signal import MODALITIES
from pipelines.batch.jobs import Job
from pipelines.batch.manifest import WRITTEN, Entry
from pipelines.batch.run import Result
from pipelines.batch.store import place
from pipelines.report import (
    comparable,
    figure_names,
    files,
    format_change,
    ignored_lines,
    number,
    short_names,
)
from pipelines.score import Scores
from pipelines.view import chart
from pipelines.view.budget import MAX_VIEWS, NAMES, Budget
from pipelines.view.page import Chart, Column, Page, Row

# Figures that lead, the best known first: if a larger one is better.
_LEADING: Mapping[str, bool] = {
    "psnr_db": True,
    "si_sdr_db": True,
    "snr_db": True,
    "estimated_sigma": False,
    "estimated_noise_dbfs": False,
}
# Words of the names of figures as people write them.
_WORDS = {word: word.upper() for word in ("psnr", "snr", "ssim", "rmse", "pesq", "estoi", "jpeg")}
_WORDS |= {"si": "SI-SDR", "sdr": "", "sigma": "noise"}
_UNITS = {"db": "dB", "dbfs": "dBFS", "px": "px", "s": "s"}
_MAX_DUMBBELLS = 40
_READING = ("columns", "exclude", "sample_rate", "time_unit", "delimiter", "decimal")


class _Change(NamedTuple):
    """Leading figure of a file."""

    name: str
    before: float
    after: float

    @property
    def gain(self) -> float:
        """Improvement: positive is better."""
        return (self.after - self.before) * (1 if _LEADING[self.name] else -1)


def batch_page(job: Job, result: Result) -> Page:
    """Make the page of a batch: failures first, then the files that gained least."""
    changes = {id(entry): _change(entry) for entry in result.entries}

    def rank(entry: Entry) -> tuple[int, float]:
        change = changes[id(entry)]
        bad = {"failed": 0, "unfinished": 1, "salvaged": 2}.get(entry.status, 3)
        return bad, math.inf if change is None else change.gain

    ordered = sorted(result.entries, key=rank)
    budget = Budget.for_files(sum(entry.output is not None for entry in ordered))
    short = _short_names([entry.source for entry in ordered])
    rows = [
        replace(
            entry_row(entry, budget, _reading(job.options), view=index < MAX_VIEWS),
            name=short[entry.source],
            error=entry.error and entry.error.removeprefix(f"{entry.source}: "),
        )
        for index, entry in enumerate(ordered)
    ]
    columns = [
        Column("kind", phone=False),
        Column("status"),
        Column("model", phone=False),
        Column("figure", phone=False),
        Column("before", number=True, phone=False),
        Column("after", number=True, phone=False),
        Column("gain", number=True),
        Column("s", number=True, phone=False),
    ]
    facts = [
        (f"{len(result.entries)}", "files"),
        *((f"{count}", status) for status, count in sorted(result.counts.items()) if len(result.counts) > 1),
    ]
    grouped = _changes_by_kind(ordered, changes)
    for modality in dict.fromkeys(modality for modality, _ in grouped):
        metric, found = max(
            ((key[1], found) for key, found in grouped.items() if key[0] == modality),
            key=lambda item: len(item[1]),
        )
        gain = float(np.median([change.gain for _, change in found]))
        facts.append((number(gain, "+"), f"{modality}: {metric_title(metric)}, median gain"))
    if seconds := sum(entry.seconds for entry in result.entries):
        facts.append((_duration(seconds), "processing time"))
    charts = [
        _gain_chart(
            modality, metric_title(metric), [(short[entry.source], change) for entry, change in found]
        )
        for (modality, metric), found in grouped.items()
        if len(found) > 1
    ]
    notes = [result.stopped] if result.stopped else []
    if any(name.startswith("estimated") for _, name in grouped):
        notes.append("Estimated noise is measured on the file itself; --reference gives true figures.")
    notes += [f"{line}." for line in ignored_lines(result.ignored)]
    return Page(f"Cleaned {files(len(result.entries))}", facts, columns, rows, charts, notes)


def entry_row(entry: Entry, budget: Budget, reading: Mapping[str, Any], *, view: bool = True) -> Row:
    """Make the row of a file of a batch, with its view."""
    change = _change(entry)
    cells: list[tuple[str, float | str]] = [
        (entry.modality or "", entry.modality or ""),
        (entry.status, entry.status),
        (entry.model or "", entry.model or ""),
    ]
    if change:
        cells += [(metric_title(change.name), change.name)]
        cells += [(number(value), value) for value in (change.before, change.after)]
        cells += [(number(change.gain, "+"), change.gain)]
    else:
        cells += [("", "")] * 4
    cells.append((f"{entry.seconds:.2f}", entry.seconds))
    shown, missing = None, None
    if entry.output is not None and entry.status in (*WRITTEN, "skipped"):
        if not view:
            missing = f"Views are made for {MAX_VIEWS} files of a page."
        elif not all(place(Path(path)).is_local for path in (entry.source, entry.output)):
            missing = "Views are made for files on this machine."
        else:
            shown, missing = compare(
                entry.modality or "", Path(entry.source), Path(entry.output), budget, reading
            )
    decision, notes = _decision(entry)
    named = figure_names([entry])
    figures = [(metric_title(name), format_change([entry], name).replace("->", "→")) for name in named]
    figures = [(title, text if "," in title else re.sub(r"\.00\b", "", text)) for title, text in figures]
    return Row(
        entry.source,
        entry.status,
        entry.modality or "",
        tuple(cells),
        entry.error,
        decision,
        notes,
        tuple(figures),
        shown,
        missing,
    )


def compare(
    modality: str,
    before: Path,
    after: Path | None,
    budget: Budget,
    reading: Mapping[str, Any],
    names: tuple[str, str, str] = NAMES,
    marks: Sequence[Any] = (),
) -> tuple[Any, str | None]:
    """Make the view of one file, or of two; of what cannot be shown the reason."""
    try:
        if modality == "image":
            from pipelines.view.photo import photo_view

            return photo_view(before, after, budget, names=names, marks=marks), None
        if modality == "audio":
            from pipelines.view.sound import sound_view

            return sound_view(before, after, budget, names=names, marks_s=marks), None
        from pipelines.view.trace import trace_view

        return trace_view(before, after, budget, options=reading, names=names, marks=marks), None
    except DenoiseError as error:
        return None, f"No view: {error}"
    except Exception as error:  # a view of one file must not cost the report of all
        return None, f"No view: {type(error).__name__}: {reason(error)}"


def scores_page(scores: Scores) -> Page:
    """Make the page of pairs: those without metrics first, then the worst."""
    names = list(dict.fromkeys(name for row in scores.scored for name in row.metrics or ()))

    def rank(row: Any) -> tuple[int, float]:
        headline = (row.metrics or {}).get(MODALITIES[row.modality].headline) if row.modality else None
        return (0, 0.0) if row.metrics is None else (1, math.inf if headline is None else headline)

    ordered = sorted(scores.rows, key=rank)
    budget = Budget.for_files(len(scores.scored))
    short = _short_names(str(row.estimate) for row in ordered)
    rows = []
    for index, row in enumerate(ordered):
        view, missing = None, None
        if row.metrics is not None and index < MAX_VIEWS:
            view, missing = compare(
                row.modality or "",
                row.estimate,
                row.reference,
                budget,
                {},
                ("estimate", "reference", "difference"),
            )
        cells = [
            (figure(value), "" if value is None else value) for value in map((row.metrics or {}).get, names)
        ]
        rows.append(
            Row(
                short[str(row.estimate)],
                "failed" if row.error else "ok",
                row.modality or "",
                tuple(cells),
                row.error and row.error.removeprefix(f"{row.estimate}: "),
                "; ".join([f"Compared with {row.reference}", *row.notes])
                if row.metrics is not None
                else None,
                view=view,
                missing=missing,
            )
        )
    charts = []
    for modality in MODALITIES:
        headline = MODALITIES[modality].headline
        values = [(row.metrics or {}).get(headline) for row in scores.scored if row.modality == modality]
        finite = [value for value in values if value is not None and math.isfinite(value)]
        if len(finite) > 1:
            title = metric_title(headline)
            charts.append(Chart(f"{modality}: {title}", chart.histogram(finite, title)))
    facts = [(f"{len(scores.scored)}", "pairs"), (f"{len(scores.failed)}", "failed")]
    kinds = {row.modality or "" for row in scores.scored}
    facts += [
        (figure(value), f"mean {metric_title(name)}")
        for name, value in scores.means.items()
        if all(comparable(kind, name) for kind in kinds)
    ]
    return Page(
        f"Scores of {files(len(scores.rows))}",
        facts,
        [Column(metric_title(name), number=True) for name in names],
        rows,
        charts,
        first="estimate",
    )


def _change(entry: Entry) -> _Change | None:
    """Leading figure of an entry: measured if there was a reference, else estimated."""
    metrics = entry.metrics
    for name in _LEADING:
        before = metrics.get(f"{name}_before")
        after = metrics.get(f"{name}_after", metrics.get(name))
        if before is not None and after is not None and math.isfinite(before) and math.isfinite(after):
            return _Change(name, before, after)
    return None


_Grouped = dict[tuple[str, str], list[tuple[Entry, _Change]]]


def _changes_by_kind(entries: Iterable[Entry], changes: Mapping[int, _Change | None]) -> _Grouped:
    """Files by their kind and figure; sensor logs share only decibels."""
    grouped: _Grouped = {}
    for entry in entries:
        change = changes[id(entry)]
        if change and (entry.modality != "sensor" or change.name.endswith("_db")):
            grouped.setdefault((entry.modality or "", change.name), []).append((entry, change))
    order = list(MODALITIES)
    return dict(sorted(grouped.items(), key=lambda item: order.index(item[0][0])))


def _gain_chart(modality: str, unit: str, found: Sequence[tuple[str, _Change]]) -> Chart:
    if len(found) <= _MAX_DUMBBELLS:
        drawn = chart.dumbbells(
            [(Path(name).name, change.before, change.after) for name, change in found], unit
        )
        return Chart(f"{modality}: {unit}, before and after", drawn)
    return Chart(
        f"{modality}: gain in {unit}",
        chart.histogram([change.gain for _, change in found], f"gain in {unit}", shown=[0.0]),
    )


def _short_names(sources: Iterable[str]) -> dict[str, str]:
    names = list(dict.fromkeys(sources))
    return dict(zip(names, short_names(names), strict=True))


def _decision(entry: Entry) -> tuple[str | None, tuple[str, ...]]:
    """Sentence of what was done, and the other notes."""
    notes = tuple(note for note in entry.notes if note not in (entry.error or ""))
    if entry.model is None:
        return None, notes
    models = entry.model.split(" and ")
    for first, note in enumerate(notes):
        if note.split(":")[0] in models or note.endswith("left as it is"):
            return f"Decision: {note}", notes[:first] + notes[first + 1 :]
    return f"Model: {entry.model}", notes


def _reading(options: Any) -> dict[str, Any]:
    """Options that say how to read a log."""
    return {name: getattr(options, name) for name in _READING if hasattr(options, name)}


def metric_title(name: str) -> str:
    """Return the name of a metric for people, with its unit."""
    words = name.split("_")
    unit = _UNITS.get(words[-1]) if len(words) > 1 else None
    named = " ".join(filter(None, (_WORDS.get(word, word) for word in words[: -1 if unit else None])))
    return f"{named}, {unit}" if unit else named


def figure(value: float | None) -> str:
    """Format a figure; nothing for None."""
    return "" if value is None else number(value)


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
