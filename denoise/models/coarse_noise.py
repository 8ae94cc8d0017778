"""Remove the coarse noise of cameras that a network leaves, by the spectrum that flat parts show.

Noise that a camera smoothed is coarse, and a blind network cannot tell it from faint texture. Flat parts of
the photo contain noise only, so its power at each frequency can be measured there. Soft thresholds relative
to it, in overlapping blocks, then remove what the network left (after Donoho, "De-noising by
soft-thresholding", 1995, and Yu and Sapiro, "DCT image denoising", 2011). Edges and clear texture exceed the
noise by far and stay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.arrays import Array
from denoise.dsp.windows import padded
from denoise.estimate.lens_blur import lens_blur
from denoise.estimate.real_noise import BLOCK_PX, TO_YCC, RealNoise, cosines, real_noise
from denoise.models.base import Denoiser

_STEP_PX = BLOCK_PX // 2
_EIGHT_BIT = 255.0
# As fine as the first, noise is white, and the network removes all of it; from the second on the filter works
# completely. Between, it fades in.
_WHITENESS = (0.5, 0.3)
_MIN_REMOVED, _MAX_REMOVED = 0.6, 12.0  # 8-bit units, in flat parts: JPEG alone; a pattern, not noise
_THRESHOLD = 0.5  # of the standard deviation of the noise; the network removed the rest
_TINY = 1e-6  # of full scale


def coarse_share(noise: RealNoise) -> float:
    """Return how much noise is coarse: 0 for white noise or none, 1 for noise that a camera smoothed."""
    white, coarse = _WHITENESS
    known = _MIN_REMOVED < noise.removed < _MAX_REMOVED
    return float(np.clip((white - noise.whiteness) / (white - coarse), 0, 1)) if known else 0.0


def denoise_crops(network: Denoiser, crops: Array) -> Array:
    """Run a network on crops `(N, 3, side, side)` in 0..1, for `real_noise`."""
    parameter = next(network.parameters(), None)
    batch = torch.from_numpy(crops).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        cleaned = network(batch if parameter is None else batch.to(parameter.device))
    return cleaned.cpu().numpy()


class CoarseNoiseFilter(Denoiser):
    """A network for photos, followed by the filter where the page has coarse noise.

    Shape:
        `(B, 3, H, W)` in and out, in 0..1. Before `prepare` it is the network alone.
    """

    def __init__(self, network: Denoiser) -> None:
        super().__init__()
        self.network, self.precision = network, network.precision
        multiple_of = padded(network.spec.multiple_of, _STEP_PX)
        halo = padded((network.spec.halo or 0) + BLOCK_PX, multiple_of)
        self.spec = replace(network.spec, halo=halo, multiple_of=multiple_of)

    def prepare(self, page: Array, peak: float) -> Denoiser:
        """Measure the noise of a page, and return the denoiser for its tiles.

        Texture behind a lens out of focus is as coarse as such noise, so the network cleans it alone.
        """
        if lens_blur(page, peak):
            return self.network
        network = self.network.eval()
        noise = real_noise(page, peak, lambda crops: denoise_crops(network, crops))
        share = coarse_share(noise)
        return _Prepared(self, share * np.sqrt(noise.power) / _EIGHT_BIT) if share else self.network

    def forward(self, noisy: Tensor) -> Tensor:
        """Run the network alone."""
        return self.network(noisy)


class _Prepared(Denoiser):
    """Network and filter for the tiles of one page."""

    def __init__(self, whole: CoarseNoiseFilter, deviation: Array) -> None:
        super().__init__()
        self.network, self.spec = whole.network, whole.spec
        self._deviation = torch.from_numpy(deviation.astype(np.float32))

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch."""
        cleaned = self.network(noisy)
        with torch.autocast(noisy.device.type, enabled=False):
            return shrink(cleaned.float(), self._deviation.to(cleaned.device))


def shrink(picture: Tensor, deviation: Tensor) -> Tensor:
    """Remove noise of a known spectrum from a picture, in overlapping blocks.

    Args:
        picture: What a network made of the noisy picture.
        deviation: Standard deviation of each cosine coefficient of the noise before the network, for luma
            and two chroma planes.

    Shape:
        `(B, 3, H, W)`, both sides multiples of 8 above 8; `deviation` `(3, 16, 16)`.
    """
    to_ycc = torch.as_tensor(TO_YCC).to(picture)
    basis = torch.as_tensor(cosines()).to(picture)
    height, width = picture.shape[2:]
    planes = torch.einsum("ij,bjhw->bihw", to_ycc, F.pad(picture, (_STEP_PX,) * 4, mode="reflect"))
    total, weights = torch.zeros_like(planes), torch.zeros_like(planes)
    for top in (0, _STEP_PX):
        for left in (0, _STEP_PX):
            rows, columns = (
                (side + 2 * _STEP_PX - first) // BLOCK_PX * BLOCK_PX
                for side, first in ((height, top), (width, left))
            )
            part = (..., slice(top, top + rows), slice(left, left + columns))
            filtered, weight = _filter_blocks(planes[part], _THRESHOLD * deviation, basis)
            total[part] += filtered
            weights[part] += weight
    inner = (..., slice(_STEP_PX, _STEP_PX + height), slice(_STEP_PX, _STEP_PX + width))
    return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(to_ycc), total[inner] / weights[inner])


def _filter_blocks(planes: Tensor, threshold: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Filter blocks side by side; returns them times their weights, and the weights.

    The fewer coefficients a block keeps, the less noise is left in it, and the more it counts.
    """
    batch, channels, height, width = planes.shape
    blocks = planes.reshape(batch, channels, height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
    blocks = blocks.transpose(3, 4)  # (B, 3, rows, columns, 16, 16)
    values = basis @ blocks @ basis.T
    gain = (1 - threshold[:, None, None] / values.abs().clamp_(min=_TINY)).clamp_(min=0)
    gain[..., 0, 0] = 1  # the mean stays
    weight = 1 / gain.square().sum((-2, -1), keepdim=True)
    filtered = basis.T @ (values * gain) @ basis * weight
    flat = (batch, channels, height, width)
    return (filtered.transpose(3, 4).reshape(flat), weight.expand_as(filtered).transpose(3, 4).reshape(flat))
