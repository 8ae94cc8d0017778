"""The autoencoder family: shapes, halos and symmetries of every combination."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from denoise.errors import UsageError
from denoise.models.autoencoder import BACKBONES, Autoencoder, AutoencoderConfig, build
from denoise.models.layers import ACTIVATIONS, Conv1dAs2d, ConvTranspose1dAs2d, CrossChannel

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
    """Outputs beyond the halo of a changed sample stay the same; one slightly inside changes."""
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


def test_colours_are_no_channels_to_look_across() -> None:
    with pytest.raises(UsageError, match="cross_channel needs modality"):
        build(modality="image", channels=3, cross_channel=True)


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
    deep.warm_start(shallow.state_dict())
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(deep(x), shallow(x))
    deep(x).square().mean().backward()
    grown = deep.backbone.encoder[0][2].body[-1].weight.grad
    assert grown is not None
    assert grown.abs().sum() > 0  # and can learn
    with pytest.raises(RuntimeError, match="only one of the two"):
        shallow.warm_start(deep.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        build(modality="image", channels=3, widths=(8, 16), fold=2).warm_start(shallow.state_dict())


def test_a_network_of_more_scales_starts_as_the_one_it_grew_from() -> None:
    torch.manual_seed(0)
    small = build(modality="sensor", widths=(8, 12), fold=2)
    large = build(modality="sensor", widths=(8, 12, 10, 6), fold=2, gaps=True)
    large.warm_start(small.state_dict())
    x = torch.randn(2, 1, 64)
    torch.testing.assert_close(large(x), small(x))
    large(x).square().mean().backward()
    joint = large.backbone.up[1].weight.grad
    assert joint is not None
    assert joint.abs().sum() > 0  # and can learn
    with pytest.raises(RuntimeError, match="size mismatch"):
        small.warm_start(large.state_dict())


def test_a_network_that_knows_gaps_is_told_them_and_is_asked_nothing_of_them() -> None:
    model = member(modality="sensor", gaps=True)
    x = torch.randn(2, 1, 64)
    none, some = torch.zeros_like(x), torch.zeros_like(x)
    some[..., 20:30] = 1.0
    assert torch.equal(model(x), model(torch.cat([x, none], 1)))
    assert not torch.equal(model(x), model(torch.cat([x, some], 1)))
    target = torch.randn(2, 1, 64)
    estimate, _ = model.training_step(torch.where(some > 0, torch.nan, x), target)
    assert torch.equal(estimate[..., 20:30], target[..., 20:30])
    torch.testing.assert_close(estimate[..., :20], model(torch.cat([line(x, 20, 30), some], 1))[..., :20])


def line(x: Tensor, start: int, stop: int) -> Tensor:
    """Bridge the gap by a straight line from the sample before `start` to the one at `stop`."""
    out = x.clone()
    share = torch.arange(1, stop - start + 1) / (stop - start + 1)
    out[..., start:stop] = x[..., start - 1 : start] * (1 - share) + x[..., stop : stop + 1] * share
    return out


@pytest.mark.parametrize("channels", [1, 3])
def test_signals_as_pictures_one_pixel_high_are_convolved_as_signals(channels: int) -> None:
    x = torch.randn(2, channels, 1, 40)
    for made, plain in (
        (Conv1dAs2d, nn.functional.conv1d),
        (ConvTranspose1dAs2d, nn.functional.conv_transpose1d),
    ):
        for kernel, stride, padding in ((3, 1, 1), (2, 2, 0)):
            layer = made(channels, 4, kernel, stride=stride, padding=padding)
            expected = plain(x[:, :, 0], layer.weight, layer.bias, stride, padding)
            torch.testing.assert_close(layer(x)[:, :, 0], expected)


def crossing(**config: object) -> Autoencoder:
    """A network with joint channels and nonzero weights, as after some training."""
    model = member(modality="sensor", fold=2, cross_channel=True, **config)
    for mixing in model.backbone.cross:  # type: ignore[union-attr]
        assert isinstance(mixing, CrossChannel)
        nn.init.normal_(mixing.decode_proj.weight, std=0.5)  # type: ignore[arg-type]
    return model


@pytest.mark.parametrize("gaps", [False, True])
def test_channels_that_see_each_other_may_come_in_any_number_and_order(gaps: bool) -> None:
    model = crossing(gaps=gaps)
    alone = member(modality="sensor", fold=2, gaps=gaps)
    alone.load_state_dict({k: v for k, v in model.state_dict().items() if ".cross." not in k})
    noisy, missing = torch.randn(2, 5, 64), (torch.rand(2, 5, 64) < 0.1).float()

    def ask(model: Autoencoder, channels: Tensor) -> Tensor:
        parts = (noisy[:, channels], missing[:, channels]) if gaps else (noisy[:, channels],)
        return model(torch.cat(parts, 1))

    order = torch.tensor([3, 0, 4, 1, 2])
    out = ask(model, torch.arange(5))
    assert out.shape == noisy.shape
    torch.testing.assert_close(ask(model, order), out[:, order])
    one = torch.tensor([2])
    torch.testing.assert_close(ask(model, one), ask(alone, one))  # a single channel has no others
    assert (out[:, one] - ask(model, one)).abs().max() > 1e-3
    louder = model(torch.cat([8 * noisy, 8 * missing] if gaps else [8 * noisy], 1))
    torch.testing.assert_close(louder, 8 * out)


def test_a_network_that_learns_to_look_across_starts_as_the_one_it_grew_from() -> None:
    start = member(modality="sensor", fold=2)
    grown = build(modality="sensor", widths=[6, 8, 10], fold=2, cross_channel=True)
    grown.warm_start(start.state_dict())
    x = torch.randn(2, 3, 64)
    apart = torch.cat([start(x[:, c : c + 1]) for c in range(3)], 1)
    torch.testing.assert_close(grown(x), apart)
    estimate, _ = grown.train().training_step(x, x)
    (estimate - x).square().mean().backward()
    mixing = grown.backbone.cross
    assert all(float(m.decode_proj.weight.grad.abs().sum()) > 0 for m in mixing)  # type: ignore[union-attr]
    assert not any("cross" in key for key in start.state_dict())


def test_it_learns_from_the_others_what_one_channel_cannot_tell() -> None:
    """Eight channels share a white signal in white noise of equal power; alone, half of it can go at best."""
    torch.manual_seed(0)
    model = build(modality="sensor", widths=[8], cross_channel=True)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    errors = []
    for _ in range(60):
        target = torch.randn(4, 1, 64).expand(4, 8, 64)
        error = (model.training_step(target + torch.randn(4, 8, 64), target)[0] - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert sum(errors[-10:]) / 10 < 0.35


def test_fields_of_older_recipes_load() -> None:
    model = build(modality="sensor", widths=[6], cross=True)
    assert model.config()["cross_channel"]
    assert "cross" not in model.config()
