"""Backups: the originals that `--in-place --backup` keeps beside their results, which are no inputs."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from denoise.errors import InputError, OutputError
from denoise.io.formats import FORMATS, format_of_suffix
from pipelines.batch.store import MANIFEST_NAME, digest, json_lines, place

_SUFFIXES = {suffix for row in FORMATS.values() for suffix in row.suffixes}

Origins = dict[str, str]  # of a file cleaned in place: sha256 of what was cleaned, by that of the result


class Backups:
    """Finds backups, by the manifests of all folders above a file; each is read once, when it is needed."""

    def __init__(self) -> None:
        self._origins: dict[Path, dict[str, Origins]] = {}  # of a folder's files, by their names
        self._rows: dict[Path, dict[Path, dict[str, Origins]]] = {}  # of a manifest: by folder and name
        self._names: dict[Path, list[str]] = {}  # of a folder's files, sorted

    def origins(self, path: Path) -> Origins:
        """Look up what was cleaned in place at a path, in every run."""
        return self._in(path.parent).get(path.name, {})

    def original(self, path: Path, found: str) -> Path | None:
        """Find the backup of a result, which holds what was cleaned first.

        Args:
            found: sha256 of the result.

        Raises:
            InputError: A file beside the result cannot be read.
        """
        chain = [found]
        origins = self.origins(path)
        while (before := origins.get(chain[-1])) and before not in chain[1:]:
            chain.append(before)
        beside = {digest(other): other for other in self._beside(path)} if chain[1:] else {}
        return next((beside[before] for before in reversed(chain[1:]) if before in beside), None)

    def expected(self, path: Path) -> list[str]:
        """sha256 that a file may have as the backup of another, by the runs in place that cleaned that."""
        origins = self._in(path.parent)
        return [before for name in _shorter(path.name) for before in origins.get(name, {}).values()]

    def is_backup(self, path: Path, modality: str, is_file: Callable[[Path], bool]) -> bool:
        """True for a backup: a manifest proves it, or else it is a file's name with a suffix of no format.

        A name counts if both files are of one kind: without a manifest, a.png.orig beside a.png does.

        Args:
            modality: Kind of the file by its bytes; empty if they do not decide.
            is_file: Tells if there is a file.
        """
        suffix = path.suffix.lower()
        if not suffix or suffix in _SUFFIXES:
            return False
        by_name = modality and suffix not in FORMATS["text"].loose_suffixes
        known = self.expected(path)
        with suppress(InputError):
            if known and digest(path) in known:
                return True
        for name in _shorter(path.name):
            of = format_of_suffix(os.path.splitext(name)[1]) if by_name else None  # noqa: PTH122 - of a name
            if of and of.modality == modality and is_file(path.with_name(name)):
                return True
        return False

    def _in(self, folder: Path) -> Mapping[str, Origins]:
        """Look up what was cleaned in place in a folder, by its name."""
        if not place(folder).is_local:  # no file of a store is cleaned in place
            return {}
        if folder not in self._origins:
            merged: dict[str, Origins] = {}
            real = folder.resolve()
            for above in (real, *real.parents):
                if above not in self._rows:
                    self._rows[above] = _rows(above)
                for name, origins in self._rows[above].get(real, {}).items():
                    merged.setdefault(name, {}).update(origins)
            self._origins[folder] = merged
        return self._origins[folder]

    def _beside(self, path: Path) -> Iterator[Path]:
        """Files whose names begin with that of a file and a dot."""
        folder, start = path.parent, f"{path.name}."
        if folder not in self._names:
            self._names[folder] = sorted(os.listdir(folder)) if folder.is_dir() else []  # noqa: PTH208 - names
        names = self._names[folder]
        for name in names[bisect_left(names, start) :]:
            if not name.startswith(start):
                return
            if (folder / name).is_file():
                yield folder / name


def _shorter(name: str) -> Iterator[str]:
    """Names that a name is, with suffixes added."""
    end = name.rfind(".")
    while end > 0:
        yield name[:end]
        end = name.rfind(".", 0, end)


def _rows(root: Path) -> dict[Path, dict[str, Origins]]:
    """Read what was cleaned in place below a folder by its manifest, by folder and name."""
    found: dict[Path, dict[str, Origins]] = {}
    with suppress(OutputError):  # a folder of somebody else
        for row in json_lines(root / MANIFEST_NAME):
            match row:
                case {
                    "status": "ok" | "salvaged",
                    "source": source,
                    "output": output,
                    "key": str(key),
                    "input_digest": str(before),
                    "output_digest": str(after),
                } if source == output:
                    path = root / key
                    found.setdefault(path.parent, {}).setdefault(path.name, {})[after] = before
    return found
