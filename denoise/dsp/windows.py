"""The index plan that images and signals share: integers only, so that it can be tested on its own.

A long axis is cut into windows. Each window reads more than it keeps: `halo` real neighbours on each side
that is a cut, and nothing beyond a true edge, where the network's own edge handling applies as it does in one
whole run. Reads begin and end on multiples of `multiple_of`, so a strided network sees the same phase in
every window. That is all it takes for windows put together to equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Window", "padded", "plan", "window"]


@dataclass(frozen=True, slots=True)
class Window:
    """One cut of an axis: keep `start:stop` out of what reading `read_start:read_stop` gave.

    `read_stop` may lie beyond the axis by less than `multiple_of`: the reader makes up values there.
    """

    start: int
    stop: int
    read_start: int
    read_stop: int

    @property
    def kept(self) -> slice:
        """Where the kept part lies inside what was read."""
        return slice(self.start - self.read_start, self.stop - self.read_start)


def padded(size: int, multiple_of: int) -> int:
    """`size` rounded up to a multiple."""
    return -(-size // multiple_of) * multiple_of


def window(start: int, size: int, tile: int, halo: int, multiple_of: int) -> Window:
    """The window that keeps up to `tile` values from `start` on.

    Args:
        start: First index to keep.
        size: Length of the axis.
        tile: How many values to keep, at most.
        halo: How many neighbours an output value may depend on, on each side.
        multiple_of: What the read length must be a multiple of.
    """
    stop = min(start + tile, size)
    read_start = max(0, start - halo) // multiple_of * multiple_of
    read_stop = min(padded(stop + halo, multiple_of), padded(size, multiple_of))
    return Window(start, stop, read_start, read_stop)


def plan(size: int, tile: int, halo: int, multiple_of: int) -> list[Window]:
    """Windows that keep each index of an axis exactly once, in order.

    >>> plan(10, 6, 1, 4)
    [Window(start=0, stop=6, read_start=0, read_stop=8), Window(start=6, stop=10, read_start=4, read_stop=12)]
    """
    return [window(start, size, tile, halo, multiple_of) for start in range(0, size, tile)]
