"""Put new sound into a container that FFmpeg writes: all other streams are copied packet for packet."""

from __future__ import annotations

import heapq
import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

from denoise.errors import OutputError, reason
from denoise.io.formats import optional_package
from denoise.io.media.chunks import lost_chunks
from denoise.io.media.encoder import LOSSLESS, MOVS, PLAIN, SIGNALS_DELAY, state_padding
from denoise.io.media.matroska import keep_statements, room_for
from denoise.io.media.mp4 import Replacement
from denoise.io.media.tracks import opened

_ENCODER_TAGS = ("encoder", "ENCODER")
_PMT_PIDS = range(32, 8187)  # that FFmpeg takes
_HEAD_BYTES = 1 << 16  # of a transport stream, which repeats its tables ten times a second


def remux(
    source: Path,
    destination: Path,
    muxer: str,
    fresh: Sequence[Replacement],
    tags: Mapping[str, str] = MappingProxyType({}),
) -> tuple[str, ...]:
    """Write `source` with some streams replaced.

    Args:
        muxer: FFmpeg's name of its container.
        tags: Tags to add.
        fresh: Tracks with the files that hold their new packets.

    Returns:
        Notes about streams that the container cannot hold here.
    """
    av = optional_package("MP4")
    service = _service(source) if muxer == "mpegts" else _Service()
    notes = list[str]()
    if service.programs > 1:
        notes.append(
            f"its {service.programs} programs are written as one, with all streams and the name of the first"
        )
    if muxer in MOVS and _is_fragmented(source):
        notes.append("its fragments are written as one piece, with the brands of such files")
    starts = {new.track.index: (new.track.marks[0][1] - new.start) / new.track.sample_rate for new in fresh}
    if muxer == "asf":  # counts milliseconds: less than one before the start is a rounded zero
        starts = {index: 0.0 if -1e-3 < start < 0 else start for index, start in starts.items()}
    room = room_for(source) if muxer in ("matroska", "webm") else ""
    lead = -min(0.0, *starts.values())  # where a decoder needs packets before the start of the file
    with ExitStack() as stack:
        file = stack.enter_context(opened(source))
        sounds = {new.track.index: stack.enter_context(av.open(str(new.path))) for new in fresh}
        try:
            options = (
                {"preload": "0"} if muxer == "vob" else service.options
            )  # or all starts half a second later
            if muxer == "mpegts" and _has_time_codes(source):
                options["mpegts_m2ts_mode"] = "1"
            out = stack.enter_context(av.open(str(destination), "w", format=muxer, container_options=options))
            out.metadata.update({k: v for k, v in file.metadata.items() if k not in _ENCODER_TAGS})
            out.metadata.update({**service.names, **tags})
            if chapters := file.chapters():
                out.set_chapters(chapters)
            streams = dict[int, Any]()
            for stream in file.streams:
                if muxer == "matroska" and stream.disposition & av.stream.Disposition.attached_pic:
                    _attach(source, stream, out)  # as a stream, it would be a track of video
                    continue
                template = sounds[stream.index].streams[0] if stream.index in sounds else stream
                try:
                    copy = out.add_stream_from_template(template, opaque=True)
                except (ValueError, av.error.FFmpegError):
                    notes.append(f"a {stream.type} stream is not kept: {muxer} cannot hold it here")
                    continue
                copy.metadata.update({k: v for k, v in stream.metadata.items() if k not in _ENCODER_TAGS})
                if muxer == "ogg" and stream.index in sounds:
                    copy.metadata.update(tags)  # in Ogg, all tags are those of a stream
                if room:
                    copy.metadata["title"] = copy.metadata.get("title", "") + room
                copy.disposition = stream.disposition
                copy.time_base = template.time_base
                if stream.type == "video" and muxer == "flv":
                    copy.codec_context.framerate = stream.average_rate  # its header states it
                if stream.type == "video" and stream.sample_aspect_ratio:
                    copy.codec_context.sample_aspect_ratio = stream.sample_aspect_ratio
                if muxer == "mpegts":
                    copy.id = stream.id
                streams[stream.index] = copy
            copied = [
                stream for stream in file.streams if stream.index in streams and stream.index not in sounds
            ]
            parts = [_packets(file, copied, lead)] if copied else []
            for new in fresh:
                i = new.track.index
                plain = sounds[i].format.name in PLAIN
                moved = muxer not in SIGNALS_DELAY or plain
                packets = _packets(sounds[i], sounds[i].streams, starts[i] + lead, i, from_zero=moved)
                exact = sounds[i].streams[0].codec_context.name.startswith(LOSSLESS)
                if muxer in ("matroska", "webm") and (plain or exact):
                    packets = _ended(packets, new, lead, new.padding if plain else 0)
                parts.append(packets)
            counts = Counter[int]()
            for _, _, index, packet in heapq.merge(*parts, key=lambda entry: entry[:2]):
                counts[streams[index].index] += 1
                packet.stream = streams[index]
                out.mux_one(packet)
        except (av.error.FFmpegError, ValueError) as error:
            raise OutputError(f"{source}: cannot be written as {muxer}: {reason(error)}") from error
    if muxer == "avi":
        _correct_lengths(destination, counts)
    if room:
        keep_statements(source, destination)
    if muxer == "wav":
        _keep_length(source, destination)
    notes += _lost_shapes(source, destination) + lost_chunks(source, destination)
    return tuple(notes)


def _keep_length(source: Path, destination: Path) -> None:
    """Keep the number of samples that a WAV states of its MP3; FFmpeg states all that its packets hold."""
    places = list[re.Match[bytes] | None]()
    for path in (source, destination):
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        places.append(re.search(rb"fact\x04\0\0\0(.{4})", head.partition(b"data")[0], re.DOTALL))
    if places[0] and places[1]:
        with destination.open("r+b") as file:
            file.seek(places[1].start(1))
            file.write(places[0][1])


def _lost_shapes(source: Path, destination: Path) -> list[str]:
    """Name the aspect ratios of pixels that a container did not take."""
    shapes = []
    for path in (source, destination):
        with opened(path) as file:
            shapes.append({s.index: s.sample_aspect_ratio for s in file.streams.video})
    return [
        f"the shape of its pixels, {ratio.numerator}:{ratio.denominator}, cannot be stated in it here"
        for index, ratio in shapes[0].items()
        if ratio not in (None, 1) and shapes[1].get(index, ratio) != ratio
    ]


def _has_time_codes(path: Path) -> bool:
    """True for a transport stream of cameras and discs, whose packets begin with a time code of 4 bytes."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return head[4:5] == head[196:197] == head[388:389] == b"\x47"


def _correct_lengths(path: Path, packets: Mapping[int, int]) -> None:
    """State the length of sound whose unit is a packet in packets; FFmpeg states it in blocks of bytes."""
    with path.open("r+b") as file:
        head = file.read(_HEAD_BYTES)
        for index, match in enumerate(
            re.finditer(rb"strh....(....).{16}(.{8}).{20}.{8}strf", head, re.DOTALL)
        ):
            scale, rate = struct.unpack("<II", match[2])
            (block,) = struct.unpack_from("<I", head, match.start() + 8 + 44)
            (byte_rate,) = struct.unpack_from("<I", head, match.end() + 12)
            if match[1] == b"auds" and block and rate * block != byte_rate * scale:
                file.seek(match.start() + 8 + 32)
                file.write(struct.pack("<I", packets[index]))
                file.seek(match.start() + 8 + 44)
                file.write(bytes(4))


@dataclass(frozen=True)
class _Service:
    """Number of programs of a transport stream, and name and numbers of the first."""

    programs: int = 1
    options: dict[str, str] = field(default_factory=dict)  # of FFmpeg's muxer
    names: dict[str, str] = field(default_factory=dict)  # tags of the file, as that muxer takes them


def _service(path: Path) -> _Service:
    """Read the first tables of a transport stream (ISO/IEC 13818-1, 2.4.4.3; ETSI EN 300 468, 5.2.3)."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    options, names, programs = dict[str, str](), dict[str, str](), 1
    if match := re.search(rb"\x47\x40\0[\x10-\x1f]\0\0", head):
        section = head[match.end() :]
        entries = section[7 : max(int.from_bytes(section[:2]) & 0xFFF, 6) - 2]  # without the checksum
        found = [
            entries[at : at + 4] for at in range(0, len(entries) - 3, 4) if entries[at : at + 2] != b"\0\0"
        ]
        programs = len(found)
        numbers = {"mpegts_transport_stream_id": int.from_bytes(section[2:4])}
        if found:
            numbers["mpegts_service_id"] = int.from_bytes(found[0][:2])
            pid = int.from_bytes(found[0][2:]) & 0x1FFF
            numbers["mpegts_pmt_start_pid"] = pid if pid in _PMT_PIDS else 0
        options = {name: str(number) for name, number in numbers.items() if number}
    if match := re.search(rb"\x47\x40\x11[\x10-\x1f]\0\x42.{15}\x48...", head, re.DOTALL):
        at = match.end()
        for name in ("service_provider", "service_name"):
            text = head[at : at + head[at - 1]]
            if text.isascii() and text.decode().isprintable():  # else in one of many code pages
                names[name] = text.decode()
            at += len(text) + 1
    return _Service(programs, options, names)


def _is_fragmented(path: Path) -> bool:
    """True for an MP4 in fragments, whose first boxes say so."""
    with path.open("rb") as file:
        return b"mvex" in file.read(_HEAD_BYTES)


def _attach(source: Path, stream: Any, out: Any) -> None:
    """Copy a picture that Matroska keeps as an attached file."""
    with opened(source) as file:
        data = next(bytes(packet) for packet in file.demux(file.streams[stream.index]))
    known = stream.metadata
    kind = "image/" + {"mjpeg": "jpeg"}.get(name := stream.codec_context.name, name)
    attachment = out.add_attachment(known.get("filename", "cover"), known.get("mimetype", kind), data)
    attachment.metadata.update(known)


def _packets(
    file: Any, streams: Any, start_s: float, index: int | None = None, *, from_zero: bool = False
) -> Iterator[tuple[float, int, int, Any]]:
    """Yield time, number, stream and packet in the order of decoding times.

    Times that a container lacks are those of the packet before.

    Args:
        file: The open file.
        streams: Streams to read.
        start_s: Added to all times.
        index: Number of the stream; None takes that of the file.
        from_zero: Let the first packet be at time 0, wherever a muxer has put it.
    """
    time = -1e18
    zero: Fraction | None = None if from_zero else Fraction(0)
    for number, packet in enumerate(file.demux(*streams)):
        if not packet.size:
            continue
        stamp = packet.dts if packet.dts is not None else packet.pts
        if zero is None and stamp is not None:
            zero = stamp * packet.time_base
        if packet.time_base:
            shift = round((Fraction(start_s) - (zero or 0)) / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
            time = max(time, float((stamp + shift) * packet.time_base)) if stamp is not None else time
        yield time, number, packet.stream_index if index is None else index, packet


def _ended(
    packets: Iterator[tuple[float, int, int, Any]], new: Replacement, lead: float, padding: int
) -> Iterator[tuple[float, int, int, Any]]:
    """End the last packet with its sound, to the nearest millisecond, and state its padding, in samples."""
    last = None
    for entry in packets:
        if last:
            yield last
        last = entry
    if last:
        packet = last[-1]
        state_padding(packet, padding)
        sample, time = new.track.marks[-1]
        end_s = lead + (new.track.samples - sample + time) / new.track.sample_rate
        packet.duration = max(round(end_s / packet.time_base) - packet.pts, 1)
        yield last
