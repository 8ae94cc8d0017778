"""Level of each corruption, measured; and its text form."""

import dataclasses
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import signal as dsp
from torch import Tensor

import denoise.io
from denoise.corruptions import Chain, Choice, RandomLevel, corrupt, parse, with_level
from denoise.corruptions.audio import Background
from denoise.corruptions.general import Gaussian
from denoise.corruptions.image import Jpeg
from denoise.errors import InputError, UsageError
from denoise.signal import SignalInfo

SAMPLE_RATE = 8000.0  # Hz


def apply(text: str, clean: Tensor, seed: int = 0, sample_rate: float | None = SAMPLE_RATE) -> Tensor:
    return parse(text)(clean, torch.Generator().manual_seed(seed), sample_rate)


def flat(value: float = 0.5, size: int = 256, items: int = 2) -> Tensor:
    return torch.full((items, 3, size, size), value)


def tone(
    frequency: float = 440.0, samples: int = 16384, amplitude: float = 0.5, offset: float = 0.3
) -> Tensor:
    """Two items of two channels; the offset is no part of the signal's power."""
    time = torch.arange(samples, dtype=torch.float64) / SAMPLE_RATE
    wave = amplitude * torch.sin(2 * math.pi * frequency * time) + offset
    return torch.stack([wave, 0.1 * wave]).expand(2, 2, samples).float()


def snr_db(clean: Tensor, noisy: Tensor) -> Tensor:
    """SNR in dB of each item and channel."""
    noise = (noisy - clean).double()
    return 10 * torch.log10(clean.double().var(-1, correction=0) / noise.square().mean(-1))


def impulse(size: int) -> Tensor:
    image = torch.zeros(1, 1, size, size)
    image[..., size // 2, size // 2] = 1
    return image


def second_moments(kernel: Tensor) -> tuple[float, float, float]:
    """Vertical and horizontal variance, and covariance, of an impulse's image, in pixels squared."""
    mass = kernel[0, 0].double()
    offset = torch.arange(mass.shape[0], dtype=torch.float64) - mass.shape[0] // 2
    assert mass.sum().item() == pytest.approx(1, abs=1e-5)
    assert (mass.sum(1) @ offset).item() == pytest.approx(0, abs=1e-4)  # centred
    down, across = (mass.sum(1) @ offset**2).item(), (mass.sum(0) @ offset**2).item()
    return down, across, (offset @ mass @ offset).item()


def slope_db_per_octave(noise: NDArray[np.float64]) -> float:
    frequency, density = dsp.welch(noise, fs=1.0, nperseg=2048)
    band = (frequency > 0.004) & (frequency < 0.4)
    return float(np.polyfit(np.log2(frequency[band]), 10 * np.log10(density[..., band].mean(0)), 1)[0])


# ---- additive noise --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [5.0, 25.0, 50.0])
def test_gaussian_sigma_is_in_8_bit_units(sigma: float) -> None:
    noise = (apply(f"gaussian:sigma={sigma}", flat()) - 0.5) * 255
    assert noise.std().item() == pytest.approx(sigma, rel=0.01)
    assert noise.mean().item() == pytest.approx(0, abs=sigma / 100)
    assert (noise / sigma).pow(4).mean().item() == pytest.approx(3, rel=0.03)  # kurtosis of a Gaussian
    shifted = (noise[..., 1:] * noise[..., :-1]).mean().item() / sigma**2
    assert shifted == pytest.approx(0, abs=0.01)  # white
    assert (noise[:, 0] * noise[:, 1]).mean().item() / sigma**2 == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("text", ["gaussian", "white", "pink", "brown", "coloured", "hum", "baseline"])
@pytest.mark.parametrize("level", [-5.0, 12.0])
def test_snr_is_met_in_each_channel(text: str, level: float) -> None:
    measured = snr_db(tone(), apply(f"{text}:snr_db={level}", tone()))
    torch.testing.assert_close(measured, torch.full_like(measured, level), atol=0.2, rtol=0)


def test_snr_ignores_gaps() -> None:
    clean = tone()
    clean = clean.clone()
    clean[..., 4000:12000] = math.nan
    kept = ~clean[0, 0].isnan()
    noisy = apply("gaussian:snr_db=6", clean)
    measured = snr_db(clean[..., kept], noisy[..., kept])
    torch.testing.assert_close(measured, torch.full_like(measured, 6), atol=0.2, rtol=0)


def test_silence_stays_silent() -> None:
    silence = torch.full((1, 2, 500), 0.25)
    for text in ("gaussian:snr_db=0", "pink", "hum", "baseline", "spikes", "drift"):
        assert torch.equal(apply(text, silence), silence)


@pytest.mark.parametrize(
    ("text", "slope"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02), ("coloured:exponent=-1", 3.01)]
)
def test_colour_is_a_slope_in_db_per_octave(text: str, slope: float) -> None:
    clean = tone(samples=1 << 17)
    noise = (apply(text, clean) - clean)[:, 0].double().numpy()
    assert slope_db_per_octave(noise) == pytest.approx(slope, abs=0.15)


def test_coloured_noise_does_not_close_into_a_circle() -> None:
    clean = torch.randn(200, 1, 1024, generator=torch.Generator().manual_seed(1))
    noise = (apply("brown:snr_db=0", clean) - clean)[:, 0]
    step = noise.diff(dim=-1).square().mean()
    assert (noise[:, -1] - noise[:, 0]).square().mean() > 100 * step


def test_exponent_is_drawn_per_item() -> None:
    clean = tone(samples=1 << 16)
    noise = (apply("coloured:exponent=0..3", clean) - clean)[:, 0].double().numpy()
    slopes = [slope_db_per_octave(item[None]) for item in noise]
    assert abs(slopes[0] - slopes[1]) > 0.5


def test_poisson_gaussian_variance_is_a_line() -> None:
    photons, read = 200.0, 5.0
    for brightness in (0.0, 0.1, 0.5, 1.0):
        noisy = apply(f"poisson-gaussian:photons={photons},read_electrons={read}", flat(brightness))
        assert noisy.mean().item() == pytest.approx(brightness, abs=1e-3)
        wanted = brightness / photons + (read / photons) ** 2
        assert noisy.var().item() == pytest.approx(wanted, rel=0.02)


def test_shot_noise_alone_counts_electrons() -> None:
    electrons = apply("poisson-gaussian:photons=20,read_electrons=0", flat(0.5)) * 20
    torch.testing.assert_close(electrons, electrons.round(), atol=1e-4, rtol=0)
    assert (electrons.round() == 10).float().mean().item() == pytest.approx(
        0.1251, abs=0.004
    )  # e^-10 10^10/10!


def test_speckle_grows_with_the_signal() -> None:
    for value in (0.2, 0.8):
        noise = apply("speckle:sigma=0.15", flat(value)) - value
        assert noise.std().item() == pytest.approx(0.15 * value, rel=0.02)


def test_hum_stands_at_the_mains_and_its_harmonics() -> None:
    clean = torch.randn(2, 1, 32000, generator=torch.Generator().manual_seed(4))
    hum = (apply("hum:frequency_hz=60,harmonics=3,snr_db=0", clean) - clean)[0, 0].double().numpy()
    spectrum = np.abs(np.fft.rfft(hum * np.hanning(hum.size)))
    frequency = np.fft.rfftfreq(hum.size, 1 / SAMPLE_RATE)
    peaks, _ = dsp.find_peaks(spectrum, height=spectrum.max() / 20)
    np.testing.assert_allclose(frequency[peaks], [60, 120, 180], atol=0.26)
    np.testing.assert_allclose(spectrum[peaks] / spectrum[peaks[0]], [1, 1 / 2, 1 / 3], rtol=0.01)


def test_hum_keeps_its_frequency_for_hours_and_below_nyquist() -> None:
    clean = torch.ones(1, 1, 1_200_000)
    clean[..., ::2] = -1
    hum = apply("hum:harmonics=1", clean, sample_rate=300.0) - clean
    torch.testing.assert_close(hum[..., -6:], hum[..., :6], atol=1e-4, rtol=0)  # a period is 6 samples
    assert torch.equal(apply("hum", clean[..., :100], sample_rate=90.0), clean[..., :100])


# ---- background ------------------------------------------------------------------------------------------


def test_background_from_python_takes_a_stretch_for_each_item() -> None:
    recording = torch.randn(3, 5000, generator=torch.Generator().manual_seed(7))
    clean = tone(samples=700)
    row = Background(noise=(recording * 1000).to(torch.int16), snr_db=3.0)
    noise = row(clean, torch.Generator().manual_seed(0)) - clean
    torch.testing.assert_close(
        snr_db(clean, clean + noise), torch.full((2, 2), 3.0).double(), atol=0.01, rtol=0
    )
    # Both channels get one noise; the second is ten times softer, and so is its noise.
    torch.testing.assert_close(noise[:, 0], 10 * noise[:, 1], atol=1e-4, rtol=1e-3)
    for item in noise[:, 0].numpy():
        match = [np.correlate(row, item / np.linalg.norm(item), "valid").max() for row in recording.numpy()]
        assert max(match) > 0.9 * 700**0.5  # the norm of 700 samples of the recording
    assert abs(np.corrcoef(noise[0, 0], noise[1, 0])[0, 1]) < 0.2


def test_background_snr_is_drawn_per_item_and_short_noise_repeats() -> None:
    clean = tone(samples=4000)
    noise = torch.randn(100, generator=torch.Generator().manual_seed(7))
    row = Background(noise=noise, snr_db=RandomLevel(-5, 20))
    noisy = row(clean, torch.Generator().manual_seed(0))
    measured = snr_db(clean, noisy)
    assert abs(measured[0, 0] - measured[1, 0]) > 1
    assert ((measured > -5) & (measured < 20)).all()
    added = noisy - clean
    torch.testing.assert_close(added[..., 100:], added[..., :-100], atol=1e-5, rtol=0)


def test_background_reads_recordings_at_the_rate_of_the_signal(tmp_path: Path) -> None:
    rate, length = 16000, 32000
    stereo = np.stack([np.sin(2 * np.pi * 500 * np.arange(length) / rate), np.zeros(length)]).astype(
        np.float32
    )
    for name in ("a.wav", "sub dir/b+c.wav"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        info = SignalInfo(path, "audio", stereo.shape, "float32", 1.0, sample_rate=rate)
        denoise.io.write(path, stereo * 0.5, info)
    clean = torch.randn(1, 1, 8000, generator=torch.Generator().manual_seed(1))
    for place in (tmp_path, tmp_path / "sub dir" / "b+c.wav"):
        row = parse(str(Background(path=str(place), snr_db=0.0)))
        added = (row(clean, torch.Generator().manual_seed(0), SAMPLE_RATE) - clean)[0, 0].numpy()
        assert np.abs(np.fft.rfft(added)).argmax() == 500  # Hz, at 8 kHz


def test_background_takes_each_column_of_a_log_for_a_recording(tmp_path: Path) -> None:
    time = np.arange(2000) / SAMPLE_RATE
    np.save(tmp_path / "noise.npy", np.stack([np.sin(2 * np.pi * f * time) for f in (500, 1000)], 1))
    clean = torch.randn(20, 1, 400, generator=torch.Generator().manual_seed(1))
    noisy = apply(str(Background(path=str(tmp_path / "noise.npy"), snr_db=0.0)), clean)
    peaks = np.abs(np.fft.rfft((noisy - clean)[:, 0].numpy())).argmax(1)
    assert set(peaks * SAMPLE_RATE / 400) == {500.0, 1000.0}


def test_background_of_other_places_keeps_its_snr() -> None:
    clean = tone(samples=8192)
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(7))
    plain, other = (
        Background(noise=noise, snr_db=3.0, equalise_db=gain)(clean, torch.Generator().manual_seed(0)) - clean
        for gain in (0.0, 12.0)
    )
    torch.testing.assert_close(
        snr_db(clean, clean + other), torch.full((2, 2), 3.0).double(), atol=0.01, rtol=0
    )
    gain_db = 20 * torch.log10(torch.fft.rfft(other[:, 0]).abs() / torch.fft.rfft(plain[:, 0]).abs())[:, 1:]
    assert 6 < gain_db.amax() - gain_db.amin() < 24.1
    assert abs(np.corrcoef(gain_db[0], gain_db[1])[0, 1]) < 0.9  # each item has its own equalisation


def test_background_reports_missing_input(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="background needs path="):
        apply("background", tone())
    with pytest.raises(UsageError, match="holds no recording"):
        apply(str(Background(path=str(tmp_path))), tone())
    with pytest.raises(UsageError, match="sample rate"):
        apply(str(Background(path=str(tmp_path))), tone(), sample_rate=None)
    with pytest.raises(UsageError, match=r"\(1, 1, 5\) is not"):
        Background(noise=torch.zeros(1, 1, 5))
    with pytest.raises(UsageError, match="not both"):
        Background(noise=torch.zeros(5), path="x")


# ---- lost, hit and rounded samples -----------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.02, 0.4])
def test_salt_and_pepper_hits_a_fraction_of_pixels(fraction: float) -> None:
    noisy = apply(f"salt-pepper:fraction={fraction}", flat())
    salt, pepper = (noisy == 1).float().mean().item(), (noisy == 0).float().mean().item()
    assert salt == pytest.approx(fraction / 2, rel=0.08)
    assert pepper == pytest.approx(fraction / 2, rel=0.08)
    assert torch.equal(noisy[:, 0], noisy[:, 1])  # all channels of a pixel
    assert set(noisy.unique().tolist()) == {0.0, 0.5, 1.0}


def test_quantise_leaves_the_values_of_the_converter() -> None:
    ramp = torch.linspace(0, 1, 10000).reshape(1, 1, 100, 100)
    coarse = apply("quantise:bits=3", ramp)
    torch.testing.assert_close(coarse.unique(), torch.linspace(0, 1, 8))
    assert (coarse - ramp).var().item() == pytest.approx((1 / 7) ** 2 / 12, rel=0.02)  # Bennett
    sensor = apply("quantise:bits=4", 40 + 12 * ramp.flatten(2))
    torch.testing.assert_close(sensor.unique(), torch.linspace(40, 52, 16))
    audio = apply("quantise:bits=2,full_scale=1", 1.5 * ramp.flatten(2))
    torch.testing.assert_close(audio.unique(), torch.tensor([-1 / 3, 1 / 3, 1])[1:])


@pytest.mark.parametrize(("fraction", "run"), [(0.05, 1), (0.3, 16), (0.9, 50)])
def test_dropout_loses_a_fraction_in_runs(fraction: float, run: int) -> None:
    clean = torch.rand(4, 2, 100_000, generator=torch.Generator().manual_seed(2)) + 1
    lost = apply(f"dropout:fraction={fraction},run={run}", clean) == 0
    assert lost.float().mean().item() == pytest.approx(fraction, rel=0.08)
    assert torch.equal(lost[:, 0], lost[:, 1])
    edges = lost[0, 0].int().diff()
    starts, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten()
    lengths = ends[ends > starts[0]][: len(starts) - 1] - starts[:-1]
    assert lengths.min() == run


def test_dropout_starts_before_the_record_does() -> None:
    lost = apply("dropout:fraction=0.5,run=64", torch.ones(4000, 1, 40)) == 0
    torch.testing.assert_close(lost.float().mean((0, 1)), torch.full((40,), 0.5), atol=0.04, rtol=0)


def test_dropout_fill_modes() -> None:
    clean = 5 + torch.randn(1, 2, 5000, generator=torch.Generator().manual_seed(2))
    lost = apply("dropout:fraction=0.3", clean) == 0
    assert torch.equal(apply("dropout:fraction=0.3,fill=gap", clean).isnan(), lost)
    held = apply("dropout:fraction=0.3,fill=hold", clean)
    after = lost[..., 1:]
    assert torch.equal(held[..., 1:][after], held[..., :-1][after])
    rail = apply("dropout:fraction=0.3,fill=rail", clean)
    for channel in range(2):
        values = rail[0, channel][lost[0, channel]].unique()
        assert values.item() in (clean[0, channel].min().item(), clean[0, channel].max().item())
    for filled in (held, rail):
        assert torch.equal(filled[~lost], clean[~lost])


def test_stuck_repeats_a_fraction_of_readings() -> None:
    clean = torch.randn(4, 2, 100_000, generator=torch.Generator().manual_seed(2))
    noisy = apply("stuck:fraction=0.2,run=25", clean)
    repeats = noisy.diff(dim=-1) == 0
    assert repeats.float().mean().item() == pytest.approx(0.2, rel=0.06)
    assert not torch.equal(repeats[:, 0], repeats[:, 1])  # each sensor sticks independently
    assert torch.equal(noisy[..., 1:][~repeats], clean[..., 1:][~repeats])


def test_spikes_hit_a_fraction_at_their_height() -> None:
    clean = 3 * torch.randn(4, 2, 100_000, generator=torch.Generator().manual_seed(2))
    spikes = apply("spikes:fraction=0.02,amplitude=6", clean) - clean
    height = spikes[spikes.abs() > 1e-3].abs() / 3
    assert height.numel() / clean.numel() == pytest.approx(0.02, rel=0.05)
    assert height.mean().item() == pytest.approx(6, rel=0.02)
    assert height.min().item() == pytest.approx(3, rel=0.05)
    assert height.max().item() == pytest.approx(9, rel=0.05)
    assert (spikes > 1).sum().item() == pytest.approx((spikes < -1).sum().item(), rel=0.1)


def test_drift_ends_at_its_amount() -> None:
    clean = tone()
    drift = (apply("drift:amount=2.5", clean) - clean) / clean.std(-1, correction=0, keepdim=True)
    torch.testing.assert_close(drift[..., 0], torch.zeros(2, 2))
    torch.testing.assert_close(drift[..., -1].abs(), torch.full((2, 2), 2.5), atol=0.01, rtol=0)
    torch.testing.assert_close(drift[..., 8192], drift[..., -1] / 2, atol=0.01, rtol=0)


def test_baseline_sways_slower_than_its_frequency() -> None:
    clean = torch.randn(3, 1, 60_000, generator=torch.Generator().manual_seed(1))
    wander = (apply("baseline:frequency_hz=0.5,snr_db=0", clean, sample_rate=100.0) - clean)[:, 0].double()
    frequency, density = dsp.periodogram(wander.numpy(), fs=100.0, window="hann")
    assert density[:, frequency > 0.51].sum() < 1e-3 * density.sum()
    assert density[:, (frequency > 0.1) & (frequency < 0.5)].sum() > 0.3 * density.sum()


# ---- distortions of waveforms ----------------------------------------------------------------------------


def test_clip_cuts_at_the_overdrive() -> None:
    clean = tone(offset=0.0)
    clipped = apply("clip:overdrive_db=6.0206", clean)
    assert clipped.max().item() == pytest.approx(0.25, rel=1e-3)
    assert clipped.min().item() == pytest.approx(-0.25, rel=1e-3)
    inside = clean.abs() < 0.25
    assert torch.equal(clipped[inside], clean[inside])


@pytest.mark.parametrize("rt60", [0.2, 0.8])
def test_reverb_decays_by_60_db_in_rt60(rt60: float) -> None:
    click = torch.zeros(8, 1, 10_000)
    click[..., 0] = 1
    response = apply(f"reverb:rt60_s={rt60},direct_db=-3", click)[:, 0].double()
    torch.testing.assert_close(response[:, 0], torch.ones(8).double(), atol=1e-4, rtol=0)
    tail = response[:, 1:].square()
    assert 10 * math.log10(tail.sum(1).mean().item()) == pytest.approx(3, abs=0.5)
    # Schroeder, JASA 1965: the energy still to come falls in a straight line; fitted from -5 to -35 dB.
    left_db = 10 * torch.log10(tail.flip(1).cumsum(1).flip(1).mean(0) / tail.sum(1).mean())
    fit = (left_db < -5) & (left_db > -35)
    time = torch.arange(1, 10_000).double() / SAMPLE_RATE
    slope = np.polyfit(time[fit].numpy(), left_db[fit].numpy(), 1)[0]
    assert -60 / slope == pytest.approx(rt60, rel=0.05)


def test_reverb_is_the_convolution_and_causal() -> None:
    click = torch.zeros(1, 1, 3000)
    click[..., 0] = 1
    response = apply("reverb:rt60_s=0.1", click)[0, 0].numpy()
    signal = torch.randn(1, 1, 3000, generator=torch.Generator().manual_seed(3))
    wanted = np.convolve(signal[0, 0].numpy(), response)[:3000]
    np.testing.assert_allclose(apply("reverb:rt60_s=0.1", signal)[0, 0].numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("frequency", "gain_db"), [(150, -48.2), (300, -3.01), (800, 0), (2000, -3.01), (3400, -36.9)]
)
def test_band_limit_is_3_db_down_at_its_edges(frequency: float, gain_db: float) -> None:
    clean = tone(frequency, offset=0.0)
    passed = apply("band-limit:low_hz=300,high_hz=2000", clean)
    middle = slice(4000, 12000)  # whole periods
    gain = passed[..., middle].std().item() / clean[..., middle].std().item()
    assert 20 * math.log10(gain) == pytest.approx(gain_db, abs=0.2)


# ---- images ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.7, 1.5, 4.0])
def test_gaussian_blur_has_its_second_moment(sigma: float) -> None:
    down, across, both = second_moments(apply(f"gaussian-blur:sigma_px={sigma}", impulse(51)))
    assert down == pytest.approx(sigma**2, rel=0.01)
    assert across == pytest.approx(sigma**2, rel=0.01)
    assert both == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("radius", [2.0, 3.5, 8.0])
def test_defocus_is_a_disk_of_its_radius(radius: float) -> None:
    disk = apply(f"defocus:radius_px={radius}", impulse(31))
    down, across, _ = second_moments(disk)
    # A disk has r^2 / 4 along each axis, and a square pixel 1/12.
    assert math.sqrt(4 * (down - 1 / 12)) == pytest.approx(radius, rel=0.03)
    assert down == pytest.approx(across, rel=1e-4)
    assert 1 / disk.max().item() == pytest.approx(math.pi * radius**2, rel=0.05)  # area


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 135.0])
def test_motion_blur_is_a_line_of_its_length_and_direction(angle: float) -> None:
    length = 15.0
    down, across, both = second_moments(
        apply(f"motion-blur:length_px={length},angle_deg={angle}", impulse(41))
    )
    assert math.sqrt(12 * (down + across)) == pytest.approx(length, rel=0.03)
    # Rows count downwards, angles upwards.
    found = math.degrees(0.5 * math.atan2(-2 * both, across - down)) % 180
    assert (found - angle + 90) % 180 == pytest.approx(90, abs=1)


def test_blur_is_per_item_and_keeps_constants() -> None:
    for text in ("gaussian-blur:sigma_px=0..9", "defocus:radius_px=0..9", "motion-blur:length_px=0..30"):
        torch.testing.assert_close(apply(text, flat(0.3, 20)), flat(0.3, 20), atol=1e-5, rtol=0)
        kernels = apply(text, impulse(61).expand(2, 1, 61, 61))
        assert abs(kernels[0].max() - kernels[1].max()) > 1e-3


def test_scanner_noise_has_its_deviation_its_reach_along_the_line_and_its_stripes() -> None:
    noise = apply("scanner:sigma=20,width_px=3,stripes=0", flat(0.5, 1000, 1)) - 0.5
    assert float(noise.std()) * 255 == pytest.approx(20, rel=0.01)
    variance = noise.square().mean()
    for apart in (1, 3, 6):
        along = (noise[..., apart:] * noise[..., :-apart]).mean() / variance
        across = (noise[..., apart:, :] * noise[..., :-apart, :]).mean() / variance
        assert float(along) == pytest.approx(math.exp(-apart / 3), abs=0.01)
        assert float(across) == pytest.approx(0, abs=0.01)
    brighter = apply("scanner:sigma=20,width_px=0,stripes=0,shot=0.6", flat(1.0, 1000, 1)) - 1
    assert float(brighter.std()) * 255 == pytest.approx(20 * math.sqrt(0.4 + 1.2), rel=0.01)
    lines = (apply("scanner:sigma=20,width_px=0,stripes=0.5", flat(0.5, 2000, 1)) - 0.5).mean(-1)
    assert float(lines.std()) * 255 == pytest.approx(10, rel=0.03)


def test_jpeg_is_pillow_at_that_quality() -> None:
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(rough).save(file, "JPEG", quality=35, subsampling="4:2:0")
    wanted = np.asarray(Image.open(file))
    found = corrupt(rough.transpose(2, 0, 1), parse("jpeg:quality=35"), seed=0, peak=255)
    np.testing.assert_array_equal(found.transpose(1, 2, 0), wanted)
    assert Jpeg().subsampling == "4:2:0"


def test_jpeg_loses_less_at_higher_quality_and_without_subsampling() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 9, 64), torch.linspace(0, 9, 64), indexing="ij")
    clean = 0.5 + 0.4 * torch.stack([torch.sin(x * y), torch.cos(3 * x), torch.sin(5 * y)])[None]
    clean = clean.expand(2, 3, 64, 64)
    loss = [(apply(f"jpeg:quality={quality}", clean) - clean).square().mean() for quality in (10, 50, 95)]
    assert loss[0] > loss[1] > loss[2] > 0
    assert (apply("jpeg:quality=95,subsampling=4:4:4", clean) - clean).square().mean() < loss[2]
    noisy = apply("jpeg:quality=5..95", clean)
    assert not torch.equal(noisy[0], noisy[1])


# ---- composition and text --------------------------------------------------------------------------------


def test_random_levels_cover_their_range_evenly() -> None:
    clean = torch.zeros(400, 1, 32, 32)
    sigma = apply("gaussian:sigma=10..50", clean).flatten(1).std(1) * 255
    assert sigma.min() > 9
    assert sigma.max() < 53
    assert sigma.mean().item() == pytest.approx(30, rel=0.05)
    assert sigma.std().item() == pytest.approx(40 / 12**0.5, rel=0.1)


def test_chain_applies_in_order() -> None:
    noisy = apply("gaussian:sigma=30+quantise:bits=1", flat(0.4))
    assert set(noisy.unique().tolist()) == {0.0, 1.0}
    other = apply("quantise:bits=1+gaussian:sigma=30", flat(0.4))
    assert other.unique().numel() > 1000
    generator = torch.Generator().manual_seed(0)
    by_hand = parse("gaussian:sigma=9")(flat(), generator)
    by_hand = parse("salt-pepper")(by_hand, generator)
    assert torch.equal(apply("gaussian:sigma=9+salt-pepper", flat()), by_hand)


def test_choice_picks_per_item_by_weight() -> None:
    noisy = apply("0.2*gaussian:sigma=50|0.8*gaussian:sigma=5", torch.zeros(2000, 1, 8, 8))
    strong = noisy.flatten(1).std(1) * 255 > 20
    assert strong.float().mean().item() == pytest.approx(0.2, abs=0.03)
    never = apply("0*gaussian:sigma=50|salt-pepper:fraction=0", flat())
    assert torch.equal(never, flat())


def test_grammar() -> None:
    assert parse("gaussian:sigma=0..55") == Gaussian(sigma=RandomLevel(0, 55))
    assert parse(" gaussian : sigma = 25 ") == Gaussian(sigma=25)
    assert parse("gaussian:sigma=25 + jpeg:quality=50") == Chain((Gaussian(sigma=25), Jpeg(quality=50)))
    assert parse("0.7*gaussian:sigma=5|.3*jpeg") == Choice((Gaussian(sigma=5), Jpeg()), (0.7, 0.3))
    assert parse("gaussian:sigma=5|jpeg") == Choice((Gaussian(sigma=5), Jpeg()))
    assert parse('background:path="a, b+c (1)|d.wav",snr_db=-2') == Background(-2.0, "a, b+c (1)|d.wav")
    assert parse(r"background:path=C:\noise (1)") == Background(path=r"C:\noise (1)")


@pytest.mark.parametrize(
    "text",
    [
        "gaussian:sigma=1+jpeg+salt-pepper",
        "0.5*gaussian:sigma=1+jpeg|2*jpeg:quality=3",
        "(gaussian:sigma=1|gaussian:sigma=2)+jpeg:quality=9",
        "gaussian:sigma=1|(jpeg:quality=4|jpeg:quality=5)",
        "3*gaussian:sigma=1e-7..0.1",
        "gaussian:sigma=1e22",
    ],
)
def test_composed_text_round_trips(text: str) -> None:
    row = parse(text)
    assert parse(str(row)) == row


def test_composites_take_the_shared_modalities_of_their_parts() -> None:
    assert parse("gaussian:snr_db=1+clip").modalities == ("audio", "sensor")
    assert parse("gaussian:snr_db=1|drift").modalities == ("sensor",)
    assert parse("gaussian:sigma=25|speckle").modalities == ("image",)
    with pytest.raises(UsageError, match="not for a signal"):
        apply("jpeg+clip", tone())
    inner = Chain((Gaussian(sigma=1), Jpeg()))
    assert Chain((inner, Jpeg())) == Chain((Gaussian(sigma=1), Jpeg(), Jpeg()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gausian:sigma=1", "unknown corruption 'gausian'; did you mean gaussian"),
        ("", "unknown corruption ''"),
        ("gaussian:sigma=1++jpeg", "unknown corruption ''"),
        ("jpeg:qualty=5", "jpeg has no field 'qualty'; did you mean quality.*subsampling"),
        ("jpeg:quality", "'quality' is not of the form field=value"),
        ("jpeg:quality=", "is not of the form field=value"),
        ("jpeg:quality=high", "quality=high is neither a number nor a range"),
        ("jpeg:quality=1..high", "neither a number nor a range"),
        ("jpeg:quality=0", "quality=0 is outside 1 to 100"),
        ("jpeg:quality=nan", "quality=nan is outside"),
        ("gaussian:sigma=1e308", "sigma=1e308 is outside 0 to 1e30"),
        ("jpeg:quality=50..101", r"quality=50..101 is outside 1 to 100"),
        ("jpeg:quality=60..50", "60..50"),
        ("jpeg:quality=5,quality=6", "given twice"),
        ("jpeg:subsampling=4:1:1", "4:1:1 is not 4:4:4 or 4:2:2 or 4:2:0"),
        ("hum:harmonics=1..3", "takes one number, not the range"),
        ("gaussian:sigma=1,snr_db=2", "not both"),
        ("(jpeg", "unmatched parenthesis"),
        ("jpeg)", "unmatched parenthesis"),
        ('background:path="x', "unmatched quote"),
        ("0*jpeg|0*jpeg", "weights"),
    ],
)
def test_bad_text_is_explained(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_bad_values_are_explained_in_python_too() -> None:
    for bad in ("50", True, [3]):
        with pytest.raises(UsageError, match=r"quality=.* is not a number"):
            Jpeg(quality=bad)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least one"):
        Chain(())
    with pytest.raises(UsageError, match="has 1 weights"):
        Choice((Jpeg(), Jpeg()), (1.0,))
    with pytest.raises(UsageError, match="range"):
        RandomLevel(0, math.inf)


def test_gaussian_needs_the_level_of_its_signal() -> None:
    with pytest.raises(UsageError, match="needs its level"):
        apply("gaussian", flat())
    with pytest.raises(UsageError, match=r"gaussian:sigma=5: .* give snr_db"):
        apply("gaussian:sigma=5", tone())
    assert with_level(parse("gaussian"), 5, "image") == Gaussian(sigma=5)
    assert with_level(parse("gaussian"), 5, "audio") == Gaussian(snr_db=5)
    assert with_level(Gaussian(snr_db=3), 5) == Gaussian(snr_db=5)
    assert with_level(Gaussian(sigma=3), 5, "sensor") == Gaussian(snr_db=5)


def test_with_level_keeps_the_other_fields() -> None:
    row = parse("poisson-gaussian:photons=9,read_electrons=7")
    assert with_level(row, 50) == dataclasses.replace(row, photons=50)
    with pytest.raises(UsageError, match="no single level"):
        with_level(parse("jpeg+jpeg"), 5)


@pytest.mark.parametrize("text", ["hum", "baseline", "reverb", "band-limit"])
def test_corruptions_in_hz_need_the_sample_rate(text: str) -> None:
    with pytest.raises(UsageError, match=f"{text} .* needs the sample rate"):
        apply(text, tone(), sample_rate=None)


def test_integers_are_rounded_and_clipped() -> None:
    black = np.zeros((3, 40, 40), np.uint8)
    noisy = corrupt(black, Gaussian(sigma=20), seed=0, peak=255)
    assert (noisy == 0).mean() == pytest.approx(0.51, abs=0.02)
    sixteen = corrupt(np.full((1, 80, 80), 30000, np.uint16), Gaussian(sigma=10), seed=0, peak=65535)
    assert sixteen.std() == pytest.approx(10 * 257, rel=0.03)  # 8-bit units, whatever the depth
    full = corrupt(np.full((1, 40), -32768, np.int16), parse("drift"), seed=0, peak=32768)
    assert (full == -32768).all()


def test_sensors_keep_double_precision_and_integers_refuse_gaps() -> None:
    clean = 1e9 + np.arange(1000.0)[None] % 7
    assert np.array_equal(corrupt(clean, parse("spikes:fraction=0"), seed=0, peak=None), clean)
    with pytest.raises(InputError, match="int32 samples cannot hold"):
        corrupt(clean.astype(np.int32), parse("dropout:fill=gap"), seed=0, peak=None)


def test_blurred_light_is_brighter_than_blurred_values() -> None:
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 32, 64)
    blurred = [
        parse(f"gaussian-blur:sigma_px=3,domain={domain}")(stripes, torch.Generator().manual_seed(0))
        for domain in ("values", "light")
    ]
    middles = [float(image[0, 0, 16, 32]) for image in blurred]
    assert middles == pytest.approx([0.5, 0.7354], abs=1e-3)  # half the light
