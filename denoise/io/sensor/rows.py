"""Rows of a delimited text, chunk by chunk, and the comparison of two texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import BinaryIO

from denoise.errors import InputError, UnreadableError
from denoise.io.sensor.dialect import COMMENT, MAX_RECORD_BYTES, Head
from denoise.io.sensor.numerals import NumberForm
from denoise.io.sensor.text import open_text

CHUNK_BYTES = 1 << 20


@dataclass
class Chunk:
    columns: list[Sequence[str]]  # cells with their blanks and quotes; empty where there are no rows
    lines: Sequence[int]  # the line number of each row
    kept: dict[int, str]  # comments and blank lines before each row, or after the last
    closed: bool = True  # the last row ends in a line end
    cut: str = ""  # a last line that lacks cells and a line end, as of a logger that lost power; it is kept

    @property
    def rows(self) -> int:
        return len(self.lines)


class Rows:
    """The data rows of a file, chunk by chunk."""

    def __init__(self, path: Path, head: Head) -> None:
        self._path = path
        self._dialect = head.dialect
        self._width = head.width
        self._offset = head.offset
        self._line = head.line

    def __iter__(self) -> Iterator[Chunk]:
        with open_text(self._path) as file:
            file.seek(self._offset)
            yield from self._chunks(file)

    def _chunks(self, file: BinaryIO) -> Iterator[Chunk]:
        newline, line, carry = self._dialect.newline, self._line, ""
        while True:
            raw = file.read(CHUNK_BYTES)
            text = carry + raw.decode("latin-1")
            if not text:
                return
            end = text.rfind(newline) + 1 if raw else len(text)
            whole = text[:end]
            closed = whole.endswith(newline)
            if closed and not whole.strip():  # blank lines alone, of which a small packed file holds millions
                yield Chunk([], (), {0: whole})
                line, carry = line + whole.count(newline), text[end:]
                continue
            lines = whole.removesuffix(newline).split(newline) if whole else []
            cut = lines.pop() if lines and not raw and not closed and self._is_cut(lines[-1]) else ""
            chunk, used = self._parse(lines, line, last=not raw)
            if cut:
                chunk.kept[chunk.rows] = chunk.kept.get(chunk.rows, "") + cut + newline
                chunk.cut, used = cut, used + 1
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

    def _is_cut(self, line: str) -> bool:
        is_row = bool(line.strip()) and not COMMENT.match(line) and '"' not in line
        return is_row and len(self._dialect.split(line)) < self._width

    def _parse(self, lines: list[str], first: int, last: bool) -> tuple[Chunk, int]:
        """Parse rows; also return the number of lines used: fewer if the last record is still open."""
        delimiter, width = self._dialect.delimiter, self._width
        text = delimiter.join(lines)
        plain = '"' not in text and "#" not in text and delimiter != " " and bool(lines)
        if plain and set(map(str.count, lines, repeat(delimiter))) == {width - 1}:
            cells = text.split(delimiter)  # in one split: a list for each row takes half as long again
            if width > 1 or all(map(str.strip, cells)):
                columns: list[Sequence[str]] = [cells[index::width] for index in range(width)]
                return Chunk(columns, range(first, first + len(lines)), {}), len(lines)
        return self._parse_slowly(lines, first, last)

    def _parse_slowly(self, lines: list[str], first: int, last: bool) -> tuple[Chunk, int]:
        newline, dialect = self._dialect.newline, self._dialect
        rows: list[list[str]] = []
        numbers_of_lines: list[int] = []
        held: dict[int, list[str]] = {}  # text is joined once: a sum of many lines takes quadratic time

        def chunk() -> Chunk:
            kept = {row: "".join(part + newline for part in parts) for row, parts in held.items()}
            return Chunk(list(zip(*rows, strict=True)), numbers_of_lines, kept)

        index = 0
        while index < len(lines):
            record, start = lines[index], index
            index += 1
            if not record.strip() or COMMENT.match(record):
                held.setdefault(len(rows), []).append(record)
                continue
            is_open = dialect.is_open(record)
            while is_open:
                if index == len(lines) and not last:
                    return chunk(), start
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
        return chunk(), len(lines)


class _Cursor:
    """A place in the rows of a text."""

    def __init__(self, rows: Rows) -> None:
        self._chunks = iter(rows)
        self._chunk = Chunk([], (), {})
        self._done = self._before = 0  # rows that were taken from the chunk, and rows in the chunks before it
        self.kept: list[tuple[int, str]] = []  # comments, and the rows before them

    @property
    def rows(self) -> int:
        """Rows that can be taken at once; 0 at the end."""
        while self._done == self._chunk.rows:
            self._before += self._chunk.rows
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._chunk, self._done = chunk, 0
            self.kept += [(self._before + row, text.strip()) for row, text in chunk.kept.items()]
        return self._chunk.rows - self._done

    def take(self, rows: int) -> list[Sequence[str]]:
        """Take the columns of the next rows."""
        start, self._done = self._done, self._done + rows
        return [column[start : self._done] for column in self._chunk.columns]


def find_difference(old: Rows, new: Rows, chosen: Mapping[int, NumberForm]) -> str:
    """Compare two texts of one layout: the same rows, comments and cells but for chosen numbers.

    Returns:
        The first difference in words; empty if there is none.
    """
    one, two, done = _Cursor(old), _Cursor(new), 0
    try:
        while count := min(one.rows, two.rows):
            for index, (before, after) in enumerate(zip(one.take(count), two.take(count), strict=True)):
                if index in chosen:
                    chosen[index].parse(after)
                elif list(before) != list(after):  # of a list or a tuple
                    row = next(row for row in range(count) if before[row] != after[row])
                    return f"row {done + row + 1}, column {index + 1}: {after[row]!r} for {before[row]!r}"
            done += count
    except InputError as error:
        return str(error)
    if one.rows or two.rows:
        return f"{'fewer' if one.rows else 'more'} rows, from row {done + 1} on"
    return "" if one.kept == two.kept else "other comments or blank lines"
