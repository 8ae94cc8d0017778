"""Local workers: one that is killed or hangs fails only the file it processes.

Every worker has its own pipe, so one worker's death does not affect the others, and it is always known which
file was under way. (`concurrent.futures` gives up the whole pool when one worker dies.) Such a file is tried
again after all others: alone, with the memory of all workers together.
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
from denoise.machine import cores, limit_threads
from pipelines.batch.discover import Item
from pipelines.batch.engines.base import Crashes, Entries, retry_alone
from pipelines.batch.forecast import bytes_text
from pipelines.batch.jobs import Job
from pipelines.batch.manifest import Entry
from pipelines.batch.worker import process

_MEMORY_POLL_S = 0.05
_LOADING_S = 300.0  # allowance on top of the time limit for loading the model
_SHUTDOWN_GRACE_S = 5.0  # for an interrupted worker to remove its temporary file
_MAX_FAILED_STARTS = 3  # consecutive workers that die before their first file: the files are not the cause
_MAX_POLL_S = 3600.0  # the system takes no timeout of weeks
_OUT_OF_MEMORY, _INTERRUPTED = 12, 130  # exit codes of workers

Message = Entry | StorageError | None  # None: the file's own time begins


@dataclass
class _Limits:
    """Limits on one worker; None is no limit."""

    timeout_s: float | None
    memory_bytes: int | None

    def exceeded(self, worker: _Worker) -> str | None:
        """Say which limit a worker exceeds; None if none."""
        if self.timeout_s is not None and worker.items:
            allowed_s = self.timeout_s + (0 if worker.started_file else _LOADING_S)
            if time.monotonic() - worker.since > allowed_s:
                return f"took longer than {allowed_s:g} s"
        if self.memory_bytes is not None and _resident_bytes(worker.process.pid) > self.memory_bytes:
            return self.memory_reason
        return None

    @property
    def memory_reason(self) -> str:
        if self.memory_bytes is None:
            return "needs more memory than there is"
        return f"needs more than {bytes_text(self.memory_bytes)} of memory"

    def poll_s(self, workers: Iterable[_Worker]) -> float | None:
        """Seconds until the limits must be checked again; None if never."""
        if self.memory_bytes is not None:
            return _MEMORY_POLL_S
        if self.timeout_s is None:
            return None
        oldest = min((worker.since for worker in workers if worker.items), default=time.monotonic())
        left_s = oldest + self.timeout_s - time.monotonic()
        return min(max(_MEMORY_POLL_S, left_s), _MAX_POLL_S)


@dataclass
class _Worker:
    """Parent's side of a worker: the first of `items` is under way."""

    process: SpawnProcess
    pipe: Connection
    items: deque[Item] = field(default_factory=deque)
    since: float = 0.0  # when it started the first item, or received it
    started_file: bool = False
    ever_started: bool = False
    kill_reason: str | None = None

    def give(self, item: Item) -> None:
        if not self.items:
            self.since = time.monotonic()
        self.items.append(item)
        with suppress(OSError):  # it died: the next `messages` raises
            self.pipe.send(item)

    def messages(self) -> Iterator[Message]:
        """Yield the messages that arrived since the last call.

        Raises:
            EOFError: It is dead, and this was all.
        """
        try:
            while self.pipe.poll():
                message: Message = self.pipe.recv()
                self.since, self.started_file = time.monotonic(), message is None
                self.ever_started |= self.started_file
                yield message
        except OSError as error:
            raise EOFError from error

    def kill(self, reason: str) -> None:
        self.kill_reason = reason
        self.process.kill()

    def exit_reason(self, limits: _Limits) -> str:
        """Wait for the process to end; return the reason in words."""
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode or 0
        if self.kill_reason:
            return self.kill_reason
        if code == _OUT_OF_MEMORY:
            return limits.memory_reason
        if code == -signal.SIGKILL:
            return "the process that worked on it was killed by signal 9 (the system does so to save memory)"
        if code < 0:
            return f"the process that worked on it was killed by signal {-code} ({_signal_name(-code)})"
        return f"the process that worked on it ended with exit code {code}"


def pool(job: Job, items: Iterable[Item], workers: int) -> Entries:
    """Process several files at a time; each worker loads a model of its own.

    Raises:
        StorageError: The disk accepts no more results.
        UsageError: Workers exit before processing any file.
    """
    threads = max(1, cores() // workers)

    def attempt(items: Iterable[Item], crashed: Crashes, *, alone: bool) -> Entries:
        n_workers = 1 if alone else workers
        limits = _Limits(job.timeout, None if job.memory is None else job.memory // n_workers)
        return _process_all(job, deque(items), n_workers, threads, limits, crashed)

    return retry_alone(items, attempt)


def _process_all(
    job: Job, waiting: deque[Item], n_workers: int, threads: int, limits: _Limits, crashed: Crashes
) -> Entries:
    """Empty `waiting`; add the items whose workers died to `crashed`."""
    workers: list[_Worker] = []
    failed_starts = 0
    finished = False
    try:
        while waiting or any(worker.items for worker in workers):
            while waiting and len(workers) < n_workers:
                workers.append(_start(job, threads, limits))
                workers[-1].give(waiting.popleft())
            for worker in workers:
                if waiting and len(worker.items) < 2:  # the next is at hand; memory stays flat
                    worker.give(waiting.popleft())
            connection.wait([worker.pipe for worker in workers], limits.poll_s(workers))
            for worker in tuple(workers):
                try:
                    for message in worker.messages():
                        if isinstance(message, StorageError):
                            raise message
                        if message is not None:
                            worker.items.popleft()
                            yield message
                except EOFError:
                    workers.remove(worker)
                    reason = worker.exit_reason(limits)
                    failed_starts = 0 if worker.ever_started else failed_starts + 1
                    if failed_starts == _MAX_FAILED_STARTS:
                        raise UsageError(f"workers exit before processing any file: {reason}") from None
                    if worker.items:
                        crashed.append((worker.items.popleft(), reason))
                    waiting.extendleft(reversed(worker.items))
                    continue
                exceeded = limits.exceeded(worker)
                if exceeded:
                    worker.kill(exceeded)
        finished = True
    finally:
        _shut_down(workers, interrupt=not finished)


def _start(job: Job, threads: int, limits: _Limits) -> _Worker:
    context = multiprocessing.get_context("spawn")  # fork and torch's threads do not mix
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, job, threads, limits.memory_bytes), daemon=True)
    with _signals_blocked():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _shut_down(workers: Iterable[_Worker], *, interrupt: bool) -> None:
    """End the workers; interrupt them as Ctrl-C does, which may have reached this process alone."""
    for worker in workers:
        if interrupt and worker.process.pid is not None and worker.process.is_alive():
            os.kill(worker.process.pid, signal.SIGINT)
        worker.pipe.close()
    deadline = time.monotonic() + _SHUTDOWN_GRACE_S
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block Ctrl-C, also in processes started meanwhile: a worker unblocks it once it is ready."""
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
    """Memory that a process holds; 0 if the system does not report it, or the process has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


# ---- inside a worker -------------------------------------------------------------------------------------

_busy = False
_stopped = False


def _serve(pipe: Connection, job: Job, threads: int, memory_bytes: int | None) -> None:
    """Process the items that arrive through the pipe, until it is closed."""
    _set_up(threads, memory_bytes)
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


def _set_up(threads: int, memory_bytes: int | None) -> None:
    """Set threads, memory limit and signal handlers, before anything heavy is imported."""
    limit_threads(threads)
    if memory_bytes is not None:
        _limit_allocation(2 * memory_bytes + (512 << 20))
    for number in _STOPPING:
        signal.signal(number, _on_interrupt)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _limit_allocation(size_bytes: int) -> None:
    """Limit the data segment as a second guard, for what grows between two checks by the parent."""
    with suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (size_bytes, hard))


def _on_interrupt(_number: int, _frame: FrameType | None) -> None:
    """Interrupt the file under way, so that its temporary file goes; ignore all but the first signal."""
    global _stopped
    first, _stopped = not _stopped, True
    if first and _busy:
        raise KeyboardInterrupt


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _process(job: Job, item: Item, on_start: Callable[[], None]) -> Entry:
    global _busy
    _busy = True
    try:
        if _stopped:
            raise KeyboardInterrupt
        return process(job, item, on_start)
    finally:
        _busy = False
