"""Sensor logs: one codec, dispatched by what the first bytes tell, and by suffix where that is text.

| suffix | module | what is kept |
|---|---|---|
| `.csv` `.tsv` | `sensor_text` | every byte of every cell that is not changed |
| `.npy`, `.npz` | `sensor_array`, `sensor_archive` | dtype, axis order, memory order, names, other arrays |
| `.parquet` | `sensor_parquet` | schema, metadata, row groups, nulls (needs the extra `parquet`) |
| `.hea` | `sensor_wfdb` | format, gain, baseline, annotations |
| `.edf` `.bdf` | `sensor_edf` | header, scale, annotations |
| `.mat` | `sensor_mat` | classes, other variables |
| `.h5` `.hdf5` | `sensor_hdf5` | attributes, other data sets (needs the extra `hdf5`) |

Blocks are float64 `(C, n)` in the log's own units; NaN is a gap. A reader may be iterated more than once.
A file whose arrays differ in length has `info.pages` > 1: read them one by one with `page=`, and give the
writer all blocks of page 0, then all of page 1, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from denoise.errors import InputError, UnreadableError, UsageError, printable
from denoise.io.sensor.columns import BLOCK, SensorReader, SensorWriter, Wanted
from denoise.io.sniff import HEAD_BYTES, TEXT, Kind, kind_of
from denoise.registry import resolve
from denoise.signal import SignalInfo

__all__ = ["CODEC", "SensorCodec"]

_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "text": "denoise.io.sensor.csv:FORMAT",
        "NPY": "denoise.io.sensor.npy:NPY",
        "NPZ": "denoise.io.sensor.npz:NPZ",
        "Parquet": "denoise.io.sensor.parquet:FORMAT",
        "WFDB": "denoise.io.sensor.wfdb:FORMAT",
        "EDF": "denoise.io.sensor.edf:FORMAT",
        "BDF": "denoise.io.sensor.edf:FORMAT",
        "MAT": "denoise.io.sensor.mat:FORMAT",
        "HDF5": "denoise.io.sensor.hdf5:FORMAT",
    }
)
_TEXT_SUFFIXES = (".csv", ".tsv")  # of texts that are tables


def _kind(path: Path) -> Kind:
    """What the file holds, if that is a sensor log."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UnreadableError(f"{path}: {reason}; expected a readable file") from error
    if not head:
        raise UnreadableError(f"{path}: the file is empty; expected a sensor log")
    kind = kind_of(head, path.suffix)
    if path.suffix.lower() in _TEXT_SUFFIXES and kind.name in ("text", "unknown"):
        return TEXT  # not UTF-8, or damaged: the text reader says what and where
    if kind.modality != "sensor":
        raise UnreadableError(f"{path}: holds {kind.name} data; expected a sensor log")
    return kind


class SensorCodec:
    """Reads and writes sensor logs.

    Options of `probe` and `reader`:
        columns, exclude, sample_rate, time_unit: See `Wanted`. Columns have 1-based positions for names where
            there is no header; those of an NPZ are its arrays.
        page: Which of the recordings of a file whose arrays differ in length.
        block: Samples a block (reader only).
    """

    def probe(self, path: Path, **options: Any) -> SignalInfo:
        """What the file holds; text and tables are gone through once, in bounded memory."""
        return self.reader(path, **options).info

    def reader(self, path: Path, *, page: int = 0, block: int = BLOCK, **options: Any) -> SensorReader:
        """Open a log for reading block by block."""
        wanted = Wanted(**options)
        try:
            opened: SensorReader = self._format(_kind(path)).reader(path, wanted, page, block)
        except InputError as error:
            if str(error).isprintable():
                raise
            # A name from the file has a line end or a control character in it.
            raise InputError(printable(str(error))) from error
        return opened

    def writer(self, path: Path, info: SignalInfo) -> SensorWriter:
        """Open a log for writing: the source of `info` with the chosen samples replaced."""
        kind = _kind(info.source)
        suffixes = _TEXT_SUFFIXES if kind is TEXT else kind.suffixes
        if path.suffix.lower() not in (*suffixes, info.source.suffix.lower()):
            raise UsageError(
                f"{path}: a {info.source.suffix} log is written in its own format; "
                f"expected a name that ends in {info.source.suffix}"
            )
        opened: SensorWriter = self._format(kind).writer(path, info)
        return opened

    def _format(self, kind: Kind) -> Any:
        return resolve(_FORMATS[kind.name])


CODEC = SensorCodec()
