"""The nouns that the library passes around: modalities, and everything a file holds besides its samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

# Seconds in each unit of a time column.
SECONDS: Mapping[str, float] = {
    "s": 1.0,
    "ms": 1e-3,
    "us": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "ticks": 1e-7,
}
# Words for the marks of delimited text: most shells give `;` and `|` a meaning of their own.
DELIMITERS: Mapping[str, str] = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
DECIMALS: Mapping[str, str] = {"point": ".", "comma": ","}
MAX_FILL_SAMPLES = 1024  # of a gap: the samples around a longer one do not predict its middle


@dataclass(frozen=True)
class Modality:
    """One kind of data: its name and the layout of its arrays."""

    name: str  # the word used on the command line and in reports
    ndim: int  # number of axes after the channels: 2 for images, 1 for signals
    headline: str  # the metric that a table leads with when there is a reference


MODALITIES: Mapping[str, Modality] = {
    "image": Modality("image", 2, "psnr_db"),
    "audio": Modality("audio", 1, "si_sdr_db"),
    "sensor": Modality("sensor", 1, "snr_db"),
}


@dataclass(frozen=True)
class SignalInfo:
    """Everything that a writer must give back besides the samples.

    Readers yield the subclass of the modality. One made by hand may be of this class.
    """

    source: Path  # the file it was read from
    modality: str  # a name in `MODALITIES`
    # `(C, *S)`: channels, then height and width, or samples; of the first page of an image
    shape: tuple[int, ...]
    dtype: str  # the numpy dtype of the blocks that the reader yields (`uint8`, `uint16`, `float32`, ...)
    # the value that means full scale (255, 65535, 1.0); None for sensors, whose units are their own
    peak: float | None
    sample_rate: float | None = None  # Hz; None for images, and for sensor logs that do not state it
    passthrough_channels: int = 0  # number of trailing channels that are not cleaned (alpha)
    pages: int = 1  # number of pages of an image, or of recordings of a sensor log
    notes: tuple[str, ...] = ()  # sentences for the user about conversions on reading
    stamp: tuple[tuple[str, str], ...] = ()  # what was done, for the metadata of a result: names and values

    @classmethod
    def of(cls, info: SignalInfo) -> Self:
        """Return `info` if it is of this class, else its common fields with the defaults of this class."""
        if isinstance(info, cls):
            return info
        return cls(**{common.name: getattr(info, common.name) for common in fields(SignalInfo)})


@dataclass(frozen=True)
class Metadata:
    """Image metadata in the terms that all formats share."""

    # a TIFF structure (it starts with `II` or `MM`), the orientation tag among its entries
    exif: bytes | None = None
    icc: bytes | None = None  # an ICC profile
    xmp: bytes | None = None  # an XMP packet, UTF-8
    dpi: tuple[float, float] | None = None  # dots per inch, horizontal and vertical
    plays: int = 1  # of an animation; 0 is forever
    iptc: bytes | None = None  # an IPTC record (IIM 4)


@dataclass(frozen=True)
class Page:
    """One image of a file, as its decoder yields it."""

    height: int  # rows
    width: int  # columns
    channels: int  # alpha and other extra samples included
    dtype: str  # `uint8`, `uint16` or `float32`
    passthrough_channels: int = 0  # number of trailing channels that are not colour (alpha)
    alpha: bool = True  # true if the first of them is transparency
    bands: bool = False  # true if the channels are no colours, but bands of a multispectral camera
    duration_ms: float | None = None  # of a frame of an animation; None for other pages

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        return self.channels, self.height, self.width

    @property
    def alpha_channels(self) -> int:
        """Number of channels of transparency: 0 or 1."""
        return int(self.passthrough_channels > 0 and self.alpha)

    @property
    def peak(self) -> float:
        """The value that means white."""
        return {"uint8": 255.0, "uint16": 65535.0}.get(self.dtype, 1.0)

    @property
    def size_bytes(self) -> int:
        """Memory that its pixels take."""
        return self.height * self.width * self.channels * {"uint8": 1, "uint16": 2}.get(self.dtype, 4)

    @property
    def size_text(self) -> str:
        """Its size, for messages."""
        return f"{self.width} x {self.height} = {self.height * self.width / 1e6:.0f} megapixels"

    @property
    def reading_bytes(self) -> int:
        """Memory to read and to write it as it is."""
        return 3 * self.size_bytes

    @property
    def working_bytes(self) -> int:
        """Memory to clean it: its pixels, the result, brightness as floats, and the smallest tiles."""
        return 2 * self.size_bytes + 8 * self.height * self.width + (64 << 20)


@dataclass(frozen=True)
class ImageInfo(SignalInfo):
    """An image file."""

    format: str = ""  # a name in `denoise.io.formats.FORMATS`
    alpha: bool = False  # true if the first passthrough channel of the current page is transparency
    # true if the channels of the current page are no colours, but bands of a multispectral camera
    bands: bool = False
    metadata: Metadata = Metadata()  # EXIF, ICC profile, XMP and resolution
    layouts: tuple[Page, ...] = ()  # every page of the file
    # data that only the module of its format understands
    own: Mapping[str, Any] = field(default_factory=dict)
    lost: tuple[str, ...] = ()  # sentences about what no writer keeps
    texts: tuple[str, ...] = ()  # names of comments and other facts, which no other format takes
    # true if a coarse compression is written finer: that of the source would bring its traces back
    finer: bool = False

    @property
    def animated(self) -> bool:
        """True if the pages are frames of an animation."""
        return len(self.layouts) > 1 and self.layouts[0].duration_ms is not None


@dataclass(frozen=True)
class AudioInfo(SignalInfo):
    """A recording."""

    # libsndfile's name of the format: `WAV`, `WAVEX`, `RF64`, `AIFF`, `FLAC`, `OGG` or `MP3`
    container: str = ""
    subtype: str = ""  # libsndfile's name of the encoding of the samples: `PCM_16`, `FLOAT`, `VORBIS`, ...
    endian: str = "FILE"  # byte order: `FILE` (that of the container), `LITTLE` or `BIG`
    bit_rate: float | None = None  # bits per second of a lossy file; None for others
    # names and payloads of tags and chunks, as `denoise.io.audio.tags` reads them
    tags: tuple[tuple[str, bytes], ...] = ()
    # names and digests of everything besides the samples, to compare with those of a result
    parts: tuple[tuple[str, str], ...] = ()
    # sentence that says how much of a damaged recording is read; None of a whole one
    salvaged: str | None = None
    own: Any = None  # data that only the codec of its container understands


@dataclass(frozen=True)
class Clock:
    """The time column of a log."""

    index: int  # its place among the columns
    name: str  # the column
    unit: str  # a key of `SECONDS`
    guessed: bool  # true if neither the file nor the caller states the unit
    sample_rate: float  # Hz
    # standard deviation of the steps between stamps, as a fraction of the interval; pauses aside
    jitter: float = 0.0
    pauses: int = 0  # number of steps so long that samples are missing
    max_step_s: float = float("inf")  # seconds; a longer step is a pause
    wraps: bool = False  # true if the stamps are times of day, which start again at midnight


@dataclass(frozen=True)
class Domain:
    """The values that a channel may have."""

    low: float = -math.inf  # the smallest
    high: float = math.inf  # the largest
    period: float = 0.0  # the full circle of an angle, which starts at `low`; 0 for others
    codes: tuple[float, ...] = ()  # numbers that stand for missing values
    valid: tuple[float, float] = (-math.inf, math.inf)  # smaller and larger values are missing, too


@dataclass(frozen=True)
class SensorInfo(SignalInfo):
    """A sensor log."""

    names: tuple[str, ...] = ()  # all columns or arrays of the file
    # those that the blocks hold; of an array of several channels, the array once
    columns: tuple[str, ...] = ()
    clock: Clock | None = None  # the time column, if the stamps of this recording can be read
    time_column: str | None = None  # its name, also if it belongs to another recording of the file
    domains: tuple[Domain, ...] = ()  # the values that each channel may have; empty if nothing is known
    own: Any = None  # data that only the module of its format understands
