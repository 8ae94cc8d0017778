"""`denoise restore`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from denoise.errors import printable
from pipelines.cli import options


@click.command()
@click.argument("folder", type=options.path_type)
@options.show_option
def command(folder: Path, json_path: Path | None) -> None:
    """Undo `clean --in-place --backup`: put the originals below FOLDER back in their places.

    A backup is put back only if it has the bytes that were cleaned, and the result only goes if nobody
    changed it since; all else stays, is reported, and makes the exit code 1.

    \b
    Example:
      denoise restore photos/
    """
    from pipelines.batch.restore import restore

    counts = Counter[str](restored=0, failed=0)
    rows = []
    for entry in restore(folder):
        counts[entry.status] += 1
        rows.append(entry.row())
        if entry.error:
            click.echo(printable(f"Failed: {entry.error}"), err=True)
    options.say(", ".join(f"{number} {status}" for status, number in counts.items()), json_path)
    options.show_json(json_path, {"rows": rows})
    options.exit_if(counts["failed"])
