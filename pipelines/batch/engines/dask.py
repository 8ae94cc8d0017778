"""The work on Dask: a task is a path and settings, and what comes back is a row.

Nothing but names travels, so a task may be run again, anywhere: its result takes its name whole, and has the
same bytes. A worker's death brings suspicion on every file that lay with it; those are tried again when all
others are done, one at a time, so that only the file that kills is called so.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from denoise.errors import StorageError, UsageError, reason
from pipelines.batch.discover import Item
from pipelines.batch.engines.table import Entries, cores
from pipelines.batch.jobs import Job
from pipelines.batch.manifest import Entry
from pipelines.batch.worker import process

__all__ = ["check", "dask"]

_CONNECT_S = 30.0
_AHEAD = 2  # files for each thread of the cluster: the next is at hand, and memory stays flat
_one_at_a_time = threading.Lock()  # in a worker: models and limits are the process's


def check(job: Job) -> None:
    """Refuse what cannot work, before anything is written.

    Raises:
        UsageError: Dask is not installed, or there is no scheduler.
    """
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "engine dask: needs the extra cluster (dask distributed), which is not here"
        ) from error
    if job.scheduler:
        with ExitStack() as stack:
            _client(job, stack)


def dask(job: Job, items: Iterable[Item]) -> Entries:
    """Several at a time, on the workers of a scheduler, or of a cluster on this machine.

    Raises:
        StorageError: The disk takes no more results, or the scheduler is gone.
        UsageError: The workers cannot do the work, whatever the file.
    """
    with ExitStack() as stack:
        client = _client(job, stack)
        lost: list[tuple[Item, str]] = []
        yield from _flow(client, job, iter(items), lost, alone=False)
        again, lost = [item for item, _ in lost], []
        yield from _flow(client, job, iter(again), lost, alone=True)
        for item, cause in lost:
            yield Entry.of(item, "failed", error=f"{item.source}: {cause}, twice")


def _client(job: Job, stack: ExitStack) -> Any:
    import dask.config
    import distributed

    library: Any = distributed  # which has no types
    address: Any = job.scheduler
    if address is None:
        workers = job.workers or cores()
        # No death is forgiven here: what died is tried again alone.
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
        address = stack.enter_context(
            library.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address=None,
                silence_logs=50,
                env={"OMP_NUM_THREADS": str(max(1, cores() // workers))},
            )
        )
    try:
        return stack.enter_context(library.Client(address, timeout=_CONNECT_S, set_as_default=False))
    except (OSError, ValueError) as error:
        raise UsageError(f"{job.scheduler}: no Dask scheduler answers: {reason(error)}") from error


def _flow(
    client: Any, job: Job, items: Iterator[Item], lost: list[tuple[Item, str]], *, alone: bool
) -> Entries:
    """Keep a window of items in flight; `lost` takes those whose workers died, each with the cause."""
    from distributed import CancelledError, KilledWorker, as_completed

    import denoise

    flying: dict[Any, Item] = {}
    completed: Any = as_completed
    done = completed(loop=client.loop)
    cwd = str(Path.cwd())

    def fill() -> None:
        threads = sum(client.nthreads().values())  # a cluster grows and shrinks
        window = 1 if alone else max(1, _AHEAD * threads)
        while len(flying) < window and (item := next(items, None)):
            future = client.submit(_task, job, item, cwd, denoise.__version__, pure=False)
            flying[future] = item
            done.add(future)

    try:
        fill()
        for future in done:
            item = flying.pop(future)
            try:
                entry = future.result()
            except KilledWorker:
                lost.append((item, "the Dask worker that worked on it died"))
            except MemoryError:
                lost.append((item, "there is not enough memory for it"))
            except (StorageError, UsageError):
                raise
            except (CancelledError, OSError) as error:
                raise StorageError(f"the Dask scheduler is gone: {reason(error)}") from error
            except Exception as error:
                raise UsageError(f"the Dask workers cannot do the work: {reason(error)}") from error
            else:
                yield entry
            fill()
    finally:
        client.cancel(list(flying))


# ---- inside a worker -------------------------------------------------------------------------------------


def _task(job: Job, item: Item, cwd: str, version: str) -> Entry:
    import denoise

    if denoise.__version__ != version:  # the manifest would claim what that version did not do
        raise UsageError(f"a Dask worker has denoise {denoise.__version__}, expected {version} as here")
    with _one_at_a_time, _at(cwd):
        return process(job, item)


@contextmanager
def _at(folder: str) -> Iterator[None]:
    """Where relative paths mean what they meant to the user, on a machine that has the folder too."""
    before = Path.cwd()
    with contextlib.suppress(OSError):
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
