"""Bit rates of MPEG audio, compared with mutagen, and damaged files."""

import io
from pathlib import Path
from typing import Any

import mutagen.mp3
import numpy as np
import pytest
import soundfile

from denoise.io.audio.mpeg import bit_rate, id3_bytes

MP3: Any = mutagen.mp3.MP3  # mutagen is not typed


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("channels", [1, 2])
def test_the_bit_rate_is_that_of_another_reader(tmp_path: Path, rate: int, mode: str, channels: int) -> None:
    path, samples = tmp_path / "a.mp3", 0.1 * np.random.default_rng(0).normal(size=(rate, channels))
    options = {"subtype": "MPEG_LAYER_III", "compression_level": 0.4, "bitrate_mode": mode}
    soundfile.write(path, samples, rate, format="MP3", **options)
    data = path.read_bytes()
    expected = MP3(path).info.bitrate
    assert bit_rate(io.BytesIO(data)) == expected
    tag = b"ID3\4\0\0\0\0\3\1" + bytes(3 << 7 | 1)
    assert id3_bytes(tag) == len(tag)
    assert bit_rate(io.BytesIO(tag + data)) == expected


def _frames(head: bytes, size: int, tag: bytes = b"") -> io.BytesIO:
    first = (head + bytes(32) + tag).ljust(size, b"\0") if tag else head.ljust(size, b"\0")
    return io.BytesIO(b"\xff\xfb" + bytes(9) + first + head.ljust(size, b"\0") * 3)


def test_bit_rates_by_hand() -> None:
    assert bit_rate(_frames(b"\xff\xfb\x90\x64", 417)) == 128_000  # MPEG-1 layer III at 44.1 kHz
    assert bit_rate(_frames(b"\xff\xfd\x84\x64", 384)) == 128_000  # MPEG-1 layer II at 48 kHz
    assert bit_rate(_frames(b"\xff\xf3\x84\xc4", 192)) == 64_000  # MPEG-2 layer III at 24 kHz
    vbri = b"VBRI" + bytes(6) + (38_280).to_bytes(4) + (100).to_bytes(4)
    assert bit_rate(_frames(b"\xff\xfb\x90\x64", 417, vbri)) == round(38_280 * 8 * 44100 / 115_200)


@pytest.mark.parametrize("data", [b"", b"ID3", b"ID3\4\0\0\x7f\x7f\x7f\x7f", b"\xff" * 10_000, bytes(999)])
def test_no_bit_rate_is_made_up(data: bytes) -> None:
    assert bit_rate(io.BytesIO(data)) is None
