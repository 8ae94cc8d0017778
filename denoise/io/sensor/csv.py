"""Delimited text: CSV and TSV in the dialects that loggers write.

The file is read in chunks of about a megabyte: once for the survey (columns, time, decimals), once for each
iteration, once for writing. Everything that is not changed keeps its bytes.

A changed cell is written with two more decimals than its column shows (at most 15, unless it shows more), so
that rounding adds less than a hundredth of the present noise; whole numbers get decimals too. A column of
`1.5e-3` keeps exponents; one that mixes both forms gets the shortest text that parses to the same value. A
cell whose text at that precision is unchanged is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from denoise.errors import OutputError, UnreadableError
from denoise.io.sensor.base import (
    LogOptions,
    SensorFormat,
    SensorReader,
    SensorWriter,
    changed_samples,
    check_recording,
)
from denoise.io.sensor.columns import ColumnSurvey, table_info, unit_in
from denoise.io.sensor.dialect import (
    COMMENT,
    MAX_RECORD_BYTES,
    MISSING,
    Dialect,
    NotNumbersError,
    clock_seconds,
    head_of,
    is_quoted,
    numbers,
    shown,
    stamp_of,
    unquoted,
)
from denoise.signal import Clock, SensorInfo

__all__ = ["FORMAT", "CellFormat", "TextLayout"]

Floats = NDArray[np.float64]

CHUNK_BYTES = 1 << 20

_EXPONENT = re.compile(r"\d[.,]?[eE][+-]?\d")


@dataclass
class _Chunk:
    columns: list[Sequence[str]]  # cells with their blanks and quotes; empty where there are no rows
    lines: Sequence[int]  # the line number of each row
    kept: dict[int, str]  # comments and blank lines before each row, or after the last
    closed: bool = True  # the last row ends in a line end

    @property
    def rows(self) -> int:
        return len(self.lines)


class _Rows:
    """The data rows of a file, chunk by chunk."""

    def __init__(self, path: Path, dialect: Dialect, width: int, offset: int, line: int) -> None:
        self._path = path
        self._dialect = dialect
        self._width = width
        self._offset = offset
        self._line = line

    def __iter__(self) -> Iterator[_Chunk]:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            yield from self._chunks(file)

    def _chunks(self, file: BinaryIO) -> Iterator[_Chunk]:
        newline, line, carry = self._dialect.newline, self._line, ""
        while True:
            raw = file.read(CHUNK_BYTES)
            text = carry + raw.decode("latin-1")
            if not text:
                return
            end = text.rfind(newline) + 1 if raw else len(text)
            whole = text[:end]
            closed = whole.endswith(newline)
            lines = whole.removesuffix(newline).split(newline) if whole else []
            chunk, used = self._parse(lines, line, last=not raw)
            carry = "".join(part + newline for part in lines[used:]) + text[end:]
            if not raw:
                carry = ""
            elif len(carry) > MAX_RECORD_BYTES + CHUNK_BYTES:
                raise UnreadableError(
                    f"{self._path}: line {line + used} does not end within {MAX_RECORD_BYTES} bytes; "
                    "expected a row of cells with closed quotes"
                )
            chunk.closed = closed or used < len(lines)
            line += used
            if chunk.rows or chunk.kept:
                yield chunk
            if not raw:
                return

    def _parse(self, lines: list[str], first: int, last: bool) -> tuple[_Chunk, int]:
        """Parse rows; also return the number of lines used: fewer if the last record is still open."""
        delimiter, width = self._dialect.delimiter, self._width
        text = delimiter.join(lines)
        plain = '"' not in text and "#" not in text and delimiter != " " and bool(lines)
        if plain and set(map(str.count, lines, repeat(delimiter))) == {width - 1}:
            cells = text.split(delimiter)  # in one split: a list for each row takes half as long again
            if width > 1 or all(map(str.strip, cells)):
                columns: list[Sequence[str]] = [cells[index::width] for index in range(width)]
                return _Chunk(columns, range(first, first + len(lines)), {}), len(lines)
        return self._parse_slowly(lines, first, last)

    def _parse_slowly(self, lines: list[str], first: int, last: bool) -> tuple[_Chunk, int]:
        newline, dialect = self._dialect.newline, self._dialect
        rows: list[list[str]] = []
        numbers_of_lines: list[int] = []
        kept: dict[int, str] = {}
        index = 0
        while index < len(lines):
            record, start = lines[index], index
            index += 1
            if not record.strip() or COMMENT.match(record):
                kept[len(rows)] = kept.get(len(rows), "") + record + newline
                continue
            is_open = dialect.is_open(record)
            while is_open:
                if index == len(lines) and not last:
                    return _Chunk(list(zip(*rows, strict=True)), numbers_of_lines, kept), start
                if index == len(lines) or len(record) > MAX_RECORD_BYTES:
                    raise UnreadableError(
                        f"{self._path}: line {first + start} opens a quote that is not closed by the end; "
                        "expected closed quotes"
                    )
                record += newline + lines[index]
                is_open = '"' not in lines[index] or dialect.is_open(record)
                index += 1
            cells = dialect.split(record)
            if len(cells) != self._width:
                raise UnreadableError(
                    f"{self._path}: line {first + start} has {len(cells)} cell{'s' * (len(cells) != 1)}; "
                    f"expected {self._width} as in most rows"
                )
            rows.append(cells)
            numbers_of_lines.append(first + start)
        return _Chunk(list(zip(*rows, strict=True)), numbers_of_lines, kept), len(lines)


@dataclass(frozen=True)
class CellFormat:
    """The style of the changed cells of one column."""

    spec: str  # for `format`; empty for the shortest text that reads back exactly
    digits: int  # decimals (of the mantissa, where the spec has an exponent)
    comma: bool  # decimal comma
    missing: str  # the text of a gap

    def tolerance(self, values: Floats) -> Floats | float:
        """Change of a value that leaves its text the same."""
        half_unit = 0.5 * 10.0**-self.digits
        if not self.spec:
            return 0.0
        return half_unit * np.abs(values) if self.spec[-1] in "eE" else half_unit

    def texts(self, values: Floats) -> list[str]:
        """Format the values."""
        spec, missing = self.spec, self.missing
        out = [format(value, spec) if spec else repr(value) for value in values.tolist()]
        if self.comma:
            out = [text.replace(".", ",") for text in out]
        for index in np.flatnonzero(np.isnan(values)).tolist():
            out[index] = missing
        return out


class _Times:
    """Parses a time column: cells `iso` and `clock` (time of day) to seconds, `number` as they are."""

    def __init__(self, kind: str, comma: bool = False) -> None:
        self._kind = kind
        self._comma = comma
        self._first: datetime | None = None

    def __call__(self, cells: Sequence[str]) -> Floats:
        if self._kind == "number":
            return numbers(cells, self._comma)
        out = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            try:
                out[row] = clock_seconds(cell) if self._kind == "clock" else self._since_first(stamp_of(cell))
            except ValueError as error:
                raise NotNumbersError(row, str(error)) from None
        return out

    def _since_first(self, stamp: datetime | None) -> float:
        if stamp is None:
            return np.nan
        self._first = self._first or stamp  # epoch seconds as floats resolve only a quarter of a microsecond
        return (stamp - self._first).total_seconds()


class _TextColumn(ColumnSurvey):
    """A column of text cells: its numbers, and their style."""

    def __init__(self, name: str, kind: str, unit: str | None) -> None:
        stamps = {"iso": "time", "clock": "time of day"}.get(kind, "")
        super().__init__(name, "s" if stamps else unit, stamps, wraps=kind == "clock")
        self.kind = kind
        self._times = _Times(kind)
        self._decimals = 0
        self._dots = self._commas = self._plus = self._bare = False
        self._cells = 0  # filled ones, and those of them with an exponent
        self._exponents = 0
        self._upper = False
        self._missing: str | None = None

    def add_cells(self, cells: Sequence[str], lines: Sequence[int], comma: bool) -> None:
        """Add the column's cells of one chunk."""
        if not self.reject_reason:
            try:
                if self.kind == "number":
                    self._add_numbers(cells, lines, comma)
                elif self.kind == "text":
                    self._add_text(cells, lines)
                else:
                    self.add(self._times(cells))
            except NotNumbersError as error:
                self._give_up(f"line {lines[error.row]} holds {error.text!r}")

    def _give_up(self, why: str) -> None:
        self.numeric = False
        self.reject_reason = why

    def _add_text(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        for row, cell in enumerate(cells):
            core = unquoted(cell)
            if core.lower() not in MISSING:
                self._give_up(f"text such as {shown(core)!r} in line {lines[row]}")
                return

    def _add_numbers(self, cells: Sequence[str], lines: Sequence[int], comma: bool) -> None:
        values = numbers(cells, comma)
        infinite = np.isinf(values)
        if infinite.any() and not self.infinite:
            self.infinite = f"line {lines[int(np.argmax(infinite))]}"
        if self._missing is None and np.isnan(values).any():
            self._missing = cells[int(np.argmax(np.isnan(values)))].strip()
        self._add_style("\n".join(cells), cells, values)
        if self._dots and self._commas:
            self._give_up("it mixes '.' and ',' as decimal marks")
        self.add(values)

    def _add_style(self, joined: str, cells: Sequence[str], values: Floats) -> None:
        self._dots = self._dots or "." in joined
        self._commas = self._commas or "," in joined
        while match := re.search(rf"[.,]\d{{{self._decimals + 1},}}", joined):
            self._decimals = len(match.group()) - 1
        if "+" in joined and not self._bare:
            self._plus = True
        filled = int((~np.isnan(values)).sum())
        self._cells += filled
        if "e" in joined or "E" in joined:
            self._exponents += sum(1 for cell in cells if _EXPONENT.search(cell))
            self._upper = self._upper or re.search(r"\dE", joined) is not None
        if not self._bare:  # a plus sign is kept only where every number >= 0 has one
            signed = (unquoted(cell)[:1] in "+-" for cell in cells)
            self._bare = not all(sign or np.isnan(v) for sign, v in zip(signed, values, strict=True))

    @property
    def is_whole(self) -> bool:
        """True if no cell shows decimals or an exponent."""
        return not (self._decimals or self._exponents)

    def format(self, blank_gaps: bool) -> CellFormat:
        """Select the style of changed cells; with `blank_gaps` an empty cell is a valid gap."""
        sign = "+" if self._plus and not self._bare else ""
        missing = self._missing if self._missing is not None else "" if blank_gaps else "nan"
        if self._exponents and self._exponents < self._cells:
            return CellFormat("", 0, self._commas, missing)
        if self._exponents:
            digits = max(self._decimals, min(self._decimals + 2, 16))
            return CellFormat(f"{sign}.{digits}{'E' if self._upper else 'e'}", digits, self._commas, missing)
        digits = max(self._decimals, min(self._decimals + 2, 15))
        return CellFormat(f"{sign}z.{digits}f", digits, self._commas, missing)


@dataclass(frozen=True)
class TextLayout:
    """The places of the chosen cells of a text."""

    dialect: Dialect  # the rules that split it into cells
    width: int  # cells a row
    offset: int  # bytes before the first row of data: BOM, comments, title, header, units
    line: int  # line number of the first row of data
    chosen: tuple[int, ...]  # indices of the columns in the blocks
    formats: tuple[CellFormat, ...]  # the style of changed cells of each chosen column
    rows: int  # rows of data
    kinds: tuple[str, ...]  # the kind of the cells of each column of the file, as in `Head`

    def read(self, path: Path) -> _Rows:
        """Open the rows of data."""
        return _Rows(path, self.dialect, self.width, self.offset, self.line)


def _survey(path: Path, options: LogOptions) -> SensorInfo:
    head = head_of(path)
    kinds = zip(head.names, head.kinds, head.units, strict=True)
    surveys = [_TextColumn(name, kind, unit_in(unit) if unit else None) for name, kind, unit in kinds]
    rows = 0
    for chunk in _Rows(path, head.dialect, head.width, head.offset, head.line):
        rows += chunk.rows
        for survey, cells in zip(surveys, chunk.columns, strict=False):
            survey.add_cells(cells, chunk.lines, head.dialect.comma)
    info, chosen = table_info(path, surveys, rows, options)
    blank_gaps = head.dialect.delimiter != " " and head.width > 1
    layout = TextLayout(
        head.dialect,
        head.width,
        head.offset,
        head.line,
        chosen,
        tuple(surveys[index].format(blank_gaps) for index in chosen),
        rows,
        head.kinds,
    )
    whole = ", ".join([surveys[index].name for index in chosen if surveys[index].is_whole][:8])
    notes = (f"whole numbers of {whole} get decimals where they are cleaned",) if whole else ()
    return replace(info, notes=head.notes + info.notes + notes, own=layout)


class TextReader(SensorReader):
    """Reads the chosen columns of a delimited text."""

    def pieces(self) -> Iterator[Floats]:
        """Yield one piece for each chunk of text."""
        layout: TextLayout = self.info.own
        for chunk in layout.read(self.info.source):
            if chunk.rows:
                comma = layout.dialect.comma
                yield np.stack([numbers(chunk.columns[index], comma) for index in layout.chosen])

    def stamp_pieces(self, clock: Clock) -> Iterator[Floats]:
        """Yield one piece for each chunk of text."""
        layout: TextLayout = self.info.own
        times = _Times(layout.kinds[clock.index], layout.dialect.comma)
        for chunk in layout.read(self.info.source):
            if chunk.rows:
                yield times(chunk.columns[clock.index])[None]


class TextWriter(SensorWriter):
    """Writes the source text with the chosen cells replaced where their values changed."""

    def __init__(self, path: Path, info: SensorInfo) -> None:
        self._layout: TextLayout = info.own
        super().__init__(path, info, [(len(self._layout.chosen), self._layout.rows)])
        self._chunks = iter(self._layout.read(info.source))
        self._chunk = _Chunk([], (), {})
        self._done = 0  # rows of the chunk that are written

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Copy everything before the data."""
        self._file = stack.enter_context(temporary.open("wb"))
        with self.info.source.open("rb") as source:
            self._file.write(source.read(self._layout.offset))

    def put(self, block: Floats, _recording: int, _start: int) -> None:
        """Replace the cells of the next rows."""
        start = 0
        while start < block.shape[1]:
            while self._done == self._chunk.rows:
                self._next_chunk()
            stop = min(start + self._chunk.rows - self._done, block.shape[1])
            self._put_rows(block[:, start:stop])
            start = stop

    def finish(self) -> None:
        """Copy comments and blank lines after the last row."""
        while self._next_chunk(optional=True):
            if self._chunk.rows:
                raise OutputError(f"{self.path}: {self.info.source} grew while it was being cleaned")
        self._file.flush()

    def _next_chunk(self, optional: bool = False) -> bool:
        self._write(self._chunk.kept.get(self._chunk.rows, ""), self._chunk.closed)
        self._chunk, self._done = next(self._chunks, None) or _Chunk([], (), {}), 0
        present = bool(self._chunk.rows or self._chunk.kept)
        if not present and not optional:
            raise OutputError(f"{self.path}: {self.info.source} changed while it was being cleaned")
        return present

    def _write(self, text: str, closed: bool) -> None:
        """Write lines; the very last of a file may lack its line end."""
        if text:
            self._file.write(
                (text if closed else text[: -len(self._layout.dialect.newline)]).encode("latin-1")
            )

    def _put_rows(self, block: Floats) -> None:
        layout, chunk, start = self._layout, self._chunk, self._done
        stop = start + block.shape[1]
        columns: list[Sequence[str]] = [column[start:stop] for column in chunk.columns]
        for values, index, style in zip(block, layout.chosen, layout.formats, strict=True):
            columns[index] = _replaced(columns[index], values, style, layout.dialect.comma)
        newline = layout.dialect.newline
        lines = [*map(layout.dialect.joiner.join, zip(*columns, strict=True))]
        kept = {row - start: text for row, text in chunk.kept.items() if start <= row < stop}
        for row, text in kept.items():
            lines[row] = text + lines[row]
        self._done = stop
        is_last = stop == chunk.rows and chunk.rows not in chunk.kept
        self._write("".join([line + newline for line in lines]), chunk.closed or not is_last)


def _replaced(cells: Sequence[str], values: Floats, style: CellFormat, comma: bool) -> Sequence[str]:
    """Replace the text of cells whose values changed by more than the text shows."""
    old = numbers(cells, comma)
    changed = changed_samples(old, values, style.tolerance(old))
    rows = np.flatnonzero(changed)
    if not rows.size:
        return cells
    out = list(cells)
    for row, text in zip(rows.tolist(), style.texts(values[rows]), strict=True):
        out[row] = _with_core(out[row], text)
    return out


def _with_core(cell: str, text: str) -> str:
    """Replace the content of a cell, and keep its blanks and quotes."""
    core = cell.strip()
    if is_quoted(core):
        text = f'"{text}"'
    if len(core) == len(cell):
        return text
    return cell.replace(core, text, 1) if core else text + cell


def _reader(path: Path, options: LogOptions, recording: int, block: int) -> TextReader:
    check_recording(path, recording, 1)
    return TextReader(_survey(path, options), block)


FORMAT = SensorFormat(_reader, TextWriter)
