"""Writes that happen wholly or not at all.

POSIX `rename` swaps one directory entry for another in one step, so a reader of the final name sees the old
file or the new one, never a part. The temporary file therefore lives in the same folder (a rename across file
systems copies), and its bytes are on disk (fsync) before the name is theirs, or a power cut could leave the
new name with no content.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from denoise.errors import OutputError

__all__ = ["replacing"]

_NAME_LIMIT_BYTES = 255  # of one path component, on every common file system


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; it becomes `path` on a clean exit and vanishes on any other.

    The file exists, empty, when the block starts. The parent folder must exist. An existing `path` keeps its
    bytes until the last moment.

    Args:
        path: The final name.

    Yields:
        A hidden name in the same folder, `.{name}.{8 hex digits}.part`.

    Raises:
        OutputError: The folder or the disk does not take the file; the message names `path` and the reason.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: cannot be written: it is a directory, a file name was expected")
    temporary = _temporary(path)
    try:
        # O_EXCL: never another writer's file. Mode 0o666 lets the umask decide, as for any new file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    except BaseException:
        _remove(temporary)
        raise


def _temporary(path: Path) -> Path:
    ending = f".{secrets.token_hex(4)}.part"
    name = os.fsencode(path.name)[: _NAME_LIMIT_BYTES - len(ending) - 1]
    # A cut may fall inside a UTF-8 character; the temporary name only has to be a name.
    return path.with_name("." + name.decode("utf-8", "ignore") + ending)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # Windows has no handle on a folder to sync
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
