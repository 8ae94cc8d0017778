"""One file, and the only place where its errors are caught."""

from __future__ import annotations

import time
from pathlib import Path

from denoise.errors import DenoiseError, OutputError
from pipelines.discover import Item
from pipelines.job import Job
from pipelines.manifest import Entry, digest

__all__ = ["about", "process"]


def process(job: Job, item: Item) -> Entry:
    """Do one file. Whatever goes wrong with it becomes a sentence in its entry; a batch goes on."""
    started = time.perf_counter()
    try:
        job.prepare(item.modality)
        started = time.perf_counter()  # what the files share is not the time of the first
        input_digest = digest(item.source)
        _make_folder(item)
        outcome = job.execute(item)
        output_digest = digest(item.destination)
    except DenoiseError as error:
        sentence = str(error)
    except Exception as error:  # a defect of ours or of a decoder costs one file, not the batch
        reason = str(error).strip().splitlines()[:1]
        sentence = f"unexpected {type(error).__name__}: {''.join(reason) or 'no reason given'}"
    else:
        return Entry.of(
            item,
            "ok",
            seconds=round(time.perf_counter() - started, 4),
            model=outcome.model,
            metrics=outcome.metrics,
            notes=outcome.notes,
            input_digest=input_digest,
            output_digest=output_digest,
        )
    sentence = about(sentence, item.source, item.destination)
    return Entry.of(item, "failed", seconds=round(time.perf_counter() - started, 4), error=sentence)


def about(sentence: str, source: Path, *others: Path) -> str:
    """The sentence, led by the file it is about where it does not name one."""
    named = any(str(path) in sentence for path in (source, *others))
    return sentence if named else f"{source}: {sentence}"


def _make_folder(item: Item) -> None:
    try:
        item.destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{item.destination}: its folder cannot be made: {error.strerror}") from error
