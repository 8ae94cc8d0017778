"""Log of a batch as JSON lines, for programs that follow it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from denoise.errors import OutputError
from pipelines.batch.discover import STDOUT
from pipelines.batch.manifest import Entry, jsonable
from pipelines.batch.run import OnEntry, Progress
from pipelines.report import check_report


def logged(progress: Progress, path: Path | None) -> Progress:
    """Write a line when a batch starts, after each file, and when it ends, beside another progress."""
    if path is None:
        return progress

    @contextmanager
    def both(total: int) -> Iterator[OnEntry]:
        write_event(path, "start", files=total)
        counts: dict[str, int] = {}
        with progress(total) as on_entry:

            def show(entry: Entry) -> None:
                counts[entry.status] = counts.get(entry.status, 0) + 1
                write_event(path, "file", **entry.row())
                on_entry(entry)

            yield show
        write_event(path, "end", **counts)

    return both


def write_event(path: Path, event: str, **facts: Any) -> None:
    """Append one line, whole or not at all; `-` is standard output.

    Raises:
        UsageError: Another file has taken the name, such as a result.
        OutputError: The disk takes no more.
    """
    check_report(path, "log")
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **facts}
    text = json.dumps(jsonable(line), allow_nan=False)
    if path == STDOUT:
        print(text, flush=True)
        return
    try:
        with path.open("ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            data = text.encode() + b"\n"
            if file.write(data) < len(data):  # all that the disk had room for
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise OutputError(f"{path}: the log cannot be written: {error.strerror}") from error
