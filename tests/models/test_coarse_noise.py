"""The filter for noise that a camera smoothed."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from skimage import data

from denoise.corruptions import corrupt, parse
from denoise.estimate.real_noise import cosines
from denoise.infer.apply import apply
from denoise.models.base import Denoiser, InputSpec
from denoise.models.coarse_noise import CoarseNoiseFilter, shrink

Array = NDArray[Any]


class Gentle(Denoiser):
    """A network that removes half of all detail of five pixels."""

    spec = InputSpec("image", channels=3, multiple_of=8, halo=8)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        padded = torch.nn.functional.pad(noisy, (2, 2, 2, 2), mode="replicate")
        return (noisy + torch.nn.functional.avg_pool2d(padded, 5, 1)) / 2


def scene(size: tuple[int, int] = (200, 168)) -> Array:
    picture = np.tile(np.linspace(0.2, 0.6, size[1]), (3, size[0], 1))
    picture[:, 60:120, 50:90] = 0.85
    return picture


def coarse(size: tuple[int, int] = (200, 168), sigma: float = 4.0, width_px: float = 1.5) -> Array:
    drawn = np.random.default_rng(2).normal(size=(3, *size))
    drawn = ndimage.gaussian_filter(drawn, (0, width_px, width_px)) if width_px else drawn
    return drawn * (sigma / 255 / drawn.std())


def rms(values: Array) -> float:
    return 255 * float(np.sqrt(np.square(values).mean()))


def test_the_cosines_are_those_of_the_transform() -> None:
    assert cosines() == pytest.approx(fft.dct(np.eye(16), axis=0, norm="ortho"), abs=1e-6)


def test_coarse_noise_that_the_network_left_is_removed_and_edges_stay() -> None:
    clean = scene()
    noisy = clean + coarse()
    alone, filtered = (apply(model, noisy, peak=1.0) for model in (Gentle(), CoarseNoiseFilter(Gentle())))
    flat = (slice(None), slice(130, 190), slice(20, 150))
    assert rms((filtered - clean)[flat]) < 0.8 * rms((alone - clean)[flat])
    inside = (slice(None), slice(60, 120), slice(50, 90))
    assert rms((filtered - clean)[inside]) <= rms((alone - clean)[inside])


@pytest.mark.parametrize(("sigma", "width_px"), [(4.0, 0.0), (0.0, 1.0)])
def test_white_noise_and_clean_pictures_are_left_to_the_network(sigma: float, width_px: float) -> None:
    noisy = scene() + coarse(sigma=sigma, width_px=width_px)
    alone, filtered = (apply(model, noisy, peak=1.0) for model in (Gentle(), CoarseNoiseFilter(Gentle())))
    assert np.array_equal(alone, filtered)


def test_texture_behind_a_lens_out_of_focus_is_left_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    gravel = np.repeat(data.gravel()[None, :256, :256], 3, 0).astype(np.float32) / 255
    soft = corrupt(gravel, parse("defocus:radius_px=4+gaussian:sigma=1"), seed=0, peak=1.0)
    alone = apply(Gentle(), soft, peak=1.0)
    assert np.array_equal(apply(CoarseNoiseFilter(Gentle()), soft, peak=1.0), alone)
    monkeypatch.setattr("denoise.models.coarse_noise.lens_blur", lambda *_: None)
    assert not np.array_equal(apply(CoarseNoiseFilter(Gentle()), soft, peak=1.0), alone)


def test_tiles_equal_the_whole() -> None:
    noisy = scene() + coarse()
    model = CoarseNoiseFilter(Gentle())
    tiled = apply(model, noisy, peak=1.0, tile=56)
    assert tiled == pytest.approx(apply(model, noisy, peak=1.0), abs=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (24, 40)])
def test_without_noise_a_picture_stays(size: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(shrink(picture, torch.zeros(3, 16, 16)), picture, atol=1e-5)
    mean = shrink(picture, torch.full((3, 16, 16), 1e6))
    assert mean.mean((2, 3)) == pytest.approx(picture.mean((2, 3)).numpy(), abs=0.05)
    assert mean.std() < picture.std() / 2
