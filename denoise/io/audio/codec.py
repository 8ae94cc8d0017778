"""Audio files through libsndfile, block by block, in constant memory.

A result keeps container (WAV, extensible WAV, RF64, AIFF, FLAC, Ogg, MP3), subtype, byte order, rate,
channels, length to the sample, tags and chunks (`denoise.io.audio.tags`), and for lossy formats the bit rate
or the next better one (`denoise.io.audio.encoding`).

Blocks are float32, full scale 1.0. They hold 8, 16 and 24-bit samples exactly, so an unchanged file keeps
every bit; of 32-bit integers and doubles they keep 24 significant bits (an error 144 dB below the sample),
and `info.notes` says so. Integers are rounded to nearest, without dither; samples beyond full scale are
clipped and counted. Float and lossy files hold values beyond 1.0. Digital silence stays exact zeros, except
in Opus, whose decoder returns about 1e-34.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from denoise.errors import OutputError, UnreadableError, UsageError
from denoise.io.atomic import replacing
from denoise.io.audio.encoding import (
    HANDLED,
    INTEGER_BITS,
    ForwardFile,
    bit_rate_of,
    containers,
    encoding,
    is_named_right,
    written_subtype,
)
from denoise.io.audio.ogg import last_page
from denoise.io.audio.tags import chunks, insert_tags, read_tags
from denoise.io.base import Codec
from denoise.io.sniff import format_of, read_head
from denoise.signal import AudioInfo, SignalInfo

__all__ = ["CODEC", "AudioReader", "AudioWriter"]

Float = NDArray[np.float32]

BLOCK_S = 10.0  # length of a block, unless it would hold more than
MAX_VALUES = 2**22  # of all channels together (16 MiB of float32)
WRITE_SAMPLES = 2**16  # at once to the encoder, because libvorbis copies them to the stack

_UNKNOWN_LENGTH = 2**62  # libsndfile reports 2^63-1 samples if a FLAC header leaves the length open
_MP3_SLACK = 2 * 1152  # samples: decoders may differ by a frame at each end
_END_OF_STREAM = 4  # flag of the last Ogg page


class AudioReader:
    """Yields the blocks of one recording, float32 `(C, n)`, once.

    Args:
        path: The file; its contents decide the format.
        block: Samples in a block; None takes about ten seconds, fewer if there are many channels.

    Raises:
        UnreadableError: It is no audio, cut short, damaged, empty, holds NaN or infinite samples, or cannot
            be opened.
    """

    def __init__(self, path: Path, block: int | None = None) -> None:
        if block is not None and block < 1:
            raise UsageError(f"block is {block}, expected at least 1 sample")
        _check_bytes(path)
        self._path = path
        self._file = _open(path)
        try:
            self.info = _describe(path, self._file)
        except BaseException:
            self._file.close()
            raise
        channels, samples = self.info.shape
        usual = max(1, min(int(BLOCK_S * self._file.samplerate), MAX_VALUES // channels))
        self._block = min(block or usual, samples)

    def __iter__(self) -> Iterator[Float]:
        position, samples = 0, self.info.shape[1]
        while position < samples:
            block = self._next(position)
            if block.shape[1] == 0:
                break
            if bad := _first_not_finite(block):
                raise UnreadableError(f"{self._path}: {_place(bad, position)}, expected finite numbers")
            position += block.shape[1]
            yield block
        if position < samples - (_MP3_SLACK if self._file.format == "MP3" else 0):
            raise self._cut_short(position)

    def _next(self, position: int) -> Float:
        try:
            frames = self._file.read(self._block, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise self._cut_short(position) from error
        return np.ascontiguousarray(frames.T)

    def _cut_short(self, position: int) -> UnreadableError:
        return UnreadableError(
            f"{self._path}: cut short or damaged after about {position} samples, "
            f"expected the {self.info.shape[1]} of its header"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._file.close()


def _first_not_finite(block: NDArray[Any]) -> tuple[int, int, float] | None:
    """Find channel, sample and value of the first NaN or infinity."""
    if np.isfinite(block).all():
        return None
    sample, channel = np.argwhere(~np.isfinite(block.T))[0].tolist()
    return channel, sample, float(block[channel, sample])


def _place(bad: tuple[int, int, float], position: int) -> str:
    channel, sample, value = bad
    return f"sample {position + sample} of channel {channel + 1} is {value}"


def _check_bytes(path: Path) -> None:
    """Refuse a file that is no audio or ends too early, with a reason that libsndfile does not give."""
    found = format_of(read_head(path, "audio"))
    if found.modality != "audio":  # libsndfile would try about twenty formats more
        raise UnreadableError(f"{path}: holds {found.name} data; expected audio")
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        promised = next((c for c in chunks(file) if c.name in ("data", "SSND")), None)
        page = last_page(file)
    if promised and promised.size and promised.start + promised.size > size:
        raise UnreadableError(
            f"{path}: cut short, {size - promised.start} bytes of samples, "
            f"expected the {promised.size} of its header"
        )
    if page and page[1]:
        raise UnreadableError(
            f"{path}: cut short, the last Ogg page lacks {page[1]} bytes, expected a whole one"
        )


def _open(path: Path) -> ForwardFile:
    try:
        file = ForwardFile(path)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        raise UnreadableError(
            f"{path}: is damaged or of an unknown kind ({reason}), expected audio"
        ) from error
    if file.format not in HANDLED:
        found = file.format
        file.close()
        raise UnreadableError(f"{path}: holds {found} data, expected one of {' '.join(HANDLED)}")
    return file


def _describe(path: Path, file: ForwardFile) -> AudioInfo:
    notes = []
    if not is_named_right(path, file.format, file.subtype):
        found = file.subtype.title() if file.format == "OGG" else file.format
        notes.append(f"holds {found} data under the suffix {path.suffix or '(none)'}, and keeps both")
    samples = file.frames
    if samples >= _UNKNOWN_LENGTH:
        samples = _count(path)
        notes.append("the header does not state the length, so it was counted")
    if samples == 0:
        raise UnreadableError(f"{path}: holds 0 samples, expected at least one")
    written = written_subtype(file.format, file.subtype)
    if written != file.subtype:
        notes.append(f"{file.subtype} is written back as {written}")
    if file.subtype in ("PCM_32", "DOUBLE"):
        notes.append(f"24 significant bits of {file.subtype} samples are kept")
    with path.open("rb") as source:
        page = last_page(source)
    if page and not page[0] & _END_OF_STREAM:
        notes.append("the last page is not marked as the end: the recording may have been longer")
    return AudioInfo(
        source=path,
        modality="audio",
        shape=(file.channels, samples),
        dtype="float32",
        peak=1.0,
        sample_rate=float(file.samplerate),
        notes=tuple(notes),
        container=file.format,
        subtype=file.subtype,
        endian=file.endian,
        bit_rate=bit_rate_of(path, file.format, file.subtype, samples / file.samplerate),
        tags=read_tags(path, file.format),
    )


def _count(path: Path) -> int:
    """Decode a file to measure its length."""
    samples = 0
    with ForwardFile(path) as file:
        buffer = np.empty((WRITE_SAMPLES, file.channels), dtype=np.float32)
        try:
            while count := len(file.read(out=buffer)):
                samples += count
        except soundfile.LibsndfileError as error:
            raise UnreadableError(
                f"{path}: cut short or damaged after about {samples} samples, expected all of them"
            ) from error
    return samples


class AudioWriter:
    """Takes float32 blocks `(C, n)` and writes a file like the one that `info` describes.

    Args:
        path: The final name, replaced in one step when the `with` block ends without an error.
        info: From a reader, or made by hand with `shape` and `sample_rate`; the latter is written in 24 bits.

    Attributes:
        clipped: Values beyond full scale so far that an integer subtype could not hold; they are limited.

    Raises:
        OutputError: The format cannot hold that rate or so many channels, a block holds NaN or infinite
            values, or the bytes do not get to the disk.
    """

    def __init__(self, path: Path, info: SignalInfo) -> None:
        info = AudioInfo.of(info)
        self.clipped = 0
        self._path = path
        self._encoding = encoding(path, info)
        self._tags = info.tags if info.container in containers(path, info) else ()
        self._written = 0

    def write(self, block: NDArray[Any]) -> None:
        """Append the next samples `(C, n)`."""
        channels = self._encoding.channels
        if block.ndim != 2 or block.shape[0] != channels:
            raise UsageError(f"{self._path}: a block of shape {block.shape}, expected ({channels}, n)")
        for start in range(0, block.shape[1], WRITE_SAMPLES):
            self._append(block[:, start : start + WRITE_SAMPLES])

    def _append(self, part: NDArray[Any]) -> None:
        if bad := _first_not_finite(part):
            raise OutputError(f"{self._path}: {_place(bad, self._written)}, expected finite numbers")
        bits = INTEGER_BITS.get(self._encoding.subtype)
        frames = part.T.astype(np.float32) if bits is None else self._integers(part.T, bits)
        try:
            self._file.write(frames)
        except (soundfile.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
            raise self._failed() from error
        self._written += part.shape[1]

    def _integers(self, values: NDArray[Any], bits: int) -> NDArray[np.int32]:
        """Round to N bits, in the upper bits of an int32 as libsndfile expects them.

        Its own conversion from float scales by 2^(bits-1) - 1 and truncates, which would change every sample.
        """
        scale = 2.0 ** (bits - 1)
        scaled = values.astype(np.float64) * scale
        self.clipped += int(np.count_nonzero(np.abs(scaled) > scale))
        np.clip(np.rint(scaled, out=scaled), -scale, scale - 1, out=scaled)
        integers: NDArray[np.int32] = scaled.astype(np.int32) << (32 - bits)
        return integers

    def _failed(self) -> OutputError:
        return OutputError(f"{self._path}: cannot be written, the disk is full or the encoder failed")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._part = stack.enter_context(replacing(self._path))
            try:
                self._file = self._encoding.open(self._part)
            except soundfile.SoundFileError as error:
                raise OutputError(f"{self._path}: libsndfile cannot write {self._encoding}") from error
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def _finish(self, *failure: Any) -> None:
        """Close the encoder's file and add the tags; after an error, only close it."""
        try:
            self._file.close()
            if failure[0] is None:
                insert_tags(self._part, self._encoding.container, self._tags)
                self._check_length()
        except soundfile.SoundFileError as error:
            raise self._failed() from error

    def _check_length(self) -> None:
        """Read the length back before the file takes its name, because encoders hide some failures."""
        with ForwardFile(self._part) as file:
            if file.frames != self._written:
                raise OutputError(
                    f"{self._path}: {file.frames} samples arrived in the file, expected {self._written}"
                )

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)


CODEC = Codec(AudioReader, AudioWriter)
