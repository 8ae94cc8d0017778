"""Index plan of windows, for images and signals: integers only.

A long axis is cut into windows. Each window reads `halo` real neighbours on each side that is a cut, and none
beyond a true edge, where the network handles the edge as it does in one whole run. Reads begin and end on
multiples of `multiple_of`, so a strided network has the same phase in every window. So windows put together
equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A window of an axis: read `read_start:read_stop`, keep `start:stop`.

    `read_stop` may exceed the axis by less than `multiple_of`: the caller pads the remainder.
    """

    start: int
    stop: int
    read_start: int
    read_stop: int

    @property
    def kept(self) -> slice:
        """Slice of the kept part within the read part."""
        return slice(self.start - self.read_start, self.stop - self.read_start)


def padded(size: int, multiple_of: int) -> int:
    """Round `size` up to a multiple."""
    return -(-size // multiple_of) * multiple_of


def window(start: int, size: int, tile: int, halo: int, multiple_of: int) -> Window:
    """Return the window that keeps up to `tile` values from `start` on.

    Args:
        tile: Maximum number of values to keep.
        halo: Neighbours on each side that an output value may depend on.
        multiple_of: Unit of the read length.
    """
    stop = min(start + tile, size)
    read_start = max(0, start - halo) // multiple_of * multiple_of
    read_stop = min(padded(stop + halo, multiple_of), padded(size, multiple_of))
    return Window(start, stop, read_start, read_stop)


def plan(size: int, tile: int, halo: int, multiple_of: int) -> list[Window]:
    """Return windows that keep each index of an axis exactly once, in order.

    >>> plan(10, 6, 1, 4)
    [Window(start=0, stop=6, read_start=0, read_stop=8), Window(start=6, stop=10, read_start=4, read_stop=12)]
    """
    return [window(start, size, tile, halo, multiple_of) for start in range(0, size, tile)]
