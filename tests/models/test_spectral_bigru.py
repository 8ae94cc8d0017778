"""The speech network for files: grown from the causal one, the same in parts, with the stated look-ahead."""

import pytest
import torch
from torch import Tensor

from denoise.errors import UsageError
from denoise.models.speech import spectral_bigru as audio_bigru
from denoise.models.speech import spectral_gru as audio
from denoise.models.speech.spectral_bigru import SpectralBiGru, build

SMALL = {"widths": [4, 6, 8], "code": 16, "memory": 16}
MORE = {"backward": 12, "hidden": 10}


def shaken(model: SpectralBiGru) -> SpectralBiGru:
    """Move all weights away from zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture
def model() -> SpectralBiGru:
    torch.manual_seed(0)
    return shaken(build(**SMALL, **MORE))


@pytest.fixture
def in_parts(model: SpectralBiGru, monkeypatch: pytest.MonkeyPatch) -> SpectralBiGru:
    """The same model, with parts of half a second and one second of look-ahead."""
    monkeypatch.setattr(audio_bigru, "_PART_FRAMES", 32)
    monkeypatch.setattr(audio_bigru, "_AHEAD_FRAMES", 64)
    other = build(**SMALL, **MORE)
    other.load_state_dict(model.state_dict())
    return other.eval()


def noise(*shape: int) -> Tensor:
    return 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(2))


def test_it_starts_as_the_causal_model_it_grew_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_bigru, "_BASS_BINS", 0)  # the causal model keeps them
    torch.manual_seed(0)
    causal = audio.build(**SMALL).eval()
    grown = build(**SMALL, **MORE)
    grown.warm_start(causal.state_dict())
    x = noise(2, 1, 9001)
    with torch.inference_mode():
        torch.testing.assert_close(grown.eval()(x), causal(x), atol=1e-6, rtol=0)
    again = build(**SMALL, **MORE)
    again.warm_start(grown.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), grown.parameters(), strict=True))
    with pytest.raises(RuntimeError, match="memory"):
        grown.warm_start(audio.build(**{**SMALL, "layers": 3}).state_dict())


@pytest.mark.parametrize("samples", [1, 300, 8192, 30_001])
def test_parts_are_as_the_whole_where_the_future_is_not_cut(
    model: SpectralBiGru, in_parts: SpectralBiGru, samples: int
) -> None:
    """Runs agree except near the end, where the backward state starts later in the whole."""
    x = noise(1, 1, samples)
    with torch.inference_mode():
        whole, parts = model(x), in_parts(x)
    assert parts.shape == x.shape
    last = slice(max(0, (samples - 64 * 256) // in_parts.hop * in_parts.hop), None)
    torch.testing.assert_close(parts[..., last], whole[..., last], atol=1e-5, rtol=0)
    # The backward state decays, so that a second of look-ahead is nearly all of it.
    assert float((parts - whole).abs().max()) < 0.05 * float(whole.abs().max())


@pytest.mark.parametrize("hops", [1, 2, 5])
def test_how_many_parts_come_at_a_time_does_not_matter(in_parts: SpectralBiGru, hops: int) -> None:
    size = hops * in_parts.hop
    x = torch.nn.functional.pad(noise(2, 1, 40_000), (0, 10 * in_parts.hop - 40_000))
    with torch.inference_mode():
        at_once, _ = in_parts.step(x, in_parts.initial_state(2))
        state, parts = in_parts.initial_state(2), []
        for block in x.split(size, -1):
            cleaned, state = in_parts.step(block, state)
            parts.append(cleaned)
    torch.testing.assert_close(torch.cat(parts, -1), at_once, atol=1e-6, rtol=0)


def test_the_future_is_heard_as_far_as_the_latency(in_parts: SpectralBiGru) -> None:
    x = noise(1, 1, 60_000)
    later = x.clone()
    later[..., 40_000:] *= -1.0
    with torch.inference_mode():
        moved = (in_parts(x) != in_parts(later))[0, 0].nonzero()
    assert 40_000 - in_parts.latency - in_parts.hop <= moved.min() < 40_000 - in_parts.hop


def test_a_sound_may_end_anywhere_in_a_part(in_parts: SpectralBiGru) -> None:
    """Also just before the frames whose output is due, so that levels are measured on none."""
    levelled = build(**SMALL, **MORE, match_level=True)
    levelled.load_state_dict(in_parts.state_dict())
    for frames in range(1, 2 * in_parts.hop // 256):
        x = torch.nn.functional.pad(noise(1, 1, 256 * frames), (0, 3 * in_parts.hop))
        with torch.inference_mode():
            assert bool(torch.isfinite(levelled.eval()(x)).all())


@pytest.mark.parametrize("where", ["all", "before", "after", "between"])
def test_digital_silence_stays(in_parts: SpectralBiGru, where: str) -> None:
    x = noise(1, 1, 40_000)
    silent = {"all": (0, None), "before": (0, 25_000), "after": (9_000, None), "between": (9_000, 30_000)}
    x[..., slice(*silent[where])] = 0.0
    with torch.inference_mode():
        out = in_parts(x)
    far = torch.nn.functional.max_pool1d(x.abs(), 1025, 1, 512) == 0  # a frame reaches 512 samples
    assert not bool(out[far].any())
    assert bool(torch.isfinite(out).all())
    assert where == "all" or bool(out.any())


def test_a_mask_of_one_gives_the_input_back_in_its_place(in_parts: SpectralBiGru) -> None:
    def ones(spectrum: Tensor, memory: Tensor, skip: int, turn: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        return torch.ones_like(spectrum[:, skip:]), memory

    in_parts._mask = ones  # type: ignore[method-assign]
    x = noise(3, 2, 20_003)
    with torch.inference_mode():
        torch.testing.assert_close(in_parts(x), x, atol=1e-6, rtol=0)
        torch.testing.assert_close(
            in_parts.training_step(x[:, :1, :5120], x)[0], x[:, :1, :5120], atol=1e-6, rtol=0
        )


def test_channels_share_one_mask(in_parts: SpectralBiGru) -> None:
    left = noise(1, 1, 20_000)
    with torch.inference_mode():
        pair = in_parts(torch.cat([left, -0.25 * left], 1))
    torch.testing.assert_close(pair[:, 1], -0.25 * pair[:, 0], atol=1e-6, rtol=0)


def test_every_parameter_learns(model: SpectralBiGru) -> None:
    x = noise(2, 1, 4096)
    model.train().training_step(x, x)[0].square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


@pytest.mark.parametrize("wrong", [{"taps": 2}, {"window": 500}, {"backward": 0}, {"dilations": [0]}])
def test_sizes_that_do_not_go_together_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=r"needs (sizes above 0|odd taps)"):
        build(**{**SMALL, **wrong})
