"""The denoiser of speech in files: a network, and a spectral gate that gives back what it took too much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from denoise.errors import UsageError
from denoise.models.base import CausalDenoiser
from denoise.models.classical.audio import SpectralGate
from denoise.models.speech import spectral_bigru as audio_bigru
from denoise.models.speech import spectral_gru as audio
from denoise.models.speech.spectral_gru import Shifted
from denoise.registry import unknown

__all__ = ["GatedSpeech", "GatedState", "build"]

_PART_S = 8  # of a recording that are cleaned at a time, about
# What network and gate leave over what they take, the mean of both: more is not noisy, and taken wrongly.
_CLEAN_DB = (20.0, 26.0)
_MOST_GATE = 0.85  # share of the gate where nothing is noisy: it leaves loud sounds as they are, takes hiss
_FADE = 3  # latencies of the network after the last sound, until all of its answer is out

_NETWORKS: Mapping[str, Callable[..., Shifted]] = MappingProxyType(
    {"spectral-gru": audio.build, "spectral-bigru": audio_bigru.build}
)


@dataclass(frozen=True)
class GatedState:
    """What passes from part to part of a recording.

    Args:
        heard: The last input samples, twice as many as the gate looks to each side, `(B, n)`.
        owed: Answers of the network that wait for the gate's, `(B, n)`.
        share: Of the gate at the end of the last part, `(B,)`; below 0 before the first.
        state: Of the network.
    """

    heard: Tensor
    owed: Tensor
    share: Tensor
    state: Any


class GatedSpeech(CausalDenoiser):
    """The weighted mean of what a network and a `SpectralGate` make of a recording.

    They err in different ways. A network that is unsure takes a weak sound away; the gate, which knows only
    that it stands out of the noise, leaves it, and leaves of the noise a faint, even rest instead of holes.
    The mean is better than either by PESQ and by ESTOI. The less the network takes, the more the gate counts:
    clean speech comes back nearly as it was. The gate looks seconds ahead, so this is for files.

    Args:
        network: A model of speech that carries state.
        gate: Share of the gate in the mean, where there is noise.
        settings: What rebuilds it: its config.

    Shape:
        `(B, C, T)` in and out.

    Raises:
        UsageError: `gate` is no share.
    """

    def __init__(self, network: Shifted, gate: float, settings: Mapping[str, Any]) -> None:
        super().__init__()
        if not 0.0 <= gate < 1.0:
            raise UsageError(f"gate is {gate}; expected a share from 0 to below 1")
        self.network, self._share, self._settings = network, gate, dict(settings)
        self._gate = SpectralGate()
        self.spec = network.spec
        assert self._gate.spec.halo is not None
        self._halo = self._gate.spec.halo
        part = round(_PART_S * (network.spec.sample_rate or 1.0))
        self.hop = -(-part // network.hop) * network.hop
        self.latency = -(-max(self._halo, network.latency) // self._gate.hop) * self._gate.hop

    def config(self) -> dict[str, Any]:
        """The network's name, its config, and the share of the gate."""
        return dict(self._settings)

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of another run, or of a network alone."""
        own = any(key.startswith("network.") for key in weights)
        self.network.warm_start(
            {key.removeprefix("network."): value for key, value in weights.items()} if own else weights
        )

    def training_step(self, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Only the network learns."""
        return self.network.training_step(noisy, target)

    def initial_state(self, batch: int, channels: int = 1) -> GatedState:
        """Silence before the first sample."""
        like, rows = next(self.parameters()), batch * channels
        return GatedState(
            like.new_zeros(rows, self.latency + self._halo),
            like.new_zeros(rows, self.latency - self.network.latency),
            like.new_full((rows,), -1.0),
            self.network.initial_state(batch, channels),
        )

    def step(self, block: Tensor, state: GatedState) -> tuple[Tensor, GatedState]:
        """Denoise the next parts `(B, C, k * hop)`."""
        parts = []
        for start in range(0, block.shape[-1], self.hop):
            part, state = self._part(block[..., start : start + self.hop], state)
            parts.append(part)
        return torch.cat(parts, -1), state

    def _part(self, block: Tensor, state: GatedState) -> tuple[Tensor, GatedState]:
        size, rows = block.shape[-1], block.flatten(0, 1)
        signal = torch.cat([state.heard, rows], 1)
        opened = self._opened(signal.view(*block.shape[:2], -1))[..., self._halo : self._halo + size]
        # Digital silence at the end, such as what fills the last part up, need not be heard.
        _, stop = _sounding(block)
        stop = min(size, -(-(stop + _FADE * self.network.latency) // self.network.hop) * self.network.hop)
        answered, inner = self.network.step(block[..., :stop], state.state)
        answered = nn.functional.pad(answered, (0, size - stop))
        answers = torch.cat([state.owed, answered.flatten(0, 1)], 1)
        ready = answers[:, :size].view_as(block)
        noisy = signal[:, self._halo : self._halo + size].view_as(block)
        last = state.share.view(block.shape[:2])[:, 0]
        share = self._share_of_gate(noisy, ready, opened, last)
        first = torch.where(last < 0, share, last)
        ramp = torch.lerp(first[:, None], share[:, None], torch.linspace(0, 1, size, device=first.device))
        out = torch.lerp(ready, opened, ramp[:, None])
        shares = share[:, None].expand(block.shape[:2]).flatten()
        return out, GatedState(signal[:, size:], answers[:, size:], shares, inner)

    def _share_of_gate(self, noisy: Tensor, left: Tensor, opened: Tensor, last: Tensor) -> Tensor:
        """How much the gate is to count in a part of each recording, `(B,)`; as before where it is silent."""
        # A network that does not know a voice takes it for noise, and the gate takes a babble for voices:
        # what both leave is clean.
        low, high = _CLEAN_DB
        clean = (((_left_db(noisy, left) + _left_db(noisy, opened)) / 2 - low) / (high - low)).clamp(0, 1)
        share = self._share + (_MOST_GATE - self._share) * clean
        return torch.where(noisy.abs().amax((1, 2)) > 0, share, last)

    def _opened(self, signal: Tensor) -> Tensor:
        """What the gate leaves; digital silence at either end is not listened to."""
        start, stop = _sounding(signal)
        if start == stop:
            return signal
        start = start // self._gate.hop * self._gate.hop
        return nn.functional.pad(self._gate(signal[..., start:stop]), (start, signal.shape[-1] - stop))


def _left_db(noisy: Tensor, left: Tensor) -> Tensor:
    """What is left of each recording over what was taken, as SI-SDR: only softer is not taken, `(B,)`."""
    both = (noisy * left).sum((1, 2)).square()
    energies = noisy.square().sum((1, 2)) * left.square().sum((1, 2))
    return 10 * torch.log10((both + 1e-20) / ((energies - both).clamp(min=0) + 1e-20))


def _sounding(signal: Tensor) -> tuple[int, int]:
    """The first sample that is not digital silence, and the one behind the last; (0, 0) where all are."""
    at = signal.abs().amax((0, 1)).nonzero().flatten()
    return (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 0)


def build(network: str = "spectral-gru", gate: float = 0.15, **config: Any) -> GatedSpeech:
    """A model from the name of its network, the share of the gate, and the network's config.

    Raises:
        UsageError: There is no such network.
    """
    if network not in _NETWORKS:
        raise unknown("network", network, _NETWORKS)
    inner = _NETWORKS[network](**config)
    return GatedSpeech(inner, gate, {"network": network, "gate": gate, **inner.config()})
