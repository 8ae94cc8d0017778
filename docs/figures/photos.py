"""Sheet of docs/photos.md: twelve pictures before and after `auto`, each with a crop at 200 %.

    python docs/figures/photos.py docs/figures/photos.jpg

The pictures come with scikit-image. Page, deep field and clock are shown as they are; to the other photos the
noise, blur or compression of the caption is added. The night sky and the screenshot are drawn here.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import denoise
from denoise.corruptions import corrupt, parse

Array = NDArray[Any]

CROP_PX, ZOOM, GAP_PX, LINE_PX, TEXT_PX, COLUMNS = 96, 2, 8, 17, 13, 3
PAPER, INK = (24, 24, 24), (220, 220, 220)


def cut(image: Array, top: int, left: int, side: int = 288) -> Array:
    """Cut a square; gray becomes three equal channels."""
    part = image[top : top + side, left : left + side]
    return np.stack([part] * 3, -1) if part.ndim == 2 else part[..., :3]


def with_noise(image: Array, spec: str) -> Array:
    planes = np.moveaxis(image, -1, 0).astype(np.float32) / 255
    noisy = corrupt(planes, parse(spec), seed=1, peak=1.0)
    return np.rint(255 * np.moveaxis(noisy, 0, -1).clip(0, 1)).astype(np.uint8)


def as_jpeg(image: Array, quality: int) -> Array:
    coded = io.BytesIO()
    Image.fromarray(image).save(coded, "JPEG", quality=quality)
    return np.asarray(Image.open(coded))


def night() -> Array:
    """Stars of several sizes over noise, and hot pixels."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:288, :288]
    sky = np.full((288, 288, 3), 18.0)
    for _ in range(120):
        row, column, width = *rng.uniform(0, 288, 2), rng.uniform(0.8, 1.3)
        height = 10 ** rng.uniform(1.2, 2.5) * rng.uniform(0.8, 1, 3)
        sky += height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * width**2))[..., None]
    sky += rng.normal(0, 7, sky.shape)
    hot = rng.integers(0, 288, (2, 90))
    sky[hot[0], hot[1], rng.integers(0, 3, 90)] = rng.uniform(120, 255, 90)
    return np.rint(sky.clip(0, 255)).astype(np.uint8)


def screenshot() -> Array:
    sheet = Image.new("RGB", (288, 288), (246, 246, 246))
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((0, 0, 288, 22), (52, 101, 164))
    for line in range(14):
        text = "Noise of about 4/255, not blurred: cleaned by photo"[line % 5 :]
        draw.text((10, 32 + 18 * line), text, (30, 30, 30), ImageFont.load_default(12))
    return np.asarray(sheet)


# Caption, the picture, and top and left of its crop.
CASES: list[tuple[str, Callable[[], Array], tuple[int, int]]] = [
    (
        "camera, ISO 6400",
        lambda: with_noise(cut(skimage.data.chelsea(), 0, 80), "in-camera:iso=6400"),
        (70, 40),
    ),
    (
        "camera, ISO 12800, JPEG 92",
        lambda: as_jpeg(with_noise(cut(skimage.data.rocket(), 60, 200), "in-camera:iso=12800"), 92),
        (60, 80),
    ),
    (
        "raw noise, ISO 3200",
        lambda: with_noise(cut(skimage.data.astronaut(), 0, 120), "camera:iso=3200"),
        (60, 60),
    ),
    (
        "white noise, sigma 25",
        lambda: with_noise(cut(skimage.data.coffee(), 60, 150), "gaussian:sigma=25"),
        (60, 90),
    ),
    (
        "JPEG of quality 25",
        lambda: as_jpeg(cut(skimage.data.stereo_motorcycle()[0], 100, 200), 25),
        (100, 90),
    ),
    ("night sky, hot pixels", night, (90, 90)),
    ("clean photo", lambda: as_jpeg(cut(skimage.data.coffee(), 60, 150), 95), (60, 90)),
    ("screenshot", screenshot, (0, 0)),
    ("page of a book, photographed", lambda: cut(skimage.data.page(), 0, 60, 190), (60, 60)),
    ("deep field, as published", lambda: cut(skimage.data.hubble_deep_field(), 300, 500), (90, 60)),
    (
        "out of focus, radius 3 px",
        lambda: with_noise(cut(skimage.data.chelsea(), 0, 80), "defocus:radius_px=3+gaussian:sigma=1"),
        (70, 40),
    ),
    ("clock in motion", lambda: cut(skimage.data.clock(), 0, 60), (90, 90)),
]


def sheet(cleaner: denoise.Cleaner) -> Image.Image:
    """Draw all cases."""
    pair = 2 * CROP_PX * ZOOM + 2
    height = CROP_PX * ZOOM + 2 * LINE_PX + GAP_PX
    rows = -(-len(CASES) // COLUMNS)
    drawn = Image.new("RGB", (COLUMNS * (pair + GAP_PX) + GAP_PX, rows * height + GAP_PX), PAPER)
    draw, font = ImageDraw.Draw(drawn), ImageFont.load_default(TEXT_PX)
    for number, (caption, make, (top, left)) in enumerate(CASES):
        before = np.ascontiguousarray(make())
        after, selection = cleaner.apply(np.moveaxis(before, -1, 0), peak=255.0)
        used = selection.model if selection.model != "none" else "left as it is"
        print(f"{caption}: {selection.reason}")
        x, y = GAP_PX + number % COLUMNS * (pair + GAP_PX), GAP_PX + number // COLUMNS * height
        draw.text((x, y), f"{caption}: {used}", INK, font)
        for side, image in enumerate((before, np.moveaxis(after, 0, -1))):
            crop = Image.fromarray(np.ascontiguousarray(image[top : top + CROP_PX, left : left + CROP_PX]))
            shown = crop.resize((CROP_PX * ZOOM, CROP_PX * ZOOM), Image.Resampling.NEAREST)
            drawn.paste(shown, (x + side * (CROP_PX * ZOOM + 2), y + LINE_PX + 4))
    return drawn


if __name__ == "__main__":
    sheet(denoise.load("auto", "image")).save(Path(sys.argv[1]), quality=90, subsampling=0)
