"""The mean of two networks on noise that a camera smoothed."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from denoise.infer.apply import apply
from denoise.models.base import Denoiser, InputSpec
from denoise.models.network_mean import NetworkMean

Array = NDArray[Any]


class Box(Denoiser):
    """A network that takes means over squares."""

    def __init__(self, side: int, halo: int, multiple_of: int) -> None:
        super().__init__()
        self.side = side
        self.spec = InputSpec("image", channels=3, multiple_of=multiple_of, halo=halo)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(noisy, (self.side // 2,) * 4, mode="replicate")
        return torch.nn.functional.avg_pool2d(padded, self.side, 1)


NARROW, WIDE = Box(5, 8, 8), Box(17, 12, 6)


def page(sigma: float, width_px: float) -> Array:
    picture = np.tile(np.linspace(0.2, 0.6, 192), (3, 240, 1))
    picture[:, 60:120, 50:90] = 0.85
    drawn = np.random.default_rng(2).normal(size=picture.shape)
    drawn = ndimage.gaussian_filter(drawn, (0, width_px, width_px)) if width_px else drawn
    return picture + drawn * (sigma / 255 / drawn.std())


@pytest.mark.parametrize(("sigma", "width_px"), [(4.0, 0.0), (0.3, 1.5), (60.0, 1.5)])
def test_white_noise_traces_and_patterns_are_left_to_the_network(sigma: float, width_px: float) -> None:
    noisy = page(sigma, width_px)
    assert np.array_equal(apply(NetworkMean(NARROW, WIDE), noisy, peak=1.0), apply(NARROW, noisy, peak=1.0))


def test_on_smoothed_noise_both_networks_count_alike() -> None:
    noisy = page(4.0, 1.5)
    mean = (apply(NARROW, noisy, peak=1.0) + apply(WIDE, noisy, peak=1.0)) / 2
    assert apply(NetworkMean(NARROW, WIDE), noisy, peak=1.0) == pytest.approx(mean, abs=1e-6)


def test_tiles_equal_the_whole() -> None:
    noisy, model = page(4.0, 1.5), NetworkMean(NARROW, WIDE)
    assert apply(model, noisy, peak=1.0, tile=56) == pytest.approx(apply(model, noisy, peak=1.0), abs=1e-6)
