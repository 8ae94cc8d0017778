"""`denoise info` reports the facts of files, and the plan of `clean` for them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from PIL import Image, PngImagePlugin

from denoise.models.table import DEFAULT_MODELS
from pipelines.inspect.info import FileInfo, describe

Run = Callable[..., Any]


def only(path: Path) -> FileInfo:
    (found,) = describe([path])
    assert found.error is None
    return found


def noisy_picture(sigma: float, side_px: int = 128) -> Image.Image:
    """A slope with white noise."""
    slope = np.add.outer(np.arange(side_px), np.arange(side_px)) * (120.0 / side_px) + 20
    noise = np.random.default_rng(0).normal(0, sigma, (side_px, side_px, 3))
    return Image.fromarray(np.clip(slope[..., None] + noise, 0, 255).round().astype(np.uint8))


def test_every_kind_has_its_facts(media: Path) -> None:
    found = {described.source.name: described for described in describe([media])}
    assert {name: row.error for name, row in found.items()} == dict.fromkeys(found)
    assert {name: (row.format, row.modality) for name, row in found.items()} == {
        "a.png": ("PNG", "image"),
        "b c.png": ("PNG", "image"),
        "s.csv": ("text", "sensor"),
        "t.wav": ("WAV", "audio"),
    }
    assert found["a.png"].facts == {
        "width_px": 32, "height_px": 24, "channels": 3, "dtype": "uint8", "pages": 1
    }  # fmt: skip
    assert found["t.wav"].facts == {
        "sample_rate_hz": 8000.0, "duration_s": 0.25, "channels": 1, "encoding": "PCM_16"
    }  # fmt: skip
    assert found["s.csv"].facts["sample_rate_hz"] == pytest.approx(100)
    assert found["s.csv"].facts["columns"] == ["x"]
    assert found["s.csv"].kept == ("time",)
    for row in found.values():
        assert row.model == DEFAULT_MODELS[row.modality or ""]
        assert row.size_bytes == row.source.stat().st_size == row.cost.estimated_bytes_out


def test_the_estimates_are_those_of_the_noise_that_was_added(tmp_path: Path) -> None:
    noisy_picture(12).save(tmp_path / "a.png")
    assert only(tmp_path / "a.png").noise["estimated_sigma"] == pytest.approx(12, rel=0.1)
    hiss = np.random.default_rng(0).normal(0, 0.01, 16_000 * 2)  # -40 dBFS
    sf.write(tmp_path / "a.wav", hiss, 16_000)
    assert only(tmp_path / "a.wav").noise["estimated_noise_dbfs"] == pytest.approx(-40, abs=1)
    silent_after_70_s = np.concatenate([*[hiss[:8000]] * 70, np.zeros(8000 * 30)])
    sf.write(tmp_path / "b.wav", silent_after_70_s, 8000)  # only the first minute is measured
    assert only(tmp_path / "b.wav").noise["estimated_noise_dbfs"] == pytest.approx(-40, abs=1)


def test_it_foretells_what_the_automatic_model_decides(tmp_path: Path, denoise: Run) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    noisy_picture(15).save(folder / "noisy.png")
    noisy_picture(0).save(folder / "still.png")
    foretold = {row.source.name: row for row in describe([folder])}
    assert denoise("clean", folder, "-o", tmp_path / "out", "--json", tmp_path / "r.json").exit_code == 0
    for done in json.loads((tmp_path / "r.json").read_text())["rows"]:
        row = foretold[Path(done["source"]).name]
        assert row.decision in done["notes"]
        assert str(row.decision).startswith(f"{done['model']}: ")
    assert foretold["noisy.png"].cost.estimated_seconds > 2 * foretold["still.png"].cost.estimated_seconds


def test_metadata_that_is_kept_is_listed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    noisy_picture(5, 32).save(tmp_path / "a.jpg", exif=exif, icc_profile=b"profile", dpi=(300, 300))
    assert only(tmp_path / "a.jpg").kept == ("EXIF", "ICC profile", "resolution")
    with sf.SoundFile(tmp_path / "a.flac", "w", 8000, 1) as file:
        file.artist = "somebody"
        file.write(np.zeros(8000))
    assert "comments" in only(tmp_path / "a.flac").kept


def test_a_name_does_not_decide(media: Path, tmp_path: Path) -> None:
    (tmp_path / "sound.png").write_bytes((media / "t.wav").read_bytes())
    found = only(tmp_path / "sound.png")
    assert (found.format, found.modality) == ("WAV", "audio")
    assert any("holds WAV" in note for note in found.notes)


def test_bad_files_get_a_sentence_each_and_the_rest_goes_on(
    media: Path, tmp_path: Path, denoise: Run
) -> None:
    (media / "bad.png").write_bytes((media / "a.png").read_bytes()[:60])
    (tmp_path / "empty.wav").touch()
    inputs = (tmp_path / "empty.wav", tmp_path / "nothing", media)
    result = denoise("info", *inputs)
    assert result.exit_code == 1
    assert result.stdout.count("failed ") == 3
    assert f"{media / 't.wav'}: WAV audio, 8000 Hz, 0.25 s, 1 channel, PCM_16" in result.stdout
    rows = json.loads(denoise("info", *inputs, "--json", "-").stdout)["rows"]
    failed = {row["source"]: row["error"] for row in rows if row["error"]}
    assert set(failed) == {str(path) for path in (*inputs[:2], media / "bad.png")}
    assert all(str(source) in error for source, error in failed.items())
    assert len(rows) == 7


def test_a_large_picture_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noisy_picture(5).save(tmp_path / "a.png")
    monkeypatch.setattr("pipelines.inspect.info._MAX_PX", 128 * 128 - 1)
    found = only(tmp_path / "a.png")
    assert not found.noise
    assert "noise is not estimated" in found.notes[-1]


def test_comments_and_all_sound_tracks_are_named(tmp_path: Path, denoise: Run) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "a")
    texts.add_itxt("Comment", "b")
    noisy_picture(5).save(tmp_path / "a.png", pnginfo=texts)
    noisy_picture(5).save(tmp_path / "b.jpg", comment=b"hello")
    assert only(tmp_path / "a.png").kept == ("Title", "Comment")
    assert "comment" in only(tmp_path / "b.jpg").kept
    changed = denoise("clean", tmp_path / "a.png", "-o", tmp_path / "a.jpg", "--model", "median")
    assert "Title, Comment: not kept" in changed.stdout
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "two.mkv"), "w") as file:
        sounds = ((8000, 4000), (16000, 16000))
        streams = [file.add_stream("flac", rate=rate, layout="mono") for rate, _ in sounds]
        for stream, (rate, samples) in zip(streams, sounds, strict=True):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.int16), layout="mono")
            frame.rate, frame.pts = rate, 0
            for packet in (*stream.encode(frame), *stream.encode()):
                file.mux(packet)
    tracks = only(tmp_path / "two.mkv").facts["tracks"]
    assert [(track["sample_rate_hz"], track["duration_s"]) for track in tracks] == [(8000, 0.5), (16000, 1)]
    shown = denoise("info", tmp_path / "two.mkv").stdout
    assert "the first of 2 sound tracks" in shown
    assert "track 2    16000 Hz, 1 s, 1 channel" in shown
