"""Atomic writes: a file appears complete or not at all.

POSIX `rename` replaces one directory entry in one step, so a reader of the final name opens the old file or
the new one, never a part. The temporary file is in the same folder, because a rename across file systems
copies. Its bytes are on disk (fsync) before the rename, or a power cut could leave the new name without
content. The folder is synced last, or a power cut could restore the old name; one sync is enough for many
files (`syncing_later`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from denoise.errors import OutputError, StorageError

_MAX_NAME_BYTES = 255  # of one path component, on every common file system
_FULL_BYTES = 1 << 16  # less counts as a full disk, for encoders that hide the reason of a failure
_OF_THE_DISK = frozenset(
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EIO", "EROFS", "ENODEV", "ENXIO", "ESTALE")
    if hasattr(errno, name)
)
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part", re.DOTALL)  # names may hold line ends
_later: ContextVar[bool] = ContextVar("_later", default=False)


@contextmanager
def replacing(path: str | Path, like: Path | None = None, *, exact: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it to `path` on a clean exit, else remove it.

    The file exists, empty, when the block starts. The parent folder must exist. An existing `path` keeps its
    bytes until the rename. Only the owner can read what is unfinished.

    Args:
        path: The final name.
        like: File that the result is made of: nobody reads the result who cannot read that.
        exact: Give the result the permissions of `like`, not those of a new file.

    Yields:
        A hidden name in the same folder, `.{name}.{8 hex digits}.part`.

    Raises:
        StorageError: The disk is full or failing.
        OutputError: The file cannot be written; the message has `path` and the reason.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path}: cannot be written: is a directory; expected a file name")
    if path.exists() and not path.is_file():  # the rename would put a file in place of a device
        raise OutputError(f"{path}: cannot be written: is no regular file; expected a file name")
    temporary = temporary_path(path)
    try:
        mode = _create(temporary, 0o666)  # the umask and the folder decide, as for any new file
        temporary.unlink()  # who opened this one reads nothing of the next
        _create(temporary, 0o600)
        yield temporary
        _sync(temporary)
        _set_mode(temporary, mode, like, exact)
        temporary.replace(path)
        if not _later.get():
            sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        raise output_error(path, error) from error
    except Exception as error:
        full = _is_full(path.parent)  # before removing the temporary file makes room
        _remove(temporary)
        if full:
            raise output_error(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def syncing_later() -> Iterator[None]:
    """Make `replacing` leave the sync of folders to the caller (`sync_folder`)."""
    before = _later.set(True)
    try:
        yield
    finally:
        _later.reset(before)


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on disk.

    Raises:
        OSError: The disk refuses them.
    """
    if os.name != "posix":  # Windows has no handle on a folder to sync
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def output_error(path: Path, error: OSError) -> OutputError:
    """Turn the system's error on writing `path` into one of this project."""
    kind = StorageError if error.errno in _OF_THE_DISK else OutputError
    return kind(f"{path}: cannot be written: {error.strerror or error}")


def is_temporary(name: str) -> bool:
    """Check for the name of a temporary file of `replacing`."""
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
    """Check for the name of a temporary file of one of `names`."""
    match = _TEMPORARY.fullmatch(name)
    # A prefix, because temporary names are cut to the length that the file system allows.
    return match is not None and any(final.startswith(match[1]) for final in names)


def temporary_path(path: Path) -> Path:
    """Make the name of a new temporary file beside `path`, which `remove_strays` finds."""
    ending = f".{secrets.token_hex(4)}.part"
    name, limit = path.name, _MAX_NAME_BYTES - len(ending) - 1
    while len(os.fsencode(name)) > limit:  # letter by letter: a cut inside one would make another name
        name = name[:-1]
    return path.with_name("." + name + ending)


def _create(path: Path, mode: int) -> int:
    """Create an empty file, never in place of another writer's; return the permissions that it got."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)


def _set_mode(path: Path, mode: int, like: Path | None, exact: bool) -> None:
    """Set the permissions of a finished file: `mode`, without what `like` gives to nobody but its owner."""
    if like is not None and like.is_file():  # a reader may describe what is no file
        given = stat.S_IMODE(like.stat().st_mode)
        mode = given if exact else mode & (given | stat.S_IRWXU)
    if mode != stat.S_IMODE(path.stat().st_mode):
        with contextlib.suppress(PermissionError):  # of a file system without permissions
            path.chmod(mode)


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
