"""MATLAB files of version 5 (MathWorks, "MAT-File Format", 2019): numeric variables at the top level.

Everything else (text, structures, cells, function handles) and every unchanged variable keeps its bytes; a
changed variable is written in its own class, compressed if it was. Version 7.3 is HDF5; version 4 is not
read.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from denoise.errors import UnreadableError
from denoise.io.limits import require_plausible_size
from denoise.io.sensor.base import naming_damage
from denoise.io.sensor.npy import time_axis
from denoise.io.sensor.npz import ArchiveFormat, Member, member, require_new

HEADER_BYTES = 128
_PEEK_BYTES = 4096  # of an element: they hold flags, shape, name and the tag of the numbers
_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMBER_OF = {dtype: number for number, dtype in _STORED.items()}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_OTHERS = {1: "a cell array", 2: "a structure", 3: "an object", 4: "text", 5: "a sparse matrix"}
_COMPLEX, _LOGICAL = 0x08, 0x02


@dataclass(frozen=True)
class _Element:
    """One variable in the file: its bytes, tag included, from `start` to `stop`."""

    start: int
    stop: int
    compressed: bool


@dataclass(frozen=True)
class _Matrix:
    """The header of a matrix."""

    kind: int  # number of its class
    flags: int  # complex, global, logical
    shape: tuple[int, ...]  # its sides
    name: str  # name of the variable
    at: int  # position of the tag of its numbers


def _elements(path: Path, file: io.BufferedIOBase, order: str) -> Iterator[_Element]:
    size, at = path.stat().st_size, HEADER_BYTES
    while at < size:
        file.seek(at)
        tag = file.read(8)
        kind, length = struct.unpack(f"{order}II", tag) if len(tag) == 8 else (0, size)
        if at + 8 + length > size:
            raise UnreadableError(f"{path}: is cut short: a variable continues past the end at byte {size}")
        if kind in (_MATRIX, _COMPRESSED):
            yield _Element(at, at + 8 + length, kind == _COMPRESSED)
        at += 8 + length


def _order(file: io.BufferedIOBase) -> str:
    file.seek(HEADER_BYTES - 2)
    return "<" if file.read(2) == b"IM" else ">"


def _content(file: io.BufferedIOBase, element: _Element, order: str, limit: int = 0) -> bytes:
    """Unpack a matrix with its tag; at most `limit` bytes of it, if there is a limit."""
    file.seek(element.start)
    if not element.compressed:
        return file.read(min(limit, element.stop - element.start) if limit else element.stop - element.start)
    packed = file.read(element.stop - element.start)[8:]
    if limit:
        return zlib.decompressobj().decompress(packed, limit)
    unpacker = zlib.decompressobj()
    length = struct.unpack(f"{order}I", unpacker.decompress(packed, 8)[4:])[0]
    unpacker = zlib.decompressobj()
    return unpacker.decompress(packed, length + 8)


def _tag(data: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Read type, first byte and length of a part, and the start of the next one."""
    kind, length = struct.unpack_from(f"{order}II", data, at)
    if kind >> 16:  # small: up to four bytes in the tag itself
        return kind & 0xFFFF, at + 4, kind >> 16, at + 8
    return kind, at + 8, length, at + 8 + length + -length % 8


def _matrix(data: bytes, order: str) -> _Matrix:
    _, start, _, at = _tag(data, 8, order)
    word = struct.unpack_from(f"{order}I", data, start)[0]
    _, start, length, at = _tag(data, at, order)
    shape = struct.unpack_from(f"{order}{length // 4}i", data, start)
    _, start, length, at = _tag(data, at, order)
    return _Matrix(word & 0xFF, word >> 8 & 0xFF, shape, data[start : start + length].decode("latin-1"), at)


def _numbers(data: bytes, matrix: _Matrix, order: str) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """Read the numbers in the type of the class: MATLAB stores whole ones in fewer bytes."""
    kind, start, length, _ = _tag(data, matrix.at, order)
    stored = np.dtype(order + _STORED[kind])
    return np.frombuffer(data[start : start + length], stored).astype(order + _CLASSES[matrix.kind])


class _Mat:
    """Variables of a MAT-file."""

    def members(self, path: Path) -> dict[str, Member]:
        found: dict[str, Member] = {}
        with naming_damage(str(path), "a sound MAT-file"), path.open("rb") as file:
            order, claimed = _order(file), 0
            for element in _elements(path, file, order):
                head = _content(file, element, order, _PEEK_BYTES)
                claimed += struct.unpack_from(f"{order}I", head, 4)[0]
                matrix = _matrix(head, order)
                if matrix.name:  # MATLAB's own objects have none
                    require_new(matrix.name, found, path)
                    found[matrix.name] = self._member(path, element, matrix, order)
            claim = f"{claimed} bytes of variables"
            require_plausible_size(claimed, path.stat().st_size, claim, f"{path}: ")
        if not found:
            raise UnreadableError(f"{path}: holds no variables; expected sensor data")
        return found

    def _member(self, path: Path, element: _Element, matrix: _Matrix, order: str) -> Member:
        load = partial(_load, path, element, matrix, order)
        if matrix.kind not in _CLASSES or matrix.flags & (_COMPLEX | _LOGICAL):
            numeric = "complex" if matrix.flags & _COMPLEX else "logical"
            return Member(None, _OTHERS.get(matrix.kind, numeric), load)
        shape = matrix.shape
        if len(shape) == 2 and 1 in shape:  # MATLAB has no vectors
            shape = (max(shape),) if 0 not in shape else (0,)
        if shape == (1,):
            value = np.frombuffer(load().getvalue(), order + _CLASSES[matrix.kind])
            return Member(None, "a single value", load, float(value[0]))
        axes = partial(time_axis, np.dtype(order + _CLASSES[matrix.kind]), shape, True, 0)
        return member(axes, f"{path}: {matrix.name}", load)

    def save(self, source: Path, temporary: Path, changed: Mapping[str, bytes]) -> None:
        with source.open("rb") as old, temporary.open("wb") as new:
            order, done = _order(old), 0
            for element in _elements(source, old, order):
                content = _content(old, element, order)
                matrix = _matrix(content, order)
                if matrix.name not in changed:
                    continue
                old.seek(done)
                new.write(old.read(element.start - done))
                new.write(_packed(content, matrix, changed[matrix.name], order, element.compressed))
                done = element.stop
            old.seek(done)
            new.write(old.read())


def _load(path: Path, element: _Element, matrix: _Matrix, order: str) -> io.BytesIO:
    with naming_damage(f"{path}: {matrix.name}", "a sound MAT-file"), path.open("rb") as file:
        numbers = _numbers(_content(file, element, order), matrix, order)
        if numbers.size != np.prod(matrix.shape, dtype=object):
            raise UnreadableError(
                f"{path}: {matrix.name}: {numbers.size} numbers; expected those of the shape {matrix.shape}"
            )
        return io.BytesIO(numbers.tobytes())


def _packed(content: bytes, matrix: _Matrix, numbers: bytes, order: str, compressed: bool) -> bytes:
    """Pack an element: the old flags, shape and name, then the numbers in the type of the class."""
    _, _, _, after = _tag(content, matrix.at, order)
    tag = struct.pack(f"{order}II", _NUMBER_OF[_CLASSES[matrix.kind]], len(numbers))
    body = content[8 : matrix.at] + tag + numbers + bytes(-len(numbers) % 8) + content[after:]
    element = struct.pack(f"{order}II", _MATRIX, len(body)) + body
    if not compressed:
        return element
    packed = zlib.compress(element)
    return struct.pack(f"{order}II", _COMPRESSED, len(packed)) + packed


FORMAT = ArchiveFormat(_Mat())
