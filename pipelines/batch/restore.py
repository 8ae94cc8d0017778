"""Undo `--in-place --backup`: put the originals back in the place of their results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from denoise.errors import InputError, UsageError
from denoise.io.atomic import sync_folder
from pipelines.batch.manifest import RESTORED, WRITTEN, Entry, Manifest, entries, results
from pipelines.batch.store import MANIFEST_NAME, digest, output_errors, place


def restore(root: Path) -> Iterator[Entry]:
    """Replace each result in place by its backup, which its digest proves to be the original.

    A result that was changed since stays, as does one without such a backup; both are failed entries. The
    manifest is removed when no result is left in it.

    Raises:
        UsageError: The folder holds no manifest, nothing in it was cleaned in place, or a run is at work.
        StorageError, OutputError: The folder cannot be written.
    """
    if not (root / MANIFEST_NAME).is_file():
        raise UsageError(f"{root}: holds no {MANIFEST_NAME}; the folder of a run in place was expected")
    inputs: dict[str | None, set[str]] = {}  # digests of what was cleaned, in every run
    for entry in entries(root):
        if entry.status in WRITTEN and entry.source == entry.output and entry.input_digest:
            inputs.setdefault(entry.key, set()).add(entry.input_digest)
    done = {key: entry for key, entry in results(root).items() if key in inputs}
    if not done:
        raise UsageError(f"{root}: holds no result of --in-place")
    folder = place(root)
    name_key = folder.name_key()
    with folder.claimed([name_key(key) for key in done]):
        with Manifest(root, ()).writing(()) as append:
            for key, entry in sorted(done.items()):
                path = root / key
                try:
                    original = _original(path, entry, inputs[key])
                except InputError as error:
                    yield replace(entry, status="failed", error=str(error))
                    continue
                with output_errors(path):
                    original.replace(path)
                    sync_folder(path.parent)
                restored = Entry(entry.source, entry.output, RESTORED, modality=entry.modality, key=key)
                append(restored)
                yield restored
        with output_errors(root), folder.briefly():
            if not results(root) and not folder.claims_of_others():
                (root / MANIFEST_NAME).unlink(missing_ok=True)


def _original(path: Path, entry: Entry, inputs: set[str]) -> Path:
    """Find the backup beside a result.

    Raises:
        InputError: The result was changed, or no file beside it holds what was cleaned.
    """
    if path.exists() and digest(path) not in (entry.output_digest, *inputs):
        raise InputError(f"{path}: was changed since it was cleaned, and stays; move it away to restore it")
    beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    for other in beside:
        if other.name.startswith(f"{path.name}.") and other.is_file() and digest(other) in inputs:
            return other
    raise InputError(f"{path}: has no backup beside it with the bytes that were cleaned, and stays")
