"""FIT activities of watches and bicycle computers (Garmin), through fitdecode (the extra `fit`); only read.

The fields of the messages `record` are the columns; a result is a CSV of all of them. Laps, events and device
settings are left out.
"""

from __future__ import annotations

import csv
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from denoise.errors import UnreadableError
from denoise.io.formats import optional_package
from denoise.io.limits import require_few
from denoise.io.sensor.base import naming_damage
from denoise.io.sensor.npz import ArchiveFormat, Member, loaded

_DIGITS = 6  # of a cleaned value


class _Fit:
    """Fields by name, a value for each record; NaN where a record lacks the field.

    The second field of a name in a record has `#2` behind it.
    """

    def members(self, path: Path) -> dict[str, Member]:
        found: dict[str, Member] = {}
        for name, values in _fields(path).items():
            kinds = {type(value) for value in values} - {type(None)}
            if kinds == {datetime.datetime}:
                stamps = [value and value.astimezone(datetime.UTC).replace(tzinfo=None) for value in values]
                found[name] = loaded(np.array(stamps, "datetime64[us]"), f"{path}: {name}")
            elif kinds and kinds <= {int, float}:
                found[name] = loaded(np.array(values, np.float64), f"{path}: {name}")
            else:
                kind = next(iter(kinds), None)
                found[name] = Member(None, kind.__name__ if kind else "empty", loaded(np.zeros(1), "").load)
        return found

    def save(self, source: Path, temporary: Path, changed: Mapping[str, bytes]) -> None:
        columns = []
        for name, old in _fields(source).items():
            new = np.frombuffer(changed[name]).tolist() if name in changed else old
            columns.append([_cell(*pair) for pair in zip(old, new, strict=True)])
        with temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(_fields(source))
            table.writerows(zip(*columns, strict=True))


def _fields(path: Path) -> dict[str, list[Any]]:
    """Read the records: name of each field to its values."""
    fit = optional_package("FIT", f"{path}: ")
    found: dict[str, list[Any]] = {}
    rows = 0
    sound = naming_damage(str(path), "a sound FIT file")
    with sound, fit.FitReader(str(path), check_crc=fit.CrcCheck.RAISE) as reader:
        for frame in reader:
            if frame.frame_type != fit.FIT_FRAME_DATA or frame.name != "record":
                continue
            defined = {field.name for field in frame.fields if not field.is_expanded}
            here: set[str] = set()
            for field in frame.fields:
                if field.is_expanded and field.name in defined:
                    continue  # computed from a field beside it
                name, number = field.name, 1
                while name in here:
                    number += 1
                    name = f"{field.name}#{number}"
                here.add(name)
                column = found.setdefault(name, [])
                column += [None] * (rows - len(column)) + [field.value]
            require_few(len(found), "fields", f"{path}: ")
            rows += 1
    if not rows:
        raise UnreadableError(f"{path}: holds no records; expected an activity")
    return {name: column + [None] * (rows - len(column)) for name, column in found.items()}


def _cell(old: Any, new: Any) -> Any:
    """Write a value: as it was, or cleaned."""
    if isinstance(new, float) and new != old:
        return old if np.isnan(new) else f"{new:.{_DIGITS}g}"
    return old.isoformat() if isinstance(old, datetime.datetime) else old


FORMAT = ArchiveFormat(_Fit(), converts=True)
