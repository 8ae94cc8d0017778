"""Default cleaning of real photos and drawings: noise goes, and nothing else.

The photos are samples of scikit-image: `coffee` and `chelsea` (CC0), `rocket` and `astronaut` (NASA, public
domain), and `stereo_motorcycle` (Middlebury, free). The drawings are its `horse` (CC0), `text` and `page`
(public domain), `logo` and `data.binary_blobs` (its own licence, BSD). Noise is that of the in-camera chain.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from skimage import data

import denoise
from denoise.corruptions import corrupt, parse
from denoise.estimate.hot_pixels import without_salt_and_pepper
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.file import clean_file
from pipelines.cli.group import cli

Array = NDArray[Any]

PHOTOS: dict[str, Callable[[], Array]] = {
    "coffee": lambda: data.coffee()[60:252, 150:342],
    "chelsea": lambda: data.chelsea()[20:212, 100:292],
    "rocket": lambda: data.rocket()[100:292, 200:392],
    "motorcycle": lambda: data.stereo_motorcycle()[0][100:292, 200:392],
}


@pytest.fixture(scope="module")
def auto() -> Cleaner:
    return load("auto")


def as_jpeg(pixels: Array, quality: int) -> Array:
    coded = io.BytesIO()
    Image.fromarray(pixels).save(coded, "JPEG", quality=quality)
    return np.asarray(Image.open(coded))


def taken(name: str, iso: int, quality: int = 95) -> tuple[Array, Array]:
    """Photo as a camera stores it, and the clean one."""
    clean = PHOTOS[name]()
    planes = np.moveaxis(clean, -1, 0).astype(np.float32) / 255
    noisy = corrupt(planes, parse(f"in-camera:iso={iso}"), seed=1, peak=1.0)
    return as_jpeg(np.rint(255 * np.moveaxis(noisy, 0, -1).clip(0, 1)).astype(np.uint8), quality), clean


def psnr_db(reference: Array, estimate: Array) -> float:
    return float(10 * np.log10(255**2 / np.mean((estimate.astype(float) - reference) ** 2)))


def selected(cleaner: Cleaner, image: Array) -> tuple[Array, denoise.infer.selection.Selection]:
    result, selection = cleaner.apply(np.moveaxis(image, -1, 0), peak=255.0)
    return np.moveaxis(result, 0, -1), selection


# ---- photos ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_of_low_iso_is_not_sharpened_and_hardly_changed(auto: Cleaner, name: str) -> None:
    photo, clean = taken(name, 100)
    result, selection = selected(auto, photo)
    assert selection.model in ("none", "photo")
    assert psnr_db(clean, result) >= psnr_db(clean, photo) - 0.1


@pytest.mark.parametrize("name", PHOTOS)
def test_a_photo_of_high_iso_does_not_become_worse(auto: Cleaner, name: str) -> None:
    photo, clean = taken(name, 6400)
    assert psnr_db(clean, selected(auto, photo)[0]) >= psnr_db(clean, photo) - 0.1


def test_a_photo_of_high_iso_becomes_better(auto: Cleaner) -> None:
    photo, clean = taken("rocket", 6400)
    result, selection = selected(auto, photo)
    assert selection.model == "photo"
    assert psnr_db(clean, result) >= psnr_db(clean, photo) + 3


def test_the_row_counts_the_hot_pixels_that_were_replaced(auto: Cleaner) -> None:
    photo, _ = taken("rocket", 6400)
    assert "hot pixel" not in selected(auto, photo)[1].reason
    photo = photo.copy()
    photo[20, 20, 0] = 255
    assert selected(auto, photo)[1].reason.endswith("; 1 hot pixel replaced")


def test_half_the_strength_makes_half_the_change(auto: Cleaner) -> None:
    photo, _ = taken("rocket", 6400)
    whole = auto.clean(photo).astype(float)
    assert np.abs(whole - photo).mean() > 2
    np.testing.assert_allclose(auto.clean(photo, strength=0.5), (whole + photo) / 2, atol=1)


# ---- scale -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy() -> Array:
    noise = np.random.default_rng(0).normal(0, 12, (128, 128, 3))
    return np.clip(np.rint(data.rocket()[100:228, 200:328] + noise), 0, 255)


@pytest.mark.parametrize(
    ("dtype", "scale", "offset"),
    [
        (np.uint16, 1, 0),
        (np.uint16, 16, 0),  # 12 bits in 16
        (np.uint16, 64, 0),  # 14 bits in 16
        (np.int16, 1, 0),
        (np.int32, 1, 0),
        (np.int64, 16, 0),
        (np.int16, 1, -60),
        (np.float32, 1, 0),
        (np.float64, 1 / 255, 0),
        (np.float32, 1, -60),  # a background was subtracted
        (np.float32, 2 / 255, -1),
    ],
)
def test_the_scale_is_that_of_the_samples(
    auto: Cleaner, noisy: Array, dtype: type, scale: float, offset: float
) -> None:
    expected = auto.clean(noisy.astype(np.uint8)).astype(float)
    assert np.abs(expected - noisy).mean() > 5
    result = auto.clean((scale * noisy + offset).astype(dtype))
    assert result.dtype == dtype
    error = (result.astype(float) - offset) / scale - expected
    assert np.sqrt(np.mean(error**2)) < 1.2


def test_a_file_of_12_bits_in_16_is_cleaned_and_stays_within_12_bits(tmp_path: Path, noisy: Array) -> None:
    tifffile.imwrite(tmp_path / "a.tif", (noisy * (4095 / 255)).astype(np.uint16), photometric="rgb")
    report = clean_file(tmp_path / "a.tif", tmp_path / "b.tif")
    assert report.model == "photo"
    assert report.metrics["estimated_sigma_before"] == pytest.approx(12, abs=2)
    assert report.metrics["estimated_sigma_after"] < 3
    assert tifffile.imread(tmp_path / "b.tif").max() <= 4095


def test_reversed_and_big_endian_arrays_are_cleaned_like_others(auto: Cleaner, noisy: Array) -> None:
    image = noisy.astype(np.uint16)
    expected = auto.clean(image)
    for axis in range(3):
        flipped = auto.clean(np.flip(np.flip(image, axis).copy(), axis))
        np.testing.assert_array_equal(flipped, expected)
    big = auto.clean(image.astype(">u2"))
    assert big.dtype == ">u2"
    np.testing.assert_array_equal(big, expected)


def test_gray_stored_as_rgb_stays_gray(auto: Cleaner, noisy: Array) -> None:
    gray = noisy[..., 1].astype(np.uint8)
    result = auto.clean(np.stack([gray] * 3, -1))
    for channel in range(3):
        np.testing.assert_array_equal(result[..., channel], auto.clean(gray))


def test_clipped_areas_stay_black_and_white(auto: Cleaner, noisy: Array) -> None:
    image = noisy.copy()
    noise = np.random.default_rng(1).normal(0, 12, image.shape)
    image[20:60, 20:70], image[80:110, 10:60] = 340 + noise[20:60, 20:70], -80 + noise[80:110, 10:60]
    for dtype, scale in ((np.uint8, 1), (np.uint16, 16), (np.float32, 1 / 255)):
        clipped = (image.clip(0, 255) * scale).astype(dtype)
        result = auto.clean(clipped)
        assert (result != clipped).mean() > 0.5
        for area in (np.s_[24:56, 24:66], np.s_[84:106, 14:56]):
            np.testing.assert_array_equal(result[area], clipped[area])


def test_hot_pixels_go_and_stars_stay(auto: Cleaner) -> None:
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:128, :128]
    sky = np.full((128, 128, 3), 18.0)
    stars = [(*rng.uniform(8, 120, 2), 10 ** rng.uniform(1.7, 2.4)) for _ in range(12)]
    for row, column, height in stars:
        sky += height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 0.9**2))[..., None]
    shot = sky + rng.normal(0, 6, sky.shape)
    hot = [(*rng.integers(4, 124, 2), rng.integers(3)) for _ in range(12)]
    for place in hot:
        shot[place] = 220
    shot, sky = np.rint(shot).clip(0, 255).astype(np.uint8), sky.clip(0, 255)
    for strength in (1.0, 0.5):
        result = auto.clean(shot, strength=strength).astype(float)
        for place in hot:
            assert result[place] - sky[place] == pytest.approx((1 - strength) * (220 - sky[place]), abs=8)
    result = auto.clean(shot).astype(float)
    for row, column, height in stars:
        place = round(row), round(column)
        assert result[place].mean() - 18 > 0.75 * (sky[place].mean() - 18), height


# ---- salt and pepper -------------------------------------------------------------------------------------


def with_salt_and_pepper(image: Array, share: float, *, alike: bool = True) -> Array:
    """Set pixels to black or white, in all channels at once or in each for itself."""
    chance = np.random.default_rng(7).random((*image.shape[:2], 1 if alike else image.shape[2]))
    white = np.iinfo(image.dtype).max
    return np.where(chance < share, np.where(chance < share / 2, 0, white).astype(image.dtype), image)


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("share", [0.02, 0.1])
@pytest.mark.parametrize("kind", ["rgb", "gray", "16 bits"])
def test_salt_and_pepper_goes_and_all_else_stays(auto: Cleaner, kind: str, share: float, alike: bool) -> None:
    clean = data.chelsea()[20:276, 80:336]
    if kind == "gray":  # stored as RGB, or alone
        clean = np.repeat(clean[..., 1:2], 3, axis=2) if alike else clean[..., 1:2]
    scale = 257 if kind == "16 bits" else 1
    clean = clean.astype(np.uint16) * scale if scale > 1 else clean
    noisy = with_salt_and_pepper(clean, share, alike=alike)
    result = auto.clean(noisy, channel_axis=-1)
    errors = [np.square((image.astype(float) - clean) / scale).mean() for image in (noisy, result)]
    assert 10 * np.log10(errors[0] / errors[1]) > 20
    assert (result == clean)[noisy == clean].mean() > 0.999


def test_half_of_the_strength_takes_half_of_salt_and_pepper(auto: Cleaner) -> None:
    noisy = with_salt_and_pepper(data.chelsea()[20:148, 80:208], 0.02)
    half = auto.clean(noisy, strength=0.5).astype(float)
    np.testing.assert_allclose(half, (noisy.astype(float) + auto.clean(noisy)) / 2, atol=1)


def test_salt_and_pepper_amid_noise_go_both(auto: Cleaner) -> None:
    clean = data.chelsea()[20:276, 80:336]
    noisy = np.rint(clean + np.random.default_rng(2).normal(0, 10, clean.shape)).clip(0, 255)
    result = auto.clean(with_salt_and_pepper(noisy.astype(np.uint8), 0.05))
    assert 10 * np.log10(255**2 / np.square(result.astype(float) - clean).mean()) > 32


def test_the_row_of_salt_and_pepper_says_what_was_done(tmp_path: Path) -> None:
    Image.fromarray(with_salt_and_pepper(data.chelsea()[20:276, 80:336], 0.02)).save(tmp_path / "a.png")
    report = clean_file(tmp_path / "a.png", tmp_path / "b.png")
    assert report.model == "median"
    assert report.notes[0].startswith("median: salt and pepper, and without them noise of about")
    assert report.metrics["estimated_sigma_before"] > 10
    assert report.metrics["estimated_sigma_after"] < 1


@pytest.mark.parametrize(
    "name", ["astronaut", "camera", "page", "text", "coins", "gravel", "hubble_deep_field"]
)
def test_black_and_white_points_of_a_picture_are_no_salt_and_pepper(name: str) -> None:
    image = getattr(data, name)()
    planes = np.moveaxis(np.atleast_3d(image), -1, 0)
    assert without_salt_and_pepper(planes, 255.0, 60.0) is planes


# ---- drawings --------------------------------------------------------------------------------------------


def drawings() -> dict[str, Image.Image]:
    gray = Image.fromarray(data.camera()[100:356, 100:356])
    thresholds = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) * 16 + 8
    halftone = np.where(np.asarray(gray) > np.tile(thresholds, (64, 64)), 255, 0).astype(np.uint8)
    screen = np.full((120, 200, 3), 245, np.uint8)
    screen[:20], screen[40:44, 10:150], screen[60:100, 20:80] = (40, 90, 160), 30, (250, 180, 20)
    screen[50:56:2, 12:140:3] = 60
    return {
        "icon": Image.fromarray(data.chelsea()).resize((16, 16)),
        "dither": gray.convert("1"),
        "halftone": Image.fromarray(halftone),
        "line art": Image.fromarray(np.where(data.horse(), 255, 0).astype(np.uint8)),
        "checkerboard": Image.fromarray(np.kron(np.indices((16, 16)).sum(0) % 2, np.ones((8, 8))) > 0),
        "blobs": Image.fromarray(data.binary_blobs(128, rng=1)),
        "screenshot": Image.fromarray(screen),
        "palette": gray.convert("P", palette=Image.Palette.ADAPTIVE, colors=8),
    }


@pytest.mark.parametrize("name", list(drawings()))
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp"])
def test_drawings_keep_their_bytes(tmp_path: Path, name: str, suffix: str) -> None:
    source, output = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    picture = drawings()[name]
    picture.save(source, **({"lossless": True} if suffix == ".webp" else {}))
    report = clean_file(source, output)
    assert report.model == "none", report.notes
    assert output.read_bytes() == source.read_bytes()


# ---- left as it is ---------------------------------------------------------------------------------------


def saved(path: Path, pixels: Array) -> Path:
    options: dict[str, Any] = {".jpg": {"quality": 97}, ".webp": {"quality": 90}}.get(path.suffix, {})
    Image.fromarray(pixels).save(path, **options)
    return path


def written_gain_db(folder: Path, clean: Array, quality: int) -> float:
    """Gain of a JPEG file by cleaning into another JPEG file."""
    Image.fromarray(clean).save(folder / "a.jpg", quality=quality)
    clean_file(folder / "a.jpg", folder / "b.jpg")
    before, after = (np.asarray(Image.open(folder / name)).astype(float) for name in ("a.jpg", "b.jpg"))
    return float(
        10
        * np.log10(max(np.square(before - clean).mean(), 1e-9) / max(np.square(after - clean).mean(), 1e-9))
    )


@pytest.mark.parametrize("quality", [40, 70, 85, 90, 97])
@pytest.mark.parametrize("name", PHOTOS)
def test_a_jpeg_file_does_not_become_worse(tmp_path: Path, name: str, quality: int) -> None:
    assert written_gain_db(tmp_path, PHOTOS[name](), quality) >= 0


def test_what_is_removed_from_a_coarse_jpeg_does_not_come_back_with_its_tables(tmp_path: Path) -> None:
    gains = [written_gain_db(tmp_path, photo(), 50) for photo in PHOTOS.values()]
    assert np.mean(gains) > 0.3


def test_less_than_the_rounding_of_a_png_is_not_written(tmp_path: Path) -> None:
    picture = data.astronaut()[:320, :320]
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(np.roll(picture, 1, 0)).save(tmp_path / "reference.png")
    for reference in (None, tmp_path / "reference.png"):
        report = clean_file(
            tmp_path / "a.png", tmp_path / "b.png", model="photo", strength=0.02, reference=reference
        )
        assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
        assert report.notes[-1] == "left as it is: to write it again would lose more than that gains"
        assert (report.model, report.selections[0].dropped) == ("none", ("photo",))
        for name in [name for name in report.metrics if name.endswith("_before")]:
            after = "psnr_db ssim" if reference else "estimated_sigma_after"
            assert name.removesuffix("_before") in after
            key = name.removesuffix("_before") if reference else after
            assert report.metrics[key] == report.metrics[name], name


def test_what_auto_did_not_write_is_told_by_the_row_and_in_json(tmp_path: Path) -> None:
    """A PNG with a trace of noise: what is removed is less than rounding it again loses."""
    rows, columns = np.mgrid[:256, :256]
    sky = np.repeat((60 + rows / 2 + 20 * np.sin(columns / 20))[..., None], 3, axis=2)
    shot = sky + np.random.default_rng(3).normal(0, 0.95, sky.shape)
    saved(tmp_path / "a.png", np.rint(shot).clip(0, 255).astype(np.uint8))
    arguments = [
        "clean",
        str(tmp_path / "a.png"),
        "-o",
        str(tmp_path / "b.png"),
        "--json",
        str(tmp_path / "r.json"),
    ]
    printed = CliRunner().invoke(cli, arguments)
    assert printed.exit_code == 0, printed.output
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    row = json.loads((tmp_path / "r.json").read_text())["rows"][0]
    assert row["model"] == "none"
    assert row["metrics"]["estimated_sigma_after"] == row["metrics"]["estimated_sigma_before"]
    assert row["notes"][0].startswith("none: photo was tried, and not written: noise of about")
    assert "would lose more than that gains" in printed.output


@pytest.mark.parametrize("options", [{}, {"model": "none"}, {"model": "photo", "strength": 0}])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_what_is_left_as_it_is_keeps_its_bytes(tmp_path: Path, suffix: str, options: dict[str, Any]) -> None:
    source = saved(tmp_path / f"in{suffix}", PHOTOS["coffee"]())
    output = tmp_path / f"out{suffix}"
    assert clean_file(source, output, **options).clipped == 0
    assert output.read_bytes() == source.read_bytes()


def test_16_bits_and_pages_are_left_with_their_bytes(tmp_path: Path) -> None:
    deep = (PHOTOS["coffee"]().astype(np.uint16) * 257)[..., 1]
    Image.fromarray(deep).save(tmp_path / "a.png")
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        for page in (deep, deep[::-1].copy(), PHOTOS["coffee"]()):
            file.write(page, compression="lzw", software="a scanner")
    Image.fromarray(PHOTOS["coffee"]()).convert("1").save(tmp_path / "c.png")
    for name in ("a.png", "b.tif", "c.png"):
        report = clean_file(tmp_path / name, tmp_path / f"out_{name}")
        assert len(report.notes) == 1  # why, and nothing of conversions that a copy does without
        assert (tmp_path / f"out_{name}").read_bytes() == (tmp_path / name).read_bytes()


def test_of_pages_that_are_partly_left_those_keep_every_sample(tmp_path: Path, noisy: Array) -> None:
    good = PHOTOS["coffee"]()
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in (good, noisy.astype(np.uint8), good):
            file.write(page, photometric="rgb")
    report = clean_file(tmp_path / "a.tif", tmp_path / "b.tif")
    assert report.model == "none and photo"
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        for index in (0, 2):
            np.testing.assert_array_equal(file.pages[index].asarray(), good)
        assert (file.pages[1].asarray() != noisy).any()
