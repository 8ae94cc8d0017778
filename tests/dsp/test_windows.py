"""Index plans of windows, without a model."""

from hypothesis import given
from hypothesis import strategies as st

from denoise.dsp.windows import padded, plan

SIZES = st.integers(1, 400)
TILES = st.integers(1, 500)
HALOS = st.integers(0, 120)
MULTIPLES = st.integers(1, 32)


@given(SIZES, TILES, HALOS, MULTIPLES)
def test_each_index_is_kept_once_and_in_order(size: int, tile: int, halo: int, multiple_of: int) -> None:
    kept = [i for w in plan(size, tile, halo, multiple_of) for i in range(w.start, w.stop)]
    assert kept == list(range(size))


@given(SIZES, TILES, HALOS, MULTIPLES)
def test_reads_hold_the_halo_or_end_at_a_true_edge(size: int, tile: int, halo: int, multiple_of: int) -> None:
    end = padded(size, multiple_of)
    assert 0 <= end - size < multiple_of
    for w in plan(size, tile, halo, multiple_of):
        assert w.read_start == 0 or w.read_start <= w.start - halo
        assert w.read_stop == end or w.read_stop >= w.stop + halo
        assert 0 <= w.read_start <= w.start < w.stop <= w.read_stop <= end
        assert list(range(w.read_start, w.read_stop))[w.kept] == list(range(w.start, w.stop))


@given(SIZES, TILES, HALOS, MULTIPLES)
def test_reads_are_aligned_and_bounded(size: int, tile: int, halo: int, multiple_of: int) -> None:
    for w in plan(size, tile, halo, multiple_of):
        assert w.read_start % multiple_of == 0
        assert (w.read_stop - w.read_start) % multiple_of == 0
        assert w.read_stop - w.read_start < tile + 2 * halo + 2 * multiple_of


def test_an_axis_that_fits_is_read_whole() -> None:
    (only,) = plan(100, 100, 30, 8)
    assert (only.start, only.stop, only.read_start, only.read_stop) == (0, 100, 0, 104)
