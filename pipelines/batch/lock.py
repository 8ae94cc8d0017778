"""Lock an output folder, so that one run at a time writes there.

The kernel holds the lock and releases it when the process ends, however it ends: the lock file of a killed
run does not block the next one. The process id in the file is for the message alone.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from denoise.errors import UsageError
from denoise.io.atomic import output_error

__all__ = ["LOCK_NAME", "exclusive"]

LOCK_NAME = ".denoise-lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS)  # on some network file systems


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Create the output folder and hold its lock; a folder created here is removed again if it stays empty.

    On a file system without locks, nothing prevents a second run.

    Raises:
        UsageError: Another run holds the lock.
        OutputError: The folder cannot be created or written.
    """
    path = root / LOCK_NAME
    created = not root.exists()
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _acquire(lock, path)
    except OSError as error:
        raise output_error(root, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # a file left behind does no harm
            path.unlink()
        lock.release()
        if created:
            with suppress(OSError):
                root.rmdir()


def _acquire(lock: FileLock, path: Path) -> None:
    while True:
        try:
            lock.acquire()
            path.write_text(f"{os.getpid()}\n", "ascii")
        except Timeout as error:
            try:
                owner = path.read_text("ascii", "replace").strip() or "unknown"
            except FileNotFoundError:  # its holder has just released it
                continue
            raise UsageError(
                f"{path.parent}: another run (process {owner}) is writing there; wait for it, or choose "
                "another output"
            ) from error
        except OSError as error:
            lock.release()
            if error.errno not in _NO_LOCKS:
                raise
        return
