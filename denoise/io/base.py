"""The interface of a codec: one modality's readers and writers.

An image block is one page in its own dtype; a signal block is the next `block` samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from denoise.arrays import Array
from denoise.signal import SignalInfo

if TYPE_CHECKING:  # the command line answers `--help` without numpy
    Array = Array


class Reader(Protocol):
    """Yields the blocks `(C, *S)` of one file, in order. Use as a context manager."""

    @property
    def info(self) -> SignalInfo: ...
    def __iter__(self) -> Iterator[Array]: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *failure: Any) -> None: ...


class Writer(Protocol):
    """Takes blocks and makes them one file: complete on a clean exit, absent (or the old file) otherwise."""

    clipped: int  # samples that did not fit the file's range, so far

    def write(self, block: Array) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, *failure: Any) -> None: ...


@dataclass(frozen=True)
class Codec:
    """The formats of one modality."""

    reader: Callable[..., Reader]  # opens a file, given its path and options
    # opens a file, given its path and an info, for blocks like those that the info describes
    writer: Callable[[Path, SignalInfo], Writer]

    def probe(self, path: Path, **options: Any) -> SignalInfo:
        """Describe a file, from its header."""
        with self.reader(path, **options) as source:
            return source.info
