"""Restraint on good voices: what stays, what goes, and no seams."""

import numpy as np
import pytest
import torch
from torch import Tensor

from denoise.models.speech.restraint import HALF_TAPS, Restraint

RATE = 16_000


def words(seconds: float = 4.0) -> Tensor:
    """Harmonics of a voice in syllables, with pauses between words, `(1, 1, n)`."""
    time = torch.arange(int(seconds * RATE)) / RATE
    voice = sum(torch.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 40))
    return (0.1 * voice * torch.sin(2 * np.pi * 1.0 * time).clamp(min=0.0))[None, None]


def noise(like: Tensor, snr_db: float, seed: int = 0) -> Tensor:
    drawn = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
    return drawn * like.square().mean().sqrt() * 10 ** (-snr_db / 20)


def removed(noisy: Tensor, cleaned: Tensor, parts: int = 1) -> Tensor:
    """Return what is removed, in its place; the last samples, which come with the next part, are 0."""
    restraint = Restraint(RATE)
    state = restraint.initial_state(noisy, *noisy.shape[:2])
    found = []
    for part, clean in zip(noisy.chunk(parts, -1), cleaned.chunk(parts, -1), strict=True):
        out, state = restraint(part, clean, state)
        found.append(out)
    late = torch.cat(found, -1)
    return torch.nn.functional.pad(late[..., HALF_TAPS:], (0, HALF_TAPS))


def snr_db(signal: Tensor, estimate: Tensor) -> float:
    inner = (..., slice(HALF_TAPS, -HALF_TAPS))
    error = (estimate - signal)[inner].square().sum()
    return float(10 * torch.log10(signal[inner].square().sum() / error))


def test_from_a_good_voice_nothing_is_removed() -> None:
    voice = words()
    noisy = voice + noise(voice, 40.0)
    assert not bool(removed(noisy, 0.95 * voice).any())


def test_noise_is_removed_as_the_model_would() -> None:
    voice = words()
    for snr in (0.0, 10.0):
        noisy, cleaned = voice + noise(voice, snr), 0.9 * voice
        inner = (..., slice(0, -HALF_TAPS))
        torch.testing.assert_close(removed(noisy, cleaned)[inner], (noisy - cleaned)[inner])


@pytest.mark.parametrize("snr", [24.0, 27.0])
def test_a_model_that_damages_a_voice_is_held_back(snr: float) -> None:
    """It takes half of the second harmonic away, which is more than there is noise in its band."""
    voice = words()
    time = torch.arange(voice.shape[-1]) / RATE
    harmonic = 0.02 * torch.sin(2 * np.pi * 240 * time) * torch.sin(2 * np.pi * time).clamp(min=0.0)
    noisy, cleaned = voice + noise(voice, snr), voice - 0.6 * harmonic
    kept = noisy - removed(noisy, cleaned)
    assert snr_db(voice, cleaned) < snr + 2
    assert snr_db(voice, kept) > max(snr, snr_db(voice, cleaned)) + 0.5


def test_what_pauses_do_not_hold_is_no_noise() -> None:
    """A quarter of the voice goes with the noise: voices of 11 kHz lost 17 dB to their input."""
    voice = words()
    noisy = voice + noise(voice, 24.0)
    kept = noisy - removed(noisy, 0.75 * voice)
    assert snr_db(voice, 0.75 * voice) < 13
    assert snr_db(voice, kept) > 23.5


@pytest.mark.parametrize(
    ("rumble_db", "snr", "stays"), [(-19.0, 40.0, True), (-10.0, 40.0, False), (-20.0, 22.0, False)]
)
def test_faint_rumble_stays_where_a_voice_has_no_other_noise(
    rumble_db: float, snr: float, stays: bool
) -> None:
    voice = words()
    time = torch.arange(voice.shape[-1]) / RATE
    rumble = (
        torch.sin(2 * np.pi * 31.25 * time) * 2**0.5 * voice.square().mean().sqrt() * 10 ** (rumble_db / 20)
    )
    background = noise(voice, snr)
    found = removed(voice + background + rumble, voice + background)[..., :-HALF_TAPS]
    left = rumble[: found.shape[-1]] - found
    assert (float(left.square().mean() / rumble.square().mean()) > 0.9) == stays


def test_parts_join_without_seams_and_channels_share() -> None:
    voice = words(8.0)
    both = torch.cat([voice, 0.5 * voice], 1)
    noisy = both + torch.cat([noise(voice, 25.0), 0.5 * noise(voice, 25.0)], 1)
    found = removed(noisy, 0.97 * both, parts=4)
    torch.testing.assert_close(found[:, 1], 0.5 * found[:, 0], atol=1e-5, rtol=1e-4)
    usual = found.diff(dim=-1).abs().amax()
    for seam in range(1, 4):
        at = seam * voice.shape[-1] // 4
        assert found[..., at - HALF_TAPS - 2 : at - HALF_TAPS + 2].diff(dim=-1).abs().amax() <= usual


def test_the_level_does_not_count_and_silence_is_silent() -> None:
    voice = words()
    noisy = voice + noise(voice, 27.0)
    found = removed(noisy, 0.97 * voice)
    torch.testing.assert_close(1e3 * removed(1e-3 * noisy, 0.97e-3 * voice), found, atol=1e-5, rtol=1e-3)
    assert not bool(removed(torch.zeros_like(voice), torch.zeros_like(voice)).any())
