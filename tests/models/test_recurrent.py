"""Recurrent layers in ONNX Runtime: the function of torch, with the weights as they are now."""

import copy
import pickle

import pytest
import torch
from torch import nn

from denoise.models.recurrent import Gru


@pytest.fixture
def layers() -> Gru:
    torch.manual_seed(0)
    return Gru(12, 20, 2).eval()


@pytest.mark.parametrize("steps", [1, 16, 300])
@pytest.mark.parametrize("rows", [1, 3])
def test_it_is_the_function_of_torch(layers: Gru, rows: int, steps: int) -> None:
    reference = nn.GRU(12, 20, 2, batch_first=True)
    reference.load_state_dict(layers.state_dict())
    x, state = torch.randn(rows, steps, 12), torch.randn(2, rows, 20)
    with torch.inference_mode():
        for given in (state, None):
            found, expected = layers(x, given), reference(x, given)
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert bool(layers._sessions) == (steps >= 16)


def test_layers_in_use_elsewhere_keep_what_they_run_in(layers: Gru) -> None:
    """Another stream of the same model calls `eval`, in the middle of this one."""
    with torch.inference_mode():
        layers(torch.randn(1, 40, 12))
    kept = layers._sessions
    assert kept
    assert layers.eval()._sessions is kept


def test_new_weights_count_after_training(layers: Gru) -> None:
    x = torch.randn(1, 40, 12)
    with torch.inference_mode():
        before = layers(x)[0]
    layers.train()
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.mul_(0.5)
    with torch.inference_mode():
        torch.testing.assert_close(layers.eval()(x)[0], nn.GRU.forward(layers, x)[0], atol=1e-5, rtol=0)
        assert (layers(x)[0] - before).abs().max() > 0.01


def test_gradients_and_copies(layers: Gru) -> None:
    x = torch.randn(2, 40, 12, requires_grad=True)
    layers(x)[0].sum().backward()
    assert x.grad is not None
    with torch.inference_mode():
        found = layers(x)[0]
        for other in (copy.deepcopy(layers), pickle.loads(pickle.dumps(layers))):
            torch.testing.assert_close(other(x)[0], found)
