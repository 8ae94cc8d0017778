"""Estimates of time and size: of the right magnitude, and labelled as estimates."""

import os
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFilter

from denoise.infer.catalogue import load
from pipelines.batch import forecast, pace
from pipelines.batch.discover import Item
from pipelines.batch.store import Local


def item(source: str, destination: str, modality: str, size_bytes: int) -> Item:
    return Item(Path(source), Path(destination), destination, source, modality, size_bytes)


def test_a_photo_takes_about_what_its_pixels_take() -> None:
    rate = forecast.seconds_per_million("image", "photo", learned=True)
    cost = forecast.estimate(item("a.png", "a.png", "image", 24_000_000), rate)  # about 12 megapixels
    assert cost.estimated_bytes_out == cost.bytes_in == 24_000_000
    assert 6 < cost.estimated_seconds < 30
    assert forecast.estimate(item("a.jpg", "a.png", "image", 1000), rate).estimated_bytes_out == 5000


def test_the_headers_of_a_few_files_tell_how_many_pixels_a_byte_is(tmp_path: Path) -> None:
    for number in range(40):
        Image.new("RGB", (50, 40)).save(tmp_path / f"{number}.png")
    (tmp_path / "5.png").write_text("broken")
    items = [item(str(p), "x.png", "image", 500) for p in sorted(tmp_path.iterdir())]
    assert forecast.bytes_per_sample(items) == {".png": 500 / 2000}
    assert forecast.bytes_per_sample([item("gone.wav", "x.wav", "audio", 500)]) == {}


def test_the_pace_of_images_is_that_of_the_model_selected_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A drawing is left as it is, a photo with noise is cleaned, and a blurred one costs far more."""
    monkeypatch.setattr(pace, "_MAX_S", 1e9)
    photo = Image.fromarray(skimage.data.astronaut())
    noise = np.random.default_rng(0).normal(0, 1, (512, 512, 3))
    Image.new("RGB", (512, 512), "red").save(tmp_path / "a.bmp")
    for suffix, sigma, image in (
        (".png", 15, photo),
        (".tif", 1, photo.filter(ImageFilter.GaussianBlur(2))),
    ):
        noisy = np.asarray(image, float) + sigma * noise
        Image.fromarray(noisy.clip(0, 255).astype("uint8")).save(tmp_path / f"a{suffix}")
    (tmp_path / "b.png").write_text("broken")
    items = [item(str(p), "x", "image", 500) for p in (*sorted(tmp_path.iterdir()), "gone.jpg")]
    paces = pace.image_paces(load("auto", "image"), items)
    assert paces.keys() == {".bmp", ".png", ".tif"}
    assert paces[".bmp"] < 0.1 * paces[".png"]
    assert paces[".tif"] == pytest.approx(7 * paces[".png"])


def test_models_differ_as_the_documents_say() -> None:
    of = forecast.seconds_per_million
    assert (
        of("image", "nlm") > of("image", "photo", learned=True) > of("image", "wavelet") > of("image", "none")
    )
    assert of("audio", "anything") < of("audio", "speech", learned=True)


def test_costs_add_up() -> None:
    total = sum([forecast.Cost(1, 2, 0.5), forecast.Cost(10, 20, 0.25)], forecast.Cost())
    assert total.row() == {"bytes_in": 11, "estimated_bytes_out": 22, "estimated_seconds": 0.75}


def test_small_files_take_the_time_to_start_and_to_open_them() -> None:
    """`make demo`, 11 files of 1.6 MB that are 1.25 s of work by size, takes about 6 s on two idle cores."""
    assert 3 < forecast.duration_s(forecast.Cost(estimated_seconds=1.25), 11) < 12


def test_room_is_that_of_the_disk_that_will_hold_the_folder(tmp_path: Path) -> None:
    found = os.statvfs(tmp_path)
    free_bytes = Local(tmp_path / "not" / "there" / "yet").free_bytes()
    assert free_bytes == pytest.approx(found.f_bavail * found.f_frsize, rel=0.05)


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(0, "0 bytes"), (1500, "1.5 kB"), (2e9, "2 GB"), (3e15, "3e+03 TB")]
)
def test_sizes_are_for_people(size_bytes: float, text: str) -> None:
    assert forecast.bytes_text(size_bytes) == text
