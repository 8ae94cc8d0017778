"""Writes that happen wholly or not at all.

POSIX `rename` swaps one directory entry for another in one step, so a reader of the final name sees the old
file or the new one, never a part. The temporary file therefore lives in the same folder (a rename across file
systems copies), and its bytes are on disk (fsync) before the name is theirs, or a power cut could leave the
new name with no content. The folder is synced last, or a power cut could bring the old name back; where many
files are written, one sync for all of them is enough (`syncing_later`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from denoise.errors import OutputError, StorageError

__all__ = [
    "is_stray",
    "is_temporary",
    "output_error",
    "remove_strays",
    "replacing",
    "sync_folder",
    "syncing_later",
]

_NAME_LIMIT_BYTES = 255  # of one path component, on every common file system
_FULL_BYTES = 1 << 16  # a disk with less than this is full: encoders that hide the reason stop before zero
_OF_THE_DISK = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EIO", "EROFS", "ENODEV", "ENXIO", "ESTALE")
    if hasattr(errno, name)
)
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part")
_later = False


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
        StorageError: The disk is full or failing.
        OutputError: The folder does not take the file; the message names `path` and the reason.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: cannot be written: is a directory; expected a file name")
    temporary = _temporary(path)
    try:
        # O_EXCL: never another writer's file. Mode 0o666 lets the umask decide, as for any new file.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        if not _later:
            sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        raise output_error(path, error) from error
    except Exception as error:
        full = _is_full(path.parent)  # asked before the temporary file makes room
        _remove(temporary)
        if full:
            raise output_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def syncing_later() -> Iterator[None]:
    """Within it, `replacing` leaves it to the caller to `sync_folder` the folders that it wrote to."""
    global _later
    before, _later = _later, True
    try:
        yield
    finally:
        _later = before


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk.

    Raises:
        OSError: The disk does not take them.
    """
    if os.name != "posix":  # Windows has no handle on a folder to sync
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def output_error(path: Path, error: OSError) -> OutputError:
    """The error of this project for what the system said about writing `path`."""
    kind = StorageError if error.errno in _OF_THE_DISK else OutputError
    return kind(f"{path}: cannot be written: {error.strerror or error}")


def is_temporary(name: str) -> bool:
    """Whether a file of this name is one that `replacing` gave."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_strays(folder: Path, names: Collection[str]) -> None:
    """Remove the temporary files that a killed process left beside files of these names.

    Raises:
        OSError: One cannot be removed.
    """
    for path in folder.glob(".*.part") if folder.is_dir() else ():
        if is_stray(path.name, names):
            path.unlink(missing_ok=True)


def is_stray(name: str, names: Collection[str]) -> bool:
    """Whether a file of this name is a temporary one of one of `names`."""
    match = _TEMPORARY.fullmatch(name)
    # A prefix, because a temporary name is cut where it would be too long for the file system.
    return match is not None and any(final.startswith(match[1]) for final in names)


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


def _is_full(folder: Path) -> bool:
    try:
        found = os.statvfs(folder)
    except (AttributeError, OSError):  # Windows has no statvfs
        return False
    return found.f_blocks > 0 and found.f_bavail * found.f_frsize < _FULL_BYTES


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
