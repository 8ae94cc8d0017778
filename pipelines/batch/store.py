"""Files elsewhere, by the URLs that fsspec takes: `s3://`, `gs://`, `http://` ...

A plan needs names, sizes and first bytes of them. To be worked on a file is staged: copied to a local
temporary folder, done there by the very code that does local files, and its result sent as a whole. So the
disk of a worker holds one file at a time, and nothing else has to know of stores.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from denoise.errors import DenoiseError, InputError, UsageError, reason
from denoise.io.atomic import output_error
from pipelines.batch.lock import exclusive

if TYPE_CHECKING:
    from pipelines.batch.discover import Item

    _Base = Path  # it stands where a path does: in plans, entries and manifests
else:
    _Base = PurePosixPath

__all__ = ["Remote", "first_bytes", "location", "staged"]

_STAGE_PREFIX = "denoise-stage-"
_FRESH_S = 60.0  # a folder so young may be about to be locked
_HEADS_AT_ONCE = 256
_NUMBERS: Mapping[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    TimeoutError: errno.ETIMEDOUT,
    FileExistsError: errno.EEXIST,
}


class Remote(_Base):
    """What a URL names. It is a path in all that concerns names; of the rest it has what is here, no more.

    Every method that looks or copies raises OSError with a number, as a local file does, or UsageError where
    fsspec does not know how to go there.
    """

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        raise TypeError(f"{self}: no local path")  # or the system would look for a folder named `s3:`

    def _there(self) -> tuple[Any, str]:
        """The file system, and the path in it."""
        from fsspec.core import url_to_fs

        try:
            fs, path = url_to_fs(str(self))
        except (ImportError, ValueError) as error:  # no such protocol, or its package is not installed
            raise UsageError(f"{self}: cannot be reached: {reason(error)}") from error
        return fs, path

    @property
    def file_name(self) -> str:
        """The name that a copy should have: what follows a question mark on the web is none of it."""
        return self.name.partition("?")[0] if self._is_web else self.name

    def check(self, *, written: bool = False) -> None:
        """Refuse what cannot be reached, or written, whatever it holds.

        Raises:
            UsageError: It is so.
        """
        self._there()
        if written and self._is_web:
            raise UsageError(
                f"{self}: web servers are only read; expected a folder or a store for the output"
            )

    def resolve(self, strict: bool = False) -> Remote:  # noqa: ARG002
        """The same place under the first of its names: `s3a://` is `s3://`."""
        fs, path = self._there()
        return Remote(fs.unstrip_protocol(path))

    def exists(self) -> bool:
        fs, path = self._there()
        with _as_os_errors():
            return bool(fs.exists(path))

    def is_file(self) -> bool:
        fs, path = self._there()
        with _as_os_errors():
            return bool(fs.isfile(path))

    def is_dir(self) -> bool:
        """Whether names begin with this one; the web has no folders."""
        if self._is_web:
            return False
        fs, path = self._there()
        with _as_os_errors():
            return bool(fs.isdir(path))

    def size_bytes(self) -> int:
        """Of a file; 0 where the server does not tell."""
        fs, path = self._there()
        with _as_os_errors():
            return int(fs.info(path).get("size") or 0)

    def listing(self, *, recursive: bool = True) -> dict[str, Mapping[str, Any]]:
        """What the store tells of every file below, by its path from here; empty where there is nothing."""
        fs, path = self._there()
        with _as_os_errors():
            fs.invalidate_cache()
            try:
                found = fs.find(path, maxdepth=None if recursive else 1, detail=True)
            except FileNotFoundError:
                return {}
        # Names that end in a slash are what consoles put into a store to show a folder.
        return {
            PurePosixPath(name).relative_to(path).as_posix(): info
            for name, info in found.items()
            if not name.endswith("/") and name != path
        }

    @contextmanager
    def open(self, mode: str = "rb") -> Iterator[IO[bytes]]:  # type: ignore[override]
        """Read it."""
        fs, path = self._there()
        with _as_os_errors(), fs.open(path, mode) as file:
            yield file

    def get(self, local: Path) -> None:
        """Copy it here."""
        fs, path = self._there()
        with _as_os_errors():
            fs.get_file(path, str(local))

    def put(self, local: Path) -> None:
        """Make it the copy of a local file, whole or not at all.

        An object store shows an object once it is complete. Where there is a rename, as over SFTP, the file
        is sent under a temporary name first.
        """
        from fsspec import AbstractFileSystem

        fs, path = self._there()
        with _as_os_errors():
            if type(fs).mv is AbstractFileSystem.mv:  # no rename of its own: to copy would gain nothing
                fs.put_file(str(local), path)
                return
            folder, _, name = path.rpartition("/")
            temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
            fs.makedirs(folder, exist_ok=True)
            try:
                fs.put_file(str(local), temporary)
                fs.mv(temporary, path)
            except BaseException:
                with suppress(Exception):
                    fs.rm_file(temporary)
                raise

    def write_bytes(self, data: bytes) -> None:  # type: ignore[override]
        """As `put`, for what is in memory."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "bytes"
            local.write_bytes(data)
            self.put(local)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove it."""
        fs, path = self._there()
        try:
            with _as_os_errors():
                fs.rm_file(path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    @property
    def _is_web(self) -> bool:
        return self.parts[0] in ("http:", "https:")


def location(text: str) -> Path:
    """A path, or what a URL names.

    Args:
        text: `s3://bucket/folder`, say, or any local path.
    """
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return Remote(text) if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) else Path(text)


def first_bytes(places: Sequence[Remote], size_bytes: int) -> Iterator[bytes | None]:
    """The first bytes of files of one store, many at a time; None where they cannot be had."""
    for start in range(0, len(places), _HEADS_AT_ONCE):
        found = [place._there() for place in places[start : start + _HEADS_AT_ONCE]]
        paths = [path for _, path in found]
        with _as_os_errors():
            ranges = found[0][0].cat_ranges(
                paths, [0] * len(paths), [size_bytes] * len(paths), on_error="return"
            )
        for head in ranges:  # a server that knows no ranges sends all of it
            yield head[:size_bytes] if isinstance(head, bytes) else None


@contextmanager
def staged(item: Item) -> Iterator[Item]:
    """The same item with local paths; on a clean exit the result goes where it belongs.

    A local item is given back as it is.

    Raises:
        InputError: The source cannot be had.
        StorageError, OutputError: The destination cannot be written.
    """
    source, destination = item.source, item.destination
    if not isinstance(source, Remote) and not isinstance(destination, Remote):
        yield item
        return
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=_STAGE_PREFIX))
    with exclusive(folder):
        try:
            if isinstance(source, Remote):
                source = folder / "in" / source.file_name
                source.parent.mkdir()
                _fetch(item.source, source)
            if isinstance(destination, Remote):
                destination = folder / "out" / destination.name
            yield replace(item, source=source, destination=destination)
            if isinstance(item.destination, Remote):
                try:
                    item.destination.put(destination)
                except OSError as error:
                    raise output_error(item.destination, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _fetch(place: Path, local: Path) -> None:
    assert isinstance(place, Remote)
    try:
        place.get(local)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise output_error(local, error) from error
        raise InputError(f"{place}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=1)
def _sweep() -> None:
    """Remove, once in each process, what killed processes of this machine left: nobody holds it any more."""
    if os.name != "posix":  # no locks to tell
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_STAGE_PREFIX}*"):
        with suppress(DenoiseError, OSError):
            if time.time() - folder.stat().st_mtime > _FRESH_S:
                with exclusive(folder):
                    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _as_os_errors() -> Iterator[None]:
    """Whatever the library of a store raises, as a local file system would have said it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.strerror:
            raise
        number = next((_NUMBERS[kind] for kind in _NUMBERS if isinstance(error, kind)), None)
        if number is None:
            raise OSError(errno.EIO, reason(error)) from error
        raise OSError(number, os.strerror(number)) from error
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {reason(error)}") from error
