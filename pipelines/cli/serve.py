"""`denoise serve`."""

from __future__ import annotations

from typing import Any

import click

from denoise.errors import UsageError
from pipelines.cli import options
from pipelines.serve.job import ServeJob


@click.command()
@options.flags(ServeJob)
def command(**settings: Any) -> None:
    """Open a page on this machine to drop files on, and to see and hear them before and after.

    Nothing leaves the machine: the page is served on 127.0.0.1 with a random token, and the files are removed
    at the end or after an hour. Needs the extra `web`. Ctrl-C ends it.

    \b
    Example:
      denoise serve --open
    """
    try:
        from pipelines.serve.server import serve
    except ImportError as error:
        raise UsageError(
            f"denoise serve needs {error.name}: install it with pip install 'denoise-pipelines[web]'"
        ) from error
    serve(ServeJob(**settings), lambda address: click.echo(f"Open {address}  (Ctrl-C ends)"))
