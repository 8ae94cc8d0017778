"""Files in, files out: one codec per family behind one table.

A codec is a module with four functions:

    probe(path, **options)          -> SignalInfo, from the header alone
    reader(path, **options)         -> Reader: a context manager that yields numpy blocks (C, *S)
    writer(path, info, **options)   -> Writer: a context manager that takes the same blocks back, atomically
    suffixes                        is in `denoise.signal.MODALITIES`

For an image a block is one page in its own dtype; for a signal it is the next `block` samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from denoise.registry import lookup
from denoise.signal import SignalInfo, modality_of

__all__ = ["CODECS", "Reader", "Writer", "probe", "read", "reader", "write", "writer"]

Array = NDArray[Any]

CODECS: Mapping[str, str] = MappingProxyType(
    {
        "image": "denoise.io.image:CODEC",
        "audio": "denoise.io.audio:CODEC",
        "sensor": "denoise.io.sensor:CODEC",
    }
)


class Reader(Protocol):
    """Yields the blocks of one file, in order. Use as a context manager."""

    info: SignalInfo

    def __iter__(self) -> Iterator[Array]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Writer(Protocol):
    """Takes blocks and makes them one file: complete on a clean exit, absent (or the old file) otherwise."""

    clipped: int  # samples that did not fit the file's range, so far

    def write(self, block: Array) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Codec(Protocol):
    """One family of formats."""

    def probe(self, path: Path, **options: Any) -> SignalInfo: ...
    def reader(self, path: Path, **options: Any) -> Reader: ...
    def writer(self, path: Path, info: SignalInfo) -> Writer: ...


def _codec(path: Path) -> Codec:
    codec: Codec = lookup(CODECS, modality_of(path).name, "codec")
    return codec


def probe(path: str | Path, **options: Any) -> SignalInfo:
    """What a file holds, from its header."""
    path = Path(path)
    return _codec(path).probe(path, **options)


def reader(path: str | Path, **options: Any) -> Reader:
    """Open a file for reading block by block; signals take `block` (samples per block)."""
    path = Path(path)
    return _codec(path).reader(path, **options)


def writer(path: str | Path, info: SignalInfo) -> Writer:
    """Open a file for writing blocks like those its `info` describes."""
    path = Path(path)
    return _codec(path).writer(path, info)


def read(path: str | Path, **options: Any) -> tuple[Array, SignalInfo]:
    """Read a whole file: its samples `(C, *S)` (an image of several pages: the first) and its info."""
    with reader(path, **options) as source:
        blocks = list(source) if source.info.modality != "image" else [next(iter(source))]
        info = source.info
    return np.concatenate(blocks, axis=-1) if len(blocks) > 1 else blocks[0], info


def write(path: str | Path, array: Array, info: SignalInfo) -> None:
    """Write a whole file from its samples `(C, *S)`."""
    with writer(path, info) as sink:
        sink.write(array)
