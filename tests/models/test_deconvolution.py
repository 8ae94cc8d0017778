"""Undoing a known blur with a denoiser as the prior."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise import weights
from denoise.corruptions import parse
from denoise.corruptions.blur import Blur, convolve
from denoise.dsp.light import from_light, to_light
from denoise.models.deconvolution import extend, plug_and_play, transfer


@pytest.fixture(scope="module")
def photo() -> torch.nn.Module:
    return weights.load(weights.pretrained()["photo"])[0]


def scene(height: int, width: int) -> Tensor:
    """Overlapping rectangles of all sizes and colours, as a model of edges."""
    rng = np.random.default_rng(0)
    picture = np.full((3, height, width), 0.5, np.float32)
    for _ in range(80):
        top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
        tall, wide = (4 + rng.exponential(15, 2)).astype(int)
        picture[:, top : top + tall, left : left + wide] = 0.1 + 0.8 * rng.random((3, 1, 1))
    return torch.from_numpy(picture)[None]


def kernel_of(text: str) -> Tensor:
    blur = parse(text)
    assert isinstance(blur, Blur)
    return blur.kernel(torch.Generator().manual_seed(0))


def psnr(estimate: Tensor, target: Tensor) -> float:
    return -10 * math.log10(float((estimate - target).square().mean()))


def noise(like: Tensor, sigma: float) -> Tensor:
    return sigma / 255 * torch.randn(like.shape, generator=torch.Generator().manual_seed(1))


def box(image: Tensor) -> Tensor:
    """Mean of 3 x 3 pixels, as a plain denoiser."""
    return F.avg_pool2d(F.pad(image, (1,) * 4, mode="replicate"), 3, 1)


@torch.inference_mode()
def test_a_known_shake_is_undone(photo: torch.nn.Module) -> None:
    clean, kernel = scene(72, 80), kernel_of("shake:extent_px=9")

    def denoise(image: Tensor) -> Tensor:
        padded = F.pad(image, (0, -image.shape[3] % 8, 0, -image.shape[2] % 8), mode="replicate")
        return photo(padded)[..., : image.shape[2], : image.shape[3]]

    blurred = convolve(clean, kernel[None]) + noise(clean, 1)
    restored = plug_and_play(blurred, kernel, 1 / 255, denoise)
    assert psnr(restored, clean) > psnr(blurred, clean) + 6


def test_blur_of_light_is_undone_in_light() -> None:
    clean, kernel = scene(72, 80), kernel_of("defocus:radius_px=3")
    blurred = from_light(convolve(to_light(clean), kernel[None]))
    gains = [
        psnr(plug_and_play(blurred, kernel, 1 / 255, box, linear=linear), clean) - psnr(blurred, clean)
        for linear in (True, False)
    ]
    assert gains[0] > gains[1] + 0.5


def test_the_edges_of_a_slope_do_not_ring() -> None:
    ramp = torch.linspace(0.2, 0.8, 80).expand(1, 3, 64, 80)
    kernel = kernel_of("defocus:radius_px=3")
    restored = plug_and_play(convolve(ramp, kernel[None]), kernel, 1 / 255, box)
    assert float((restored - ramp).abs()[..., 4:-4, 4:-4].max()) < 0.03


def test_what_is_saturated_is_filled_from_its_surroundings() -> None:
    clean, kernel = scene(72, 80), kernel_of("defocus:radius_px=2")
    blurred = convolve(clean, kernel[None])
    known = torch.ones(1, 1, 72, 80)
    known[..., 30:34, 30:34] = 0
    spoilt = torch.where(known > 0, blurred, 1.0)
    restored = [plug_and_play(spoilt, kernel, 1 / 255, box, known=mask) for mask in (known, None)]
    errors = [float((image - clean)[..., 26:38, 26:38].square().mean()) for image in restored]
    assert errors[0] < 0.5 * errors[1]


def test_a_kernel_beside_the_middle_does_not_move_the_picture() -> None:
    kernel = torch.zeros(7, 7)
    kernel[1, 5] = 1
    torch.testing.assert_close(transfer(kernel, (12, 16)), torch.ones(12, 9, dtype=torch.complex64))


def test_the_extension_joins_its_ends() -> None:
    image = torch.linspace(0, 1, 40).expand(1, 1, 30, 40)
    wide = extend(image, 20)
    assert torch.equal(wide[..., :30, :40], image)
    assert wide.shape[2] >= 50
    steps = wide - wide.roll(1, -1)
    assert float(steps.abs().max()) < 0.1
