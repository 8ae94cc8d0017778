"""Numbers as text: decimal mark, thousands separator, missing values.

`1,234` is a fraction in Berlin and more than a thousand in Boston. So the marks of a column are found from
many of its cells, and a column whose cells allow both readings is reported, not guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from denoise.arrays import Doubles
from denoise.errors import InputError


def word_set(text: str, delimiter: str | None = None) -> frozenset[str]:
    """Return the set of words of a text."""
    return frozenset(text.split(delimiter))


# Words of loggers, spreadsheets and meters for a reading that is not there, lower case.
_SIGNS = word_set(
    ", -, --, ---, ----, -----, ?, *, **, ***, ****, /, //, ///, ., .., nan, +nan, -nan, -nan(ind), "
    "1.#qnan, -1.#ind, na, n/a, n.a., null, none, nil, #n/a, #n/v, #nv, #value!, #wert!, #div/0!, #ref!, "
    "#num!",
    ", ",
)
_WORDS = word_set(
    "bad, ol, o.l, o.l., overload, ovld, out of range, error, err, fault, invalid, bad input, i/o "
    "timeout, pt created, not available, missing, no data, nodata, unavailable, unknown, over, "
    "under, overflow, underflow, overrange, underrange, over range, under range, open circuit, no reading",
    ", ",
)
MISSING = _SIGNS | _WORDS
_INFINITE = frozenset(["inf", "infinity", "1.#inf", "∞", "∞".encode().decode("latin-1")])
_PLAIN = {
    ".": re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"),
    ",": re.compile(r"[+-]?(?:\d+(?:,\d+)?|,\d+)(?:[eE][+-]?\d+)?"),  # `5,` is half of a list
}
# A reading with a mark: beyond the range of the instrument, below its limit of detection, or doubted by it.
_FLAGGED = re.compile(r"(?:[<>]=?\s*[+-]?[\d.,']*\d|[+-]?[\d.,']*\d\s*[*!#]{1,2})")
# Units that may stand in each cell: none of time, and none that may be a code or a point of the compass.
_UNITS = word_set("% ‰ °C °F V mV mA kW Hz kHz bar mbar hPa kPa Pa mm cm m/s km/h kg ppm ppb lx dB rpm bpm")
_SUFFIX = re.compile(r"[+-]?[\d.,']*\d(\s?[^\s\d.,'+-][^\d]{0,6})")
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(?:([.,'])\d{3})(?:\1\d{3})*(?:([.,])\d*)?")  # 1.234,5 and 1'234.5
_MARKED = re.compile(r"[+-]?[\d.,']*\d[\d.,']*(?:[eE][+-]?\d+)?")


def is_quoted(core: str) -> bool:
    return len(core) > 1 and core[0] == core[-1] == '"'


def unquoted(cell: str) -> str:
    core = cell.strip()
    return core[1:-1].strip() if is_quoted(core) else core


def is_word(cell: str) -> bool:
    """True for a missing value that is written as a word, which in a header may be a name."""
    return unquoted(cell).lower() in _WORDS


def is_flagged(cell: str) -> bool:
    """True for a number with a mark: `18.96*`, `<16.5`."""
    return _FLAGGED.fullmatch(unquoted(cell)) is not None


def find_suffix(cells: Iterable[str]) -> str:
    """Find the unit that ends each cell of a column which is not missing, blanks before it included."""
    cores = [core for core in map(unquoted, cells) if core.lower() not in MISSING]
    found = {match[1] if (match := _SUFFIX.fullmatch(core)) else "" for core in cores}
    suffix = found.pop() if len(found) == 1 else ""
    return suffix if decoded_text(suffix).strip() in _UNITS else ""


def decoded_text(text: str) -> str:
    """Decode UTF-8 that was read byte by byte."""
    with suppress(UnicodeError):
        return text.encode("latin-1").decode("utf-8")
    return text


def shown(text: str) -> str:
    """Shorten a text of the file for a message."""
    text = decoded_text(text)
    return text if len(text) <= 30 else text[:27] + "..."


class NotNumbersError(InputError):
    """A cell that is neither number nor missing; `row` counts within the chunk."""

    def __init__(self, row: int, text: str) -> None:
        super().__init__(f"{text!r} is not a number")
        self.row = row
        self.text = shown(text)


@dataclass(frozen=True)
class NumberForm:
    """The form of the numbers of a column."""

    decimal: str = "."  # the decimal mark, `.` or `,`
    thousands: str = ""  # the mark between groups of three digits, or nothing
    suffix: str = ""  # a unit at the end of each cell, with the blanks before it

    def number(self, cell: str) -> float:
        """Parse one cell; NaN if it is missing, or has a mark.

        Raises:
            ValueError: It is text, or a number of another form.
        """
        core = unquoted(cell)
        if self.suffix and core.lower() not in MISSING:
            if not core.endswith(self.suffix):
                raise ValueError(core)
            core = core.removesuffix(self.suffix)
        if _PLAIN[self.decimal].fullmatch(core):
            return float(core.replace(",", "."))
        groups = _GROUPS.fullmatch(core) if self.thousands else None
        if groups and groups[1] == self.thousands and groups[2] in (None, self.decimal):
            return float(core.replace(self.thousands, "").replace(",", "."))
        lowered = core.lower()
        if lowered in MISSING or _FLAGGED.fullmatch(core):
            return np.nan
        if lowered.lstrip("+-") in _INFINITE:
            return -np.inf if lowered[0] == "-" else np.inf
        raise ValueError(core)

    def parse(self, cells: Sequence[str]) -> Doubles:
        """Parse the cells of a column; missing ones are NaN.

        Raises:
            NotNumbersError: The first cell that is text.
        """
        # Fast paths; `float` accepts the same numbers, and also underscores between digits.
        joined = "\n".join(cells)
        if "_" not in joined and not self.thousands and not self.suffix:
            with suppress(ValueError):
                if self.decimal == ".":
                    return np.fromiter(map(float, cells), np.float64, len(cells))
                if "." not in joined and joined.count("\n") == len(cells) - 1:
                    parts = joined.replace(",", ".").split("\n")
                    return np.fromiter(map(float, parts), np.float64, len(cells))
        out = np.empty(len(cells))
        for row, cell in enumerate(cells):
            try:
                out[row] = self.number(cell)
            except ValueError as error:
                raise NotNumbersError(row, str(error)) from None
        return out

    def texts(self, values: Doubles, spec: str) -> list[str]:
        """Format numbers; an empty `spec` gives the shortest text that parses to the same value."""
        plain = list(map(f"{{:{spec}}}".format if spec else repr, values.tolist()))
        if self.suffix:
            return [text + self.suffix for text in replace(self, suffix="").texts(values, spec)]
        if self.thousands:
            return list(map(self._grouped, plain))
        return plain if self.decimal == "." else "\n".join(plain).replace(".", self.decimal).split("\n")

    def _grouped(self, plain: str) -> str:
        whole, mark, rest = plain.partition(".")
        if whole.lstrip("+-").isdigit() and len(whole.lstrip("+-")) > 3:
            whole = f"{int(whole):{'+' if whole[0] == '+' else ''},}".replace(",", self.thousands)
        return whole + (self.decimal if mark else "") + rest


def find_form(cells: Iterable[str], decimal: str = "", comma: bool = True) -> tuple[NumberForm | None, str]:
    """Find the form of a column.

    Args:
        cells: Some of its cells.
        decimal: The decimal mark, if it is known.
        comma: True if a cell may hold a comma: they are not delimited by commas, or are quoted.

    Returns:
        The form, or None if no cell decides between two; and the first cell that allows two readings.
    """
    cores = [core for core in map(unquoted, cells) if _MARKED.fullmatch(core)]
    marked = [core for core in cores if "." in core or "'" in core or (comma and "," in core)]
    grouped = [match for match in map(_GROUPS.fullmatch, marked) if match]
    pairs = {(match[1], match[2]) for match in grouped if match[2]}
    if not decimal and pairs:  # 1.234,5
        decimal = max(pairs, key=lambda pair: sum((m[1], m[2]) == pair for m in grouped))[1]
    loose = [core for core in marked if not _GROUPS.fullmatch(core)]  # 21,5: not a thousands separator
    for mark in ".,":
        if not decimal and any(_PLAIN[mark].fullmatch(core) and mark in core for core in loose):
            decimal = mark
    repeated = [m[1] for m in grouped if m.group().count(m[1]) > 1 and m[1] != "'"]  # 1.234.567
    if not decimal and repeated:
        decimal = "," if repeated[0] == "." else "."
    if decimal:
        others = {m[1] for m in grouped if m[1] != decimal and (m[2] in (None, decimal))}
        return NumberForm(decimal, min(others) if others else ""), ""
    if any(m[1] == "'" for m in grouped):
        return NumberForm(".", "'"), ""
    return (None, grouped[0].group()) if grouped else (None, "")
