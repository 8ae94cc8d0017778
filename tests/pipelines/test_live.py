"""`denoise clean - -o -`: block by block, equal to the file, and sound alone on standard output."""

import io
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from denoise.infer.file import clean_file
from denoise.models.table import LIVE_MODEL
from pipelines.cli.group import cli

Run = Callable[..., Any]
VOICE = Path(__file__).parents[2] / "data" / "samples" / "recordings" / "voice_24bit_48k.wav"


def live(data: bytes, *options: str) -> Result:
    return CliRunner().invoke(cli, ["clean", "-", "-o", "-", *options], input=data, prog_name="denoise")


def samples_of(wav: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(wav), dtype="float32", always_2d=True)[0]


def test_a_pipe_gives_what_the_file_gives(tmp_path: Path) -> None:
    result = live(VOICE.read_bytes())
    assert result.exit_code == 0
    clean_file(VOICE, tmp_path / "out.wav", LIVE_MODEL)
    expected, _ = soundfile.read(tmp_path / "out.wav", dtype="float32", always_2d=True)
    np.testing.assert_allclose(samples_of(result.stdout_bytes), expected, atol=1e-5)
    assert f"1.4 s through {LIVE_MODEL}" in result.stderr
    assert live(VOICE.read_bytes(), "--quiet").stderr == ""


def test_headless_samples(tmp_path: Path) -> None:
    values = (0.3 * np.sin(np.arange(9000) / 9)).reshape(-1, 2)
    data = (values * 32768).astype("<i2").tobytes()
    result = live(data, "--raw", "s16le", "--sample-rate", "44100", "--channels", "2", "--model", "none")
    assert result.exit_code == 0
    assert result.stdout_bytes == data
    soundfile.write(tmp_path / "a.wav", np.frombuffer(data, "<i2").reshape(-1, 2), 44100)
    limited = live((tmp_path / "a.wav").read_bytes(), "--max-attenuation", "0")
    np.testing.assert_array_equal(
        samples_of(limited.stdout_bytes), samples_of((tmp_path / "a.wav").read_bytes())
    )


def test_sound_comes_out_while_more_comes_in_and_a_reader_may_leave() -> None:
    command = [sys.executable, "-m", "pipelines.cli", "clean", "-", "-o", "-", "--raw", "s16le"]
    with subprocess.Popen(
        [*command, "--sample-rate", "16000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(bytes(2 * 16000))
        process.stdin.flush()
        sound = process.stdout.read(2 * 15000)  # stdin is still open
        assert sound == bytes(2 * 15000)
        process.stdout.close()
        try:
            for _ in range(50):
                process.stdin.write(bytes(2 * 16000))
            process.stdin.close()
        except BrokenPipeError:
            pass
        assert process.stderr
        said = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert "the reader of the output closed it early" in said
    assert "Traceback" not in said
    assert "Exception" not in said


def test_an_input_that_ends_too_early_is_cleaned_so_far_and_told() -> None:
    data = VOICE.read_bytes()[: 44 + 3 * 30000]
    result = live(data)
    assert result.exit_code == 1
    assert "too early" in result.stderr
    assert len(samples_of(result.stdout_bytes)) == 30000


def test_a_sample_that_is_no_number_is_named() -> None:
    values = np.zeros(20000, "<f4")
    values[12345] = np.nan
    result = live(values.tobytes(), "--raw", "f32le", "--sample-rate", "16000")
    assert result.exit_code == 1
    assert "standard input: sample 12345 of channel 1 is nan" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ("clean - -o out.wav", "goes to standard output"),
        ("clean in.wav -o -", "no such file"),
        ("clean - in.wav -o -", "goes to standard output"),
        ("clean - -o - --workers 2", "--workers cannot be used"),
        ("clean - -o - --json x", "--json cannot be used"),
        ("clean - -o - --log-json x", "--log-json cannot be used"),
        ("clean - -o - --raw s16le --sample-rate 8000 --channels 99999999999", "1<=x<=1024"),
        ("clean - -o - --sample-rate 8000", "--sample-rate cannot be used"),
        ("clean - -o - --raw s16le", "needs a --sample-rate"),
        ("clean - -o - --raw s16le --sample-rate 0.5", "whole number"),
        ("clean - -o - --channels 2", "for --raw"),
        ("clean . -o out --raw s16le", "--raw and --channels are for"),
        ("clean - -o - --model photo", "not audio"),
        ("clean - -o - --model nothing", "nothing"),
    ],
)
def test_wrong_usage_exits_with_2_and_writes_nothing(denoise: Run, arguments: str, match: str) -> None:
    result = denoise(*arguments.split())
    assert result.exit_code == 2
    assert match in result.stderr
    assert result.stdout == ""


def test_a_stale_length_in_a_pipe_is_read_on() -> None:
    data = bytearray(VOICE.read_bytes())
    whole = live(bytes(data)).stdout_bytes
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 6000)
    assert live(bytes(data)).stdout_bytes == whole
    early = live(bytes(data[: at + 6004]) + b"LIST\4\0\0\0INFO")
    assert len(samples_of(early.stdout_bytes)) == 6000 // 3 // soundfile.info(VOICE).channels


def test_a_wav_that_is_none() -> None:
    for data in (b"", b"hello", b"RIFF" + struct.pack("<I", 4) + b"AVI "):
        result = live(data)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: standard input: ")
        assert result.stdout_bytes == b""
