"""Tally of a log: its sums, peaks and noise before and after cleaning."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from denoise.arrays import Array, Mask
from denoise.estimate.noise import white_noise_sigma
from denoise.infer.stages import SampleQueue

_FAR = 4.0  # standard deviations from the mean: noise comes so far once in 16,000 readings
_KEPT = 0.5  # of the height
# Changes to a channel that is left as it is: standard deviation relative to its noise, and power relative to
# its variance. The noise of a channel with more changes is not measured.
_UNTOUCHED = 0.3
_UNTOUCHED_SHARE = 1e-2


class EventTally:
    """Compares mean and peaks of each channel before and after, block by block.

    A peak is a reading more than four standard deviations from the mean; it is kept if half of its height is.

    Args:
        offset: Mean of each channel.
        scale: Standard deviation of each channel; 0 for one that is constant.
    """

    def __init__(self, offset: Array, scale: Array) -> None:
        self._offset, self._scale = (np.asarray(values, np.float64)[:, None] for values in (offset, scale))
        self._pending = SampleQueue(len(self._offset))  # input that is not cleaned yet
        self._shift = np.zeros(len(self._offset))
        self._count = np.zeros(len(self._offset))
        self._changed = np.zeros(len(self._offset))  # sum of the squares of all changes
        self._different = np.zeros(len(self._offset), np.int64)  # readings with a change
        self._sigmas = np.zeros((2, len(self._offset)))  # sum of noise x samples, and number of these samples
        self._peaks = self._kept = 0
        self._sums = np.zeros(2)  # of the heights of the peaks before and after, in standard deviations

    def update(self, noisy: Array | None, cleaned: Array) -> None:
        """Add the next input `(C, n)`, if any, and the next output `(C, m)`."""
        if noisy is not None:
            self._pending.append(noisy)
        if not cleaned.shape[-1]:
            return
        before = np.asarray(self._pending.take(cleaned.shape[-1]), np.float64) - self._offset
        after = cleaned - self._offset
        known = np.isfinite(before) & np.isfinite(after)
        peaks = known & (self._scale > 0) & (np.abs(before) > _FAR * self._scale)
        height, left = np.abs(before[peaks]), after[peaks] * np.sign(before[peaks])
        kept = left >= _KEPT * height
        scale = np.broadcast_to(self._scale, before.shape)[peaks]
        self._sums += (height / scale).sum(), (left / scale).sum()
        self._peaks, self._kept = self._peaks + int(peaks.sum()), self._kept + int(kept.sum())
        changes = np.where(known, after - before, 0.0)
        self._shift += changes.sum(axis=-1)
        self._changed += (changes**2).sum(axis=-1)
        self._different += (changes != 0.0).sum(axis=-1)
        self._count += known.sum(axis=-1)
        for channel in np.flatnonzero(self._may_be_untouched):
            size = before.shape[-1]
            self._sigmas[:, channel] += white_noise_sigma(before[channel]) * size, size

    @property
    def _may_be_untouched(self) -> Mask:
        scale = self._scale[:, 0]
        untouched: Mask = (scale > 0) & (self._changed <= _UNTOUCHED_SHARE * scale**2 * self._count)
        return untouched

    @property
    def untouched(self) -> Mapping[int, tuple[float, float, int]]:
        """Channels that vary and are left as they are, or nearly so.

        For each the estimated noise in the log's units, and in dB of the signal, and how many of
        its readings change all the same.
        """
        found = {}
        for channel in np.flatnonzero(self._may_be_untouched & (self._count > 0)).tolist():
            sigma = float(self._sigmas[0, channel] / max(self._sigmas[1, channel], 1.0))
            if self._changed[channel] <= (_UNTOUCHED * sigma) ** 2 * self._count[channel]:
                share = sigma / float(self._scale[channel, 0])
                level_db = 20.0 * math.log10(share) if share else -math.inf
                found[channel] = sigma, level_db, int(self._different[channel])
        return found

    @property
    def metrics(self) -> dict[str, float]:
        """Peaks, those kept, the sum of their heights before and after, and the largest shift of a mean.

        Heights and shifts are in standard deviations.
        """
        scale = np.where(self._scale[:, 0] > 0, self._scale[:, 0], np.inf)
        shift = float((np.abs(self._shift) / np.maximum(self._count, 1) / scale).max(initial=0.0))
        before, after = self._sums.tolist()
        sums = {"peaks_sum_before": before, "peaks_sum_after": after}
        peaks = {"peaks": self._peaks, "peaks_kept": self._kept, **sums} if self._peaks else {}
        return ({"mean_shift": shift} if shift else {}) | peaks

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence, if peaks are gone."""
        if self._kept == self._peaks:
            return ()
        return (
            f"{self._peaks - self._kept} of {self._peaks} readings beyond {_FAR:g} standard deviations lost "
            "half of their height, as faults or noise; --keep impulses,faults keeps faults",
        )
