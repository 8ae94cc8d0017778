"""`denoise anomalies`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from denoise.signal import MODALITIES
from pipelines import report
from pipelines.cli import options
from pipelines.explore.jobs import AnomaliesJob

if TYPE_CHECKING:
    from pipelines.explore.anomalies import Judged

__all__ = ["command"]

_FILE: dict[str, Any] = {"type": options.path_type, "metavar": "FILE"}
_TAILS = ("pareto", "quantile")  # denoise.analysis.thresholds.TAILS, without importing it: that takes seconds
_MOST_RANGES = 5  # of a file that are shown


@click.command()
@options.inputs
@click.option("-o", "--output", required=True, **_FILE, help="The report: .json or .csv.")
@click.option(
    "--fit-on", type=options.path_type, metavar="DIR", help="Normal files, to learn what is normal from."
)
@click.option(
    "--model",
    **_FILE,
    help="What --save-model kept; with --fit-on an autoencoder without skips that learned from other files.",
)
@click.option("--save-model", **_FILE, help="Keep what was learned, as .safetensors.")
@click.option(
    "--quantile",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="Q",
    help="Share of normal windows, and of normal files, that are to pass.  [default: 0.99, or the model's]",
)
@click.option(
    "--tail",
    type=click.Choice(_TAILS),
    default=AnomaliesJob.tail,
    show_default=True,
    help="How scores above all normal ones are judged: by an extreme-value fit, or not told apart.",
)
@click.option(
    "--heat-maps",
    type=options.path_type,
    metavar="DIR",
    help="Draw each anomalous picture, red where it is unlike normal ones.",
)
@click.option(
    "--kind", type=click.Choice(list(MODALITIES)), help="Which files, where the inputs hold several kinds."
)
@click.option(
    "--code-size",
    type=click.IntRange(min=1),
    default=AnomaliesJob.code_size,
    show_default=True,
    help="Numbers a code, where a model is learned.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=AnomaliesJob.steps,
    show_default=True,
    help="Of learning.",
)
@click.option(
    "--window",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SIZE",
    help="What is looked at: pixels a side, seconds, or samples of a log.  "
    "[default: 16 pixels, small pictures as a whole; 0.064 s; 128 samples]",
)
@click.option(
    "--standardise",
    is_flag=True,
    default=AnomaliesJob.standardise,
    help="Look at the shape of each window alone, not at its level.",
)
@click.option("--columns", callback=options.words, metavar="A,B,..", help="Of sensor logs, names or globs.")
@click.option(
    "--seed", type=int, default=AnomaliesJob.seed, show_default=True, help="Decides what is learned."
)
@click.option(
    "--recursive/--no-recursive",
    default=AnomaliesJob.recursive,
    show_default=True,
    help="Go into folders below an input folder.",
)
@click.option("--overwrite", is_flag=True, default=AnomaliesJob.overwrite, help="Replace what is there.")
def command(**settings: Any) -> None:
    """Find the files that are unlike normal ones, and where in them.

    \b
    Example:
      denoise anomalies today/ --fit-on good/ -o report.json
    """
    from pipelines.explore.anomalies import find_anomalies

    job = AnomaliesJob(**settings)
    if job.model and (unused := options.given("code_size", "steps", "window", "standardise")):
        raise click.UsageError(f"{' and '.join(unused)} cannot be chosen: --model decides it.")
    if not job.fit_on and (unused := options.given("tail", "seed", "save_model")):
        raise click.UsageError(f"{' and '.join(unused)} cannot be chosen without --fit-on.")
    judged = find_anomalies(job)
    click.echo(report.printable("\n".join(_lines(judged, job.output))))
    for sentence in judged.problems:
        click.echo(report.printable(f"Failed: {sentence}"), err=True)
    if judged.problems:
        click.get_current_context().exit(1)


def _lines(judged: Judged, output: Path) -> Iterator[str]:
    from pipelines.explore.anomalies import ranges

    anomalous = [(source, found) for source, found in judged.rows if found.anomalous]
    check = judged.check
    if check:
        yield (
            f"False alarms on normal windows kept apart: {check.alarms} of {check.excerpts}, "
            f"{check.expected:.1f} expected"
        )
    yield f"Anomalous: {len(anomalous)} of {report.files(len(judged.rows))}"
    for source, found in anomalous:
        shown = ranges(found)
        places = sorted(shown, key=lambda place: -place["score"])[:_MOST_RANGES]
        more = f" and {len(shown) - len(places)} more" if len(shown) > len(places) else ""
        where = ", ".join(map(_place, places))
        yield f"{source.path}: p {found.p_value:.2g}; {where}{more}"
    yield str(output)


def _place(place: dict[str, Any]) -> str:
    if place["start_s"] is not None:
        return f"{place['start_s']:.2f} to {place['stop_s']:.2f} s"
    if len(place["start"]) == 1:
        return f"samples {place['start'][0]} to {place['stop'][0]}"
    return f"row {place['start'][0]}, column {place['start'][1]}"
