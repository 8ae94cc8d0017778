"""Tags and chunks of an audio file, copied from one file to another of the same kind.

libsndfile keeps ten text fields and drops the rest (broadcast `bext`, cue points, loops, iXML, pictures), so
this module copies the bytes past the encoder:

    WAV, RF64   every chunk but the samples and those that libsndfile derives; speaker positions of WAVEX
    AIFF        the same
    FLAC        every metadata block but the stream's own figures, its seek table and padding
    MP3         the ID3v2 tag in front, the APEv2 and the ID3v1 tag behind, byte for byte
    Ogg         every comment (one may hold a picture); the vendor string is the new encoder's

Tags are `(name, payload)` pairs that only this module interprets. `parts` lists everything besides samples,
also what no result can keep: parts of the source that are not in the result were lost.
"""

from __future__ import annotations

import hashlib
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from denoise.errors import counted, printable
from denoise.io.audio import flac, mpeg, ogg
from denoise.io.audio.chunks import chunks, form_at
from denoise.io.audio.links import Link
from denoise.io.audio.view import View

Tags = tuple[tuple[str, bytes], ...]
Parts = tuple[tuple[str, str], ...]  # names for people, and digests of the contents

MAX_BYTES = 64 * 2**20  # of tags in one file; more would be a stray payload, and would sit in memory

_DERIVED = frozenset(  # chunks that the encoder writes itself, and filling
    {"fmt ", "data", "ds64", "fact", "PEAK", "JUNK", "junk", "FLLR", "PAD ", "COMM", "SSND", "FVER"}
)
_SAMPLES = ("data", "SSND")
_WHOLE_FRAMES = (1, 3, 6, 7, 0xFFFE)  # codes of WAV whose blocks are frames: PCM, floats, A-law and mu-law
_WHOLE = Link()
_FURTHER = " of a further recording"
_PART_NAMES = {"ID3": "ID3v2", "APE": "APEv2", "TAG": "ID3v1"}
_ID3_BYTES, _ID3V1_BYTES, _APE_BYTES = 10, 128, 32  # of the header; of the tag; of header and of footer
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
    """Read the tag in front, and those that end the file."""
    file.seek(0)
    size_bytes = mpeg.id3_bytes(file.read(10))
    if size_bytes > _ID3_BYTES:  # libsndfile opens no file with an empty tag
        file.seek(0)
        yield "ID3", file.read(min(size_bytes, MAX_BYTES + 1))
    yield from _end_tags(file)


def _end_tags(file: BinaryIO) -> list[tuple[str, bytes]]:
    """Read the APEv2 tag, by its footer, and the ID3v1 tag at the end of a file."""
    end, found = file.seek(0, 2), list[tuple[str, bytes]]()
    if end > _ID3V1_BYTES:
        file.seek(end - _ID3V1_BYTES)
        tail = file.read()
        if tail[:3] == b"TAG":
            found, end = [("TAG", tail)], end - _ID3V1_BYTES
    if end > _APE_BYTES:
        file.seek(end - _APE_BYTES)
        footer = file.read(_APE_BYTES)
        size = int.from_bytes(footer[12:16], "little") + (_APE_BYTES if footer[23] & 0x80 else 0)
        if footer[:8] == b"APETAGEX" and size <= min(end, MAX_BYTES):  # the highest flag announces a header
            file.seek(end - size)
            found.insert(0, ("APE", file.read(size)))
    return found


def _insert_id3(path: Path, tags: Tags) -> None:
    found = dict(tags)
    if "ID3" in found:
        _splice(path, 0, 0, found["ID3"])
    with path.open("ab") as file:
        file.writelines(found[name] for name in ("APE", "TAG") if name in found)


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


def read_tags(path: Path, container: str, link: Link = _WHOLE) -> Tags:
    """Read the tags of the first link of a file; nothing if they take more than `MAX_BYTES`."""
    with _opened(path, container, link) as file:
        tags = tuple(_source(container)(file))
    return tags if sum(len(payload) for _, payload in tags) <= MAX_BYTES else ()


def valid_bits(tags: Tags) -> tuple[int, int]:
    """Bits that a sample of an extensible WAV takes, and those that are in use; equal if nothing differs."""
    layout = dict(tags).get("fmt ", b"")
    stored, valid = (int.from_bytes(layout[at : at + 2], "little") for at in (14, 18))
    return stored, valid or stored


def _source(container: str) -> Callable[[BinaryIO], Iterable[tuple[str, bytes]]]:
    return {"OGG": ogg.read_comments, "FLAC": _read_flac, "MP3": _read_id3}.get(container, _read_chunks)


def _opened(path: Path, container: str, link: Link) -> BinaryIO:
    """Open a link as a file; an MP3 as a whole, for its tags are outside of the links."""
    return cast(
        BinaryIO, View(path) if container == "MP3" else View(path, link.start, link.stop, link.patches)
    )


def parts(path: Path, container: str, links: Sequence[Link]) -> Parts:
    """List everything in a file besides samples, filling and what an encoder writes itself."""
    found: list[tuple[str, bytes]] = []
    with path.open("rb") as file:
        size_bytes = mpeg.id3_bytes(file.read(10))
        if container == "MP3":
            found += _between(file, links)
        elif size_bytes:
            file.seek(0)
            found.append(("ID3 in front", file.read(min(size_bytes, MAX_BYTES + 1))))
        if container == "FLAC":
            end_tags = _end_tags(file)
            found += [(_PART_NAMES[name], payload) for name, payload in end_tags]
            found += _behind_frames(file, file.seek(0, 2) - sum(len(payload) for _, payload in end_tags))
        if container == "OGG" and (rest := ogg.last_page(file).behind).strip(b"\0"):
            found.append((f"{len(rest)} bytes behind the last page", rest))
    for link in () if container == "MP3" else links:
        with _opened(path, container, link) as file:
            known = _FLAC_NAMES if container == "FLAC" else {}
            own = [(known.get(name, name), payload) for name, payload in _source(container)(file)]
            own = [(name, payload) for name, payload in own if name != "fmt "]
            if container == "FLAC":
                own += _seek_tables(file)
            elif container != "OGG":
                own += [*_behind_chunks(file), *_beside_samples(file)]
        found += [(f"{name}{'' if link is links[0] else _FURTHER}", payload) for name, payload in own]
    return tuple((printable(name).strip(), hashlib.sha256(payload).hexdigest()) for name, payload in found)


def _seek_tables(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    for code, start, size in list(flac.blocks(file)):
        if code == flac.SEEKTABLE:
            file.seek(start)
            yield "seek table", file.read(size)


def _behind_frames(file: BinaryIO, stop: int) -> Iterator[tuple[str, bytes]]:
    file.seek(0)
    streams = list(flac.streams(file, mpeg.id3_bytes(file.read(10))))
    rest = flac.behind(file, streams[-1], stop) if streams else b""
    if rest.strip(b"\0"):
        yield "bytes behind the last frame", rest


def _between(file: BinaryIO, links: Sequence[Link]) -> Iterator[tuple[str, bytes]]:
    """Read the tags, and other bytes, in front of, between and behind the frames of an MP3."""
    end = file.seek(0, 2)
    edges = [
        0,
        *(edge for link in links for edge in (link.start, end if link.stop is None else link.stop)),
        end,
    ]
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        position = start
        while position < stop:
            size = mpeg.tag_at(file, position)
            file.seek(position)
            if not size:
                yield "bytes outside of frames", file.read(min(stop - position, MAX_BYTES))
                break
            payload = file.read(min(size, MAX_BYTES + 1))
            name = payload[:3].decode("latin-1")
            yield f"{_PART_NAMES[name]}{'' if start in (0, edges[-2]) else _FURTHER}", payload
            position += size


def _behind_chunks(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Read what follows the last chunk, unless it is filled with zeros.

    Text looks like a chunk that the file does not hold: it is none, unless it is that of the samples.
    """
    end = file.seek(0, 2)
    found = [c for c in chunks(file) if c.size is None or c.start + c.size <= end or c.name in _SAMPLES]
    last = max(found, key=lambda chunk: chunk.start, default=None)
    if last and last.size is not None and last.start + last.size + 1 < end:
        file.seek(last.start + last.size + last.size % 2)
        payload = file.read(MAX_BYTES)
        if payload.strip(b"\0"):
            yield f"{len(payload)} bytes behind the last chunk", payload


def _beside_samples(file: BinaryIO) -> Iterator[tuple[str, bytes]]:
    """Read what encoders drop: an incomplete frame that ends the samples, and AIFC's name of their code."""
    order, found = form_at(file), {chunk.name: chunk for chunk in chunks(file)}
    fmt, comm, end = found.get("fmt "), found.get("COMM"), file.seek(0, 2)
    samples, frame_bytes = found.get("data") or found.get("SSND"), 0
    if fmt and (fmt.size or 0) >= 16:
        file.seek(fmt.start)
        code, frame_bytes = struct.unpack(f"{order}H10xH", file.read(14))
        frame_bytes *= code in _WHOLE_FRAMES
    elif comm and (comm.size or 0) >= 18:
        file.seek(comm.start)
        header = file.read(min(comm.size or 0, 512))
        channels, _, bits = struct.unpack(">HIH", header[:8])
        frame_bytes = channels * -(-bits // 8) * (header[18:22] in (b"", b"NONE", b"sowt", b"twos"))
        if name := header[23 : 23 + header[22]] if len(header) > 22 else b"":
            yield "compression name", name
    if samples and samples.size and frame_bytes and samples.start + samples.size <= end:
        stop = samples.start + samples.size
        if rest := (samples.size - 8 * (samples.name == "SSND")) % frame_bytes:
            file.seek(stop - rest)
            yield f"{counted(rest, 'byte')} of an incomplete last frame", file.read(rest)


def lost(read: Parts, written: Parts) -> tuple[str, ...]:
    """Sentence about the parts that were read and not written; none if there are none."""
    contents = {content for _, content in written}
    missing = dict.fromkeys(name for name, content in read if content not in contents)
    return (f"not kept: {', '.join(missing)}",) if missing else ()


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
