"""`denoise similar`: the nearest files of an archive of codes, and near-duplicates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Run = Callable[..., Any]


@pytest.fixture
def archive(tmp_path: Path, denoise: Run) -> Path:
    """Codes of twelve pictures of horizontal and twelve of vertical bars, one of them there twice."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("lying", "standing"):
        for number in range(12):
            picture = rng.normal(30, 5, (12, 12))
            start = rng.integers(1, 9)
            picture[start : start + 3] += 180
            picture = picture if name == "lying" else picture.T
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{name}{number:02}.png")
    (folder / "copy.png").write_bytes((folder / "lying03.png").read_bytes())
    out = tmp_path / "codes.npz"
    result = denoise("embed", folder, "-o", out, "--code-size", 4, "--steps", 60)
    assert result.exit_code == 0, result.output
    return out


def test_a_picture_is_next_to_its_kind_and_grouped_with_its_copy(archive: Path, denoise: Run) -> None:
    result = denoise("similar", archive.parent / "in" / "lying03.png", "--in", archive, "-k", 6)
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert {name for _, name in lines[:2]} == {"copy.png", "lying03.png"}
    assert [cosine for cosine, _ in lines[:2]] == ["1.000", "1.000"]
    assert [float(cosine) for cosine, _ in lines] == sorted((float(c) for c, _ in lines), reverse=True)
    assert len(lines) == 6
    assert sum(name.startswith(("lying", "copy")) for _, name in lines) >= 5

    result = denoise("similar", "--in", archive)
    assert result.exit_code == 0
    assert any({"copy.png", "lying03.png"} <= set(line.split()) for line in result.stdout.splitlines())
    for arguments, sentence in (
        (("--in", archive, "-k", 3), "--count cannot be set without FILE"),
        ((archive, "--in", archive), "is sensor, expected image"),
    ):
        refused = denoise("similar", *arguments)
        assert refused.exit_code != 0
        assert sentence in refused.output + refused.stderr
