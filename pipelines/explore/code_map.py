"""Draw codes as a map of two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from denoise.analysis.codes import Codes
from pipelines.report import as_utf8, writing

_MAX_POINTS = 20_000
_MAX_NAMED = 20  # folders in the legend


def draw(path: Path, files: Sequence[Codes], folders: Sequence[Path]) -> None:
    """Plot the first two principal components of the codes as PNG, one colour for each folder of a file."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    codes = np.concatenate([file.codes for file in files]).astype(np.float64)
    owner = np.repeat(np.arange(len(files)), [len(file.codes) for file in files])
    if len(codes) > _MAX_POINTS:
        kept = np.sort(np.random.default_rng(0).choice(len(codes), _MAX_POINTS, replace=False))
        codes, owner = codes[kept], owner[kept]
    centred = codes - codes.mean(axis=0)
    axes_of = np.linalg.svd(centred, full_matrices=False)[2][:2]
    points = np.zeros((len(codes), 2))
    points[:, : len(axes_of)] = centred @ axes_of.T
    names = list(dict.fromkeys(folders))
    colours = colormaps["tab20" if len(names) > 10 else "tab10"]
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, folder in enumerate(names):
        ours = np.isin(owner, [index for index, other in enumerate(folders) if other == folder])
        axes.scatter(
            points[ours, 0],
            points[ours, 1],
            s=6,
            color=colours(number % colours.N),
            label=as_utf8(folder.name or str(folder)),
        )
    axes.set(xlabel="first principal component of the code", ylabel="second")
    if 1 < len(names) <= _MAX_NAMED:
        axes.legend(markerscale=2, fontsize="small")
    with writing(path) as partial:
        figure.savefig(partial, format="png", dpi=100)
