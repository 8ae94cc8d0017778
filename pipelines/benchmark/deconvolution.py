"""Non-blind deconvolution: an oracle to compare blind models with.

The methods are those of scikit-image. Each gets the true kernel and the true noise level, and an image padded
as the blur padded it: all of them assume a periodic image or a black border, and would ring from every edge.
Their one constant was chosen for the highest mean PSNR on six photographs, over three blurs at three
strengths each, at noise levels 2 and 5; see docs/benchmarks.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from denoise.arrays import Array
from denoise.corruptions import Chain, Corruption
from denoise.corruptions.blur import Blur
from denoise.corruptions.general import Gaussian
from denoise.errors import UsageError

Method = Callable[[Array, Array, float], Array]  # picture (H, W), kernel, sigma in 8-bit units -> (H, W)

FADE_PX = 48
_BLACK = 1e-3  # of full scale: to divide by less gives values without limit


@dataclass(frozen=True)
class Blurred:
    """Kernel and noise level of a blurred image."""

    kernel: Array  # the blur kernel, `(k, k)`, of odd size and sum 1
    sigma: float  # standard deviation of the white noise on top, in 8-bit units

    @classmethod
    def by(cls, noise: Corruption | None, seed: int) -> Blurred:
        """Find the blur that `corrupt` applies with this corruption and seed.

        Raises:
            UsageError: The corruption does not begin with a blur.
        """
        first, *rest = noise.parts if isinstance(noise, Chain) else (noise,)
        if not isinstance(first, Blur):
            raise UsageError(f"{noise or 'none'}: a non-blind method needs a noise that begins with a blur")
        levels = [part.sigma for part in rest if isinstance(part, Gaussian)]
        sigma = np.linalg.norm([level for level in levels if isinstance(level, int | float)])
        return cls(first.kernel(torch.Generator().manual_seed(seed)).numpy(), float(sigma))


def is_non_blind(name: str) -> bool:
    """True for a name in `NON_BLIND`, or its former name, which began with `told-`."""
    return _current(name) in NON_BLIND


def _current(name: str) -> str:
    return re.sub("^told-", "oracle-", name)


def deconvolve(name: str, picture: Array, blur: Blurred) -> Array:
    """Undo a known blur by one of `NON_BLIND`, channel by channel; clip the result to 0..1, which helps.

    Shape:
        `(C, H, W)` in and out, in 0..1.
    """
    method, inside = NON_BLIND[_current(name)], _inside(blur)
    restored = [method(_padded(channel, blur), blur.kernel, blur.sigma)[inside] for channel in picture]
    return np.stack(restored).clip(0, 1).astype(np.float32)


def _inside(blur: Blurred) -> tuple[slice, slice]:
    margin = FADE_PX + len(blur.kernel) // 2
    return slice(margin, -margin), slice(margin, -margin)


def _padded(channel: Array, blur: Blurred) -> Array:
    """Pad an image by its edge pixels by the kernel's radius, then fade to gray; add its noise there."""
    held = np.pad(channel, len(blur.kernel) // 2, mode="edge")
    faded = np.pad(held, FADE_PX, mode="linear_ramp", end_values=float(channel.mean()))
    noise = np.random.default_rng(0).normal(0, blur.sigma / 255, faded.shape)
    noise[_inside(blur)] = 0
    return (faded + noise).astype(np.float32)


def _wiener(picture: Array, kernel: Array, sigma: float) -> Array:
    """Wiener-Hunt deconvolution: the weight of the prior on curvature follows the noise power."""
    from skimage.restoration import wiener

    balance = max(1.5e-3 * sigma**2, 1e-5)
    return wiener(picture, kernel, balance, clip=False)  # type: ignore[no-untyped-call]


def _unsupervised_wiener(picture: Array, kernel: Array, _sigma: float) -> Array:
    """Orieux, Giovannelli and Rodet (2010): noise and prior are sampled along with the image."""
    from skimage.restoration import unsupervised_wiener

    return unsupervised_wiener(picture, kernel, clip=False, rng=0)[0]  # type: ignore[no-untyped-call]


def _richardson_lucy(picture: Array, kernel: Array, sigma: float) -> Array:
    """Richardson (1972) and Lucy (1974); the only regularisation is early stopping."""
    from skimage.restoration import richardson_lucy

    iterations = max(round(70 * max(sigma, 1) ** -1.4), 3)
    return richardson_lucy(  # type: ignore[no-untyped-call]
        picture.clip(min=0), kernel, iterations, clip=False, filter_epsilon=_BLACK
    )


NON_BLIND: Mapping[str, Method] = {
    "oracle-wiener": _wiener,
    "oracle-unsupervised-wiener": _unsupervised_wiener,
    "oracle-richardson-lucy": _richardson_lucy,
}
