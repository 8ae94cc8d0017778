"""Losses: minimum at the target, gradients towards it, and an effect of each term."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.training import losses
from denoise.training.losses import LOSSES

RATE = 16_000  # Hz


RECONSTRUCTION = [name for name in LOSSES if name not in ("cross_entropy", "none")]


@pytest.fixture(scope="module")
def target() -> Tensor:
    """Two items of 1.5 s in 0..1: modulated noise at the level of speech, `(2, 1, T)`."""
    generator = torch.Generator().manual_seed(0)
    envelope = F.interpolate(torch.rand(2, 1, 24, generator=generator), size=24_000, mode="linear")
    return 0.5 + 0.2 * (envelope * torch.randn(2, 1, 24_000, generator=generator)).clamp(-2, 2)


def noise_like(x: Tensor, seed: int = 1) -> Tensor:
    return 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_the_minimum_is_at_the_target_and_the_gradient_leads_there(name: str, target: Tensor) -> None:
    loss, noise = LOSSES[name], noise_like(target)
    values = [float(loss(target + share * noise, target)) for share in (0.0, 0.25, 0.5, 1.0)]
    assert values == sorted(values)
    assert values[0] < values[1]
    estimate = (target + noise).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(estimate, target), estimate)
    assert torch.isfinite(gradient).all()
    assert (gradient * noise).sum() > 0
    with torch.no_grad():
        step = 0.1 * noise.norm() * gradient / gradient.norm()
        assert loss(target + noise - step, target) < loss(target + noise, target)


@pytest.mark.parametrize("name", RECONSTRUCTION)
def test_every_item_of_a_batch_counts(name: str, target: Tensor) -> None:
    loss = LOSSES[name]
    for item in (0, 1):
        spoiled = target.clone()
        spoiled[item] += noise_like(target)[item]
        assert loss(spoiled, target) > loss(target, target)


def test_plain_losses_have_the_values_of_their_formulas() -> None:
    estimate, target = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.5, 0.0]]])
    assert float(LOSSES["mse"](estimate, target)) == pytest.approx((0.25 + 4) / 2)
    assert float(LOSSES["l1"](estimate, target)) == pytest.approx((0.5 + 2) / 2)
    assert float(LOSSES["charbonnier"](estimate, target)) == pytest.approx((0.5 + 2) / 2, abs=1e-5)
    assert float(LOSSES["log_mse"](estimate, target)) == pytest.approx(math.log(2.125), abs=1e-4)


def test_log_mse_averages_the_decibels_of_the_items() -> None:
    target = torch.zeros(2, 1, 64)
    estimate = torch.stack([torch.full((1, 64), 1.0), torch.full((1, 64), 0.1)])
    assert float(LOSSES["log_mse"](estimate, target)) == pytest.approx(0.5 * math.log(1e-2), abs=1e-3)


def test_ssim_needs_level_contrast_and_structure() -> None:
    generator = torch.Generator().manual_seed(0)
    target = 0.3 + 0.4 * torch.rand(1, 1, 32, 32, generator=generator)
    mean = F.avg_pool2d(F.pad(target, (3,) * 4, mode="reflect"), 7, stride=1)
    shuffled = target.flatten()[torch.randperm(1024, generator=generator)].view_as(target)
    for changed in (target + 0.2, mean + 0.5 * (target - mean), shuffled, 1 - target):
        assert LOSSES["ssim"](changed, target) > 0.05
    assert float(LOSSES["ssim"](target, target)) == pytest.approx(0, abs=1e-5)


def test_each_term_of_the_speech_loss_alone_matters(target: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each term ranks two estimates that differ in its quantity, with the right sign."""
    noisy = target + noise_like(target)
    si_sdr = losses._si_sdr_loss
    assert si_sdr(noisy, target) > si_sdr(target + 0.1 * noise_like(target), target)
    torch.testing.assert_close(si_sdr(0.3 * noisy, target), si_sdr(noisy, target), atol=1e-2, rtol=0)
    both = float(LOSSES["speech"](noisy, target))
    monkeypatch.setattr(losses, "_si_sdr_loss", lambda *_: torch.zeros(()))
    spectral = float(LOSSES["speech"](noisy, target))
    assert both - spectral == pytest.approx(0.01 * float(si_sdr(noisy, target)), abs=1e-6)
    assert spectral > float(LOSSES["speech"](target, target)) == pytest.approx(0, abs=1e-6)
    # A wrong phase raises the term of the complex spectrum; a wrong level that of the magnitudes.
    assert LOSSES["speech"](-target, target) > 0.1
    assert LOSSES["speech"](0.5 * target, target) > 1e-3


@pytest.mark.parametrize(("term", "weight"), [("pesq", 0.03), ("estoi", 0.4)])
def test_each_score_of_the_perceptual_loss_is_subtracted_with_its_weight(
    term: str, weight: float, target: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    noisy = target + noise_like(target)
    with_term = LOSSES["speech_perceptual"](noisy, target)
    score = getattr(losses, term)(noisy, target).mean()
    monkeypatch.setattr(losses, term, lambda estimate, _: estimate.new_zeros(len(estimate)))
    without = LOSSES["speech_perceptual"](noisy, target)
    torch.testing.assert_close(without - with_term, weight * score, atol=1e-5, rtol=1e-4)


def test_a_loss_of_earlier_recipes_keeps_its_name() -> None:
    assert LOSSES["heard_speech"] is LOSSES["speech_perceptual"]


def test_cross_entropy_falls_as_the_right_class_gains() -> None:
    right = torch.eye(4)[[2, 0]]
    values = [float(LOSSES["cross_entropy"](gain * right, right)) for gain in (-1.0, 0.0, 1.0, 3.0)]
    assert values == sorted(values, reverse=True)
    assert values[1] == pytest.approx(math.log(4))
