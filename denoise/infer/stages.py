"""Stages of a stream: buffering, gaps, the model, and band extension."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from denoise.arrays import Array, Mask
from denoise.dsp.resample import resampler
from denoise.dsp.windows import Window, padded, window
from denoise.models.contract import InputSpec

if TYPE_CHECKING:  # queues of samples are of use without torch
    import torch

    from denoise.models.base import CausalDenoiser, Denoiser

DEFAULT_BLOCK = 65536  # samples per channel at the model's rate: 4 s of speech
_MAX_CALL = 4 * DEFAULT_BLOCK  # samples in one call of the model; more channels than that take several calls
MAX_RAMP = 4096  # samples of the longest gap that a line bridges end to end; output lags by as many
_PROXY_BAND = 0.625  # energy above this fraction of Nyquist is a proxy for the band above it
_ENERGY_S = 0.010  # time constant of that energy: fast enough for sibilants, without flutter in hiss
_UPPER_EDGE = 1.2  # of the Nyquist frequency of the model: below it, speech would leak into the noise
_FLOOR_S = 0.05  # time constant of the energy whose minimum is the noise of the band above
_SETTLING = 6  # time constants until a smoothed energy is settled
_FLOOR_RISE_DB_S = 1.0  # of that noise: a minimum is forgotten so fast
_OVER_FLOOR = 2.0  # energy over the noise that counts as noise, too
_MIN_POWER = 1e-11  # of full scale (-110 dB): below it the gain is one


class Stage(Protocol):
    """Takes the next samples `(C, n)` and whether they are the last; returns what is finished, `(C, m)`."""

    def __call__(self, block: Array, last: bool, /) -> Array: ...


def make_core(model: Denoiser, channels: int, block: int, sigmas: list[float] | None) -> Stage:
    """Return the stage that runs a model: with state, in windows, or once on the whole signal."""
    from denoise.models.base import CausalDenoiser

    if isinstance(model, CausalDenoiser):
        return _Causal(model, channels, block)
    tile = sys.maxsize
    if model.spec.halo is not None:
        tile = tile_length(max(1, block // channels) if model.spec.joint_channels else block, model.spec.halo)
    return _Windows(model, channels, tile, sigmas)


def tile_length(block: int, halo: int) -> int:
    """Return the samples to keep of one run: if blocks may be long, an eighth is read beside them."""
    return max(block, 2 * halo, min(16 * halo, 8 * block))


def _groups(channels: int, samples: int, *, joint: bool) -> list[slice]:
    """Group the channels of one call of the model: all if joint, else at most `_MAX_CALL` samples."""
    if joint:
        return [slice(0, channels)]
    size = max(1, _MAX_CALL // max(1, samples))
    return [slice(c, min(c + size, channels)) for c in range(0, channels, size)]


def _tensor(rows: Array, model: Denoiser) -> torch.Tensor:
    """Return `(C, n)` on the model's device as a batch `(C, 1, n)`, or `(1, C, n)` of joint channels."""
    import torch

    parameter = next(model.parameters(), None)
    tensor = torch.from_numpy(np.ascontiguousarray(rows)).unsqueeze(0 if model.spec.joint_channels else 1)
    return tensor if parameter is None else tensor.to(parameter.device)


class _Windows:
    """Runs a model without state, in the windows that `plan` would cut from the whole signal."""

    def __init__(self, model: Denoiser, channels: int, tile: int, sigmas: list[float] | None) -> None:
        self._model, self._sigmas, self._channels = model, sigmas, channels
        self._tile, self._halo, self._multiple_of = tile, model.spec.halo or 0, model.spec.multiple_of
        self._held: list[Array] = []
        self._origin = 0  # index of the first held sample
        self._start = 0  # index of the first sample without output
        self._end = 0  # number of samples so far

    def __call__(self, block: Array, last: bool, /) -> Array:
        import torch

        self._held.append(block)
        self._end += block.shape[-1]
        done = []
        while self._start < self._end and (last or self._next_read_stop() <= self._end):
            cut, parts = self._next_window()
            samples = parts.shape[-1]
            if self._model.spec.edge_padding != "none":
                missing = cut.read_stop - cut.read_start - samples
                parts = np.pad(parts, ((0, 0), (0, 0), (0, missing)), "edge")
            residual = np.empty_like(parts[0])
            size = samples if self._sigmas is None else _MAX_CALL
            for rows in _groups(self._channels, size, joint=self._model.spec.joint_channels):
                given = torch.cat([_tensor(part[rows], self._model) for part in parts], dim=1)
                sigma = () if self._sigmas is None else (self._sigmas[rows.start],)
                denoised = self._model(given, *sigma).flatten(0, 1).cpu().numpy()
                np.subtract(parts[0, rows], denoised, out=residual[rows])
            done.append(residual[:, cut.kept])
        return concat(done, self._channels, np.dtype(np.float32))

    def _next_read_stop(self) -> int:
        """Return how many samples the next window needs, if the signal does not end in it."""
        return padded(self._start + self._tile + self._halo, self._multiple_of)

    def _next_window(self) -> tuple[Window, Array]:
        """Take the next window: its samples, then gap masks, `(1, C, n)` or `(2, C, n)`."""
        cut = window(self._start, self._end, self._tile, self._halo, self._multiple_of)
        held = concat(self._held, self._channels, np.dtype(np.float32))
        part = held[:, cut.read_start - self._origin : cut.read_stop - self._origin]
        self._start = cut.stop
        keep_from = window(cut.stop, cut.stop + 1, 1, self._halo, self._multiple_of).read_start
        self._held, self._origin = [held[:, keep_from - self._origin :].copy()], keep_from
        return cut, part.reshape(1 + self._model.spec.takes_gap_mask, self._channels, -1)


class _Causal:
    """Runs a model with state on whole hops, and removes its latency."""

    def __init__(self, model: CausalDenoiser, channels: int, block: int) -> None:
        self._model, joint = model, model.spec.joint_channels
        self._groups = _groups(channels, block, joint=joint)
        sizes = [rows.stop - rows.start for rows in self._groups]
        self._states = [model.initial_state(*((1, size) if joint else (size, 1))) for size in sizes]
        self._max_call = padded(max(1, _MAX_CALL // channels), model.hop)  # samples of a channel
        self._to_drop = model.latency  # output samples
        self._unread = SampleQueue(channels)  # input that waits for a whole hop
        self._noisy = SampleQueue(channels)  # input without output yet

    def __call__(self, block: Array, last: bool, /) -> Array:
        self._noisy.append(block)
        self._unread.append(block)
        hop = self._model.hop
        if last:  # zeros push the rest out, as in `forward`
            rest = self._noisy.size + self._to_drop
            short = max(0, padded(rest, hop) - self._unread.size)
            self._unread.append(np.zeros((block.shape[0], short), np.float32))
        noisy = self._unread.take(self._unread.size // hop * hop)
        denoised = np.empty_like(noisy)
        for index, rows in enumerate(self._groups):
            for start in range(0, noisy.shape[-1], self._max_call):
                cut = (rows, slice(start, start + self._max_call))
                batch, self._states[index] = self._model.step(
                    _tensor(noisy[cut], self._model), self._states[index]
                )
                denoised[cut] = batch.flatten(0, 1).cpu().numpy()
        drop = min(self._to_drop, denoised.shape[-1])
        self._to_drop -= drop
        size = min(denoised.shape[-1] - drop, self._noisy.size)
        return self._noisy.take(size) - denoised[:, drop : drop + size]


class SampleQueue:
    """Queue of samples: appended in blocks, taken in any other size."""

    def __init__(self, channels: int) -> None:
        self._blocks: deque[Array] = deque()
        self._channels = channels
        self.size = 0
        self.dtype: np.dtype[Any] = np.dtype(np.float32)

    def append(self, block: Array) -> None:
        """Add a block `(C, n)`; it must not be written to afterwards."""
        if block.shape[-1]:
            self.dtype = block.dtype
            self._blocks.append(block)
            self.size += block.shape[-1]

    def take(self, size: int) -> Array:
        """Remove and return the first `size` samples."""
        taken, missing = [], size
        while missing:
            block = self._blocks.popleft()
            if block.shape[-1] > missing:
                self._blocks.appendleft(block[:, missing:])
                block = block[:, :missing]
            taken.append(block)
            missing -= block.shape[-1]
        self.size -= size
        return concat(taken, self._channels, self.dtype)


def concat(blocks: Sequence[Array], channels: int, dtype: np.dtype[Any]) -> Array:
    """Concatenate blocks `(C, n)`, of which there may be none."""
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks, axis=-1) if blocks else np.empty((channels, 0), dtype)


class FullBand:
    """Extends a model to a higher sample rate: the band above its Nyquist follows the top of its own.

    Its gain is the smaller of two. One is the ratio of the energies that leave and enter the model above
    `_PROXY_BAND`, over the last `_ENERGY_S`. The other subtracts the noise of the upper band itself, the
    minimum of its energy so far, down to the gain of pauses, so that hiss is as faint in speech as in these.
    The upper band is the signal minus its resampled copy, so the two bands are complements, and a gain of one
    returns the input.

    Args:
        ratio: The model's rate over the signal's, below 1.
    """

    def __init__(self, core: Stage, channels: int, ratio: float, spec: InputSpec) -> None:
        from scipy.signal import butter

        assert spec.sample_rate is not None
        gains = 1 if spec.joint_channels else channels
        self._core, self._joint = core, spec.joint_channels
        self._down = resampler(ratio, channels, low_latency=True)
        self.delay_samples = self._down.delay_samples  # samples of the signal
        self._up = resampler(1 / ratio, channels + gains, low_latency=True)
        self._signal, self._lower = SampleQueue(channels), SampleQueue(channels)
        self._highpass = butter(4, _PROXY_BAND, "highpass", output="sos")
        self._filter_state = np.zeros((len(self._highpass), 2, channels, 2))
        self._decay = math.exp(-1.0 / (_ENERGY_S * spec.sample_rate))
        self._energy = np.zeros((2, gains, 1))
        self._ratio, rate = ratio, spec.sample_rate / ratio
        self._upper_highpass = butter(6, min(0.95, _UPPER_EDGE * ratio), "highpass", output="sos")
        self._upper_state = np.zeros((len(self._upper_highpass), channels, 2))
        self._upper_decay = math.exp(-1.0 / (_ENERGY_S * rate))
        self._upper_energy = np.zeros((gains, 1))
        self._upper = np.zeros(
            (gains, 0)
        )  # energy of the upper band from `_upper_start` on, at the signal's rate
        self._upper_start = self._done = 0  # samples of the signal, and of the model
        self._floor_decay = math.exp(-1.0 / (_FLOOR_S * spec.sample_rate))
        self._floor_energy = np.zeros((gains, 1))
        self._floor_rise = math.log(10) / 10 * _FLOOR_RISE_DB_S / spec.sample_rate
        self._log_floor, self._log_pause = (np.full((gains, 1), np.inf) for _ in range(2))
        self._steady_energy = np.zeros((2, gains, 1))
        self._settling = round(_SETTLING * _FLOOR_S * spec.sample_rate)
        self._silence = np.zeros((gains, 1), int)  # last sample of digital silence

    def __call__(self, block: Array, last: bool, /) -> Array:
        self._signal.append(block)
        self._measure_upper(block)
        lower = self._down(block, last)
        self._lower.append(lower)
        removed = self._core(lower, last)
        lower = self._lower.take(removed.shape[-1])
        share = self._share(lower, removed)
        # up(removed) + share * (signal - up(lower)), where a smooth share may be moved into up().
        up = self._up(np.concatenate([removed - share * lower, share]).astype(np.float32), last)
        size = min(up.shape[-1], self._signal.size)
        channels = len(block)
        return up[:channels, :size] + up[channels:, :size] * self._signal.take(size)

    def _share(self, lower: Array, removed: Array) -> Array:
        """Return the share of the upper band to remove at each sample at the model's rate, `(gains, n)`."""
        from scipy.signal import lfilter, sosfilt

        if not lower.size:
            return np.empty((self._energy.shape[1], 0))
        pair = np.stack([lower, lower - removed]).astype(np.float64)
        top, self._filter_state = sosfilt(self._highpass, pair, zi=self._filter_state)
        power = top**2
        if self._joint:
            power = power.sum(axis=1, keepdims=True)
        energy, self._energy = lfilter([1 - self._decay], [1, -self._decay], power, zi=self._energy)
        steady, self._steady_energy = self._smooth(power, self._steady_energy)
        proxy, lasting = (
            np.sqrt(np.minimum((x[1] + _MIN_POWER) / (x[0] + _MIN_POWER), 1.0)) for x in (energy, steady)
        )
        pause, self._log_pause = self._minimum(np.log(np.maximum(lasting, 1e-6)), self._log_pause)
        gain = np.maximum(
            np.minimum(proxy, self._upper_gain(lower.shape[-1])), np.minimum(np.exp(pause), 1.0)
        )
        return 1.0 - gain

    def _smooth(self, power: Array, state: Array) -> tuple[Array, Array]:
        """Return the mean power over the last `_FLOOR_S`, and the state of the filter."""
        from scipy.signal import lfilter

        decay = self._floor_decay
        smooth, state = lfilter([1 - decay], [1, -decay], power, zi=state)
        return smooth, state

    def _minimum(self, logs: Array, last: Array) -> tuple[Array, Array]:
        """Return the minimum so far, which is slowly forgotten, and its last value."""
        rise = self._floor_rise * np.arange(1, logs.shape[-1] + 1)
        lowest = np.minimum.accumulate(np.concatenate([last, logs - rise], axis=1), axis=1)[:, 1:] + rise
        return lowest, lowest[:, -1:]

    def _measure_upper(self, block: Array) -> None:
        """Measure the energy of the upper band in the next samples of the signal."""
        from scipy.signal import lfilter, sosfilt

        if not block.size:
            return
        top, self._upper_state = sosfilt(self._upper_highpass, block.astype(np.float64), zi=self._upper_state)
        power = (top**2).sum(axis=0, keepdims=True) if self._joint else top**2
        decay = self._upper_decay
        energy, self._upper_energy = lfilter([1 - decay], [1, -decay], power, zi=self._upper_energy)
        self._upper = np.concatenate([self._upper, energy], axis=1)

    def _upper_gain(self, size: int) -> Array:
        """Return the gain that subtracts its noise from the upper band, for the next samples of the model."""
        at = np.rint((self._done + np.arange(size)) / self._ratio).astype(int) - self._upper_start
        energy = self._upper[:, at.clip(0, self._upper.shape[1] - 1)] + _MIN_POWER
        position = self._done + np.arange(size)
        self._done += size
        unused = min(int(self._done / self._ratio) - self._upper_start, self._upper.shape[1] - 1)
        self._upper, self._upper_start = self._upper[:, unused:], self._upper_start + unused
        smooth, self._floor_energy = self._smooth(energy, self._floor_energy)
        # After digital silence, and at the start, the energy takes a while to be that of the noise.
        silent = np.where(energy > 2 * _MIN_POWER, -1, position)
        silences = np.maximum.accumulate(np.concatenate([self._silence, silent], axis=1), axis=1)
        self._silence = silences[:, -1:]
        logs = np.where(position - silences[:, 1:] > self._settling, np.log(smooth), np.inf)
        floor, self._log_floor = self._minimum(logs, self._log_floor)
        noise = np.exp(np.where(np.isinf(floor), -np.inf, floor))
        return np.sqrt(np.maximum(1.0 - _OVER_FLOOR * noise / energy, 0.0))


class GapBridge:
    """Bridges NaN by a straight line from the last value before a gap to the first after it.

    The line spans at most the last `MAX_RAMP` samples of the gap; before it the old value is held (0, the
    centre, if there is none; a short gap at the very start takes the value after it). So output lags by at
    most `MAX_RAMP` samples, and the result does not depend on where blocks begin.

    Args:
        with_masks: Append one channel per channel that is 1 in gaps and 0 elsewhere.
    """

    def __init__(self, channels: int, with_masks: bool = False) -> None:
        self._with_masks = with_masks
        self._held = np.empty((channels, 0), np.float32)
        self._previous = np.full(channels, np.nan, np.float32)  # last output; NaN at the very start

    def __call__(self, block: Array, last: bool, /) -> Array:
        block = np.concatenate([self._held, block], axis=-1) if self._held.size else block
        missing = np.isnan(block)
        if not missing.any():
            ready, filled = block.shape[-1], block
        else:
            filled = block.copy()
            ready = min(self._fill(filled[c], missing[c], self._previous[c], last) for c in range(len(block)))
        self._held = block[:, ready:]
        if ready:
            self._previous = filled[:, ready - 1].copy()
        out = np.concatenate([filled, missing.astype(np.float32)]) if self._with_masks else filled
        return out[:, :ready]

    @staticmethod
    def _fill(row: Array, missing: Mask, previous: float, last: bool) -> int:
        """Fill a row in place; return how many of its values are final."""
        size = len(row)
        present = np.flatnonzero(~missing)
        end = int(present[-1]) + 1 if len(present) else 0  # start of the gap at the end
        if np.isnan(previous):
            previous = row[present[0]] if len(present) and present[0] <= MAX_RAMP else 0.0
        known = np.concatenate([[-1], present])
        for at in np.flatnonzero(np.diff(known) > 1):
            left, right = int(known[at]), int(known[at + 1])
            value = previous if left < 0 else row[left]
            start = max(left, right - MAX_RAMP - 1)
            row[left + 1 : start + 1] = value
            steps = np.arange(1, right - start, dtype=np.float32) / (right - start)
            row[start + 1 : right] = value + (row[right] - value) * steps
        row[end:] = row[end - 1] if end else previous
        return size if last else max(end, size - MAX_RAMP)
