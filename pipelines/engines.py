"""Ways to run a job over files: in this process, or in several. All give the same entries."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection, resource_tracker
from types import FrameType

from pipelines.discover import Item
from pipelines.job import Job
from pipelines.manifest import Entry
from pipelines.worker import process

__all__ = ["inline", "pool", "run"]


# A generator and not any iterator: closing it stops the work.
Entries = Generator[Entry, None, None]


def run(job: Job, items: Iterable[Item]) -> Entries:
    """Do the items, with as many processes as the job asks for; entries come as they are done."""
    return inline(job, items) if job.workers == 1 else pool(job, items, job.workers)


def inline(job: Job, items: Iterable[Item]) -> Entries:
    """One after another in this process."""
    for item in items:
        yield process(job, item)


def pool(job: Job, items: Iterable[Item], workers: int) -> Entries:
    """Several at a time, each worker with a model of its own.

    A worker that dies (killed, out of memory) takes the pool with it. What was under way is then tried once
    more, each file in a pool of its own, so that only the file that kills is listed as failed.
    """
    waiting = deque(items)
    while waiting:
        lost: list[Item] = []
        yield from _pool(job, waiting, workers, lost)
        for item in lost:
            again: list[Item] = []
            yield from _pool(job, deque([item]), 1, again)
            if again:
                yield Entry.of(
                    item, "failed", error=f"{item.source}: the process that worked on it died, twice"
                )


def _pool(job: Job, waiting: deque[Item], workers: int, lost: list[Item]) -> Entries:
    """Empty `waiting` until done, or until the pool breaks: then `lost` holds what was under way."""
    threads = max(1, _cores() // workers)
    context = multiprocessing.get_context("spawn")  # fork and torch's threads do not mix
    executor = ProcessPoolExecutor(workers, context, _start, (threads,))
    running: dict[Future[Entry], Item] = {}
    try:
        while waiting or running:
            while waiting and len(running) < 2 * workers:  # enough to keep all busy; memory stays flat
                with _deaf():  # submitting may start a worker
                    running[executor.submit(_process, job, waiting[0])] = waiting[0]
                waiting.popleft()
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                entry = future.result()
                del running[future]
                yield entry
    except BrokenProcessPool:
        lost.extend(running.values())
    except BaseException:
        # Ctrl-C reached this process alone, or the caller gave up: workers stop as they would at Ctrl-C.
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGINT)
        raise
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold Ctrl-C back, also from what is started meanwhile: a worker hears it once it is ready."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started within, it would lift the block
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---- inside a worker -------------------------------------------------------------------------------------

_busy = False
_stopped = False


def _start(threads: int) -> None:
    """Prepare a worker, before anything heavy is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    signal.signal(signal.SIGINT, _on_interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _on_interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """The first Ctrl-C unwinds the file under way, so that its temporary file goes; later ones do nothing."""
    global _stopped
    first, _stopped = not _stopped, True
    if first and _busy:
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _process(job: Job, item: Item) -> Entry:
    global _busy
    _busy = True
    try:
        if _stopped:
            raise KeyboardInterrupt
        return process(job, item)
    finally:
        _busy = False
