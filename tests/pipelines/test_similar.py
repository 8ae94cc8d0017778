"""`denoise similar`: the nearest files of an archive of codes, and near-duplicates."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.explore.code_map import project

Run = Callable[..., Any]
QUICK = ("--code-size", 4, "--steps", 60)


@pytest.fixture
def archive(tmp_path: Path, denoise: Run) -> Path:
    """Codes of twelve pictures of horizontal and twelve of vertical bars, one of them there twice."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("lying", "standing"):
        for number in range(12):
            picture = rng.normal(30, 5, (12, 12))
            start = rng.integers(1, 9)
            picture[start : start + 3] += 180
            picture = picture if name == "lying" else picture.T
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{name}{number:02}.png")
    (folder / "copy.png").write_bytes((folder / "lying03.png").read_bytes())
    out = tmp_path / "codes.npz"
    result = denoise("embed", folder, "-o", out, "--code-size", 4, "--steps", 60)
    assert result.exit_code == 0, result.output
    return out


def test_a_picture_is_next_to_its_kind_and_grouped_with_its_copy(archive: Path, denoise: Run) -> None:
    result = denoise("similar", archive.parent / "in" / "lying03.png", "--in", archive, "-k", 6)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {name for _, name in lines[:2]} == {"copy.png", "lying03.png"}
    assert [cosine for cosine, _ in lines[:2]] == ["1.000", "1.000"]
    assert [float(cosine) for cosine, _ in lines] == sorted((float(c) for c, _ in lines), reverse=True)
    assert len(lines) == 6
    assert sum(name.startswith(("lying", "copy")) for _, name in lines) >= 5

    result = denoise("similar", "--in", archive)
    assert result.exit_code == 0
    assert result.stdout.endswith(("\n1 group of near-duplicates\n", " groups of near-duplicates\n"))
    assert any({"copy.png", "lying03.png"} <= set(line.split()) for line in result.stdout.splitlines())
    for arguments, sentence in (
        (("--in", archive, "-k", 3), "--count cannot be set without FILE"),
        ((archive, "--in", archive), "is sensor, expected image"),
    ):
        refused = denoise("similar", *arguments)
        assert refused.exit_code != 0
        assert sentence in refused.output + refused.stderr


def test_pages_of_one_colour_are_alike_only_in_that_colour(tmp_path: Path, denoise: Run) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, level in (("black", 0), ("black2", 0), ("gray", 120), ("white", 255)):
        Image.new("L", (16, 16), level).save(folder / f"{name}.png")
    for number in range(20):
        Image.fromarray(rng.integers(0, 256, (16, 16), np.uint8)).save(folder / f"noise{number}.png")
    out = tmp_path / "codes.npz"
    embedded = denoise("embed", folder, "-o", out, *QUICK)
    assert embedded.exit_code == 0, embedded.output
    result = denoise("similar", "--in", out)
    assert [line.split() for line in result.stdout.splitlines() if ".png" in line] == [
        ["black.png", "black2.png"]
    ]


@pytest.mark.parametrize("encoder", [("--pretrained", "photo"), QUICK])
def test_copies_of_a_photo_are_found_and_other_photos_are_not(
    tmp_path: Path, denoise: Run, encoder: tuple[Any, ...]
) -> None:
    """Compressed, halved, brighter, noisy and slightly cropped copies, in any archive but a quantised one."""
    folder, names = tmp_path / "in", []
    folder.mkdir()
    for source in sorted(Path("data/samples/photos").glob("*.png"))[:3]:
        photo = Image.open(source).convert("RGB")
        noise = np.random.default_rng(0).normal(0, 10, (photo.height, photo.width, 3))
        copies = {
            "as_it_is.png": photo,
            "compressed.jpg": photo,
            "halved.png": photo.resize((photo.width // 2, photo.height // 2), Image.Resampling.LANCZOS),
            "brighter.png": photo.point(lambda value: min(255, round(1.1 * value))),
            "noisy.png": Image.fromarray((np.asarray(photo) + noise).clip(0, 255).astype(np.uint8)),
            "cropped.png": photo.crop(
                (photo.width // 100, photo.height // 100, photo.width * 99 // 100, photo.height * 99 // 100)
            ),
        }
        for name, copy in copies.items():
            copy.save(folder / f"{source.stem}_{name}", quality=50)
        names.append({f"{source.stem}_{name}" for name in copies})
    out = tmp_path / "codes.npz"
    assert denoise("embed", folder, "-o", out, *encoder).exit_code == 0
    lines = denoise("similar", "--in", out).stdout.splitlines()
    assert lines[-1] == "3 groups of near-duplicates"
    assert sorted(map(sorted, names)) == sorted(sorted(line.split()) for line in lines[:-1])


def test_an_archive_of_two_equal_logs_is_one_group(tmp_path: Path, denoise: Run) -> None:
    values = "x\n" + "".join(f"{np.sin(n / 5):.4f}\n" for n in range(600))
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.csv").write_text(values)
    out = tmp_path / "codes.npz"
    assert denoise("embed", tmp_path / "in", "-o", out, "--pretrained", "sensor").exit_code == 0
    assert denoise("similar", "--in", out).stdout == "a.csv  b.csv\n1 group of near-duplicates\n"


def test_a_shipped_encoder_needs_no_training(archive: Path, tmp_path: Path, denoise: Run) -> None:
    folder, out, page = archive.parent / "in", tmp_path / "p.npz", tmp_path / "map.html"
    made = denoise("embed", folder, "-o", out, "--pretrained", "photo", "--report", page)
    assert made.exit_code == 0, made.output
    assert "SNR" not in made.stdout
    assert out.stat().st_size < 300_000  # the archive names its model and does not hold it
    result = denoise("similar", folder / "lying03.png", "--in", out, "-k", 4)
    assert result.exit_code == 0, result.output
    names = [line.split()[1] for line in result.stdout.splitlines()]
    assert set(names[:2]) == {"copy.png", "lying03.png"}
    assert all(name.startswith("lying") for name in names[2:])
    html = page.read_text("utf-8")
    assert html.count("<image ") == 25
    assert "lying03.png</title>" in html
    refused = denoise("reconstruct", out, "-o", tmp_path / "back")
    assert refused.exit_code == 2
    assert "cannot be decoded" in refused.stderr
    for other in ("--model", "--save-model"):
        path = tmp_path / "m.safetensors"
        both = denoise("embed", folder, "-o", tmp_path / "q.npz", "--pretrained", "photo", other, path)
        assert both.exit_code == 2
        assert "--pretrained cannot be combined" in both.stderr


def test_a_projection_that_is_not_installed_names_its_extra(
    archive: Path, tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    map_ = ("--plot", tmp_path / "map.png", "--projection")
    result = denoise("embed", archive.parent / "in", "-o", tmp_path / "q.npz", *QUICK, *map_, "umap")
    assert result.exit_code == 2
    assert "denoise-pipelines[maps]" in result.stderr


@pytest.mark.parametrize("projection", ["pca", "tsne"])
def test_two_clouds_of_codes_stay_apart_on_a_map(projection: str) -> None:
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.normal(5, 1, (15, 8)), rng.normal(-5, 1, (15, 8))]).astype(np.float32)
    points = project(codes, projection)
    middles = points[:15].mean(0), points[15:].mean(0)
    nearer = [[np.linalg.norm(point - m) for m in middles] for point in points]
    assert np.array_equal(np.argmin(nearer, 1), np.arange(30) // 15)
