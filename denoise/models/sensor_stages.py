"""What is wrong with a sensor's signal besides noise, found and taken out before a network sees it.

Each stage is a function of one channel whose standard deviation is about one; it looks `reach` samples to
each side, so that blocks with that many neighbours put together equal the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["BaselineWander", "Mains", "Repair", "Stage", "fill_autoregressive"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

_ORDER = 32  # of autoregressive models, samples
_CONTEXT = 512  # samples to each side of a gap that its model is fitted to


class Stage(Protocol):
    """One thing that is found and taken out."""

    @property
    def reach(self) -> int:
        """Samples to each side that an output value depends on."""

    def __call__(self, samples: Floats, /) -> Floats:
        """The samples `(n,)` without it."""


# ---- stuck readings --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repair:
    """Readings that are none (a rail, a sentinel such as -999, a value that hangs) by autoregression.

    Equal values in a row are natural in slow and coarsely quantised logs. They are taken for a fault where
    the signal jumps to or from them and they are the extreme of their surroundings, or hang for so long as
    nothing else near them does.
    """

    shortest: int = 3  # samples, at an extreme
    shortest_hang: int = 8  # samples, elsewhere
    longest: int = 256  # samples; what rests for longer is at rest
    jump: float = 3.0  # times the 95th percentile of the second differences around
    chance: float = 1e-7  # of a run of equal values, below which it is no accident
    reach: int = 2048

    def __call__(self, samples: Floats) -> Floats:
        faulty = self.find(samples)
        return fill_autoregressive(samples, faulty) if faulty.any() else samples

    def find(self, samples: Floats) -> Mask:
        """Which samples are no readings."""
        from scipy.ndimage import maximum_filter1d, minimum_filter1d

        faulty = np.zeros(samples.size, bool)
        edges = np.flatnonzero(np.diff(samples) != 0.0) + 1
        starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [samples.size]])
        long = (stops - starts >= self.shortest) & (stops - starts <= self.longest)
        # At the ends of a block what comes before or after is not known, and the rest may be padding.
        long &= (starts >= 3) & (stops <= samples.size - 3)
        if not long.any():
            return faulty
        starts, stops = starts[long], stops[long]
        usual = _usual_bend(samples, self.reach // 2)[starts]
        into = samples[starts] - 2 * samples[starts - 1] + samples[starts - 2]
        out = samples[stops - 1] - 2 * samples[stops] + samples[stops + 1]
        jumps = np.maximum(np.abs(into), np.abs(out)) > self.jump * usual + 1e-9
        window = self.reach + 1
        extreme = samples[starts] >= maximum_filter1d(samples, window)[starts]
        extreme |= samples[starts] <= minimum_filter1d(samples, window)[starts]
        # How often neighbours are equal where no run is long, so how likely this run is by chance.
        equal = np.concatenate([[0], np.cumsum(np.diff(samples) == 0.0)])
        in_runs = np.zeros(samples.size + 1)
        in_runs[stops] = stops - 1 - starts
        in_runs = np.cumsum(in_runs)
        low = np.maximum(starts - self.reach // 2, 0)
        high = np.minimum(stops + self.reach // 2, samples.size - 1)
        others = equal[high] - equal[low] - (in_runs[high] - in_runs[low])
        share = np.clip(others / (high - low), 1e-3, 1.0)
        chance = share ** (stops - 1 - starts)
        odd = (chance < self.chance) & (stops - starts >= self.shortest_hang)
        faults = (extreme & (jumps | (chance < self.chance))) | (odd & jumps)
        for start, stop in zip(starts[faults], stops[faults], strict=True):
            faulty[start:stop] = True
        return faulty


def _usual_bend(samples: Floats, frame: int) -> Floats:
    """The 95th percentile of the second differences that are not zero, frame by frame, for each sample."""
    bends = np.abs(np.diff(samples, 2))
    out = np.empty_like(samples)
    for start in range(0, samples.size, frame):
        near = bends[max(0, start - frame) : start + 2 * frame]
        near = near[near > 0]
        out[start : start + frame] = np.quantile(near, 0.95) if near.size else 0.0
    return out


def fill_autoregressive(samples: Floats, missing: Mask, order: int = _ORDER) -> Floats:
    """Missing samples as the autoregressive model of their surroundings predicts them from both sides.

    The values that leave the least prediction error, Janssen, Veldhuis and Vries, "Adaptive interpolation of
    discrete-time signals that can be modeled as autoregressive processes", IEEE Trans. ASSP 34 (1986), with
    the model fitted by least squares to what is known around the gap.

    Args:
        samples: `(n,)`; what stands at missing samples is not looked at.
        missing: `(n,)`.
        order: Of the model.
    """
    filled = samples.copy()
    at = np.flatnonzero(missing)
    if not at.size or at.size == samples.size:
        return filled
    known = np.flatnonzero(~missing)
    filled[at] = np.interp(at, known, samples[known])
    for group in np.split(at, np.flatnonzero(np.diff(at) > order) + 1):
        low, high = max(0, group[0] - _CONTEXT), min(samples.size, group[-1] + 1 + _CONTEXT)
        level = filled[low:high].mean()
        local, gone = filled[low:high] - level, missing[low:high]
        model = _fit(local, gone, min(order, (high - low) // 8))
        if model is None:
            continue
        start, stop = max(0, group[0] - low - model.size + 1), min(high - low, group[-1] - low + model.size)
        piece, holes = local[start:stop], np.flatnonzero(gone[start:stop])
        if piece.size <= model.size or holes.size >= piece.size - model.size:
            continue
        # Row i predicts sample i + order from those before it.
        rows = piece.size - model.size + 1
        taps = np.zeros((rows, piece.size))
        for lag, weight in enumerate(model):
            taps[np.arange(rows), np.arange(rows) + model.size - 1 - lag] = weight
        given = piece.copy()
        given[holes] = 0.0
        found = np.linalg.lstsq(taps[:, holes], -taps @ given, rcond=1e-10)[0]
        bound = 1.5 * np.abs(local[~gone]).max()
        filled[low + start + holes] = np.clip(found, -bound, bound) + level
    return filled


def _fit(local: Floats, gone: Mask, order: int) -> Floats | None:
    """Coefficients `(order + 1,)` of the prediction error, the first being one."""
    if order < 1:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(local, order + 1)
    whole = ~np.lib.stride_tricks.sliding_window_view(gone, order + 1).any(axis=1)
    rows = windows[whole]
    if len(rows) < 2 * order:
        return None
    gram = rows.T @ rows
    ridge = 1e-9 * np.trace(gram) / (order + 1)
    past = gram[:-1, :-1] + ridge * np.eye(order)
    weights = np.linalg.solve(past, gram[:-1, -1]) if ridge > 0 else np.zeros(order)
    return np.concatenate([[1.0], -weights[::-1]])


# ---- hum of the mains ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mains:
    """50 or 60 Hz and harmonics, by least squares under a window that slides, in step with the grid's phase.

    The first harmonic is followed under a short window, which gives the phase of the grid while its frequency
    drifts; all harmonics are then fitted under a longer one that runs at that phase. What is found is taken
    out as far as the line stands above the spectrum beside it.

    Args:
        rate_hz: Sample rate.
        grid_hz: Nominal frequency.
        harmonics: How many to look for, the first included.
    """

    rate_hz: float
    grid_hz: float = 50.0
    harmonics: int = 5

    follow_s = 0.8
    fit_s = 2.0
    faint = 1e-4  # power, of a signal of unit variance, below which a line does no harm
    clear = (6.0, 20.0)  # power over that beside it: below the first it stays, from the second it goes
    longest = 8192  # samples of a window
    shortest_s = 0.5  # of a signal; in less a line cannot be told from what is beside it

    @property
    def reach(self) -> int:
        """Three windows: phase, amplitude, evidence."""
        return 2 * self._window(self.follow_s) + 2 * self._window(self.fit_s)

    @property
    def possible(self) -> bool:
        """Whether the rate can hold the line, and the spectrum beside it."""
        return self.grid_hz + 6.0 < self.rate_hz / 2

    def _window(self, seconds: float) -> int:
        return min(self.longest, round(seconds * self.rate_hz)) // 4 * 4

    def __call__(self, samples: Floats) -> Floats:
        follow, fit = self._window(self.follow_s), self._window(self.fit_s)
        if not self.possible or samples.size < self.shortest_s * self.rate_hz:
            return samples
        cycles = self.grid_hz / self.rate_hz * np.arange(samples.size)
        carrier = np.exp(-2j * np.pi * (cycles % 1.0))
        line = _slide(samples * carrier, follow)
        if not self._presence(samples, line, fit).any():
            return samples
        step = np.abs(line)
        phase = carrier * np.conj(line) / np.where(step > 0, step, 1.0)
        phase = np.where(step > 0, phase, carrier)
        hum = np.zeros_like(samples)
        turn = np.ones_like(phase)
        for harmonic in range(1, self.harmonics + 1):
            if harmonic * self.grid_hz + 3.0 > self.rate_hz / 2:
                break
            turn = turn * phase
            rest = samples - hum
            amplitude = _slide(rest * turn, fit)
            hum += self._presence(rest, amplitude, fit, turn) * 2.0 * np.real(amplitude * np.conj(turn))
        return samples - hum

    def _presence(
        self, samples: Floats, line: NDArray[np.complex128], fit: int, turn: object = None
    ) -> Floats:
        """From 0 to 1: how clearly the line stands out of the spectrum 2 and 4 Hz to each side of it."""
        cycles = np.arange(samples.size) / self.rate_hz
        base = np.exp(-2j * np.pi * ((self.grid_hz * cycles) % 1.0)) if turn is None else turn
        window = self._window(self.follow_s) if turn is None else fit
        beside = np.zeros(samples.size)
        for offset_hz in (-4.0, -2.5, 2.5, 4.0):
            shift = np.exp(-2j * np.pi * ((offset_hz * cycles) % 1.0))
            beside += np.abs(_slide(samples * base * shift, window)) ** 2 / 4.0  # type: ignore[operator]
        power, beside = (_slide(p, fit) for p in (np.abs(line) ** 2, beside))
        ratio = power / np.maximum(beside, 1e-30)
        low, high = self.clear
        gain: Floats = np.clip((ratio - low) / (high - low), 0.0, 1.0) * (2.0 * power > self.faint)
        return gain


def _slide(values: NDArray, window: int) -> NDArray:  # type: ignore[type-arg]
    """Mean under a smooth window of that many samples, as two boxes make it; at an end, of what there is."""
    from scipy.ndimage import uniform_filter1d

    box = max(1, window // 2) | 1
    weight = np.ones(values.size)
    for _ in range(2):
        values = uniform_filter1d(values, box, mode="constant")
        weight = uniform_filter1d(weight, box, mode="constant")
    return values / weight


# ---- baseline wander -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BaselineWander:
    """What is slower than `cutoff_hz`, as breathing and electrodes put under an ECG; its mean stays.

    Args:
        rate_hz: Sample rate.
        cutoff_hz: ECG practice puts it at 0.5 Hz.
    """

    rate_hz: float
    cutoff_hz: float = 0.5

    longest = 16384  # samples of the window

    @property
    def reach(self) -> int:
        """Two boxes."""
        return self._window()

    def _window(self) -> int:
        # Two boxes of w samples are 3 dB down at 0.32 / w of the sample rate.
        return min(self.longest, round(2 * 0.32 * self.rate_hz / self.cutoff_hz))

    def __call__(self, samples: Floats) -> Floats:
        window = self._window()
        if window < 4 or samples.size < 2 * window:
            return samples
        calm: Floats = samples - _slide(samples, window)
        return calm
