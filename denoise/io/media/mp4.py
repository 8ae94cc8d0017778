"""Replace the sound of MP4 and QuickTime files (ISO/IEC 14496-12), and leave all else in them as it is.

A remuxer drops what it does not know: the data tracks, keys and boxes of phones. Here the boxes of the source
are kept, and only those that describe the samples of a replaced track are exchanged.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles
from denoise.errors import UnsupportedError
from denoise.io.media.tracks import Track

_TREE = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts")
_DROPPED = (b"mdat", b"free", b"skip", b"wide")
_MAX_MOOV_BYTES = 1 << 28
_COPY_BYTES = 1 << 20
_GAPLESS = re.compile(
    rb"(data.{12}? 00000000 )([0-9A-F]{8}) ([0-9A-F]{8}) ([0-9A-F]{16})", re.DOTALL
)  # iTunSMPB

Int = NDArray[np.int64]


class NotSimpleError(UnsupportedError):
    """The file is of a form that cannot be edited box by box, such as fragments or data in other files."""


@dataclass(frozen=True)
class Replacement:
    """A track's new samples: an MP4 file with this one track, which starts at time 0."""

    track: Track
    path: Path
    start: int = 0  # time of the first sample in that file, in samples
    padding: int = 0  # samples of the last packet that are none of the sound


@dataclass
class _Box:
    kind: bytes
    content: bytes = b""
    children: list[_Box] = field(default_factory=list)

    def find(self, *kinds: bytes) -> _Box | None:
        """Return the first box down a path of kinds."""
        box: _Box | None = self
        for kind in kinds:
            box = next((child for child in box.children if child.kind == kind), None) if box else None
        return box

    def need(self, *kinds: bytes) -> _Box:
        """Return the first box down a path of kinds, or refuse the file."""
        found = self.find(*kinds)
        if found is None:
            raise NotSimpleError(f"holds no box {kinds[-1].decode('latin-1')}")
        return found

    def put(self, kind: bytes, box: _Box | None) -> None:
        """Replace the children of a kind by a box, in the place of the first; None removes them."""
        at = next((i for i, child in enumerate(self.children) if child.kind == kind), len(self.children))
        self.children = [child for child in self.children if child.kind != kind]
        if box:
            self.children.insert(at, box)

    def encoded(self) -> bytes:
        content = self.content + b"".join(child.encoded() for child in self.children)
        return struct.pack(">I4s", len(content) + 8, self.kind) + content


@dataclass(frozen=True)
class _Samples:
    """Layout of a track's samples: sizes, times, and the chunks that hold them."""

    count: int
    size: int  # of every sample, or 0
    ends: Int  # cumulative sizes, if they differ
    runs: Int  # `(n, 2)`: number of samples, and the duration of each
    timescale: int

    def bytes_before(self, samples: Int) -> Int:
        """Bytes of the samples before each of these."""
        return samples * self.size if self.size else np.concatenate([[0], self.ends])[samples]

    @property
    def clock(self) -> tuple[Int, Int]:
        """Numbers of samples, and the decoding times of these in the time scale, between which it is even."""
        counts, steps = self.runs.T
        return np.append(0, np.cumsum(counts)), np.append(0, np.cumsum(counts * steps))

    def time(self, samples: Int) -> Doubles:
        """Decoding time of each of these samples, seconds."""
        return np.interp(samples, *self.clock) / self.timescale

    def at(self, seconds: Doubles) -> Int:
        """First sample at or after each of these times."""
        counts, times = self.clock
        return np.ceil(np.interp(seconds * self.timescale, times, counts) - 1e-6).astype(np.int64)


@dataclass
class _Chunks:
    """Chunks of a track: where they are in their file, and how many bytes and samples each has."""

    file: BinaryIO
    offsets: Int
    sizes: Int
    counts: Int
    first: Int  # sample of each


def replace_tracks(
    source: Path, destination: Path, replacements: Sequence[Replacement]
) -> list[tuple[str, str]]:
    """Write `source` with the samples of some tracks replaced.

    Returns:
        For each of them the four letters that named its coding in the source, and those of the result.

    Raises:
        NotSimpleError: It is fragmented, refers to other files, or has absolute positions elsewhere.
    """
    with source.open("rb") as file:
        top = list(_top_level(file))
        kinds = [kind for kind, _, _ in top]
        if kinds.count(b"moov") != 1 or b"moof" in kinds or b"mdat" not in kinds:
            raise NotSimpleError("is fragmented")
        if b"meta" in kinds:
            raise NotSimpleError("has items beside its tracks")
        moov = _read_moov(file, top)
        by_id = {_track_id(trak): trak for trak in moov.children if trak.kind == b"trak"}
        if not {new.track.id for new in replacements} <= by_id.keys():
            raise NotSimpleError("has sound without a track of its own")
        old = {id_: _chunks(trak, file) for id_, trak in by_id.items()}
        chunks = dict(old)
        marks = [_coding_mark(by_id[new.track.id]) for new in replacements]
        with ExitStack() as opened:
            for new in replacements:
                handle = opened.enter_context(new.path.open("rb"))
                chunks[new.track.id] = _graft(moov, by_id[new.track.id], new, handle, old[new.track.id])
            _write(file, top, moov, by_id, _order(old, chunks), destination)
    return [(mark, _coding_mark(by_id[new.track.id])) for mark, new in zip(marks, replacements, strict=True)]


def _coding_mark(trak: _Box) -> str:
    """Read the kind of the first sample entry, which names the coding."""
    return trak.need(b"mdia", b"minf", b"stbl", b"stsd").content[12:16].decode("latin-1")


def _top_level(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the boxes of a file."""
    end = file.seek(0, 2)
    at = 0
    while at + 8 <= end:
        file.seek(at)
        head = file.read(16)
        size, kind = struct.unpack(">I4s", head[:8])
        size = int.from_bytes(head[8:16], "big") if size == 1 else size or end - at
        if size < 8 or at + size > end:
            raise NotSimpleError("is cut short")
        yield kind, at, at + size
        at += size


def _read_moov(file: BinaryIO, top: list[tuple[bytes, int, int]]) -> _Box:
    start, end = next((start, end) for kind, start, end in top if kind == b"moov")
    if end - start > _MAX_MOOV_BYTES:
        raise NotSimpleError("has a huge index")
    file.seek(start)
    return _parsed(file.read(end - start))[0]


def _parsed(data: bytes) -> list[_Box]:
    boxes, at = [], 0
    while at + 8 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        head = 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if size < head or at + size > len(data):
            if kind == b"\0\0\0\0" or size == 0:  # QuickTime ends lists by a zero
                break
            raise NotSimpleError("is damaged")
        content = data[at + head : at + size]
        if kind in (b"mvex", b"cmov"):
            raise NotSimpleError("is fragmented or packed")
        boxes.append(_Box(kind, b"", _parsed(content)) if kind in _TREE else _Box(kind, content))
        at += size
    return boxes


def _track_id(trak: _Box) -> int:
    content = trak.need(b"tkhd").content
    at = 20 if content[0] == 1 else 12
    return int.from_bytes(content[at : at + 4], "big")


def _table(box: _Box, dtype: str, columns: int, head: int = 8) -> Int:
    """Read the entries of a full box as `(n, columns)`."""
    number = int.from_bytes(box.content[head - 4 : head], "big")
    data = np.frombuffer(box.content, dtype, number * columns, head)
    return data.reshape(number, columns).astype(np.int64)


def _full(kind: bytes, entries: Int, dtype: str) -> _Box:
    return _Box(kind, struct.pack(">II", 0, len(entries)) + entries.astype(dtype).tobytes())


def _samples(trak: _Box) -> _Samples:
    stbl = trak.need(b"mdia", b"minf", b"stbl")
    runs = _table(stbl.need(b"stts"), ">u4", 2)
    timescale = _timescale(trak.need(b"mdia", b"mdhd"))
    if not timescale:
        raise NotSimpleError("has a track without a time scale")
    if stbl.find(b"stz2"):
        raise NotSimpleError("has compact sizes")
    stsz = stbl.need(b"stsz").content
    size, number = struct.unpack(">II", stsz[4:12])
    ends = (
        np.cumsum(np.frombuffer(stsz, ">u4", number, 12).astype(np.int64))
        if not size
        else np.zeros(0, np.int64)
    )
    return _Samples(number, size, ends, runs, timescale)


def _chunks(trak: _Box, file: BinaryIO) -> _Chunks:
    stbl, samples = trak.need(b"mdia", b"minf", b"stbl"), _samples(trak)
    dref = trak.find(b"mdia", b"minf", b"dinf")
    if dref is None or any(not box.content[3] & 1 for box in _parsed(dref.content[16:])):
        raise NotSimpleError("refers to other files")
    wide = stbl.find(b"co64")
    offsets = _table(wide, ">u8", 1)[:, 0] if wide else _table(stbl.need(b"stco"), ">u4", 1)[:, 0]
    stsc = _table(stbl.need(b"stsc"), ">u4", 3)
    number = len(offsets)
    repeats = np.diff(np.append(stsc[:, 0], number + 1))
    if number and (not len(stsc) or stsc[0, 0] != 1 or (repeats < 0).any()):
        raise NotSimpleError("has damaged chunks")
    counts = np.repeat(stsc[:, 1], repeats)
    first = np.concatenate([[0], np.cumsum(counts)])
    if first[-1] != samples.count:
        raise NotSimpleError("has chunks that do not hold its samples")
    if samples.size == 1 and samples.count > number:  # QuickTime counts samples of several bytes as one
        raise NotSimpleError("has sound of QuickTime's first version")
    return _Chunks(file, offsets, np.diff(samples.bytes_before(first)), counts, first[:-1])


def _timescale(header: _Box) -> int:
    """Read the time scale of a movie or media header."""
    at = 20 if header.content[0] == 1 else 12
    return int.from_bytes(header.content[at : at + 4], "big")


def _with_times(header: _Box, timescale: int, duration: int) -> _Box:
    """Make a media header with another time scale and duration."""
    c = header.content
    if c[0] == 1:
        return _Box(header.kind, c[:20] + struct.pack(">IQ", timescale, duration) + c[32:])
    return _Box(header.kind, c[:12] + struct.pack(">II", timescale, min(duration, 2**32 - 1)) + c[20:])


def _graft(moov: _Box, trak: _Box, new: Replacement, handle: BinaryIO, old: _Chunks) -> _Chunks:
    """Exchange the boxes of a track; return its new chunks, those that take the place of each old one."""
    fresh_moov = _read_moov(handle, list(_top_level(handle)))
    fresh = fresh_moov.need(b"trak")
    source_samples, samples, chunks = _samples(trak), _samples(fresh), _chunks(fresh, handle)
    if not len(chunks.offsets) or (np.diff(chunks.offsets) != chunks.sizes[:-1]).any():
        raise NotSimpleError("has new sound in pieces")
    # The new chunks begin at the times of the old ones.
    stops = samples.at(source_samples.time(np.append(old.first, source_samples.count)))
    stops[:1], stops[-1:] = 0, samples.count
    counts = np.diff(np.maximum.accumulate(stops)) if len(stops) > 1 else np.array([samples.count])
    first = np.concatenate([[0], np.cumsum(counts)])
    starts = samples.bytes_before(first)
    pieces = _Chunks(handle, chunks.offsets[0] + starts[:-1], np.diff(starts), counts, first[:-1])

    stbl, table = trak.need(b"mdia", b"minf", b"stbl"), fresh.need(b"mdia", b"minf", b"stbl")
    kept = counts > 0
    numbers = np.arange(1, kept.sum() + 1)
    stsc = np.stack([numbers, counts[kept], np.ones_like(numbers)], axis=1)
    changes = np.append(True, np.diff(stsc[:, 1]) != 0)
    stbl.children = [box for box in table.children if box.kind not in (b"stsc", b"stco", b"co64")]
    stbl.children += [_full(b"stsc", stsc[changes], ">u4"), _Box(b"stco")]
    media = fresh.need(b"mdia", b"mdhd")
    header = trak.need(b"mdia", b"mdhd")
    duration = int((samples.runs[:, 0] * samples.runs[:, 1]).sum())
    delay = next((media_time for _, media_time in _edits(fresh) if media_time >= 0), 0)
    (_, begin), (sample, time) = new.track.marks[0], new.track.marks[-1]
    padding = duration - delay - new.track.samples - (time - begin - sample)  # of the last packet
    if 0 < padding < samples.runs[-1, 1] and _timescale(media) == new.track.sample_rate:
        runs = np.append(samples.runs, [[1, samples.runs[-1, 1] - padding]], axis=0)
        runs[-2, 0] -= 1
        stbl.put(b"stts", _full(b"stts", runs[runs[:, 0] > 0], ">u4"))
        duration -= padding
    trak.need(b"mdia").put(b"mdhd", _with_times(header, _timescale(media), duration))
    _edit(moov, trak, fresh, new.track)
    return pieces


def _edits(trak: _Box) -> list[tuple[int, int]]:
    """Read durations (movie time scale) and media times of the edits of a track; -1 for an empty one."""
    elst = trak.find(b"edts", b"elst")
    if elst is None:
        return []
    wide = elst.content[0] == 1
    number = int.from_bytes(elst.content[4:8], "big")
    form, size = (">Qq", 20) if wide else (">Ii", 12)
    return [struct.unpack_from(form, elst.content, 8 + size * i) for i in range(number)]


def _edit(moov: _Box, trak: _Box, fresh: _Box, track: Track) -> None:
    """Make the edit list: the start of the source, then the sound without the delay of its encoder.

    Both have the durations that the source states for them, as far as these are only rounded otherwise.
    """
    scale = _timescale(moov.need(b"mvhd"))
    start = max(track.marks[0][1], 0) / track.sample_rate * scale
    edits = _edits(trak)
    empty = sum(duration for duration, media_time in edits if media_time == -1)
    stated = sum(duration for duration, media_time in edits if media_time >= 0)
    pause = empty if abs(empty - start) <= 1 else round(start)
    delay = next((media_time for _, media_time in _edits(fresh) if media_time >= 0), 0)
    last, at = track.marks[-1][1] - track.marks[0][1], track.marks[-1][0]
    length = -(-(last + track.samples - at) * scale // track.sample_rate)  # what is shorter ends it
    length = stated if abs(stated - length) <= 1 else length
    edits = ([(pause, -1)] if pause else []) + [(length, delay)]
    body = b"".join(struct.pack(">QqI", *edit, 0x10000) for edit in edits)
    elst = _Box(b"elst", struct.pack(">II", 1 << 24, len(edits)) + body)
    if all(value < 2**31 for edit in edits for value in edit):
        body = b"".join(struct.pack(">IiI", *edit, 0x10000) for edit in edits)
        elst = _Box(b"elst", struct.pack(">II", 0, len(edits)) + body)
    trak.put(b"edts", _Box(b"edts", b"", [elst]))
    if trak.children[-1].kind == b"edts":  # after the track's header, where most readers expect it
        trak.children.insert(1, trak.children.pop())
    _patch_gapless(moov, delay, track.samples)


def _patch_gapless(moov: _Box, delay: int, samples: int) -> None:
    """Correct the delay, padding and length that iTunes states in a tag of its own."""

    def corrected(match: re.Match[bytes]) -> bytes:
        padding = -(delay + samples) % 1024
        return match[1] + b"%08X %08X %016X" % (delay, padding, samples)

    for box in moov.children:
        if box.kind == b"udta":
            box.content = _GAPLESS.sub(corrected, box.content)


def _order(old: Mapping[int, _Chunks], chunks: Mapping[int, _Chunks]) -> list[tuple[int, _Chunks, int]]:
    """Order all chunks as they are in the source: track, chunks, and the number among these."""
    keys = [(int(offset), id_, i) for id_, found in old.items() for i, offset in enumerate(found.offsets)]
    return [(id_, chunks[id_], i) for _, id_, i in sorted(keys) if i < len(chunks[id_].offsets)]


def _write(
    file: BinaryIO,
    top: list[tuple[bytes, int, int]],
    moov: _Box,
    by_id: Mapping[int, _Box],
    order: list[tuple[int, _Chunks, int]],
    destination: Path,
) -> None:
    order = [entry for entry in order if entry[1].sizes[entry[2]]]
    sizes = np.array([int(chunks.sizes[i]) for _, chunks, i in order], np.int64)
    places = np.concatenate([[0], np.cumsum(sizes)])
    owners = np.array([id_ for id_, _, _ in order])
    wide = bool(places[-1] + _MAX_MOOV_BYTES > 2**32)

    def index(base: int) -> bytes:
        """Encode the movie box for samples that begin at `base`."""
        for id_, trak in by_id.items():
            stbl = trak.need(b"mdia", b"minf", b"stbl")
            offsets = (places[:-1][owners == id_] + base)[:, None]
            for kind in (b"stco", b"co64"):
                if stbl.find(kind):
                    stbl.put(kind, _full(b"co64" if wide else b"stco", offsets, ">u8" if wide else ">u4"))
                    break
        return moov.encoded()

    moov_size = len(index(0))
    first_data = next(i for i, (kind, _, _) in enumerate(top) if kind == b"mdat")
    kept = [entry for entry in top if entry[0] not in _DROPPED]
    before = [entry for entry in top[:first_data] if entry[0] not in _DROPPED]
    base = 16 + sum(moov_size if kind == b"moov" else end - start for kind, start, end in before)
    moov_bytes = index(base)
    with destination.open("wb") as out:
        for number, (kind, start, end) in enumerate([*kept, (b"", 0, 0)]):
            if number == len(before):
                out.write(struct.pack(">I4sQ", 1, b"mdat", int(places[-1]) + 16))
                for _, chunks, i in order:
                    _copy(chunks.file, int(chunks.offsets[i]), int(chunks.sizes[i]), out)
            if kind == b"moov":
                out.write(moov_bytes)
            elif kind:
                _copy(file, start, end - start, out)


def _copy(source: BinaryIO, start: int, size: int, target: BinaryIO) -> None:
    source.seek(start)
    while size:
        data = source.read(min(size, _COPY_BYTES))
        if not data:
            raise NotSimpleError("ends before its samples")
        target.write(data)
        size -= len(data)
