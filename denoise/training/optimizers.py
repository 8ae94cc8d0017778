"""Optimisers, one row each: a model to a `torch.optim.Optimizer`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_MIN_SIDE = 16  # a first or last layer below it is too small to orthogonalise
_MAX_SIDE = 256  # orthogonalising a matrix with both sides above it costs a CPU more than the step itself


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Build AdamW (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)


def muon(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Build Muon for matrices and AdamW for the rest (Jordan et al. 2024), with one learning rate.

    The weights of a convolution form a matrix of output channels by inputs of one output.
    """
    return Muon(model.parameters(), lr=lr, weight_decay=weight_decay)


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose steps are replaced by the nearest orthogonal matrix (Jordan et al. 2024).

    Steps are scaled to the size of AdamW's, so both share a learning rate (Liu et al. 2025, "Muon is scalable
    for LLM training").

    Args:
        params: Parameters; those with a side below 16, or both above 256, get AdamW steps.
    """

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; `closure` is not used."""
        del closure
        for group in self.param_groups:
            by_size: dict[torch.Size, list[Tensor]] = {}  # orthogonalised as a batch, to occupy a GPU
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                if group["weight_decay"]:
                    weights.mul_(1 - group["lr"] * group["weight_decay"])
                size = _matrix(weights).shape
                if _MIN_SIDE <= min(size) <= _MAX_SIDE:
                    by_size.setdefault(size, []).append(weights)
                else:
                    weights.add_(self._adam(weights), alpha=-group["lr"])
            for size, several in by_size.items():
                steps = [_matrix(self._nesterov(weights, group["momentum"])) for weights in several]
                scale = -group["lr"] * 0.2 * math.sqrt(max(size))
                for weights, step in zip(several, orthogonalised(torch.stack(steps)), strict=True):
                    weights.add_(step.reshape(weights.shape), alpha=scale)

    def _nesterov(self, weights: Tensor, momentum: float) -> Tensor:
        """Update the momentum and return the look-ahead gradient."""
        state, gradient = self.state[weights], weights.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)

    def _adam(self, weights: Tensor) -> Tensor:
        state, gradient = self.state[weights], weights.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        state["step"] += 1
        state["mean"].lerp_(gradient, 0.1)
        state["square"].lerp_(gradient.square(), 0.001)
        count = int(state["step"])
        mean: Tensor = state["mean"] / (1 - 0.9**count)
        square: Tensor = state["square"] / (1 - 0.999**count)
        return mean / (square.sqrt() + 1e-8)


def _matrix(weights: Tensor) -> Tensor:
    return weights.reshape(len(weights), -1) if weights.ndim > 1 else weights.reshape(1, -1)


def orthogonalised(matrix: Tensor) -> Tensor:
    """Approximate U V^T of each matrix U S V^T: all singular values between about 0.7 and 1.2.

    Five quintic Newton-Schulz steps with the coefficients of Jordan et al. (2024).

    Shape:
        `(*, rows, columns)` in and out.
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    x: Tensor = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # Each step multiplies x by a polynomial in x x^T; these are small and square, so their product is formed.
    gram, collected = x @ x.mT, torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    for _ in range(5):
        factor = -4.7750 * gram + 2.0315 * gram @ gram
        factor.diagonal(dim1=-2, dim2=-1).add_(3.4445)
        collected = factor @ collected
        gram = factor @ gram @ factor
    x = collected @ x
    return x.mT if tall else x


OPTIMIZERS: Mapping[str, Callable[[nn.Module, float, float], torch.optim.Optimizer]] = {
    "adamw": adamw,
    "muon": muon,
}
