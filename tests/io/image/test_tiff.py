"""Unusual TIFF files: bands of multispectral cameras, palettes with alpha, and missing tags."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from denoise import io
from denoise.errors import UnsupportedError
from denoise.infer.file import clean_file
from denoise.io.image.tiff import palette_to_rgb

Array = NDArray[Any]


def bands(count: int) -> Array:
    """Ramps of different levels with noise, `(H, W, C)`."""
    rng = np.random.default_rng(0)
    clean = np.linspace(0.2, 0.5, 64)[:, None] + 0.05 * np.arange(count)
    noisy = np.broadcast_to(clean, (64, 64, count)) + rng.normal(0, 0.05, (64, 64, count))
    return np.rint(65535 * noisy.clip(0, 1)).astype(np.uint16)


@pytest.mark.parametrize("count", [3, 5, 8])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_every_band_is_cleaned_and_stays_a_band(tmp_path: Path, count: int, planar: str) -> None:
    before = bands(count)
    stored = before if planar == "contig" else np.moveaxis(before, -1, 0)
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="minisblack",
        planarconfig=planar,
        extrasamples=[0] * (count - 1),
    )
    clean_file(tmp_path / "a.tif", tmp_path / "b.tif", model="photo")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        page = file.pages[0]
        after = page.asarray()
        assert page.photometric.name == "MINISBLACK"
        assert [int(extra) for extra in page.extrasamples] == [0] * (count - 1)
    assert after.shape == before.shape
    for band in range(count):
        rough = [np.diff(image[..., band].astype(float), axis=1).std() for image in (before, after)]
        assert rough[1] < 0.4 * rough[0], band
        assert after[..., band].mean() == pytest.approx(before[..., band].mean(), rel=0.02)


def test_three_bands_are_no_colours(tmp_path: Path) -> None:
    before = bands(3)
    tifffile.imwrite(tmp_path / "a.tif", before, photometric="minisblack", extrasamples=[0, 0])
    clean_file(tmp_path / "a.tif", tmp_path / "b.tif", model="photo")
    after = tifffile.imread(tmp_path / "b.tif")
    for band in range(3):
        tifffile.imwrite(tmp_path / "gray.tif", np.ascontiguousarray(before[..., band]))
        clean_file(tmp_path / "gray.tif", tmp_path / "alone.tif", model="photo")
        assert np.array_equal(tifffile.imread(tmp_path / "alone.tif"), after[..., band])


def test_bands_are_refused_by_formats_without_them(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", bands(5), photometric="minisblack", extrasamples=[0] * 4)
    with pytest.raises(UnsupportedError, match=r"PNG holds gray or RGB and .*a.tif has 5 bands"):
        clean_file(tmp_path / "a.tif", tmp_path / "b.png", model="photo")


def test_alpha_beside_gray_is_not_a_band(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", bands(2), photometric="minisblack", extrasamples=[2])
    assert io.probe(tmp_path / "a.tif").passthrough_channels == 1


def test_a_palette_of_one_bit_and_one_with_alpha_are_looked_up() -> None:
    palette = np.array([[200, 10], [100, 20], [50, 30]], np.uint16) << 8
    index = np.indices((20, 24)).sum(0) % 2
    colours = np.where(index[..., None], [10, 20, 30], [200, 100, 50])
    np.testing.assert_array_equal(palette_to_rgb(index.astype(bool), palette), colours)
    with_alpha = palette_to_rgb(np.stack([index, 255 - index], -1).astype(np.uint8), palette)
    np.testing.assert_array_equal(with_alpha[..., :3], colours)
    np.testing.assert_array_equal(with_alpha[..., 3], 255 - index)


def test_without_a_colour_model_a_page_is_gray(tmp_path: Path) -> None:
    values = np.linspace(-1000, 1000, 32 * 32).reshape(32, 32).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    at = raw.index(b"\x06\x01\x03\x00")  # tag 262 is renamed to one that nothing reads
    raw[at : at + 2] = b"\x07\x01"
    (tmp_path / "b.tif").write_bytes(raw)
    np.testing.assert_array_equal(io.read(tmp_path / "b.tif")[0][0], values)


@pytest.mark.parametrize("dpi", [None, (300.0, 300.0)])
def test_a_picture_without_a_resolution_gets_none(tmp_path: Path, dpi: tuple[float, float] | None) -> None:
    """A made-up resolution of one pixel an inch would print it twelve metres wide."""
    picture = Image.fromarray((bands(3) >> 8).astype(np.uint8))
    picture.save(tmp_path / "a.tif", **({"dpi": dpi} if dpi else {}))
    clean_file(tmp_path / "a.tif", tmp_path / "b.tif", model="median")
    with Image.open(tmp_path / "b.tif") as after:
        assert after.info.get("dpi") == dpi
        assert dpi or after.tag_v2.get(296, 1) == 1


def test_tags_that_may_fit_no_longer_are_named(tmp_path: Path) -> None:
    tags = [(280, 3, 1, 0, True), (281, 3, 1, 4095, True), (315, 2, 3, b"me\0", True)]
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 20), np.uint16), extratags=tags, metadata=None)
    with io.reader(tmp_path / "a.tif") as pages, io.writer(tmp_path / "b.tif", pages.info) as sink:
        for page in pages:
            sink.write(page)
    assert sink.notes == ("MinSampleValue: not kept", "MaxSampleValue: not kept")


def test_ome_states_the_type_that_is_written(tmp_path: Path) -> None:
    stack = np.arange(320, dtype=np.int16).reshape(16, 20)
    tifffile.imwrite(tmp_path / "a.ome.tif", stack)
    array, info = io.read(tmp_path / "a.ome.tif")
    io.write(tmp_path / "b.ome.tif", array, info)
    with tifffile.TiffFile(tmp_path / "b.ome.tif") as file:
        assert 'Type="float"' in (file.ome_metadata or "")
        assert file.series[0].dtype == file.pages[0].dtype == np.float32
