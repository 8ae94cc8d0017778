"""Choose thresholds of the sensor checks by leaving one source out, and judge them on that source.

    python -m pipelines.benchmark.leave_out FOLDER [--files N] [--model NAME]

Each folder below FOLDER is a source of clean recordings: a data set, a device. Under the protocol `sensor`,
the setting that harms least on all other sources is judged on the one left out, so no recording is judged by
thresholds it had a part in.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
import torch

from denoise.arrays import Doubles
from denoise.infer.catalogue import load
from denoise.infer.stream import Levels
from denoise.models.sensor.chain import SensorChain
from denoise.models.sensor.check import EventGuard
from pipelines.batch.discover import Source, find
from pipelines.benchmark.cases import CleanSignal, clean_signals, make_case
from pipelines.benchmark.protocols import PROTOCOLS

_WORSE_DB = 0.5
_TOLERANCE_DB = 0.1  # of mean gain that less harm may cost
_UNCHANGED_DB = 60.0  # SNR of a clean recording that comes back as it is
_ENOUGH_DB = 45.0
_SAMPLES = 8192  # of a recording, from its middle


@dataclass(frozen=True)
class Setting:
    """Thresholds of the checks; the other fields of `HarmGate` and `EventGuard` stay."""

    faint_db: float  # power up to which a correction is reverted; from 2 dB more it is applied
    # size up to which a correction is applied, in its usual sizes; from 1.5 times that it is not
    usual: float

    def apply(self, chain: SensorChain) -> None:
        """Set the thresholds of a chain that has the shipped ones."""
        chain.gate = replace(chain.gate, faint_db=self.faint_db, full_db=self.faint_db + 2.0)
        usual = self.usual * chain.guard.usual / EventGuard.usual  # slow logs have less
        chain.guard = replace(chain.guard, usual=usual, far=1.5 * usual)


SETTINGS = tuple(itertools.starmap(Setting, itertools.product((-24.0, -22.0, -20.0, -18.0), (3.0, 4.0, 6.0))))


class _Source:
    """Gains of a source under each setting, `(settings, cases)`, and SNR of its clean recordings."""

    def __init__(self, name: str) -> None:
        self.name, self.files = name, 0
        self._gains: list[list[float]] = []
        self._clean: list[list[float]] = []

    def add(self, clean: bool, figures: list[float]) -> None:
        (self._clean if clean else self._gains).append(figures)

    @property
    def gains(self) -> Doubles:
        return np.array(self._gains).T

    @property
    def clean(self) -> Doubles:
        return np.array(self._clean).T

    @property
    def harm(self) -> Doubles:
        """Share of cases that became worse, plus that of clean recordings that did not come back."""
        harm: Doubles = (self.gains < -_WORSE_DB).mean(1) + (self.clean < _ENOUGH_DB).mean(1)
        return harm


def leave_out(folder: Path, model: str = "sensor", max_files: int = 0) -> list[list[str]]:
    """Return the rows of a table: a source, the setting the others chose, and what it does to the source.

    Args:
        max_files: Recordings of a source, evenly taken; 0 for all.
    """
    denoiser = load(model).denoiser
    assert isinstance(denoiser, SensorChain)
    found = find([folder])
    by_source: dict[str, list[Source]] = {}
    for source in found.sources:
        by_source.setdefault(source.relative.parts[0], []).append(source)
    sources = []
    for name, members in sorted(by_source.items()):
        step = max(1, -(-len(members) // max_files)) if max_files else 1
        sources.append(_measure(name, members[::step], denoiser))
        sources[-1].files = len(members)
    return _table(sources)


def _measure(name: str, members: Sequence[Source], denoiser: SensorChain) -> _Source:
    measured = _Source(name)
    protocol = PROTOCOLS["sensor"]
    for clean in itertools.chain.from_iterable(map(clean_signals, members)):
        middle = max(0, (clean.array.shape[-1] - _SAMPLES) // 2)
        part = replace(clean, array=clean.array[:1, middle : middle + _SAMPLES])
        for condition in protocol.conditions():
            case = make_case(part, condition, 0)
            if case is None or not np.ptp(case.noisy):
                continue
            is_clean = condition.noise is None
            limit = _UNCHANGED_DB if is_clean else protocol.ceiling_db
            before = 0.0 if is_clean else _snr_db(part.array, case.noisy, limit)
            after = [_snr_db(part.array, answer, limit) for answer in _answers(part, case.noisy, denoiser)]
            measured.add(is_clean, [value - before for value in after])
    return measured


@torch.inference_mode()
def _answers(clean: CleanSignal, noisy: Doubles, denoiser: SensorChain) -> Iterator[Doubles]:
    """Yield the cleaned signal `(1, T)` under each setting; stages and networks run once."""
    chain = denoiser.for_sample_rate(clean.sample_rate).eval()
    levels = Levels(1)
    levels.update(noisy)
    offset, scale = levels.offset_and_scale(chain.spec)
    size = noisy.shape[-1]
    padded = np.pad((noisy - offset) / scale, ((0, 0), (0, -size % chain.spec.multiple_of)), "edge")
    estimate = chain.estimate(padded, torch.zeros(0, padded.shape[-1]))
    shipped = chain.guard
    for setting in SETTINGS:
        chain.guard = shipped
        setting.apply(chain)
        cleaned = estimate.prepared + estimate.aside + padded - estimate.samples - chain.check(estimate)
        yield np.clip(offset + scale * cleaned[:, :size], *levels.bounds)


def _snr_db(clean: Doubles, estimate: Doubles, limit_db: float) -> float:
    error = float(np.mean((clean - estimate) ** 2))
    power = float(np.var(clean))
    return min(limit_db, 10.0 * np.log10(power / error)) if error else limit_db


def _table(sources: Sequence[_Source]) -> list[list[str]]:
    rows = []
    chosen = []
    for left in sources:
        others = [source for source in sources if source is not left]
        gain = np.mean([source.gains.mean(1) for source in others], axis=0)
        harm = np.mean([source.harm for source in others], axis=0)
        allowed = np.flatnonzero(gain >= gain.max() - _TOLERANCE_DB)
        at = int(allowed[np.lexsort((-gain[allowed], harm[allowed]))[0]])
        gains, clean = left.gains[at], left.clean[at]
        figures = ((gains < -_WORSE_DB).mean(), gains.min(), gains.mean(), (clean >= _ENOUGH_DB).mean())
        chosen.append((left.files, *figures))
        rows.append([left.name, str(left.files), str(SETTINGS[at]), *_figures(*figures)])
    files, harm, worst, gains, clean = (np.array(part) for part in zip(*chosen, strict=True))
    total = (np.average(harm, weights=files), worst.min(), np.average(gains, weights=files))
    rows.append(["all", str(files.sum()), "", *_figures(*total, np.average(clean, weights=files))])
    return rows


def _figures(harm: float, worst: float, gain: float, clean: float) -> list[str]:
    return [f"{100 * harm:.1f} %", f"{worst:+.1f}", f"{gain:+.2f}", f"{100 * clean:.0f} %"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--model", default="sensor", show_default=True, help="Network for sensors.")
@click.option("--files", default=0, show_default=True, help="Recordings of each source; 0 for all.")
def _main(folder: Path, model: str, files: int) -> None:
    """Choose thresholds by leaving one source out."""
    header = ["source", "files", "setting", "worse by > 0.5 dB", "worst dB", "gain dB", "clean >= 45 dB"]
    rows = [header, ["---"] * len(header), *leave_out(folder, model, files)]
    sys.stdout.write("".join(f"| {' | '.join(row)} |\n" for row in rows))


if __name__ == "__main__":
    _main()
