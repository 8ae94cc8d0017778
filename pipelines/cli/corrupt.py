"""`denoise corrupt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pipelines.batch import run as batch
from pipelines.batch.jobs import CorruptJob
from pipelines.cli import options


@click.command()
@options.job_options(CorruptJob)
def command(json_path: Path | None, **settings: Any) -> None:
    """Add noise to files or folders: the same seed gives the same noise.

    Each file gets the noises that are meant for its kind; files for which there is none are left out.

    \b
    Example:
      denoise corrupt photos/ -o noisy/ --noise gaussian:sigma=25 --noise jpeg:quality=60 --seed 1
    """
    job = options.job_from(CorruptJob, settings)
    options.finish(job, batch.run(job, options.progress()), json_path)
