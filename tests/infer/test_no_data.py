"""Pixels without data: they stay to the bit, and no other pixel shows that they were there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import binary_dilation, gaussian_filter

from denoise.errors import UnreadableError, UnsupportedError
from denoise.infer.file import FileReport, clean_file
from denoise.infer.no_data import filled

SHAPE = (160, 192)
ROWS, COLUMNS = np.mgrid[: SHAPE[0], : SHAPE[1]]
HOLE = (COLUMNS - 60) ** 2 + (ROWS - 70) ** 2 < 30**2
RNG = np.random.default_rng(7)
GROUND = gaussian_filter(RNG.normal(size=SHAPE), 10)
GROUND = 400 + 60 * GROUND / GROUND.std()
HEIGHTS = GROUND + RNG.normal(0, 25, SHAPE)
LOWEST = float(np.finfo(np.float32).min)


def written(
    path: Path, pixels: np.ndarray, value: float, tag: str | None = None, **options: Any
) -> np.ndarray:
    """Write a picture with a hole of one value, with or without a tag that says so."""
    holed = pixels.copy()
    holed[HOLE] = value
    extra = [(42113, "s", 0, tag, True)] if tag else []
    tifffile.imwrite(path, holed, extratags=extra, **options)
    return holed


def cleaned(path: Path, model: str = "auto") -> tuple[np.ndarray, FileReport]:
    out = path.with_name(f"out-{path.name}")
    report = clean_file(path, out, model=model)
    return tifffile.imread(out), report


FLOATS, SHORTS = HEIGHTS.astype(np.float32), np.rint(HEIGHTS * 10).astype(np.int16)
WORDS = np.rint(HEIGHTS * 10).clip(1, 65534).astype(np.uint16)


@pytest.mark.parametrize(
    ("pixels", "value", "tag"),
    [
        (FLOATS, -9999, "-9999"),
        (FLOATS, -9999, None),
        (FLOATS, LOWEST, "-3.40282346638529e+38"),
        (FLOATS, LOWEST, None),
        (FLOATS, -123456, None),
        (FLOATS, np.nan, "nan"),
        (FLOATS, np.nan, None),
        (FLOATS, 400, "400"),  # in the midst of the others
        (SHORTS, -32768, "-32768"),
        (SHORTS, -32768, None),
        (WORDS, 0, "0"),
    ],
)
def test_pixels_without_data_stay_and_their_neighbours_are_cleaned(
    tmp_path: Path, pixels: np.ndarray, value: float, tag: str | None
) -> None:
    before = written(tmp_path / "a.tif", pixels, value, tag)
    after, report = cleaned(tmp_path / "a.tif")
    assert report.model == "photo"  # not a drawing, nor without noise
    np.testing.assert_array_equal(after[HOLE], before[HOLE])
    scale = 1 if pixels is FLOATS else 10
    error = np.abs(after.astype(float) / scale - GROUND)
    rim = binary_dilation(HOLE, iterations=3) & ~HOLE
    assert error[rim].mean() < 12  # of 20 in the noisy picture
    assert error[~HOLE].mean() < 8
    named = f"{float(np.asarray(value, np.float32)):.9g}"
    share = f"{HOLE.sum()} pixels, {100 * HOLE.mean():.2g} %"
    assert f"no data ({named}; {share}): kept as they are, and left out of the cleaning" in report.notes


def test_what_the_hole_holds_decides_nothing(tmp_path: Path) -> None:
    results = []
    for value in (-9999.0, LOWEST, 1e30, 401.5):
        written(tmp_path / "a.tif", FLOATS, value, repr(value))
        results.append(cleaned(tmp_path / "a.tif", "photo-fast")[0][~HOLE])
        (tmp_path / "out-a.tif").unlink()
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


COLOURS = (
    np.stack([HEIGHTS, HEIGHTS.T[:1].mean() + HEIGHTS[::-1], HEIGHTS[:, ::-1]], -1).astype(np.float32) / 900
)


def test_a_pixel_of_colours_lacks_data_if_each_does_or_one_is_nan(tmp_path: Path) -> None:
    before = COLOURS.copy()
    before[HOLE] = 0
    before[100:110, 150:160, 0] = 0  # black in red alone
    tifffile.imwrite(tmp_path / "a.tif", before, photometric="rgb", extratags=[(42113, "s", 0, "0", True)])
    after, report = cleaned(tmp_path / "a.tif", "photo-fast")
    np.testing.assert_array_equal(after[HOLE], 0)
    assert (after[100:110, 150:160] != before[100:110, 150:160]).any(axis=-1).mean() > 0.9
    assert f"no data (0; {HOLE.sum()} pixels" in " ".join(report.notes)
    before[5, 6, 1] = np.nan
    tifffile.imwrite(tmp_path / "b.tif", before, photometric="rgb")
    after, _ = cleaned(tmp_path / "b.tif", "photo-fast")
    np.testing.assert_array_equal(after[5, 6], before[5, 6])
    assert np.isnan(after).sum() == 1


def test_each_band_and_each_page_has_its_own_holes(tmp_path: Path) -> None:
    bands = np.stack([FLOATS, FLOATS[::-1], FLOATS[:, ::-1]])
    for band in range(3):
        bands[band, 10 * band : 10 * band + 5, :9] = -9999
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        options: dict[str, Any] = {
            "photometric": "minisblack",
            "extrasamples": (0, 0),
            "planarconfig": "contig",
        }
        file.write(np.moveaxis(bands, 0, -1), extratags=[(42113, "s", 0, "-9999", True)], **options)
        file.write(FLOATS)
    clean_file(tmp_path / "a.tif", tmp_path / "b.tif", model="photo-fast")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        after = np.moveaxis(file.pages[0].asarray(), -1, 0)
        assert file.pages[0].tags[42113].value == "-9999"
        assert (file.pages[1].asarray() != FLOATS).mean() > 0.9
    np.testing.assert_array_equal(after == -9999, bands == -9999)
    assert (after != bands)[bands != -9999].mean() > 0.9


@pytest.mark.parametrize("dtype", ["float32", "uint16", "uint8"])
def test_extremes_of_a_picture_are_data(tmp_path: Path, dtype: str) -> None:
    picture = (HEIGHTS / HEIGHTS.max()).clip(0, 1)
    picture[HOLE] = 1.0 if dtype != "float32" else 3.0
    peak = 1 if dtype == "float32" else np.iinfo(dtype).max
    tifffile.imwrite(tmp_path / "a.tif", (picture * peak).astype(dtype))
    assert not any("no data" in note for note in cleaned(tmp_path / "a.tif", "photo-fast")[1].notes)


def test_nan_has_no_place_elsewhere_and_a_page_needs_some_data(tmp_path: Path) -> None:
    written(tmp_path / "a.tif", FLOATS, np.nan)
    with pytest.raises(UnsupportedError, match=r"NaN, which \.png cannot; write to \.tif"):
        clean_file(tmp_path / "a.tif", tmp_path / "a.png", model="photo-fast")
    tifffile.imwrite(tmp_path / "b.tif", np.full((9, 9), np.nan, np.float32))
    with pytest.raises(UnreadableError, match="a page without any data; expected finite numbers"):
        clean_file(tmp_path / "b.tif", tmp_path / "c.tif")
    tifffile.imwrite(tmp_path / "d.tif", np.full((9, 9), np.inf, np.float32))
    with pytest.raises(UnreadableError, match="holds 81 infinite values on page 1"):
        clean_file(tmp_path / "d.tif", tmp_path / "e.tif")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.95])
def test_a_hole_is_filled_with_the_noise_of_its_neighbours(share: float) -> None:
    page = RNG.normal(5, 2, (1, *SHAPE))
    mask = (share * SHAPE[1] > COLUMNS)[None]
    full = filled(page, mask)
    np.testing.assert_array_equal(full[~mask], page[~mask])
    assert np.isin(full, page[~mask]).all()
    near = mask & ((2 * share - 1) * SHAPE[1] + 2 < COLUMNS)[None]
    assert full[near].std() == pytest.approx(2, rel=0.1)
    assert np.diff(full, axis=2)[near[:, :, 1:]].std() == pytest.approx(2 * np.sqrt(2), rel=0.15)
