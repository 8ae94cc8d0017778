"""Selection of the image model: decisions, reasons, and unchanged good pictures."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import skimage.transform
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

import denoise
from denoise import weights
from denoise.errors import InputError, UsageError
from denoise.estimate.lens_blur import LensBlur
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.file import clean_file
from denoise.infer.select_image import (
    BLURRED_PX,
    CLEAR_SIGMA,
    FAINT_SIGMA,
    ImageSelection,
    ImageSelector,
    select,
    texture_gain,
)
from denoise.infer.verify import RAISED_NOISE
from pipelines.cli.group import cli

Array = NDArray[Any]
Make = Callable[..., Any]

PHOTOS = Path(__file__).parents[2] / "data" / "samples" / "reference" / "photos"


def photo(name: str) -> Array:
    """Read a clean sample `(H, W[, C])`."""
    array, info = denoise.read(PHOTOS / name)
    pixels = np.moveaxis(array[: len(array) - info.passthrough_channels], 0, -1)
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def noisy(image: Array, sigma: float) -> Array:
    noise = np.random.default_rng(1).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def as_jpeg(image: Array, quality: int) -> Array:
    coded = io.BytesIO()
    Image.fromarray(image).save(coded, "JPEG", quality=quality)
    return np.asarray(Image.open(coded))


def psnr_db(image: Array, other: Array, peak: float = 255.0) -> float:
    error = np.mean((image.astype(float) - other) ** 2)
    return float(10 * np.log10(peak**2 / error)) if error else np.inf


@pytest.fixture(scope="module")
def auto() -> Cleaner:
    return load("auto")


class Unverified(ImageSelector):
    """Takes every result: what the stand-ins do to an image would be rejected."""

    def reject_reason(self, *_: Any) -> str:
        return ""


@pytest.fixture
def halving(gain: Make) -> ImageSelector:
    """Distinguishable stand-ins: the model for noise halves, the one for blur quarters."""
    spec = {"modality": "image", "channels": 3}
    return Unverified({"photo": gain(0.5, **spec), "photo-sharp": gain(0.25, **spec)})


# ---- the decision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "blur_px", "sharpens", "model"),
    [
        (0.0, 0.0, True, "none"),
        (12.0, 0.3, True, "photo"),
        (12.0, 2.0, True, "photo-sharp"),
        (0.0, 2.0, True, "photo-sharp"),
        (0.0, 2.0, False, "none"),
        (12.0, 2.0, False, "photo"),
        (40.0, 2.0, True, "photo"),  # too noisy to sharpen
    ],
)
def test_what_is_chosen(sigma: float, blur_px: float, sharpens: bool, model: str) -> None:
    decision = select(sigma, blur_px, sharpens=sharpens)
    assert (decision.model, decision.estimated_sigma, decision.estimated_blur_px) == (model, sigma, blur_px)
    assert decision.reason.startswith(f"{model}: noise of about {sigma:g}/255")
    assert ("blur of about 2.0 px" in decision.reason) == (blur_px >= BLURRED_PX)


@pytest.mark.parametrize(
    ("measured", "model", "strength"),
    [
        ((0.79, 0.0), "none", 1.0),
        ((0.81, 0.0), "photo", 0.0125),
        ((1.59, 0.0), "photo", 0.9875),
        ((1.61, 0.0), "photo", 1.0),
        ((0.4, 1.49), "none", 1.0),
        ((0.4, 1.51), "photo-sharp", 1.0),
        ((1.7, 0.84), "photo", 1.0),
        ((1.7, 0.86), "photo-sharp", 1.0),
        ((2.1, 1.14), "photo", 1.0),
        ((2.1, 1.16), "photo-sharp", 1.0),
        ((19.9, 2.0), "photo-sharp", 1.0),
        ((20.1, 2.0), "photo", 1.0),
        ((0.0, 0.0, 82.0), "none", 1.0),
        ((0.0, 0.0, 80.0), "photo", 1.0),
    ],
)
def test_each_bound(measured: tuple[float, ...], model: str, strength: float) -> None:
    selection = select(*measured, sharpens=True)
    assert (selection.model, selection.strength) == (model, pytest.approx(strength))


def test_the_selector_passes_on_what_it_measures(auto: Cleaner) -> None:
    image = noisy(photo("coffee.png"), 12).transpose(2, 0, 1)
    selection = auto.apply(image, peak=255.0)[1]
    assert selection.model == "photo"
    assert selection.figures == {
        "estimated_sigma": pytest.approx(12, abs=0.5),
        "estimated_blur_px": pytest.approx(0, abs=BLURRED_PX),
        "estimated_jpeg_quality": 100.0,
    }


def test_a_proven_blur_is_sharpened_unless_parts_differ() -> None:
    lens = LensBlur(3.0, 1.5, 1.8)
    assert select(0.1, 0.0, sharpens=True, lens=lens).model == "photo-sharp"
    assert select(0.1, 0.0, sharpens=True, lens=lens).estimated_sigma == 1.8
    assert "out of focus by a radius of about 3.0 px" in select(0.1, 0.0, sharpens=True, lens=lens).reason
    uneven = select(0.1, 0.0, sharpens=True, lens=replace(lens, other_parts=2))
    assert uneven.model == "photo"
    assert "parts" in uneven.reason


def test_the_strength_has_no_cliff() -> None:
    sigmas = np.linspace(0, 4, 401)
    decisions = [select(sigma, 0.0, sharpens=False) for sigma in sigmas]
    strengths = [d.strength * (d.model == "photo") for d in decisions]
    assert all(0 <= b - a < 0.02 for a, b in pairwise(strengths))
    assert (strengths[0], strengths[-1]) == (0, 1)
    middle = select((FAINT_SIGMA + CLEAR_SIGMA) / 2, 0.0, sharpens=False)
    assert middle.reason == "photo: noise of about 1.2/255, not blurred as a whole: cleaned by 50 %"


def test_the_strength_scales_the_correction(halving: ImageSelector, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.full((16, 16), 0.8)
    image[0] = 0.4
    monkeypatch.setattr(ImageSelector, "select", lambda *_: ImageSelection("photo", 0.5, "", 255.0, 0.0))
    cleaner = Cleaner("auto", halving, "")
    np.testing.assert_allclose(cleaner.clean(image), 0.75 * image, rtol=1e-5)
    np.testing.assert_allclose(cleaner.clean(image, strength=0.5), 0.875 * image, rtol=1e-5)


def rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize(("dtype", "peak"), [(np.uint8, 255), (np.uint16, 65535), (np.float32, 1)])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_no_more_is_removed_than_there_is_noise(
    halving: ImageSelector, monkeypatch: pytest.MonkeyPatch, dtype: type, peak: float, strength: float
) -> None:
    monkeypatch.setattr(ImageSelector, "select", lambda *_: ImageSelection("photo", 1.0, "", 4.0, 0.0))
    stripes = np.zeros((640, 96, 3))
    stripes[::2, 48:] = 40 / 255  # half of the picture: the mean square is twice that of the plain half
    stripes[:, :48] = 20 / 255
    image = np.rint(peak * stripes).astype(dtype) if peak > 1 else stripes.astype(dtype)
    removed = (image.astype(float) - Cleaner("auto", halving, "").clean(image, strength=strength)) / peak
    share = 1.1 / 1.5  # a plain block is estimated to hold 1.1 of the noise, and 1.5 were removed
    np.testing.assert_allclose(removed, strength * share * image / peak / 2, atol=1.1 / 255)
    rounding = 0.3 / peak if strength == 1 else 1.6 / peak  # a part of what was rounded is rounded again
    assert rms(removed) == pytest.approx(strength * share * rms(image / peak) / 2, rel=0.02, abs=rounding)


def faint(sigma: float = 3.0) -> ImageSelection:
    return ImageSelection("photo", 1.0, "", sigma, 0.0)


def test_texture_that_was_removed_with_the_noise_is_given_back() -> None:
    rng = np.random.default_rng(0)
    noise, texture = rng.normal(0, 3, (3, 128, 192)), rng.normal(0, 6, (3, 128, 192))
    texture[:, :, :96] = 0
    truth = 100 + texture
    share = texture_gain(faint(), truth + noise, np.full_like(truth, 100.0))
    assert share == pytest.approx(9 / (9 + 18), rel=0.15)
    errors = [rms(truth + (1 - kept) * noise - kept * texture - truth) for kept in (share, 0.5, 1.0, 0.0)]
    assert errors[0] == min(errors)


def test_noise_that_grows_with_the_brightness_is_no_texture() -> None:
    ramp = np.tile(np.linspace(20, 200, 192), (3, 128, 1))
    noise = np.sqrt(ramp) / 4 * np.random.default_rng(0).normal(size=ramp.shape)
    assert texture_gain(faint(), ramp + noise, ramp) > 0.95


def test_strong_noise_is_removed_wholly() -> None:
    noisy, cleaned = np.full((2, 3, 64, 64), 9.0)
    noisy[:, ::2, 48:] = 0
    shares = [texture_gain(faint(sigma), noisy, cleaned) for sigma in (3.0, 4.0, 5.0, 6.0, 20.0)]
    least = shares[0]
    assert least < 0.2
    assert shares == pytest.approx([least, least, (1 + least) / 2, 1.0, 1.0])


@pytest.mark.parametrize("size", [(1, 1), (15, 40), (16, 16), (17, 300)])
def test_pictures_of_few_blocks(size: tuple[int, int]) -> None:
    noisy = np.random.default_rng(0).normal(size=(3, *size))
    assert 0 < texture_gain(faint(), noisy, np.zeros_like(noisy)) <= 1
    assert texture_gain(faint(), noisy, noisy) == 1  # nothing was removed


def test_a_coarse_jpeg_is_cleaned_and_a_fine_one_is_not() -> None:
    coarse, fine = (select(0.1, 0.0, quality, sharpens=True) for quality in (50.0, 95.0))
    assert (coarse.model, coarse.strength, coarse.estimated_jpeg_quality) == ("photo", 1.0, 50.0)
    assert coarse.reason == "photo: noise of about 0.1/255, not blurred as a whole, JPEG of quality about 50"
    assert (fine.model, fine.reason) == (
        "none",
        "none: noise of about 0.1/255, not blurred as a whole: left as it is",
    )


def test_the_kind_of_blur_model_is_used_where_it_ships(gain: Make) -> None:
    image = photo("coffee.png")
    blurred = np.rint(ndimage.gaussian_filter(image.astype(float), (2, 2, 0))).astype(np.uint8)
    spec = {"modality": "image", "channels": 3}
    models = {"photo": gain(1.0, **spec), "photo-sharp": gain(0.25, **spec)}  # the first finds no noise
    cleaner = Cleaner("auto", Unverified(models), "")
    np.testing.assert_allclose(cleaner.clean(blurred), blurred / 4, atol=1)  # black areas stay as they are
    np.testing.assert_array_equal(cleaner.clean(image), image)


# ---- do no harm ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(path.name for path in PHOTOS.iterdir()))
def test_clean_photos_are_left_as_they_are(auto: Cleaner, name: str) -> None:
    image = photo(name)
    np.testing.assert_array_equal(auto.clean(image), image)
    if image.dtype == np.uint8:
        for quality in (90, 97):
            jpeg = as_jpeg(image, quality)
            assert psnr_db(auto.clean(jpeg), jpeg) >= 45


@pytest.mark.parametrize("sigma", [6])
def test_bricks_are_not_sharpened(auto: Cleaner, sigma: float) -> None:
    bricks = skimage.data.brick()[:256, :256]  # whose pattern gives the same wrong kernel twice
    before = noisy(bricks, sigma)
    assert psnr_db(auto.clean(before), bricks) > psnr_db(before, bricks) - 0.1


def test_grass_is_not_taken_for_noise(auto: Cleaner) -> None:
    grass = skimage.data.grass()[:256, :256]
    before = noisy(grass, 6)
    assert psnr_db(auto.clean(before), grass) > psnr_db(before, grass) - 0.1


def cloth() -> Array:
    """Threads over and under each other, in light that changes, and no thread like the next."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[:224, :224]
    over = (row // 5 + column // 5) % 2 < 1
    threads = np.where(over, np.sin(np.pi * (column % 5) / 5), 0.75 * np.sin(np.pi * (row % 5) / 5))
    uneven = 1 + 0.15 * np.where(over, rng.normal(size=45)[column // 5], rng.normal(size=45)[row // 5])
    light = 120 + 12 * np.sin(row / 60) * np.cos(column / 70)
    shade = light + 15 * (ndimage.gaussian_filter(threads, 0.6) * uneven - 0.5)
    return np.rint(shade[..., None] * np.array([0.95, 1.0, 0.85])).clip(0, 255).astype(np.uint8)


def stone() -> Array:
    """Rendered balls of grainy stone."""
    rng = np.random.default_rng(2002)
    row, column = np.mgrid[:224, :224]
    picture = np.array([150.0, 110, 90]) + 0.1 * row[..., None]
    for top, left, radius in ((60, 70, 45), (150, 140, 60), (60, 180, 30)):
        ball = (row - top) ** 2 + (column - left) ** 2 < radius**2
        picture[ball] = rng.uniform(60, 200, 3) * (0.8 + (column[ball, None] - left) / (3 * radius))
    grain = ndimage.gaussian_filter(rng.normal(size=row.shape), 0.6)
    picture += 7 * (grain / grain.std())[..., None] * np.array([1, 0.9, 0.8])
    return np.rint(picture.clip(0, 255)).astype(np.uint8)


def soft_leaves() -> Array:
    """Leaves without an edge, as soft by themselves as others are under a blur."""
    rng = np.random.default_rng(3)
    field = sum(
        size * ndimage.gaussian_filter(rng.normal(size=(224, 224)), size, mode="wrap") * height
        for size, height in ((1.2, 50), (2.5, 56), (6, 50))
    )
    return np.rint((110 + field[..., None] * np.array([0.8, 1, 0.5])).clip(0, 255)).astype(np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        cloth,
        lambda: cloth()[..., 1],
        stone,
        lambda: skimage.data.coins()[:256, :256],
        lambda: skimage.data.page()[:, :256],
    ],
    ids=["cloth", "gray cloth", "stone", "coins", "page"],
)
def test_textures_and_scans_keep_every_sample(auto: Cleaner, picture: Callable[[], Array]) -> None:
    clean = picture()
    np.testing.assert_array_equal(auto.clean(clean), clean)


@pytest.mark.parametrize(
    "picture",
    [cloth, stone, soft_leaves, lambda: skimage.data.grass()[:224, :224]],
    ids=["cloth", "stone", "leaves", "grass"],
)
def test_textures_do_not_become_worse_by_jpeg_or_noise(auto: Cleaner, picture: Callable[[], Array]) -> None:
    clean = picture()
    for given in (as_jpeg(clean, 85), noisy(clean, 3)):
        assert psnr_db(auto.clean(given), clean) > psnr_db(given, clean) - 0.1


def test_a_soft_scene_is_not_sharpened(auto: Cleaner) -> None:
    moon = skimage.data.moon()[:256, :256]
    before = noisy(moon, 3)
    assert psnr_db(auto.clean(before), moon) > psnr_db(before, moon) + 3


def test_noise_that_was_enlarged_with_the_picture_is_not_sharpened(auto: Cleaner) -> None:
    clean = skimage.data.chelsea()[:160, :160]
    small, enlarged = (
        skimage.transform.resize(image, (320, 320), order=1, preserve_range=True)
        for image in (noisy(clean, 10), clean)
    )
    image = np.rint(small).astype(np.uint8)
    assert psnr_db(auto.clean(image), enlarged) > psnr_db(image, enlarged) + 3


def test_white_noise_that_is_the_same_in_all_channels_is_removed(auto: Cleaner) -> None:
    clean = skimage.data.coffee()[:256, :256]
    noise = np.random.default_rng(2).normal(0, 12, (256, 256, 1))
    before = np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)
    assert psnr_db(auto.clean(before), clean) > psnr_db(before, clean) + 3


def test_strong_noise_is_removed_from_a_page(auto: Cleaner) -> None:
    page = skimage.data.page()[:, :192]  # whose letters have the tails of texture
    before = noisy(page, 15)
    assert psnr_db(auto.clean(before), page) > psnr_db(before, page) + 4


def test_graphics_are_left_as_they_are(auto: Cleaner) -> None:
    row, column = np.mgrid[:160, :240]
    screen = np.full((160, 240, 3), 250, np.uint8)
    screen[20:120, 30:100] = (40, 90, 160)
    screen[10:150:9, 110:230:2] = 60
    ramp = np.stack([column, row, (row + column) // 2], -1).astype(np.uint8)
    checks = np.where((row // 4 + column // 4)[..., None] % 2, 220, [20, 60, 90]).astype(np.uint8)
    for drawing in (screen, ramp, checks, np.full((80, 90), 77, np.uint8)):
        np.testing.assert_array_equal(auto.clean(drawing), drawing)
        jpeg = as_jpeg(drawing, 90)
        assert psnr_db(auto.clean(jpeg), jpeg) >= 45


@pytest.mark.parametrize(("name", "gain_db"), [("coffee.png", 0.3), ("camera.tiff", 0.5)])
def test_noise_of_sigma_3_is_cleaned(auto: Cleaner, name: str, gain_db: float) -> None:
    image = photo(name)  # much of coffee resembles noise
    before = noisy(image, 3)
    assert psnr_db(auto.clean(before), image) > psnr_db(before, image) + gain_db


def test_what_is_no_number_is_refused(auto: Cleaner) -> None:
    for value in (np.nan, np.inf):
        image = np.full((32, 32), 0.5)
        image[3, 4] = value
        with pytest.raises(InputError, match="row 3, column 4"):
            auto.clean(image)


def test_it_is_not_for_sensors_and_takes_no_sigma(auto: Cleaner) -> None:
    with pytest.raises(UsageError, match="auto finds the noise level itself"):
        auto.clean(np.zeros((16, 16)), sigma=5.0)
    with pytest.raises(UsageError, match="auto cleans image and audio, not sensor"):
        load("auto", "sensor")


# ---- files -----------------------------------------------------------------------------------------------


def save(path: Path, *pages: Array) -> Path:
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(path, **({"save_all": True, "append_images": rest} if rest else {}))
    return path


def test_a_file_tells_what_was_decided(tmp_path: Path) -> None:
    source = save(tmp_path / "in.png", noisy(photo("coffee.png"), 12))
    report = clean_file(source, tmp_path / "out.png")
    assert report.model == "photo"
    assert report.metrics["estimated_sigma"] == pytest.approx(12, abs=0.5)
    assert report.metrics["estimated_sigma"] == report.metrics["estimated_sigma_before"]
    assert report.metrics["estimated_sigma_after"] < 2
    assert report.metrics["estimated_blur_px"] < BLURRED_PX
    assert report.notes == ("photo: noise of about 12/255, not blurred as a whole",)


def test_each_page_is_decided_on(tmp_path: Path) -> None:
    page = photo("coffee.png")[:120, :150]
    source = save(tmp_path / "in.tif", page, page, noisy(page, 20))
    report = clean_file(source, tmp_path / "out.tif")
    assert report.model == "none and photo"
    assert [note.partition(" of about")[0] for note in report.notes] == [
        "page 1: none: noise",
        "page 3: photo: noise",
    ]
    with denoise.io.reader(tmp_path / "out.tif") as reader:
        pages = list(reader)
    np.testing.assert_array_equal(pages[1], page.transpose(2, 0, 1))
    assert (pages[2] != pages[0]).any()


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], prog_name="denoise")
    return result.exit_code, result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    image = photo("coffee.png")[:160, :160]
    save(tmp_path / "in" / "clean.png", image)
    save(tmp_path / "in" / "noisy.png", noisy(image, 12))
    return tmp_path


def rows(folder: Path, *options: str) -> dict[str, dict[str, Any]]:
    code, output = run("clean", folder / "in", "-o", folder / "out", "--json", folder / "rows.json", *options)
    assert code == 0, output
    return {row["key"]: row for row in json.loads((folder / "rows.json").read_text())["rows"]}


def test_the_default_and_its_rows(folder: Path) -> None:
    found = rows(folder)
    assert [found[key]["model"] for key in ("clean.png", "noisy.png")] == ["none", "photo"]
    assert found["clean.png"]["notes"][0].endswith("not blurred as a whole: left as it is")
    assert found["noisy.png"]["metrics"]["estimated_sigma"] == pytest.approx(12, abs=0.5)
    for name in ("in", "out"):
        pixels = np.asarray(Image.open(folder / name / "clean.png"))
        np.testing.assert_array_equal(pixels, photo("coffee.png")[:160, :160])
    assert {row["status"] for row in rows(folder, "--model", "auto").values()} == {"skipped"}


def test_fast_cleans_by_the_fast_model_and_verifies_as_the_default_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clean = photo("coffee.png")[:160, :160]
    blurred = ndimage.gaussian_filter(clean.astype(float), (2, 2, 0))
    save(folder / "in" / "blurred.png", np.rint(blurred).astype(np.uint8))
    found = rows(folder, "--fast")
    assert {key: row["model"] for key, row in found.items()} == {
        "clean.png": "none",
        "noisy.png": "photo-fast",
        "blurred.png": "none",
    }
    assert found["noisy.png"]["notes"][0].startswith("photo-fast: noise of about 12/255")
    assert found["noisy.png"]["precision"]
    result = np.asarray(Image.open(folder / "out" / "noisy.png"))
    assert psnr_db(result, clean) > psnr_db(noisy(clean, 12), clean) + 4
    monkeypatch.setattr("denoise.infer.select_image.reject_cleaned", lambda *_, **__: "it followed edges")
    dropped = rows(folder, "--fast", "--overwrite")["noisy.png"]
    assert dropped["model"] == "none"
    assert "photo-fast was tried and dropped: it followed edges" in dropped["notes"][0]


def test_a_new_model_to_choose_from_does_the_files_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows(folder)
    shipped = weights.pretrained()
    monkeypatch.setattr(weights, "pretrained", lambda: {**shipped, "photo-sharp": shipped["photo"]})
    assert {row["status"] for row in rows(folder).values()} == {"ok"}


def test_the_command_line_lists_it_refuses_sigma_and_compares_it(folder: Path) -> None:
    listed = run("models")[1].splitlines()
    assert any(line.split()[:4] == ["auto", "image,", "audio", "automatic"] for line in listed)
    picks = set(json.loads(run("models", "show", "auto", "--json", "-")[1])["picks"])
    assert picks == {"photo", "photo-sharp", "speech", "field", "none"}
    code, output = run("clean", folder / "in", "-o", folder / "out", "--sigma", "5")
    assert (code, "finds the noise level itself" in output) == (2, True)
    code, output = run(
        "benchmark", folder / "in" / "clean.png", "--noise", "gaussian:sigma=25", "--models", "auto,photo"
    )
    assert code == 0, output
    automatic, plain = (
        next(line.split() for line in output.splitlines() if line.split()[:1] == [name])
        for name in ("auto", "photo")
    )
    assert automatic[1:3] == plain[1:3]


@pytest.mark.parametrize("options", [{}, {"model": "none"}, {"model": "photo", "strength": 0}])
def test_what_is_left_as_it_is_keeps_its_bytes(tmp_path: Path, options: dict[str, Any]) -> None:
    source, copy = tmp_path / "in.jpg", tmp_path / "out.jpg"
    Image.fromarray(photo("coffee.png")).save(source, "JPEG", quality=95, comment=b"kept")
    clean_file(source, copy, **options)
    assert copy.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("reason", [f"{RAISED_NOISE} of flat parts from 1 to 9/255", "blurred again"])
def test_a_rejected_result_makes_way_for_the_next_milder_one(reason: str, gain: Make) -> None:
    spec = {"modality": "image", "channels": 3}
    selector = ImageSelector({"photo": gain(0.5, **spec), "photo-sharp": gain(3.0, **spec)})
    selection = select(3.0, 2.0, sharpens=True)
    tried = [(selection.model, selection.strength)]
    while selection.model != "none":
        selection = selector.next_milder(selection, reason)
        tried.append((selection.model, selection.strength))
    half = [("photo-sharp", 0.5)] if reason.startswith(RAISED_NOISE) else []  # wrong contours stay wrong
    assert tried == [("photo-sharp", 1.0), *half, ("photo", 1.0), ("none", 1.0)]
    assert selection.reason.count(f"dropped: {reason}") == len(tried) - 1
    assert selection.reason.endswith("left as it is")
