"""The chain for sensor logs: wild readings, faults and hum are taken out, then a network cleans the rest."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoise.errors import UsageError
from denoise.models.base import Denoiser
from denoise.models.sensor.heartbeats import Heartbeats
from denoise.models.sensor.stages import GRID, BaselineWander, HarmGate, Impulses, Mains, Repair, Stage
from denoise.registry import unknown

__all__ = ["STAGES", "SensorChain"]

STAGES = ("impulses", "faults", "mains", "baseline")
_TIMED = ("mains", "baseline")  # need the sample rate
_GRIDS_HZ = (50.0, 60.0)
_FAINT = 1e-4  # power of hum that is taken out where that was asked for

Floats = NDArray[np.float64]


class SensorChain(Denoiser):
    """A network for sensor logs behind stages that take out what can be told from any signal.

    Unasked, single wild readings, runs of a stuck or saturated one, and hum of the mains are taken out where
    they clearly are what they look like. Slow wander is signal to most sensors: it goes where that was asked
    for. What was asked to be kept is set aside before the network and put back behind it. Where there are
    heartbeats, a network for them takes over, for which wander is noise.

    Args:
        network: Any denoiser of sensors with a halo.
        heart: One for electrocardiograms, if there is one.
        remove: Of `STAGES`: what goes however faint it is.
        keep: Of `STAGES`: what stays.
        sample_rate: Hz; without one, hum and wander cannot be told.

    Shape:
        `(B, 1, T)` in and out, of about unit variance; `(B, C, T)` where the network looks across channels.
        Behind the samples, where the network asks for it, as many channels that tell where the gaps are.

    Raises:
        UsageError: There is no such stage, or one is to go and to stay.
    """

    def __init__(
        self,
        network: Denoiser,
        heart: Denoiser | None = None,
        remove: Collection[str] = (),
        keep: Collection[str] = (),
        sample_rate: float | None = None,
    ) -> None:
        super().__init__()
        for name in (*remove, *keep):
            if name not in STAGES:
                raise unknown("stage", name, STAGES)
        if both := set(remove) & set(keep):
            raise UsageError(f"{', '.join(sorted(both))}: is in remove and in keep; expected one of the two")
        self.network, self.heart, self.sample_rate = network, heart, sample_rate
        self.remove, self.keep = frozenset(remove), frozenset(keep)
        self._stages = list(self._needed())
        self._gate = HarmGate()
        beats = Heartbeats(sample_rate or 0.0)
        self._beats = beats if heart and beats.possible else None
        networks = [network, heart] if heart else [network]
        reach = sum(stage.reach for _, stage in self._stages) + self._gate.reach
        reach += max(self._beats.reach if self._beats else 0, *(part.spec.halo or 0 for part in networks))
        multiple_of = math.lcm(GRID, *(part.spec.multiple_of for part in networks))
        halo = -(-reach // multiple_of) * multiple_of
        self.spec = replace(network.spec, halo=halo, multiple_of=multiple_of, centre=True, scale=True)
        self._wander = BaselineWander(sample_rate) if self._beats and sample_rate else None
        self._power = 0.0
        self._removed: dict[str, float] = {}

    def _needed(self) -> Iterator[tuple[str, Stage]]:
        yield "impulses", Impulses()
        yield "faults", Repair()
        if not self.sample_rate:
            return
        for grid_hz in _GRIDS_HZ:
            mains = Mains(self.sample_rate, grid_hz)
            if "mains" in self.remove | self.keep:
                mains = replace(mains, faint=_FAINT)
            if mains.possible:
                yield "mains", mains
        if "baseline" in self.remove | self.keep:
            yield "baseline", BaselineWander(self.sample_rate)

    def for_sample_rate(self, sample_rate: float | None) -> SensorChain:
        if not sample_rate:
            for what, names in (("remove", self.remove), ("keep", self.keep)):
                if timed := [name for name in _TIMED if name in names]:
                    raise UsageError(f"to {what} {' and '.join(timed)}, give the sample rate")
        return SensorChain(self.network, self.heart, self.remove, self.keep, sample_rate).train(self.training)

    def diagnostics(self) -> Mapping[str, float]:
        return {
            f"removed_{name}_db": 10.0 * math.log10(power / self._power)
            for name, power in self._removed.items()
            if power > 0.0 and self._power > 0.0
        }

    def forward(self, noisy: Tensor) -> Tensor:
        return torch.stack([self._recording(item) for item in noisy]).to(noisy)

    def _recording(self, noisy: Tensor) -> Tensor:
        """Signals `(C, T)`, or `(2C, T)` with their gaps."""
        told = self.spec.takes_gap_mask and len(noisy) > 1
        samples, gaps = noisy.chunk(2) if told else (noisy, noisy[:0])
        dirty = samples.double().cpu().numpy()
        parts = [self._prepare(row) for row in dirty]
        prepared, aside = np.stack([part for part, _ in parts]), np.stack([part for _, part in parts])
        given = torch.cat([torch.from_numpy(prepared).to(noisy), gaps])
        sure = np.stack([self._beats(row) for row in prepared]) if self._beats else np.zeros_like(prepared)
        noise = np.zeros_like(prepared)
        for network, share in ((self.network, 1.0 - sure), (self.heart, sure)):
            if network is not None and share.any():
                noise += share * (prepared - _cleaned(network, given, len(prepared)))
        for row, (noisy_row, correction, beats) in enumerate(zip(dirty, noise, sure, strict=True)):
            noise[row] = self._counted(noisy_row, self._gate(correction), beats)
        return torch.from_numpy(prepared - noise + aside)

    def _counted(self, samples: Floats, noise: Floats, sure: Floats) -> Floats:
        """The noise, once it is known for the diagnostics how much of it was wander."""
        slow = sure * (noise - self._wander(noise)) if self._wander and sure.any() else np.zeros_like(noise)
        self._count("baseline", slow)
        self._count("noise", noise - slow)
        self._power += float(np.sum((samples - samples.mean()) ** 2))
        return noise

    def _prepare(self, samples: Floats) -> tuple[Floats, Floats]:
        """What is left for the network, and what is to be put back."""
        aside = np.zeros_like(samples)
        for name, stage in self._stages:
            after = stage(samples)
            if name in self.keep:
                aside += samples - after
            else:
                self._count(name, samples - after)
            samples = after
        return samples, aside

    def _count(self, name: str, removed: Floats) -> None:
        self._removed[name] = self._removed.get(name, 0.0) + float(np.sum(removed**2))


def _cleaned(network: Denoiser, given: Tensor, channels: int) -> Floats:
    """What a network makes of the channels of a recording, one by one unless it looks across them."""
    parts = given.reshape(-1, channels, given.shape[-1])  # (2, C, T): signals, gaps
    batch = given[None] if network.spec.joint_channels else parts.transpose(0, 1)
    cleaned: Floats = network(batch).reshape(channels, -1).double().cpu().numpy()
    return cleaned
