"""Process one file: the only place where its errors are caught."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from denoise.errors import DenoiseError, InputError, StorageError, counted, reason
from denoise.io.atomic import syncing_later
from denoise.io.formats import record_parts
from pipelines.batch.discover import Item
from pipelines.batch.jobs import Job, Outcome
from pipelines.batch.manifest import Entry
from pipelines.batch.store import digest, output_errors, source_digest, staged
from pipelines.batch.swap import swapped


def process(job: Job, item: Item, on_start: Callable[[], None] = lambda: None) -> Entry:
    """Process one file. Any error becomes a sentence in its entry, and the batch goes on.

    Args:
        on_start: Called once the model is loaded and the file's own time begins.

    Raises:
        StorageError: The disk accepts no more results, of any file.
        MemoryError: Memory is short; another process may have more.
    """
    started = time.perf_counter()
    local = item
    try:
        job.prepare(item.modality)
        on_start()
        started = time.perf_counter()  # what the files share is not the time of the first
        with _paths(item) as (source, destination):
            if source.exists() and not source.is_file():  # since it was listed; a pipe would be waited for
                raise InputError(f"{item.source}: is no regular file any more")
            local = replace(item, source=source, destination=destination)
            names = _other_names(item)
            job.options.check_duration(source, item.modality)  # a refused file leaves no folder behind
            with output_errors(destination):
                destination.parent.mkdir(parents=True, exist_ok=True)
            outcome, input_digest = _execute(job, local)
            notes = outcome.notes + names + _exposed(local) + (_keep_mtime(local) if job.keep_mtime else ())
            output_digest = digest(local.destination)
            parts = {key: digest(item.output(key)) for key in item.parts}  # records are not staged
    except StorageError:
        raise
    except DenoiseError as error:
        sentence = str(error)
    except Exception as error:  # a defect of ours or of a decoder costs one file, not the batch
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):  # the latter is torch's
            raise MemoryError from error
        sentence = f"unexpected {type(error).__name__}: {reason(error)}"
    else:
        return Entry.of(
            item,
            "salvaged" if outcome.salvaged else "ok",
            seconds=round(time.perf_counter() - started, 4),
            model=outcome.model,
            precision=outcome.precision,
            duration_s=outcome.duration_s,
            metrics=outcome.metrics,
            error=with_path(outcome.salvaged, item.source) if outcome.salvaged else None,
            notes=tuple(_as_planned(note, local, item) for note in notes),
            input_digest=input_digest,
            output_digest=output_digest,
            parts=parts,
        )
    sentence = with_path(_as_planned(sentence, local, item), item.source, item.destination)
    return Entry.of(item, "failed", seconds=round(time.perf_counter() - started, 4), error=sentence)


def _paths(item: Item) -> AbstractContextManager[tuple[Path, Path]]:
    """Paths to read and to write."""
    if item.source == item.destination:
        return swapped(item.source, item.backup, item.proven)
    return staged(item.source, item.destination)


def _execute(job: Job, item: Item) -> tuple[Outcome, str]:
    """Process a file, again if it changes meanwhile; return the outcome and the digest of what was read.

    Raises:
        InputError: It changed the second time, too.
    """
    for _ in range(2):
        before = _state(item)
        try:
            if {path.name for path in _parts(item).values()} != {item.output(key).name for key in item.parts}:
                raise InputError(f"{item.source}: names other files than before; run the command again")
            with syncing_later():  # the manifest syncs folders before it counts on them
                outcome = job.execute(item)
            found = source_digest(item.source)  # a file that is refused is not read to its end
        except InputError:  # what is half written is often unreadable
            if _state(item) == before:
                raise
        else:
            if _state(item) == before:
                return outcome, found
    raise InputError(f"{item.source}: changed while it was read, twice; expected a file that is complete")


def _parts(item: Item) -> Mapping[Path, Path]:
    """Other files of a record, each with that of its result."""
    return record_parts(item.source, item.destination)


def _state(item: Item) -> list[tuple[int, int, int]]:
    """Return what changes when a file of the source is written to."""
    try:
        found = [path.stat() for path in (item.source, *_parts(item))]
    except OSError as error:
        name = Path(error.filename or item.source).name
        part = f"{name}, which it names, " if name != item.source.name else ""
        raise InputError(f"{item.source}: {part}cannot be read: {error.strerror}") from error
    return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in found]


def with_path(sentence: str, source: Path, *others: Path) -> str:
    """Lead a sentence with its file, unless it names one."""
    named = any(str(path) in sentence for path in (source, *others))
    return sentence if named else f"{source}: {sentence}"


def _as_planned(sentence: str, local: Item, item: Item) -> str:
    """Replace the names of staged copies by those of the plan."""
    for copy, planned in ((local.source, item.source), (local.destination, item.destination)):
        sentence = sentence.replace(str(copy), str(planned))
    return sentence


def _other_names(item: Item) -> tuple[str, ...]:
    """Return a note about the hard links of a file that is replaced: they keep the original."""
    others = item.source.stat().st_nlink - 1 if item.source == item.destination else 0
    if not others:
        return ()
    keep = "hard link) keeps" if others == 1 else "hard links) keep"
    named = f"{counted(others, 'other name')} of {item.source.name} ({keep} the original"
    return (f"{named}: the result is a file of its own",)


def _exposed(item: Item) -> tuple[str, ...]:
    """Return a note if more people can read a result than its source, as on disks without permissions."""
    mode = item.source.stat().st_mode | stat.S_IRWXU
    if not stat.S_IMODE(item.destination.stat().st_mode) & ~mode:
        return ()
    return (f"the permissions of {item.source.name} could not be kept",)


def _keep_mtime(item: Item) -> tuple[str, ...]:
    """Copy the modification time; return a note if the file system does not accept it."""
    try:
        for source, result in ((item.source, item.destination), *_parts(item).items()):
            found = source.stat()
            os.utime(result, ns=(found.st_atime_ns, found.st_mtime_ns))
    except OSError as error:
        return (f"the time of {item.source.name} could not be kept: {reason(error)}",)
    return ()
