"""Interpolation of missing samples by autoregressive models."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Doubles, Mask

RIDGE = 1e-9  # of the mean power: smooth signals are predicted so well that rounding would decide
_ORDER = 32  # samples
_CONTEXT = 512  # samples


def interpolate(pieces: Doubles, holes: NDArray[np.int_], errors: Doubles, ridge: float = 0.0) -> Doubles:
    """Fill the same holes of several pieces by the values that leave the least prediction error.

    Janssen, Veldhuis and Vries, "Adaptive interpolation of discrete-time signals that can be modeled as
    autoregressive processes", IEEE Trans. ASSP 34 (1986).

    Args:
        pieces: Samples around their mean; those in holes do not count.
        holes: Indices of the holes, ascending.
        errors: Prediction error filter `1, a1 ... ap`.
        ridge: Added to the diagonal of the normal equations, as a share of it.

    Shape:
        `(N, n)` pieces and `(h,)` holes; the result is `(N, h)`.
    """
    from scipy.linalg import solve_toeplitz

    order, size = errors.size - 1, pieces.shape[-1]
    known = pieces.copy()
    known[:, holes] = 0.0
    # The first `order` values are incomplete. `scipy.signal` takes half a CPU second to import.
    residual = np.stack([np.convolve(row, errors)[:size] for row in known])
    first, last = holes[0], holes[-1]
    if last - first + 1 == holes.size and first >= order and last + order < size:
        # The normal equations of one run amid known samples are Toeplitz.
        after = np.lib.stride_tricks.sliding_window_view(residual[:, first : last + order + 1], order + 1, 1)
        column = np.zeros(max(holes.size, order + 1))
        column[: order + 1] = np.correlate(errors, errors, "full")[order:]
        column[0] *= 1.0 + ridge
        found: Doubles = solve_toeplitz(column[: holes.size], -(after @ errors).T).T
        return found
    lags = np.arange(order, size)[:, None] - holes
    effect = np.where((lags >= 0) & (lags <= order), errors[lags.clip(0, order)], 0.0)
    least_squares: Doubles = np.linalg.lstsq(effect, -residual[:, order:].T, rcond=1e-10)[0].T
    return least_squares


def fill_autoregressive(
    samples: Doubles, missing: Mask, order: int = _ORDER, context: int = _CONTEXT
) -> Doubles:
    """Interpolate missing samples by models that are fitted to the known samples around each gap.

    Args:
        samples: `(n,)`; values at missing samples do not count.
        missing: `(n,)`.
        order: Of the models.
        context: Samples to each side of a gap that its model is fitted to.
    """
    filled = samples.copy()
    at = np.flatnonzero(missing)
    if not at.size or at.size == samples.size:
        return filled
    known = np.flatnonzero(~missing)
    filled[at] = np.interp(at, known, samples[known])
    for group in np.split(at, np.flatnonzero(np.diff(at) > order) + 1):
        low, high = max(0, group[0] - context), min(samples.size, group[-1] + 1 + context)
        level = filled[low:high].mean()
        local, gone = filled[low:high] - level, missing[low:high]
        model = _fit(local, gone, min(order, (high - low) // 8))
        if model is None:
            continue
        start, stop = max(0, group[0] - low - model.size + 1), min(high - low, group[-1] - low + model.size)
        holes = np.flatnonzero(gone[start:stop])
        if stop - start <= model.size or holes.size >= stop - start - model.size:
            continue
        found = interpolate(local[None, start:stop], holes, model)[0]
        bound = 1.5 * np.abs(local[~gone]).max()
        filled[low + start + holes] = np.clip(found, -bound, bound) + level
    return filled


def _fit(local: Doubles, gone: Mask, order: int) -> Doubles | None:
    """Return the prediction error filter `(order + 1,)`; None if too few samples are known."""
    if order < 1:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(local, order + 1)
    rows = windows[~np.lib.stride_tricks.sliding_window_view(gone, order + 1).any(axis=1)]
    if len(rows) < 2 * order:
        return None
    gram = rows.T @ rows
    ridge = RIDGE * np.trace(gram) / (order + 1)
    past = gram[:-1, :-1] + ridge * np.eye(order)
    weights = np.linalg.solve(past, gram[:-1, -1]) if ridge > 0 else np.zeros(order)
    return np.concatenate([[1.0], -weights[::-1]])
