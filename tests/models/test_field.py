"""Recordings other than speech: steady noise, hum and clicks go, and the sound is preserved."""

import numpy as np
import pytest
import torch
from torch import Tensor

from denoise.errors import UsageError
from denoise.infer.catalogue import load
from denoise.models.field.chain import FieldChain
from denoise.models.field.floor_gain import FloorGain, build

RATE = 48_000
STEP = 16_384  # samples between estimates of the floor


@pytest.fixture
def network() -> FloorGain:
    """A small network with weights away from zero."""
    torch.manual_seed(0)
    model = build(floor_width=4, width=6)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape)
    return model.eval()


def noise(*shape: int, sigma: float = 0.1) -> Tensor:
    """White noise, and more below 1 kHz: treble alone would count as calls amid ambience."""
    white = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    return sigma * (0.1 * white + 5 * torch.nn.functional.avg_pool1d(white, 65, 1, 32))


def melody(seconds: int) -> np.ndarray:
    """Plucked notes of soft attack."""
    rng, time_s = np.random.default_rng(3), np.arange(seconds * RATE) / RATE
    out = np.zeros(time_s.size)
    for start in np.arange(0, seconds - 1, 0.25):
        after = np.maximum(time_s - start, 0)
        hz = 220 * 2 ** (rng.integers(0, 36) / 12)
        out += 0.1 * np.minimum(after / 0.005, 1) * np.sin(2 * np.pi * hz * after) * np.exp(-3 * after)
    return out


def hum(seconds: int, mains_hz: float) -> np.ndarray:
    cycles = mains_hz * np.arange(seconds * RATE) / RATE
    return sum(0.01 / k * np.sin(2 * np.pi * k * cycles + k) for k in (1, 2, 3, 5, 7))


def level_db(x: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x)) + 1e-30))


def test_parts_make_the_whole(network: FloorGain) -> None:
    """A later start by whole steps, and silence before it, change nothing."""
    x = noise(1, 2, 12 * STEP)
    x[..., 6 * STEP : 7 * STEP] = 0.0
    with torch.inference_mode():
        whole = network(x)
        later = network(torch.nn.functional.pad(x, (5 * STEP, 0)))[..., 5 * STEP :]
        trained, _ = network.training_step(x, x)
    torch.testing.assert_close(later, whole, rtol=0, atol=1e-5)
    inner = slice(2 * STEP, -2 * STEP)
    torch.testing.assert_close(trained[..., inner], whole[..., inner], rtol=0, atol=1e-4)


def test_level_does_not_matter_and_silence_stays(network: FloorGain) -> None:
    x = noise(1, 1, 8 * STEP)
    with torch.inference_mode():
        torch.testing.assert_close(100 * network(x / 100), network(x), rtol=0, atol=3e-4)
        assert not network(torch.zeros(1, 1, 5000)).any()


def test_channels_share_one_gain(network: FloorGain) -> None:
    x = noise(1, 1, 8 * STEP)
    both = torch.cat([x, 0.1 * x], 1)
    with torch.inference_mode():
        left, right = network(both)[0]
    torch.testing.assert_close(0.1 * left, right, rtol=0, atol=1e-6)


def test_the_look_ahead_is_the_latency(network: FloorGain) -> None:
    x = noise(1, 1, 40 * STEP)
    changed = x.clone()
    changed[..., 30 * STEP :] *= 3
    with torch.inference_mode():
        felt = (network(changed) - network(x)).abs()[0, 0] > 1e-6
    assert 30 * STEP - network.latency <= int(felt.nonzero()[0]) < 29 * STEP


def test_ambience_of_bird_song_is_left_and_hiss_of_music_removed() -> None:
    """The same loud noise belongs to the place under calls, and to the recorder under low notes."""
    shipped, seconds = load("field").denoiser, 6
    time_s = np.arange(seconds * RATE) / RATE
    calls = 0.1 * np.sin(2 * np.pi * (5000 + 800 * np.sin(40 * time_s)) * time_s) * (time_s % 0.5 < 0.2)
    for sound, left in ((calls, True), (melody(seconds), False)):
        hiss = 0.2 * sound.std() * np.random.default_rng(0).standard_normal(sound.size)
        cleaned = shipped(torch.from_numpy(sound + hiss).float()[None, None])[0, 0].numpy()
        change_db = level_db(cleaned - sound) - level_db(hiss)
        assert abs(change_db) < 0.2 if left else change_db < -6


@pytest.mark.parametrize("hiss_db", [None, -30.0])
def test_a_place_keeps_its_own_noise_and_loses_hiss(hiss_db: float | None) -> None:
    """The sea below 8 kHz is steady, but not white; music that names the model loses it."""
    rng, seconds = np.random.default_rng(0), 6
    sea = rng.standard_normal(seconds * RATE)
    spectrum, hz = np.fft.rfft(sea), np.fft.rfftfreq(sea.size, 1 / RATE)
    sea = np.fft.irfft(spectrum * np.where(hz < 8000, 1 / (1 + hz / 500), 0.0), sea.size)
    sea *= 0.1 / sea.std()
    hiss = 0.0 if hiss_db is None else 0.1 * 10 ** (hiss_db / 20) * rng.standard_normal(sea.size)
    noisy = torch.from_numpy(sea + hiss).float()[None, None]
    with torch.inference_mode():
        network = load("field").denoiser.network
        of_place, of_music = (
            level_db(model(noisy)[0, 0].numpy() - sea) for model in (network.for_places(), network)
        )
    assert of_place < (-100 if hiss_db is None else level_db(hiss) - 4)
    assert of_music > of_place + 6


def test_training_reports_the_error_of_the_floor_and_harm(network: FloorGain) -> None:
    clean = torch.from_numpy(melody(4)).float().view(1, 1, -1)
    noisy = clean + noise(*clean.shape, sigma=0.01)
    _, added = network.training_step(noisy, clean)
    _, harmed = network.training_step(clean, clean)
    assert added > 0
    assert harmed > added  # the small network takes something from the clean signal, which had no error


def test_sizes_are_checked() -> None:
    with pytest.raises(UsageError, match="span 39 frames; expected at most 32"):
        build(dilations=[1, 2, 4])
    with pytest.raises(UsageError, match="min_gain"):
        build(min_gain=1.0)


def test_a_steady_buzz_is_no_hiss() -> None:
    time_s = np.arange(6 * RATE) / RATE
    buzz = sum(0.15 / k * np.sin(2 * np.pi * 110 * k * time_s) for k in range(1, 180))
    cleaned = load("field").denoiser(torch.from_numpy(buzz).float()[None, None])[0, 0].numpy()
    assert level_db(cleaned - buzz) < level_db(buzz) - 40


class Through(FloorGain):
    """A network that returns its input after its latency."""

    def initial_state(self, batch: int, channels: int = 1) -> Tensor:
        return torch.zeros(batch, channels, self.latency)

    def step(self, block: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        queue = torch.cat([state, block], -1)
        return queue[..., : block.shape[-1]], queue[..., block.shape[-1] :]


def test_the_chain_removes_hum_clicks_and_dropouts_of_each_channel() -> None:
    chain = FieldChain(Through(build()._config)).eval()
    music = melody(8) + 1e-3 * np.random.default_rng(0).standard_normal(8 * RATE)
    added = hum(8, 50.0)
    clicked = np.stack([music + added, 0.5 * music])
    at = np.arange(30_000, music.size - 30_000, 40_000) + np.random.default_rng(1).integers(0, 9000, 9)
    clicked[0, at] += 0.5
    gone = slice(4 * RATE + 1000, 4 * RATE + 1240)
    clicked[1, gone] = 0.0
    with torch.inference_mode():
        out = chain(torch.from_numpy(clicked)[None].float())[0].numpy()
    assert level_db(out[0] - music) < level_db(added) - 12
    assert np.abs(out[0] - music - added)[at].max() < 0.1
    assert level_db((out[1] - 0.5 * music)[gone]) < level_db((0.5 * music)[gone]) - 10
    out[1, gone] = 0.5 * music[gone]
    np.testing.assert_allclose(out[1], 0.5 * music, atol=1e-3)


def test_hum_does_not_come_back_in_a_pause_of_the_music() -> None:
    chain = FieldChain(Through(build()._config)).eval()
    recording = 2e-4 * np.random.default_rng(0).standard_normal(26 * RATE) + hum(26, 50.0)
    recording[: 10 * RATE] += melody(10)
    with torch.inference_mode():
        out = chain(torch.from_numpy(recording)[None, None].float())[0, 0].numpy()
    assert level_db(out[13 * RATE : -RATE]) < level_db(hum(26, 50.0)) - 20
