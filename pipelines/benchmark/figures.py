"""Figures of a benchmark for papers: metric over level, and quality against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from denoise.errors import UsageError
from denoise.metrics import finite_mean
from denoise.signal import MODALITIES
from pipelines.benchmark.run import BenchmarkRow
from pipelines.benchmark.significance import Comparison
from pipelines.benchmark.titles import COSTS, main_cost, swept_title
from pipelines.report import as_utf8, writing
from pipelines.view.reports import metric_title

_SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Refuse, before the work, a file name without a plot format."""
    if path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{path}: a plot is written as {' '.join(_SUFFIXES)}, not {path.suffix or 'that'}")


def plot(rows: Sequence[BenchmarkRow], compared: Sequence[Comparison], path: Path) -> None:
    """Plot a line of panels per modality: metric over level for each sweep, then quality against cost."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [(row.modality, row.group) for row in rows if row.level is not None]
    panels += [(row.modality, "") for row in rows]
    panels = sorted(dict.fromkeys(panels), key=lambda panel: list(MODALITIES).index(panel[0]))
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    # Text stays text in a PDF and an SVG, so that a journal can edit it.
    with rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):
        figure = Figure(figsize=(4.5 * columns, 3.6 * lines), layout="constrained")
        FigureCanvasAgg(figure)
        every = figure.subplots(lines, columns, squeeze=False).flat
        for axes, (modality, group) in zip(every, panels, strict=False):
            ours = [row for row in rows if row.modality == modality and group in ("", row.group)]
            if group:
                _draw_levels(axes, ours, compared)
            else:
                _draw_costs(axes, ours)
            axes.grid(alpha=0.3)
        for axes in list(every):
            axes.remove()
        with writing(path) as partial:
            figure.savefig(partial, format=path.suffix[1:].lower(), dpi=200)


def _draw_levels(axes: Any, rows: Sequence[BenchmarkRow], compared: Sequence[Comparison]) -> None:
    """Draw a line per model and one of the input; bars are the interval of the mean gain."""
    intervals = {(one.model, one.modality, one.noise): one for one in compared}
    models = list(dict.fromkeys(row.model for row in rows))
    for model in models:
        line = [row for row in rows if row.model == model]
        means = np.array([np.nan if row.headline is None else row.headline for row in line])
        found = [intervals[model, row.modality, row.noise] for row in line]
        bars = np.array([[abs(end - one.gain) for end in one.interval or (one.gain,) * 2] for one in found])
        axes.errorbar([row.level for row in line], means, bars.T, fmt="o-", capsize=2, label=as_utf8(model))
    line = [row for row in rows if row.model == models[0]]
    inputs = [np.nan if row.noisy_headline is None else row.noisy_headline for row in line]
    axes.plot([row.level for row in line], inputs, ":", color="0.4", label="input")
    axes.set(xlabel=swept_title(rows[0]), ylabel=_metric(rows))
    axes.legend(fontsize="small")


def _draw_costs(axes: Any, rows: Sequence[BenchmarkRow]) -> None:
    """Draw a point per model; the line joins those that none beats in both."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullLocator

    cost = main_cost(rows[0])
    points = {}
    for model in dict.fromkeys(row.model for row in rows):
        ours = [row for row in rows if row.model == model]
        spent, gain = finite_mean(row.cost[cost] for row in ours), finite_mean(row.gain for row in ours)
        if spent and gain is not None:
            points[model] = (spent, gain)
    for model, point in points.items():
        axes.plot(*point, "o")
        axes.annotate(as_utf8(model), point, (4, 4), textcoords="offset points", fontsize="small")
    frontier: list[tuple[float, float]] = []
    for point in sorted(points.values()):
        if not frontier or point[1] > frontier[-1][1]:
            frontier.append(point)
    axes.plot(*np.array(frontier).T, "-", color="0.6", zorder=0)
    axes.set(xscale="log", xlabel=COSTS[cost], ylabel=f"mean gain in {_metric(rows)}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.margins(x=0.25, y=0.15)


def _metric(rows: Sequence[BenchmarkRow]) -> str:
    return metric_title(MODALITIES[rows[0].modality].headline)
