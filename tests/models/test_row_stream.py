"""Bands of rows: the same bits as one whole run, at every height of the bands."""

from typing import Any

import pytest
import torch

from denoise.models.autoencoder import build
from denoise.models.base import Denoiser
from denoise.models.reduced import in_bf16, in_int8

HEIGHT = 96


def network(**config: Any) -> Denoiser:
    torch.manual_seed(0)
    sizes = {"widths": (8, 12, 16), "blocks": (1, 2, 1), "fold": 2} | config
    return build(modality="image", channels=3, **sizes).eval()


def by_bands(model: Denoiser, image: torch.Tensor, band: int) -> list[torch.Tensor]:
    stream = model.row_stream()
    assert stream
    tops = range(0, image.shape[2], band)
    fed = (stream.feed(image[:, :, top : top + band], last=top == tops[-1]) for top in tops)
    return [rows for rows in fed if rows is not None]


@pytest.mark.parametrize("band", [8, 24, 40, HEIGHT])
@pytest.mark.parametrize(
    "model",
    [
        network(),
        network(fold=1, widths=(8, 12), blocks=2),
        network(fold=4, widths=(16,), blocks=2),
        network(skips=False, residual=False),
        in_bf16(network()),
        in_int8(network(), [(4.0, 4.0)] * 7, bf16=True),
    ],
    ids=["three scales", "no cells", "one scale", "no skips", "bf16", "int8"],
)
def test_bands_equal_the_whole(model: Denoiser, band: int) -> None:
    image = torch.rand(1, 3, HEIGHT, 40, generator=torch.Generator().manual_seed(1))
    image = image.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        rows = by_bands(model, image, band)
        torch.testing.assert_close(torch.cat(rows, 2), model(image), atol=1e-6, rtol=0)
    assert max(part.shape[2] for part in rows) <= band + (model.spec.halo or 0)


@pytest.mark.parametrize(
    "config", [{"code": 4}, {"code": 4, "code_activation": "sigmoid"}, {"backbone": "dense"}]
)
def test_a_code_stands_for_the_whole_image_and_has_no_bands(config: dict[str, Any]) -> None:
    assert network(**config).row_stream() is None


def test_a_signal_has_no_bands() -> None:
    assert build(modality="sensor", channels=1, widths=(8, 12)).row_stream() is None
