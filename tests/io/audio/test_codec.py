"""Audio files: all data kept, in bounded memory, or a refusal in one sentence."""

import dataclasses
import re
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import mutagen
import mutagen.flac
import mutagen.id3
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from denoise.dsp.resample import resample
from denoise.errors import DenoiseError, OutputError, UnreadableError, UsageError
from denoise.io import probe, read, reader, write, writer
from denoise.io.audio.encoding import encoding
from denoise.signal import AudioInfo, SignalInfo

FLAC_MODULE: Any = mutagen.flac  # mutagen is not typed
FLAC = FLAC_MODULE.FLAC
ID3: Any = mutagen.id3

INTEGERS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24}
LOSSY = [
    (".ogg", "OGG", "VORBIS", 8000, 1),
    (".ogg", "OGG", "VORBIS", 44100, 2),
    (".oga", "OGG", "VORBIS", 96000, 2),
    (".ogg", "OGG", "OPUS", 48000, 2),
    (".opus", "OGG", "OPUS", 8000, 1),
    (".opus", "OGG", "OPUS", 16000, 1),
    (".opus", "OGG", "OPUS", 48000, 6),
    (".mp3", "MP3", "MPEG_LAYER_III", 8000, 1),
    (".mp3", "MP3", "MPEG_LAYER_III", 11025, 2),
    (".mp3", "MP3", "MPEG_LAYER_III", 16000, 2),
    (".mp3", "MP3", "MPEG_LAYER_III", 22050, 1),
    (".mp3", "MP3", "MPEG_LAYER_III", 44100, 2),
    (".mp3", "MP3", "MPEG_LAYER_III", 48000, 1),
]
EXACT = [
    (".wav", "WAV", "PCM_16", 8000, 1),
    (".wav", "WAV", "PCM_16", 44100, 2),
    (".wav", "WAV", "PCM_24", 192000, 2),
    (".wav", "WAV", "PCM_U8", 22050, 1),
    (".wav", "WAV", "FLOAT", 96000, 8),
    (".wav", "WAV", "ULAW", 8000, 1),
    (".wav", "WAV", "ALAW", 8000, 2),
    (".wav", "WAVEX", "PCM_24", 48000, 6),
    (".wav", "RF64", "PCM_24", 48000, 2),
    (".rf64", "RF64", "FLOAT", 48000, 2),
    (".flac", "FLAC", "PCM_S8", 11025, 1),
    (".flac", "FLAC", "PCM_16", 44100, 2),
    (".flac", "FLAC", "PCM_24", 96000, 8),
    (".aif", "AIFF", "PCM_16", 44100, 2),
    (".aiff", "AIFF", "PCM_24", 48000, 1),
    (".aiff", "AIFF", "PCM_S8", 32000, 3),
    (".aiff", "AIFF", "FLOAT", 48000, 2),
]
ROUNDED = [(".wav", "WAV", "PCM_32", 48000, 2), (".wav", "WAV", "DOUBLE", 44100, 1)]


def noise(channels: int, samples: int, level: float = 0.2, seed: int = 1) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal((channels, samples))).clip(-1, 1).astype(np.float32)


def make(path: Path, row: tuple[str, str, str, int, int], samples: int = 4321, **options: Any) -> Path:
    """Write a file by libsndfile itself, independently of the code under test."""
    _, container, subtype, rate, channels = row
    bits = INTEGERS.get(subtype)
    if bits:
        generator = np.random.default_rng(7)
        values = generator.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (samples, channels), dtype=np.int64)
        values[0], values[-1] = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        data: NDArray[Any] = (values << (32 - bits)).astype(np.int32)
    else:
        data = noise(channels, samples).T
    soundfile.write(path, data, rate, format=container, subtype=subtype, **options)
    return path


def copy(source: Path, target: Path, **options: Any) -> Any:
    """Reader to writer, block by block; the writer comes back for what it counted."""
    with reader(source, **options) as blocks, writer(target, blocks.info) as sink:
        for block in blocks:
            sink.write(block)
    return sink


def same_header(a: Path, b: Path) -> bool:
    first, second = soundfile.info(a), soundfile.info(b)
    fields = ("format", "subtype", "endian", "samplerate", "channels", "frames")
    return all(getattr(first, name) == getattr(second, name) for name in fields)


@pytest.mark.parametrize("row", EXACT, ids=lambda row: "-".join(map(str, row)))
def test_an_untouched_file_comes_back_bit_for_bit(
    tmp_path: Path, row: tuple[str, str, str, int, int]
) -> None:
    source, target = make(tmp_path / f"in{row[0]}", row), tmp_path / f"out{row[0]}"
    sink = copy(source, target, block=1000)
    assert same_header(source, target)
    dtype = "float32" if row[2] == "FLOAT" else "int32"
    np.testing.assert_array_equal(
        soundfile.read(source, dtype=dtype)[0], soundfile.read(target, dtype=dtype)[0]
    )
    assert sink.clipped == 0


@pytest.mark.parametrize("row", ROUNDED, ids=lambda row: row[2])
def test_what_float32_cannot_hold_keeps_24_bits_and_says_so(
    tmp_path: Path, row: tuple[str, str, str, int, int]
) -> None:
    source, target = make(tmp_path / "in.wav", row), tmp_path / "out.wav"
    sink = copy(source, target)
    assert same_header(source, target)
    before, after = soundfile.read(source)[0], soundfile.read(target)[0]
    assert np.all(np.abs(after - before) <= np.abs(before) * 2**-24 + 2**-31)
    assert sink.clipped == 0
    assert "24 significant bits" in " ".join(probe(source).notes)


@pytest.mark.parametrize("samples", [1, 700, 4321, 20000])
@pytest.mark.parametrize("row", LOSSY, ids=lambda row: "-".join(map(str, row)))
def test_lossy_formats_keep_length_place_and_rate(
    tmp_path: Path, row: tuple[str, str, str, int, int], samples: int
) -> None:
    source, target = make(tmp_path / f"in{row[0]}", row, samples), tmp_path / f"out{row[0]}"
    copy(source, target)
    assert same_header(source, target)
    assert probe(source).shape == probe(target).shape == (row[4], samples)


@pytest.mark.parametrize("row", [row for row in LOSSY if row[3] == 48000], ids=lambda row: row[2] + row[0])
def test_lossy_formats_do_not_shift_the_signal(tmp_path: Path, row: tuple[str, str, str, int, int]) -> None:
    array = resample(noise(row[4], 4000), 8000, 48000)  # below 4 kHz, where each of them keeps the waveform
    path = tmp_path / f"x{row[0]}"
    write(path, array, SignalInfo(path, "audio", array.shape, "float32", 1.0, sample_rate=48000.0))
    back, _ = read(path)
    spectrum = np.fft.rfft(back[0], 2**16) * np.conj(np.fft.rfft(array[0], 2**16))
    assert int(np.fft.irfft(spectrum).argmax()) == 0


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ((".ogg", "OGG", "VORBIS", 44100, 2), {"compression_level": 0.1}),
        ((".ogg", "OGG", "VORBIS", 16000, 1), {"compression_level": 0.8}),
        ((".opus", "OGG", "OPUS", 48000, 2), {"compression_level": 0.2}),
        ((".mp3", "MP3", "MPEG_LAYER_III", 44100, 2), {"compression_level": 0.0, "bitrate_mode": "CONSTANT"}),
        ((".mp3", "MP3", "MPEG_LAYER_III", 44100, 2), {"compression_level": 0.6, "bitrate_mode": "CONSTANT"}),
        ((".mp3", "MP3", "MPEG_LAYER_III", 44100, 2), {"compression_level": 0.2, "bitrate_mode": "VARIABLE"}),
        ((".mp3", "MP3", "MPEG_LAYER_III", 16000, 1), {"compression_level": 0.5, "bitrate_mode": "CONSTANT"}),
    ],
)
def test_lossy_formats_keep_their_bit_rate_or_go_one_step_up(
    tmp_path: Path, row: tuple[str, str, str, int, int], options: dict[str, Any]
) -> None:
    source, target = make(tmp_path / f"in{row[0]}", row, 48000, **options), tmp_path / f"out{row[0]}"
    copy(source, target)
    rates = [
        probe(path).bit_rate if row[2] == "OPUS" else mutagen.File(path).info.bitrate
        for path in (source, target)
    ]
    assert 0.995 * rates[0] <= rates[1] <= 1.3 * rates[0]


@pytest.mark.parametrize(
    "row", [*EXACT[1:6], EXACT[9], *LOSSY[:4], LOSSY[-2]], ids=lambda row: row[1] + row[2]
)
def test_blocks_of_any_size_hold_the_same_samples(
    tmp_path: Path, row: tuple[str, str, str, int, int]
) -> None:
    path = make(tmp_path / f"x{row[0]}", row)
    whole, info = read(path)
    assert whole.dtype == np.float32
    assert whole.shape == info.shape == (row[4], 4321)
    for block in (1, 160, 4320, 10**6):
        if block == 1 and row[1] != "WAV":
            continue  # the same code; only slower
        with reader(path, block=block) as blocks:
            parts = list(blocks)
        assert {part.shape[1] for part in parts[:-1]} <= {block}
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_the_writer_does_not_mind_how_the_samples_are_cut(tmp_path: Path) -> None:
    array = noise(2, 1000)
    info = SignalInfo(tmp_path, "audio", array.shape, "float32", 1.0, sample_rate=44100.0)
    contents = []
    for step in (1, 7, 1000):
        path = tmp_path / "x.flac"
        with writer(path, info) as sink:
            for start in range(0, 1000, step):
                sink.write(array[:, start : start + step])
        contents.append(path.read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_equal_samples_make_equal_float_files(tmp_path: Path) -> None:
    array = noise(1, 100)
    source = tmp_path / "in.wav"
    soundfile.write(source, array.T, 8000, subtype="FLOAT")
    copy(source, tmp_path / "out.wav")
    data = (tmp_path / "out.wav").read_bytes()
    stamp = data.index(b"PEAK") + 12
    assert data[stamp : stamp + 4] == bytes(4)  # libsndfile writes the time of day here


@pytest.mark.parametrize(("endian", "suffix"), [("BIG", ".wav"), ("LITTLE", ".aiff"), ("FILE", ".aiff")])
def test_byte_order_is_kept(tmp_path: Path, endian: str, suffix: str) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    soundfile.write(source, noise(1, 99).T, 8000, subtype="PCM_16", endian=endian)
    copy(source, target)
    assert same_header(source, target)
    assert source.read_bytes()[:4] == target.read_bytes()[:4]


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM"])
def test_adpcm_becomes_pcm_so_that_its_length_stays(tmp_path: Path, subtype: str) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, noise(1, 3000).T, 8000, subtype=subtype)
    copy(source, target)
    assert soundfile.info(target).subtype == "PCM_16"
    np.testing.assert_array_equal(soundfile.read(source)[0], soundfile.read(target)[0])
    assert f"{subtype} is written back as PCM_16" in probe(source).notes


# ---- range


def test_integers_are_rounded_without_bias_and_clipping_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    step = 2.0**-15
    array = np.array([[0.4, 0.6, -0.4, -0.6, 1.4]], np.float32) * np.float32(step)
    array = np.concatenate([array, np.array([[1.0, -1.0, 1.5, -2.0]], np.float32)], axis=1)
    before = array.copy()
    info = AudioInfo(path, "audio", array.shape, "float32", 1.0, 8000.0, container="WAV", subtype="PCM_16")
    with writer(path, info) as sink:
        sink.write(array)
    assert soundfile.read(path, dtype="int16")[0].tolist() == [0, 1, 0, -1, 1, 32767, -32768, 32767, -32768]
    assert sink.clipped == 2
    np.testing.assert_array_equal(array, before)


def test_rounding_has_no_bias(tmp_path: Path) -> None:
    array = noise(1, 100_000, level=0.01)
    path = tmp_path / "x.wav"
    write(
        path,
        array,
        AudioInfo(path, "audio", array.shape, "float32", 1.0, 8000.0, container="WAV", subtype="PCM_16"),
    )
    error = (soundfile.read(path)[0] - array[0]) * 2**15
    assert abs(error.mean()) < 0.005  # 0.5 where it is cut off; 0.29 / sqrt(100000) = 0.0009 is one deviation
    assert np.abs(error).max() <= 0.5


@pytest.mark.parametrize("suffix", [".wav", ".aiff"])
def test_float_files_go_beyond_full_scale(tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    array = np.array([[0.0, 3.5, -7.25]], np.float32)
    soundfile.write(source, array.T, 48000, subtype="FLOAT")
    assert copy(source, target).clipped == 0
    np.testing.assert_array_equal(read(target)[0], array)


@pytest.mark.parametrize("row", [*EXACT, LOSSY[0], LOSSY[-1]], ids=lambda row: row[0] + row[2])
def test_silence_stays_exact_zeros(tmp_path: Path, row: tuple[str, str, str, int, int]) -> None:
    source, target = tmp_path / f"in{row[0]}", tmp_path / f"out{row[0]}"
    soundfile.write(source, np.zeros((3000, row[4])), row[3], format=row[1], subtype=row[2])
    copy(source, target)
    expected = 8 / 2**15 if row[2] == "ALAW" else 0.0  # A-law has no zero
    assert np.abs(read(target)[0]).max() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_a_sample_that_is_no_number_is_named(tmp_path: Path, subtype: str, value: float) -> None:
    path = tmp_path / "x.wav"
    array = noise(2, 1000)
    array[1, 777] = value
    soundfile.write(path, array.T, 8000, subtype=subtype)
    with pytest.raises(
        UnreadableError, match=rf"x\.wav: sample 777 of channel 2 is {value}, expected finite"
    ):
        read(path, block=100)


def test_a_result_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    info = SignalInfo(path, "audio", (1, 10), "float32", 1.0, sample_rate=8000.0)
    array = np.zeros((1, 10), np.float32)
    array[0, 4] = np.nan
    with pytest.raises(OutputError, match="sample 4 of channel 1 is nan"):
        write(path, array, info)
    assert list(tmp_path.iterdir()) == []


# ---- tags


def riff_chunks(path: Path) -> dict[bytes, bytes]:
    """Read the chunks of a WAV, independently of the code under test."""
    data = path.read_bytes()
    order = ">" if data[:4] == b"RIFX" or data[:4] == b"FORM" else "<"
    position, found = 12, {}
    while position < len(data):
        name, size = struct.unpack_from(f"{order}4sI", data, position)
        size = len(data) if size == 0xFFFFFFFF else size
        found[name] = data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2
    assert position == len(data)
    return found


def append_chunk(path: Path, name: bytes, payload: bytes) -> None:
    data = bytearray(path.read_bytes())
    order = ">" if data[:4] == b"RIFX" or data[:4] == b"FORM" else "<"
    data += bytes(len(data) % 2) + struct.pack(f"{order}4sI", name, len(payload)) + payload
    data += bytes(len(data) % 2)
    if data[:4] == b"RF64":
        struct.pack_into("<Q", data, 20, len(data) - 8)
    else:
        struct.pack_into(f"{order}I", data, 4, len(data) - 8)
    path.write_bytes(data)


CHUNKS = {
    b"bext": bytes(602) + b"A=PCM,F=48000",
    b"cue ": struct.pack("<I", 0),
    b"LIST": b"INFOINAM\x06\0\0\0title\0",
    b"iXML": "<BWFXML>é</BWFXML>".encode(),
}


@pytest.mark.parametrize(
    ("suffix", "container", "subtype", "endian"),
    [
        (".wav", "WAV", "PCM_16", "FILE"),
        (".wav", "WAV", "FLOAT", "FILE"),
        (".wav", "WAV", "PCM_16", "BIG"),
        (".wav", "WAVEX", "PCM_24", "FILE"),
    ],
)
def test_wav_chunks_come_back_byte_for_byte(
    tmp_path: Path, suffix: str, container: str, subtype: str, endian: str
) -> None:
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    soundfile.write(source, noise(1, 333).T, 8000, format=container, subtype=subtype, endian=endian)
    for name, payload in CHUNKS.items():
        append_chunk(source, name, payload)
    copy(source, target)
    found = riff_chunks(target)
    assert {name: found[name] for name in CHUNKS} == CHUNKS
    assert same_header(source, target)
    np.testing.assert_array_equal(read(source)[0], read(target)[0])
    assert (
        struct.unpack_from("<>"[endian == "BIG"] + "I", target.read_bytes(), 4)[0]
        == target.stat().st_size - 8
    )


def test_rf64_chunks_come_back(tmp_path: Path) -> None:
    source, target = tmp_path / "in.rf64", tmp_path / "out.rf64"
    soundfile.write(source, noise(2, 333).T, 8000, format="RF64", subtype="PCM_24")
    append_chunk(source, b"bext", CHUNKS[b"bext"])
    copy(source, target)
    data = target.read_bytes()
    assert data.endswith(CHUNKS[b"bext"] + b"\0" * (len(CHUNKS[b"bext"]) % 2))
    assert struct.unpack_from("<Q", data, 20)[0] == len(data) - 8
    assert same_header(source, target)


def test_aiff_chunks_come_back(tmp_path: Path) -> None:
    source, target = tmp_path / "in.aiff", tmp_path / "out.aiff"
    soundfile.write(source, noise(1, 333).T, 8000, subtype="PCM_16")
    append_chunk(source, b"NAME", b"A name")
    append_chunk(source, b"MARK", b"\0\0")
    copy(source, target)
    found = riff_chunks(target)
    assert (found[b"NAME"], found[b"MARK"]) == (b"A name", b"\0\0")
    assert soundfile.SoundFile(target).title == "A name"


def test_speaker_positions_of_an_extensible_wav_come_back(tmp_path: Path) -> None:
    source, target = tmp_path / "in.wav", tmp_path / "out.wav"
    soundfile.write(source, noise(4, 333).T, 8000, format="WAVEX", subtype="PCM_16")
    data = bytearray(source.read_bytes())
    mask = data.index(b"fmt ") + 8 + 20
    data[mask : mask + 4] = struct.pack("<I", 0x107)
    source.write_bytes(data)
    copy(source, target)
    assert riff_chunks(target)[b"fmt "] == riff_chunks(source)[b"fmt "]


def test_flac_comments_and_pictures_come_back(tmp_path: Path) -> None:
    source, target = tmp_path / "in.flac", tmp_path / "out.flac"
    make(source, EXACT[11])
    tagged = FLAC(source)
    tagged["title"], tagged["custom"] = "Tïtle", ["one", "two"]
    picture: Any = FLAC_MODULE.Picture()
    picture.data, picture.mime = bytes(range(256)) * 300, "image/png"
    tagged.add_picture(picture)
    tagged.save()
    copy(source, target)
    back = FLAC(target)
    assert list(back.tags) == list(FLAC(source).tags)
    assert back.pictures[0].data == picture.data
    np.testing.assert_array_equal(read(source)[0], read(target)[0])


@pytest.mark.parametrize("row", [LOSSY[1], LOSSY[5]], ids=lambda row: row[2])
def test_ogg_comments_come_back(tmp_path: Path, row: tuple[str, str, str, int, int]) -> None:
    source, target = make(tmp_path / f"in{row[0]}", row), tmp_path / f"out{row[0]}"
    tagged = mutagen.File(source)
    tagged["title"], tagged["metadata_block_picture"] = ["Tïtle", "second"], "QUJD" * 30000
    tagged.save()
    copy(source, target)
    assert list(mutagen.File(target).tags) == list(mutagen.File(source).tags)
    assert same_header(source, target)


@pytest.mark.parametrize("version", [3, 4])
def test_mp3_tags_come_back_byte_for_byte(tmp_path: Path, version: int) -> None:
    row = LOSSY[-2]
    source, target = make(tmp_path / "in.mp3", row), tmp_path / "out.mp3"
    tags = ID3.ID3()
    tags.add(ID3.TIT2(encoding=1, text="Tïtle"))
    tags.add(ID3.APIC(encoding=0, mime="image/png", type=3, data=bytes(5000)))
    tags.save(source, v1=2, v2_version=version)
    copy(source, target)
    assert ID3.ID3(target)["TIT2"].text == ["Tïtle"]
    size = ID3.ID3(source).size
    assert size > 5000
    assert target.read_bytes()[:size] == source.read_bytes()[:size]
    assert target.read_bytes()[-128:] == source.read_bytes()[-128:]
    assert probe(target).shape == (2, 4321)


# ---- other names, other formats


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        (".wav", "PCM_24"),
        (".flac", "PCM_24"),
        (".aiff", "PCM_24"),
        (".ogg", "VORBIS"),
        (".opus", "OPUS"),
        (".mp3", "MPEG_LAYER_III"),
        (".rf64", "PCM_24"),
    ],
)
def test_another_suffix_is_another_format(tmp_path: Path, suffix: str, subtype: str) -> None:
    source, target = (
        make(tmp_path / "in.wav", (".wav", "WAV", "FLOAT", 48000, 2)),
        tmp_path / f"é x{suffix.upper()}",
    )
    info = probe(source)
    write(target, read(source)[0], SignalInfo(source, "audio", info.shape, "float32", 1.0, info.sample_rate))
    assert soundfile.info(target).subtype == subtype
    if suffix != ".wav":
        write(target, read(source)[0], info)
        assert (
            soundfile.info(target).subtype == ("FLOAT" if suffix == ".rf64" else subtype) or suffix == ".rf64"
        )
    assert probe(target).shape == info.shape


def test_wav_beyond_4_gib_becomes_rf64() -> None:
    info = AudioInfo(
        Path("x"), "audio", (2, 2**30), "float32", 1.0, 48000.0, container="WAV", subtype="PCM_16"
    )
    assert encoding(Path("x.wav"), info).container == "RF64"
    short = dataclasses.replace(info, shape=(2, 2**29))
    assert encoding(Path("x.wav"), short).container == "WAV"


@pytest.mark.parametrize(
    ("name", "rate", "channels", "sentence"),
    [
        ("x.opus", 44100, 1, "Opus cannot hold 44100 Hz, expected one of 8000, 12000, 16000, 24000, 48000"),
        ("x.mp3", 96000, 1, "MP3 cannot hold 96000 Hz"),
        ("x.mp3", 48000, 3, "3 channels, expected 1 to 2 in MP3"),
        ("x.flac", 48000, 9, "9 channels, expected 1 to 8 in FLAC"),
        ("x.ogg", 48000, 256, "256 channels, expected 1 to 255 in OGG"),
        ("x.wav", 8000.5, 1, "the sample rate is 8000.5, expected a whole number of Hz"),
        ("x.wav", None, 1, "the sample rate is None, expected a whole number of Hz"),
    ],
)
def test_what_a_format_cannot_hold_is_said_before_work_starts(
    tmp_path: Path, name: str, rate: float | None, channels: int, sentence: str
) -> None:
    path = tmp_path / name
    info = SignalInfo(path, "audio", (channels, 10), "float32", 1.0, sample_rate=rate)
    with pytest.raises(OutputError, match=re.escape(sentence)):
        writer(path, info)
    assert list(tmp_path.iterdir()) == []


# ---- bad input


def bad_files(folder: Path) -> dict[str, str]:
    """Bad files by name, each with a part of the expected sentence."""
    make(folder / "good.flac", EXACT[11])
    make(folder / "good.ogg", LOSSY[1])
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no audio, but a letter to my äunt\n" * 40, encoding="utf-8")
    (folder / "short.flac").write_text("hello")
    (folder / "bytes.wav").write_bytes(bytes(range(256)) * 8)
    (folder / "cut.flac").write_bytes((folder / "good.flac").read_bytes()[:30])
    (folder / "folder.wav").mkdir()
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    soundfile.write(folder / "nothing.wav", np.zeros((0, 1)), 8000)
    return {
        "empty.wav": "empty (0 bytes); expected audio",
        "text.wav": "holds text data; expected audio",
        "short.flac": "holds text data; expected audio",
        "bytes.wav": "holds unknown data; expected audio",
        "cut.flac": "damaged or of an unknown kind (",
        "folder.wav": "is a directory; expected a file",
        "loop.wav": "cannot be read: ",
        "missing.wav": "cannot be read: No such file or directory",
        "nothing.wav": "holds 0 samples, expected at least one",
    }


def test_bad_files_get_one_clear_sentence(tmp_path: Path) -> None:
    for name, sentence in bad_files(tmp_path).items():
        with pytest.raises(UnreadableError) as caught:
            probe(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ")
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    path = make(tmp_path / "x.wav", EXACT[0])
    monkeypatch.setattr(Path, "open", refuse)  # the super-user may read everything, so chmod proves nothing
    with pytest.raises(UnreadableError, match=r"x\.wav: cannot be read: Permission denied"):
        probe(path)


@pytest.mark.parametrize(
    "row",
    [EXACT[1], EXACT[7], EXACT[8], EXACT[11], EXACT[13], LOSSY[1], LOSSY[5], LOSSY[-2]],
    ids=lambda row: row[1] + row[2],
)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_a_file_cut_short_is_an_error(
    tmp_path: Path, row: tuple[str, str, str, int, int], part: float
) -> None:
    path = make(tmp_path / f"x{row[0]}", row, 30_000)
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    with pytest.raises(UnreadableError, match=r"cut short|holds "):
        read(path)


def forget_length(path: Path) -> None:
    """Make a FLAC like one from a stream: the number of samples in its header is 0, for unknown."""
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)


def test_a_flac_that_does_not_know_its_length_is_read_whole(tmp_path: Path) -> None:
    source, target = make(tmp_path / "in.flac", EXACT[11], 30_000), tmp_path / "out.flac"
    expected, _ = read(source)
    forget_length(source)
    assert soundfile.info(source).frames > 2**60  # what must never be allocated
    whole, info = read(source, block=1000)
    np.testing.assert_array_equal(whole, expected)
    assert info.shape == (2, 30_000)
    assert "counted" in info.notes[0]
    copy(source, target)
    assert soundfile.info(target).frames == 30_000


def test_a_flac_of_unknown_length_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    path = make(tmp_path / "x.flac", EXACT[11], 30_000)
    forget_length(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UnreadableError, match="cut short or damaged"):
        read(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_wav_from_a_stream_is_no_truncated_file(tmp_path: Path, size: int) -> None:
    path = make(tmp_path / "x.wav", EXACT[0])
    expected, _ = read(path)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"data") + 4, size)
    path.write_bytes(data)
    np.testing.assert_array_equal(read(path)[0], expected)


def test_a_big_endian_extensible_wav_is_written_as_a_plain_one(tmp_path: Path) -> None:
    source, target = (
        make(tmp_path / "a.wav", (".wav", "WAV", "PCM_16", 8000, 2), endian="BIG"),
        tmp_path / "b.wav",
    )
    data = source.read_bytes()
    assert data[:4] == b"RIFX"
    guid = struct.pack(">IHH", 1, 0, 16) + bytes.fromhex("800000AA00389B71")
    layout = struct.pack(">H", 0xFFFE) + data[22:36] + struct.pack(">HHI", 22, 16, 3) + guid
    source.write_bytes(data[:16] + struct.pack(">I", len(layout)) + layout + data[36:])
    assert soundfile.info(source).format == "WAVEX"
    expected, info = read(source)
    assert "speaker positions" in info.notes[0]
    copy(source, target)
    np.testing.assert_array_equal(read(target)[0], expected)
    assert target.read_bytes()[:4] == b"RIFX"


def test_an_ogg_without_its_last_page_is_noted(tmp_path: Path) -> None:
    path = make(tmp_path / "x.ogg", LOSSY[1], 30_000)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"OggS")])
    assert "may have been longer" in probe(path).notes[0]


# ---- writing


def interrupted(path: Path, info: SignalInfo) -> None:
    with writer(path, info) as sink:
        sink.write(np.zeros((1, 10), np.float32))
        raise KeyboardInterrupt


def test_a_failure_leaves_the_old_file_or_none(tmp_path: Path) -> None:
    old, new = tmp_path / "old.wav", tmp_path / "new.flac"
    old.write_bytes(b"old")
    for path in (old, new):
        info = SignalInfo(path, "audio", (1, 10), "float32", 1.0, sample_rate=8000.0)
        with pytest.raises(KeyboardInterrupt):
            interrupted(path, info)
    assert list(tmp_path.iterdir()) == [old]
    assert old.read_bytes() == b"old"


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".aiff"])
def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource", reason="limits on file size are a POSIX matter")
    array = noise(2, 200_000)
    info = SignalInfo(tmp_path, "audio", array.shape, "float32", 1.0, sample_rate=48000.0)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(OutputError, match=rf"x\{suffix}: "):
            write(tmp_path / f"x{suffix}", array, info)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    path = tmp_path / "no" / "x.wav"
    info = SignalInfo(path, "audio", (1, 10), "float32", 1.0, sample_rate=8000.0)
    with pytest.raises(OutputError, match=re.escape(str(path))), writer(path, info):
        pass


def test_wrong_calls_are_usage_errors(tmp_path: Path) -> None:
    path = make(tmp_path / "x.wav", EXACT[1])
    with pytest.raises(UsageError, match="block is 0"):
        reader(path, block=0)
    with (
        pytest.raises(DenoiseError, match=r"shape \(3, 5\), expected \(2, n\)"),
        writer(path, probe(path)) as sink,
    ):
        sink.write(np.zeros((3, 5), np.float32))


def test_memory_is_bounded_by_the_block(tmp_path: Path) -> None:
    path, target = tmp_path / "long.wav", tmp_path / "out.wav"
    soundfile.write(path, np.zeros((2_000_000, 2), np.int16), 48000)  # 8 MB on disk, 16 MB as float32
    tracemalloc.start()
    try:
        copy(path, target, block=48_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
    assert soundfile.info(target).frames == 2_000_000


def test_the_usual_block_is_ten_seconds_bounded_by_channels(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros((100_000, 1), np.int16), 8000)
    soundfile.write(tmp_path / "b.wav", np.zeros((20_000, 300), np.int16), 48000)
    with reader(tmp_path / "a.wav") as blocks:
        assert next(iter(blocks)).shape == (1, 80_000)
    with reader(tmp_path / "b.wav") as blocks:
        assert next(iter(blocks)).shape == (300, 2**22 // 300)


def test_resampling_keeps_a_tone_and_its_place() -> None:
    for from_hz, to_hz in ((44100, 16000), (16000, 48000), (8000, 8000)):
        time = np.arange(from_hz) / from_hz
        array = np.stack([np.sin(2 * np.pi * 440 * time), np.cos(2 * np.pi * 440 * time)]).astype(np.float32)
        before = array.copy()
        result = resample(array, from_hz, to_hz)
        wanted = np.arange(to_hz) / to_hz
        assert result.shape == (2, to_hz)
        assert result.dtype == np.float32
        middle = slice(to_hz // 10, -to_hz // 10)
        np.testing.assert_allclose(result[0, middle], np.sin(2 * np.pi * 440 * wanted)[middle], atol=1e-4)
        np.testing.assert_array_equal(array, before)
