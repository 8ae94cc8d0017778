"""Pixels of an image that hold no data: they stay, and nothing of them reaches their neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from denoise.arrays import Array, Mask
from denoise.signal import ImageInfo, SignalInfo

_STRIP_PX = 1 << 24  # of rows that are filled at once
_SHARES = (1.0, 0.5, 0.25)  # of the way to the nearest pixel, which the mirrored one lies beyond it
_MIN_PIXELS = 3  # of a number that no tag names


class NoData:
    """Finds the pixels without data in each page of a file, and remembers them for a note.

    A GeoTIFF names their number in a tag (GDAL_NODATA, 42113). Without one, NaN, and in floats a code of
    missing values or a giant that repeats far from all others, is none either
    (`denoise.io.sensor.survey.CodeSurvey`). A pixel of colours lacks data if each of them does.
    """

    def __init__(self) -> None:
        self._found: dict[float, int] = {}
        self._all = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence, if there were such pixels."""
        if not self._found:
            return ()
        named = ", ".join(f"{value:.9g}" for value in self._found)
        count = sum(self._found.values())
        share = f"{count} pixels, {100 * count / self._all:.2g} %"
        return (f"no data ({named}; {share}): kept as they are, and left out of the cleaning",)

    def find(self, page: Array, info: SignalInfo, number: int) -> Mask | None:
        """Find the pixels without data of a page `(C, H, W)`, `(1 or C, H, W)`; None if all have some."""
        if not isinstance(info, ImageInfo) or info.format != "TIFF":
            return None
        colours = page[: len(page) - info.passthrough_channels]
        tags: Sequence[float | None] = info.own.get("no_data", ())
        tagged = tags[number] if number < len(tags) else None
        values = {*_giants(colours), *([] if tagged is None else [tagged])} if colours.size else set()
        mask = np.zeros((len(colours) if info.bands else 1, *page.shape[1:]), bool)
        self._all += mask.size
        for value in sorted(values):
            self._mark(mask, np.asarray(colours == np.asarray(value, page.dtype)), value)
        if page.dtype.kind == "f":
            self._mark(mask, np.isnan(colours), np.nan)
        return mask if mask.any() else None

    def _mark(self, mask: Mask, lacking: Mask, value: float) -> None:
        """Add what lacks data in each channel `(C, H, W)`: NaN in one is too much, numbers must be in all."""
        if len(mask) < len(lacking):
            joined = np.any if np.isnan(value) else np.all
            lacking = np.asarray(joined(lacking, axis=0, keepdims=True))
        if count := int(np.count_nonzero(lacking)):
            mask |= lacking
            key = next((known for known in self._found if str(known) == str(value)), value)
            self._found[key] = self._found.get(key, 0) + count


def _giants(colours: Array) -> list[float]:
    """List the numbers in floats that stand for no data."""
    if colours.dtype.kind != "f":
        return []
    from denoise.io.sensor.survey import CodeSurvey

    survey = CodeSurvey()
    rows = max(1, (1 << 20) // max(1, colours.shape[0] * colours.shape[2]))
    for top in range(0, colours.shape[1], rows):
        survey.add(colours[:, top : top + rows].reshape(1, -1).astype(np.float64))
    return [value for value, count in survey.codes[0].items() if count >= _MIN_PIXELS]


def filled(page: Array, mask: Mask) -> Array:
    """Return a copy of a page with its pixels without data mirrored from the nearest ones with some.

    So they have the texture and the noise of their neighbours.

    Shape:
        `(C, H, W)`, with a mask `(1, H, W)` or of the first channels.
    """
    out = np.array(page)
    rows = max(1, _STRIP_PX // page.shape[2])
    for top in range(0, page.shape[1], rows):
        strip = np.s_[top : top + rows]
        for channel, plane in enumerate(mask):
            part = out[:, strip] if len(mask) == 1 else out[channel : channel + 1, strip]
            _fill(part, plane[strip])
    return out


def _fill(part: Array, lacks: Mask) -> None:
    """Fill `(C, H, W)` in place; without any data it becomes 0."""
    if not lacks.any():
        return
    if lacks.all():
        part[...] = 0
        return
    from scipy.ndimage import distance_transform_edt

    places = np.nonzero(lacks)
    nearest = distance_transform_edt(lacks, return_distances=False, return_indices=True)
    edge = [axis[places] for axis in nearest]
    source = [np.array(axis) for axis in edge]
    waiting = np.ones(len(edge[0]), bool)
    for share in _SHARES:
        mirrored = [
            at + np.rint(share * (at - place)).astype(int) for at, place in zip(edge, places, strict=True)
        ]
        inside = np.logical_and.reduce(
            [(axis >= 0) & (axis < size) for axis, size in zip(mirrored, lacks.shape, strict=True)]
        )
        clipped = tuple(np.clip(axis, 0, size - 1) for axis, size in zip(mirrored, lacks.shape, strict=True))
        take = waiting & inside & ~lacks[clipped]
        for axis, new in zip(source, clipped, strict=True):
            axis[take] = new[take]
        waiting &= ~take
    part[:, places[0], places[1]] = part[:, source[0], source[1]]
