"""Small real files for the pipelines, and the command line in process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner, Result
from PIL import Image

from pipelines.cli.group import cli


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A tree with two images, a recording and a sensor log, all noisy, with unusual names."""
    rng = np.random.default_rng(0)
    root = tmp_path / "in"
    (root / "süb dir").mkdir(parents=True)
    ramp = np.add.outer(np.arange(24), np.arange(32))[..., None] * [1.0, 2.0, 3.0]
    colour = ramp + rng.normal(0, 20, ramp.shape)
    Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8)).save(root / "a.png")
    Image.fromarray(np.clip(colour[..., 2], 0, 255).astype(np.uint8)).save(root / "süb dir" / "b c.png")
    time = np.arange(2000) / 8000
    sound = 0.3 * np.sin(2 * np.pi * 440 * time) + rng.normal(0, 0.03, time.size)
    sf.write(root / "t.wav", sound, 8000, subtype="PCM_16")
    values = np.sin(np.arange(200) / 20) + rng.normal(0, 0.1, 200)
    lines = [f"{n / 100:.2f},{value:.5f}\n" for n, value in enumerate(values)]
    (root / "s.csv").write_text("time,x\n" + "".join(lines))
    return root


Denoise = Callable[..., Result]


@pytest.fixture
def denoise() -> Denoise:
    """Run the command in this process; an exception that is not an exit fails the test."""

    def run(*arguments: object) -> Result:
        result = CliRunner(env={"DENOISE_TRACEBACK": "1"}).invoke(
            cli, [str(a) for a in arguments], prog_name="denoise"
        )
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


Rows = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture
def manifest_rows() -> Rows:
    """Read the rows of the manifest below a folder."""

    def rows(out: Path) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (out / "denoise-manifest.jsonl").read_text().splitlines()]

    return rows


Snapshot = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def snapshot() -> Snapshot:
    """Read every file below a folder except the manifest, whose rows hold times."""

    def take(folder: Path) -> dict[str, bytes]:
        return {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and path.name != "denoise-manifest.jsonl"
        }

    return take
