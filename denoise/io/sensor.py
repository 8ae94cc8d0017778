"""Sensor logs: one codec, dispatched by suffix.

| suffix | module | what is kept |
|---|---|---|
| `.csv` `.tsv` | `sensor_text` | every byte of every cell that is not changed |
| `.npy` `.npz` | `sensor_array` | dtype, axis order, memory order, names, other arrays |
| `.parquet` | `sensor_parquet` | schema, metadata, row groups, nulls (needs the extra `parquet`) |

Blocks are float64 `(C, n)` in the log's own units; NaN is a gap. A reader may be iterated more than once.
An NPZ whose arrays differ in length has `info.pages` > 1: read them one by one with `page=`, and give the
writer all blocks of page 0, then all of page 1, and so on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from denoise.errors import UnreadableError, UsageError
from denoise.io.sensor_columns import SensorReader, SensorWriter
from denoise.registry import lookup
from denoise.signal import SignalInfo

__all__ = ["CODEC", "SensorCodec"]

_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        ".csv": "denoise.io.sensor_text:FORMAT",
        ".tsv": "denoise.io.sensor_text:FORMAT",
        ".npy": "denoise.io.sensor_array:NPY",
        ".npz": "denoise.io.sensor_array:NPZ",
        ".parquet": "denoise.io.sensor_parquet:FORMAT",
    }
)


def _check_readable(path: Path) -> None:
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UnreadableError(f"{path}: {reason}; expected a readable file") from error
    if empty:
        raise UnreadableError(f"{path}: the file is empty; expected a sensor log")


class SensorCodec:
    """Reads and writes sensor logs.

    Options of `probe` and `reader`:
        columns: Names (or globs, or 1-based positions where there is no header) of what to clean; for NPZ,
            names of arrays. None takes all numeric columns but times, row counters and flags.
        sample_rate: Hz; overrides what the file tells.
        page: Which of the recordings of an NPZ whose arrays differ in length.
        block: Samples a block (reader only).
    """

    def probe(self, path: Path, **options: Any) -> SignalInfo:
        """What the file holds; text and tables are gone through once, in bounded memory."""
        return self.reader(path, **options).info

    def reader(self, path: Path, **options: Any) -> SensorReader:
        """Open a log for reading block by block."""
        _check_readable(path)
        opened: SensorReader = self._format(path).reader(path, **options)
        return opened

    def writer(self, path: Path, info: SignalInfo) -> SensorWriter:
        """Open a log for writing: the source of `info` with the chosen samples replaced."""
        source, target = self._format(info.source), self._format(path)
        if source is not target:
            raise UsageError(
                f"{path}: a {os.fspath(info.source.suffix)} log is written in its own format; "
                f"expected a name that ends in {info.source.suffix}"
            )
        opened: SensorWriter = target.writer(path, info)
        return opened

    def _format(self, path: Path) -> Any:
        return lookup(_FORMATS, path.suffix.lower(), "sensor format")


CODEC = SensorCodec()
