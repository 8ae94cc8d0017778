"""Names of results: as their inputs, by a template, in another format, or in place of the inputs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from denoise.errors import UsageError
from denoise.io.formats import FORMATS, format_of_suffix, refused_suffix
from pipelines.batch.store import place

BESIDE = "{stem}.clean{ext}"  # of the results of single files for which no folder is named
NAMED_FORMATS = {
    **{"png": ".png", "jpeg": ".jpg", "webp": ".webp", "tiff": ".tif", "dng": ".dng"},
    **{"wav": ".wav", "flac": ".flac", "opus": ".opus", "mp3": ".mp3", "m4a": ".m4a"},
}


@dataclass(frozen=True)
class Naming:
    """Names of results."""

    template: str | None = None  # text with `{stem}` and `{ext}`; None keeps the name
    format: str = "same"  # a key of `NAMED_FORMATS`, for files of its kind; or `same`
    in_place: bool = False  # results take the place of their inputs
    backup: str | None = None  # suffix of the originals that are kept in place

    def check(self) -> None:
        """Refuse a template that names no file.

        Raises:
            UsageError: It has other fields, no stem, or a folder.
        """
        if self.template is None:
            return
        if "{stem}" not in self.template or os.sep in self.template or "/" in self.template:
            raise UsageError(f"template: {self.template!r} needs {{stem}} and no folder, as in {BESIDE}")
        try:
            self.template.format(stem="a", ext=".b")
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(f"template: {self.template!r} may hold {{stem}} and {{ext}} only") from error

    def rename(self, path: Path, modality: str) -> Path:
        """Name the result of a file."""
        suffix = NAMED_FORMATS.get(self.format, "")
        row = format_of_suffix(suffix)
        if row and row.modality == modality and path.suffix.lower() not in row.suffixes:
            path = path.with_suffix(suffix)
        if self.template is None:
            return path
        return path.with_name(self.template.format(stem=path.stem, ext=path.suffix))

    def is_result(self, path: Path) -> bool:
        """True for a result beside its input, which an earlier run left."""
        return self.template == BESIDE and source_of_result(path) is not None

    def is_backup(self, path: Path) -> bool:
        """True for a name that an original is kept under."""
        return self.backup is not None and path.name.endswith(self.backup)


def source_of_result(path: Path) -> Path | None:
    """Name the input of a result that lies beside it; None for another name."""
    stem = Path(path.stem)
    return path.with_name(stem.stem + path.suffix) if stem.suffix == ".clean" else None


def is_backup_suffix(text: str) -> bool:
    """True for a suffix that no file of a known format has, so that backups are never inputs."""
    suffix = Path("a" + text).suffix
    known = suffix.lower() in FORMATS["text"].loose_suffixes or format_of_suffix(suffix)
    return re.fullmatch(r"\.[\w.-]+", text) is not None and not known and refused_suffix(suffix) is None


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - raises nothing, not even for a name that is too long


def common_folder(inputs: Iterable[Path]) -> Path:
    """Deepest folder that holds all inputs, or is the only one.

    Raises:
        UsageError: Not all inputs are on one disk of this machine.
    """
    inputs = tuple(inputs)
    if remote := next((path for path in inputs if not place(path).is_local), None):
        raise UsageError(f"{remote}: is elsewhere; name an output for it: -o")
    folders = [path.absolute() if _is_folder(path) else path.absolute().parent for path in inputs]
    try:
        return Path(os.path.relpath(os.path.commonpath(folders)))
    except ValueError as error:  # drives of Windows
        raise UsageError("the inputs are on several drives; name an output folder for each: -o") from error
