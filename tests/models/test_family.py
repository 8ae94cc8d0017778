"""Purpose of each member of the autoencoder family, on small pictures of few parameters."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from denoise.errors import UsageError
from denoise.models.autoencoder import Autoencoder, build
from denoise.models.penalties import CodeBatch, contraction
from denoise.training.losses import mse

SIDE = 8
DENSE = {"backbone": "dense", "skips": False, "residual": False, "bias": True, "patch": SIDE}


def pictures(count: int, seed: int) -> Tensor:
    """Spots of light, each determined by four numbers: position, width and brightness."""
    rand = torch.rand(4, count, 1, 1, generator=torch.Generator().manual_seed(seed))
    row, column = (torch.arange(SIDE).float().view(shape) for shape in ((1, -1, 1), (1, 1, -1)))
    distance = (row - 2 - 3 * rand[0]) ** 2 + (column - 2 - 3 * rand[1]) ** 2
    return ((0.5 + 0.5 * rand[2]) * torch.exp(-distance / (2 + 6 * rand[3])))[:, None]


def member(**config: Any) -> Autoencoder:
    torch.manual_seed(0)
    return build(**{"modality": "image", **DENSE, "widths": [64], "code": 8, **config})


def train(
    model: Autoencoder, steps: int = 600, noise: float = 0.0, lr: float = 3e-3, copies: bool = False
) -> Autoencoder:
    """Train a little: on clean pictures, from noisy to clean ones, or from noisy ones to themselves."""
    optimizer = torch.optim.Adam(model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    data, generator = pictures(4096, seed=1), torch.Generator().manual_seed(2)
    for _ in range(steps):
        target = data[torch.randint(len(data), (128,), generator=generator)]
        noisy = target + noise * torch.randn(target.shape, generator=generator)
        target = noisy if copies else target
        estimate, added = model.training_step(noisy, target)
        loss = mse(estimate, target) + added
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def error(model: Autoencoder, noisy: Tensor, target: Tensor) -> float:
    with torch.no_grad():
        return float(mse(model(noisy), target))


def movement(model: Autoencoder, noise: float = 0.05) -> float:
    """Displacement of the code by noise, relative to the distance between codes of pictures."""
    clean = pictures(512, seed=3)
    with torch.no_grad():
        code = model.encode(clean).flatten(1)
        moved = model.encode(clean + noise * torch.randn(clean.shape)).flatten(1)
    return float((moved - code).square().mean() / code.var(0).mean())


def test_a_linear_plain_one_finds_the_principal_components() -> None:
    """The optimum of a linear autoencoder spans the first principal axes (Baldi & Hornik 1989)."""
    model = member(activation="linear", code=4)
    data = pictures(4096, seed=1)
    train(model, steps=3000, lr=1e-2)
    centred = (data - data.mean(0)).flatten(1)
    axes = torch.linalg.svd(centred, full_matrices=False)[2][:4]  # (4, 64), orthonormal
    least = float((centred - centred @ axes.T @ axes).square().mean())
    assert error(model, data, data) < 1.01 * least
    with torch.no_grad():
        reached = (model(data) - model(data).mean(0)).flatten(1)
    ours = torch.linalg.svd(reached, full_matrices=False)[2][:4]
    cosines = torch.linalg.svdvals(ours @ axes.T)  # of the principal angles
    assert float(cosines.min()) > math.cos(math.radians(5))


def test_a_larger_code_keeps_more() -> None:
    held_out = pictures(512, seed=3)
    errors = [error(train(member(code=code)), held_out, held_out) for code in (1, 2, 4, 8)]
    assert errors[0] > 1.5 * errors[1] > 1.5 * 1.5 * errors[2]
    assert errors[2] > errors[3]


def test_too_small_a_code_loses_detail_and_too_large_a_one_copies_the_noise() -> None:
    """Training on noisy pictures with a code as small as their content yields clean ones."""
    clean = pictures(512, seed=3)
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    models = {code: train(member(code=code), noise=0.2, copies=True) for code in (1, 4, 64)}
    lost = {code: error(model, noisy, clean) for code, model in models.items()}
    assert lost[4] < 0.6 * min(lost[1], lost[64])
    copied = {code: error(model, noisy, noisy) for code, model in models.items()}
    assert copied[64] < copied[4] < copied[1]


def test_a_denoising_one_beats_a_plain_one_on_noisy_input() -> None:
    clean = pictures(512, seed=3)
    noisy = clean + 0.2 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(4))
    plain, denoising = train(member()), train(member(), noise=0.2)
    assert error(denoising, noisy, clean) < 0.8 * error(plain, noisy, clean)
    assert error(denoising, noisy, clean) < 0.25 * float(mse(noisy, clean))


def test_a_contractive_code_moves_less_at_the_same_reconstruction() -> None:
    clean = pictures(512, seed=3)
    plain, contractive = train(member()), train(member(penalty="contractive", penalty_weight=3e-5))
    for model in (plain, contractive):  # both keep 98 % of the variance
        assert error(model, clean, clean) < 0.02 * float(clean.var(0).mean())
    assert movement(contractive) < 0.75 * movement(plain)


def test_the_contraction_is_that_of_the_jacobian() -> None:
    model = member(code=5, activation="tanh", code_activation="sigmoid").double()
    one = pictures(1, seed=5).double()
    jacobian = torch.autograd.functional.jacobian(lambda x: model.encode(x).flatten(), one)
    exact = float(jacobian.square().sum())
    batch = one.expand(4000, -1, -1, -1).clone().requires_grad_()
    estimate = contraction(CodeBatch(model.encode(batch).flatten(0, -2), batch, 0.0))
    assert float(estimate.detach()) == pytest.approx(exact, rel=0.05)


def test_the_units_of_a_sparse_code_are_on_as_often_as_was_asked_for() -> None:
    def on(**config: Any) -> float:
        model = train(member(code=32, code_activation="sigmoid", **config), steps=1200)
        with torch.no_grad():
            return float(model.encode(pictures(2048, seed=3)).mean())

    assert on(penalty="kl", penalty_weight=1e-3, target_activation=0.1) == pytest.approx(0.1, abs=0.02)
    assert on() > 0.25


def test_the_lasso_turns_units_off() -> None:
    def off(weight: float) -> float:
        model = train(member(code=32, code_activation="relu", penalty="l1", penalty_weight=weight))
        with torch.no_grad():
            return float((model.encode(pictures(1024, seed=3)) == 0).float().mean())

    assert off(3e-2) > off(0.0) + 0.2


def test_a_variational_one_holds_information_and_draws_pictures_like_the_data() -> None:
    model = train(member(bottleneck="variational", beta=0.2, code=6), steps=2500)
    clean = pictures(1024, seed=3)
    with torch.no_grad():
        _, nats = model.bottleneck.draw(model.backbone.encode(clean)[0])
        drawn = model.sample(256, (SIDE, SIDE), torch.Generator().manual_seed(6))
    assert float(nats) > 1.0
    data = pictures(4096, seed=1).flatten(1)
    noise = data[torch.randperm(4096)[:256]][:, torch.randperm(SIDE * SIDE)]  # same values, no picture

    def nearest(x: Tensor) -> float:
        return float(torch.cdist(x.flatten(1), data).min(1).values.mean())

    def apart(x: Tensor) -> float:
        """The energy distance to the data (Székely & Rizzo 2013): zero for equal distributions."""
        x, others = x.flatten(1), data[:1024]
        within = torch.cdist(x, x).mean() + torch.cdist(others, others).mean()
        return float(2 * torch.cdist(x, others).mean() - within)

    assert apart(drawn) < 0.1 * apart(noise)
    assert nearest(drawn) < 0.35 * nearest(noise)
    assert nearest(drawn) < 3 * nearest(clean)
    # And they are as varied as the data.
    assert float(drawn.flatten(1).var(0).sum()) > 0.5 * float(data.var(0).sum())


def test_free_bits_keep_units_from_being_given_up() -> None:
    def used(free_bits: float) -> float:
        model = train(member(bottleneck="variational", beta=4.0, free_bits=free_bits), steps=800)
        with torch.no_grad():
            return float(model.bottleneck.divergence(model.backbone.encode(pictures(512, seed=3))[0]).mean())

    assert used(0.5) > used(0.0) + 1.0


@pytest.mark.parametrize("modality", ["image", "sensor"])
@pytest.mark.parametrize("backbone", ["conv", "dense"])
@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"penalty": "l1", "penalty_weight": 0.1},
        {"penalty": "kl", "penalty_weight": 0.1, "code_activation": "sigmoid"},
        {"penalty": "contractive", "penalty_weight": 0.1},
        {"bottleneck": "variational"},
        {"bottleneck": "variational", "penalty": "contractive", "penalty_weight": 0.1},
    ],
    ids=["plain", "l1", "kl", "contractive", "variational", "both"],
)
def test_every_combination_learns_and_reaches_every_parameter(
    modality: str, backbone: str, extra: dict[str, Any]
) -> None:
    model = member(modality=modality, backbone=backbone, widths=[12, 12], code=4, **extra)
    size = (16,) * model.spec.ndim
    batch = torch.rand(4, 1, *size)
    estimate, added = model.training_step(batch, batch)
    assert estimate.shape == batch.shape
    assert added.ndim == 0
    assert bool(added.detach() > 0) is bool(extra)
    torch.autograd.backward(mse(estimate, batch) + added)
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_a_variational_one_draws_signals_and_maps_of_any_size() -> None:
    model = member(modality="sensor", backbone="conv", widths=[4, 6], bottleneck="variational")
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    one, same, other = (model.sample(2, (32,), generator) for generator in generators)
    assert one.shape == (2, 1, 32)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"bottleneck": "variational", "code": 0}, "code > 0"),
        ({"bottleneck": "variational", "skips": True}, "skips"),
        ({"bottleneck": "variational", "residual": True}, "residual"),
        ({"penalty": "kl"}, "sigmoid"),
        ({"penalty": "ll1"}, "unknown penalty 'll1'"),
        ({"code_activation": "sigmoyd"}, "unknown activation 'sigmoyd'"),
    ],
)
def test_what_makes_no_sense_is_refused(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        member(**config)
