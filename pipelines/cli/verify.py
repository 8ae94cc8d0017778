"""`denoise verify`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from denoise.errors import printable
from pipelines.cli import options


@click.command()
@click.argument("output", type=options.path_type)
@options.show_option
def command(output: Path, json_path: Path | None) -> None:
    """Hash the results in the folder OUTPUT again, and compare them with its manifest.

    Results that were changed, are missing, or were left unfinished by an interrupted run are reported, and
    the exit code is 1. Files that the manifest does not know and leftover temporary files are listed as well.

    \b
    Example:
      denoise verify cleaned/
    """
    from pipelines.inspect.verify import FAULTS, STATUSES, verify

    counts: Counter[str] = Counter(dict.fromkeys(STATUSES, 0))
    rows: list[dict[str, Any]] = []
    for checked in verify(output):
        counts[checked.status] += 1
        if json_path:
            rows.append(vars(checked))
        if json_path != options.STDOUT and checked.status != "right":
            click.echo(printable(f"{checked.status}  {output / checked.key}"))
    if json_path != options.STDOUT:
        click.echo(", ".join(f"{counts[status]} {status}" for status in STATUSES))
    options.show_json(json_path, {"counts": counts, "rows": rows})
    options.exit_if(any(counts[status] for status in FAULTS))
