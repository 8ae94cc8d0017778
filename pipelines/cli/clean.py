"""`denoise clean`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from denoise.errors import InputError
from denoise.io.audio.pipe import PCM, PipeFormat
from denoise.io.formats import Format
from denoise.io.sniff import HEAD_BYTES, format_of
from denoise.options import CleanOptions
from pipelines.batch import run as batch
from pipelines.batch.jobs import CleanJob
from pipelines.cli import options
from pipelines.live import LIVE_OPTIONS, LiveReport, clean_stream

_LIVE = ("WAV", "RF64")  # formats that are cleaned while they arrive


@click.command()
@click.option(
    "--raw", type=click.Choice(list(PCM)), help="Read standard input as headerless PCM of this format."
)
@click.option(
    "--channels",
    type=click.IntRange(min=1),
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
    other files as a whole. Without -o, results of single files lie beside them, as a.clean.png.

    \b
    Example:
      denoise clean recordings/ photos/ -o cleaned/ --strength 0.8
    """
    pipes = (settings["inputs"] == (options.STDOUT,), settings["output"] == options.STDOUT)
    if any(pipes):
        if not all(pipes):
            raise click.UsageError("- is standard input and output: use both, `denoise clean - -o -`.")
        kind = None if raw else _piped_format()
        if kind is None or not kind.codec or kind.name in _LIVE:
            _live(raw, channels, settings)
        else:
            _piped(kind, settings)
        return
    if options.given("raw", "channels"):
        raise click.UsageError("--raw and --channels are for `denoise clean - -o -` only.")
    job = options.job_from(CleanJob, settings)
    options.finish(job, batch.run(job, options.progress()), json_path, report_path)


def _piped_format() -> Format | None:
    """Recognise standard input without taking it; None where that cannot be done."""
    peek = getattr(sys.stdin.buffer, "peek", None)
    if peek is None:
        return None
    head = peek(HEAD_BYTES)[:HEAD_BYTES]
    return format_of(head, ".csv")


def _piped(kind: Format, settings: dict[str, Any]) -> None:
    """Clean a file from standard input to standard output, whole."""
    from denoise.infer.file import clean_file

    table = CleanOptions.table()
    chosen = CleanOptions(**{name: settings[name] for name in table if name in settings})
    with tempfile.TemporaryDirectory(prefix="denoise-") as folder:
        source = Path(folder) / f"input{kind.suffixes[0]}"
        result = source.with_name(f"output{kind.written_suffix or kind.suffixes[0]}")
        with source.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        try:
            report = clean_file(source, result, None, chosen)
        except InputError as error:
            raise type(error)(str(error).replace(str(source), "standard input")) from error
        with result.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
    if options.verbosity() != "quiet":
        click.echo(f"{kind.name} through {report.model}, {report.seconds:.1f} s", err=True)


def _live(raw: str | None, channels: int, settings: dict[str, Any]) -> None:
    names = {*settings, "json_path", "report_path"} - {"inputs", "output", *LIVE_OPTIONS}
    if unused := options.given(*names - ({"sample_rate"} if raw else set())):
        raise click.UsageError(f"{unused[0]} cannot be used with standard input, `denoise clean - -o -`.")
    headless = None
    if raw:
        rate = settings["sample_rate"]
        if not rate or rate != int(rate):
            raise click.UsageError("--raw needs a --sample-rate, a whole number of Hz.")
        headless = PipeFormat(raw, int(rate), channels)
    elif options.given("channels"):
        raise click.UsageError("--channels is for --raw; a WAV has its own.")
    live = CleanOptions(**{name: settings[name] for name in LIVE_OPTIONS})
    result = clean_stream(sys.stdin.buffer, sys.stdout.buffer, live, headless)
    if options.verbosity() != "quiet":
        click.echo(_sentence(result), err=True)


def _sentence(result: LiveReport) -> str:
    lag = "all at the end"
    if result.latency_samples is not None:
        lag = f"at most {1000 * result.latency_samples / result.sample_rate:.0f} ms late"
    clipped = f", {result.clipped} values clipped" if result.clipped else ""
    end = "; the reader of the output closed it early" if result.broken else ""
    return f"{result.samples / result.sample_rate:.1f} s through {result.model}, {lag}{clipped}{end}"
