"""Measure what fewer bits cost a network for images, and the ranges of its 8-bit blocks, for its card."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denoise import io, weights
from denoise.arrays import Array
from denoise.corruptions.spec import parse
from denoise.errors import UsageError
from denoise.machine import has_bf16
from denoise.metrics import mse
from denoise.models.base import Denoiser
from denoise.models.reduced import block_ranges, has_blocks, in_bf16, in_int8
from denoise.training.data import files_below

_RANGE_LEVELS = (0.0, 3.0, 8.0, 15.0, 25.0, 50.0, 75.0)  # sigma on the 8-bit scale, in turns
# White noise proves little: of photos that have hardly any noise, int8 may take several dB less.
_LOSS_NOISES = (
    "gaussian:sigma=2.5",
    "gaussian:sigma=5",
    "gaussian:sigma=15",
    "gaussian:sigma=25",
    "gaussian:sigma=50",
    "correlated:sigma=5,width_px=2",
    "in-camera:iso=1600+jpeg:quality=92",
)
REAL_PAIRS = "real pairs"
_SIDE_PX = 320  # of the middle of a photo, at most
_DIGITS = 4


def calibrate(path: Path, data: Path, judge: Path, pairs: Path | None = None) -> dict[str, Any]:
    """Write the entry `precision` of a card: the ranges of int8, and the loss in PSNR of int8 and bf16.

    The loss is the PSNR in float32 minus that in fewer bits, for white, smoothed and camera noise: the mean
    over the photos, and that of the photo that loses most. It is measured in the arithmetic of this CPU.

    Args:
        path: Weights file of a network for images; its card is rewritten.
        data: Folder of clean photos to take the ranges from.
        judge: Folder of other clean photos to measure the loss on.
        pairs: Folder with `clean/` and `noisy/`, photos of the same names, to measure it on too.

    Raises:
        UsageError: The network has no blocks that int8 replaces, or a folder holds no photos.
    """
    network = weights.load(path)[0].eval()
    if not has_blocks(network):
        raise UsageError(
            f"{path}: int8 needs a convolutional autoencoder of images with relu and without bias"
        )
    photos, judged = photos_below(data), photos_below(judge)
    generator = torch.Generator().manual_seed(0)
    multiple_of = network.spec.multiple_of
    noisy = [
        with_noise(middle(photo, multiple_of), _RANGE_LEVELS[i % len(_RANGE_LEVELS)], generator)
        for i, photo in enumerate(photos)
    ]
    ranges = [
        [[round(x, _DIGITS) for x in channels] for channels in both] for both in block_ranges(network, noisy)
    ]
    variants = {"bf16": in_bf16(network), "int8": in_int8(network, ranges, bf16=has_bf16())}
    real = list(_pairs_below(pairs, multiple_of)) if pairs else []
    facts = _losses(network, variants, [middle(photo, multiple_of) for photo in judged], real)
    facts["int8"]["ranges"] = ranges
    weights.annotate(path, {"precision": facts})
    return facts


def _losses(
    network: Denoiser,
    variants: dict[str, Denoiser],
    photos: Sequence[Tensor],
    real: Sequence[tuple[Tensor, Tensor]],
) -> dict[str, dict[str, Any]]:
    """Return `loss_db`, the mean, and `worst_db` of a photo, by noise, for each variant."""
    found: dict[str, dict[str, Any]] = {name: {"loss_db": {}, "worst_db": {}} for name in variants}
    for noise in (*_LOSS_NOISES, *[REAL_PAIRS] * bool(real)):
        generator = torch.Generator().manual_seed(1)
        corruption = None if noise == REAL_PAIRS else parse(noise)
        cases = ((clean, corruption(clean, generator)) for clean in photos) if corruption else real
        lost: dict[str, list[float]] = {name: [] for name in variants}
        for clean, noisy in cases:
            batch = noisy.contiguous(memory_format=torch.channels_last)
            with torch.inference_mode():
                exact = _psnr_db(clean, network(batch))
                for name, variant in variants.items():
                    lost[name].append(exact - _psnr_db(clean, variant(batch)))
        for name, values in lost.items():
            found[name]["loss_db"][noise] = round(sum(values) / len(values), _DIGITS)
            found[name]["worst_db"][noise] = round(max(values), _DIGITS)
    return found


def _psnr_db(clean: Tensor, result: Tensor) -> float:
    return -10 * math.log10(mse(clean[0].numpy(), result[0].numpy()))


def with_noise(clean: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Add white noise of a level on the 8-bit scale."""
    noisy = clean + torch.randn(clean.shape, generator=generator) * (sigma / 255)
    return noisy.contiguous(memory_format=torch.channels_last)


def photos_below(folder: Path) -> list[Path]:
    """List the photos of a folder.

    Raises:
        UsageError: There are none.
    """
    if not (found := files_below(folder, ("**/*",), "image")):
        raise UsageError(f"{folder}: holds no photos; expected some to measure on")
    return found


def _pairs_below(folder: Path, multiple_of: int) -> Iterator[tuple[Tensor, Tensor]]:
    for clean in photos_below(folder / "clean"):
        noisy = folder / "noisy" / clean.relative_to(folder / "clean")
        yield middle(clean, multiple_of), middle(noisy, multiple_of)


def middle(path: Path, multiple_of: int, side_px: int = _SIDE_PX) -> Tensor:
    """Read the middle of a photo as `(1, 3, H, W)` in 0..1, its sides multiples of what the network takes."""
    with io.reader(path) as pages:
        info = pages.info
        page: Array = next(iter(pages))
    colours = page[: page.shape[0] - info.passthrough_channels]
    values = torch.from_numpy(np.divide(colours, info.peak or 1.0, dtype=np.float32))
    height, width = (min(side_px, side) // multiple_of * multiple_of for side in values.shape[1:])
    top, left = (values.shape[1] - height) // 2, (values.shape[2] - width) // 2
    part = values[:, top : top + height, left : left + width]
    return (part.expand(3, -1, -1) if len(part) == 1 else part)[None]
