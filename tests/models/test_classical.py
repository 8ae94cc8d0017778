"""Classical denoisers on signals with a known answer."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from denoise.models.classical import filters as classical
from denoise.models.classical.audio import AudioWiener, SpectralGate

Array = NDArray[Any]
RNG_SEED = 11


def noise(*shape: int) -> Array:
    return np.random.default_rng(RNG_SEED).normal(size=shape)


def level_db(signal: Array) -> float:
    return float(10 * np.log10(np.mean(signal**2)))


def picture() -> Array:
    y, x = np.mgrid[:120, :130]
    return np.asarray(0.3 + 0.4 * ((x // 30 + y // 40) % 2) + 0.1 * np.sin(x / 9.0))


def test_median_removes_a_lone_spike() -> None:
    for row, flat in ((classical.ImageMedian(), np.zeros((9, 9))), (classical.SensorMedian(), np.zeros(9))):
        spiky = flat.copy()
        spiky[(4,) * flat.ndim] = 9.0
        assert np.array_equal(row.denoise(spiky), flat)


def test_gaussian_spreads_a_point_by_its_width() -> None:
    point = np.zeros((21, 21))
    point[10, 10] = 1.0
    spread = classical.ImageGaussian().denoise(point)
    distance = np.arange(21) - 10
    assert spread.sum() == pytest.approx(1.0)
    assert (spread.sum(axis=0) * distance**2).sum() == pytest.approx(
        classical.ImageGaussian.blur_px**2, rel=0.01
    )


@pytest.mark.parametrize("shape", [(60,), (40, 50)])
def test_the_lee_filter_is_scipys_wiener_away_from_the_edges(shape: tuple[int, ...]) -> None:
    from scipy.signal import wiener

    signal = np.cumsum(noise(*shape), axis=-1)
    inner = tuple(slice(2, -2) for _ in shape)
    ours, theirs = classical.lee_filter(signal, 5, 0.7), wiener(signal, 5, 0.7)
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=1e-9)


def test_wiener_smooths_flat_areas_and_leaves_edges() -> None:
    step = np.where(np.arange(200) < 100, 0.0, 1.0) * np.ones((50, 1))
    denoised = classical.ImageWiener().denoise(step + 0.05 * noise(50, 200))
    assert denoised[:, 20:80].std() < 0.015
    assert (denoised[:, 101] - denoised[:, 98]).mean() > 0.95


def test_total_variation_keeps_steps_and_flattens_plateaus() -> None:
    plateaus = np.repeat([0.0, 4.0, 1.0], 300)
    denoised = classical.SensorTotalVariation().denoise(plateaus + 0.3 * noise(900), 0.3)
    # far from the steps, and about each plateau's own level: the method moves levels a little
    assert max(denoised[a : a + 200].std() for a in (50, 350, 650)) < 0.1
    assert denoised[310] - denoised[290] > 3.5


@pytest.mark.parametrize("sigma", [15 / 255, 25 / 255, 50 / 255])
def test_total_variation_weight_is_near_its_best(sigma: float) -> None:
    clean = picture()
    noisy = clean + sigma * noise(*clean.shape)
    row = classical.ImageTotalVariation()

    def error_db(factor: float) -> float:
        return level_db(row.denoise(noisy, factor * sigma) - clean)

    assert error_db(1.0) < min(error_db(0.4), error_db(2.5)) - 0.5


def test_the_opponent_axes_are_orthonormal_and_gray_is_the_first() -> None:
    axes = classical._OPPONENT
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes @ np.ones(3), [3**0.5, 0, 0], atol=1e-12)


def test_colour_is_cleaned_more_than_each_channel_alone_would_be() -> None:
    clean = np.stack([picture(), 0.9 * picture(), 0.8 * picture()])
    noisy = clean + 0.1 * noise(*clean.shape)
    row = classical.ImageWavelet()
    together = row.denoise(noisy, 0.1)
    apart = np.stack([row.denoise(np.stack([channel] * 3), 0.1)[0] for channel in noisy])
    assert level_db(together - clean) < level_db(apart - clean) - 1.0


def test_non_local_means_averages_repeated_patterns() -> None:
    stripes = np.tile(np.array([0.2, 0.8, 0.5, 0.9]), (60, 15))
    noisy = np.stack([stripes + 0.1 * noise(60, 60)] * 3)
    denoised = classical.NonLocalMeans().denoise(noisy)
    assert level_db(denoised[0] - stripes) < level_db(0.1 * noise(60, 60)) - 8.0


def test_savitzky_golay_keeps_a_cubic() -> None:
    time = np.linspace(-1.0, 1.0, 101)
    cubic = time**3 - 0.5 * time
    for size in (101, 12, 11, 6, 5, 4, 3):
        np.testing.assert_allclose(classical.SavitzkyGolay().denoise(cubic[:size]), cubic[:size], atol=1e-9)


def test_butterworth_passes_half_the_amplitude_at_its_cutoff_and_shifts_nothing() -> None:
    row, at = classical.Butterworth(), np.arange(2000)

    def gain(frequency: float) -> float:
        wave = np.cos(np.pi * frequency * at)
        return float((row.denoise(wave) * wave)[500:1500].sum() / (wave**2)[500:1500].sum())

    assert gain(0.02) == pytest.approx(1.0, abs=1e-3)
    assert gain(row.cutoff) == pytest.approx(0.5, abs=0.01)  # 3 dB there and 3 dB back
    assert gain(0.7) < 1e-3
    point = (at == 1000).astype(float)
    response = row.denoise(point)[1000 - 200 : 1000 + 201]
    np.testing.assert_allclose(response, response[::-1], atol=1e-12)


def test_a_shift_of_the_log_only_shifts_what_the_wavelet_row_gives() -> None:
    signal = np.sin(np.arange(2000) / 40.0) + 0.2 * noise(2000)
    row = classical.SensorWavelet()
    whole, later = row.denoise(signal, 0.2), row.denoise(signal[1:], 0.2)
    # thresholds differ by the one sample, so not to the last digit
    np.testing.assert_allclose(later[300:-300], whole[301:-300], rtol=0, atol=0.01)


def test_bayes_threshold_by_its_definition() -> None:
    details = 2.0 * noise(20_000)  # total variance of signal and noise: 4
    assert classical._bayes_threshold(details, 1.0) == pytest.approx(1.0 / 3.0**0.5, rel=0.02)
    assert classical._bayes_threshold(details, 3.0) == np.abs(details).max()


def test_audio_wiener_is_scipys_where_the_window_holds_everything() -> None:
    from scipy.signal import wiener

    signal = np.sin(np.arange(20_000) / 60.0) + 0.1 * noise(20_000)
    ours = AudioWiener().denoise(signal)
    near = np.abs(ours - wiener(signal, 5))[5_000:15_000]
    assert near.max() < 0.02 * np.abs(signal).max()


def test_the_gate_rebuilds_what_it_lets_through() -> None:
    gate = SpectralGate()
    for size in (1, 255, 256, 1024, 5000):
        signal = noise(size)
        np.testing.assert_allclose(gate._synthesise(gate._analyse(signal), size), signal, atol=1e-12)


def test_the_floor_of_white_noise_is_its_power() -> None:
    gate = SpectralGate()
    spectrum = gate._analyse(noise(480_000))
    power = (spectrum.real**2 + spectrum.imag**2)[20:-20, 5:-5]
    assert 10 * np.log10(
        gate.floor_bias * gate._floor(power, np.zeros(len(power), bool)).mean() / power.mean()
    ) == pytest.approx(0.0, abs=0.3)


def test_the_gate_turns_noise_down_and_lets_notes_through() -> None:
    at = np.arange(64_000)
    sounding = at // 8_000 % 2 == 1
    notes = 0.3 * np.sin(2 * np.pi * 0.05 * at) * sounding
    hiss = 0.01 * noise(64_000)
    denoised = SpectralGate().denoise(notes + hiss)
    inner = at // 1_000 % 8 > 1  # away from the beginnings and ends of notes
    assert level_db(denoised[sounding & inner]) == pytest.approx(level_db(notes[sounding & inner]), abs=0.2)
    assert level_db(denoised[~sounding & inner]) < level_db(hiss) - 10.0


def test_digital_silence_does_not_hide_the_floor() -> None:
    hiss = 0.01 * noise(64_000)
    holed = hiss.copy()
    holed[30_000:40_000] = 0.0
    denoised = SpectralGate().denoise(holed)
    assert level_db(denoised[:28_000]) < level_db(hiss) - 10.0
    assert not denoised[31_100:38_900].any()
