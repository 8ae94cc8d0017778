"""Estimating a blur and undoing it."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from denoise.corruptions import parse
from denoise.corruptions.blur import Blur, convolve
from denoise.infer.apply import apply
from denoise.models.deblur import Blurring, Deblurrer, build, wiener

SHARP = 0.5 / 255


def scene(height: int = 160, width: int = 176, seed: int = 0) -> Tensor:
    """Overlapping rectangles of all sizes and colours, as a model of edges."""
    rng = np.random.default_rng(seed)
    picture = np.full((3, height, width), 0.5, np.float32)
    for _ in range(150):
        top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
        tall, wide = (4 + rng.exponential(20, 2)).astype(int)
        picture[:, top : top + tall, left : left + wide] = 0.1 + 0.8 * rng.random((3, 1, 1))
    return torch.from_numpy(picture)[None]


def kernel_of(spec: str) -> Tensor:
    blur = parse(spec)
    assert isinstance(blur, Blur)
    return blur.kernel(torch.Generator().manual_seed(0))[None]


def psnr(estimate: Tensor, target: Tensor) -> float:
    return -10 * math.log10(float((estimate - target).square().mean()))


def model(**config: object) -> Deblurrer:
    torch.manual_seed(0)
    return build(**{"widths": [8, 12], "hidden": 16, **config}).eval()


@pytest.mark.parametrize(
    "spec", ["gaussian-blur:sigma_px=1.5", "defocus:radius_px=3", "motion-blur:length_px=9,angle_deg=30"]
)
@pytest.mark.parametrize("sigma", [1.0, 5.0])
def test_a_known_blur_is_undone(spec: str, sigma: float) -> None:
    clean, kernel = scene(), kernel_of(spec)
    noise = sigma / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    blurred = convolve(clean, kernel) + noise
    blurring = Blurring(kernel, torch.tensor([sigma / 255]))
    restored = [psnr(wiener(blurred, blurring, balance), clean) for balance in (8000.0, 2000.0)]
    assert max(restored) > psnr(blurred, clean) + (3.0 if sigma == 1 else 1.5)


def test_without_blur_and_noise_the_filter_keeps_everything_in_its_place() -> None:
    clean = scene()
    delta = torch.zeros(1, 33, 33)
    delta[0, 16, 16] = 1
    kept = wiener(clean, Blurring(delta, torch.tensor([SHARP])), 2000.0)
    assert float((kept - clean).abs().max()) < 2e-3


def test_a_filter_does_not_ring_at_the_edges() -> None:
    """A picture brighter on one side than on the other would ring if it were treated as periodic."""
    ramp = torch.linspace(0.2, 0.8, 96).expand(1, 3, 96, 96)
    kernel = kernel_of("defocus:radius_px=3")
    restored = wiener(convolve(ramp, kernel), Blurring(kernel, torch.tensor([1 / 255])), 2000.0)
    assert float((restored - ramp).abs()[..., 3:-3, 3:-3].max()) < 0.03


def test_a_kernel_is_a_share_of_light_the_same_both_ways() -> None:
    kernel, sigma = model().estimate(torch.cat([scene(seed=1), scene(seed=2)]))
    assert kernel.shape == (2, 33, 33)
    assert bool((kernel >= 0).all())
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(2))
    torch.testing.assert_close(kernel, kernel.flip(1, 2))
    assert sigma.shape == (2,)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 15.0])
def test_the_noise_of_a_blurred_picture_is_measured(sigma: float) -> None:
    blurred = convolve(scene(256, 256), kernel_of("gaussian-blur:sigma_px=1.5"))
    noise = sigma / 255 * torch.randn(blurred.shape, generator=torch.Generator().manual_seed(1))
    assert 255 * float(model().estimate(blurred + noise).sigma.detach()) == pytest.approx(sigma, rel=0.25)


def test_an_estimator_generalises_to_new_scenes() -> None:
    """Seconds of training on synthetic scenes suffice to distinguish three blurs on new scenes."""
    deblurrer = model(widths=[], hidden=32).train()
    kernels = [kernel_of(s) for s in ("gaussian-blur:sigma_px=2", "motion-blur:length_px=9,angle_deg=0",
                                      "motion-blur:length_px=9,angle_deg=90")]  # fmt: skip
    optimizer = torch.optim.Adam(deblurrer.parameters(), 3e-3)
    scenes = torch.cat([scene(128, 128, seed) for seed in range(8)])
    blurred = [convolve(scenes, kernel) for kernel in kernels]
    for step in range(60):
        _, misfit = deblurrer.training_step(blurred[step % 3], scenes)
        optimizer.zero_grad()
        torch.autograd.backward(misfit)
        optimizer.step()
    new = scene(128, 128, seed=99)
    found = deblurrer.estimate(torch.cat([convolve(new, kernel) for kernel in kernels])).kernel.detach()

    square = torch.arange(-16.0, 17.0).square()
    down, across = (kernels.sum(2) @ square for kernels in (found, found.transpose(1, 2)))
    assert across[1] > 3 * down[1]
    assert down[2] > 3 * across[2]
    assert 0.5 < down[0] / across[0] < 2


def test_one_half_is_trained_at_a_time() -> None:
    batch = scene(128, 128)
    for deblurrer, trained in ((model(widths=[]), "estimator"), (model(), "refiner")):
        estimate, added = deblurrer.training_step(batch + 0.01, batch)
        torch.autograd.backward((estimate - batch).square().mean() + added)
        moved = {name.split(".")[0] for name, p in deblurrer.named_parameters() if p.grad is not None}
        assert moved == {trained}


def test_a_refiner_starts_from_a_trained_estimator() -> None:
    estimator, whole = model(widths=[]), model()
    refiner = {name: value.clone() for name, value in whole.state_dict().items() if "refiner" in name}
    whole.warm_start(estimator.state_dict())
    assert torch.equal(whole.estimator.encode_proj.weight, estimator.estimator.encode_proj.weight)
    assert all(torch.equal(whole.state_dict()[name], value) for name, value in refiner.items())
    with pytest.raises(RuntimeError, match="only one of the two"):
        estimator.warm_start(whole.state_dict())


@pytest.mark.parametrize("shape", [(8, 8), (40, 200), (160, 128)])
def test_any_image_size_works(shape: tuple[int, int]) -> None:
    picture = scene()[..., : shape[0], : shape[1]]
    assert model()(picture).shape == picture.shape


@pytest.mark.parametrize("spec", ["defocus:radius_px=3", "motion-blur:length_px=15,angle_deg=30"])
def test_tiles_share_the_blur_of_the_whole(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut at a tile's edge changes far less than the noise of 2/255."""
    deblurrer, kernel = model(), kernel_of(spec)
    monkeypatch.setattr(deblurrer.estimator, "forward", lambda _: Blurring(kernel, torch.tensor([2 / 255])))
    page = convolve(scene(400, 360), kernel)[0].numpy() * 255
    page += np.random.default_rng(0).normal(0, 2, page.shape).astype(np.float32)
    whole, tiled = (apply(deblurrer, page, peak=255.0, tile=tile) for tile in (400, 128))
    assert float(np.abs(whole - tiled).max()) < 4
    assert float(np.sqrt(np.mean((whole - tiled) ** 2))) < 0.2


def test_gray_pages_of_16_bits() -> None:
    deblurrer = model()
    gray = (scene()[0, :1].numpy() * 65535).astype(np.uint16)
    gray.flags.writeable = False
    cleaned = apply(deblurrer, gray, peak=65535.0)
    assert cleaned.shape == gray.shape
    assert cleaned.dtype == gray.dtype
