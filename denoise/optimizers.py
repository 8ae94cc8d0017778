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
            for weights in group["params"]:
                if weights.grad is None:
                    continue
                weights.mul_(1 - group["lr"] * group["weight_decay"])
                turns = _NARROW <= min(_matrix(weights).shape) <= _WIDE
                step = self._turned if turns else self._adam
                weights.add_(step(weights, group["momentum"]), alpha=-group["lr"])

    def _turned(self, weights: Tensor, momentum: float) -> Tensor:
        state, gradient = self.state[weights], weights.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - momentum)
        matrix = _matrix(gradient.lerp(state["momentum"], momentum))
        return 0.2 * math.sqrt(max(matrix.shape)) * orthogonalised(matrix).reshape(weights.shape)

    def _adam(self, weights: Tensor, momentum: float) -> Tensor:  # noqa: ARG002
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
    """Roughly U V^T of U S V^T: all singular values between about 0.7 and 1.2.

    Five quintic Newton-Schulz steps with the coefficients of Jordan et al. (2024), which reach that range
    fastest; closer to 1 gains nothing.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    # Each step multiplies x by a polynomial in x x^T; these are small and square, so they are collected.
    gram, collected = x @ x.T, torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(5):
        factor = -4.7750 * gram + 2.0315 * gram @ gram
        factor.diagonal().add_(3.4445)
        collected = factor @ collected
        gram = factor @ gram @ factor
    x = collected @ x
    return x.T if tall else x


OPTIMIZERS: Mapping[str, Callable[[nn.Module, float, float], torch.optim.Optimizer]] = MappingProxyType(
    {"adamw": adamw, "muon": muon}
)
