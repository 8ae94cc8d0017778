"""`denoise watch`."""

from __future__ import annotations

from typing import Any

import click

from denoise.errors import StorageError, printable
from pipelines import report
from pipelines.batch.jobs import CleanJob
from pipelines.batch.manifest import Entry
from pipelines.batch.watch import LONGEST_S, POLL_S, Watch, WatchSummary, watch
from pipelines.cli import options
from pipelines.cli.clean import command as clean
from pipelines.cli.event_log import write_event

_NOT_HERE = (
    "dry_run",
    "json_path",
    "report_path",
    "engine",
    "scheduler",
    "raw",
    "channels",
)  # of `clean`: a watch has no plan, and no end to write a report at


@click.command(params=[parameter for parameter in clean.params if parameter.name not in _NOT_HERE])
@click.option(
    "--settle",
    "settle_s",
    type=click.FloatRange(0, LONGEST_S),
    default=Watch.settle_s,
    show_default=True,
    metavar="S",
    help="Leave a file alone until its size and time have not changed for so long.",
)
@click.option(
    "--poll",
    "poll_s",
    type=click.FloatRange(0, LONGEST_S, min_open=True),
    default=Watch.poll_s,
    metavar="S",
    help="Look every S seconds.  [default: when the system tells of a change, "
    f"and every {POLL_S:g} s where it cannot]",
)
def command(settle_s: float, poll_s: float | None, **settings: Any) -> None:
    """Clean the files in the folders INPUT that are not done yet, then every file that arrives.

    A file is cleaned once it has settled, and again when it changes later. Ctrl-C or SIGTERM ends the watch:
    with exit code 0, or 1 if a file that is there could not be cleaned. What was under way is done by the
    next start. Each file has its row in the manifest of the output folder.

    \b
    Example:
      denoise watch scans/ -o cleaned/ --settle 5
    """
    loudness = options.verbosity()

    log = options.log_path()

    def on_entry(entry: Entry) -> None:
        if log:
            write_event(log, "file", **entry.row())
        for line in _lines(entry, loudness):
            click.echo(printable(line), err=True)

    job = Watch(job=options.job_from(CleanJob, settings), settle_s=settle_s, poll_s=poll_s)
    watched = watch(
        job, on_entry=on_entry, on_message=lambda sentence: click.echo(printable(sentence), err=True)
    )
    if loudness != "quiet":
        options.say(_summary(watched), log)
    if watched.stopped:
        raise StorageError(watched.stopped)
    options.exit_if(watched.failed)


def _lines(entry: Entry, loudness: str | None) -> list[str]:
    """Lines that are shown for an entry."""
    if entry.error:
        return [f"{entry.status} {entry.error}"]
    if loudness == "quiet" or (entry.status == "skipped" and loudness != "verbose"):
        return []
    notes = [f"  {note}" for note in entry.notes] if loudness == "verbose" else []
    return [f"{entry.status} {entry.source}: {entry.seconds:.2f} s", *notes]


def _summary(watched: WatchSummary) -> str:
    counts = [f"{number} {status}" for status, number in sorted(watched.counts.items())]
    if watched.waiting:
        counts.append(f"{watched.waiting} waiting")
    failed = [f"  {printable(sentence)}" for sentence in list(watched.failed.values())[: report.MAX_ROWS]]
    left = len(watched.failed) - len(failed)
    head = [f"Failed: {len(watched.failed)}"] if failed else []
    tail = [f"  ... and {left} more"] if left else []
    return "\n".join([*head, *failed, *tail, ", ".join(counts) or "nothing came"])
