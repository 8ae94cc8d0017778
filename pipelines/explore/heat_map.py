"""Draw the anomalous places of an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from denoise.analysis.anomalies import AnomalyDetector
from denoise.analysis.segments import Place, Segmentation, Segments, assemble
from denoise.arrays import Array
from pipelines.report import writing

if TYPE_CHECKING:
    from PIL import Image

_FULL = 30.0  # multiple of the normal whitened error that is drawn in full red
_BATCH = 256  # tiles per call of the model
_RED, _OPACITY = (1.0, 0.1, 0.0), 0.8
_BAR_PX, _GAP_PX = (60, 10), 5  # of the legend


def draw(path: Path, image: Path, detector: AnomalyDetector, cut: Segmentation) -> None:
    """Write the first page of an image in gray, as PNG, with red where its error exceeds the normal error.

    A legend of the red is below the picture.
    """
    from PIL import Image

    segments = Segments(image, cut)
    every = [segment for segment in segments if segment.page == 0]
    places = [Place(0, 0, segment.start) for segment in every]
    values = np.stack([segment.values for segment in every])
    heat = np.concatenate(
        [detector.explain(part) for part in np.split(values, range(_BATCH, len(values), _BATCH))]
    )
    page = segments.pages[0]
    gray = assemble(cut, page, zip(places, values, strict=True)).mean(axis=0)
    share = np.log(assemble(cut, page, zip(places, heat, strict=True)).mean(axis=0).clip(1)) / np.log(_FULL)
    share = share.clip(0, 1)[..., None]
    picture = Image.fromarray(_reddened(gray.clip(0, 1)[..., None], share))
    legend = _legend()
    whole = Image.new("RGB", (max(picture.width, legend.width), picture.height + legend.height), "white")
    whole.paste(picture, (0, 0))
    whole.paste(legend, (0, picture.height))
    with writing(path) as partial:
        whole.save(partial, "PNG")


def _reddened(gray: Array, share: Array) -> Array:
    """Draw red over gray, both in 0..1 and `(H, W, 1)`, as 8-bit colours."""
    picture = (1 - _OPACITY * share) * gray + _OPACITY * share * np.array(_RED)
    return np.rint(255 * picture).astype(np.uint8)


def _legend() -> Image.Image:
    """Draw the scale of the red, with its ends in words."""
    from PIL import Image, ImageDraw, ImageFont

    font, (width, height) = ImageFont.load_default(), _BAR_PX
    words = "normal error", f"{_FULL:g} times"
    before, after = (int(font.getlength(text)) + 2 * _GAP_PX for text in words)
    legend = Image.new("RGB", (before + width + after, height + 2 * _GAP_PX), "white")
    share = np.broadcast_to(np.linspace(0, 1, width)[None, :, None], (height, width, 1))
    legend.paste(Image.fromarray(_reddened(np.full_like(share, 0.5), share)), (before, _GAP_PX))
    draw, middle = ImageDraw.Draw(legend), legend.height // 2
    for text, left in zip(words, (_GAP_PX, before + width + _GAP_PX), strict=True):
        draw.text((left, middle), text, fill="black", font=font, anchor="lm")
    return legend
