"""Chunks of WAV, RF64 and AIFF files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_UNKNOWN_SIZES = frozenset({0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF})  # left by writers of streams


@dataclass(frozen=True)
class Chunk:
    """One chunk of a RIFF or AIFF file."""

    name: str  # its four characters
    start: int  # byte offset of its payload
    size: int | None  # bytes that its header promises; None if the writer did not know (a stream)


def form_at(file: BinaryIO, start: int = 0) -> str | None:
    """Byte order, `<` or `>`, of a file of chunks (RIFF, RIFX, RF64, FORM) at `start`; None for others."""
    file.seek(start)
    return {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">"}.get(file.read(4))


def chunks(file: BinaryIO, start: int = 0) -> Iterator[Chunk]:
    """Yield the chunks of a RIFF or AIFF file at `start`, in order, up to the first invalid one."""
    order = form_at(file, start)
    end = file.seek(0, 2)
    position, large = start + 12, None
    while order and position + 8 <= end:
        file.seek(position)
        raw, size = struct.unpack(f"{order}4sI", file.read(8))
        if not raw.isascii() or not raw.decode().isprintable():
            return
        name, payload = raw.decode(), position + 8
        if name == "ds64":  # RF64 keeps the 64-bit size of its data here
            large = struct.unpack("<Q", file.read(16)[8:])[0]
        if name == "data" and size == 0xFFFFFFFF and large is not None:
            size = large
        elif name in ("data", "SSND") and size in _UNKNOWN_SIZES and payload + size != end:
            yield Chunk(name, payload, None)
            return
        yield Chunk(name, payload, size)
        position = payload + size + size % 2
