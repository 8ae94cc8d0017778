"""MiniSEED of seismometers (FDSN, versions 2 and 3), through pymseed (the extra `mseed`).

A trace is a channel without pauses, of one publication version: what follows a pause is a trace of its own.
Records whose samples change are packed anew with their own header, encoding and length; all others, and
channels of text, are copied. The whole file is in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import UnreadableError
from denoise.io.formats import optional_package
from denoise.io.limits import require_few
from denoise.io.sensor.base import naming_damage
from denoise.io.sensor.npz import ArchiveFormat, Member, loaded

_INT16 = 1  # the only encoding of integers that is narrower than the samples in memory
_WIDE = {"i": 3, "f": 4, "d": 5}  # encodings that hold every sample of a type
_LIMITS = (-32768.0, 32767.0)


class _MiniSeed:
    """Traces by network, station, location and channel; later ones of a channel with a number behind `#`."""

    def members(self, path: Path) -> dict[str, Member]:
        found: dict[str, Member] = {}
        for name, segment in _traces(path):
            require_few(len(found), "traces", f"{path}: ")
            values = np.array(segment.np_datasamples)
            narrow = any(each.record.encoding == _INT16 for each in segment.recordlist)
            found[name] = loaded(values, f"{path}: {name}", _rate(segment), _LIMITS if narrow else None)
            if segment.sampletype == "t":
                found[name] = Member(None, "text", found[name].load)
        if not found:
            raise UnreadableError(f"{path}: holds no samples; expected traces")
        return found

    def save(self, source: Path, temporary: Path, changed: Mapping[str, bytes]) -> tuple[str, ...]:
        data = source.read_bytes()
        packed: dict[int, tuple[int, bytes]] = {}  # old length and new bytes of changed records, by offset
        widened: Counter[str] = Counter()
        for name, segment in _traces(source):
            if name not in changed:
                continue
            old = np.array(segment.np_datasamples)
            new, start = np.frombuffer(changed[name], old.dtype), 0
            for each in segment.recordlist:
                part = slice(start, start + each.record.samplecnt)
                start = part.stop
                if not np.array_equal(old[part], new[part], equal_nan=old.dtype.kind == "f"):
                    raw = data[each.fileoffset : each.fileoffset + each.record.reclen]
                    anew, wider = _packed(raw, new[part], segment.sampletype)
                    packed[each.fileoffset] = len(raw), anew
                    widened[name.partition("#")[0]] += wider
        with temporary.open("wb") as file:
            done = 0
            for offset, (length, anew) in sorted(packed.items()):
                file.write(data[done:offset] + anew)
                done = offset + length
            file.write(data[done:])
        return tuple(
            f"{name}: {count} record{'s' * (count > 1)} packed without compression, as the encoding of the "
            "source cannot hold the samples"
            for name, count in widened.items()
            if count
        )


def _packed(raw: bytes, samples: Array, kind: str) -> tuple[bytes, bool]:
    """Pack a record anew with other samples; True if its own encoding cannot hold them, so another does."""
    seed = optional_package("miniSEED")
    record = seed.MS3Record.parse(raw)
    if record.formatversion == 3:  # records are as long as they need: one stays one
        record.reclen = len(raw) + 2 * samples.nbytes + 64
    try:
        return b"".join(record.generate(samples, kind)), False
    except seed.MiniSEEDError:  # steps that are too large for Steim-2; encodings that are only read
        record.encoding = _WIDE[kind]
        return b"".join(record.generate(samples, kind)), True


def _traces(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield name and segment of each stretch without a pause."""
    seed = optional_package("miniSEED", f"{path}: ")
    with naming_damage(str(path), "sound miniSEED records"), seed.MS3TraceList() as traces:
        traces.add_file(str(path), unpack_data=True, record_list=True, split_version=True)
        size = sum(record.reclen for record in seed.MS3Record.from_file(str(path)))
        if size < path.stat().st_size:
            raise UnreadableError(f"{path}: its last record is cut short; expected whole miniSEED records")
        numbers: Counter[str] = Counter()
        for trace in traces:
            name = ".".join(seed.sourceid2nslc(trace.sourceid))
            for segment in trace:
                numbers[name] += 1
                yield name + (f"#{numbers[name]}" if numbers[name] > 1 else ""), segment


def _rate(segment: Any) -> float | None:
    """Return the rate in Hz; negative rates are periods in seconds."""
    rate = float(segment.samprate)
    return rate if rate > 0 else -1.0 / rate if rate < 0 else None


FORMAT = ArchiveFormat(_MiniSeed())
