"""Promises of each optimizer about its steps."""

import pytest
import torch
from torch import nn

from denoise.training.optimizers import OPTIMIZERS, Muon, orthogonalised


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_finds_the_bottom_of_a_skewed_bowl(name: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(24, 20)
    inputs = torch.randn(256, 24) * torch.logspace(0, -1.5, 24)
    wanted = inputs @ torch.randn(24, 20) + 1.0
    optimizer = OPTIMIZERS[name](layer, 0.05, 0.0)
    losses = []
    for step in range(400):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 400)
        loss = (layer(inputs) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1e-3 * losses[0]


@pytest.mark.parametrize("shape", [(16, 300), (64, 64), (300, 16)])
def test_all_directions_of_a_turned_matrix_weigh_about_the_same(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    skewed = torch.randn(shape) * torch.logspace(0, -2, shape[1])
    sizes = torch.linalg.svdvals(orthogonalised(skewed))
    assert sizes.max() < 1.3
    assert sizes.quantile(0.1) > 0.5
    left, _, right = torch.linalg.svd(skewed, full_matrices=False)
    assert (left.T @ orthogonalised(skewed) @ right.T).diagonal().min() > 0  # no direction is reversed


def test_a_step_does_not_depend_on_the_size_of_the_gradient() -> None:
    def step(scale: float) -> torch.Tensor:
        torch.manual_seed(0)
        weights = nn.Parameter(torch.randn(32, 16, 3, 3))
        before = weights.detach().clone()
        weights.grad = scale * torch.randn_like(before)
        Muon([weights], lr=0.01).step()
        return weights.detach() - before

    torch.testing.assert_close(step(1.0), step(1e-3), rtol=1e-3, atol=1e-6)
    # as large as a step of AdamW, whose elements have the size of the rate: in practice a factor of 0.2
    assert step(1.0).square().mean().sqrt() == pytest.approx(0.2 * 0.01, rel=0.25)


def test_a_step_of_muon_looks_ahead_by_its_momentum() -> None:
    """A step is orthogonalised from 0.05 of its gradient plus 0.95 of the updated mean (Nesterov)."""
    torch.manual_seed(0)
    weights = nn.Parameter(torch.zeros(16, 16))
    optimizer = Muon([weights], lr=0.01, momentum=0.95)
    first, second = torch.randn(2, 16, 16)
    mean = 0.05 * first
    weights.grad = first.clone()
    optimizer.step()
    before = weights.detach().clone()
    mean = 0.95 * mean + 0.05 * second
    weights.grad = second.clone()
    optimizer.step()
    expected = -0.01 * 0.2 * 4 * orthogonalised((0.05 * second + 0.95 * mean)[None])[0]
    torch.testing.assert_close(weights.detach() - before, expected)


def test_what_is_no_wide_matrix_is_left_to_adamw() -> None:
    torch.manual_seed(0)
    ours = [
        nn.Parameter(torch.randn(8)),
        nn.Parameter(torch.randn(12, 64, 3, 3)),
        nn.Parameter(torch.randn(3, 40)),
    ]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    muon, adamw = Muon(ours, lr=0.01, weight_decay=0.1), torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        muon.step()
        adamw.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
