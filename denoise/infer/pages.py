"""Clean the pages of an image."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from denoise import io
from denoise.arrays import Array, Mask
from denoise.errors import TooLargeError, UnreadableError, UnsupportedError
from denoise.estimate.drawing import is_drawing
from denoise.infer.cleaner import Cleaner
from denoise.infer.evaluate import evaluator, rescale
from denoise.infer.no_data import NoData, filled
from denoise.infer.result import (
    FileResult,
    as_before,
    not_written,
    stamped,
    stop_writing,
    writer_notes,
    writer_or_copy,
)
from denoise.infer.selection import PageSelector, Selection
from denoise.io import Writer
from denoise.io.image.codec import ImageWriter
from denoise.io.limits import require_plausible_page
from denoise.options import CleanOptions
from denoise.signal import ImageInfo, Page, SignalInfo


def clean_pages(source: Path, destination: Path, cleaner: Cleaner, options: CleanOptions) -> FileResult:
    """Clean every page of an image."""
    pixels, selections, chosen, change = 0, list[Selection](), None, _Change()
    reading: dict[str, Any] = {"max_pixels": options.max_pixels}
    no_data = NoData()
    if destination.suffix.lower() == ".dng":
        reading["camera_space"] = True
    with io.reader(source, **reading, gaps=True) as pages:
        info = pages.info
        with (
            evaluator(info, options.reference, reading) as scores,
            writer_or_copy(source, destination, _finer(stamped(info, cleaner, options))) as sink,
        ):
            for page in pages:
                _require_plausible(source, page, cleaner)
                now = pages.info  # pages of one file may differ in kind
                colours = page.shape[0] - now.passthrough_channels
                pixels += page.shape[1] * page.shape[2]
                whole = page
                if (lacking := no_data.find(page, now, len(selections))) is not None:
                    _require_place(source, destination, page, lacking)
                    page = filled(page, lacking)
                result, selection = _clean_page(page, now, cleaner, options, chosen)
                selections.append(selection)
                if isinstance(info, ImageInfo) and info.animated and selection.model != "none":
                    chosen = chosen or selection  # one choice for all frames, or they would flicker
                if isinstance(now, ImageInfo) and now.alpha:
                    _restore_transparent(page, result, colours)
                scores.update(
                    rescale(page[:colours], now.peak, info.peak),
                    rescale(result[:colours], now.peak, info.peak),
                    selection.sigma,
                )
                change.update(page, result, _writing_loss(sink, result) if cleaner.selector else 0.0)
                if lacking is not None:
                    np.copyto(result[:colours], whole[:colours], where=lacking)
                del page, whole, lacking  # a large page is not held while its result is encoded
                sink.write(result)
                del result
            untouched = options.strength == 0 or all(selection.model == "none" for selection in selections)
            kept = untouched or not (change.gains or (options.stamp and not cleaner.selector))
            copied = kept and destination.suffix.lower() == source.suffix.lower()
            stop_writing(copied)
    # Notes say what reading and writing turn into something else.
    notes, clipped = ((), 0) if copied else (info.notes + writer_notes(sink), sink.clipped)
    figures = scores.result()
    if copied and not untouched:
        notes = ("left as it is: to write it again would lose more than that gains",)
        figures, selections = as_before(figures), not_written(selections)
    return FileResult(info, pixels, figures, no_data.notes + notes, clipped, tuple(selections))


def _require_place(source: Path, destination: Path, page: Array, lacking: Mask) -> None:
    """Refuse a page without any data, and NaN for another format, which has no place for it."""
    if lacking.all():
        raise UnreadableError(f"{source}: holds a page without any data; expected finite numbers")
    other = destination.suffix.lower() not in {source.suffix.lower(), ".tif", ".tiff"}
    if other and page.dtype.kind == "f" and np.isnan(page).any():
        raise UnsupportedError(
            f"{source}: holds pixels of NaN, which {destination.suffix} cannot; write to .tif"
        )


def _clean_page(
    page: Array, info: SignalInfo, cleaner: Cleaner, options: CleanOptions, chosen: Selection | None
) -> tuple[Array, Selection]:
    """Clean a page; bands of a multispectral camera each on its own, as gray images."""
    clean = partial(
        cleaner.apply, peak=info.peak, strength=options.strength, sigma=options.sigma, selection=chosen
    )
    if not (isinstance(info, ImageInfo) and info.bands):
        return clean(page, keep=info.passthrough_channels)
    parts = [clean(page[band : band + 1]) for band in range(len(page))]
    return np.concatenate([result for result, _ in parts]), parts[0][1]


class _Change:
    """Mean square of what is removed from the pages, and of what writing them loses, in squared steps."""

    def __init__(self) -> None:
        self._removed = self._lost = 0.0

    def update(self, page: Array, result: Array, loss: float) -> None:
        """Add a page, in bands of rows: differences of a large one would take more memory than it does."""
        step = 1.0 if page.dtype.kind in "iu" else 2.0**-16
        for top in range(0, page.shape[1], 256):
            rows = slice(top, top + 256)
            difference = np.subtract(result[:, rows], page[:, rows], dtype=np.float32) / step
            self._removed += float(np.square(difference).sum(dtype=np.float64))
        self._lost += loss * page.size

    @property
    def gains(self) -> bool:
        """True if more is won than lost; about half of what is removed was an error of the picture."""
        return self._removed > 2 * self._lost


def _writing_loss(sink: Writer, result: Array) -> float:
    return sink.writing_loss(result) if isinstance(sink, ImageWriter) else 0.0


def _finer(info: SignalInfo) -> SignalInfo:
    """Have a result compressed finer than its source, if that is coarse."""
    return replace(info, finer=True) if isinstance(info, ImageInfo) else info


def _require_plausible(source: Path, page: Array, cleaner: Cleaner) -> None:
    """Refuse a page of a small file that takes much memory to clean; a drawing is left as it is."""
    channels, height, width = page.shape
    layout = Page(height, width, channels, str(page.dtype))
    try:
        require_plausible_page(layout, layout.working_bytes, source.stat().st_size, f"{source}: ")
    except TooLargeError:
        if not (isinstance(cleaner.model, PageSelector) and is_drawing(page)):
            raise


def _restore_transparent(page: Array, result: Array, colours: int) -> None:
    """Keep colours under full transparency: they hold no noise, and may hold data of a program."""
    transparent = page[colours] == 0
    if transparent.any():
        result[:colours, transparent] = page[:colours, transparent]
