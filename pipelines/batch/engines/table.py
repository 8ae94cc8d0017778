"""Run a job in this process, in local workers, or on Dask: same entries."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from denoise.machine import cores, memory_bytes
from pipelines.batch.discover import Item
from pipelines.batch.engines.base import Entries
from pipelines.batch.jobs import Job
from pipelines.batch.manifest import Entry
from pipelines.batch.worker import process

ENGINES = ("local", "dask")

# One process per core, with one thread each, overlaps decoding, model and encoding, and runs a network about
# 10 % faster than one process with as many threads. Each costs seconds of start-up, and memory.
_MIN_POOL_S = 10.0
_WORKER_BYTES = 3 << 29


def run(job: Job, items: deque[Item], expected_s: float) -> Entries:
    """Process the items on the job's engine; yield entries as they are done.

    Limits on time and memory need another process.

    Args:
        job: The job.
        items: Files to process; each is taken out as its turn comes.
        expected_s: Estimated seconds for all of them together.

    Raises:
        StorageError: The disk accepts no more results.
    """
    turns = (items.popleft() for _ in range(len(items)))
    if job.engine == "dask":
        from pipelines.batch.engines.dask import dask

        return dask(job, turns)
    workers = job.workers or _worker_count(job, len(items), expected_s)
    if workers == 1 and job.timeout is None and job.memory is None:
        return inline(job, turns)
    from pipelines.batch.engines.pool import pool  # importing multiprocessing takes a moment

    return pool(job, turns, workers)


def check(job: Job) -> None:
    """Refuse an engine that cannot run, before anything is written.

    Raises:
        UsageError: Dask is not installed, or no scheduler answers.
    """
    if job.engine == "dask":
        from pipelines.batch.engines import dask

        dask.check(job)


def _worker_count(job: Job, files: int, expected_s: float) -> int:
    """One worker per core when the job is long enough to amortise their start-up, else 1."""
    if expected_s < _MIN_POOL_S:
        return 1
    return max(1, min(cores(), files, (job.memory or memory_bytes()) // _WORKER_BYTES))


def inline(job: Job, items: Iterable[Item]) -> Entries:
    """Process the items one after another in this process."""
    for item in items:
        try:
            yield process(job, item)
        except MemoryError:
            yield Entry.of(item, "failed", error=f"{item.source}: there is not enough memory for it")
