"""Detect the dialect of a delimited text: delimiter, decimal mark, header, units, and kinds of cells.

Text is read as Latin-1, one character a byte, so that unchanged text keeps its bytes; only column names and
units are decoded (UTF-8, else Latin-1).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from denoise.errors import InputError, UnreadableError, UnsupportedError

__all__ = [
    "COMMENT",
    "MAX_RECORD_BYTES",
    "MISSING",
    "Dialect",
    "Head",
    "NotNumbersError",
    "clock_seconds",
    "head_of",
    "is_quoted",
    "numbers",
    "shown",
    "stamp_of",
    "unquoted",
]

Floats = NDArray[np.float64]

SAMPLE_BYTES = 1 << 18  # for the detection
SAMPLE_RECORDS = 200
MAX_RECORD_BYTES = 1 << 16  # of a row whose quoted cells hold line ends

MISSING = frozenset({"", "-", "--", "?", "nan", "+nan", "-nan", "na", "n/a", "#n/a", "null", "none", "nil"})
_NUMBER = re.compile(r"[+-]?(?:\d+[.,]?\d*|[.,]\d+)(?:[eE][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+")
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}(?:[.,]\d+)?))?")
COMMENT = re.compile(r"\s*#(?!N/A)")
_UNITS = frozenset(
    [
        *("s", "sec", "seconds", "ms", "us", "µs", "ns", "min", "h", "hz", "khz", "rpm", "bpm"),
        *("v", "mv", "uv", "µv", "μv", "nv", "v/v", "a", "ma", "w", "kw", "counts", "adu", "db", "%", "bool"),
        *("g", "mg", "m", "mm", "cm", "m/s", "m/s2", "m/s^2", "m/s²"),
        *("deg", "°", "°/s", "deg/s", "dps", "rad"),
        *("rad/s", "c", "°c", "k", "f", "°f", "pa", "hpa", "kpa", "mpa", "bar", "mbar", "n", "nm"),
        *("lux", "lx", "au", "a.u.", "t", "ut", "µt", "gauss", "-"),
    ]
)


@dataclass(frozen=True)
class Dialect:
    """The rules that split a text into cells."""

    delimiter: str  # one character; a blank stands for any run of blanks and tabs
    newline: str = "\n"  # the line end; the CR of CRLF counts as blank space of the last cell
    comma: bool = False  # True if a comma in a cell may be a decimal mark

    @property
    def joiner(self) -> str:
        """The text that joins the cells of `split` again."""
        return "" if self.delimiter == " " else self.delimiter

    @cached_property
    def _cell(self) -> re.Pattern[str]:
        quoted = r'"[^"]*(?:""[^"]*)*"'
        if self.delimiter == " ":
            return re.compile(rf"\s*(?:{quoted}(?=\s|\Z)|\S+)(?:\s+\Z)?")
        mark = re.escape(self.delimiter)
        return re.compile(rf"(?:^|{mark})([ ]*{quoted}[ \r]*(?={mark}|\Z)|[^{mark}]*)")

    def split(self, line: str) -> list[str]:
        """Split one record into cells, with their blanks and quotes."""
        if self.delimiter != " " and '"' not in line:
            return line.split(self.delimiter)
        return self._cell.findall(line)

    def is_open(self, line: str) -> bool:
        """Check if a quoted cell of this record continues in the next line."""
        if line.count('"') % 2 == 0:
            return False
        return any(core[:1] == '"' and core.count('"') % 2 for core in map(str.strip, self.split(line)))


def is_quoted(core: str) -> bool:
    return len(core) > 1 and core[0] == core[-1] == '"'


def unquoted(cell: str) -> str:
    core = cell.strip()
    return core[1:-1].strip() if is_quoted(core) else core


class NotNumbersError(InputError):
    """A cell that is neither number nor missing; `row` counts within the chunk."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(f"{text!r} is not a number")
        self.row = row
        self.text = shown(text)


def _number(cell: str, comma: bool) -> float:
    core = unquoted(cell)
    if _NUMBER.fullmatch(core) and (comma or "," not in core):
        return float(core.replace(",", "."))
    lowered = core.lower()
    if lowered in MISSING:
        return np.nan
    if lowered.lstrip("+-") in ("inf", "infinity"):
        return -np.inf if lowered[0] == "-" else np.inf
    raise ValueError(core)


def numbers(cells: Sequence[str], comma: bool) -> Floats:
    """Parse the cells of a column; missing ones are NaN.

    Raises:
        NotNumbersError: The first cell that is text.
    """
    # Two fast paths; `float` accepts the same numbers, and also underscores between digits.
    joined = "\n".join(cells)
    if "_" not in joined:
        with suppress(ValueError):
            return np.fromiter(map(float, cells), np.float64, len(cells))
        with suppress(ValueError):
            if comma and joined.count("\n") == len(cells) - 1:
                return np.fromiter(map(float, joined.replace(",", ".").split("\n")), np.float64, len(cells))
    out = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            out[row] = _number(cell, comma)
        except ValueError as error:
            raise NotNumbersError(row, str(error)) from None
    return out


def shown(text: str) -> str:
    return text if len(text) <= 30 else text[:27] + "..."


def stamp_of(cell: str) -> datetime | None:
    core = unquoted(cell)
    if core.lower() in MISSING:
        return None
    if len(core) < 8 or not core[:4].isdigit() or core[4] not in "-/":
        raise ValueError(core)
    stamp = datetime.fromisoformat(core.replace("/", "-"))
    return stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)


def clock_seconds(cell: str) -> float:
    core = unquoted(cell)
    if core.lower() in MISSING:
        return np.nan
    match = _CLOCK.fullmatch(core)
    if match is None:
        raise ValueError(core)
    hours, minutes, seconds = match.groups("0")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))


def _kind(cell: str, comma: bool) -> str:
    """Classify a cell: `missing`, `number`, `iso`, `clock` or `text`."""
    with suppress(ValueError):
        return "missing" if np.isnan(_number(cell, comma)) else "number"
    with suppress(ValueError):
        stamp_of(cell)
        return "iso"
    return "clock" if _CLOCK.fullmatch(unquoted(cell)) else "text"


@dataclass(frozen=True)
class _Record:
    line: int  # counted from 1
    offset: int  # bytes from the start of the file
    text: str  # without its last line end


@dataclass(frozen=True)
class Head:
    """The dialect and header of a file."""

    dialect: Dialect
    width: int
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    units: tuple[str, ...]
    offset: int  # bytes before the first row of data
    line: int  # of the first row of data
    notes: tuple[str, ...]


def _sample(path: Path) -> tuple[str, int, str]:
    """Read the first lines, the number of bytes before them (the BOM), and the line end."""
    with path.open("rb") as file:
        raw = file.read(SAMPLE_BYTES)
        complete = not file.read(1)
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnsupportedError(f"{path}: the text is UTF-16; expected UTF-8 or another one-byte encoding")
    if binary := re.search(rb"[\x00-\x08\x0e-\x1a]", raw):
        line = raw.count(b"\n", 0, binary.start()) + 1
        raise UnreadableError(f"{path}: line {line} holds binary data; expected text")
    skipped = 3 if raw.startswith(b"\xef\xbb\xbf") else 0
    text = raw[skipped:].decode("latin-1")
    newline = "\n" if "\n" in text or "\r" not in text else "\r"
    if not complete:
        end = text.rfind(newline) + 1
        if not end:
            raise UnsupportedError(
                f"{path}: line 1 is longer than {SAMPLE_BYTES} bytes; expected rows of cells"
            )
        text = text[:end]
    return text, skipped, newline


def _records(text: str, offset: int, dialect: Dialect) -> Iterator[_Record]:
    """Yield the records of a text that are neither blank nor comments."""
    held, held_line, held_offset = "", 0, 0
    for line, part in enumerate(text.split(dialect.newline), start=1):
        if held:
            held += dialect.newline + part
            is_open = len(held) < MAX_RECORD_BYTES and ('"' not in part or dialect.is_open(held))
        elif part.strip() and not COMMENT.match(part):
            held, held_line, held_offset = part, line, offset
            is_open = dialect.is_open(held)
        if held and not is_open:
            yield _Record(held_line, held_offset, held)
            held = ""
        offset += len(part) + 1
    if held:  # ends in a quoted cell: the reader of the whole file decides
        yield _Record(held_line, held_offset, held.split(dialect.newline)[0])


def _dialect(path: Path, text: str, offset: int, newline: str) -> Dialect:
    """Select the delimiter with the most rows of one width and the most cells that are numbers or times."""
    order = ["\t", ";", "|", ",", " "]
    if path.suffix.lower() != ".tsv":
        order = [";", "\t", "|", ",", " "]
    best, best_score = Dialect(",", newline), 0.0
    for delimiter in order:
        plain = Dialect(delimiter, newline)
        rows = [plain.split(r.text) for r in islice(_records(text, offset, plain), SAMPLE_RECORDS)]
        rows = rows[len(rows) // 2 :]
        width, same = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
        cells = [cell for row in rows if len(row) == width for cell in row]
        comma = delimiter != "," or _has_quoted_decimals(cells)
        kinds = Counter(_kind(cell, comma) for cell in cells)
        filled = sum(kinds.values()) - kinds["missing"]
        good = (filled - kinds["text"]) / filled if filled else 0.0
        score = good * same / len(rows) * (1.0 if width > 1 else 0.5) if rows else 0.0
        if score > best_score + 1e-9:
            best, best_score = Dialect(delimiter, newline, comma), score
    return best


def _has_quoted_decimals(cells: Iterable[str]) -> bool:
    """Check for cells such as "1,5", and not only "1,500", which is one thousand five hundred."""
    commas = [core for core in map(unquoted, cells) if "," in core and _NUMBER.fullmatch(core)]
    return bool(commas) and not all(_THOUSANDS.fullmatch(core) for core in commas)


def head_of(path: Path) -> Head:
    """Detect dialect, width, header and first row of data.

    Names are the last row of text before the data, or the one before it when the last holds units.
    """
    text, skipped, newline = _sample(path)
    dialect = _dialect(path, text, skipped, newline)
    records = list(islice(_records(text, skipped, dialect), SAMPLE_RECORDS))
    if not records:
        raise UnreadableError(f"{path}: the file holds no rows; expected a table of numbers")
    rows = [dialect.split(record.text) for record in records]
    body = rows[len(rows) // 2 :]
    width = Counter(map(len, body)).most_common(1)[0][0]
    kinds = tuple(_column_kind([row[i] for row in body if len(row) == width], dialect) for i in range(width))
    if "number" not in kinds:
        found = "a header and no rows" if len(rows) == 1 else "text and no column of numbers"
        raise InputError(f"{path}: line {records[0].line} and on: {found}; expected a table of numbers")
    start = 0
    while start < len(rows) and _is_head_row(rows[start], kinds, dialect):
        start += 1
    if start == len(rows):
        raise InputError(
            f"{path}: line {records[-1].line}: a header and no rows; expected a table of numbers"
        )
    trailing = all(not row[-1].strip() for row in body)  # rows such as 1,2,3, under a header a,b,c
    header = [[unquoted(cell) for cell in row] for row in rows[:start] if len(row) in (width, width - 1)]
    if not trailing:  # R leaves out the name of its row names
        header = [row if len(row) == width else ["", *row] for row in header]
    comment = _comment_header(text, records[start], skipped, dialect, width)
    decoded, notes = _decoded(header or ([comment] if comment else []))
    names, units = _names_and_units(decoded)
    names = [name or str(place) for place, name in enumerate((names + [""] * width)[:width], start=1)]
    units = (units + [""] * width)[:width]
    first = records[start]
    return Head(dialect, width, kinds, tuple(names), tuple(units), first.offset, first.line, notes)


def _column_kind(cells: Sequence[str], dialect: Dialect) -> str:
    kinds = Counter(_kind(cell, dialect.comma) for cell in cells)
    del kinds["missing"]
    order = ("number", "iso", "clock", "text")
    return max(order, key=lambda kind: (kinds[kind], -order.index(kind)))


def _is_head_row(row: Sequence[str], kinds: Sequence[str], dialect: Dialect) -> bool:
    found = [_kind(cell, dialect.comma) for cell in row]
    if len(row) != len(kinds):
        return "text" in found  # a title or a header one cell short; never a short row of numbers
    if any(kind == "text" and expected != "text" for kind, expected in zip(found, kinds, strict=True)):
        return True
    # pandas numbers the columns of a bare array: ",0,1,2"
    cores = [unquoted(cell) for cell in row]
    return len(row) > 2 and cores == ["", *map(str, range(len(row) - 1))]


def _names_and_units(header: list[list[str]]) -> tuple[list[str], list[str]]:
    if not header:
        return [], []
    last = [cell.strip("'\"") for cell in header[-1]]
    is_units = [not cell or cell.lower() in _UNITS or (cell[0] in "[(" and cell[-1] in "])") for cell in last]
    if len(header) > 1 and sum(is_units) * 2 >= len(is_units):
        return [cell.strip("'") for cell in header[-2]], last
    return [cell.strip("'") for cell in header[-1]], []


def _comment_header(text: str, first: _Record, skipped: int, dialect: Dialect, width: int) -> list[str]:
    """Read the names in a last comment such as `# time,x,y`, as numpy.savetxt writes them."""
    before = text[: first.offset - skipped].split(dialect.newline)
    comments = [line for line in before if COMMENT.match(line)]
    if not comments:
        return []
    cells = [unquoted(cell) for cell in dialect.split(comments[-1].strip().lstrip("#").strip())]
    is_names = len(cells) == width and all(_kind(cell, dialect.comma) == "text" for cell in cells)
    return cells if is_names else []


def _decoded(rows: list[list[str]]) -> tuple[list[list[str]], tuple[str, ...]]:
    try:
        return [[cell.encode("latin-1").decode("utf-8") for cell in row] for row in rows], ()
    except UnicodeDecodeError:
        return rows, ("not UTF-8: column names were read as Latin-1",)
