"""Media files: reader and writer of their sound, block by block; a recording is one sound track.

The picture, subtitles, chapters and metadata are copied when the last track is complete. MP4 and QuickTime
files keep every byte besides the replaced samples (`mp4`); others are written by FFmpeg (`mux`).
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np

from denoise.arrays import Array, Floats
from denoise.dsp.resample import Resampler, resampler
from denoise.errors import OutputError, UnreadableError, UnsupportedError, UsageError
from denoise.io.atomic import replacing, temporary_path
from denoise.io.audio.ogg import OPEN_END, last_page
from denoise.io.base import Codec
from denoise.io.formats import FORMATS, optional_package
from denoise.io.media.encoder import LOSSLESS, MOVS, TrackEncoder, coding_for, resampled
from denoise.io.media.mp4 import NotSimpleError, Replacement, replace_tracks
from denoise.io.media.mux import remux
from denoise.io.media.tracks import Track, decode, media_format, opened, samples_of, tracks
from denoise.io.stamp import text_of, xmp_with
from denoise.signal import AudioInfo, SignalInfo

BLOCK_S = 10.0
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MUXERS = {  # FFmpeg's names of the containers that results are written in, where they are not the demuxers'
    **{".m4a": "ipod", ".m4b": "ipod", ".mov": "mov", ".qt": "mov", ".3gp": "3gp", ".3g2": "3g2"},
    **{".webm": "webm", ".aac": "adts", ".mpg": "vob", ".mpeg": "vob", ".vob": "vob"},
}
_DEMUXER_TO_MUXER = {"mov": "mp4", "aac": "adts", "mpeg": "vob"}
_NEW_CODEC = {  # of files that are made from others; PCM elsewhere
    **dict.fromkeys(("mov", "aac", "mpegts", "flv"), "aac"),
    **{"mpeg": "mp2", "ac3": "ac3", "asf": "wmav2"},
    **{"matroska": "flac", "ogg": "flac", "wv": "wavpack", "tta": "tta", "amr": "amr_nb", "wav": "mp3"},
    **{"au": "pcm_s24be", "caf": "pcm_s24be"},
}
_NEW_BIT_RATE = 128_000  # of a channel, where a source has none


class MediaReader:
    """Yields the blocks of one sound track, float32 `(C, n)`, once.

    Args:
        path: The file; its contents decide the format.
        block: Samples in a block; None takes about ten seconds.
        salvage: Yield what can be decoded of a damaged track instead of refusing it.
        recording: Number of the track, from 0, among those that are chosen.
        streams: Numbers of the tracks to choose, from 1; empty for all.

    Raises:
        UnreadableError: It is damaged, or cut short and `salvage` is False.
        UnsupportedError: It needs PyAV, is encrypted, or changes its rate.
        NothingToCleanError: It has no sound.
    """

    def __init__(
        self,
        path: Path,
        block: int | None = None,
        *,
        salvage: bool = False,
        recording: int = 0,
        streams: tuple[int, ...] = (),
    ) -> None:
        if block is not None and block < 1:
            raise UsageError(f"block is {block}, expected at least 1 sample")
        self._path = path
        chosen = tracks(path, streams)
        self._track = track = chosen[recording]
        if track.damage and not salvage:
            raise UnreadableError(f"{path}: {track.damage}")
        self._block = block or max(1, int(BLOCK_S * track.sample_rate))
        self.info = _describe(path, chosen, track)

    def __iter__(self) -> Iterator[Floats]:
        """Decode block after block.

        Raises:
            UnreadableError: It holds NaN or infinite samples.
        """
        av = optional_package("MP4")
        fifo, left = av.AudioFifo(), self._track.samples  # joins FFmpeg's short frames in C
        with opened(self._path) as file:
            for frame in decode(self._path, file, file.streams[self._track.index]):
                frame.pts = None  # gaps in the clock are no gaps in the samples
                fifo.write(frame)
                while left and fifo.samples >= (count := min(self._block, left)):
                    yield self._block_of(fifo.read(count))
                    left -= count
                if not left:
                    return
            if fifo.samples:
                yield self._block_of(fifo.read())

    def _block_of(self, frame: Any) -> Floats:
        block = samples_of(frame)
        if not np.isfinite(block).all():
            raise UnreadableError(f"{self._path}: its sound holds NaN or infinite samples")
        return block

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: Any) -> None:
        """Do nothing: the file is open only while its blocks are read."""


def _ends_stream(path: Path) -> bool:
    with path.open("rb") as file:
        return last_page(file).ends_stream


def _describe(path: Path, chosen: tuple[Track, ...], track: Track) -> AudioInfo:
    row = media_format(path)
    notes = list[str]()
    if path.suffix.lower() not in row.suffixes:
        notes.append(f"holds {row.name} data under the suffix {path.suffix or '(none)'}, and keeps both")
    salvaged = None
    if track.damage:
        seconds = track.samples / track.sample_rate
        stated = max(track.stated_samples, track.samples) / track.sample_rate
        salvaged = f"salvaged {seconds:.1f} of about {stated:.1f} s: {track.damage}"
        notes.append(salvaged)
    elif row.containers[0] == "ogg" and not _ends_stream(path):
        notes.append(OPEN_END)
    return AudioInfo(
        source=path,
        modality="audio",
        shape=(track.channels, track.samples),
        dtype="float32",
        peak=1.0,
        sample_rate=float(track.sample_rate),
        pages=len(chosen),
        notes=tuple(notes),
        container=row.name,
        subtype=track.codec,
        bit_rate=None if track.codec.startswith(LOSSLESS) else track.bit_rate,
        salvaged=salvaged,
        own=chosen,
    )


class MediaWriter:
    """Takes the blocks of each chosen track in turn, and writes a file like their source, or a new one.

    Each track is encoded into a temporary file. When the last is complete, the rest of the source is copied.

    Args:
        path: The final name, replaced in one step when the `with` block ends without an error.
        info: From a reader, or made by hand with `shape` and `sample_rate`.

    Attributes:
        clipped: Values beyond full scale so far that an integer codec could not hold; they are limited.
        notes: What is not as in the source.

    Raises:
        OutputError: The container cannot hold the sound, or the bytes do not get to the disk.
    """

    def __init__(self, path: Path, info: SignalInfo) -> None:
        info = AudioInfo.of(info)
        self.clipped = 0
        self.notes: tuple[str, ...] = ()
        self._path, self._source, self._info_stamp = path, info.source, info.stamp
        self._tags = {"DENOISE": text_of(info.stamp)} if info.stamp else {}
        suffix = path.suffix.lower()
        self._copies = isinstance(info.own, tuple) and suffix == info.source.suffix.lower()
        self._named = info.source if self._copies else path
        demuxer = media_format(info.source).containers[0] if self._copies else _demuxer_of(suffix)
        self._muxer = _MUXERS.get(suffix, _DEMUXER_TO_MUXER.get(demuxer, demuxer))
        if (demuxer == "mov" and self._muxer not in MOVS) or (
            demuxer == "matroska" and self._muxer != "webm"
        ):
            self._muxer = _DEMUXER_TO_MUXER.get(demuxer, demuxer)
        self._tracks: tuple[Track, ...] = info.own if self._copies else (_new_track(info, demuxer),)
        if info.pages > len(self._tracks):
            raise UnsupportedError(
                f"{path}: holds one sound track and {info.source} has {info.pages}; choose by streams"
            )
        try:
            self._codings = [coding_for(track, self._muxer) for track in self._tracks]
        except OutputError as error:
            raise OutputError(f"{self._named}: {error}") from error
        self._done = list[Replacement]()
        self._files = list[Path]()
        self._encoding: Future[None] | None = None

    def write(self, block: Array) -> None:
        """Append the next samples `(C, n)`; those of the next track follow when one is complete."""
        while block.shape[1]:
            track = self._tracks[len(self._done)]
            if block.ndim != 2 or block.shape[0] != track.channels:
                raise UsageError(
                    f"{self._path}: a block of shape {block.shape}, expected ({track.channels}, n)"
                )
            self._wait()
            room = track.samples - self._taken if track.samples else block.shape[1]
            part, block = block[:, :room].astype(np.float32), block[:, room:]  # a copy: it is encoded later
            if not np.isfinite(part).all():
                raise OutputError(f"{self._path}: holds NaN or infinite values, expected finite numbers")
            self._taken += part.shape[1]
            self._encoding = self._thread.submit(self._encode, part)
            if part.shape[1] == room and track.samples:
                self._next()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._part = stack.enter_context(replacing(self._path, self._source))
            stack.callback(self._remove)
            self._thread = stack.enter_context(ThreadPoolExecutor(1))
            self._open()
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def _open(self) -> None:
        number = len(self._done)
        coding = self._codings[number]
        self._file = temporary_path(self._path)  # beside the result: the usual place may be small
        self._files.append(self._file)
        track = self._tracks[number]
        self._coded, self._taken = track, 0
        self._resample: Resampler | None = None
        if coding.sample_rate != track.sample_rate:
            self._coded = resampled(track, coding.sample_rate)
            self._resample = resampler(coding.sample_rate / track.sample_rate, track.channels)
        try:
            self._encoder = TrackEncoder(self._file, self._coded, coding, self._tags)
        except OutputError as error:
            raise OutputError(f"{self._named}: {error}") from error

    def _encode(self, part: Array, last: bool = False) -> None:
        """Encode the next samples, at the rate of the result."""
        if self._resample:
            part = self._resample(part, last)
            if self._coded.samples:  # the last sample may be one too many, or missing
                part = part[:, : self._coded.samples - self._encoder.samples]
                missing = self._coded.samples - self._encoder.samples - part.shape[1]
                part = np.pad(part, ((0, 0), (0, missing))) if last else part
        self._encoder.write(part)

    def _wait(self) -> None:
        """Wait for the block that is being encoded, while the model had the next one."""
        encoding, self._encoding = self._encoding, None
        if encoding:
            encoding.result()

    def _next(self) -> None:
        self._wait()
        if self._resample:
            self._encode(np.zeros((self._coded.channels, 0), np.float32), last=True)
        self._encoder.close(complete=True)
        self.clipped += self._encoder.clipped
        encoder = self._encoder
        self._done.append(Replacement(self._coded, self._file, encoder.start, encoder.padding))
        if len(self._done) < len(self._tracks):
            self._open()

    def _finish(self, *failure: Any) -> None:
        if failure[0] is not None:
            wait([self._encoding] if self._encoding else [])
            self._encoder.close(complete=False)
            return
        if len(self._done) < len(self._tracks):
            self._next()
        notes = [coding.note for coding in self._codings if coding.note]
        notes += self._assemble()
        if self._info_stamp:
            notes += self._stamp()
        self.notes = tuple(dict.fromkeys(notes))

    def _assemble(self) -> tuple[str, ...]:
        if not self._copies:
            shutil.copyfile(self._done[0].path, self._part)
            return ()
        if self._muxer in MOVS:
            try:
                marks = replace_tracks(self._source, self._part, self._done)
                pairs = zip(marks, self._codings, self._tracks, strict=True)
                return tuple(
                    f"its sound of {track.codec} was marked {old!r} and is marked {new!r}, as players expect"
                    for (old, new), coding, track in pairs
                    if old != new and not coding.note
                )
            # FFmpeg writes these, too, but keeps less; the other errors are of damaged tables.
            except (NotSimpleError, ValueError, IndexError, struct.error):
                pass
        return remux(self._source, self._part, self._muxer, self._done, self._tags)

    def _stamp(self) -> tuple[str, ...]:
        """Append a box of XMP to an MP4 (ISO 16684-3); others have a tag by now, if they hold any."""
        if self._muxer not in MOVS:
            with opened(self._part) as file:
                held = [file.metadata, *(stream.metadata for stream in file.streams)]
                found = any(set(self._tags.values()) & set(tags.values()) for tags in held)
            return () if found else (f"not stamped: {self._muxer} has no place for it here",)
        packet = xmp_with(None, self._info_stamp) or b""
        with self._part.open("ab") as file:
            file.write(struct.pack(">I4s", len(packet) + 24, b"uuid") + _XMP_UUID + packet)
        return ()

    def _remove(self) -> None:
        for file in self._files:
            file.unlink(missing_ok=True)

    def __exit__(self, *failure: Any) -> None:
        self._stack.__exit__(*failure)


def _demuxer_of(suffix: str) -> str:
    """FFmpeg's name of the container that a suffix names; empty if it names none."""
    rows = [row for row in FORMATS.values() if row.extra == "media" and suffix in row.suffixes]
    return rows[0].containers[0] if rows else ""


def _new_track(info: AudioInfo, demuxer: str) -> Track:
    """Describe the sound of a new file; those of lossy codecs get a high bit rate."""
    channels, samples = info.shape
    if not info.sample_rate or info.sample_rate != int(info.sample_rate):
        raise OutputError(f"the sample rate is {info.sample_rate}, expected a whole number of Hz")
    layout = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}.get(channels, f"{channels}c")
    codec = _NEW_CODEC.get(demuxer, "pcm_s24le")
    rate, bit_rate = int(info.sample_rate), _NEW_BIT_RATE * channels
    return Track(0, 1, codec, "flt", rate, channels, layout, samples, bit_rate, ((0, 0),))


CODEC = Codec(MediaReader, MediaWriter)
