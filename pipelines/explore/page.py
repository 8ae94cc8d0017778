"""Reports of codes and of a search for anomalies, as pages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from denoise import io
from denoise.analysis.anomalies import FileAnomalies
from denoise.errors import DenoiseError
from pipelines.explore.anomalies import AnomalyResult, ranges
from pipelines.explore.code_map import AXES, project
from pipelines.explore.embed import EmbedResult
from pipelines.explore.similar import directions_of
from pipelines.report import files, number, short_names
from pipelines.view.budget import MAX_VIEWS, Budget, data_uri, jpeg
from pipelines.view.chart import names_map
from pipelines.view.page import Chart, Column, Page, Row
from pipelines.view.reports import compare

_MAX_THUMBNAILS = 1000  # of a map; the other files are dots
_THUMBNAIL_PX = 48  # of the shorter side, about


def anomalies_page(result: AnomalyResult) -> Page:
    """Make the page of a search for anomalies: anomalous files first, their places outlined."""
    ordered = sorted(result.rows, key=lambda row: (row[1].p_value, -row[1].measured.score.max()))
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
    remarks = dict.fromkeys(note for _, found in ordered for note in found.notes)
    notes += [f"{note[:1].upper()}{note[1:]}." for note in remarks]
    columns = [
        Column("status"),
        Column("p", number=True),
        Column("score", number=True, phone=False),
        Column("places", number=True),
    ]
    return Page(f"Anomalies in {files(len(ordered))}", facts, columns, rows, notes=notes)


def embed_page(result: EmbedResult, projection: str) -> Page:
    """Make the page of an embedding: a map of the files, and for each the nearest other one."""
    _, directions = directions_of(result.codes)
    points = project(directions, projection)
    names = short_names([str(path) for path in result.paths])
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, -np.inf)
    rows = [
        Row(str(problem.path), "failed", "", tuple([("", "")] * 3), problem.error)
        for problem in result.files.problems
    ]
    for index, name in enumerate(names):
        nearest = int(cosines[index].argmax())
        cosine = float(cosines[index, nearest])
        there = (names[nearest], number(cosine)) if len(names) > 1 else ("", "")
        folder = result.paths[index].parent.name
        cells = ((folder, folder), (there[0], there[0]), (there[1], cosine if there[1] else ""))
        rows.append(Row(name, "ok", result.cut.modality, cells))
    pictures = [
        _thumbnail(path) if result.cut.modality == "image" and index < _MAX_THUMBNAILS else None
        for index, path in enumerate(result.paths)
    ]
    places = [(float(x), float(y), name) for (x, y), name in zip(points, names, strict=True)]
    groups = [path.parent.name for path in result.paths]
    drawing = names_map(places, groups, pictures, *AXES[projection])
    return Page(
        f"Codes of {files(len(names))}",
        [(f"{result.count}", "codes"), (f"{result.code_size}", "numbers per code")],
        [Column("folder", phone=False), Column("most similar"), Column("cosine", number=True)],
        rows,
        [Chart("Similar files are near each other", drawing)],
    )


def _thumbnail(path: Path) -> str | None:
    """Return a small picture as a data URI; None if it cannot be read."""
    try:
        pixels, info = io.read(path)
    except DenoiseError:
        return None
    peak = info.peak or 1.0
    side = max(1, min(pixels.shape[1:]) // _THUMBNAIL_PX)  # of a cell that becomes a pixel
    small = pixels[: 3 if len(pixels) >= 3 else 1, ::side, ::side] * (255.0 / peak)
    small = np.broadcast_to(small.clip(0, 255).astype(np.uint8), (3, *small.shape[1:]))
    return data_uri(jpeg(np.moveaxis(small, 0, -1), 80), "image/jpeg")


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
