"""Which model an image needs, if any, from how noisy and how blurred it seems."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from denoise.estimate.image import blur_px, noise_sigma
from denoise.models import AUTO_PICKS, build
from denoise.models.base import Denoiser, InputSpec

__all__ = ["BLURRED_PX", "CLEAR_SIGMA", "FAINT_SIGMA", "Automatic", "Decision", "decide", "restrain"]

# 8-bit units. Below FAINT an image is left alone, above CLEAR it is cleaned wholly, between them in part, so
# that no image falls off a cliff. Of the 68 photos of CBSD68, 67 read 0.4 or less as they are, and all 0.6 or
# less as JPEGs of quality 90; with white noise of sigma 2 all read 1.9 or more.
FAINT_SIGMA = 0.8
CLEAR_SIGMA = 1.6

# At this threshold 2 of the same 68 photos pass for blurred as they are; under a Gaussian blur of 1 px 9 of
# 10 do, and at 2 px, or 9 px of motion, nearly all, with noise up to sigma 5.
BLURRED_PX = 0.85
NOISIEST_TO_SHARPEN = 20.0  # 8-bit units: what lies beyond was not in the training of the sharpening model

# 8-bit units. Up to the first an image gives back what is taken beyond its noise, from the second on nothing.
_RESTRAINED_SIGMA = (4.0, 6.0)
_EIGHT_BIT = 255.0
_BAND_ROWS = 256  # rows of an image that are compared at a time

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
    """

    model: str
    strength: float
    reason: str
    estimated_sigma: float
    estimated_blur_px: float

    @property
    def figures(self) -> Mapping[str, float]:
        """What was decided by."""
        return {"estimated_sigma": self.estimated_sigma, "estimated_blur_px": self.estimated_blur_px}

    def share(self, removed_sigma: float) -> float:
        """How much to keep of a correction of that root mean square (8-bit units).

        Against faint noise a good correction is no larger than it. A larger one took texture along; if all of
        the noise is in it, this share leaves the least error (least squares, texture and noise being
        independent). Strong noise that depends on the brightness is underestimated: what exceeds it is noise.
        """
        if self.model != _CLEAN or removed_sigma <= self.estimated_sigma:
            return 1.0
        faint, strong = _RESTRAINED_SIGMA
        free = min(1.0, max(0.0, (self.estimated_sigma - faint) / (strong - faint)))
        return free + (1 - free) * (self.estimated_sigma / removed_sigma) ** 2


def decide(sigma: float, blur_px: float, *, sharpens: bool) -> Decision:
    """The decision for an image of such noise (8-bit units) and such blur.

    Args:
        sigma: Estimated standard deviation of the noise.
        blur_px: Estimated blur.
        sharpens: Whether there is a model against blur.
    """
    blurred = blur_px >= BLURRED_PX
    strength = min(1.0, max(0.0, (sigma - FAINT_SIGMA) / (CLEAR_SIGMA - FAINT_SIGMA)))
    if blurred and sharpens and sigma <= NOISIEST_TO_SHARPEN:
        model, strength, ending = _SHARPEN, 1.0, ""
    elif not strength:
        model, strength, ending = _LEAVE, 1.0, ": left as it is"
    else:
        model, ending = _CLEAN, f": cleaned by {100 * strength:.0f} %" if strength < 1 else ""
    blur = f"blur of about {blur_px:.1f} px" if blurred else "sharp"
    return Decision(
        model, strength, f"{model}: noise of about {sigma:.2g}/255, {blur}{ending}", sigma, blur_px
    )


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
        return decide(sigma, blur, sharpens=sharpens)

    def chosen(self, decision: Decision) -> Denoiser:
        """The model that was decided for."""
        return self._model(decision.model)

    def _model(self, name: str) -> Denoiser:
        model: Denoiser = self.models[name]  # type: ignore[assignment]
        return model

    def forward(self, noisy: Tensor, sigma: float | None = None) -> Tensor:  # noqa: ARG002
        """Decide for each image of the batch, and clean it; `sigma` is not used."""
        return torch.cat([self._one(image[None]) for image in noisy])

    def _one(self, image: Tensor) -> Tensor:
        decision = self.decide(np.asarray(image[0].detach().cpu()), 1.0)
        removed: Tensor = image - self.chosen(decision)(image)
        share = decision.share(_EIGHT_BIT * float(removed.square().mean().sqrt()))
        return image - decision.strength * share * removed


def restrain(
    decision: Decision, noisy: NDArray[Any], cleaned: NDArray[Any], peak: float, strength: float
) -> None:
    """Give back to `cleaned`, in place, what was removed beyond the noise that there is.

    Args:
        decision: The decision on the image, by which it was cleaned.
        noisy: The image.
        cleaned: What became of it.
        peak: The value that means full scale.
        strength: How much of the correction `cleaned` holds.

    Shape:
        `(C, H, W)`, both.
    """
    if decision.model != _CLEAN or not strength:
        return
    bands = [slice(top, top + _BAND_ROWS) for top in range(0, noisy.shape[1], _BAND_ROWS)]
    squares = sum(float(np.square(_removed(noisy, cleaned, band)).sum()) for band in bands)
    share = decision.share(_EIGHT_BIT / peak / strength * math.sqrt(squares / noisy.size))
    for band in bands if share < 1 else ():
        part = noisy[:, band] - share * _removed(noisy, cleaned, band)
        cleaned[:, band] = part if cleaned.dtype.kind == "f" else np.rint(part)


def _removed(noisy: NDArray[Any], cleaned: NDArray[Any], rows: slice) -> NDArray[np.float64]:
    removed: NDArray[np.float64] = np.subtract(noisy[:, rows], cleaned[:, rows], dtype=np.float64)
    return removed
