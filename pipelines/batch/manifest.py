"""Manifest: one JSON line per processed file, so that a second run skips it.

A file is done if its last `ok` row proves it: same digest of the input, same fingerprint of the job, and an
output with the recorded digest. Sizes and times would not do: copies and restored folders have new times, and
an output that somebody edited is not ours. Hashing a file costs a few percent of cleaning it.

A crash may come between an output and its row. So a run first writes its keys to `.denoise-unfinished`; an
output named there is ours to redo, whatever the manifest says. That also lets rows and folders reach the disk
in groups: a killed process loses no row, a power cut the work of half a second. A store takes no single rows:
there they are sent together, every half minute.

Runs whose outputs differ share a manifest (`pipelines.batch.lock`).
"""

from __future__ import annotations

import errno
import json
import math
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from io import FileIO
from pathlib import Path
from typing import Any

from denoise.errors import InputError, OutputError, StorageError
from pipelines.batch.backups import Backups
from pipelines.batch.discover import Item
from pipelines.batch.lock import locked
from pipelines.batch.remote import location
from pipelines.batch.store import (
    MANIFEST_NAME,
    digest,
    json_lines,
    output_errors,
    place,
    source_digest,
)
from pipelines.batch.swap import foreign_backup

WRITTEN = ("ok", "salvaged")  # statuses of rows with an output; only the first is done
RESTORED = "restored"  # status of a row that takes back the rows before it: the original is back
PENDING_NAME = ".denoise-unfinished"
IN_PLACE = "./"  # before a pending key: the file is the user's, whether it is cleaned yet or not


@dataclass(frozen=True, slots=True)
class Entry:
    """Result of one file: a row of the manifest, of `--json` and of the tables."""

    source: str  # the input, as the user named it
    output: str | None  # path of the result; None if none was planned
    # `ok`, `salvaged` (what could be decoded of a damaged file), `skipped` (already done), `failed`,
    # `unfinished` (the batch was stopped before it), or, in a dry run only, `planned`
    status: str
    seconds: float = 0.0  # processing time, reading and writing included
    modality: str | None = None  # a name in `MODALITIES`, or None if unknown
    model: str | None = None  # the model's name
    # metric name to value; `_before` and `_after` mark pairs
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    error: str | None = None  # one sentence, for a failed or a salvaged file
    notes: tuple[str, ...] = ()  # sentences about what was converted, clipped or left alone
    key: str | None = None  # the output's path inside the output folder; the manifest is looked up by it
    input_digest: str | None = None  # sha256 of the input; of a record of several files, of their digests
    output_digest: str | None = None  # sha256 of the output
    parts: Mapping[str, str] = field(default_factory=dict)  # sha256 of a record's other files, by their keys
    fingerprint: str | None = None  # sha256 of all settings that the output depends on
    precision: str | None = None  # arithmetic of the network, such as `int8`, and its runtime if not torch
    duration_s: float | None = None  # of a recording, seconds

    @classmethod
    def of(cls, item: Item, status: str, **rest: Any) -> Entry:
        """Make the entry of a planned item."""
        return cls(
            str(item.source), str(item.destination), status, modality=item.modality, key=item.key, **rest
        )

    def row(self) -> dict[str, Any]:
        """Return the form of `--json`."""
        row: dict[str, Any] = jsonable(asdict(self))
        if not self.parts:
            del row["parts"]
        return row

    @property
    def digests(self) -> dict[str, str]:
        """sha256 of all files of the result, by their keys."""
        own = {self.key: self.output_digest} if self.key and self.output_digest else {}
        return {**own, **self.parts}


def jsonable(value: Any) -> Any:
    """Replace NaN and infinity, which JSON lacks, by null."""
    if isinstance(value, Mapping):
        return {key: jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


class Manifest:
    """Manifest of one output folder: proves outputs done, and takes rows.

    Args:
        root: The output folder. Nothing is created before `writing`.
        keys: Keys of the outputs to look up; None is all. A long manifest is read, not held in memory.
        recorded: Take rows; without, nothing but results is written.
    """

    def __init__(self, root: Path, keys: Collection[str] | None = None, *, recorded: bool = True) -> None:
        self.path = root / MANIFEST_NAME
        self._recorded = recorded
        self._pending_path = root / PENDING_NAME
        self._done = results(root, keys)
        self._others: dict[Path, dict[str, Entry]] = {}  # rows of folders above, once asked for
        self._pending = pending(root)
        self._settled: set[str] = set()  # pending ones whose row came before the crash
        self._occupant = place(root).occupant()
        self._backups = Backups()

    def status_of(self, item: Item, fingerprint: str, *, overwrite: bool = False) -> Entry | None:
        """Decide if an item must be processed: None, or a skipped or failed entry with the reason."""
        target = item.destination
        occupied = []
        for key in item.keys:
            occupant = self._occupant(key)
            if occupant == "folder":
                sentence = f"{item.output(key)}: is a directory; expected a file"
                return Entry.of(item, "failed", error=sentence)
            if occupant:
                occupied.append(key)
        if overwrite or not occupied:
            return None
        done: Entry | None = self._done.get(item.key)
        in_place = item.source == target
        try:
            if in_place and (done is None or digest(target) != done.output_digest):
                done = self._done_elsewhere(target)
                if done is None:
                    return None  # a file of the user's, not cleaned yet
            if in_place and done:
                same = done.status == "ok" and done.fingerprint == fingerprint
                if not same:
                    return _cleaned_otherwise(item)
                self._settled |= {IN_PLACE + key for key in item.keys}
                done = replace(done, source=str(item.source), output=str(target), key=item.key)
                return replace(done, status="skipped", seconds=0.0)
            known = done.digests if done else {}
            changed = [key for key in occupied if digest(item.output(key)) != known.get(key)]
            if changed:
                foreign = next((key for key in changed if key not in self._pending), None)
                return _foreign(item, foreign, known=foreign in known) if foreign else None
            assert done
            self._settled |= self._pending.intersection(item.keys)
            if done.source != str(item.source) and (other := self._other_source(done, item)):
                return other
            same = done.status == "ok" and done.fingerprint == fingerprint and len(occupied) == len(item.keys)
            if same and done.input_digest == source_digest(item.source):
                return replace(
                    done, source=str(item.source), output=str(target), status="skipped", seconds=0.0
                )
        except InputError as error:
            return Entry.of(item, "failed", error=str(error))
        return None

    def prove(self, item: Item, suffix: str | None) -> Item | Entry:
        """Give a file in place the backup that is read instead, proven to be its original; or refuse it."""
        path = item.source
        if path != item.destination:
            return item
        backup = path.with_name(path.name + suffix) if suffix else None
        kept = replace(item, backup=backup)
        try:
            taken = backup if backup and backup.is_file() else None
            if not (taken or self._backups.origins(path)):
                return kept
            found = digest(path)
            if original := self._backups.original(path, found):
                return replace(item, backup=original, proven=found)
            # Equal, or pending: of a killed run, which the worker finds out.
            if not taken or found == digest(taken) or IN_PLACE + item.key in self._pending:
                return kept
        except OSError:  # the name is too long, which the worker says
            return kept
        except InputError as error:
            return Entry.of(item, "failed", error=str(error))
        return Entry.of(item, "failed", error=foreign_backup(path, taken))

    def _done_elsewhere(self, target: Path) -> Entry | None:
        """Find the proof that a file is a result by the manifest of another folder above it."""
        target = target.absolute()
        for folder in target.parents:
            if folder not in self._others:
                self._others[folder] = {}
                with suppress(OutputError):  # a folder of somebody else
                    self._others[folder] = results(folder)
            done = self._others[folder].get(target.relative_to(folder).as_posix())
            if done and done.output_digest == digest(target):
                return done
        return None

    def _other_source(self, done: Entry, item: Item) -> Entry | None:
        """Refuse to replace the result of another file, which has other bytes."""
        before = place(location(done.source)).real_path({})
        if before == place(item.source).real_path({}) or done.input_digest == source_digest(item.source):
            return None
        return Entry.of(
            item,
            "failed",
            error=f"{item.destination}: holds the result of {done.source}, which {item.source} would "
            "replace; --overwrite allows it, another output folder keeps both",
        )

    @contextmanager
    def writing(
        self, outputs: Iterable[str], *, in_place: bool = False
    ) -> Iterator[Callable[[Entry], object]]:
        """Mark outputs as pending, by their keys, and take their entries; first remove what a dead run left.

        Args:
            outputs: Keys of the outputs.
            in_place: They are files of the user, and stay such: only a run in place may replace them.

        Raises:
            StorageError: The disk is full or failing.
        """
        root = self.path.parent
        folder = place(root)
        keys = set(outputs)

        def marked(names: Iterable[str]) -> set[str]:
            return {f"{IN_PLACE * in_place}{name}" for name in names}

        with output_errors(self.path), folder.briefly():
            before = folder.identities(keys)
            folder.make_folder()
            others = folder.claims_of_others()
            before_us = {key.removeprefix(IN_PLACE) for key in self._pending}
            left = {key for key in before_us if not any(claim.conflict({key}) for claim in others)}
            _remove_strays(root, left | keys)
            if self._recorded:
                self._update_pending(add=marked(keys))
        if not self._recorded:
            yield lambda _: None
            place(self.path).publish(None, ())
            return
        with place(self.path).appending() as file:
            with output_errors(self.path):
                append = Appender(self.path, file, keys, lambda: self._update_pending(add=marked(keys)))
            yield append
            append.sync()
        with output_errors(self.path), folder.briefly():
            _remove_strays(root, keys)  # of workers that died
            after = folder.identities(append.unproven)
            replaced = {key for key in append.unproven if after[key] != before[key]}
            self._update_pending(add=marked(replaced), remove=marked(keys - replaced))

    def _update_pending(self, *, add: Collection[str], remove: Collection[str] = ()) -> None:
        """Change the list of unfinished outputs, which other runs change, too."""
        _write_pending(self._pending_path, (pending(self.path.parent) - self._settled - {*remove}) | {*add})


def _cleaned_otherwise(item: Item) -> Entry:
    sentence = f"{item.source}: was cleaned in place with other settings; --overwrite cleans it again"
    return Entry.of(item, "failed", error=sentence)


def _foreign(item: Item, key: str, *, known: bool) -> Entry:
    found = "was changed since it was written" if known else "no manifest says that this tool wrote it"
    sentence = f"{item.output(key)}: is there already and {found}; --overwrite replaces it"
    return Entry.of(item, "failed", error=sentence)


class Appender:
    """Appender of rows: after a call, the row is in the file, or the file is as it was.

    A remote manifest is a local copy, sent as a whole at each `sync`; until then the pending keys mark its
    outputs as ours.
    """

    def __init__(
        self, path: Path, file: FileIO, keys: Iterable[str] = (), on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self._path, self._file, self._place = path, file, place(path)
        self._on_lost = on_lost  # called when somebody removes the manifest
        self._end: int | None = None  # after the last row of this run
        self.unproven = set(keys)  # without a row of a result
        self._folders: set[Path] = set()  # of outputs since the last sync
        self._synced_s = 0.0

    def __call__(self, entry: Entry) -> None:
        """Append one row; sync now and then.

        Raises:
            StorageError, OutputError: The disk or store does not take it.
        """
        line = json.dumps(entry.row(), allow_nan=False).encode() + b"\n"
        with output_errors(self._path), locked(self._file):
            if not self._place.still_names(self._file):
                self._on_lost()
                raise StorageError(
                    f"{self._path}: was removed or replaced during the run; expected it to stay"
                )
            size = self._file.seek(0, os.SEEK_END)
            torn = size != self._end and not _ends_in_newline(Path(self._file.name))  # by a crash
            try:
                self._write(b"\n" * torn + line)
            except OSError:
                self._file.truncate(size)
                raise
            self._end = self._file.tell()
        if entry.status in WRITTEN and entry.output:
            self._folders.add(Path(entry.output).parent)
            self.unproven -= {entry.key, *entry.parts}
        if time.monotonic() - self._synced_s >= self._place.sync_every_s:
            self.sync()

    def sync(self) -> None:
        """Make the outputs' names durable, and then the rows about them.

        Raises:
            StorageError, OutputError: The disk or store does not take them.
        """
        self._place.publish(self._file, self._folders)
        self._folders.clear()
        self._synced_s = time.monotonic()

    def _write(self, line: bytes) -> None:
        if self._file.write(line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _ends_in_newline(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def entries(root: Path) -> Iterator[Entry]:
    """Read the rows of a folder's manifest; skip a row torn by a crash.

    Raises:
        OutputError: It cannot be read.
    """
    names = {f.name for f in fields(Entry)}
    for line in json_lines(root / MANIFEST_NAME):
        if isinstance(line, dict) and {"source", "output", "status"} <= line.keys() and _is_sound(line):
            yield Entry(**{name: value for name, value in line.items() if name in names})


def results(root: Path, keys: Collection[str] | None = None) -> dict[str, Entry]:
    """Read the last row of each result of a folder by its key; without those that were taken back.

    Args:
        keys: Keys to look up; None is all.
    """
    found: dict[str, Entry] = {}
    for entry in entries(root) if keys is None or keys else ():
        if entry.key is None or not (keys is None or entry.key in keys):
            continue
        if entry.status in WRITTEN:
            found[entry.key] = entry
        elif entry.status == RESTORED:
            found.pop(entry.key, None)
    return found


def _is_sound(row: Mapping[str, Any]) -> bool:
    """Check the types of a row, which anybody may have written."""
    digests = ("input_digest", "output_digest", "fingerprint")
    texts = ("output", "key", "modality", "model", "precision", "error", *digests)
    metrics, notes, seconds = row.get("metrics", {}), row.get("notes", []), row.get("seconds", 0.0)
    duration = row.get("duration_s")
    return (
        all(isinstance(row[name], str) for name in ("source", "status"))
        and all(isinstance(row.get(name), str | None) for name in texts)
        and isinstance(metrics, dict)
        and all(value is None or _is_number(value) for value in metrics.values())
        and isinstance(row.get("parts", {}), dict)
        and all(isinstance(digest, str) for digest in row.get("parts", {}).values())
        and isinstance(notes, list)
        and all(isinstance(note, str) for note in notes)
        and _is_number(seconds)
        and (duration is None or _is_number(duration))
    )


def _is_number(value: object) -> bool:
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 1e300)


def pending(root: Path) -> set[str]:
    """Keys of the outputs that an interrupted run may have replaced without a row, `IN_PLACE` before some.

    Raises:
        OutputError: They cannot be read.
    """
    return {key for key in json_lines(root / PENDING_NAME) if isinstance(key, str)}


def _write_pending(path: Path, keys: Iterable[str]) -> None:
    """Write the pending keys, or remove the file if there are none."""
    place(path).replace_text("".join(json.dumps(key) + "\n" for key in sorted(keys)))


def _remove_strays(root: Path, keys: Iterable[str]) -> None:
    """Remove temporary files that a killed run left beside the outputs of these keys."""
    names: dict[Path, set[str]] = {}
    for key in keys:
        target = root / key
        names.setdefault(target.parent, set()).add(target.name)
    place(root).remove_strays(names)
