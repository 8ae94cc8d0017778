"""What lies between encoder and decoder: a code, or a distribution of codes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn

__all__ = ["BOTTLENECKS", "PlainBottleneck", "VariationalBottleneck"]


class PlainBottleneck(nn.Module):
    """A code smaller than the features around it, and nothing else (an undercomplete autoencoder).

    Args:
        into: From features to a code.
        out_of: From a code to features.
        axis: Of the units of the code.
    """

    numbers = 1  # that `into` gives for each unit of the code

    def __init__(self, into: nn.Module, out_of: nn.Module, axis: int = 1) -> None:
        super().__init__()
        self.into, self.out_of, self.axis = into, out_of, axis

    def encode(self, features: Tensor) -> Tensor:
        """The code."""
        code: Tensor = self.into(features)
        return code

    def draw(self, features: Tensor, free_bits: float) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """The code that training decodes, and its divergence from the prior: none."""
        return self.encode(features), features.new_zeros(())

    def decode(self, code: Tensor) -> Tensor:
        """Features for the decoder."""
        features: Tensor = self.out_of(code)
        return features


class VariationalBottleneck(PlainBottleneck):
    """A normal distribution for each unit of the code (Kingma & Welling 2014); the code is its mean."""

    numbers = 2  # mean and logarithm of the variance

    def encode(self, features: Tensor) -> Tensor:
        """The mean."""
        mean: Tensor = self.into(features).chunk(2, self.axis)[0]
        return mean

    def draw(self, features: Tensor, free_bits: float) -> tuple[Tensor, Tensor]:
        """A code drawn from its distribution, and the divergence of that from the standard normal one.

        Args:
            features: Of the encoder.
            free_bits: Nats a unit that do not count (Kingma et al. 2016), so that units are not given up.

        Returns:
            The code, and nats an item of the batch.
        """
        mean, log_variance = self.into(features).chunk(2, self.axis)
        code = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        nats = _nats(mean, log_variance)
        units = nats.movedim(self.axis, -1).flatten(1, -2).sum(1) if nats.ndim > 2 else nats  # (B, code)
        return code, units.mean(0).clamp(min=free_bits).sum()

    def divergence(self, features: Tensor) -> Tensor:
        """Nats of each item, `(B,)`."""
        return _nats(*self.into(features).chunk(2, self.axis)).flatten(1).sum(1)


def _nats(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions from the standard one."""
    nats: Tensor = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
    return nats


BOTTLENECKS: Mapping[str, type[PlainBottleneck]] = MappingProxyType(
    {"plain": PlainBottleneck, "variational": VariationalBottleneck}
)
