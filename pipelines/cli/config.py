"""`denoise config`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from denoise.registry import unknown
from pipelines import report
from pipelines.cli import options, settings

_SOURCES = {ParameterSource.DEFAULT: "default", ParameterSource.DEFAULT_MAP: "denoise.toml"}


@click.command()
@click.argument("commands", nargs=-1, metavar="[COMMAND]...")
@options.show_option
@click.pass_context
def command(ctx: click.Context, commands: tuple[str, ...], json_path: Any) -> None:
    """Show the options that denoise.toml or the environment sets; with COMMANDs all of theirs.

    Values come, from the weakest to the strongest, from the defaults, from `denoise.toml` in the working
    folder (or the file that DENOISE_CONFIG names), from DENOISE_COMMAND_OPTION in the environment, such as
    DENOISE_CLEAN_STRENGTH, and from the command line.

    \b
    Example:
      denoise config clean
    """
    root = ctx.find_root()
    group = root.command
    assert isinstance(group, click.Group)
    for name in (*commands, *(root.default_map or {})):
        if group.get_command(root, name) is None:
            raise unknown("command", name, group.list_commands(root))
    rows = [
        row
        for name in commands or group.list_commands(root)
        for row in _rows(group, root, name)
        if commands or row["source"] != "default"
    ]
    file = settings.path()
    options.say(f"{file or 'no denoise.toml in this folder'}", json_path)
    if rows:
        cells = [[row["command"], row["option"], str(row["value"]), row["source"]] for row in rows]
        options.say(report.table(["command", "option", "value", "from"], cells, words=4), json_path)
    options.show_json(json_path, {"rows": rows, "file": str(file) if file else None})


def _rows(group: click.Group, root: click.Context, name: str) -> Iterator[dict[str, Any]]:
    command = group.get_command(root, name)
    assert command is not None
    ctx = click.Context(command, info_name=name, parent=root)
    ctx.default_map = settings.by_parameter(name, command, ctx.default_map or {})
    for option in command.params:
        if not isinstance(option, click.Option) or not option.expose_value:
            continue
        value, source = option.consume_value(ctx, {})
        ctx.set_parameter_source(str(option.name), source)
        found = _SOURCES.get(source, f"{ctx.auto_envvar_prefix}_{str(option.name).upper()}")
        # What is set is refused as the command would refuse it; a default may be missing.
        shown = option.default if source is ParameterSource.DEFAULT else option.type_cast_value(ctx, value)
        yield {"command": name, "option": option.opts[-1], "value": _text(shown), "source": found}


def _text(value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, str | int | float | Path) else ""
