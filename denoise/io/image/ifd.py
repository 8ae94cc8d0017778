"""Image file directories (TIFF 6.0, section 2): the tags of a TIFF page, and the whole of an EXIF block.

Values stay packed bytes, so that unknown tags are kept too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

EXIF_TAG, GPS_TAG, INTEROP_TAG, ORIENTATION, X_RESOLUTION = 0x8769, 0x8825, 0xA005, 274, 282
POINTED = (EXIF_TAG, GPS_TAG)  # from the first directory
TYPE_BYTES = {
    **dict.fromkeys((1, 2, 6, 7), 1),
    **dict.fromkeys((3, 8), 2),
    **dict.fromkeys((4, 9, 11, 13), 4),
    **dict.fromkeys((5, 10, 12, 16, 17, 18), 8),
}
LONG, IFD8 = 4, 18
BIG_TYPES = 16  # types from here on exist in BigTIFF only
MAX_VALUE_BYTES = 64 << 20  # a larger claim is ignored


@dataclass(frozen=True)
class Entry:
    """One tag: its code, TIFF type, count, and the packed value."""

    code: int
    type: int
    count: int
    value: bytes


@dataclass(frozen=True)
class Tags:
    """A directory and the ones below it; `order` is `<` or `>`.

    It points to those of `EXIF_TAG` and `GPS_TAG`, the first of these to that of `INTEROP_TAG`.
    """

    order: str
    entries: tuple[Entry, ...] = ()
    below: dict[int, tuple[Entry, ...]] = field(default_factory=dict)


def read_entries(data: Any, at: int, order: str, *, big: bool = False) -> tuple[Entry, ...]:
    """Read the directory at offset `at` of a file (`big`: a BigTIFF) or EXIF block, which slices like bytes.

    Entries of unknown type or out of bounds are left out.
    """
    return tuple(entry for entry, _ in _entries(data, at, order, big=big))


def end_of_entries(data: Any, at: int, order: str, *, big: bool = False) -> int:
    """Find the end of a directory and of its values; 0 if there is none."""
    return max((end for _, end in _entries(data, at, order, big=big)), default=0)


def _entries(data: Any, at: int, order: str, *, big: bool) -> Iterator[tuple[Entry, int]]:
    """Yield entries, and where they or their values end."""
    count_bytes, entry_bytes, inline = (8, 20, 8) if big else (2, 12, 4)
    if at <= 0 or at + count_bytes > len(data):
        return
    number = struct.unpack(order + ("Q" if big else "H"), data[at : at + count_bytes])[0]
    end = at + count_bytes + number * entry_bytes + inline
    for start in range(
        at + count_bytes, min(at + count_bytes + number * entry_bytes, len(data)), entry_bytes
    ):
        raw = data[start : start + entry_bytes]
        if len(raw) < entry_bytes:
            break
        code, kind, count = struct.unpack(order + ("HHQ" if big else "HHI"), raw[:-inline])
        size = TYPE_BYTES.get(kind, 0) * count
        where = struct.unpack(order + ("Q" if big else "I"), raw[-inline:])[0]
        if size <= inline:
            value = raw[-inline:][:size]
        else:
            value = bytes(data[where : where + size]) if size <= MAX_VALUE_BYTES else b""
        if size and len(value) == size:
            yield Entry(code, kind, count, value), end if size <= inline else max(end, where + size)


def pointer(entries: Iterable[Entry], code: int, order: str) -> int:
    """Read the offset in tag `code`; 0 without it."""
    for entry in entries:
        if entry.code == code and len(entry.value) in (4, 8):
            return int(struct.unpack(order + "IQ"[len(entry.value) // 8], entry.value)[0])
    return 0


def packed(entries: Sequence[Entry], at: int, order: str, *, big: bool = False) -> bytes:
    """Pack a directory for offset `at` of its file, its long values behind it, without a successor."""
    count_bytes, entry_bytes, inline = (8, 20, 8) if big else (2, 12, 4)
    head = struct.pack(order + ("Q" if big else "H"), len(entries))
    behind = b""
    free = at + count_bytes + entry_bytes * len(entries) + inline
    for entry in sorted(entries, key=lambda entry: entry.code):
        value = entry.value.ljust(inline, b"\0")
        if len(value) > inline:
            behind += b"\0" * (len(behind) % 2)
            value, behind = struct.pack(order + ("Q" if big else "I"), free + len(behind)), behind + value
        head += struct.pack(order + ("HHQ" if big else "HHI"), entry.code, entry.type, entry.count) + value
    return head + bytes(inline) + behind + b"\0" * (len(behind) % 2)  # the next starts on an even byte


def parsed_exif(exif: bytes) -> Tags | None:
    """Parse an EXIF block's first directory with its EXIF and GPS directories; None if it is no EXIF."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    entries = read_entries(exif, struct.unpack(order + "I", exif[4:8])[0], order)
    return Tags(order, entries, read_below(exif, entries, order))


def turned_exif(exif: bytes, orientation: int = 1) -> tuple[bytes, int]:
    """Return an EXIF block with another orientation, by default upright, and the one that it had.

    A block without an orientation is returned as it is, with 0.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    at = struct.unpack(order + "I", exif[4:8])[0] if order and len(exif) >= 8 else len(exif)
    count = struct.unpack(order + "H", exif[at : at + 2])[0] if order and at + 2 <= len(exif) else 0
    for start in range(at + 2, min(at + 2 + 12 * count, len(exif) - 11), 12):
        code, value = struct.unpack_from(f"{order}H6xH", exif, start)
        if code == ORIENTATION:
            return exif[: start + 8] + struct.pack(f"{order}H", orientation) + exif[start + 10 :], value
    return exif, 0


def read_below(
    data: Any, entries: Sequence[Entry], order: str, *, big: bool = False
) -> dict[int, tuple[Entry, ...]]:
    """Read the EXIF and GPS directories that `entries` point to, and the one inside EXIF."""
    found = {}
    for code in POINTED:
        below = read_entries(data, pointer(entries, code, order), order, big=big)
        if below:
            found[code] = tuple(entry for entry in below if entry.code != INTEROP_TAG)
        if inner := read_entries(data, pointer(below, INTEROP_TAG, order), order, big=big):
            found[INTEROP_TAG] = inner
    return found


def packed_below(tags: Tags, code: int, at: int, *, big: bool = False) -> bytes:
    """Pack the EXIF or GPS directory for offset `at` of its file, with what it points to behind it."""
    entries, inner = tags.below[code], tags.below.get(INTEROP_TAG)
    if code != EXIF_TAG or not inner:
        return packed(entries, at, tags.order, big=big)
    kind, form = (IFD8, "Q") if big else (LONG, "I")
    pointed = [*entries, Entry(INTEROP_TAG, kind, 1, bytes(struct.calcsize("=" + form)))]
    behind = at + len(packed(pointed, at, tags.order, big=big))
    pointed[-1] = Entry(INTEROP_TAG, kind, 1, struct.pack(tags.order + form, behind))
    return packed(pointed, at, tags.order, big=big) + packed(inner, behind, tags.order, big=big)


def packed_exif(tags: Tags) -> bytes:
    """Pack directories into an EXIF block."""
    plain = [entry for entry in tags.entries if entry.code not in POINTED and entry.type < BIG_TYPES]
    order, start = tags.order, 8
    # Pointers have one size, so a first packing with empty ones gives the place of the directories below.
    first = packed(
        [*plain, *(Entry(code, LONG, 1, bytes(4)) for code in POINTED if code in tags.below)], start, order
    )
    at = start + len(first)
    pointers, blocks = [], b""
    for code in POINTED:
        if code in tags.below:
            pointers.append(Entry(code, LONG, 1, struct.pack(order + "I", at + len(blocks))))
            blocks += packed_below(tags, code, at + len(blocks))
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", start) + packed([*plain, *pointers], start, order) + blocks
