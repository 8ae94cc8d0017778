"""Values of options besides the command line: `denoise.toml`, then `DENOISE_*`."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from denoise.errors import UsageError, reason
from denoise.registry import unknown

PREFIX = "DENOISE"
FILE_VARIABLE = "DENOISE_CONFIG"
_NAME = "denoise.toml"
_MAX_BYTES = 1 << 20


def path() -> Path | None:
    """File of settings: named by DENOISE_CONFIG, or `denoise.toml` in the working folder; None if none is."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named)
    found = Path(_NAME)
    return found if os.path.isfile(found) else None  # noqa: PTH113 - raises nothing in a closed folder


def read() -> dict[str, Any]:
    """Read the settings by command and option, as click takes them.

    Raises:
        UsageError: The file cannot be read, or is no table of tables.
    """
    file = path()
    if file is None:
        return {}
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{file}: is larger than 1 MB; expected a few settings")
        tables = tomllib.loads(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{file}: cannot be read: {reason(error)}") from error
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(
                f"{file}: {name} stands outside of a table; expected [clean] or another command above it"
            )
    return {name: _options(table) for name, table in tables.items()}


def with_source(error: click.BadParameter) -> click.BadParameter:
    """Return the error about a value that nobody typed with the place that it comes from."""
    ctx, option = error.ctx, error.param
    if ctx is None or option is None or option.name is None:
        return error
    places = {
        ParameterSource.DEFAULT_MAP: str(path()),
        ParameterSource.ENVIRONMENT: f"{ctx.auto_envvar_prefix}_{option.name.upper()}",
    }
    place = places.get(ctx.get_parameter_source(option.name) or ParameterSource.COMMANDLINE)
    return click.BadParameter(f"{error.message} (in {place})", ctx, option) if place else error


def _options(table: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a command by parameter; arrays become tuples, as lists and repeated options take them."""
    return {
        name.replace("-", "_"): _options(value)
        if isinstance(value, dict)
        else tuple(value)
        if isinstance(value, list)
        else value
        for name, value in table.items()
    }


def by_parameter(name: str, command: click.Command, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Name the settings of a command as click does; they may be named by their flags, too.

    Raises:
        UsageError: One is unknown; the message suggests near matches.
    """
    names = dict[str, str]()
    for option in command.params:
        if isinstance(option, click.Option) and option.name:
            flags = [flag.lstrip("-").replace("-", "_") for flag in option.opts if flag.startswith("--")]
            names |= dict.fromkeys([option.name, *flags], option.name)
    names |= {known: known for known in (command.commands if isinstance(command, click.Group) else ())}
    for setting in settings:
        if setting not in names:
            raise UsageError(f"{path()}: {unknown(f'setting of {name}', setting, names)}")
    prefix = f"{PREFIX}_{name}_".upper()
    for variable in os.environ:
        setting = variable.removeprefix(prefix).lower()
        if variable.startswith(prefix) and setting not in names and not isinstance(command, click.Group):
            raise UsageError(f"{variable}: {unknown(f'setting of {name}', setting, names)}")
    return {names[setting]: value for setting, value in settings.items()}
