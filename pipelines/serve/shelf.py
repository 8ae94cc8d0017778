"""Files of one session: uploads and results in a private temporary folder, under names of our own."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from denoise import io, machine
from denoise.errors import DenoiseError, UsageError, printable, reason
from denoise.infer.progress import showing_shares
from pipelines.batch.manifest import Entry
from pipelines.batch.scratch import scratch
from pipelines.serve.job import ServeJob
from pipelines.view.budget import Budget
from pipelines.view.page import environment

_MAX_NAME = 120
_MAX_PARTS = 8


class BusyError(UsageError):
    """All cores are at work."""


class LimitError(UsageError):
    """A limit of size or number is reached."""


def clean_name(text: str) -> str:
    """Make a relative name of an upload's name: no folder above, no drive, no control character.

    The name is for people and for the archive; files of the session have names of our own.
    """
    parts = [printable(part).strip(" .") for part in text.replace("\\", "/").split("/")]
    kept = [part.replace(":", "_")[-_MAX_NAME:] for part in parts if part not in ("", ".", "..")]
    return "/".join(kept[-_MAX_PARTS:]) or "file"


@dataclass
class Held:
    """One uploaded file."""

    id: str  # random name
    name: str  # name that it had
    folder: Path
    size_bytes: int  # of the upload
    model: str = ""  # name of the model; empty for the default
    status: str = "waiting"  # `waiting`, `cleaning`, `ok` or `failed`
    share: float = 0.0  # of the file that is cleaned so far
    strength: float = 1.0  # of the result
    entry: Entry | None = None  # result of the last cleaning
    started: float = field(default_factory=time.monotonic)  # time of the upload
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def suffix(self) -> str:
        """Suffix of the upload."""
        suffix = PurePosixPath(self.name).suffix
        return suffix if suffix[1:].isalnum() and suffix.isascii() and len(suffix) < 12 else ""

    @property
    def source(self) -> Path:
        """The upload."""
        return self.folder / f"input{self.suffix}"

    @property
    def result_suffix(self) -> str:
        """Suffix of the result: another one where the format of the upload is only read."""
        return Path(io.written_name(self.source)).suffix

    @property
    def result_name(self) -> str:
        """Name of the result for people."""
        path = PurePosixPath(self.name)
        changed = self.result_suffix != self.suffix
        return str(path.with_suffix(self.result_suffix) if changed else path)

    @property
    def cleaned(self) -> Path:
        """Result of strength 1."""
        return self.folder / f"cleaned{self.result_suffix}"

    @property
    def mixed(self) -> Path:
        """Result of another strength."""
        return self.folder / f"mixed{self.result_suffix}"

    @property
    def result(self) -> Path:
        """Result of the present strength."""
        return self.cleaned if self.strength == 1 else self.mixed

    def state(self) -> dict[str, Any]:
        """Describe it for the page."""
        entry = self.entry
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "share": self.share,
            "strength": self.strength,
            "asked": self.model,
            "model": entry.model if entry else None,
            "modality": entry.modality if entry else None,
            "seconds": entry.seconds if entry else None,
            "error": entry.error if entry else None,
        }


class Shelf:
    """All files of a session, and the workers that clean them."""

    def __init__(self, job: ServeJob) -> None:
        self.job = job
        self._until_closed = ExitStack()
        self.root = self._until_closed.enter_context(scratch())
        self._held: dict[str, Held] = {}
        self._tickets: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(machine.cores(), thread_name_prefix="clean")
        self._busy = 0

    def close(self) -> None:
        """Remove every file."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._until_closed.close()

    def sweep(self) -> None:
        """Remove what is older than `keep_for`, and tickets that nobody used."""
        now = time.monotonic()
        with self._lock:
            old = [held for held in self._held.values() if now - held.started > self.job.keep_for]
            self._tickets = {name: pair for name, pair in self._tickets.items() if now - pair[0] < 60}
        for held in old:
            self.remove(held.id)

    def get(self, name: str) -> Held:
        """Find a file.

        Raises:
            KeyError: There is none of that name.
        """
        return self._held[name]

    def states(self) -> list[dict[str, Any]]:
        """Describe every file that has arrived, in the order of arrival."""
        with self._lock:
            return [held.state() for held in self._held.values() if held.status != "waiting"]

    def open(self, name: str, model: str) -> Held:
        """Make room for an upload.

        Raises:
            LimitError: The session holds as many files, or as much, as it may.
            BusyError: All cores are at work.
            UsageError: There is no such model.
        """
        _check_model(model)
        with self._lock:
            if self._busy >= machine.cores():
                raise BusyError(f"{self._busy} files are being cleaned: send the next one when one is done")
            if len(self._held) >= self.job.max_files:
                raise LimitError(f"{len(self._held)} files are here; remove some first")
            if self.room() <= 0:
                raise LimitError(f"{self.job.max_total:,} bytes are here; remove some files first")
            held = Held(secrets.token_urlsafe(12), clean_name(name), Path(), 0, model)
            held.folder = self.root / held.id
            held.folder.mkdir(mode=0o700)
            self._held[held.id] = held
            self._busy += 1  # until it is cleaned, or the upload ends early
        return held

    def room(self) -> int:
        """Bytes that may still come."""
        return self.job.max_total - sum(held.size_bytes for held in self._held.values())

    def release(self) -> None:
        """Give back the core of an upload that ended early."""
        with self._lock:
            self._busy -= 1

    def submit(self, held: Held) -> None:
        """Clean a file whose upload is complete."""
        held.status, held.share = "cleaning", 0.0
        self._workers.submit(self._clean, held)

    def clean_again(self, held: Held, model: str) -> None:
        """Clean a file by another model.

        Raises:
            BusyError: All cores are at work.
            UsageError: There is no such model.
        """
        _check_model(model)
        with self._lock:
            if self._busy >= machine.cores() or held.status == "cleaning":
                raise BusyError("all cores are at work: try again when a file is done")
            self._busy += 1
        held.model, held.strength = model, 1.0
        self.submit(held)

    def _clean(self, held: Held) -> None:
        from denoise.infer.file import clean_file

        started = time.perf_counter()
        status, facts = "failed", dict[str, Any]()
        try:
            with held.lock, showing_shares(partial(setattr, held, "share")):
                report = clean_file(held.source, held.cleaned, held.model or None)
            facts = {
                "modality": report.modality,
                "model": report.model,
                "metrics": report.metrics,
                "notes": report.notes,
                "error": report.salvaged,
            }
            status = "salvaged" if report.salvaged else "ok"
        except DenoiseError as error:
            facts = {"error": self._named(str(error), held)}
        except MemoryError:
            facts = {"error": "is too large for the memory of this machine"}
        except Exception as error:  # one file must not end the session
            facts = {"error": f"unexpected {type(error).__name__}: {reason(error)}"}
        finally:
            seconds = round(time.perf_counter() - started, 3)
            held.entry = Entry(held.name, str(held.cleaned), status, seconds, **facts)
            held.status = status
            self.release()

    def _named(self, sentence: str, held: Held) -> str:
        """Replace paths of this machine by the name of the upload."""
        for path in (held.source, held.cleaned, held.mixed):
            sentence = sentence.replace(str(path), held.name)
        return sentence.removeprefix(f"{held.name}: ").replace(str(self.root), "")

    def remix(self, held: Held, strength: float) -> None:
        """Change the strength of a result, without running the model again.

        Raises:
            UsageError: It is out of range, there is no result, or it cannot be mixed.
        """
        from denoise.infer.remix import remix_file

        if held.status not in ("ok", "salvaged"):
            raise UsageError(f"{held.name}: has no result yet")
        with held.lock:
            try:
                remix_file(held.source, held.cleaned, held.mixed, strength)
            except DenoiseError as error:
                raise UsageError(f"{held.name}: {self._named(str(error), held)}") from error
            held.strength = strength

    def view(self, held: Held) -> str:
        """Render the section of a file."""
        from pipelines.view.reports import compare, entry_row

        entry = held.entry
        assert entry is not None
        row = replace(entry_row(replace(entry, output=None), Budget(), {}), name=held.name)
        if held.strength != 1:  # not measured again
            figures = tuple((f"{title} (strength 100 %)", text) for title, text in row.figures)
            row = replace(row, figures=figures)
        if held.status in ("ok", "salvaged"):
            with held.lock:
                shown, missing = compare(entry.modality or "", held.source, held.result, Budget(), {})
            row = replace(row, view=shown, missing=missing and self._named(missing, held))
        template = environment().get_template("views.html").module
        return template.article(row, held.id)  # type: ignore[attr-defined]

    def remove(self, name: str) -> None:
        """Remove a file; one that is being cleaned is removed by a later sweep."""
        with self._lock:
            held = self._held.get(name)
            if held is None or held.status == "cleaning":
                return
            del self._held[name]
        shutil.rmtree(held.folder, ignore_errors=True)

    def ticket(self, names: Iterable[str]) -> str:
        """Make a random address that gives results once, within a minute.

        Raises:
            KeyError: There is no such file.
            UsageError: One has no result.
        """
        chosen = tuple(dict.fromkeys(names))
        for name in chosen:
            if self.get(name).status not in ("ok", "salvaged"):
                raise UsageError(f"{self.get(name).name}: has no result")
        if not chosen:
            raise UsageError("nothing was chosen")
        address = secrets.token_urlsafe(24)
        with self._lock:
            self._tickets[address] = (time.monotonic(), chosen)
        return address

    def redeem(self, address: str) -> tuple[Path, str]:
        """Return the file of a ticket, and its name; of several files an archive.

        Raises:
            KeyError: There is no such ticket.
        """
        with self._lock:
            made, names = self._tickets.pop(address)
        if time.monotonic() - made > 60:
            raise KeyError(address)
        held = [self.get(name) for name in names]
        if len(held) == 1:
            return held[0].result, PurePosixPath(held[0].result_name).name
        path = self.root / f"{address}.zip"
        used: set[str] = set()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:  # the formats are compressed
            for one in held:
                archive.write(one.result, _unused(one.result_name, used))
        return path, "cleaned.zip"


def _unused(name: str, used: set[str]) -> str:
    """Number a name that an archive has already; names of some systems do not differ by case."""
    path, number = PurePosixPath(name), 1
    while name.lower() in used:
        number += 1
        name = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
    used.add(name.lower())
    return name


def _check_model(name: str) -> None:
    """Refuse all but the names of the catalogue: a weights file would be a path of this machine."""
    from denoise.infer.catalogue import catalogue
    from denoise.registry import unknown

    names = [row.name for row in catalogue()]
    if name and name not in names:
        raise unknown("model", name, names)
