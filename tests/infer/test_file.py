"""Cleaning from file to file, through the real codecs."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from scipy.signal import lfilter

import denoise
from denoise.errors import InputError, UsageError
from denoise.infer.cleaner import Cleaner
from denoise.infer.file import FileReport, clean_file
from denoise.infer.switch import AudioSelector

Make = Callable[..., Any]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


@pytest.fixture
def cleaner(gain: Make) -> Make:
    return lambda factor=0.5, **spec: Cleaner("half", gain(factor, **spec), "builtin:half")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "noisy.png"
    pixels = (noise(40, 50, 4) * 254).astype(np.uint8) + 1  # nowhere fully transparent: that would stay
    Image.fromarray(pixels).save(path)
    return path


def test_an_image_is_cleaned_and_its_noise_estimated(photo: Path, cleaner: Make) -> None:
    out = photo.with_name("out.png")
    report = clean_file(photo, out, cleaner(modality="image", channels=3))
    before, after = np.asarray(Image.open(photo)), np.asarray(Image.open(out))
    np.testing.assert_array_equal(after[..., 3], before[..., 3])
    np.testing.assert_allclose(after[..., :3], before[..., :3] / 2, atol=0.5)
    assert isinstance(report, FileReport)
    assert (report.modality, report.model, report.clipped) == ("image", "half", 0)
    assert set(report.metrics) == {"estimated_sigma_before", "estimated_sigma_after"}
    assert report.metrics["estimated_sigma_after"] == pytest.approx(
        report.metrics["estimated_sigma_before"] / 2, rel=0.05
    )
    assert report.cost == {"s_per_mpx": pytest.approx(report.seconds / 0.002)}


def test_every_page_of_an_image(tmp_path: Path, cleaner: Make) -> None:
    pages = [(noise(20, 20 + i, 3, seed=i) * 255).astype(np.uint8) for i in range(3)]
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(tmp_path / "in.tif", save_all=True, append_images=rest)
    report = clean_file(tmp_path / "in.tif", tmp_path / "out.tif", cleaner(modality="image", channels=3))
    with denoise.io.reader(tmp_path / "out.tif") as reader:
        cleaned = list(reader)
    assert len(cleaned) == 3
    for page, result in zip(pages, cleaned, strict=True):
        np.testing.assert_allclose(result, page.transpose(2, 0, 1) / 2, atol=0.5)
    assert report.cost["s_per_mpx"] == pytest.approx(report.seconds / (20 * 63 / 1e6))


def test_with_a_reference_the_figures_are_measured(photo: Path, tmp_path: Path, cleaner: Make) -> None:
    truth = tmp_path / "truth.png"
    halved = np.asarray(Image.open(photo))[..., :3] // 2
    Image.fromarray(halved).save(truth)
    report = clean_file(photo, tmp_path / "out.png", cleaner(modality="image", channels=3), reference=truth)
    assert set(report.metrics) == {"psnr_db", "psnr_db_before", "ssim", "ssim_before"}
    assert report.metrics["psnr_db"] > 45 > report.metrics["psnr_db_before"]


def test_a_16_bit_reference_of_an_8_bit_image(tmp_path: Path, cleaner: Make) -> None:
    page = (noise(3, 30, 31) * 255).astype(np.uint8)
    Image.fromarray(page.transpose(1, 2, 0)).save(tmp_path / "in.png")
    info = dataclasses.replace(denoise.probe(tmp_path / "in.png"), dtype="uint16", peak=65535.0, layouts=())
    denoise.write(tmp_path / "truth.tif", page.astype(np.uint16) * 257, info)
    report = clean_file(
        tmp_path / "in.png",
        tmp_path / "out.png",
        cleaner(1.0, modality="image", channels=3),
        reference=tmp_path / "truth.tif",
    )
    assert report.metrics["psnr_db"] == np.inf


def test_a_reference_of_another_size_names_both(photo: Path, tmp_path: Path, cleaner: Make) -> None:
    truth = tmp_path / "truth.png"
    Image.new("RGB", (7, 8)).save(truth)
    with pytest.raises(InputError, match=r"truth\.png has shape \(3, 8, 7\).*noisy\.png has \(3, 40, 50\)"):
        clean_file(photo, tmp_path / "out.png", cleaner(modality="image", channels=3), reference=truth)
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("rate", [8000, 44100])
def test_a_recording_keeps_its_length_and_rate(tmp_path: Path, recurrent: Make, rate: int) -> None:
    signal = (noise(12345, 2) - 0.5) / 2
    signal[:, 1] = 0
    soundfile.write(tmp_path / "in.wav", signal, rate, subtype="PCM_24")
    model = Cleaner("gru", recurrent(sample_rate=16000.0), "")
    report = clean_file(tmp_path / "in.wav", tmp_path / "out.wav", model, block=1000)
    cleaned, kept_rate = soundfile.read(tmp_path / "out.wav")
    assert (cleaned.shape, kept_rate) == (signal.shape, rate)
    expected = model.clean(soundfile.read(tmp_path / "in.wav", dtype="float32")[0], rate)
    np.testing.assert_allclose(cleaned, expected, atol=1e-4)
    assert not cleaned[:, 1].any()
    assert set(report.metrics) == {"estimated_noise_dbfs_before", "estimated_noise_dbfs_after"}
    assert report.cost == {"real_time_factor": pytest.approx(report.seconds * rate / 12345)}


def test_silence_throughout_is_copied_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A packed file of 117 kB holds hours of it, in eight channels."""
    silent, sounding = tmp_path / "a.flac", tmp_path / "b.flac"
    samples = np.zeros((30_000, 8), np.int16)
    soundfile.write(silent, samples, 8000)
    samples[-1, 3] = 1
    soundfile.write(sounding, samples, 8000)
    monkeypatch.setattr(AudioSelector, "stream", None)
    report = clean_file(silent, tmp_path / "c.flac")
    assert (tmp_path / "c.flac").read_bytes() == silent.read_bytes()
    assert (report.model, report.duration_s) == ("none", 3.75)
    assert report.notes == ("none: silence throughout", "left as it is: there is nothing to remove")
    with pytest.raises(TypeError):  # one step of one channel, and models are asked
        clean_file(sounding, tmp_path / "d.flac")


def test_a_recording_against_its_reference(tmp_path: Path, cleaner: Make) -> None:
    signal = (noise(30000) - 0.5).astype(np.float32)
    soundfile.write(tmp_path / "in.wav", signal, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "truth.wav", signal / 2, 16000, subtype="FLOAT")
    report = clean_file(
        tmp_path / "in.wav",
        tmp_path / "out.wav",
        cleaner(modality="audio"),
        reference=tmp_path / "truth.wav",
        block=700,
    )
    assert report.metrics["snr_db_before"] == pytest.approx(0, abs=0.1)
    assert report.metrics["snr_db"] > 100
    soundfile.write(tmp_path / "short.wav", signal[:-1] / 2, 16000)
    with pytest.raises(InputError, match=r"short\.wav has shape \(1, 29999\).*\(1, 30000\)"):
        clean_file(
            tmp_path / "in.wav",
            tmp_path / "b.wav",
            cleaner(modality="audio"),
            reference=tmp_path / "short.wav",
        )


def test_a_log_is_centred_over_the_whole_file(tmp_path: Path, cleaner: Make) -> None:
    signal = noise(5000, 2).astype(np.float64) * [1, 50] + [3, 1000]
    signal[100:140, 0] = np.nan
    np.save(tmp_path / "in.npy", signal)
    report = clean_file(
        tmp_path / "in.npy",
        tmp_path / "out.npy",
        cleaner(0.0, modality="sensor", centre=True, scale=True),
        sample_rate=50.0,
        block=300,
    )
    cleaned = np.load(tmp_path / "out.npy")
    np.testing.assert_array_equal(np.isnan(cleaned), np.isnan(signal))
    mean = np.broadcast_to(np.nanmean(signal, axis=0), signal.shape)
    np.testing.assert_allclose(np.nan_to_num(cleaned, nan=mean[0, 0]), mean, rtol=1e-5)
    assert report.cost == {"real_time_factor": pytest.approx(report.seconds * 50 / 5000)}


def test_bad_samples_name_the_file_and_leave_nothing(tmp_path: Path, cleaner: Make) -> None:
    signal = noise(500)
    signal[321] = np.nan
    soundfile.write(tmp_path / "in.wav", signal, 16000, subtype="FLOAT")
    with pytest.raises(InputError, match=r"in\.wav.*321"):
        clean_file(tmp_path / "in.wav", tmp_path / "out.wav", cleaner(modality="audio"))
    assert [p.name for p in tmp_path.iterdir()] == ["in.wav"]


def test_calls_that_cannot_be_honoured(photo: Path, tmp_path: Path, cleaner: Make) -> None:
    image, audio = cleaner(modality="image", channels=3), cleaner(modality="audio")
    link = tmp_path / "link.png"
    link.symlink_to(photo)
    for match, destination, model, options in (
        ("the source itself", photo, image, {}),
        ("the source itself", link, image, {}),
        ("cannot hold", tmp_path / "out.wav", image, {}),
        (r"half is for audio, .*noisy\.png is image", tmp_path / "out.png", audio, {}),
        ("half .*no sigma", tmp_path / "out.png", image, {"sigma": 25}),
        ("strength", tmp_path / "out.png", image, {"strength": 1.5}),
        ("unknown model", tmp_path / "out.png", "photoo-model", {}),
    ):
        with pytest.raises(UsageError, match=match):
            clean_file(photo, destination, model, **options)
    np.save(tmp_path / "log.npy", noise(100))
    fixed = cleaner(modality="sensor", sample_rate=100.0)
    with pytest.raises(UsageError, match=r"log\.npy.*sample rate"):
        clean_file(tmp_path / "log.npy", tmp_path / "out.npy", fixed)


def test_recordings_of_several_lengths_in_one_npz_are_each_cleaned(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(4000) / 40
    noisy = {name: np.sin(t[:n]) + 0.3 * rng.normal(size=n) for name, n in (("a", 4000), ("b", 2500))}
    np.savez(tmp_path / "in.npz", **noisy)
    report = clean_file(tmp_path / "in.npz", tmp_path / "out.npz", "savgol")
    with np.load(tmp_path / "out.npz") as cleaned:
        assert list(cleaned) == ["a", "b"]
        for name, array in noisy.items():
            truth = np.sin(t[: len(array)])
            assert np.var(cleaned[name] - truth) < 0.6 * np.var(array - truth)
    assert report.metrics["estimated_sigma_after"] < report.metrics["estimated_sigma_before"]


@pytest.mark.parametrize(("sigma", "power_db"), [(0.3, -21), (1.0, None)])
def test_a_log_left_for_its_faint_noise_says_so(tmp_path: Path, sigma: float, power_db: int | None) -> None:
    ticks = np.arange(5000)
    clean = 5 * np.sin(ticks / 30) + 20
    noisy = clean + sigma * np.random.default_rng(1).standard_normal(ticks.size)
    source, result = tmp_path / "in.csv", tmp_path / "out.csv"
    np.savetxt(source, np.c_[ticks, noisy], "%.3f", ",", header="time_s,temp", comments="")
    report = clean_file(source, result)
    notes = [note for note in report.notes if "left as it is" in note]
    if power_db is None:
        assert notes == []
        cleaned = np.loadtxt(result, delimiter=",", skiprows=1)[:, 1]
        assert np.std(cleaned - clean) < 0.5 * sigma
        return
    assert result.read_bytes() == source.read_bytes()
    (note,) = notes
    found = re.fullmatch(
        r"left as it is: its noise, about (\S+) \((\S+) dB of the signal\), is too faint to tell .*", note
    )
    assert found
    assert float(found[1]) == pytest.approx(sigma, rel=0.1)
    assert int(found[2]) == power_db
    copied = clean_file(source, tmp_path / "none.csv", "none")
    assert not any("left as it is" in note for note in copied.notes)


def test_of_several_columns_those_left_are_named(tmp_path: Path) -> None:
    rng, ticks = np.random.default_rng(1), np.arange(5000)
    faint, loud = (5 * np.sin(ticks / 30) + rng.normal(0, sigma, ticks.size) for sigma in (0.3, 1.5))
    source = tmp_path / "in.csv"
    np.savetxt(source, np.c_[faint, loud], "%.3f", ",", header="indoor,outdoor", comments="")
    notes = [note for note in clean_file(source, tmp_path / "out.csv").notes if "left as" in note]
    assert len(notes) == 1
    assert notes[0].startswith("indoor is left as it is: its noise, about 0.3")


def test_a_column_that_is_said_to_be_left_is_the_same_and_others_tell_how_many_change(tmp_path: Path) -> None:
    rng, ticks = np.random.default_rng(3), np.arange(6000)
    wave = 5.0 * np.sin(ticks / 30.0)
    mixed = wave + np.where(ticks > 5000, 1.2, 0.2) * rng.standard_normal(ticks.size)
    source, result = tmp_path / "in.csv", tmp_path / "out.csv"
    header = "calm,mixed"
    np.savetxt(source, np.c_[wave + rng.normal(0, 0.1, 6000), mixed], "%.3f", ",", header=header, comments="")
    notes = [n for n in clean_file(source, result).notes if "left as it is" in n or "hardly changed" in n]
    before, after = (np.loadtxt(file, delimiter=",", skiprows=1) for file in (source, result))
    for name, changed in zip(header.split(","), (before != after).sum(0), strict=True):
        (note,) = (note for note in notes if note.startswith(name))
        said = re.match(rf"{name} is hardly changed \((\d+) of 6000 readings\)", note)
        assert changed <= int(said[1]) if said else changed == 0


def test_a_log_that_is_left_is_said_to_be_left_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    load = 40.0 + 150.0 * (rng.random(2000) < 0.3) + 900.0 * (rng.random(2000) < 0.05)
    np.save(tmp_path / "in.npy", load + 15.0 * rng.standard_normal(2000))
    notes = clean_file(tmp_path / "in.npy", tmp_path / "out.npy", "sensor", sample_rate=100.0).notes
    assert sum("left " in note for note in notes) == 1


def test_a_wind_that_is_left_says_why_once(tmp_path: Path) -> None:
    wind = lfilter([1.0], [1.0, -0.85], np.random.default_rng(0).standard_normal(4000))
    np.save(tmp_path / "in.npy", wind)
    report = clean_file(tmp_path / "in.npy", tmp_path / "out.npy", "sensor", sample_rate=1.0)
    (note,) = (note for note in report.notes if "left " in note)
    assert "wanders from reading to reading" in note
    assert report.metrics["left_process_db"] == pytest.approx(-5, abs=4)


def test_few_readings_are_said_to_be_few(tmp_path: Path) -> None:
    rng, ticks = np.random.default_rng(5), np.arange(300)
    np.save(tmp_path / "in.npy", 3.0 * np.sin(ticks / 22.0) + 0.5 * rng.standard_normal(300))
    report = clean_file(tmp_path / "in.npy", tmp_path / "out.npy", "sensor", sample_rate=10.0)
    (note,) = (note for note in report.notes if "left " in note)
    assert note.endswith("cannot be told from the signal by so few readings (300)")


def test_a_log_cleaned_in_one_half_says_so_in_one_note(tmp_path: Path) -> None:
    rng, ticks = np.random.default_rng(0), np.arange(16_384)
    log = np.sin(ticks / 22.0) + 0.4 * rng.standard_normal(ticks.size)
    log[8192:] = 1.5 * rng.standard_normal(8192)  # nothing but noise
    np.save(tmp_path / "in.npy", log)
    report = clean_file(tmp_path / "in.npy", tmp_path / "out.npy", "sensor", sample_rate=10.0)
    (note,) = (note for note in report.notes if "left " in note or "taken out" in note)
    assert re.match(r"taken out, of the signal's variance: noise -.*; left in: -\S+ dB", note)
