"""Part of a file as a file of its own, with some of its bytes replaced."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

_FAR_BYTES = 2**40  # of a view without an end: more than any recording
_TAIL_BYTES = 2**10  # at that end, which decoders search for tags


class View:
    """Read-only file object over the bytes `start:stop` of a file, as libsndfile takes it.

    Args:
        patches: Bytes to read instead of the file's own, by their offset in the file.
        endless: Report a size of 1 TiB. A decoder that derives the length from the size then reads on until
            there are no more bytes.

    Raises:
        OSError: The file cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        start: int = 0,
        stop: int | None = None,
        patches: Mapping[int, bytes] | None = None,
        *,
        endless: bool = False,
    ) -> None:
        self._file = path.open("rb")
        size = self._file.seek(0, os.SEEK_END)
        self._start, self._stop = start, min(size if stop is None else stop, size)
        self._patches = dict(patches or {})
        self._size = _FAR_BYTES if endless else self._stop - start
        self._at = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the start, the position or the end, like that of a file."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, count: int = -1) -> bytes:
        """Read up to `count` bytes; all there are if it is negative."""
        at = self._start + self._at
        left = max(self._stop - at, 0)
        if self._size == _FAR_BYTES and self._at >= _FAR_BYTES - _TAIL_BYTES:
            data = bytes(min(count, _FAR_BYTES - self._at))
        else:
            self._file.seek(at)
            data = self._file.read(left if count < 0 else min(count, left))
        for offset, patch in self._patches.items():
            first, last = max(offset, at), min(offset + len(patch), at + len(data))
            if first < last:
                data = data[: first - at] + patch[first - offset : last - offset] + data[last - at :]
        self._at += len(data)
        return data

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()
