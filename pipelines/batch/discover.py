"""Plan a job: find the inputs, and give each its output."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from denoise.errors import UnsupportedError, UsageError
from denoise.io.formats import modality_of, record_parts, refusal
from denoise.signal import MODALITIES
from pipelines.batch.backups import Backups
from pipelines.batch.naming import BESIDE, Naming, source_of_result
from pipelines.batch.store import File, Walk, is_reserved, names_a_file, place

STDOUT = Path("-")  # of options that name a file
RejectReason = Callable[[str], str | None]


@dataclass(frozen=True)
class Problem:
    """File or folder that cannot be processed, and the reason in one sentence."""

    path: Path
    error: str
    backup: bool = False  # the original of a result in place, which is no input


@dataclass(frozen=True, slots=True)
class Source:
    """Input file; `relative` is its path below the input, with the suffix of its result."""

    path: Path
    relative: Path
    modality: str
    size_bytes: int


@dataclass
class Found:
    """Results of a walk over the inputs."""

    sources: list[Source] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Item:
    """One file to process."""

    source: Path  # file to read
    destination: Path  # file to write
    key: str  # the destination's path inside the output folder, with forward slashes
    relative: str  # the source's path below the input that led to it
    modality: str  # a name in `MODALITIES`
    size_bytes: int = 0  # size of the source when it was found
    backup: Path | None = None  # in place: file beside the source that keeps its original
    proven: str | None = None  # sha256 of the source if it is known to be a result of the backup
    parts: tuple[str, ...] = ()  # keys of the other files of a result that is a record of several

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all files of the result."""
        return self.key, *self.parts

    def output(self, key: str) -> Path:
        """File to write for one of `keys`; they lie in one folder."""
        return self.destination.with_name(PurePosixPath(key).name)


@dataclass(frozen=True)
class Plan:
    """Every input with its output."""

    root: Path  # folder that holds the outputs and the manifest
    items: tuple[Item, ...]  # files to process
    problems: tuple[Problem, ...]  # inputs that cannot be processed
    ignored: tuple[Problem, ...]  # files of other kinds, backups, and results beside their inputs
    renames: bool = False  # the output is the name of one file, not a folder

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the items, in table order."""
        present = {item.modality for item in self.items}
        return tuple(name for name in MODALITIES if name in present)


def find(
    inputs: Iterable[Path],
    *,
    recursive: bool = True,
    reject_reason: RejectReason = lambda _: None,
    exclude_dir: Path | None = None,
    accept: Callable[[Path], bool] = lambda _: True,
    listed: Collection[Path] = (),
) -> Found:
    """Walk the inputs, files and folders alike, in name order.

    Inside a folder, hidden files, manifests and parts of other files are skipped, files of other kinds,
    backups and results beside their inputs listed as ignored; an input file that cannot be processed is a
    problem.

    Args:
        reject_reason: Gives the reason to reject files of a modality, or None.
        exclude_dir: Folder to skip even if it is inside an input (the references).
        accept: Called with every file inside a local folder; False skips it unopened.
        listed: Inputs of a list, which may be older than the folders: one that is gone is a problem.

    Raises:
        UsageError: Another input does not exist, or is a folder that cannot be read.
    """
    found = Found()
    reasons = {modality: reject_reason(modality) for modality in MODALITIES}

    def on_problem(path: Path, sentence: str) -> None:
        found.problems.append(Problem(path, f"{path}: {sentence}"))

    walk, backups = Walk(recursive, exclude_dir, accept, on_problem), Backups()
    for root in inputs:
        if _is_gone(root, listed):
            on_problem(root, "no such file or folder, though the list names it")
            continue
        seen: set[Path] = set()  # of a store, where a look at each file takes long; in name order

        def is_file(path: Path, seen: set[Path] = seen) -> bool:
            return path in seen if seen else path.is_file()

        for file in place(root).files(walk):
            if not place(root).is_local:
                seen.add(file.path)
            modality = file.format.modality if file.format else ""
            if file.path == root:
                _sort_in(file, reasons, found, found.problems)
            elif backups.is_backup(file.path, modality, is_file):
                found.ignored.append(_backup(file.path))
            elif (original := source_of_result(file.path)) and is_file(original):
                sentence = f"{file.path}: is the result of {original.name} beside it; expected that file"
                found.ignored.append(Problem(file.path, sentence))
            else:
                _sort_in(file, reasons, found, found.ignored)
    return found


def _is_gone(path: Path, listed: Collection[Path]) -> bool:
    """True for an input of a list that is no longer there, or whose name no file can have."""
    return path in listed and place(path).is_local and not os.path.lexists(path)


def _backup(path: Path) -> Problem:
    return Problem(path, f"{path}: is the backup of a file beside it; expected that file", backup=True)


def _sort_in(file: File, reasons: Mapping[str, str | None], found: Found, unwanted: list[Problem]) -> None:
    """Add a file to the list it belongs to; its name decides where its bytes do not."""
    path, relative, row = file.path, file.relative, file.format
    if row and row.advice:  # known, and not read: a file of our kinds has failed, wherever it is found
        (found.problems if row.modality else unwanted).append(Problem(path, str(refusal(path, row))))
        return
    try:
        modality: str = (row.modality if row else "") or modality_of(path).name
    except UnsupportedError as error:
        unwanted.append(Problem(path, str(error)))
        return
    reason = reasons[modality]
    if reason:
        unwanted.append(Problem(path, f"{path}: {reason}"))
    elif file.size_bytes is not None:
        relative = relative.with_suffix(row.written_suffix) if row and row.written_suffix else relative
        found.sources.append(Source(path, relative, modality, file.size_bytes))
    else:
        what = "a link that leads nowhere" if path.is_symlink() and not path.exists() else "no regular file"
        found.problems.append(Problem(path, f"{path}: {what}; a file was expected"))


def plan(
    inputs: Iterable[Path],
    output: Path,
    *,
    recursive: bool = True,
    reject_reason: RejectReason = lambda _: None,
    exclude_dir: Path | None = None,
    naming: Naming = Naming(),  # noqa: B008 - frozen
    listed: Collection[Path] = (),
) -> Plan:
    """Give every input its output: the tree below each input is mirrored below `output`.

    `output` is a folder, unless the only input is a file, and `output` has a suffix and is no folder. In
    place, or where single files lie in `output` itself, results lie beside their inputs.

    Of inputs that would have one output, the one whose name it is gets it; others are problems, each with
    the name of another.

    Args:
        listed: See `find`.

    Raises:
        UsageError: An input that is not listed does not exist, the output overlaps an input or is below a
            file, or there is nothing to do.
    """
    inputs = tuple(inputs)
    present = [path for path in inputs if not _is_gone(path, listed)]
    for folder in present:
        if folder.is_dir() and not naming.in_place:
            refuse_overlap(folder, output)
    found = find(
        inputs, recursive=recursive, reject_reason=reject_reason, exclude_dir=exclude_dir, listed=listed
    )
    renames = (
        len(inputs) == 1
        and bool(present)
        and inputs[0].is_file()
        and bool(output.suffix)
        and not output.is_dir()
    )
    root = output.parent if renames else output
    if naming.in_place:  # by their real paths: a file is cleaned once, whatever links lead to it
        found = _without_backups(found, naming)
    if not found.sources and not found.problems:
        raise UsageError(_nothing_to_do(inputs, found.ignored))
    sources = [source for source in found.sources if not naming.is_result(source.path)]
    if naming.in_place:
        items = [_beside(source, root.resolve(), source.path.name) for source in sources]
    elif naming.template == BESIDE:
        items = [
            _beside(source, root, naming.rename(source.relative, source.modality).name) for source in sources
        ]
        renames = True
    elif renames:
        items = [_renamed(source, output) for source in sources]
    else:
        items = [mirrored(source, output, naming) for source in sources]
    refuse_below_file(root)
    if not renames:
        refuse_file_name(root)
    planned, collisions = _checked(items, root, in_place=naming.in_place)
    return Plan(root, planned, (*found.problems, *collisions), tuple(found.ignored), renames)


def _without_backups(found: Found, naming: Naming) -> Found:
    """Take backups from what is to be cleaned in place, also if they were named or a link leads to them."""
    backups = Backups()

    def is_backup(path: Path, modality: str = "") -> bool:
        return naming.is_backup(path) or backups.is_backup(path, modality, Path.is_file)

    rest = Found(ignored=[replace(one, backup=one.backup or is_backup(one.path)) for one in found.ignored])
    for source in map(_resolved, found.sources):
        if is_backup(source.path, source.modality):
            rest.ignored.append(_backup(source.path))
        else:
            rest.sources.append(source)
    for problem in found.problems:
        if is_backup(problem.path):
            rest.ignored.append(_backup(problem.path))
        else:
            rest.problems.append(problem)
    return rest


def _nothing_to_do(inputs: Iterable[Path], ignored: Collection[Problem]) -> str:
    kept = sum(problem.backup for problem in ignored)
    backups = (
        f"; {kept} of them are backups of files beside them, which no run in place changes" if kept else ""
    )
    named = ", ".join(map(str, inputs))
    return f"{named}: nothing to do; none of {len(ignored)} files is of a kind that is asked for{backups}"


def mirrored(source: Source, root: Path, naming: Naming = Naming()) -> Item:  # noqa: B008 - frozen
    """Item that writes the result of a source to its mirrored path below `root`."""
    named = naming.rename(source.relative, source.modality)
    return _item(source, root / named, named.as_posix())


def _item(source: Source, destination: Path, key: str) -> Item:
    """Item with all files of its result."""
    files = record_parts(source.path, destination) if place(source.path).is_local else {}
    parts = tuple(PurePosixPath(key).with_name(path.name).as_posix() for path in files.values())
    size_bytes = source.size_bytes + sum(path.stat().st_size for path in files if path.is_file())
    relative = source.relative.as_posix()
    return Item(source.path, destination, key, relative, source.modality, size_bytes, parts=parts)


def _too_long(item: Item, folder: Path) -> str | None:
    """Reason why no file can have the name of a result; None if one can.

    Args:
        folder: One that exists, on the disk of the result.
    """
    name = item.destination.name
    for path in (item.destination, folder / name) if place(item.destination).is_local else ():
        try:
            os.stat(path)  # noqa: PTH116 - done 50,000 times
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return f"{item.source}: its result cannot be named {name}: {error.strerror}"
    return None


def record_problem(item: Item) -> str | None:
    """Reason why a record of several files cannot be written where it is planned; None if it can."""
    if not item.parts:
        return None
    start = f"{item.source}: is a record of {len(item.parts) + 1} files"
    if item.source == item.destination:
        return f"{start}, which do not take its place in one step; write the result to a folder: -o FOLDER"
    if not place(item.destination).is_local:
        return f"{start}; write the result to a folder of this machine, and copy that"
    reserved = next((key for key in item.parts if is_reserved(PurePosixPath(key).name)), None)
    return f"{start}, one of them {item.output(reserved).name}; rename it" if reserved else None


def _resolved(source: Source) -> Source:
    """Follow links, of the file and of its folders; a path without any stays as it was given."""
    path = source.path.resolve()
    return source if path == source.path.absolute() else replace(source, path=path)


def _beside(source: Source, root: Path, name: str) -> Item:
    """Item whose result lies in the folder of its source, below `root`."""
    destination = source.path.with_name(name)
    key = Path(os.path.relpath(destination.absolute(), root.absolute())).as_posix()
    return _item(source, destination, key)


def _renamed(source: Source, output: Path) -> Item:
    try:
        same = output.suffix.lower() == source.path.suffix.lower()
        modality = source.modality if same else modality_of(output, source.modality).name
    except UnsupportedError as error:
        raise UsageError(str(error)) from error
    if modality != source.modality:
        raise UsageError(f"{output}: a name for {modality}, but {source.path} is {source.modality}")
    return _item(source, output, output.name)


def refuse_overlap(folder: Path, output: Path) -> None:
    """Refuse an output inside an input, or the reverse.

    The next run would read an output below its input; results may overwrite an input below the output.

    Raises:
        UsageError: One is inside the other.
    """
    inside, outside = output.resolve(), folder.resolve()
    if inside.is_relative_to(outside):
        raise UsageError(f"{output}: the output is inside the input {folder}; choose a folder outside it")
    if outside.is_relative_to(inside):
        raise UsageError(f"{output}: the output holds the input {folder}; choose a folder beside it")


def refuse_file_name(folder: Path, suffixes: Collection[str] = ()) -> None:
    """Refuse to make a folder whose name is that of a file, such as `a.png`.

    Args:
        suffixes: Those of files, besides those of the formats.

    Raises:
        UsageError: The name has such a suffix, and no such folder exists.
    """
    named = names_a_file(folder) or folder.suffix.lower() in suffixes
    if place(folder).is_local and named and not folder.exists():
        raise UsageError(
            f"{folder}: is the name of a file, and these inputs need a folder; expected another name, or a "
            "folder that exists"
        )


def refuse_below_file(folder: Path) -> None:
    """Refuse a folder for outputs that is a file or `-`, is to be made inside one, or steps out of no folder.

    `new/../a` is no path before `new` is made, and `a` after it, so no guard would see what is there.

    Raises:
        UsageError: No such folder can be made.
    """
    if not place(folder).is_local:  # a store has no folders, nor a local path to look at
        return
    if folder.parts[:1] == (STDOUT.name,):
        raise UsageError("-: is standard output, for one file of denoise clean; expected another name")
    for path in (folder, *folder.parents):
        if path.name == ".." and not path.parent.is_dir():
            raise UsageError(f"{folder}: {path.parent} is no folder to step out of; name the path without it")
    above = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), None)
    if above and not above.is_dir():
        kind = "file" if above.is_file() else "device, pipe or socket" if above.exists() else "broken link"
        raise UsageError(f"{above}: is a {kind}; expected a folder to write to")


def _checked(
    items: list[Item], root: Path, *, in_place: bool = False
) -> tuple[tuple[Item, ...], list[Problem]]:
    """Drop duplicate items, split off those with one destination; refuse a destination that is a source."""
    folders: dict[Path, str] = {}

    def real(path: Path) -> str:
        return place(path).real_path(folders)

    sources = {real(item.source) for item in items}
    sources |= {real(path) for item in items if item.parts for path in record_parts(item.source, item.source)}
    name_key = place(root).name_key()
    by_name: dict[str, Item] = {}
    problems: dict[Path, Problem] = {}
    there = root
    if place(root).is_local:
        there = next(path for path in (root, *root.absolute().parents) if path.exists())
    for item in items:
        if reason := _too_long(item, there) or record_problem(item):
            problems[item.source] = Problem(item.source, reason)
            continue
        for key in item.keys:
            first, output = by_name.setdefault(name_key(key), item), item.output(key)
            if first is not item and real(first.source) != real(item.source):
                both = f"both {first.source} and {item.source} would be written there"
                advice = (
                    "give each an output folder of its own" if first.parts or item.parts else "rename one"
                )
                renamed = [one for one in (first, item) if one.source.name != one.destination.name]
                if renamed == [first]:  # the other keeps its name
                    by_name[name_key(key)] = item
                for one in renamed if len(renamed) == 1 else (first, item):
                    problems.setdefault(one.source, Problem(one.source, f"{output}: {both}; {advice}"))
            if not in_place and real(output) in sources:
                raise UsageError(f"{output}: the output would replace an input; choose another output")
    alone = dict.fromkeys(by_name.values())
    return tuple(item for item in alone if item.source not in problems), list(problems.values())
