"""Audio files through libsndfile, block by block, in constant memory.

A result keeps container (WAV, extensible WAV, RF64, AIFF, FLAC, Ogg, MP3), subtype, byte order, rate,
channels, length to the sample, tags and chunks (`denoise.io.audio.tags`), and for lossy formats the bit rate
or the next better one (`denoise.io.audio.encoding`).

Blocks are float32, full scale 1.0. They hold 8, 16 and 24-bit samples exactly, so an unchanged file keeps
every bit; of 32-bit integers and doubles they keep 24 significant bits (an error 144 dB below the sample),
and `info.notes` says so. Integers are rounded to nearest, without dither; samples beyond full scale are
clipped and counted. Floats and lossy files hold values beyond 1.0. Digital silence stays exact zeros, except
in Opus, whose decoder returns about 1e-34.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from denoise.arrays import Array, Floats
from denoise.errors import OutputError, UnreadableError, UnsupportedError, UsageError
from denoise.io.atomic import replacing
from denoise.io.audio.encoding import (
    HANDLED,
    INTEGER_BITS,
    ForwardFile,
    bit_rate_of,
    containers,
    encoding,
    is_named_right,
    written_container,
    written_subtype,
)
from denoise.io.audio.links import Layout, Link, layout
from denoise.io.audio.tags import insert_tags, lost, parts, read_tags, valid_bits
from denoise.io.audio.view import View
from denoise.io.base import Codec
from denoise.io.sniff import format_of, read_head
from denoise.io.stamp import Stamp, tags_with
from denoise.signal import AudioInfo, SignalInfo

BLOCK_S = 10.0  # length of a block, unless it would hold more than
MAX_VALUES = 2**22  # of all channels together (16 MiB of float32)
PIECE_SAMPLES = 2**12  # at once from the decoder, which on an error loses them all
WRITE_SAMPLES = 2**16  # at once to the encoder, because libvorbis copies them to the stack

_UNKNOWN_LENGTH = 2**62  # libsndfile reports 2^63-1 samples if a FLAC header leaves the length open
_MP3_SLACK = 2 * 1152  # samples: decoders may differ by a frame at each end


class AudioReader:
    """Yields the blocks of one recording, float32 `(C, n)`, once.

    Args:
        path: The file; its contents decide the format.
        block: Samples in a block; None takes about ten seconds, fewer if there are many channels.
        salvage: Yield what can be decoded of a damaged recording instead of refusing it. `info` then has
            `salvaged` set, and a note; of damage that only decoding finds, after the last block.
        streams: Numbers of the sound tracks to choose: such a file has one.

    Raises:
        UnreadableError: It is no audio, cut short, damaged, empty, holds NaN or infinite samples, or cannot
            be opened.
        UnsupportedError: It holds several recordings of different rates or numbers of channels.
    """

    def __init__(
        self, path: Path, block: int | None = None, *, salvage: bool = False, streams: tuple[int, ...] = ()
    ) -> None:
        if any(number != 1 for number in streams):
            raise UsageError(f"{path}: has 1 sound track; there is no track {max(streams)}")
        if block is not None and block < 1:
            raise UsageError(f"block is {block}, expected at least 1 sample")
        _check_kind(path)
        self._path, self._salvage = path, salvage
        self._layout = layout(path)
        self._links = list(self._layout.links)
        if self._layout.damage and not salvage:
            raise UnreadableError(f"{path}: {self._layout.damage}")
        self._file = _open(path, self._links[0])
        try:
            self._lengths = [self._length(self._links[0], self._file), *map(self._measure, self._links[1:])]
            self.info = _describe(path, self._file, self._layout, sum(self._lengths))
            if self._layout.damage:
                self._set_salvaged(self.info.shape[1], self._layout.damage, self._layout.stretch)
        except BaseException:
            self._file.close()
            raise
        channels, samples = self.info.shape
        usual = max(1, min(int(BLOCK_S * self._file.samplerate), MAX_VALUES // channels))
        self._block = min(block or usual, samples)

    def _measure(self, link: Link) -> int:
        """Measure a further link, which must be like the first."""
        with _open(self._path, link) as file:
            first, found = ((f.samplerate, f.channels) for f in (self._file, file))
            if first != found:
                raise UnsupportedError(
                    f"{self._path}: holds joined recordings of {first[1]} channels at {first[0]} Hz and of "
                    f"{found[1]} at {found[0]} Hz; expected one format, split the file"
                )
            return self._length(link, file)

    def _length(self, link: Link, file: ForwardFile) -> int:
        if link.samples is not None:
            return link.samples
        return int(file.frames) if file.frames < _UNKNOWN_LENGTH else _count(self._path, link)

    def __iter__(self) -> Iterator[Floats]:
        position = 0
        for block in self._blocks():
            if bad := _first_not_finite(block):
                raise UnreadableError(f"{self._path}: {_place(bad, position)}, expected finite numbers")
            position += block.shape[1]
            yield block

    def _blocks(self) -> Iterator[Floats]:
        """Cut the pieces of all links into blocks of one length."""
        pieces, size = list[Floats](), 0
        for piece in self._pieces():
            pieces.append(piece)
            size += len(piece)
            while size >= self._block:
                whole = np.concatenate(pieces)
                yield np.ascontiguousarray(whole[: self._block].T)
                pieces, size = [whole[self._block :]], size - self._block
        if size:
            yield np.ascontiguousarray(np.concatenate(pieces).T)

    def _pieces(self) -> Iterator[Floats]:
        """Read all links, up to the first damage, in pieces `(n, C)`, for an error loses a whole piece."""
        position = 0
        for link, length in zip(self._links, self._lengths, strict=True):
            if link is not self._links[0]:
                self._file.close()
                self._file = _open(self._path, link)
            stop = position + length
            while position < stop:
                count = min(PIECE_SAMPLES, self._block, stop - position)
                try:
                    piece = self._file.read(count, dtype="float32", always_2d=True)
                except soundfile.LibsndfileError as error:
                    self._end_early(position, error)
                    return
                if not len(piece):
                    break
                position += len(piece)
                yield piece
            if position < stop - (_MP3_SLACK if self._file.format == "MP3" else 0):
                self._end_early(position)
                return

    def _end_early(self, position: int, error: Exception | None = None) -> None:
        """Refuse what ends early, or note how much was salvaged."""
        expected = self.info.shape[1]
        if not self._salvage or not position:
            raise UnreadableError(
                f"{self._path}: cut short or damaged after about {position} samples, "
                f"expected the {expected} of its header"
            ) from error
        if not self.info.salvaged:
            self._set_salvaged(position, "cut short or damaged", expected / position)

    def _set_salvaged(self, samples: int, reason: str, stretch: float) -> None:
        seconds = samples / (self.info.sample_rate or 1)
        of = f" of about {seconds * stretch:.1f}" if stretch > 1 else ""
        note = f"salvaged {seconds:.1f}{of} s: {reason}"
        self.info = replace(self.info, salvaged=note, notes=(*self.info.notes, note))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        self._file.close()


def _first_not_finite(block: Array) -> tuple[int, int, float] | None:
    """Find channel, sample and value of the first NaN or infinity."""
    if np.isfinite(block).all():
        return None
    sample, channel = np.argwhere(~np.isfinite(block.T))[0].tolist()
    return channel, sample, float(block[channel, sample])


def _place(bad: tuple[int, int, float], position: int) -> str:
    channel, sample, value = bad
    return f"sample {position + sample} of channel {channel + 1} is {value}"


def _check_kind(path: Path) -> None:
    """Refuse a file that is no audio, with a reason that libsndfile does not give."""
    found = format_of(read_head(path, "audio"))
    if found.modality != "audio":  # libsndfile would try about twenty formats more
        raise UnreadableError(f"{path}: holds {found.name} data; expected audio")


def _open(path: Path, link: Link) -> ForwardFile:
    view = None if link.is_whole else View(path, link.start, link.stop, link.patches, endless=link.endless)
    try:
        file = ForwardFile(view or path)
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


def _describe(path: Path, file: ForwardFile, found: Layout, samples: int) -> AudioInfo:
    notes = list[str]()
    if not is_named_right(path, file.format, file.subtype):
        kind = file.subtype.title() if file.format == "OGG" else file.format
        notes.append(f"holds {kind} data under the suffix {path.suffix or '(none)'}, and keeps both")
    notes += found.notes
    if samples == 0:
        raise UnreadableError(f"{path}: holds 0 samples, expected at least one")
    written = written_subtype(file.format, file.subtype)
    if written != file.subtype:
        notes.append(f"{file.subtype} is written back as {written}")
    if written_container(file.format, file.endian) != file.format:
        notes.append("big-endian WAV with speaker positions is written back without them")
    tags = read_tags(path, file.format, found.links[0])
    stored, valid = valid_bits(tags)
    if valid < stored:
        notes.append(f"samples of {valid} bits, stored in {stored}, are written as {stored} bits")
    if file.subtype in ("PCM_32", "DOUBLE"):
        notes.append(f"24 significant bits of {file.subtype} samples are kept")
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
        tags=tags,
        parts=parts(path, file.format, found.links),
    )


def _count(path: Path, link: Link) -> int:
    """Decode a link to measure its length."""
    samples = 0
    with _open(path, link) as file:
        buffer = np.empty((PIECE_SAMPLES, file.channels), dtype=np.float32)
        try:
            while count := len(file.read(out=buffer)):
                samples += count
        except soundfile.LibsndfileError:  # reading the blocks meets it again
            return samples + 1
    return samples


class AudioWriter:
    """Takes float32 blocks `(C, n)` and writes a file like the one that `info` describes.

    Args:
        path: The final name, replaced in one step when the `with` block ends without an error.
        info: From a reader, or made by hand with `shape` and `sample_rate`; the latter is written in 24 bits.

    Attributes:
        clipped: Values beyond full scale so far that an integer subtype could not hold; they are limited.
        notes: Sentence about the parts of the source that the file could not keep, once it is complete.

    Raises:
        OutputError: The format cannot hold that rate or so many channels, a block holds NaN or infinite
            values, or the bytes do not get to the disk.
    """

    def __init__(self, path: Path, info: SignalInfo) -> None:
        info = AudioInfo.of(info)
        if info.pages > 1:
            raise UnsupportedError(
                f"{path}: holds one recording and {info.source} has {info.pages} sound tracks; "
                "choose one (--streams), or keep the container"
            )
        self.clipped = 0
        self.notes: tuple[str, ...] = ()
        self._notes: tuple[str, ...] = ()
        self._path, self._source, self._parts = path, info.source, info.parts
        self._encoding = encoding(path, info)
        self._tags = info.tags if info.container in containers(path, info) else ()
        if info.stamp:
            self._stamp(info.stamp)
        self._written = 0

    def _stamp(self, stamp: Stamp) -> None:
        """Add a stamp to the tags."""
        container = self._encoding.container
        tags = tags_with(self._tags, container, stamp)
        if tags is None:
            self._notes = (f"not stamped: the tags of the {container} are of another form",)
            return
        changed = {payload for _, payload in self._tags} - {payload for _, payload in tags}
        digests = {hashlib.sha256(payload).hexdigest() for payload in changed}
        self._parts = tuple(part for part in self._parts if part[1] not in digests)
        self._tags = tags

    def write(self, block: Array) -> None:
        """Append the next samples `(C, n)`."""
        channels = self._encoding.channels
        if block.ndim != 2 or block.shape[0] != channels:
            raise UsageError(f"{self._path}: a block of shape {block.shape}, expected ({channels}, n)")
        for start in range(0, block.shape[1], WRITE_SAMPLES):
            self._append(block[:, start : start + WRITE_SAMPLES])

    def _append(self, part: Array) -> None:
        if bad := _first_not_finite(part):
            raise OutputError(f"{self._path}: {_place(bad, self._written)}, expected finite numbers")
        bits = INTEGER_BITS.get(self._encoding.subtype)
        frames = part.T.astype(np.float32) if bits is None else self._integers(part.T, bits)
        try:
            self._file.write(frames)
        except (soundfile.SoundFileError, AssertionError) as error:  # soundfile asserts that all was written
            raise self._failed() from error
        self._written += part.shape[1]

    def _integers(self, values: Array, bits: int) -> NDArray[np.int32]:
        """Round to N bits, in the upper bits of an int32 as libsndfile expects them.

        Its own conversion from float scales by 2^(bits-1) - 1 and truncates, which would change every sample.
        """
        scale = 2.0 ** (bits - 1)
        scaled = values.astype(np.float64) * scale
        self.clipped += int(np.count_nonzero(np.abs(scaled) > scale))
        np.clip(np.rint(scaled, out=scaled), -scale, scale - 1, out=scaled)
        return scaled.astype(np.int32) << (32 - bits)

    def _failed(self) -> OutputError:
        return OutputError(f"{self._path}: cannot be written, the disk is full or the encoder failed")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._part = stack.enter_context(replacing(self._path, self._source))
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
                written = parts(self._part, self._encoding.container, layout(self._part).links)
                self.notes = self._notes + lost(self._parts, written)
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
