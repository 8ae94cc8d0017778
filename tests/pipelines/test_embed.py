"""`denoise embed` and `denoise reconstruct` on folders."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from denoise.analysis.segments import Segmentation
from pipelines.explore.segments import default_segmentation, find, fit_embedding, sample

Run = Callable[..., Any]
QUICK = ("--code-size", 4, "--steps", 60)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Two folders of small pictures: horizontal bars and vertical bars."""
    rng = np.random.default_rng(0)
    for folder in ("lying", "standing"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        for number in range(12):
            picture = rng.normal(30, 5, (12, 12))
            start = rng.integers(1, 9)
            picture[start : start + 3] += 180
            picture = picture if folder == "lying" else picture.T
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(
                tmp_path / "in" / folder / f"{number:02}.png"
            )
    return tmp_path / "in"


def test_codes_as_table_archive_and_map(shapes: Path, tmp_path: Path, denoise: Run) -> None:
    out, model = tmp_path / "out", tmp_path / "m.safetensors"
    result = denoise(
        "embed", shapes, "-o", out / "a.csv", *QUICK, "--plot", out / "map.png", "--save-model", model
    )
    assert result.exit_code == 0, result.output
    assert "24 files, 24 codes of 4 numbers" in result.stdout
    assert "model fitted on 24 windows" in result.stdout
    rows = np.genfromtxt(out / "a.csv", delimiter=",", names=True, dtype=None, encoding=None)
    assert (out / "a.csv").read_text().splitlines()[0].split(",") == [
        "file",
        "page",
        "channel",
        "row_px",
        "column_px",
        *(f"code{n}" for n in range(4)),
    ]
    assert rows["file_"][0] == "lying/00.png"
    with Image.open(out / "map.png") as picture:
        assert len(picture.convert("RGB").getcolors(10**6) or ()) > 10
    again = denoise("embed", shapes, "-o", out / "a.parquet", "--model", model)
    assert again.exit_code == 0
    assert "given model;" in again.stdout
    table = pyarrow.parquet.read_table(out / "a.parquet")
    np.testing.assert_array_equal(table["code3"].to_numpy(), rows["code3"].astype(np.float32))


def test_a_model_that_was_learned_tells_from_what(shapes: Path, tmp_path: Path, denoise: Run) -> None:
    model = tmp_path / "m.safetensors"
    assert denoise("embed", shapes, "-o", tmp_path / "c.npz", *QUICK, "--save-model", model).exit_code == 0
    shown = json.loads(denoise("models", "show", model, "--json", "-").stdout)
    layers = [144, 256, 128, 4, 128, 256, 144]
    assert shown["parameters"] == sum((a + 1) * b for a, b in itertools.pairwise(layers))
    assert {"multiply_adds_per_pixel", "receptive_field", "config", "training"} <= set(shown)
    assert shown["learned"].keys() == {"files", "excerpts", "data_digest", "channels"}
    assert shown["results"]["snr_db"] > 0
    assert denoise("models", "verify", model).exit_code == 0


def test_files_unlike_those_that_a_model_was_fitted_on_are_named(tmp_path: Path, denoise: Run) -> None:
    times = np.arange(600)

    def log(name: str, column: str, rate_hz: int) -> Path:
        rows = (f"{n / rate_hz:.2f},{np.sin(n / 7):.4f}\n" for n in times)
        (tmp_path / name).write_text(f"time,{column}\n" + "".join(rows))
        return tmp_path / name

    fitted = log("a.csv", "x", 100), log("b.csv", "x", 100)
    model, archive = tmp_path / "m.safetensors", tmp_path / "c.npz"
    made = denoise("embed", *fitted, "-o", archive, *QUICK, "--save-model", model)
    assert made.exit_code == 0, made.output
    slow, other = log("slow.csv", "x", 10), log("other.csv", "y", 100)
    column = "other.csv: its columns y are none of those that the model was fitted on: x"
    rate = "slow.csv: its sample rate is 10 Hz; the model was fitted on 100 Hz"
    again = denoise("embed", *fitted, slow, other, "-o", tmp_path / "d.csv", "--model", model)
    assert [line for line in again.stdout.splitlines() if "fitted on" in line] == [rate, column]
    for file, notes in ((fitted[0], ""), (slow, f"{tmp_path}/{rate}\n"), (other, f"{tmp_path}/{column}\n")):
        found = denoise("similar", file, "--in", archive, "--model", model)
        assert found.exit_code == 0, found.output
        assert found.stderr == notes


def test_a_model_of_gray_pictures_names_a_coloured_one(shapes: Path, tmp_path: Path, denoise: Run) -> None:
    model, colour = tmp_path / "m.safetensors", tmp_path / "colour.png"
    assert denoise("embed", shapes, "-o", tmp_path / "c.npz", *QUICK, "--save-model", model).exit_code == 0
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)).save(colour)
    found = denoise("embed", colour, "-o", tmp_path / "d.npz", "--model", model)
    assert found.exit_code == 0, found.output
    assert "colour.png: it has 3 channels; the model was fitted on pictures of 1" in found.stdout


def test_files_go_in_and_come_back(shapes: Path, tmp_path: Path, denoise: Run) -> None:
    assert (
        denoise("embed", shapes, "-o", tmp_path / "c.npz", "--quantize", 8, "--window", 12, *QUICK).exit_code
        == 0
    )
    result = denoise("reconstruct", tmp_path / "c.npz", "-o", tmp_path / "back")
    assert result.exit_code == 0
    assert "24 files" in result.stdout
    for path in shapes.rglob("*.png"):
        truth = np.asarray(Image.open(path)).astype(float)
        back = np.asarray(Image.open(tmp_path / "back" / path.relative_to(shapes))).astype(float)
        assert np.corrcoef(truth.ravel(), back.ravel())[0, 1] > 0.7
    refused = denoise("reconstruct", tmp_path / "c.npz", "-o", tmp_path / "back")
    assert refused.exit_code == 2
    assert "--overwrite replaces it" in refused.stderr
    assert denoise("reconstruct", tmp_path / "c.npz", "-o", tmp_path / "back", "--overwrite").exit_code == 0


def test_an_archive_names_the_model_that_it_does_not_hold(shapes: Path, tmp_path: Path, denoise: Run) -> None:
    model = tmp_path / "m.safetensors"
    made = denoise("embed", shapes, "-o", tmp_path / "c.npz", *QUICK, "--save-model", model)
    assert made.exit_code == 0
    model.rename(tmp_path / "moved.safetensors")
    lost = denoise("reconstruct", tmp_path / "c.npz", "-o", tmp_path / "back")
    assert lost.exit_code == 1
    assert "no such file; expected the weights" in lost.stderr
    back = ("reconstruct", tmp_path / "c.npz", "-o", tmp_path / "back", "--model")
    assert (
        denoise(
            "embed", shapes, "-o", tmp_path / "d.npz", *QUICK, "--seed", 1, "--save-model", model
        ).exit_code
        == 0
    )
    other = denoise(*back, model)
    assert other.exit_code == 1
    assert "their digests differ" in other.stderr
    assert denoise(*back, tmp_path / "moved.safetensors").exit_code == 0


def test_a_bad_file_is_told_and_the_rest_goes_on(shapes: Path, tmp_path: Path, denoise: Run) -> None:
    (shapes / "standing" / "bad.png").write_bytes((shapes / "standing" / "00.png").read_bytes()[:60])
    result = denoise("embed", shapes, "-o", tmp_path / "c.csv", *QUICK)
    assert result.exit_code == 1
    assert "24 files" in result.stdout
    assert result.stderr.count("bad.png") == 1


def test_signals_of_a_mixed_folder_are_asked_for_by_kind(media: Path, tmp_path: Path, denoise: Run) -> None:
    refused = denoise("embed", media, "-o", tmp_path / "c.npz", *QUICK)
    assert refused.exit_code == 2
    assert "2 image and 1 sensor and 1 audio" in refused.stderr
    for kind, window in (("sensor", 50), ("audio", 0.01)):
        target = tmp_path / kind
        made = denoise("embed", media, "-o", target / "c.npz", *QUICK, "--kind", kind, "--window", window)
        assert made.exit_code == 0, made.output
        assert denoise("reconstruct", target / "c.npz", "-o", target).exit_code == 0
    assert (tmp_path / "sensor" / "s.csv").is_file()
    assert (tmp_path / "audio" / "t.wav").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-o", "c.txt"), "written as .npz or .csv or .parquet"),
        (("-o", "c.csv", "--quantize", 8), "expected .npz"),
        (("-o", "c.npz", "--plot", "map.jpg"), "written as .png"),
        (("-o", "c.npz", "--save-model", "m.bin"), "written as .safetensors"),
        (("-o", "c.npz", "--window", 0.2), "expected 1 to"),
        (("-o", "c.npz", "--model", "m.safetensors", "--seed", 3), "cannot be set with --model"),
        (("-o", "there.npz"), "--overwrite replaces it"),
        (("-o", "in/c.npz"), "the output is inside the input"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(
    shapes: Path, tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch, arguments: Any, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.npz").write_bytes(b"mine")
    result = denoise("embed", shapes, *arguments)
    assert result.exit_code == 2, result.output
    assert sentence in result.output
    assert (tmp_path / "there.npz").read_bytes() == b"mine"


@pytest.mark.parametrize(("window", "size"), [(20, (20, 20)), (70, (128, 128))])
def test_large_tiles_get_a_convolutional_network(shapes: Path, window: int, size: tuple[int, int]) -> None:
    files = find([shapes])
    cut = default_segmentation(files, window)
    assert cut.size == size
    embedding = fit_embedding(sample(files, cut, most=3), cut, 8, steps=1)
    assert embedding.model_.config()["backbone"] == ("dense" if window == 20 else "conv")
    assert embedding.transform(sample(files, cut)).shape == (24, 8)


def test_a_sample_is_bounded_and_fair(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.repeat(np.arange(1000.0), 4) + np.tile([0, 0.1, 0.2, 0.3], 1000))
    cut = Segmentation("sensor", (4,))
    found = sample(find([tmp_path]), cut, most=300, seed=1)
    assert found.shape == (300, 1, 4)
    assert len(np.unique(found[:, 0, 0])) == 300
    assert found[:, 0, 0].mean() == pytest.approx(500, abs=60)  # three and a half standard errors


def test_names_that_meet_stay_apart_and_none_leaves_the_folder(
    shapes: Path, tmp_path: Path, denoise: Run
) -> None:
    lying = shapes / "lying"
    Image.open(lying / "00.png").save(lying / "00.bmp")
    made = denoise(
        "embed", lying, "-o", tmp_path / "c.npz", *QUICK, "--save-model", tmp_path / "m.safetensors"
    )
    assert made.exit_code == 0
    assert denoise("reconstruct", tmp_path / "c.npz", "-o", tmp_path / "back").exit_code == 0
    assert {"00.png.png", "00.bmp.png", "01.png"} <= {path.name for path in (tmp_path / "back").iterdir()}
    with np.load(tmp_path / "c.npz") as archive:
        arrays = dict(archive)
    arrays["about"] = np.frombuffer(arrays["about"].tobytes().replace(b'"01.png"', b'"../x.png"'), np.uint8)
    arrays["source"] = arrays.pop("file")
    np.savez(tmp_path / "evil.npz", **arrays)
    result = denoise("reconstruct", tmp_path / "evil.npz", "-o", tmp_path / "safe")
    assert result.exit_code == 1
    assert "expected one below the folder" in result.stderr
    assert not (tmp_path / "x.png").exists()
