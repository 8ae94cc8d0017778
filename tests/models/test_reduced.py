"""Blocks in fewer bits: close to those in float32, the same in a tile and at the edge."""

import copy
import pickle
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from denoise.models.autoencoder import Autoencoder, AutoencoderConfig
from denoise.models.layers import ResidualBlock
from denoise.models.reduced import Bf16Block, Int8Block, block_ranges, has_blocks, in_bf16, in_int8


@pytest.fixture(autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def features(seed: int = 0) -> Tensor:
    x = torch.randn(1, 32, 24, 24, generator=torch.Generator().manual_seed(seed))
    return x.contiguous(memory_format=torch.channels_last)


def block() -> ResidualBlock:
    torch.manual_seed(0)
    return ResidualBlock(2, 32, "relu", bias=False).eval()


def rounded_block(exact: ResidualBlock, x: Tensor) -> Int8Block:
    hidden = torch.relu(exact.body[0](x))
    return Int8Block(exact, float(x.abs().max()), float(hidden.max()))


def test_a_block_rounds_by_a_few_steps_also_at_the_edge() -> None:
    exact, x = block(), features()
    added = exact(x) - x
    error = (rounded_block(exact, x)(x) - x) - added
    assert error.std() < 0.03 * added.std()
    border = torch.cat([error[..., 0, :], error[..., -1, :], error[..., 0], error[..., -1]], -1)
    assert border.std() < 1.5 * error.std()


def test_ranges_are_fixed_so_a_tile_gives_what_the_whole_gives() -> None:
    exact, x = block(), features()
    rounded = rounded_block(exact, x)
    tile = rounded(x[..., 4:20, 4:20].contiguous(memory_format=torch.channels_last))
    assert torch.equal(tile[..., 2:-2, 2:-2], rounded(x)[..., 6:18, 6:18])


def test_a_range_for_each_channel_keeps_the_faint_ones() -> None:
    exact, x = block(), features()
    x[:, 1:] *= 0.01  # one loud channel, whose weights are nothing
    exact.body[0].weight[:, 0] = 0  # type: ignore[union-attr, operator]
    hidden = float(torch.relu(exact.body[0](x)).max())
    added = exact(x) - x
    errors = [
        ((Int8Block(exact, inputs, hidden)(x) - x) - added).std() / added.std()
        for inputs in (float(x.abs().max()), x.abs().amax((0, 2, 3)).tolist())
    ]
    assert errors[1] < 0.05 < 0.3 < errors[0]


def test_so_does_a_range_for_each_hidden_channel() -> None:
    exact, x = block(), features()
    with torch.no_grad():
        exact.body[0].weight[1:] *= 0.03  # type: ignore[union-attr, operator]
        exact.body[2].weight[:, 0] = 0  # type: ignore[union-attr, operator]
    hidden = torch.relu(exact.body[0](x)).amax((0, 2, 3))
    added, inputs = exact(x) - x, x.abs().amax((0, 2, 3)).tolist()
    errors = [
        ((Int8Block(exact, inputs, limits)(x) - x) - added).std() / added.std()
        for limits in (float(hidden.max()), hidden.tolist())
    ]
    assert errors[1] < 0.05 < 0.1 < errors[0]


def test_a_channel_of_zeros_has_a_step() -> None:
    exact, x = block(), features()
    x[:, 3] = 0
    hidden = float(torch.relu(exact.body[0](x)).max())
    assert torch.isfinite(Int8Block(exact, x.abs().amax((0, 2, 3)).tolist(), hidden)(x)).all()


def test_values_beyond_the_range_saturate_rather_than_wrap() -> None:
    exact, x = block(), features()
    rounded = rounded_block(exact, x)
    added, exact_added = (f(50 * x) - 50 * x for f in (rounded, exact))
    assert added.abs().max() <= exact_added.abs().max()
    assert torch.isfinite(added).all()


def network(**config: object) -> Autoencoder:
    torch.manual_seed(0)
    values = {"modality": "image", "channels": 3, "widths": (16, 16), "blocks": 1, "fold": 2} | config
    return Autoencoder(AutoencoderConfig(**values)).eval()  # type: ignore[arg-type]


def test_stages_between_become_int8_and_the_network_itself_stays() -> None:
    exact = network()
    image = torch.rand(1, 3, 32, 32)
    ranges = block_ranges(exact, [image])
    assert len(ranges) == 3  # encoder, inner, outer; the decoder stays
    assert [(len(inputs), len(hidden)) for inputs, hidden in ranges] == [(16, 16)] * 3
    assert all(0 <= x < 100 for both in ranges for channels in both for x in channels)
    mixed = in_int8(exact, ranges, bf16=True)
    kinds = [type(m) for m in mixed.modules() if isinstance(m, Int8Block | Bf16Block)]
    assert kinds == [Bf16Block, Bf16Block, Int8Block, Bf16Block]
    assert not any(isinstance(m, Bf16Block) for m in in_int8(exact, ranges, bf16=False).modules())
    assert not any(isinstance(m, Int8Block | Bf16Block) for m in exact.modules())
    removed = exact(image) - image
    for reduced in (mixed, in_bf16(exact), copy.deepcopy(mixed), pickle.loads(pickle.dumps(mixed))):
        assert (reduced(image) - exact(image)).std() < 0.03 * removed.std()
    with pytest.raises(ValueError, match="2 ranges, expected 3"):
        in_int8(exact, ranges[:2], bf16=True)


def test_a_network_that_finds_no_noise_returns_every_digit() -> None:
    exact = network()
    exact.backbone.tail.weight.data.zero_()
    image = torch.linspace(0, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    assert torch.equal(in_bf16(exact)(image), image)


def test_networks_with_other_arithmetic_are_recognised() -> None:
    assert has_blocks(network())
    assert not has_blocks(network(bias=True))
    assert not has_blocks(network(activation="gelu"))
    assert has_blocks(network(modality="sensor", channels=1))
