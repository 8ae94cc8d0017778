"""From inputs to a plan: which file is read, where its result goes, and what cannot be done."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from denoise.errors import UnreadableError, UnsupportedError, UsageError
from denoise.io.formats import FORMATS, Format, modality_of
from denoise.io.sniff import HEAD_BYTES, format_of, sniff
from denoise.signal import MODALITIES
from pipelines.batch.store import Remote, first_bytes

__all__ = [
    "MANIFEST_NAME",
    "Found",
    "Item",
    "Plan",
    "Problem",
    "find",
    "mirrored",
    "name_key",
    "plan",
    "refuse_overlap",
]

MANIFEST_NAME = "denoise-manifest.jsonl"
_SUFFIXES = {suffix for row in FORMATS.values() for suffix in row.suffixes}

RejectReason = Callable[[str], str | None]

_FOLDER_WITH_SUFFIX = "a folder, a {} file was expected; name it as an input to go into it"


@dataclass(frozen=True)
class Problem:
    """Something that was found and cannot be taken: where, and one sentence that says why."""

    path: Path
    error: str


@dataclass(frozen=True)
class Source:
    """A file that was found: `relative` is its place below the input, with the suffix that results have."""

    path: Path
    relative: Path
    modality: str
    size_bytes: int


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
        size_bytes: Of the source, when it was found.
    """

    source: Path
    destination: Path
    key: str
    relative: Path
    modality: str
    size_bytes: int = 0


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
    reject_reason: RejectReason = lambda _: None,
    exclude_dir: Path | None = None,
    accept: Callable[[Path], bool] = lambda _: True,
) -> Found:
    """Walk the inputs, files and folders alike, in name order.

    Inside a folder, hidden files, manifests, parts of other files and files of other kinds are passed over
    (the last are listed as ignored); a file that is named directly and cannot be taken is a problem.

    Args:
        inputs: Files and folders, here or remote.
        recursive: Whether to go into folders below the named ones.
        reject_reason: Why files of a modality are not accept, or None when they are.
        exclude_dir: A folder that is no input, even where it lies inside one: that of the references.
        accept: Shown every file inside a folder; one that it reject_reason is passed over unopened.

    Raises:
        UsageError: An input is not there, or is a folder that cannot be read.
    """
    found = Found()
    reasons = {modality: reject_reason(modality) for modality in MODALITIES}
    for path in inputs:
        if isinstance(path, Remote):
            _find_remote(path, recursive, reasons, found)
            continue
        if not os.path.lexists(path):
            raise UsageError(f"{path}: no such file or folder")
        if path.is_dir():
            _require_readable(path)
            for child in filter(accept, _walk(path, recursive, exclude_dir, found.problems)):
                if _is_part(child):
                    continue
                _sort_out(child, child.relative_to(path), reasons, found, found.ignored)
        else:
            _sort_out(path, Path(path.name), reasons, found, found.problems)
    return found


def _require_readable(folder: Path) -> None:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise UsageError(f"{folder}: the folder cannot be read: {error.strerror}") from error


def _sort_out(
    path: Path, relative: Path, reasons: Mapping[str, str | None], found: Found, unwanted: list[Problem]
) -> None:
    size_bytes = _size_bytes(path)
    kind = _kind(path) if size_bytes is not None else None
    _sort_in(path, relative, size_bytes, kind, reasons, found, unwanted)


def _sort_in(
    path: Path,
    relative: Path,
    size_bytes: int | None,
    kind: Format | None,
    reasons: Mapping[str, str | None],
    found: Found,
    unwanted: list[Problem],
) -> None:
    """Put a file where it belongs in what was found; one whose bytes do not tell goes by its name."""
    try:
        modality: str = (kind.modality if kind else "") or modality_of(path).name
    except UnsupportedError as error:
        unwanted.append(Problem(path, str(error)))
        return
    reason = reasons[modality]
    if reason:
        unwanted.append(Problem(path, f"{path}: {reason}"))
    elif size_bytes is not None:
        relative = relative.with_suffix(kind.written_suffix) if kind and kind.written_suffix else relative
        found.sources.append(Source(path, relative, modality, size_bytes))
    else:
        what = "a link that leads nowhere" if path.is_symlink() else "no regular file"
        found.problems.append(Problem(path, f"{path}: {what}; a file was expected"))


def _is_part(path: Path) -> bool:
    """Whether a file belongs to a header beside it, as the samples and annotations of a WFDB record do."""
    return path.suffix.lower() not in _SUFFIXES and os.path.lexists(path.with_suffix(".hea"))


def _size_bytes(path: Path) -> int | None:
    """The size of a regular file, or None: to open a pipe, say, would wait for ever."""
    try:
        status = os.stat(path)  # noqa: PTH116 - twice as fast, and this is done 50,000 times
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _kind(path: Path) -> Format | None:
    try:
        return sniff(path)
    except UnreadableError:  # it is listed as failed when its turn comes
        return None


def _find_remote(root: Remote, recursive: bool, reasons: Mapping[str, str | None], found: Found) -> None:
    """What a walk over a folder would give, from one listing of the store."""
    try:
        folder = root.is_dir()
        sizes = _sizes(root, recursive, found.problems) if folder else {root: root.size_bytes()}
        heads = list(first_bytes(tuple(sizes), HEAD_BYTES))
    except FileNotFoundError as error:
        raise UsageError(f"{root}: no such file or folder") from error
    except OSError as error:
        raise UsageError(f"{root}: cannot be read: {error.strerror}") from error
    for (path, size_bytes), head in zip(sizes.items(), heads, strict=True):
        relative = Path(*path.relative_to(root).parts) if folder else Path(path.file_name)
        kind = None if head is None else format_of(head, relative.suffix)
        unwanted = found.ignored if folder else found.problems
        _sort_in(path, relative, size_bytes, kind, reasons, found, unwanted)


def _sizes(root: Remote, recursive: bool, problems: list[Problem]) -> dict[Remote, int]:
    """Every file below, in name order, with its size."""
    listing = root.listing(recursive=recursive)
    sizes: dict[Remote, int] = {}
    odd: dict[Path, str] = {}
    for key in sorted(listing, key=lambda key: PurePosixPath(key).parts):
        *folders, name = PurePosixPath(key).parts
        if name == MANIFEST_NAME or any(part.startswith(".") and part != ".." for part in (*folders, name)):
            continue
        above = root
        for folder in folders:
            above /= folder
            if folder == "..":  # in a store a name like others, here the way out of the output folder
                odd[root / key] = "a name with .. in it, which no local file can have"
            elif _names_a_file(above):
                odd[above] = _FOLDER_WITH_SUFFIX.format(above.suffix)
            else:
                continue
            break
        else:
            sizes[root / key] = int(listing[key].get("size") or 0)
    problems += [Problem(path, f"{path}: {sentence}") for path, sentence in odd.items()]
    return sizes


def _walk(folder: Path, recursive: bool, exclude_dir: Path | None, problems: list[Problem]) -> Iterator[Path]:
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
                trouble(path, _FOLDER_WITH_SUFFIX.format(path.suffix))
            elif recursive and not (exclude_dir and exclude_dir.exists() and path.samefile(exclude_dir)):
                yield from visit(path, ancestors | {identity})

    return visit(folder, frozenset())


def _names_a_file(folder: Path) -> bool:
    suffix = folder.suffix.lower()
    return any(suffix in row.suffixes for row in FORMATS.values() if row.writable)


def plan(
    inputs: Iterable[Path],
    output: Path,
    *,
    recursive: bool = True,
    reject_reason: RejectReason = lambda _: None,
    exclude_dir: Path | None = None,
) -> Plan:
    """Give every input its output: the tree below each input is mirrored below `output`.

    `output` is a folder, unless there is one input, a file, and `output` has a suffix and is no folder. What
    lies `exclude_dir` is no input.

    Raises:
        UsageError: An input is not there, the output overlaps an input, two inputs have one output, or there
            is nothing to do.
    """
    inputs = tuple(inputs)
    for folder in inputs:
        if folder.is_dir():
            refuse_overlap(folder, output)
    found = find(inputs, recursive=recursive, reject_reason=reject_reason, exclude_dir=exclude_dir)
    if not found.sources and not found.problems:
        named = ", ".join(map(str, inputs))
        raise UsageError(
            f"{named}: nothing to do; none of {len(found.ignored)} files is of a kind that is asked for"
        )
    if len(inputs) == 1 and inputs[0].is_file() and output.suffix and not output.is_dir():
        items = [_renamed(source, output) for source in found.sources]
        root = output.parent
    else:
        items = [mirrored(source, output) for source in found.sources]
        root = output
    return Plan(root, _checked(items, root), tuple(found.problems), tuple(found.ignored))


def mirrored(source: Source, root: Path) -> Item:
    """The item that puts the result of a source at its own place below `root`."""
    return Item(
        source.path,
        root / source.relative,
        source.relative.as_posix(),
        source.relative,
        source.modality,
        source.size_bytes,
    )


def _renamed(source: Source, output: Path) -> Item:
    try:
        modality = modality_of(output).name
    except UnsupportedError as error:
        raise UsageError(str(error)) from error
    if modality != source.modality:
        raise UsageError(f"{output}: a name for {modality}, but {source.path} is {source.modality}")
    return Item(source.path, output, output.name, source.relative, modality, source.size_bytes)


def refuse_overlap(folder: Path, output: Path) -> None:
    """Refuse an output inside an input, or the reverse.

    An output below its input is read by the next run; an input below its output may be written over.

    Raises:
        UsageError: One is inside the other.
    """
    inside, outside = output.resolve(), folder.resolve()
    if inside.is_relative_to(outside):
        raise UsageError(f"{output}: the output is inside the input {folder}; choose a folder outside it")
    if outside.is_relative_to(inside):
        raise UsageError(f"{output}: the output holds the input {folder}; choose a folder beside it")


def _checked(items: list[Item], root: Path) -> tuple[Item, ...]:
    """The items, once each; refuses two sources with one destination, and a destination that is a source."""
    real = _RealPaths()
    sources = {real(item.source) for item in items}
    name_of = name_key(root)
    by_name: dict[str, Item] = {}
    for item in items:
        first = by_name.setdefault(name_of(item.key), item)
        if first is not item and real(first.source) != real(item.source):
            raise UsageError(
                f"{item.destination}: both {first.source} and {item.source} would be written there"
            )
        if real(item.destination) in sources:
            raise UsageError(f"{item.destination}: the output would replace an input; choose another output")
    return tuple(by_name.values())


class _RealPaths:
    """Paths without links; each folder is resolved once."""

    def __init__(self) -> None:
        self._folders: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        if isinstance(path, Remote):
            return str(path.resolve())
        if path.is_symlink():
            return os.path.realpath(path)
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], path.name)  # noqa: PTH118 - compared, never opened


def name_key(root: Path) -> Callable[[str], str]:
    """Key of a name in the file system of `root`: names with equal keys are the same file."""
    if not isinstance(root, Remote) and _folds_case(root):
        return lambda name: unicodedata.normalize("NFC", name).casefold()
    return lambda name: name


def _folds_case(folder: Path) -> bool:
    """Whether the file system that holds `folder` takes `A` and `a` for one name."""
    for place in (folder.absolute(), *folder.absolute().parents):
        twin = place.with_name(place.name.swapcase()) if place.name else place
        if twin != place and place.exists():
            return twin.exists() and twin.samefile(place)
    return False
