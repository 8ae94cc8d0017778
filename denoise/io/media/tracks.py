"""Sound tracks of a media file: their encoding, exact length and clock, found by decoding them once."""

from __future__ import annotations

import importlib
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from denoise.arrays import Floats
from denoise.errors import NothingToCleanError, UnreadableError, UnsupportedError, UsageError, counted, reason
from denoise.io.audio.ogg import last_page
from denoise.io.formats import Format, optional_package
from denoise.io.sniff import format_of, read_head

_SLACK_S = 1e-3  # of time stamps: Matroska rounds them to milliseconds
_STATES_LENGTH = ("mov", "wav", "w64", "caf", "au", "wv", "tta", "ape")  # FFmpeg guesses that of others
_STATE_WHOLE = ("flv", "avi")  # the duration of the file, for PCM that alone
_ROUNDED_S = 0.5  # of these and of the sound of an AVI
_CUT_S = 0.05  # a track that ends earlier than its header says was cut short
# Where a container states its own size: its first bytes, the place of the number, and what to add to it.
_SIZES = (
    (rb"RIFF", "<I", 4, 8),
    (rb"riff\x2e\x91\xcf\x11", "<Q", 16, 0),
    (
        rb"\x30\x26\xb2\x75.*?\xa1\xdc\xab\x8c\x47\xa9\xcf\x11\x8e\xe4\0\xc0\x0c\x20\x53\x65.{24}",
        "<Q",
        None,
        0,
    ),
    (rb"\x1aE\xdf\xa3.{0,80}?\x18\x53\x80\x67\x01", ">Q", None, 0),
)
_ENCRYPTED_TAGS = ("enca", "drms", "aavd")  # of sample entries (ISO/IEC 14496-12; iTunes; Audible)
_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}  # of integer samples


@dataclass(frozen=True)
class Track:
    """One sound track."""

    index: int  # number of its stream in the file
    id: int  # number that the container gives it (the track ID of MP4)
    codec: str  # FFmpeg's name of the codec
    sample_format: str  # FFmpeg's name of the format of decoded samples, without its order
    sample_rate: int  # Hz
    channels: int
    layout: str  # FFmpeg's name of the speaker positions
    samples: int  # samples of a channel, encoder delay and padding aside
    bit_rate: float  # bits per second of its packets
    # samples and their times, in samples from the start of the file, wherever the time stamps depart from
    # counting: the first sample, and what follows gaps
    marks: tuple[tuple[int, int], ...]
    states_delay: bool = False  # its packets say how many samples at the start are none of the sound
    damage: str | None = None  # how it is damaged, in one sentence; None if it is whole
    stated_samples: int = 0  # samples that a damaged track had, by its header


def media_format(path: Path) -> Format:
    """Recognise the container of a file."""
    return format_of(read_head(path, "audio"), path.suffix)


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[Any]:
    """Open a media file by the demuxer of its first bytes, and turn FFmpeg's errors into ours.

    Raises:
        UnreadableError: It is damaged.
        UnsupportedError: PyAV is not installed.
    """
    row = media_format(path)
    av = optional_package(row.name, f"{path}: ")
    try:
        with av.open(f"file:{path}", format=row.containers[0], metadata_errors="replace", **options) as file:
            yield file
    except (av.error.FFmpegError, ValueError) as error:
        found = getattr(error, "strerror", None) or reason(error)
        raise UnreadableError(f"{path}: is damaged {row.name} data ({found})") from error


def tracks(path: Path, numbers: tuple[int, ...] = ()) -> tuple[Track, ...]:
    """Describe the sound tracks of a file.

    Args:
        numbers: Numbers of the tracks, from 1; empty for all.

    Raises:
        NothingToCleanError: It has no sound.
        UsageError: It has fewer tracks.
        UnreadableError, UnsupportedError: See `opened`; or a track is encrypted, or has no decoder.
    """
    status = path.stat()
    found = _tracks(path, status.st_size, status.st_mtime_ns, numbers)
    if not found:
        raise NothingToCleanError(f"{path}: has no sound, so there is nothing to clean")
    return found


@lru_cache(maxsize=16)  # a file is opened once to choose a model, once to measure it, once to clean it
def _tracks(path: Path, _size: int, _mtime_ns: int, numbers: tuple[int, ...]) -> tuple[Track, ...]:
    with opened(path) as file:
        indices = [stream.index for stream in file.streams.audio]
    if wrong := [number for number in numbers if not 1 <= number <= len(indices)]:
        raise UsageError(f"{path}: has {len(indices)} sound tracks; there is no track {wrong[0]}")
    return tuple(_scan(path, indices[number - 1]) for number in numbers or range(1, len(indices) + 1))


def _scan(path: Path, index: int) -> Track:
    """Decode a track to count its samples and to note where its time stamps depart from counting."""
    optional_package(media_format(path).name, f"{path}: ")
    with _listening() as logged, opened(path) as file:
        stream = file.streams[index]
        context = stream.codec_context
        if context is None or (tag := _tag(context)) in _ENCRYPTED_TAGS:
            what = "has no decoder here" if context is None else f"is encrypted ({tag})"
            raise UnsupportedError(f"{path}: its sound {what}; expected sound that can be decoded")
        counter = _Counter()
        samples, marks = 0, list[tuple[int, int]]()
        rate, clock = 0, Fraction(0)
        for frame in decode(path, file, stream, counter):
            rate = rate or frame.sample_rate
            clock = clock or frame.time_base * rate
            expected = marks[-1][1] + samples - marks[-1][0] if marks else 0
            time = expected if frame.pts is None else round(frame.pts * clock.numerator / clock.denominator)
            slack = _SLACK_S * 1.5 * rate
            if not marks or time > expected + slack:
                marks.append((samples, time))
            elif time < expected - slack and len(marks) > 1:
                sample, before = marks[-2]
                if abs(time - before - samples + sample) <= slack:  # a wrong stamp, taken back, and no gap
                    marks.pop()
            samples += frame.samples
        if not samples:
            raise UnreadableError(f"{path}: its sound holds 0 samples, expected at least one")
        end = samples + marks[-1][1] - marks[-1][0]
        if file.format.name.startswith("mov"):  # FFmpeg does not cut off the padding of the last packet
            stops = [round(counter.stop * stream.time_base * rate)]
            if stream.duration and stream.start_time is not None:
                stops.append(round((stream.start_time + stream.duration) * stream.time_base * rate))
            if 0 < end - min(stops) < 4 * counter.longest:
                samples -= end - min(stops)
        damage = f"{counted(counter.bad, 'packet')} of its sound cannot be decoded" if counter.bad else None
        if counter.broken > _is_open_ended(path):  # whose last packet is as long as there are bytes
            damage = damage or f"bytes of {counted(counter.broken, 'packet')} of its sound are missing"
        states = stream.duration and file.format.name.split(",")[0] in _STATES_LENGTH
        stated_s = float(stream.duration * stream.time_base) if states else 0.0
        if file.format.name == "avi" and stream.duration:
            stated_s = max(float(stream.duration * stream.time_base) - _ROUNDED_S, 0.0)
        if file.format.name in _STATE_WHOLE and (file.duration or 0) * 1e-6 - end / rate > _ROUNDED_S:
            stated_s = max(stated_s, _stated_whole_s(path, file.duration * 1e-6))
        if stated_s - end / rate > max(_CUT_S, counter.longest / rate) or _is_cut_short(path):
            damage = damage or "cut short"
        ours = {*file.format.name.split(","), context.codec.name}
        said = [text for _, component, text in logged if ours & set(component.split(","))]
        if said:
            damage = damage or f"damaged ({reason(ValueError(said[0]))})"
        if damage and file.duration:
            stated_s = max(stated_s, file.duration * 1e-6)
        return Track(
            index,
            stream.id,
            context.codec.canonical_name,
            context.format.name.removesuffix("p"),
            rate,
            context.layout.nb_channels,
            context.layout.name,
            samples,
            counter.bytes * 8 * rate / max(samples, counter.packets * counter.longest),
            tuple(marks),
            counter.skips,
            damage,
            max(round(stated_s * rate), samples) if damage else 0,
        )


def _tag(context: Any) -> str:
    """Return the tag that the container gives a codec; empty if it is no text, as that of AAC in an AVI."""
    try:
        return str(context.codec_tag)
    except UnicodeDecodeError:
        return ""


def _stated_whole_s(path: Path, duration_s: float) -> float:
    """Return the duration that a file states, if none of its streams lasts as long, else 0."""
    with opened(path) as file:
        ends = (
            (packet.dts + (packet.duration or 0)) * packet.time_base
            for packet in file.demux()
            if packet.dts is not None
        )
        return duration_s if duration_s - float(max(ends, default=0)) > _ROUNDED_S else 0.0


@dataclass
class _Counter:
    """Packets and facts that pass by while a track is decoded."""

    bytes: int = 0  # of its packets
    packets: int = 0
    longest: int = 0  # frame, in samples
    bad: int = 0  # packets that could not be decoded
    broken: int = 0  # packets that are shorter than they say, or have parts missing
    skips: bool = False  # samples at the start of a packet are to be skipped
    stop: int = 0  # end of its last packet, in the unit of the stream


@contextmanager
def _listening() -> Iterator[list[tuple[int, str, str]]]:
    """Collect the errors that FFmpeg logs, with their component: it goes on behind damage without failing."""
    logging = importlib.import_module("av.logging")
    before = logging.get_level(), logging.get_skip_repeated()
    logging.set_level(logging.ERROR)
    logging.set_skip_repeated(False)
    try:
        with logging.Capture(local=True) as logged:
            yield logged
    finally:
        logging.set_level(before[0])
        logging.set_skip_repeated(before[1])


def _is_cut_short(path: Path) -> bool:
    """True for a file that is smaller than it says, or ends within a packet of fixed size."""
    head, size = read_head(path), path.stat().st_size
    for packet, at in ((188, 0), (192, 4)):  # transport streams (ISO/IEC 13818-1, 2.4.3; with time codes)
        if head[at::packet][:3] == b"GGG" and (more := size % packet) > at:
            with path.open("rb") as file:
                file.seek(size - more + at)
                return file.read(1) == b"G"
    if head.startswith(b"caff"):
        return _caf_size(path) > size
    if head.startswith(b"OggS"):
        with path.open("rb") as file:
            return last_page(file).missing_bytes > 0
    for magic, form, place, more in _SIZES:
        if match := re.match(magic, head, re.DOTALL):
            at = match.end() if place is None else place
            if form == ">Q":  # an EBML number of eight bytes, whose first holds only its length
                stated = int.from_bytes(head[at : at + 7], "big")
                stated = 0 if stated == 2**56 - 1 else stated + at + 7
            else:
                stated = struct.unpack_from(form, head, at)[0] + more if len(head) >= at + 8 else 0
            return stated > size
    return False


def _is_open_ended(path: Path) -> bool:
    """True for a Core Audio file whose sound lasts to the end of the file, as a recorder writes it."""
    return read_head(path).startswith(b"caff") and _caf_size(path) < 0


def _caf_size(path: Path) -> int:
    """Sum up the chunks of a Core Audio file (Apple, "Core Audio Format Specification"); -1 if it is open."""
    at, end = 8, path.stat().st_size
    with path.open("rb") as file:
        while at + 12 <= end:
            file.seek(at)
            size = int.from_bytes(file.read(12)[4:], "big", signed=True)
            if size < 0:  # to the end of the file
                return -1
            at += 12 + size
    return at


def decode(path: Path, file: Any, stream: Any, counter: _Counter | None = None) -> Iterator[Any]:
    """Decode a track into FFmpeg's frames; packets that cannot be decoded are counted and left out.

    Raises:
        UnsupportedError: Rate or channels change on the way.
    """
    av = optional_package("MP4")
    counter = counter or _Counter()
    first = None
    if not stream.codec_context.is_open:
        stream.codec_context.options = {**stream.codec_context.options, "err_detect": "crccheck"}
    for packet in file.demux(stream):
        if packet.pts is not None and packet.duration:
            counter.stop = packet.pts + packet.duration
        counter.bytes += packet.size
        counter.packets += packet.size > 0
        counter.broken += bool(packet.size and packet.is_corrupt)
        if packet.has_sidedata("skip_samples"):  # at its start, and at its end
            counter.skips |= any(bytes(packet.get_sidedata("skip_samples"))[:4])
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            counter.bad += 1
            continue
        for frame in frames:
            counter.longest = max(counter.longest, frame.samples)
            found = frame.sample_rate, frame.layout.name
            first = first or found
            if found != first:
                raise UnsupportedError(
                    f"{path}: its sound changes from {first[0]} Hz {first[1]} to {found[0]} Hz {found[1]} "
                    "on the way; expected one format"
                )
            yield frame


def samples_of(frame: Any) -> Floats:
    """Convert a decoded frame to `(C, n)`, full scale at 1."""
    values = frame.to_ndarray()
    name = frame.format.name.removesuffix("p")
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if name not in _SCALE:
        return np.ascontiguousarray(values, dtype=np.float32)
    scaled = values.astype(np.float64) - (128 if name == "u8" else 0)
    return np.ascontiguousarray(scaled / _SCALE[name], dtype=np.float32)
