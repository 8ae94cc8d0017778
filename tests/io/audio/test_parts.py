"""Everything besides the samples: kept, or named in a note by comparing what was read and written."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from denoise.io import reader, writer

ID3 = b"ID3\4\0\0\0\0\0\x0f" + bytes(15)
ID3V1 = b"TAG" + b"x" * 125
BEXT = b"bext" + struct.pack("<I", 4) + b"abcd"
SEEK_TABLE = b"\3\0\0\x12" + bytes(18)


def ape() -> bytes:
    item = struct.pack("<II", 3, 0) + b"Title\0abc"
    ends = [
        b"APETAGEX" + struct.pack("<IIII", 2000, len(item) + 32, 1, flags) + bytes(8)
        for flags in (0xA0000000, 0x80000000)
    ]
    return ends[0] + item + ends[1]


def half_frame(data: bytes) -> bytes:
    """Add a byte to the samples of a WAV or AIFF that ends with them."""
    order, size_at = ("<", data.index(b"data") + 4) if data[:4] == b"RIFF" else (">", data.index(b"SSND") + 4)
    size = struct.unpack_from(f"{order}I", data, size_at)[0] + 1
    return data[:size_at] + struct.pack(f"{order}I", size) + data[size_at + 4 :] + b"\x07\0"


def aifc(name: bytes, code: bytes = b"sowt") -> Callable[[bytes], bytes]:
    """Name the code of the samples of an AIFF."""

    def change(data: bytes) -> bytes:
        at = data.index(b"COMM")
        pascal = bytes([len(name)]) + name + bytes(1 - len(name) % 2)
        common = data[at + 8 : at + 26] + code + pascal
        body = b"AIFC" + b"COMM" + struct.pack(">I", len(common)) + common + data[data.index(b"SSND") :]
        return b"FORM" + struct.pack(">I", len(body)) + body

    return change


def again(path: Path, suffix: str = "") -> tuple[bytes, str]:
    """Write a file with unchanged samples; return the bytes of the result and the note about losses."""
    target = path.with_name(f"out{suffix or path.suffix}")
    with reader(path) as blocks, writer(target, blocks.info) as sink:
        for block in blocks:
            sink.write(block)
    notes: tuple[str, ...] = getattr(sink, "notes", ())
    return target.read_bytes(), " ".join(notes)


@pytest.mark.parametrize(
    ("suffix", "change", "note"),
    [
        (".mp3", lambda data: ID3 + data + ape() + ID3V1, ""),
        (".mp3", lambda data: data + ape(), ""),
        (".mp3", lambda data: data + ID3 + data, "not kept: ID3v2 of a further recording"),
        (".mp3", lambda data: data + b"garbage", "not kept: bytes outside of frames"),
        (".wav", lambda data: data + BEXT, ""),
        (".wav", lambda data: ID3 + data + BEXT, "not kept: ID3 in front"),
        (
            ".wav",
            lambda data: data + BEXT + data + BEXT[:-4] + b"efgh",
            "not kept: bext of a further recording",
        ),
        (".wav", lambda data: data + b"\1\2\3\4" * 20, "not kept: 80 bytes behind the last chunk"),
        (".wav", lambda data: data + b"junk" * 30, "not kept: 120 bytes behind the last chunk"),
        (".aiff", lambda data: data + b"junk" * 30, "not kept: 120 bytes behind the last chunk"),
        (".wav", lambda data: data + bytes(80), ""),
        (".aiff", lambda data: ID3 + data, "not kept: ID3 in front"),
        (".wav", half_frame, "not kept: 1 byte of an incomplete last frame"),
        (".aiff", half_frame, "not kept: 1 byte of an incomplete last frame"),
        (".aiff", aifc(b"Little"), "not kept: compression name"),
        (".aiff", aifc(b""), ""),
        (".flac", lambda data: data, ""),
        (".flac", lambda data: ID3 + data + ID3V1, "not kept: ID3 in front, ID3v1"),
        (".flac", lambda data: data[:42] + SEEK_TABLE + data[42:], "not kept: seek table"),
        (".flac", lambda data: data + b"junk" * 400, "not kept: bytes behind the last frame"),
        (".flac", lambda data: data + bytes(80) + ID3V1, "not kept: ID3v1"),
        (".ogg", lambda data: data, ""),
        (".ogg", lambda data: data + b"junk" * 400, "not kept: 1600 bytes behind the last page"),
        (".ogg", lambda data: data + bytes(80), ""),
    ],
)
def test_what_is_not_kept_is_named(
    tmp_path: Path, suffix: str, change: Callable[[bytes], bytes], note: str
) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=22050), 22050)
    path.write_bytes(change(path.read_bytes()))
    result, found = again(path)
    assert found == note
    for tag in (ape(), ID3V1, BEXT):
        assert suffix == ".flac" or (tag in result) == (tag in path.read_bytes())


@pytest.mark.parametrize(
    ("valid", "notes"), [(24, ()), (20, ("samples of 20 bits, stored in 24, are written as 24 bits",))]
)
def test_bits_that_are_not_in_use_are_named(tmp_path: Path, valid: int, notes: tuple[str, ...]) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(99), 8000, "PCM_24", format="WAVEX")
    data = bytearray(path.read_bytes())
    data[data.index(b"fmt ") + 26] = valid
    path.write_bytes(data)
    with reader(path) as blocks:
        assert blocks.info.notes == notes


def test_what_another_container_cannot_hold_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(9), 8000)
    path.write_bytes(path.read_bytes() + BEXT)
    assert again(path, ".flac")[1] == "not kept: bext"


def test_a_joined_wav_does_not_become_a_chunk_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(99), 8000)
    path.write_bytes(path.read_bytes() * 2)
    result, _ = again(path)
    assert result.count(b"RIFF") == 1
    assert soundfile.info(tmp_path / "out.wav").frames == 198


def test_an_empty_tag_in_front_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=16000), 16000)
    path.write_bytes(b"ID3\x04\0\0\0\0\0\0" * 3 + path.read_bytes())
    again(path)
    assert soundfile.info(tmp_path / "out.mp3").frames >= 16000
