"""Start of the `denoise` command: signals first, then the commands."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Entry point of the `denoise` command.

    A signal that comes before the commands are imported ends the process at once, with its exit code and
    without a traceback; `pipelines.cli.group` handles those that come later.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    from denoise.machine import cores, limit_threads

    limit_threads(cores())
    from pipelines.cli.group import run

    run()
