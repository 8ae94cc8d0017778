"""`denoise decompress`."""

from __future__ import annotations

from typing import Any

import click

from denoise.errors import printable
from pipelines import report
from pipelines.cli import options
from pipelines.explore.jobs import DecompressJob


@click.command()
@options.inputs
@options.flags(DecompressJob)
def command(**settings: Any) -> None:
    """Restore photos from the .dnz files of denoise compress, as PNG or in the format of the output's suffix.

    \b
    Example:
      denoise decompress small/ -o back/
    """
    from pipelines.explore.compress import decompress

    done = decompress(DecompressJob(**settings))
    click.echo(printable(f"{settings['output']}: {report.files(len(done.written))}"))
    options.report_failures(done.problems)
