"""Metadata blocks and frames of FLAC files (RFC 9639)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import BinaryIO

STREAMINFO, PADDING, APPLICATION, SEEKTABLE = 0, 1, 2, 3

_READ_BYTES = 2**20
_MAX_HEADER_BYTES = 16  # of a frame
_MIN_FRAME_BYTES = 9  # a header of 6, a constant of 1 and the checksum
_HEAD_BYTES = 4 + 4 + 34  # "fLaC", and the first metadata block
_STREAM_BYTE = ord("f")
_TOTAL_AT = 21  # from "fLaC": the byte whose lower half begins the 36 bits of the number of samples
_FRAME = re.compile(rb"\xff[\xf8\xf9]")
_STREAM = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # and the header of its first block
_RATES_HZ = (0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_BLOCK_SAMPLES = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def _crc8_table() -> bytes:
    table = list(range(256))
    for _ in range(8):
        table = [(crc << 1 ^ 0x07 if crc & 0x80 else crc << 1) & 0xFF for crc in table]
    return bytes(table)


_CRC8 = _crc8_table()


def _crc16_table() -> tuple[int, ...]:
    table = [code << 8 for code in range(256)]
    for _ in range(8):
        table = [(crc << 1 ^ 0x8005 if crc & 0x8000 else crc << 1) & 0xFFFF for crc in table]
    return tuple(table)


_CRC16 = _crc16_table()  # of a whole frame


@dataclass(frozen=True)
class Stream:
    """One stream of a file; joined files hold several."""

    start: int  # byte offset of its signature
    stop: int  # byte offset behind its last byte
    sample_rate: int  # Hz, by its header
    stated_samples: int  # number of samples by its header; 0 if unknown
    samples: int  # number of samples by its frames
    # sample number and rate in Hz of the first frame of another rate; None if there is none
    changed: tuple[int, int] | None
    last_frame_at: int  # byte offset of its last frame

    def patch(self, file: BinaryIO) -> tuple[int, bytes]:
        """Return the offset and the bytes that give the header the number of samples of the frames."""
        at = self.start + _TOTAL_AT
        file.seek(at)
        high = file.read(1)[0] & 0xF0 | self.samples >> 32
        return at, bytes([high]) + (self.samples & 0xFFFFFFFF).to_bytes(4)


def blocks(file: BinaryIO, start: int = 0) -> Iterator[tuple[int, int, int]]:
    """Yield code, payload start and payload size of each metadata block behind the signature at `start`."""
    file.seek(start)
    position, last = start + 4, file.read(4) != b"fLaC"
    while not last:
        file.seek(position)
        header = file.read(4)
        if len(header) < 4:
            return
        size = int.from_bytes(header[1:])
        last = bool(header[0] & 0x80)
        yield header[0] & 0x7F, position + 4, size
        position += 4 + size


@dataclass(frozen=True)
class _Frame:
    """The header of a frame: its first sample, number of samples, and rate (0: that of the stream)."""

    first: int
    samples: int
    sample_rate: int

    @property
    def end(self) -> int:
        return self.first + self.samples


class _Follower:
    """Follows the frames of one stream, past damaged frames and bytes that look like one."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        file.seek(start)
        head = file.read(_HEAD_BYTES)
        self.frames_at = max((payload + size for _, payload, size in blocks(file, start)), default=start)
        self._start, self._fixed_block = start, int.from_bytes(head[10:12])
        self._rate = int.from_bytes(head[18:21]) >> 4
        self._stated = int.from_bytes(head[21:26]) & (1 << 36) - 1
        self._samples, self._last_at = 0, start
        self._candidate: _Frame | None = None  # does not follow the others, unless the next follows it
        self._changed: tuple[int, int] | None = None

    def take(self, head: bytes, at: int) -> None:
        """Take what may be the header of a frame, at the byte `at`."""
        frame = _frame(head, self._fixed_block)
        if frame is None:
            return
        before = self._candidate
        if frame.first != self._samples and not (before and before.end == frame.first > self._samples):
            self._candidate = frame
            return
        self._samples, self._candidate, self._last_at = frame.end, None, at
        if frame.sample_rate not in (0, self._rate) and self._changed is None:
            self._changed = frame.first, frame.sample_rate

    def result(self, stop: int) -> Stream:
        """Return what was found up to the byte `stop`."""
        return Stream(
            self._start, stop, self._rate, self._stated, self._samples, self._changed, self._last_at
        )


def streams(file: BinaryIO, start: int = 0) -> Iterator[Stream]:
    """Yield the streams of a file, by the headers of all frames from the byte `start` on."""
    follower: _Follower | None = None
    end = file.seek(0, 2)
    position = start
    while position < end:
        file.seek(position)
        data = file.read(_READ_BYTES)
        limit = len(data) if position + len(data) >= end else len(data) - _MAX_HEADER_BYTES
        found = [match.start() for pattern in (_STREAM, _FRAME) for match in pattern.finditer(data)]
        for offset in sorted(offset for offset in found if offset < limit):
            at = position + offset
            if follower and at < follower.frames_at:
                continue
            if data[offset] == _STREAM_BYTE:
                if follower:
                    yield follower.result(at)
                follower = _Follower(file, at)
            elif follower:
                follower.take(data[offset : offset + _MAX_HEADER_BYTES], at)
        position += limit
    if follower:
        yield follower.result(end)


def behind(file: BinaryIO, stream: Stream, stop: int) -> bytes:
    """Read what lies between the last frame, which ends where its checksum does, and the byte `stop`.

    A checksum of 16 bits fits elsewhere, too, so the number of these bytes is only likely.
    """
    file.seek(stream.last_frame_at)
    data, check, end = file.read(min(stop - stream.last_frame_at, _READ_BYTES)), 0, 0
    for position, byte in enumerate(data, start=1):
        check = (check << 8 & 0xFFFF) ^ _CRC16[check >> 8 ^ byte]
        if not check and position > _MIN_FRAME_BYTES:
            end = position
    return data[end:] if end else b""  # a frame without an end is damaged


def _frame(head: bytes, fixed_block: int) -> _Frame | None:
    """Read the header of a frame (RFC 9639, section 9.1); None if it is none."""
    if len(head) < 6:
        return None
    size_code, rate_code = head[2] >> 4, head[2] & 15
    if not size_code or rate_code == 15 or head[3] & 1 or head[3] >> 4 > 10:
        return None
    number, length = _coded_number(head[4:])
    if not length:
        return None
    position = 4 + length
    sizes = {6: 1, 7: 2}.get(size_code, 0), {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    check_at = position + sum(sizes)
    if check_at >= len(head):
        return None
    if reduce(lambda crc, byte: _CRC8[crc ^ byte], head[:check_at], 0) != head[check_at]:
        return None
    samples = _BLOCK_SAMPLES[size_code] or int.from_bytes(head[position : position + sizes[0]]) + 1
    stated = int.from_bytes(head[position + sizes[0] : check_at])
    rate = _RATES_HZ[rate_code] if rate_code < 12 else stated * {12: 1000, 13: 1, 14: 10}[rate_code]
    variable = head[1] & 1
    return _Frame(number if variable else number * fixed_block, samples, rate)


def _coded_number(data: bytes) -> tuple[int, int]:
    """Decode a number in the extended UTF-8 of FLAC; return it with its length in bytes, 0 if invalid."""
    first = data[0]
    if first < 0x80:
        return first, 1
    length = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= length <= 7 or len(data) < length:
        return 0, 0
    number = first & (1 << 7 - length) - 1
    for byte in data[1:length]:
        if byte >> 6 != 2:
            return 0, 0
        number = number << 6 | byte & 0x3F
    return number, length
