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
from denoise.models.sensor_stages import GRID, BaselineWander, HarmGate, Impulses, Mains, Repair, Stage
from denoise.registry import unknown

__all__ = ["STAGES", "SensorChain"]

STAGES = ("impulses", "faults", "mains", "baseline")
_TIMED = ("mains", "baseline")  # need the sample rate
_GRIDS_HZ = (50.0, 60.0)
_FAINT = 1e-4  # power of hum that is taken out where that was asked for

Floats = NDArray[np.float64]


class SensorChain(Denoiser):
    """A network for sensor logs behind stages that take out what can be told from any signal.

    Unasked, single wild readings, runs of a stuck or saturated one, and hum of the mains are taken out where they
    clearly are what they look like. Slow wander is signal to most sensors: it goes where that was asked for. What
    was asked to be kept is set aside before the network and put back behind it.

    Args:
        network: Any denoiser of sensors with a halo.
        remove: Of `STAGES`: what goes however faint it is.
        keep: Of `STAGES`: what stays.
        sample_rate: Hz; without one, hum and wander cannot be told.

    Shape:
        `(B, 1, T)` in and out, of about unit variance; behind the samples, where the network asks for it, a
        channel that tells where the gaps are.

    Raises:
        UsageError: There is no such stage, or one is to go and to stay.
    """

    def __init__(
        self,
        network: Denoiser,
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
        self.network, self.sample_rate = network, sample_rate
        self.remove, self.keep = frozenset(remove), frozenset(keep)
        self._stages = list(self._needed())
        self._gate = HarmGate()
        reach = sum(stage.reach for _, stage in self._stages) + (network.spec.halo or 0) + self._gate.reach
        multiple_of = math.lcm(network.spec.multiple_of, GRID)
        halo = -(-reach // multiple_of) * multiple_of
        self.spec = replace(network.spec, halo=halo, multiple_of=multiple_of, centre=True, scale=True)
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

    def at_rate(self, sample_rate: float | None) -> SensorChain:
        if not sample_rate:
            for what, names in (("remove", self.remove), ("keep", self.keep)):
                if timed := [name for name in _TIMED if name in names]:
                    raise UsageError(f"to {what} {' and '.join(timed)}, give the sample rate")
        return SensorChain(self.network, self.remove, self.keep, sample_rate).train(self.training)

    def findings(self) -> Mapping[str, float]:
        return {
            f"removed_{name}_db": 10.0 * math.log10(power / self._power)
            for name, power in self._removed.items()
            if power > 0.0 and self._power > 0.0
        }

    def forward(self, noisy: Tensor, sigma: float | None = None) -> Tensor:  # noqa: ARG002
        rows = noisy[:, 0].cpu().numpy().astype(np.float64)
        prepared, aside = (np.stack(parts) for parts in zip(*map(self._prepare, rows), strict=True))
        given = torch.from_numpy(prepared.astype(np.float32))[:, None].to(noisy.device)
        cleaned = self.network(torch.cat([given, noisy[:, 1:]], 1))[:, 0].double().cpu().numpy()
        noise = np.stack([self._gate(row) for row in prepared - cleaned])
        self._count("noise", noise)
        self._power += float(np.sum((rows - rows.mean(-1, keepdims=True)) ** 2))
        return torch.from_numpy(prepared - noise + aside)[:, None].to(noisy)

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
