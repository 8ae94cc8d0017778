"""The chain for sensor logs: faults, hum and wander are taken out first, then a network cleans the rest."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from denoise.errors import UsageError
from denoise.models.base import Denoiser
from denoise.models.sensor_stages import BaselineWander, Mains, Repair, Stage
from denoise.registry import unknown

__all__ = ["STAGES", "SensorChain"]

STAGES = ("faults", "mains", "baseline")
_GRID = 2048  # samples; frames of all stages lie on it, wherever a block begins

Floats = NDArray[np.float64]


class SensorChain(Denoiser):
    """A network for sensor logs behind the stages that were asked for.

    None is harmless enough to go unasked: what stands still, hums or is slow is signal to some sensor.

    Args:
        network: Any denoiser of sensors with a halo.
        remove: Of `STAGES`: runs of a stuck or saturated reading, hum of the mains where it clearly stands
            out, slow wander.
        sample_rate: Hz; without one, hum and wander cannot be told.

    Shape:
        `(B, 1, T)` in and out, of about unit variance.

    Raises:
        UsageError: There is no such stage.
    """

    def __init__(self, network: Denoiser, remove: Collection[str], sample_rate: float | None = None) -> None:
        super().__init__()
        for name in remove:
            if name not in STAGES:
                raise unknown("stage", name, STAGES)
        self.network, self.remove, self.sample_rate = network, frozenset(remove), sample_rate
        self._before = dict(self._stages())
        reach = sum(stage.reach for stage in self._before.values()) + (network.spec.halo or 0)
        self.spec = replace(network.spec, halo=-(-reach // _GRID) * _GRID, centre=True, scale=True)
        self._power = 0.0
        self._removed: dict[str, float] = {}

    def _stages(self) -> Iterator[tuple[str, Stage]]:
        if "faults" in self.remove:
            yield "faults", Repair()
        rate_hz = self.sample_rate
        if rate_hz and "mains" in self.remove:
            lines = [Mains(rate_hz, grid_hz) for grid_hz in (50.0, 60.0)]
            if possible := [line for line in lines if line.possible]:
                yield "mains", _Strongest(possible)
        if rate_hz and "baseline" in self.remove:
            yield "baseline", BaselineWander(rate_hz)

    def at_rate(self, sample_rate: float | None) -> SensorChain:
        if (timed := self.remove - {"faults"}) and not sample_rate:
            raise UsageError(f"to remove {' and '.join(sorted(timed))}, give the sample rate")
        return SensorChain(self.network, self.remove, sample_rate).train(self.training)

    def findings(self) -> Mapping[str, float]:
        return {
            f"removed_{name}_db": 10.0 * math.log10(power / self._power)
            for name, power in self._removed.items()
            if power > 0.0 and self._power > 0.0
        }

    def forward(self, noisy: Tensor, sigma: float | None = None) -> Tensor:  # noqa: ARG002
        rows = noisy[:, 0].cpu().numpy().astype(np.float64)
        prepared = np.stack([self._prepare(row) for row in rows])
        given = torch.from_numpy(prepared.astype(np.float32))[:, None].to(noisy.device)
        cleaned = self.network(given)[:, 0].double().cpu().numpy()
        self._count("noise", prepared - cleaned)
        self._power += float(np.sum((rows - rows.mean(-1, keepdims=True)) ** 2))
        return torch.from_numpy(cleaned)[:, None].to(noisy)

    def _prepare(self, samples: Floats) -> Floats:
        for name, stage in self._before.items():
            after = stage(samples)
            self._count(name, samples - after)
            samples = after
        return samples

    def _count(self, name: str, removed: Floats) -> None:
        self._removed[name] = self._removed.get(name, 0.0) + float(np.sum(removed**2))


class _Strongest:
    """Of the grids of the world, the hum of the one that is there: what takes out more."""

    def __init__(self, lines: list[Mains]) -> None:
        self._lines = lines
        self.reach = max(line.reach for line in lines)

    def __call__(self, samples: Floats) -> Floats:
        found: list[Floats] = [line(samples) for line in self._lines]
        removed: Callable[[Floats], float] = lambda after: float(np.sum((samples - after) ** 2))  # noqa: E731
        return max(found, key=removed)
