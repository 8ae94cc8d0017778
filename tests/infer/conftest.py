"""Small denoisers of known halo, for comparing windows with whole runs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from denoise.models.base import CausalDenoiser, Denoiser, InputSpec, SigmaDenoiser


class Strided(Denoiser):
    """A convolution at half resolution: a value depends on 5 neighbours a side, by its phase."""

    def __init__(self, ndim: int, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        conv = {1: nn.Conv1d, 2: nn.Conv2d}[ndim]
        up = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}[ndim]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                conv(spec.channels, 4, 3, padding=1),
                conv(4, 6, 2, stride=2),
                nn.ReLU(),
                conv(6, 6, 3, padding=1),
                up(6, 4, 2, stride=2),
                conv(4, spec.channels, 3, padding=1),
            )

    def forward(self, noisy: Tensor) -> Tensor:
        return self.layers(noisy)


class Recurrent(CausalDenoiser):
    """A GRU over hops of 8 samples, with a delay of one hop."""

    hop = 8
    latency = 8

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.gru = nn.GRU(self.hop, self.hop, batch_first=True)

    def initial_state(self, batch: int, channels: int = 1) -> tuple[Tensor, Tensor]:
        rows = batch * channels
        return torch.zeros(1, rows, self.hop), torch.zeros(rows, self.hop)

    def step(self, block: Tensor, state: Any) -> tuple[Tensor, Any]:
        hidden, late = state
        hops = block.reshape(block.shape[0], -1, self.hop)  # (B, k, hop)
        out, hidden = self.gru(hops, hidden)
        out = torch.cat([late[:, None], 0.5 * hops + 0.1 * out], dim=1)
        return out[:, :-1].reshape(block.shape), (hidden, out[:, -1])


class Gain(Denoiser):
    """A denoiser that multiplies by `gain` and records the longest input."""

    def __init__(self, spec: InputSpec, gain: float = 0.5) -> None:
        super().__init__()
        self.spec, self.gain = spec, gain
        self.longest = 0
        self.calls = 0
        self.sigmas: list[float | None] = []

    def forward(self, noisy: Tensor) -> Tensor:
        assert not self.training
        assert torch.is_inference_mode_enabled()
        assert all(size % self.spec.multiple_of == 0 for size in noisy.shape[2:])
        assert noisy.shape[1] == self.spec.channels
        self.longest = max(self.longest, *noisy.shape[2:])
        self.calls += 1
        return noisy * self.gain


class SigmaGain(Gain, SigmaDenoiser):
    """The same with a noise level; records each in `sigmas`."""

    def forward(self, noisy: Tensor, sigma: float | None = None) -> Tensor:
        self.sigmas.append(sigma)
        return super().forward(noisy)


@pytest.fixture(scope="session")
def strided_image() -> Callable[..., Strided]:
    return lambda channels=3: Strided(2, InputSpec("image", channels, multiple_of=2, halo=5))


@pytest.fixture(scope="session")
def strided_signal() -> Strided:
    return Strided(1, InputSpec("sensor", multiple_of=2, halo=5))


@pytest.fixture(scope="session")
def recurrent() -> Callable[..., Recurrent]:
    return lambda **spec: Recurrent(InputSpec(**({"modality": "audio", "halo": None} | spec)))


@pytest.fixture(scope="session")
def gain() -> Callable[..., Gain]:
    return lambda factor=0.5, **spec: Gain(InputSpec(**spec), factor)


@pytest.fixture(scope="session")
def sigma_gain() -> Callable[..., SigmaGain]:
    return lambda factor=0.5, **spec: SigmaGain(InputSpec(**spec), factor)
