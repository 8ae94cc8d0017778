"""Other commands, and promises of all commands."""

import csv
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import MISSING
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import soundfile as sf
from PIL import Image

from pipelines.batch.jobs import CleanJob, CorruptJob, Job
from pipelines.benchmark.job import BenchmarkJob
from pipelines.cli.group import COMMANDS, cli
from pipelines.explore.jobs import AnomaliesJob, EmbedJob, ReconstructJob
from pipelines.score import score

Run = Callable[..., Any]


# ---- corrupt ---------------------------------------------------------------------------------------------


def test_corrupt_is_seeded_and_measures_what_it_says(tmp_path: Path, denoise: Run, snapshot: Run) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    Image.new("RGBA", (64, 64), (128, 128, 128, 77)).save(flat / "a.png")
    Image.new("RGBA", (64, 64), (128, 128, 128, 77)).save(flat / "b.png")
    for out, seed in (("one", 1), ("two", 1), ("three", 2)):
        options = ("--noise", "gaussian:sigma=10", "--seed", seed)
        assert denoise("corrupt", flat, "-o", tmp_path / out, *options).exit_code == 0
    assert snapshot(tmp_path / "one") == snapshot(tmp_path / "two")
    assert snapshot(tmp_path / "one") != snapshot(tmp_path / "three")
    noisy = np.asarray(Image.open(tmp_path / "one" / "a.png")).astype(float)
    assert noisy[..., :3].std() == pytest.approx(10, rel=0.03)
    assert (noisy[..., 3] == 77).all()  # alpha gets no noise
    other = np.asarray(Image.open(tmp_path / "one" / "b.png")).astype(float)
    assert abs(np.corrcoef(noisy[..., 0].ravel(), other[..., 0].ravel())[0, 1]) < 0.1  # independent noise


def test_corrupt_gives_each_kind_its_own_noise(media: Path, tmp_path: Path, denoise: Run) -> None:
    out = tmp_path / "out"
    noises = ("--noise", "gaussian:sigma=25", "--noise", "white:snr_db=5")
    result = denoise("corrupt", media, "-o", out, *noises)
    assert result.exit_code == 0, result.output
    clean, noisy = sf.read(media / "t.wav")[0], sf.read(out / "t.wav")[0]
    error = noisy - clean
    assert 10 * math.log10(clean.var() / error.var()) == pytest.approx(5, abs=0.3)
    again = denoise("corrupt", media, "-o", out, *noises)
    assert "skipped" in again.stdout
    assert "ok" not in again.stdout.splitlines()[-1]


def test_corrupt_takes_every_recording_of_a_log_at_its_own_power(tmp_path: Path, denoise: Run) -> None:
    t = np.arange(4000) / 20
    logs = {"x": np.sin(t), "y": 10 * np.sin(t[:3000])}
    np.savez(tmp_path / "a.npz", **logs)
    result = denoise("corrupt", tmp_path / "a.npz", "-o", tmp_path / "b.npz", "--noise", "white:snr_db=20")
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "b.npz") as noisy:
        for name, clean in logs.items():
            snr_db = 20 * np.log10(clean.std() / (noisy[name] - clean).std())
            assert abs(snr_db - 20) < 0.3


def test_corrupt_refuses_noise_that_no_file_is_for(media: Path, tmp_path: Path, denoise: Run) -> None:
    result = denoise("corrupt", media / "t.wav", "-o", tmp_path / "out", "--noise", "jpeg:quality=50")
    assert result.exit_code == 1
    assert "is audio; the noise is for other kinds of files" in result.stdout
    unknown = denoise("corrupt", media, "-o", tmp_path / "out", "--noise", "gausian")
    assert unknown.exit_code == 2
    assert "did you mean gaussian" in unknown.stderr


# ---- score -----------------------------------------------------------------------------------------------


def test_score_pairs_by_relative_path_and_means_are_finite(media: Path, tmp_path: Path, denoise: Run) -> None:
    estimate = tmp_path / "estimate"
    (estimate / "süb dir").mkdir(parents=True)
    truth = np.asarray(Image.open(media / "a.png")).astype(np.int16)
    Image.fromarray(np.clip(truth + 5, 0, 255).astype(np.uint8)).save(estimate / "a.png")
    Image.open(media / "süb dir" / "b c.png").save(estimate / "süb dir" / "b c.png")
    result = denoise("score", media, estimate, "--json", tmp_path / "s.json")
    assert result.exit_code == 1  # two have no partner
    assert "not in the mean, since not finite: 1 of psnr_db" in result.stdout
    scores = json.loads((tmp_path / "s.json").read_text())
    rows = {Path(row["estimate"]).name: row for row in scores["rows"]}
    assert rows.keys() == {"a.png", "b c.png"}
    difference = np.clip(truth + 5, 0, 255) - truth
    expected = 10 * math.log10(255**2 / np.mean(difference.astype(float) ** 2))
    assert rows["a.png"]["metrics"]["psnr_db"] == pytest.approx(expected)
    assert rows["b c.png"]["metrics"]["psnr_db"] is None  # identical: infinite
    assert rows["b c.png"]["metrics"]["ssim"] == pytest.approx(1)
    assert scores["mean"]["psnr_db"] == pytest.approx(expected)
    assert {Path(row["reference"]).name for row in scores["failed"]} == {"s.csv", "t.wav"}


def test_score_of_two_files(media: Path, tmp_path: Path, denoise: Run) -> None:
    clean, rate = sf.read(media / "t.wav")
    sf.write(tmp_path / "e.wav", clean * 0.5, rate, subtype="FLOAT")
    assert denoise("score", media / "t.wav", tmp_path / "e.wav", "--json", tmp_path / "s.json").exit_code == 0
    (row,) = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert row["metrics"]["snr_db"] == pytest.approx(10 * math.log10(4), abs=0.05)
    assert row["metrics"]["si_sdr_db"] is None or row["metrics"]["si_sdr_db"] > 60  # scale does not count


def test_score_with_one_more_metric(media: Path, tmp_path: Path, denoise: Run) -> None:
    clean, rate = sf.read(media / "t.wav")
    sf.write(tmp_path / "e.wav", clean * 0.5, rate, subtype="FLOAT")
    asked = ("score", media / "t.wav", tmp_path / "e.wav", "--json", tmp_path / "s.json", "--metric")
    assert denoise(*asked, "mse").exit_code == 0
    (row,) = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert row["metrics"]["mse"] == pytest.approx(np.mean((clean * 0.5) ** 2), rel=0.01)
    assert "si_sdr_db" in row["metrics"]
    unknown = denoise(*asked, "mze")
    assert unknown.exit_code == 2
    assert "did you mean mse" in unknown.output


def test_score_compares_bit_depths_as_shares_of_full_scale(tmp_path: Path, denoise: Run) -> None:
    eight = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(eight).save(tmp_path / "8.png")
    Image.fromarray(eight.astype(np.uint16) * 257).save(tmp_path / "16.png")
    assert denoise("score", tmp_path / "8.png", tmp_path / "16.png", "--json", tmp_path / "s").exit_code == 0
    (row,) = json.loads((tmp_path / "s").read_text())["rows"]
    assert row["metrics"]["psnr_db"] is None or row["metrics"]["psnr_db"] > 100


@pytest.mark.parametrize(
    ("partner", "code", "sentence"),
    [
        ("süb dir/b c.png", 1, "its shape is"),
        ("t.wav", 1, "its kind is audio"),
        ("süb dir", 2, "expected two files or two folders"),
        ("gone.png", 2, "gone.png: no such file or folder"),
    ],
)
def test_score_refuses_what_cannot_be_compared(
    media: Path, denoise: Run, partner: str, code: int, sentence: str
) -> None:
    result = denoise("score", media / "a.png", media / partner)
    assert result.exit_code == code
    assert sentence in result.output


def _table(path: Path, columns: dict[str, np.ndarray]) -> Path:
    rows = zip(*(values.tolist() for values in columns.values()), strict=True)
    lines = [",".join("" if math.isnan(cell) else repr(cell) for cell in row) for row in rows]
    path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    return path


def test_score_pairs_the_columns_of_logs_by_name(tmp_path: Path, denoise: Run) -> None:
    rng = np.random.default_rng(2)
    times, (a, b) = np.arange(300) / 100, rng.normal(size=(2, 300)).cumsum(1)
    truth = _table(tmp_path / "truth.csv", {"time": times, "a": a, "b": 50 + b})
    swapped = _table(tmp_path / "swapped.csv", {"time": times, "b": 50 + b, "a": a})
    (row,) = score(truth, swapped).rows
    assert row.metrics is not None, row.error
    assert row.metrics["snr_db"] == math.inf
    assert row.notes == ()
    other = _table(tmp_path / "other.csv", {"time": times, "c": a, "d": 50 + b})
    (row,) = score(truth, other).rows
    assert row.metrics is None
    assert row.error == f"{other}: its columns are c, d; {truth} has a, b; expected the same names"
    cleaned = denoise("clean", other, "-o", tmp_path / "out", "--reference", truth)
    assert "expected the same names" in cleaned.output


def test_score_says_what_it_does_not_compare(tmp_path: Path, denoise: Run) -> None:
    times, a = np.arange(300) / 100, np.random.default_rng(2).normal(size=300).cumsum()
    truth = _table(tmp_path / "truth.csv", {"time": times, "a": a})
    late = _table(tmp_path / "late.csv", {"time": times + 5, "a": np.where(np.arange(300) % 2, a, np.nan)})
    result = denoise("score", truth, late, "--json", tmp_path / "s.json")
    (row,) = json.loads((tmp_path / "s.json").read_text())["rows"]
    assert row["notes"] == [
        "150 of 300 samples are gaps and not compared",
        "the times differ by up to 5 s: rows are compared in their order",
    ]
    assert "the times differ by up to 5 s" in result.stdout


def test_score_says_that_columns_without_names_go_by_position(tmp_path: Path) -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 300)).cumsum(1)
    truth = _table(tmp_path / "truth.csv", {"a": a, "b": b})
    np.save(tmp_path / "estimate.npy", np.stack([a, b], 1))
    for reference, notes in (
        (truth, ("columns are compared by their position: not both files name them",)),
        (_table(tmp_path / "named.csv", {"a": a, "b": b}), ()),
    ):
        (row,) = score(reference, tmp_path / "estimate.npy" if notes else truth).rows
        assert row.metrics is not None, row.error
        assert row.notes == notes


def test_score_measures_every_recording_of_a_log(tmp_path: Path) -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 300)).cumsum(1)
    np.savez(tmp_path / "truth.npz", a=a, b=b[:200])
    np.savez(tmp_path / "estimate.npz", a=a, b=b[:200] + 1)
    (row,) = score(tmp_path / "truth.npz", tmp_path / "estimate.npz", ("mse",)).rows
    assert row.metrics is not None
    assert row.metrics["mse"] == pytest.approx(0.5)


# ---- benchmark -------------------------------------------------------------------------------------------


def test_benchmark_is_deterministic_and_writes_its_files(media: Path, tmp_path: Path, denoise: Run) -> None:
    command = (
        "benchmark",
        media,
        "--noise",
        "gaussian",
        "--levels",
        "30,10",
        "--models",
        "median,none,savgol",
    )
    files = ("--csv", tmp_path / "b.csv", "--plot", tmp_path / "b.png")
    first = denoise(*command, *files, "--json", tmp_path / "1.json")
    assert first.exit_code == 0, first.output
    denoise(*command, "--json", tmp_path / "2.json")
    one, two = (json.loads((tmp_path / name).read_text())["rows"] for name in ("1.json", "2.json"))
    for rows in (one, two):
        for row in rows:
            assert all(cost > 0 for cost in row.pop("cost").values())
    assert one == two

    assert [(row["model"], row["level"]) for row in one if row["modality"] == "image"] == [
        ("median", 10), ("median", 30), ("none", 10), ("none", 30)
    ]  # fmt: skip
    assert {row["model"] for row in one if row["modality"] == "sensor"} == {"median", "none", "savgol"}
    for row in one:
        if row["model"] == "none":
            assert row["metrics"] == row["noisy_metrics"]
        if row["modality"] == "image":
            expected = 20 * math.log10(255 / row["level"])  # not clipped, so exactly that of AWGN
            assert row["noisy_metrics"]["psnr_db"] == pytest.approx(expected, abs=0.4)
        else:
            assert row["noisy_metrics"]["snr_db"] == pytest.approx(row["level"], abs=1)
    table = list(csv.DictReader((tmp_path / "b.csv").read_text().splitlines()))
    assert len(table) == len(one)
    assert float(table[0]["psnr_db"]) == pytest.approx(one[0]["metrics"]["psnr_db"])
    with Image.open(tmp_path / "b.png") as image:
        assert image.size[0] > 100
    assert "gaussian, sigma 10" in first.stdout
    assert "s/megapixel" in first.stdout


def test_benchmark_lists_what_it_cannot_read(media: Path, denoise: Run) -> None:
    (media / "bad.png").write_bytes(b"text")
    result = denoise("benchmark", media, "--noise", "jpeg", "--levels", "30", "--models", "none")
    assert result.exit_code == 1
    assert f"Failed: {media / 'bad.png'}" in result.stdout
    assert "the models are not for them: 2 files" in result.stdout


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--noise", "gaussian", "--levels", "a", "--models", "none"), "not a list of numbers"),
        (("--noise", "nope", "--levels", "1", "--models", "none"), "unknown corruption 'nope'"),
        (("--noise", "gaussian", "--levels", "5", "--models", "nope"), "unknown model 'nope'"),
        (("--noise", "jpeg", "--levels", "30", "--models", "savgol"), "nothing to measure"),
        (("--noise", "jpeg", "--levels", "30", "--models", "none", "--plot", "x.doc"), "x.doc: a plot"),
    ],
)
def test_benchmark_refuses_wrong_usage(
    media: Path, denoise: Run, options: tuple[str, ...], sentence: str
) -> None:
    result = denoise("benchmark", media, *options)
    assert result.exit_code == 2
    assert sentence in result.stderr


# ---- train and models ------------------------------------------------------------------------------------


def test_train_hands_the_recipe_to_fit(tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from denoise.training import fit as train

    seen: dict[str, Any] = {}

    def fit(recipe: Any, data: Any, validate: Path | None, out: Path, *, resume: bool, report: Any) -> Any:
        seen.update(steps=recipe.fit.steps, data=data, validate=validate, out=out, resume=resume)
        curve = [{"step": 4, "loss": 0.5, "psnr_db": 28.0}, {"step": 5, "loss": 0.25, "psnr_db": 30.0}]
        report(train.Progress(5, 7, 0.25, 100.0, "psnr_db", 30.0, 20.0, curve))
        return {"training": {"skipped": ["b.png: is empty"]}}

    monkeypatch.setattr(train, "fit", fit)
    options = ("--data", tmp_path, "-o", tmp_path / "w.safetensors", "--set", "fit.steps=7")
    result = denoise("train", "photo", *options)
    assert result.exit_code == 0, result.output
    out = tmp_path / "w.safetensors"
    assert seen == {"steps": 7, "data": {tmp_path: 1.0}, "validate": None, "out": out, "resume": True}
    assert (
        result.stderr
        == "step 5/7  loss 0.25  100 samples/s  psnr_db 30.00 (noisy 20.00) ▁█\nnot used: b.png: is empty\n"
    )
    assert (tmp_path / "w.curve.csv").read_text() == "step,loss,psnr_db\n4,0.5,28.0\n5,0.25,30.0\n"
    assert (tmp_path / "w.curve.png").read_bytes().startswith(b"\x89PNG")

    assert denoise("train", "photo", *options, "--overwrite").exit_code == 0
    assert not seen["resume"]
    (tmp_path / "w.safetensors").write_bytes(b"x")  # of another run: it has no checkpoint
    refused = denoise("train", "photo", *options)
    assert refused.exit_code == 2
    assert "w.safetensors: exists already" in refused.stderr
    (tmp_path / "w.checkpoint").write_bytes(b"x")
    assert denoise("train", "photo", *options).exit_code == 0
    assert seen["resume"]
    other = denoise("train", "photo", "--data", tmp_path, "-o", tmp_path / "m.pt")
    assert (other.exit_code, "m.pt: is written as .safetensors" in other.stderr) == (2, True)


def test_train_mixes_folders_by_odds(tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from denoise.training import fit as train

    seen: list[Any] = []

    def fit(_recipe: Any, data: Any, *_: Any, **_options: Any) -> Any:
        seen.append(data)
        return {"training": {"skipped": []}}

    monkeypatch.setattr(train, "fit", fit)
    (colon := tmp_path / "take:2").mkdir()
    folders = ("--data", f"{tmp_path}:0.8", "--data", colon, "--data", f"{colon}:3")
    assert denoise("train", "photo", *folders[:4], "-o", tmp_path / "w.safetensors").exit_code == 0
    assert denoise("train", "photo", *folders[4:], "-o", tmp_path / "w.safetensors").exit_code == 0
    assert seen == [{tmp_path: 0.8, colon: 1.0}, {colon: 3.0}]
    for bad in ("0", "-1", "nan", "inf", "much"):
        result = denoise("train", "photo", "--data", f"{tmp_path}:{bad}", "-o", tmp_path / "w.safetensors")
        assert (result.exit_code, "DIR:ODDS" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("recipe", "options", "code"), [("nope", (), 2), ("photo", ("--set", "fit.stepz=7"), 2), ("photo", (), 1)]
)
def test_train_tells_what_is_wrong(
    tmp_path: Path, denoise: Run, recipe: str, options: tuple[str, ...], code: int
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    result = denoise("train", recipe, "--data", empty, "-o", tmp_path / "w.safetensors", *options)
    assert result.exit_code == code
    assert result.stderr.startswith("Error: ")


def test_models_lists_every_row_and_shows_one(denoise: Run) -> None:
    from denoise.models.table import MODELS, PICKS
    from denoise.weights import pretrained

    listed = denoise("models").stdout
    assert denoise("models", "list").stdout == listed
    names = {line.split()[0] for line in listed.splitlines()[1:]}
    assert names == {*PICKS, *MODELS, *pretrained()}
    shown = json.loads(denoise("models", "show", "median", "--json", "-").stdout)
    assert (shown["cleans"], shown["kind"]) == (["image", "sensor"], "classical")
    assert denoise("models", "show", "medain").exit_code == 2
    trained = json.loads(denoise("models", "show", "sensor", "--json", "-").stdout)
    assert {"parameters", "multiply_adds_per_sample", "receptive_field", "recipe", "results"} <= set(trained)
    assert trained["training"]["data_digest"]
    assert "multiply_adds_per_second" in json.loads(denoise("models", "show", "speech", "--json", "-").stdout)


# ---- all commands ----------------------------------------------------------------------------------------

WITHOUT = ("torch", "scipy", "skimage", "matplotlib", "tqdm")


@pytest.mark.parametrize(
    "arguments", [("--help",), ("clean", "--help"), ("embed", "--help"), ("models", "list"), ("--version",)]
)
def test_light_commands_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    script = f"""
import sys
from pipelines.cli.group import cli
try:
    cli({list(arguments)!r}, prog_name="denoise")
except SystemExit as stop:
    assert stop.code == 0
heavy = [name for name in {WITHOUT!r} if name in sys.modules]
assert not heavy, heavy
"""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, stdout=subprocess.PIPE)


# Initial values drawn without memory import torch's compiler and sympy: 1.5 s and 80 MB for nothing.
UNUSED = ("sympy", "torch._dynamo", "torch._inductor", "matplotlib", "skimage", "pandas")


def assert_without(unwanted: tuple[str, ...], code: str) -> None:
    script = f"import sys\n{code}\nassert not (found := [x for x in {unwanted!r} if x in sys.modules]), found"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, stdout=subprocess.PIPE)


@pytest.mark.parametrize(("model", "modality"), [("auto", "audio"), ("sensor", "sensor")])
def test_default_models_load_without_compilers_and_plotting(model: str, modality: str) -> None:
    assert_without(UNUSED, f"from denoise.infer.catalogue import load; load({model!r}, {modality!r})")


def test_a_noisy_photo_is_cleaned_without_scipy(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).normal(100, 15, (160, 160, 3)) + np.linspace(0, 90, 160)[:, None]
    path = tmp_path / "noisy.png"
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path)
    arguments = ["clean", str(path), "-o", str(tmp_path / "out"), "--precision", "float32"]  # in torch
    code = f"""
from pipelines.cli.group import cli
cli({arguments!r}, standalone_mode=False)"""
    assert_without((*UNUSED, "scipy"), code)
    assert (tmp_path / "out/noisy.png").read_bytes() != path.read_bytes()


def every_command() -> dict[str, click.Command]:
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in COMMANDS}
    groups = {name: command for name, command in commands.items() if isinstance(command, click.Group)}
    below = {f"{name} {sub}": c for name, group in groups.items() for sub, c in group.commands.items()}
    return {name: command for name, command in {**commands, **below}.items() if command}


@pytest.mark.parametrize("name", [*COMMANDS, "models list", "models show"])
def test_every_command_has_help_that_ends_with_an_example(name: str, denoise: Run) -> None:
    command = every_command()[name]
    assert command.help
    _, title, examples = command.help.partition("Example:\n")
    assert title
    for example in map(str.split, examples.strip().splitlines()):
        assert example[: 1 + len(name.split())] == ["denoise", *name.split()] or name == "models"
    assert denoise(*name.split(), "--help").exit_code == 0
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help, parameter.name


# Format of standard input, and a list of the inputs: no job takes them.
PIPED = {"raw", "channels", "files_from", "null"}


@pytest.mark.parametrize(
    ("name", "job", "required"),
    [
        ("clean", CleanJob, ("-o", "out")),
        ("corrupt", CorruptJob, ("-o", "out", "--noise", "gaussian")),
        ("benchmark", BenchmarkJob, ("--noise", "gaussian", "--models", "none")),
        ("embed", EmbedJob, ("-o", "out")),
        ("reconstruct", ReconstructJob, ("-o", "out")),
        ("anomalies", AnomaliesJob, ()),
    ],
)
def test_options_fill_the_job_and_have_its_defaults(name: str, job: Any, required: tuple[str, ...]) -> None:
    given = every_command()[name].make_context(name, ["in", *required]).params
    settings = {key: value for key, value in given.items() if not key.endswith("_path")}
    classes = [job, type(job.options)] if issubclass(job, Job) else [job]
    table = {name: field for kind in classes for name, field in kind.table().items() if field.flag}
    assert settings.keys() - PIPED - {"inputs", "archive"} == set(table)
    for name, field in table.items():
        if field.default is not MISSING and field.flag not in required:
            assert settings[name] == field.default, name


def test_version_and_unknown_commands(denoise: Run) -> None:
    import denoise as library

    assert denoise("--version").stdout == f"denoise {library.__version__}\n"
    assert denoise("klean").exit_code == 2
