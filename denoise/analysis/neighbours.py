"""Nearest neighbours among normal items: by a tree in few dimensions, else by brute force."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from denoise.arrays import Floats

_BLOCK_VALUES = 2**22  # distances in memory at once: 16 MiB
_SPARE = 4  # more candidates than neighbours, whose order is measured again without differences of squares
_LARGEST = 60_000.0  # of half precision
_TREE_DIMENSIONS, _TREE_POINTS = 12, 2000  # up to and from which a k-d tree is faster


class Neighbours:
    """Memory of points, to which it finds the nearest for others.

    Points and queries are rounded to half precision alike, so that equal ones have the distance 0, and a
    memory that was stored in half precision gives the same distances.
    """

    def __init__(self, points: ArrayLike) -> None:
        self.points = rounded(points)
        memory = torch.from_numpy(self.points)
        self._centre = memory.mean(0)  # differences of squares are exact near nought only
        self._memory = memory - self._centre
        self._squares = self._memory.square().sum(1)
        self._tree = None
        if self.points.shape[1] <= _TREE_DIMENSIONS and len(self) >= _TREE_POINTS:
            from scipy.spatial import cKDTree

            # Balancing is slow where many points are equal.
            self._tree = cKDTree(self.points, balanced_tree=False, compact_nodes=False)

    def __len__(self) -> int:
        return len(self.points)

    def nearest(
        self, queries: ArrayLike, count: int, own: NDArray[np.int64] | None = None
    ) -> tuple[Floats, NDArray[np.int64]]:
        """Find the nearest points of each query, in ascending order of distance.

        Args:
            queries: `(m, values)`.
            count: Number of neighbours; fewer if there are fewer points.
            own: Index of a point for each query that is not its neighbour: the query itself.

        Shape:
            Distances and indices, each `(m, count)`.
        """
        count = min(count, len(self) - (own is not None))
        if self._tree is not None:
            return self._by_tree(rounded(queries), count, own)
        points = torch.from_numpy(rounded(queries)) - self._centre
        step = max(1, _BLOCK_VALUES // len(self))
        distances, indices = [], []
        for start in range(0, len(points), step):
            part = points[start : start + step]
            squares = torch.addmm(self._squares[None], part, self._memory.T, alpha=-2)
            if own is not None:
                squares[torch.arange(len(part)), torch.from_numpy(own[start : start + step])] = torch.inf
            near = squares.topk(min(count + _SPARE, squares.shape[1]), dim=1, largest=False).indices
            exact = (part[:, None] - self._memory[near]).square().sum(2).sqrt()
            if own is not None:
                exact[near == torch.from_numpy(own[start : start + step])[:, None]] = torch.inf
            order = exact.argsort(dim=1, stable=True)[:, :count]
            distances.append(exact.gather(1, order).numpy())
            indices.append(near.gather(1, order).numpy())
        return np.concatenate(distances), np.concatenate(indices)

    def _by_tree(
        self, points: Floats, count: int, own: NDArray[np.int64] | None
    ) -> tuple[Floats, NDArray[np.int64]]:
        assert self._tree is not None
        distances, indices = self._tree.query(points, np.arange(1, count + 1 + (own is not None)))
        if own is not None:
            order = np.argsort(indices == own[:, None], axis=1, kind="stable")[:, :count]
            distances, indices = (np.take_along_axis(found, order, 1) for found in (distances, indices))
        return distances.astype(np.float32), indices.astype(np.int64)


def rounded(points: ArrayLike) -> Floats:
    """Round to half precision, within its range."""
    values = np.clip(np.asarray(points, np.float32), -_LARGEST, _LARGEST)
    return values.astype(np.float16).astype(np.float32)
