"""Noise profiles from a file or a stretch, and errors if there is none."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from denoise.errors import InputError, UsageError
from denoise.infer.file import clean_file
from denoise.infer.profile import NoiseProfile
from pipelines.cli.group import cli

RATE = 48_000

pytestmark = pytest.mark.usefixtures("folder")


def noise(seconds: float, seed: int) -> np.ndarray:
    return 0.02 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second of noise, then three of a tone in it; and a file of similar noise."""
    time_s = np.arange(3 * RATE) / RATE
    tone = np.concatenate([np.zeros(RATE), 0.2 * np.sin(2 * np.pi * 440 * time_s)])
    soundfile.write(tmp_path / "take.wav", tone + noise(4, 0), RATE, "FLOAT")
    soundfile.write(tmp_path / "clean.wav", tone, RATE, "FLOAT")
    soundfile.write(tmp_path / "noise.wav", noise(2, 1), RATE, "FLOAT")
    monkeypatch.chdir(tmp_path)


def clean(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["clean", *arguments, "--workers", "1"], prog_name="denoise")


@pytest.mark.parametrize("profile", ["0:1", "0.1:.9", "noise.wav"])
def test_noise_that_was_heard_alone_goes(profile: str) -> None:
    report = clean_file("take.wav", "out.wav", noise_profile=profile, reference="clean.wav")
    assert report.model == "audio"
    assert report.metrics["snr_db"] > report.metrics["snr_db_before"] + 10
    out, _ = soundfile.read("out.wav")
    assert out[RATE // 4 : RATE // 2].std() < 0.02 / 3


def test_a_profile_of_silence_takes_nothing() -> None:
    soundfile.write("silence.wav", np.zeros(RATE), RATE)
    clean_file("take.wav", "out.wav", noise_profile="silence.wav")
    before, after = (soundfile.read(name)[0] for name in ("take.wav", "out.wav"))
    np.testing.assert_allclose(after, before, atol=1e-3)


def test_at_another_rate_and_channel_count() -> None:
    soundfile.write("stereo.flac", np.stack([noise(2, 2), noise(2, 3)], 1)[::3], 16_000)
    clean_file("take.wav", "out.wav", noise_profile="noise.wav")
    clean_file("stereo.flac", "stereo_out.flac", noise_profile="0:1")
    out, rate = soundfile.read("stereo_out.flac")
    assert (out.shape, rate) == ((32_000, 2), 16_000)
    assert out.std() < 0.02 / 2.8


@pytest.mark.parametrize(
    ("profile", "kind", "sentence"),
    [
        ("1:0.5", UsageError, "ends before it begins"),
        ("missing.wav", UsageError, "no such file; expected a recording, or START:END in seconds"),
        ("60:70", InputError, "take.wav: lasts 4 s, expected noise from 60 s on"),
        ("0:0.01", UsageError, "lasts 0.010 s, expected at least 0.043 s"),
        ("photo.png", InputError, "photo.png: is image, expected a recording of noise"),
    ],
)
def test_what_is_no_profile(profile: str, kind: type[Exception], sentence: str) -> None:
    from PIL import Image

    Image.new("L", (4, 4)).save("photo.png")
    with pytest.raises(kind, match=sentence):
        clean_file("take.wav", "out.wav", noise_profile=profile)
    assert not Path("out.wav").exists()


def test_a_model_that_takes_none_says_so() -> None:
    with pytest.raises(
        UsageError, match="the model spectral-gate takes no noise profile; expected the model"
    ):
        clean_file("take.wav", "out.wav", "spectral-gate", noise_profile="0:1")
    result = clean("take.wav", "-o", "out", "--model", "speech", "--noise-profile", "0:1")
    assert (result.exit_code, "is for the model audio, not for speech" in result.output) == (2, True)


def test_a_job_is_done_again_when_the_profile_changes() -> None:
    def again() -> str:
        result = clean("take.wav", "-o", "out", "--noise-profile", "noise.wav")
        assert result.exit_code == 0, result.output
        return result.output

    again()
    before = Path("out/take.wav").read_bytes()
    again()
    assert Path("out/take.wav").read_bytes() == before
    soundfile.write("noise.wav", 0.1 * noise(2, 4), RATE, "FLOAT")
    again()
    assert Path("out/take.wav").read_bytes() != before


def test_a_long_profile_is_not_read_to_its_end() -> None:
    soundfile.write("long.wav", np.zeros(40 * 8000), 8000)
    assert NoiseProfile.parse("long.wav").read(Path("take.wav"), 8000.0).shape == (1, 30 * 8000)
