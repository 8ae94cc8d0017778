"""Evidence that an item is not normal: distances, residuals and tails, each as the logarithm of a score."""

from __future__ import annotations

import base64
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.neighbours import Neighbours, rounded
from denoise.arrays import Array, Doubles, Floats
from denoise.signal import MODALITIES

_AXES = 128  # principal axes of the residuals; all others share one variance
_COORDINATES = 64  # principal axes in which distances are measured
_MAX_MEMORY = 2**20  # values of the normal items that are kept: 2 MiB in half precision
_MAX_KEPT = 4096  # items whose distance to the others sets a scale
_LOCAL = 5  # neighbours of a neighbourhood
_NEAREST = 3  # neighbours; one alone may be an outlier
_SAME = 1e-6  # relative difference of equal values in single precision
_FLAT = 0.1  # share of the median variance that windows must keep before flatness counts
_OCTAVES = (0.19, 0.44)  # edges between bands of the spectrum of a tile, in shares of its frequencies
_LEAST_POWER = 3e-4  # of a band, in the variance of normal items: about what 8 bits resolve
_MIN_SIDE = 8  # pixels of a tile that has such bands
_SIGNALS = tuple(name for name, modality in MODALITIES.items() if modality.ndim == 1)
_FOLDS, _FEW_FOR_FOLDS = 10, 200  # of few rows; from 200 on half as many folds do
_FEW_PER_COLUMN, _MAX_FEW = 30, 2000  # rows up to which one of them is felt in the covariance
_HALF, _SINGLE = "<f2", "<f4"  # precisions in a card


class Evidence(ABC):
    """Log scores of items, one line for each kind of evidence, larger for anomalies.

    Attributes:
        names: Kinds of evidence.
        notes: Remarks on the normal items that a user should read.
    """

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @abstractmethod
    def scores(self, X: ArrayLike) -> Doubles:
        """Compute the log scores of new items: `(len(names), n)`."""

    @abstractmethod
    def residual(self, X: ArrayLike) -> Floats:
        """Compute the deviation of each value from what is expected: `(n, values)` in the units of `X`."""

    @abstractmethod
    def whitened(self, X: ArrayLike) -> Floats:
        """Compute it in units of its spread on normal items: `(n, values)`."""

    def elbo(self, X: ArrayLike) -> Doubles | None:  # noqa: ARG002
        """Compute the evidence lower bound of each item in nats; None without a variational autoencoder."""
        return None


class RowEvidence(Evidence):
    """Evidence from rows of a table: no column has neighbours, and each may have a unit of its own.

    *Nearest*: distance to the nearest normal row, of standardised columns. *Distance*: mean to the nearest
    three. *Local*: mean to the nearest five, over the root of the same of these, half way to the local
    outlier factor (Breunig et al. 2000). *Whitened*: distance to the nearest in coordinates of the shrunk
    covariance (Ledoit & Wolf 2004). *Ranked*: mean distance to the nearest three, of the normal scores of
    the ranks (van der Waerden 1952), which no heavy tail of a column stretches. *Tails*: ranks of the values
    among normal ones, column by column (Li et al. 2022).
    """

    names = ("nearest", "distance", "local", "whitened", "ranked", "tails")

    def __init__(self, rows: ArrayLike) -> None:
        normal = np.asarray(rows, np.float64)
        self._offset, spread = normal.mean(axis=0), normal.std(axis=0)
        self._constant = spread <= 1e-12 * np.abs(normal).max(axis=0)
        self._scale = np.where(self._constant, 1.0, spread)
        # A value that no normal row has counts as much, in any unit, as one that a single row has.
        self._unseen = math.sqrt(len(normal))
        self.notes = tuple(
            f"column {index} is {self._offset[index]:g} in every normal row: any other value counts as rare"
            for index in np.flatnonzero(self._constant)
        )
        few = len(normal) < min(_FEW_PER_COLUMN * normal.shape[1], _MAX_FEW)
        self._few = normal if few else None
        kept = _spread_out(len(normal), max(_MAX_KEPT, _MAX_MEMORY // normal.shape[1]))
        standard = self._standardised(normal[kept])
        self._sorted = np.sort(standard, axis=0)
        self._axes, variances = _principal(standard)
        every = np.pad(variances, (0, standard.shape[1] - len(variances)))
        shrunk = shrinkage(standard, every)
        even = shrunk * every.mean() + 1e-9
        # Axes that few rows lack have the variance of the shrinkage alone.
        self._rest = 1 / math.sqrt(even)
        self._gain = 1 / np.sqrt((1 - shrunk) * variances + even) - self._rest
        self._near = Neighbours(standard)
        self._near_whitened = Neighbours(self._decorrelated(standard))
        self._near_ranked = Neighbours(self._ranked(standard))
        self._own = _spread_out(len(kept), _MAX_KEPT)
        # The distance of every kept row to its neighbours, by which a distance to it is judged.
        distances, self._own_near = self._near.nearest(standard, _LOCAL, np.arange(len(kept)))
        self._typical = distances.mean(axis=1)
        self._own_distances = distances
        self._deviation = np.sqrt(np.mean(self._left_over(standard, self._own_near) ** 2, axis=0)) + 1e-3

    def scores(self, X: ArrayLike) -> Doubles:
        """Compute the log scores of new rows: `(6, n)`."""
        standard = self._standardised(np.asarray(X, np.float64))
        return self._logs(standard, *self._near.nearest(standard, _LOCAL))

    def own_scores(self) -> Doubles:
        """Compute those of the normal rows, each without itself.

        Many rows are only left out as neighbours; few would still be felt in mean and covariance, so all is
        computed anew without each tenth, or fifth, of them.
        """
        if self._few is not None:
            count = _FOLDS if len(self._few) < _FEW_FOR_FOLDS else _FOLDS // 2
            folds = np.arange(len(self._few)) % count
            parts = [RowEvidence(self._few[folds != n]).scores(self._few[folds == n]) for n in range(count)]
            return np.concatenate(parts, axis=1)
        own = self._own
        return self._logs(self._near.points[own], self._own_distances[own], self._own_near[own], own)

    def residual(self, X: ArrayLike) -> Floats:
        """Compute the deviation of each value from the mean of the nearest normal rows."""
        standard = self._standardised(np.asarray(X, np.float64))
        left = self._left_over(standard, self._near.nearest(standard, _LOCAL)[1])
        return (left * self._scale).astype(np.float32)

    def whitened(self, X: ArrayLike) -> Floats:
        """Compute it in units of its spread on normal rows."""
        return np.asarray(self.residual(X) / (self._scale * self._deviation), np.float32)

    def _standardised(self, rows: Doubles) -> Floats:
        off = rows - self._offset
        other = np.where(np.abs(off) > _SAME * np.abs(self._offset), np.sign(off) * self._unseen, 0.0)
        return rounded(np.where(self._constant, other, off / self._scale))

    def _decorrelated(self, standard: Floats) -> Floats:
        """Whiten rows: unit variance along every axis."""
        return np.asarray(
            self._rest * standard + (standard @ self._axes.T * self._gain) @ self._axes, np.float32
        )

    def _ranked(self, standard: Floats) -> Floats:
        """Replace values by the normal scores of their ranks; beyond all normal ones the excess is added."""
        from scipy.special import ndtri

        ranked = np.empty_like(standard)
        for index, (column, values) in enumerate(zip(self._sorted.T, standard.T, strict=True)):
            rank = (np.searchsorted(column, values) + np.searchsorted(column, values, "right")) / 2
            least = 0.3 / (len(column) + 1)
            excess = np.maximum(values - column[-1], 0) + np.minimum(values - column[0], 0)
            ranked[:, index] = ndtri(np.clip((rank + 0.5) / (len(column) + 1), least, 1 - least)) + excess
        return ranked

    def _left_over(self, standard: Floats, near: NDArray[np.int64]) -> Floats:
        return standard - self._near.points[near].mean(axis=1)

    def _tails(self, standard: Floats, own: int) -> Doubles:
        """Sum of the log ranks of each row; `own` is 1 for rows that are among the normal ones."""
        count, total = len(self._sorted) - own, np.zeros(len(standard))
        for column, values in zip(self._sorted.T, standard.T, strict=True):
            below = np.searchsorted(column, values, "right") - own
            above = len(column) - np.searchsorted(column, values, "left") - own
            total -= np.log(np.minimum((2 * np.minimum(below, above) + 1) / (count + 1), 1))
        return total

    def _logs(
        self,
        standard: Floats,
        distances: Floats,
        near: NDArray[np.int64],
        own: NDArray[np.int64] | None = None,
    ) -> Doubles:
        """Log scores of rows whose nearest are known; `own` are their indices if they are normal ones."""
        whitened = self._near_whitened.nearest(self._decorrelated(standard), 1, own)[0][:, 0]
        ranked = self._near_ranked.nearest(self._ranked(standard), _NEAREST, own)[0].mean(axis=1)
        typical = self._typical[near].mean(axis=1) + 0.1 * np.median(self._typical) + 1e-9
        local = distances.mean(axis=1) / np.sqrt(typical)
        tails = self._tails(standard, int(own is not None))
        parts = [distances[:, 0], distances[:, :_NEAREST].mean(axis=1), local, whitened, ranked, tails]
        return np.log(np.stack(parts).astype(np.float64) + 1e-3)


class WindowEvidence(Evidence):
    """Evidence from windows of signals or images, whose values have one unit.

    *Distance* to the nearest normal windows, in their principal coordinates. *Residual* of an autoencoder,
    whitened by its covariance on normal windows (Japkowicz et al. 1995): an error counts for more where
    there is none normally. *Energy* about the normal mean. *Flatness*, the inverse variance: only of
    signals, and only if no normal window is flat. *Spectrum*, only of images: distance to the nearest normal
    tiles by level and logarithms of the power in octaves, which tells a texture wherever its parts lie.
    *Likelihood*, the evidence lower bound, only of a variational autoencoder.
    """

    def __init__(self, embedding: AutoencoderEmbedding, normal: ArrayLike) -> None:
        self.embedding = embedding
        residual, standard = self._residuals(normal)
        self._centre = _stored(standard.mean(axis=0))
        residual = residual[:: max(1, -(-len(residual) // (20 * _AXES)))]
        self._mean = _stored(residual.mean(axis=0))
        left = residual - self._mean
        # The covariance is only needed along the axes on which the normal residuals lie.
        _, singular, axes = np.linalg.svd(left.astype(np.float64), full_matrices=False)
        variances = singular**2 / len(left)
        count = min(_AXES, len(variances))
        rest = max(residual.shape[1] - count, 1)
        even = variances.sum() / residual.shape[1]
        shrunk = shrinkage(left, variances)
        self._axes = _stored(axes[:count])
        kept = (1 - shrunk) * variances[:count] + shrunk * even + 1e-12
        self._variances = kept.astype(_SINGLE).astype(np.float64)
        self._rest = float((1 - shrunk) * variances[count:].sum() / rest + shrunk * even) + 1e-12
        about = standard - self._centre
        some = about[_spread_out(len(about), 20 * _COORDINATES)]
        self._coordinates = _stored(np.linalg.svd(some, full_matrices=False)[2][:_COORDINATES])
        memory = about @ self._coordinates.T
        self._near = Neighbours(memory[_spread_out(len(memory), _MAX_MEMORY // memory.shape[1] // 4)])
        self.names = ("distance", "residual", "energy")
        spread = standard.var(axis=1, dtype=np.float64)
        if embedding.modality in _SIGNALS and spread.min() > _FLAT * np.median(spread):
            self.names += ("flatness",)
        if len(embedding.item_shape_) == 3 and min(embedding.item_shape_[1:]) >= _MIN_SIDE:
            self.names += ("spectrum",)
            spectra = self._spectra(standard)
            self._typical, spread = _stored(spectra.mean(axis=0)), spectra.std(axis=0)
            self._spread = _stored(np.where(spread > 1e-2, spread, 1.0))
            spectra = (spectra - self._typical) / self._spread
            self._near_spectra = Neighbours(spectra[_spread_out(len(spectra), 4 * _MAX_KEPT)])
        if embedding.divergence(np.asarray(normal)[:1]) is not None:
            self.names += ("likelihood",)

    def scores(self, X: ArrayLike) -> Doubles:
        """Compute the log scores of items: `(len(names), n)`."""
        residual, standard = self._residuals(X)
        left, about = residual - self._mean, standard - self._centre
        along = np.square(left @ self._axes.T, dtype=np.float64)
        beside = np.square(left, dtype=np.float64).sum(axis=1) - along.sum(axis=1)
        parts = {
            "distance": self._near.nearest(about @ self._coordinates.T, _NEAREST)[0].mean(axis=1),
            "residual": (along / self._variances).sum(axis=1) + np.maximum(beside, 0) / self._rest,
            "energy": np.square(about, dtype=np.float64).sum(axis=1),
        }
        if "flatness" in self.names:
            parts["flatness"] = 1 / (standard.var(axis=1, dtype=np.float64) + 1e-9)
        if "spectrum" in self.names:
            spectra = (self._spectra(standard) - self._typical) / self._spread
            parts["spectrum"] = self._near_spectra.nearest(spectra, _NEAREST)[0].mean(axis=1)
        if "likelihood" in self.names:
            parts["likelihood"] = np.square(residual, dtype=np.float64).sum(axis=1) + self._nats(X)
        return np.log(np.stack([parts[name] for name in self.names]).astype(np.float64) + 1e-9)

    def residual(self, X: ArrayLike) -> Floats:
        """Compute the residual of the reconstruction."""
        return self._residuals(X)[0] * np.float32(self.embedding.scale_)

    def whitened(self, X: ArrayLike) -> Floats:
        """Compute the residual, whitened by its covariance on normal items."""
        left = self._residuals(X)[0] - self._mean
        gain = 1 / np.sqrt(self._variances) - 1 / math.sqrt(self._rest)
        whitened = left / math.sqrt(self._rest) + (left @ self._axes.T * gain) @ self._axes
        return np.asarray(whitened, np.float32)

    def elbo(self, X: ArrayLike) -> Doubles | None:
        """Compute it: the negative squared residual less the divergence from the prior."""
        if "likelihood" not in self.names:
            return None
        return -(np.square(self._residuals(X)[0], dtype=np.float64).sum(axis=1) + self._nats(X))

    def _nats(self, X: ArrayLike) -> Doubles:
        nats = self.embedding.divergence(X)
        assert nats is not None
        return nats

    def _spectra(self, standard: Floats) -> Floats:
        """Compute the level of each channel and half the log power of all in 4 x 4 bands: `(n, numbers)`."""
        from scipy.fft import dctn

        tiles = standard.reshape(-1, *self.embedding.item_shape_)
        power = np.square(dctn(tiles, axes=(-2, -1), norm="ortho")).sum(axis=1)
        power[:, 0, 0] = 0
        for axis in (1, 2):
            side = power.shape[axis]
            edges = [0, 1, *(max(2, round(share * side)) for share in _OCTAVES)]
            sizes = np.diff([*edges, side]).reshape((-1, 1) if axis == 1 else -1)
            power = np.add.reduceat(power, edges, axis=axis) / sizes
        logs = np.log(power.reshape(len(power), -1)[:, 1:] + _LEAST_POWER) / 2
        return np.concatenate([tiles.mean(axis=(2, 3)), logs], axis=1).astype(np.float32)

    def _residuals(self, X: ArrayLike) -> tuple[Floats, Floats]:
        """Compute the residual of each item, and the items: both `(n, values)` in the scale of training."""
        back = self.embedding.inverse_transform(self.embedding.encode(X))
        items = np.asarray(X, np.float32).reshape(len(back), -1)
        offset, scale = np.float32(self.embedding.offset_), np.float32(self.embedding.scale_)
        return (items - back.reshape(len(back), -1)) / scale, (items - offset) / scale

    def as_card(self) -> dict[str, Any]:
        """Return what `of_card` needs besides the autoencoder, for the card of a weights file."""
        spectrum = (
            {
                "spectra": packed(self._near_spectra.points, _HALF),
                "typical": packed(self._typical, _HALF),
                "spread": packed(self._spread, _HALF),
            }
            if "spectrum" in self.names
            else {}
        )
        return {
            **spectrum,
            "evidence": list(self.names),
            "rest": self._rest,
            "variances": packed(self._variances, _SINGLE),
            "mean": packed(self._mean, _HALF),
            "centre": packed(self._centre, _HALF),
            "axes": packed(self._axes, _HALF),
            "coordinates": packed(self._coordinates, _HALF),
            "memory": packed(self._near.points, _HALF),
        }

    @classmethod
    def of_card(cls, embedding: AutoencoderEmbedding, known: Mapping[str, Any]) -> Self:
        """Restore the evidence of an autoencoder.

        Raises:
            ValueError, TypeError, LookupError, AttributeError: The card is damaged.
        """
        evidence = cls.__new__(cls)
        evidence.embedding = embedding
        size = math.prod(embedding.item_shape_)
        evidence.names = tuple(known["evidence"])
        if not {"distance", "residual", "energy"} <= set(evidence.names):
            raise ValueError(f"the kinds of evidence are {evidence.names}")
        evidence._variances = unpacked(known["variances"], _SINGLE).astype(np.float64)
        evidence._rest = float(known["rest"])
        if not (evidence._variances > 0).all() or not evidence._rest > 0:
            raise ValueError("a variance is not positive")
        evidence._mean = unpacked(known["mean"], _HALF, size)
        evidence._centre = unpacked(known["centre"], _HALF, size)
        evidence._axes = unpacked(known["axes"], _HALF, len(evidence._variances) * size).reshape(-1, size)
        evidence._coordinates = unpacked(known["coordinates"], _HALF).reshape(-1, size)
        evidence._near = Neighbours(unpacked(known["memory"], _HALF).reshape(-1, len(evidence._coordinates)))
        if "spectrum" in evidence.names:
            evidence._typical = unpacked(known["typical"], _HALF)
            evidence._spread = unpacked(known["spread"], _HALF, len(evidence._typical))
            points = unpacked(known["spectra"], _HALF).reshape(-1, len(evidence._typical))
            evidence._near_spectra = Neighbours(points)
            if not (evidence._spread > 0).all():
                raise ValueError("its spectra have no spread")
        return evidence


def is_signal(rows: ArrayLike) -> bool:
    """Tell flattened windows of a signal or image from rows of a table, by the likeness of neighbours.

    Neighbouring samples resemble each other more than distant ones; neighbouring columns of a table do not,
    unless somebody sorted them.
    """
    values = np.asarray(rows, np.float64)
    values = values[:, values.std(axis=0) > 1e-9 * (np.abs(values).max() or 1)]
    count = values.shape[1]
    if count < 16 or len(values) < 3:
        return False
    alike = np.corrcoef(values[_spread_out(len(values), _MAX_KEPT)].T)
    neighbours = float(np.diag(alike, 1).mean())
    others = abs(float(alike.sum() - count) / (count * (count - 1)))
    return bool(neighbours > max(0.25, 2 * others))


def _principal(centred: ArrayLike) -> tuple[Doubles, Doubles]:
    """Principal axes `(k, values)` of items about their mean, and the variances along them, none 0."""
    items = np.asarray(centred, np.float64)
    wide = len(items) < items.shape[1]
    variances, vectors = np.linalg.eigh((items @ items.T if wide else items.T @ items) / len(items))
    kept = variances > 1e-9 * max(variances[-1], 1e-9)
    variances, axes = variances[kept], vectors.T[kept]
    if wide:
        axes = axes @ items / np.sqrt(variances * len(items))[:, None]
    return axes, variances


def shrinkage(centred: ArrayLike, variances: Doubles) -> float:
    """Compute the shrinkage of a covariance towards one variance for all axes, in 0..1 (Ledoit & Wolf 2004).

    Args:
        centred: Items `(n, values)` about their mean.
        variances: Eigenvalues of their covariance.
    """
    items = np.asarray(centred)
    squares = np.square(items, dtype=np.float64).sum(axis=1)
    spread = float((variances**2).sum() - variances.sum() ** 2 / items.shape[1])
    noise = float((squares**2).mean() - (variances**2).sum()) / len(items)
    return min(1.0, max(noise, 0.0) / spread) if spread > 0 else 1.0


def _spread_out(count: int, most: int) -> NDArray[np.int64]:
    """Indices of at most `most` of `count` items, a random subset of fixed seed in ascending order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _stored(array: Array) -> Floats:
    """Round to the precision of a card, so that a saved detector gives the same scores."""
    return array.astype(_HALF).astype(np.float32)


def packed(array: ArrayLike, dtype: str) -> str:
    """Encode numbers as text for a card."""
    return base64.b64encode(np.asarray(array).astype(dtype).tobytes()).decode("ascii")


def unpacked(text: str, dtype: str, count: int | None = None) -> Floats:
    """Decode `packed` numbers.

    Raises:
        ValueError: There are none, another number than `count`, or some that are not finite.
    """
    numbers = np.frombuffer(base64.b64decode(text, validate=True), dtype).astype(np.float32)
    if not numbers.size or not np.isfinite(numbers).all() or count not in (None, numbers.size):
        raise ValueError(f"{numbers.size} numbers, or some that are not finite")
    return numbers
