"""Which model an image needs, if any, from how noisy and how blurred it seems."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from denoise.estimate.image import blur_px, noise_sigma
from denoise.estimate.jpeg import jpeg_quality
from denoise.models import AUTO_PICKS, build
from denoise.models.base import Denoiser, InputSpec

__all__ = [
    "BLURRED_PX",
    "CLEAR_SIGMA",
    "COARSE_JPEG",
    "FAINT_SIGMA",
    "Automatic",
    "Decision",
    "decide",
    "kept_share",
    "restrain",
]

# 8-bit units. Below FAINT an image is left alone, above CLEAR it is cleaned wholly, between them in part, so
# that no image falls off a cliff. Of the 68 photos of CBSD68, 67 read 0.4 or less as they are, and all 0.6 or
# less as JPEGs of quality 90; with white noise of sigma 2 all read 1.9 or more.
FAINT_SIGMA = 0.8
CLEAR_SIGMA = 1.6

# At this threshold 2 of the same 68 photos pass for blurred as they are; under a Gaussian blur of 1 px 9 of
# 10 do, and at 2 px, or 9 px of motion, nearly all, with noise up to sigma 5.
BLURRED_PX = 0.85
NOISIEST_TO_SHARPEN = 20.0  # 8-bit units: what lies beyond was not in the training of the sharpening model

COARSE_JPEG = 88.0  # quality: what was compressed more has blocks and halos to take away

# 8-bit units. Up to the first an image gives back what is taken beyond its noise, from the second on nothing.
_RESTRAINED_SIGMA = (4.0, 6.0)
_EIGHT_BIT = 255.0
_BAND_ROWS = 256  # rows of an image that are compared at a time
_BLOCK_PX = 16
_BRIGHTNESSES = 6  # ranges of as many blocks each: noise mostly grows with the brightness
_FEWEST_BLOCKS = 8  # in such a range
# Of the blocks of a brightness, this share is taken for flat. The quietest blocks of noise alone hold a tenth
# less than the mean.
_FLAT_SHARE, _FLAT_EXCESS = 0.3, 1.1

_LEAVE, _CLEAN, _SHARPEN = "none", *AUTO_PICKS


@dataclass(frozen=True)
class Decision:
    """What to do to one image, and why.

    Args:
        model: The model to run; `none` leaves the image as it is.
        strength: How much of the model's correction to take: below 1 where an image is only faintly noisy.
        reason: For the user.
        estimated_sigma: Standard deviation of the noise in 8-bit units.
        estimated_blur_px: Blur as the standard deviation of a Gaussian, in pixels; 0 is sharp.
        estimated_jpeg_quality: At which it was compressed; 100 where there is no trace.
    """

    model: str
    strength: float
    reason: str
    estimated_sigma: float
    estimated_blur_px: float
    estimated_jpeg_quality: float = 100.0

    @property
    def figures(self) -> Mapping[str, float]:
        """What was decided by."""
        names = ("estimated_sigma", "estimated_blur_px", "estimated_jpeg_quality")
        return {name: getattr(self, name) for name in names}


def decide(sigma: float, blur_px: float, jpeg_quality: float = 100.0, *, sharpens: bool) -> Decision:
    """The decision for an image of such noise (8-bit units), such blur and such compression.

    Args:
        sigma: Estimated standard deviation of the noise.
        blur_px: Estimated blur.
        jpeg_quality: Estimated quality of the JPEG it was, 100 for none.
        sharpens: Whether there is a model against blur.
    """
    blurred, coarse = blur_px >= BLURRED_PX, jpeg_quality <= COARSE_JPEG
    strength = min(1.0, max(0.0, (sigma - FAINT_SIGMA) / (CLEAR_SIGMA - FAINT_SIGMA)))
    if coarse:
        strength = 1.0
    if blurred and sharpens and sigma <= NOISIEST_TO_SHARPEN:
        model, strength, ending = _SHARPEN, 1.0, ""
    elif not strength:
        model, strength, ending = _LEAVE, 1.0, ": left as it is"
    else:
        model, ending = _CLEAN, f": cleaned by {100 * strength:.0f} %" if strength < 1 else ""
    blur = f"blur of about {blur_px:.1f} px" if blurred else "sharp"
    jpeg = f", JPEG of quality about {jpeg_quality:.0f}" if coarse else ""
    reason = f"{model}: noise of about {sigma:.2g}/255, {blur}{jpeg}{ending}"
    return Decision(model, strength, reason, sigma, blur_px, jpeg_quality)


class Automatic(Denoiser):
    """Runs, on each image, the model that the image needs.

    The decision takes the whole image, so what cuts it into tiles asks for it first: see `decide` and
    `chosen`.

    Args:
        models: Those of `AUTO_PICKS` that there are.
    """

    def __init__(self, models: Mapping[str, Denoiser]) -> None:
        super().__init__()
        self.models = nn.ModuleDict({_LEAVE: build(_LEAVE, "image"), **models})
        multiple_of = math.lcm(*(model.spec.multiple_of for model in models.values()))
        self.spec = InputSpec("image", channels=3, multiple_of=multiple_of, halo=None)

    def decide(self, page: NDArray[Any], peak: float | None) -> Decision:
        """What to do to a picture `(C, H, W)`, alpha left out, whose full scale is `peak`."""
        peak = 1.0 if peak is None else peak
        sharpens = _SHARPEN in self.models
        if page.dtype.kind == "f" and not np.isfinite(page).all():  # not to be judged; cleaning will say so
            return decide(0.0, 0.0, sharpens=sharpens)
        sigma = noise_sigma(page, peak)
        blur = blur_px(page, peak, sigma)
        if sharpens and blur >= BLURRED_PX:
            sharpens = self._model(_SHARPEN).confirms_blur(page, peak)
        return decide(sigma, blur, jpeg_quality(page, peak), sharpens=sharpens)

    def chosen(self, decision: Decision) -> Denoiser:
        """The model that was decided for."""
        return self._model(decision.model)

    def _model(self, name: str) -> Denoiser:
        model: Denoiser = self.models[name]  # type: ignore[assignment]
        return model

    def forward(self, noisy: Tensor) -> Tensor:
        """Decide for each image of the batch, and clean it."""
        return torch.cat([self._one(image[None]) for image in noisy])

    def _one(self, image: Tensor) -> Tensor:
        noisy = image[0].detach().cpu().numpy()
        decision = self.decide(noisy, 1.0)
        removed: Tensor = decision.strength * (image - self.chosen(decision)(image))
        share = kept_share(decision, noisy, (image - removed)[0].detach().cpu().numpy())
        return image - share * removed


def kept_share(decision: Decision, noisy: NDArray[Any], cleaned: NDArray[Any]) -> float:
    """How much of a correction to keep, so that no more is removed than there is noise.

    What is removed from the flat parts of a picture is noise; what is removed beyond that elsewhere, at the
    same brightness, was texture. If all of the noise is in the correction, the share of the noise in its
    power leaves the least error (least squares, texture and noise being independent). Strong noise, which
    hides texture, is removed wholly.

    Shape:
        `(C, H, W)`, both.
    """
    faint, strong = _RESTRAINED_SIGMA
    free = min(1.0, max(0.0, (decision.estimated_sigma - faint) / (strong - faint)))
    if decision.model != _CLEAN or free == 1 or min(noisy.shape[1:]) < _BLOCK_PX:
        return 1.0
    blocks = [_powers(noisy[:, band], cleaned[:, band]) for band in _bands(noisy)]
    power, brightness = np.concatenate(blocks, axis=1)
    if not power.any():
        return 1.0
    edges = np.quantile(brightness, np.linspace(0, 1, _BRIGHTNESSES + 1))
    ranges = [(brightness >= low) & (brightness <= high) for low, high in pairwise(edges)]
    ranges = [some for some in ranges if np.count_nonzero(some) >= _FEWEST_BLOCKS] or [brightness > -np.inf]
    centres = [brightness[some].mean() for some in ranges]
    flat = [_FLAT_EXCESS * np.quantile(power[some], _FLAT_SHARE) for some in ranges]
    noise = np.interp(brightness, centres, flat)
    return free + (1 - free) * min(1.0, float(noise.mean() / power.mean()))


def _powers(noisy: NDArray[Any], cleaned: NDArray[Any]) -> NDArray[np.float64]:
    """Of each block the mean square that was removed from it, and its brightness, `(2, N)`."""
    removed = np.subtract(noisy, cleaned, dtype=np.float64)
    return np.stack([_block_means(np.square(removed)), _block_means(cleaned)])


def _block_means(values: NDArray[Any]) -> NDArray[np.float64]:
    rows, columns = (size // _BLOCK_PX for size in values.shape[1:])
    whole = values[:, : rows * _BLOCK_PX, : columns * _BLOCK_PX]
    blocks = whole.reshape(len(values), rows, _BLOCK_PX, columns, _BLOCK_PX)
    means: NDArray[np.float64] = blocks.mean(axis=(0, 2, 4), dtype=np.float64).ravel()
    return means


def restrain(decision: Decision, noisy: NDArray[Any], cleaned: NDArray[Any]) -> None:
    """Give back to `cleaned`, in place, what was removed beyond the noise that there is.

    Shape:
        `(C, H, W)`, both.
    """
    share = kept_share(decision, noisy, cleaned)
    for band in _bands(noisy) if share < 1 else ():
        part = noisy[:, band] - share * np.subtract(noisy[:, band], cleaned[:, band], dtype=np.float64)
        cleaned[:, band] = part if cleaned.dtype.kind == "f" else np.rint(part)


def _bands(page: NDArray[Any]) -> list[slice]:
    return [slice(top, top + _BAND_ROWS) for top in range(0, page.shape[1], _BAND_ROWS)]
