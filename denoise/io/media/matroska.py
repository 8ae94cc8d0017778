"""Keep what a Matroska file states of its tracks (RFC 9559), where FFmpeg's muxer states less.

It states no shape of pixels, no frame rate of WebM, and the sample format of an encoder as the bits of lossy
sound. The elements of the source take their places in the result, whose size does not change.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SEGMENT, _CLUSTER, _TRACKS, _ENTRY = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\x16\x54\xae\x6b", b"\xae"
_TYPE, _VIDEO, _AUDIO, _NAME, _FRAME_TIME = b"\x83", b"\xe0", b"\xe1", b"\x53\x6e", b"\x23\xe3\x83"
_CODEC, _BITS, _CRC, _VOID = b"\x86", b"\x62\x64", b"\xbf", b"\xec"
_LOSSLESS = (b"A_PCM", b"A_FLAC", b"A_ALAC", b"A_TTA", b"A_WAVPACK")
_MAX_TRACKS_BYTES = 1 << 24
_MAX_ROOM_BYTES = 1 << 16  # far more than any picture's settings
_ROOM = "\x1f"  # at the end of a name: to be overwritten

Elements = list[tuple[bytes, bytes, bytes]]  # ID, content, and the whole element


def room_for(source: Path) -> str:
    """Text to add to the name of each track, so that the result has room for what the source states."""
    settings = [whole for entry in _entries(source) for id_, _, whole in entry if id_ == _VIDEO]
    size = max(map(len, settings), default=0) + 64  # and for its length, a name's, and the time of a frame
    return _ROOM * size if size < _MAX_ROOM_BYTES else ""


def keep_statements(source: Path, destination: Path) -> None:
    """Put pictures' settings and bits of lossy sound as they are in the source; remove the room of names."""
    with destination.open("r+b") as file:
        if not (found := _find_tracks(file)):
            return
        at, content = found
        parts = _parsed(content)
        entries = iter(
            _paired(_entries(source), [_parsed(inner) for id_, inner, _ in parts if id_ == _ENTRY])
        )
        data = b"".join(
            _element(_ENTRY, next(entries), len(whole)) if id_ == _ENTRY else whole for id_, _, whole in parts
        )
        if parts[0][0] == _CRC:
            head = len(parts[0][2])
            data = parts[0][2][:-4] + zlib.crc32(data[head:]).to_bytes(4, "little") + data[head:]
        if len(data) == len(content):
            file.seek(at)
            file.write(data)


def _paired(old: list[Elements], new: list[Elements]) -> Iterator[bytes]:
    """Yield the content of each track of a result, with the statements of the track of the source."""
    types = [[_value(entry, _TYPE) for entry in entries] for entries in (old, new)]
    like = old if types[0] == types[1] else [[] for _ in new]  # a track that was not kept leaves no pairs
    for source, entry in zip(like, new, strict=True):
        kept = {id_: whole for id_, _, whole in source}
        parts = dict[bytes, bytes]()
        for id_, content, whole in entry:
            parts[id_] = parts.get(id_, b"") + (whole if id_ != _VOID else b"")
            if id_ == _NAME and content.endswith(_ROOM.encode()):
                name = content.rstrip(_ROOM.encode())
                parts[id_] = kept.get(_NAME, _element(_NAME, name) if name else b"")
        if _VIDEO in kept and _VIDEO in parts:
            parts[_VIDEO] = kept[_VIDEO]
            parts.setdefault(_FRAME_TIME, kept.get(_FRAME_TIME, b""))
        codec = _value(source, _CODEC)
        if codec == _value(entry, _CODEC) and codec and not codec.startswith(_LOSSLESS):
            bits = [whole for id_, _, whole in _parsed(_value(source, _AUDIO)) if id_ == _BITS]
            sound = [whole for id_, _, whole in _parsed(_value(entry, _AUDIO)) if id_ not in (_BITS, _VOID)]
            if sound:
                parts[_AUDIO] = _element(_AUDIO, b"".join([*sound, *bits]))
        yield b"".join(parts.values())


def _element(id_: bytes, content: bytes, size: int | None = None) -> bytes:
    """Encode an element; one of a given size is filled with a void, if it can be."""
    if size is not None:
        rest = size - len(id_) - 8 - len(content)
        if rest >= 9:
            content += _VOID + b"\1" + (rest - 9).to_bytes(7) + bytes(rest - 9)
        elif rest >= 2:
            content += _VOID + bytes([0x80 | rest - 2]) + bytes(rest - 2)
    length = len(content)
    short = size is None and length < 127
    return id_ + (bytes([0x80 | length]) if short else b"\1" + length.to_bytes(7)) + content


def _value(entry: Elements, id_: bytes) -> bytes:
    return next((content for found, content, _ in entry if found == id_), b"")


def _entries(path: Path) -> list[Elements]:
    """Read the tracks of a file."""
    with path.open("rb") as file:
        found = _find_tracks(file)
    return [_parsed(content) for id_, content, _ in _parsed(found[1]) if id_ == _ENTRY] if found else []


def _find_tracks(file: BinaryIO) -> tuple[int, bytes] | None:
    """Find the table of tracks before the first cluster; return the place of its content, and that."""
    at, end = 0, file.seek(0, 2)
    while at < end:
        file.seek(at)
        head = file.read(12)
        id_, size, start = _head(head, 0)
        if id_ == _TRACKS and size is not None and size <= _MAX_TRACKS_BYTES:
            file.seek(at + start)
            return at + start, file.read(size)
        if not id_ or id_ == _CLUSTER or (size is None and id_ != _SEGMENT):
            return None
        at += start + (0 if id_ == _SEGMENT else size or 0)
    return None


def _parsed(data: bytes) -> Elements:
    """Split the content of an element; what is behind a damaged one is left out."""
    found, at = list[tuple[bytes, bytes, bytes]](), 0
    while at < len(data):
        id_, size, start = _head(data, at)
        if not id_ or size is None or start + size > len(data):
            break
        found.append((id_, data[start : start + size], data[at : start + size]))
        at = start + size
    return found


def _head(data: bytes, at: int) -> tuple[bytes, int | None, int]:
    """Read an ID, a size (None if it is unknown), and where the content begins; no ID if it is damaged."""
    wide = 9 - data[at].bit_length() if at < len(data) else 9
    first = at + wide
    if wide > 4 or first >= len(data) or not data[first]:
        return b"", None, at
    width = 9 - data[first].bit_length()
    size = int.from_bytes(data[first : first + width]) & (1 << 7 * width) - 1
    return data[at:first], None if size == (1 << 7 * width) - 1 else size, first + width
