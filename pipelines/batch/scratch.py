"""Temporary folders that a killed process does not leave for good."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_PREFIX = "denoise-"
_LOCK = ".lock"  # suffix of the file beside a folder that its process keeps locked


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty folder that only its owner may enter, and remove it at the end.

    Folders of killed processes are removed first: the system has released their locks.

    Raises:
        OSError: There is no temporary folder that can be written.
    """
    parent = Path(tempfile.gettempdir())
    _remove_abandoned(parent)
    folder = parent / f"{_PREFIX}{secrets.token_hex(8)}"
    lock = FileLock(f"{folder}{_LOCK}")
    with lock:
        try:
            folder.mkdir(mode=0o700)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)


def _remove_abandoned(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*{_LOCK}"):
        try:
            with FileLock(path, timeout=0):
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                path.unlink(missing_ok=True)
        except (Timeout, OSError):  # in use, or of another user
            continue
