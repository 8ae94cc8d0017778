"""Forecast of a plan's cost, from names, sizes and the headers of a few files.

Opening every header would take too long. Seconds are right within a factor of about two; those of images are
measured (`pipelines.batch.pace`). Bytes follow the rule that a file cleaned into its format keeps its size.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

from denoise.errors import DenoiseError, UsageError
from denoise.io import probe
from denoise.io.formats import Format, format_of_suffix
from pipelines.batch.discover import Item

# Seconds per million pixels or samples on two cores, from the documents; the empty name is any other model.
_MODEL_SECONDS: Mapping[str, Mapping[str, float]] = {
    "image": {"learned": 0.9, "nlm": 1.4, "tv": 0.4, "wavelet": 0.17, "none": 0.0, "": 0.1},
    "audio": {"learned": 0.4, "none": 0.0, "": 0.02},
    "sensor": {"learned": 1.6, "tv": 1.0, "none": 0.0, "": 0.3},
}
# Seconds per million to read, measure and write.
_FILE_SECONDS: Mapping[str, float] = {"image": 0.25, "audio": 0.1, "sensor": 1.0}
_MAX_HEADERS = 8  # that are read of each suffix
_START_S, _OPEN_S = 2.0, 0.05  # of a run, and of a file whatever its size


@dataclass(frozen=True)
class Cost:
    """Bytes to read, and estimates of bytes to write and of seconds."""

    bytes_in: int = 0
    estimated_bytes_out: int = 0
    estimated_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*map(operator.add, astuple(self), astuple(other)))

    def row(self) -> dict[str, float]:
        """Return the form of `--json`."""
        return asdict(self) | {"estimated_seconds": round(self.estimated_seconds, 3)}


def seconds_per_million(modality: str, model: str, *, learned: bool = False) -> float:
    """Seconds of a model per million pixels or samples."""
    known = _MODEL_SECONDS[modality]
    return known["learned"] if learned else known.get(model, known[""])


def bytes_per_sample(items: Iterable[Item]) -> dict[str, float]:
    """Measure the bytes of a pixel or sample on a few images and recordings of each suffix.

    Logs have no such header, and files that cannot be read, or are elsewhere, count as usual.
    """
    by_suffix: dict[str, list[Item]] = {}
    for item in items:
        if item.modality != "sensor" and isinstance(item.source, Path):
            by_suffix.setdefault(item.source.suffix.lower(), []).append(item)
    found = {}
    for suffix, ours in by_suffix.items():
        size_bytes = samples = 0
        for item in ours[:: -(-len(ours) // _MAX_HEADERS)]:
            with suppress(DenoiseError, OSError):
                shape = probe(item.source).shape
                samples += math.prod(shape[-2:])
                size_bytes += item.size_bytes
        if samples:
            found[suffix] = size_bytes / samples
    return found


def estimate(item: Item, model_seconds: float, samples: float | None = None) -> Cost:
    """Estimate the cost of one file.

    Args:
        model_seconds: Seconds of the model per million pixels or samples.
        samples: Pixels or samples in the file, if its header was read; None estimates them from its size.
    """
    before, after = item.source.suffix.lower(), item.destination.suffix.lower()
    if samples is None:
        samples = item.size_bytes / _bytes_per_sample(before)
    written = samples * _bytes_per_sample(after)
    seconds = samples / 1e6 * (model_seconds + _FILE_SECONDS[item.modality])
    return Cost(item.size_bytes, item.size_bytes if before == after else round(written), seconds)


def duration_s(cost: Cost, files: int) -> float:
    """Estimate the duration of a run: the start with its models, every file opened and checked, the work."""
    return _START_S + _OPEN_S * files + cost.estimated_seconds


def _bytes_per_sample(suffix: str) -> float:
    return (format_of_suffix(suffix) or Format("")).bytes_per_sample


def require_space(root: Path, free_bytes: int | None, items: Iterable[tuple[Item, Cost]]) -> None:
    """Refuse a plan whose results do not fit on the disk.

    An existing output frees its space only after it is replaced, so the largest result counts in full.

    Raises:
        UsageError: The disk has less space than needed.
    """
    if free_bytes is None:
        return
    needed = largest = 0
    for item, cost in items:
        with suppress(OSError):
            needed -= min(item.destination.stat().st_size, cost.estimated_bytes_out)
        needed += cost.estimated_bytes_out
        largest = max(largest, cost.estimated_bytes_out)
    needed = max(needed, largest)
    if needed > free_bytes:
        raise UsageError(
            f"{root}: the results need about {bytes_text(needed)}, and the disk has {bytes_text(free_bytes)}"
            " left; make room or choose another output"
        )


def bytes_text(size_bytes: float) -> str:
    """Human-readable size: `1.5 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"
