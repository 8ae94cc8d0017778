"""Training progress: a line on the terminal, a table and a plot beside the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.report import check_report, write_csv, writing

if TYPE_CHECKING:
    from denoise.training.fit import Progress

Curve = Sequence[Mapping[str, float]]

_BARS = "▁▂▃▄▅▆▇█"
_MAX_BARS = 24
_SUFFIXES = {".curve.csv": "curve", ".curve.png": "picture"}  # with their kinds of `check_report`


def line(progress: Progress) -> str:
    """Describe the step; after a validation also the history of the metric."""
    done, rate = f"step {progress.step}/{progress.steps}", f"{progress.samples_per_s:.0f} samples/s"
    text = f"{done}  loss {progress.loss:.3g}  {rate}"
    if progress.metric is None:
        return text
    bars = sparkline([point[progress.metric] for point in progress.curve])
    return f"{text}  {progress.metric} {progress.value:.2f} (noisy {progress.before:.2f}) {bars}"


def sparkline(values: Sequence[float]) -> str:
    """Draw the last values as bars; the lowest gets the shortest."""
    shown = values[-_MAX_BARS:]
    low, span = min(shown), max(shown) - min(shown)
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1)) if span else 0] for value in shown)


def check(weights: Path) -> None:
    """Refuse weights whose curve would replace anything but an earlier curve.

    Raises:
        UsageError: A file has the name of the curve.
    """
    for suffix, kind in _SUFFIXES.items():
        check_report(weights.with_suffix(suffix), kind)


def write(curve: Curve, weights: Path) -> None:
    """Write `NAME.curve.csv` and `NAME.curve.png` beside the weights."""
    rows = ([point[name] for name in curve[0]] for point in curve)
    table, plot = map(weights.with_suffix, _SUFFIXES)
    write_csv(table, curve[0], rows)
    _plot(curve, plot)


def _plot(curve: Curve, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [name for name in curve[0] if name != "step"]
    figure = Figure(figsize=(5 * len(names), 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    for name, axes in zip(names, figure.subplots(1, len(names), squeeze=False)[0], strict=True):
        axes.plot([point["step"] for point in curve], [point[name] for point in curve], "o-", markersize=3)
        axes.set(xlabel="step", ylabel=name)
        axes.grid(alpha=0.3)
    with writing(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
