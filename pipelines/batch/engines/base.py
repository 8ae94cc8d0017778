"""Shared parts of the engines: result type and retry."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Protocol

from pipelines.batch.discover import Item
from pipelines.batch.manifest import Entry

# A generator and not any iterator: closing it stops the work.
Entries = Generator[Entry, None, None]

# Items whose worker died, each with the reason.
Crashes = list[tuple[Item, str]]


class Attempt(Protocol):
    """Processes items on workers; adds those whose worker died to `crashed`."""

    def __call__(self, items: Iterable[Item], crashed: Crashes, *, alone: bool) -> Entries: ...


def retry_alone(items: Iterable[Item], attempt: Attempt, retries: int = 1) -> Entries:
    """Process items; retry those whose worker died after all others, one at a time.

    A worker's death can have been caused by any file that was on it, or by memory that several files took
    together. Alone, only the file that is responsible fails again, unless workers die of themselves:
    where they do, it takes more `retries` to tell.
    """
    crashed: Crashes = []
    yield from attempt(items, crashed, alone=False)
    for _ in range(retries):
        again, crashed = [item for item, _ in crashed], []
        yield from attempt(again, crashed, alone=True)
    times = "twice" if retries == 1 else f"{retries + 1} times"
    for item, reason in crashed:
        yield Entry.of(item, "failed", error=f"{item.source}: {reason}, {times}")
