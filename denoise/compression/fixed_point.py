"""Networks in fixed point, whose results are the same on every machine.

Weights and features are multiples of powers of two, stored as float64. Products and sums below 2^53 steps
are exact, so neither the order of additions nor fused multiplication changes a bit. An entropy model needs
this: where the decoder's probabilities differ from the encoder's in one bit, all that follows is lost (Ballé,
Johnston & Minnen 2019, "Integer networks for data compression with latent-variable models").
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise.arrays import Doubles
from denoise.errors import WeightsError
from denoise.models.layers import ResidualBlock

WEIGHT_BITS = 14  # of fractions of a weight
FEATURE_BITS = 12  # of fractions of a feature
_LIMIT = 2.0**12  # of a feature; a larger one is clipped
_EXACT = 2.0 ** (53 - WEIGHT_BITS - FEATURE_BITS)  # sums below it are exact


def on_grid(x: Tensor, bits: int = FEATURE_BITS) -> Tensor:
    """Round to multiples of 2^-bits, as float64, within the limit."""
    return (x.double() * 2.0**bits).round().div_(2.0**bits).clamp_(-_LIMIT, _LIMIT)


@torch.no_grad()
def evaluate(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Run convolutions, residual blocks, ReLU and pixel shuffles on features of the grid.

    Shape:
        `(B, C, H, W)`, float64 on the grid, in and out.

    Raises:
        WeightsError: Weights so large that sums would not be exact.
    """
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            weight = (layer.weight.double() * 2.0**WEIGHT_BITS).round() / 2.0**WEIGHT_BITS
            bias = None if layer.bias is None else on_grid(layer.bias, WEIGHT_BITS)
            if not float(weight.abs().flatten(1).sum(1).max()) * _LIMIT + _LIMIT < _EXACT:
                raise WeightsError("the weights of the codec are too large for exact arithmetic")
            x = on_grid(F.conv2d(x, weight, bias, layer.stride, layer.padding))
        elif isinstance(layer, ResidualBlock):
            x = (x + evaluate(layer.body, x)).clamp_(-_LIMIT, _LIMIT)
        elif isinstance(layer, nn.ReLU):
            x = x.clamp(min=0)
        else:
            x = layer(x)
    return x


def exp(x: Doubles) -> Doubles:
    """Return e^x of numbers within -500..500 by additions, multiplications and divisions alone.

    The functions of mathematical libraries differ in their last bit between systems; these operations do not
    (IEEE 754). The error is below 1e-12 of the result.
    """
    small = x / 1024
    total = np.ones_like(x)
    for n in range(9, 0, -1):
        total = 1 + total * small / n
    for _ in range(10):
        total = total * total
    return total
