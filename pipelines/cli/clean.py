"""`denoise clean`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from denoise.io.audio.pipe import PCM, PipeFormat
from denoise.signal import MAX_FILL_SAMPLES, SECONDS
from pipelines.batch.jobs import CleanJob
from pipelines.cli import options
from pipelines.live import Live, Passed

__all__ = ["command"]

_PIPE = Path("-")


def _excluded(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return options.words(ctx, parameter, value) or ()


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
    help="Columns of sensor logs to clean; globs such as acc_* work.  [default: all measurements]",
)
@click.option(
    "--exclude",
    callback=_excluded,
    metavar="A,B",
    help="Columns of sensor logs to leave as they are; globs work.",
)
@click.option(
    "--sample-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=CleanJob.sample_rate,
    metavar="HZ",
    help="For sensor logs that do not tell, and for --raw.",
)
@click.option(
    "--time-unit",
    type=click.Choice(list(SECONDS)),
    default=CleanJob.time_unit,
    help="Of the time column of sensor logs.  [default: by its name, or guessed]",
)
@click.option(
    "--fill-gaps",
    type=click.IntRange(0, MAX_FILL_SAMPLES),
    default=CleanJob.fill_gaps,
    show_default=True,
    metavar="MAX",
    help="Fill gaps in sensor logs of up to so many samples.",
)
@options.remove_option
@options.keep_option
@click.option(
    "--max-attenuation",
    type=click.FloatRange(min=0),
    default=CleanJob.max_attenuation,
    metavar="DB",
    help="Turn no part of a recording down by more.",
)
@click.option(
    "--noise-profile",
    default=CleanJob.noise_profile,
    metavar="FILE|START:END",
    help="Noise alone, to take out by the model audio: a recording, or seconds of each.",
)
@click.option(
    "--raw",
    type=click.Choice(list(PCM)),
    help="Standard input is headless PCM of this format.",
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Of --raw, interleaved.",
)
@options.precision_option
@options.job_options
def command(json_path: Path | None, raw: str | None, channels: int, **settings: Any) -> None:
    """Clean files, or whole folders of images, recordings and sensor logs.

    The kind of each file is told by its first bytes, the tree below an input folder is mirrored, and no input
    is ever changed. A bad file is listed at the end; the rest goes on. The same command again does only what
    is not done. `denoise --help` has the exit codes.

    `denoise clean - -o -` cleans a WAV, or with --raw PCM, from standard input to standard output, live.

    \b
    Example:
      denoise clean recordings/ photos/ -o cleaned/ --strength 0.8
    """
    pipes = (settings["inputs"] == (_PIPE,), settings["output"] == _PIPE)
    if any(pipes):
        if not all(pipes):
            raise click.UsageError("- is standard input and output: it takes both, `denoise clean - -o -`.")
        _live(raw, channels, settings)
        return
    if options.given("raw", "channels"):
        raise click.UsageError("--raw and --channels are for `denoise clean - -o -`; files tell themselves.")
    options.run(CleanJob(**settings), json_path)


def _live(raw: str | None, channels: int, settings: dict[str, Any]) -> None:
    names = {*settings, "json_path"} - {"inputs", "output", "model", "strength", "max_attenuation"}
    if meaningless := options.given(*names - ({"sample_rate"} if raw else set())):
        raise click.UsageError(f"{meaningless[0]} means nothing for `denoise clean - -o -`.")
    headless = None
    if raw:
        rate = settings["sample_rate"]
        if not rate or rate != int(rate):
            raise click.UsageError("--raw needs a --sample-rate, a whole number of Hz.")
        headless = PipeFormat(raw, int(rate), channels)
    elif options.given("channels"):
        raise click.UsageError("--channels is for --raw; a WAV tells its own.")
    job = Live(
        model=settings["model"],
        strength=settings["strength"],
        max_attenuation=settings["max_attenuation"],
        headless=headless,
    )
    passed = job.run(sys.stdin.buffer, sys.stdout.buffer)
    if click.get_current_context().meta.get("loudness") != "quiet":
        click.echo(_sentence(passed), err=True)


def _sentence(passed: Passed) -> str:
    seconds = passed.samples / passed.sample_rate
    late = passed.latency_samples
    lag = "all at the end" if late is None else f"{1000 * late / passed.sample_rate:.0f} ms late at most"
    clipped = f", {passed.clipped} values clipped" if passed.clipped else ""
    end = "; the reader of the output went away" if passed.broken else ""
    return f"{seconds:.1f} s through {passed.model}, {lag}{clipped}{end}"
