"""Detect the dialect of a delimited text: delimiter, decimal marks, header, units, and kinds of cells.

A delimiter is judged by three facts together: most rows have the same number of cells, the header has as
many, and the cells are numbers, stamps or missing values of one form a column. If two readings of a text are
both likely, it is refused, and the message names the option that decides.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path

from denoise.errors import InputError, UnreadableError
from denoise.io.limits import require_few
from denoise.io.sensor.doubts import find_parts, refuse_layouts, refuse_records
from denoise.io.sensor.header import (
    date_parts,
    decoded,
    is_number,
    leading_rate,
    name_in,
    names_and_units,
    rate_below,
    stated_rate,
)
from denoise.io.sensor.numerals import NumberForm, find_form, find_suffix, is_quoted, is_word, shown, unquoted
from denoise.io.sensor.stamps import is_clock, is_compact, is_day_first, is_stamp
from denoise.io.sensor.text import GZIP, WIDE, first_lines

SAMPLE_RECORDS = 200
TAIL_BYTES = 1 << 13
MAX_RECORD_BYTES = 1 << 16  # of a row whose quoted cells hold line ends

COMMENT = re.compile(r"\s*#(?!N/A|n/a|N/V|VALUE!|DIV/0!|REF!|NV|NUM!|WERT!)")
_ARROW = " -> "  # between time and reading, as the serial monitor of Arduino writes it
_ESCAPED = r'"[^"\\]*(?:(?:\\[\s\S]|"")[^"\\]*)*"'  # a quoted cell with quotes behind backslashes
_NINES = re.compile(r"-?9+")  # a code of missing values, in whatever form the others are
_GERMAN_DATE = re.compile(r"\d{1,2}\.\d{1,2}\.\d{2,4}(?: .*)?")
_HINT = re.compile(r'"?sep=(.)"?\s*')  # tells a spreadsheet the delimiter, in the first line
_DIGITS = re.compile(r"[+-]?\d+")


@dataclass(frozen=True)
class Dialect:
    """The rules that split a text into cells."""

    delimiter: str  # one character; a blank stands for any run of blanks and tabs
    newline: str = "\n"  # the line end; the CR of CRLF counts as blank space of the last cell
    arrow: bool = False  # True if an arrow separates the first cell from the others

    @property
    def base_width(self) -> int:
        """Cells of a record without a delimiter."""
        return 2 if self.arrow else 1

    def joined(self, rows: Iterable[Sequence[str]]) -> Iterator[str]:
        """Join the cells of `split` again, row by row."""
        if self.arrow:
            return (cells[0] + self.delimiter.join(cells[1:]) for cells in rows)
        return map(("" if self.delimiter == " " else self.delimiter).join, rows)

    @cached_property
    def _cell(self) -> re.Pattern[str]:
        quoted = rf'(?:"[^"]*(?:""[^"]*)*"|{_ESCAPED})'
        if self.delimiter == " ":
            return re.compile(rf"\s*(?:{quoted}(?=\s|\Z)|\S+)(?:\s+\Z)?")
        mark = re.escape(self.delimiter)
        return re.compile(rf"(?:^|{mark})([ ]*{quoted}[ \r]*(?={mark}|\Z)|[^{mark}]*)")

    def split(self, line: str) -> list[str]:
        """Split one record into cells, with their blanks and quotes."""
        if self.arrow:
            stamp, mark, rest = line.partition(_ARROW)
            return [stamp + mark, *Dialect(self.delimiter, self.newline).split(rest)] if mark else [line]
        if self.delimiter != " " and '"' not in line:
            return line.split(self.delimiter)
        return self._cell.findall(line)

    def is_open(self, line: str) -> bool:
        """Check if a quoted cell of this record continues in the next line."""
        if line.count('"') % 2 == 0:
            return False
        return any(
            core[:1] == '"' and core.count('"') % 2 and not re.fullmatch(_ESCAPED, core)
            for core in map(str.strip, self.split(line))
        )


def _kind(cell: str, form: NumberForm) -> str:
    """Classify a cell: `missing`, `number`, `stamp`, `clock` or `text`."""
    for given in (form, replace(form, suffix="")) if form.suffix else (form,):
        with suppress(ValueError):
            value = given.number(cell)
            return "missing" if value != value else "number"
    return "stamp" if is_stamp(cell) else "clock" if is_clock(cell) else "text"


@dataclass(frozen=True)
class _Record:
    line: int  # counted from 1
    offset: int  # bytes from the start of the file
    text: str  # without its last line end


@dataclass(frozen=True)
class Head:
    """The dialect and header of a file."""

    dialect: Dialect
    kinds: tuple[str, ...]  # of the cells of each column: `number`, `stamp`, `clock` or `text`
    forms: tuple[NumberForm, ...]  # of the numbers of each column
    names: tuple[str, ...]
    units: tuple[str, ...]
    offset: int  # bytes before the first row of data
    line: int  # of the first row of data
    notes: tuple[str, ...]
    day_first: bool = True  # 30/03/2024, not 03/30/2024
    date_parts: Mapping[str, int] = field(default_factory=dict)  # columns of year, month, ...
    sample_rate: float | None = None  # Hz, as the lines before the data state it

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.kinds)


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


@dataclass(frozen=True)
class _Split:
    """The sampled records of a text, split by one dialect, and how well it fits."""

    dialect: Dialect
    records: Sequence[_Record]
    rows: Sequence[Sequence[str]]
    width: int = 1
    forms: tuple[NumberForm, ...] = ()
    kinds: tuple[str, ...] = ()
    start: int = 0  # the first row of data
    doubt: tuple[int, str] | None = None  # the first column with a number of two readings, and the number
    score: float = 0.0
    fits_header: bool = True
    body: Sequence[Sequence[str]] = ()  # rows of the usual width, behind the header


def _split(text: str, offset: int, dialect: Dialect, decimal: str) -> _Split:
    records = list(islice(_records(text, offset, dialect), SAMPLE_RECORDS))
    rows = [dialect.split(record.text) for record in records]
    half = rows[len(rows) // 2 :]
    if not half:
        return _Split(dialect, records, rows)
    width, same = Counter(map(len, half)).most_common(1)[0]
    body = [row for row in half if len(row) == width]
    forms, doubt = _forms(body, dialect, decimal)
    kinds = tuple(_column_kind([row[i] for row in body], forms[i]) for i in range(width))
    filled_kinds = [
        kind if any(row[i].strip() for row in body) else "missing" for i, kind in enumerate(kinds)
    ]
    start = 0
    while start < len(rows) and any(
        _is_head_row(row, filled_kinds, forms) for row in _after_blanks(rows[start : start + 4])
    ):
        start += 1
    more = [row for row in rows[start:] if len(row) == width]
    if more:  # numbers in the first half may decide about marks, too
        forms, doubt = _forms(more, dialect, decimal)
    found = Counter(_kind(row[i], forms[i]) for row in body for i in range(width))
    filled = sum(found.values()) - found["missing"]
    good = (filled - found["text"]) / filled if filled else 0.0
    fits = _fits_header(rows[:start], width, body, dialect)
    score = good * same / len(half) * (1.0 if width > dialect.base_width else 0.5) * (1.0 if fits else 0.4)
    if dialect.delimiter in ";\t|" and width > dialect.base_width and fits and same == len(half):
        score *= 1.5  # a comma or a blank may be a part of a cell; these hardly ever are
    return _Split(dialect, records, rows, width, forms, kinds, start, doubt, score, fits, more)


def _after_blanks(rows: Sequence[Sequence[str]]) -> Sequence[Sequence[str]]:
    """Return the first row that holds something: a header may have rows of empty cells."""
    return next(([row] for row in rows if any(cell.strip() for cell in row)), [])


def _fits_header(
    header: Sequence[Sequence[str]], width: int, body: Sequence[Sequence[str]], dialect: Dialect
) -> bool:
    """Check if some row before the data has a name for every column."""
    widths = {width, width + 1}  # LabVIEW names a column of comments that the rows leave out
    trailing = all(not row[-1].strip() for row in body)
    if trailing or dialect.delimiter == " " or all(is_quoted(row[0].strip()) for row in body):
        widths.add(width - 1)  # some end each row with a delimiter; R leaves out the name of its row names
    return not header or any(len(row) in widths for row in header)


def _forms(
    rows: Sequence[Sequence[str]], dialect: Dialect, decimal: str
) -> tuple[tuple[NumberForm, ...], tuple[int, str] | None]:
    """Find the form of each column; the marks of one column decide about those that allow two readings."""
    is_comma = dialect.delimiter == ","
    forms: list[NumberForm | None] = []
    suffixes: list[str] = []
    doubts: dict[int, str] = {}
    for index in range(len(rows[0])):
        cells, suffix = _without_suffix([row[index] for row in rows])
        quoted = any(is_quoted(cell.strip()) and "," in cell for cell in cells)
        form, doubt = find_form(cells, decimal if quoted or not is_comma else ".", not is_comma or quoted)
        forms.append(form)
        suffixes.append(suffix)
        if doubt:
            doubts[index] = doubt
    marks = Counter(
        form.decimal
        for index, form in enumerate(forms)
        if form and any(form.decimal in row[index] for row in rows)
    )
    usual = decimal or (marks.most_common(1)[0][0] if marks else "")
    for index, doubt in list(doubts.items()):
        cells, _ = _without_suffix([row[index] for row in rows])
        mark = usual or _likely_decimal(cells, doubt, dialect, rows[0])
        if mark:
            forms[index] = find_form(cells, mark)[0]
            del doubts[index]
    usual = usual or "."
    found = tuple(
        replace(form or NumberForm("." if is_comma else usual), suffix=suffix)
        for form, suffix in zip(forms, suffixes, strict=True)
    )
    return found, next(iter(doubts.items()), None)


def _without_suffix(cells: Sequence[str]) -> tuple[Sequence[str], str]:
    """Return the cells of a column without the unit that ends each of them, and that unit."""
    suffix = find_suffix(cells)
    return ([unquoted(cell).removesuffix(suffix) for cell in cells] if suffix else cells), suffix


def _likely_decimal(cells: Sequence[str], doubt: str, dialect: Dialect, row: Sequence[str]) -> str:
    """Decide whether 1.234 and 1,234 are fractions, where all have three digits; empty if nothing decides.

    Fractions of a fixed length leave no number without a mark; thousands do, below 1000. Beside a date such
    as 30.03.2024, a point may be either.
    """
    mark = "," if "," in doubt else "."
    other = "." if mark == "," else ","
    unmarked = any(_DIGITS.fullmatch(core) and not _NINES.fullmatch(core) for core in map(unquoted, cells))
    if dialect.delimiter == ",":
        return other if unmarked else ""
    is_german = any(_GERMAN_DATE.fullmatch(unquoted(cell)) for cell in row)
    if unmarked or (mark == "." and is_german):
        return ""
    return mark if mark == "." or dialect.delimiter == ";" else ""


def _dialect(path: Path, suffix: str, text: str, offset: int, newline: str, marks: tuple[str, str]) -> _Split:
    """Select the delimiter that fits best."""
    delimiter, decimal = marks
    order = [";", "\t", "|", ",", " "]
    if suffix.lower() == ".tsv":
        order = ["\t", ";", "|", ",", " "]
    arrow = sum(_ARROW in line for line in text.split(newline)[:SAMPLE_RECORDS]) > 1
    found = [
        _split(text, offset, Dialect(mark, newline, arrow), decimal)
        for mark in ([delimiter] if delimiter else order)
    ]
    best = max(found, key=lambda split: round(split.score, 9))
    if not best.records:
        raise UnreadableError(f"{path}: the file holds no rows; expected a table of numbers")
    if not delimiter and best.dialect.delimiter == "," and decimal != ".":
        single = next((split for split in found if split.width == best.dialect.base_width), None)
        return _without_commas(path, best, single, decimal)
    return best


def _without_commas(path: Path, best: _Split, single: _Split | None, decimal: str) -> _Split:
    """Check that the commas of a text without other delimiters are none within numbers: 20,52 or 3,425.0."""
    base = best.dialect.base_width
    found = find_parts([row[base - 1 :] for row in best.body]) if best.width > base else None
    if found is None:
        return best
    first, names = best.records[best.start], best.rows[best.start - 1] if best.start else []
    line = first.line
    if best.start and not best.fits_header and best.records[best.start - 1].line == line - 1:
        raise InputError(
            f"{path}: line {line - 1} names {len(names)} column{'s' * (len(names) != 1)}, and line {line}, "
            f"{shown(first.text.strip())!r}, has {best.width} cells: some commas may be parts of numbers; "
            "expected a cell for each name: give --delimiter comma if none is, or export with semicolons"
        )
    if best.start:
        return best
    if single and best.width == base + 1 and (decimal == "," or found[1] == "parts"):
        return single
    number = ",".join(best.body[0][base - 1 :][found[0] : found[0] + 2]).strip()
    mark = "--decimal comma or " if best.width == base + 1 else ""
    raise InputError(
        f"{path}: line {line} holds {shown(first.text.strip())!r}, in which {number} may be one number "
        f"or two columns; expected one reading: give {mark}--delimiter comma, or export with semicolons"
    )


def head_of(path: Path, delimiter: str = "", decimal: str = "", suffix: str = "") -> Head:
    """Detect dialect, width, header and first row of data.

    Names are the last row of text before the data, or the one before it when the last holds units.

    Args:
        suffix: Suffix to go by in place of its own.

    Raises:
        InputError: It holds no table, or one that can be read in two ways.
    """
    text, skipped, newline, complete = first_lines(path)
    refuse_records(path, [line.strip() for line in text.split(newline)[:SAMPLE_RECORDS] if line.strip()])
    hint = _HINT.fullmatch(text.partition(newline)[0])
    if hint and not delimiter:
        delimiter = hint[1]
    line = text.partition(newline)[0]  # may be all of the sample, which then shows no delimiter
    require_few(1 + max(map(line.count, delimiter or ";\t|,")), "columns", f"{path}: ")
    split = _dialect(path, suffix or path.suffix, text, skipped, newline, (delimiter, decimal))
    records, rows, kinds, width, start = split.records, split.rows, split.kinds, split.width, split.start
    if "number" not in kinds:
        found = "a header and no rows" if len(rows) == 1 else "text and no column of numbers"
        raise InputError(
            f"{path}: line {records[-1].line} holds {shown(records[-1].text.strip())!r}: {found}; "
            "expected a table of numbers"
        )
    if complete and width > 64 and len(rows) * 8 < width:
        raise InputError(
            f"{path}: {len(rows)} rows of {width} columns look like a recording on its side; "
            "expected a row for each sample: transpose it"
        )
    if (
        start
        and len(rows[start - 1]) != width
        and re.fullmatch(r"[^A-Za-z]*\d[^A-Za-z]*", records[start - 1].text)
    ):
        above = records[start - 1]
        raise InputError(
            f"{path}: line {above.line} holds {shown(above.text.strip())!r}, and the rows below have {width} "
            "cells; expected rows of one form, below a header of names"
        )
    if start == len(rows):
        raise InputError(
            f"{path}: line {records[-1].line}: a header and no rows; expected a table of numbers"
        )
    if split.doubt:
        raise InputError(
            f"{path}: column {split.doubt[0] + 1} holds {split.doubt[1]!r}, which may be a fraction or a "
            "thousand and more; expected a text with one reading: give --decimal comma or --decimal point"
        )
    trailing = all(not row[-1].strip() for row in split.body)  # rows such as 1,2,3, under a header a,b,c
    heads = rows[bool(hint) : start]
    if heads and all(row[0].lstrip().startswith("%") for row in heads):  # comments of MATLAB
        heads = [split.dialect.split(record.text.lstrip(" %")) for record in records[bool(hint) : start]]
    last = heads[-1] if heads else []
    extra = [cell for cell in map(unquoted, last[width:]) if cell and not is_number(cell)]  # numbers: facts
    if extra and split.dialect.delimiter != " " and [*map(str.lower, extra)] != ["comment"]:
        raise InputError(
            f"{path}: line {records[start - 1].line} has {width + len(extra)} names such as "
            f"{shown(extra[-1])!r}, and the rows below have {width} cells; expected a cell for each name: "
            "write the missing cells, or remove the names that have none"
        )
    header = [[name_in(cell) for cell in row] for row in heads if abs(len(row) - width) < 2]
    if not trailing:  # R leaves out the name of its row names
        header = [row if len(row) >= width else ["", *row] for row in header]
    comment = _comment_header(text, records[start], skipped, split.dialect, width)
    heading, notes = decoded(header or ([comment] if comment else []))
    if last and not (header or comment):
        above_line = records[start - 1].line
        notes += (
            f"line {above_line} does not name each of {width} columns: their positions are their names",
        )
    if unquoted(rows[0][0]) == "TOA5" and start > 2:  # Campbell: names, units, and the kind of average
        named = [[unquoted(cell) for cell in row] for row in rows[1:3]]
        (names, units), notes = decoded(named)
    else:
        names, units = names_and_units(heading)
    names = [name or str(place) for place, name in enumerate((names + [""] * width)[:width], start=1)]
    units = (units + [""] * width)[:width]
    first = records[start]
    stamps = [kind == "stamp" for kind in kinds].index(True) if "stamp" in kinds else None
    day_first = True
    if stamps is not None:
        ends = [split.dialect.split(line) for line in _tail(path, newline)[-3:]]
        cells = [row[stamps] for row in [*split.body, *ends] if len(row) == width]
        day_first = is_day_first([cell for cell in cells if is_stamp(cell)])
    stated = [record.text for record in records[:start]] + _comments(text, first, skipped, newline)
    rate = stated_rate(stated) or rate_below(rows[:start])
    if start == 0 and (leading := leading_rate(split.rows, split.kinds, split.forms)):
        first, rate = records[2], leading
    refuse_layouts(path, names, split.body, bool(header or comment))
    texts, place = (tuple(names), tuple(units)), (first.offset, first.line)
    parts = date_parts(names, kinds)
    return Head(split.dialect, kinds, split.forms, *texts, *place, notes, day_first, parts, rate)


def _tail(path: Path, newline: str) -> list[str]:
    """Read the last whole lines of a file."""
    with path.open("rb") as file:
        start = file.read(2)
        if start == GZIP:  # its end cannot be read without all that is before
            return []
        file.seek(max(file.seek(0, 2) // 2 * 2 - TAIL_BYTES, 0))
        tail = file.read()
        if encoding := WIDE.get(start):
            tail = tail.decode(encoding, "ignore").encode()
        lines = tail.decode("latin-1").split(newline)
    return [line for line in lines[1:] if line.strip()]


def _column_kind(cells: Sequence[str], form: NumberForm) -> str:
    kinds = Counter(_kind(cell, form) for cell in cells)
    del kinds["missing"]
    order = ("number", "stamp", "clock", "text")
    if kinds["number"] and all(is_compact(cell) for cell in cells if cell.strip()):
        return "stamp"
    return max(order, key=lambda kind: (kinds[kind], -order.index(kind)))


def _is_head_row(row: Sequence[str], kinds: Sequence[str], forms: Sequence[NumberForm]) -> bool:
    if len(row) > len(kinds):
        found = [_kind(cell, form) for cell, form in zip(row, forms, strict=False)]
        if found == list(kinds):
            return False  # a row of data with a note behind it
    if len(row) != len(kinds):
        # a title or a header of another width; never a short row of numbers
        return any(_kind(cell, NumberForm()) == "text" or is_word(cell) for cell in row)
    found = [_kind(cell, form) for cell, form in zip(row, forms, strict=True)]
    if not {"number", "stamp", "clock"} & set(found):
        found = ["text" if is_word(cell) else kind for cell, kind in zip(row, found, strict=True)]
    above = {expected for kind, expected in zip(found, kinds, strict=True) if kind == "text"} - {"text"}
    if above - {"missing"} or (above and ("number", "number") not in zip(found, kinds, strict=True)):
        return True  # text above an empty column alone may be a note, if numbers stand above numbers
    # numbers that rise above all columns but the first: ",0,1,2" of pandas, or years
    first, *cores = map(unquoted, row)
    is_rising = all(map(str.isdigit, cores)) and all(int(one) < int(two) for one, two in pairwise(cores))
    return len(cores) > 1 and not first and is_rising


def _comments(text: str, first: _Record, skipped: int, newline: str) -> list[str]:
    """List the comments before the data."""
    return [line for line in text[: first.offset - skipped].split(newline) if COMMENT.match(line)]


def _comment_header(text: str, first: _Record, skipped: int, dialect: Dialect, width: int) -> list[str]:
    """Read the names in a last comment such as `# time,x,y`, as numpy.savetxt writes them."""
    comments = _comments(text, first, skipped, dialect.newline)
    if not comments:
        return []
    cells = [unquoted(cell) for cell in dialect.split(comments[-1].strip().lstrip("#").strip())]
    is_fact = width == 1 and re.search("[:=]", comments[-1])
    is_names = (
        len(cells) == width and not is_fact and all(_kind(cell, NumberForm()) == "text" for cell in cells)
    )
    return cells if is_names else []
