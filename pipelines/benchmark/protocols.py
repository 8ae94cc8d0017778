"""Benchmark conditions: a noise at some levels, or a table of degradations."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from denoise.errors import UsageError
from denoise.registry import unknown

if TYPE_CHECKING:  # naming a protocol must not import torch
    from denoise.corruptions import Corruption


@dataclass(frozen=True)
class Condition:
    """One degradation of the clean files."""

    noise: Corruption | None  # the corruption; None leaves them clean
    level: float | None = None  # level of the sweep, or None
    group: str = ""  # name of the sweep, which groups its levels in tables

    def __str__(self) -> str:
        return str(self.noise) if self.noise else self.group or CLEAN


CLEAN = "none"
REAL = "real"  # the protocol of real pairs, whose noise is in the files
ANOMALIES = "anomalies"  # the protocol of labelled tables, for detectors rather than denoisers
EVENTS = "events"  # the protocol of labelled series, for the same


@dataclass(frozen=True)
class Protocol:
    """Table of degradations, so that two people who name it measure the same."""

    # corruption specs and their levels, in the unit of each; `none` has no level
    sweeps: Mapping[str, tuple[float, ...]]
    then: tuple[str, ...] = ("",)  # corruptions added to each of them, one table each; none by default
    means: bool = False  # true if the mean over a sweep is meaningful: its levels have one kind and weight
    modality: str = "image"  # modality of the files
    # outputs better than this count as this good, so that excellent outputs do not compensate for poor ones
    ceiling_db: float = math.inf

    def conditions(self) -> list[Condition]:
        """Every cell of the table, sweep by sweep."""
        return [
            condition for then in self.then for spec in self.sweeps for condition in self._sweep(spec, then)
        ]

    def _sweep(self, spec: str, then: str) -> list[Condition]:
        from denoise.corruptions import Chain, parse, with_level

        if spec == CLEAN:
            return [Condition(None, group=CLEAN)]
        swept, tail = parse(spec), (parse(then),) if then else ()
        group = f"{spec} + {then}" if then else spec
        return [
            Condition(Chain((with_level(swept, level, self.modality), *tail)), level, group)
            for level in self.sweeps[spec]
        ]


_SNR_DB = (0.0, 5.0, 10.0, 15.0)

PROTOCOLS: Mapping[str, Protocol] = {
    # Gain on common degradations, and harm to clean images.
    "robustness": Protocol(
        {
            CLEAN: (),
            "gaussian": (5, 15, 25, 50),
            "poisson-gaussian": (2000, 500, 100),
            "correlated:width_px=0.8": (5, 15, 25),
            "correlated:width_px=2": (5, 15, 25),
            "camera": (400, 1600, 6400),
            "jpeg": (90, 70, 50, 30),
            "salt-pepper": (0.005, 0.02, 0.05),
            "gaussian-blur": (0.5, 1, 2),
            "defocus": (1, 2, 3),
            "motion-blur": (5, 10, 15),
        }
    ),
    # Sharpening, with and without noise that hinders it.
    "deblurring": Protocol(
        {"gaussian-blur": (1, 2, 3), "defocus": (1.5, 2.5, 4), "motion-blur": (5, 10, 15)},
        then=("gaussian:sigma=2", "gaussian:sigma=5"),
        means=True,
    ),
    # Noise of sensors at equal SNR, and clean logs.
    "sensor": Protocol(
        {
            CLEAN: (),
            **dict.fromkeys(
                ("gaussian", "mixture", "pink", "impulses", "rails", "hum:drift_hz=0.1"), _SNR_DB
            ),
        },
        means=True,
        modality="sensor",
        ceiling_db=40.0,
    ),
}


def find(name: str) -> Protocol | None:
    """Find a protocol by name; None for that of real pairs.

    Raises:
        UsageError: There is none.
    """
    if name == REAL:
        return None
    if name not in PROTOCOLS:
        raise unknown("protocol", name, [*PROTOCOLS, REAL, ANOMALIES, EVENTS])
    return PROTOCOLS[name]


def conditions(
    noise: str | None, levels: tuple[float, ...], protocol: str | None, modality: str
) -> list[Condition]:
    """Conditions for the files of a modality; none if the noise or protocol is for another.

    Raises:
        UsageError: Neither a noise nor a protocol was named, or both, or an unknown one.
    """
    from denoise.corruptions import parse, with_level

    if (noise is None) == (protocol is None):
        raise UsageError(
            "a benchmark needs a noise or a protocol: give one of the two, such as --noise gaussian"
        )
    if noise is None:
        if levels:
            raise UsageError(f"the protocol {protocol} has its own levels: leave levels out")
        found = find(protocol or "")
        if found is None:
            return [Condition(None, group=REAL)]
        return found.conditions() if modality == found.modality else []
    swept = parse(noise)
    if modality not in swept.modalities:
        return []
    if not levels:
        return [Condition(swept, group=noise)]
    return [Condition(with_level(swept, level, modality), level, noise) for level in sorted(levels)]
