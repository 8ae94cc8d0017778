"""`denoise reconstruct`."""

from __future__ import annotations

from typing import Any

import click

from pipelines import report
from pipelines.cli import options
from pipelines.explore.jobs import ReconstructJob

__all__ = ["command"]


@click.command()
@click.argument("archive", type=options.path_type, metavar="CODES.npz")
@options.flags(ReconstructJob)
def command(**settings: Any) -> None:
    """Turn the codes of denoise embed into files again: PNG, WAV, CSV.

    \b
    Example:
      denoise reconstruct codes.npz -o back/
    """
    from pipelines.explore.reconstruct import reconstruct

    done = reconstruct(ReconstructJob(**settings))
    click.echo(report.printable(f"{settings['output']}: {report.files(len(done.written))}"))
    for problem in done.problems:
        click.echo(report.printable(f"Failed: {problem.error}"), err=True)
    if done.problems:
        click.get_current_context().exit(1)
