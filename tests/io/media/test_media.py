"""Media files: the sound is exchanged to the sample, and everything else stays."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
import imagecodecs
import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from denoise import io
from denoise.errors import NothingToCleanError, OutputError, UnreadableError, UnsupportedError, UsageError
from denoise.infer.file import clean_file
from denoise.infer.remix import remix_file
from denoise.io.formats import FORMATS
from denoise.io.media.encoder import state_padding
from denoise.io.media.tracks import tracks
from denoise.signal import AudioInfo

FPS = 25
CHAPTERS = [
    {"id": 1, "start": 0, "end": 400, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
    {"id": 2, "start": 400, "end": 1000, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
]


@dataclass(frozen=True)
class Made:
    """A file to make.

    Args:
        suffix: Of its name.
        muxer: FFmpeg's name of the container.
        codecs: Encoders of its sound tracks.
        video: Encoder of its picture; empty for none.
        rate: Sample rate, Hz.
        channels: Of each track.
        start_s: Time of the first sample.
        frames: Numbers of the frames of the picture, at 25 a second: gaps make the rate variable.
        chapters: Adds chapters.
        tags: Adds a title to the file and a language to each track.
        options: Of the muxer.
    """

    suffix: str
    muxer: str
    codecs: tuple[str, ...]
    video: str = ""
    rate: int = 48000
    channels: int = 2
    start_s: float = 0.0
    frames: tuple[int, ...] = tuple(range(25))
    chapters: bool = False
    tags: bool = False
    options: tuple[tuple[str, str], ...] = ()
    seconds: float = 1.0

    def __str__(self) -> str:
        words = [self.suffix[1:], *self.codecs, self.video, "late" if self.start_s else ""]
        return "-".join([*filter(None, words), f"{self.channels}ch", *(value for _, value in self.options)])


def chirp(rate: int, channels: int, seconds: float = 1.0, seed: int = 0) -> NDArray[np.float32]:
    """Sweep with some noise, so that a shift of one sample is found."""
    t = np.arange(round(rate * seconds)) / rate
    sweep = 0.3 * np.sin(2 * np.pi * (300 + 0.3 * rate / 4 * t / seconds) * t)
    noise = np.random.default_rng(seed).standard_normal((channels, len(t))) * 0.02
    return (sweep + noise).astype(np.float32)


def make(path: Path, made: Made) -> Path:
    """Write a file, its packets in the order of their times."""
    with av.open(str(path), "w", format=made.muxer, container_options=dict(made.options)) as out:
        if made.tags:
            out.metadata["title"] = "Tëst"
        if made.chapters:
            out.set_chapters(CHAPTERS)
        parts = []
        if made.video:
            parts.append(_picture(out, made))
        for number, codec in enumerate(made.codecs):
            parts.append(_sound(out, made, codec, number))
        packets = [packet for part in parts for packet in part]
        for packet in sorted(packets, key=lambda packet: float((packet.dts or 0) * packet.time_base)):
            out.mux_one(packet)
    return path


def _picture(out: Any, made: Made) -> Iterator[Any]:
    stream = out.add_stream(made.video, rate=FPS, width=64, height=48)
    stream.pix_fmt = "yuvj420p" if made.video == "mjpeg" else "yuv420p"
    stream.codec_context.time_base = Fraction(1, FPS)

    def packets() -> Iterator[Any]:
        for number in made.frames:
            values = np.zeros((48, 64, 3), np.uint8)
            values[:, : 2 * number + 2] = 40 * number % 255
            frame = av.VideoFrame.from_ndarray(values, "rgb24").reformat(format=stream.pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def _sound(out: Any, made: Made, codec: str, number: int) -> Iterator[Any]:
    stream = out.add_stream(codec, rate=made.rate, options={"strict": "-2"})
    context = stream.codec_context
    context.layout = {1: "mono", 2: "stereo", 6: "5.1"}[made.channels]
    wanted = {"flac": "s16", "alac": "s16p", "wavpack": "s16p", "tta": "s16"}.get(codec)
    if wanted:
        context.format = wanted
    context.time_base = stream.time_base = Fraction(1, made.rate)
    if not codec.startswith(("pcm", "flac", "alac", "wavpack", "tta")):
        context.bit_rate = 12200 if "amr" in codec else 64_000 * made.channels
    if made.tags:
        stream.metadata["language"] = ("deu", "fra")[number]
    samples = chirp(made.rate, made.channels, made.seconds, number)
    lead = round(made.start_s * made.rate)

    def packets() -> Iterator[Any]:
        context.open(strict=False)
        size = context.frame_size or 1000
        for start in range(0, samples.shape[1], size):
            frame = _frame(samples[:, start : start + size], context.format, context.layout.name)
            frame.sample_rate, frame.time_base, frame.pts = made.rate, Fraction(1, made.rate), lead + start
            yield from stream.encode(frame)
        yield from stream.encode(None)

    return packets()


def _frame(samples: NDArray[np.float32], form: Any, layout: str) -> Any:
    name = form.name.removesuffix("p")
    scale, dtype = {"u8": (2**7, np.uint8), "s16": (2**15, np.int16), "s32": (2**31, np.int32)}.get(
        name, (0, None)
    )
    values: NDArray[Any] = samples
    if dtype is not None:
        values = (np.rint(samples * (scale - 1)) + (128 if name == "u8" else 0)).astype(dtype)
    if not form.is_planar:
        values = values.T.reshape(1, -1)
    return av.AudioFrame.from_ndarray(np.ascontiguousarray(values), form.name, layout)


def packets_of(path: Path, kinds: Sequence[str]) -> list[tuple[Any, ...]]:
    """List stream, times and bytes of the packets of streams of these kinds."""
    found = []
    with av.open(str(path)) as file:
        streams = [stream for stream in file.streams if stream.type in kinds]
        for packet in file.demux(*streams) if streams else ():
            if packet.size:
                times = [
                    None if time is None else time * packet.time_base for time in (packet.pts, packet.dts)
                ]
                found.append((packet.stream_index, *times, bytes(packet)))
    return sorted(found, key=lambda row: (row[0], row[2] or 0))


# ---- tests ----

LOSSLESS = ("pcm", "flac", "alac", "wavpack", "tta")
CONTAINERS = (
    Made(".m4a", "ipod", ("aac",), tags=True),
    Made(".m4a", "ipod", ("alac",), rate=44100),
    Made(".m4b", "ipod", ("aac",), channels=1, chapters=True),
    Made(".mp4", "mp4", ("aac",), "libx264", tags=True, chapters=True),
    Made(".mp4", "mp4", ("aac",), "libx264", start_s=0.25),
    Made(".mp4", "mp4", ("aac",), "libx264", frames=(0, 1, 2, 5, 6, 11, 12, 20, 24)),
    Made(".mp4", "mp4", ("aac", "ac3"), "libx264", tags=True),
    Made(".mp4", "mp4", ("libmp3lame",), "mpeg4", rate=44100),
    Made(".mp4", "mp4", ("libopus",), "libx265"),
    Made(".mp4", "mp4", ("aac",), "libx264", options=(("movflags", "faststart"),)),
    Made(".mp4", "mp4", ("aac",), "libx264", options=(("movflags", "frag_keyframe+empty_moov"),)),
    Made(".m4v", "mp4", ("eac3",), "libx264"),
    Made(".mov", "mov", ("pcm_s16le",), "libx264", tags=True),
    Made(".mov", "mov", ("aac",), "libx264", channels=1, start_s=0.1),
    Made(".mov", "mov", ("pcm_s24be",), "mjpeg"),
    Made(".qt", "mov", ("alac",)),
    Made(".3gp", "3gp", ("aac",), "mpeg4", rate=16000, channels=1),
    Made(".3gp", "3gp", ("libopencore_amrnb",), "mpeg4", rate=8000, channels=1),
    Made(".3g2", "3g2", ("aac",), "mpeg4"),
    Made(".mkv", "matroska", ("aac", "flac"), "libx264", tags=True, chapters=True),
    Made(".mkv", "matroska", ("ac3",), "libx264", start_s=0.25),
    Made(".mkv", "matroska", ("libmp3lame",), "libx264", channels=1),
    Made(".mka", "matroska", ("libopus",), tags=True),
    Made(".mka", "matroska", ("pcm_s16le",), channels=6),
    Made(".webm", "webm", ("libopus",), "libvpx", tags=True),
    Made(".aac", "adts", ("aac",), seconds=64 * 1024 / 48000),
    Made(".wma", "asf", ("wmav2",), tags=True),
    Made(".wmv", "asf", ("wmav2",), "wmv2"),
    Made(".asf", "asf", ("libmp3lame",), "msmpeg4"),
    Made(".avi", "avi", ("libmp3lame",), "mpeg4"),
    Made(".avi", "avi", ("pcm_s16le",), "mjpeg"),
    Made(".mts", "mpegts", ("aac",), "libx264"),
    Made(".m2ts", "mpegts", ("ac3",), "mpeg2video"),
    Made(".mpg", "vob", ("mp2",), "mpeg2video"),
    Made(".mpeg", "vob", ("ac3",), "mpeg2video"),
    Made(".vob", "vob", ("mp2",), "mpeg2video"),
    Made(".flv", "flv", ("aac",), "flv"),
    Made(".ogv", "ogg", ("flac",), tags=True),
    Made(".oga", "ogg", ("flac",), tags=True),
    Made(".wav", "wav", ("libmp3lame",)),
    Made(".caf", "caf", ("pcm_s24le",)),
    Made(".caf", "caf", ("alac",)),
    Made(".au", "au", ("pcm_s16be",)),
    Made(".au", "au", ("pcm_mulaw",), rate=8000, channels=1),
    Made(".w64", "w64", ("pcm_s24le",)),
    Made(".wv", "wv", ("wavpack",)),
    Made(".tta", "tta", ("tta",)),
    Made(".ac3", "ac3", ("ac3",)),
    Made(".amr", "amr", ("libopencore_amrnb",), rate=8000, channels=1),
)
every_container = pytest.mark.parametrize("made", CONTAINERS, ids=str)


def read(path: Path, recording: int = 0) -> NDArray[Any]:
    with io.reader(path, recording=recording) as blocks:
        return np.concatenate(list(blocks), axis=1)


def rewrite(source: Path, destination: Path, gain: float = 1.0) -> Any:
    info = io.probe(source)
    with io.writer(destination, info) as sink:
        for recording in range(info.pages):
            with io.reader(source, recording=recording, block=7000) as blocks:
                for block in blocks:
                    sink.write(block * np.float32(gain))
    return sink


def shift(found: NDArray[Any], expected: NDArray[Any]) -> int:
    """Samples by which `found` is late, by the highest cross-correlation."""
    size = 2 * max(found.shape[1], expected.shape[1])
    spectra = (np.fft.rfft(x[0].astype(np.float64), size) for x in (found, expected))
    product = next(spectra) * np.conj(next(spectra))
    at = int(np.argmax(np.fft.irfft(product)))
    return at if at < size // 2 else at - size


def facts(path: Path) -> list[Any]:
    """Describe everything but the samples: streams, dispositions, tags, chapters."""
    with av.open(str(path)) as file:
        streams = [
            (
                s.type,
                s.codec_context and s.codec_context.codec.canonical_name,
                s.time_base,
                s.disposition,
                dict(s.metadata),
            )
            for s in file.streams
        ]
        for stream in streams:
            for tag in ("encoder", "ENCODER", "DURATION"):
                stream[-1].pop(tag, None)
        # A fragmented file comes back in one piece, which has other brands.
        other = ("encoder", "compatible_brands")
        tags = {name: text for name, text in file.metadata.items() if name.lower() not in other}
        chapters = [(c["start"] * c["time_base"], c["metadata"]) for c in file.chapters()]
        return [streams, tags, chapters]


@every_container
def test_only_the_sound_changes_and_not_by_a_sample(tmp_path: Path, made: Made) -> None:
    source = make(tmp_path / f"a{made.suffix}", made)
    result = tmp_path / "out" / source.name
    result.parent.mkdir()
    sink = rewrite(source, result)
    fragmented = any("frag" in value for _, value in made.options)
    pieces = "its fragments are written as one piece, with the brands of such files"
    assert sink.notes == ((pieces,) if fragmented else ())
    before, after = tracks(source), tracks(result)
    assert len(before) == len(made.codecs)
    for number, (old, new) in enumerate(zip(before, after, strict=True)):
        codec = made.codecs[number]
        assert (new.codec, new.sample_rate, new.channels) == (old.codec, old.sample_rate, old.channels)
        assert new.samples == old.samples
        assert abs(new.marks[0][1] - old.marks[0][1]) <= (
            0 if made.muxer in ("mp4", "mov") else made.rate // 1000
        )
        assert new.bit_rate >= 0.93 * old.bit_rate or codec.startswith(LOSSLESS)
        found, expected = read(result, number), read(source, number)
        if codec.startswith(LOSSLESS):
            np.testing.assert_array_equal(found, expected)
        else:
            assert shift(found, expected) == 0
    pictures = packets_of(source, ("video", "subtitle", "data"))
    copies = packets_of(result, ("video", "subtitle", "data"))
    assert [row[3] for row in copies] == [row[3] for row in pictures]
    for old_row, new_row in zip(pictures, copies, strict=True):
        for old_time, new_time in zip(old_row[1:3], new_row[1:3], strict=True):
            assert old_time is None or abs(float(new_time - old_time)) <= 1e-3
    assert facts(result) == facts(source)
    assert sorted(path.name for path in result.parent.iterdir()) == [result.name]


def test_every_row_of_the_table_has_a_round_trip() -> None:
    written = {
        suffix for row in FORMATS.values() if row.extra == "media" and row.writable for suffix in row.suffixes
    }
    assert written <= {made.suffix for made in CONTAINERS}
    assert len(CONTAINERS) >= 40


@pytest.mark.parametrize("made", CONTAINERS[:4:3], ids=str)
def test_what_needs_nothing_keeps_its_bytes(tmp_path: Path, made: Made) -> None:
    path = make(tmp_path / f"a{made.suffix}", made)
    before = path.read_bytes()
    for number in range(3):
        following = tmp_path / f"{number}{made.suffix}"
        report = clean_file(path, following, "none")
        assert following.read_bytes() == before
        assert any("left as it is" in note for note in report.notes)
        path = following


def test_chosen_tracks_are_cleaned_and_the_others_copied(tmp_path: Path) -> None:
    made = Made(".mkv", "matroska", ("flac", "flac"))
    source = make(tmp_path / "a.mkv", made)
    with pytest.raises(UsageError, match="has 2 sound tracks; there is no track 3"):
        io.probe(source, streams=(3,))
    info = io.probe(source, streams=(2,))
    assert info.pages == 1
    with io.writer(tmp_path / "b.mkv", info) as sink, io.reader(source, streams=(2,)) as blocks:
        for block in blocks:
            sink.write(block * np.float32(0.5))
    np.testing.assert_array_equal(read(tmp_path / "b.mkv", 0), read(source, 0))
    np.testing.assert_allclose(read(tmp_path / "b.mkv", 1), read(source, 1) / 2, atol=2**-15)


def test_the_strength_of_each_track_is_changed(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", Made(".mkv", "matroska", ("flac", "flac")))
    with io.writer(tmp_path / "b.mkv", io.probe(source)) as sink:
        for track in range(2):
            sink.write(read(source, track) / np.float32(2 + track))
    remix_file(source, tmp_path / "b.mkv", tmp_path / "c.mkv", 0.5)
    for track in range(2):
        mixed = (read(source, track) + read(tmp_path / "b.mkv", track)) / 2
        np.testing.assert_allclose(read(tmp_path / "c.mkv", track), mixed, atol=2**-14)


def two_programs(folder: Path) -> Path:
    """Join two transport streams: their packets in turn, and one table of both (ISO/IEC 13818-1, 2.4.4)."""
    parts = []
    for number in (1, 2):
        options = {"mpegts_service_id": number, "mpegts_pmt_start_pid": 4096 + number}
        options["mpegts_start_pid"] = 256 * number
        made = Made(
            ".ts", "mpegts", ("ac3",), "mpeg2video", options=tuple((k, str(v)) for k, v in options.items())
        )
        data = make(folder / f"{number}.ts", made).read_bytes()
        parts.append([data[at : at + 188] for at in range(0, len(data), 188)])
    table = bytes.fromhex("00b0110001c100000001f0010002f002")
    check = 0xFFFFFFFF
    for byte in table:
        check ^= byte << 24
        for _ in range(8):
            check = (check << 1 ^ (0x04C11DB7 if check & 0x80000000 else 0)) & 0xFFFFFFFF
    section = b"\0" + table + check.to_bytes(4)
    packets = []
    for first, second in zip_longest(*parts, fillvalue=b""):
        if first[1:3] == b"\x40\0":
            first = first[:4] + section.ljust(184, b"\xff")
        own = second[1:2] and (int.from_bytes(second[1:3]) & 0x1FFF) not in (0, 17)
        packets += [first, second if own else b""]
    (folder / "a.mts").write_bytes(b"".join(packets))
    return folder / "a.mts"


def test_the_programs_of_a_transport_stream_are_cleaned_and_joined_with_a_note(tmp_path: Path) -> None:
    source = two_programs(tmp_path)
    assert [track.codec for track in tracks(source)] == ["ac3", "ac3"]
    report = clean_file(source, tmp_path / "b.mts", "spectral-gate")
    assert "its 2 programs are written as one, with all streams and the name of the first" in report.notes
    for number in range(2):
        assert shift(read(tmp_path / "b.mts", number), read(source, number)) == 0
    chosen = clean_file(source, tmp_path / "c.mts", "spectral-gate", streams=(2,))
    assert "its 2 programs are written as one, with all streams and the name of the first" in chosen.notes
    np.testing.assert_array_equal(read(tmp_path / "c.mts", 0), read(source, 0))


def test_camera_streams_keep_their_time_codes_and_numbers_and_avi_its_length(tmp_path: Path) -> None:
    def described(path: Path) -> list[tuple[int, int | None, int]]:
        with av.open(str(path)) as file:
            return [(stream.id, stream.duration, stream.frames) for stream in file.streams]

    for made in CONTAINERS:
        if made.suffix == ".m2ts" or (made.codecs == ("libmp3lame",) and made.suffix == ".avi"):
            source = make(tmp_path / f"a{made.suffix}", made)
            rewrite(source, tmp_path / f"b{made.suffix}", 0.5)
            assert described(tmp_path / f"b{made.suffix}") == described(source)
            if made.suffix == ".m2ts":
                data = (tmp_path / "b.m2ts").read_bytes()
                assert data[4::192].strip(b"G") == b""


def test_several_tracks_do_not_fit_into_one_recording(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", Made(".mkv", "matroska", ("flac", "flac")))
    with pytest.raises(UnsupportedError, match=r"a\.wav: holds one recording and .* has 2 sound tracks"):
        io.writer(tmp_path / "a.wav", io.probe(source))


def test_a_phones_boxes_stay_that_no_remuxer_knows(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mov", CONTAINERS[12])
    data = source.read_bytes()
    at = data.index(b"moov") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    own = b"\0\0\0\x14" + b"zzzz" + b"of a phone  "
    grown = (
        data[:at] + (size + len(own)).to_bytes(4, "big") + data[at + 4 : at + size] + own + data[at + size :]
    )
    source.write_bytes(grown)
    rewrite(source, tmp_path / "b.mov", 0.5)
    assert own in (tmp_path / "b.mov").read_bytes()
    np.testing.assert_allclose(read(tmp_path / "b.mov"), read(source) / 2, atol=2**-15)


@pytest.mark.parametrize(
    "suffix", [".m4a", ".mp4", ".mka", ".webm", ".wma", ".wv", ".caf", ".w64", ".au", ".tta", ".aac"]
)
def test_a_recording_becomes_a_media_file_and_back(tmp_path: Path, suffix: str) -> None:
    samples = chirp(48000, 2)
    info = AudioInfo(tmp_path / "x.wav", "audio", samples.shape, "float32", 1.0, 48000.0)
    io.write(tmp_path / f"a{suffix}", samples, info)
    found = read(tmp_path / f"a{suffix}")
    assert abs(found.shape[1] - samples.shape[1]) < 4096
    assert shift(found, samples) in (0, -2048 if suffix == ".wma" else 0)
    io.write(tmp_path / "b.wav", *io.read(tmp_path / f"a{suffix}"))
    np.testing.assert_allclose(read_wav(tmp_path / "b.wav"), found, atol=2**-23)


def read_wav(path: Path) -> NDArray[Any]:
    return io.read(path)[0]


def test_a_cover_of_jpeg_stays_one_and_notes_name_tracks(tmp_path: Path) -> None:
    cover = imagecodecs.jpeg_encode(np.zeros((16, 16, 3), np.uint8))
    source, result = tmp_path / "a.mkv", tmp_path / "b.mkv"
    sounds = make(tmp_path / "c.mkv", Made(".mkv", "matroska", ("flac", "flac")))
    with av.open(str(sounds)) as file, av.open(str(source), "w", format="matroska") as out:
        streams = [out.add_stream_from_template(stream) for stream in file.streams]
        out.add_attachment("cover.jpg", "image/jpeg", cover)
        for packet in file.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    report = clean_file(source, result)
    assert report.notes[0].startswith("track 1: ")
    with av.open(str(result)) as file:
        (picture,) = file.streams.video
        assert picture.disposition & av.stream.Disposition.attached_pic
        assert picture.metadata["filename"] == "cover.jpg"
        assert [bytes(packet) for packet in file.demux(picture) if packet.size] == [cover]


def test_a_video_without_sound_is_copied(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", Made(".mp4", "mp4", (), "libx264"))
    with pytest.raises(NothingToCleanError, match="has no sound"):
        io.probe(source)
    report = clean_file(source, tmp_path / "b.mp4", "none")
    assert (tmp_path / "b.mp4").read_bytes() == source.read_bytes()
    assert report.notes == ("copied: has no sound, so there is nothing to clean",)


def test_what_has_no_encoder_becomes_lossless_with_a_note(tmp_path: Path) -> None:
    info = io.probe(make(tmp_path / "a.mkv", Made(".mkv", "matroska", ("vorbis",))))
    samples = read(tmp_path / "a.mkv")
    with io.writer(tmp_path / "b.mkv", info) as sink:
        sink.write(samples)
    assert sink.notes == ("vorbis has no encoder here: its sound is written as flac",)
    np.testing.assert_allclose(read(tmp_path / "b.mkv"), samples, atol=2**-22)


@pytest.mark.parametrize(
    ("suffix", "rate", "kept_hz", "codec"),
    [
        (".webm", 44100, 48000, "opus"),
        (".webm", 24000, 48000, "opus"),
        (".ac3", 96000, 48000, "ac3"),
        (".amr", 16000, 8000, "amr_nb"),
        (".3gp", 192000, 96000, "aac"),
        (".m4a", 192000, 192000, "alac"),
    ],
)
def test_a_rate_that_no_encoder_takes_becomes_the_next(
    tmp_path: Path, suffix: str, rate: int, kept_hz: int, codec: str
) -> None:
    t = np.arange(rate) / rate
    samples = (0.3 * np.sin(2 * np.pi * (300 + 500 * t) * t)).astype(np.float32)[None]
    info = AudioInfo(Path("a.wav"), "audio", samples.shape, "float32", 1.0, float(rate))
    with io.writer(tmp_path / f"a{suffix}", info) as sink:
        for start in range(0, rate, 10007):
            sink.write(samples[:, start : start + 10007])
    assert any(f"{kept_hz} Hz, of {rate}" in note for note in sink.notes) == (kept_hz != rate)
    (track,) = tracks(tmp_path / f"a{suffix}")
    assert (track.codec, track.sample_rate) == (codec, kept_hz)
    found, expected = read(tmp_path / f"a{suffix}"), soxr.resample(samples[0], rate, kept_hz)
    assert abs(found.shape[1] - kept_hz) <= 2048  # a packet of those that state no padding
    assert shift(found[:, :kept_hz], expected[None, : found.shape[1]]) == 0


def test_a_webm_of_vorbis_at_44_1_khz_keeps_length_and_clock(tmp_path: Path) -> None:
    made = Made(".webm", "webm", ("vorbis",), "libvpx", rate=44100, start_s=0.5)
    source = make(tmp_path / "a.webm", made)
    report = clean_file(source, tmp_path / "b.webm", "speech")
    note = "vorbis has no encoder here: its sound is written as opus at 48000 Hz, of 44100"
    assert note in report.notes
    (before,), (after,) = tracks(source), tracks(tmp_path / "b.webm")
    assert after.samples / 48000 == pytest.approx(before.samples / 44100, abs=1e-3)
    assert after.marks[0][1] / 48000 == pytest.approx(before.marks[0][1] / 44100, abs=1e-4)
    expected = soxr.resample(read(source)[0], 44100, 48000)[None]
    rewrite(source, tmp_path / "c.webm")
    assert abs(shift(read(tmp_path / "c.webm"), expected)) <= 1


def test_sound_that_no_encoder_takes_is_refused_by_the_name_of_its_file(tmp_path: Path) -> None:
    info = AudioInfo(Path("a.wav"), "audio", (10, 100), "float32", 1.0, 44100.0)
    with pytest.raises(OutputError, match=r"^\S*/b.webm: its sound of 10 channels at 44100 Hz cannot be"):
        io.writer(tmp_path / "b.webm", info)


@pytest.mark.parametrize("made", [CONTAINERS[3], CONTAINERS[19]], ids=str)
def test_a_file_that_was_cut_short_is_salvaged_or_refused(tmp_path: Path, made: Made) -> None:
    options = (("movflags", "faststart"),) if made.muxer == "mp4" else ()
    source = make(
        tmp_path / f"a{made.suffix}",
        Made(made.suffix, made.muxer, ("aac",), "libx264", seconds=2, options=options),
    )
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * 0.6)])
    with pytest.raises(UnreadableError, match=r"cut short|cannot be decoded"):
        io.probe(source)
    info = io.probe(source, salvage=True)
    assert isinstance(info, AudioInfo)
    assert info.salvaged is not None
    assert 0 < info.shape[1] < 96000


@pytest.mark.parametrize(
    ("suffix", "muxer", "codec", "zeros"),
    [
        (".webm", "webm", "libopus", 4000),
        (".tta", "tta", "tta", 1),
        (".avi", "avi", "libmp3lame", 9000),
        (".avi", "avi", "pcm_s16le", 90000),
    ],
)
def test_damage_that_a_demuxer_passes_over_is_salvaged(
    tmp_path: Path, suffix: str, muxer: str, codec: str, zeros: int
) -> None:
    source = make(tmp_path / f"a{suffix}", Made(suffix, muxer, (codec,), rate=48000, seconds=4))
    assert io.probe(source).salvaged is None
    data = bytearray(source.read_bytes())
    middle = len(data) // 2
    data[middle : middle + zeros] = (
        bytes(value ^ 85 for value in data[middle:][:1]) if zeros == 1 else bytes(zeros)
    )
    source.write_bytes(data)
    with pytest.raises(UnreadableError, match=r"damaged|cut short"):
        io.probe(source)
    assert re.search(r"of about (4.0|4.1) s", io.probe(source, salvage=True).salvaged or "")


def test_flac_in_ogg_that_is_cut_is_salvaged_and_without_an_end_has_a_note(tmp_path: Path) -> None:
    source = make(tmp_path / "a.oga", Made(".oga", "ogg", ("flac",), rate=48000, seconds=4))
    assert not io.probe(source).notes
    data = source.read_bytes()
    source.write_bytes(data[: data.rindex(b"OggS")])
    assert "not marked as the end" in "; ".join(io.probe(source).notes)
    source.write_bytes(data[: len(data) // 2])
    with pytest.raises(UnreadableError, match="cut short"):
        io.probe(source)


def test_the_tag_of_aac_in_an_avi_is_no_text(tmp_path: Path) -> None:
    source = make(tmp_path / "a.avi", Made(".avi", "avi", ("aac",), "libx264", rate=48000, seconds=2))
    assert io.probe(source).salvaged is None


def test_an_flv_that_ends_between_two_packets_is_salvaged_by_the_duration_it_states(tmp_path: Path) -> None:
    source = make(tmp_path / "a.flv", Made(".flv", "flv", ("aac",), "flv1", rate=44100, seconds=4))
    assert io.probe(source).salvaged is None
    data, at, tags = source.read_bytes(), 13, list[int]()
    while at < len(data):
        at += 15 + int.from_bytes(data[at + 1 : at + 4], "big")
        tags.append(at)
    source.write_bytes(data[: tags[len(tags) // 2]])
    with pytest.raises(UnreadableError, match="cut short"):
        io.probe(source)
    assert "of about 4.0 s" in (io.probe(source, salvage=True).salvaged or "")


def test_a_recording_that_lasts_to_the_end_of_its_file_is_whole(tmp_path: Path) -> None:
    source = make(tmp_path / "a.caf", Made(".caf", "caf", ("pcm_s16le",), rate=8000, seconds=1))
    data = source.read_bytes()
    at = data.index(b"data") + 4
    end = at + 8 + int.from_bytes(data[at : at + 8], "big")
    source.write_bytes(data[:at] + b"\xff" * 8 + data[at + 8 : end])
    info = io.probe(source)
    assert (info.salvaged, info.shape[1]) == (None, 8000)


def test_encrypted_sound_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "a.m4a", CONTAINERS[0])
    data = source.read_bytes()
    at = data.index(b"stsd")
    source.write_bytes(data[:at] + data[at:].replace(b"mp4a", b"drms", 1))
    with pytest.raises((UnsupportedError, UnreadableError), match=r"a\.m4a: "):
        read(source)


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "aac"), (".mkv", "aac"), (".ts", "ac3")])
def test_blocks_of_any_size_are_encoded_alike(tmp_path: Path, suffix: str, codec: str) -> None:
    muxer = {".mp4": "mp4", ".mkv": "matroska", ".ts": "mpegts"}[suffix]
    source = make(tmp_path / f"a{suffix}", Made(suffix, muxer, (codec,)))
    info, sound, packets = io.probe(source), read(source), []
    for block in (300, 5000, sound.shape[1]):  # of less than a packet, of some, of all
        with io.writer(tmp_path / f"b{suffix}", info) as sink:
            for start in range(0, sound.shape[1], block):
                sink.write(sound[:, start : start + block])
        packets.append(packets_of(tmp_path / f"b{suffix}", ("audio",)))
    assert packets[0] == packets[1] == packets[2]
    assert len(packets[0]) > 10


def test_gaps_in_the_clock_stay_where_they_are(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", Made(".mkv", "matroska", ("pcm_s16le",), rate=8000, channels=1))
    with av.open(str(source)) as file, av.open(str(tmp_path / "gap.mkv"), "w") as out:
        stream = out.add_stream_from_template(file.streams[0])
        for packet in file.demux(file.streams[0]):
            if packet.size:
                packet.stream = stream
                if packet.pts >= 500:
                    packet.pts = packet.dts = packet.pts + 300  # ms
                out.mux_one(packet)
    (before,) = tracks(tmp_path / "gap.mkv")
    assert len(before.marks) == 2
    rewrite(tmp_path / "gap.mkv", tmp_path / "b.mkv")
    (after,) = tracks(tmp_path / "b.mkv")
    assert after.samples == before.samples
    assert after.marks == before.marks


def test_chapters_are_those_of_the_makers(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", CONTAINERS[19])
    assert [text for _, text in facts(source)[2]] == [chapter["metadata"] for chapter in CHAPTERS]


def probed(path: Path, ffprobe: str) -> dict[str, Any]:
    """Return what ffprobe says, without what new sound changes: its bytes, places in the file, encoder."""
    command = [ffprobe, "-v", "error", "-of", "json", "-show_data_hash", "md5", "-show_format"]
    said = json.loads(
        subprocess.check_output([*command, "-show_streams", "-show_chapters", "-show_packets", path])
    )
    sounds = {stream["index"] for stream in said["streams"] if stream["codec_type"] == "audio"}
    for part in [said["format"], *said["streams"]]:
        for name in ("filename", "size", "bit_rate", "probe_score"):
            part.pop(name, None)
        tags = {name: text for name, text in part.get("tags", {}).items() if name.lower() != "encoder"}
        part["tags"] = {
            name: text for name, text in tags.items() if name not in ("DURATION", "compatible_brands")
        }
    for stream in said["streams"]:
        if stream["index"] in sounds:
            for name in ("nb_frames", "initial_padding", "extradata_hash", "extradata_size", "duration_ts"):
                stream.pop(name, None)
    packets = [packet for packet in said["packets"] if packet["stream_index"] not in sounds]
    for packet in packets:
        packet.pop("pos", None)
    return {**said, "packets": sorted(packets, key=lambda row: (row["stream_index"], row.get("dts", 0)))}


@pytest.mark.parametrize("padding", [0, 500])
@pytest.mark.parametrize(
    ("encoder", "form"),
    [("aac", "adts"), ("ac3", "ac3"), ("eac3", "eac3"), ("mp2", "mp2"), ("libmp3lame", "mp3")],
)
def test_matroska_that_states_no_delay_starts_where_it_did(
    tmp_path: Path, encoder: str, form: str, padding: int
) -> None:
    plain, source, result = (tmp_path / name for name in (f"a.{form}", "a.mkv", "b.mkv"))
    options = (("write_xing", "0"),) if form == "mp3" else ()
    make(plain, Made(plain.suffix, form, (encoder,), options=options))
    with (
        av.open(str(plain), format=form if form != "adts" else "aac") as file,
        av.open(str(source), "w") as out,
    ):
        stream = out.add_stream_from_template(file.streams[0])
        packets = [packet for packet in file.demux(0) if packet.size]
        state_padding(packets[-1], padding)
        packets[-1].duration -= round(padding / (48000 * packets[-1].time_base))
        for packet in packets:
            packet.stream = stream
            out.mux(packet)
    rewrite(source, result)
    assert read(result).shape == read(source).shape
    assert shift(read(result), read(source)) == 0
    times = [[packet[1] for packet in packets_of(path, ("audio",))] for path in (source, result)]
    assert times[0] == times[1]
    with av.open(str(source)) as old, av.open(str(result)) as new:
        assert (new.start_time, new.duration) == (old.start_time, old.duration)


@pytest.mark.skipif(not shutil.which("ffprobe"), reason="it compares what FFmpeg's own programs say")
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_ffprobe_finds_nothing_changed_but_the_sound(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:00,200 --> 00:00:01,500\nHällo\n")
    (tmp_path / "a.txt").write_text(
        ";FFMETADATA1\ntitle=Tëst\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=900\ntitle=One\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=900\nEND=2000\ntitle=Two\n"
    )
    ffmpeg = [str(shutil.which("ffmpeg")), "-v", "error"]
    cover = ["-f", "lavfi", "-i", "color=red:s=32x32", "-frames:v", "1", str(tmp_path / "cover.png")]
    subprocess.check_call([*ffmpeg, *cover])
    noise, texts = (
        "anoisesrc=d=2:r=44100:a=0.2:seed=1",
        ["-i", str(tmp_path / "a.srt"), "-i", str(tmp_path / "a.txt")],
    )
    inputs = ["-f", "lavfi", "-i", "testsrc=s=64x48:r=30000/1001:d=2", "-f", "lavfi", "-i", noise, *texts]
    codecs = [
        "-map",
        "0",
        "-map",
        "1",
        "-map",
        "2",
        "-map_metadata",
        "3",
        "-c:v:0",
        "libx264",
        "-bf",
        "2",
        "-metadata:s:a",
        "language=deu",
    ]
    if (
        suffix == ".mkv"
    ):  # with FLAC: older programs of FFmpeg show the delay of an encoder as an earlier start
        codecs += ["-c:a", "flac", "-c:s", "srt", "-attach", str(tmp_path / "cover.png")]
        codecs += ["-metadata:s:t", "mimetype=image/png"]
    else:
        codecs += ["-c:a", "aac", "-c:s", "mov_text", "-metadata:s:s", "language=fra"]
    if suffix == ".mp4":
        inputs += ["-i", str(tmp_path / "cover.png")]
        codecs += ["-map", "4", "-c:v:1", "copy", "-disposition:v:1", "attached_pic"]
    source, result = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    subprocess.check_call([*ffmpeg, *inputs, *codecs, str(source)])
    rewrite(source, result, 0.5)
    before, after = (probed(path, str(shutil.which("ffprobe"))) for path in (source, result))
    assert len(before["streams"]) >= 3
    assert len(before["chapters"]) == 2
    assert after == before
    assert shift(read(result), read(source)) == 0
