"""What training may ask of a code besides a good reconstruction.

Each takes the code as `(N, units)`, the batch that it came from, and the mean activation that is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = ["PENALTIES", "contraction", "divergence_from_target", "magnitude"]

_SURE = 1e-6  # a unit is never taken for always on or always off


def magnitude(code: Tensor, noisy: Tensor, target_activation: float) -> Tensor:  # noqa: ARG001
    """Mean absolute value of a unit: most become zero, as in the lasso."""
    return code.abs().mean()


def divergence_from_target(code: Tensor, noisy: Tensor, target_activation: float) -> Tensor:  # noqa: ARG001
    """Kullback-Leibler divergence of the units' mean activations from the target, summed (Ng 2011).

    The units are shares between 0 and 1; each is to be on in few inputs, and in some.
    """
    mean = code.mean(0).clamp(_SURE, 1 - _SURE)
    on = target_activation * torch.log(target_activation / mean)
    off = (1 - target_activation) * torch.log((1 - target_activation) / (1 - mean))
    return (on + off).sum()


def contraction(code: Tensor, noisy: Tensor, target_activation: float) -> Tensor:  # noqa: ARG001
    """Squared Frobenius norm of the Jacobian of the code by its input, an item's mean (Rifai et al. 2011).

    By one random projection: for v of unit covariance the mean of |v J|^2 is |J|^2 (Hutchinson 1990).
    """
    (projected,) = torch.autograd.grad(code, noisy, torch.randn_like(code), create_graph=True)
    return projected.square().sum() / len(noisy)


PENALTIES: Mapping[str, Callable[[Tensor, Tensor, float], Tensor]] = MappingProxyType(
    {"l1": magnitude, "kl": divergence_from_target, "contractive": contraction}
)
