"""`denoise live`."""

from __future__ import annotations

import sys
from typing import Any

import click

from pipelines.cli import options
from pipelines.sound_card import ListenJob, LiveStatus, device_list, listen

_PLAIN_LINES = 40  # readings between two lines where the line cannot be drawn anew


@click.command()
@options.flags(ListenJob)
@click.option("--devices", is_flag=True, help="List the devices, and do nothing else.")
def command(devices: bool, **settings: Any) -> None:
    """Clean a microphone into an output, such as a virtual cable that other programs take for a microphone.

    A line shows the level before and after, the delay, the load, and blocks that were lost. Needs the extra
    `live`. Ctrl-C ends it.

    \b
    Example:
      denoise live --output "CABLE Input"
    """
    if devices:
        click.echo(device_list())
        return
    drawn, count = sys.stderr.isatty(), 0

    def show(status: LiveStatus) -> None:
        nonlocal count
        if drawn:
            click.echo(f"\r{status}\x1b[K", nl=False, err=True)
        elif count % _PLAIN_LINES == 0:
            click.echo(str(status), err=True)
        count += 1

    listen(ListenJob(**settings), show)
    if drawn:
        click.echo(err=True)
