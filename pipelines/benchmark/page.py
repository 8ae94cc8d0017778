"""Report of a benchmark, as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from denoise.metrics import finite_mean
from denoise.signal import MODALITIES
from pipelines.batch.discover import Problem
from pipelines.benchmark.run import BenchmarkRow
from pipelines.benchmark.titles import COSTS, main_cost, swept_title
from pipelines.view import chart
from pipelines.view.page import Chart, Column, Page, Row
from pipelines.view.reports import figure, metric_title


def benchmark_page(rows: Sequence[BenchmarkRow], problems: Iterable[Problem]) -> Page:
    """Make the page of a benchmark: metric over level, quality over cost, and one row per model and noise."""
    charts = []
    for modality in dict.fromkeys(row.modality for row in rows):
        ours = [row for row in rows if row.modality == modality]
        title = metric_title(MODALITIES[modality].headline)
        for group in dict.fromkeys(row.group for row in ours if row.level is not None):
            swept = [row for row in ours if row.group == group and row.level is not None]
            series: dict[str, list[tuple[float, float]]] = {}
            for row in swept:
                if row.headline is not None:
                    series.setdefault(row.model, []).append((row.level or 0.0, row.headline))
            if series and len({row.level for row in swept}) > 1:
                drawn = chart.lines(series, swept_title(swept[0]), title)
                charts.append(Chart(f"{modality}, {group}", drawn))
        points = {}
        for model in dict.fromkeys(row.model for row in ours):
            found = [row for row in ours if row.model == model]
            gain = finite_mean(row.gain for row in found)
            cost = finite_mean(row.cost.get(main_cost(row)) for row in found)
            if gain is not None and cost:
                points[model] = (cost, gain)
        if len(points) > 1:
            unit = COSTS[main_cost(ours[0])]
            charts.append(
                Chart(
                    f"{modality}: quality against cost", chart.scatter(points, unit, f"mean gain in {title}")
                )
            )
    table = [
        Row(
            row.model,
            "worse" if (row.gain or 0.0) < 0 else "ok",
            row.modality,
            (
                (row.noise, row.noise),
                (f"{row.files}", row.files),
                *(
                    (figure(value), "" if value is None else value)
                    for value in (row.noisy_headline, row.headline)
                ),
                ("" if row.gain is None else f"{row.gain:+.2f}", "" if row.gain is None else row.gain),
                _cost_cell(row),
            ),
            figures=tuple((name.replace("_", " "), figure(value)) for name, value in row.metrics.items()),
        )
        for row in rows
    ]
    table += [
        Row(str(problem.path), "failed", "", tuple([("", "")] * 6), problem.error) for problem in problems
    ]
    table.sort(key=lambda row: row.error is None)
    models = {row.model for row in rows}
    facts = [
        (f"{len(models)}", "models"),
        (f"{max((row.files for row in rows), default=0)}", "files"),
        (f"{len({row.noise for row in rows})}", "conditions"),
    ]
    columns = [
        Column("noise"),
        Column("files", number=True, phone=False),
        Column("input, dB", number=True, phone=False),
        Column("output, dB", number=True),
        Column("gain, dB", number=True),
        Column("cost", number=True, phone=False),
    ]
    notes = [f"Cost is in {COSTS[name]}." for name in dict.fromkeys(map(main_cost, rows)) if name]
    return Page(f"Benchmark of {len(models)} models", facts, columns, table, charts, notes, first="model")


def _cost_cell(row: BenchmarkRow) -> tuple[str, float | str]:
    cost = row.cost.get(main_cost(row))
    return ("", "") if cost is None else (figure(cost), cost)
