"""Bottlenecks between encoder and decoder: a code, or a distribution of codes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class PlainBottleneck(nn.Module):
    """A code smaller than the features around it (an undercomplete autoencoder).

    Args:
        encode_proj: Layer from features to a code.
        decode_proj: Layer from a code to features.
        axis: Axis of the units of the code.
        free_bits: Nats per unit that do not count in the divergence of a variational code.
    """

    values_per_unit = 1  # outputs of `encode_proj` for each unit of the code

    def __init__(
        self, encode_proj: nn.Module, decode_proj: nn.Module, axis: int = 1, free_bits: float = 0.0
    ) -> None:
        super().__init__()
        self.encode_proj, self.decode_proj = encode_proj, decode_proj
        self.axis, self.free_bits = axis, free_bits

    def encode(self, features: Tensor) -> Tensor:
        """Return the code."""
        return self.encode_proj(features)

    def draw(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the code to decode in training, and its divergence from the prior, here 0."""
        return self.encode(features), features.new_zeros(())

    def decode(self, code: Tensor) -> Tensor:
        """Return features for the decoder."""
        return self.decode_proj(code)


class VariationalBottleneck(PlainBottleneck):
    """A normal distribution for each unit of the code (Kingma & Welling 2014); the code is its mean."""

    values_per_unit = 2  # mean and logarithm of the variance

    def encode(self, features: Tensor) -> Tensor:
        """Return the mean."""
        return self.encode_proj(features).chunk(2, self.axis)[0]

    def draw(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Draw a code, and return it with the divergence from the standard normal distribution.

        The divergence is in nats per item. `free_bits` of each unit do not count (Kingma et al. 2016), so
        that training does not give up units.
        """
        mean, log_variance = self.encode_proj(features).chunk(2, self.axis)
        code = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        nats = _nats(mean, log_variance)
        units = nats.movedim(self.axis, -1).flatten(1, -2).sum(1) if nats.ndim > 2 else nats  # (B, code)
        return code, units.mean(0).clamp(min=self.free_bits).sum()

    def divergence(self, features: Tensor) -> Tensor:
        """Return the nats of each item, `(B,)`."""
        return _nats(*self.encode_proj(features).chunk(2, self.axis)).flatten(1).sum(1)


def _nats(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of normal distributions from the standard one."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)


BOTTLENECKS: Mapping[str, type[PlainBottleneck]] = {
    "plain": PlainBottleneck,
    "variational": VariationalBottleneck,
}
