"""Ways to run a job over files: in this process, or in others. All give the same entries."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from pipelines.discover import Item
from pipelines.job import Job
from pipelines.manifest import Entry
from pipelines.worker import process

__all__ = ["Entries", "inline", "run"]

# A generator and not any iterator: closing it stops the work.
Entries = Generator[Entry, None, None]


def run(job: Job, items: Iterable[Item]) -> Entries:
    """Do the items, with as many processes as the job asks for; entries come as they are done.

    Limits of time and memory can only be put on another process.

    Raises:
        StorageError: The disk takes no more results.
    """
    if job.workers == 1 and job.timeout is None and job.memory is None:
        return inline(job, items)
    from pipelines.pool import pool  # multiprocessing takes a moment to import

    return pool(job, items, job.workers)


def inline(job: Job, items: Iterable[Item]) -> Entries:
    """One after another in this process."""
    for item in items:
        try:
            yield process(job, item)
        except MemoryError:
            yield Entry.of(item, "failed", error=f"{item.source}: there is not enough memory for it")
