"""Tags and chunks of an audio file, copied from one file to another of the same kind.

libsndfile keeps ten text fields and drops the rest (broadcast `bext`, cue points, loops, iXML, pictures), so
this module copies the bytes past the encoder:

    WAV, RF64   every chunk but the samples and those that libsndfile derives; speaker positions of WAVEX
    AIFF        the same
    FLAC        every metadata block but the stream's own figures, its seek table and padding
    MP3         the ID3v2 tag in front and the ID3v1 tag behind, byte for byte
    Ogg         every comment (one may hold a picture); the vendor string is the new encoder's

Tags are `(name, payload)` pairs that only this module interprets.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from denoise.errors import printable
from denoise.io.audio import flac, ogg
from denoise.io.audio.chunks import chunks, form_at
from denoise.io.audio.mpeg import id3_bytes

__all__ = ["Tags", "insert_tags", "names", "read_tags"]

Tags = tuple[tuple[str, bytes], ...]

MAX_BYTES = 64 * 2**20  # of tags in one file; more would be a stray payload, and would sit in memory

_DERIVED = frozenset(  # chunks that the encoder writes itself, and filling
    {"fmt ", "data", "ds64", "fact", "PEAK", "JUNK", "junk", "FLLR", "PAD ", "COMM", "SSND", "FVER"}
)
_FLAC_NAMES = {"2": "application", "4": "comments", "5": "cue sheet", "6": "picture"}
_FLAC_FIRST_BLOCK_END = 4 + 4 + 34  # "fLaC", block header, STREAMINFO


def _read_chunks(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    end = file.seek(0, 2)
    for chunk in list(chunks(file)):
        extensible = chunk.name == "fmt " and chunk.size == 40
        whole = chunk.size is not None and chunk.start + chunk.size <= end
        if whole and (extensible or chunk.name not in _DERIVED):
            file.seek(chunk.start)
            yield chunk.name, file.read(min(chunk.size or 0, MAX_BYTES + 1))


def _insert_chunks(file: BinaryIO, tags: Tags) -> None:
    order = form_at(file)
    written = {chunk.name: chunk for chunk in chunks(file)}
    if "PEAK" in written:  # zero its time of day, so that equal samples make equal files
        file.seek(written["PEAK"].start + 4)
        file.write(bytes(4))
    file.seek(0, 2)
    for name, payload in tags:
        if name == "fmt ":
            continue
        file.write(bytes(file.tell() % 2))
        file.write(struct.pack(f"{order}4sI", name.encode(), len(payload)) + payload)
    file.write(bytes(file.tell() % 2))
    size = file.tell() - 8
    if "ds64" in written:
        file.seek(written["ds64"].start)
        file.write(struct.pack("<Q", size))
    else:
        file.seek(4)
        file.write(struct.pack(f"{order}I", size))
    layout = dict(tags).get("fmt ")
    if layout and written["fmt "].size == 40:  # libsndfile leaves the speaker positions empty
        file.seek(written["fmt "].start + 20)
        file.write(layout[20:24])


def _read_flac(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    for code, start, size in list(flac.blocks(file)):
        if code not in (flac.STREAMINFO, flac.PADDING, flac.SEEKTABLE):
            file.seek(start)
            yield str(code), file.read(size)


def _insert_flac(path: Path, tags: Tags) -> None:
    with path.open("rb") as file:
        file.seek(0)
        *_, (_, start, size) = flac.blocks(file)
        file.seek(4)
        first = file.read(_FLAC_FIRST_BLOCK_END - 4)
    blocks = [bytes([int(name)]) + len(payload).to_bytes(3) + payload for name, payload in tags]
    blocks.insert(0, bytes([flac.STREAMINFO]) + first[1:])
    blocks[-1] = bytes([blocks[-1][0] | 0x80]) + blocks[-1][1:]
    _splice(path, 4, start + size, b"".join(blocks))


def _read_id3(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    file.seek(0)
    size_bytes = id3_bytes(file.read(10))
    if size_bytes:
        file.seek(0)
        yield "ID3", file.read(min(size_bytes, MAX_BYTES + 1))
    if file.seek(0, 2) > 128:
        file.seek(-128, 2)
        tail = file.read()
        if tail[:3] == b"TAG":
            yield "TAG", tail


def _insert_id3(path: Path, tags: Tags) -> None:
    found = dict(tags)
    if "ID3" in found:
        _splice(path, 0, 0, found["ID3"])
    if "TAG" in found:
        with path.open("ab") as file:
            file.write(found["TAG"])


def _splice(path: Path, start: int, stop: int, payload: bytes) -> None:
    """Replace the bytes `start:stop` by `payload`, in constant memory."""
    with path.open("r+b") as file, TemporaryFile(dir=path.parent) as tail:
        file.seek(stop)
        shutil.copyfileobj(file, tail)
        tail.seek(0)
        file.seek(start)
        file.write(payload)
        shutil.copyfileobj(tail, file)
        file.truncate()


def _insert_comments(path: Path, tags: Tags) -> None:
    with path.open("rb") as file:
        start, stop, headers, next_number = ogg.packed_headers(file, tags)
    _splice(path, start, stop, headers)
    with path.open("r+b") as file:
        ogg.renumber(file, start + len(headers), next_number)


def read_tags(path: Path, container: str) -> Tags:
    """Read the tags of a file; nothing if they take more than `MAX_BYTES`."""
    source: Callable[[BinaryIO], Iterable[tuple[str, bytes]]]
    source = {"OGG": ogg.read_comments, "FLAC": _read_flac, "MP3": _read_id3}.get(container, _read_chunks)
    with path.open("rb") as file:
        tags = tuple(source(file))
    return tags if sum(len(payload) for _, payload in tags) <= MAX_BYTES else ()


def names(tags: Tags, container: str) -> tuple[str, ...]:
    """List the names of tags for people, once each."""
    known = _FLAC_NAMES if container == "FLAC" else {}
    return tuple(dict.fromkeys(printable(known.get(name, name)) for name, _ in tags))


def insert_tags(path: Path, container: str, tags: Tags) -> None:
    """Insert tags, read from a file of the same kind, into a file without tags."""
    insert = {"OGG": _insert_comments, "FLAC": _insert_flac, "MP3": _insert_id3}.get(container)
    if insert is None:
        with path.open("r+b") as file:
            _insert_chunks(file, tags)
    elif tags:
        insert(path, tags)
