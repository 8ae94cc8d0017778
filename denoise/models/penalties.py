"""Penalties on the code that training adds to the reconstruction loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_MIN_ACTIVATION = 1e-6  # keeps the logarithms finite for units that are always on or always off


class CodeBatch(NamedTuple):
    """The code `(N, units)` of a batch, the batch itself, and the mean activation to aim at."""

    code: Tensor
    noisy: Tensor
    target_activation: float


def magnitude(batch: CodeBatch) -> Tensor:
    """Return the mean absolute value of a unit: most become zero, as in the lasso."""
    return batch.code.abs().mean()


def divergence_from_target(batch: CodeBatch) -> Tensor:
    """Return the Kullback-Leibler divergence of the mean activations from the target, summed (Ng 2011).

    Activations are in 0..1; each unit is to be on for few inputs, and for some.
    """
    target, mean = batch.target_activation, batch.code.mean(0).clamp(_MIN_ACTIVATION, 1 - _MIN_ACTIVATION)
    on = target * torch.log(target / mean)
    off = (1 - target) * torch.log((1 - target) / (1 - mean))
    return (on + off).sum()


def contraction(batch: CodeBatch) -> Tensor:
    """Return the squared Frobenius norm of the Jacobian of code by input, mean of items (Rifai et al. 2011).

    One random projection estimates it: for v of unit covariance the mean of |v J|^2 is |J|^2 (Hutchinson
    1990).
    """
    code, noisy, _ = batch
    (projected,) = torch.autograd.grad(code, noisy, torch.randn_like(code), create_graph=True)
    return projected.square().sum() / len(noisy)


PENALTIES: Mapping[str, Callable[[CodeBatch], Tensor]] = {
    "l1": magnitude,
    "kl": divergence_from_target,
    "contractive": contraction,
}
