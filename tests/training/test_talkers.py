"""Conversations: each talker is in its turns, the second one quieter; rooms add a tail and delay nothing."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import torch

from denoise.training import recipe as recipes
from denoise.training.data import Patches
from denoise.training.losses import LOSSES
from denoise.training.talkers import conversations, in_rooms

RATE = 16_000


def tones(hz: float) -> torch.Tensor:
    return 0.1 * torch.sin(2 * torch.pi * hz * torch.arange(4 * RATE) / RATE).expand(64, 1, -1)


def levels_db(x: torch.Tensor, hz: float) -> torch.Tensor:
    """Level of a tone in frames of 50 ms, relative to that of `tones`: `(64, frames)`."""
    frames = x.reshape(64, -1, RATE // 20)
    carrier = torch.exp(-2j * torch.pi * hz * torch.arange(RATE // 20) / RATE)
    return 20 * torch.log10((frames * carrier).mean(2).abs() / 0.05 + 1e-6)


def test_talkers_take_turns_and_one_is_quieter() -> None:
    generator = torch.Generator().manual_seed(0)
    talk = conversations(tones(400.0), tones(1000.0), RATE, generator)
    first, second = levels_db(talk, 400.0), levels_db(talk, 1000.0)
    assert first.max() < 0.5
    quiet = second.amax(1)
    assert quiet[quiet > -40].min() > -23
    assert quiet.max() < 0.5
    assert quiet.std() > 4
    alone = (first > -1) & (second < -30)
    other = (first < -30) & (second > quiet[:, None] - 1)
    assert alone.any(1).sum() > 50
    assert other.any(1).sum() > 50


def test_a_room_rings_and_delays_nothing() -> None:
    click = torch.zeros(8, 1, RATE)
    click[..., 1000] = 1.0
    ringing = in_rooms(click, RATE, torch.Generator().manual_seed(0))
    assert torch.allclose(ringing[..., 1000], torch.ones(8, 1), atol=1e-4)
    assert ringing[..., :1000].abs().max() < 1e-4
    tail = ringing[..., 1001:].square().sum(-1)
    assert (tail > 10 ** (-12.5 / 10)).all()
    assert (tail < 1.5).all()


def test_a_recipe_asks_for_them(tmp_path: Path) -> None:
    (tmp_path / "speech").mkdir()
    voice = 0.1 * np.random.default_rng(0).standard_normal(5 * RATE)
    soundfile.write(tmp_path / "speech" / "a.wav", voice, RATE)
    recipe = recipes.load("speech")
    data = replace(
        recipe.data,
        patch=RATE,
        conversation=1.0,
        rooms=1.0,
        corruption="white",
        corruptions={"conversation": "none"},
    )
    noisy, target = Patches.read(tmp_path, replace(recipe, data=data), 1).batch(4, torch.Generator())
    assert torch.equal(noisy, target)  # the corruption is that of conversations


def test_losing_a_voice_costs_more_than_keeping_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    target = 0.1 * torch.randn(2, 1, RATE, generator=generator)
    loss, plain = LOSSES["speech_gentle"], LOSSES["speech_perceptual"]
    assert loss(0.5 * target, target) > plain(0.5 * target, target) + 1e-3
    assert torch.allclose(loss(2 * target, target), plain(2 * target, target))
