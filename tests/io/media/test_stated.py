"""Statements of containers about sound and picture: they stay, or a note names them."""

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import pytest

from denoise import io
from denoise.io.media import matroska
from denoise.io.media.tracks import tracks
from tests.io.media.test_media import Made, chirp, make, read, rewrite, shift, two_programs


def durations(path: Path) -> list[int | None]:
    with av.open(str(path)) as file:
        return [stream.duration for stream in file.streams] + [file.duration]


@pytest.mark.parametrize("change_ms", [0, -1])
def test_an_edit_list_states_the_duration_that_it_stated(tmp_path: Path, change_ms: int) -> None:
    made = Made(".m4a", "ipod", ("aac",), rate=22050, channels=1, seconds=72545 / 22050)
    source = make(tmp_path / "a.m4a", made)
    data = source.read_bytes()
    at = data.index(b"elst") + 12
    (stated,) = struct.unpack_from(">I", data, at)
    assert stated in (3290, 3291)
    source.write_bytes(data[:at] + struct.pack(">I", 3291 + change_ms) + data[at + 4 :])
    rewrite(source, tmp_path / "b.m4a")
    assert durations(tmp_path / "b.m4a") == durations(source)
    assert tracks(tmp_path / "b.m4a")[0].samples == tracks(source)[0].samples


@pytest.mark.parametrize("codec", ["flac", "pcm_s16le"])
def test_matroska_ends_with_its_sound(tmp_path: Path, codec: str) -> None:
    made = Made(".mka", "matroska", (codec,), rate=44100, seconds=145089 / 44100)
    source = make(tmp_path / "a.mka", made)
    rewrite(source, tmp_path / "b.mka")
    with av.open(str(tmp_path / "b.mka")) as file:
        assert file.duration == 3_290_000
        assert file.streams[0].metadata["DURATION"] == "00:00:03.290000000"


def test_a_wrong_stamp_that_is_taken_back_is_no_gap(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", Made(".mkv", "matroska", ("pcm_s16le",), rate=8000, channels=1))
    with av.open(str(source)) as file, av.open(str(tmp_path / "b.mkv"), "w") as out:
        stream = out.add_stream_from_template(file.streams[0])
        for packet in file.demux(file.streams[0]):
            if packet.size:
                packet.stream = stream
                packet.pts = packet.dts = packet.pts + (100 if packet.pts == 500 else 0)  # ms
                out.mux_one(packet)
    (track,) = tracks(tmp_path / "b.mkv")
    assert track.marks == ((0, 0),)
    rewrite(tmp_path / "b.mkv", tmp_path / "c.mkv")
    assert tracks(tmp_path / "c.mkv")[0].marks == ((0, 0),)
    assert durations(tmp_path / "c.mkv") == durations(source)


def test_the_length_that_a_wav_states_of_its_mp3_stays(tmp_path: Path) -> None:
    source = make(tmp_path / "a.wav", Made(".wav", "wav", ("libmp3lame",)))
    data = source.read_bytes()
    at = data.index(b"fact") + 8
    source.write_bytes(data[:at] + struct.pack("<I", 47777) + data[at + 4 :])
    rewrite(source, tmp_path / "b.wav")
    copy = (tmp_path / "b.wav").read_bytes()
    assert copy[copy.index(b"fact") :][8:12] == struct.pack("<I", 47777)
    assert shift(read(tmp_path / "b.wav"), read(source)) == 0


def with_aspect(path: Path, muxer: str, video: str, sound: str) -> Path:
    """Make a video whose pixels are 4:3, which only the container says."""
    made = Made(path.suffix, muxer, (sound,), video)
    plain = make(path.with_name(f"plain{path.suffix}"), made)
    with av.open(str(plain)) as file, av.open(str(path), "w", format=muxer) as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in file.streams]
        streams[0].codec_context.sample_aspect_ratio = Fraction(4, 3)
        for packet in file.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    return path


def aspect(path: Path) -> Fraction | None:
    with av.open(str(path)) as file:
        ratio: Fraction | None = file.streams.video[0].sample_aspect_ratio
        return ratio


def test_asf_keeps_the_shape_of_pixels_and_the_start(tmp_path: Path) -> None:
    source = with_aspect(tmp_path / "a.wmv", "asf", "wmv2", "wmav2")
    assert aspect(source) == Fraction(4, 3)
    rewrite(source, tmp_path / "b.wmv")
    assert aspect(tmp_path / "b.wmv") == Fraction(4, 3)
    with av.open(str(source)) as old, av.open(str(tmp_path / "b.wmv")) as new:
        assert new.streams.video[0].start_time == old.streams.video[0].start_time


@pytest.mark.parametrize("suffix", [".mkv", ".webm"])
def test_matroska_keeps_shape_and_rate_of_pictures_and_bits_of_sound(tmp_path: Path, suffix: str) -> None:
    muxer = {".mkv": "matroska", ".webm": "webm"}[suffix]
    made = Made(suffix, muxer, ("libopus",), "libvpx", tags=True)
    plain, source, result = (tmp_path / f"{name}{suffix}" for name in ("plain", "a", "b"))
    make(plain, made)
    with av.open(str(plain)) as file, av.open(str(source), "w", format=muxer) as out:
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in file.streams]
        streams[0].metadata["title"] = "x" * 99
        for packet in file.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    with source.open("r+b") as data:  # FFmpeg's muxer states none of this
        at, content = matroska._find_tracks(data) or (0, b"")
        parts = matroska._parsed(content)
        number = next(i for i, part in enumerate(parts) if part[0] == b"\xae")
        picture = {id_: inner for id_, inner, _ in matroska._parsed(parts[number][1])}
        del picture[b"\x53\x6e"]
        picture[b"\xe0"] += bytes.fromhex("54b0810f 54ba8109 54b28103")  # displayed as 15:9
        picture[b"\x23\xe3\x83"] = (40_000_000).to_bytes(4)  # ns of a frame
        inner = b"".join(matroska._element(*entry) for entry in picture.items())
        whole = [part[2] for part in parts]
        whole[number] = matroska._element(b"\xae", inner, len(whole[number]))
        data.seek(at)
        data.write(b"".join(whole).replace(bytes.fromhex("62648120"), bytes.fromhex("62648110")))
    assert aspect(source) == Fraction(5, 4)
    rewrite(source, result)
    assert aspect(result) == Fraction(5, 4)
    for before, after in zip(matroska._entries(source), matroska._entries(result), strict=True):
        old, new = ({id_: inner for id_, inner, _ in entry} for entry in (before, after))
        for id_ in (b"\xe0", b"\x23\xe3\x83", b"\x53\x6e"):  # pictures, time of a frame, name
            assert new.get(id_) == old.get(id_)
        bits = [dict(e[:2] for e in matroska._parsed(x.get(b"\xe1", b""))) for x in (old, new)]
        assert bits[0].get(b"\x62\x64") == bits[1].get(b"\x62\x64")
    head = result.read_bytes()
    at = head.index(b"\x16\x54\xae\x6b")
    assert b"\x1f" * 8 not in head[at : at + 2000]
    with result.open("rb") as data:
        _, content = matroska._find_tracks(data) or (0, b"")
    check, *_ = matroska._parsed(content)
    assert (check[0] == b"\xbf") == (suffix == ".mkv")  # FFmpeg gives WebM no checksum
    if suffix == ".mkv":
        assert int.from_bytes(check[1], "little") == zlib.crc32(content[len(check[2]) :])
    assert shift(read(result), read(source)) == 0


def test_flv_states_its_frame_rate(tmp_path: Path) -> None:
    source = make(tmp_path / "a.flv", Made(".flv", "flv", ("aac",), "flv"))
    rewrite(source, tmp_path / "b.flv")
    stated = b"framerate\0" + struct.pack(">d", 25)
    assert stated in source.read_bytes()
    assert stated in (tmp_path / "b.flv").read_bytes()


def test_a_shape_of_pixels_that_is_not_kept_is_named(tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.avi", Made(".avi", "avi", ("libmp3lame",), "rawvideo"))
    data = plain.read_bytes()
    at = data.index(b"JUNK", data.index(b"strf"))  # before the next stream; replaced by OpenDML's vprp
    (size,) = struct.unpack_from("<I", data, at + 4)
    shape = struct.pack("<4sI5IHHIII8I", b"vprp", 68, 0, 0, 25, 64, 48, 9, 16, 64, 48, 1, *([0] * 8))
    rest = size - len(shape)
    source = tmp_path / "a.avi"
    filler = b"JUNK" + struct.pack("<I", rest) + bytes(rest)
    source.write_bytes(data[:at] + shape + filler + data[at + 8 + size :])
    assert aspect(source) == Fraction(4, 3)
    sink = rewrite(source, tmp_path / "b.avi")
    lost = "the shape of its pixels, 4:3, cannot be stated in it here"
    assert (aspect(tmp_path / "b.avi") == Fraction(4, 3)) != (lost in sink.notes)


def test_a_transport_stream_keeps_the_name_and_numbers_of_its_program(tmp_path: Path) -> None:
    options = {"mpegts_service_id": "7", "mpegts_transport_stream_id": "9", "mpegts_pmt_start_pid": "300"}
    made = Made(".mts", "mpegts", ("ac3",), "mpeg2video", options=tuple(options.items()))
    source = make(tmp_path / "a.mts", made)
    with (
        av.open(str(source)) as file,
        av.open(str(tmp_path / "b.mts"), "w", format="mpegts", container_options=options) as out,
    ):
        out.metadata.update({"service_name": "Evening", "service_provider": "Radio"})
        streams = [out.add_stream_from_template(stream, opaque=True) for stream in file.streams]
        for packet in file.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                out.mux(packet)
    rewrite(tmp_path / "b.mts", tmp_path / "c.mts")
    tables = []
    for name in "bc":
        data = (tmp_path / f"{name}.mts").read_bytes()
        tables.append([data[at : at + 188][4:60] for at in range(0, 3 * 188, 188)])
    assert b"\x05Radio\x07Evening" in tables[0][0]
    assert tables[1] == tables[0]


@pytest.mark.parametrize("missing", [100, 376])  # half a packet, two whole ones
def test_a_transport_stream_that_ends_in_a_packet_is_salvaged(tmp_path: Path, missing: int) -> None:
    source = make(tmp_path / "a.mts", Made(".mts", "mpegts", ("ac3",), "mpeg2video"))
    assert tracks(source)[0].damage is None
    source.write_bytes(source.read_bytes()[:-missing])
    assert tracks(source)[0].damage in ("cut short", "bytes of 1 packet of its sound are missing")
    assert any("salvaged" in note for note in io.probe(source, salvage=True).notes)


def test_another_mark_of_the_same_coding_is_named(tmp_path: Path) -> None:
    source = make(tmp_path / "a.m4a", Made(".m4a", "ipod", ("aac",)))
    source.write_bytes(source.read_bytes().replace(b"mp4a", b"zzzz"))
    sink = rewrite(source, tmp_path / "b.m4a")
    assert sink.notes == ("its sound of aac was marked 'zzzz' and is marked 'mp4a', as players expect",)


def test_the_first_of_several_programs_keeps_its_number(tmp_path: Path) -> None:
    source = two_programs(tmp_path)
    sink = rewrite(source, tmp_path / "b.mts")
    assert "its 2 programs are written as one, with all streams and the name of the first" in sink.notes


def caf(*chunks: tuple[bytes, bytes]) -> bytes:
    held = [(b"desc", struct.pack(">d4sIIIII", 16000.0, b"lpcm", 0, 2, 1, 1, 16)), *chunks]
    sound = chirp(16000, 1)[0] * 32767
    held.append((b"data", bytes(4) + sound.astype(">i2").tobytes()))
    packed = [kind + struct.pack(">q", len(content)) + content for kind, content in held]
    return b"caff" + struct.pack(">HH", 1, 0) + b"".join(packed)


def w64(name: bytes, content: bytes) -> bytes:
    """A Wave64 file with one more chunk, whose identifier begins with `name`."""
    form, sound = (
        struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16),
        (chirp(16000, 1)[0] * 32767).astype("<i2"),
    )
    tail = bytes.fromhex("f3acd3118cd100c04f8edb8a")
    packed = b"".join(
        kind + tail + struct.pack("<Q", 24 + len(held)) + held + bytes(-len(held) % 8)
        for kind, held in ((b"fmt ", form), (name, content), (b"data", sound.tobytes()))
    )
    riff = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
    return riff + struct.pack("<Q", 40 + len(packed)) + b"wave" + tail + packed


def annotated(text: bytes) -> bytes:
    sound = (chirp(16000, 1)[0] * 32767).astype(">i2").tobytes()
    return b".snd" + struct.pack(">5I", 24 + len(text), len(sound), 3, 16000, 1) + text + sound


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("a.caf", caf((b"mark", bytes(8)), (b"uuid", bytes(30))), "mark, uuid of CAF: not kept"),
        ("a.caf", caf((b"info", struct.pack(">I", 1) + b"title\0song\0"), (b"free", bytes(9))), ""),
        ("a.w64", w64(b"levl", bytes(21)), "levl of W64: not kept"),
        ("a.w64", w64(b"junk", bytes(21)), ""),
        ("a.au", annotated(b"a take, 1994"), "the annotation of AU: not kept"),
        ("a.au", annotated(bytes(8)), ""),
    ],
)
def test_chunks_that_no_remuxer_writes_are_named(
    tmp_path: Path, name: str, content: bytes, note: str
) -> None:
    (tmp_path / name).write_bytes(content)
    written = rewrite(tmp_path / name, tmp_path / f"b{Path(name).suffix}", 0.5)
    assert "; ".join(written.notes) == note
