"""MiniSEED of seismometers (FDSN, versions 2 and 3), through pymseed (the extra `mseed`).

A trace is a channel without pauses: what follows a pause is a trace of its own. Where samples change, the
file is packed anew: identifiers, times, rates, encodings and the length of records are kept, flags and extra
headers are not. The whole file is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from denoise.errors import UnreadableError
from denoise.io.formats import optional_package
from denoise.io.limits import require_few
from denoise.io.sensor.base import naming_damage
from denoise.io.sensor.npz import ArchiveFormat, Member, loaded


class _MiniSeed:
    """Traces by network, station, location and channel; later ones of a channel with a number behind `#`."""

    def members(self, path: Path) -> dict[str, Member]:
        found: dict[str, Member] = {}
        for name, _, segment in _traces(path):
            require_few(len(found), "traces", f"{path}: ")
            values = np.array(segment.np_datasamples)
            found[name] = loaded(values, f"{path}: {name}", _rate(segment))
        if not found:
            raise UnreadableError(f"{path}: holds no samples; expected traces")
        return found

    def save(self, source: Path, temporary: Path, changed: Mapping[str, bytes]) -> None:
        seed = optional_package("miniSEED")
        packing: dict[str, tuple[int, int, int]] = {}  # of the first record of each channel
        for record in seed.MS3Record.from_file(str(source)):
            packing.setdefault(record.sourceid, (record.reclen, record.encoding, record.formatversion))
        temporary.unlink(missing_ok=True)
        for name, trace, segment in _traces(source):
            old = segment.np_datasamples
            values = np.frombuffer(changed[name], old.dtype) if name in changed else np.array(old)
            length, encoding, version = packing[trace.sourceid]
            with seed.MS3TraceList() as packed:
                packed.add_data(
                    trace.sourceid,
                    values,
                    segment.sampletype,
                    segment.samprate,
                    starttime=segment.starttime,
                    publication_version=trace.pubversion,
                )
                packed.to_file(
                    temporary,
                    max_record_length=length,
                    encoding=seed.DataEncoding(encoding),
                    format_version=version,
                )


def _traces(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """Yield name, trace and segment of each stretch without a pause."""
    seed = optional_package("miniSEED", f"{path}: ")
    with naming_damage(str(path), "sound miniSEED records"), seed.MS3TraceList() as traces:
        traces.add_file(str(path), unpack_data=True)
        size = sum(record.reclen for record in seed.MS3Record.from_file(str(path)))
        if size < path.stat().st_size:
            raise UnreadableError(f"{path}: its last record is cut short; expected whole miniSEED records")
        for trace in traces:
            name = ".".join(seed.sourceid2nslc(trace.sourceid))
            for number, segment in enumerate(trace, 1):
                yield name + (f"#{number}" if number > 1 else ""), trace, segment


def _rate(segment: Any) -> float | None:
    """Return the rate in Hz; negative rates are periods in seconds."""
    rate = float(segment.samprate)
    return rate if rate > 0 else -1.0 / rate if rate < 0 else None


FORMAT = ArchiveFormat(_MiniSeed())
