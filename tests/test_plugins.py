"""A package of somebody else adds models and corruptions by its entry points alone."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CODE = '''
from dataclasses import dataclass
from typing import Annotated

from denoise.corruptions.base import Corruption
from denoise.corruptions.levels import Level, Number
from denoise.models.classical.filters import ImageMedian


@dataclass(frozen=True)
class Darker(Corruption):
    """Every pixel is darker."""

    name = "darker"
    modalities = ("image",)

    steps: Annotated[Level, Number("8-bit units", 0)] = 10.0

    def apply(self, clean, generator):
        return clean - float(self.steps) / 255


class Toy(ImageMedian):
    """A median by another name."""
'''
ENTRY_POINTS = """
[denoise.corruptions]
darker = toy_package:Darker
gaussian = toy_package:Darker

[denoise.models]
toy.image = toy_package:Toy
median.image = toy_package:Missing
nonsense = toy_package:Missing
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    info = root / "toy_package-1.0.dist-info"
    info.mkdir(parents=True)
    (root / "toy_package.py").write_text(CODE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return root


def run(package: Path, *arguments: object) -> str:
    environment = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, "-m", "denoise", *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_rows_of_a_package_work_and_replace_none(package: Path, tmp_path: Path) -> None:
    levels = np.full((16, 16, 3), 100, np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    run(package, "corrupt", tmp_path / "a.png", "-o", tmp_path / "b.png", "--noise", "darker:steps=20")
    assert (np.asarray(Image.open(tmp_path / "b.png")) == 80).all()
    run(package, "corrupt", tmp_path / "a.png", "-o", tmp_path / "c.png", "--noise", "gaussian:sigma=20")
    assert np.asarray(Image.open(tmp_path / "c.png")).std() > 10  # not the package's
    run(package, "clean", tmp_path / "c.png", "-o", tmp_path / "d.png", "--model", "toy")
    run(package, "clean", tmp_path / "c.png", "-o", tmp_path / "e.png", "--model", "median")
    assert (tmp_path / "d.png").read_bytes() == (tmp_path / "e.png").read_bytes()
    listed = [line.split()[0] for line in run(package, "models").splitlines()]
    assert listed.count("toy") == listed.count("median") == 1
    assert "nonsense" not in listed
