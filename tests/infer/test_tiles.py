"""Tile shapes: the fewest computed pixels that the memory allows."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor, nn

from denoise.dsp.windows import plan
from denoise.infer.tiles import Memory, band_shape, bytes_per_pixel, tile_shape
from denoise.models.base import Denoiser, InputSpec


def read(height: int, width: int, tile: tuple[int, int], halo: int, multiple_of: int) -> tuple[int, int]:
    """Count the pixels of the largest run, and of all runs."""
    down, across = (
        [w.read_stop - w.read_start for w in plan(size, kept, halo, multiple_of)]
        for size, kept in zip((height, width), tile, strict=True)
    )
    return max(down) * max(across), sum(down) * sum(across)


SIZES = [(1, 1), (7, 5000), (600, 600), (1000, 1000), (3000, 4000), (10_000, 10_000)]


@pytest.mark.parametrize(("halo", "multiple_of"), [(0, 1), (20, 1), (72, 8), (150, 16)])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_no_run_is_larger_than_allowed(height: int, width: int, halo: int, multiple_of: int) -> None:
    most = max(500_000, (4 * halo + 4 * multiple_of) ** 2)
    largest, _ = read(height, width, tile_shape(height, width, halo, multiple_of, most), halo, multiple_of)
    assert largest <= most


@pytest.mark.parametrize(("height", "width"), SIZES[2:])
def test_no_square_tile_of_that_memory_computes_less(height: int, width: int) -> None:
    most, halo, multiple_of = 400_000, 72, 8
    _, computed = read(height, width, tile_shape(height, width, halo, multiple_of, most), halo, multiple_of)
    side = int(most**0.5) - 2 * halo
    for square in range(side - 200, side, multiple_of):
        assert computed <= 1.02 * read(height, width, (square, square), halo, multiple_of)[1]


def test_what_fits_is_not_cut() -> None:
    assert tile_shape(700, 1000, 72, 8, 704 * 1000) == (704, 1000)
    assert tile_shape(700, 1000, 72, 8, 704 * 1000 - 1) != (704, 1000)


def test_less_memory_than_a_halo_needs_still_gives_a_tile() -> None:
    down, across = tile_shape(2000, 3000, 100, 8, 10)
    assert 200 <= down <= 232
    assert 200 <= across <= 232


def test_a_large_page_leaves_the_network_less() -> None:
    memory = Memory(total_bytes=100, max_bytes=50, min_bytes=10)
    assert [memory.for_network(held) for held in (0, 60, 95, 1000)] == [50, 40, 10, 10]


def test_little_memory_is_for_one_run_at_a_time() -> None:
    assert (Memory().runs(2), Memory(total_bytes=128 * 2**20).runs(2)) == (2, 1)
    allowed = 1_000_000
    rows, columns = band_shape(3000, 4000, 128, 8, lambda runs: allowed / runs, threads=2, runs=1)
    beside = band_shape(3000, 4000, 128, 8, lambda runs: allowed / runs, threads=2)
    assert rows * columns > beside[0] * beside[1]  # the memory of two


class Wide(Denoiser):
    """Layers of 100 channels at full size, two of which are in memory at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = InputSpec("image", channels=1)
        inside = [nn.Conv2d(100, 100, 1) for _ in range(3)]
        self.layers = nn.Sequential(nn.Conv2d(1, 100, 1), *inside, nn.Conv2d(100, 1, 1))

    def forward(self, noisy: Tensor) -> Tensor:
        return self.layers(noisy)


def test_bytes_a_pixel_are_those_that_live_together() -> None:
    model = Wide()
    assert bytes_per_pixel(model) == pytest.approx(2 * 100 * 4 + 2 * 4, rel=0.02)
    assert not any(layer._forward_hooks for layer in model.modules())


def test_a_filter_is_not_run_to_be_measured(gain: Callable[..., Any]) -> None:
    model = gain(modality="image", channels=3)
    assert bytes_per_pixel(model) > 0
    assert model.calls == 0


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize(
    ("height", "width"), [(512, 512), (1024, 1024), (3000, 4000), (8700, 11600), (16, 9)]
)
def test_bands_keep_to_the_memory(height: int, width: int, threads: int) -> None:
    allowed = 1_000_000
    rows, columns = band_shape(height, width, 128, 8, lambda runs: allowed / runs, threads)
    read = min(width, columns + 2 * 128)
    running = min(threads, -(-width // columns))
    assert read * rows <= allowed / running
    assert columns >= width or rows < height or threads > 1
    assert rows == height or rows % 8 == 0


def test_bands_without_memory_are_the_smallest_sensible_ones() -> None:
    assert band_shape(3000, 4000, 128, 8, lambda _: 1.0, 1) == (32, 272)
