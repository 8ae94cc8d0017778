"""What was done, one JSON line per file, so that the same command again does only the rest.

A file counts as done when its last good row proves it: the input has the same digest, the job the same
fingerprint, and the output is there with the digest that was recorded. Digests and not size and time, because
a folder that was copied, restored or synchronised has new times, and because an output that somebody edited
must not be taken for ours; reading a file to hash it costs a few percent of cleaning it.

Between the moment an output appears and the moment its row is on disk a crash may come. So the keys of a run
are first written to `.denoise-unfinished`; an output named there is ours to redo, whatever the manifest says.
That also lets rows and folders reach the disk in groups: a killed process loses no row, and a power cut costs
the work of half a second. A store takes no rows one by one: there they are sent together, every half minute.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from io import FileIO
from pathlib import Path
from typing import Any

from denoise.errors import InputError, OutputError
from denoise.io.atomic import is_stray, output_error, remove_strays, sync_folder
from pipelines.batch.discover import MANIFEST_NAME, Item
from pipelines.batch.store import Remote

__all__ = ["Entry", "Manifest", "digest", "entries", "jsonable", "pending"]

PENDING_NAME = ".denoise-unfinished"
SYNC_EVERY_S = 0.5
_SEND_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one file: a row of the manifest, of `--json` and of the tables.

    Args:
        source: The input, as it was named.
        output: Where its result is or would be; None when none was planned.
        status: `ok`, `skipped` (already done), `failed`, `unfinished` (the batch was stopped before it),
            or, in a dry run only, `planned`.
        seconds: Time it took, reading and writing included.
        modality: A name in `MODALITIES`, or None when that is not known.
        model: The model's name.
        metrics: Metric name to value; `_before` and `_after` mark pairs.
        error: One sentence, for a failed file.
        notes: Sentences about what was converted, clipped or left alone.
        key: The output's path inside the output folder; the manifest is looked up by it.
        input_digest: sha256 of the input.
        output_digest: sha256 of the output.
        fingerprint: sha256 of all settings that the output depends on.
    """

    source: str
    output: str | None
    status: str
    seconds: float = 0.0
    modality: str | None = None
    model: str | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    error: str | None = None
    notes: tuple[str, ...] = ()
    key: str | None = None
    input_digest: str | None = None
    output_digest: str | None = None
    fingerprint: str | None = None

    @classmethod
    def of(cls, item: Item, status: str, **rest: Any) -> Entry:
        """The entry of a planned item."""
        return cls(
            str(item.source), str(item.destination), status, modality=item.modality, key=item.key, **rest
        )

    def row(self) -> dict[str, Any]:
        """The entry as JSON has it."""
        row: dict[str, Any] = jsonable(asdict(self))
        return row


def jsonable(value: Any) -> Any:
    """The same value with NaN and infinity as null, which is all that JSON has for them."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def digest(path: Path) -> str:
    """sha256 of a file's bytes.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


class Manifest:
    """The manifest of one output folder: what it proves, and the way to add to it.

    Args:
        root: The output folder. Nothing is created before `writing`.
        keys: Of the outputs that will be asked about; None is all. A long manifest is read, not held.
    """

    def __init__(self, root: Path, keys: Collection[str] | None = None) -> None:
        self.path = root / MANIFEST_NAME
        self._pending_path = root / PENDING_NAME
        self._done = {
            entry.key: entry
            for entry in (entries(root) if keys is None or keys else ())
            if entry.status == "ok" and (keys is None or entry.key in keys)
        }
        self._pending = pending(root)
        self._listing = root.listing() if isinstance(root, Remote) else None

    def status_of(self, item: Item, fingerprint: str, *, overwrite: bool = False) -> Entry | None:
        """None when the item is to be done; otherwise why not: a skipped or a failed entry."""
        target = item.destination
        if self._listing is None and target.is_dir():
            return Entry.of(
                item, "failed", error=f"{target}: there is a folder of that name; a file belongs there"
            )
        there = os.path.lexists(target) if self._listing is None else item.key in self._listing
        if overwrite or not there:
            return None
        done = self._done.get(item.key)
        try:
            if done is None or digest(target) != done.output_digest:
                return None if item.key in self._pending else _foreign(item, known=done is not None)
            self._pending.discard(item.key)  # its row came before the crash
            if done.fingerprint == fingerprint and done.input_digest == digest(item.source):
                return replace(
                    done, source=str(item.source), output=str(target), status="skipped", seconds=0.0
                )
        except InputError as error:
            return Entry.of(item, "failed", error=str(error))
        return None

    @contextmanager
    def writing(self, items: Iterable[Item]) -> Iterator[Appender]:
        """Take the items on and append their entries; what an interrupted run left half-done goes first.

        Raises:
            StorageError: The disk is full or failing.
            OutputError: The folder cannot be written.
        """
        root = self.path.parent
        keys = {item.key for item in items}
        with _telling(self.path):
            before = _identities(root, keys)
            _make_folder(root)
            _sweep(root, self._pending)
            _write_lines(self._pending_path, self._pending | keys)
        with _appending(self.path) as append:
            yield append
            append.sync()
        with _telling(self.path):
            _sweep(root, keys)  # of workers that died
            failed = keys - append.proven
            after = _identities(root, failed)
            replaced = {key for key in failed if after[key] != before[key]}
            _write_lines(self._pending_path, (self._pending - keys) | replaced)


def _identities(root: Path, keys: Collection[str]) -> dict[str, object]:
    """What tells a file from the one that takes its name later, by key; None where there is none."""
    if isinstance(root, Remote):
        listing = root.listing() if keys else {}
        return {key: listing.get(key) for key in keys}
    return {key: _identity(root / key) for key in keys}


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What changes when another file takes the name."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _foreign(item: Item, *, known: bool) -> Entry:
    found = "was changed since it was written" if known else "was not written by this tool"
    sentence = f"{item.destination}: is there already and {found}; --overwrite replaces it"
    return Entry.of(item, "failed", error=sentence)


class Appender:
    """Adds rows to an open manifest: a row is in the file when the call returns, or the file is as it was."""

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._path = Path(file.name)
        self._sync_every_s = SYNC_EVERY_S
        self._break = b"" if _ends_in_line_end(self._path) else b"\n"  # after a line that a crash tore
        self.proven: set[str | None] = set()  # keys
        self._folders: set[Path] = set()  # that hold outputs since the last sync
        self._synced_s = 0.0

    def __call__(self, entry: Entry) -> None:
        """Append one row; every now and then what came till then is put on disk.

        Raises:
            StorageError: The disk does not take it.
        """
        line = json.dumps(entry.row(), allow_nan=False).encode() + b"\n"
        with _telling(self._path):
            size = self._file.seek(0, os.SEEK_END)
            try:
                self._write(self._break + line)
            except OSError:
                self._file.truncate(size)
                raise
        self._break = b""
        if entry.status == "ok" and entry.output:
            self._folders.add(Path(entry.output).parent)
            self.proven.add(entry.key)
        if time.monotonic() - self._synced_s >= self._sync_every_s:
            self.sync()

    def sync(self) -> None:
        """Put outputs' names, and after them the rows that speak of them, on disk.

        Raises:
            StorageError: The disk does not take them.
        """
        for folder in self._folders | {self._path.parent}:
            with _telling(folder):
                sync_folder(folder)
        with _telling(self._path):
            os.fsync(self._file.fileno())
        self._folders.clear()
        self._synced_s = time.monotonic()

    def _write(self, line: bytes) -> None:
        written = self._file.write(line)
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _Sender(Appender):
    """Adds rows to a copy of a manifest in a store, and sends it as a whole.

    Until then the pending say that the outputs without a row are ours.
    """

    def __init__(self, file: FileIO, place: Remote) -> None:
        super().__init__(file)
        self._place = place
        self._sync_every_s = _SEND_EVERY_S

    def sync(self) -> None:
        """Send it.

        Raises:
            StorageError, OutputError: The store does not take it.
        """
        with _telling(self._place):
            self._place.put(self._path)
        self._synced_s = time.monotonic()


@contextmanager
def _appending(path: Path) -> Iterator[Appender]:
    """The way to add rows to a manifest."""
    if isinstance(path, Remote):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            with _telling(path):
                with suppress(FileNotFoundError):
                    path.get(copy)
                file = copy.open("ab", buffering=0)
            with file:
                yield _Sender(file, path)
        return
    with _telling(path):
        file = path.open("ab", buffering=0)
    with file:
        with _telling(path):
            append = Appender(file)
        yield append


def _ends_in_line_end(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def entries(root: Path) -> Iterator[Entry]:
    """The rows of a folder's manifest; one that was torn by a crash proves nothing and is passed over.

    Raises:
        OutputError: It cannot be read.
    """
    names = {f.name for f in fields(Entry)}
    for line in _lines(root / MANIFEST_NAME):
        if isinstance(line, dict) and {"source", "output", "status"} <= line.keys():
            yield Entry(**{name: value for name, value in line.items() if name in names})


def pending(root: Path) -> set[str]:
    """Keys of the outputs that an interrupted run may have replaced without telling.

    Raises:
        OutputError: They cannot be read.
    """
    return {key for key in _lines(root / PENDING_NAME) if isinstance(key, str)}


def _lines(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as file:
            for line in file:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"{path}: cannot be read: {error.strerror}") from error


def _write_lines(path: Path, keys: Iterable[str]) -> None:
    """Write the pending, or remove the file when there are none."""
    fresh = path.with_name(path.name + ".part")
    lines = [json.dumps(key) + "\n" for key in sorted(keys)]
    if isinstance(path, Remote):
        if lines:
            path.write_bytes("".join(lines).encode("ascii"))
        else:
            path.unlink(missing_ok=True)
        return
    if not lines:
        fresh.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return
    with fresh.open("w", encoding="ascii") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def _make_folder(root: Path) -> None:
    if not isinstance(root, Remote):  # a store has none
        root.mkdir(parents=True, exist_ok=True)


def _sweep(root: Path, pending: Iterable[str]) -> None:
    """Remove the temporary files that a killed run left beside the outputs it had taken on."""
    names: dict[Path, set[str]] = {}
    for key in pending:
        target = root / key
        names.setdefault(target.parent, set()).add(target.name)
    if not isinstance(root, Remote):
        for folder, targets in names.items():
            remove_strays(folder, targets)
        return
    for place in (root / key for key in (root.listing() if names else ())):
        if is_stray(place.name, names.get(place.parent, ())):
            place.unlink(missing_ok=True)
