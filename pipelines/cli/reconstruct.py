"""`denoise reconstruct`."""

from __future__ import annotations

from typing import Any

import click

from denoise.errors import printable
from pipelines import report
from pipelines.cli import options
from pipelines.explore.jobs import ReconstructJob


@click.command()
@click.argument("archive", type=options.path_type, metavar="CODES.npz")
@options.flags(ReconstructJob)
def command(**settings: Any) -> None:
    """Reconstruct files from the codes of denoise embed, as PNG, WAV or CSV.

    \b
    Example:
      denoise reconstruct codes.npz -o back/
    """
    from pipelines.explore.reconstruct import reconstruct

    done = reconstruct(ReconstructJob(**settings))
    click.echo(printable(f"{settings['output']}: {report.files(len(done.written))}"))
    options.report_failures(done.problems)
