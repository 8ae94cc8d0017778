"""`denoise corrupt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.batch.jobs import CorruptJob
from pipelines.cli import options

__all__ = ["command"]


@click.command()
@click.option(
    "--noise",
    multiple=True,
    required=True,
    metavar="SPEC",
    help="Such as gaussian:sigma=25 (images: 8-bit units) or white:snr_db=5; several are applied in turn.",
)
@click.option("--seed", type=int, default=CorruptJob.seed, show_default=True, help="Decides the noise.")
@options.job_options
def command(json_path: Path | None, **settings: Any) -> None:
    """Add noise to files or folders: the same seed gives the same noise.

    Each file gets the noises that are meant for its kind; files for which there is none are left out.

    \b
    Example:
      denoise corrupt photos/ -o noisy/ --noise gaussian:sigma=25 --noise jpeg:quality=60 --seed 1
    """
    options.run(CorruptJob(**settings), json_path)
