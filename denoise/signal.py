"""What the library passes around: modalities, and what a file was besides its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from denoise.errors import UnsupportedError

__all__ = ["LONGEST_FILL", "MODALITIES", "SECONDS", "Modality", "SignalInfo", "modality_of"]

# The units of a time column.
SECONDS: Mapping[str, float] = MappingProxyType(
    {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
)
LONGEST_FILL = 1024  # samples of a gap: of what lies within a longer one, its ends know nothing


@dataclass(frozen=True)
class Modality:
    """One kind of data: how its files are named and how its arrays are laid out.

    Args:
        name: The word used on the command line and in reports.
        ndim: Number of axes after the channels: 2 for images, 1 for signals.
        suffixes: File suffixes, lower case, with the dot.
        headline: The metric that a table leads with when a reference is there.
        read_only: Suffixes of formats that are read, and whose results are written in another.
    """

    name: str
    ndim: int
    suffixes: tuple[str, ...]
    headline: str
    read_only: tuple[str, ...] = ()


MODALITIES: Mapping[str, Modality] = MappingProxyType(
    {
        "image": Modality(
            "image",
            2,
            (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"),
            "psnr_db",
            (
                *(".heic", ".heif", ".hif"),
                *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"),
            ),
        ),
        "audio": Modality(
            "audio",
            1,
            (".wav", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff"),
            "si_sdr_db",
        ),
        "sensor": Modality(
            "sensor",
            1,
            (
                *(".csv", ".tsv", ".npy", ".npz", ".parquet"),
                *(".hea", ".edf", ".bdf", ".mat", ".h5", ".hdf5"),
            ),
            "snr_db",
        ),
    }
)


@dataclass(frozen=True)
class SignalInfo:
    """All that a writer must give back besides the samples.

    Args:
        source: The file it was read from.
        modality: A name in `MODALITIES`.
        shape: `(C, *S)`: channels, then height and width, or samples; of the first page of an image.
        dtype: The numpy dtype of the blocks that the reader yields (`uint8`, `uint16`, `float32`, ...).
        peak: The value that means full scale (255, 65535, 1.0); None for sensors, whose units are their own.
        sample_rate: Hz; None for images, and for sensor logs that do not tell.
        keep: How many trailing channels pass through untouched (alpha).
        pages: How many blocks of `shape` kind an image file holds.
        notes: Sentences for the user about what was converted on reading.
        extra: What only the codec of this file understands (EXIF, ICC, subtype, delimiter, column names).
    """

    source: Path
    modality: str
    shape: tuple[int, ...]
    dtype: str
    peak: float | None
    sample_rate: float | None = None
    keep: int = 0
    pages: int = 1
    notes: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def modality_of(path: Path) -> Modality:
    """The modality that a file's suffix names.

    Raises:
        UnsupportedError: No codec takes this suffix.
    """
    suffix = path.suffix.lower()
    for modality in MODALITIES.values():
        if suffix in modality.suffixes + modality.read_only:
            return modality
    known = " ".join(s for m in MODALITIES.values() for s in m.suffixes + m.read_only)
    raise UnsupportedError(f"{path}: the suffix {suffix or '(none)'} is not one of {known}")
