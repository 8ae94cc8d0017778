"""Optimizers: one row each; all take a model and give a `torch.optim.Optimizer`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["OPTIMIZERS", "Muon", "adamw", "muon"]

_NARROW = 16  # a matrix with a side below this is a first or last layer: too thin to be worth turning
_WIDE = 256  # one with both sides above this costs more to turn than a step of the rest, on a CPU


def adamw(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019): a step size for each weight."""
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay)


def muon(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """Muon for the matrices, AdamW for the rest (Jordan et al. 2024), under one learning rate.

    A convolution's weights are a matrix of output channels by all that enters one of them.
    """
    return Muon(model.parameters(), lr=lr, weight_decay=weight_decay)


class Muon(torch.optim.Optimizer):
    """Momentum whose every step is turned into the nearest matrix with all singular values alike.

    So no direction of a layer learns faster than another. Steps are scaled to the size of AdamW's, so that
    a learning rate means the same for both (Liu et al. 2025, "Muon is scalable for LLM training").

    Args:
        params: Any; those with fewer than two axes, a side below 16, or none below 257 are left to AdamW.
        lr: Learning rate.
        weight_decay: As in AdamW.
        momentum: Share of the past in the step (Nesterov).
    """

    def __init__(self, params: Any, lr: float, weight_decay: float = 0.0, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of everything that has a gradient; there is no closure to call."""
        del closure
        for group in self.param_groups:
            alike: dict[
                torch.Size, list[Tensor]
            ] = {}  # by size: turned in one go, which a GPU needs to be busy
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                if group["weight_decay"]:
                    weights.mul_(1 - group["lr"] * group["weight_decay"])
                size = _matrix(weights).shape
                if _NARROW <= min(size) <= _WIDE:
                    alike.setdefault(size, []).append(weights)
                else:
                    weights.add_(self._adam(weights), alpha=-group["lr"])
            for size, several in alike.items():
                ahead = [_matrix(self._ahead(weights, group["momentum"])) for weights in several]
                scale = -group["lr"] * 0.2 * math.sqrt(max(size))
                for weights, turned in zip(several, orthogonalised(torch.stack(ahead)), strict=True):
                    weights.add_(turned.reshape(weights.shape), alpha=scale)

    def _ahead(self, weights: Tensor, momentum: float) -> Tensor:
        """Nesterov's momentum."""
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
    """Roughly U V^T of U S V^T, of each of several: all singular values between about 0.7 and 1.2.

    Five quintic Newton-Schulz steps with the coefficients of Jordan et al. (2024), which reach that range
    fastest; closer to 1 gains nothing.

    Shape:
        `(*, rows, columns)` in and out.
    """
    tall = matrix.shape[-2] > matrix.shape[-1]
    x: Tensor = matrix.mT if tall else matrix
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # Each step multiplies x by a polynomial in x x^T; these are small and square, so they are collected.
    gram, collected = x @ x.mT, torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    for _ in range(5):
        factor = -4.7750 * gram + 2.0315 * gram @ gram
        factor.diagonal(dim1=-2, dim2=-1).add_(3.4445)
        collected = factor @ collected
        gram = factor @ gram @ factor
    x = collected @ x
    return x.mT if tall else x


OPTIMIZERS: Mapping[str, Callable[[nn.Module, float, float], torch.optim.Optimizer]] = MappingProxyType(
    {"adamw": adamw, "muon": muon}
)
