"""Processes that do files, and may die: killed, out of memory or hung, each costs only the file it was at.

Every worker has a pipe of its own, so that what happens to one is not felt by the others, and it is always
known which file was under way. (`concurrent.futures` gives up the whole pool when one worker dies.) Such a
file is tried once more when all others are done: alone, with the memory of all workers together.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from denoise.errors import StorageError, UsageError
from pipelines.batch.discover import Item
from pipelines.batch.engines.table import Entries, cores
from pipelines.batch.forecast import bytes_text
from pipelines.batch.jobs import Job
from pipelines.batch.manifest import Entry
from pipelines.batch.worker import process

__all__ = ["pool"]

_LOOK_S = 0.05  # how often memory is looked at
_LOADING_S = 300.0  # what a worker under a time limit may take to load the model, besides
_FAREWELL_S = 5.0  # for an interrupted worker to remove its temporary file
_STILLBORN = 3  # so many workers, and no file begun: it is not the files
_OUT_OF_MEMORY, _INTERRUPTED = 12, 130  # exit codes of workers

Message = Entry | StorageError | None  # None: the file's own time begins


@dataclass
class _Limits:
    """What one worker may take; None is no limit."""

    timeout_s: float | None
    memory_bytes: int | None

    def exceeded(self, worker: _Worker) -> str | None:
        if self.timeout_s is not None and worker.items:
            allowed_s = self.timeout_s + (0 if worker.begun else _LOADING_S)
            if time.monotonic() - worker.since > allowed_s:
                return f"took longer than {allowed_s:g} s"
        if self.memory_bytes is not None and _resident_bytes(worker.process.pid) > self.memory_bytes:
            return self.memory_sentence
        return None

    @property
    def memory_sentence(self) -> str:
        if self.memory_bytes is None:
            return "needs more memory than there is"
        return f"needs more than {bytes_text(self.memory_bytes)} of memory"

    def pause_s(self, workers: Iterable[_Worker]) -> float | None:
        """How long nothing has to be looked at."""
        if self.memory_bytes is not None:
            return _LOOK_S
        if self.timeout_s is None:
            return None
        oldest = min((worker.since for worker in workers if worker.items), default=time.monotonic())
        return max(_LOOK_S, oldest + self.timeout_s - time.monotonic())


@dataclass
class _Worker:
    """The parent's side of a worker: the first of `items` is the one it is at."""

    process: SpawnProcess
    pipe: Connection
    items: deque[Item] = field(default_factory=deque)
    since: float = 0.0  # when it began with the first item, or was given it
    begun: bool = False
    ever_begun: bool = False
    verdict: str | None = None  # why we killed it

    def give(self, item: Item) -> None:
        if not self.items:
            self.since = time.monotonic()
        self.items.append(item)
        with suppress(OSError):  # it died: the next look at its pipe tells
            self.pipe.send(item)

    def messages(self) -> Iterator[Message]:
        """What it has said since the last look.

        Raises:
            EOFError: It is dead, and this was all.
        """
        try:
            while self.pipe.poll():
                message: Message = self.pipe.recv()
                self.since, self.begun = time.monotonic(), message is None
                self.ever_begun |= self.begun
                yield message
        except OSError as error:
            raise EOFError from error

    def kill(self, verdict: str) -> None:
        self.verdict = verdict
        self.process.kill()

    def cause_of_death(self, limits: _Limits) -> str:
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode or 0
        if self.verdict:
            return self.verdict
        if code == _OUT_OF_MEMORY:
            return limits.memory_sentence
        if code == -signal.SIGKILL:
            return "the process that worked on it was killed by signal 9 (the system does so to save memory)"
        if code < 0:
            return f"the process that worked on it was killed by signal {-code} ({_signal_name(-code)})"
        return f"the process that worked on it ended with exit code {code}"


def pool(job: Job, items: Iterable[Item], workers: int) -> Entries:
    """Several at a time, each worker with a model of its own.

    Raises:
        StorageError: The disk takes no more results.
        UsageError: Workers die before they begin, whatever the file.
    """
    threads = max(1, cores() // workers)
    share = None if job.memory is None else job.memory // workers
    lost: list[tuple[Item, str]] = []
    yield from _crew(job, deque(items), workers, threads, _Limits(job.timeout, share), lost)
    again, lost = deque(item for item, _ in lost), []
    yield from _crew(job, again, 1, threads, _Limits(job.timeout, job.memory), lost)
    for item, cause in lost:
        yield Entry.of(item, "failed", error=f"{item.source}: {cause}, twice")


def _crew(
    job: Job,
    waiting: deque[Item],
    workers: int,
    threads: int,
    limits: _Limits,
    lost: list[tuple[Item, str]],
) -> Entries:
    """Empty `waiting`; `lost` takes the items whose workers died, each with the cause."""
    crew: list[_Worker] = []
    stillborn = 0
    finished = False
    try:
        while waiting or any(worker.items for worker in crew):
            while waiting and len(crew) < workers:
                crew.append(_start(job, threads, limits))
                crew[-1].give(waiting.popleft())
            for worker in crew:
                if waiting and len(worker.items) < 2:  # the next is at hand; memory stays flat
                    worker.give(waiting.popleft())
            connection.wait([worker.pipe for worker in crew], limits.pause_s(crew))
            for worker in tuple(crew):
                try:
                    for message in worker.messages():
                        if isinstance(message, StorageError):
                            raise message
                        if message is not None:
                            worker.items.popleft()
                            yield message
                except EOFError:
                    crew.remove(worker)
                    cause = worker.cause_of_death(limits)
                    stillborn = 0 if worker.ever_begun else stillborn + 1
                    if stillborn == _STILLBORN:
                        raise UsageError(f"no worker begins its first file: {cause}") from None
                    if worker.items:
                        lost.append((worker.items.popleft(), cause))
                    waiting.extendleft(reversed(worker.items))
                    continue
                verdict = limits.exceeded(worker)
                if verdict:
                    worker.kill(verdict)
        finished = True
    finally:
        _dismiss(crew, interrupt=not finished)


def _start(job: Job, threads: int, limits: _Limits) -> _Worker:
    context = multiprocessing.get_context("spawn")  # fork and torch's threads do not mix
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, job, threads, limits.memory_bytes), daemon=True)
    with _deaf():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _dismiss(crew: Iterable[_Worker], *, interrupt: bool) -> None:
    """End the workers; if interrupted, as Ctrl-C would, which may have reached this process alone."""
    for worker in crew:
        if interrupt and worker.process.pid is not None and worker.process.is_alive():
            os.kill(worker.process.pid, signal.SIGINT)
        worker.pipe.close()
    deadline = time.monotonic() + _FAREWELL_S
    for worker in crew:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextmanager
def _deaf() -> Iterator[None]:
    """Hold Ctrl-C back, also from what is started meanwhile: a worker hears it once it is ready."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # started within, it would lift the block
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)


_STOPPING = {signal.SIGINT, signal.SIGTERM}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _resident_bytes(pid: int | None) -> int:
    """Memory that a process holds; 0 where the system does not tell, or it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


# ---- inside a worker -------------------------------------------------------------------------------------

_busy = False
_stopped = False


def _serve(pipe: Connection, job: Job, threads: int, memory_bytes: int | None) -> None:
    """Do what comes through the pipe, until it is closed."""
    _prepare(threads, memory_bytes)
    try:
        while True:
            pipe.send(_process(job, pipe.recv(), lambda: pipe.send(None)))
    except (EOFError, OSError):
        return
    except StorageError as error:
        pipe.send(error)
    except MemoryError:
        sys.exit(_OUT_OF_MEMORY)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _prepare(threads: int, memory_bytes: int | None) -> None:
    """Before anything heavy is imported."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    if memory_bytes is not None:
        _limit_allocation(2 * memory_bytes + (512 << 20))
    for number in _STOPPING:
        signal.signal(number, _on_interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _limit_allocation(size_bytes: int) -> None:
    """A second fence, for what grows faster than the parent looks; generous, as not all of it is used."""
    with suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (size_bytes, hard))


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


def _process(job: Job, item: Item, begin: Callable[[], None]) -> Entry:
    global _busy
    _busy = True
    try:
        if _stopped:
            raise KeyboardInterrupt
        return process(job, item, begin)
    finally:
        _busy = False
