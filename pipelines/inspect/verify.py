"""Check the outputs in a folder against its manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from denoise.errors import InputError, UsageError
from denoise.io.atomic import is_temporary
from pipelines.batch.backups import Backups
from pipelines.batch.lock import CLAIM_PREFIX, LOCK_NAME
from pipelines.batch.manifest import IN_PLACE, PENDING_NAME, pending, results
from pipelines.batch.store import MANIFEST_NAME, digest

_OURS = frozenset({MANIFEST_NAME, PENDING_NAME, LOCK_NAME})  # in no row

# Status of an output: True if it is a fault.
STATUSES = {
    "right": False,
    "changed": True,  # other bytes than recorded
    "missing": True,
    "unfinished": True,  # an interrupted run may have replaced it: the same command redoes it
    "unknown": False,  # in no row of the manifest
    "leftover": False,  # a temporary file: the next run removes it
}
FAULTS = frozenset(status for status, fault in STATUSES.items() if fault)


@dataclass(frozen=True)
class Checked:
    """Status of one file of the folder."""

    key: str  # its path inside the folder, with forward slashes
    status: str  # one of `STATUSES`
    expected: str | None = None  # sha256 by the manifest; None for a file that is not in it
    found: str | None = None  # sha256 of its bytes; None if they were not, or cannot be, read


def verify(root: Path) -> Iterator[Checked]:
    """Hash every output in the manifest, and the originals kept in place; then list all other files.

    The last good row of an output counts. Memory holds a name and a digest per output, and no file.

    Raises:
        UsageError: The folder holds no manifest.
    """
    if not (root / MANIFEST_NAME).is_file():
        raise UsageError(f"{root}: holds no {MANIFEST_NAME}; the output folder of a run was expected")
    expected = {key: found for entry in results(root).values() for key, found in entry.digests.items()}
    backups = Backups()
    unfinished = {key.removeprefix(IN_PLACE) for key in pending(root)}
    for key in sorted(expected):
        yield _checked(root, key, expected[key], interrupted=key in unfinished)
    for key in _others(root):
        if key not in expected and (known := backups.expected(root / key)):
            checked = [_checked(root, key, original, interrupted=False) for original in known]
            yield next((found for found in checked if found.status == "right"), checked[-1])
        elif key not in expected:
            name = Path(key).name
            leftover = is_temporary(name) or name == f"{PENDING_NAME}.part"
            yield Checked(key, "leftover" if leftover else "unfinished" if key in unfinished else "unknown")


def _checked(root: Path, key: str, expected: str, *, interrupted: bool) -> Checked:
    path = root / key
    if not os.path.lexists(path):
        return Checked(key, "missing", expected)
    try:
        found = digest(path) if path.is_file() else None  # to read a pipe would wait for ever
    except InputError:
        found = None
    status = "right" if found == expected else "unfinished" if interrupted else "changed"
    return Checked(key, status, expected, found)


def _others(root: Path) -> Iterator[str]:
    """List all files below the folder except those of the manifest; skip unreadable folders."""
    for folder, names, found in os.walk(root):
        names.sort()
        for name in sorted(set(found) - _OURS):
            if not name.startswith(CLAIM_PREFIX):
                yield (Path(folder) / name).relative_to(root).as_posix()
