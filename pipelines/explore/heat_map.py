"""Draw where an image differs from normal ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from denoise.analysis.anomalies import AnomalyDetector
from denoise.analysis.segments import Place, Segmentation, Segments, assemble
from pipelines.report import writing

__all__ = ["draw"]

_FULL = 30.0  # times the normal whitened error that are drawn in full red
_AT_ONCE = 256  # tiles that go through the model together


def draw(path: Path, image: Path, detector: AnomalyDetector, cut: Segmentation) -> None:
    """Write the first page in gray, with red where its error exceeds the normal error.

    Args:
        path: `.png`; its folder is made if need be.
        image: The file.
        detector: Fitted detector.
        cut: Its segmentation.

    Raises:
        InputError: The image cannot be read.
        OutputError: The picture cannot be written.
    """
    from PIL import Image

    excerpts = Segments(image, cut)
    every = [excerpt for excerpt in excerpts if excerpt.page == 0]
    places = [Place(0, 0, excerpt.start) for excerpt in every]
    values = np.stack([excerpt.values for excerpt in every])
    heat = np.concatenate(
        [detector.explain(part) for part in np.split(values, range(_AT_ONCE, len(values), _AT_ONCE))]
    )
    page = excerpts.pages[0]
    gray = assemble(cut, page, zip(places, values, strict=True)).mean(axis=0)
    share = np.log(assemble(cut, page, zip(places, heat, strict=True)).mean(axis=0).clip(1)) / np.log(_FULL)
    share = share.clip(0, 1)[..., None]
    red = np.array([1.0, 0.1, 0.0])
    picture = (1 - 0.8 * share) * gray.clip(0, 1)[..., None] + 0.8 * share * red
    with writing(path) as partial:
        Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(partial, "PNG")
