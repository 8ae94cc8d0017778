"""Links and comments of Ogg files (RFC 3533; Vorbis I, section 5; RFC 7845).

The comments are the second packet of a stream. Every size is checked against the bytes that follow it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO, NamedTuple

Comments = list[tuple[str, bytes]]

MAX_BYTES = 64 * 2**20  # of comments; more would be a stray payload, and would sit in memory
_HEAD_BYTES = 27
_MAX_SEGMENTS, _SEGMENT_BYTES = 255, 255
_MAX_PAGE_BYTES = _HEAD_BYTES + _MAX_SEGMENTS * (1 + _SEGMENT_BYTES)
OPEN_END = "the last page is not marked as the end: the recording may have been longer"
_FIRST, _LAST = 2, 4  # flags of the first and the last page of a stream
_CONTINUED = 1  # flag of a page that begins inside a packet
_KINDS = {  # start of the first packet -> start of the comments' packet, and the number of header packets
    b"\x01vorbis": (b"\x03vorbis", 3),
    b"OpusHead": (b"OpusTags", 2),
}
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class LastPage(NamedTuple):
    """The end of an Ogg file."""

    ends_stream: bool  # it is marked as the last page
    missing_bytes: int  # of the page
    behind: bytes  # what follows it


@dataclass(frozen=True)
class _Page:
    """One page: its place in the file, its header with the segment table, and its content."""

    start: int
    head: bytes
    body: bytes

    @property
    def serial(self) -> bytes:
        return self.head[14:18]

    @property
    def stop(self) -> int:
        return self.start + len(self.head) + len(self.body)


@dataclass(frozen=True)
class _Headers:
    """The header packets of a stream, the place of their pages behind the first, and the comments' prefix."""

    serial: bytes
    start: int
    stop: int
    packets: list[bytes]
    prefix: bytes


def _pages(file: BinaryIO, start: int = 0) -> Iterator[_Page]:
    """Yield the pages from `start` on, up to the first damaged one."""
    while True:
        file.seek(start)
        head = file.read(_HEAD_BYTES)
        if len(head) < _HEAD_BYTES or head[:4] != b"OggS":
            return
        table = file.read(head[26])
        body = file.read(sum(table))
        if len(table) < head[26] or len(body) < sum(table):
            return
        page = _Page(start, head + table, body)
        yield page
        start = page.stop


def _headers(file: BinaryIO) -> _Headers | None:
    """Read the header packets of the first stream; None if they are damaged or above `MAX_BYTES`."""
    first = next(_pages(file), None)
    prefix = next((prefix for prefix in _KINDS if first and first.body.startswith(prefix)), b"")
    if first is None or not prefix:
        return None
    comments, count = _KINDS[prefix]
    packets, packet, size = list[bytes](), bytearray(), 0
    for page in _pages(file):
        size += len(page.body)
        if size > MAX_BYTES:
            return None
        position = 0
        for length in page.head[_HEAD_BYTES:] if page.serial == first.serial else ():
            packet += page.body[position : position + length]
            position += length
            if length < _SEGMENT_BYTES:
                packets.append(bytes(packet))
                packet.clear()
        if len(packets) >= count:
            sound = packets[1].startswith(comments)
            return _Headers(first.serial, first.stop, page.stop, packets[:count], comments) if sound else None
    return None


def _split(packet: bytes) -> tuple[bytes, Comments]:
    """Split the body of a comment packet into the vendor and the comments, up to the first damaged one."""
    position = 0

    def field() -> bytes | None:
        nonlocal position
        stop = position + 4 + int.from_bytes(packet[position : position + 4], "little")
        text = packet[position + 4 : stop]
        position, whole = stop, position + 4 <= len(packet) and stop <= len(packet)
        return text if whole else None

    vendor = field() or b""
    count = int.from_bytes(packet[position : position + 4], "little")
    position += 4
    found: Comments = []
    for text in islice(iter(field, None), count):
        name, equals, value = (text or b"").partition(b"=")
        if equals:
            found.append((name.decode("latin-1"), value))
    return vendor, found


def read_comments(file: BinaryIO) -> Comments:
    """Read names and values of the comments; none if they are damaged or above `MAX_BYTES`."""
    found = _headers(file)
    return _split(found.packets[1].removeprefix(found.prefix))[1] if found else []


def packed_headers(file: BinaryIO, comments: Sequence[tuple[str, bytes]]) -> tuple[int, int, bytes, int]:
    """Pack the header pages behind the first anew, with other comments and the vendor of the file.

    Returns:
        Start and stop of the pages to replace, their new bytes, and the number of the next page.
    """
    old = _headers(file)
    assert old is not None  # the encoder has just written them
    vendor, _ = _split(old.packets[1].removeprefix(old.prefix))
    fields = [vendor, *(name.encode("latin-1") + b"=" + value for name, value in comments)]
    sized = [len(text).to_bytes(4, "little") + text for text in fields]
    body = sized[0] + len(comments).to_bytes(4, "little") + b"".join(sized[1:])
    framing = b"\x01" if old.prefix == b"\x03vorbis" else b""
    pages = list(_paged([old.prefix + body + framing, *old.packets[2:]], old.serial))
    return old.start, old.stop, b"".join(pages), 1 + len(pages)


def _paged(packets: Sequence[bytes], serial: bytes) -> Iterator[bytes]:
    """Pack header packets into pages, numbered from 1."""
    segments = [  # and whether each starts or ends a packet
        (packet[at : at + _SEGMENT_BYTES], at == 0, at + _SEGMENT_BYTES > len(packet))
        for packet in packets
        for at in range(0, len(packet) + 1, _SEGMENT_BYTES)
    ]
    for number, start in enumerate(range(0, len(segments), _MAX_SEGMENTS), start=1):
        content = segments[start : start + _MAX_SEGMENTS]
        flags = 0 if content[0][1] else _CONTINUED
        position = 0 if any(last for _, _, last in content) else 2**64 - 1
        head = b"OggS\0" + bytes([flags]) + position.to_bytes(8, "little") + serial
        head += number.to_bytes(4, "little") + bytes(4) + bytes([len(content), *(len(s[0]) for s in content)])
        yield _sealed(head, b"".join(segment for segment, _, _ in content))


def renumber(file: BinaryIO, start: int, number: int) -> None:
    """Number the pages from `start` on, in place."""
    for index, page in enumerate(_pages(file, start), start=number):
        head = page.head[:18] + index.to_bytes(4, "little") + page.head[22:]
        if head != page.head:
            file.seek(page.start)
            file.write(_sealed(head, page.body))


def _sealed(head: bytes, body: bytes) -> bytes:
    """Put the checksum into a page: CRC-32 with the bits in zlib's reverse order, and no complements."""
    page = head[:22] + bytes(4) + head[26:] + body
    check = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return page[:22] + check.to_bytes(4, "little").translate(_REVERSED)[::-1] + page[26:]


def chain(file: BinaryIO) -> list[int]:
    """Find where the links of a file begin: at first pages that follow other pages (RFC 3533, section 4)."""
    starts, first_before, position = list[int](), False, 0
    end = file.seek(0, 2)
    while position < end:
        file.seek(position)
        head = file.read(_HEAD_BYTES + _MAX_SEGMENTS)
        if head[:4] != b"OggS" or len(head) < _HEAD_BYTES:
            position = _next_page(file, position + 1, end)
            continue
        first = bool(head[5] & _FIRST)
        if first and not first_before:
            starts.append(position)
        first_before = first
        position += _HEAD_BYTES + head[26] + sum(head[_HEAD_BYTES : _HEAD_BYTES + head[26]])
    return starts


def _next_page(file: BinaryIO, start: int, end: int) -> int:
    while start < end:
        file.seek(start)
        data = file.read(_MAX_PAGE_BYTES)
        found = data.find(b"OggS")
        if found >= 0:
            return start + found
        start += max(len(data) - 3, 1)
    return end


def last_page(file: BinaryIO) -> LastPage:
    """Read what the last page says of the end of the file."""
    file.seek(max(0, file.seek(0, 2) - 2 * _MAX_PAGE_BYTES))
    tail = file.read()
    page = tail[max(tail.rfind(b"OggS"), 0) :]
    if len(page) < _HEAD_BYTES:
        return LastPage(False, _HEAD_BYTES - len(page), b"")
    size = _HEAD_BYTES + page[26] + sum(page[_HEAD_BYTES : _HEAD_BYTES + page[26]])
    return LastPage(bool(page[5] & _LAST), max(0, size - len(page)), page[size:])
