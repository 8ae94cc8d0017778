"""Options that several commands share; their defaults are those of the job they fill."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from denoise.errors import StorageError
from denoise.models import PRECISIONS
from pipelines import report
from pipelines.batch import run as batch
from pipelines.batch.engines.table import ENGINES
from pipelines.batch.forecast import bytes_text
from pipelines.batch.jobs import Job
from pipelines.batch.store import location

__all__ = [
    "STDOUT",
    "given",
    "inputs",
    "job_options",
    "json_option",
    "keep_option",
    "numbers",
    "path_type",
    "precision_option",
    "remove_option",
    "run",
    "show_option",
    "size",
    "tell",
    "words",
]

Command = TypeVar("Command", bound=Callable[..., Any])

path_type = click.Path(path_type=Path)


class _Location(click.ParamType["Path"]):
    """A path, or a URL that fsspec knows."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        return value if isinstance(value, Path) else location(value)


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def _loudness(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    if ctx.meta.setdefault("loudness", parameter.name) != parameter.name:
        raise click.UsageError("--quiet and --verbose exclude each other.")


inputs = click.argument("inputs", nargs=-1, required=True, type=path_type, metavar="INPUT...")
json_option = click.option(
    "--json", "json_path", type=path_type, metavar="FILE", help="Write all figures as JSON."
)
show_option = click.option(
    "--json",
    "json_path",
    type=path_type,
    metavar="FILE",
    help="Write the report as JSON; - prints it alone.",
)
STDOUT = Path("-")


precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default=PRECISIONS[0],
    show_default=True,
    help="Of trained image models; bf16 is faster on CPUs that have it.",
)


def _few(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return words(ctx, parameter, value) or ()


remove_option = click.option(
    "--remove",
    callback=_few,
    metavar="A,B",
    help="Take out of sensor logs however faint it is: impulses, faults, mains, baseline.",
)
keep_option = click.option(
    "--keep", callback=_few, metavar="A,B", help="Leave in sensor logs: impulses, faults, mains, baseline."
)


def job_options(command: Command) -> Command:
    """The inputs and options of every command that makes files out of files."""
    for decorate in reversed(
        (
            click.argument("inputs", nargs=-1, required=True, type=_Location(), metavar="INPUT..."),
            click.option(
                "-o",
                "--output",
                required=True,
                type=_Location(),
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
                show_default="as many as pay",
                help="Processes that work at the same time.",
            ),
            click.option(
                "--engine",
                type=click.Choice(ENGINES),
                default=Job.engine,
                show_default=True,
                help="What runs the workers.",
            ),
            click.option(
                "--scheduler",
                default=Job.scheduler,
                metavar="tcp://HOST:PORT",
                help="Of a Dask cluster.  [default: one on this machine]",
            ),
            click.option(
                "--keep-mtime",
                is_flag=True,
                default=Job.keep_mtime,
                help="Give each result the modification time of its input.",
            ),
            click.option(
                "--max-pixels",
                type=click.IntRange(min=1),
                default=Job.max_pixels,
                show_default=True,
                help="Refuse larger images.",
            ),
            click.option(
                "--max-duration",
                type=click.FloatRange(min=0, min_open=True),
                default=Job.max_duration,
                metavar="S",
                help="Refuse longer recordings.",
            ),
            click.option(
                "--timeout",
                type=click.FloatRange(min=0, min_open=True),
                default=Job.timeout,
                metavar="S",
                help="Give up a file that takes longer.",
            ),
            click.option(
                "--memory",
                default=Job.memory,
                callback=size,
                metavar="SIZE",
                help="Such as 2GB: what all workers together may hold.",
            ),
            click.option(
                "-q",
                "--quiet",
                is_flag=True,
                expose_value=False,
                callback=_loudness,
                help="Show nothing but what failed.",
            ),
            click.option(
                "-v",
                "--verbose",
                is_flag=True,
                expose_value=False,
                callback=_loudness,
                help="Show a line for each file, with its notes.",
            ),
            json_option,
        )
    ):
        command = decorate(command)
    return command


def run(job: Job, json_path: Path | None) -> None:
    """Run a job, print what became of it, and exit with the code that says so (docs/reliability.md)."""
    ctx = click.get_current_context()
    loudness = ctx.meta.get("loudness")
    result = batch.run(job, _SHOW[loudness])
    if loudness == "quiet":
        for entry in result.entries:
            if entry.status == "failed":
                click.echo(report.printable(str(entry.error)), err=True)
    else:
        click.echo(report.summary(result))
        if job.dry_run:
            click.echo(report.printable("\n".join(_plan_lines(result))))
    if json_path:
        report.write_json(json_path, _json(job, result))
    if result.stopped:
        raise StorageError(result.stopped)
    if result.counts["failed"]:
        ctx.exit(1)


def given(*names: str) -> list[str]:
    """Which of these options are on the command line, as they are written there."""
    ctx = click.get_current_context()
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return [
        parameter.opts[-1] if isinstance(parameter, click.Option) else str(parameter.name)
        for parameter in ctx.command.params
        if sources.get(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
    ]


def tell(json_path: Path | None, data: Mapping[str, Any]) -> None:
    """Do what `show_option` asks for, once the text, if any, is printed."""
    if json_path == STDOUT:
        click.echo(report.as_json(data))
    elif json_path:
        report.write_json(json_path, data)


_SHOW: Mapping[str | None, batch.Progress] = {
    None: report.progress,
    "verbose": report.lines,
    "quiet": lambda entries, _: entries,
}


def _plan_lines(result: batch.Result) -> Iterator[str]:
    for entry in result.entries:
        if entry.status == "planned":
            yield f"{entry.source} -> {entry.output}"
    cost = result.cost
    free = "" if result.free_bytes is None else f"; {bytes_text(result.free_bytes)} are free"
    yield (
        f"{bytes_text(cost.bytes_in)} to read, an estimated {bytes_text(cost.estimated_bytes_out)} to write"
        f"{free}; an estimated {cost.estimated_seconds:.0f} s"
    )


def _json(job: Job, result: batch.Result) -> dict[str, Any]:
    rows = [entry.row() for entry in result.entries]
    if not job.dry_run:
        return {"rows": rows}
    for row in rows:
        row |= result.costs[row["key"]].row() if row["status"] == "planned" else {}
    return {"rows": rows, "plan": result.cost.row() | {"free_bytes": result.free_bytes}}


def size(ctx: click.Context, parameter: click.Parameter, value: str | int | None) -> int | None:  # noqa: ARG001
    """A size in bytes, such as 2GB, 500M or 1.5GiB."""
    if value is None or isinstance(value, int):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?i?)b?", value.strip().lower())
    if match is None or match[2] not in _UNITS:
        raise click.BadParameter(f"{value!r} is not a size such as 500MB or 2GB")
    return int(float(match[1]) * _UNITS[match[2]])


def words(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """A comma-separated list."""
    return None if value is None else tuple(word.strip() for word in value.split(",") if word.strip())


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...]:
    """A comma-separated list of numbers."""
    try:
        return tuple(float(word) for word in words(ctx, parameter, value) or ())
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 15,25,50") from error
