"""Denoisers as modules of torch, learned and classical."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from denoise.arrays import Array
from denoise.models.contract import InputSpec, Model
from denoise.models.layers import as_batch

__all__ = ["CausalDenoiser", "Denoiser", "InputSpec", "SigmaDenoiser"]


class Denoiser(nn.Module, Model):
    """A model whose batches are tensors of torch.

    Shape:
        `(B, spec.channels, *S)` in and out; any number of channels with `spec.joint_channels`.
    """

    follows_precision = False  # it multiplies in the arithmetic that its `precision` names, which may be set

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch."""
        raise NotImplementedError

    def training_step(self, noisy: Tensor, _target: Tensor, /) -> tuple[Tensor, Tensor]:
        """Run one forward pass of training: the denoised batch, and a scalar to add to the loss."""
        return self(noisy), noisy.new_zeros(())

    @property
    def threads(self) -> int:
        """Number of threads of torch, which runs share."""
        return torch.get_num_threads()

    def run(self, noisy: Array, sigma: float | None = None) -> Array:
        """Denoise a batch of arrays."""
        with torch.inference_mode():
            parameter = next(self.parameters(), None)
            batch = as_batch(noisy, None if parameter is None else parameter.device)
            cleaned: Tensor = self(batch) if sigma is None else self(batch, sigma)
        return cleaned.cpu().numpy()

    def for_sample_rate(self, _sample_rate: float | None, /) -> Denoiser:
        """Return the denoiser for one recording of a rate in Hz (None: unknown), with fresh `diagnostics`."""
        return self

    def diagnostics(self) -> Mapping[str, float]:
        """Return figures by name of what was removed so far; most models have none."""
        return {}

    def config(self) -> dict[str, Any]:
        """Return the fields of the config dataclass that rebuilds this model."""
        return {}

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Initialise from the weights of another training run.

        Raises:
            RuntimeError: The weights belong to another model.
        """
        self.load_state_dict(weights)


class SigmaDenoiser(Denoiser):
    """A denoiser that takes the noise standard deviation, in the scale of its input; None estimates it."""

    takes_sigma = True

    def forward(self, noisy: Tensor, sigma: float | None = None) -> Tensor:
        """Denoise a batch whose noise has the standard deviation `sigma`."""
        raise NotImplementedError


class CausalDenoiser(Denoiser):
    """A denoiser of 1-D signals that carries state from block to block.

    The output is delayed by `latency` samples: output sample `n + latency` of the stream belongs to input
    sample `n`.
    """

    latency: int  # samples
    hop: int  # samples; the length of a block for `step` is a multiple of it

    def initial_state(self, batch: int, channels: int = 1) -> Any:
        """Return the state before the first sample of `batch` items of `channels` channels."""
        raise NotImplementedError

    def step(self, block: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Denoise the next block `(B, C, k * hop)`; C is 1 unless `spec.joint_channels`.

        The result has the same length and is delayed by `latency`.
        """
        raise NotImplementedError

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a whole signal `(B, C, T)`, latency removed."""
        samples = noisy.shape[-1]
        total = -(-(samples + self.latency) // self.hop) * self.hop
        padded = nn.functional.pad(noisy, (0, total - samples))
        out, _ = self.step(padded, self.initial_state(*noisy.shape[:2]))
        return out[..., self.latency : self.latency + samples]
