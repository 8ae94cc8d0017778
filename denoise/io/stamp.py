"""Stamps: what was done to a file, in the metadata of its result."""

from __future__ import annotations

import re
from xml.sax.saxutils import quoteattr

Stamp = tuple[tuple[str, str], ...]  # names and values: program, version, model, strength
Tags = tuple[tuple[str, bytes], ...]

_NAMESPACE = "urn:denoise:clean:1"
_OURS = re.compile(rb'<rdf:Description [^>]*urn:denoise:clean:1"[^>]*/>\n?')
_END = b"</rdf:RDF>"
_META_END = b"</x:xmpmeta>"
_RDF = b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">' + _END
_PACKET = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">' + _META_END
_ID3_FLAGS = 0xC0  # unsynchronised, or with an extended header


def text_of(stamp: Stamp) -> str:
    """Write a stamp as one line."""
    return ", ".join(f"{name} {value}" for name, value in stamp)


def xmp_with(xmp: bytes | None, stamp: Stamp) -> bytes | None:
    """Add a stamp to an XMP packet (ISO 16684-1), or make one; None if the packet is of another form."""
    packet = _OURS.sub(b"", xmp or _PACKET)
    if _END not in packet:
        packet = packet.replace(_META_END, _RDF + _META_END)
    at = packet.rfind(_END)
    if at < 0:
        return None
    fields = " ".join(f"denoise:{name}={quoteattr(value)}" for name, value in stamp)
    field = f'<rdf:Description rdf:about="" xmlns:denoise="{_NAMESPACE}" {fields}/>\n'
    return packet[:at] + field.encode() + packet[at:]


def tags_with(tags: Tags, container: str, stamp: Stamp) -> Tags | None:
    """Add a stamp to the tags of a recording (`denoise.io.audio.tags`); None if they cannot take it."""
    text, found = text_of(stamp), dict(tags)
    if container == "OGG":
        return (*tags, ("DENOISE", text.encode()))
    if container == "AIFF":
        return (*tags, ("ANNO", text.encode("ascii", "replace")))
    name, new = {
        "FLAC": ("4", _comments_with(found.get("4"), f"DENOISE={text}".encode())),
        "MP3": ("ID3", _id3_with(found.get("ID3"), b"\3denoise\0" + text.encode())),
    }.get(container, ("_PMX", xmp_with(found.get("_PMX"), stamp)))
    if new is None:
        return None
    return (*((key, payload) for key, payload in tags if key != name), (name, new))


def _comments_with(block: bytes | None, comment: bytes) -> bytes:
    """Add a comment to a block of FLAC (Vorbis I, section 5)."""
    block = block or bytes(8)
    at = 4 + int.from_bytes(block[:4], "little")
    count = int.from_bytes(block[at : at + 4], "little") + 1
    size = len(comment).to_bytes(4, "little")
    return block[:at] + count.to_bytes(4, "little") + block[at + 4 :] + size + comment


def _id3_with(tag: bytes | None, content: bytes) -> bytes | None:
    """Add a field of text to an ID3 tag (ID3v2.3 and 2.4), in front of its frames."""
    tag = tag or b"ID3\4\0\0" + bytes(4)
    if tag[3] not in (3, 4) or tag[5] & _ID3_FLAGS:
        return None
    if tag[3] == 3:
        content = b"\0" + content[1:]  # Latin-1: the older form has no UTF-8
    frame = (
        b"TXXX" + (_seven_bits(len(content)) if tag[3] == 4 else len(content).to_bytes(4)) + b"\0\0" + content
    )
    return tag[:6] + _seven_bits(len(tag) - 10 + len(frame)) + frame + tag[10:]


def _seven_bits(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
