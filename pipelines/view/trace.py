"""View of a sensor log: overlaid traces of each channel, what was removed, and the peaks that were kept."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from denoise import io
from denoise.arrays import Array
from denoise.signal import SensorInfo
from pipelines.view.budget import NAMES, Budget

WIDTH, HEIGHT = 800, 160  # of a drawing, in its own units
REMOVED_HEIGHT = 60
_MAX_CHANNELS = 12
_MAX_SAMPLES = 4_000_000  # of a channel; the rest of a longer log is not drawn
_MAX_VALUES = 20_000  # of a channel, in the page
_MIN_VALUES = 300
_MAX_DRAWN = 800  # values of a drawing that needs no script
_MIN_DRAWN = 120
_POINT_BYTES = 12  # of a drawing
_LEVELS = 65534  # of 16 bits; the last one is a gap
_FAR = 4.0  # standard deviations from the mean, as in the tally of events
_MAX_PEAKS = 60


@dataclass(frozen=True)
class Channel:
    """Traces of one channel."""

    name: str  # column
    low: float  # value at the lower edge of the drawing
    high: float  # value at its upper edge
    removed: float  # half of the range of what was removed
    before: str  # 16-bit levels from low to high, little-endian, base64; 65535 is a gap
    after: str | None  # the same of the output; None if there is one log only
    # outlines of input, output and what was removed, for `HEIGHT` and `REMOVED_HEIGHT`
    paths: tuple[str, ...]
    # place (share of the length), height (share of the range) and if it was kept
    peaks: tuple[tuple[float, float, bool], ...]


@dataclass(frozen=True)
class TraceView:
    """Traces of one log."""

    kind: ClassVar[str] = "trace"

    channels: tuple[Channel, ...]  # the first channels
    left_out: int  # number of channels that are not drawn
    length: int  # samples of a channel
    span: float  # length in units of the horizontal axis
    unit: str  # of the horizontal axis: `s`, or `samples` without a sample rate
    marks: tuple[tuple[float, float], ...] = ()  # start and end of places to mark, as shares of the length
    names: tuple[str, str, str] = NAMES  # of the traces, and of what differs


def trace_view(
    before: Path,
    after: Path | None,
    budget: Budget,
    *,
    options: Mapping[str, Any] | None = None,
    names: tuple[str, str, str] = NAMES,
    marks: Sequence[tuple[int, int]] = (),
) -> TraceView:
    """Read one or two logs of the same columns, both with the same `options`.

    `marks` are the first and last samples of places to mark.
    """
    noisy, info = _samples(before, options or {})
    length = noisy.shape[1]
    cleaned = None
    if after is not None:
        cleaned, _ = _samples(after, options or {})
        length = min(length, cleaned.shape[1])
        noisy, cleaned = noisy[:, :length], cleaned[: len(noisy), :length]
    sides, drawings = (1, 1) if cleaned is None else (2, 3)  # of a channel
    # Half of the room is for drawings, which are no base64, and half for values of two bytes.
    drawn = budget.share(0.5) * 4 / 3 / (_POINT_BYTES * drawings)
    values = budget.share(0.5) / (2 * sides)
    fitting = max(1, int(min(drawn / _MIN_DRAWN, values / _MIN_VALUES)))
    shown = min(len(noisy), _MAX_CHANNELS, fitting)
    sizes = (
        int(np.clip(drawn / max(shown, 1), _MIN_DRAWN, _MAX_DRAWN)),
        int(np.clip(values / max(shown, 1), _MIN_VALUES, _MAX_VALUES)),
    )
    columns = SensorInfo.of(info).columns
    titles = columns if len(columns) == len(noisy) else [f"channel {n + 1}" for n in range(len(noisy))]
    return TraceView(
        tuple(
            _channel(titles[n], noisy[n], None if cleaned is None else cleaned[n], *sizes)
            for n in range(shown)
        ),
        len(noisy) - shown,
        length,
        length / info.sample_rate if info.sample_rate else float(length),
        "s" if info.sample_rate else "samples",
        tuple((start / max(length, 1), stop / max(length, 1)) for start, stop in marks),
        names,
    )


def _samples(path: Path, options: Mapping[str, Any]) -> tuple[Array, Any]:
    parts, count = [], 0
    with io.reader(path, **options) as blocks:
        for block in blocks:
            parts.append(np.asarray(block, np.float64))
            count += block.shape[-1]
            if count >= _MAX_SAMPLES:
                break
        info = blocks.info
    joined = np.concatenate(parts, axis=-1) if parts else np.zeros((info.shape[0], 0))
    return joined[:, :_MAX_SAMPLES], info


def _channel(name: str, before: Array, after: Array | None, drawn: int, values: int) -> Channel:
    both = before if after is None else np.concatenate([before, after])
    finite = both[np.isfinite(both)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    margin = 0.05 * (high - low) or max(abs(low), 1.0) * 0.05
    low, high = low - margin, high + margin
    sides = [before] if after is None else [before, after]
    paths = [path_of(_envelope(side, drawn), low, high, HEIGHT) for side in sides]
    removed = 0.0
    if after is not None:
        difference = before - after
        removed = float(np.nanmax(np.abs(difference), initial=0.0)) if np.isfinite(difference).any() else 0.0
        half = removed or 1.0
        paths.append(path_of(_envelope(difference, drawn), -half, half, REMOVED_HEIGHT))
    return Channel(
        name,
        low,
        high,
        removed,
        _levels(_envelope(before, values), low, high),
        None if after is None else _levels(_envelope(after, values), low, high),
        tuple(paths),
        _peaks(before, after, low, high),
    )


def _envelope(values: Array, most: int) -> Array:
    """Keep all values of a short signal; of a long one the minimum and maximum of each stretch."""
    if len(values) <= most:
        return values
    edges = np.linspace(0, len(values), most // 2 + 1).astype(int)[:-1]
    filled = np.where(np.isfinite(values), values, np.nan)
    low, high = np.fmin.reduceat(filled, edges), np.fmax.reduceat(filled, edges)
    # The one that comes first in its stretch stays first, so that slopes stay slopes.
    rising = filled[edges] <= (low + high) / 2
    return np.where(rising, [low, high], [high, low]).T.ravel()


def _levels(values: Array, low: float, high: float) -> str:
    """Encode values as 16-bit levels."""
    known = np.isfinite(values)
    share = (np.where(known, values, low) - low) / (high - low)
    levels = np.where(known, np.rint(share.clip(0, 1) * _LEVELS), 65535).astype("<u2")
    return base64.b64encode(levels.tobytes()).decode("ascii")


def path_of(values: Array, low: float, high: float, height: float) -> str:
    """Outline of values as the path of an SVG; a gap breaks it."""
    x = np.linspace(0, WIDTH, len(values)) if len(values) > 1 else np.zeros(len(values))
    y = height * (1 - (values - low) / (high - low))
    parts, pen = [], "M"
    for at, level in zip(x, y, strict=True):
        if np.isfinite(level):
            parts.append(f"{pen}{at:.1f} {level:.1f}")
        pen = "L" if np.isfinite(level) else "M"
    return "".join(parts)


def _peaks(
    before: Array, after: Array | None, low: float, high: float
) -> tuple[tuple[float, float, bool], ...]:
    """The farthest readings of each excursion beyond four standard deviations."""
    if after is None or not np.isfinite(before).any():
        return ()
    mean, deviation = float(np.nanmean(before)), float(np.nanstd(before))
    far = np.flatnonzero(np.abs(before - mean) > _FAR * deviation) if deviation else np.zeros(0, int)
    if not far.size:
        return ()
    groups = np.split(far, np.flatnonzero(np.diff(far) > max(1, len(before) // 200)) + 1)
    tops = [group[np.abs(before[group] - mean).argmax()] for group in groups]
    tops = sorted(tops, key=lambda at: -abs(before[at] - mean))[:_MAX_PEAKS]
    return tuple(
        (
            float(at / len(before)),
            float((before[at] - low) / (high - low)),
            bool((after[at] - mean) * np.sign(before[at] - mean) >= 0.5 * abs(before[at] - mean)),
        )
        for at in sorted(tops)
    )
