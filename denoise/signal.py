"""The nouns that the library passes around: modalities, and everything a file holds besides its samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

__all__ = [
    "DECIMALS",
    "DELIMITERS",
    "MAX_FILL_SAMPLES",
    "MODALITIES",
    "SECONDS",
    "AudioInfo",
    "Clock",
    "Domain",
    "ImageInfo",
    "Metadata",
    "Modality",
    "Page",
    "SensorInfo",
    "SignalInfo",
]

# Seconds in each unit of a time column.
SECONDS: Mapping[str, float] = MappingProxyType(
    {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0, "d": 86400.0, "ticks": 1e-7}
)
# Words for the marks of delimited text: most shells give `;` and `|` a meaning of their own.
DELIMITERS: Mapping[str, str] = MappingProxyType(
    {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
)
DECIMALS: Mapping[str, str] = MappingProxyType({"point": ".", "comma": ","})
MAX_FILL_SAMPLES = 1024  # of a gap: the samples around a longer one do not predict its middle


@dataclass(frozen=True)
class Modality:
    """One kind of data: its name and the layout of its arrays.

    Args:
        name: The word used on the command line and in reports.
        ndim: Number of axes after the channels: 2 for images, 1 for signals.
        headline: The metric that a table leads with when there is a reference.
    """

    name: str
    ndim: int
    headline: str


MODALITIES: Mapping[str, Modality] = MappingProxyType(
    {
        "image": Modality("image", 2, "psnr_db"),
        "audio": Modality("audio", 1, "si_sdr_db"),
        "sensor": Modality("sensor", 1, "snr_db"),
    }
)


@dataclass(frozen=True)
class SignalInfo:
    """Everything that a writer must give back besides the samples.

    Readers yield the subclass of the modality. One made by hand may be of this class.

    Args:
        source: The file it was read from.
        modality: A name in `MODALITIES`.
        shape: `(C, *S)`: channels, then height and width, or samples; of the first page of an image.
        dtype: The numpy dtype of the blocks that the reader yields (`uint8`, `uint16`, `float32`, ...).
        peak: The value that means full scale (255, 65535, 1.0); None for sensors, whose units are their own.
        sample_rate: Hz; None for images, and for sensor logs that do not state it.
        passthrough_channels: Number of trailing channels that are not cleaned (alpha).
        pages: Number of pages of an image, or of recordings of a sensor log.
        notes: Sentences for the user about conversions on reading.
    """

    source: Path
    modality: str
    shape: tuple[int, ...]
    dtype: str
    peak: float | None
    sample_rate: float | None = None
    passthrough_channels: int = 0
    pages: int = 1
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, info: SignalInfo) -> Self:
        """Return `info` if it is of this class, else its common fields with the defaults of this class."""
        if isinstance(info, cls):
            return info
        return cls(**{common.name: getattr(info, common.name) for common in fields(SignalInfo)})


@dataclass(frozen=True)
class Metadata:
    """Image metadata in the terms that all formats share.

    Args:
        exif: A TIFF structure (it starts with `II` or `MM`), the orientation tag among its entries.
        icc: An ICC profile.
        xmp: An XMP packet, UTF-8.
        dpi: Dots per inch, horizontal and vertical.
    """

    exif: bytes | None = None
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class Page:
    """One image of a file, as its decoder yields it.

    Args:
        height: Rows.
        width: Columns.
        channels: Alpha and other extra samples included.
        dtype: `uint8`, `uint16` or `float32`.
        passthrough_channels: Number of trailing channels that are not colour (alpha).
        alpha: True if the first of them is transparency.
        bands: True if the channels are no colours, but bands of a multispectral camera.
    """

    height: int
    width: int
    channels: int
    dtype: str
    passthrough_channels: int = 0
    alpha: bool = True
    bands: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        return self.channels, self.height, self.width

    @property
    def peak(self) -> float:
        """The value that means white."""
        return {"uint8": 255.0, "uint16": 65535.0}.get(self.dtype, 1.0)

    @property
    def size_bytes(self) -> int:
        """Memory that its pixels take."""
        return self.height * self.width * self.channels * {"uint8": 1, "uint16": 2}.get(self.dtype, 4)


@dataclass(frozen=True)
class ImageInfo(SignalInfo):
    """An image file.

    Args:
        format: A name in `denoise.io.formats.FORMATS`.
        alpha: True if the first passthrough channel of the current page is transparency.
        bands: True if the channels of the current page are no colours, but bands of a multispectral camera.
        metadata: EXIF, ICC profile, XMP and resolution.
        layouts: Every page of the file.
        own: Data that only the module of its format understands.
    """

    format: str = ""
    alpha: bool = False
    bands: bool = False
    metadata: Metadata = Metadata()
    layouts: tuple[Page, ...] = ()
    own: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AudioInfo(SignalInfo):
    """A recording.

    Args:
        container: libsndfile's name of the format: `WAV`, `WAVEX`, `RF64`, `AIFF`, `FLAC`, `OGG` or `MP3`.
        subtype: libsndfile's name of the encoding of the samples: `PCM_16`, `FLOAT`, `VORBIS`, ...
        endian: Byte order: `FILE` (that of the container), `LITTLE` or `BIG`.
        bit_rate: Bits per second of a lossy file; None for others.
        tags: Names and payloads of tags and chunks, as `denoise.io.audio.tags` reads them.
        parts: Names and digests of everything besides the samples, to compare with those of a result.
        salvaged: Sentence that says how much of a damaged recording is read; None of a whole one.
        own: Data that only the codec of its container understands.
    """

    container: str = ""
    subtype: str = ""
    endian: str = "FILE"
    bit_rate: float | None = None
    tags: tuple[tuple[str, bytes], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()
    salvaged: str | None = None
    own: Any = None


@dataclass(frozen=True)
class Clock:
    """The time column of a log.

    Args:
        index: Its place among the columns.
        name: The column.
        unit: A key of `SECONDS`.
        guessed: True if neither the file nor the caller states the unit.
        sample_rate: Hz.
        jitter: Standard deviation of the steps between stamps, as a fraction of the interval; pauses aside.
        pauses: Number of steps so long that samples are missing.
        max_step_s: Seconds; a longer step is a pause.
        wraps: True if the stamps are times of day, which start again at midnight.
    """

    index: int
    name: str
    unit: str
    guessed: bool
    sample_rate: float
    jitter: float = 0.0
    pauses: int = 0
    max_step_s: float = float("inf")
    wraps: bool = False


@dataclass(frozen=True)
class Domain:
    """The values that a channel may have.

    Args:
        low: The smallest.
        high: The largest.
        period: The full circle of an angle, which starts at `low`; 0 for others.
        codes: Numbers that stand for missing values.
    """

    low: float = -math.inf
    high: float = math.inf
    period: float = 0.0
    codes: tuple[float, ...] = ()


@dataclass(frozen=True)
class SensorInfo(SignalInfo):
    """A sensor log.

    Args:
        names: All columns or arrays of the file.
        columns: Those that the blocks hold; of an array of several channels, the array once.
        clock: The time column, if the stamps of this recording can be read.
        time_column: Its name, also if it belongs to another recording of the file.
        domains: The values that each channel may have; empty if nothing is known.
        own: Data that only the module of its format understands.
    """

    names: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    clock: Clock | None = None
    time_column: str | None = None
    domains: tuple[Domain, ...] = ()
    own: Any = None
