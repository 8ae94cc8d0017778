"""Delimited text: CSV and TSV in the dialects that loggers write.

The file is read in chunks of about a megabyte: once for the survey (columns, time, decimals), once for each
iteration, once for writing. Everything that is not changed keeps its bytes.

A changed cell is written with two more decimals than its column shows (at most 15, unless it shows more), so
that rounding adds less than a hundredth of the present noise; whole numbers get decimals too. A column of
`1.5e-3` keeps exponents; one that mixes both forms gets the shortest text that parses to the same value. A
cell whose text at that precision is unchanged is left as it is.
"""

from __future__ import annotations

import codecs
import gzip
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import IO, cast

import numpy as np

from denoise.arrays import Doubles
from denoise.errors import InputError, OutputError, UnreadableError
from denoise.io.sensor.base import (
    LogOptions,
    SensorFormat,
    SensorReader,
    SensorWriter,
    check_recording,
)
from denoise.io.sensor.cells import CellFormat, replaced
from denoise.io.sensor.columns import decimals_note, table_info
from denoise.io.sensor.dialect import Head, head_of
from denoise.io.sensor.doubts import refuse_sources
from denoise.io.sensor.numerals import (
    MISSING,
    NotNumbersError,
    NumberForm,
    decoded_text,
    is_flagged,
    shown,
    unquoted,
)
from denoise.io.sensor.rows import Chunk, Rows, find_difference
from denoise.io.sensor.stamps import Stamps, seconds_of
from denoise.io.sensor.survey import ColumnSurvey, unit_in
from denoise.io.sensor.text import GZIP, WIDE, open_text, open_unpacked
from denoise.signal import DECIMALS, DELIMITERS, Clock, SensorInfo

_MORE_DECIMALS = 2  # of a changed cell than its column shows
_MOST_FLAGGED = 0.1  # share of the readings
_EXPONENT = re.compile(r"\d[.,]?[eE][+-]?\d")
_ZERO_PADDED = re.compile(r"^[\s\"']*0\d+[\s\"']*$", re.MULTILINE)


class _TextColumn(ColumnSurvey):
    """A column of text cells: its numbers, and their style."""

    def __init__(self, name: str, kind: str, text_unit: str, form: NumberForm, day_first: bool) -> None:
        stamps = {"stamp": "time", "clock": "time of day"}.get(kind, "")
        unit = unit_in(text_unit) if text_unit else None
        super().__init__(name, "s" if stamps else unit, stamps, wraps=kind == "clock")
        self.unit_text = text_unit
        self.kind = kind
        self._form = form
        self._stamps = Stamps(kind, form, day_first)
        self._decimals = 0
        self._plus = self._bare = False
        self._cells = 0  # filled ones, and those of them with an exponent
        self._exponents = 0
        self._upper = False
        self._missing: str | None = None

    def add_cells(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        """Add the column's cells of one chunk."""
        if not self.reject_reason:
            try:
                if self.kind == "number":
                    self._add_numbers(cells, lines)
                elif self.kind == "text":
                    self._add_text(cells, lines)
                else:
                    self.add(self._stamps(cells))
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

    def _add_numbers(self, cells: Sequence[str], lines: Sequence[int]) -> None:
        values = self._form.parse(cells)
        infinite = np.isinf(values)
        if infinite.any() and not self.infinite:
            self.infinite = f"line {lines[int(np.argmax(infinite))]}"
        missing = [cells[row] for row in np.flatnonzero(np.isnan(values)).tolist()]
        flagged = [cell for cell in missing if is_flagged(cell)]
        self.flagged += len(flagged)
        if flagged and not self.first_flagged:
            self.first_flagged = unquoted(flagged[0])
        if self._missing is None and len(missing) > len(flagged):
            self._missing = next(cell.strip() for cell in missing if not is_flagged(cell))
        self._add_style("\n".join(cells), cells, values)
        self.add(values)

    def _add_style(self, joined: str, cells: Sequence[str], values: Doubles) -> None:
        mark = re.escape(self._form.decimal)
        while match := re.search(rf"{mark}\d{{{self._decimals + 1},}}", joined):
            self._decimals = len(match.group()) - 1
        self.zero_padded = self.zero_padded or _ZERO_PADDED.search(joined) is not None
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

    def close(self) -> None:
        """Give a column up of which many cells have a mark: they may say more than that of a fault."""
        if self.flagged > _MOST_FLAGGED * self._cells:
            self._give_up(f"{self.flagged} cells such as {shown(self.first_flagged)!r}")

    @property
    def is_whole(self) -> bool:
        """True if no cell shows decimals or an exponent."""
        return not (self._decimals or self._exponents)

    def format(self, blank_gaps: bool, more_decimals: int) -> CellFormat:
        """Select the style of changed cells; with `blank_gaps` an empty cell is a valid gap."""
        sign = "+" if self._plus and not self._bare else ""
        missing = self._missing if self._missing is not None else "" if blank_gaps else "nan"
        if self._exponents and self._exponents < self._cells:
            return CellFormat("", 0, self._form, missing)
        if self._exponents:
            digits = max(self._decimals, min(self._decimals + more_decimals, 16))
            return CellFormat(f"{sign}.{digits}{'E' if self._upper else 'e'}", digits, self._form, missing)
        digits = max(self._decimals, min(self._decimals + more_decimals, 15))
        return CellFormat(f"{sign}z.{digits}f", digits, self._form, missing)


@dataclass(frozen=True)
class TextLayout:
    """The places of the chosen cells of a text."""

    head: Head
    chosen: tuple[int, ...]  # indices of the columns in the blocks
    formats: tuple[CellFormat, ...]  # the style of changed cells of each chosen column
    rows: int  # rows of data
    marks: tuple[str, str]  # delimiter and decimal mark that the caller gave

    @property
    def forms(self) -> tuple[NumberForm, ...]:
        """The form of the numbers of each chosen column."""
        return tuple(self.head.forms[index] for index in self.chosen)

    def read(self, path: Path) -> Rows:
        """Open the rows of data."""
        return Rows(path, self.head)


@lru_cache(maxsize=1)
def _survey(path: Path, options: LogOptions, _state: tuple[int, ...]) -> SensorInfo:
    """Survey a file; again only if its state has changed, for that takes as long as reading all rows."""
    marks = DELIMITERS.get(options.delimiter or "", ""), DECIMALS.get(options.decimal or "", "")
    head = head_of(path, *marks)
    surveys = [
        _TextColumn(name, kind, unit or decoded_text(form.suffix).strip(), form, head.day_first)
        for name, kind, unit, form in zip(head.names, head.kinds, head.units, head.forms, strict=True)
    ]
    rows, cut, combined = 0, "", ColumnSurvey("date and time", "s", "time")
    for chunk in Rows(path, head):
        cut = chunk.cut
        if not rows and options.columns is None:
            refuse_sources(path, head.names, chunk.columns, head.forms)
        rows += chunk.rows
        if head.date_parts and chunk.rows:
            combined.add(_combined(chunk, head))
        for survey, cells in zip(surveys, chunk.columns, strict=False):
            survey.add_cells(cells, chunk.lines)
    for survey in surveys:
        survey.close()
    _require_times(path, surveys)
    parts = combined if head.date_parts else None
    info, chosen = table_info(path, surveys, rows, options, parts, head.sample_rate)
    more_decimals = 0 if options.keep_resolution else _MORE_DECIMALS
    blank_gaps = head.dialect.delimiter != " " and head.width > 1
    formats = tuple(surveys[index].format(blank_gaps, more_decimals) for index in chosen)
    layout = TextLayout(head, chosen, formats, rows, marks)
    notes = decimals_note([surveys[i].name for i in chosen if surveys[i].is_whole and more_decimals])
    if cut:
        notes.append(f"the last line is cut off: {shown(cut)!r} is kept as it is")
    return replace(info, notes=(*head.notes, *info.notes, *notes), own=layout)


def _require_times(path: Path, surveys: Sequence[_TextColumn]) -> None:
    """Refuse a table whose only times are interrupted by text, as above a sum or a second table."""
    times = [column for column in surveys if column.kind != "text" and column.maybe_time_named]
    if times and all(column.reject_reason for column in times):
        raise UnreadableError(
            f"{path}: {times[0].reject_reason} in the column of times {times[0].name!r}; "
            "expected a time in each row: remove the line, or begin it with #"
        )


def _combined(chunk: Chunk, head: Head) -> Doubles:
    """Put the times of a chunk together from its columns of year, month, day, hour, minute and second."""
    values = {}
    for name, index in head.date_parts.items():
        try:
            values[name] = head.forms[index].parse(chunk.columns[index])
        except NotNumbersError:
            return np.full(chunk.rows, np.nan)
    return seconds_of(values)


class TextReader(SensorReader):
    """Reads the chosen columns of a delimited text."""

    def pieces(self) -> Iterator[Doubles]:
        """Yield one piece for each chunk of text."""
        layout: TextLayout = self.info.own
        for chunk in layout.read(self.info.source):
            if chunk.rows:
                columns = zip(layout.chosen, layout.forms, strict=True)
                yield np.stack([form.parse(chunk.columns[index]) for index, form in columns])

    def stamp_pieces(self, clock: Clock) -> Iterator[Doubles]:
        """Yield one piece for each chunk of text."""
        head: Head = self.info.own.head
        if clock.index < 0:
            for chunk in self.info.own.read(self.info.source):
                if chunk.rows:
                    yield _combined(chunk, head)[None]
            return
        times = Stamps(head.kinds[clock.index], head.forms[clock.index], head.day_first)
        for chunk in self.info.own.read(self.info.source):
            if chunk.rows:
                yield times(chunk.columns[clock.index])[None]


class TextWriter(SensorWriter):
    """Writes the source text with the chosen cells replaced where their values changed."""

    def __init__(self, path: Path, info: SensorInfo) -> None:
        self._layout: TextLayout = info.own
        super().__init__(path, info, [(len(self._layout.chosen), self._layout.rows)])
        self._chunks = iter(self._layout.read(info.source))
        self._chunk = Chunk([], (), {})
        self._done = 0  # rows of the chunk that are written
        self._packed: gzip.GzipFile | None = None

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Copy everything before the data."""
        self._temporary = temporary
        self._file: IO[bytes] = stack.enter_context(temporary.open("wb"))
        self._raw = self._file
        with self.info.source.open("rb") as source:
            if source.read(2) == GZIP:  # without a name and a time, the same text gives the same bytes
                self._packed = stack.enter_context(gzip.GzipFile("", "wb", fileobj=self._raw, mtime=0))
                self._file = cast(IO[bytes], self._packed)
        with open_unpacked(self.info.source) as source:
            mark = source.read(2)
        if encoding := WIDE.get(mark):
            self._file.write(mark)
            self._file = cast(IO[bytes], codecs.EncodedFile(self._file, "utf-8", encoding))
        with open_text(self.info.source) as text:
            self._file.write(text.read(self._layout.head.offset))

    def put(self, block: Doubles, _recording: int, _start: int) -> None:
        """Replace the cells of the next rows."""
        start = 0
        while start < block.shape[1]:
            while self._done == self._chunk.rows:
                self._next_chunk()
            stop = min(start + self._chunk.rows - self._done, block.shape[1])
            self._put_rows(block[:, start:stop])
            start = stop

    def finish(self) -> None:
        """Copy comments and blank lines after the last row, and compare the result with the source."""
        while self._next_chunk(optional=True):
            if self._chunk.rows:
                raise OutputError(f"{self.path}: {self.info.source} grew while it was being cleaned")
        if self._packed:
            self._packed.close()
        self._raw.flush()
        self._compare()

    def _compare(self) -> None:
        """Read the result as any program would, and compare it with the source.

        Raises:
            OutputError: It has another shape or names, or an untouched cell is another one.
        """
        layout = self._layout
        difference = self._header_difference(layout.marks[1])
        # rounded, 20.200 may leave the marks open, which are those of the source
        if not difference or not self._header_difference(layout.forms[0].decimal):
            chosen = dict(zip(layout.chosen, layout.forms, strict=True))
            difference = find_difference(layout.read(self.info.source), layout.read(self._temporary), chosen)
        if difference:
            raise OutputError(
                f"{self.path}: the result does not read back as {self.info.source}: {difference}; "
                "expected the same table: give --delimiter and --decimal"
            )

    def _header_difference(self, decimal: str) -> str:
        """Compare header and delimiter of the result with those of the source; empty if they agree."""
        layout = self._layout
        try:
            again = head_of(self._temporary, layout.marks[0], decimal, self.info.source.suffix)
        except InputError as error:
            return str(error)
        names = ("dialect", "kinds", "names", "offset")
        same = all(getattr(again, name) == getattr(layout.head, name) for name in names)
        return "" if same else "another delimiter, header or kind of column"

    def _next_chunk(self, optional: bool = False) -> bool:
        self._write(self._chunk.kept.get(self._chunk.rows, ""), self._chunk.closed)
        self._chunk, self._done = next(self._chunks, None) or Chunk([], (), {}), 0
        present = bool(self._chunk.rows or self._chunk.kept)
        if not present and not optional:
            raise OutputError(f"{self.path}: {self.info.source} changed while it was being cleaned")
        return present

    def _write(self, text: str, closed: bool) -> None:
        """Write lines; the very last of a file may lack its line end."""
        if text:
            self._file.write(
                (text if closed else text[: -len(self._layout.head.dialect.newline)]).encode("latin-1")
            )

    def _put_rows(self, block: Doubles) -> None:
        layout, chunk, start = self._layout, self._chunk, self._done
        stop = start + block.shape[1]
        columns: list[Sequence[str]] = [column[start:stop] for column in chunk.columns]
        for values, index, style, domain in zip(
            block, layout.chosen, layout.formats, self.info.domains, strict=True
        ):
            columns[index] = replaced(columns[index], values, style, domain)
        newline = layout.head.dialect.newline
        lines = [*layout.head.dialect.joined(zip(*columns, strict=True))]
        kept = {row - start: text for row, text in chunk.kept.items() if start <= row < stop}
        for row, text in kept.items():
            lines[row] = text + lines[row]
        self._done = stop
        is_last = stop == chunk.rows and chunk.rows not in chunk.kept
        self._write(newline.join(lines) + newline, chunk.closed or not is_last)


def _reader(path: Path, options: LogOptions, recording: int, block: int) -> TextReader:
    check_recording(path, recording, 1)
    status = path.stat()
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    names = None if options.columns is None else tuple(options.columns)
    hashable = replace(options, columns=names, exclude=tuple(options.exclude))
    return TextReader(_survey(path, hashable, state), block)


FORMAT = SensorFormat(_reader, TextWriter)
