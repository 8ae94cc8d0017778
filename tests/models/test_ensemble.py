"""Means over flipped and transposed copies: no direction is preferred."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from denoise import load
from denoise.errors import UsageError
from denoise.models.base import Denoiser, InputSpec
from denoise.models.ensemble import FlipEnsemble

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


class Rows(Denoiser):
    """Sums down the rows, so it prefers a direction."""

    spec = InputSpec("image", channels=3, multiple_of=4, halo=8)

    def forward(self, noisy: Tensor) -> Tensor:
        return noisy.cumsum(2)


PICTURE = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def test_two_copies_treat_rows_and_columns_alike() -> None:
    model = FlipEnsemble(Rows(), 2)
    assert torch.allclose(model(PICTURE), (PICTURE.cumsum(2) + PICTURE.cumsum(3)) / 2)
    assert torch.allclose(model(PICTURE.mT), model(PICTURE).mT)


def test_four_copies_treat_up_and_down_alike() -> None:
    model = FlipEnsemble(Rows(), 4)
    flipped = PICTURE.flip(2, 3)
    assert not torch.allclose(FlipEnsemble(Rows(), 2)(flipped), FlipEnsemble(Rows(), 2)(PICTURE).flip(2, 3))
    assert torch.allclose(model(flipped), model(PICTURE).flip(2, 3))
    assert torch.allclose(model(PICTURE.mT), model(PICTURE).mT)


@pytest.mark.parametrize("model", ["photo", "auto"])
def test_the_mean_of_more_copies_is_nearer_to_the_clean_photo(model: str) -> None:
    noisy, clean = (
        np.asarray(Image.open(SAMPLES / folder / "coffee.png"))[:160, :160].astype(np.float32) / 255
        for folder in ("photos", "reference/photos")
    )
    one, two, four = (load(model, "image", ensemble=n).clean(noisy) - clean for n in (1, 2, 4))
    assert np.square(one).mean() > np.square(two).mean() > np.square(four).mean()


def test_photo_best_has_four_copies_by_default() -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (32, 40), np.uint8)
    one, default, four = (load("photo-best", ensemble=n).clean(noisy) for n in (1, None, 4))
    assert np.array_equal(default, four)
    assert not np.array_equal(default, one)


@pytest.mark.parametrize(
    ("model", "modality", "copies", "message"),
    [
        ("photo", "image", 3, "1, 2, 4"),
        ("nlm", "image", 2, "nlm"),
        ("speech", "audio", 2, "speech"),
        ("photo-sharp", "image", 2, "photo-sharp"),
    ],
)
def test_what_cannot_be_averaged_is_refused(model: str, modality: str, copies: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(model, modality, ensemble=copies)
