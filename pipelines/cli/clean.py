"""`denoise clean`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from denoise.io.audio.pipe import MAX_CHANNELS, PCM
from pipelines.batch import run as batch
from pipelines.batch.jobs import CleanJob
from pipelines.cli import options, pipes


@click.command()
@click.option(
    "--raw", type=click.Choice(list(PCM)), help="Read standard input as headerless PCM of this format."
)
@click.option(
    "--channels",
    type=click.IntRange(1, MAX_CHANNELS),
    default=1,
    show_default=True,
    help="Channel count of interleaved --raw input.",
)
@options.job_options(CleanJob)
@options.html_option
def command(
    json_path: Path | None, report_path: Path | None, raw: str | None, channels: int, **settings: Any
) -> None:
    """Clean files, or whole folders of images, recordings and sensor logs.

    The first bytes of a file decide its kind. Results mirror the tree below an input folder; no input is ever
    changed. A bad file does not stop the rest; it is listed at the end. The same command again does only what
    is not done. `denoise --help` lists the exit codes.

    `denoise clean - -o -` cleans from standard input to standard output: a WAV, or with --raw PCM, live; all
    other files as a whole. `-o -` writes the result of one file there. Without -o, results of single files
    lie beside them, as a.clean.png.

    \b
    Example:
      denoise clean recordings/ photos/ -o cleaned/ --strength 0.8
    """
    piped_in, piped_out = options.STDOUT in settings["inputs"], settings["output"] == options.STDOUT
    if piped_out and settings["inputs"] == (options.STDOUT,):
        pipes.clean_piped(raw, channels, settings)
        return
    if piped_in:
        raise click.UsageError("- is standard input, which goes to standard output: `denoise clean - -o -`.")
    if piped_out:
        pipes.clean_to_stdout(settings, json_path, report_path)
        return
    if options.given("raw", "channels"):
        raise click.UsageError("--raw and --channels are for `denoise clean - -o -` only.")
    job = options.job_from(CleanJob, settings)
    options.finish(job, batch.run(job, options.progress()), json_path, report_path)
