"""Report of a search for anomalies, as a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from denoise.analysis.anomalies import FileAnomalies
from pipelines.explore.anomalies import AnomalyResult, ranges
from pipelines.report import files, number, short_names
from pipelines.view.budget import MAX_VIEWS, Budget
from pipelines.view.page import Column, Page, Row
from pipelines.view.reports import compare


def anomalies_page(result: AnomalyResult) -> Page:
    """Make the page of a search for anomalies: anomalous files first, their places outlined."""
    ordered = sorted(result.rows, key=lambda row: row[1].p_value)
    budget = Budget.for_files(len(ordered))
    names = short_names([str(source.path) for source, _ in ordered])
    rows = [
        Row(str(problem.path), "failed", "", tuple([("", "")] * 4), problem.error)
        for problem in result.problems
    ]
    for index, (source, found) in enumerate(ordered):
        places = ranges(found)
        view, missing = None, None
        if index < MAX_VIEWS:
            view, missing = compare(
                result.cut.modality, source.path, None, budget, {}, marks=_marks(result, found, places)
            )
        score = float(found.measured.score.max())
        status = "anomalous" if found.anomalous else "normal"
        rows.append(
            Row(
                names[index],
                status,
                result.cut.modality,
                (
                    (status, status),
                    (number(found.p_value), found.p_value),
                    (number(score), score),
                    (f"{len(places)}", len(places)),
                ),
                decision=f"Probability of a normal file as extreme: {number(found.p_value)}",
                view=view,
                missing=missing,
            )
        )
    counts = Counter(row.status for row in rows)
    facts = [(f"{count}", status) for status, count in counts.items()]
    notes = []
    if held_out := result.held_out:
        notes.append(
            f"False alarms on held-out normal windows: {held_out.alarms} of {held_out.windows}, "
            f"{held_out.expected:.1f} expected."
        )
    columns = [
        Column("status"),
        Column("p", number=True),
        Column("score", number=True, phone=False),
        Column("places", number=True),
    ]
    return Page(f"Anomalies in {files(len(ordered))}", facts, columns, rows, notes=notes)


def _marks(result: AnomalyResult, found: FileAnomalies, places: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Places of a file in the terms of its view."""
    first = [place for place in places if place["page"] == 0]
    if result.cut.modality == "image":
        from pipelines.view.photo import Mark

        height, width = found.pages[0].shape[-2:]
        return [
            Mark(
                start[1] / width,
                start[0] / height,
                (stop[1] - start[1]) / width,
                (stop[0] - start[0]) / height,
            )
            for start, stop in ((place["start"], place["stop"]) for place in first)
        ]
    if result.cut.modality == "audio":
        return sorted(
            {(place["start_s"], place["stop_s"]) for place in first if place["start_s"] is not None}
        )
    return sorted({(place["start"][0], place["stop"][0]) for place in first})
