"""Signals in blocks: streamed equals whole for any blocks, rates and gaps."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from denoise.errors import DenoiseError, InputError, UsageError
from denoise.infer.catalogue import load
from denoise.infer.stream import Levels, Stream
from denoise.models.base import Denoiser, InputSpec
from denoise.options import CleanOptions

Make = Callable[..., Any]
BLOCKS = (1, 7, 160, 480, 10**6)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def tone(hz: float, rate: float, samples: int) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(samples) / rate).astype(np.float32)[None]


def streamed(stream: Stream, signal: np.ndarray, block: int = 1000) -> np.ndarray:
    parts = [stream.feed(signal[:, i : i + block]) for i in range(0, signal.shape[-1], block)]
    return np.concatenate([*parts, stream.flush()], axis=-1)


def whole(model: Denoiser, signal: np.ndarray) -> np.ndarray:
    extra = -signal.shape[-1] % model.spec.multiple_of
    with torch.inference_mode():
        batch = torch.from_numpy(np.pad(signal, ((0, 0), (0, extra)), mode="edge"))[:, None]
        return model(batch)[:, 0, : signal.shape[-1]].numpy()


@pytest.mark.parametrize("samples", [1, 2, 9, 500, 1313])
@pytest.mark.parametrize("block", [5, 64, 10**6])
def test_a_windowed_model_equals_one_run(strided_signal: Denoiser, samples: int, block: int) -> None:
    signal = noise(3, samples)
    result = streamed(Stream(strided_signal, 3, block=block), signal)
    np.testing.assert_allclose(result, whole(strided_signal, signal), atol=1e-5)


@pytest.mark.parametrize("samples", [1, 8, 9, 500, 1313])
@pytest.mark.parametrize("block", [5, 64, 10**6])
def test_a_recurrent_model_equals_one_run(recurrent: Make, samples: int, block: int) -> None:
    model, signal = recurrent(), noise(3, samples)
    result = streamed(Stream(model, 3, block=block), signal)
    np.testing.assert_allclose(result, whole(model, signal), atol=1e-5)


def test_a_model_that_needs_everything_gets_everything_once(gain: Make) -> None:
    model, signal = gain(modality="sensor", halo=None, multiple_of=4), noise(2, 999)
    stream = Stream(model, 2, block=64)
    assert stream.feed(signal[:, :600]).shape == (2, 0)
    result = np.concatenate([stream.feed(signal[:, 600:]), stream.flush()], axis=-1)
    np.testing.assert_allclose(result, signal / 2, atol=1e-6)
    assert (model.longest, model.calls) == (1000, 1)


@pytest.mark.parametrize("rate", [None, 16000, 44100])
@pytest.mark.parametrize("kind", ["windows", "recurrent", "whole"])
def test_the_output_does_not_depend_on_the_blocks_fed(
    strided_signal: Denoiser, recurrent: Make, gain: Make, kind: str, rate: float | None
) -> None:
    model = {
        "windows": lambda: strided_signal,
        "recurrent": recurrent,
        "whole": lambda: gain(modality="sensor", halo=None),
    }[kind]()
    spec = model.spec
    model.spec = InputSpec(spec.modality, 1, spec.multiple_of, spec.halo, sample_rate=rate and 16000)
    signal = noise(2, 1501)
    results = [streamed(Stream(model, 2, rate, block=256), signal, block) for block in BLOCKS]
    model.spec = spec
    assert results[0].shape == signal.shape
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000])
def test_noise_is_removed_in_place_at_any_rate(gain: Make, rate: float) -> None:
    model = gain(modality="audio", sample_rate=16000.0)
    samples = rate // 2 + 3
    signal = tone(1000, rate, samples)
    result = streamed(Stream(model, 1, rate), signal)
    assert result.shape == signal.shape
    inner = slice(rate // 20, -rate // 20)
    np.testing.assert_allclose(result[:, inner], signal[:, inner] / 2, atol=1e-4)


@pytest.mark.parametrize("rate", [22050, 44100, 48000, 96000, 192000])
@pytest.mark.parametrize("factor", [0.0, 0.25, 1.0])
def test_the_band_above_the_models_follows_the_top_of_it(gain: Make, rate: float, factor: float) -> None:
    model = gain(factor, modality="audio", sample_rate=16000.0)
    parts = [tone(hz, rate, rate // 2) / 3 for hz in (300, 6500, 0.45 * rate)]
    result = streamed(Stream(model, 1, rate), sum(parts))
    inner = slice(rate // 10, -rate // 20)
    np.testing.assert_allclose(result[:, inner], factor * sum(parts)[:, inner], atol=1e-3)


class Muffler(Denoiser):
    """A moving mean, whose gain at 6 kHz is 0.11."""

    spec = InputSpec("audio", halo=4, sample_rate=16000.0)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool1d(noisy, 9, 1, 4, count_include_pad=False)


def test_the_unseen_band_opens_as_soon_as_the_seen_one_does() -> None:
    rate = 48000
    high, seen = tone(15000, rate, rate) / 3, tone(6000, rate, rate) / 3
    seen[:, rate // 2 :] = 0  # from here on nothing is removed above 5 kHz
    high[:, : rate // 2] /= 40  # a new sound: what stays as it was is hiss, which stays as faint as before
    result = streamed(Stream(Muffler(), 1, rate), high + seen)
    assert rms(result[:, 4800:19200]) == pytest.approx(0.11 * rms((high + seen)[:, 4800:19200]), rel=0.2)
    np.testing.assert_allclose(result[:, 40000:-2000], high[:, 40000:-2000], atol=2e-3)


def test_hiss_above_the_band_is_as_faint_in_speech_as_in_pauses() -> None:
    rate, hiss = 48000, 0.01 * np.random.default_rng(3).standard_normal((1, 96000)).astype(np.float32)
    voice = load("speech-live")
    spoken = soundfile.read("data/samples/reference/recordings/voice_24bit_48k.wav", dtype="float32")[0][None]
    spoken = spoken[:, :48000] * np.float32(0.2 / np.abs(spoken).max())
    spoken = np.concatenate([np.zeros_like(spoken), spoken], axis=1)[:, :96000]
    result = streamed(Stream(voice, 1, rate), spoken + hiss)
    band = scipy.signal.butter(8, 12_000, "highpass", fs=rate, output="sos")
    before, after = (scipy.signal.sosfilt(band, x)[0] for x in (hiss, result))
    in_pauses, in_speech = (
        rms(after[at]) / rms(before[at]) for at in (slice(24000, 46000), slice(60000, 90000))
    )
    assert in_pauses < 0.4
    assert in_speech < 0.12  # without the noise of the upper band itself it is 0.5


def rms(signal: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(signal))))


def test_the_channels_of_a_recording_share_one_gain() -> None:
    """A voice left of the centre stays there; hiss on one side does not move it."""
    speech = load("speech")
    voice = soundfile.read("data/samples/reference/recordings/voice_24bit_48k.wav", dtype="float32")[0][None]
    noisy = np.concatenate([voice, -0.5 * voice, 0 * voice])
    result = streamed(Stream(speech, 3, 48000), noisy)
    np.testing.assert_allclose(result[1], -0.5 * result[0], atol=1e-4)
    np.testing.assert_array_equal(result[2], 0)


@pytest.mark.parametrize("rate", [44100, 48000, 8000])
def test_a_recurrent_model_is_aligned_at_other_rates(recurrent: Make, rate: float) -> None:
    """The stream equals resampling the whole, one run, and resampling back."""
    import soxr

    model = recurrent(modality="sensor", sample_rate=16000.0)
    signal = noise(2, 4001)
    inside = soxr.resample(signal.T, rate, 16000).T.copy()
    removed = soxr.resample((inside - whole(model, inside)).T, 16000, rate).T
    expected = signal.copy()
    size = min(signal.shape[-1], removed.shape[-1])
    expected[:, :size] -= removed[:, :size]
    result = streamed(Stream(model, 2, rate, block=512), signal)
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("samples", [0, 1, 2, 3])
@pytest.mark.parametrize("rate", [8000, 192000])
def test_length_is_kept_for_the_shortest_signals(recurrent: Make, samples: int, rate: float) -> None:
    stream = Stream(recurrent(sample_rate=16000.0), 2, rate)
    assert streamed(stream, noise(2, samples)).shape == (2, samples)


@pytest.mark.parametrize("samples", [1, 20, 479, 1439])
@pytest.mark.parametrize("block", [1, 480, 10**6])
def test_a_recording_of_a_few_milliseconds_stays(samples: int, block: int) -> None:
    """Nothing in it tells noise from sound, whether it comes at once or sample by sample."""
    signal = noise(1, samples)
    result = streamed(Stream(load("speech-live"), 1, 48_000), signal, block)
    np.testing.assert_array_equal(result, signal)
    assert (
        np.abs(streamed(Stream(load("speech-live"), 1, 48_000), noise(1, 9600)) - noise(1, 9600)).max() > 0.1
    )


def test_a_giant_block_is_cut(gain: Make) -> None:
    model = gain(modality="sensor", halo=3)
    streamed(Stream(model, 1, block=128), noise(1, 5000), block=5000)
    assert model.longest <= 128 + 2 * 3


@pytest.mark.parametrize("kind", ["windows", "recurrent"])
@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 47999, 48000, 192000])
def test_the_declared_latency_is_kept_and_reached(
    gain: Make, recurrent: Make, kind: str, rate: float
) -> None:
    spec = {"modality": "audio", "sample_rate": 16000.0}
    model = recurrent(**spec) if kind == "recurrent" else gain(halo=300, **spec)
    stream, waiting, most = Stream(model, 1, rate, block=None if kind == "recurrent" else 256), 0, 0
    assert stream.latency_samples is not None
    for _ in range(max(200, rate // 37)):
        waiting += 37
        most = max(most, waiting := waiting - stream.feed(noise(1, 37)).shape[-1])
    assert 0.9 * stream.latency_samples - 40 <= most <= stream.latency_samples
    assert Stream(gain(modality="audio", halo=None), 1, rate).latency_samples is None


def test_memory_does_not_grow_with_what_was_fed(recurrent: Make) -> None:
    stream, block = Stream(recurrent(sample_rate=16000.0), 2, 48000), noise(2, 480)
    sizes = []
    tracemalloc.start()
    for _ in range(4):
        for _ in range(150):
            stream.feed(block)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert max(sizes[1:]) < sizes[0] + 200_000  # bytes; all that was fed is 2.3 million


def test_many_channels_are_cleaned_alone(recurrent: Make) -> None:
    signal = noise(9, 400)
    together = streamed(Stream(recurrent(), 9, block=2**16), signal)
    alone = [streamed(Stream(recurrent(), 1), row[None])[0] for row in signal]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_buffer_may_be_refilled_by_the_caller(gain: Make) -> None:
    stream, buffer, parts = Stream(gain(modality="sensor"), 1, block=100), np.empty((1, 30), np.float32), []
    for value in range(10):
        buffer[:] = value
        parts.append(stream.feed(buffer))
    result = np.concatenate([*parts, stream.flush()], axis=-1)
    np.testing.assert_allclose(result[0], np.repeat(np.arange(10) / 2, 30))


def test_a_model_gets_silence_for_what_is_too_faint_for_its_powers(gain: Make) -> None:
    given: list[torch.Tensor] = []
    model = gain(modality="audio")
    model.register_forward_pre_hook(lambda _, args: given.append(args[0].clone()))
    faint = np.float32([[2e-34, -1e-20, 1e-9, 1.0] * 100])
    result = streamed(Stream(model, 1), faint)
    seen = torch.cat([part.flatten() for part in given])
    assert set(seen.tolist()) == {0.0, np.float32(1e-9), 1.0}
    np.testing.assert_array_equal(result[faint == np.float32(2e-34)], np.float32(2e-34))


def test_strength(gain: Make) -> None:
    signal = noise(2, 500)
    for strength in (0.0, 0.3, 1.0):
        result = streamed(Stream(gain(modality="sensor"), 2, strength=strength), signal)
        np.testing.assert_allclose(result, signal * (1 - strength / 2), atol=1e-6)
    model = gain(modality="sensor")
    np.testing.assert_array_equal(streamed(Stream(model, 2, strength=0.0), signal), signal)
    assert model.calls == 0


def test_an_attenuation_limit_is_a_floor_of_the_gain(gain: Make) -> None:
    signal = noise(2, 500)
    for limit_db, floor in ((0.0, 1.0), (20.0, 0.1), (None, 0.0)):
        strength = CleanOptions(max_attenuation_db=limit_db).bounded_strength
        stream = Stream(gain(0.0, modality="audio"), 2, strength=strength)
        np.testing.assert_allclose(streamed(stream, signal), floor * signal, atol=1e-6)
    assert CleanOptions(strength=0.3, max_attenuation_db=40.0).bounded_strength == 0.3
    for wrong in (-1.0, float("nan")):
        with pytest.raises(UsageError, match="max_attenuation_db"):
            CleanOptions(max_attenuation_db=wrong)


def test_gaps_come_back_as_gaps_and_spare_their_neighbours(strided_signal: Denoiser) -> None:
    signal = np.cumsum(noise(1, 300), axis=-1).astype(np.float64)
    bridged = signal.copy()
    bridged[0, 100:109] = np.linspace(signal[0, 99], signal[0, 109], 11)[1:-1]
    bridged[0, :2], bridged[0, 290:] = signal[0, 2], signal[0, 289]
    gappy = signal.copy()
    gappy[0, 100:109] = gappy[0, :2] = gappy[0, 290:] = np.nan
    result = streamed(Stream(strided_signal, 1), gappy)
    missing = np.isnan(gappy)
    np.testing.assert_array_equal(np.isnan(result), missing)
    np.testing.assert_allclose(
        result[~missing], whole(strided_signal, bridged.astype("f4"))[~missing], atol=1e-4
    )


class Recorder(Denoiser):
    """A stage that records its input."""

    spec = InputSpec("sensor")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[np.ndarray] = []

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        self.seen.append(noisy[:, 0].numpy().copy())
        return noisy * 0


def bridge(row: np.ndarray, ramp: int = 4096) -> np.ndarray:
    """The rule for gaps, applied to the whole signal at once."""
    out, present = row.copy(), np.flatnonzero(~np.isnan(row))
    if not len(present):
        return np.zeros_like(row)
    for i in np.flatnonzero(np.isnan(row)):
        after = present[present > i]
        before = present[present < i]
        first = row[present[0]] if present[0] <= ramp else 0.0
        value = row[before[-1]] if len(before) else first
        if len(after):
            left = max(before[-1] if len(before) else -1, after[0] - ramp - 1)
            share = max(0.0, (i - left) / (after[0] - left))
            value += (row[after[0]] - value) * share
        out[i] = value
    return out


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 11000), st.integers(1, 6000)), min_size=1, max_size=4),
    st.sampled_from([100, 3000, 10**6]),
)
def test_gaps_are_bridged_by_one_rule_for_any_block(gaps: list[tuple[int, int]], block: int) -> None:
    signal = noise(2, 11000).astype(np.float64)
    for start, size in gaps:
        signal[0, start : start + size] = np.nan
    model = Recorder()
    result = streamed(Stream(model, 2, block=block), signal, 5000)
    assert result.shape == signal.shape
    seen = np.concatenate(model.seen, axis=-1)
    np.testing.assert_allclose(seen[0], bridge(signal[0]), atol=1e-5)
    np.testing.assert_allclose(seen[1], signal[1], atol=1e-6)


def test_a_channel_of_gaps_only_passes(strided_signal: Denoiser) -> None:
    signal = noise(2, 5000).astype(np.float64)
    signal[1] = np.nan
    result = streamed(Stream(strided_signal, 2, block=100), signal)
    assert np.isnan(result[1]).all()
    assert np.isfinite(result[0]).all()


def test_offset_and_scale_are_taken_off_and_put_back() -> None:
    model, signal = Recorder(), noise(2, 800) * np.array([[3.0], [1e-3]]) + np.array([[1e6], [0.0]])
    model.spec = InputSpec("sensor", centre=True, scale=True)
    levels = Levels(2)
    for start in range(0, 800, 37):
        levels.update(signal[:, start : start + 37])
    offset, scale = levels.offset_and_scale(model.spec)
    np.testing.assert_allclose(offset, signal.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(scale, signal.std(axis=1), rtol=1e-9)
    result = streamed(Stream(model, 2, offset=offset, scale=scale), signal)
    seen = np.concatenate(model.seen, axis=-1)
    np.testing.assert_allclose(seen.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(result, np.broadcast_to(offset[:, None], (2, 800)), rtol=1e-6, atol=1e-9)


def test_levels_ignore_gaps_and_tell_what_is_constant() -> None:
    signal = np.full((3, 90), 0.1)
    signal[1, 5] = 0.2
    signal[2] = np.nan
    signal[0, 7:60] = np.nan
    levels = Levels(3)
    for start in range(0, 90, 11):
        levels.update(signal[:, start : start + 11])
    assert levels.varies.tolist() == [False, True, False]
    _, scale = levels.offset_and_scale(InputSpec("sensor", scale=True))
    assert scale.tolist() == [0.0, pytest.approx(np.nanstd(signal[1])), 0.0]


def test_scale_0_leaves_a_channel_as_it_is(gain: Make) -> None:
    signal = noise(2, 100)
    result = streamed(Stream(gain(modality="sensor"), 2, scale=[0, 1]), signal)
    np.testing.assert_array_equal(result[0], signal[0])
    np.testing.assert_allclose(result[1], signal[1] / 2, atol=1e-6)


def test_sigma_is_in_the_signals_units(sigma_gain: Make) -> None:
    model = sigma_gain(modality="sensor")
    streamed(Stream(model, 2, sigma=3.0, scale=[2.0, 6.0]), noise(2, 100))
    assert model.sigmas == [1.5, 0.5]


@pytest.mark.parametrize("block", BLOCKS)
def test_infinite_samples_are_named(gain: Make, block: int) -> None:
    signal = noise(2, 400)
    signal[1, 321] = np.inf
    with pytest.raises(InputError, match="sample 321 of channel 2 is inf"):
        streamed(Stream(gain(modality="sensor"), 2, block=50), signal, block)


def test_nan_in_audio_is_named(gain: Make) -> None:
    signal = noise(1, 400)
    signal[0, 57] = np.nan
    with pytest.raises(InputError, match="sample 57 of channel 1 is nan"):
        streamed(Stream(gain(modality="audio"), 1), signal)


def test_an_answer_that_is_no_number_is_an_error(gain: Make) -> None:
    with pytest.raises(DenoiseError, match="not a finite"):
        streamed(Stream(gain(float("nan"), modality="audio"), 1), noise(1, 40))


def test_calls_that_cannot_be_honoured(gain: Make, recurrent: Make) -> None:
    audio = gain(modality="audio", sample_rate=16000.0)
    for match, call in {
        "sample rate is 0": lambda: Stream(audio, 1, 0),
        "no sigma": lambda: Stream(audio, 1, 16000, sigma=1.0),
        "Recurrent finds": lambda: Stream(recurrent(), 1, sigma=1.0),
        "strength": lambda: Stream(audio, 1, 16000, strength=2),
        "for images": lambda: Stream(gain(modality="image"), 1),
        "channels is 0": lambda: Stream(audio, 0, 16000),
        "block is 0": lambda: Stream(audio, 1, 16000, block=0),
        r"\(2, n\)": lambda: Stream(audio, 2, 16000).feed(noise(3, 5)),
    }.items():
        with pytest.raises(UsageError, match=match):
            call()
    stream = Stream(audio, 1, 16000)
    stream.flush()
    assert stream.flush().shape == (1, 0)
    with pytest.raises(UsageError, match="has ended"):
        stream.feed(noise(1, 5))


class Gapped(Denoiser):
    """A denoiser whose estimate of the noise is the smoothed gap mask."""

    spec = InputSpec("sensor", halo=4, takes_gap_mask=True)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        assert noisy.shape[1] == 2
        return noisy[:, :1] - torch.nn.functional.avg_pool1d(noisy[:, 1:], 9, 1, 4)


@pytest.mark.parametrize("block", [7, 64, 10**6])
def test_a_model_that_wants_to_know_gaps_is_told_those_of_each_channel(block: int) -> None:
    signal = noise(3, 500)
    signal[0, 100:110] = signal[2, 490:] = np.nan
    result = streamed(Stream(Gapped(), 3, block=block), signal)
    missing = np.isnan(signal)
    near = np.stack([np.convolve(row, np.ones(9) / 9, "same") for row in missing])
    np.testing.assert_array_equal(np.isnan(result), missing)
    np.testing.assert_allclose(result[~missing], (signal - near)[~missing], atol=1e-6)


class Smear(Denoiser):
    """A mean of nine neighbours, to which a giant is as good as any."""

    spec = InputSpec("sensor", halo=4, centre=True, scale=True)

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool1d(noisy, 9, 1, 4)


@pytest.mark.parametrize("giants", [1, 7, 60])
@pytest.mark.parametrize("block", [333, 5000])
def test_no_giant_changes_a_neighbour_by_more_than_the_usual_range(giants: int, block: int) -> None:
    rng = np.random.default_rng(giants)
    signal = 3000 * np.sin(np.arange(5000) / 30)[None] + rng.normal(0, 300, (1, 5000))
    width = np.ptp(signal)
    at = rng.choice(5000, giants, replace=False)
    signal[0, at] = rng.choice([-1, 1], giants) * 10.0 ** rng.uniform(7, 12, giants)
    levels = Levels(1)
    for start in range(0, 5000, block):
        levels.update(signal[:, start : start + block])
    low, high = (float(end[0]) for end in levels.usual)
    assert high - low == pytest.approx(width, rel=0.1)
    offset, scale = levels.offset_and_scale(Smear.spec)
    stream = Stream(Smear(), 1, offset=offset, scale=scale, bounds=levels.bounds, usual=levels.usual)
    result = streamed(stream, signal)
    others = ~np.isin(np.arange(5000), at)
    assert np.abs(result - signal)[0, others].max() <= width
    np.testing.assert_array_equal(result[0, at], signal[0, at])  # the mean is nowhere near the others


def test_a_giant_that_a_model_mends_is_mended() -> None:
    class Mend(Smear):
        def forward(self, noisy: torch.Tensor) -> torch.Tensor:
            return noisy.clamp(-5, 5)

    signal = noise(1, 3000).astype(np.float64)
    signal[0, 1000] = 1e6
    levels = Levels(1)
    levels.update(signal)
    offset, scale = levels.offset_and_scale(Mend.spec)
    result = streamed(Stream(Mend(), 1, offset=offset, scale=scale, usual=levels.usual), signal)
    assert abs(result[0, 1000]) < 8
    np.testing.assert_allclose(np.delete(result, 1000), np.delete(signal, 1000), atol=1e-6)


def test_the_usual_range_of_a_log_without_giants_is_all_of_it() -> None:
    for signal in (noise(1, 9000), np.where(noise(1, 9000) > 2, 5.0, 0.0), noise(1, 9000) ** 3, noise(1, 5)):
        levels = Levels(1)
        levels.update(signal)
        assert [float(end[0]) for end in levels.usual] == [signal.min(), signal.max()]
