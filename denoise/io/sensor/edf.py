"""EDF and BDF, and their + forms: the European data format (Kemp et al., 1992; Kemp and Olivan, 2003).

The header and all annotations are kept byte for byte. Signals of different rates are pages of one file.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from denoise.arrays import Doubles
from denoise.errors import UnreadableError, UnsupportedError
from denoise.io.limits import require_few
from denoise.io.sensor.base import LogOptions, SensorFormat
from denoise.io.sensor.integers import CODES, ScaledReader, ScaledWriter, Signal, Store, scaled_reader

HEAD_BYTES = 256  # and the same for each signal
_FIELDS = {
    **{"label": 16, "transducer": 80, "unit": 8, "low": 8, "high": 8, "stored_low": 8, "stored_high": 8},
    **{"filter": 80, "count": 8, "reserved": 32},
}
_ONSET = re.compile(rb"([+-]\d+(?:\.\d*)?)[\x14\x15]")


def _reader(path: Path, options: LogOptions, recording: int, block: int) -> ScaledReader:
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if len(head) < HEAD_BYTES:
            raise UnreadableError(f"{path}: {len(head)} bytes; expected a header of {HEAD_BYTES}")
        code = CODES["24" if head[:1] == b"\xff" else "16"]
        count = int(_number(path, head[252:256], "number of signals"))
        require_few(count, "signals", f"{path}: ")
        fields = file.read(HEAD_BYTES * max(count, 0))
    offset = HEAD_BYTES * (count + 1)
    if count < 1 or len(fields) < offset - HEAD_BYTES or _number(path, head[184:192], "size") != offset:
        raise UnreadableError(f"{path}: the header of {count} signals is incomplete; expected 1 or more")
    duration_s = _number(path, head[244:252], "duration of a record")
    rows = [_row(fields, count, index) for index in range(count)]
    counts = tuple(int(_number(path, row["count"], "number of samples")) for row in rows)
    if min(counts) < 1 or duration_s < 0:
        raise UnreadableError(f"{path}: records of {min(counts)} samples, {duration_s:g} s; expected samples")
    size_bytes = path.stat().st_size
    stated = int(_number(path, head[236:244], "number of records"))
    held = (size_bytes - offset) // code.size_bytes(sum(counts))
    records = held if stated == -1 else max(stated, held)  # -1 where the recording was broken off
    if records < 1 or stated < -1:
        raise UnreadableError(f"{path}: {stated if stated < -1 else records} records; expected samples")
    store = Store(path, offset, code, counts, records)
    store.check(size_bytes)
    rates = [samples / duration_s if duration_s else None for samples in counts]
    signals = [
        _signal(path, row, place, rate) for place, (row, rate) in enumerate(zip(rows, rates, strict=True))
    ]
    interrupted = head[192:197] in (b"EDF+D", b"BDF+D")
    onsets_s = _onsets(path, store, signals) if interrupted else None
    reader = scaled_reader(path, [store], signals, options, recording, block, onsets_s)
    if records > stated > 0:
        note = f"its header states {stated} records, and it holds {records}: all are cleaned"
        reader.info = replace(reader.info, notes=(*reader.info.notes, note))
    return reader


def _row(fields: bytes, count: int, index: int) -> dict[str, bytes]:
    """Collect the header fields of one signal: each field is stored for all signals in turn."""
    row, at = {}, 0
    for name, size in _FIELDS.items():
        row[name] = fields[at + size * index : at + size * (index + 1)]
        at += size * count
    return row


def _number(path: Path, text: bytes, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise UnreadableError(f"{path}: the header has {text!r} for the {what}; expected a number")
    return value


def _signal(path: Path, row: dict[str, bytes], place: int, rate: float | None) -> Signal:
    name = row["label"].decode("latin-1").strip() or str(place + 1)
    if name.endswith(" Annotations"):
        return Signal(name, 0, place, 1.0, 0.0, 0, 0, reject_reason="annotations")
    keys = ("low", "high", "stored_low", "stored_high")
    low, high, stored_low, stored_high = (_number(path, row[key], f"{key} of {name!r}") for key in keys)
    if low == high or stored_low >= stored_high:
        raise UnsupportedError(
            f"{path}: {name!r} has the range {low:g} to {high:g}, stored as {stored_low:g} to "
            f"{stored_high:g}; expected a scale"
        )
    gain = (stored_high - stored_low) / (high - low)
    zero = stored_low - low * gain
    return Signal(name, 0, place, gain, zero, int(stored_low), int(stored_high), sample_rate=rate)


def _onsets(path: Path, store: Store, signals: list[Signal]) -> Doubles:
    """Read the onset of each record of an interrupted recording from its first annotation."""
    notes = next((signal for signal in signals if signal.reject_reason), None)
    if notes is None:
        raise UnreadableError(f"{path}: an interrupted recording without annotations; expected times")
    onsets_s = np.empty(store.records)
    with path.open("rb") as file:
        for record in range(store.records):
            text = store.code.encode(store.get(file, record, record + 1)[0, notes.columns(store)])
            match = _ONSET.match(text)
            if match is None:
                raise UnreadableError(
                    f"{path}: record {record + 1} has no time; expected one in an annotation"
                )
            onsets_s[record] = float(match[1])
    return onsets_s


FORMAT = SensorFormat(_reader, ScaledWriter)
