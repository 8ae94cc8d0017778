"""Places: local paths and remote stores behind one interface.

A plan needs names, sizes and first bytes. A remote file is staged to be processed: copied to a local
temporary folder, processed there by the same code as a local file, and its result sent as a whole. So a
worker's disk holds one file at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from denoise.errors import InputError, OutputError, UnreadableError, UsageError
from denoise.io.atomic import output_error, remove_strays, sync_folder
from denoise.io.formats import FORMATS, Format, record_parts
from denoise.io.sniff import sniff
from pipelines.batch import lock
from pipelines.batch.lock import Claim
from pipelines.batch.scratch import scratch

MANIFEST_NAME = "denoise-manifest.jsonl"
FOLDER_WITH_SUFFIX = "a folder, a {} file was expected; name it as an input to go into it"
_SUFFIXES = {suffix for row in FORMATS.values() for suffix in row.suffixes}
_WRITABLE_SUFFIXES = {suffix for row in FORMATS.values() if row.writable for suffix in row.suffixes}

OnProblem = Callable[[Path, str], None]


@dataclass(frozen=True)
class File:
    """File that `Place.files` found."""

    path: Path  # path of the file
    relative: Path  # path below the place; the name, if the place is the file itself
    size_bytes: int | None  # size; None for anything but a regular file: opening a pipe would block
    format: Format | None  # format by the first bytes; None if they do not decide


@dataclass(frozen=True)
class Walk:
    """Options of `Place.files`."""

    recursive: bool  # walk subfolders too
    exclude_dir: Path | None  # local folder to skip
    accept: Callable[[Path], bool]  # called with every file inside a local folder; False skips it unopened
    on_problem: OnProblem  # called with the path of what cannot be processed, and the reason


class Place(ABC):
    """A file or folder, local or remote: the operations in which the two differ. `place` gives it for a path.

    Methods raise OSError with a number; where named, UsageError before the work, or an error for one file.

    Args:
        is_local: True on a disk of this machine.
        parallel_reads: Number of requests worth sending at the same time.
        sync_every_s: Seconds between two calls of `publish` in a long run.
    """

    is_local: bool
    parallel_reads: int
    sync_every_s: float

    @abstractmethod
    def check(self, *, written: bool = False) -> None:
        """Refuse, with a UsageError, a place that cannot be reached or written, whatever it holds."""

    @abstractmethod
    def files(self, walk: Walk) -> Iterator[File]:
        """Yield the one file, or the files below a folder in name order; a UsageError if there is neither."""

    @abstractmethod
    def real_path(self, known: dict[Path, str]) -> str:
        """Path without links; `known` caches resolved folders."""

    @abstractmethod
    def name_key(self) -> Callable[[str], str]:
        """Key of a name in this file system: names with equal keys are the same file."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Free space of the disk that holds, or will hold, this folder; None if unknown."""

    @abstractmethod
    def claimed(self, names: Collection[str]) -> AbstractContextManager[None]:
        """Claim outputs of this folder (`pipelines.batch.lock`); stores have no locks."""

    @abstractmethod
    def briefly(self) -> AbstractContextManager[None]:
        """Hold the lock of what the runs in this folder share, where there are locks."""

    @abstractmethod
    def claims_of_others(self) -> Sequence[Claim]:
        """Claims of other processes on outputs of this folder."""

    @abstractmethod
    def occupant(self) -> Callable[[str], Literal["file", "folder"] | None]:
        """Look-up of what stands at a key below this folder."""

    @abstractmethod
    def identities(self, keys: Collection[str]) -> dict[str, object]:
        """Identity of the file at each key, which changes when another file replaces it; None for no file."""

    @abstractmethod
    def make_folder(self) -> None:
        """Create this folder, where stores have folders."""

    @abstractmethod
    def remove_strays(self, names: Mapping[Path, Collection[str]]) -> None:
        """Remove temporary files that a killed run left beside outputs; `names` of those, by folder."""

    @abstractmethod
    def replace_text(self, text: str) -> None:
        """Write this ASCII file in one step; empty text removes it."""

    @abstractmethod
    def appending(self) -> AbstractContextManager[FileIO]:
        """Open this file, or a local copy, to append to it; an OutputError if it cannot be written."""

    @abstractmethod
    def still_names(self, file: FileIO) -> bool:
        """True if this path still is that of `file`, which `appending` opened."""

    @abstractmethod
    def publish(self, file: FileIO | None, folders: Collection[Path]) -> None:
        """Make names in `folders` durable, then what was appended; a StorageError or OutputError if not."""

    @abstractmethod
    def fetch(self, folder: Path) -> Path:
        """Local copy of this file, in a new `folder`; a local file is its own. InputError if unreadable."""

    @abstractmethod
    def staging_path(self, folder: Path) -> Path:
        """Local path to write this file to, before `send`."""

    @abstractmethod
    def send(self, local: Path) -> None:
        """Make this file a copy of `local`, whole or not at all; a StorageError or OutputError if not."""


def place(path: Path) -> Place:
    """Return the place that a path names."""
    return path if isinstance(path, Place) else Local(path)


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into an OutputError or StorageError about `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def is_reserved(name: str) -> bool:
    """True for names that a walk skips: hidden files and manifests."""
    return (name.startswith(".") and name != "..") or name == MANIFEST_NAME


def names_a_file(folder: Path) -> bool:
    """True for a folder whose suffix is that of a file."""
    return folder.suffix.lower() in _WRITABLE_SUFFIXES


@dataclass(frozen=True)
class Local(Place):
    """Path on a disk of this machine."""

    path: Path

    is_local = True
    parallel_reads = 1
    sync_every_s = 0.5

    def check(self, *, written: bool = False) -> None:
        """Refuse nothing: the work itself reports what is wrong."""

    def files(self, walk: Walk) -> Iterator[File]:
        if not os.path.lexists(self.path):
            raise UsageError(f"{self.path}: no such file or folder")
        if not self.path.is_dir():
            yield _file(self.path, Path(self.path.name))
            return
        try:
            os.scandir(self.path).close()
        except OSError as error:
            raise UsageError(f"{self.path}: the folder cannot be read: {error.strerror}") from error
        for path in filter(walk.accept, _walk(self.path, walk, frozenset())):
            if not _is_part(path):
                yield _file(path, path.relative_to(self.path))

    def real_path(self, known: dict[Path, str]) -> str:
        if self.path.is_symlink():
            return os.path.realpath(self.path)
        folder = self.path.parent
        if folder not in known:
            known[folder] = os.path.realpath(folder)
        return f"{known[folder]}{os.sep}{self.path.name}"  # compared, never opened

    def name_key(self) -> Callable[[str], str]:
        if _folds_case(self.path):
            return lambda name: unicodedata.normalize("NFC", name).casefold()
        return lambda name: name

    def free_bytes(self) -> int | None:
        for folder in (self.path.absolute(), *self.path.absolute().parents):
            try:
                found = os.statvfs(folder)
            except FileNotFoundError:
                continue
            except (AttributeError, OSError):  # Windows has no statvfs
                return None
            return found.f_bavail * found.f_frsize if found.f_blocks else None
        return None

    def claimed(self, names: Collection[str]) -> AbstractContextManager[None]:
        return lock.claimed(self.path, names)

    def briefly(self) -> AbstractContextManager[None]:
        return lock.briefly(self.path)

    def claims_of_others(self) -> Sequence[Claim]:
        return [claim for claim in lock.claims(self.path) if claim.process != os.getpid()]

    def occupant(self) -> Callable[[str], Literal["file", "folder"] | None]:
        def look_up(key: str) -> Literal["file", "folder"] | None:
            path = self.path / key
            return "folder" if path.is_dir() else "file" if os.path.lexists(path) else None

        return look_up

    def identities(self, keys: Collection[str]) -> dict[str, object]:
        found: dict[str, object] = dict.fromkeys(keys)
        for key in keys:
            with suppress(OSError):
                status = (self.path / key).stat()
                found[key] = status.st_ino, status.st_mtime_ns, status.st_size
        return found

    def make_folder(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def remove_strays(self, names: Mapping[Path, Collection[str]]) -> None:
        for folder, targets in names.items():
            remove_strays(folder, targets)

    def replace_text(self, text: str) -> None:
        fresh = self.path.with_name(self.path.name + ".part")
        if not text:
            fresh.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
            return
        with fresh.open("w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)
        sync_folder(self.path.parent)

    @contextmanager
    def appending(self) -> Iterator[FileIO]:
        with output_errors(self.path):
            file = self.path.open("ab", buffering=0)
        with file:
            yield file

    def still_names(self, file: FileIO) -> bool:
        try:
            return os.path.samestat(self.path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def publish(self, file: FileIO | None, folders: Collection[Path]) -> None:
        for folder in {self.path.parent, *folders}:
            with output_errors(folder):
                sync_folder(folder)
        if file is not None:
            with output_errors(self.path):
                os.fsync(file.fileno())

    def fetch(self, _folder: Path) -> Path:
        return self.path

    def staging_path(self, _folder: Path) -> Path:
        return self.path

    def send(self, local: Path) -> None:
        """Do nothing: the file was written where it belongs."""


def _file(path: Path, relative: Path) -> File:
    size_bytes, found = None, None
    with suppress(OSError, UnreadableError):  # processing the file reports the reason
        status = os.stat(path)  # noqa: PTH116 - twice as fast, and this is done 50,000 times
        if stat.S_ISREG(status.st_mode):
            size_bytes = status.st_size
            found = sniff(path)
    return File(path, relative, size_bytes, found)


def _is_part(path: Path) -> bool:
    """True for a file that belongs to a header beside it, as samples and annotations of WFDB records do.

    A file of a known kind does if the header names it: a record may keep its samples as FLAC.
    """
    header = path.with_suffix(".hea")
    if header == path or not os.path.lexists(header):
        return False
    if path.suffix.lower() not in _SUFFIXES:
        return True
    with suppress(OSError):
        return any(line.split(b" ")[0] == os.fsencode(path.name) for line in header.read_bytes().splitlines())
    return False


def _walk(folder: Path, walk: Walk, ancestors: frozenset[tuple[int, int]]) -> Iterator[Path]:
    """Walk the files below `folder`. Links to folders are followed, unless they lead back to an ancestor."""
    try:
        here = folder.stat()
        children = sorted(os.scandir(folder), key=lambda child: child.name)
    except OSError as error:
        walk.on_problem(folder, f"the folder cannot be read: {error.strerror}")
        return
    identity, excluded = (here.st_dev, here.st_ino), walk.exclude_dir
    if identity in ancestors:
        walk.on_problem(folder, "a link back to a folder above it; a file or another folder was expected")
        return
    for child in children:
        path = folder / child.name
        if is_reserved(child.name):
            continue
        try:
            is_folder = child.is_dir()
        except OSError as error:  # a link that leads back to itself, or out of reach
            walk.on_problem(path, f"the link cannot be followed: {error.strerror}")
            continue
        if not is_folder:
            yield path
        elif names_a_file(path):
            walk.on_problem(path, FOLDER_WITH_SUFFIX.format(path.suffix))
        elif walk.recursive and not (excluded and excluded.exists() and path.samefile(excluded)):
            yield from _walk(path, walk, ancestors | {identity})


def _folds_case(folder: Path) -> bool:
    """True if the file system that holds `folder` treats `A` and `a` as one name."""
    for path in (folder.absolute(), *folder.absolute().parents):
        twin = path.with_name(path.name.swapcase()) if path.name else path
        if twin != path and path.exists():
            return twin.exists() and twin.samefile(path)
    return False


@contextmanager
def staged(source: Path, destination: Path) -> Iterator[tuple[Path, Path]]:
    """Yield local paths to read and write instead; on a clean exit, send the result to `destination`."""
    origin, target = place(source), place(destination)
    if origin.is_local and target.is_local:
        yield source, destination
        return
    with scratch() as folder:
        local = target.staging_path(folder / "out")
        yield origin.fetch(folder / "in"), local
        target.send(local)


def json_lines(path: Path) -> Iterator[Any]:
    """Read the JSON values of a file, a line each; skip a line torn by a crash. No file has none.

    Raises:
        OutputError: It cannot be read.
    """
    try:
        if place(path).is_local and not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise OutputError(f"{path}: is no regular file; expected the records of earlier runs, or nothing")
        with path.open("rb") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    continue
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}") from error


def digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def source_digest(path: Path) -> str:
    """sha256 of an input's bytes; of a record of several files, of their digests."""
    parts = record_parts(path, path) if place(path).is_local else ()
    if not parts:
        return digest(path)
    return hashlib.sha256("".join(map(digest, (path, *sorted(parts)))).encode()).hexdigest()
