"""A package of somebody else adds models, corruptions and formats by its entry points alone."""

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

import numpy as np

from denoise.corruptions.base import Corruption
from denoise.corruptions.levels import Level, Number
from denoise.io.formats import Format
from denoise.io.image.base import Header, SinglePage
from denoise.models.classical.filters import ImageMedian
from denoise.signal import Page


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


class Pgm(SinglePage):
    """Portable gray map of 8 bits."""

    name = "PGM"
    dtypes = ("uint8",)
    channels = (1,)

    def header(self, data):
        width, height = map(int, data[:100].split()[1:3])
        return Header((Page(height, width, 1, "uint8", 0),))

    def decode(self, data, header):
        page = header.pages[0]
        pixels = np.frombuffer(data[len(data) - page.height * page.width :], np.uint8)
        return pixels.reshape(page.height, page.width, 1)

    def encode(self, file, info, picture):
        file.write(b"P5 %d %d 255\\n" % (picture.width, picture.height))
        for strip in picture.strips(picture.rows_per_strip()):
            file.write(strip.tobytes())


PGM = Pgm()
ROW = Format("PGM", "image", (".pgm",), "toy_package:PGM", rb"P5\\s")
'''
ENTRY_POINTS = """
[denoise.corruptions]
darker = toy_package:Darker
gaussian = toy_package:Darker

[denoise.models]
toy.image = toy_package:Toy
median.image = toy_package:Missing
nonsense = toy_package:Missing

[denoise.formats]
PGM = toy_package:ROW
broken = toy_package:Missing
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


def test_a_format_of_a_package_is_read_and_written_like_any_other(package: Path, tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(140, 200, (24, 32), np.uint8)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.pgm").write_bytes(b"P5 32 24 255\n" + noisy.tobytes())
    Image.fromarray(noisy).save(tmp_path / "in" / "b.png")
    shown = run(package, "clean", tmp_path / "in", "-o", tmp_path / "out", "--model", "median")
    assert "2 ok" in shown
    data = (tmp_path / "out" / "a.pgm").read_bytes()
    assert data.startswith(b"P5 32 24 255\n")
    cleaned = np.frombuffer(data[-24 * 32 :], np.uint8).reshape(24, 32)
    np.testing.assert_array_equal(cleaned, np.asarray(Image.open(tmp_path / "out" / "b.png")))
    assert cleaned.std() < noisy.std()
