"""Mean of two networks for photos, on noise that a camera smoothed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from denoise.arrays import Array
from denoise.estimate.real_noise import RealNoise, real_noise
from denoise.models.base import Denoiser

# As fine as the first, noise is white, and the main network alone is best; from the second on both count
# alike. Between, the other one fades in.
_WHITENESS = (0.5, 0.3)
_MIN_REMOVED, _MAX_REMOVED = 0.6, 12.0  # 8-bit units, in flat parts: JPEG alone; a pattern, not noise


def smoothed_share(noise: RealNoise) -> float:
    """Return how much noise is smoothed: 0 for white noise or none, 1 for that of a camera's JPEG."""
    white, smoothed = _WHITENESS
    known = _MIN_REMOVED < noise.removed < _MAX_REMOVED
    return float(np.clip((white - noise.whiteness) / (white - smoothed), 0, 1)) if known else 0.0


class NetworkMean(Denoiser):
    """A network, and its mean with another one where a camera smoothed the noise.

    On such noise the errors of the two differ, and neither is better on every photo.

    Args:
        network: The better one on white noise.
        other: Also measures the noise of the page.

    Shape:
        `(B, 3, H, W)` in and out, in 0..1. Before `prepare` it is `network` alone.
    """

    def __init__(self, network: Denoiser, other: Denoiser, share: float = 0.0) -> None:
        super().__init__()
        self.network, self.other, self.share = network, other, share
        self.precision = network.precision
        multiple_of = math.lcm(network.spec.multiple_of, other.spec.multiple_of)
        halo = max(network.spec.halo or 0, other.spec.halo or 0)
        self.spec = replace(network.spec, halo=-(-halo // multiple_of) * multiple_of, multiple_of=multiple_of)

    def prepare(self, page: Array, peak: float) -> Denoiser:
        """Measure the noise of a page, and return the denoiser for its tiles."""
        other = self.other.eval()
        share = smoothed_share(real_noise(page, peak, other.run))
        return NetworkMean(self.network, other, share).eval() if share else self.network

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch."""
        cleaned: Tensor = self.network(noisy)
        return torch.lerp(cleaned, self.other(noisy), self.share / 2) if self.share else cleaned
