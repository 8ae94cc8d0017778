"""The command line: one module a command, each from options to one library call to what is printed."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import click

from denoise.errors import DenoiseError, UsageError
from denoise.registry import resolve
from pipelines.report import printable

__all__ = ["COMMANDS", "cli", "main"]

COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "clean": "pipelines.cli.clean:command",
        "corrupt": "pipelines.cli.corrupt:command",
        "score": "pipelines.cli.score:command",
        "benchmark": "pipelines.cli.benchmark:command",
        "train": "pipelines.cli.train:command",
        "models": "pipelines.cli.models:command",
    }
)


class WrongUsage(click.ClickException):
    """A call that could not work; any other error of the library exits with click's 1."""

    exit_code = 2


class LazyGroup(click.Group):
    """A group that imports a command when it is used, and gives every error of the library its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        command: click.Command | None = resolve(COMMANDS[cmd_name]) if cmd_name in COMMANDS else None
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DenoiseError as error:
            kind = WrongUsage if isinstance(error, UsageError) else click.ClickException
            raise kind(printable(str(error))) from error
        except KeyboardInterrupt:
            click.echo("Interrupted: the same command goes on with the rest.", err=True)
            ctx.exit(130)


def _show_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        import denoise  # the version is looked up only when asked for

        click.echo(f"denoise {denoise.__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
def cli() -> None:
    """Clean noisy photos, recordings and sensor logs, offline, on an ordinary CPU.

    \b
    Example:
      denoise clean holiday/ -o cleaned/
    """


def main() -> None:
    """Entry point of the `denoise` command."""
    cli(prog_name="denoise")
