"""Restoration of recordings other than speech: drop-outs, clicks, hum and hiss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from denoise.arrays import Array, Mask
from denoise.dsp.autoregressive import fill_autoregressive, interpolate
from denoise.dsp.hum import without_hum
from denoise.dsp.windows import padded
from denoise.errors import UsageError
from denoise.models.base import InputSpec
from denoise.models.classical.audio import SpectralGate
from denoise.models.classical.filters import Classical

_RATE = 48_000.0  # Hz
_HUM_PART_S = 5.5  # half of the windows in which hum is estimated
_RADIUS_S = 2.5  # each way: the others by which a click or a drop-out is judged
_MAX_SPACING_S = 1.2  # of regular ones
_SPACING = 0.003  # deviation of their distances
_MAX_STEP = 3  # others between two of them, and one
_MAX_RATIO = 1.5  # of their sizes
_MIN_RATE, _MAX_RATE = 4_000.0, 200_000.0  # Hz: recordings within these are not resampled


def _frame(seconds: float, sample_rate: float) -> int:
    """Return the power of two nearest to a duration."""
    return int(2 ** round(math.log2(seconds * sample_rate)))


class HissGate(SpectralGate):
    """A spectral gate that preserves steady tones: held notes, drones, chords.

    Hiss has a smooth spectrum, so floors are limited to a multiple of the median of the neighbouring
    frequencies, and of what lies on both sides of a line. A noise profile replaces the floors.

    Args:
        profile: Noise power in each bin.
        sample_rate: Hz.
    """

    frame_s = 0.043
    floor_frames = 900  # each way: 10 s, because music rests less often than speech
    floor_bias = 2.9  # measured as in the base class
    mask_bins = 1
    depth_db = 18.0
    tone_bins = 12  # each way: 280 Hz
    line_bins = 7  # below a line, and above it: 160 Hz
    tone_excess = 2.0  # maximum floor of hiss over these
    step_frames = 16  # interval of the median, because the floor changes slowly
    dtype = np.float32

    def __init__(self, profile: Array | None = None, sample_rate: float = _RATE) -> None:
        super().__init__()
        self._profile, self._sample_rate = profile, sample_rate
        self.frame = _frame(self.frame_s, sample_rate)
        self.hop = self.frame // 4
        frames = self.floor_frames + self.step_frames + 2 * self.smooth_frames + self.mask_frames + 4
        halo = frames * self.hop + self.frame
        self.spec = InputSpec(
            "audio",
            multiple_of=self.hop,
            halo=halo,
            sample_rate=sample_rate,
            joint_channels=True,
            edge_padding="none",
        )

    def _floor(self, power: Array, silent: Array) -> Array:
        from scipy.ndimage import median_filter, minimum_filter1d

        if self._profile is not None:
            return np.broadcast_to(self._profile / self.floor_bias, power.shape)
        floor = super()._floor(power, silent)
        coarse, reach = floor[:: self.step_frames], self.line_bins // 2 + 1
        around = median_filter(coarse, (1, 2 * self.tone_bins + 1), mode="nearest")
        lowest = minimum_filter1d(coarse, self.line_bins, axis=1, mode="nearest")
        lowest = np.pad(lowest, ((0, 0), (reach, reach)), mode="edge")
        beside = np.maximum(lowest[:, : -2 * reach], lowest[:, 2 * reach :])  # on either side of a line
        highest = self.tone_excess * np.minimum(around, beside)
        return np.asarray(np.minimum(floor, np.repeat(highest, self.step_frames, axis=0)[: len(floor)]))

    def measure(self, noise: Array) -> Array:
        """Return the mean power of noise alone `(C, n)` in each bin; it must last a frame."""
        if noise.shape[-1] < self.frame:
            found, minimum = noise.shape[-1] / self._sample_rate, self.frame / self._sample_rate
            raise UsageError(f"the noise profile lasts {found:.3f} s, expected at least {minimum:.3f} s")
        spectra = np.stack([self._analyse(row.astype(self.dtype)) for row in noise])
        return np.asarray((spectra.real**2 + spectra.imag**2).mean(axis=(0, 1)))


@dataclass
class _Click:
    """Place where a linear prediction fails."""

    start: int
    peak: float  # error
    repaired: Array | None = None  # samples from `start` on, if it is a click


def _alike(one: Array, other: Array) -> bool:
    """Return whether two clicks have the same shape, sign and size."""
    match = np.correlate(one, other, "full").max()
    return bool(one @ one + other @ other - 2 * match < 0.2 * max(one @ one, other @ other))


def _equally_spaced(at: Array, sizes: Array, unit: int, sample_rate: float) -> Mask:
    """Return which of ascending places are one of three of similar sizes that are equally spaced.

    Args:
        at: Samples, which are multiples of `unit`.
        sizes: Above 0.
        unit: Samples.
        sample_rate: Hz.
    """
    spaced = np.zeros(at.size, bool)
    for step in range(1, min(_MAX_STEP + 1, at.size)):
        distance = at[step:] - at[:-step]
        slack = np.maximum(_SPACING * distance, 2 * unit)
        third = np.searchsorted(at, at[step:] + distance - slack).clip(max=at.size - 1)
        near = (np.abs(at[third] - at[step:] - distance) <= slack) & (
            distance <= _MAX_SPACING_S * sample_rate
        )
        three = np.stack([sizes[:-step], sizes[step:], sizes[third]])
        first = np.flatnonzero(near & (three.max(axis=0) < _MAX_RATIO * three.min(axis=0)))
        spaced[first] = spaced[first + step] = spaced[third[first]] = True
    return spaced


class ClickRepair(Classical):
    """Replaces clicks of up to 0.9 ms by interpolation, at the rate of the recording.

    At a click a linear prediction of the signal fails far more than around it; a filter that matches the
    failure finds it (Vaseghi and Rayner, "Detection and suppression of impulsive noise in speech
    communication systems", 1990). The prediction from the past fails at its first sample, and that from the
    future at its last. The interpolation is autoregressive (Janssen, Veldhuis and Vries 1986). It counts only
    if it explains the failure: after the onset of a note or a drum, prediction goes on failing.

    Args:
        sample_rate: Hz.
    """

    frame_s = 0.085
    order = 32
    threshold = 25.0  # output of the matched filter over its median
    max_s = 0.0009
    tails = 6  # lengths that are tried, because a tail is smooth where it ends
    edge = 1  # samples replaced on each side of the detected ones
    context_s = 0.005  # on each side of a click
    # Error at a click over the 99th percentile of the context, and error left over that before;
    # the same where a tail is added to what was found, and amid what may be an onset.
    bounds = 4.0, 0.14
    tail_bounds = 14.0, 0.07
    onset_bounds = 14.0, 0.04
    max_growth = 2.0  # change by the repair of a click with a tail over its error
    max_onset = 1.6  # median error after a click over that before
    max_rise = 2.0  # level after a click over that before
    min_failure = 5.0  # error of the first and last sample over its median, and
    min_share = 0.15  # over the maximum of the click
    min_change = 0.3  # change by the interpolation over the standard deviation around
    max_share = 0.5  # of the energy
    max_pattern = 0.5  # share of clicks that are regular, or alike
    min_alike_s = 0.0002  # shorter clicks are alike anyway; they count only
    max_alike_share = 0.1  # with more of the energy
    max_long_share = 0.01  # of the energy, of a single one that is longer
    strong = 0.5  # error of other failures that count over that of the click

    def __init__(self, sample_rate: float = _RATE) -> None:
        super().__init__()
        self._rate = sample_rate
        self.frame = _frame(self.frame_s, sample_rate)
        self._window = np.hanning(2 * self.frame)
        self._context = max(2 * self.order, round(self.context_s * sample_rate))
        self._longest = max(8, round(self.max_s * sample_rate))
        self.spec = InputSpec(
            "audio", multiple_of=self.frame, halo=2 * self.frame, sample_rate=sample_rate, edge_padding="none"
        )

    def denoise(self, samples: Array) -> Array:
        out = samples.astype(np.float64)
        found = self._candidates(out)
        for click, is_damage in zip(found, self._damage(found, out), strict=True):
            if is_damage and click.repaired is not None:
                out[click.start : click.start + click.repaired.size] = click.repaired
        return out

    def _candidates(self, samples: Array) -> list[_Click]:
        """Return the places where prediction fails, with what is there instead of clicks."""
        found = []
        frame, around = self.frame, 2 * (self._context + self.order) + self._longest
        values = np.pad(samples, (frame, frame + -samples.size % frame), mode="symmetric")
        for start in range(0, samples.size, frame):
            predictor = self._predictor(values[start + frame // 2 : start + frame // 2 + 2 * frame])
            part = values[start + frame - around : start + 2 * frame + around]
            error = _filtered(predictor, part)
            matched = np.abs(_filtered(predictor, error[::-1])[::-1])
            above = np.flatnonzero(matched > self.threshold * np.median(matched))
            above = above[(around <= above) & (above < around + frame)]
            if not above.size or not predictor[1:].any():
                continue
            errors = np.abs(error), np.abs(_filtered(predictor, part[::-1])[::-1])
            for group in np.split(above, np.flatnonzero(np.diff(above) > self.order) + 1):
                low, high = int(group[0]) - 8, int(group[-1]) + 9
                first, last = self._bounds(*errors, low, high)
                click = _Click(start - around + max(first, low), float(errors[0][low:high].max()))
                found.append(click)
                if last <= first:
                    continue
                for stop in range(last, first + self._longest + 1, self._longest // self.tails):
                    bounds = self.bounds if stop == last else self.tail_bounds
                    at = start - around + first
                    if at < self._context or at + stop - first + self._context > samples.size:
                        break
                    piece = part[first - 2 * self._context : stop + 2 * self._context]
                    if (repaired := self._repaired(piece, predictor, bounds)) is not None:
                        click.start, click.repaired = at, repaired
                        break
        return found

    def _damage(self, found: Sequence[_Click], samples: Array) -> Mask:
        """Return which of the candidates are damage, by those around them; the others are the sound.

        Clicks of a record are rare, and each is another. Those of a clock, a pulse train or a square wave are
        regular; those of a Geiger counter are alike; those of a fire are among longer ones that are none. One
        drop of rain may be louder than all others.
        """
        clicks = [click for click in found if click.repaired is not None]
        if not clicks:
            return np.zeros(len(found), bool)
        starts = np.array([click.start for click in clicks])
        removed = [
            samples[c.start : c.start + len(c.repaired)] - c.repaired
            for c in clicks
            if c.repaired is not None
        ]
        energies = np.array([float(x @ x) for x in removed])
        regular = _equally_spaced(starts, np.sqrt(energies), 1, self._rate)
        alike = np.array([_alike(x, y) for x, y in pairwise([removed[-1], *removed])])
        long = np.array([x.size > self.min_alike_s * self._rate for x in removed])
        others = np.array([[click.start, click.peak] for click in found if click.repaired is None]).reshape(
            -1, 2
        )
        total = np.concatenate([[0.0], np.cumsum(np.square(samples))])
        radius = round(_RADIUS_S * self._rate)
        damage = []
        for index, click in enumerate(clicks):
            near = np.abs(starts - click.start) <= radius
            low, high = max(0, click.start - radius), min(samples.size, click.start + radius)
            energy = max(total[high] - total[low], 1e-30)
            share = energies[near].sum() / energy
            strong = others[:, 1] > self.strong * click.peak
            failures = np.count_nonzero(strong & (np.abs(others[:, 0] - click.start) <= radius))
            similar = alike[near] & (long[near] | (share > self.max_alike_share))
            damage.append(
                share < self.max_share
                and not (long[index] and energies[index] > self.max_long_share * energy)
                and failures <= near.sum()
                and (near.sum() < 3 or max(regular[near].mean(), similar.mean()) < self.max_pattern)
            )
        is_damage = np.zeros(len(found), bool)
        is_damage[[click.repaired is not None for click in found]] = damage
        return is_damage

    def _predictor(self, part: Array) -> Array:
        """Return coefficients `1, a1 ... ap` that whiten it (autocorrelation method, with a little noise)."""
        from scipy.linalg import solve_toeplitz

        windowed = part * self._window
        lags = np.array([windowed[lag:] @ windowed[: windowed.size - lag] for lag in range(self.order + 1)])
        whitening: Array = np.eye(1, self.order + 1)[0]
        if lags[0] > 0.0:
            lags[0] *= 1.0 + 1e-9
            whitening[1:] = solve_toeplitz(lags[:-1], -lags[1:])
        return whitening

    def _bounds(self, forward: Array, backward: Array, low: int, high: int) -> tuple[int, int]:
        """Return start and end of a click, where prediction from the past and from the future first fails."""
        peak = min(forward[low:high].max(), backward[low:high].max())
        bound = max(self.min_failure * float(np.median(forward)), self.min_share * peak)
        starts, stops = (low + np.flatnonzero(x[low:high] > bound) for x in (forward, backward))
        if not starts.size or not stops.size:
            return 0, 0
        return int(starts[0]) - self.edge, int(stops[-1]) + 1 + self.edge

    def _repaired(self, piece: Array, predictor: Array, bounds: tuple[float, float]) -> Array | None:
        """Return the interpolation of a click amid twice its context on each side; None if it is none.

        Args:
            piece: Click and context.
            predictor: Coefficients that whiten it.
            bounds: Isolation, and error that is left.
        """
        context, order = self._context, self.order
        click = slice(2 * context, piece.size - 2 * context)
        before, after = piece[: click.start], piece[click.stop :]
        error = np.abs(_filtered(predictor, piece))
        peak = error[click].max()
        earlier = error[context : click.start]
        later = error[click.stop + order : click.stop + order + context]
        may_be_onset = after.var() > self.max_rise**2 * before.var() or np.median(
            later
        ) > self.max_onset * np.median(earlier)
        if may_be_onset and bounds == self.tail_bounds:
            return None  # a tail and a note that begins there are alike
        isolation, max_left = self.onset_bounds if may_be_onset else bounds
        if peak < isolation * max(np.percentile(earlier, 99), np.percentile(later, 99)):
            return None
        holes = np.arange(context, piece.size - 3 * context)
        repaired: Array = interpolate(piece[None, context:-context], holes, predictor)[0]
        filled = np.concatenate([before, repaired, after])
        left = np.abs(_filtered(predictor, filled))[click.start : click.stop + order].max()
        change = np.abs(repaired - piece[click])
        if left > max_left * peak or change.max() < self.min_change * piece.std():
            return None
        # A click is an error as large as itself; the beginning of a note is a small one, which then grows.
        is_click = bounds != self.tail_bounds or change.max() < self.max_growth * peak
        return repaired if is_click else None


class DropoutRepair(Classical):
    """Fills drop-outs of 1 to 20 ms, in which the sound falls by 30 dB at once, and is back at once.

    It is a drop-out and no pause if the sound lasts on both sides, without another fall in it, and if the
    autoregressive interpolation that fills it restores most of what is taken beside it for a trial. Regular
    ones are gates, and so are many: telegraphy, packets of tones, stutter.

    Args:
        sample_rate: Hz.
    """

    min_s, max_s = 0.001, 0.02
    around_s = 0.04  # each way: the level that a fall is compared with
    fall = 0.03  # level in a drop-out over that around it, at most
    lasting = 0.1  # level in every millisecond of the sides over that around, at least
    side_s = 0.01  # on each side, and twice the length of the drop-out
    order = 256
    context_s = 0.043
    max_left = 0.4  # error of the trial over its energy
    max_regular = 0.5  # share of regular ones within `_RADIUS_S`
    max_per_s = 4.0

    def __init__(self, sample_rate: float = _RATE) -> None:
        super().__init__()
        frame = _frame(0.085, sample_rate)
        self._cell, self._rate = max(1, frame // 256), sample_rate
        self.spec = InputSpec(
            "audio", multiple_of=frame, halo=2 * frame, sample_rate=sample_rate, edge_padding="none"
        )

    def denoise(self, samples: Array) -> Array:
        from scipy.ndimage import maximum_filter1d, uniform_filter1d

        out, cell = samples.astype(np.float64), self._cell
        peaks = np.abs(out[: out.size // cell * cell]).reshape(-1, cell).max(axis=1)
        cells = [round(seconds * self._rate / cell) for seconds in (self.min_s, self.max_s, self.around_s)]
        shortest, longest, around = (max(1, count) for count in cells)
        level = uniform_filter1d(peaks, 2 * around + 1, mode="nearest")
        low = peaks < self.fall * level
        if not low.any():
            return out
        lasting = maximum_filter1d(peaks, shortest) >= self.lasting * level
        edges = np.flatnonzero(np.diff(np.pad(low, 1).astype(np.int8))).reshape(-1, 2)  # cells
        edges = edges[(edges[:, 1] - edges[:, 0] >= shortest) & (edges[:, 1] - edges[:, 0] <= longest)]
        starts = edges[:, 0] * cell
        regular = _equally_spaced(starts, edges[:, 1] - edges[:, 0], cell, self._rate)
        for first, last in edges:
            start, radius = first * cell, _RADIUS_S * self._rate
            near = np.abs(starts - start) <= radius
            seconds = (min(out.size, start + radius) - max(0, start - radius)) / self._rate
            often = near.sum() > max(2, self.max_per_s * seconds)
            if often or (near.sum() > 2 and regular[near].mean() > self.max_regular):
                continue
            side = max(round(self.side_s * self._rate / cell), 2 * (last - first))
            beside = [lasting[max(0, first - side) : first - 1], lasting[last + 1 : last + side]]
            if all(part.size == side - 1 and part.all() for part in beside):
                self._fill(out, first * cell, last * cell, self.fall * level[first])
        return out

    def _fill(self, out: Array, start: int, stop: int, bound: float) -> None:
        """Fill a drop-out in place, if it is one, from the samples beside it that are below `bound`, too."""
        while abs(out[start - 1]) <= bound:
            start -= 1
        while abs(out[stop]) <= bound:
            stop += 1
        size, context = stop - start, round(self.context_s * self._rate)
        low, high = max(0, start - context - 2 * size), min(out.size, stop + context + 2 * size)
        at = np.arange(low, high)
        filled = self._filled(out[low:high], (at >= start) & (at < stop))
        error = energy = 0.0
        for begin in (start - 2 * size, stop + size):
            trial = (at >= begin) & (at < begin + size)
            error += float(((self._filled(filled, trial) - filled)[trial] ** 2).sum())
            energy += float((filled[trial] ** 2).sum())
        if error < self.max_left * energy:
            out[start:stop] = filled[start - low : stop - low]

    def _filled(self, values: Array, missing: Array) -> Array:
        return fill_autoregressive(values, missing, self.order, round(self.context_s * self._rate))


def _filtered(coefficients: Array, values: Array) -> Array:
    """Filter by a finite impulse response, from zeros on; a tenth of the time of `lfilter`."""
    filtered: Array = np.convolve(values, coefficients)[: values.size]
    return filtered


class AudioRestoration(Classical):
    """The model `audio`: mends drop-outs and clicks, then removes hum and hiss, at the rate of the recording.

    Args:
        profile: Known noise power in each bin of `HissGate`.
        sample_rate: Hz.
    """

    def __init__(self, profile: Array | None = None, sample_rate: float = _RATE) -> None:
        super().__init__()
        self._profile = profile
        self._repairs = DropoutRepair(sample_rate), ClickRepair(sample_rate)
        self._hiss = HissGate(profile, sample_rate)
        self._part = _frame(_HUM_PART_S, sample_rate)
        stages = (*self._repairs, self._hiss)
        unit = math.lcm(self._part, *(stage.spec.multiple_of for stage in stages))
        judged = round((_RADIUS_S + 2 * _MAX_SPACING_S) * sample_rate)  # around a click or a drop-out
        halo = sum(stage.spec.halo or 0 for stage in stages) + judged + 2 * self._part
        self.spec = InputSpec(
            "audio",
            multiple_of=unit,
            halo=padded(halo, unit),
            sample_rate=sample_rate,
            joint_channels=True,
            edge_padding="none",
        )

    def for_sample_rate(self, sample_rate: float | None, /) -> AudioRestoration:
        """Return the model for recordings of a rate; a noise profile keeps its own."""
        if sample_rate is None or self._profile is not None or not _MIN_RATE <= sample_rate <= _MAX_RATE:
            return self
        return AudioRestoration(None, sample_rate)

    def denoise(self, samples: Array) -> Array:
        rows = np.atleast_2d(samples)
        repaired = rows
        for stage in self._repairs:
            repaired = np.stack([stage.denoise(row) for row in repaired])
        assert self.spec.sample_rate is not None
        steady = without_hum(repaired, self.spec.sample_rate, self._part)
        return self._hiss.gate(steady, self._hiss.silent_frames(rows)).reshape(samples.shape)

    def with_profile(self, noise: Array) -> AudioRestoration:
        """Return a model for the given noise alone, `(C, n)` at its sample rate."""
        assert self.spec.sample_rate is not None
        return AudioRestoration(self._hiss.measure(noise), self.spec.sample_rate)
