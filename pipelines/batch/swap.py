"""Swap a file for its result in place, and keep the original beside it.

Another run or program may change the file meanwhile. So it is replaced only if it still is what was read, and
its backup is a second name of that very file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from denoise.errors import InputError
from denoise.io.atomic import replacing, sync_folder
from pipelines.batch.scratch import scratch
from pipelines.batch.store import digest, output_errors


def foreign_backup(path: Path, original: Path) -> str:
    """Sentence that refuses a file in place whose backup is not known to be its original."""
    return (
        f"{path}: has changed since its backup {original} was made, or that backup is not by this program; "
        "neither was touched; choose another --backup suffix, or move the backup away"
    )


@contextmanager
def swapped(path: Path, backup: Path | None, proven: str | None = None) -> Iterator[tuple[Path, Path]]:
    """Yield paths to read and to write instead of one file; on a clean exit, the result takes its place.

    Args:
        path: A local file. Its name holds the old file or the new one at any time.
        backup: File beside it to keep the original; if it is there already, it is what is read.
        proven: sha256 of the file if it is known to be a result of that backup.

    Raises:
        StorageError, OutputError: The file or its backup cannot be written.
        InputError: The file is neither its backup nor a result of it, or has changed, and stays as it is.
    """
    path = path.resolve()
    seen = _version(path)  # before the look for a backup: one that comes later is of another run
    original = path.with_name(backup.name) if backup else path
    with output_errors(original):  # its name may be too long
        kept = original != path and original.exists()
    if kept and not original.is_file():
        raise InputError(f"{original}: is no regular file; expected the original of {path}, or no such name")
    # Killed before the rename, a run leaves two equal files (or one name, if somebody removed the other);
    # after it, a result without a row, which cleaning the original again gives byte for byte.
    before = digest(path) if kept and path.exists() else None
    unproven = before is not None and before not in (proven, digest(original))
    with scratch() as folder:
        source, result = path, folder / "out" / path.name
        if kept:
            source = folder / "in" / path.name  # under its own name, which decides between formats
            source.parent.mkdir()
            shutil.copy2(original, source)
        try:
            yield source, result
        except InputError as error:
            if unproven:
                raise InputError(foreign_backup(path, original)) from error
            raise
        if (before and digest(path) != before) or (unproven and digest(result) != before):
            raise InputError(foreign_backup(path, original))
        if unproven:
            return
        with output_errors(path):
            if not kept:
                if original != path:
                    _keep(path, original, seen)
                if _version(path) != seen:
                    raise InputError(_changed(path))
            replaced = path if path.exists() else source
            with replacing(path, replaced, exact=True) as partial:
                shutil.copyfile(result, partial)
                _copy_attributes(replaced, partial, result)  # its time may be that of the input


def _version(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced or written to; None for no file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _changed(path: Path) -> str:
    return f"{path}: was changed by another run or program meanwhile, and stays as it is; run it again"


def _keep(path: Path, original: Path, seen: tuple[int, int, int] | None) -> None:
    """Give the very file that was read a second name, which no other run has taken.

    Raises:
        InputError: Another run has, or the file is no longer what was read.
    """
    try:
        os.link(path, original)
    except FileExistsError as error:
        raise InputError(_changed(path)) from error
    except OSError:  # no links on this disk, or to this file
        if _version(path) != seen:
            raise InputError(_changed(path)) from None
        with replacing(original, path, exact=True) as partial:
            shutil.copyfile(path, partial)
            _copy_attributes(path, partial, path)
        return
    if _version(original) != seen:
        original.unlink()
        raise InputError(_changed(path))
    sync_folder(original.parent)


def _copy_attributes(source: Path, copy: Path, timed: Path) -> None:
    """Give a file the owner and the extended attributes of another, where that is allowed, and a time."""
    found = source.stat()
    if hasattr(os, "chown"):
        with suppress(OSError):
            os.chown(copy, found.st_uid, found.st_gid)
    os.utime(copy, ns=(timed.stat().st_atime_ns, timed.stat().st_mtime_ns))
    if hasattr(os, "listxattr"):
        with suppress(OSError):
            for name in os.listxattr(source):
                os.setxattr(copy, name, os.getxattr(source, name))
