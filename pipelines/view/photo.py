"""View of an image: a slider over both pictures, and linked crops at 100 % with the residual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from denoise import io
from denoise.arrays import Array
from denoise.signal import ImageInfo
from pipelines.view.budget import NAMES, Budget, data_uri, encode_pictures, jpeg

_MAX_SIDE_PX = 1280
# Sides in pixels and qualities, from the best: noise takes two bytes a pixel.
_CROPS = ((320, 92), (240, 92), (192, 88), (144, 84), (112, 78), (96, 72), (64, 66))
_BLOCK_PX = 16  # crops begin at a multiple of this, so that the blocks of a JPEG do not move
_GAINS = (16, 8, 4, 2, 1)  # of the residual: the largest that shows nearly all of it
_MAX_ICC_BYTES = 4096
_ORIENTATION = 0x0112  # tag of EXIF
# Steps that show an image upright, by its orientation: transposed, then flipped by rows and by columns.
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Mark:
    """Place in an image, as shares of its sides."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class PhotoView:
    """Media of one image."""

    kind: ClassVar[str] = "photo"

    width: int  # pixels of the file, upright
    height: int  # pixels of the file, upright
    scale: float  # of the overview, at most 1
    before: str  # overview, as a data URI
    after: str | None = None  # overview of the result; None if there is one picture only
    left: int = 0  # first column of the crop
    top: int = 0  # first row of the crop
    side: tuple[int, int] = (0, 0)  # columns and rows of the crop
    crops: tuple[str, ...] = ()  # crop before, after, and the residual; empty if there is one picture only
    gain: int = 1  # factor of the residual
    marks: tuple[Mark, ...] = ()  # places to outline
    names: tuple[str, str, str] = NAMES  # of the pictures, and of what differs

    @property
    def outline(self) -> str:
        """Edges of the places together, as the path of an SVG of 1 by 1."""
        xs = np.unique([edge for mark in self.marks for edge in (mark.x, mark.x + mark.width)])
        ys = np.unique([edge for mark in self.marks for edge in (mark.y, mark.y + mark.height)])
        inside = np.zeros((len(ys) + 1, len(xs) + 1), bool)  # the cells between the edges, and those around
        for mark in self.marks:
            top, bottom = np.searchsorted(ys, [mark.y, mark.y + mark.height])
            left, right = np.searchsorted(xs, [mark.x, mark.x + mark.width])
            inside[top + 1 : bottom + 1, left + 1 : right + 1] = True
        rows = np.argwhere(inside[1:] != inside[:-1])
        columns = np.argwhere(inside[:, 1:] != inside[:, :-1])
        across = (f"M{xs[x - 1]:.4g} {ys[y]:.4g}H{xs[x]:.4g}" for y, x in rows)
        down = (f"M{xs[x]:.4g} {ys[y - 1]:.4g}V{ys[y]:.4g}" for y, x in columns)
        return "".join((*across, *down))


def photo_view(
    before: Path,
    after: Path | None,
    budget: Budget,
    *,
    names: tuple[str, str, str] = NAMES,
    marks: Sequence[Mark] = (),
) -> PhotoView:
    """Read one or two images of one size; of several pages the first."""
    noisy, info, white = _pixels(before)
    icc = _profile(info) if noisy.ndim == 3 else None
    height, width = noisy.shape[:2]
    if after is None:
        coded, scale = encode_pictures([noisy], _MAX_SIDE_PX, budget.share(0.9), icc)
        return PhotoView(width, height, scale, data_uri(coded[0], "image/webp"), marks=tuple(marks))
    cleaned, _, _ = _pixels(after, white)
    coded, scale = encode_pictures([noisy, cleaned], _MAX_SIDE_PX, budget.share(0.6), icc)
    for side, quality in _CROPS:
        top, left = _busiest(cleaned, side)
        place = slice(top, top + side), slice(left, left + side)
        removed = noisy[place].astype(np.int16) - cleaned[place]
        far = np.percentile(np.abs(removed), 98)
        gain = next((gain for gain in _GAINS if gain * far <= 127), 1)
        residual = (128 + gain * removed).clip(0, 255).astype(np.uint8)  # around middle gray
        shown = noisy[place], cleaned[place], residual
        crops = [jpeg(crop, quality, icc) for crop in shown]
        if sum(map(len, crops)) <= budget.share(0.4):
            break
    return PhotoView(
        width,
        height,
        scale,
        data_uri(coded[0], "image/webp"),
        data_uri(coded[1], "image/webp"),
        left,
        top,
        (min(side, width), min(side, height)),
        tuple(data_uri(crop, "image/jpeg") for crop in crops),
        gain,
        tuple(marks),
        names,
    )


def _pixels(path: Path, white: float | None = None) -> tuple[Array, ImageInfo, float]:
    """Read the first page as 8-bit `(H, W, 3)` or `(H, W)`, upright; white is that of its partner."""
    page, found = io.read(path)
    info = ImageInfo.of(found)
    colours = page[: page.shape[0] - info.passthrough_channels]
    if white is None:
        white = _white(colours, float(info.peak or 1.0))
    planes = colours[:3] if colours.shape[0] >= 3 else colours[:1]
    if planes.dtype != np.uint8 or white != 255.0:
        planes = np.rint(np.nan_to_num(planes * (255.0 / white)).clip(0, 255)).astype(np.uint8)
    picture = np.moveaxis(planes, 0, -1)
    return _upright(picture if picture.shape[-1] == 3 else picture[..., 0], info), info, white


def _white(colours: Array, peak: float) -> float:
    """White of a picture: its peak, unless its numbers are of another range, such as 12 bits in 16."""
    top = float(np.nanpercentile(colours[..., ::4, ::4], 99.9))
    return peak if 0.2 * peak <= top <= 1.2 * peak else max(top, 1e-6)


def _upright(picture: Array, info: ImageInfo) -> Array:
    from PIL import Image

    exif = Image.Exif()
    try:
        exif.load(info.metadata.exif or b"")
        orientation = exif.get(_ORIENTATION, 1)
    except Exception:  # Pillow raises many kinds on a damaged block, and the picture is good without it
        orientation = 1
    transposed, rows, columns = _UPRIGHT.get(orientation, (False, False, False))
    turned = picture.swapaxes(0, 1) if transposed else picture
    return np.ascontiguousarray(turned[:: -1 if rows else 1, :: -1 if columns else 1])


def _profile(info: ImageInfo) -> bytes | None:
    icc = info.metadata.icc
    return icc if icc and len(icc) <= _MAX_ICC_BYTES else None


def _busiest(picture: Array, side: int) -> tuple[int, int]:
    """Top and left of the square with the most detail."""
    luma = picture[..., 1] if picture.ndim == 3 else picture
    steps = np.abs(np.diff(luma[::2, ::2].astype(np.int16), axis=1)).astype(np.float64)
    sums = np.pad(steps, ((1, 0), (1, 1))).cumsum(axis=0).cumsum(axis=1)
    height, width = picture.shape[:2]
    tops = np.arange(0, max(height - side, 0) + 1, _BLOCK_PX)
    lefts = np.arange(0, max(width - side, 0) + 1, _BLOCK_PX)
    rows, columns = (
        np.minimum(edge, limit - 1)
        for edge, limit in zip(
            (np.stack([tops, tops + side]) // 2, np.stack([lefts, lefts + side]) // 2),
            sums.shape,
            strict=True,
        )
    )
    found = (
        sums[np.ix_(rows[1], columns[1])]
        - sums[np.ix_(rows[0], columns[1])]
        - sums[np.ix_(rows[1], columns[0])]
        + sums[np.ix_(rows[0], columns[0])]
    )
    row, column = np.unravel_index(found.argmax(), found.shape)
    return int(tops[row]), int(lefts[column])
