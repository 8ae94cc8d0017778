"""WFDB records: a header in text (`.hea`), and the files of samples that it names, as 16, 80, 212 or FLAC.

The header is the record; a result also has its files of samples and annotations. Samples get the changes;
annotations stay as they are; the header gets the new names of files, if the record is renamed, and the first
value and checksum of changed signals. The header is put into place last.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from denoise.errors import OutputError, UnreadableError, UnsupportedError
from denoise.io.atomic import replacing
from denoise.io.formats import FORMATS
from denoise.io.sensor.base import LogOptions, SensorFormat
from denoise.io.sensor.integers import (
    CODES,
    FlacStore,
    ScaledReader,
    ScaledWriter,
    Signal,
    Store,
    scaled_reader,
)

_FORMATS = ("16", "80", "212")
_FLAC = {"508": "8", "516": "16", "524": "24"}
_DEFAULT_RATE, _DEFAULT_GAIN = 250.0, 200.0  # header(5)
_RECORD = re.compile(
    r"(?P<name>\w+)(?:/\d+)?\s+(?P<signals>\d+)(?:\s+(?P<rate>[\d.]+)\S*(?:\s+(?P<samples>\d+))?)?"
)
_SIGNAL = re.compile(
    r"(?P<file>\S+)\s+(?P<format>\d+)(?:x(?P<frame>\d+))?(?::\d+)?(?:\+(?P<offset>\d+))?(?:\s+"
    r"(?P<gain>[-+.\deE]+)(?:\((?P<baseline>-?\d+)\))?(?:/\S+)?(?:\s+-?\d+(?:\s+(?P<adc_zero>-?\d+)"
    r"(?:\s+(?P<first>-?\d+)(?:\s+(?P<checksum>-?\d+)(?:\s+-?\d+(?:\s+(?P<name>.*))?)?)?)?)?)?)?\s*$"
)


@dataclass(frozen=True)
class _Header:
    """A header, line by line; `lines` keep their ends."""

    lines: tuple[str, ...]
    record: int  # the line that describes the record
    signals: tuple[int, ...]  # the lines that describe its signals


def _parse(path: Path) -> _Header:
    lines = path.read_bytes().decode("latin-1").splitlines(keepends=True)
    filled = [n for n, line in enumerate(lines) if line.strip() and not line.startswith("#")]
    match = _RECORD.match(lines[filled[0]]) if filled else None
    if match is None:
        raise UnreadableError(f"{path}: does not begin with a record and its signals; expected a WFDB header")
    if lines[filled[0]][match.end("name")] == "/":
        raise UnsupportedError(f"{path}: is a record of several segments; clean the headers of its segments")
    rest = lines[filled[0]][match.end() :].split()
    if rest and match["samples"] is None:
        what = "rate" if match["rate"] is None else "number of samples"
        raise UnreadableError(f"{path}: a {what} of {rest[0]}; expected a number")
    count = int(match["signals"])
    if not 0 < count < len(filled):
        raise UnreadableError(f"{path}: {len(filled) - 1} lines for {count} signals; expected one for each")
    return _Header(tuple(lines), filled[0], tuple(filled[1 : count + 1]))


def _reader(path: Path, options: LogOptions, recording: int, block: int) -> ScaledReader:
    header = _parse(path)
    record = _RECORD.match(header.lines[header.record])
    assert record is not None
    rate = float(record["rate"] or _DEFAULT_RATE)
    if not rate > 0:
        raise UnreadableError(f"{path}: a rate of {rate:g} Hz; expected one above 0")
    rows = [_row(path, header.lines[line]) for line in header.signals]
    files = list(dict.fromkeys(row["file"] for row in rows))
    samples = int(record["samples"] or 0)
    stores = [_store(path, [row for row in rows if row["file"] == file], samples) for file in files]
    if len({store.records for store in stores}) > 1:
        raise UnreadableError(f"{path}: its files have different numbers of samples; expected the same")
    signals = []
    for number, row in enumerate(rows):
        place = sum(other["file"] == row["file"] for other in rows[:number])
        code = CODES[_FLAC.get(row["format"], row["format"])]
        gain = float(row["gain"] or 0) or _DEFAULT_GAIN
        zero = float(row["baseline"] or row["adc_zero"] or 0)
        name = (row["name"] or "").strip() or str(number + 1)
        signals.append(
            Signal(name, files.index(row["file"]), place, gain, zero, code.low + 1, code.high, code.low, rate)
        )
    return scaled_reader(path, stores, signals, options, recording, block, header=header)


def _row(path: Path, line: str) -> dict[str, str]:
    match = _SIGNAL.match(line)
    if match is None:
        raise UnreadableError(
            f"{path}: {line.strip()[:60]!r} does not describe a signal; expected a WFDB header"
        )
    row = match.groupdict()
    if row["format"] not in (*_FORMATS, *_FLAC) or row["frame"] not in (None, "1"):
        kind = row["format"] + (f"x{row['frame']}" if row["frame"] else "")
        known = ", ".join((*_FORMATS, *_FLAC))
        raise UnsupportedError(f"{path}: a signal in format {kind}; expected {known}: convert it by xform")
    if Path(row["file"]).name != row["file"] or row["file"] in ("~", "-", ".", "..", path.name):
        raise UnsupportedError(f"{path}: samples in {row['file']!r}; expected a file beside the header")
    try:
        valid = np.isfinite(float(row["gain"] or 0))
    except ValueError:
        valid = False
    if not valid:
        raise UnreadableError(f"{path}: a gain of {row['gain']!r}; expected a number")
    return row


def _store(path: Path, rows: list[dict[str, str]], samples: int) -> Store:
    file = path.with_name(rows[0]["file"])
    try:
        size_bytes = file.stat().st_size
    except OSError as error:
        raise UnreadableError(
            f"{path}: its samples, {file.name}, are missing; expected them beside it"
        ) from error
    form, offset = rows[0]["format"], int(rows[0]["offset"] or 0)
    code = CODES[_FLAC.get(form, form)]
    if len({row["format"] for row in rows}) > 1:
        raise UnreadableError(f"{path}: {file.name} in several formats; expected one")
    if form in _FLAC:
        packed = FlacStore(file, 0, code, (1,) * len(rows), samples)
        packed.check(size_bytes)
        return packed
    samples = samples or (size_bytes - offset) * 8 // code.bits // len(rows)
    if samples < 1:
        raise UnreadableError(f"{path}: {file.name} holds no samples; expected some")
    store = Store(file, offset, code, (1,) * len(rows), samples)
    store.check(size_bytes)
    return store


def _annotations(header: Path) -> list[Path]:
    """Find the annotation files of a record: its name, another suffix, and two zero bytes at the end."""
    known = {suffix for row in FORMATS.values() for suffix in row.suffixes}
    found = []
    for name in _names(header.parent, header.parent.stat().st_mtime_ns).get(header.stem, ()):
        path = header.with_name(name)
        if path.suffix.lower() in known or not path.is_file():
            continue
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - 2, 0))
            if size % 2 == 0 and file.read() == b"\0\0":
                found.append(path)
    return found


@lru_cache(maxsize=1)  # a folder may hold thousands of records
def _names(folder: Path, _changed_ns: int) -> Mapping[str, list[str]]:
    """List the files of a folder by their stem; a change of its names has another time."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.iterdir()):
        found.setdefault(path.stem, []).append(path.name)
    return found


def parts(source: Path, result: Path) -> dict[Path, Path]:
    """Files of samples, then of annotations, of a record, each with its place beside the header of a result.

    Raises:
        UnreadableError, UnsupportedError: The header does not say, or two of them would have one name.
    """
    header = _parse(source)
    samples = dict.fromkeys(_row(source, header.lines[line])["file"] for line in header.signals)
    found = {source.with_name(file): result.with_name(_renamed(file, source, result)) for file in samples}
    for path in _annotations(source):
        found.setdefault(path, result.with_name(result.stem + path.suffix))
    places = [result, *found.values()]
    if twice := next((path for path in places if places.count(path) > 1), None):
        raise UnsupportedError(f"{result}: two files of {source} would be {twice.name}; choose another name")
    return found


class WfdbWriter(ScaledWriter):
    """Writes a record: samples and annotations first, the header last."""

    def places(self, temporary: Path, stack: ExitStack) -> list[Path]:
        """Give a temporary file for each file of samples, beside that of the header."""
        self._temporary = temporary
        old, new = self.info.source, self.path
        targets = parts(old, new)
        for target in targets.values():
            if target.exists() and any(map(target.samefile, targets)):
                raise OutputError(
                    f"{new}: {target.name} would replace a file of {old}; choose another folder"
                )
        opened = {path: stack.enter_context(replacing(target, path)) for path, target in targets.items()}
        for path in opened.keys() - {store.path for store in self.stores}:
            shutil.copyfile(path, opened[path])
        return [opened[store.path] for store in self.stores]

    def finish(self) -> None:
        """Write the header."""
        super().finish()
        header: _Header = self.info.own.header
        lines = list(header.lines)
        if self.path.stem != self.info.source.stem:
            lines[header.record] = re.sub(r"^\s*\w+", _stem(self.path), lines[header.record], count=1)
        facts: dict[tuple[int, int], tuple[int, int]] = {}
        for index in self.changed:
            sums, first = np.zeros(self.stores[index].width, np.int64), None
            for records in self.written_records(index):
                first = records[0] if first is None else first
                sums += records.sum(axis=0)
            assert first is not None
            for place in range(sums.size):
                checksum = (int(sums[place]) + 0x8000 & 0xFFFF) - 0x8000
                facts[index, place] = int(first[place]), checksum
        files = [store.path.name for store in self.stores]
        seen = [0] * len(files)
        for number in header.signals:
            match = _SIGNAL.match(lines[number])
            assert match is not None
            index = files.index(match["file"])
            new: dict[str, object] = {"file": _renamed(match["file"], self.info.source, self.path)}
            if (index, seen[index]) in facts:
                new |= dict(zip(("first", "checksum"), facts[index, seen[index]], strict=True))
            lines[number] = _with_groups(match, new)
            seen[index] += 1
        self.pack()
        self._temporary.write_bytes("".join(lines).encode("latin-1"))


def _stem(path: Path) -> str:
    """Name of the record: letters, digits and underscores."""
    return re.sub(r"\W", "_", path.stem, flags=re.ASCII)


def _renamed(file: str, source: Path, result: Path) -> str:
    """Name a file of samples of a result."""
    old = source.stem
    if result.stem == old:
        return file
    return _stem(result) + (file.removeprefix(old) if file.startswith(old) else f"_{file}")


def _with_groups(match: re.Match[str], new: dict[str, object]) -> str:
    """Replace groups of a match that took part in it."""
    text = match.string
    for name in sorted(new, key=match.start, reverse=True):
        if match[name] is not None:
            text = text[: match.start(name)] + str(new[name]) + text[match.end(name) :]
    return text


FORMAT = SensorFormat(_reader, WfdbWriter)
