"""Bit rate of MPEG audio (ISO/IEC 11172-3 and 13818-3, layers II and III; MPEG-2.5 as LAME writes it)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["bit_rate", "id3_bytes"]

_SEARCH_BYTES = 2**18  # from the end of the ID3 tag: the first frame must begin within
_MPEG1_LAYER2 = (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
_MPEG1_LAYER3 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_MPEG2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by version


@dataclass(frozen=True)
class _Frame:
    """The header of one frame."""

    bit_rate: int
    sample_rate: int
    samples: int
    size_bytes: int
    side_bytes: int  # between the header and an encoder's tag


def id3_bytes(head: bytes) -> int:
    """Size of the ID3v2 tag that begins with these ten bytes; 0 if there is none (ID3v2.4, section 3)."""
    if len(head) < 10 or head[:3] != b"ID3":
        return 0
    size = 0
    for byte in head[6:10]:  # seven bits a byte
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)  # the flag announces a footer


def bit_rate(file: BinaryIO) -> float | None:
    """Read the mean bit rate, from an encoder's tag if there is one, else from the first frame.

    Returns:
        Bits per second; None if no two frames follow one another near the start.
    """
    file.seek(0)
    file.seek(id3_bytes(file.read(10)))
    data = file.read(_SEARCH_BYTES)
    start = data.find(b"\xff")
    while start >= 0:
        frame = _frame(data, start)
        if frame and _frame(data, start + frame.size_bytes):
            return _tagged_bit_rate(data, start, frame) or frame.bit_rate
        start = data.find(b"\xff", start + 1)
    return None


def _frame(data: bytes, start: int) -> _Frame | None:
    head = data[start : start + 4]
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
    return _Frame(kbps * 1000, sample_rate, samples, size_bytes, side_bytes)


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
