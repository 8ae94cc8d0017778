"""Lengths of recordings: every sample of the stream is read, whatever the header counts."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from denoise.errors import UnreadableError, UnsupportedError
from denoise.io import probe, read, reader
from denoise.io.audio import flac, mpeg
from denoise.io.audio.view import View

RATE = 22050


def tone(path: Path, seconds: float = 2.0, rate: int = RATE, **options: object) -> bytes:
    """Write a sweep and return the bytes of the file."""
    time_s = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, 0.3 * np.sin(2000 * time_s**2), rate, **options)
    return path.read_bytes()


def untagged(path: Path, seconds: float = 2.0, mode: str = "VARIABLE") -> bytes:
    """Write an MP3 without the frame that counts the others; loud first, so that the first are large."""
    samples = np.random.default_rng(0).normal(size=int(seconds * RATE))
    samples *= np.linspace(0.5, 0, len(samples)) ** 4
    soundfile.write(path, samples, RATE, format="MP3", bitrate_mode=mode, compression_level=0.7)
    data = path.read_bytes()
    with path.open("rb") as file:
        (stream,) = mpeg.streams(file)
        assert stream.count_at
        first = mpeg._frame(data, stream.start)
    assert first
    return data[stream.start + first.size_bytes : stream.stop]


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
def test_an_mp3_without_a_count_of_its_frames_is_read_to_its_end(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(untagged(path, mode=mode))
    with path.open("rb") as file:
        (stream,) = mpeg.streams(file)
    samples, info = read(path)
    assert samples.shape == info.shape == (1, stream.frames * stream.frame_samples)
    assert info.shape[1] / RATE == pytest.approx(2.1, abs=0.1)  # encoders pad both ends
    if mode == "VARIABLE":
        assert soundfile.info(path).duration < 1.5  # its first frame is no measure for the others


@pytest.mark.parametrize(
    ("suffix", "repeats"), [(".mp3", 2), (".ogg", 3), (".opus", 2), (".flac", 2), (".wav", 2)]
)
def test_joined_files_are_read_one_after_another(tmp_path: Path, suffix: str, repeats: int) -> None:
    path = tmp_path / f"a{suffix}"
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
    data = tone(path, rate=24000, **options)
    alone, _ = read(path)
    path.write_bytes(data * repeats)
    whole, info = read(path, block=1000)
    np.testing.assert_array_equal(whole, np.tile(alone, repeats))
    assert info.shape == whole.shape
    assert f"holds {repeats} recordings" in info.notes[0]
    with reader(path, block=1000) as blocks:
        assert {block.shape[1] for block in list(blocks)[:-1]} == {1000}


def test_an_id3_tag_between_joined_mp3s_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    data = tone(path)
    path.write_bytes(data + b"ID3\4\0\0\0\0\0\5hello" + data)
    assert read(path)[0].shape[1] == pytest.approx(4 * RATE, abs=2 * 1152)


def test_joined_recordings_of_different_rates_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    path.write_bytes(tone(path) + tone(path, rate=44100))
    with pytest.raises(UnsupportedError, match=r"a\.ogg: .*22050 Hz and of 1 at 44100 Hz"):
        read(path)


def set_total(data: bytes, total: int) -> bytes:
    return data[:21] + bytes([data[21] & 0xF0]) + total.to_bytes(4) + data[26:]


@pytest.mark.parametrize("total", [1000, 0])
def test_a_flac_whose_header_counts_too_few_is_read_whole(tmp_path: Path, total: int) -> None:
    path = tmp_path / "a.flac"
    data = tone(path)
    expected, _ = read(path)
    path.write_bytes(set_total(data, total))
    samples, info = read(path)
    np.testing.assert_array_equal(samples, expected)
    assert info.shape == samples.shape
    assert ("states 0.0 s, less than there are" if total else "was counted") in info.notes[0]


def test_a_changed_rate_inside_a_flac_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    data = bytearray(tone(path))
    with path.open("rb") as file:
        (stream,) = flac.streams(file)
    assert stream.changed is None
    at = next(  # the header of the second frame: a sync code, codes of size and rate, channels, its number
        at for at in range(100, len(data)) if data[at : at + 2] == b"\xff\xf8" and data[at + 4] == 1
    )
    assert data[at + 2] & 15 == 6  # 22.05 kHz
    data[at + 2] = data[at + 2] & 0xF0 | 8  # 32 kHz
    crc = 0
    for byte in data[at : at + 5]:
        crc = flac._CRC8[crc ^ byte]
    data[at + 5] = crc
    path.write_bytes(data)
    assert any("changes from 22050 to 32000 Hz" in note for note in probe(path).notes)


@pytest.mark.parametrize(("suffix", "kind"), [(".wav", "WAV"), (".wav", "RF64"), (".aiff", "AIFF")])
def test_a_header_that_was_never_finished_is_read_to_the_end(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a{suffix}"
    data = bytearray(tone(path, format=kind, subtype="PCM_16"))
    expected, _ = read(path)
    if kind == "AIFF":
        at = data.index(b"COMM") + 10
        data[at : at + 4] = bytes(4)
    at = data.index(b"SSND" if kind == "AIFF" else b"data") + 4
    if kind == "RF64":
        data[28:36] = bytes(8)
    else:
        data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    samples, info = read(path)
    np.testing.assert_array_equal(samples, expected)
    assert any("lost power" in note for note in info.notes)
    assert not any("last chunk" in name for name, _ in info.parts)


@pytest.mark.parametrize(("suffix", "kind"), [(".wav", "WAV"), (".wav", "RF64"), (".aiff", "AIFF")])
@pytest.mark.parametrize("whole", [True, False], ids=["form whole", "form short"])
def test_a_header_that_was_last_written_before_the_end_is_read_to_the_end(
    tmp_path: Path, suffix: str, kind: str, whole: bool
) -> None:
    """A recorder that updates its header now and then has lost power: both sizes, or one, are too small."""
    path = tmp_path / f"a{suffix}"
    data = bytearray(tone(path, format=kind, subtype="PCM_16"))
    expected, _ = read(path)
    order, early = (">" if kind == "AIFF" else "<"), 4096
    if kind == "AIFF":
        at = data.index(b"SSND") + 4
        data[at : at + 4] = struct.pack(">I", early + 8)
    elif kind == "RF64":
        data[28:36] = struct.pack("<Q", early)
    else:
        at = data.index(b"data") + 4
        data[at : at + 4] = struct.pack("<I", early)
    if not whole and kind != "RF64":
        data[4:8] = struct.pack(f"{order}I", early + data.index(b"SSND" if kind == "AIFF" else b"data"))
    path.write_bytes(data)
    samples, info = read(path)
    np.testing.assert_array_equal(samples, expected)
    assert any("fewer than there are; all are read" in note for note in info.notes)


@pytest.mark.parametrize(
    "tail", [bytes(20_000), b"<xml>" * 4000, b"ID3\4\0\0\0\0\x7f\x76" + b"\xff" * 17_000]
)
def test_zeros_texts_and_tags_behind_the_samples_are_none(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "a.wav"
    data = tone(path, format="WAV", subtype="PCM_16")
    expected, _ = read(path)
    path.write_bytes(data + tail)
    samples, _ = read(path)
    np.testing.assert_array_equal(samples, expected)


def test_a_wav_of_no_samples_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(0), RATE)
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO")
    with pytest.raises(UnreadableError, match="holds 0 samples"):
        read(path)


def cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def spoil(data: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + bytes(5000) + data[half + 5000 :]


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".flac", ".ogg", ".opus", ".mp3"])
def test_a_cut_recording_is_salvaged_as_far_as_it_decodes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    options = {"format": "OGG", "subtype": "OPUS"} if suffix == ".opus" else {}
    data = tone(path, 20, 24000, **options)
    whole, _ = read(path)
    path.write_bytes(cut(data))
    with pytest.raises(UnreadableError, match="cut short"):
        read(path)
    with reader(path, salvage=True) as blocks:
        found = np.concatenate(list(blocks), axis=1)
        info = blocks.info
    assert found.shape[1] > 0.4 * whole.shape[1]
    np.testing.assert_array_equal(found, whole[:, : found.shape[1]])
    seconds = found.shape[1] / 24000
    assert info.salvaged
    assert info.salvaged.startswith(f"salvaged {seconds:.1f} ")
    assert info.salvaged in info.notes
    if suffix not in (".ogg", ".opus"):  # their headers state no length
        assert "of about 20.0 s" in info.salvaged


@pytest.mark.parametrize("change", [cut, spoil])
@pytest.mark.parametrize("suffix", [".flac", ".mp3"])
def test_damage_is_never_taken_for_the_end(
    tmp_path: Path, suffix: str, change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"a{suffix}"
    data = tone(path, 10, 44100)
    path.write_bytes(set_total(data, 0) if suffix == ".flac" else data)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UnreadableError, match=r"cut short|damaged"):
        read(path)


def test_a_view_is_a_part_with_other_bytes_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    with View(path, 2, 8, {1: b"ab", 5: b"xyz"}) as view:
        assert view.read() == b"b34xyz"
        assert view.seek(-2, 2) == 4
        assert view.read(9) == b"yz"
    with View(path, 2, 8, endless=True) as view:
        assert view.seek(0, 2) == 2**40
        assert view.seek(-128, 1) == 2**40 - 128
        assert view.read(128) == bytes(128)
        view.seek(4)
        assert view.read(9) == b"67"


def test_a_tag_with_a_wrong_size_says_nothing_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """mpg123 prints a warning where LAME's tag states another size than the stream has."""
    samples = np.random.default_rng(0).standard_normal((44100, 1)).astype(np.float32) * 0.1
    soundfile.write(tmp_path / "a.mp3", samples, 44100, format="MP3")
    data = (tmp_path / "a.mp3").read_bytes()
    assert b"Info" in data[:64] or b"Xing" in data[:64]
    (tmp_path / "a.mp3").write_bytes(data[: len(data) * 6 // 10])
    with reader(tmp_path / "a.mp3", salvage=True) as blocks:
        assert sum(block.shape[1] for block in blocks) > 20000
    assert capfd.readouterr() == ("", "")
