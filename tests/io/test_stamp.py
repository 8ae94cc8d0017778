"""Stamps: results say what was done to them, once, beside the metadata that was there."""

from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from PIL import Image

import denoise
from denoise import io
from denoise.signal import ImageInfo
from tests.io.test_kept import SUFFIX, XMP, described, recording

PICTURES = ("PNG", "JPEG", "TIFF", "WebP", "HEIC", "AVIF", "JPEG XL")
STAMP = {"program": "denoise", "version": denoise.__version__, "strength": "0.5"}


@pytest.mark.parametrize("column", PICTURES)
def test_pictures_are_stamped_once_in_their_xmp(tmp_path: Path, column: str) -> None:
    source = described(tmp_path, column)
    plain = Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3)))
    plain.save(tmp_path / "plain.png")
    for path in (source, tmp_path / "plain.png"):
        once, twice = (tmp_path / f"{path.stem}{number}{SUFFIX[column]}" for number in (1, 2))
        denoise.clean_file(path, once, "gaussian", strength=0.5, stamp=True)
        denoise.clean_file(once, twice, "median", strength=0.5, stamp=True)
        info = io.probe(twice)
        assert isinstance(info, ImageInfo)
        packet = info.metadata.xmp or b""
        assert packet.count(b"denoise:program") == 1
        for name, value in {**STAMP, "model": "median"}.items():
            assert f'denoise:{name}="{value}"'.encode() in packet
    before = io.probe(source)
    assert isinstance(before, ImageInfo)
    assert before.metadata.icc == profile_of(tmp_path / f"described1{SUFFIX[column]}")


def profile_of(path: Path) -> bytes | None:
    info = io.probe(path)
    assert isinstance(info, ImageInfo)
    return info.metadata.icc


@pytest.mark.parametrize("column", ["WAV", "RF64", "AIFF", "FLAC", "Vorbis", "Opus", "MP3"])
@pytest.mark.parametrize("tagged", [False, True])
def test_recordings_are_stamped_beside_their_tags(tmp_path: Path, column: str, tagged: bool) -> None:
    source = recording(tmp_path, column)
    if tagged and column != "RF64":  # which mutagen does not read
        tags = mutagen.File(source)
        if tags.tags is None:
            tags.add_tags()
        if column in ("FLAC", "Vorbis", "Opus"):
            tags["title"] = "Tëst"
        else:
            tags.tags.add(mutagen.id3.TIT2(encoding=3, text="Tëst"))
        tags.save()
    report = denoise.clean_file(source, tmp_path / f"b{source.suffix}", "wiener", strength=0.5, stamp=True)
    assert not any("not kept" in note or "not stamped" in note for note in report.notes)
    line = f"program denoise, version {denoise.__version__}, model wiener, strength 0.5"
    result = tmp_path / f"b{source.suffix}"
    assert soundfile.info(result).frames == soundfile.info(source).frames
    found = mutagen.File(result) if column != "RF64" else None
    if column in ("FLAC", "Vorbis", "Opus"):
        assert found["denoise"] == [line]
    elif column == "MP3":
        assert found.tags["TXXX:denoise"].text == [line]
    elif column == "AIFF":
        assert line.encode() in result.read_bytes()
    else:
        assert b'denoise:model="wiener"' in result.read_bytes()
    if tagged and found:
        assert "Tëst" in str(found["title"] if column in ("FLAC", "Vorbis", "Opus") else found.tags["TIT2"])


def test_what_has_no_place_for_a_stamp_says_so(tmp_path: Path) -> None:
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8)[:, None, None], (1, 64, 3))).save(
        tmp_path / "a.bmp"
    )
    report = denoise.clean_file(tmp_path / "a.bmp", tmp_path / "b.bmp", "gaussian", stamp=True)
    assert "not stamped: BMP has no place for it" in report.notes
    source = recording(tmp_path, "WAV", samples=48000)
    denoise.clean_file(source, tmp_path / "a.m4a", "wiener", stamp=True)
    assert b"denoise:program" in (tmp_path / "a.m4a").read_bytes()
    assert io.probe(tmp_path / "a.m4a").shape == (2, 48000)
    report = denoise.clean_file(source, tmp_path / "a.ac3", "wiener", stamp=True)
    assert "not stamped: ac3 has no place for it here" in report.notes
    copied = denoise.clean_file(tmp_path / "a.bmp", tmp_path / "c.bmp", "none", stamp=True)
    assert (tmp_path / "c.bmp").read_bytes() == (tmp_path / "a.bmp").read_bytes()
    assert not copied.clipped
    assert XMP


@pytest.mark.parametrize("suffix", [".mka", ".webm", ".wma", ".ogv", ".wv", ".flv", ".tta", ".caf"])
def test_media_files_are_stamped_once_in_a_tag(tmp_path: Path, suffix: str) -> None:
    source = recording(tmp_path, "WAV", samples=48000)
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    for before, after, model in ((source, first, "wiener"), (first, second, "spectral-gate")):
        report = denoise.clean_file(before, after, model, stamp=True)
        assert not any("not stamped" in note for note in report.notes)
        data = after.read_bytes()
        line = f"program denoise, version {denoise.__version__}, model {model}, strength 1"
        assert line.encode() in data or line.encode("utf-16-le") in data
    assert b"model wiener" not in data
    assert "model wiener".encode("utf-16-le") not in data
