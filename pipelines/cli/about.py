"""`denoise help` and `denoise version`."""

from __future__ import annotations

import click

from denoise.errors import UsageError
from denoise.registry import unknown


@click.command("help")
@click.argument("commands", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help_command(ctx: click.Context, commands: tuple[str, ...]) -> None:
    """Show the help of a COMMAND, or of all.

    \b
    Example:
      denoise help clean
    """
    shown = ctx.find_root()
    for name in commands:
        group = shown.command
        if not isinstance(group, click.Group):
            raise UsageError(f"{shown.info_name} has no commands of its own; expected nothing after it")
        found = group.get_command(shown, name)
        if found is None:
            raise unknown("command", name, group.list_commands(shown))
        shown = click.Context(found, info_name=name, parent=shown)
    click.echo(shown.get_help())


@click.command()
def version() -> None:
    """Show the version.

    \b
    Example:
      denoise version
    """
    import denoise

    click.echo(f"denoise {denoise.__version__}")
