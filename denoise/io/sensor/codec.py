"""Sensor logs: one codec, whose formats keep everything that is not cleaned.

| suffix | module | kept |
|---|---|---|
| `.csv` `.tsv`, and tables of any name | `csv` | every byte of every cell that is not changed |
| `.npy`, `.npz` | `npy`, `npz` | dtype, axis order, memory order, names, other arrays |
| `.parquet` | `parquet` | schema, metadata, row groups, nulls (needs the extra `parquet`) |
| `.hea` | `wfdb` | format, gain, baseline, annotations |
| `.edf` `.bdf` | `edf` | header, scale, annotations |
| `.mat` | `mat` | classes, other variables |
| `.h5` `.hdf5` | `hdf5` | attributes, other data sets (needs the extra `hdf5`) |
| `.xlsx` `.xlsm` | `xlsx` | other cells, sheets, formulas, styles (needs the extra `xlsx`) |
| `.tdms` | `tdms` | groups, channels, properties (needs the extra `tdms`) |
| `.mseed` `.miniseed` | `mseed` | traces, times, encoding, length of records (needs the extra `mseed`) |
| `.fif` | `fif` | measurement info, other channels, annotations (needs the extra `fif`) |
| `.fit` | `fit` | every field of its records, as CSV (needs the extra `fit`) |

Blocks are float64 `(C, n)` in the log's own units; NaN is a gap. A reader may be iterated more than once.
A file whose arrays differ in length holds `info.pages` > 1 recordings: read them one by one with
`recording=`, and give the writer all blocks of recording 0, then all of recording 1, and so on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from denoise.errors import InputError, UnreadableError, UsageError, printable
from denoise.io.base import Codec
from denoise.io.formats import FORMATS, Format
from denoise.io.sensor.base import BLOCK, LogOptions, SensorReader, SensorWriter
from denoise.io.sniff import format_of, read_head
from denoise.registry import resolve
from denoise.signal import SignalInfo


def _format(path: Path) -> Format:
    """Recognise the format of a sensor log."""
    found = format_of(read_head(path, "a sensor log"), path.suffix)
    text = FORMATS["text"]
    if found.name in ("unknown", "text") and path.suffix.lower() in (*text.suffixes, *text.loose_suffixes):
        return text  # not UTF-8, or damaged: the text reader says what and where
    if found.modality != "sensor":
        raise UnreadableError(f"{path}: holds {found.name} data; expected a sensor log")
    return found


def _reader(path: Path, *, recording: int = 0, block: int = BLOCK, **options: Any) -> SensorReader:
    """Open a log; text and tables are read once for the survey, in bounded memory.

    Args:
        recording: Number of the recording in a file whose arrays differ in length, from 0.
        block: Samples in a block.
        options: Fields of `LogOptions`. Columns without a header have 1-based positions for names; those of
            an NPZ are its arrays.
    """
    try:
        row, chosen = _format(path), LogOptions(**options)
        opened: SensorReader = resolve(row.codec).reader(path, chosen, recording, block)
    except InputError as error:
        if str(error).isprintable():
            raise
        # A name from the file contains a line end or a control character.
        raise InputError(printable(str(error))) from error
    return opened


def _writer(path: Path, info: SignalInfo) -> SensorWriter:
    """Open a log for writing: the source of `info` with the chosen samples replaced."""
    source = _format(info.source)
    written = source.written_suffix or info.source.suffix
    own = () if source.written_suffix else source.suffixes
    if path.suffix.lower() not in (*own, written.lower()):
        form = f"as {written}" if source.written_suffix else "in its own format"
        raise UsageError(
            f"{path}: a {info.source.suffix} log is written {form}; expected a name that ends in {written}"
        )
    return resolve(source.codec).writer(path, info)


CODEC = Codec(_reader, _writer)
