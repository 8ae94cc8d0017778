"""Adaptation to new noise: the model improves on held-out files, or is not saved."""

import contextlib
import math
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import soundfile
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

import denoise
from denoise import Adaptation, io, metrics, weights
from denoise.corruptions import parse
from denoise.errors import InputError, UsageError
from denoise.infer.apply import apply
from denoise.models.base import InputSpec
from denoise.models.table import build
from denoise.signal import SignalInfo
from denoise.training.adapt import _WithReplay
from denoise.training.fit import fit
from denoise.training.recipe import DataRecipe, FitRecipe, ModelRecipe, Recipe
from denoise.training.self_supervised import (
    Scene,
    SelfSupervisedPatches,
    correlation,
    divide,
    held_out,
    max_patch_side,
    read,
    with_noise_model,
)
from pipelines.cli.group import cli

Floats = NDArray[np.float32]
IMAGE, SENSOR = InputSpec("image", channels=3), InputSpec("sensor", centre=True, scale=True)


def corrupted(clean: Floats, noise: str, seed: int = 0) -> Floats:
    """Add noise to `(C, *S)`."""
    generator = torch.Generator().manual_seed(seed)
    return parse(noise)(torch.from_numpy(clean)[None], generator)[0].numpy()


def picture(side: int = 192, seed: int = 0) -> Floats:
    """Soft blobs and hard discs, `(1, side, side)`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    scene = np.full((side, side), 0.3)
    for _ in range(12):
        far = np.hypot(y - rng.uniform(0, side), x - rng.uniform(0, side))
        scene += rng.uniform(-0.15, 0.25) * (far < rng.uniform(8, 30))
        scene += 0.2 * np.exp(-((far / rng.uniform(10, 40)) ** 2))
    return np.clip(scene, 0, 1)[None].astype(np.float32)


def save(path: Path, image: Floats) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    io.write(path, pixels, SignalInfo(path, "image", pixels.shape, "uint8", 255.0))


def drawn(scene: Scene, way: str, axes: list[int], side: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    return SelfSupervisedPatches([scene], way, axes, side, 1, True).batch(
        64, torch.Generator().manual_seed(0)
    )


def test_a_quarter_of_a_batch_is_replayed_and_half_of_that_is_clean() -> None:
    own = SelfSupervisedPatches(
        [Scene("a", np.zeros((2, 1, 64, 64), np.float32))], "pairs", [1, 2], 32, 1, True
    )
    plan = Recipe("r", "image", data=DataRecipe(patch=32, corruption="gaussian:sigma=25"))
    noisy, target = _WithReplay(own, plan, 1).batch(32, torch.Generator().manual_seed(0))
    assert not target[:24].any()  # the user's scene is black
    assert target[24:].any()
    unchanged = (noisy == target).flatten(1).all(1)
    assert unchanged[24:].tolist() == [True, False] * 4


# ---- the ways --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [1, 2])
def test_neighbouring_lines_tell_a_smooth_line_and_nothing_of_its_noise(axis: int) -> None:
    rows = np.linspace(-1, 1, 200, dtype=np.float32)[:, None].repeat(120, 1)
    cubic = (rows**3 - rows if axis == 1 else (rows**3 - rows).T)[None]
    noisy, target = drawn(Scene("", cubic[None]), "neighbours", [axis], 40)
    assert noisy.shape == target.shape == (64, 1, 40, 40)
    torch.testing.assert_close(noisy, target, atol=1e-6, rtol=0)

    noise = corrupted(np.zeros((1, 400, 400), np.float32), "gaussian:sigma=255")
    noisy, target = drawn(Scene("", noise[None]), "neighbours", [axis])
    assert float((noisy * target).mean()) == pytest.approx(0, abs=0.02)
    assert float(noisy.square().mean()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("noise", ["gaussian:sigma=20", "poisson-gaussian:photons=60"])
def test_what_is_added_to_the_input_and_taken_from_the_target_undoes_their_common_noise(noise: str) -> None:
    clean = np.repeat(np.linspace(0.2, 0.8, 8, dtype=np.float32), 64)[None, None].repeat(512, 1)
    scene = with_noise_model(Scene("", corrupted(clean, noise)[None]))
    assert float(np.sqrt(scene.noise[0] + 0.5 * scene.noise[1])[0]) == pytest.approx(
        0.078 if "gaussian:sigma" in noise else math.sqrt(0.5 / 60), rel=0.1
    )
    ((noisy, target, _),) = held_out([scene], "recorrupted", [1])
    truth = clean[:, 64:-64, 64:-64]
    power = float(np.square(corrupted(clean, noise) - clean).mean())
    for part in (slice(0, 128), slice(256, 384)):  # dark and bright
        shared = ((noisy - truth) * (target - truth))[..., part].mean()
        assert float(shared) == pytest.approx(0, abs=0.2 * power)
    assert float(np.square(noisy - truth).mean()) == pytest.approx(1.25 * power, rel=0.1)


def test_shots_are_different_ones_and_pairs_keep_their_order() -> None:
    takes = np.stack([np.full((1, 64, 64), i, np.float32) for i in range(3)])
    noisy, target = (x.mean((1, 2, 3)) for x in drawn(Scene("", takes), "shots", [1]))
    assert not bool((noisy == target).any())
    assert set(noisy.tolist()) == set(target.tolist()) == {0, 1, 2}
    noisy, target = drawn(Scene("", takes[:2]), "pairs", [1])
    assert (float(noisy.max()), float(target.min())) == (0, 1)


def test_a_batch_is_a_function_of_its_seed_and_gray_pictures_fill_three_channels() -> None:
    source = SelfSupervisedPatches([Scene("", picture()[None])], "neighbours", [1, 2], 32, 3, True)
    first, again, other = (source.batch(4, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert torch.equal(first[0][:, 0], first[0][:, 2])


@pytest.mark.parametrize(
    ("noise", "way"),
    [
        ("scanner:sigma=25", "shots"),
        ("scanner:sigma=25", "neighbours"),
        ("gaussian:sigma=15", "shots"),
        ("gaussian:sigma=15", "recorrupted"),
    ],
)
def test_the_figure_without_a_reference_ranks_as_the_true_one(noise: str, way: str) -> None:
    """Five methods rank alike by noisy targets and by PSNR to the clean pictures."""
    clean = [picture(256, seed) for seed in range(2)]
    scenes = [
        with_noise_model(Scene("", np.stack([corrupted(c, noise, 10 * i + k) for k in (0, 1)])))
        for i, c in enumerate(clean)
    ]
    judged = held_out(scenes, way, [1])
    told, true = [], []
    for name in ("none", "median", "gaussian", "wiener", "tv"):
        model = build(name, "image")
        told.append(np.mean([metrics.psnr_db(t, apply(model, n, peak=1.0), peak=1.0) for n, t, _ in judged]))
        cleaned = [apply(model, scene.takes[0], peak=1.0) for scene in scenes]
        true.append(np.mean([metrics.psnr_db(c, e, peak=1.0) for c, e in zip(clean, cleaned, strict=True)]))
    clear = [(i, k) for i in range(5) for k in range(5) if true[i] > true[k] + 1]
    assert len(clear) >= 7
    assert all(told[i] > told[k] for i, k in clear), (told, true)


# ---- what is held out ------------------------------------------------------------------------------------


def test_nothing_that_is_held_out_is_trained_on() -> None:
    scenes = [Scene(str(i), np.full((1, 1, 64, 64), i, np.float32)) for i in range(10)]
    learned, judged = divide(scenes)
    assert len(judged) == 2
    assert not {s.name for s in learned} & {s.name for s in judged}
    assert len(learned) + len(judged) == 10
    one = Scene("one", np.arange(500, dtype=np.float32).reshape(1, 1, 500))
    (learned_part,), (judged_part,) = divide([one])
    assert learned_part.takes.max() < judged_part.takes.min() == 400


def test_the_max_patch_side_can_be_drawn_and_no_longer_one() -> None:
    scene = Scene("", np.zeros((1, 1, 101, 70), np.float32))
    side = max_patch_side(scene, "neighbours", [1])
    assert side == 48
    assert drawn(scene, "neighbours", [1], side)[0].shape == (64, 1, side, side)
    assert max_patch_side(scene, "shots", [1]) == 70


# ---- whether neighbours are independent ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "rows", "columns"),
    [
        ("gaussian:sigma=15", False, False),
        ("scanner:sigma=20", False, True),
        ("correlated:sigma=20,width_px=1", True, True),
    ],
)
def test_correlation_is_found_along_the_axis_that_has_it(noise: str, rows: bool, columns: bool) -> None:
    scenes = [Scene("", corrupted(picture(256, seed), noise, seed)[None]) for seed in range(3)]
    assert [abs(correlation(scenes, axis)) > 0.2 for axis in (1, 2)] == [rows, columns]


# ---- files -----------------------------------------------------------------------------------------------


def test_shots_of_a_scene_are_told_from_pictures_of_the_same_size(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "other" / f"{i}.png", corrupted(picture(96, i), "gaussian:sigma=20", i))
        save(tmp_path / "shots" / "a" / f"{i}.png", corrupted(picture(96), "gaussian:sigma=20", i))
    way, scenes, _ = read(tmp_path / "other", IMAGE)
    assert (way, len(scenes)) == ("", 3)
    way, scenes, _ = read(tmp_path / "shots", IMAGE)
    assert (way, [len(scene.takes) for scene in scenes]) == ("shots", [3])
    assert 0 <= scenes[0].takes.min() < scenes[0].takes.max() <= 1


def test_logs_that_differ_slowly_are_no_repeated_shots(tmp_path: Path) -> None:
    """Two days with different weather are not two shots of one day."""
    rng = np.random.default_rng(0)
    day = 10 * np.sin(np.arange(2000) / 300)
    for i in range(2):
        weather = rng.normal(size=2000).cumsum() / 20
        np.save(tmp_path / f"{i}.npy", day + weather + rng.normal(0, 0.1, 2000))
    assert read(tmp_path, SENSOR)[0] == ""
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", day + rng.normal(0, 1, 2000))
    assert read(tmp_path, SENSOR)[0] == "shots"


def test_pairs_go_by_name_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    for name in ("a", "b", "small"):
        side = 32 if name == "small" else 96
        save(tmp_path / "noisy" / f"{name}.png", picture(side))
        if name != "b":
            save(tmp_path / "clean" / f"{name}.png", picture(side))
    way, scenes, notes = read(tmp_path / "noisy", IMAGE, tmp_path / "clean")
    assert (way, [scene.name for scene in scenes]) == ("pairs", ["a.png"])
    assert len(notes) >= 2
    assert any("clean/b.png" in note for note in notes)
    assert any("expected at least 64 a side" in note for note in notes)
    with pytest.raises(InputError, match="holds no sensor files"):
        read(tmp_path / "noisy", SENSOR)


def test_signals_of_any_unit_are_read_as_the_model_sees_them(tmp_path: Path) -> None:
    t = np.arange(4000) / 40
    np.save(tmp_path / "a.npy", 1e6 + 3e4 * np.sin(t))
    way, (scene,), _ = read(tmp_path, SENSOR)
    assert not way
    assert scene.takes.shape == (1, 1, 4000)
    assert float(scene.takes.std()) == pytest.approx(1, abs=1e-3)


# ---- the whole -------------------------------------------------------------------------------------------

SCANNER = "scanner:sigma=25"
SHORT = (
    "fit.steps=40",
    "fit.lr=2e-3",
    "fit.threads=1",
    "fit.validate_every=40",
    "fit.warmup=5",
    "data.patch=32",
)


def noisy_files(root: Path, pictures: Iterable[Floats], noise: str) -> None:
    """Write `noisy/` and `clean/` with the same names, and `shots/` with a folder for each."""
    for i, clean in enumerate(pictures):
        save(root / "clean" / f"{i}.png", clean)
        save(root / "noisy" / f"{i}.png", corrupted(clean, noise, i))
        for shot in range(3):
            save(root / "shots" / str(i) / f"{shot}.png", corrupted(clean, noise, 100 * shot + i))


def gain_db(model: Path, start: Path, pictures: Iterable[Floats], noise: str) -> tuple[float, float]:
    """PSNR on noisy pictures, of the adapted model and of the original one."""
    pairs = [(clean, np.clip(corrupted(clean, noise, 77 + i), 0, 1)) for i, clean in enumerate(pictures)]
    after, before = (
        float(
            np.mean(
                [
                    metrics.psnr_db(c, np.moveaxis(cleaner.clean(np.moveaxis(n, 0, -1)), -1, 0), peak=1.0)
                    for c, n in pairs
                ]
            )
        )
        for cleaner in (denoise.load(model), denoise.load(start))
    )
    return after, before


@pytest.fixture(autouse=True)
def known_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replayed and measured pictures that a small model can learn."""
    if not request.node.get_closest_marker("slow"):
        drawn = [np.uint8(255 * picture(64, seed)) for seed in (90, 91)]
        monkeypatch.setattr("denoise.training.adapt._photos", lambda _: drawn)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model trained on white noise."""
    folder = tmp_path_factory.mktemp("start")
    for i in range(6):
        save(folder / "clean" / f"{i}.png", picture(96, 50 + i))
    recipe = Recipe(
        "small",
        "image",
        model=ModelRecipe("autoencoder", {"modality": "image", "widths": [12, 16], "fold": 2}),
        data=DataRecipe(patch=32, corruption="gaussian:sigma=0..40"),
        fit=FitRecipe(steps=120, batch=8, lr=3e-3, warmup=10, ema=0.95, threads=1),
    )
    fit(recipe, folder / "clean", None, folder / "small.safetensors")
    return folder / "small.safetensors"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    noisy_files(root, (picture(160, seed=i) for i in range(5)), SCANNER)
    return root


@pytest.mark.parametrize("way", ["pairs", "shots", "neighbours"])
def test_it_gains_on_files_that_it_did_not_see(way: str, start: Path, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    found = denoise.adapt(
        files / ("shots" if way == "shots" else "noisy"),
        out,
        pairs=files / "clean" if way == "pairs" else None,
        model=start,
        overrides=SHORT,
    )
    assert (found.way, found.metric, found.held_out) == (way, "psnr_db", 1)
    assert found.noisy < found.before < found.after
    after, before = gain_db(out, start, [picture(seed=20), picture(seed=21)], SCANNER)
    assert after > before + 1.0
    clean_after, _ = gain_db(out, start, [picture(seed=20)], "gaussian:sigma=0")
    assert clean_after > found.clean_after - 1.0  # damage to a clean file is at most that reported
    card = weights.card(out)
    assert card["name"] == "mine"
    assert (card["adapted"]["from"], card["adapted"]["way"]) == ("small", way)
    assert card["recipe"]["model"]["init"] == str(start)


def test_one_recording_is_enough_and_a_signal_will_do(tmp_path: Path) -> None:
    """A log of one channel: its last fifth is held out."""
    rng = np.random.default_rng(0)

    def tones(samples: int, seed: int) -> Floats:
        t, phase = np.arange(samples) / 60, np.random.default_rng(seed).uniform(0, 6, 2)
        return np.sin(t + phase[0]) + 0.5 * np.sin(2.7 * t + phase[1])

    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "noise.npz", steps=rng.normal(size=20_000).cumsum())
    recipe = Recipe(
        "small",
        "sensor",
        model=ModelRecipe("autoencoder", {"modality": "sensor", "widths": [8, 12, 16]}),
        data=DataRecipe(patch=256, standardise=True, corruption="gaussian:snr_db=20..30"),
        fit=FitRecipe(steps=30, batch=8, lr=3e-3, warmup=5, threads=1),
    )
    start, out = tmp_path / "small.safetensors", tmp_path / "mine.safetensors"
    fit(recipe, tmp_path / "data", None, start)
    (tmp_path / "logs").mkdir()
    np.save(tmp_path / "logs" / "a.npy", 40 + 7 * (tones(12_000, 1) + rng.normal(0, 0.5, 12_000)))
    found = denoise.adapt(tmp_path / "logs", out, model=start, overrides=SHORT[:-1])
    assert (found.way, found.metric, found.held_out) == ("recorrupted", "snr_db", 1)
    clean = tones(6000, 2)
    noisy = clean + rng.normal(0, 0.5, clean.size)
    snr = [metrics.snr_db(clean, denoise.load(path).clean(noisy)) for path in (start, out)]
    assert snr[1] > snr[0] + 1.0


def test_recordings_of_sound_need_pairs_or_takes(tmp_path: Path) -> None:
    """A small untrained speech model, and tones in hiss at another sample rate."""
    rate, rng = 22_050, np.random.default_rng(0)
    for folder in ("noisy", "clean"):
        (tmp_path / folder).mkdir()
    for i in range(3):
        tone = 0.2 * np.sin(np.arange(rate) * 0.09 + i)
        soundfile.write(tmp_path / "clean" / f"{i}.wav", tone, rate)
        soundfile.write(tmp_path / "noisy" / f"{i}.wav", tone + rng.normal(0, 0.1, tone.size), rate)
    start, out = tmp_path / "small.safetensors", tmp_path / "mine.safetensors"
    config = {"widths": [4, 4, 4], "code": 8, "memory": 8, "layers": 1}
    recipe = Recipe("small", "audio", model=ModelRecipe("spectral-gru", config), data=DataRecipe(patch=4000))
    model = weights.build("spectral-gru", config)
    facts = {"recipe": recipe.as_dict()}
    weights.save(start, model, name="small", architecture="spectral-gru", facts=facts)
    with pytest.raises(InputError, match="single audio recordings cannot be learned from"):
        denoise.adapt(tmp_path / "noisy", out, model=start)
    few = ["fit.steps=30", "fit.lr=3e-3", "fit.warmup=1", "fit.threads=1"]
    found = denoise.adapt(tmp_path / "noisy", out, pairs=tmp_path / "clean", model=start, overrides=few)
    assert (found.way, found.metric) == ("pairs", "si_sdr_db")
    assert found.after > found.before + 1


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(cli, ["adapt", *map(str, arguments)], prog_name="denoise")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


def test_the_command_says_what_it_did(start: Path, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    sets = [part for override in SHORT for part in ("--set", override)]
    code, output = run(files / "noisy", "--model", start, "-o", out, *sets)
    assert code == 0, output
    assert "learned from neighbouring lines (Neighbor2Neighbor): 4 files, 1 held out" in output
    assert f"wrote {out}" in output
    code, output = run(files / "noisy", "--model", start, "-o", out)
    assert code == 2
    assert "exists already" in output


def test_a_worse_model_is_not_saved(start: Path, files: Path, tmp_path: Path) -> None:
    """The old file survives a destructive learning rate, and the exit code is 1."""
    out = tmp_path / "mine.safetensors"
    out.write_bytes(b"mine")
    wreck = ("--set", "fit.lr=0.3", "--set", "fit.steps=3", "--set", "fit.warmup=1")
    code, output = run(files / "noisy", "--model", start, "-o", out, "--overwrite", *wreck)
    assert code == 1
    assert "no better on the held-out files" in output
    assert "nothing was saved" in output
    assert out.read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


def test_a_model_that_damages_clean_files_is_not_saved(
    start: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texture = np.random.default_rng(0).random((1, 64, 64), dtype=np.float32)
    monkeypatch.setattr("denoise.training.adapt._clean_pairs", lambda *_: [(texture, texture, None)])
    with pytest.raises(InputError, match=r"damages clean files .* nothing was saved"):
        denoise.adapt(files / "noisy", tmp_path / "mine.safetensors", model=start, overrides=SHORT)
    assert not list(tmp_path.iterdir())


def test_noise_that_is_smeared_both_ways_asks_for_shots(start: Path, tmp_path: Path) -> None:
    noisy_files(tmp_path, [picture()], "correlated:sigma=25,width_px=1.5")
    with pytest.raises(InputError, match=r"is correlated .* or repeated shots"):
        denoise.adapt(tmp_path / "noisy", tmp_path / "mine.safetensors", model=start)


def test_what_cannot_work_is_said_before_any_training(start: Path, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    save(tmp_path / "both" / "a.png", picture())
    np.save(tmp_path / "both" / "b.npy", np.zeros(100))
    for arguments, error, message in [
        ((tmp_path / "none", out), InputError, "holds no images"),
        ((tmp_path / "both", out), UsageError, "image and sensor files; name the model to adapt"),
        ((files / "noisy", tmp_path / "no" / "mine.safetensors"), UsageError, "folder that exists"),
        ((files / "noisy", tmp_path / "mine.pt"), UsageError, "expected a .safetensors file"),
    ]:
        with pytest.raises(error, match=message):
            denoise.adapt(*arguments)
    with pytest.raises(UsageError, match="unknown trained model 'foto'; did you mean photo"):
        denoise.adapt(files / "noisy", out, model="foto")
    with pytest.raises(UsageError, match=r"data\.patch is 500; expected 1 to"):
        denoise.adapt(files / "noisy", out, model=start, overrides=["data.patch=500"])


# ---- the shipped model -----------------------------------------------------------------------------------


def photo(name: str) -> Floats:
    """The middle of a real picture, at most `(3, 384, 512)`, in 0..1."""
    found = getattr(skimage.data, name)()
    array = np.atleast_3d(found[0] if isinstance(found, tuple) else found)
    top, left = ((n - min(n, most)) // 2 for n, most in zip(array.shape, (384, 512), strict=False))
    part = np.moveaxis(array[top : top + 384, left : left + 512], -1, 0) / np.float32(255)
    return part.repeat(3 // len(part), 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("noise", "way", "least_db"),
    [
        ("scanner:sigma=25", "pairs", 1.0),
        ("scanner:sigma=25", "shots", 1.0),
        ("scanner:sigma=25", "neighbours", 1.0),
        ("correlated:sigma=25,width_px=1.5,chroma=1", "shots", 1.0),
    ],
)
def test_photo_adapts_within_ten_minutes_of_one_core(
    noise: str, way: str, least_db: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = ("retina", "moon", "hubble_deep_field", "stereo_motorcycle", "cell", "clock")
    noisy_files(tmp_path, map(photo, own), noise)
    out, start = tmp_path / "mine.safetensors", weights.pretrained()["photo"]
    began = time.process_time()
    found: Adaptation = denoise.adapt(
        tmp_path / ("shots" if way == "shots" else "noisy"),
        out,
        pairs=tmp_path / "clean" if way == "pairs" else None,
        overrides=["fit.threads=1"],
    )
    minutes = (time.process_time() - began) / 60
    others = [photo(name) for name in ("chelsea", "camera", "coins", "gravel")]
    after, before = gain_db(out, start, others, noise)
    clean_after, _ = gain_db(out, start, others, "gaussian:sigma=0")
    with capsys.disabled():
        print(
            f"\n| `{noise}` | {way} | {before:.2f} | {after:.2f} | {found.before:.2f} | {found.after:.2f} "
            f"| {found.clean_after:.1f} | {clean_after:.1f} | {minutes:.1f} |"
        )
    assert minutes < 10
    assert after > before + least_db


@pytest.mark.slow
@pytest.mark.parametrize("noise", ["gaussian:sigma=25", "speckle:sigma=0.4"])
def test_photo_is_refused_or_no_worse_where_single_files_say_little(
    noise: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No gain: `photo` was trained on white noise, and speckle violates the linear variance model."""
    own = ("retina", "moon", "hubble_deep_field", "stereo_motorcycle", "cell", "clock")
    noisy_files(tmp_path, map(photo, own), noise)
    out = tmp_path / "mine.safetensors"
    told = "refused"
    with contextlib.suppress(InputError):
        told = str(denoise.adapt(tmp_path / "noisy", out, overrides=["fit.threads=1"]))
    with capsys.disabled():
        print(f"\n{noise}: {told}")
    if out.exists():
        others = [photo(name) for name in ("chelsea", "camera", "coins", "gravel")]
        after, before = gain_db(out, weights.pretrained()["photo"], others, noise)
        assert after > before
