"""Every network that ONNX Runtime runs: the same as in torch, with the same decisions; and without torch."""

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from denoise import weights
from denoise.arrays import Array
from denoise.errors import UsageError
from denoise.infer.apply import apply
from denoise.infer.catalogue import find, load, onnx_file
from denoise.infer.cleaner import Cleaner
from denoise.infer.runtime import runtime_for
from denoise.models.autoencoder import build
from denoise.models.onnx_network import OnnxNetwork
from denoise.models.table import PICKS, RUNTIMES
from denoise.options import CleanOptions

ROOT = Path(__file__).parents[2]
TORCH, ONNX = RUNTIMES
RUNS = sorted(name for name in (*PICKS, *weights.pretrained()) if onnx_file(find(name), "image"))
NETWORKS = sorted({*RUNS} - {*PICKS})


def noisy(height: int, width: int, sigma: float, seed: int = 0) -> Array:
    """A part of a photo with white noise, `(3, H, W)` of 8 bits."""
    photo = np.asarray(Image.open(ROOT / "data/samples/reference/photos/chelsea.jpg").convert("RGB"))
    noise = np.random.default_rng(seed).normal(0, sigma, (height, width, 3))
    part = photo[:height, :width]
    return np.rint((part + noise).clip(0, 255)).astype(np.uint8).transpose(2, 0, 1)


def test_the_networks_against_noise_have_a_graph() -> None:
    assert {"auto", "auto-fast", "photo", "photo-fast"} <= set(RUNS)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_runtimes_give_the_same_floats(name: str) -> None:
    image = noisy(90, 131, 20).astype(np.float32) / 255
    found, wanted = (
        apply(load(name, precision="float32", runtime=runtime).model, image, peak=1.0)  # type: ignore[arg-type]
        for runtime in (ONNX, TORCH)
    )
    assert np.abs(wanted - image).max() > 0.02
    assert np.abs(found - wanted).max() < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_in_onnx_are_parts_of_the_whole(name: str) -> None:
    image, model = noisy(300, 200, 20), load(name, runtime=ONNX).model
    whole = apply(model, image, peak=255.0)  # type: ignore[arg-type]
    assert np.array_equal(apply(model, image, peak=255.0, tile=72), whole)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"fold": 1},
        {"skips": False},
        {"residual": False},
        {"blocks": (1, 2)},
        {"channels": 1, "widths": (8,)},
    ],
)
def test_a_graph_is_its_network(changes: dict[str, Any]) -> None:
    config = {"modality": "image", "channels": 3, "widths": (8, 12), "fold": 2} | changes
    torch.manual_seed(0)
    network = build(**config).eval()
    kernels = {name: value.numpy() for name, value in network.state_dict().items()}
    images = np.random.default_rng(0).random((2, config["channels"], 24, 16), np.float32)
    other = OnnxNetwork(config, kernels)
    assert other.spec == network.spec
    assert np.abs(other.run(images) - network.run(images)).max() < 1e-5


@pytest.mark.parametrize("name", ["auto", "auto-fast"])
@pytest.mark.parametrize("sigma", [0.0, 2.0, 5.0, 25.0])
def test_both_runtimes_decide_alike(name: str, sigma: float) -> None:
    page = noisy(160, 176, sigma)
    (result, selection), (expected, wanted) = (
        load(name, "image", "float32", runtime=runtime).apply(page, peak=255.0) for runtime in (ONNX, TORCH)
    )
    assert (selection.model, selection.strength) == (wanted.model, wanted.strength)
    assert np.abs(result.astype(int) - expected).max() <= 1  # of what lies between two steps


def test_a_blurred_picture_is_sharpened_by_torch() -> None:
    page = np.asarray(Image.open(ROOT / "data/samples/photos/camera.tiff"))[None, :256, :256]
    names = {load("auto", "image", runtime=runtime).apply(page, peak=255.0)[1].model for runtime in RUNTIMES}
    assert len(names) == 1


def test_the_row_says_what_ran() -> None:
    assert load("photo", runtime=ONNX).precision_of(["photo"]) == "float32 (ONNX Runtime)"
    assert load("auto", "image", runtime=ONNX).precision_of(["none"]) is None
    assert load("photo", precision="float32").precision_of(["photo"]) == "float32"


@pytest.mark.parametrize("name", ["photo", "auto"])
def test_a_cleaner_of_onnx_is_copied(name: str) -> None:
    cleaner, page = load(name, "image", runtime=ONNX), noisy(64, 64, 20)
    copied: Cleaner = pickle.loads(pickle.dumps(cleaner))
    assert np.array_equal(copied.clean(page), cleaner.clean(page))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("photo-best", {}),
        ("photo-sharp", {}),
        ("wavelet", {"modality": "image"}),
        ("sensor", {}),
        ("photo", {"precision": "int8"}),
        ("photo", {"ensemble": 2}),
        ("photo", {"runtime": "tensorflow"}),
    ],
)
def test_what_onnx_does_not_run_is_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="runtime"):
        load(name, **{"runtime": ONNX, **options})


def saved(folder: Path, *sides: int) -> list[Path]:
    paths = [folder / f"{number}.png" for number in range(len(sides))]
    for path, side in zip(paths, sides, strict=True):
        Image.fromarray(np.zeros((side, side), np.uint8)).save(path)
    return paths


def test_a_few_small_pictures_are_for_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, options = saved(tmp_path, 256, 256, 500), CleanOptions()
    assert runtime_for(options, small) == ONNX
    assert runtime_for(CleanOptions(model="photo-fast"), small[:1]) == ONNX
    assert runtime_for(options, []) == TORCH
    assert runtime_for(options, [*small, *small]) == TORCH  # 0.76 MP
    assert runtime_for(options, small[:1] * 20) == TORCH
    for change in ({"precision": "float32"}, {"ensemble": 2}, {"model": "photo-best"}, {"model": "median"}):
        assert runtime_for(CleanOptions(**change), small) == TORCH
    monkeypatch.setattr("denoise.infer.runtime.find_spec", lambda _: None)
    assert runtime_for(options, small) == TORCH


def cleaned_without(unwanted: tuple[str, ...], *arguments: str) -> None:
    code = f"""
import sys
from pipelines.cli.group import cli
cli(["clean", *{list(arguments)!r}], standalone_mode=False)
assert not (found := [name for name in {unwanted!r} if name in sys.modules]), found"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE)


@pytest.mark.parametrize("model", [(), ("--model", "photo"), ("--fast",)])
def test_a_picture_is_cleaned_without_torch(tmp_path: Path, model: tuple[str, ...]) -> None:
    path, result = tmp_path / "noisy.png", tmp_path / "out" / "noisy.png"
    Image.fromarray(noisy(160, 160, 20).transpose(1, 2, 0)).save(path)
    cleaned_without(
        ("torch", "scipy", "skimage", "pandas", "matplotlib"), str(path), "-o", str(result.parent), *model
    )
    assert result.read_bytes() != path.read_bytes()


def test_a_recording_beside_a_picture_is_cleaned(tmp_path: Path) -> None:
    path = tmp_path / "noisy.png"
    Image.fromarray(noisy(160, 160, 20).transpose(1, 2, 0)).save(path)
    recording = ROOT / "data/samples/recordings/reading_16k.wav"
    cleaned_without(("sympy",), str(path), str(recording), "-o", str(tmp_path / "out"))
    assert sorted(
        found.name for found in (tmp_path / "out").iterdir() if found.suffix in (".png", ".wav")
    ) == [
        "noisy.png",
        "reading_16k.wav",
    ]
