"""Standard input and output of `denoise clean`."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from denoise.errors import InputError, printable
from denoise.io.audio.pipe import PipeFormat
from denoise.io.formats import Format, record_parts
from denoise.io.sniff import HEAD_BYTES, format_of
from denoise.options import CleanOptions
from pipelines.batch import run as batch
from pipelines.batch.jobs import CleanJob
from pipelines.batch.scratch import scratch
from pipelines.cli import options
from pipelines.live import LIVE_OPTIONS, LiveReport, clean_stream

_LIVE = ("WAV", "RF64")  # formats that are cleaned while they arrive
_OF_FILES = (  # options of results that have a name
    "dry_run", "overwrite", "manifest", "template", "keep_mtime", "files_from", "null", "raw", "channels",
)  # fmt: skip


def clean_piped(raw: str | None, channels: int, settings: dict[str, Any]) -> None:
    """Clean standard input to standard output: live where the format can be, else as a whole."""
    _require_stdout()
    kind = None if raw else _format()
    if kind is None or not kind.codec or kind.name in _LIVE:
        _live(raw, channels, settings)
    else:
        _whole(kind, settings)


def clean_to_stdout(settings: dict[str, Any], json_path: Path | None, report_path: Path | None) -> None:
    """Clean one file as `-o NAME` would, and write the result to standard output."""
    if unused := options.given(*_OF_FILES):
        raise click.UsageError(f"{unused[0]} cannot be used with standard output, -o -.")
    if options.STDOUT in (json_path, report_path, options.log_path()):
        raise click.UsageError("standard output takes the result; write the report to a file.")
    _require_stdout()
    with scratch() as folder:
        job = options.job_from(CleanJob, settings | {"output": folder})
        if len(job.inputs) != 1 or job.inputs[0].is_dir():
            raise click.UsageError(
                f"-o - takes one file; found {printable(', '.join(map(str, job.inputs)))}."
            )
        if record_parts(job.inputs[0], job.inputs[0]):
            raise click.UsageError(
                f"{printable(str(job.inputs[0]))}: is a record of several files; give -o FOLDER."
            )
        done = batch.run(job, options.progress())
        for entry in done.entries:
            if entry.status != "failed":
                with Path(str(entry.output)).open("rb") as file:
                    shutil.copyfileobj(file, sys.stdout.buffer)
        named = tuple(replace(entry, output=str(options.STDOUT)) for entry in done.entries)
        job = replace(job, output=options.STDOUT)
        options.finish(job, replace(done, entries=named), json_path, report_path)


def _require_stdout() -> None:
    """Refuse a result that would go nowhere."""
    if getattr(sys.stdout, "name", "") == os.devnull:  # put there for one that the caller closed
        raise click.UsageError("standard output is closed, and it is to take the result.")


def _format() -> Format | None:
    """Recognise standard input without taking it; None where that cannot be done."""
    peek = getattr(sys.stdin.buffer, "peek", None)
    if peek is None:
        return None
    head = peek(HEAD_BYTES)[:HEAD_BYTES]
    return format_of(head, ".csv")


def _refuse_others(settings: dict[str, Any], taken: set[str]) -> None:
    """Refuse options that standard input does not take."""
    names = {*settings, "json_path", "report_path"} - {"inputs", "output"} - taken
    if unused := options.given(*names):
        raise click.UsageError(f"{unused[0]} cannot be used with standard input, `denoise clean - -o -`.")
    if options.log_path():
        raise click.UsageError("--log-json cannot be used with standard input, `denoise clean - -o -`.")


def _whole(kind: Format, settings: dict[str, Any]) -> None:
    if options.given("channels"):
        raise click.UsageError("--channels is for --raw; a file has its own.")
    table = CleanOptions.table()
    _refuse_others(settings, {*table})
    chosen = CleanOptions(**{name: settings[name] for name in table if name in settings})
    from denoise.infer.file import clean_file

    with scratch() as folder:
        source = folder / f"input{kind.suffixes[0]}"
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
    _refuse_others(settings, {*LIVE_OPTIONS} | ({"sample_rate"} if raw else set()))
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
