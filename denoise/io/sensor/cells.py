"""Text of changed cells of a table, in the style of their column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from denoise.arrays import Doubles
from denoise.io.sensor.base import changed_samples, with_gaps
from denoise.io.sensor.numerals import NumberForm, is_quoted
from denoise.signal import Domain


@dataclass(frozen=True)
class CellFormat:
    """The style of the changed cells of one column."""

    spec: str  # for `format`; empty for the shortest text that reads back exactly
    digits: int  # decimals (of the mantissa, where the spec has an exponent)
    form: NumberForm
    missing: str  # the text of a gap

    def tolerance(self, values: Doubles) -> Doubles | float:
        """Change of a value that leaves its text the same."""
        half_unit = 0.5 * 10.0**-self.digits
        if not self.spec:
            return 0.0
        return half_unit * np.abs(values) if self.spec[-1] in "eE" else half_unit

    def texts(self, values: Doubles) -> list[str]:
        """Format the values."""
        out = self.form.texts(values, self.spec)
        for index in np.flatnonzero(np.isnan(values)).tolist():
            out[index] = self.missing
        return out


def replaced(cells: Sequence[str], values: Doubles, style: CellFormat, domain: Domain) -> Sequence[str]:
    """Replace the text of cells whose values changed by more than the text shows."""
    old = with_gaps(style.form.parse(cells), domain)
    changed = changed_samples(old, values, style.tolerance(old))
    rows = np.flatnonzero(changed)
    if not rows.size:
        return cells
    out, texts = list(cells), style.texts(values[rows])
    end = _common_end(cells)
    for row, text in zip(rows.tolist(), texts, strict=True):
        out[row] = _with_core(out[row], text) if end is None else text + end
    return out


def _common_end(cells: Sequence[str]) -> str | None:
    """Return what follows the content of each cell, a CR or nothing; None if some have blanks or quotes."""
    end = "\r" if cells[0].endswith("\r") else ""
    joined = "".join(cells)
    if end:
        if joined.count(end) != len(cells) or not all(map(str.endswith, cells, repeat(end))):
            return None
        joined = joined.replace(end, "")
    return end if '"' not in joined and joined.split() == [joined] else None


def _with_core(cell: str, text: str) -> str:
    """Replace the content of a cell, and keep its quotes, and its width if spare blanks allow."""
    core = cell.strip()
    if is_quoted(core):
        text = f'"{text}"'
    if len(core) == len(cell):
        return text
    before, after = cell.split(core, 1) if core else ("", cell)
    for _ in range(len(text) - len(core)):
        if before.startswith("  "):
            before = before[1:]
        elif after.startswith("  "):
            after = after[1:]
    return before + text + after
