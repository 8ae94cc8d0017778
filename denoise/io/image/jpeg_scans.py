"""Completeness of JPEG data: libjpeg fills what is missing with gray, and reports success.

Scan headers tell whether each coefficient has its scans (ITU-T T.81 G.1), and restart markers whether each
interval is there. Whether the only scan ends early is asked of the decoder: bytes appended to its data change
the picture only if the decoder still needed some. Other last bytes change it unless it was complete before.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from denoise.arrays import Array

BASELINE, EXTENDED, PROGRESSIVE = 0xC0, 0xC1, 0xC2  # frames with Huffman codes
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")
_PROBE = bytes(range(1, 65))  # any bits that are no marker


class Frame(NamedTuple):
    """Frame header."""

    marker: int
    height: int
    width: int
    components: tuple[int, ...]
    largest: tuple[int, int]  # sampling factors across and down


class Scan(NamedTuple):
    """Scan header, the restart interval in force, and where its data lies."""

    components: tuple[int, ...]
    first: int  # coefficient
    last: int
    bit: int  # lowest bit of the coefficients that the scan brings
    interval: int  # units between restart markers; 0 without
    start: int
    stop: int

    @classmethod
    def of(cls, head: bytes, interval: int, start: int, stop: int) -> Scan:
        """Read a scan header."""
        names = tuple(head[1 : 1 + 2 * head[0] : 2])
        first, last, bits = (*head[1 + 2 * head[0] :], 0, 63, 0)[:3]
        return cls(names, first, last, bits & 15, interval, start, stop)


def fault(data: bytes, frame: Frame, scans: Sequence[Scan]) -> str:
    """Say what is wrong with the data of a picture; empty if nothing is known to be."""
    if frame.marker not in (BASELINE, EXTENDED, PROGRESSIVE):
        return ""
    if not _covered(frame, scans):
        return "a scan is missing"
    if frame.marker == PROGRESSIVE or len(scans) > 1:
        return ""
    scan = scans[0]
    if scan.interval and not _restarts_fit(data[scan.start : scan.stop], frame, scan):
        return "a part of it is missing between restart markers"
    picture, end = _preview(data), data[scan.stop :]
    if not np.array_equal(picture, _preview(data[: scan.stop] + _PROBE + end)):
        return "the last rows are missing"
    last = len(data[: scan.stop].rstrip(b"\0\xff")) - len(_PROBE)  # some writers fill up to a sector
    if last > scan.start and np.array_equal(picture, _preview(data[:last] + _PROBE + end)):
        return "some is left over, so bytes before it are wrong"
    return ""


def _covered(frame: Frame, scans: Sequence[Scan]) -> bool:
    """Tell whether the scans bring every coefficient of every component down to its last bit."""
    bits = {name: np.full(64, 99) for name in frame.components}
    for scan in scans:
        for name in scan.components:
            if name in bits:
                part = slice(scan.first, scan.last + 1) if frame.marker == PROGRESSIVE else slice(None)
                bits[name][part] = scan.bit if frame.marker == PROGRESSIVE else 0
    return not any(component.any() for component in bits.values())


def _restarts_fit(data: bytes, frame: Frame, scan: Scan) -> bool:
    """Tell whether the restart markers are as many as the picture needs, in their order."""
    across, down = frame.largest if len(scan.components) > 1 else (1, 1)
    units = -(-frame.width // (8 * across)) * -(-frame.height // (8 * down))
    found = np.array([marker[0] for marker in _RESTART.findall(data)], np.int64) - 0xD0
    needed = -(-units // scan.interval) - 1
    return len(found) >= needed and bool((found == np.arange(len(found)) % 8).all())


def _preview(data: bytes) -> Array:
    """Decode at an eighth of the size, which needs every code but hardly any arithmetic."""
    from PIL.JpegImagePlugin import JpegImageFile

    image = JpegImageFile(io.BytesIO(data))
    image.draft(None, (max(image.width // 8, 1), max(image.height // 8, 1)))
    return np.asarray(image)
