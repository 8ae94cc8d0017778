"""Links of an audio file: the recordings in it, one after another, each with its true length.

libsndfile reads one recording, to the length that its header or its first frame suggests. A joined MP3, a
chained Ogg file (RFC 3533), a VBR MP3 without a count of its frames, a FLAC whose header counts too few and a
WAV that was never closed all hold more. So the frames are counted here, and each link is opened as a file of
its own (`denoise.io.audio.view`), whose header has the right number.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from denoise.errors import TooLargeError
from denoise.io.audio import flac, mpeg, ogg
from denoise.io.audio.chunks import Chunk, chunks, form_at

MAX_LINKS = 4096  # each is opened twice
_MORE_BYTES = 8192  # behind the samples; fewer may be anything


@dataclass(frozen=True)
class Link:
    """One recording in a file."""

    start: int = 0  # byte offset of its first byte
    stop: int | None = None  # byte offset behind its last byte; None is the end of the file
    # bytes to read in place of those in the file, by their offset
    patches: Mapping[int, bytes] = field(default_factory=dict)
    endless: bool = False  # the decoder derives the length from the size, and must be given an endless one
    samples: int | None = None  # number of samples, where the decoder does not know it

    @property
    def is_whole(self) -> bool:
        """True if it is the file as it is."""
        return self == Link()


@dataclass(frozen=True)
class Layout:
    """The links of a file."""

    links: tuple[Link, ...] = (Link(),)  # in order; at least one
    notes: tuple[str, ...] = ()  # sentences about headers that are wrong
    # what is missing or damaged, in words; None if nothing is, as far as headers tell
    damage: str | None = None
    stretch: float = 1.0  # length that the header promises, over the length that is there


def layout(path: Path) -> Layout:
    """Find the links of an audio file.

    Raises:
        TooLargeError: There are more than `MAX_LINKS`.
    """
    with path.open("rb") as file:
        start = mpeg.id3_bytes(file.read(10))
        file.seek(start)
        signature = file.read(4)
        if signature == b"OggS" and not start:
            found = _ogg(file)
        elif signature == b"fLaC":
            found = _flac(file, start)
        elif form_at(file, start):
            found = _riff(file, start)
        else:
            found = _mpeg(file)
    if len(found.links) > MAX_LINKS:
        raise TooLargeError(
            f"{path}: holds {len(found.links)} joined recordings; expected {MAX_LINKS} at most"
        )
    if len(found.links) > 1:
        note = f"holds {len(found.links)} recordings, one after another; the result is one"
        return replace(found, notes=(note, *found.notes))
    return found


def _ogg(file: BinaryIO) -> Layout:
    starts = ogg.chain(file)
    page = ogg.last_page(file)
    damage, notes = None, tuple[str, ...]()
    if page.missing_bytes:
        damage = f"cut short, the last Ogg page lacks {page.missing_bytes} bytes, expected a whole one"
    elif not page.ends_stream:
        notes = (ogg.OPEN_END,)
    if len(starts) < 2:
        return Layout((Link(),), notes, damage)
    return Layout(tuple(Link(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True)), notes, damage)


def _flac(file: BinaryIO, start: int) -> Layout:
    links, notes = [], list[str]()
    streams = list(flac.streams(file, start))
    for stream in streams:
        stop = stream.stop if stream is not streams[-1] else None
        patches = {}
        if stream.samples > stream.stated_samples:
            patches = dict([stream.patch(file)])
            stated = stream.stated_samples
            notes.append(
                f"the header states {stated / stream.sample_rate:.1f} s, less than there are; all are read"
                if stated
                else "the header does not state the length, so it was counted"
            )
        if stream.changed:
            sample, rate = stream.changed
            notes.append(
                f"the sample rate changes from {stream.sample_rate} to {rate} Hz after "
                f"{sample / stream.sample_rate:.1f} s; the result states the first for all of it"
            )
        links.append(Link(stream.start, stop, patches))
    return Layout(tuple(links) or (Link(),), tuple(notes))


def _riff(file: BinaryIO, start: int) -> Layout:
    """Lay out WAV, RF64 and AIFF; more than one of them may follow one another."""
    end = file.seek(0, 2)
    links, notes = list[Link](), list[str]()
    damage, stretch = None, 1.0
    while True:
        found = dict[str, Chunk]()
        every = list(chunks(file, start))
        for chunk in every:
            found.setdefault(chunk.name, chunk)
        following = next((found[name].start - 8 for name in ("RIFF", "FORM") if name in found), None)
        stop = following or end
        data = found.get("data") or found.get("SSND")
        patches: dict[int, bytes] = {}
        if data and data.size == 0 and data.start < stop and not _reaches(found.values(), stop):
            patches = _sized(file, start, found, data, stop)
            notes.append("the header states no samples, as of a recorder that lost power; all are read")
        elif data and data.size and data.start + data.size > end:
            damage = f"cut short, {end - data.start} bytes of samples, expected the {data.size} of its header"
            stretch = data.size / max(end - data.start, 1)
        elif data and data.size and _go_on(file, every, data.start + data.size + data.size % 2, stop):
            patches = _sized(file, start, found, data, stop)
            notes.append(
                f"the header states {data.size} bytes of samples, fewer than there are; all are read"
            )
        links.append(Link(start, following, patches))
        if following is None:
            return Layout(tuple(links), tuple(notes), damage, stretch)
        start = following


def _reaches(found: Iterable[Chunk], stop: int) -> bool:
    """Tell whether the last chunk ends where the file does, so that no bytes are left over."""
    last = max(found, key=lambda chunk: chunk.start)
    return 0 <= last.start + (last.size or 0) + 1 - stop <= 1


def _go_on(file: BinaryIO, every: Iterable[Chunk], end: int, stop: int) -> bool:
    """Tell whether samples go on behind the `end` that the header states: no chunk, tag, text or zeros do."""
    if stop - end < _MORE_BYTES or any(
        chunk.start == end + 8 and chunk.start + (chunk.size or 0) <= stop + 1 for chunk in every
    ):
        return False
    tag_bytes = mpeg.tag_at(file, end)
    file.seek(end)
    rest = file.read(_MORE_BYTES)
    return not (tag_bytes or rest[:256].isascii() or not rest.strip(b"\0"))


def _sized(
    file: BinaryIO, start: int, found: Mapping[str, Chunk], data: Chunk, stop: int
) -> dict[int, bytes]:
    """Patches that give a header without a length that of all bytes up to `stop`."""
    order = form_at(file, start)
    size = stop - data.start
    patches = {data.start - 4: struct.pack(f"{order}I", min(size, 0xFFFFFFFF))}
    if "ds64" in found:
        patches[found["ds64"].start + 8] = struct.pack("<Q", size)
    if "COMM" in found:
        file.seek(found["COMM"].start)
        channels, _, bits = struct.unpack(">hIh", file.read(8))
        frame_bytes = max(channels * -(-bits // 8), 1)
        patches[found["COMM"].start + 2] = struct.pack(">I", (size - 8) // frame_bytes)
    return patches


def _stream_bytes(file: BinaryIO, stream: mpeg.Stream) -> dict[int, bytes]:
    """Correct the size that LAME's tag states, where it is wrong: the decoder would warn on the terminal."""
    if stream.count_at is None:
        return {}
    file.seek(stream.count_at - 8)
    tag, size = file.read(16), stream.stop - stream.start
    states = tag[:4] in (b"Xing", b"Info") and tag[7] & 2 and len(tag) == 16
    return {stream.count_at + 4: size.to_bytes(4)} if states and size != int.from_bytes(tag[12:]) else {}


def _mpeg(file: BinaryIO) -> Layout:
    streams = list(mpeg.streams(file))
    if not streams:  # of free format, or damaged: the decoder decides
        return Layout()
    end = file.seek(0, 2)
    links, notes = [], list[str]()
    for stream in streams:
        endless = stream.stated_frames is None
        patches = {}
        if stream.stated_frames is not None and stream.count_at and stream.stated_frames < stream.frames:
            patches = {stream.count_at: stream.frames.to_bytes(4)}
            stated = stream.stated_frames * stream.frame_samples / stream.sample_rate
            notes.append(f"the header states {stated:.1f} s, less than there are; all are read")
        patches |= _stream_bytes(file, stream)
        samples = stream.frames * stream.frame_samples if endless else None
        links.append(Link(stream.start, stream.stop, patches, endless, samples))
    if streams[-1].cut:
        notes.append("the last frame is incomplete and left out")
    damaged = sum(_junk_bytes(file, a.stop, b.start) for a, b in pairwise(streams))
    damage = f"damaged, {damaged} bytes between the frames are none" if damaged else None
    only = links[0]
    if len(links) == 1 and not (only.patches or only.endless) and (only.start, only.stop) == (0, end):
        links = [Link()]
    return Layout(tuple(links), tuple(notes), damage)


def _junk_bytes(file: BinaryIO, start: int, stop: int) -> int:
    """Count the bytes of `start:stop` that belong to no tag."""
    while start < stop and (size := mpeg.tag_at(file, start)):
        start += size
    return max(stop - start, 0)
