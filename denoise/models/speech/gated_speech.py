"""Architecture `gated-speech`: a network blended with a spectral gate, and restrained on good voices."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from denoise.dsp.windows import padded
from denoise.errors import UsageError
from denoise.models.base import CausalDenoiser
from denoise.models.classical.audio import SpectralGate
from denoise.models.speech import spectral_bigru, spectral_gru
from denoise.models.speech.restraint import HALF_TAPS, Restraint, RestraintState
from denoise.models.speech.spectral_gru import ShiftEnsemble
from denoise.registry import unknown

_PART_S = 8  # approximate length of the parts of a recording
# Ratio of output to removed noise, mean of network and gate: the gate's weight rises between these, because a
# recording above them is nearly clean and most of what the network removes is speech.
_CLEAN_DB = (20.0, 26.0)
_MAX_GATE = 0.85  # weight of the gate on clean recordings: it leaves loud sounds unchanged and removes hiss
_FADE = 3  # latencies of the network after the last sound until all of its output has come

_NETWORKS: Mapping[str, Callable[..., ShiftEnsemble]] = {
    "spectral-gru": spectral_gru.build,
    "spectral-bigru": spectral_bigru.build,
}


@dataclass(frozen=True)
class GatedState:
    """State between parts of a recording."""

    history: Tensor  # last input samples, twice the halo of the gate, `(B, n)`
    delayed: Tensor  # outputs of the network that wait for those of the gate, `(B, n)`
    weight: Tensor  # weight of the gate at the end of the last part, `(B,)`; below 0 before the first
    restraint: RestraintState
    state: Any  # state of the network


class GatedSpeech(CausalDenoiser):
    """The weighted mean of the outputs of a network and a `SpectralGate`.

    Their errors differ. A network suppresses weak sounds; the gate passes whatever rises
    above the noise floor, and leaves a faint, even rest of noise instead of holes. The mean is better than
    either by PESQ and by ESTOI. The weight of the gate rises as the network removes less, so clean speech
    passes nearly unchanged. The gate needs seconds of look-ahead, so this model is for files. A `Restraint`
    leaves a voice that stands far above its noise as it is.

    Args:
        gate: Weight of the gate in noise.
        settings: The config that rebuilds this model.

    Raises:
        UsageError: `gate` is not in 0..1.
    """

    def __init__(self, network: ShiftEnsemble, gate: float, settings: Mapping[str, Any]) -> None:
        super().__init__()
        if not 0.0 <= gate < 1.0:
            raise UsageError(f"gate is {gate}; expected a weight from 0 to below 1")
        self.network, self._weight, self._settings = network, gate, dict(settings)
        self._gate = SpectralGate()
        self.spec, self.follows_precision = network.spec, network.follows_precision
        assert self._gate.spec.halo is not None
        self._halo = self._gate.spec.halo
        part = round(_PART_S * (network.spec.sample_rate or 1.0))
        self.hop = padded(part, network.hop)
        self._delay = padded(max(self._halo, network.latency), self._gate.hop)  # of the mean
        self._restraint = Restraint(network.spec.sample_rate or 1.0)
        self.latency = self._delay + HALF_TAPS

    def for_sample_rate(self, _sample_rate: float | None, /) -> GatedSpeech:
        """Return the model for one recording, with fresh `diagnostics`."""
        fresh = copy.copy(self)
        fresh._restraint = Restraint(self.spec.sample_rate or 1.0)
        return fresh

    def diagnostics(self) -> Mapping[str, float]:
        """Return what was restrained on a good voice."""
        return self._restraint.diagnostics()

    def config(self) -> dict[str, Any]:
        """Return the network's name, its config, and the weight of the gate."""
        return dict(self._settings)

    def warm_start(self, weights: Mapping[str, Tensor]) -> None:
        """Start from the weights of another run, or of a network alone."""
        own = any(key.startswith("network.") for key in weights)
        self.network.warm_start(
            {key.removeprefix("network."): value for key, value in weights.items()} if own else weights
        )

    def training_step(self, noisy: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Train the network alone."""
        return self.network.training_step(noisy, target)

    def initial_state(self, batch: int, channels: int = 1) -> GatedState:
        """Return the state before the first sample: silence."""
        like, rows = next(self.parameters()), batch * channels
        return GatedState(
            like.new_zeros(rows, self._delay + self._halo),
            like.new_zeros(rows, self._delay - self.network.latency),
            like.new_full((rows,), -1.0),
            self._restraint.initial_state(like, batch, channels),
            self.network.initial_state(batch, channels),
        )

    def step(self, block: Tensor, state: GatedState) -> tuple[Tensor, GatedState]:
        """Denoise the next parts `(B, C, k * hop)`."""
        blends = []
        for part in torch.split(block, self.hop, -1):
            size = part.shape[-1]
            signal = torch.cat([state.history, part.flatten(0, 1)], 1)
            gated = self._run_gate(signal.view(*part.shape[:2], -1))[..., self._halo : self._halo + size]
            # The network skips digital silence at the end, such as the padding of the last part.
            _, stop = _active_samples(part)
            stop = min(size, padded(stop + _FADE * self.network.latency, self.network.hop))
            out, inner = self.network.step(part[..., :stop], state.state)
            out = nn.functional.pad(out, (0, size - stop))
            outputs = torch.cat([state.delayed, out.flatten(0, 1)], 1)
            cleaned = outputs[:, :size].view_as(part)
            noisy = signal[:, self._halo : self._halo + size].view_as(part)
            last = state.weight.view(part.shape[:2])[:, 0]
            weight = self._gate_weight(noisy, cleaned, gated, last)
            first = torch.where(last < 0, weight, last)
            steps = torch.linspace(0, 1, size, device=first.device)
            ramp = torch.lerp(first[:, None], weight[:, None], steps)
            blend = torch.lerp(cleaned, gated, ramp[:, None])
            removed, restraint = self._restraint(noisy, blend, state.restraint)
            late = signal[:, self._halo - HALF_TAPS :][:, :size].view_as(part)
            blends.append(late - removed)
            weights = weight[:, None].expand(part.shape[:2]).flatten()
            state = GatedState(signal[:, size:], outputs[:, size:], weights, restraint, inner)
        return torch.cat(blends, -1), state

    def _gate_weight(self, noisy: Tensor, cleaned: Tensor, gated: Tensor, last: Tensor) -> Tensor:
        """Return the weight of the gate per recording, `(B,)`; silent parts keep the previous weight."""
        # A network takes an unfamiliar voice for noise, and the gate takes babble for voices: a part is clean
        # if both leave it.
        low, high = _CLEAN_DB
        left_db = (_left_db(noisy, cleaned) + _left_db(noisy, gated)) / 2
        clean = ((left_db - low) / (high - low)).clamp(0, 1)
        weight = self._weight + (_MAX_GATE - self._weight) * clean
        return torch.where(noisy.abs().amax((1, 2)) > 0, weight, last)

    def _run_gate(self, signal: Tensor) -> Tensor:
        """Return the gate's output; it skips digital silence at either end."""
        start, stop = _active_samples(signal)
        if start == stop:
            return signal
        start = start // self._gate.hop * self._gate.hop
        return nn.functional.pad(self._gate(signal[..., start:stop]), (start, signal.shape[-1] - stop))


def _left_db(noisy: Tensor, left: Tensor) -> Tensor:
    """Return the ratio of left to removed energy as SI-SDR, which ignores a change of gain, `(B,)`."""
    # Fourth powers at the scale of integers are beyond float32.
    both = (noisy * left).sum((1, 2)).double().square()
    energies = noisy.square().sum((1, 2)).double() * left.square().sum((1, 2)).double()
    return (10 * torch.log10((both + 1e-20) / ((energies - both).clamp(min=0) + 1e-20))).to(noisy)


def _active_samples(signal: Tensor) -> tuple[int, int]:
    """Return the first and end sample that are not digital silence; (0, 0) if the signal is silent."""
    at = signal.abs().amax((0, 1)).nonzero().flatten()
    return (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 0)


def build(network: str = "spectral-gru", gate: float = 0.15, **config: Any) -> GatedSpeech:
    """Build a model from the name of its network, the weight of the gate, and the network's config.

    Raises:
        UsageError: The network is unknown.
    """
    if network not in _NETWORKS:
        raise unknown("network", network, _NETWORKS)
    inner = _NETWORKS[network](**config)
    return GatedSpeech(inner, gate, {"network": network, "gate": gate, **inner.config()})
