"""Contact sheet: crops at native pixels, to compare outputs by eye."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from denoise.arrays import Array
from denoise.errors import UsageError
from denoise.metrics import finite_mean
from denoise.models.table import MODELS
from pipelines.benchmark.cases import Case, Metrics
from pipelines.benchmark.deconvolution import is_non_blind
from pipelines.report import writing

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

# Lossless: JPEG would add artifacts of its own.
FORMATS = {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF", ".bmp": "BMP"}

CROP_PX = 192
FLAT_PX = 96  # height of the strip below the crop
SEAM_PX = 2
CELL_PX = CROP_PX + SEAM_PX + FLAT_PX
GAP_PX = 8
TEXT_PX = 13
LINE_PX = 18
BLOCK_PX = 16  # crops begin at a multiple of this
RESIDUAL_GAIN = 4
PAPER, INK = (24, 24, 24), (220, 220, 220)


@dataclass(frozen=True)
class Crop:
    """Two areas of an image: the one with the most detail, and a flat one, where blotches show."""

    detail: tuple[int, int]  # top and left of a square of `CROP_PX`
    flat: tuple[int, int]  # top and left of a strip of `CROP_PX` x `FLAT_PX`

    @classmethod
    def of(cls, clean: Array) -> Crop:
        """Select areas by the sum of absolute differences of neighbours; clipped areas are not flat."""
        size = clean.shape[1:]
        busy, clipped = _activity(clean)
        return cls(_best(busy, CROP_PX, size), _best(-busy - clipped, FLAT_PX, size))

    def cut(self, picture: Array) -> Array:
        """Stack both areas as RGB; NaN where the image is smaller.

        Shape:
            `(C, H, W)` in, `(3, CELL_PX, CROP_PX)` out.
        """
        out = np.full((3, CELL_PX, CROP_PX), np.nan, np.float32)
        places = ((0, CROP_PX, self.detail), (CROP_PX + SEAM_PX, FLAT_PX, self.flat))
        for start, height, (top, left) in places:
            part = picture[:, top : top + height, left : left + CROP_PX]
            out[:, start : start + part.shape[1], : part.shape[2]] = part if len(part) == 3 else part[:1]
        return out


def _activity(clean: Array) -> tuple[Array, Array]:
    """Per block of `BLOCK_PX`: the sum of differences of neighbours, and the number of clipped pixels."""
    busy, clipped = [], []
    lefts = np.arange(0, clean.shape[2], BLOCK_PX)
    for top in range(0, clean.shape[1], BLOCK_PX):  # a strip at a time: images may be large
        luma = clean[:, top : top + BLOCK_PX].mean(axis=0)
        steps = np.zeros(luma.shape, np.float32)
        steps[1:] += abs(np.diff(luma, axis=0))
        steps[:, 1:] += abs(np.diff(luma, axis=1))
        busy.append(np.add.reduceat(steps.sum(axis=0), lefts))
        clipped.append(np.add.reduceat(((luma < 0.05) | (luma > 0.95)).sum(axis=0), lefts))
    return np.array(busy), np.array(clipped)


def _best(score: Array, height: int, size: tuple[int, ...]) -> tuple[int, int]:
    """Top and left of the window with the greatest sum; the first of equals."""
    tall, wide = min(height // BLOCK_PX, score.shape[0]), min(CROP_PX // BLOCK_PX, score.shape[1])
    sums = sliding_window_view(score, (tall, wide)).sum(axis=(2, 3))
    row, column = np.unravel_index(sums.argmax(), sums.shape)
    top, left = int(row) * BLOCK_PX, int(column) * BLOCK_PX
    return max(min(top, size[0] - height), 0), max(min(left, size[1] - CROP_PX), 0)


class SheetRow:
    """One file under one condition; the files themselves are not kept, only the crops."""

    def __init__(self, case: Case) -> None:
        self.title = f"{case.clean.key}   {case.condition}"
        self._peak = case.clean.peak or 1.0
        clean = np.divide(case.clean.array, self._peak, dtype=np.float32)
        self._crop = Crop.of(clean)
        self._noisy = self._crop.cut(case.noisy) / self._peak
        self.clean = _pixels(self._crop.cut(clean))
        self.noisy = _pixels(self._noisy)
        self.noisy_psnr_db = case.metrics["psnr_db"]
        self.outputs: dict[str, tuple[Array, Array, float | None]] = {}  # denoised, removed, PSNR in dB

    def add(self, model: str, denoised: Array, metrics: Metrics) -> None:
        """Add the output of a model."""
        crop = self._crop.cut(denoised) / self._peak
        removed = 0.5 + RESIDUAL_GAIN * (self._noisy - crop)
        self.outputs[model] = _pixels(crop), _pixels(removed), metrics["psnr_db"]


def _pixels(crop: Array) -> Array:
    """8-bit `(H, W, 3)`; the background shows where there is no image."""
    colours: Array = np.where(np.isnan(crop), np.array(PAPER)[:, None, None] / 255, crop.clip(0, 1))
    return np.rint(colours * 255).astype(np.uint8).transpose(1, 2, 0)


class ContactSheet:
    """Collects crops while a benchmark runs, and draws them.

    A row shows the clean file, the input, the outputs of the trained models and of the best classical one (by
    mean PSNR over the rows), and the residual of the first model, times 4 around gray.

    Args:
        max_rows: Maximum number of rows: with many noises, fewer files are shown.

    Raises:
        UsageError: The path names no lossless image format.
    """

    def __init__(self, path: Path, *, max_files: int = 8, max_rows: int = 24) -> None:
        if path.suffix.lower() not in FORMATS:
            raise UsageError(
                f"{path}: a contact sheet is written as {' '.join(FORMATS)}, not {path.suffix or 'that'}"
            )
        self.path = path
        self._max_files, self._max_rows = max_files, max_rows
        self._rows: list[SheetRow] = []
        self._files: set[str] = set()

    def check(self, modalities: Collection[str]) -> None:
        """Refuse, before the work, inputs without images."""
        if modalities and "image" not in modalities:
            found = " and ".join(sorted(modalities))
            raise UsageError(f"{self.path}: a contact sheet shows images, and the inputs are {found}")

    def row(self, case: Case, conditions: int) -> SheetRow | None:
        """New row for a file under one of N conditions; None if the sheet is full."""
        if case.clean.modality != "image":
            return None
        files = min(self._max_files, max(1, self._max_rows // conditions))
        if case.clean.key not in self._files and len(self._files) >= files:
            return None
        self._files.add(case.clean.key)
        self._rows.append(SheetRow(case))
        return self._rows[-1]

    def write(self) -> None:
        """Draw the sheet."""
        from PIL import Image, ImageDraw
        from PIL.PngImagePlugin import PngInfo

        shown = self._shown()
        if not shown:
            return
        row_height = 2 * LINE_PX + CELL_PX + GAP_PX
        size = (3 + len(shown)) * (CROP_PX + GAP_PX) + GAP_PX, len(self._rows) * row_height + GAP_PX
        sheet = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(sheet)
        for number, row in enumerate(self._rows):
            top = GAP_PX + number * row_height
            _write(draw, GAP_PX, top, row.title, size[0])
            for column, (caption, pixels) in enumerate(_cells(row, shown)):
                left = GAP_PX + column * (CROP_PX + GAP_PX)
                _write(draw, left, top + LINE_PX, caption, CROP_PX)
                sheet.paste(Image.fromarray(pixels), (left, top + 2 * LINE_PX))
        with writing(self.path) as partial:
            mark = PngInfo()
            mark.add_text("Software", "denoise")  # so that a later sheet may replace this one
            sheet.save(partial, FORMATS[self.path.suffix.lower()], lossless=True, pnginfo=mark)

    def _shown(self) -> list[str]:
        """Select the trained models, then the best of the others."""
        names = list(dict.fromkeys(name for row in self._rows for name in row.outputs))
        learned = [name for name in names if name not in MODELS and not is_non_blind(name)]
        others = [name for name in names if name not in learned and name != "none"]
        best = max(others, key=self._mean_psnr_db, default=None)
        return [*learned, best] if best else learned or names

    def _mean_psnr_db(self, model: str) -> float:
        return finite_mean(row.outputs[model][2] for row in self._rows if model in row.outputs) or 0.0


def _cells(row: SheetRow, shown: list[str]) -> list[tuple[str, Array]]:
    blank = np.full_like(row.clean, PAPER)  # for a model that failed on this file
    outputs = [(name, row.outputs.get(name, (blank, blank, None))) for name in shown]
    return [
        ("clean", row.clean),
        (f"input {_db(row.noisy_psnr_db)}", row.noisy),
        *((f"{name} {_db(psnr_db)}", denoised) for name, (denoised, _, psnr_db) in outputs),
        (f"{shown[0]}: removed, x{RESIDUAL_GAIN}", outputs[0][1][1]),
    ]


def _db(psnr_db: float | None) -> str:
    return "" if psnr_db is None or not np.isfinite(psnr_db) else f"{psnr_db:.2f} dB"


def _write(draw: ImageDraw, left: int, top: int, text: str, width: int) -> None:
    """Draw a line of text, cut at the width."""
    from PIL import ImageFont

    font = ImageFont.load_default(TEXT_PX)
    while draw.textlength(text, font) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    draw.text((left, top), text, INK, font)
