"""Start of the `denoise` command: signals first, then the commands."""

from __future__ import annotations

import os
import signal
import sys
import warnings
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


def _hide_warnings() -> None:
    """Hide Python's warnings, here and in workers, which inherit the option; PYTHONWARNINGS shows them.

    They are notes of libraries to programmers. What matters to users is in results, notes and errors.
    """
    if not sys.warnoptions:
        sys.warnoptions.append("ignore")
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"denoise\.io\.formats")  # of packages that add a format


def main() -> None:
    """Entry point of the `denoise` command.

    A signal that comes before the commands are imported ends the process at once, with its exit code and
    without a traceback; `pipelines.cli.group` handles those that come later.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    _open_standard_streams()
    _hide_warnings()
    from denoise.machine import cores, limit_threads

    limit_threads(cores())
    from pipelines.cli.group import run

    run()
