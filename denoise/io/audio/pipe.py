"""Audio through pipes: WAV or headless PCM, block by block as it arrives, without seeking.

The length of a WAV in a pipe is unknown: its header holds the largest size (ffmpeg, sox), which means "until
the end", on reading and on writing. Chunks in front of the samples are skipped. Samples become float32, full
scale 1.0, and are rounded and clipped for writing, as in files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from denoise.arrays import Array, Floats
from denoise.errors import UnreadableError, UnsupportedError, UsageError
from denoise.registry import unknown

# FFmpeg's names -> the dtype of a sample (numpy has no `i3`).
MAX_CHANNELS = 1024  # as in files
PCM: Mapping[str, str] = {
    "u8": "u1",
    "s16le": "<i2",
    "s16be": ">i2",
    "s24le": "<i3",
    "s32le": "<i4",
    "f32le": "<f4",
    "f64le": "<f8",
}

READ_BYTES = 2**16  # at once, or fewer if fewer have arrived
_HEADER_BYTES = 8  # of a chunk
_UNKNOWN_SIZE = 0x7FFFF000  # and above: an unknown size
_INTEGER, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE  # format tags of WAV
_WAV_NAMES = {
    (_INTEGER, 8): "u8",
    (_INTEGER, 16): "s16le",
    (_INTEGER, 24): "s24le",
    (_INTEGER, 32): "s32le",
    (_FLOAT, 32): "f32le",
    (_FLOAT, 64): "f64le",
}
_MAX_CHUNK_BYTES = 64 * 2**20  # in front of the samples


@dataclass(frozen=True)
class PipeFormat:
    """The format of the bytes in a pipe.

    Raises:
        UsageError: The encoding is unknown, or a number is below 1 or too high.
    """

    encoding: str  # a name in `PCM`
    sample_rate: int  # Hz
    channels: int = 1  # number of interleaved channels
    wav: bytes | None = None  # the payload of the `fmt ` chunk of a WAV; None for headless PCM

    def __post_init__(self) -> None:
        if self.encoding not in PCM:
            raise unknown("sample format", self.encoding, PCM)
        if self.sample_rate < 1 or not 1 <= self.channels <= MAX_CHANNELS:
            raise UsageError(
                f"{self.sample_rate} Hz and {self.channels} channels; expected at least one of each, and at "
                f"most {MAX_CHANNELS} channels"
            )

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample of one channel."""
        return int(PCM[self.encoding][-1])

    def decode(self, data: bytes) -> Floats:
        """Decode whole frames to samples `(C, n)`."""
        kind = PCM[self.encoding]
        if kind == "<i3":  # into the upper three bytes of four
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            values: Array = wide.view("<i4")[:, 0]
        else:
            values = np.frombuffer(data, kind)
        if kind == "u1":
            values = values.astype(np.int16) - 128
        full = 1.0 if "f" in kind else 2.0 ** (31 if kind == "<i3" else 8 * self.sample_bytes - 1)
        return np.ascontiguousarray((values / full).astype(np.float32).reshape(-1, self.channels).T)

    def encode(self, samples: Array) -> tuple[bytes, int]:
        """Encode samples `(C, n)`, and count the values beyond full scale, which are clipped."""
        kind, values = PCM[self.encoding], samples.T.astype(np.float64)
        if "f" in kind:
            return values.astype(kind).tobytes(), 0
        full = 2.0 ** (8 * self.sample_bytes - 1)
        values *= full
        clipped = int(np.count_nonzero(np.abs(values) > full))
        whole = np.clip(np.rint(values), -full, full - 1).astype("<i4")
        if kind == "<i3":
            return whole[..., None].view(np.uint8)[..., :3].tobytes(), clipped
        return (whole + 128 if kind == "u1" else whole).astype(kind).tobytes(), clipped


class PipeReader:
    """Yields blocks `(C, n)` as they arrive.

    Args:
        pipe: Source of the bytes; it need not be able to seek.
        headless: The format of the bytes, if they are no WAV.

    Raises:
        UnreadableError: The bytes are no WAV, or end in the middle of a sample or before the promised length.
        UnsupportedError: It is a WAV of another encoding than PCM and float.
    """

    def __init__(self, pipe: BinaryIO, headless: PipeFormat | None = None) -> None:
        self._pipe = pipe
        self._left: int | None = None  # bytes of samples to come, if known
        self.format = headless or self._read_header()

    def __iter__(self) -> Iterator[Floats]:
        frame = self.format.sample_bytes * self.format.channels
        rest, limit = b"", max(READ_BYTES // frame, 1) * frame
        while self._left != 0:
            wanted = limit if self._left is None else min(limit, self._left)
            data: bytes = self._pipe.read1(wanted)  # type: ignore[attr-defined]
            if not data:
                break
            rest += data
            if self._left is not None:
                self._left -= len(data)
                if not self._left:
                    rest += self._more()
            whole = len(rest) // frame * frame
            if whole:
                yield self.format.decode(rest[:whole])
                rest = rest[whole:]
        if rest or self._left:
            found = f"{len(rest)} bytes of a frame of {frame}" if rest else f"{self._left} bytes too early"
            raise UnreadableError(f"standard input: cut short, it ends with {found}, expected whole samples")

    def _more(self) -> bytes:
        """First bytes behind the samples that the header states, if they are no chunk but further samples."""
        head = self._pipe.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES or head[:4].isascii():
            return b""
        self._left = None
        return head

    def _read_header(self) -> PipeFormat:
        head = self._exactly(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            raise UnreadableError(
                "standard input: holds no WAV; expected one, or the format of headless samples (--raw)"
            )
        layout: PipeFormat | None = None
        large = None
        while True:
            name, size = struct.unpack("<4sI", self._exactly(8))
            if name == b"data":
                break
            if size > _MAX_CHUNK_BYTES:
                raise UnreadableError(
                    f"standard input: a chunk of {size} bytes in front of the samples, "
                    f"expected at most {_MAX_CHUNK_BYTES}"
                )
            payload = self._exactly(size + size % 2)[:size]
            if name == b"ds64" and size >= 16:
                large = int.from_bytes(payload[8:16], "little")
            if name == b"fmt ":
                layout = _layout(payload)
        if layout is None:
            raise UnreadableError("standard input: is a WAV without a format before its samples")
        if size >= _UNKNOWN_SIZE:
            size = large if head[:4] == b"RF64" and large is not None else 0
        self._left = size or None  # 0 also means unknown
        return layout

    def _exactly(self, size: int) -> bytes:
        data = self._pipe.read(size)
        if len(data) < size:
            found = "empty" if not data else "cut short in its header"
            raise UnreadableError(f"standard input: {found}, expected a WAV")
        return data


def _layout(payload: bytes) -> PipeFormat:
    if len(payload) < 16:
        raise UnreadableError(f"standard input: a WAV format of {len(payload)} bytes, expected at least 16")
    tag, channels, sample_rate, _, _, bits = struct.unpack("<HHIIHH", payload[:16])
    if tag == _EXTENSIBLE and len(payload) >= 26:
        tag = int.from_bytes(payload[24:26], "little")
    if (tag, bits) not in _WAV_NAMES:
        raise UnsupportedError(
            f"standard input: a WAV of format {tag} with {bits} bits, expected PCM or float"
        )
    if not 1 <= channels <= MAX_CHANNELS or not sample_rate:
        raise UnreadableError(
            f"standard input: a WAV of {channels} channels at {sample_rate} Hz, expected at least one of "
            f"each, and at most {MAX_CHANNELS} channels"
        )
    return PipeFormat(_WAV_NAMES[tag, bits], sample_rate, channels, payload)


class PipeWriter:
    """Writes blocks as they come, each flushed; the header of a WAV at once.

    Attributes:
        clipped: Number of values so far that were clipped to full scale.
    """

    def __init__(self, pipe: BinaryIO, layout: PipeFormat) -> None:
        self.clipped = 0
        self._pipe, self._format = pipe, layout
        if layout.wav is not None:
            chunk = struct.pack("<4sI", b"fmt ", len(layout.wav)) + layout.wav + bytes(len(layout.wav) % 2)
            forever = 0xFFFFFFFF
            self._put(b"RIFF" + struct.pack("<I", forever) + b"WAVE" + chunk)
            self._put(struct.pack("<4sI", b"data", forever))

    def write(self, samples: Array) -> None:
        """Append the next samples `(C, n)`."""
        data, clipped = self._format.encode(samples)
        self.clipped += clipped
        if data:
            self._put(data)

    def _put(self, data: bytes) -> None:
        self._pipe.write(data)
        self._pipe.flush()
