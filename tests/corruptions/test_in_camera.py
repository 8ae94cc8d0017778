"""Noise of a photo as the camera stores it."""

import pytest
import torch
from torch import Tensor

from denoise.corruptions.in_camera import DEMOSAIC, hamilton_adams
from denoise.corruptions.spec import parse


def noise(spec: str, photo: Tensor, seed: int = 0) -> Tensor:
    return parse(spec)(photo, torch.Generator().manual_seed(seed)) - photo


def gray(level: float, items: int = 4) -> Tensor:
    return torch.full((items, 3, 96, 96), level)


def lag(x: Tensor, step: int) -> float:
    x = x - x.mean((2, 3), keepdim=True)
    return float((x[..., step:] * x[..., :-step]).mean() / x.square().mean())


def test_every_octave_of_iso_is_as_likely() -> None:
    faint = [float(noise("in-camera:iso=100..25600", gray(0.4, 1), s).std()) for s in range(60)]
    below, above = sorted(faint)[6], sorted(faint)[53]
    assert above > 6 * below


def test_noise_grows_with_iso() -> None:
    levels = [
        float(noise(f"in-camera:iso={iso},reduction=0", gray(0.4, 16)).std()) for iso in (100, 1600, 25600)
    ]
    assert levels[0] < levels[1] / 2 < levels[2] / 4


def test_noise_reduction_leaves_coarse_noise() -> None:
    raw, reduced = (noise(f"in-camera:iso=6400,reduction={r},blotches=0", gray(0.4, 16)) for r in (0, 1))
    assert lag(reduced.mean(1, keepdim=True), 2) > lag(raw.mean(1, keepdim=True), 2) + 0.15


def test_chroma_is_coarser_than_luma() -> None:
    found = noise("in-camera:iso=6400,reduction=0.7", gray(0.4, 16))
    assert lag(found[:, :1] - found[:, 1:2], 3) > lag(found.mean(1, keepdim=True), 3) + 0.2


def test_a_gray_photo_stays_gray() -> None:
    photo = torch.full((2, 1, 64, 64), 0.5)
    found = noise("in-camera:iso=6400", photo)
    assert found.shape == photo.shape
    assert float(found.std()) > 0


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (33, 31)])
def test_any_size(size: tuple[int, int]) -> None:
    for seed in range(4):
        assert noise("in-camera", torch.rand(2, 3, *size), seed).isfinite().all()


def test_black_and_white_stay_finite() -> None:
    photo = torch.zeros(4, 3, 48, 48)
    photo[..., 24:] = 1
    for seed in range(20):
        assert noise("in-camera:iso=25600+jpeg:quality=80", photo, seed).isfinite().all()


def test_directed_demosaicing_keeps_a_flat_colour_and_a_gray_edge() -> None:
    assert len(DEMOSAIC) >= 3
    flat = torch.full((1, 1, 24, 24), 0.3)
    assert torch.allclose(hamilton_adams(flat, [[False, False]]), torch.full((1, 3, 16, 16), 0.3))
    edge = flat.clone()
    edge[..., 12:] = 0.8
    assert float((hamilton_adams(edge, [[False, True]]) - edge[..., 4:-4, 4:-4]).abs().max()) < 1e-5


def test_grain_is_strongest_in_the_mid_tones() -> None:
    dark, middle, bright = (float(noise("film-grain:sigma=10", gray(v)).std()) for v in (0.02, 0.5, 0.98))
    assert middle > 2 * dark
    assert middle > 2 * bright
    assert middle == pytest.approx(10 / 255, rel=0.2)
