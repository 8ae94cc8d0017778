"""Deconvolution that is told the blur: what a blind model is held against, and nobody has in practice.

The methods are those of scikit-image. Each gets the true kernel and the true noise level, and a picture that
is continued beyond its edges as the blur continued it: all of them take the picture to be periodic or to end
in black, and would ring from every edge. Their one constant was chosen for the highest mean PSNR on six
photographs, over three blurs at three strengths each, at the noise levels of 2 and 5; see docs/benchmarks.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from denoise.corruptions import Chain, Corruption
from denoise.corruptions.blur import Blur
from denoise.corruptions.general import Gaussian
from denoise.errors import UsageError

__all__ = ["TOLD", "Blurred", "deconvolve"]

Array = NDArray[Any]
Method = Callable[[Array, Array, float], Array]  # picture (H, W), kernel, sigma in 8-bit units -> (H, W)

FADE_PX = 48


@dataclass(frozen=True)
class Blurred:
    """The truth about a blurred picture.

    Args:
        kernel: What it was convolved with, `(k, k)`, of odd size and sum 1.
        sigma: Standard deviation of the white noise on top, in 8-bit units.
    """

    kernel: Array
    sigma: float

    @classmethod
    def by(cls, noise: Corruption | None, seed: int) -> Blurred:
        """What `corrupt` does with this corruption and seed.

        Raises:
            UsageError: It does not begin with a blur.
        """
        first, *rest = noise.parts if isinstance(noise, Chain) else (noise,)
        if not isinstance(first, Blur):
            raise UsageError(f"{noise or 'none'}: a method that is told the blur needs one to begin with")
        levels = [part.sigma for part in rest if isinstance(part, Gaussian)]
        sigma = np.linalg.norm([level for level in levels if isinstance(level, int | float)])
        return cls(first.kernel(torch.Generator().manual_seed(seed)).numpy(), float(sigma))


def deconvolve(name: str, picture: Array, truth: Blurred) -> Array:
    """Undo a known blur by one of `TOLD`, channel by channel; the result is clipped to 0..1, which helps.

    Shape:
        `(C, H, W)` in and out, in 0..1.
    """
    inside = _inside(truth)
    restored = [
        TOLD[name](_continued(channel, truth), truth.kernel, truth.sigma)[inside] for channel in picture
    ]
    clipped: Array = np.stack(restored).clip(0, 1).astype(np.float32)
    return clipped


def _inside(truth: Blurred) -> tuple[slice, slice]:
    margin = FADE_PX + len(truth.kernel) // 2
    return slice(margin, -margin), slice(margin, -margin)


def _continued(channel: Array, truth: Blurred) -> Array:
    """A picture with its edge pixels continued as far as the blur looks, then faded to one gray.

    The margin has the noise of the picture, so that a method which measures it is not misled.
    """
    held = np.pad(channel, len(truth.kernel) // 2, mode="edge")
    faded = np.pad(held, FADE_PX, mode="linear_ramp", end_values=float(channel.mean()))
    noise = np.random.default_rng(0).normal(0, truth.sigma / 255, faded.shape)
    noise[_inside(truth)] = 0
    continued: Array = (faded + noise).astype(np.float32)
    return continued


def _wiener(picture: Array, kernel: Array, sigma: float) -> Array:
    """Wiener-Hunt: the balance of the prior on curvature follows the noise power."""
    from skimage.restoration import wiener

    balance = max(1.5e-3 * sigma**2, 1e-5)
    restored: Array = wiener(picture, kernel, balance, clip=False)  # type: ignore[no-untyped-call]
    return restored


def _unsupervised_wiener(picture: Array, kernel: Array, sigma: float) -> Array:  # noqa: ARG001
    """Orieux, Giovannelli and Rodet (2010): noise and prior are sampled along with the picture."""
    from skimage.restoration import unsupervised_wiener

    restored: Array = unsupervised_wiener(picture, kernel, clip=False, rng=0)[0]  # type: ignore[no-untyped-call]
    return restored


def _richardson_lucy(picture: Array, kernel: Array, sigma: float) -> Array:
    """Richardson (1972) and Lucy (1974); to stop early is all the regularisation there is."""
    from skimage.restoration import richardson_lucy

    iterations = max(round(70 * max(sigma, 1) ** -1.4), 3)
    positive = picture.clip(min=0)
    restored: Array = richardson_lucy(positive, kernel, iterations, clip=False)  # type: ignore[no-untyped-call]
    return restored


TOLD: Mapping[str, Method] = MappingProxyType(
    {
        "told-wiener": _wiener,
        "told-unsupervised-wiener": _unsupervised_wiener,
        "told-richardson-lucy": _richardson_lucy,
    }
)
