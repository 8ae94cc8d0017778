"""Names of files and folders that are no UTF-8, in everything that is written about them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from pipelines import report

Run = Callable[..., Any]
ESCAPED = r"a\udcff0.png"  # as JSON has it
TRAINED = ("--steps", 3, "--window", 16)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two folders of two pictures; no name is UTF-8."""
    root = tmp_path / "in"
    for folder in (b"d\xff", b"e\xfe"):
        (root / os.fsdecode(folder)).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 255, (48, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / os.fsdecode(folder) / os.fsdecode(b"a\xff%d.png" % number))
    return root


def test_names_are_escaped_in_reports(photos: Path, tmp_path: Path, denoise: Run) -> None:
    out = tmp_path / "out"

    def run(*arguments: object, reports: tuple[str, ...]) -> None:
        options = [word for name in reports for word in ("--" + name.split(".")[0], tmp_path / name)]
        assert denoise(*arguments, *options).exit_code == 0
        for name in reports:
            assert ESCAPED in (tmp_path / name).read_text("utf-8").replace(r"\\", "\\"), name
            (tmp_path / name).unlink()

    run("clean", photos, "-o", out, "--model", "none", reports=("report.html", "json.json", "log-json.jsonl"))
    run("score", photos, out, reports=("report.html", "json.json"))
    run("verify", out, reports=("json.json",))
    run("info", photos, reports=("json.json",))
    noise = ("--noise", "gaussian", "--levels", "25", "--models", "none")
    run("benchmark", photos, *noise, reports=("cases.csv",))
    normal = ("--fit-on", photos, *TRAINED, "--quantile", "0.5")
    run("anomalies", photos, *normal, reports=("report.html", "output.csv"))


def test_names_are_kept_by_codes(photos: Path, tmp_path: Path, denoise: Run) -> None:
    plotted = tmp_path / os.fsdecode(b"m\xff.png")
    model = tmp_path / os.fsdecode(b"m\xff.safetensors")
    made = denoise(
        "embed", photos, "-o", tmp_path / "a.npz", *TRAINED, "--plot", plotted, "--save-model", model
    )
    assert made.exit_code == 0, made.output
    assert plotted.stat().st_size
    assert denoise("reconstruct", tmp_path / "a.npz", "-o", tmp_path / "back").exit_code == 0
    found = {path.relative_to(tmp_path / "back") for path in (tmp_path / "back").rglob("*.png")}
    assert found == {path.relative_to(photos) for path in photos.rglob("*.png")}
    for name in ("a.csv", "a.parquet"):
        assert denoise("embed", photos, "-o", tmp_path / name, "--model", model).exit_code == 0
    files = pyarrow.parquet.read_table(tmp_path / "a.parquet")["file"].to_pylist()
    assert rf"d\udcff/{ESCAPED}" in files
    assert files == [line.split(",")[0] for line in (tmp_path / "a.csv").read_text("utf-8").splitlines()[1:]]


def test_standard_output_takes_every_name(capsys: pytest.CaptureFixture[str]) -> None:
    report.write_text(report.STDOUT, os.fsdecode(b"a\xff0.png"))
    assert capsys.readouterr().out == ESCAPED
