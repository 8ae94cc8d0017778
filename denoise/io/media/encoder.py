"""Encode one sound track into a file of its own, sample for sample where the decoder will look for it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import numpy as np

from denoise.arrays import Array, Floats
from denoise.errors import OutputError, reason
from denoise.io.formats import optional_package
from denoise.io.media.tracks import Track

# FFmpeg's encoder for each codec that is written back as itself; PCM of every kind is, too.
_SAME = ("aac", "alac", "flac", "ac3", "eac3", "mp2", "wavpack", "tta", "wmav1", "wmav2")
_ENCODERS = dict(zip(_SAME, _SAME, strict=True)) | {
    "mp3": "libmp3lame",
    "opus": "libopus",
    "amr_nb": "libopencore_amrnb",
}
# What other codecs become in each container: the nearest lossless one that it holds, else the best lossy one.
_FALLBACKS = {
    **dict.fromkeys(("mov", "mp4", "ipod"), "alac"),
    **dict.fromkeys(("matroska", "ogg"), "flac"),
    **dict.fromkeys(("avi", "asf", "w64", "wav"), "pcm_s24le"),
    **dict.fromkeys(("caf", "au"), "pcm_s24be"),
    **dict.fromkeys(("mpegts", "vob"), "ac3"),
    **dict.fromkeys(("flv", "3gp", "3g2"), "aac"),
    "webm": "libopus",
}
PLAIN = ("aac", "ac3", "eac3", "mp3")  # names of the demuxers of `_PLAIN`
LOSSLESS = ("alac", "flac", "wavpack", "tta", "pcm_")
MOVS = ("mov", "mp4", "ipod", "3gp", "3g2")
SIGNALS_DELAY = (*MOVS, "matroska", "webm", "ogg")  # others start with all packets
# Format of the packets of codecs whose delay a Matroska source may leave unsaid.
_PLAIN = {"aac": "adts", "ac3": "ac3", "eac3": "eac3", "mp2": "mp2", "libmp3lame": "mp3"}
# Bit rates of the codecs that have a table of them.
_KBPS = {
    "libmp3lame": (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    "mp2": (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    "ac3": (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640),
}
_AAC_KBPS = 64  # of a channel at least: below, FFmpeg's encoder is worse than those of phones
_OTHER_CODEC_BIT_RATE = 96_000  # of a channel at least
_OPUS_KBPS = 256  # of a channel at most
_SWALLOWED = {"wmav1": 2, "wmav2": 2}  # packets after which a decoder begins; it ends one late
_EARLY = {"libopencore_amrnb": 10}  # samples by which a delay is shorter than stated
# At 64 and 96 kbit/s a channel, `fast` takes half the time of FFmpeg's default, and leaves less error.
# Unless FFmpeg is to be strict, FLAC has 32 bits, which few players read.
_OPTIONS = {"libmp3lame": {"reservoir": "0"}, "aac": {"aac_coder": "fast"}, "flac": {"strict": "0"}}
_RATES_HZ = {"libopencore_amrnb": (8000,), "libopus": (48000,)}  # where not as stated: Opus decodes to 48 kHz
_CALIBRATION_FRAMES = 4
_PCM_FRAME = 1024  # samples in a packet of a codec without frames of its own


@dataclass(frozen=True)
class Coding:
    """Encoding of a track."""

    muxer: str  # FFmpeg's name of the container
    encoder: str  # FFmpeg's name of the encoder
    bit_rate: int | None  # bits per second; None for lossless codecs
    note: str = ""  # what is not as in the source, in one sentence; empty if nothing
    sample_rate: int = 0  # Hz, that of the track if the encoder takes it


def coding_for(track: Track, muxer: str) -> Coding:
    """Select encoder and bit rate: those of the source, or the nearest that the container holds.

    Sound of a rate that the encoder does not take gets the nearest higher one that it takes.

    Raises:
        OutputError: No encoder here takes so many channels.
    """
    same = track.codec if track.codec.startswith("pcm_") else _ENCODERS.get(track.codec)
    wanted = dict.fromkeys((same, _FALLBACKS.get(muxer)))
    held = [name for name in wanted if name and _holds(muxer, name)] or ["flac"]
    tries = [(name, track.sample_rate) for name in held] + [(name, _rate(name, track)) for name in held]
    found = next((pair for pair in tries if _opens(replace(track, sample_rate=pair[1]), pair[0])), None)
    if not found:
        raise OutputError(
            f"its sound of {track.channels} channels at {track.sample_rate} Hz cannot be written in {muxer} "
            "here; choose a container that holds it, such as .wav"
        )
    encoder, rate = found
    bit_rate, note = _bit_rate(encoder, track), ""
    codec = next((codec for codec, name in _ENCODERS.items() if name == encoder), encoder)
    if encoder != same:
        reason = f"cannot hold it in {muxer}" if same else "has no encoder here"
        note = f"{track.codec} {reason}: its sound is written as {codec}"
        # another codec loses other things
        bit_rate = bit_rate and max(bit_rate, _OTHER_CODEC_BIT_RATE * track.channels)
    if rate != track.sample_rate:
        note = f"{note or f'its sound is written as {codec}'} at {rate} Hz, of {track.sample_rate}"
    if muxer == "matroska" and encoder == same and len(track.marks) == 1 and not track.states_delay:
        muxer = _PLAIN.get(encoder, muxer)  # FFmpeg would state a delay, and start the file that much earlier
    return Coding(muxer, encoder, bit_rate, note, rate)


def resampled(track: Track, rate: int) -> Track:
    """Describe a track as it is at another rate (Hz)."""
    ratio = rate / track.sample_rate
    marks = tuple((round(sample * ratio), round(time * ratio)) for sample, time in track.marks)
    return replace(track, sample_rate=rate, samples=round(track.samples * ratio), marks=marks)


def _rates(encoder: str) -> list[int]:
    """List the rates that an encoder takes, Hz, rising; none if they are free or unknown."""
    known = _RATES_HZ.get(encoder) or optional_package("MP4").Codec(encoder, "w").audio_rates
    return sorted(known or ())


def _rate(encoder: str, track: Track) -> int:
    """Choose the lowest rate of an encoder that loses nothing of a track, else its highest."""
    rates = _rates(encoder) or [track.sample_rate]
    return next((rate for rate in rates if rate >= track.sample_rate), rates[-1])


def _opens(track: Track, encoder: str) -> bool:
    """Ask FFmpeg whether an encoder takes rate and channels of a track."""
    av = optional_package("MP4")
    if track.sample_rate not in (_rates(encoder) or [track.sample_rate]):
        return False
    try:
        with av.open(_Nowhere(), "w", format="null") as file:
            _stream(file, track, Coding("null", encoder, _bit_rate(encoder, track))).codec_context.open()
    except (ValueError, StopIteration, av.error.FFmpegError):
        return False
    return True


def _stream(file: Any, track: Track, coding: Coding) -> Any:
    """Add the stream of a track to a file."""
    options = _OPTIONS.get(coding.encoder, {"strict": "-2"})
    stream = file.add_stream(coding.encoder, rate=track.sample_rate, options=options)
    stream.codec_context.layout = track.layout
    stream.codec_context.format = _sample_format(track, stream.codec_context.codec)
    stream.time_base = stream.codec_context.time_base = Fraction(1, track.sample_rate)
    if coding.bit_rate:
        stream.codec_context.bit_rate = coding.bit_rate
    return stream


def _sample_format(track: Track, codec: Any) -> str:
    """Choose the sample format: that of the source if the encoder takes it, else its most exact."""
    taken = [form.name for form in codec.audio_formats]
    order = [track.sample_format, "flt", "s32", "dbl", "s16", "u8"]
    return str(next(name for want in order for name in taken if name.removesuffix("p") == want))


def _holds(muxer: str, encoder: str) -> bool:
    """Ask FFmpeg whether it writes a codec into a container."""
    av = optional_package("MP4")
    try:
        with av.open(_Nowhere(), "w", format=muxer) as file:
            file.add_stream(encoder)
    except (ValueError, av.error.FFmpegError):
        return False
    return muxer != "caf" or encoder.startswith(("alac", "pcm_"))  # which the muxer finds at its end only


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)


def _bit_rate(encoder: str, track: Track) -> int | None:
    """Choose a bit rate: at least that of the source."""
    if encoder.startswith(LOSSLESS):
        return None
    kbps = track.bit_rate / 1000
    if encoder == "aac":
        kbps = max(kbps, _AAC_KBPS * track.channels)
    if encoder == "libopus":
        kbps = min(kbps, _OPUS_KBPS * track.channels)
    if table := _KBPS.get(encoder):
        kbps = next((rate for rate in table if rate >= kbps - 0.5), table[-1])
    if encoder == "libopencore_amrnb":
        kbps = 12.2
    return round(kbps * 1000)


class TrackEncoder:
    """Writes one track into a temporary media file, from blocks `(C, n)` of float32.

    In containers that do not state the delay of an encoder, the sound starts with so many zeros that the
    delay is a whole number of packets, which are left out.

    Args:
        track: The track as it was read: its rate, layout, and clock.
        tags: Tags of the file.

    Attributes:
        clipped: Values beyond full scale so far that an integer format could not hold; they are limited.
        samples: Samples of a channel so far.
        start: Time of the first sample in the file, in samples.
        padding: Samples of the last packet, once it is complete, that are none of the sound.
    """

    def __init__(
        self,
        path: Path,
        track: Track,
        coding: Coding,
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._av = optional_package("MP4")
        self.clipped, self.samples, self.padding = 0, 0, 0
        self._track, self._coding = track, coding
        options = {"write_xing": "0"} if coding.muxer == "mp3" else {}  # or it would state the delay
        if coding.muxer in MOVS:
            options = {"use_editlist": "1", "movie_timescale": str(track.sample_rate)}
        try:
            self._file = self._av.open(str(path), "w", format=coding.muxer, container_options=options)
            self._stream = _stream(self._file, track, coding)
            (self._stream if coding.muxer == "ogg" else self._file).metadata.update(tags)
            frame, delay = self._calibrate()
        except (self._av.error.FFmpegError, ValueError) as error:
            raise OutputError(f"{coding.encoder} cannot be encoded here: {reason(error)}") from error
        self._frame = frame
        hidden = 0 if coding.muxer in SIGNALS_DELAY else delay
        swallowed, early = _SWALLOWED.get(coding.encoder, 0), _EARLY.get(coding.encoder, 0)
        self.start = swallowed * frame
        self._lead = -hidden % frame + self.start  # zeros before the first sample
        self._skip = (hidden + self._lead) // frame - swallowed  # packets to leave out
        self._packets = 0
        self._delay = delay
        self._queue = np.zeros((track.channels, self._lead + early), np.float32)
        # Encoders that keep nothing back do not give out the delayed end by themselves.
        self._tail = 0 if self._stream.codec_context.codec.delay else delay
        self._most: int | None = None  # packets that hold the samples, once their number is known
        self._held: Any = None  # the last packet, which states how much of it is padding
        self._fed = 0  # samples given to the encoder, the zeros included
        self._marks = np.array(track.marks or ((0, 0),), np.int64)
        self._end = -(2**62)

    def _calibrate(self) -> tuple[int, int]:
        """Measure the samples in a packet and the delay of the encoder, on silence in a file of its own."""
        with self._av.open(_Nowhere(), "w", format="null") as file:
            stream = _stream(file, self._track, self._coding)
            context = stream.codec_context
            context.open()
            frame = context.frame_size or _PCM_FRAME
            silence = np.zeros((self._track.channels, frame), np.float32)
            for number in range(_CALIBRATION_FRAMES):
                for packet in context.encode(self._audio_frame(context, silence, number * frame)):
                    return frame, -int(packet.pts or 0)
            packets = context.encode(None)
        return frame, -int(packets[0].pts or 0) if packets else 0

    def write(self, block: Array) -> None:
        """Encode the next samples."""
        self.samples += block.shape[1]
        self._queue = np.concatenate([self._queue, block.astype(np.float32, copy=False)], axis=1)
        start = 0
        while self._queue.shape[1] - start >= (size := self._packet_size(self._queue.shape[1] - start)):
            self._encode(self._queue[:, start : start + size])
            start += size
        self._queue = self._queue[:, start:]

    def _packet_size(self, queued: int) -> int:
        """Samples to encode next: of many packets, while the clock of the source has no jumps.

        Else of one; if its size is free, it ends where the clock jumps.
        """
        if self._stream.codec_context.frame_size:
            return self._frame * (max(queued // self._frame, 1) if len(self._marks) == 1 else 1)
        jumps = self._marks[:, 0]
        after = jumps[jumps > self._fed - self._lead]
        return min(self._frame, int(after[0]) - self._fed + self._lead) if len(after) else self._frame

    def _encode(self, samples: Floats) -> None:
        time = max(self._time(self._fed - self._lead), self._end)
        self._end = time + samples.shape[1]
        self._fed += samples.shape[1]
        self._mux(
            self._stream.codec_context.encode(self._audio_frame(self._stream.codec_context, samples, time))
        )

    def _time(self, sample: int) -> int:
        """Time of a sample, from the first of the track on."""
        at = max(int(np.searchsorted(self._marks[:, 0], sample, "right")) - 1, 0)
        return int(self.start + self._marks[at, 1] - self._marks[0, 1] + sample - self._marks[at, 0])

    def _mux(self, packets: list[Any]) -> None:
        """Write packets: none of the delay, and at the end no more than hold the samples."""
        for packet in packets:
            if self._skip:
                self._skip -= 1
            elif self._most is None or self._packets < self._most:
                self._packets += 1
                self._release()
                self._held = packet

    def _release(self) -> None:
        if self._held is not None:
            self._held.stream = self._stream
            self._file.mux_one(self._held)
        self._held = None

    def _audio_frame(self, context: Any, samples: Floats, time: int) -> Any:
        form = context.format
        values = self._integers(samples, form.name.removesuffix("p"))
        if not form.is_planar:
            values = values.T.reshape(1, -1)
        frame = self._av.AudioFrame.from_ndarray(np.ascontiguousarray(values), form.name, self._track.layout)
        frame.sample_rate, frame.time_base, frame.pts = (
            self._track.sample_rate,
            Fraction(1, self._track.sample_rate),
            time,
        )
        return frame

    def _integers(self, samples: Floats, form: str) -> Array:
        """Convert to the samples of a format: rounded to its bits (24 of `s32`), clipped and counted."""
        if form == "flt":
            return samples
        if form == "dbl":
            return samples.astype(np.float64)
        bits = {"u8": 8, "s16": 16}.get(form, 24)
        scale = 2.0 ** (bits - 1)
        scaled = np.rint(samples.astype(np.float64) * scale)
        self.clipped += int(np.count_nonzero(np.abs(scaled) > scale))
        scaled = scaled.clip(-scale, scale - 1)
        if form == "u8":
            return (scaled + 128).astype(np.uint8)
        return scaled.astype(np.int16) if bits == 16 else scaled.astype(np.int32) << 8

    def close(self, *, complete: bool) -> None:
        """Finish the file; one that is not complete is only closed."""
        if complete:
            signals = self._coding.muxer in SIGNALS_DELAY
            needed = self.samples + (self._delay if signals else self.start - self._frame * (self.start > 0))
            self._most = -(-needed // self._frame)
            self._queue = np.pad(self._queue, ((0, 0), (0, self._tail)))
            for start in range(0, self._queue.shape[1], self._frame):
                self._encode(self._queue[:, start : start + self._frame])
            self._mux(self._stream.codec_context.encode(None))
            self.padding = max(self._packets * self._frame - needed, 0)
            if self._coding.muxer in ("matroska", "webm") and self._coding.bit_rate and self._held:
                state_padding(self._held, self.padding)
            self._release()
        self._file.close()


def state_padding(packet: Any, samples: int) -> None:
    """State in a packet how many of its samples are padding, for Matroska."""
    if samples and not packet.has_sidedata("skip_samples"):
        av = optional_package("MP4")
        kind = get_args(av.packet.PktSideDataT).index("skip_samples")
        data = av.packet.PacketSideData(kind, 10)
        data.update(struct.pack("<IIBB", 0, samples, 0, 0))
        packet.set_sidedata(data)
