"""Rounding to 8 bits: errors make up for each other where inputs are correlated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from denoise import weights
from denoise.errors import UsageError
from denoise.models.autoencoder import build
from denoise.training.rounding import rounded, shrink


def squared_error(weight: Tensor, moments: Tensor, integers: Tensor, step: Tensor) -> float:
    error = (integers.double() * step.double()[:, None, None, None] - weight.double()).flatten(1)
    return float(((error @ moments.double()) * error).sum())


@pytest.mark.parametrize("correlation", [0.0, 0.95])
def test_errors_make_up_for_each_other_where_inputs_are_correlated(correlation: float) -> None:
    weight = torch.randn(16, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    moments = torch.full((72, 72), correlation) + (1 - correlation) * torch.eye(72)
    integers, step = rounded(weight, moments)
    assert integers.dtype == torch.int8
    nearest = (weight / step.float()[:, None, None, None]).round().clamp(-127, 127)
    ratio = squared_error(weight, moments, integers, step) / squared_error(weight, moments, nearest, step)
    assert ratio == pytest.approx(1, abs=0.01) if not correlation else ratio < 0.3


def test_a_row_of_zeros_and_an_input_that_never_comes_are_rounded_too() -> None:
    weight = torch.zeros(2, 1, 3, 3)
    weight[1, 0, 1, 1] = 0.5
    integers, step = rounded(weight, torch.zeros(9, 9))
    assert torch.equal(integers[0], torch.zeros(1, 3, 3, dtype=torch.int8))
    assert float(integers[1, 0, 1, 1] * step[1].float()) == pytest.approx(0.5, rel=1e-3)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (folder := tmp_path / "photos").mkdir()
    rows, columns = np.mgrid[:64, :64]
    for number in range(3):
        gray = 120 + 60 * np.sin(rows / (3 + number)) + 40 * np.cos(columns / 5)
        Image.fromarray(np.stack([gray] * 3, -1).clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def test_a_file_shrinks_and_its_network_hardly_changes(tmp_path: Path, photos: Path) -> None:
    torch.manual_seed(0)
    network = build(modality="image", channels=3, widths=[16, 32], blocks=2, fold=2).eval()
    path = tmp_path / "mine.safetensors"
    weights.save(path, network, name="mine", architecture="autoencoder", facts={"limits": "none"})
    before, after = shrink(path, photos)
    assert (path.stat().st_size, after < 0.7 * before) == (after, True)
    again, card = weights.load(path)
    assert (card["limits"], card["parameters"]) == ("none", sum(p.numel() for p in network.parameters()))
    weights.verify(path)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        removed, error = network(image) - image, again(image) - network(image)
    assert error.std() < 0.02 * removed.std()
    for name, value in network.state_dict().items():
        if ".body." not in name:
            assert torch.equal(again.state_dict()[name], value.half().float()), name


def test_what_has_no_such_kernels_is_refused(tmp_path: Path, photos: Path) -> None:
    path = tmp_path / "mine.safetensors"
    network = build(modality="sensor", channels=1, widths=[8, 8])
    weights.save(path, network, name="mine", architecture="autoencoder", facts={})
    with pytest.raises(UsageError, match="has no residual blocks"):
        shrink(path, photos)
    weights.save(
        path,
        build(modality="image", channels=3, widths=[8, 8]),
        name="mine",
        architecture="autoencoder",
        facts={},
    )
    (empty := tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no photos"):
        shrink(path, empty)
