"""Blur kernels: returned as applied, centred, and of the stated shape."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy import signal as dsp
from torch import Tensor
from torch.nn import functional as F

from denoise.corruptions import parse
from denoise.corruptions.blur import Blur

BLURS = [
    "gaussian-blur:sigma_px=0.5..3",
    "defocus:radius_px=1..4",
    "motion-blur:length_px=1..15",
    "motion-blur:length_px=1..15,curve_deg=-180..180",
    "shake:extent_px=3..35",
]


def blur(text: str) -> Blur:
    row = parse(text)
    assert isinstance(row, Blur)
    return row


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def offsets(kernel: Tensor) -> Tensor:
    return torch.arange(len(kernel), dtype=kernel.dtype) - len(kernel) // 2


@pytest.mark.parametrize("text", BLURS)
def test_no_kernel_shifts_the_picture_or_its_brightness(text: str) -> None:
    kernels = blur(text).kernels(torch.zeros(64, 3, 8, 8), seeded(0))
    assert kernels.min() >= 0
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(64))
    for axis in (1, 2):
        centroid = kernels.sum(axis) @ offsets(kernels[0])
        torch.testing.assert_close(centroid, torch.zeros(64), atol=1e-4, rtol=0)


@pytest.mark.parametrize("text", BLURS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_returned_kernel_is_the_one_applied(text: str, seed: int) -> None:
    row = blur(text)
    image = torch.rand(1, 3, 30, 41, generator=seeded(9))
    kernel = row.kernel(seeded(seed))
    reach = len(kernel) // 2
    padded = F.pad(image, (reach,) * 4, mode="replicate")[0]
    wanted = [dsp.convolve2d(channel, kernel, mode="valid") for channel in padded]
    found = row(image, seeded(seed))[0]
    for channel in range(3):
        torch.testing.assert_close(found[channel], torch.from_numpy(wanted[channel]), atol=2e-6, rtol=0)


@pytest.mark.parametrize("curve", [-90.0, 0.1, 60.0, 180.0, 360.0])
def test_an_arc_has_its_length(curve: float) -> None:
    length = 60.0
    kernel = blur(f"motion-blur:length_px={length},angle_deg=20,curve_deg={curve}").kernel(seeded(0))
    at = offsets(kernel)
    spread = (kernel.sum(0) @ at**2 + kernel.sum(1) @ at**2).item() - 1 / 3  # less that of sharing out
    half = math.radians(abs(curve)) / 2
    # About its centroid, an arc of radius r and this half angle has r^2 (1 - (sin(half) / half)^2).
    radius = length / (2 * half)
    wanted = radius**2 * (1 - (math.sin(half) / half) ** 2)
    assert spread == pytest.approx(wanted, rel=0.01)


def test_a_path_that_turns_anticlockwise_sags() -> None:
    kernel = blur("motion-blur:length_px=21,angle_deg=0,curve_deg=90").kernel(seeded(0))
    at = offsets(kernel)
    height = (kernel * at[:, None]).sum(0) / kernel.sum(0)  # mean row in each column, downwards
    there = kernel.sum(0) > 0.01
    columns = at[there]
    assert height[there][columns.abs().argmin()] > 1
    assert height[there][0] < -2
    assert height[there][-1] < -2
    torch.testing.assert_close(height[there], height[there].flip(0), atol=1e-3, rtol=0)


def test_the_path_of_a_curved_motion_is_another_for_each_image() -> None:
    kernels = blur("motion-blur:curve_deg=-120..120").kernels(torch.zeros(4, 1, 1, 1), seeded(3))
    assert all((kernels[0] - other).abs().max() > 0.01 for other in kernels[1:])


def test_a_shake_has_its_extent() -> None:
    kernels = blur("shake:extent_px=21").kernels(torch.zeros(32, 3, 8, 8), seeded(0))
    sides = [(kernels.sum(axis) > 0).sum(1) for axis in (1, 2)]
    longer = torch.maximum(*sides)
    assert longer.min() >= 22  # pixels under a path of 21
    assert longer.max() <= 23


def test_a_shake_is_a_connected_path_of_its_own_each_time() -> None:
    kernels = blur("shake:extent_px=21").kernels(torch.zeros(32, 3, 8, 8), seeded(0))
    for kernel in kernels:
        _, pieces = ndimage.label(kernel.numpy() > 0, structure=np.ones((3, 3)))
        assert pieces == 1
    flat = kernels.flatten(1) / kernels.flatten(1).norm(dim=1, keepdim=True)
    assert (flat @ flat.T - torch.eye(32)).max() < 0.9
    mirrored = (kernels * kernels.flip(1, 2)).sum((1, 2)) / kernels.square().sum((1, 2))
    assert mirrored.median() < 0.7  # a lens blurs the same both ways, a hand does not
