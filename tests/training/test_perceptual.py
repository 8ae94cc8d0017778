"""Differentiable PESQ and ESTOI agree with the originals; losses of speech lead to the clean signal."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.training.losses import LOSSES
from denoise.training.perceptual import estoi, pesq

RATE = 16_000  # Hz


@pytest.fixture(scope="module")
def voices() -> Tensor:
    """Two sounds of 2 s with a spectrum varying like speech, and a pause, `(2, 1, T)`."""
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


def test_estoi_is_one_of_the_truth_and_falls_with_noise(voices: Tensor) -> None:
    torch.testing.assert_close(estoi(voices, voices), torch.ones(2), atol=1e-4, rtol=0)
    values = [estoi(noisy(voices, snr_db), voices).mean() for snr_db in (20, 10, 0, -10)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.8
    assert values[-1] < 0.3
    foreign = torch.randn(voices.shape, generator=torch.Generator().manual_seed(2))
    assert estoi(foreign, voices).abs().max() < 0.15


def test_estoi_ignores_level_and_pauses(voices: Tensor) -> None:
    worse = noisy(voices, 5)
    torch.testing.assert_close(estoi(0.1 * worse, voices), estoi(worse, voices), atol=1e-3, rtol=0)
    pause = worse.clone()
    pause[..., 12_300:15_700] *= 30
    torch.testing.assert_close(estoi(pause, voices), estoi(worse, voices), atol=1e-3, rtol=0)


def test_what_is_too_short_or_silent_is_neither_good_nor_bad(voices: Tensor) -> None:
    for samples in (100, 6_000):
        short = voices[..., :samples]
        assert (estoi(short, short) == 0).all()
    silence = torch.zeros_like(voices)
    assert torch.isfinite(estoi(voices, silence)).all()


def test_estoi_is_that_of_the_reference_implementation(voices: Tensor) -> None:
    pystoi = pytest.importorskip("pystoi", reason="the metrics extra is not installed")
    for snr_db in (10, 0):
        worse = noisy(voices, snr_db)
        for estimate, target, value in zip(worse, voices, estoi(worse, voices), strict=True):
            expected = pystoi.stoi(target[0].numpy(), estimate[0].numpy(), RATE, extended=True)
            assert abs(float(value) - expected) < 0.03


def test_pesq_is_best_of_the_truth_and_falls_with_noise(voices: Tensor) -> None:
    torch.testing.assert_close(pesq(voices, voices), torch.full((2,), 4.5), atol=0.02, rtol=0)
    values = [pesq(noisy(voices, snr_db), voices).mean() for snr_db in (40, 25, 10, 0)]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 2


def test_pesq_ignores_levels_and_what_comes_and_goes_slowly(voices: Tensor) -> None:
    worse = noisy(voices, 15)
    score = pesq(worse, voices)
    torch.testing.assert_close(pesq(0.1 * worse, voices), score, atol=5e-3, rtol=0)
    torch.testing.assert_close(pesq(worse, 10 * voices), score, atol=5e-3, rtol=0)
    swell = 10 ** (2 * torch.sin(2 * math.pi * torch.arange(voices.shape[-1]) / RATE) / 20)  # 2 dB, in 1 s
    assert (pesq(voices * swell, voices) > 4.2).all()


def test_pesq_minds_what_is_added_more_than_what_is_lost(voices: Tensor) -> None:
    burst = slice(24_000, 28_000)
    spectrum = torch.fft.rfft(voices[..., burst])
    louder, softer = voices.clone(), voices.clone()
    for changed, gain in ((louder, 2.0), (softer, 0.5)):
        bins = spectrum.clone()
        bins[..., 250:750] *= gain  # 1 to 3 kHz
        changed[..., burst] = torch.fft.irfft(bins)
    assert (pesq(louder, voices) < pesq(softer, voices) - 0.02).all()


def test_pesq_is_that_of_the_reference_implementation(voices: Tensor) -> None:
    reference = pytest.importorskip("pesq", reason="the metrics extra is not installed")
    for snr_db in (30, 15, 5):
        worse = noisy(voices, snr_db)
        for estimate, target, value in zip(worse, voices, pesq(worse, voices), strict=True):
            mapped = reference.pesq(RATE, target[0].numpy(), estimate[0].numpy(), "wb")
            expected = (3.8224 - math.log(4 / (mapped - 0.999) - 1)) / 1.3669  # P.862.2
            assert abs(float(value) - expected) < 0.3


@pytest.mark.parametrize("name", ["speech", "speech_perceptual"])
def test_the_truth_is_where_the_losses_of_speech_lead(name: str, voices: Tensor) -> None:
    loss = LOSSES[name]
    estimate = noisy(voices, 5).requires_grad_()
    before = loss(estimate, voices)
    (gradient,) = torch.autograd.grad(before, estimate)
    assert torch.isfinite(gradient).all()
    assert (gradient * (voices - estimate)).sum() < 0
    with torch.no_grad():
        assert loss(estimate + 0.3 * (voices - estimate), voices) < before


def test_silence_is_no_reason_to_learn_what_is_heard(voices: Tensor) -> None:
    target = voices.clone()
    target[1] = 0
    estimate = noisy(target, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES["speech_perceptual"](estimate, target), estimate)
    assert torch.isfinite(gradient).all()
    (plain,) = torch.autograd.grad(LOSSES["speech"](estimate, target), estimate)
    torch.testing.assert_close(gradient[1], plain[1])
    assert not torch.allclose(gradient[0], plain[0])
