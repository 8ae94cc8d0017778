"""Start of the `denoise` command: signals first, then the commands."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def _open_standard_streams() -> None:
    """Open a null device in place of standard streams that are closed, or the next files would be they.

    What a library prints would go into a result. The current folder must exist: MKL ends the process without.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    try:
        Path.cwd()
    except OSError as error:
        os.write(2, f"Error: the current folder: {error.strerror}; change to one that exists\n".encode())
        sys.exit(2)


def main() -> None:
    """Entry point of the `denoise` command.

    A signal that comes before the commands are imported ends the process at once, with its exit code and
    without a traceback; `pipelines.cli.group` handles those that come later.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    _open_standard_streams()
    from denoise.machine import cores, limit_threads

    limit_threads(cores())
    from pipelines.cli.group import run

    run()
