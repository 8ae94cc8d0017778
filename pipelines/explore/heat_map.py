"""Draw the anomalous places of an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from denoise.analysis.anomalies import AnomalyDetector
from denoise.analysis.segments import Place, Segmentation, Segments, assemble
from pipelines.report import writing

_FULL = 30.0  # multiple of the normal whitened error that is drawn in full red
_BATCH = 256  # tiles per call of the model


def draw(path: Path, image: Path, detector: AnomalyDetector, cut: Segmentation) -> None:
    """Write the first page of an image in gray, as PNG, with red where its error exceeds the normal error."""
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
    red = np.array([1.0, 0.1, 0.0])
    picture = (1 - 0.8 * share) * gray.clip(0, 1)[..., None] + 0.8 * share * red
    with writing(path) as partial:
        Image.fromarray(np.rint(255 * picture).astype(np.uint8)).save(partial, "PNG")
