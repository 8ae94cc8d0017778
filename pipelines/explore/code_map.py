"""Draw codes as a map of two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from denoise.analysis.codes import Codes
from denoise.arrays import Doubles, Floats
from denoise.errors import UsageError
from pipelines.report import as_utf8, writing

_MAX_POINTS = 20_000
_MAX_NAMED = 20  # folders in the legend
AXES = {
    "pca": ("first principal component of the code", "second"),
    "tsne": ("first axis of t-SNE", "second"),
    "umap": ("first axis of UMAP", "second"),
}


def project(codes: Floats, projection: str) -> Doubles:
    """Place codes `(n, code_size)` in a plane: by principal components, t-SNE or UMAP.

    Raises:
        UsageError: The projection needs a package that is not installed.
    """
    centred = codes.astype(np.float64) - codes.mean(axis=0)
    if projection == "pca" or len(codes) < 5:  # the others need neighbours
        axes_of = np.linalg.svd(centred, full_matrices=False)[2][:2]
        points = np.zeros((len(codes), 2))
        points[:, : len(axes_of)] = centred @ axes_of.T
        return points
    near = min(15, len(codes) - 1)
    try:
        if projection == "tsne":
            from sklearn.manifold import TSNE

            return TSNE(perplexity=near, metric="cosine", init="pca", random_state=0).fit_transform(centred)
        from umap import UMAP

        return UMAP(n_neighbors=near, metric="cosine", random_state=0, n_jobs=1).fit_transform(centred)
    except ImportError as error:
        raise UsageError(
            f"--projection {projection} needs {error.name}, which is not installed; expected the extra: "
            "pip install 'denoise-pipelines[maps]'"
        ) from error


def draw(path: Path, files: Sequence[Codes], folders: Sequence[Path], projection: str) -> None:
    """Plot the codes in a plane as PNG, one colour for each folder of a file."""
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    codes = np.concatenate([file.codes for file in files])
    owner = np.repeat(np.arange(len(files)), [len(file.codes) for file in files])
    if len(codes) > _MAX_POINTS:
        kept = np.sort(np.random.default_rng(0).choice(len(codes), _MAX_POINTS, replace=False))
        codes, owner = codes[kept], owner[kept]
    points = project(codes, projection)
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
    axes.set(xlabel=AXES[projection][0], ylabel=AXES[projection][1])
    if 1 < len(names) <= _MAX_NAMED:
        axes.legend(markerscale=2, fontsize="small")
    with writing(path) as partial:
        figure.savefig(partial, format="png", dpi=100)
