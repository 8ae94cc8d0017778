"""Promises of the shipped speech models: any rate, layout, level and blocks, and no harm."""

from pathlib import Path

import numpy as np
import pytest
import torch

import denoise
from denoise import io
from denoise.corruptions import parse
from denoise.dsp.resample import resample
from denoise.infer.cleaner import Cleaner
from denoise.metrics import si_sdr_db
from denoise.models.table import LIVE_MODEL
from denoise.training.perceptual import estoi

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
RATE = 16_000


@pytest.fixture(scope="module", params=["speech", LIVE_MODEL])
def model(request: pytest.FixtureRequest) -> Cleaner:
    return denoise.load(request.param, "audio")


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """The start of a reading with noise, and without: `(1, n)` both."""
    places = (SAMPLES / place / "recordings" / "reading_stereo_44k.flac" for place in (".", "reference"))
    noisy, truth = (resample(io.read(path)[0][:1], 44_100, RATE)[:, : 2 * RATE] for path in places)
    return noisy, truth


@pytest.mark.parametrize(
    ("rate", "channels"),
    [(8000, 1), (16_000, 2), (22_050, 3), (44_100, 2), (48_000, 8), (96_000, 1), (192_000, 1)],
)
def test_any_rate_and_number_of_channels(
    model: Cleaner, pair: tuple[np.ndarray, np.ndarray], rate: int, channels: int
) -> None:
    noisy, truth = (resample(x, RATE, rate)[:, : rate + 7] for x in pair)
    shares = np.linspace(1.0, -0.5, channels, dtype=np.float32)[:, None]
    cleaned = model.clean((shares * noisy).T, rate).T
    assert cleaned.shape == (channels, rate + 7)
    for channel in np.flatnonzero(shares):  # joint gains: each channel is its share of the first
        np.testing.assert_allclose(cleaned[channel] / shares[channel], cleaned[0], atol=1e-4)
    assert si_sdr_db(truth, cleaned[:1]) > si_sdr_db(truth, noisy) + 1.0


def test_loud_faint_clipped_and_off_centre(model: Cleaner, pair: tuple[np.ndarray, np.ndarray]) -> None:
    noisy, truth = pair
    noisy, truth = noisy - noisy.mean(), truth - truth.mean()
    usual = si_sdr_db(truth, model.clean(noisy[0], RATE)[None])
    for gain_db in (-60, -30, 12, 90.3):  # the last is the scale of 16-bit integers
        cleaned = model.clean(noisy[0] * 10 ** (gain_db / 20), RATE)
        assert si_sdr_db(truth, cleaned[None]) > usual - 1.0, gain_db
    for offset in (0.05, -0.3):
        off_centre = model.clean(noisy[0] + offset, RATE)
        assert si_sdr_db(truth, off_centre[None] - offset) > usual - 0.01
    peak = 0.3 * np.abs(noisy).max()
    clipped = np.clip(noisy, -peak, peak)
    assert si_sdr_db(truth, model.clean(clipped[0], RATE)[None]) > si_sdr_db(truth, clipped)


@pytest.mark.parametrize("hz", [8, 25])
def test_rumble_below_any_voice_is_removed(
    model: Cleaner, pair: tuple[np.ndarray, np.ndarray], hz: float
) -> None:
    noisy, _ = pair
    wave = np.exp(2j * np.pi * hz * np.arange(noisy.size) / RATE)
    rumble = 0.1 * wave.real
    inner = slice(RATE // 4, -RATE // 4)
    left = np.abs(np.vdot(wave[inner], model.clean(noisy[0] + rumble, RATE)[inner]))
    assert left < 0.05 * np.abs(np.vdot(wave[inner], rumble[inner]))


def test_clean_speech_comes_back_and_silence_is_silent(
    model: Cleaner, pair: tuple[np.ndarray, np.ndarray]
) -> None:
    _, truth = pair
    assert si_sdr_db(truth, model.clean(truth[0], RATE)[None]) > 18.0
    assert not model.clean(np.zeros(5000), RATE).any()
    gap = truth[0].copy()
    gap[8000:16_000] = 0.0
    assert not model.clean(gap, RATE)[9600:14_400].any()


@pytest.mark.parametrize("name", ["reading_16k.wav", "reading_stereo_44k.flac"])
def test_a_good_recording_is_left(name: str) -> None:
    """Keep its rumble and its room: what is removed lies far below the voice."""
    voice, info = io.read(SAMPLES / "reference" / "recordings" / name)
    cleaned = denoise.load("auto", "audio").clean(voice.T, info.sample_rate).T
    assert si_sdr_db(voice, cleaned) > 35.0


@pytest.mark.parametrize("noise_db", [-15, -20, -30, -90])
def test_a_voice_stays_as_loud_as_it_was(noise_db: float) -> None:
    path = Path(__file__).parents[2] / "data/samples/reference/recordings/reading_16k.wav"
    clean, _ = io.read(path)
    noise = np.random.default_rng(0).standard_normal(clean.shape) * clean.std() * 10 ** (noise_db / 20)
    cleaned = denoise.load("speech").clean((clean + noise).astype(np.float32), sample_rate=16_000)
    assert (
        abs(20 * np.log10(np.vdot(clean, cleaned) / np.vdot(clean, clean))) < 0.3
    )  # without matching: up to 0.9


@pytest.mark.parametrize("noise", ["white", "pink", "hum"])
def test_no_word_is_deleted(pair: tuple[np.ndarray, np.ndarray], noise: str) -> None:
    _, truth = (torch.from_numpy(x)[None] for x in pair)
    speech = denoise.load("speech", "audio")
    for snr_db in (-5, 5, 15, 30):
        noisy = parse(f"{noise}:snr_db={snr_db}")(truth, torch.Generator().manual_seed(0), RATE)
        cleaned = torch.from_numpy(speech.clean(noisy[0, 0].numpy(), RATE))[None, None].float()
        assert estoi(cleaned, truth) > estoi(noisy, truth) - 0.01, snr_db


def test_a_quiet_voice_behind_a_loud_one_stays(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """The quiet reader is 15 dB below the voice before, and at the level of the crackle."""
    noisy, quiet = pair
    path = SAMPLES / "reference" / "recordings" / "voice_24bit_48k.wav"
    loud = np.tile(resample(io.read(path)[0], 48_000, RATE), 2)
    crackle = noisy - quiet
    crackle *= quiet.std() / crackle.std()
    loud *= 10 ** (15 / 20) * quiet.std() / loud.std()
    both = np.concatenate([loud, quiet], 1) + np.resize(crackle, (1, loud.shape[1] + quiet.shape[1]))
    cleaned = denoise.load("speech", "audio").clean(both[0], RATE)[loud.shape[1] :]
    assert 20 * np.log10(cleaned @ quiet[0] / (quiet[0] @ quiet[0])) > -5.0


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("block", [RATE // 100, 10**6])
def test_integers_are_cleaned_as_floats_are(
    model: Cleaner, pair: tuple[np.ndarray, np.ndarray], bits: int, block: int
) -> None:
    full = 2 ** (bits - 1)
    integers = np.round(pair[0] * 2**15).astype(f"int{bits}") * (full // 2**15)
    results = []
    for samples in (integers, (integers / full).astype(np.float32)):
        stream = denoise.Stream(model, 1, RATE)
        parts = [stream.feed(samples[:, at : at + block]) for at in range(0, samples.shape[1], block)]
        results.append(np.concatenate([*parts, stream.flush()], 1))
    np.testing.assert_allclose(results[0] / full, results[1], atol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 160, 480, 10**6])
def test_live_the_blocks_do_not_matter(block: int) -> None:
    live = denoise.load(LIVE_MODEL)
    signal = 0.1 * np.random.default_rng(0).standard_normal((2, 3000)).astype(np.float32)
    results = []
    for size in (block, 1000):
        stream = denoise.Stream(live, 2, RATE)
        parts = [stream.feed(signal[:, at : at + size]) for at in range(0, 3000, size)]
        results.append(np.concatenate([*parts, stream.flush()], 1))
    np.testing.assert_array_equal(results[0], results[1])
    # 40 ms: a frame and half a hop, less one sample.
    assert denoise.Stream(live, 2, RATE).latency_samples == 639


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000, 96_000])
def test_live_higher_rates_are_hardly_later(rate: int) -> None:
    late = denoise.Stream(denoise.load(LIVE_MODEL), 1, rate).latency_samples
    assert late is not None
    assert late < 0.046 * rate
