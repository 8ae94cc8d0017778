"""Open texts of any packing and encoding: gzip, UTF-16 behind its byte order mark, line ends.

Text is read as Latin-1, one character a byte, so that unchanged text keeps its bytes; only column names and
units are decoded (UTF-8, else Latin-1). UTF-16 with a byte order mark is read as UTF-8, and written back.
"""

from __future__ import annotations

import codecs
import gzip
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, cast

from denoise.errors import UnreadableError, UnsupportedError
from denoise.io.limits import require_plausible_size
from denoise.io.sensor.base import naming_damage

GZIP = b"\x1f\x8b"
WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}  # encodings by their first bytes
_MAX_DEFLATE_RATIO = 1032
SAMPLE_BYTES = 1 << 18  # that show the form of a text


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """Open a text for reading, unpacked if it is packed by gzip, and as UTF-8 if it is UTF-16.

    Raises:
        UnreadableError: The packed data are damaged, or the text is not what its byte order mark says.
        TooLargeError: A small file unpacks to more text than is read in a minute.
    """
    with open_unpacked(path) as file:
        encoding = WIDE.get(file.read(2))
        file.seek(0)
        yield cast(BinaryIO, _WideText(file, encoding, path)) if encoding else file


@contextmanager
def open_unpacked(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, unpacked if it is packed by gzip."""
    with path.open("rb") as file:
        if file.read(2) != GZIP:
            file.seek(0)
            yield file
            return
        size_bytes = file.seek(-4, os.SEEK_END) + 4
        stated = int.from_bytes(file.read(), "little")  # size of the last member, if the file is whole
        if stated <= _MAX_DEFLATE_RATIO * size_bytes:
            _require_plausible_text(stated, size_bytes, path)
        file.seek(0)
        with naming_damage(str(path), "a sound gzip file"), _Unpacked(fileobj=file) as unpacked:
            unpacked.check = partial(_require_plausible_text, file_bytes=size_bytes, path=path)
            yield cast(BinaryIO, unpacked)


class _WideText:
    """Text in UTF-16 behind its byte order mark, read as UTF-8."""

    def __init__(self, file: BinaryIO, encoding: str, path: Path) -> None:
        self._file, self._encoding, self._path = file, encoding, path
        self.seek(0)

    def seek(self, offset: int) -> int:
        """Go to a byte of the text in UTF-8, by reading what is before it."""
        self._file.seek(2)
        self._decoder = codecs.getincrementaldecoder(self._encoding)()
        self._ready = b""
        return len(self.read(offset))

    def read(self, size: int) -> bytes:
        """Read so many bytes of UTF-8, or all that are left."""
        more = True
        while len(self._ready) < size and more:
            raw = self._file.read(SAMPLE_BYTES)
            more = bool(raw)
            try:
                self._ready += self._decoder.decode(raw, final=not more).encode()
            except UnicodeDecodeError as error:
                raise UnreadableError(
                    f"{self._path}: begins as UTF-16 and is none; expected text: save it as UTF-8"
                ) from error
        out, self._ready = self._ready[:size], self._ready[size:]
        return out


class _Unpacked(gzip.GzipFile):
    """Text of a gzip file, checked as it grows: a file may have many members."""

    check: Callable[[int], None]

    def read(self, size: int | None = -1) -> bytes:
        found = super().read(size)
        self.check(self.tell())
        return found


def _require_plausible_text(text_bytes: int, file_bytes: int, path: Path) -> None:
    require_plausible_size(
        text_bytes, file_bytes, f"{text_bytes} bytes of text", f"{path}: ", harmless_bytes=32 << 20
    )


def first_lines(path: Path) -> tuple[str, int, str, bool]:
    """Read the first lines, the bytes before them (the BOM), the line end, and whether they are all."""
    with open_text(path) as file:
        raw = file.read(SAMPLE_BYTES)
        complete = not file.read(1)
    if binary := re.search(rb"[\x00-\x08\x0e-\x1a]", raw):
        line = raw.count(b"\n", 0, binary.start()) + 1
        raise UnreadableError(f"{path}: line {line} holds binary data; expected text")
    skipped = 3 if raw.startswith(b"\xef\xbb\xbf") else 0
    text = raw[skipped:].decode("latin-1")
    newline = "\n" if "\n" in text or "\r" not in text else "\r"
    if not complete:
        end = text.rfind(newline) + 1
        if not end:
            raise UnsupportedError(
                f"{path}: line 1 is longer than {SAMPLE_BYTES} bytes; expected rows of cells"
            )
        text = text[:end]
    return text, skipped, newline, complete
