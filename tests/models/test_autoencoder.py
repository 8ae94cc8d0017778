"""The family: every combination of its columns has the right shape, reach and symmetry."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from denoise.errors import UsageError
from denoise.models.autoencoder import ACTIVATIONS, BACKBONES, Autoencoder, AutoencoderConfig, build

MEMBERS = [
    {"modality": modality, "backbone": backbone, "skips": skips, "code": code, "fold": fold}
    for modality, backbone, skips, code, fold in itertools.product(
        ("image", "audio", "sensor"), sorted(BACKBONES), (True, False), (0, 3), (1, 2)
    )
    if backbone == "conv" or (fold == 1 and not skips)
]


def member(**config: object) -> Autoencoder:
    torch.manual_seed(0)
    return build(**{"widths": [6, 8, 10], "patch": 8, **config}).eval()  # type: ignore[arg-type]


def sizes(model: Autoencoder, cells: int) -> tuple[int, ...]:
    return (cells * model.spec.multiple_of,) * model.spec.ndim


@pytest.mark.parametrize("config", MEMBERS, ids=lambda c: "-".join(map(str, c.values())))
def test_shape_is_kept_and_gradients_reach_every_parameter(config: dict[str, object]) -> None:
    model = member(**config).train()
    x = torch.randn(2, 1, *sizes(model, 2))
    out = model(x)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


@pytest.mark.parametrize("config", MEMBERS, ids=lambda c: "-".join(map(str, c.values())))
def test_halo_covers_the_measured_reach(config: dict[str, object]) -> None:
    """No output farther than the halo from a changed sample moves, and one not much nearer does."""
    model = member(**{**config, "activation": "linear"}).double()
    halo = model.spec.halo
    assert halo is not None
    cells = 2 * (halo // model.spec.multiple_of) + 3
    x = torch.randn(1, 1, *sizes(model, cells), dtype=torch.float64)
    for centre in (x.shape[-1] // 2, x.shape[-1] // 2 + 1):
        poked = x.clone()
        poked[(0, 0, *(centre,) * model.spec.ndim)] += 1.0
        moved = (model(poked) - model(x)).detach()[0, 0].abs() > 1e-12
        reach = (moved.nonzero() - centre).abs().max().item()
        assert 0 < reach <= halo


@pytest.mark.parametrize("modality", ["image", "sensor"])
def test_without_bias_it_is_scale_equivariant(modality: str) -> None:
    model = member(modality=modality).double()
    x = torch.randn(1, 1, *sizes(model, 3), dtype=torch.float64)
    torch.testing.assert_close(model(1000 * x), 1000 * model(x))


def test_with_bias_it_is_not() -> None:
    model = member(modality="sensor", bias=True).double()
    x = torch.randn(1, 1, *sizes(model, 3), dtype=torch.float64)
    assert not torch.allclose(model(1000 * x), 1000 * model(x))


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_without_skips_and_residual_all_passes_through_the_code(backbone: str) -> None:
    model = member(modality="image", backbone=backbone, skips=False, residual=False, code=4)
    x = torch.randn(2, 1, *sizes(model, 2))
    torch.testing.assert_close(model(x), model.decode(model.encode(x)))


def test_a_code_has_the_size_that_was_asked_for() -> None:
    conv = member(modality="image", code=5)
    assert conv.encode(torch.randn(2, 1, 16, 24)).shape == (2, 5, 4, 6)
    dense = member(modality="sensor", backbone="dense", code=5)
    assert dense.encode(torch.randn(2, 1, 32)).shape == (2, 4, 5)


def test_a_dense_network_keeps_patches_in_their_places() -> None:
    """Changing one patch changes that patch of the output alone."""
    model = member(modality="image", backbone="dense", residual=False)
    x = torch.randn(1, 1, 24, 24)
    poked = x.clone()
    poked[..., 8:16, 16:24] += 1.0
    moved: Tensor = (model(poked) != model(x))[0, 0]
    assert bool(moved[8:16, 16:24].any())
    moved[8:16, 16:24] = False
    assert not bool(moved.any())


@pytest.mark.parametrize("key", ["modality", "backbone", "bottleneck", "activation"])
def test_an_unknown_row_is_refused_by_name(key: str) -> None:
    with pytest.raises(UsageError, match="'conw'"):
        build(**{"modality": "image", key: "conw"})


@pytest.mark.parametrize("bad", [{"widths": ()}, {"widths": (0,)}, {"fold": 0}, {"patch": 0}])
def test_impossible_sizes_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="positive"):
        Autoencoder(AutoencoderConfig("image", **bad))  # type: ignore[arg-type]


def test_the_config_rebuilds_the_model() -> None:
    model = member(modality="sensor", activation=sorted(ACTIVATIONS)[0], code=3)
    again = build(**model.config())
    again.load_state_dict(model.state_dict())
    x = torch.randn(1, 1, 32)
    torch.testing.assert_close(again.eval()(x), model(x))


def test_a_deeper_network_starts_as_the_one_it_grew_from() -> None:
    torch.manual_seed(0)
    shallow = build(modality="image", channels=3, widths=(8, 12), blocks=1, fold=2)
    deep = build(modality="image", channels=3, widths=(8, 12), blocks=(3, 2), fold=2)
    deep.start_from(shallow.state_dict())
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(deep(x), shallow(x))
    deep(x).square().mean().backward()
    grown = deep.backbone.encoder[0][2].body[-1].weight.grad
    assert grown is not None
    assert grown.abs().sum() > 0  # and can learn
    with pytest.raises(RuntimeError, match="one of the two only"):
        shallow.start_from(deep.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(modality="image", channels=3, widths=(8, 16), fold=2).start_from(shallow.state_dict())
