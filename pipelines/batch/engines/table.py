"""Ways to run a job over files: in this process, or in others. All give the same entries."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence

from pipelines.batch.discover import Item
from pipelines.batch.jobs import Job
from pipelines.batch.manifest import Entry
from pipelines.batch.worker import process

__all__ = ["ENGINES", "Entries", "check", "cores", "inline", "run"]

ENGINES = ("local", "dask")

# A generator and not any iterator: closing it stops the work.
Entries = Generator[Entry, None, None]

# Processes of one thread each overlap decoding, model and encoding by themselves, and a network runs a tenth
# faster on them than on one process of as many threads. Each costs seconds of start, and memory.
_WORTH_S = 10.0
_WORKER_BYTES = 3 << 29


def run(job: Job, items: Sequence[Item], seconds: float) -> Entries:
    """Do the items, with as many processes as the job asks for; entries come as they are done.

    Limits of time and memory can only be put on another process.

    Args:
        job: What to do.
        items: To which files.
        seconds: What they are expected to take together.

    Raises:
        StorageError: The disk takes no more results.
    """
    if job.engine == "dask":
        from pipelines.batch.engines.dask import dask

        return dask(job, items)
    workers = job.workers or _workers(job, len(items), seconds)
    if workers == 1 and job.timeout is None and job.memory is None:
        return inline(job, items)
    from pipelines.batch.engines.pool import pool  # multiprocessing takes a moment to import

    return pool(job, items, workers)


def check(job: Job) -> None:
    """Refuse, before anything is written, an engine that does not run.

    Raises:
        UsageError: It does not.
    """
    if job.engine == "dask":
        from pipelines.batch.engines import dask as cluster

        cluster.check(job)


def _workers(job: Job, files: int, seconds: float) -> int:
    """As many as pay off."""
    if seconds < _WORTH_S:
        return 1
    return max(1, min(cores(), files, (job.memory or _memory_bytes()) // _WORKER_BYTES))


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int:
    """What the machine has; plenty where it does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 1 << 40


def inline(job: Job, items: Sequence[Item]) -> Entries:
    """One after another in this process."""
    for item in items:
        try:
            yield process(job, item)
        except MemoryError:
            yield Entry.of(item, "failed", error=f"{item.source}: there is not enough memory for it")
