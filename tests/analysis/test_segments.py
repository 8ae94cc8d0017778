"""Segments of one shape cover a file, know their place, and can be joined to the file again."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from denoise.analysis.segments import Place, Segment, Segmentation, Segments, assemble, count, places, starts
from denoise.errors import UnsupportedError, UsageError

RNG = np.random.default_rng(0)


def together(found: Segments) -> list[np.ndarray]:
    """Pages of a file, rebuilt from its segments alone."""
    segments = list(found)
    where = list(places(found.cut, found.pages))
    assert len(where) == count(found.cut, found.pages) == len(segments) + found.left_out
    parts = [(where[e.index], e.values * np.float32(e.scale) + np.float32(e.offset)) for e in segments]
    return [
        assemble(found.cut, page, [part for part in parts if part[0].page == number])
        for number, page in enumerate(found.pages)
    ]


@given(st.integers(1, 60), st.integers(1, 20), st.data())
def test_starts_cover_all_and_stay_inside(length: int, size: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, size))
    found = starts(length, size, step)
    covered = np.zeros(max(length, size), bool)
    for start in found:
        covered[start : start + size] = True
    assert covered[:length].all()
    assert found == sorted(set(found))
    assert found[-1] + size == max(length, size)


@pytest.mark.parametrize("step", [0, 5])
@pytest.mark.parametrize("shape", [(20, 33, 3), (5, 40), (16, 16)])
def test_tiles_of_an_image_make_it_again(tmp_path: Path, shape: tuple[int, ...], step: int) -> None:
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = Segments(
        tmp_path / "a.png", Segmentation("image", (16, 16), 3 if len(shape) == 3 else 1, step=step)
    )
    for segment in found:
        (top, left), (bottom, right) = segment.start, segment.stop
        part = np.atleast_3d(pixels[top:bottom, left:right]).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(segment.values[:, : bottom - top, : right - left], part, atol=1e-6)
    (page,) = together(found)
    np.testing.assert_allclose(page, np.atleast_3d(pixels).transpose(2, 0, 1) / 255, atol=1e-6)


def test_alpha_is_left_out_and_colours_become_luma_or_gray_three_channels(tmp_path: Path) -> None:
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., 1], pixels[..., 3] = 255, 77
    Image.fromarray(pixels).save(tmp_path / "green.png")
    (gray,) = Segments(tmp_path / "green.png", Segmentation("image", (16, 16)))
    np.testing.assert_allclose(gray.values, 0.587, atol=1e-6)
    Image.fromarray(pixels[..., 3]).save(tmp_path / "gray.png")
    (three,) = Segments(tmp_path / "gray.png", Segmentation("image", (16, 16), 3))
    np.testing.assert_allclose(three.values, np.full((3, 16, 16), 77 / 255), atol=1e-6)


def test_every_page_is_looked_at_as_a_whole(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for side, value in ((40, 1000), (70, 65535)):
            file.write(np.full((side, side // 2), value, np.uint16), contiguous=False)
    first, second = Segments(tmp_path / "a.tif", Segmentation("image", (8, 8), whole=True))
    np.testing.assert_allclose(first.values, 1000 / 65535, atol=1e-6)
    np.testing.assert_allclose(second.values, 1, atol=1e-6)
    assert (first.page, second.page) == (0, 1)
    assert second.stop == (70, 35)


def test_windows_of_a_recording_know_their_time_and_make_it_again(tmp_path: Path) -> None:
    sound = 0.5 * RNG.standard_normal((10_000, 2)).clip(-1, 1)
    sf.write(tmp_path / "a.wav", sound, 8000, subtype="FLOAT")
    found = Segments(tmp_path / "a.wav", Segmentation("audio", (300,)))
    last = list(found)[-1]
    assert last.channel == 1
    assert (last.start, last.stop) == ((9700,), (10_000,))
    assert (last.start_s, last.stop_s) == (9700 / 8000, 1.25)
    np.testing.assert_allclose(together(found)[0], sound.T, atol=1e-6)


def test_a_recording_of_another_rate_is_resampled_and_comes_back_at_its_own(tmp_path: Path) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 500 * np.arange(22_050) / 44_100)
    sf.write(tmp_path / "a.wav", tone, 44_100, subtype="FLOAT")
    found = Segments(tmp_path / "a.wav", Segmentation("audio", (400,), sample_rate=8000))
    fifth = list(found)[4]
    seconds = 4 * 400 / 8000
    assert fifth.start_s == pytest.approx(seconds, abs=1 / 44_100)
    heard = 0.5 * np.sin(2 * np.pi * 500 * (seconds + np.arange(400) / 8000))
    np.testing.assert_allclose(fifth.values[0], heard, atol=2e-3)
    (back,) = together(found)
    assert back.shape == (1, 22_050)
    np.testing.assert_allclose(back[0, 500:-500], tone[500:-500], atol=2e-3)


def test_gaps_are_left_out_counted_and_come_back_as_gaps(tmp_path: Path) -> None:
    values = RNG.standard_normal((2, 1000)).cumsum(1) + np.array([[1000], [-3]])
    values[1, 333] = np.nan
    rows = "\n".join(",".join("" if np.isnan(v) else repr(float(v)) for v in row) for row in values.T)
    (tmp_path / "a.csv").write_text(f"north,south\n{rows}\n")
    found = Segments(tmp_path / "a.csv", Segmentation("sensor", (100,), standardise=True))
    segments = list(found)
    assert (len(segments), found.left_out) == (19, 1)
    assert 7 not in [e.index for e in segments]  # fourth window of the second column
    assert found.pages[0].channels == ("north", "south")
    for segment in segments:
        assert abs(segment.values.mean()) < 1e-5
        assert segment.values.std() == pytest.approx(1, abs=1e-4)
    (back,) = together(found)
    assert np.isnan(back[1, 300:400]).all()
    values[1, 300:400] = np.nan
    np.testing.assert_allclose(back, values, rtol=1e-5, atol=1e-4)


def test_a_constant_window_is_not_blown_up(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full(64, 12345.678))
    (only,) = Segments(tmp_path / "a.npy", Segmentation("sensor", (64,), standardise=True))
    assert (only.offset, only.scale) == (pytest.approx(12345.678), 1.0)
    assert np.abs(only.values).max() < 1e-6


def test_a_signal_shorter_than_a_window_is_continued_and_stops_where_it_does(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5.0) ** 2)
    (only,) = Segments(tmp_path / "a.npy", Segmentation("sensor", (8,)))
    assert only.values.tolist() == [[0, 1, 4, 9, 16, 16, 16, 16]]
    assert only.stop == (5,)


def test_arrays_of_an_archive_are_pages(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=RNG.standard_normal(50), two=RNG.standard_normal(70))
    found = Segments(tmp_path / "a.npz", Segmentation("sensor", (20,)))
    assert [e.page for e in found] == [0] * 3 + [1] * 4
    assert [page.channels for page in found.pages] == [("one",), ("two",)]
    assert [page.shape for page in together(found)] == [(1, 50), (1, 70)]


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5.0))
    with pytest.raises(UnsupportedError, match="is sensor, expected image"):
        Segments(tmp_path / "a.npy", Segmentation("image", (8, 8)))
    for bad in (
        {"modality": "image", "size": (8,)},
        {"modality": "sensor", "size": (0,)},
        {"modality": "sensor", "size": (8,), "step": 9},
        {"modality": "sensor", "size": (8,), "channels": 3},
        {"modality": "sensor", "size": (8,), "whole": True},
        {"modality": "smell", "size": (8,)},
    ):
        with pytest.raises(UsageError):
            Segmentation(**bad)  # type: ignore[arg-type]


def test_segments_and_places_say_the_same(tmp_path: Path) -> None:
    Image.fromarray(RNG.integers(0, 256, (30, 40), dtype=np.uint8)).save(tmp_path / "a.png")
    found = Segments(tmp_path / "a.png", Segmentation("image", (16, 16)))
    segments: list[Segment] = list(found)
    assert [Place(e.page, e.channel, e.start) for e in segments] == list(places(found.cut, found.pages))
