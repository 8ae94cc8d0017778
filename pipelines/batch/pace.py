"""Pace of cleaning images on this machine now, measured on parts of a few of them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from statistics import fmean

import numpy as np
import torch

from denoise import io
from denoise.arrays import Array
from denoise.errors import DenoiseError
from denoise.infer.cleaner import Cleaner
from denoise.infer.selection import Selection
from denoise.machine import cores
from denoise.models.table import AUTO, PICKS
from pipelines.batch.discover import Item

_MAX_IMAGES = 4  # of a suffix
_MAX_BYTES = 50_000_000  # of a file
_MAX_S = 10.0  # then no other image is begun
_SIDE_PX = 512
_CLEAN, _SHARPEN = PICKS[AUTO]["image"]
_SHARPENING = 7.0  # time of undoing a blur, of that of its prior: 16 to 19 for 2.5 CPU seconds a megapixel


def image_paces(cleaner: Cleaner, items: Iterable[Item]) -> dict[str, float]:
    """Measure how long images take, in seconds per million pixels, on all cores: by suffix.

    The model is selected for the middle of a few images, and timed once. Files that cannot be read, or are
    elsewhere, count as usual.
    """
    threads, started = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(1)
    of_model = dict[str, float]()
    found: dict[str, list[float]] = defaultdict(list)
    for item in _spread(items):
        if time.perf_counter() - started > _MAX_S:
            break
        with suppress(DenoiseError, OSError):
            part, peak = _part(item.source)
            selection = cleaner.select(part, peak)
            sharpens = cleaner.selector is not None and selection.model == _SHARPEN
            selection = replace(selection, model=_CLEAN) if sharpens else selection
            if selection.model not in of_model:
                of_model[selection.model] = _seconds_per_million(cleaner, part, peak, selection)
            found[item.source.suffix.lower()].append(
                of_model[selection.model] * (_SHARPENING if sharpens else 1)
            )
    torch.set_num_threads(threads)
    return {suffix: fmean(paces) for suffix, paces in found.items()}


def _part(path: Path) -> tuple[Array, float | None]:
    """Read the middle of an image, and the peak of its samples."""
    with io.reader(path) as pages:
        info, page = pages.info, next(iter(pages))
    top, left = (max(0, size - _SIDE_PX) // 2 for size in page.shape[1:])
    part = page[: len(page) - info.passthrough_channels, top : top + _SIDE_PX, left : left + _SIDE_PX]
    return np.ascontiguousarray(part), info.peak


def _seconds_per_million(cleaner: Cleaner, part: Array, peak: float | None, selection: Selection) -> float:
    chosen = selection if cleaner.selector else None
    cleaner.apply(np.ascontiguousarray(part[:, :128, :128]), peak=peak, selection=chosen)  # the first is slow
    begun = time.perf_counter()
    cleaner.apply(part, peak=peak, selection=chosen)
    return (time.perf_counter() - begun) / part[0].size * 1e6 / cores()


def _spread(items: Iterable[Item]) -> Iterator[Item]:
    """Yield a few images of each suffix, evenly spaced; one of each suffix first."""
    by_suffix: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        if isinstance(item.source, Path) and item.size_bytes < _MAX_BYTES:
            by_suffix[item.source.suffix.lower()].append(item)
    few = [ours[:: -(-len(ours) // _MAX_IMAGES)] for ours in by_suffix.values()]
    return (item for item in chain.from_iterable(zip_longest(*few)) if item)
