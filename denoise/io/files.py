"""Open a file for reading or writing, through the codec of its modality.

The first bytes of a file decide its format (`denoise.io.sniff`): a JPEG with the suffix `.png` is read as a
JPEG and, under that name, written as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from denoise.arrays import Array
from denoise.errors import UnreadableError
from denoise.io.base import Codec, Reader, Writer
from denoise.io.formats import Format, format_of_suffix, modality_of, refusal
from denoise.io.sniff import sniff
from denoise.registry import lookup, resolve
from denoise.signal import MODALITIES, Modality, SignalInfo

if TYPE_CHECKING:  # the command line answers `--help` without numpy
    Array = Array

CODECS: Mapping[str, str] = {
    "image": "denoise.io.image.codec:CODEC",
    "audio": "denoise.io.audio.codec:CODEC",
    "sensor": "denoise.io.sensor.codec:CODEC",
}


def modality(path: str | Path) -> Modality:
    """Find a file's modality: by its first bytes, or by its name where they do not decide (text).

    Raises:
        UnsupportedError: Neither decides, or the format is known and not read.
    """
    path = Path(path)
    try:
        row = sniff(path)
    except UnreadableError:  # the codec of its name states the reason
        return modality_of(path)
    if row.advice:
        raise refusal(path, row)
    return MODALITIES[row.modality] if row.modality else modality_of(path)


def _codec(name: str, row: Format | None) -> Codec:
    """Select the codec of a format that has its own, else that of its modality."""
    own = resolve(row.codec) if row and row.codec and row.modality == name else None
    return own if isinstance(own, Codec) else lookup(CODECS, name, "codec")


def _codec_of(path: Path) -> Codec:
    found = modality(path).name
    try:
        return _codec(found, sniff(path))
    except UnreadableError:  # the codec of its name states the reason
        return _codec(found, None)


def probe(path: str | Path, **options: Any) -> SignalInfo:
    """Describe a file, from its header."""
    path = Path(path)
    return _codec_of(path).probe(path, **options)


def reader(path: str | Path, **options: Any) -> Reader:
    """Open a file for reading block by block; signals take `block` (samples per block)."""
    path = Path(path)
    return _codec_of(path).reader(path, **options)


def writer(path: str | Path, info: SignalInfo) -> Writer:
    """Open a file for writing blocks like those that `info` describes.

    The suffix decides the format, unless it is the source's own: then the source's format does.
    """
    path = Path(path)
    row = format_of_suffix(path.suffix)
    if path.suffix.lower() == info.source.suffix.lower():
        with suppress(UnreadableError):  # a source that is no file any more
            row = sniff(info.source)
    return _codec(info.modality, row).writer(path, info)


def read(path: str | Path, **options: Any) -> tuple[Array, SignalInfo]:
    """Read a whole file: its samples `(C, *S)` (an image of several pages: the first) and its info."""
    import numpy as np

    with reader(path, **options) as source:
        blocks = list(source) if source.info.modality != "image" else [next(iter(source))]
        info = source.info
    return np.concatenate(blocks, axis=-1) if len(blocks) > 1 else blocks[0], info


def write(path: str | Path, array: Array, info: SignalInfo) -> None:
    """Write a whole file from its samples `(C, *S)`."""
    with writer(path, info) as sink:
        sink.write(array)
