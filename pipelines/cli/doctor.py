"""`denoise doctor`."""

from __future__ import annotations

from pathlib import Path

import click

from denoise.errors import printable
from pipelines.cli import options


@click.command()
@options.show_option
def command(json_path: Path | None) -> None:
    """Examine this installation: versions, formats, memory, disk, models, and a small cleaning of each kind.

    Nothing is left behind, and no network is needed. Exit code 1 if there is a problem.

    \b
    Example:
      denoise doctor
    """
    from pipelines.inspect.doctor import examine

    checks = []
    for check in examine():
        checks.append(check)
        if json_path != options.STDOUT:
            click.echo(printable(f"{'ok' if check.ok else 'problem':<7}  {check.name}: {check.found}"))
    options.show_json(json_path, {"checks": [vars(check) for check in checks]})
    options.exit_if(not all(check.ok for check in checks))
