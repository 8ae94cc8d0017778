"""The training loop: it improves, resumes exactly, stops early, and reports."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import denoise
from denoise import weights
from denoise.errors import UsageError, WeightsError
from denoise.training.fit import Progress, _schedule, _State, fit
from denoise.training.losses import LOSSES
from denoise.training.recipe import DataRecipe, FitRecipe, ModelRecipe, Recipe, ValidateRecipe

RECIPE = Recipe(
    "tiny",
    "sensor",
    model=ModelRecipe("autoencoder", {"modality": "sensor", "widths": [8, 12]}),
    data=DataRecipe(patch=64, standardise=True, corruption="gaussian:snr_db=5"),
    fit=FitRecipe(steps=12, batch=4, threads=1, warmup=2, validate_every=4),
    validate=ValidateRecipe(corruption="gaussian:snr_db=5", items=1),
)


def changed(**fields: object) -> Recipe:
    return replace(RECIPE, fit=replace(RECIPE.fit, **fields))


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    t = np.arange(1024)
    np.savez(folder / "tones.npz", slow=np.sin(t / 9), fast=np.sin(t / 5))
    return folder


def parameters(path: Path) -> dict[str, torch.Tensor]:
    return weights.load(path)[0].state_dict()


def test_it_overfits_one_batch() -> None:
    """A fixed noisy batch and its targets, which the network can memorise."""
    torch.manual_seed(0)
    model = weights.build("autoencoder", {"modality": "sensor", "widths": [16, 24]})
    target = torch.sin(torch.arange(64) / 5.0).expand(4, 1, 64)
    noisy = target + 0.5 * torch.randn(4, 1, 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = last = float("nan")
    for step in range(300):
        loss = LOSSES["mse"](model(noisy), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (loss.item(), last) if step == 0 else (first, loss.item())
    assert last < 0.02 * first


def test_it_learns_to_remove_noise_and_reports(tones: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    card = fit(changed(steps=150), tones, tones, tmp_path / "w.safetensors", report=seen.append)
    final = seen[-1]
    assert (final.step, final.metric) == (150, "snr_db")
    assert final.value is not None
    assert final.before is not None
    assert final.before == pytest.approx(5.0, abs=0.5)
    assert final.value > final.before + 3.0
    assert final.samples_per_s > 0
    assert card["training"]["best"] == pytest.approx(max(p.value for p in seen if p.value is not None))
    assert card["training"]["steps"] == 150
    assert card["recipe"]["data"]["corruption"] == "gaussian:snr_db=5"


VARIATIONAL = ModelRecipe(  # draws numbers of its own
    "autoencoder",
    {**RECIPE.model.config, "bottleneck": "variational", "code": 4, "skips": False, "residual": False},
)


@pytest.mark.parametrize(
    ("schedule", "model"),
    [("cosine", RECIPE.model), ("one-cycle", RECIPE.model), ("cosine", VARIATIONAL)],
    ids=["cosine", "one-cycle", "variational"],
)
def test_a_resumed_run_is_the_undisturbed_run(
    tones: Path, tmp_path: Path, schedule: str, model: ModelRecipe
) -> None:
    recipe = replace(changed(schedule=schedule, checkpoint_minutes=0.0), model=model)
    fit(recipe, tones, tones, tmp_path / "whole.safetensors")

    def interrupt(progress: Progress) -> None:
        if progress.step == 8:
            raise KeyboardInterrupt

    cut = tmp_path / "cut.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, tones, tones, cut, report=interrupt)
    assert not cut.exists()
    steps: list[int] = []
    fit(recipe, tones, tones, cut, resume=True, report=lambda p: steps.append(p.step))
    assert min(steps) > 7  # it did not start over
    whole, resumed = parameters(tmp_path / "whole.safetensors"), parameters(cut)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_a_run_that_holds_its_rate_can_be_given_more_steps(tones: Path, tmp_path: Path) -> None:
    """A run extended on the way ends with the weights of one longer from the start."""
    holding = {"schedule": "trapezoid", "cooldown": 0.5, "ema": 0.9, "optimizer": "muon"}
    whole, extended = tmp_path / "whole.safetensors", tmp_path / "extended.safetensors"
    fit(changed(steps=24, **holding), tones, tones, whole)

    def stop(progress: Progress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(changed(steps=12, checkpoint_minutes=0.0, **holding), tones, tones, extended, report=stop)
    fit(changed(steps=24, **holding), tones, tones, extended, resume=True)
    for key, value in parameters(whole).items():
        assert torch.equal(parameters(extended)[key], value)

    with pytest.raises(UsageError, match="of a run of 24 steps, expected 30"):
        fit(changed(steps=30, **holding), tones, tones, extended, resume=True)


def test_averaged_weights_follow_by_hand() -> None:
    """The decay rises from 2/11, that of the first steps, to the recipe's."""
    model = torch.nn.Linear(1, 1, bias=False)
    state = _State(model, torch.optim.SGD(model.parameters(), 0.1))  # type: ignore[arg-type]
    expected = None
    for step, value in enumerate((1.0, 3.0, -2.0, 5.0), start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        state.step = step
        state.average(model, 0.4)  # type: ignore[arg-type]
        decay = min(0.4, (1 + step) / (10 + step))
        expected = value if expected is None else decay * expected + (1 - decay) * value
        assert float(state.averaged["weight"]) == pytest.approx(expected)
    state.step = 10_000
    before = float(state.averaged["weight"])
    state.average(model, 0.999)  # type: ignore[arg-type]
    assert float(state.averaged["weight"]) == pytest.approx(0.999 * before + 0.001 * 5.0)


def test_the_averaged_weights_are_saved(tones: Path, tmp_path: Path) -> None:
    """Averaged weights with a high decay lie between the first weights and the last."""

    def weights_after(steps: int, ema: float) -> torch.Tensor:
        fit(changed(steps=steps, ema=ema, lr=0.01, warmup=0), tones, None, tmp_path / "w.safetensors")
        return torch.cat([value.flatten() for value in parameters(tmp_path / "w.safetensors").values()])

    first, averaged, last = weights_after(1, 0.0), weights_after(8, 0.99), weights_after(8, 0.0)
    assert not torch.equal(averaged, last)
    assert (averaged - first).norm() < (last - first).norm()


def test_gradients_are_clipped(tones: Path, tmp_path: Path) -> None:
    """AdamW ignores the scale of gradients until they fall below its epsilon, as these do."""

    def weights_after(**settings: float) -> torch.Tensor:
        fit(changed(steps=2, ema=0.0, warmup=0, **settings), tones, None, tmp_path / "w.safetensors")
        return torch.cat([value.flatten() for value in parameters(tmp_path / "w.safetensors").values()])

    start, clipped, free = weights_after(lr=0.0), weights_after(clip=1e-14), weights_after(clip=1e14)
    assert (clipped - start).abs().max() < 0.01 * (free - start).abs().max()


@pytest.mark.parametrize(
    ("schedule", "shares"),
    [
        ("cosine", {0: 0.1, 9: 1.0, 10: 1.0, 55: 0.505, 99: 0.01}),
        ("one-cycle", {0: 0.072, 29: 1.0, 30: 1.0, 65: 0.5, 99: 1e-4}),
        ("trapezoid", {0: 0.1, 9: 1.0, 49: 1.0, 50: 1.0, 75: 0.5, 99: 0.02}),
    ],
)
def test_the_learning_rate_rises_and_falls_as_scheduled(schedule: str, shares: dict[int, float]) -> None:
    plan = FitRecipe(steps=100, warmup=10, cooldown=0.5, schedule=schedule)
    for step, share in shares.items():
        assert _schedule(plan, step) == pytest.approx(share, abs=2e-3), step


def test_a_seed_decides_the_run(tones: Path, tmp_path: Path) -> None:
    runs = []
    for i, seed in enumerate((0, 0, 1)):
        fit(changed(seed=seed, steps=3), tones, None, tmp_path / f"{i}.safetensors")
        runs.append(parameters(tmp_path / f"{i}.safetensors"))
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])
    assert not all(torch.equal(runs[0][key], runs[2][key]) for key in runs[0])


def test_a_run_can_start_from_the_weights_of_another(tones: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    fit(changed(steps=2), tones, None, first)
    further = replace(changed(steps=1, lr=0.0), model=replace(RECIPE.model, init=str(first)))
    fit(further, tones, None, second)
    for key, value in parameters(first).items():
        assert torch.equal(parameters(second)[key], value)
    other = replace(further.model, config={"modality": "sensor", "widths": [8, 16]})
    with pytest.raises(UsageError, match=r"cannot start from .*first\.safetensors: size mismatch"):
        fit(replace(further, model=other), tones, None, second)


def test_the_saved_weights_keep_a_share_of_the_initial_ones(tones: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    fit(changed(steps=2), tones, None, first)
    results = []
    for share in (0.0, 0.25):
        further = changed(steps=5, lr=0.05, warmup=0, initial_share=share)
        further = replace(further, model=replace(further.model, init=str(first)))
        fit(further, tones, None, tmp_path / f"{share}.safetensors")
        results.append(parameters(tmp_path / f"{share}.safetensors"))
    for key, start in parameters(first).items():
        expected = 0.75 * results[0][key] + 0.25 * start
        torch.testing.assert_close(results[1][key], expected, rtol=2e-3, atol=1e-4)  # stored in 16 bits


def test_it_stops_when_it_no_longer_improves(tones: Path, tmp_path: Path) -> None:
    card = fit(changed(lr=1e-12, patience=2, steps=40, ema=0.0), tones, tones, tmp_path / "w.safetensors")
    assert card["training"]["steps"] == 12  # one best, then two validations no better


def test_the_best_or_the_last_weights_are_kept(tones: Path, tmp_path: Path) -> None:
    """A learning rate that is destructive after the first validation separates best and last weights."""
    kept = {}
    for selected in ("best", "last"):
        recipe = changed(
            select_weights=selected, lr=0.3, schedule="one-cycle", ema=0.0, validate_every=1, steps=30
        )
        fit(recipe, tones, tones, tmp_path / f"{selected}.safetensors")
        kept[selected] = parameters(tmp_path / f"{selected}.safetensors")
    assert not all(torch.equal(kept["best"][key], kept["last"][key]) for key in kept["best"])


def test_a_checkpoint_of_another_recipe_or_file_is_refused(tones: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    fit(changed(steps=2), tones, None, out)
    with pytest.raises(UsageError, match="another recipe"):
        fit(changed(steps=2, lr=0.1), tones, None, out, resume=True)
    checkpoint = out.with_suffix(".checkpoint")
    found = bytearray(checkpoint.read_bytes())
    found[len(found) // 2] ^= 0x40  # torch would load it
    checkpoint.write_bytes(found)
    with pytest.raises(WeightsError, match="is damaged"):
        fit(changed(steps=2), tones, None, out, resume=True)
    checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsError, match="not a checkpoint"):
        fit(changed(steps=2), tones, None, out, resume=True)


def test_a_checkpoint_of_other_data_is_refused(tones: Path, tmp_path: Path) -> None:
    out = tmp_path / "w.safetensors"
    fit(changed(steps=2), tones, None, out)
    np.savez(tones / "tones.npz", other=np.cos(np.arange(1024) / 7))
    with pytest.raises(UsageError, match="on other data"):
        fit(changed(steps=2), tones, None, out, resume=True)


def test_files_that_cannot_be_used_are_named_in_the_card(tones: Path, tmp_path: Path) -> None:
    np.save(tones / "gap.npy", np.full(1024, np.nan))
    card = fit(changed(steps=2), tones, None, tmp_path / "w.safetensors")
    assert card["training"]["skipped"] == [f"{tones / 'gap.npy'}: holds NaN or infinite samples"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (changed(loss="mze"), "did you mean mse"),
        (changed(schedule="flat"), "unknown schedule"),
        (changed(select_weights="most"), "unknown weights to select"),
        (replace(RECIPE, modality="audio"), "a sensor model cannot train on audio"),
        (changed(lr=1e30, clip=1e30), "lower fit.lr"),
    ],
)
def test_a_recipe_that_cannot_work_says_why(
    tones: Path, tmp_path: Path, recipe: Recipe, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        fit(recipe, tones, None, tmp_path / "w.safetensors")


def test_a_network_that_looks_across_channels_learns_from_recordings_and_cleans_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    beat = np.repeat(rng.standard_normal(300), 4)
    np.savez(tmp_path / "logs.npz", pressures=np.stack([beat, beat, -beat], axis=1), alone=beat)
    recipe = replace(
        changed(steps=12, lr=3e-3),
        model=ModelRecipe("autoencoder", {**RECIPE.model.config, "cross_channel": True}),
        data=replace(RECIPE.data, max_joint_channels=3),
    )
    fit(recipe, tmp_path, None, tmp_path / "w.safetensors")
    cleaner = denoise.load(tmp_path / "w.safetensors")
    noisy = np.stack([beat, beat, -beat], axis=1) + 0.5 * rng.standard_normal((1200, 3))
    cleaned = cleaner.clean(noisy, 100.0)
    swapped = cleaner.clean(noisy[:, [2, 0, 1]], 100.0)
    np.testing.assert_allclose(swapped, cleaned[:, [2, 0, 1]], atol=1e-5)
    assert np.abs(cleaner.clean(noisy[:, 0], 100.0) - cleaned[:, 0]).max() > 1e-4  # the others matter
