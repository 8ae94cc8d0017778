"""Mean of a network's results for flipped and transposed copies of a picture."""

from __future__ import annotations

import torch
from torch import Tensor

from denoise.models.base import Denoiser


class FlipEnsemble(Denoiser):
    """Mean of a network's results for copies of a picture, whose errors differ.

    Timofte, Rothe and Van Gool, "Seven ways to improve example-based single image super resolution" (2016)
    average all eight flips and transposes; the first two give more than half of that gain.

    Args:
        network: A denoiser of images that needs no preparation.
        copies: 2 is the picture and its transpose; 4 adds both turned by half a turn.

    Shape:
        As the network's.
    """

    def __init__(self, network: Denoiser, copies: int) -> None:
        super().__init__()
        self.network, self.spec, self.precision, self.copies = (
            network,
            network.spec,
            network.precision,
            copies,
        )

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch."""
        total = torch.zeros_like(noisy)
        for flips in ((), (2, 3))[: self.copies // 2]:
            flipped = noisy.flip(flips)
            total += self._run(flipped).flip(flips)
            total += self._run(flipped.transpose(2, 3)).transpose(2, 3).flip(flips)
        return total / self.copies

    def _run(self, noisy: Tensor) -> Tensor:
        return self.network(noisy.contiguous(memory_format=torch.channels_last))
