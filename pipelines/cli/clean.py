"""`denoise clean`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.cli import options
from pipelines.job import CleanJob

__all__ = ["command"]


@click.command()
@click.option(
    "--model",
    default=CleanJob.model,
    metavar="NAME|FILE",
    help="A name from `denoise models`, or a weights file.  [default: by kind of file]",
)
@click.option(
    "--strength",
    type=click.FloatRange(0, 1),
    default=CleanJob.strength,
    show_default=True,
    help="1 is fully cleaned, 0 is the input.",
)
@click.option(
    "--sigma",
    type=click.FloatRange(min=0),
    default=CleanJob.sigma,
    help="Noise standard deviation (images: 0 to 255), for models that take it.",
)
@click.option(
    "--reference",
    type=options.path_type,
    default=CleanJob.reference,
    metavar="DIR",
    help="The truth, mirroring the input: measure against it.",
)
@click.option(
    "--columns",
    default=CleanJob.columns,
    callback=options.words,
    metavar="A,B",
    help="Columns of sensor logs to clean.  [default: all numbers]",
)
@click.option(
    "--sample-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=CleanJob.sample_rate,
    metavar="HZ",
    help="For sensor logs that do not tell.",
)
@options.precision_option
@options.job_options
def command(json_path: Path | None, **settings: Any) -> None:
    """Clean files, or whole folders of images, recordings and sensor logs.

    The kind of each file is told by its first bytes, the tree below an input folder is mirrored, and no input
    is ever changed. A bad file is listed at the end; the rest goes on. The same command again does only what
    is not done. `denoise --help` has the exit codes.

    \b
    Example:
      denoise clean recordings/ photos/ -o cleaned/ --strength 0.8
    """
    options.run(CleanJob(**settings), json_path)
