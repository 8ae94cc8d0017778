"""Options that several commands share; their defaults are those of the job they fill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipelines import batch, report
from pipelines.job import Job

__all__ = ["inputs", "job_options", "json_option", "numbers", "path_type", "run", "words"]

Command = TypeVar("Command", bound=Callable[..., Any])

path_type = click.Path(path_type=Path)

inputs = click.argument("inputs", nargs=-1, required=True, type=path_type, metavar="INPUT...")
json_option = click.option(
    "--json", "json_path", type=path_type, metavar="FILE", help="Write all figures as JSON."
)


def job_options(command: Command) -> Command:
    """The inputs and options of every command that makes files out of files."""
    for decorate in reversed(
        (
            inputs,
            click.option(
                "-o",
                "--output",
                required=True,
                type=path_type,
                help="Folder for the results, or a file for one input file.",
            ),
            click.option(
                "--recursive/--no-recursive",
                default=Job.recursive,
                show_default=True,
                help="Go into folders below an input folder.",
            ),
            click.option(
                "--overwrite",
                is_flag=True,
                default=Job.overwrite,
                help="Do every file anew; replace what is there, whoever wrote it.",
            ),
            click.option(
                "--dry-run", is_flag=True, default=Job.dry_run, help="Show what would be done; write nothing."
            ),
            click.option(
                "--workers",
                type=click.IntRange(min=1),
                default=Job.workers,
                show_default=True,
                help="Processes that work at the same time.",
            ),
            click.option(
                "--max-pixels",
                type=click.IntRange(min=1),
                default=Job.max_pixels,
                show_default=True,
                help="Refuse larger images.",
            ),
            json_option,
        )
    ):
        command = decorate(command)
    return command


def run(job: Job, json_path: Path | None) -> None:
    """Run a job, print what became of it, and exit with 1 if a file failed."""
    result = batch.run(job, report.progress)
    click.echo(report.summary(result))
    if job.dry_run:
        for entry in result.entries:
            if entry.status == "planned":
                click.echo(report.printable(f"{entry.source} -> {entry.output}"))
    if json_path:
        report.write_json(json_path, {"rows": [entry.row() for entry in result.entries]})
    if result.counts["failed"]:
        click.get_current_context().exit(1)


def words(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma-separated list."""
    return None if value is None else tuple(word.strip() for word in value.split(",") if word.strip())


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...]:
    """A comma-separated list of numbers."""
    try:
        return tuple(float(word) for word in words(ctx, parameter, value) or ())
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 15,25,50") from error
