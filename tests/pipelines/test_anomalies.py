"""`denoise anomalies` on folders."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from denoise.analysis.segments import Segmentation
from pipelines.explore.anomalies import _split
from pipelines.explore.segments import find

Run = Callable[..., Any]
QUICK = ("--steps", 150, "--code-size", 4)
SPOT = (20, 44)  # row and column of the defect


@pytest.fixture
def cloth(tmp_path: Path) -> Path:
    """Pictures of a weave: normal ones for training, and others, one of which has a spot."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    for folder, count in (("older", 10), ("good", 30), ("today", 4)):
        (tmp_path / folder / "roll").mkdir(parents=True)
        for number in range(count):
            up, along = rng.integers(0, 8, 2)
            weave = 120 + 50 * np.sin((rows + up) * 0.83) * np.sin((columns + along) * 0.71)
            weave += rng.normal(0, 6, weave.shape)
            if (folder, number) == ("today", 2):
                weave[SPOT[0] - 3 : SPOT[0] + 3, SPOT[1] - 3 : SPOT[1] + 3] = 200
            path = tmp_path / folder / "roll" / f"{number}.png"
            Image.fromarray(weave.clip(0, 255).astype(np.uint8)).save(path)
    return tmp_path


def test_the_defect_is_found_and_drawn_and_a_bad_file_stops_nothing(cloth: Path, denoise: Run) -> None:
    (cloth / "today" / "broken.png").write_bytes((cloth / "good/roll/0.png").read_bytes()[:300])
    out, model = cloth / "report.json", cloth / "m.safetensors"
    learned = ("--fit-on", cloth / "good", *QUICK, "--quantile", 0.99, "--save-model", model)
    heat = ("--heat-maps", cloth / "heat")
    result = denoise("anomalies", cloth / "today", "-o", out, *learned, *heat)
    assert result.exit_code == 1
    assert "Anomalous: 1 of 4 files" in result.stdout
    assert "Failed" in result.stderr
    assert "broken.png" in result.stderr
    report = json.loads(out.read_text())
    assert [Path(row["file"]).name for row in report["failed"]] == ["broken.png"]
    assert [Path(row["file"]).name for row in report["rows"] if row["anomalous"]] == ["2.png"]
    held = report["held_out"]
    assert held["windows"] == 12 * 49
    assert held["alarms"] <= 18  # 6 expected
    row = next(row for row in report["rows"] if row["anomalous"])
    assert len(row["windows"]) == 49
    for tile in sorted(row["ranges"], key=lambda place: -place["score"])[:4]:
        assert all(tile["start"][axis] <= SPOT[axis] <= tile["stop"][axis] for axis in (0, 1))
    assert [path.relative_to(cloth / "heat").as_posix() for path in (cloth / "heat").rglob("*.png")] == [
        "roll/2.png.png"
    ]
    picture = np.asarray(Image.open(cloth / "heat/roll/2.png.png"), float)
    height = np.asarray(Image.open(cloth / "today/roll/2.png")).shape[0]
    legend, picture = picture[height:], picture[:height]
    assert (legend[..., 0] - legend[..., 2]).max() > 200
    red = picture[..., 0] - picture[..., 2]
    place = np.unravel_index(red.argmax(), red.shape)
    assert abs(place[0] - SPOT[0]) <= 6
    assert abs(place[1] - SPOT[1]) <= 6

    strict = denoise("anomalies", cloth / "today/roll", "--model", model, "--quantile", 0.9999999)
    assert strict.exit_code == 0, strict.output
    assert f"Anomalous: 0 of 4 files; the least normal is {cloth}/today/roll/2.png (p " in strict.stdout

    again = denoise("anomalies", cloth / "today/roll", "-o", cloth / "again.csv", "--model", model)
    assert again.exit_code == 0, again.output
    with (cloth / "again.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert len(rows) == 4 * 49
    assert {Path(r["file"]).name for r in rows if r["file_anomalous"] == "True"} == {"2.png"}
    scores = [float(r["score"]) for r in rows if r["file"].endswith("2.png")]
    assert max(scores) == pytest.approx(row["score"], abs=1e-4)
    shown = json.loads(denoise("models", "show", model, "--json", "-").stdout)
    assert shown["anomalies"]["quantile"] == 0.99
    assert shown["anomalies"]["axes"].endswith(" letters")


def test_the_example_of_the_readme_finds_what_it_looks_for(tmp_path: Path, denoise: Run) -> None:
    (example,) = re.findall(
        r"^\$ denoise (anomalies .*)$", Path("README.md").read_text("utf-8"), re.MULTILINE
    )
    noise = ("--noise", "gaussian:snr_db=5", "--noise", "spikes:fraction=0.01")
    made = denoise("corrupt", "data/samples/reference/sensors", "-o", tmp_path / "noisy", *noise)
    assert made.exit_code == 0, made.output
    places = {"noisy/": f"{tmp_path}/noisy/", "found.json": f"{tmp_path}/found.json"}
    for old, new in places.items():
        example = example.replace(old, new)
    found = denoise(*example.split())
    assert found.exit_code == 0, found.output
    assert "Anomalous: 1 of 1 file" in found.stdout
    assert "too few" not in found.stdout


def test_the_time_of_a_fault_in_a_log(tmp_path: Path, denoise: Run) -> None:
    rng = np.random.default_rng(0)
    for folder, count in (("good", 1), ("today", 2)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            n = np.arange(6000)
            x = np.sin(n / 3) + rng.normal(0, 0.05, n.size)
            if (folder, number) == ("today", 1):
                x[3000:3060] += rng.normal(0, 0.8, 60)
            lines = "".join(f"{time / 100:.2f},{value:.4f}\n" for time, value in zip(n, x, strict=True))
            (tmp_path / folder / f"{number}.csv").write_text("time,x\n" + lines)
    out = tmp_path / "r.json"
    result = denoise(
        "anomalies", tmp_path / "today", "-o", out, "--fit-on", tmp_path / "good", *QUICK, "--window", 32
    )
    assert result.exit_code == 0
    good, bad = json.loads(out.read_text())["rows"]
    assert not good["anomalous"]
    assert bad["anomalous"]
    worst = max(bad["ranges"], key=lambda place: place["score"])
    assert 29.5 < worst["start_s"] <= 30.1
    assert 30.4 < worst["stop_s"] < 31
    assert "30." in result.stdout
    heat = ("-o", tmp_path / "2.json", "--fit-on", tmp_path / "good", "--window", 32, "--steps", 3)
    refused = denoise("anomalies", tmp_path / "today", *heat, "--heat-maps", tmp_path / "heat")
    assert refused.exit_code == 2
    assert "heat maps are of pictures, not of sensor" in refused.stderr


def test_columns_that_no_normal_log_has_are_named(tmp_path: Path, denoise: Run) -> None:
    rng = np.random.default_rng(0)

    def log(name: str, head: str, rate_hz: int = 100) -> Path:
        path = tmp_path / name
        waves = np.sin(np.arange(2000) / 3)[:, None] + rng.normal(0, 0.05, (2000, 2))
        path.write_text(
            head + "\n" + "".join(f"{n / rate_hz:.2f},{a:.4f},{b:.4f}\n" for n, (a, b) in enumerate(waves))
        )
        return path

    good, same, other = log("good.csv", "time,a,b"), log("same.csv", "time,b,a"), log("other.csv", "time,c,a")
    slow = log("slow.csv", "time,a,b", 10)
    short = tmp_path / "short.csv"
    short.write_text("".join(line.rpartition(",")[0] + "\n" for line in good.read_text().splitlines()))
    model = tmp_path / "m.safetensors"
    fit = ("--fit-on", good, "--steps", 20, "--window", 32, "--save-model", model)
    for number, learned in enumerate((fit, ("--model", model))):
        out = tmp_path / f"{number}.json"
        result = denoise("anomalies", same, other, slow, short, "-o", out, *learned)
        assert result.exit_code == 0, result.output
        notes = {
            Path(row["file"]).name: " ".join(row["notes"]) for row in json.loads(out.read_text())["rows"]
        }
        said = "judged as the columns a, b, though normal logs have none named c"
        assert said in notes["other.csv"]
        assert "lacks columns of the normal logs: b" in notes["short.csv"]
        assert "judged as" not in notes["same.csv"] + notes["short.csv"]
        assert "lacks" not in notes["same.csv"] + notes["slow.csv"]
        assert "sample rate" not in notes["same.csv"]
        assert "its sample rate is 10 Hz; the model was fitted on 100 Hz" in notes["slow.csv"]
        assert said[1:] in result.stdout


def test_calls_that_cannot_work(cloth: Path, denoise: Run) -> None:
    good, out = cloth / "good", cloth / "r.json"
    model = cloth / "plain.safetensors"
    assert denoise("embed", good, "-o", cloth / "c.npz", "--steps", 5, "--save-model", model).exit_code == 0
    (cloth / "there.json").write_text("mine")
    few = cloth / "good/roll/0.png"
    for arguments, sentence in (
        ((), "nothing says what is normal"),
        (("--online",), "expected -o FILE.csv"),
        (("-o", cloth / "r.txt", "--fit-on", good), "written as .json or .csv"),
        (("-o", cloth / "there.json", "--fit-on", good), "--overwrite replaces it"),
        (("-o", good / "r.json", "--fit-on", good), "is inside the input"),
        (("-o", out, "--model", model), "has no threshold"),
        (("-o", out, "--model", model, "--fit-on", good, "--steps", 3), "cannot be set with --model"),
        (("-o", out, "--model", model, "--tail", "quantile"), "without --fit-on"),
        (("-o", out, "--fit-on", few, "--window", 64), "expected about 100"),
        (("-o", out, "--fit-on", few, "--steps", 3), "have 49 segments; expected about 100"),
    ):
        result = denoise("anomalies", cloth / "today", *arguments)
        assert result.exit_code == 2, arguments
        assert sentence in result.stderr
    assert (cloth / "there.json").read_text() == "mine"
    assert not out.exists()


def test_a_threshold_for_a_model_that_is_there(cloth: Path, denoise: Run) -> None:
    model, out = cloth / "plain.safetensors", cloth / "r.json"
    trained = ("--steps", 150, "--code-size", 4, "--window", 16, "--save-model", model)
    assert denoise("embed", cloth / "older", "-o", cloth / "c.npz", *trained).exit_code == 0
    result = denoise(
        "anomalies", cloth / "today", "-o", out, "--model", model, "--fit-on", cloth / "good",
        "--quantile", 0.99,
    )  # fmt: skip
    assert result.exit_code == 0
    assert [row["anomalous"] for row in json.loads(out.read_text())["rows"]] == [False, False, True, False]


@pytest.mark.parametrize("level", [7.0, 7.25])
def test_a_level_that_never_changed_before_is_judged(tmp_path: Path, denoise: Run, level: float) -> None:
    rng = np.random.default_rng(0)
    for folder, jump in (("good", 0), ("today", 2)):
        (tmp_path / folder).mkdir()
        n = np.arange(3000)
        valve = np.where((n >= 1500) & (n < 1700), level + jump, level)
        cells = zip(n, np.sin(n / 3) + rng.normal(0, 0.05, n.size), valve, strict=True)
        lines = "".join(f"{time / 100:.2f},{x:.4f},{v:g},{time}\n" for time, x, v in cells)
        (tmp_path / folder / "a.csv").write_text("time,x,valve,count\n" + lines)
    out = tmp_path / "r.json"
    command = ("anomalies", tmp_path / "today", "-o", out, "--fit-on", tmp_path / "good", *QUICK)
    result = denoise(*command, "--window", 32)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(out.read_text())["rows"]
    assert row["channels"] == ["x", "valve"]
    found = [place for place in row["ranges"] if place["channel"] == 1]
    assert any(14.5 < place["start_s"] <= 15.1 for place in found)
    few = (
        "5 normal files or stretches set the threshold: too few to count one in 100, "
        "which takes about 248 normal files, or a quantile of 0.83 at most"
    )
    assert row["notes"] == [few, "not judged: count (counter)"]
    assert "Not judged: count (counter)" in result.stdout


def test_few_pictures_of_unlike_light_give_few_false_alarms(tmp_path: Path, denoise: Run) -> None:
    """Six pictures say little about the seventh, and a tile more of the same picture says nothing."""
    rng = np.random.default_rng(0)
    for folder, count in (("good", 6), ("today", 12)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            grain = rng.normal(0, rng.uniform(6, 14), (128, 128))
            Image.fromarray((rng.uniform(90, 150) + grain).clip(0, 255).astype(np.uint8)).save(
                tmp_path / folder / f"{number}.png"
            )
    out = tmp_path / "r.json"
    written = ("-o", out, "--report", tmp_path / "r.html")
    result = denoise("anomalies", tmp_path / "today", "--fit-on", tmp_path / "good", *written, *QUICK)
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    flags = [window["anomalous"] for row in report["rows"] for window in row["windows"]]
    assert np.mean(flags) <= 0.02
    assert not any(row["anomalous"] for row in report["rows"])
    assert report["held_out"]["windows"] == 3 * 225
    for text in (result.stdout, (tmp_path / "r.html").read_text("utf-8")):
        assert "3 normal files or stretches set the threshold: too few" in text


@pytest.mark.parametrize("channels", [1, 2])
def test_stretches_of_one_log_have_no_sample_in_common(tmp_path: Path, channels: int) -> None:
    time = np.arange(4000)
    columns = np.stack([time, *(1e4 * n + time + np.sin(time) for n in range(channels))], axis=1)
    names = ",".join(["time", *"xy"[:channels]])
    np.savetxt(tmp_path / "a.csv", columns, "%.3f", ",", header=names, comments="")
    cut = Segmentation("sensor", (64,), step=32)
    training, held, units = _split(find([tmp_path]), cut, seed=0)
    assert set(training.round(3).ravel()).isdisjoint(held.round(3).ravel())
    parts = [set(held[units == unit].round(3).ravel()) for unit in np.unique(units)]
    assert len(parts) == 5
    assert sum(map(len, parts)) == len(set().union(*parts))
    assert len(training) + len(held) > 0.8 * channels * 124
