"""Losses of speech say what an ear would: what they ignore, what they mind, and which way is better."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.losses import LOSSES, disturbance, intelligibility

RATE = 16_000  # Hz


@pytest.fixture(scope="module")
def voices() -> Tensor:
    """Two sounds of 2 s whose spectrum moves as that of speech does, with a pause, `(2, 1, T)`."""
    generator = torch.Generator().manual_seed(0)
    white = torch.randn(2, 2 * RATE, generator=generator)
    spectrum = torch.stft(white, 512, 256, window=torch.hann_window(512), return_complex=True)
    lines = F.interpolate(
        torch.randn(2, 1, 20, 16, generator=generator), size=spectrum.shape[1:], mode="bicubic"
    )
    voice = torch.istft(spectrum * (2 * lines[:, 0]).exp(), 512, 256, window=torch.hann_window(512))
    voice = voice * 0.1 / voice.std(1, keepdim=True)
    voice[:, 12_000:16_000] = 0
    return voice[:, None]


def noisy(voices: Tensor, snr_db: float) -> Tensor:
    noise = torch.randn(voices.shape, generator=torch.Generator().manual_seed(1))
    return voices + voices.std() * 10 ** (-snr_db / 20) * noise


def test_intelligibility_is_one_of_the_truth_and_falls_with_noise(voices: Tensor) -> None:
    torch.testing.assert_close(intelligibility(voices, voices), torch.ones(2), atol=1e-4, rtol=0)
    values = [intelligibility(noisy(voices, snr_db), voices).mean() for snr_db in (20, 10, 0, -10)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.8
    assert values[-1] < 0.3
    foreign = torch.randn(voices.shape, generator=torch.Generator().manual_seed(2))
    assert intelligibility(foreign, voices).abs().max() < 0.15


def test_intelligibility_ignores_level_and_pauses(voices: Tensor) -> None:
    worse = noisy(voices, 5)
    torch.testing.assert_close(
        intelligibility(0.1 * worse, voices), intelligibility(worse, voices), atol=1e-3, rtol=0
    )
    pause = worse.clone()
    pause[..., 12_300:15_700] *= 30
    torch.testing.assert_close(
        intelligibility(pause, voices), intelligibility(worse, voices), atol=1e-3, rtol=0
    )


def test_what_is_too_short_or_silent_is_neither_good_nor_bad(voices: Tensor) -> None:
    for samples in (100, 6_000):
        short = voices[..., :samples]
        assert (intelligibility(short, short) == 0).all()
    silence = torch.zeros_like(voices)
    assert torch.isfinite(intelligibility(voices, silence)).all()


def test_intelligibility_is_that_of_the_reference_implementation(voices: Tensor) -> None:
    pystoi = pytest.importorskip("pystoi", reason="the metrics extra is not installed")
    for snr_db in (10, 0):
        worse = noisy(voices, snr_db)
        for estimate, target, value in zip(worse, voices, intelligibility(worse, voices), strict=True):
            expected = pystoi.stoi(target[0].numpy(), estimate[0].numpy(), RATE, extended=True)
            assert abs(float(value) - expected) < 0.03


def test_additions_disturb_more_than_losses(voices: Tensor) -> None:
    assert disturbance(voices, voices).max() < 0.01
    assert disturbance(noisy(voices, 5), voices).mean() > disturbance(noisy(voices, 15), voices).mean()
    softer, louder = (disturbance(voices * gain, voices).mean() for gain in (0.5, 2.0))
    assert louder > softer


@pytest.mark.parametrize("name", ["speech", "heard_speech", "understood_speech"])
def test_the_truth_is_where_the_losses_of_speech_lead(name: str, voices: Tensor) -> None:
    loss = LOSSES[name]
    estimate = noisy(voices, 5).requires_grad_()
    before = loss(estimate, voices)
    (gradient,) = torch.autograd.grad(before, estimate)
    assert torch.isfinite(gradient).all()
    assert (gradient * (voices - estimate)).sum() < 0
    with torch.no_grad():
        assert loss(estimate + 0.3 * (voices - estimate), voices) < before
