"""`denoise anomalies`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines import report
from pipelines.cli import options
from pipelines.explore.jobs import AnomaliesJob

if TYPE_CHECKING:
    from pipelines.explore.anomalies import AnomalyResult

__all__ = ["command"]

_MAX_RANGES = 5  # of a file that are shown


@click.command()
@options.inputs
@options.flags(AnomaliesJob)
def command(**settings: Any) -> None:
    """Find files that differ from normal ones, and the place of each difference.

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


def _lines(judged: AnomalyResult, output: Path) -> Iterator[str]:
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
        places = sorted(shown, key=lambda place: -place["score"])[:_MAX_RANGES]
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
