"""`denoise anomalies`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from denoise.errors import printable
from pipelines import report
from pipelines.cli import options
from pipelines.explore.jobs import AnomaliesJob

if TYPE_CHECKING:
    from pipelines.explore.anomalies import AnomalyResult

_MAX_RANGES = 5  # shown per file


@click.command()
@options.inputs
@options.flags(AnomaliesJob)
@options.html_option
def command(report_path: Path | None, **settings: Any) -> None:
    """Find files that differ from normal ones, and locate each difference.

    With --online each row of a log is judged by the rows before it, and nothing else is learned from.

    \b
    Example:
      denoise anomalies today/ --fit-on good/ --report found.html
    """
    from pipelines.explore.anomalies import find_anomalies
    from pipelines.explore.page import anomalies_page

    job = AnomaliesJob(**settings)
    if job.online:
        _judge_rows(job)
        return
    if job.model:
        options.refuse("with --model", "code_size", "steps", "window", "standardise")
    if not job.fit_on:
        options.refuse("without --fit-on", "tail", "seed", "save_model")
    result = find_anomalies(job)
    options.say_sentences(_lines(result), report_path)
    if job.output:
        options.say(printable(str(job.output)), report_path)
    options.write_page(report_path, lambda: anomalies_page(result))
    options.report_failures(result.problems)


def _judge_rows(job: AnomaliesJob) -> None:
    from pipelines.explore.online import judge_rows

    fitting = ("fit_on", "model", "save_model", "tail", "heat_maps", "code_size", "steps", "seed")
    options.refuse("with --online", *fitting, "window", "standardise", "report_path")
    result = judge_rows(job)
    for file in result.files:
        times = (f"row {row}" if at is None else f"row {row} ({at:.0f} s)" for _, row, at in file.strangest)
        strangest = f": {', '.join(times)}" if file.anomalous else ""
        found = f"{file.anomalous} of {file.rows} rows are anomalous{strangest}"
        click.echo(printable("; ".join([f"{file.source.path}: {found}", *file.notes])))
    click.echo(printable(str(job.output)))
    options.report_failures(result.problems)


def _lines(result: AnomalyResult) -> Iterator[str]:
    from pipelines.explore.anomalies import ranges

    anomalous = [(source, found) for source, found in result.rows if found.anomalous]
    if held_out := result.held_out:
        yield (
            f"False alarms on held-out normal windows: {held_out.alarms} of {held_out.windows}, "
            f"{held_out.expected:.1f} expected"
        )
    for note in dict.fromkeys(note for _, found in result.rows for note in found.notes):
        yield f"{note[:1].upper()}{note[1:]}"
    first = min(result.rows, key=lambda row: row[1].p_value, default=None)
    ranked = f"; the least normal is {first[0].path} (p {first[1].p_value:.2g})" if first else ""
    yield f"Anomalous: {len(anomalous)} of {report.files(len(result.rows))}{'' if anomalous else ranked}"
    for source, found in anomalous:
        every = ranges(found)
        shown = sorted(every, key=lambda place: -place["score"])[:_MAX_RANGES]
        more = f" and {len(every) - len(shown)} more" if len(every) > len(shown) else ""
        yield f"{source.path}: p {found.p_value:.2g}; {', '.join(map(_place, shown))}{more}"


def _place(place: dict[str, Any]) -> str:
    if place["start_s"] is not None:
        return f"{place['start_s']:.2f} to {place['stop_s']:.2f} s"
    if len(place["start"]) == 1:
        return f"samples {place['start'][0]} to {place['stop'][0]}"
    return f"row {place['start'][0]}, column {place['start'][1]}"
