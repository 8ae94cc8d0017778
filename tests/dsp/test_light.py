"""Light behind pixel values."""

import pytest
import torch

from denoise.dsp.light import from_light, to_light


def test_values_of_the_standard() -> None:
    values = torch.tensor([0.0, 0.02, 0.5, 1.0])
    assert to_light(values).tolist() == pytest.approx([0, 0.02 / 12.92, 0.21404, 1], abs=1e-5)


def test_the_way_back_also_beyond_black_and_white() -> None:
    values = torch.linspace(-0.1, 1.2, 131, dtype=torch.float64)
    torch.testing.assert_close(from_light(to_light(values)), values, atol=1e-4, rtol=0)
