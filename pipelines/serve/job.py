"""Settings of `denoise serve`, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from denoise.options import MAX_BYTES, Option, Options


@dataclass(frozen=True, kw_only=True)
class ServeJob(Options):
    """Serve a page on this machine."""

    port: Annotated[int, Option("Port on 127.0.0.1; 0 takes a free one.", low=0, high=65535)] = 0
    max_file: Annotated[int, Option("Refuse larger files.", "bytes", low=1, high=MAX_BYTES)] = 1_000_000_000
    max_total: Annotated[int, Option("Hold at most so much at a time.", "bytes", low=1, high=MAX_BYTES)] = (
        8_000_000_000
    )
    max_files: Annotated[int, Option("Hold at most so many files at a time.", low=1, high=10**6)] = 1000
    keep_for: Annotated[float, Option("Remove a file after so long.", "s", low=1)] = 3600.0
    open: Annotated[bool, Option("Open the page in the browser.")] = False
