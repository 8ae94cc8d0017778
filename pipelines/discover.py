"""From inputs to a plan: which file is read, where its result goes, and what cannot be done."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from denoise.errors import UnsupportedError, UsageError
from denoise.signal import MODALITIES, modality_of

__all__ = ["MANIFEST_NAME", "Found", "Item", "Plan", "Problem", "find", "plan"]

MANIFEST_NAME = "denoise-manifest.jsonl"

Declines = Callable[[str], str | None]


@dataclass(frozen=True)
class Problem:
    """Something that was found and cannot be taken: where, and one sentence that says why."""

    path: Path
    error: str


@dataclass(frozen=True)
class Source:
    """A file that was found: `relative` is its place below the input that led to it."""

    path: Path
    relative: Path
    modality: str


@dataclass
class Found:
    """What a walk over the inputs gave."""

    sources: list[Source] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class Item:
    """One file to process.

    Args:
        source: What is read.
        destination: What is written.
        key: The destination's path inside the output folder, with forward slashes.
        relative: The source's path below the input that led to it.
        modality: A name in `MODALITIES`.
    """

    source: Path
    destination: Path
    key: str
    relative: Path
    modality: str


@dataclass(frozen=True)
class Plan:
    """Every input with its output; `root` is the folder that holds the outputs and the manifest."""

    root: Path
    items: tuple[Item, ...]
    problems: tuple[Problem, ...]
    ignored: tuple[Problem, ...]

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities among the items, in table order."""
        present = {item.modality for item in self.items}
        return tuple(name for name in MODALITIES if name in present)


def find(
    inputs: Iterable[Path],
    *,
    recursive: bool = True,
    declines: Declines = lambda _: None,
    apart: Path | None = None,
) -> Found:
    """Walk the inputs, files and folders alike, in name order.

    Inside a folder, hidden files, manifests and files of other kinds are passed over (the last are listed as
    ignored); a file that is named directly and cannot be taken is a problem.

    Args:
        inputs: Files and folders.
        recursive: Whether to go into folders below the named ones.
        declines: Why files of a modality are not wanted, or None when they are.
        apart: A folder that is no input, even where it lies inside one: that of the references.

    Raises:
        UsageError: An input is not there.
    """
    found = Found()
    reasons = {modality: declines(modality) for modality in MODALITIES}
    for path in inputs:
        if not os.path.lexists(path):
            raise UsageError(f"{path}: no such file or folder")
        if path.is_dir():
            for child in _walk(path, recursive, apart, found.problems):
                _sort_out(child, child.relative_to(path), reasons, found, found.ignored)
        else:
            _sort_out(path, Path(path.name), reasons, found, found.problems)
    return found


def _sort_out(
    path: Path, relative: Path, reasons: Mapping[str, str | None], found: Found, unwanted: list[Problem]
) -> None:
    try:
        modality = modality_of(path).name
    except UnsupportedError as error:
        unwanted.append(Problem(path, str(error)))
        return
    reason = reasons[modality]
    if reason:
        unwanted.append(Problem(path, f"{path}: {reason}"))
    elif os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a link leads out of reach
        found.sources.append(Source(path, relative, modality))
    else:
        found.problems.append(Problem(path, f"{path}: a link that leads nowhere; a file was expected"))


def _walk(folder: Path, recursive: bool, apart: Path | None, problems: list[Problem]) -> Iterator[Path]:
    """Every file below `folder`. Linked folders are followed, but never into one that is being walked."""

    def trouble(path: Path, sentence: str) -> None:
        problems.append(Problem(path, f"{path}: {sentence}"))

    def visit(folder: Path, ancestors: frozenset[tuple[int, int]]) -> Iterator[Path]:
        try:
            here = folder.stat()
            children = sorted(os.scandir(folder), key=lambda child: child.name)
        except OSError as error:
            trouble(folder, f"the folder cannot be read: {error.strerror}")
            return
        identity = (here.st_dev, here.st_ino)
        if identity in ancestors:
            trouble(folder, "a link back to a folder above it; a file or another folder was expected")
            return
        for child in children:
            path = folder / child.name
            if child.name.startswith(".") or child.name == MANIFEST_NAME:
                continue
            try:
                is_folder = child.is_dir()
            except OSError as error:  # a link that leads back to itself, or out of reach
                trouble(path, f"the link cannot be followed: {error.strerror}")
                continue
            if not is_folder:
                yield path
            elif _names_a_file(path):
                trouble(
                    path, f"a folder, a {path.suffix} file was expected; name it as an input to go into it"
                )
            elif recursive and not (apart and apart.exists() and path.samefile(apart)):
                yield from visit(path, ancestors | {identity})

    return visit(folder, frozenset())


def _names_a_file(folder: Path) -> bool:
    return any(folder.suffix.lower() in modality.suffixes for modality in MODALITIES.values())


def plan(
    inputs: Iterable[Path],
    output: Path,
    *,
    recursive: bool = True,
    declines: Declines = lambda _: None,
    apart: Path | None = None,
) -> Plan:
    """Give every input its output: the tree below each input is mirrored below `output`.

    `output` is a folder, unless there is one input, a file, and `output` has a suffix and is no folder. What
    lies `apart` is no input.

    Raises:
        UsageError: An input is not there, the output overlaps an input, two inputs have one output, or there
            is nothing to do.
    """
    inputs = tuple(inputs)
    for folder in inputs:
        if folder.is_dir():
            _refuse_overlap(folder, output)
    found = find(inputs, recursive=recursive, declines=declines, apart=apart)
    if not found.sources and not found.problems:
        named = ", ".join(map(str, inputs))
        raise UsageError(
            f"{named}: nothing to do; none of {len(found.ignored)} files is of a kind that is asked for"
        )
    if len(inputs) == 1 and inputs[0].is_file() and output.suffix and not output.is_dir():
        items = [_renamed(source, output) for source in found.sources]
        root = output.parent
    else:
        items = [_mirrored(source, output) for source in found.sources]
        root = output
    return Plan(root, _checked(items, root), tuple(found.problems), tuple(found.ignored))


def _mirrored(source: Source, root: Path) -> Item:
    return Item(
        source.path, root / source.relative, source.relative.as_posix(), source.relative, source.modality
    )


def _renamed(source: Source, output: Path) -> Item:
    try:
        modality = modality_of(output).name
    except UnsupportedError as error:
        raise UsageError(str(error)) from error
    if modality != source.modality:
        raise UsageError(f"{output}: a name for {modality}, but {source.path} is {source.modality}")
    return Item(source.path, output, output.name, source.relative, modality)


def _refuse_overlap(folder: Path, output: Path) -> None:
    """An output below its input is read by the next run; an input below its output may be written over."""
    inside, outside = output.resolve(), folder.resolve()
    if inside.is_relative_to(outside):
        raise UsageError(f"{output}: the output is inside the input {folder}; choose a folder outside it")
    if outside.is_relative_to(inside):
        raise UsageError(f"{output}: the output holds the input {folder}; choose a folder beside it")


def _checked(items: list[Item], root: Path) -> tuple[Item, ...]:
    """The items, once each; refuses two sources with one destination, and a destination that is a source."""
    sources = {os.path.realpath(item.source) for item in items}
    folds = _folds_case(root)
    by_name: dict[str, Item] = {}
    for item in items:
        name = unicodedata.normalize("NFC", item.key).casefold() if folds else item.key
        first = by_name.setdefault(name, item)
        if os.path.realpath(first.source) != os.path.realpath(item.source):
            raise UsageError(
                f"{item.destination}: both {first.source} and {item.source} would be written there"
            )
        if os.path.realpath(item.destination) in sources:
            raise UsageError(f"{item.destination}: the output would replace an input; choose another output")
    return tuple(by_name.values())


def _folds_case(folder: Path) -> bool:
    """Whether the file system that holds `folder` takes `A` and `a` for one name."""
    for place in (folder.absolute(), *folder.absolute().parents):
        twin = place.with_name(place.name.swapcase()) if place.name else place
        if twin != place and place.exists():
            return twin.exists() and twin.samefile(place)
    return False
