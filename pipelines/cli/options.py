"""Flags of the command line, made from the annotated fields of options and jobs; and what commands share."""

from __future__ import annotations

import codecs
import difflib
import glob
import os
import re
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from denoise.errors import StorageError, printable
from denoise.options import Field, Options
from pipelines import report
from pipelines.batch import run as batch
from pipelines.batch.discover import STDOUT as STDOUT
from pipelines.batch.discover import Problem
from pipelines.batch.forecast import Cost, bytes_text, duration_s
from pipelines.batch.jobs import Job
from pipelines.batch.naming import BESIDE, common_folder
from pipelines.batch.remote import location
from pipelines.batch.store import place
from pipelines.cli.completion import complete
from pipelines.cli.event_log import logged

if TYPE_CHECKING:
    from pipelines.view import Page

AnyJob = TypeVar("AnyJob", bound=Job)
Decorator = Callable[[Any], Any]

_MAX = sys.float_info.max
_MAX_LIST_BYTES = 256 << 20  # of --files-from: some million paths
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30}

path_type = click.Path(path_type=Path)


class _Location(click.ParamType["Path"]):
    """A path, or a URL that fsspec reads."""

    name = "path"

    def convert(self, value: Any, _param: click.Parameter | None, _ctx: click.Context | None) -> Path:
        return value if isinstance(value, Path) else location(value)


class _Size(click.ParamType["int"]):
    """A size in bytes, such as 2GB, 500M or 1.5GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([kmgt]?i?)b?", value.strip().lower())
        if match is None or match[2] not in _UNITS:
            self.fail(f"{value!r} is not a size such as 500MB or 2GB", param, ctx)
        return int(Fraction(match[1]) * _UNITS[match[2]])


class _Choice(click.Choice):  # type: ignore[type-arg]
    """One of several words; of others the nearest is suggested."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            near = difflib.get_close_matches(str(value).lower(), self.choices, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            self.fail(f"{error.message}{hint}", param, ctx)


class _List(click.ParamType["tuple[Any, ...]"]):
    """A comma-separated list."""

    name = "list"

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return tuple(map(self._kind, value))
        try:
            return tuple(self._kind(word.strip()) for word in value.split(",") if word.strip())
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 15,25,50", param, ctx)


def _type(field: Field, path: click.ParamType[Path]) -> click.ParamType[Any]:
    option = field.option
    low, high = (None if abs(bound) >= _MAX else bound for bound in (option.low, option.high))
    if field.many and not option.repeated:
        return _List(field.kind)
    if option.choices:
        return _Choice(option.choices)
    if option.unit == "bytes":
        return _Size()
    if field.kind is Path:
        return path
    if field.kind not in (int, float):
        return click.STRING
    if low is high is None:
        return click.INT if field.kind is int else click.FLOAT
    bounds: Any = click.IntRange if field.kind is int else click.FloatRange
    return bounds(low, high, min_open=option.low_open, max_open=option.high_open)


def _metavar(field: Field) -> str:
    return field.option.metavar or {"bytes": "SIZE"}.get(field.option.unit, field.option.unit.upper())


def flag(field: Field, path: click.ParamType[Path] = path_type) -> Decorator:
    """Make the click option of a field."""
    option, required = field.option, field.default is MISSING
    names = [*([option.short] if option.short else []), field.flag, field.name]
    shown: Any = option.unset or not (field.default in (None, ()) or field.default is False or required)
    if field.kind is bool:
        names[-2] += f"/--no-{field.flag.removeprefix('--')}" if field.default else ""
        return click.option(*names, is_flag=True, default=field.default, show_default=shown, help=option.help)
    # click takes a default of None for a value, and a required option with one is never missing.
    presence: dict[str, Any] = {"required": not option.unset} if required else {"default": field.default}
    return click.option(
        *names,
        type=_type(field, path),
        **presence,
        multiple=option.repeated,
        metavar=_metavar(field) or None,
        show_default=shown,
        help=option.help,
        shell_complete=complete(field.name),
    )


def flags(kind: type[Options], path: click.ParamType[Path] = path_type) -> Decorator:
    """Add the flags of every option of a class to a command."""

    def decorate(command: Any) -> Any:
        for field in reversed(tuple(kind.table().values())):
            if field.flag:
                command = flag(field, path)(command)
        return command

    return decorate


def markdown(kind: type[Options]) -> str:
    """Make the table of docs/options.md for a class."""
    rows = []
    for field in kind.table().values():
        if field.flag:
            name = " ".join(filter(None, (field.flag, _metavar(field))))
            default = field.option.unset
            if field.default not in (None, (), MISSING):
                default = (
                    {True: "yes", False: "no"}[field.default] if field.kind is bool else f"{field.default}"
                )
                default = f"{field.default:g}" if field.kind is float else default
            help_text = field.option.help.replace("|", "\\|")
            cells = f"`{name}`".replace("|", "\\|"), help_text, field.domain, default or "-"
            rows.append(cells)
    return report.markdown(("option", "meaning", "values", "default"), rows, words=4)


def page() -> str:
    """Make docs/options.md."""
    from pipelines.batch.jobs import CleanJob, CorruptJob
    from pipelines.benchmark.job import BenchmarkJob
    from pipelines.explore.jobs import AnomaliesJob, EmbedJob, ReconstructJob, SimilarJob

    kinds = {
        "clean": type(CleanJob.options),
        "corrupt": type(CorruptJob.options),
        "clean and corrupt": Job,
        "benchmark": BenchmarkJob,
        "embed": EmbedJob,
        "reconstruct": ReconstructJob,
        "similar": SimilarJob,
        "anomalies": AnomaliesJob,
    }
    tables = (f"## `{name}`\n\n{markdown(kind)}\n" for name, kind in kinds.items())
    command = "python -m pipelines.cli.options > docs/options.md"
    head = f"# Options\n\nMade from the fields of the options by `{command}`.\n"
    return "\n".join([head, *tables])


def _set_verbosity(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and ctx.meta.setdefault("verbosity", parameter.name) != parameter.name:
        raise click.UsageError("--quiet and --verbose exclude each other.")


_verbosity: dict[str, Any] = {"is_flag": True, "expose_value": False, "callback": _set_verbosity}
quiet_option = click.option("-q", "--quiet", **_verbosity, help="Show nothing but failures.")
verbose_option = click.option("-v", "--verbose", **_verbosity, help="Show a line per file, with its notes.")


class _Report(click.ParamType["Path"]):
    """A file for a report, which replaces nothing but an earlier report; `-` is standard output."""

    name = "path"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        report.check_report(path, self._kind)
        if param and ctx:
            first = ctx.meta.setdefault("reports", {}).setdefault(path.absolute(), param.opts[0])
            if first != param.opts[0]:
                raise click.UsageError(f"{path}: is named by {first} and {param.opts[0]}; choose two names.")
        return path


def report_option(flag: str, name: str, kind: str, metavar: str, help_text: str) -> Decorator:
    """Add an option for a file that the command writes besides its results."""
    return click.option(flag, name, type=_Report(kind), metavar=metavar, help=help_text)


def say(text: str, *paths: Path | None) -> None:
    """Print the text of a command, unless one of its reports goes to standard output."""
    if STDOUT not in paths:
        click.echo(text)


def say_sentences(lines: Iterable[str], *paths: Path | None) -> None:
    """Print sentences as `say`; on a terminal, long ones go on in the next line."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    say("\n".join(report.wrapped(printable(line), width) for line in lines), *paths)


def _set_log(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    ctx.meta["log"] = path


def log_path() -> Path | None:
    """Return the file of --log-json; `-` is standard output."""
    return click.get_current_context().meta.get("log")


log_option = click.option(
    "--log-json",
    type=_Report("log"),
    metavar="FILE.jsonl",
    expose_value=False,
    callback=_set_log,
    help="Append a JSON line when the run starts, after each file, and when it ends; - prints them alone.",
)
inputs = click.argument("inputs", nargs=-1, required=True, type=path_type, metavar="INPUT...")
json_option = report_option(
    "--json", "json_path", "JSON", "FILE", "Write all figures as JSON; - prints them alone."
)
html_option = report_option(
    "--report", "report_path", "HTML", "FILE.html", "Write a page to look at: charts, table, each file."
)
show_option = report_option(
    "--json", "json_path", "JSON", "FILE", "Write the report as JSON; - prints it alone."
)


def job_options(kind: type[Job]) -> Decorator:
    """Add inputs and flags of a job that makes files out of files."""
    place = _Location()
    argument = click.argument("inputs", nargs=-1, type=place, metavar="INPUT...")
    decorators = (
        argument,
        click.option(
            "--files-from", metavar="FILE", help="Read inputs from a list, a path a line; - is stdin."
        ),
        click.option(
            "-0", "--null", is_flag=True, help="NUL ends a path of --files-from, as in find -print0."
        ),
        flags(type(kind.options)),
        flags(kind, place),
        quiet_option,
        verbose_option,
        log_option,
    )

    def decorate(command: Any) -> Any:
        for decorator in reversed((*decorators, json_option)):
            command = decorator(command)
        return command

    return decorate


def job_from(kind: type[AnyJob], settings: dict[str, Any]) -> AnyJob:
    """Make a job from the values of its flags."""
    files_from, null = settings.pop("files_from", None), settings.pop("null", False)
    if null and files_from is None:
        raise click.UsageError("--null is for --files-from.")
    listed = _listed(files_from, null=null) if files_from is not None else []
    settings["inputs"] = (*(path for name in settings["inputs"] for path in _expanded(name)), *listed)
    if not settings["inputs"]:
        raise click.UsageError(
            "Missing argument 'INPUT...'." if files_from is None else f"{files_from}: names no file."
        )
    settings["listed"] = frozenset(listed)
    settings = _with_output(settings)
    options = type(kind.options)
    chosen = {name: settings.pop(name) for name in options.table() if name in settings}
    reports = tuple(click.get_current_context().meta.get("reports", ()))
    return kind(options=options(**chosen), reports=reports, **settings)


def _listed(files_from: str, *, null: bool) -> list[Path]:
    """Read the inputs of a list, in which a name is no pattern."""
    try:
        with sys.stdin.buffer if files_from == "-" else Path(files_from).open("rb") as file:
            data = file.read(_MAX_LIST_BYTES + 1)
    except OSError as error:
        raise click.UsageError(f"{files_from}: cannot be read: {error.strerror}") from error
    if len(data) > _MAX_LIST_BYTES:
        raise click.UsageError(f"{files_from}: is longer than 256 MiB; expected a list of paths.")
    if not null and b"\0" in data:
        raise click.UsageError(f"{files_from}: holds binary data; expected a path a line, or --null.")
    names = data.split(b"\0") if null else data.removeprefix(codecs.BOM_UTF8).splitlines()
    return [location(os.fsdecode(name)) for name in names if name]


def _expanded(path: Path) -> list[Path]:
    """Expand a pattern that names no file itself."""
    if "://" in str(path) or not glob.has_magic(str(path)) or os.path.exists(path):  # noqa: PTH110 - raises nothing
        return [path]
    names = glob.glob(str(path), recursive=True)  # noqa: PTH207 - of a pattern with any anchor
    return [Path(name) for name in sorted(names)] or [path]


def _with_output(settings: dict[str, Any]) -> dict[str, Any]:
    """Choose where results go if no output is named: in place, or beside single files."""
    if settings.get("output") is not None:
        if settings.get("in_place"):
            raise click.UsageError("--in-place and --output exclude each other.")
        return settings
    inputs = settings["inputs"]
    if settings.get("in_place"):
        return settings | {"output": common_folder(inputs)}
    if settings.get("dry_run"):
        return settings | {"output": Path("output")}
    present = [path for path in inputs if path not in settings["listed"] or os.path.lexists(path)]
    if not all(path.is_file() for path in present) or settings.get("template"):
        absent = (path for path in inputs if place(path).is_local and not os.path.exists(path))  # noqa: PTH110
        if missing := [path for path in absent if not set("*?[:") & set(str(path))]:  # no pattern, no address
            raise click.UsageError(f"{printable(str(missing[0]))}: no such file or folder.")
        raise click.UsageError("Missing option '-o' / '--output', such as -o cleaned; or use --in-place.")
    return settings | {"output": common_folder(inputs), "template": BESIDE}


def verbosity() -> str | None:
    """Return `quiet`, `verbose` or None."""
    return click.get_current_context().meta.get("verbosity")


def progress() -> batch.Progress:
    """Choose how a batch shows its files as they finish."""
    shows: Mapping[str | None, batch.Progress] = {"verbose": report.lines, "quiet": batch.silent}
    return logged(shows.get(verbosity(), report.progress), log_path())


def finish(job: Job, result: batch.Result, json_path: Path | None, report_path: Path | None = None) -> None:
    """Print the result of a job, and exit with the code for it (docs/reliability.md)."""
    if verbosity() == "quiet":
        for entry in result.entries:
            if entry.status in ("failed", "salvaged"):
                click.echo(printable(str(entry.error)), err=True)
    else:
        if job.output == STDOUT:
            click.echo(report.summary(result), err=True)
        else:
            say(report.summary(result, **_layout()), json_path, report_path, log_path())
        if job.dry_run:
            say("\n".join(map(printable, _plan_lines(result))), json_path, report_path, log_path())
    if json_path:
        report.check_report(json_path, "JSON")  # again: it may be a result by now
        report.write_json(json_path, _json(job, result))
    write_page(report_path, lambda: _batch_page(job, result))
    if result.stopped:
        raise StorageError(result.stopped)
    exit_if(result.counts["failed"] + result.counts["salvaged"])


def _layout() -> dict[str, Any]:
    """Choose the form of a summary: as wide as the terminal, and in colour unless NO_COLOR is set."""
    terminal = sys.stdout.isatty()
    width = max(report.WIDTH, shutil.get_terminal_size().columns) if terminal else report.WIDTH
    colour = terminal and not os.environ.get("NO_COLOR")
    return {"verbose": verbosity() == "verbose", "width": width, "wrap": terminal, "colour": colour}


def _batch_page(job: Job, result: batch.Result) -> Page:
    from pipelines.view.reports import batch_page

    return batch_page(job, result)


def exit_if(failed: object) -> None:
    """Exit with code 1 if something failed."""
    if failed:
        click.get_current_context().exit(1)


def report_failures(problems: Collection[Problem]) -> None:
    """Show problems on stderr, and exit with code 1 if there are any."""
    for problem in problems:
        click.echo(printable(f"Failed: {problem.error}"), err=True)
    exit_if(problems)


def write_page(path: Path | None, make: Callable[[], Page]) -> None:
    """Write the page that `html_option` asks for."""
    if path:
        from pipelines.view import as_html

        report.check_report(path, "HTML")  # again: it may be a result by now
        report.write_text(path, as_html(make()))


def given(*names: str) -> list[str]:
    """List those of the options that are on the command line, as they are written there."""
    ctx = click.get_current_context()
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return [
        parameter.opts[-1] if isinstance(parameter, click.Option) else str(parameter.name)
        for parameter in ctx.command.params
        if sources.get(str(parameter.name)) is click.core.ParameterSource.COMMANDLINE
    ]


def refuse(reason: str, *names: str) -> None:
    """Refuse those of the options that are on the command line, for a reason such as `with --model`."""
    if unused := given(*names):
        raise click.UsageError(f"{' and '.join(unused)} cannot be set {reason}.")


def show_json(json_path: Path | None, data: Mapping[str, Any]) -> None:
    """Write or print the report that `show_option` asks for."""
    if json_path:
        report.write_json(json_path, data)


def _plan_lines(result: batch.Result) -> Iterator[str]:
    planned = [entry for entry in result.entries if entry.status == "planned"]
    if verbosity() == "verbose" or len(planned) < report.MIN_GROUPED:
        yield from (f"{entry.source} -> {entry.output}" for entry in planned)
    else:
        for modality in sorted({str(entry.modality) for entry in planned}):
            ours = [entry for entry in planned if entry.modality == modality]
            cost = sum((result.costs[str(entry.key)] for entry in ours), Cost())
            yield (
                f"{modality}: {report.files(len(ours))}, {bytes_text(cost.bytes_in)}, an estimated "
                f"{cost.estimated_seconds:.0f} s"
            )
    cost = result.cost
    free = "" if result.free_bytes is None else f"; {bytes_text(result.free_bytes)} are free"
    yield (
        f"{bytes_text(cost.bytes_in)} to read, an estimated {bytes_text(cost.estimated_bytes_out)} to write"
        f"{free}; with the start and the opening of files an estimated {duration_s(cost, len(planned)):.0f} s"
    )


def _json(job: Job, result: batch.Result) -> dict[str, Any]:
    rows = [entry.row() for entry in result.entries]
    if not job.dry_run:
        return {"rows": rows}
    for row in rows:
        row |= result.costs[row["key"]].row() if row["status"] == "planned" else {}
    return {"rows": rows, "plan": result.cost.row() | {"free_bytes": result.free_bytes}}


if __name__ == "__main__":
    click.echo(page(), nl=False)
