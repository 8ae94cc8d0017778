"""`denoise similar`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from denoise.errors import counted, printable
from pipelines.cli import options
from pipelines.explore.jobs import SimilarJob


@click.command()
@click.argument("file", type=options.path_type, metavar="[FILE]", required=False)
@options.flags(SimilarJob)
def command(file: Path | None, **settings: Any) -> None:
    """List the files of an archive of codes that are most similar to FILE; without FILE, its near-duplicates.

    \b
    Example:
      denoise similar photo.png --in codes.npz -k 10
    """
    from pipelines.explore.similar import duplicates, similar

    job = SimilarJob(**settings)
    if file is None:
        options.refuse("without FILE", "count", "model")
        groups = duplicates(job.archive)
        for group in groups:
            click.echo(printable("  ".join(group)))
        click.echo(f"{counted(len(groups), 'group')} of near-duplicates")
        return
    matches, notes = similar(file, job)
    for note in notes:
        click.echo(printable(f"{file}: {note}"), err=True)
    for match in matches:
        click.echo(printable(f"{match.similarity:6.3f}  {match.name}"))
