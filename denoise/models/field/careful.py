"""Limit of what a model may remove from a recording, relative to the sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from denoise.models.base import CausalDenoiser

# Power of what is removed over that of the sound: hiss of up to -21 dB goes whole. What is louder may be the
# sound, the more so the louder it is: the limit falls by as much as it exceeds -21 dB, down to -23 dB.
_HISS_DB, _MAX_REMOVED_DB = -21.0, -23.0
_BALANCE_S = 10.0  # time constant of both powers


@dataclass(frozen=True)
class CarefulState:
    """State between parts of a recording, N = B * C."""

    delayed: Tensor  # input samples that wait for the output of the model, `(N, latency)`
    powers: Tensor  # fading energies of the sound and of what the model removes, `(B, 2)`
    share: Tensor  # share of the correction at the end of the last part, `(B,)`; below 0 before the first
    state: Any  # state of the model


class Careful(CausalDenoiser):
    """A model that removes no more than the hiss of a recording: over some ten seconds, -21 dB of the sound.

    A sound that is like noise cannot be told from it: rain, applause, the place behind birds. So where more
    would go, only a share of the correction is applied, and the sound stays as it is to within 23 dB.
    """

    def __init__(self, model: CausalDenoiser) -> None:
        super().__init__()
        self.model, self.spec, self.hop, self.latency = model, model.spec, model.hop, model.latency
        self.precision = model.precision
        self._fade = 0.5 ** (self.hop / ((self.spec.sample_rate or 1.0) * _BALANCE_S))

    def initial_state(self, batch: int, channels: int = 1) -> CarefulState:
        """Return the state before the first sample: silence."""
        like = next(self.model.parameters())
        return CarefulState(
            like.new_zeros(batch * channels, self.latency),
            like.new_zeros(batch, 2),
            like.new_full((batch,), -1.0),
            self.model.initial_state(batch, channels),
        )

    def step(self, block: Tensor, state: CarefulState) -> tuple[Tensor, CarefulState]:
        """Denoise the next parts `(B, C, k * hop)`."""
        parts = []
        for part in torch.split(block, self.hop, -1):
            size = part.shape[-1]
            cleaned, inner = self.model.step(part, state.state)
            signal = torch.cat([state.delayed, part.flatten(0, 1)], 1)
            noisy = signal[:, :size].view_as(part)
            removed = noisy - cleaned
            energies = torch.stack([noisy.square().sum((1, 2)), removed.square().sum((1, 2))], 1)
            powers = state.powers * self._fade + energies
            removed_db = 10 * torch.log10(powers[:, 1] / powers[:, 0].clamp(min=1e-20) + 1e-20)
            allowed_db = (2 * _HISS_DB - removed_db).clamp(min=_MAX_REMOVED_DB)
            share = 10 ** ((allowed_db - removed_db).clamp(max=0) / 20)
            first = torch.where(state.share < 0, share, state.share)
            ramp = torch.lerp(first[:, None], share[:, None], torch.linspace(0, 1, size, device=part.device))
            parts.append(noisy - ramp[:, None] * removed)
            state = CarefulState(signal[:, size:], powers, share, inner)
        return torch.cat(parts, -1), state
