"""Select container, subtype, byte order and quality of an audio file, as those of its source."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from denoise.errors import OutputError
from denoise.io.audio import mpeg
from denoise.io.audio.view import View
from denoise.io.formats import FORMATS, unknown_suffix
from denoise.signal import AudioInfo

_ROWS = [row for row in FORMATS.values() if row.codec == "denoise.io.audio.codec:CODEC"]
HANDLED = tuple(dict.fromkeys(name for row in _ROWS for name in row.containers))
# Bits of the subtypes that are written from integers.
INTEGER_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "ULAW": 16, "ALAW": 16}

_KEPT = {*INTEGER_BITS, "FLOAT", "DOUBLE", "VORBIS", "OPUS"}
_MAX_RIFF_BYTES = 2**32 - 2**27  # a RIFF file ends before 4 GiB, with some room for its tags
_OPUS_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
_MAX_VORBIS_HZ = 200_000  # above, libvorbis terminates the process
_MP3_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MP3_KBPS = (  # from a sample rate on: the bit rates of MPEG-1, MPEG-2 and MPEG-2.5, layer III
    (32000, (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)),
    (16000, (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)),
    (8000, (8, 16, 24, 32, 40, 48, 56, 64)),
)
_MP3_TAG_BYTES = 192  # LAME's info tag, which has the length to the sample, must fit into one frame
_MAX_CHANNELS = {"FLAC": 8, "MP3": 2, "OGG": 255}  # 256 in Vorbis terminate the process


class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read or written from start to end.

    soundfile seeks after every block, which costs time in MP3 and Ogg, and fails in a FLAC of unknown length.
    """

    def seekable(self) -> bool:
        """Return False, so that soundfile does not seek."""
        return False

    def close(self) -> None:
        """Close the file, and the view that it reads."""
        super().close()
        if isinstance(self.name, View):
            self.name.close()


@dataclass(frozen=True)
class Encoding:
    """The options of a libsndfile encoder."""

    container: str  # `WAV`, `WAVEX`, `RF64`, `AIFF`, `FLAC`, `OGG` or `MP3`
    subtype: str  # such as `PCM_16`, `FLOAT` or `VORBIS`
    endian: str  # `FILE` (the container's own), `LITTLE` or `BIG`
    sample_rate: int  # Hz
    channels: int
    level: float | None  # compression, 0 (least) to 1 (most); None takes the encoder's default
    bitrate_mode: str | None  # `CONSTANT` for MP3; None elsewhere

    def open(self, path: Path) -> ForwardFile:
        """Open `path` for writing, whatever its suffix is."""
        return ForwardFile(
            path,
            "w",
            samplerate=self.sample_rate,
            channels=self.channels,
            format=self.container,
            subtype=self.subtype,
            endian=self.endian,
            compression_level=self.level,
            bitrate_mode=self.bitrate_mode,
        )

    def __str__(self) -> str:
        return f"{self.container} {self.subtype} of {self.channels} channels at {self.sample_rate} Hz"


def written_subtype(container: str, subtype: str) -> str:
    """Select the subtype for writing a file that was read as `subtype`: nearly always the same.

    ADPCM and GSM fill up their last block, which would change the length, and some subtypes have no encoder:
    they are written as one that holds the same samples.
    """
    if container == "MP3":
        return "MPEG_LAYER_III"
    return subtype if subtype in _KEPT else {"DWVW_24": "PCM_24"}.get(subtype, "PCM_16")


def written_container(container: str, endian: str) -> str:
    """Select the container for writing: libsndfile writes no big-endian WAVEX, but a plain big-endian WAV."""
    return "WAV" if (container, endian) == ("WAVEX", "BIG") else container


def is_named_right(path: Path, container: str, subtype: str) -> bool:
    """Check that the suffix of a file fits its contents."""
    suffix = path.suffix.lower()
    return container in _containers_of(suffix) and (suffix != ".opus" or subtype == "OPUS")


def _containers_of(suffix: str) -> tuple[str, ...]:
    """Containers of files with this suffix; the first is written unless the source has another."""
    return tuple(dict.fromkeys(name for row in _ROWS if suffix in row.suffixes for name in row.containers))


def containers(path: Path, info: AudioInfo) -> tuple[str, ...]:
    """List the containers for `path`: those of its suffix, or under the source's suffix that of the source.

    Raises:
        UnsupportedError: No audio format has the suffix.
    """
    suffix = path.suffix.lower()
    if info.container and suffix == info.source.suffix.lower():
        return (info.container,)
    found = _containers_of(suffix)
    if not found:
        raise unknown_suffix(path, "audio")
    return found


def encoding(path: Path, info: AudioInfo) -> Encoding:
    """Select the encoding of `path`: that of its source if the suffix allows it, else 24 bits.

    WAV becomes RF64 if it would pass 4 GiB.

    Raises:
        OutputError: The format cannot hold the rate or the number of channels.
        UnsupportedError: No audio format has the suffix.
    """
    allowed = containers(path, info)
    container = info.container if info.container in allowed else allowed[0]
    subtype = "PCM_24"
    if info.container in allowed and info.subtype:
        subtype = written_subtype(container, info.subtype)
    if container == "MP3":
        subtype = "MPEG_LAYER_III"
    to_opus = path.suffix.lower() == ".opus" and info.source.suffix.lower() != ".opus"
    if container == "OGG" and (subtype not in ("VORBIS", "OPUS") or to_opus):
        subtype = "OPUS" if path.suffix.lower() == ".opus" else "VORBIS"
    channels, frames = info.shape
    sample_rate = _whole_rate(path, info.sample_rate, subtype)
    limit = _MAX_CHANNELS.get(container, 1024)
    if not 1 <= channels <= limit:
        raise OutputError(f"{path}: {channels} channels, expected 1 to {limit} in {container}")
    if container in ("WAV", "WAVEX") and frames * channels * _sample_bytes(subtype) > _MAX_RIFF_BYTES:
        container = "RF64"
    endian = info.endian if container == info.container else "FILE"
    container = written_container(container, endian)
    level, mode = _quality(subtype, info.bit_rate, sample_rate, channels)
    return Encoding(container, subtype, endian, sample_rate, channels, level, mode)


def _whole_rate(path: Path, sample_rate: float | None, subtype: str) -> int:
    if not sample_rate or sample_rate != int(sample_rate):
        raise OutputError(f"{path}: the sample rate is {sample_rate}, expected a whole number of Hz")
    if subtype == "VORBIS" and sample_rate > _MAX_VORBIS_HZ:
        raise OutputError(
            f"{path}: Vorbis cannot hold {sample_rate:.0f} Hz, expected {_MAX_VORBIS_HZ} at most"
        )
    rates = {"OPUS": _OPUS_RATES_HZ, "MPEG_LAYER_III": _MP3_RATES_HZ}.get(subtype)
    if rates and sample_rate not in rates:
        name = "Opus" if subtype == "OPUS" else "MP3"
        known = ", ".join(map(str, rates))
        raise OutputError(f"{path}: {name} cannot hold {sample_rate:.0f} Hz, expected one of {known}")
    return int(sample_rate)


def _sample_bytes(subtype: str) -> int:
    return {"ULAW": 1, "ALAW": 1, "FLOAT": 4, "DOUBLE": 8}.get(subtype) or INTEGER_BITS[subtype] // 8


def bit_rate_of(path: Path, container: str, subtype: str, duration_s: float) -> float | None:
    """Read the bits per second of a lossy file, as its own encoder counts them; None for others."""
    if subtype == "VORBIS":
        with path.open("rb") as file:
            return _nominal_bit_rate(file.read(52)) or math.inf
    if subtype != "OPUS" and container != "MP3":
        return None
    with path.open("rb") as file:
        stated = mpeg.bit_rate(file) if container == "MP3" else None
    return stated or path.stat().st_size * 8 / duration_s


def _nominal_bit_rate(head: bytes) -> float:
    """Read the nominal rate in the first header of a Vorbis stream; 0 if it is absent (above 48 kHz)."""
    return max(int.from_bytes(head[48:52], "little", signed=True), 0)


def _quality(
    subtype: str, bit_rate: float | None, sample_rate: int, channels: int
) -> tuple[float | None, str | None]:
    """Select the compression level and the bit rate mode that give at least `bit_rate`."""
    if bit_rate is None:
        return None, None
    if subtype == "VORBIS":
        return _vorbis_level(bit_rate, sample_rate, channels), None
    if subtype == "OPUS":  # 6 to 256 kbit/s for each channel, linear in the level
        return min(max(1 - (bit_rate / channels - 6000) / 250_000, 0.0), 1.0), None
    if subtype == "MPEG_LAYER_III":
        return _mp3_level(bit_rate, sample_rate), "CONSTANT"
    return None, None


def _mp3_level(bit_rate: float, sample_rate: int) -> float:
    """Find the level of the lowest MP3 rate of at least `bit_rate`; levels fall linearly with the rate."""
    table = next(kbps for from_hz, kbps in _MP3_KBPS if sample_rate >= from_hz)
    frame = 1152 if sample_rate >= 32000 else 576  # samples
    needed = max(bit_rate, _MP3_TAG_BYTES * 8 * sample_rate / frame)
    chosen = next((kbps for kbps in table if kbps * 1000 >= needed), table[-1])
    return (table[-1] - chosen) / (table[-1] - table[0])


def _vorbis_level(bit_rate: float, sample_rate: int, channels: int) -> float:
    """Find the level of the lowest of eleven Vorbis qualities with a nominal rate of at least `bit_rate`.

    The rate of a quality depends on the encoder's own tables, so each header is encoded: 3 ms each.
    """
    for level in np.linspace(1, 0, 11).tolist():
        header = io.BytesIO()
        with soundfile.SoundFile(
            header, "w", sample_rate, channels, "VORBIS", format="OGG", compression_level=level
        ):
            pass
        if _nominal_bit_rate(header.getvalue()) >= bit_rate:
            return float(level)
    return 0.0
