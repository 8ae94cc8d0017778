"""The speech network: streamed equals whole, with the stated delay, and silent on silence."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from denoise.errors import UsageError
from denoise.models.speech.spectral_gru import SpectralGru, build

SMALL = {"widths": [4, 6, 8], "code": 16, "memory": 16}


@pytest.fixture
def model() -> SpectralGru:
    torch.manual_seed(0)
    return build(**SMALL).eval()  # type: ignore[arg-type]


def streamed(model: SpectralGru, x: Tensor, hops: int) -> Tensor:
    padded = torch.nn.functional.pad(x, (0, model.latency + hops * model.hop))
    state, out = model.initial_state(x.shape[0]), []
    for start in range(0, padded.shape[-1] - hops * model.hop + 1, hops * model.hop):
        block, state = model.step(padded[..., start : start + hops * model.hop], state)
        out.append(block)
    return torch.cat(out, -1)[..., model.latency : model.latency + x.shape[-1]]


@pytest.mark.parametrize("hops", [1, 2, 7])
@pytest.mark.parametrize("samples", [1, 255, 256, 4001])
def test_streamed_equals_whole(model: SpectralGru, hops: int, samples: int) -> None:
    x = 0.1 * torch.randn(2, 1, samples)
    with torch.inference_mode():
        torch.testing.assert_close(streamed(model, x, hops), model(x), atol=1e-5, rtol=0)


def test_single_frames_equal_all_at_once_also_with_new_weights(model: SpectralGru) -> None:
    """Frames one at a time are computed by other code, from copies of the weights."""
    x = 0.1 * torch.randn(2, 1, 40 * model.hop)
    for scale in (1.0, 1.5):
        model.load_state_dict({key: scale * value for key, value in build(**SMALL).state_dict().items()})
        with torch.inference_mode():
            whole = model.eval()(x)
            torch.testing.assert_close(streamed(model, x, 1), whole, atol=1e-6, rtol=0)
        assert (whole - x).std() > 0.005  # no mask of one


def test_a_network_in_use_can_be_copied(model: SpectralGru) -> None:
    x = 0.1 * torch.randn(1, 1, 20 * model.hop)
    with torch.inference_mode():
        expected = streamed(model, x, 1)
        assert model._frames
        assert model.eval()._frames  # of another stream, meanwhile
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(streamed(other, x, 1), expected)


def test_nothing_is_heard_before_its_time(model: SpectralGru) -> None:
    """Output sample n does not depend on input past n + latency + hop."""
    x = 0.1 * torch.randn(1, 1, 8000)
    later = x.clone()
    later[..., 5000:] = 0.0
    with torch.inference_mode():
        moved = (model(x) != model(later))[0, 0].nonzero()
    assert moved.min() >= 5000 - model.latency - model.hop


def test_a_mask_of_one_gives_the_input_back_in_its_place(model: SpectralGru) -> None:
    def ones(spectrum: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(spectrum), memory

    model._mask = ones  # type: ignore[method-assign]
    x = 0.1 * torch.randn(1, 1, 5003)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), x, atol=1e-5, rtol=0)


def test_the_mean_of_two_looks_is_the_answer(model: SpectralGru) -> None:
    x = 0.1 * torch.randn(2, 1, 5000)
    once = build(**SMALL, n_shifts=1).eval()
    once.load_state_dict(model.state_dict())
    later = torch.nn.functional.pad(x, (128, 0))
    with torch.inference_mode():
        mean = (once(x) + once(later)[..., 128:]) / 2
        torch.testing.assert_close(model(x), mean, atol=1e-5, rtol=0)
        torch.testing.assert_close(model.training_step(x, x)[0], once(x), atol=1e-6, rtol=0)
    assert (once.latency, model.latency) == (256, 384)
    with pytest.raises(UsageError, match="n_shifts is 3"):
        build(**SMALL, n_shifts=3)


def test_silence_is_silent(model: SpectralGru) -> None:
    with torch.inference_mode():
        assert not bool(model(torch.zeros(1, 1, 4000)).any())


def test_every_parameter_learns(model: SpectralGru) -> None:
    model.train()
    model(0.1 * torch.randn(2, 1, 4000)).square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


@pytest.mark.parametrize(("channels", "looks"), [(1, 2), (2, 1), (3, 1)])
def test_several_channels_are_looks_of_their_own(
    model: SpectralGru, monkeypatch: pytest.MonkeyPatch, channels: int, looks: int
) -> None:
    heard, once = [], model.step_one

    def spied(block: Tensor, state: Any) -> tuple[Tensor, Any]:
        heard.append(block.shape[0])
        return once(block, state)

    monkeypatch.setattr(model, "step_one", spied)
    x = torch.randn(2, channels, 900)
    assert model(x).shape == x.shape
    assert set(heard) == {2 * looks}
