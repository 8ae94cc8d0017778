"""Audio through pipes is read in pieces of any size, and written in the same form."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from denoise.errors import DenoiseError, UnreadableError, UnsupportedError, UsageError
from denoise.io.audio.pipe import PCM, PipeFormat, PipeReader, PipeWriter

SUBTYPES = {
    "PCM_U8": "u8",
    "PCM_16": "s16le",
    "PCM_24": "s24le",
    "PCM_32": "s32le",
    "FLOAT": "f32le",
    "DOUBLE": "f64le",
}


class Trickle(io.RawIOBase):
    """A pipe that returns a few bytes at a time and cannot seek."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size = io.BytesIO(data), size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        part = self._data.read(min(self._size, len(buffer)))
        buffer[: len(part)] = part
        return len(part)


def pipe(data: bytes, size: int = 7) -> io.BufferedReader:
    return io.BufferedReader(Trickle(data, size), 16)


def wav(path: Path, subtype: str, channels: int = 2, form: str = "WAV") -> bytes:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (501, channels))
    soundfile.write(path, samples, 44100, subtype, format=form)
    return path.read_bytes()


def through(data: bytes, headless: PipeFormat | None = None) -> tuple[np.ndarray, bytes]:
    reader, out = PipeReader(pipe(data), headless), io.BytesIO()
    writer = PipeWriter(out, reader.format)
    blocks = list(reader)
    for block in blocks:
        writer.write(block)
    assert writer.clipped == 0
    return np.concatenate(blocks, axis=-1), out.getvalue()


@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 3, 8])
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64"])
def test_a_wav_comes_out_as_it_went_in(tmp_path: Path, subtype: str, channels: int, form: str) -> None:
    path = tmp_path / "a.wav"
    samples, out = through(wav(path, subtype, channels, form))
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    np.testing.assert_array_equal(samples, expected.T)
    (tmp_path / "b.wav").write_bytes(out)  # of unknown length: a reader takes all there is
    found, rate = soundfile.read(tmp_path / "b.wav", dtype="float32", always_2d=True)
    np.testing.assert_array_equal(found, expected)
    assert rate == 44100
    assert soundfile.info(tmp_path / "b.wav").subtype == subtype


@pytest.mark.parametrize("encoding", PCM)
def test_headless_samples_come_out_bit_for_bit(encoding: str) -> None:
    layout = PipeFormat(encoding, 8000, 3)
    values = np.random.default_rng(1).uniform(-1, 1, (3, 257)).astype(np.float32)
    data, _ = layout.encode(values)
    assert len(data) == values.size * layout.sample_bytes
    samples, out = through(data, layout)
    assert out == data
    step = 0.0 if "f" in encoding else 2.0 ** (1 - 8 * layout.sample_bytes)
    np.testing.assert_allclose(samples, values, atol=step + 1e-7)


def test_what_is_beyond_full_scale_is_clipped_and_counted() -> None:
    out = io.BytesIO()
    writer = PipeWriter(out, PipeFormat("s16le", 8000))
    writer.write(np.array([[2.0, -2.0, 0.5, -1.0]], np.float32))
    assert np.frombuffer(out.getvalue(), "<i2").tolist() == [32767, -32768, 16384, -32768]
    assert writer.clipped == 2


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0])
def test_a_length_that_is_not_known_means_until_the_end(tmp_path: Path, size: int) -> None:
    data = bytearray(wav(tmp_path / "a.wav", "PCM_16"))
    data[4:8] = data[40:44] = struct.pack("<I", size)
    samples, _ = through(bytes(data))
    assert samples.shape == (2, 501)


def test_chunks_around_the_samples_are_not_samples(tmp_path: Path) -> None:
    data = wav(tmp_path / "a.wav", "PCM_16")
    odd = struct.pack("<4sI", b"LIST", 5) + b"hello\0"
    samples, _ = through(data[:12] + odd + data[12:] + odd)
    assert samples.shape == (2, 501)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda data: data[:0], UnreadableError, "empty"),
        (lambda data: b"ID3" + data, UnreadableError, "holds no WAV"),
        (lambda data: data[:30], UnreadableError, "cut short in its header"),
        (lambda data: data[:-1], UnreadableError, "3 bytes of a frame of 4"),
        (lambda data: data[:-4], UnreadableError, "4 bytes too early"),
        (lambda data: data[:12] + data[36:], UnreadableError, "without a format before"),
        (lambda data: data[:20] + b"\2" + data[21:], UnsupportedError, "format 2 with 16 bits"),
        (lambda data: data[:22] + b"\0" + data[23:], UnreadableError, "0 channels"),
        (
            lambda data: data[:16] + b"\xff\xff\xff\xff" + data[20:],
            UnreadableError,
            "in front of the samples",
        ),
    ],
)
def test_what_cannot_be_understood_gets_one_sentence(
    tmp_path: Path, change: object, error: type[DenoiseError], match: str
) -> None:
    data = change(wav(tmp_path / "a.wav", "PCM_16"))  # type: ignore[operator]
    with pytest.raises(error, match=f"^standard input: .*{match}"):
        list(PipeReader(pipe(data)))


def test_formats_that_there_are_not() -> None:
    with pytest.raises(UsageError, match="s16le"):
        PipeFormat("s16", 8000)
    with pytest.raises(UsageError, match="0 channels"):
        PipeFormat("s16le", 8000, 0)
