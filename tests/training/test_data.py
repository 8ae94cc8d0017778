"""Patches: seeds, shapes and origins."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from denoise import io
from denoise.corruptions.audio import equalised
from denoise.errors import InputError, UsageError
from denoise.signal import SignalInfo
from denoise.training.data import Patches, pairs, read_clean
from denoise.training.events import EVENTS, events
from denoise.training.recipe import DataRecipe, Recipe, ValidateRecipe

SENSOR = Recipe("t", "sensor", data=DataRecipe(patch=64, corruption="gaussian:snr_db=10", group="^[a-z]+"))
IMAGE = Recipe("t", "image", data=DataRecipe(patch=16, corruption="gaussian:sigma=25"))


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "pool.npz",
        a_1=rng.normal(size=(200, 2)),
        a_2=rng.normal(size=(5000, 1)) - 50.0,
        b_1=rng.normal(size=300) + 50.0,
    )
    return tmp_path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i, size in enumerate([(40, 50), (17, 16), (8, 90)]):
        info = SignalInfo(tmp_path / f"{i}.png", "image", (3, *size), "uint8", 255.0)
        io.write(tmp_path / f"{i}.png", rng.integers(0, 256, (3, *size), dtype=np.uint8), info)
    return tmp_path


def patches(folder: Path, recipe: Recipe, channels: int) -> Patches:
    names, arrays, *_ = read_clean(folder, recipe)
    return Patches(names, arrays, recipe, channels, folder)


def batch(source: Patches, size: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return source.batch(size, torch.Generator().manual_seed(seed))


def test_a_step_is_a_function_of_its_seed(pool: Path) -> None:
    source = patches(pool, SENSOR, 1)
    first, again, other = batch(source), batch(source), batch(source, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
    assert first[0].shape == first[1].shape == (8, 1, 64)


def test_groups_are_drawn_equally_whatever_their_size(pool: Path) -> None:
    _, target = batch(patches(pool, replace(SENSOR, data=replace(SENSOR.data, flip=False)), 1), 400)
    share = (target.mean((1, 2)) > 25).float().mean().item()  # b_1 alone lies there, 3 % of the samples
    assert 0.4 < share < 0.6


@pytest.mark.parametrize("join", [False, True])
def test_folders_are_drawn_by_their_odds(tmp_path: Path, join: bool) -> None:
    for name, mean, size in (("a", 50.0, 9000), ("b", -50.0, 300)):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "pool.npz", x=np.random.default_rng(0).normal(mean, 1, size))
    recipe = replace(SENSOR, data=replace(SENSOR.data, flip=False, group="", join=join))
    source = Patches.read({tmp_path / "a": 1.0, tmp_path / "b": 3.0}, recipe, 1)
    _, target = batch(source, 400)
    assert 0.65 < (target.mean((1, 2)) < 0).float().mean().item() < 0.85
    assert source.digest not in {Patches.read(tmp_path / name, recipe, 1).digest for name in "ab"}


def test_recordings_of_other_numbers_of_channels_are_joined_channel_by_channel(tmp_path: Path) -> None:
    """A stereo file among mono ones ended the training with an error that named none."""
    np.savez(tmp_path / "pool.npz", mono=np.full(2000, 1.0), stereo=np.full((2000, 2), [2.0, 3.0]))
    recipe = replace(SENSOR, data=replace(SENSOR.data, flip=False, group="", join=True))
    source = Patches.read(tmp_path, recipe, 1)
    assert source.samples.tolist() == [1.0] * 2000 + [2.0] * 2000 + [3.0] * 2000


def test_standardised_patches_have_unit_variance(pool: Path) -> None:
    recipe = replace(SENSOR, data=replace(SENSOR.data, standardise=True, synthetic=0.5, stretch=2.0))
    _, target = batch(patches(pool, recipe, 1), 50)
    torch.testing.assert_close(target.std(-1), torch.ones(50, 1), atol=1e-3, rtol=0)


def test_images_too_small_for_a_patch_are_left_out(photos: Path) -> None:
    names, arrays, *_ = read_clean(photos, replace(IMAGE, data=replace(IMAGE.data, scales=(1.0, 0.5))))
    assert [Path(n).name for n in names] == ["0.png", "0.png", "1.png"]
    assert [a.shape for a in arrays] == [(3, 40, 50), (3, 20, 25), (3, 17, 16)]


def test_image_noise_has_the_level_of_the_recipe(photos: Path) -> None:
    noisy, target = batch(patches(photos, IMAGE, 3), 32)
    assert 0 <= target.min() <= target.max() <= 1
    assert (noisy - target).std().item() * 255 == pytest.approx(25, rel=0.02)


def test_gray_patches_are_gray(photos: Path) -> None:
    noisy, target = batch(patches(photos, replace(IMAGE, data=replace(IMAGE.data, gray=1.0)), 3), 4)
    assert torch.equal(noisy, noisy[:, :1].expand_as(noisy))  # their noise is
    assert not torch.equal(noisy, target)
    assert torch.equal(target[:, 0], target[:, 1])


@pytest.mark.parametrize(("flip", "count"), [(True, 8), (False, 1)])
def test_images_come_in_all_eight_orientations_or_as_they_are(tmp_path: Path, flip: bool, count: int) -> None:
    picture = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    info = SignalInfo(tmp_path / "a.png", "image", (1, 16, 16), "uint8", 255.0)
    io.write(tmp_path / "a.png", picture, info)
    recipe = replace(IMAGE, data=DataRecipe(patch=16, corruption="none", flip=flip))
    _, target = batch(patches(tmp_path, recipe, 1), 200)
    views = {(255 * item).round().byte().numpy().tobytes() for item in target[:, 0]}
    turned = [np.rot90(side, k) for side in (picture[0], picture[0].T) for k in range(4)]
    assert len(views) == count
    assert views <= {np.ascontiguousarray(view).tobytes() for view in turned}
    assert picture.tobytes() in views


def test_signals_are_inverted_half_of_the_time(pool: Path) -> None:
    _, target = batch(patches(pool, replace(SENSOR, data=replace(SENSOR.data, group="")), 1), 400)
    inverted = (target.mean((1, 2)) > 25).float().mean().item()  # nearly all samples lie at -50
    assert 0.35 < inverted < 0.65


def test_levels_are_drawn_over_their_range(pool: Path) -> None:
    data = replace(SENSOR.data, standardise=True, level_db=(-20.0, 6.0))
    _, target = batch(patches(pool, replace(SENSOR, data=data), 1), 400)
    level_db = 20 * torch.log10(target.std((1, 2)))
    assert -20.1 < level_db.min() < -18
    assert 4 < level_db.max() < 6.1


def test_validation_pairs_repeat_and_hold_the_level(pool: Path) -> None:
    spec = ValidateRecipe(corruption="gaussian:snr_db=10", items=2, crop=150)
    once, twice = (
        list(pairs(pool, replace(SENSOR, data=replace(SENSOR.data, standardise=True)), spec))
        for _ in range(2)
    )
    assert len(once) == 2
    for (noisy, target, _), (again, _, _) in zip(once, twice, strict=True):
        assert np.array_equal(noisy, again)
        ratio = target.var(-1).sum() / ((noisy - target) ** 2).mean(-1).sum()
        assert 10 * np.log10(ratio) == pytest.approx(10, abs=2.0)


def test_a_folder_of_pairs_gives_its_own(photos: Path) -> None:
    for name in ("clean", "noisy"):
        (photos / name).mkdir()
        info = SignalInfo(photos / "p.png", "image", (1, 20, 20), "uint8", 255.0)
        io.write(
            photos / name / "p.png", np.full((1, 20, 20), 51 if name == "clean" else 102, np.uint8), info
        )
    ((noisy, target, _),) = pairs(photos, IMAGE, ValidateRecipe())
    assert (float(target.max()), float(noisy.min())) == pytest.approx((0.2, 0.4))


def test_nothing_usable_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        read_clean(tmp_path / "none", SENSOR)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"holds no image .* \(1 files, 0 image files\)"):
        read_clean(tmp_path, IMAGE)
    (tmp_path / "bad.png").write_text("hello")
    with pytest.raises(InputError, match=r"the first problem: .*bad\.png"):
        read_clean(tmp_path, IMAGE)


def test_a_recipe_without_noise_is_refused(pool: Path) -> None:
    with pytest.raises(UsageError, match="corruption is empty"):
        patches(pool, replace(SENSOR, data=DataRecipe(patch=64)), 1)
    with pytest.raises(UsageError, match="corruption is empty"):
        list(pairs(pool, SENSOR, ValidateRecipe()))


def test_equalising_changes_the_spectrum_smoothly_and_within_its_bounds() -> None:
    x = torch.zeros(3, 1, 4096)
    x[..., 0] = 1.0
    gain_db = 20 * torch.log10(torch.fft.rfft(equalised(x, 6.0, torch.Generator().manual_seed(0))).abs())
    assert gain_db.abs().max() <= 6.001
    assert gain_db.std() > 1.0
    assert (gain_db[..., 51:] - gain_db[..., 50:-1]).abs().max() < 0.5  # dB from one bin to the next


def test_a_group_may_have_a_corruption_of_its_own(pool: Path) -> None:
    data = replace(
        SENSOR.data, corruption="gaussian:snr_db=10", corruptions={"b": "0*({corruption})|1*quantise:bits=1"}
    )
    noisy, target = batch(patches(pool, replace(SENSOR, data=replace(data, flip=False)), 1), 40)
    levels = torch.tensor([len(item.unique()) for item in noisy])
    of_b = target.mean((1, 2)) > 25
    assert bool((levels[of_b] == 2).all())
    assert bool((levels[~of_b] > 2).all())
    unknown = replace(SENSOR, data=replace(data, corruptions={"c": "none"}))
    with pytest.raises(UsageError, match="group 'c'"):
        patches(pool, unknown, 1)


def test_a_recording_may_be_shorter_than_a_patch_by_the_stretch(pool: Path) -> None:
    data = replace(SENSOR.data, patch=300, stretch=1.5, include=("pool.npz",))
    names, arrays, *_ = read_clean(pool, replace(SENSOR, data=data))
    assert names == ["a_1", "a_2", "b_1"]
    source = Patches(names, arrays, replace(SENSOR, data=data), 1, pool)
    assert batch(source, 20)[1].shape == (20, 1, 300)
    assert read_clean(pool, replace(SENSOR, data=replace(data, stretch=1.4)))[0] == ["a_2", "b_1"]


def test_channels_of_one_recording_come_together_as_many_as_a_batch_draws(pool: Path) -> None:
    rng = np.random.default_rng(3)
    wave = np.sin(np.arange(300) / 5.0)
    np.savez(pool / "d.npz", d_1=np.stack([wave, -wave, wave], 1) + 0.01 * rng.standard_normal((300, 3)))
    recipe = replace(
        SENSOR, data=replace(SENSOR.data, max_joint_channels=3, standardise=True, group="^[a-z]")
    )
    source = patches(pool, recipe, 1)
    shapes = set()
    for seed in range(12):
        noisy, target = batch(source, seed=seed)
        assert noisy.shape == target.shape
        shapes.add(tuple(target.shape))
        if target.shape[1] == 3:  # only d_1 has so many
            alike = (target[:, :1] * target[:, 1:]).mean(-1).abs()
            assert alike.min() > 0.9
    assert shapes == {(8, 1, 64), (4, 2, 64), (2, 3, 64)}


def test_events_are_logs_of_their_own_group(pool: Path) -> None:
    data = replace(SENSOR.data, standardise=True, events=1.0, corruptions={"events": "none"})
    noisy, target = batch(patches(pool, replace(SENSOR, data=data), 1), 40)
    assert torch.equal(noisy, target)
    assert torch.isfinite(target).all()
    with pytest.raises(UsageError, match="group"):
        patches(pool, replace(SENSOR, data=replace(data, events=0.0)), 1)


def test_each_kind_of_event_is_what_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = {name: kind(16, 2048, generator) for name, kind in EVENTS.items()}
    for name, logs in drawn.items():
        assert logs.shape == (16, 2048), name
        assert torch.isfinite(logs).all(), name
    assert (drawn["tips"] == drawn["tips"].round()).all()
    assert (drawn["tips"] >= 0).all()
    steps = drawn["counters"].diff(dim=1)
    assert ((steps < 0).sum(1) <= 1).all()  # one reset at most
    assert (drawn["loads"] >= -0.5).all()
    assert events(16, 2048, generator).shape == (16, 1, 2048)
