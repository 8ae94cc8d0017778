"""Undo `--in-place --backup`: put the originals back in the place of their results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from denoise.errors import InputError, UsageError
from denoise.io.atomic import sync_folder
from pipelines.batch.backups import Backups
from pipelines.batch.manifest import RESTORED, Entry, Manifest, results
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
    backups = Backups()
    done = {key: entry for key, entry in results(root).items() if backups.origins(root / key)}
    if not done:
        raise UsageError(f"{root}: holds no result of --in-place")
    folder = place(root)
    name_key = folder.name_key()
    with folder.claimed([name_key(key) for key in done]):
        with Manifest(root, ()).writing(()) as append:
            for key, entry in sorted(done.items()):
                path = root / key
                try:
                    original = _original(path, entry, backups)
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


def _original(path: Path, entry: Entry, backups: Backups) -> Path:
    """Find the backup beside a result.

    Raises:
        InputError: The result was changed, or no file beside it holds what was cleaned.
    """
    result, origins = entry.output_digest or "", backups.origins(path)
    if path.exists() and digest(path) not in (result, *origins.values()):
        raise InputError(f"{path}: was changed since it was cleaned, and stays; move it away to restore it")
    original = backups.original(path, result if result in origins else next(reversed(origins), ""))
    if original is None:
        raise InputError(f"{path}: has no backup beside it with the bytes that were cleaned, and stays")
    return original
