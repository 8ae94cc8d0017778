"""Chunks of CAF, Wave64 and AU that no remuxer writes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from denoise.io.limits import require_few

_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"  # the identifier of the whole file
_FILLING = {"free", "junk"}


def lost_chunks(source: Path, destination: Path) -> list[str]:
    """Name the chunks of a file that are not in another."""
    held, kept = (dict.fromkeys(_names(path)) for path in (source, destination))
    lost = [name for name in held if name not in kept and name not in _FILLING]
    return [f"{', '.join(lost)} of {source.suffix[1:].upper()}: not kept"] if lost else []


def _names(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        head = file.read(40)
        if head[:4] == b"caff":
            yield from _chunks(file, 8, ">4sq", 0, 1)
        elif head.startswith(_W64):
            yield from _chunks(file, 40, "<16sq", 24, 8)
        elif head[:4] == b".snd":
            file.seek(24)
            if file.read(max(int.from_bytes(head[4:8], "big"), 24) - 24).strip(b"\0"):
                yield "the annotation"


def _chunks(file: IO[bytes], at: int, form: str, own: int, align: int) -> Iterator[str]:
    """Yield the names of chunks from a position on; `own` of the bytes that each states are its head."""
    size, count = struct.calcsize(form), 0
    while len(head := (file.seek(at), file.read(size))[1]) == size:
        name, length = struct.unpack(form, head)
        count += 1
        require_few(count, "chunks")
        yield name[:4].decode("latin-1").strip()
        if length < own:  # data up to the end of the file
            return
        at += size + -(-(length - own) // align) * align
