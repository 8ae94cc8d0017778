"""A person at a terminal: help, versions, settings, completion, cards, and a log for programs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from pipelines.cli.group import COMMANDS

Run = Callable[..., Result]
_NEAR_FORMATS = (("jpg", "jpeg"), ("tif", "tiff"), ("PNG", "png"), ("wave", "wav"))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_module_is_the_command() -> None:
    run = subprocess.run([sys.executable, "-m", "denoise", "-V"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith("denoise ")


@pytest.mark.parametrize("workers", [1, 2])
def test_no_warning_of_a_library_reaches_the_user(folder: Path, workers: int) -> None:
    pixels = np.random.default_rng(0).normal(100, 9, (64, 80)).astype(np.float32)
    pixels[:20, :20], pixels[40:, 60:] = -3.4e38, 3.4e38  # differences of which are no float32
    for name in ("a.tif", "b.tif"):
        Image.fromarray(pixels).save(folder / name)
    words = [sys.executable, "-m", "denoise", "clean", "a.tif", "b.tif", "-o", "out", "--model", "wavelet"]
    run = subprocess.run([*words, "--workers", str(workers)], capture_output=True, text=True, check=False)
    assert "a.tif" in run.stderr
    assert "Warning" not in run.stderr


@pytest.mark.parametrize("words", [["--version"], ["-V"], ["version"]])
def test_the_version_is_told(denoise: Run, words: list[str]) -> None:
    import denoise as library

    assert denoise(*words).stdout == f"denoise {library.__version__}\n"


def test_a_variable_of_a_container_does_not_make_the_command_a_version(
    denoise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENOISE_VERSION", "1.2")
    assert "model" in denoise("models").stdout


def test_help_of_a_command_is_its_help(denoise: Run) -> None:
    assert denoise("help", "models", "show").stdout == denoise("models", "show", "--help").stdout
    assert denoise("help").stdout == denoise("--help").stdout
    assert "did you mean clean" in denoise("help", "claen").stderr


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["claen"], "did you mean clean"),
        (["clean", "--strenth", "1"], "--strength"),
        (["clean", "x", "-o", "y", "--model", "fhoto"], "did you mean photo"),
        (["corrupt", "x", "-o", "y", "--noise", "gausian"], "did you mean gaussian"),
        (["models", "show", "spech"], "did you mean speech"),
        *((["clean", "x", "-o", "y", "--format", f], f"Did you mean {g}?") for f, g in _NEAR_FORMATS),
        (["embed", "x", "-o", "y.npz", "--kind", "sensors"], "Did you mean sensor?"),
    ],
)
def test_a_slip_of_the_finger_gets_a_hint(denoise: Run, folder: Path, words: list[str], hint: str) -> None:
    (folder / "x").write_bytes(b"\x89PNG\r\n\x1a\n")
    result = denoise(*words)
    assert result.exit_code == 2
    assert hint in result.stderr


def settings(denoise: Run, *commands: str) -> dict[str, tuple[str, str]]:
    """Value and source of the options, as `denoise config` gives them."""
    rows = json.loads(denoise("config", *commands, "--json", "-").stdout)["rows"]
    return {f"{row['command']} {row['option']}": (row["value"], row["source"]) for row in rows}


def test_a_file_is_weaker_than_the_environment_and_that_than_the_command(
    denoise: Run, folder: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "denoise.toml").write_text(
        '[clean]\nmodel = "median"\nkeep-mtime = true\nexclude = ["a", "b"]\n'
    )
    assert settings(denoise) == {
        "clean --model": ("median", "denoise.toml"),
        "clean --keep-mtime": ("True", "denoise.toml"),
        "clean --exclude": ("a,b", "denoise.toml"),
    }
    assert settings(denoise, "clean")["clean --strength"] == ("1.0", "default")
    image = media / "a.png"

    def model(*options: str) -> str:
        result = denoise("clean", image, "-o", folder / "out.png", "--overwrite", "--json", "-", *options)
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)["rows"][0]["model"]

    assert model() == "median"
    (folder / "denoise.toml").write_text('[clean]\nreport = "r.html"\n')  # by its flag
    assert settings(denoise) == {"clean --report": ("r.html", "denoise.toml")}
    model()
    assert (folder / "r.html").is_file()
    monkeypatch.setenv("DENOISE_CLEAN_MODEL", "gaussian")
    assert settings(denoise)["clean --model"] == ("gaussian", "DENOISE_CLEAN_MODEL")
    assert model() == "gaussian"
    assert model("--model", "none") == "none"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[clean]\nstrenth = 1", "denoise.toml: unknown setting of clean 'strenth'; did you mean strength"),
        ("strength = 1", "strength stands outside of a table"),
        ("[clean", "denoise.toml: cannot be read"),
        ("[clean]\nstrength = 7", "7.0 is not in the range 0<=x<=1. (in denoise.toml)"),
    ],
)
def test_wrong_settings_are_refused(denoise: Run, folder: Path, text: str, sentence: str) -> None:
    (folder / "denoise.toml").write_text(text)
    result = denoise("clean", "x", "-o", "y")
    assert result.exit_code == 2
    assert sentence in result.stderr
    for other in (["version"], ["-V"], ["help"], ["completion", "bash"]):
        assert denoise(*other).exit_code == 0


@pytest.mark.parametrize("command", [("clean", "x", "-o", "y"), ("config", "clean")])
def test_a_wrong_value_says_which_variable_has_it(
    denoise: Run, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DENOISE_CLEAN_STRENGTH", "abc")
    result = denoise(*command)
    assert result.exit_code == 2
    assert "'abc' is not a valid float range. (in DENOISE_CLEAN_STRENGTH)" in result.stderr


def test_an_unknown_variable_of_a_command_is_refused(
    denoise: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DENOISE_CLEAN_STRENGHT", "0.1")
    (folder / "x.csv").write_text("a\n1\n")
    result = denoise("clean", "x.csv", "-o", "y")
    assert result.exit_code == 2
    assert (
        "DENOISE_CLEAN_STRENGHT: unknown setting of clean 'strenght'; did you mean strength" in result.stderr
    )
    assert denoise("doctor").exit_code == 0


def test_a_file_that_is_missing_is_named_before_an_option(denoise: Run) -> None:
    result = denoise("clean", "nofile.png")
    assert result.exit_code == 2
    assert "nofile.png: no such file or folder" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_has_a_script_for_each_shell(denoise: Run, shell: str) -> None:
    assert "_DENOISE_COMPLETE" in denoise("completion", shell).stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["cl"], {"clean"}),
        (["clean", "--stren"], {"--strength"}),
        (["clean", "--model", "photo-"], {"photo-best", "photo-fast", "photo-sharp"}),
        (["benchmark", "--models", "none,wav"], {"none,wavelet"}),
        (["corrupt", "--noise", "gaussian+corr"], {"gaussian+correlated"}),
        (["models", "show", "spectral"], {"spectral-gate"}),
    ],
)
def test_completion_knows_commands_models_and_noises(words: list[str], expected: set[str]) -> None:
    line = " ".join(["denoise", *words])
    environment = os.environ | {
        "_DENOISE_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
    }
    command = [sys.executable, "-m", "pipelines.cli"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert {found.partition(",")[2] for found in run.stdout.split()} == expected, run.stderr


def test_a_card_is_short_and_its_json_is_whole(denoise: Run) -> None:
    shown = denoise("models", "show", "photo").stdout
    assert shown.startswith("photo: learned, cleans image\n")
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) < 40
    card = json.loads(denoise("models", "show", "photo", "--json", "-").stdout)
    assert card["architecture"] == "autoencoder"
    assert f"{card['parameters']:,}" in shown


def test_a_log_has_a_line_for_each_event(denoise: Run, media: Path, folder: Path) -> None:
    (media / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    log = folder / "run.jsonl"
    arguments = ("clean", media, "-o", folder / "out", "--model", "none", "--log-json", log)
    assert denoise(*arguments).exit_code == 1
    lines: list[dict[str, Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["event"] for line in lines] == ["start", *["file"] * 5, "end"]
    assert lines[0]["files"] == 5
    assert (lines[-1]["ok"], lines[-1]["failed"]) == (4, 1)
    assert {line["status"] for line in lines[1:-1]} == {"ok", "failed"}
    denoise(*arguments)
    assert len(log.read_text().splitlines()) == 10  # appended: the failed file again
    log.write_text("mine\n")
    assert denoise(*arguments).exit_code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="the limit stands for a full disk")
def test_a_disk_that_fills_leaves_no_half_line_in_a_log(folder: Path) -> None:
    limited = """
import resource, sys
from pathlib import Path
from denoise.errors import OutputError
from pipelines.cli.event_log import write_event
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for number in range(100):
        write_event(Path("run.jsonl"), "file", source="a" * 50, number=number)
except OutputError as error:
    print(error)
"""
    shown = subprocess.run([sys.executable, "-c", limited], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("run.jsonl: the log cannot be written")
    lines = (folder / "run.jsonl").read_text().splitlines(keepends=True)
    assert [json.loads(line)["number"] for line in lines] == list(range(len(lines)))
    assert len(lines) > 3
    assert lines[-1].endswith("\n")


def test_a_plan_of_many_files_is_a_summary(denoise: Run, media: Path, folder: Path) -> None:
    for number in range(25):
        (media / f"{number}.png").write_bytes((media / "a.png").read_bytes())
    shown = denoise("clean", media, "-o", folder / "out", "--dry-run").stdout
    assert "image: 27 files" in shown
    assert "24.png" not in shown
    assert "29 planned" in shown
    assert "24.png" in denoise("clean", media, "-o", folder / "out", "--dry-run", "-v").stdout


def test_the_overview_has_every_command(denoise: Run) -> None:
    shown = denoise("--help").stdout
    assert all(f"\n  {name} " in shown for name in COMMANDS)
