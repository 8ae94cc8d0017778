"""Chain for recordings other than speech: repair of drop-outs and clicks, removal of hum, then a network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from denoise.dsp.hum import crossfaded, mains_hum
from denoise.models.base import CausalDenoiser
from denoise.models.classical.restoration import ClickRepair, DropoutRepair

_MIN_RATIO, _MAX_RATIO = 0.9, 1.05  # of the rates of recording and network


@dataclass(frozen=True)
class FieldState:
    """State between parts of a recording, N = B * C."""

    history: Tensor  # last input samples, which the repairs need around its next part, `(N, n)`
    repaired: Tensor  # last part without clicks, whose hum is not final yet, `(N, hop)`
    hum: Tensor  # its hum by the window that ends with it, `(N, hop)`
    hum_power: Tensor  # mean power of the hum in that window, `(B,)`
    is_first: Tensor  # whether silence precedes that part, `(B,)`
    state: Any  # state of the network


class FieldChain(CausalDenoiser):
    """A network for steady noise behind stages that mend drop-outs and clicks and remove hum by rule.

    Hum is estimated in windows of two parts, which are crossfaded as far as they agree.

    Recordings of nearly the rate of the network are not resampled, which would spread their clicks.

    Args:
        network: A denoiser of recordings with seconds of look-ahead.
        sample_rate: Hz of the recording, if it is near that of the network; None for the network's own.
    """

    def __init__(self, network: CausalDenoiser, sample_rate: float | None = None) -> None:
        super().__init__()
        self.network, self.hop, self.precision = network, network.hop, network.precision
        self.spec = replace(network.spec, sample_rate=sample_rate or network.spec.sample_rate)
        assert self.spec.sample_rate is not None
        self._repairs = DropoutRepair(self.spec.sample_rate), ClickRepair(self.spec.sample_rate)
        # A multiple of the frames of the repairs, as the hop is.
        self._halo = sum(repair.spec.halo or 0 for repair in self._repairs)
        self.latency = self._halo + self.hop + network.latency

    def for_sample_rate(self, sample_rate: float | None, /) -> FieldChain:
        """Return the chain for recordings of a rate."""
        own = self.network.spec.sample_rate
        if sample_rate is None or own is None or not _MIN_RATIO <= sample_rate / own <= _MAX_RATIO:
            return self
        return FieldChain(self.network, sample_rate).train(self.training)

    def initial_state(self, batch: int, channels: int = 1) -> FieldState:
        """Return the state before the first sample: silence."""
        like, rows = next(self.network.parameters()), batch * channels
        return FieldState(
            like.new_zeros(rows, 2 * self._halo),
            like.new_zeros(rows, self.hop),
            like.new_zeros(rows, self.hop),
            like.new_zeros(batch),
            torch.ones(batch, dtype=torch.bool, device=like.device),
            self.network.initial_state(batch, channels),
        )

    def step(self, block: Tensor, state: FieldState) -> tuple[Tensor, FieldState]:
        """Denoise the next parts `(B, C, k * hop)`."""
        parts = []
        for part in torch.split(block, self.hop, -1):
            signal = torch.cat([state.history, part.flatten(0, 1)], 1)
            repaired = self._repair(signal)[:, self._halo : self._halo + self.hop]
            window = torch.cat([state.repaired, repaired], 1)
            found = self._hum(window.view(*part.shape[:2], -1), state.hum_power)
            last = ~repaired.view_as(part).flatten(1).any(1)
            hum = [
                crossfaded(before.cpu().numpy(), after.cpu().numpy(), bool(is_first), bool(is_last))
                for before, after, is_first, is_last in zip(
                    state.hum.view_as(part), found[..., : self.hop], state.is_first, last, strict=True
                )
            ]
            ready = state.repaired.view_as(part) - torch.from_numpy(np.stack(hum)).to(part)
            out, inner = self.network.step(ready, state.state)
            parts.append(out)
            state = FieldState(
                signal[:, self.hop :],
                repaired,
                found[..., self.hop :].flatten(0, 1),
                found.square().mean((1, 2)),
                ~state.repaired.view_as(part).flatten(1).any(1),
                inner,
            )
        return torch.cat(parts, -1), state

    def _repair(self, rows: Tensor) -> Tensor:
        values = rows.double().cpu().numpy()
        for repair in self._repairs:
            values = np.stack([repair.denoise(row) if row.any() else row for row in values])
        return torch.from_numpy(values).to(rows)

    def _hum(self, windows: Tensor, known_power: Tensor) -> Tensor:
        """Return the hum in windows `(B, C, 2 * hop)`."""
        assert self.spec.sample_rate is not None
        hum = [
            mains_hum(recording, self.spec.sample_rate, power)
            for recording, power in zip(windows.double().cpu().numpy(), known_power.tolist(), strict=True)
        ]
        return torch.from_numpy(np.stack(hum)).to(windows)
