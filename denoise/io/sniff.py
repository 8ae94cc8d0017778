"""Recognise a file's format by its first bytes, because names may be wrong.

Only the formats of `denoise.io.formats` are ever given to a decoder; the other kinds are named so that a
refusal can say what was found.
"""

from __future__ import annotations

import codecs
import re
import stat
import zlib
from pathlib import Path

from denoise.errors import UnreadableError
from denoise.io.formats import FORMATS, REFUSED, Format, refused_suffix

HEAD_BYTES = 4096  # enough to distinguish every format from the others, and a table from prose

_OTHER_KINDS = {  # that no codec takes, and regular expressions for their first bytes
    "FITS": rb"SIMPLE  =",
    "EPS": rb"\xc5\xd0\xd3\xc6",
    "gzip": rb"\x1f\x8b",
    "program": rb"\x7fELF",
    "RIFF": rb"RIFF",
    "RIFX": rb"RIFX",
    "FORM": rb"FORM",
}
_TABLE_STARTS = (b"LabVIEW Measurement", b"%OpenBCI", b'"TOA5"', b"TOA5,")  # whose headers may be long
_TEXT_KINDS = {"PDF": rb"%PDF", "PostScript": rb"%!PS", "FITS": rb"SIMPLE  =", "SVG": rb"<svg"}


def sniff(path: str | Path) -> Format:
    """Recognise the format of a file, whatever its name is.

    The name decides only between kinds with the same first bytes: camera raw data and other TIFF, and the
    text formats.

    Raises:
        UnreadableError: It cannot be opened.
    """
    path = Path(path)
    return format_of(read_head(path), path.suffix)


def written_name(path: str | Path) -> str:
    """Name for the result of cleaning `path`: its own, unless its format is only read."""
    path = Path(path)
    return path.with_suffix(sniff(path).written_suffix or path.suffix).name


def read_head(path: Path, expected: str = "") -> bytes:
    """Read the first `HEAD_BYTES` of a file; refuse an empty one if something is `expected`.

    Raises:
        UnreadableError: It is a directory, a device, a pipe or a socket, empty, or cannot be opened.
    """
    try:
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):  # a pipe would be waited for
            raise UnreadableError(f"{path}: is a device, pipe or socket; expected a regular file")
        with path.open("rb") as file:
            # The kernel's own, as /proc/kmsg, say that they are empty, and may block or never end.
            head = file.read(HEAD_BYTES) if status.st_size else b""
    except IsADirectoryError as error:
        raise UnreadableError(f"{path}: is a directory; expected a file") from error
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read: {error.strerror or error}") from error
    if expected and not head:
        raise UnreadableError(f"{path}: is empty (0 bytes); expected {expected}")
    return head


def format_of(head: bytes, suffix: str = "") -> Format:
    """Recognise a format by the first `HEAD_BYTES` of a file, or all there are, and the file's suffix.

    Returns:
        A row of `FORMATS` or `REFUSED`, or a format without a modality for other data.
    """
    name, suffix = _name_of(head), suffix.lower()
    if suffix in FORMATS["text"].loose_suffixes and name in ("text", "unknown", "gzip"):
        return FORMATS["text"] if _is_table(_unpacked(head)) else Format(name)
    if name == "ZIP" and suffix in FORMATS["XLSX"].suffixes:
        return FORMATS["XLSX"]
    if name == "TIFF" and suffix in FORMATS["camera raw"].suffixes:  # most cameras store TIFF
        name = "camera raw"
    if name == "text" and suffix in FORMATS["WFDB"].suffixes:
        name = "WFDB"
    found = FORMATS.get(name) or REFUSED.get(name)
    if found and (name != "text" or suffix in found.suffixes):
        return found
    row = refused_suffix(suffix)
    return row if row and not row.magic else Format(name)


def _name_of(head: bytes) -> str:
    if _starts(FORMATS["EDF"].magic, head):
        return "EDF"
    if _is_text(head):  # before the others, whose letters may begin a table too: "BM,PAR1", "ID3;FORM"
        return next((name for name, magic in _TEXT_KINDS.items() if _starts(magic, head)), "text")
    known = {name: row.magic for name, row in {**REFUSED, **FORMATS}.items() if row.magic}
    kinds = [*known.items(), *_OTHER_KINDS.items()]
    name = next((name for name, magic in kinds if _starts(magic, head)), "unknown")
    if name == "NPZ":  # numpy puts arrays into a ZIP; others put documents there
        first = head[30 : 30 + int.from_bytes(head[26:28], "little")]
        return name if first.endswith(b".npy") else "ZIP"
    return name


def _starts(magic: bytes, head: bytes) -> bool:
    return re.match(magic, head, re.DOTALL) is not None


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end inside a character
    except UnicodeDecodeError:
        return False
    return bool(text) and all(letter.isprintable() or letter in "\ufeff\t\r\n\f" for letter in text)


def _unpacked(head: bytes) -> bytes:
    """Unpack the beginning of a gzip file, and give UTF-16 as UTF-8; other bytes stay as they are."""
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(31).decompress(head, HEAD_BYTES)
        except zlib.error:
            return b""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return codecs.getincrementaldecoder("utf-16")("ignore").decode(head).encode()
    return head


def _is_table(head: bytes) -> bool:
    """True for text whose last whole lines are rows of a table with numbers, whatever is before them."""
    if re.search(rb"[\0-\x08\x0e-\x1f\x7f]", head):
        return False
    lines = [line for line in re.split(rb"[\r\n]+", head) if line.strip()]
    if any(lines[0].startswith(start) for start in _TABLE_STARTS) if lines else False:
        return True
    rows = lines[:-1][-5:] if len(head) >= HEAD_BYTES else lines[-5:]
    return len(rows) > 2 and sum(map(_is_row, rows)) > len(rows) / 2


def _is_row(line: bytes) -> bool:
    """True for a line of which most is numbers, stamps and delimiters."""
    numbers = len(re.findall(rb"[\d.,:;|/+\-\s\"eE]", line))
    return bool(re.search(rb"\d", line)) and numbers >= 0.6 * len(line)
