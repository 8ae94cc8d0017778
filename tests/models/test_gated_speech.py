"""A speech network blended with a gate: streamed equals whole, with the stated delay."""

import pytest
import torch
from torch import Tensor

from denoise import weights
from denoise.errors import UsageError
from denoise.models.classical.audio import SpectralGate
from denoise.models.speech import gated_speech as audio_gated
from denoise.models.speech import spectral_gru as audio
from denoise.models.speech.gated_speech import GatedSpeech, build

SMALL = {"widths": [4, 6, 8], "code": 16, "memory": 16}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> GatedSpeech:
    """A model that treats all input as noisy: an untrained network removes next to nothing."""
    monkeypatch.setattr(audio_gated, "_CLEAN_DB", (900.0, 901.0))
    torch.manual_seed(0)
    return build(gate=0.25, **SMALL).eval()


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("samples", [700, 127_000, 300_001])
def test_it_is_the_mean_of_both(model: GatedSpeech, samples: int) -> None:
    """Both use windows of one grid, so only the ends differ from one run over the whole."""
    x = noise(1, 2, samples)
    with torch.inference_mode():
        expected = 0.75 * model.network(x) + 0.25 * SpectralGate()(x)
        torch.testing.assert_close(model(x), expected, atol=2e-4, rtol=0)


def test_where_little_is_taken_the_gate_counts(model: GatedSpeech, monkeypatch: pytest.MonkeyPatch) -> None:
    x = noise(1, 1, 3 * model.hop)
    with torch.inference_mode():
        left, opened = model.network(x), SpectralGate()(x)
        monkeypatch.setattr(audio_gated, "_CLEAN_DB", (-901.0, -900.0))
        torch.testing.assert_close(model(x), torch.lerp(left, opened, 0.85), atol=2e-4, rtol=0)


def test_only_what_both_leave_is_clean(model: GatedSpeech, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_gated, "_CLEAN_DB", (20.0, 26.0))
    x = noise(2, 1, 16_000)
    wrong = x.flip(-1)
    both, net, gate, none = (
        model._gate_weight(x, x + wrong * 10 ** (-a / 20), x + wrong * 10 ** (-b / 20), torch.zeros(2))
        for a, b in ((30, 30), (30, 5), (5, 30), (5, 5))
    )
    torch.testing.assert_close(both, torch.full((2,), 0.85))
    for share in (net, gate, none):
        torch.testing.assert_close(share, torch.full((2,), 0.25))


def test_how_many_parts_come_at_a_time_does_not_matter(model: GatedSpeech) -> None:
    x = torch.nn.functional.pad(noise(1, 1, 300_000), (0, 4 * model.hop - 300_000))
    with torch.inference_mode():
        at_once, _ = model.step(x, model.initial_state(1))
        state, parts = model.initial_state(1), []
        for part in x.split(model.hop, -1):
            cleaned, state = model.step(part, state)
            parts.append(cleaned)
    torch.testing.assert_close(torch.cat(parts, -1), at_once, atol=0, rtol=0)


def test_silence_is_silent_and_wakes_nothing(model: GatedSpeech) -> None:
    x = noise(1, 1, 200_000)
    x[..., 40_000:140_000] = 0.0
    with torch.inference_mode():
        assert not bool(model(torch.zeros(1, 1, 9000)).any())
        assert not bool(model(x)[..., 41_024:138_976].any())


def test_it_is_as_late_as_it_says(model: GatedSpeech) -> None:
    x = noise(1, 1, 2 * model.hop)
    later = x.clone()
    later[..., 200_000:] *= -1.0
    with torch.inference_mode():
        moved = (model(x) != model(later))[0, 0].nonzero()
    assert 200_000 - model.latency <= moved.min() < 200_000


def test_only_the_network_learns_and_starts_from_one(model: GatedSpeech) -> None:
    x = noise(2, 1, 4096)
    model.train().training_step(x, x)[0].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
    alone = audio.build(**SMALL)
    for source in (alone, model):
        other = build(**SMALL)
        other.warm_start(source.state_dict())
        start = dict(source.named_parameters())
        for name, value in other.named_parameters():
            assert torch.equal(value, start[name if source is model else name.removeprefix("network.")])


def test_its_config_rebuilds_it(model: GatedSpeech) -> None:
    again = weights.build("gated-speech", model.config())
    assert again.config() == model.config()
    again.load_state_dict(model.state_dict())
    assert build("spectral-bigru", 0.1, **SMALL).hop % build("spectral-bigru", **SMALL).network.hop == 0


def test_what_it_cannot_be() -> None:
    with pytest.raises(UsageError, match=r"gate is 1\.0"):
        build(gate=1.0, **SMALL)
    with pytest.raises(UsageError, match="spectral-bigru"):
        build("spectral-grus", **SMALL)
