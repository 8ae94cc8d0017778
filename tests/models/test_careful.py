"""The part that is removed from a recording stays far below its sound."""

import numpy as np
import pytest
import torch

from denoise.models.base import CausalDenoiser, InputSpec
from denoise.models.field.careful import Careful

RATE = 16_000


class Share(CausalDenoiser):
    """Removes a share of the input, 96 samples late."""

    spec = InputSpec("audio", halo=None, sample_rate=RATE, joint_channels=True)
    hop, latency = 64, 96

    def __init__(self, share: float) -> None:
        super().__init__()
        self.kept = torch.nn.Parameter(torch.tensor(1.0 - share))

    def initial_state(self, batch: int, channels: int = 1) -> torch.Tensor:
        return torch.zeros(batch, channels, self.latency)

    def step(self, block: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        signal = torch.cat([state, block], -1)
        return self.kept * signal[..., : block.shape[-1]], signal[..., block.shape[-1] :]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("removed_db", "expected_db"),
    [(-40.0, -40.0), (-28.0, -28.0), (-21.5, -21.5), (-20.0, -22.0), (-10.0, -23.0), (0.0, -23.0)],
)
def test_it_removes_what_is_hiss_and_less_of_what_may_be_the_sound(
    removed_db: float, expected_db: float, channels: int
) -> None:
    noisy = torch.randn(1, channels, 3 * RATE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cleaned = Careful(Share(10 ** (removed_db / 20)))(noisy)
    removed = (noisy - cleaned).square().mean() / noisy.square().mean()
    assert 10 * float(removed.log10()) == pytest.approx(expected_db, abs=0.1)


def test_blocks_and_a_pause_do_not_matter() -> None:
    noisy = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    noisy[RATE // 2 :] = 0
    model = Careful(Share(0.5))
    whole = torch.from_numpy(noisy)[None, None]
    state, parts = model.initial_state(1), []
    with torch.no_grad():
        for part in torch.split(whole, 5 * model.hop, -1):
            out, state = model.step(part, state)
            parts.append(out)
        expected = model(whole)
    streamed = torch.cat(parts, -1)[..., model.latency :]
    torch.testing.assert_close(streamed, expected[..., : streamed.shape[-1]])
    assert not expected[..., RATE // 2 :].any()
