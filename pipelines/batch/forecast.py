"""What a plan will cost, roughly, from names and sizes alone: opening every header would take too long.

All of it is an estimate: within a factor of two or three for seconds, and for bytes as good as the rule that
a file cleaned into its own format keeps its size.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from denoise.errors import UsageError
from denoise.io.formats import Format, format_of_suffix
from pipelines.batch.discover import Item
from pipelines.batch.store import Remote

__all__ = ["Cost", "bytes_text", "estimate", "free_bytes", "require_space", "seconds_per_million"]

# Seconds a million pixels or samples on two cores, as the documents have them; the empty name is any other.
_MODEL_SECONDS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "image": {"learned": 1.05, "nlm": 1.4, "tv": 0.4, "wavelet": 0.17, "none": 0.0, "": 0.1},
        "audio": {"learned": 0.4, "none": 0.0, "": 0.02},
        "sensor": {"learned": 1.6, "tv": 1.0, "none": 0.0, "": 0.3},
    }
)
_FILE_SECONDS: Mapping[str, float] = MappingProxyType(  # to read, measure and write as much
    {"image": 0.3, "audio": 0.1, "sensor": 1.0}
)


@dataclass(frozen=True)
class Cost:
    """What files will take: bytes that are read, and estimates of bytes written and of seconds."""

    bytes_in: int = 0
    estimated_bytes_out: int = 0
    estimated_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.bytes_in + other.bytes_in,
            self.estimated_bytes_out + other.estimated_bytes_out,
            self.estimated_seconds + other.estimated_seconds,
        )

    def row(self) -> dict[str, float]:
        """The cost as JSON has it."""
        return asdict(self) | {"estimated_seconds": round(self.estimated_seconds, 3)}


def seconds_per_million(modality: str, model: str, *, learned: bool = False) -> float:
    """What a model takes for a million pixels or samples."""
    known = _MODEL_SECONDS[modality]
    return known["learned"] if learned else known.get(model, known[""])


def estimate(item: Item, model_seconds: float, samples: float | None = None) -> Cost:
    """The cost of one file.

    Args:
        item: The file.
        model_seconds: What the model takes for a million pixels or samples.
        samples: How many it holds, where its header was read; None guesses by its size.
    """
    before, after = item.source.suffix.lower(), item.destination.suffix.lower()
    if samples is None:
        samples = item.size_bytes / _bytes_per_sample(before)
    written = samples * _bytes_per_sample(after)
    seconds = samples / 1e6 * (model_seconds + _FILE_SECONDS[item.modality])
    return Cost(item.size_bytes, item.size_bytes if before == after else round(written), seconds)


def _bytes_per_sample(suffix: str) -> float:
    return (format_of_suffix(suffix) or Format("")).bytes_per_sample


def free_bytes(folder: Path) -> int | None:
    """What the disk that holds (or will hold) a folder has left for us; None where it does not tell."""
    if isinstance(folder, Remote):
        return None
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            found = os.statvfs(place)
        except FileNotFoundError:
            continue
        except (AttributeError, OSError):  # Windows has no statvfs
            return None
        return found.f_bavail * found.f_frsize if found.f_blocks else None
    return None


def require_space(root: Path, free_bytes: int | None, items: Iterable[tuple[Item, Cost]]) -> None:
    """Refuse a plan whose results will not fit.

    An output that is there already makes room once it is replaced, but not before: so the largest counts in
    full.

    Raises:
        UsageError: The disk has less than is needed.
    """
    if free_bytes is None:
        return
    needed = largest = 0
    for item, cost in items:
        largest = max(largest, cost.estimated_bytes_out)
        needed += max(cost.estimated_bytes_out - _size_bytes(item.destination), 0)
    needed = max(needed, largest)
    if needed > free_bytes:
        raise UsageError(
            f"{root}: the results need about {bytes_text(needed)}, and the disk has {bytes_text(free_bytes)}"
            " left; make room or choose another output"
        )


def _size_bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def bytes_text(size_bytes: float) -> str:
    """A size for people: `1.5 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.3g} TB"
