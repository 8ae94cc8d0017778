"""One run at a time in an output folder.

The kernel keeps the lock (`flock`) and lets go of it when the process ends, however it ends: the file of a
killed run is simply taken over. The process id in it is for the message alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from denoise.errors import UsageError
from denoise.io.atomic import output_error

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = ["LOCK_NAME", "exclusive"]

LOCK_NAME = ".denoise-lock"


@contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """Make the output folder and hold it; one that was made here and stays empty is removed again.

    Raises:
        UsageError: Another run is writing there.
        OutputError: The folder cannot be made or written.
    """
    path = root / LOCK_NAME
    made = not root.exists()
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = _acquire(path)
    except OSError as error:
        raise output_error(root, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # left behind, it is in nobody's way
            path.unlink()
        os.close(handle)
        if made:
            with contextlib.suppress(OSError):
                root.rmdir()


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle, path)
            if _is_still(path, handle):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner removed it meanwhile


def _lock(handle: int, path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        owner = os.pread(handle, 20, 0).decode("ascii", "replace").strip() or "unknown"
        raise UsageError(
            f"{path.parent}: another run (process {owner}) is writing there; wait for it, or choose another"
            " output"
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS):
            raise  # some network file systems have no locks: there it is up to the user


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
