"""Chain for sensor logs: stages against faults, then a network."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from denoise.arrays import Doubles
from denoise.dsp.windows import padded, plan
from denoise.errors import UsageError
from denoise.models.base import Denoiser
from denoise.models.sensor.check import EventGuard, HarmGate, WanderGate
from denoise.models.sensor.faults import FirstReadings, Giants, Repair
from denoise.models.sensor.heartbeats import Heartbeats
from denoise.models.sensor.impulses import Impulses
from denoise.models.sensor.mains import BaselineWander, Mains
from denoise.models.sensor.nearby import GRID, nearby
from denoise.models.sensor.process import ProcessGate, SlowGate
from denoise.models.sensor.vibration import SteadyFilter, ToneGate
from denoise.registry import unknown

STAGES = ("impulses", "faults", "mains", "baseline")
_TIMED = ("mains", "baseline")  # stages that need the sample rate
_GRIDS_HZ = (50.0, 60.0)
OWN_RATE_HZ = 360.0  # that of the recordings a network of one rate was trained on
_SLOW_HZ = 0.5
_LOW_HZ = (60.0, 300.0)  # rates at which the R wave of a heartbeat is a sample or two wide
_BRIEF_HZ = 100.0  # rate below which a movement can be one reading wide
_FEW = 0.0026  # share of outliers nearby that makes no faults of R waves there
_SLOW_MINORITY = 0.2  # least share of the lesser side in the heights of lone outliers of a slow log
_SLOW_COMPANY = 16  # outliers nearby that make faults of low ones there
_MUCH = 0.4  # share of the variance; that much in corrections that are not applied is worth a word
_SWAYS = 0.05  # the same of wander around heartbeats
_WANDERS = 0.01  # the same of what a first-order process explains
_PIECE = 1 << 17  # samples that a network takes at once: more need more memory, and no less time
_ROUNDING = 1e-5  # standard deviations; less is no correction, and zeros stay zeros
_MIN_POWER = 1e-4  # of hum that is removed on request


class Stage(Protocol):
    """A stage that removes one kind of fault."""

    @property
    def halo(self) -> int:
        """Samples to each side that an output value depends on."""

    def __call__(self, samples: Doubles, /) -> Doubles:
        """Return the samples `(n,)` without the fault."""


class Estimate(NamedTuple):
    """Signals of the chain before its checks, `(C, T)` each."""

    samples: Doubles  # input, its first readings mended
    prepared: Doubles  # input of the network
    aside: Doubles  # components to add back
    impulses: Doubles  # outliers that were removed
    noise: Doubles  # what the networks would remove from `prepared`, without wander
    wander: Doubles  # what they would remove of the wander around heartbeats
    confidence: Doubles  # that there are heartbeats, 0 to 1


class SensorChain(Denoiser):
    """A network for sensor logs behind stages that remove faults by rule.

    By default the stages remove single outliers, runs of stuck or saturated readings, and mains hum, if the
    evidence is clear. Wild first readings and events stay (`denoise.models.sensor.check`). Slow wander is
    signal to most sensors and goes only on request. Components to keep are subtracted before the network and
    added back after it. A network for electrocardiograms takes over around heartbeats. Their wander stays
    unless it fits the noise besides, or is more than they are.

    Args:
        network: Any denoiser of sensors with a halo.
        heart: A network for electrocardiograms, if any.
        remove: Names in `STAGES` to remove however faint.
        keep: Names in `STAGES` to leave in.
        sample_rate: Hz; hum and wander need one.
        rates_hz: Lowest and highest rate of the network, if it depends on the rate. Logs of others are
            cleaned at `OWN_RATE_HZ`: what is removed there is resampled to their rate.

    Shape:
        `(B, 1, T)` in and out, of about unit variance; `(B, C, T)` if the network takes joint channels.
        Mask channels follow the samples if the network takes gap masks.

    Raises:
        UsageError: A stage is unknown, or both to remove and to keep; or (`for_sample_rate`) a rate is
            missing.
    """

    def __init__(
        self,
        network: Denoiser,
        heart: Denoiser | None = None,
        remove: Collection[str] = (),
        keep: Collection[str] = (),
        sample_rate: float | None = None,
        rates_hz: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        for name in (*remove, *keep):
            if name not in STAGES:
                raise unknown("stage", name, STAGES)
        if both := set(remove) & set(keep):
            raise UsageError(f"{', '.join(sorted(both))}: is in remove and in keep; give each stage once")
        self.network, self.heart, self.sample_rate = network, heart, sample_rate
        self.precision = network.precision
        self.remove, self.keep = frozenset(remove), frozenset(keep)
        self._first, self._giants, self._stages = FirstReadings(), Giants(), list(self._needed())
        self.gate, self._heart_gate, self._tone_gate = HarmGate(), HarmGate(), ToneGate()
        fast = sample_rate and not self._slow
        self._process_gate = ProcessGate() if fast else SlowGate(known=self._slow)
        self.guard = EventGuard(
            impulses="impulses" not in self.keep,
            one_sided="impulses" in self.remove,
            faults="faults" not in self.keep,
            told=rates_hz is not None,  # an electrocardiogram
        )
        if self._slow:
            self.guard = replace(self.guard, minority=_SLOW_MINORITY, usual=3.0, far=4.5)
        beats = Heartbeats(sample_rate or 0.0)
        self._beats = beats if heart and beats.possible else None
        low = sample_rate and _LOW_HZ[0] <= sample_rate <= _LOW_HZ[1]
        self._low_beats = beats if low else None
        networks = [network, heart] if heart else [network]
        halo = sum(stage.halo for _, stage in self._stages) + self.gate.halo + self.guard.halo
        steady = SteadyFilter(sample_rate or 0.0)
        self._steady = steady if steady.possible else None
        halo += self._tone_gate.halo + self._process_gate.halo + (steady.halo if steady.possible else 0)
        self._wander = BaselineWander(sample_rate) if self._beats and sample_rate else None
        self._wander_gate = WanderGate(sample_rate or 0.0)
        halo += self._wander.halo + self._wander_gate.halo if self._wander else 0
        halo += max(self._beats.halo if self._beats else 0, *(part.spec.halo or 0 for part in networks))
        multiple_of = math.lcm(GRID, *(part.spec.multiple_of for part in networks))
        self.spec = replace(
            network.spec, halo=padded(halo, multiple_of), multiple_of=multiple_of, centre=True, scale=True
        )
        self.rates_hz = rates_hz
        self._power = self._left = 0.0  # of the log, and of corrections that were not applied
        self._left_wander = self._left_process = 0.0
        self._removed: dict[str, float] = {}

    @property
    def _slow(self) -> bool:
        """True if much can happen between two readings: a lone one may well be real."""
        return bool(self.sample_rate and self.sample_rate < _SLOW_HZ)

    def _needed(self) -> Iterator[tuple[str, Stage]]:
        impulses = Impulses(one_sided="impulses" in self.remove | self.keep)
        if self.sample_rate and not _LOW_HZ[0] <= self.sample_rate <= _LOW_HZ[1]:
            impulses = replace(impulses, alike=1.0)
        if not self.sample_rate or self.sample_rate < _BRIEF_HZ:
            impulses = replace(impulses, least=2)
        if self._slow:
            impulses = replace(impulses, minority=_SLOW_MINORITY, weight=1.0, company=_SLOW_COMPANY)
        yield "impulses", impulses
        yield "faults", Repair()
        if not self.sample_rate:
            return
        for grid_hz in _GRIDS_HZ:
            mains = Mains(self.sample_rate, grid_hz)
            if "mains" in self.remove | self.keep:
                mains = replace(mains, faint=_MIN_POWER)
            if mains.possible:
                yield "mains", mains
        if "baseline" in self.remove | self.keep:
            yield "baseline", BaselineWander(self.sample_rate)

    def for_sample_rate(self, sample_rate: float | None) -> SensorChain:
        if not sample_rate:
            for what, names in (("remove", self.remove), ("keep", self.keep)):
                if timed := [name for name in _TIMED if name in names]:
                    raise UsageError(f"to {what} {' and '.join(timed)}, give the sample rate")
            if self.rates_hz:
                low, high = self.rates_hz
                raise UsageError(
                    f"the model is for electrocardiograms of {low:g} to {high:g} Hz, and the log has no "
                    "sample rate: give it (--sample-rate; in Python sample_rate), or use another model"
                )
        if self.rates_hz and sample_rate and sample_rate < _LOW_HZ[0]:
            low, high = self.rates_hz
            raise UsageError(
                f"the model is for electrocardiograms of {low:g} to {high:g} Hz, and at the "
                f"{sample_rate:.3g} Hz of the log heartbeats cannot be seen: use another model"
            )
        foreign = sample_rate and self.rates_hz and not self.rates_hz[0] <= sample_rate <= self.rates_hz[1]
        rate = OWN_RATE_HZ if foreign else sample_rate
        chain = SensorChain(self.network, self.heart, self.remove, self.keep, rate, self.rates_hz)
        if foreign:  # resampling spreads gaps, so they are only bridged
            chain.spec = replace(chain.spec, sample_rate=OWN_RATE_HZ, takes_gap_mask=False)
        return chain.train(self.training)

    def diagnostics(self) -> Mapping[str, float]:
        found = {
            f"removed_{name}_db": 10.0 * math.log10(power / self._power)
            for name, power in self._removed.items()
            if power > 0.0 and self._power > 0.0
        }
        if self._left > _MUCH * self._power > 0.0:
            found["left_noise_db"] = 10.0 * math.log10(self._left / self._power)
        if self._left_process > _WANDERS * self._power > 0.0:
            found["left_process_db"] = 10.0 * math.log10(self._left_process / self._power)
        if self._left_wander > _SWAYS * self._power > 0.0:
            found["left_wander_db"] = 10.0 * math.log10(self._left_wander / self._power)
        return found

    def forward(self, noisy: Tensor) -> Tensor:
        cleaned = []
        for item in noisy:  # (C, T), or (2C, T) with gap masks
            masked = self.spec.takes_gap_mask and len(item) > 1
            samples, gaps = item.chunk(2) if masked else (item, item[:0])
            wild = samples.double().cpu().numpy()
            found = self.estimate(wild, gaps)
            noise = self.check(found)
            noise[(wild != found.samples) | (np.abs(noise) < _ROUNDING)] = 0.0
            self._count("noise", noise)
            self._left += float(np.sum((found.noise - noise) ** 2))
            self._power += float(np.sum((found.samples - found.samples.mean(1, keepdims=True)) ** 2))
            cleaned.append(torch.from_numpy(found.prepared - noise + found.aside + wild - found.samples))
        return torch.stack(cleaned).to(noisy)

    def estimate(self, samples: Doubles, gaps: Tensor) -> Estimate:
        """Run the stages and the networks on the channels of a recording, without the checks.

        Args:
            samples: `(C, T)`.
            gaps: Their masks, `(C, T)`, or none.
        """
        calm = np.stack([self._first(row) for row in samples])
        rows = [self._prepare(row) for row in calm]
        prepared, aside, impulses = (np.stack(part) for part in zip(*rows, strict=True))
        given = torch.cat([torch.from_numpy(prepared).to(gaps), gaps])
        confidence = np.zeros_like(prepared)
        if self._beats:
            confidence = np.stack([self._beats(row) for row in prepared])
        noise, wander = np.zeros_like(prepared), np.zeros_like(prepared)
        for network, share in ((self.network, 1.0 - confidence), (self.heart, confidence)):
            if network is None or not share.any():
                continue
            batch = given[None]
            if not network.spec.joint_channels:  # one by one: (C, 1, T), or (C, 2, T)
                batch = given.reshape(-1, *prepared.shape).transpose(0, 1)
            answer = _in_pieces(network, batch).reshape(prepared.shape).double().cpu().numpy()
            correction = prepared - answer
            if network is self.heart and self._wander:
                fast = np.stack([self._wander(row) for row in correction])
                wander, correction = share * (correction - fast), fast
            noise += share * correction
        return Estimate(calm, prepared, aside, impulses, noise, wander, confidence)

    def check(self, found: Estimate) -> Doubles:
        """Return the noise to remove, `(C, T)`: that of an estimate without what may be signal."""
        checked = np.empty_like(found.noise)
        for row, (correction, beats) in enumerate(zip(found.noise, found.confidence, strict=True)):
            share = self.gate.share(correction)
            if beats.any():
                share += beats * (self._heart_gate.share(correction) - share)
            if share.any():
                share *= self._tone_gate.share(correction)
            correction = share * correction
            noise = self.guard(found.prepared[row], correction, found.impulses[row])
            if not self.guard.told:
                rest = self._process_gate.share(found.prepared[row], noise) * noise
                self._left_process += float(np.sum((noise - rest) ** 2))
                noise = rest
            noise += beats * (correction - noise)  # there the network knows the peaks
            if self._steady:
                noise = self._steady(found.prepared[row], noise)
            wander = self._wander_gate(found.wander[row], found.noise[row], share)
            self._count("wander", wander)
            self._left_wander += float(np.sum((found.wander[row] - wander) ** 2))
            checked[row] = noise + wander
        return checked

    def _prepare(self, samples: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """Return the input of the network, the components to add back, and the impulses removed."""
        aside, impulses = np.zeros_like(samples), np.zeros_like(samples)
        for name, stage in self._stages:
            after = stage(samples)
            if name == "impulses":
                impulses = self._without_beats(samples, samples - after)
                after = samples - impulses
            if name in self.keep:
                aside += samples - after
            else:
                self._count(name, samples - after)
            samples = after
            if name == "impulses":  # what is left of giants stays
                samples = self._giants(after)
                aside += after - samples
        return samples, aside, impulses

    def _without_beats(self, samples: Doubles, impulses: Doubles) -> Doubles:
        """Return impulses without the few that may be R waves, a sample or two wide at a low rate."""
        few = nearby(impulses != 0.0) < _FEW * nearby(np.ones(samples.size))
        if not self._low_beats or "impulses" in self.remove or not np.any(few & (impulses != 0.0)):
            return impulses
        return np.where(few, 1.0 - self._low_beats(samples), 1.0) * impulses

    def _count(self, name: str, removed: Doubles) -> None:
        self._removed[name] = self._removed.get(name, 0.0) + float(np.sum(removed**2))


def _in_pieces(network: Denoiser, batch: Tensor) -> Tensor:
    """Run a network on signals `(B, C, T)` piece by piece, each with its halo."""
    size = batch.shape[-1]
    windows = plan(
        size, size if network.spec.halo is None else _PIECE, network.spec.halo or 0, network.spec.multiple_of
    )
    pieces = [network(batch[..., w.read_start : w.read_stop])[..., w.kept] for w in windows]
    return torch.cat(pieces, dim=-1)
