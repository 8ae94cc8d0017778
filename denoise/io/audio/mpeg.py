"""Frames of MPEG audio (ISO/IEC 11172-3 and 13818-3, layers II and III; MPEG-2.5 as LAME writes it)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO

_SEARCH_BYTES = 2**18  # read at once, to find a frame
_MPEG1_LAYER2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_MPEG1_LAYER3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_FRAME_OR_TAG = re.compile(rb"\xff|ID3|TAG|APETAGEX")
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version


_APE_BYTES = 32  # of the header, and of the footer, of an APEv2 tag
_HEAD_BYTES = 64  # of a frame: its header, the side information, and an encoder's counts


@dataclass(frozen=True)
class _Frame:
    """The header of one frame."""

    bit_rate: int
    sample_rate: int
    samples: int
    size_bytes: int
    side_bytes: int  # between the header and an encoder's tag
    kind: tuple[int, int, int, bool]  # version, layer, rate and mono: the same in all frames of a stream


@dataclass(frozen=True)
class Stream:
    """Frames that follow one another without other bytes between them."""

    start: int  # byte offset of its first frame
    stop: int  # byte offset behind its last whole frame
    frames: int  # number of whole frames, without that of an encoder's tag
    frame_samples: int  # samples of a frame
    sample_rate: int  # Hz
    stated_frames: int | None = None  # number of frames by an encoder's tag; None if there is none
    count_at: int | None = None  # byte offset of that number, 4 bytes, big-endian
    cut: bool = False  # true if the file ends inside a further frame


def id3_bytes(head: bytes) -> int:
    """Size of the ID3v2 tag that begins with these ten bytes; 0 if there is none (ID3v2.4, section 3)."""
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:10]:  # seven bits a byte
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)  # the flag announces a footer


def bit_rate(file: BinaryIO) -> float | None:
    """Read the mean bit rate, from an encoder's tag if there is one, else from the sizes of the frames.

    Returns:
        Bits per second; None if no two frames follow one another.
    """
    stream = next(streams(file), None)
    if stream is None:
        return None
    file.seek(stream.start)
    head = file.read(_HEAD_BYTES)
    frame = _frame(head, 0)
    tagged = _tagged_bit_rate(head, 0, frame) if frame else None
    duration_s = stream.frames * stream.frame_samples / stream.sample_rate
    mean = (stream.stop - stream.start) * 8 / duration_s if duration_s else None
    return tagged or (mean and float(round(mean, -3)))  # the rates of encoders are whole kilobits


def _frame(data: bytes, start: int) -> _Frame | None:
    return _parsed(data[start : start + 4])


@lru_cache(maxsize=4096)
def _parsed(head: bytes) -> _Frame | None:
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer, rate = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3), head[2] >> 2 & 3
    if version == 1 or layer not in (2, 3) or rate == 3 or head[2] >> 4 in (0, 15):
        return None
    table = _MPEG2 if version != 3 else _MPEG1_LAYER2 if layer == 2 else _MPEG1_LAYER3
    kbps, sample_rate = table[head[2] >> 4], _RATES_HZ[version][rate]
    samples = 576 if layer == 3 and version != 3 else 1152
    size_bytes = samples // 8 * kbps * 1000 // sample_rate + (head[2] >> 1 & 1)
    mono = head[3] >> 6 == 3
    side_bytes = (17 if mono else 32) if version == 3 else (9 if mono else 17)
    return _Frame(kbps * 1000, sample_rate, samples, size_bytes, side_bytes, (version, layer, rate, mono))


def streams(file: BinaryIO) -> Iterator[Stream]:
    """Yield the streams of a file; joined files and damaged ones hold several.

    A new one begins at an encoder's tag, an ID3 or APEv2 tag, another rate or number of channels, and behind
    bytes that are no frame. Two frames in a row make a stream.
    """
    end = file.seek(0, 2)
    position = 0
    while position < end:
        found = _stream(file, position, end)
        if found:
            yield found
            position = end if found.cut else found.stop
        elif size := tag_at(file, position):
            position += size
        else:
            position = _next_frame(file, position + 1, end)


def _stream(file: BinaryIO, start: int, end: int) -> Stream | None:
    """Follow the frames from `start` on; None unless there are two."""
    position, count, first = start, 0, None
    stated_frames = count_at = None
    while True:
        file.seek(position)
        head = file.read(_HEAD_BYTES)
        frame = _frame(head, 0)
        if frame is None or (first and frame.kind != first.kind):
            cut = False
            break
        at = _frame_count_at(head, frame)
        cut = position + frame.size_bytes > end
        if cut or (first and at is not None):
            break
        if at is not None:
            stated_frames, count_at = int.from_bytes(head[at : at + 4]), position + at
        first = first or frame
        position += frame.size_bytes
        count += 1
    if first is None or count < 2:
        return None
    frames = count - (count_at is not None)
    return Stream(start, position, frames, first.samples, first.sample_rate, stated_frames, count_at, cut)


def _frame_count_at(head: bytes, frame: _Frame) -> int | None:
    """Find the number of frames in the tag of LAME (`Xing`, `Info`) or Fraunhofer (`VBRI`)."""
    xing = 4 + frame.side_bytes
    if head[xing : xing + 4] in (b"Xing", b"Info") and head[xing + 7 : xing + 8] and head[xing + 7] & 1:
        return xing + 8
    return 36 + 14 if head[36:40] == b"VBRI" else None


def _next_frame(file: BinaryIO, start: int, end: int) -> int:
    """Find the first place from `start` on where two frames follow one another, or a tag; else the end."""
    while start < end:
        file.seek(start)
        data = file.read(_SEARCH_BYTES)
        for match in _FRAME_OR_TAG.finditer(data):
            position = start + match.start()
            if match[0] != b"\xff" and tag_at(file, position):
                return position
            frame = _frame(data, match.start())
            if frame:
                file.seek(position + frame.size_bytes)
                after = _frame(file.read(4), 0)
                if after and after.kind == frame.kind:
                    return position
        start += max(len(data) - 16, 1)  # a match may begin at the end of what was read
    return end


def tag_at(file: BinaryIO, position: int) -> int:
    """Size in bytes of the ID3v2, ID3v1 or APEv2 tag that begins at `position`; 0 if there is none."""
    end = file.seek(0, 2)
    file.seek(position)
    head = file.read(_APE_BYTES)
    if head[:3] == b"ID3":
        size = id3_bytes(head[:10])
    elif head[:3] == b"TAG":
        size = 128
    elif head[:8] == b"APETAGEX" and len(head) == _APE_BYTES:  # its size leaves out the header
        size = _APE_BYTES + int.from_bytes(head[12:16], "little")
    else:
        size = 0
    return size if position + size <= end else 0


def _tagged_bit_rate(data: bytes, start: int, frame: _Frame) -> float | None:
    """Use the counts in the tag of LAME (`Xing`, `Info`) or Fraunhofer (`VBRI`) in the first frame."""
    xing = data[start + 4 + frame.side_bytes :][:16]
    if xing[:4] in (b"Xing", b"Info") and len(xing) == 16 and xing[7] & 3 == 3:
        frames, size_bytes = int.from_bytes(xing[8:12]), int.from_bytes(xing[12:16])
        size_bytes -= frame.size_bytes  # the tag's own frame is counted in bytes alone
    else:
        vbri = data[start + 4 + 32 :][:18]
        if vbri[:4] != b"VBRI" or len(vbri) < 18:
            return None
        size_bytes, frames = int.from_bytes(vbri[10:14]), int.from_bytes(vbri[14:18])
    return round(max(size_bytes, 0) * 8 * frame.sample_rate / (frames * frame.samples)) if frames else None
