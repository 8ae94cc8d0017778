"""Photoshop's image resources (APP13 of JPEG, tag 34377 of TIFF), and the IPTC record (IIM) among them."""

from __future__ import annotations

import struct

APP13 = b"Photoshop 3.0\0"
RECORD = 0x0404
_DERIVED = {RECORD, 0x0425, 0x03ED, 0x0428}  # with its digest; resolution and shape of pixels are elsewhere


def read_resources(block: bytes) -> dict[int, bytes]:
    """Read the resources of a block by their numbers, up to the first that is damaged."""
    found, at = dict[int, bytes](), 0
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        number, name_bytes = struct.unpack_from(">HB", block, at + 4)
        at += 6 + (name_bytes + 2) // 2 * 2
        size = int.from_bytes(block[at : at + 4])
        if at + 4 + size > len(block):
            break
        found.setdefault(number, block[at + 4 : at + 4 + size])
        at += 4 + size + size % 2
    return found


def others(resources: dict[int, bytes]) -> tuple[str, ...]:
    """Name resources that no other format takes."""
    return ("Photoshop's image resources",) if resources.keys() - _DERIVED else ()


def packed_record(record: bytes) -> bytes:
    """Pack an IPTC record into a block of resources."""
    return b"8BIM" + struct.pack(">HHI", RECORD, 0, len(record)) + record + bytes(len(record) % 2)
