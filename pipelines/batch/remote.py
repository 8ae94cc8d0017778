"""Remote files, by the URLs that fsspec takes: `s3://`, `gs://`, `http://`."""

from __future__ import annotations

import errno
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Literal

from denoise.errors import InputError, UsageError, reason
from denoise.io.atomic import is_stray, output_error
from denoise.io.sniff import HEAD_BYTES, format_of
from pipelines.batch.store import (
    FOLDER_WITH_SUFFIX,
    File,
    OnProblem,
    Place,
    Walk,
    is_reserved,
    names_a_file,
    output_errors,
)

if TYPE_CHECKING:
    _Base = Path  # it replaces a path in plans, entries and manifests
else:
    _Base = PurePosixPath

_HEADS_AT_ONCE = 256
_ERROR_NUMBERS: Mapping[type[OSError], int] = {
    FileNotFoundError: errno.ENOENT,
    PermissionError: errno.EACCES,
    TimeoutError: errno.ETIMEDOUT,
    FileExistsError: errno.EEXIST,
}


class Remote(_Base, Place):
    """File or folder that a URL names: PurePath naming, and only the I/O methods below.

    Every method raises OSError as a local file does, or UsageError if fsspec cannot reach the URL.
    """

    is_local = False
    parallel_reads = 16  # a store answers late, but many
    sync_every_s = 30.0  # a manifest is sent as a whole

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)

    def __fspath__(self) -> str:
        raise TypeError(f"{self}: no local path")  # or the system would open a folder named `s3:`

    def _resolve_fs(self) -> tuple[Any, str]:
        """Find the file system, and the path in it."""
        from fsspec.core import url_to_fs

        try:
            fs, path = url_to_fs(str(self))
        except (ImportError, ValueError) as error:  # no such protocol, or its package is not installed
            raise UsageError(f"{self}: cannot be reached: {reason(error)}") from error
        return fs, path

    @contextmanager
    def _store(self) -> Iterator[tuple[Any, str]]:
        """File system and path; any error of the store's library becomes an OSError with a number."""
        resolved = self._resolve_fs()
        with _os_errors():
            yield resolved

    @property
    def _is_web(self) -> bool:
        return self.parts[0] in ("http:", "https:")

    @property
    def _file_name(self) -> str:
        """Name for a copy: on the web, without the query."""
        return self.name.partition("?")[0] if self._is_web else self.name

    # ---- as a path ---------------------------------------------------------------------------------------

    def resolve(self, _strict: bool = False) -> Remote:
        """Return the place under its canonical name: `s3a://` is `s3://`."""
        fs, path = self._resolve_fs()
        return Remote(fs.unstrip_protocol(path))

    def exists(self) -> bool:
        with self._store() as (fs, path):
            return bool(fs.exists(path))

    def is_file(self) -> bool:
        with self._store() as (fs, path):
            return bool(fs.isfile(path))

    def is_dir(self) -> bool:
        """True if names begin with this one; the web has no folders."""
        if self._is_web:
            return False
        with self._store() as (fs, path):
            return bool(fs.isdir(path))

    @contextmanager
    def open(self, mode: str = "rb") -> Iterator[IO[bytes]]:  # type: ignore[override]
        with self._store() as (fs, path), fs.open(path, mode) as file:
            yield file

    def unlink(self, missing_ok: bool = False) -> None:
        with suppress(*[FileNotFoundError] if missing_ok else ()), self._store() as (fs, path):
            fs.rm_file(path)

    # ---- copies ------------------------------------------------------------------------------------------

    def get(self, local: Path) -> None:
        """Copy it to a local path."""
        with self._store() as (fs, path):
            fs.get_file(path, str(local))

    def put(self, local: Path) -> None:
        """Make it a copy of a local file, whole or not at all.

        An object store shows an object once it is complete. Where files can be renamed, as over SFTP, the
        file is sent under a temporary name first.
        """
        from fsspec import AbstractFileSystem

        with self._store() as (fs, path):
            if type(fs).mv is AbstractFileSystem.mv:  # no rename of its own: a copy would gain nothing
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

    def fetch(self, folder: Path) -> Path:
        folder.mkdir()
        local = folder / self._file_name
        try:
            self.get(local)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise output_error(local, error) from error
            raise InputError(f"{self}: cannot be read: {error.strerror}") from error
        return local

    def staging_path(self, folder: Path) -> Path:
        return folder / self.name

    def send(self, local: Path) -> None:
        with output_errors(self):
            self.put(local)

    # ---- as an input -------------------------------------------------------------------------------------

    def check(self, *, written: bool = False) -> None:
        self._resolve_fs()
        if written and self._is_web:
            raise UsageError(
                f"{self}: web servers are only read; expected a folder or a store for the output"
            )

    def files(self, walk: Walk) -> Iterator[File]:
        try:
            folder = self.is_dir()
            sizes = self._sizes(walk.recursive, walk.on_problem) if folder else {self: self._size_bytes()}
            heads = _first_bytes(tuple(sizes))
        except FileNotFoundError as error:
            raise UsageError(f"{self}: no such file or folder") from error
        except OSError as error:
            raise UsageError(f"{self}: cannot be read: {error.strerror}") from error
        for (path, size_bytes), head in zip(sizes.items(), heads, strict=True):
            relative = Path(*path.relative_to(self).parts) if folder else Path(path._file_name)
            yield File(path, relative, size_bytes, None if head is None else format_of(head, relative.suffix))

    def _size_bytes(self) -> int:
        """Size of a file; 0 if the server does not report it."""
        with self._store() as (fs, path):
            return int(fs.info(path).get("size") or 0)

    def _listing(self, *, recursive: bool = True) -> dict[str, Mapping[str, Any]]:
        """List the store's details of every file below, by its path from here."""
        with self._store() as (fs, path):
            fs.invalidate_cache()
            try:
                found = fs.find(path, maxdepth=None if recursive else 1, detail=True)
            except FileNotFoundError:
                return {}
            fs.invalidate_cache()  # which holds the details of every file
        # Consoles put names that end in a slash into a store to show a folder.
        return {
            PurePosixPath(name).relative_to(path).as_posix(): info
            for name, info in found.items()
            if not name.endswith("/") and name != path
        }

    def _sizes(self, recursive: bool, on_problem: OnProblem) -> dict[Remote, int]:
        """Size of every file below, in name order."""
        listed = self._listing(recursive=recursive).items()
        listing = {key: int(info.get("size") or 0) for key, info in listed}
        del listed  # the details go before the paths come
        sizes: dict[Remote, int] = {}
        refused: dict[Path, str] = {}
        for key in sorted(listing, key=lambda key: PurePosixPath(key).parts):
            *folders, name = PurePosixPath(key).parts
            if any(map(is_reserved, (*folders, name))):
                continue
            above = self
            for folder in folders:
                above /= folder
                if folder == "..":  # a name like others in a store, here the way out of the output folder
                    refused[self / key] = "a name with .. in it, which no local file can have"
                elif names_a_file(above):
                    refused[above] = FOLDER_WITH_SUFFIX.format(above.suffix)
                else:
                    continue
                break
            else:
                sizes[self / key] = listing[key]
        for path, sentence in refused.items():
            on_problem(path, sentence)
        return sizes

    def real_path(self, _known: dict[Path, str]) -> str:
        return str(self.resolve())

    # ---- as an output ------------------------------------------------------------------------------------

    def name_key(self) -> Callable[[str], str]:
        return lambda name: name

    def free_bytes(self) -> None:
        """None: stores do not report it."""

    def claimed(self, _names: Collection[str]) -> AbstractContextManager[None]:
        return nullcontext()  # without locks, the user ensures that one run at a time writes

    def briefly(self) -> AbstractContextManager[None]:
        return nullcontext()

    def claims_of_others(self) -> tuple[()]:
        return ()

    def occupant(self) -> Callable[[str], Literal["file", "folder"] | None]:
        listing = self._listing()
        return lambda key: "file" if key in listing else None

    def identities(self, keys: Collection[str]) -> dict[str, object]:
        listing = self._listing() if keys else {}
        return {key: listing.get(key) for key in keys}

    def make_folder(self) -> None:
        """Do nothing: a store has no folders."""

    def remove_strays(self, names: Mapping[Path, Collection[str]]) -> None:
        for path in (self / key for key in (self._listing() if names else ())):
            if is_stray(path.name, names.get(path.parent, ())):
                path.unlink(missing_ok=True)

    def replace_text(self, text: str) -> None:
        if not text:
            self.unlink(missing_ok=True)
            return
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "text"
            local.write_text(text, encoding="ascii")
            self.put(local)

    @contextmanager
    def appending(self) -> Iterator[FileIO]:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / self.name
            with output_errors(self):
                with suppress(FileNotFoundError):
                    self.get(copy)
                file = copy.open("ab", buffering=0)
            with file:
                yield file

    def still_names(self, _file: FileIO) -> bool:
        return True  # `file` is a copy

    def publish(self, file: FileIO | None, _folders: Collection[Path]) -> None:
        if file is not None:
            self.send(Path(file.name))


def location(text: str) -> Path:
    """Make the local path, or the URL such as `s3://bucket/folder`, that a text names."""
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return Remote(text) if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", text) else Path(text)


def _first_bytes(places: Sequence[Remote]) -> list[bytes | None]:
    """First bytes of files of one store, many at a time; None for those that cannot be read."""
    heads: list[bytes | None] = []
    for start in range(0, len(places), _HEADS_AT_ONCE):
        found = [place._resolve_fs() for place in places[start : start + _HEADS_AT_ONCE]]
        paths = [path for _, path in found]
        with _os_errors():
            ranges = found[0][0].cat_ranges(
                paths, [0] * len(paths), [HEAD_BYTES] * len(paths), on_error="return"
            )
        # A server that does not support ranges sends the whole file.
        heads += [head[:HEAD_BYTES] if isinstance(head, bytes) else None for head in ranges]
    return heads


@contextmanager
def _os_errors() -> Iterator[None]:
    """Turn any error of a store's library into the OSError that a local file system would raise."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.strerror:
            raise
        number = next((_ERROR_NUMBERS[kind] for kind in _ERROR_NUMBERS if isinstance(error, kind)), None)
        if number is None:
            raise OSError(errno.EIO, reason(error)) from error
        raise OSError(number, os.strerror(number)) from error
    except Exception as error:
        raise OSError(errno.EIO, f"{type(error).__name__}: {reason(error)}") from error
