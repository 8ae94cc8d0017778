"""Process files on Dask: a task is a path and settings, its result an entry.

Only names travel, so a task may run again, on any machine: its output replaces the file in one step, with the
same bytes. When a worker dies, every file queued on it is retried alone, to find the one responsible.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterable
from contextlib import ExitStack, chdir, nullcontext
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from denoise.errors import StorageError, UsageError, reason
from denoise.machine import cores
from pipelines.batch.discover import Item
from pipelines.batch.engines.base import Crashes, Entries, retry_alone
from pipelines.batch.jobs import Job
from pipelines.batch.manifest import Entry
from pipelines.batch.worker import process

_CONNECT_S = 30.0
_LOST_S = 60.0  # without a worker; after twice as long none is expected back
_RETRIES = 3  # of a file whose worker died: machines of a cluster are taken away for other reasons, too
_QUEUED_PER_THREAD = 2  # the next file is at hand, and memory stays flat
_one_at_a_time = threading.Lock()  # in a worker: models and limits belong to the process


def check(job: Job) -> None:
    """Refuse what cannot work, before anything is written.

    Raises:
        UsageError: Dask is not installed, or no scheduler answers.
    """
    try:
        import_module("distributed")
    except ImportError as error:
        raise UsageError(
            "engine dask: the package distributed is missing: pip install 'denoise-pipelines[cluster]'"
        ) from error
    if job.scheduler:
        with ExitStack() as stack:
            _client(job, stack)


def dask(job: Job, items: Iterable[Item]) -> Entries:
    """Process several files at a time, on the workers of a scheduler or of a cluster on this machine.

    Raises:
        StorageError: The disk accepts no more results, or the scheduler is gone.
        UsageError: The workers cannot do the work, whatever the file.
    """
    with ExitStack() as stack:
        yield from retry_alone(items, partial(_process_all, _client(job, stack), job), _RETRIES)


def _client(job: Job, stack: ExitStack) -> Any:
    import dask.config
    import distributed

    library: Any = distributed  # which has no types
    address: Any = job.scheduler
    if address is None:
        workers = job.workers or cores()
        # Dask retries no file: one whose worker died is retried alone instead.
        stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
        address = stack.enter_context(
            library.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # None would be port 8787, which another run may have
                silence_logs=50,
                env={"OMP_NUM_THREADS": str(max(1, cores() // workers))},
            )
        )
    try:
        return stack.enter_context(library.Client(address, timeout=_CONNECT_S, set_as_default=False))
    except (OSError, ValueError) as error:
        raise UsageError(f"{job.scheduler}: no Dask scheduler answers: {reason(error)}") from error


def _process_all(client: Any, job: Job, items: Iterable[Item], crashed: Crashes, *, alone: bool) -> Entries:
    """Keep a window of items in flight; add those whose workers died to `crashed`."""
    from distributed import CancelledError, KilledWorker

    import denoise

    waiting = iter(items)
    in_flight: dict[Any, Item] = {}
    cwd = str(Path.cwd())

    def fill() -> None:
        threads = sum(client.nthreads().values())  # a cluster grows and shrinks
        window = 1 if alone else max(1, _QUEUED_PER_THREAD * threads)
        while len(in_flight) < window and (item := next(waiting, None)):
            future = client.submit(_task, job, item, cwd, denoise.__version__, pure=False)
            in_flight[future] = item

    try:
        fill()
        while in_flight:
            for future in _finished(client, in_flight):
                item = in_flight.pop(future)
                try:
                    entry = future.result()
                except KilledWorker:
                    crashed.append((item, "the Dask worker that worked on it died"))
                except MemoryError:
                    crashed.append((item, "there is not enough memory for it"))
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
        client.cancel(list(in_flight))


def _finished(client: Any, futures: Collection[Any]) -> list[Any]:
    """Wait until some futures are done, as long as there are workers.

    Raises:
        StorageError: No worker is left, and none comes back.
    """
    from distributed import CancelledError, wait

    wait_for: Any = wait
    workers = True
    while True:
        try:
            with client.as_current():
                return list(wait_for(list(futures), _LOST_S, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            before, workers = workers, bool(client.nthreads())
            if not (before or workers):
                raise StorageError("no Dask worker is left, and none came back") from None
        except (CancelledError, OSError) as error:
            raise StorageError(f"the Dask scheduler is gone: {reason(error)}") from error


# ---- inside a worker -------------------------------------------------------------------------------------


def _task(job: Job, item: Item, cwd: str, version: str) -> Entry:
    import denoise

    if denoise.__version__ != version:  # the manifest would record the wrong version
        raise UsageError(f"a Dask worker has denoise {denoise.__version__}; install {version}, as here")
    # Relative paths resolve as on the user's machine, if the folder exists here too.
    with _one_at_a_time, chdir(cwd) if os.access(cwd, os.X_OK) else nullcontext():
        return process(job, item)
