"""`denoise compress`."""

from __future__ import annotations

from typing import Any

import click

from denoise.errors import printable
from pipelines import report
from pipelines.batch.forecast import bytes_text
from pipelines.cli import options
from pipelines.explore.jobs import CompressJob


@click.command()
@options.inputs
@options.flags(CompressJob)
def command(**settings: Any) -> None:
    """Compress photos into .dnz files, smaller than JPEG at equal quality; denoise decompress restores them.

    \b
    Example:
      denoise compress holiday/ -o small/ --quality 60
    """
    from pipelines.explore.compress import compress

    done = compress(CompressJob(**settings))
    for target, found in done.written:
        sizes = f"{bytes_text(found.bytes_before)} -> {bytes_text(found.bytes_after)}"
        figures = f"{found.bits_per_pixel:.2f} bits/px, PSNR {report.number(found.psnr_db)} dB"
        click.echo(printable("; ".join((f"{target}: {sizes}, {figures}", *found.notes))))
    options.report_failures(done.problems)
