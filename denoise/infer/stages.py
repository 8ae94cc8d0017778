"""What a signal flows through, block by block: from the queue of samples to the model, and back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from denoise.dsp.resample import resampler
from denoise.dsp.windows import padded, window
from denoise.models.base import CausalDenoiser, Denoiser, InputSpec

__all__ = [
    "DEFAULT_BLOCK",
    "RAMP",
    "FullBand",
    "Gaps",
    "SampleQueue",
    "Stage",
    "core_of",
    "joined",
    "tile_of",
]

Array = NDArray[Any]

DEFAULT_BLOCK = 65536  # samples a channel at the model's rate: 4 s of speech
_BATCH = 4 * DEFAULT_BLOCK  # samples in one call of the model; more channels than that take several calls
RAMP = (
    4096  # samples: the longest gap that is bridged from end to end, and how long output is held back for it
)
_TOP_OF_BAND = 0.625  # of the model's Nyquist frequency: what lies above stands for what it cannot see
_FOLLOW_S = 0.010  # time constant of that energy: sibilants begin at once, hiss does not flutter
_FAINT = 1e-11  # power, full scale being 1 (-110 dB), below which there is nothing to turn down


class Stage(Protocol):
    """Takes the next samples `(C, n)` and whether they are the last; gives what is finished `(C, m)`."""

    def __call__(self, block: Array, last: bool, /) -> Array: ...


def core_of(model: Denoiser, channels: int, block: int, sigmas: list[float] | None) -> Stage:
    """The stage that runs the model, as the model can be run."""
    if isinstance(model, CausalDenoiser):
        return _Causal(model, channels, block)
    if model.spec.halo is None:
        return _Whole(model, channels, sigmas)
    tile = tile_of(max(1, block // channels) if model.spec.joint_channels else block, model.spec.halo)
    return _Windows(model, channels, tile, model.spec.halo, sigmas)


def tile_of(block: int, halo: int) -> int:
    """Samples that are kept of one run: where blocks may be large, an eighth is read beside them."""
    return max(block, 2 * halo, min(16 * halo, 4 * block))


def _groups(channels: int, samples: int, *, joint: bool) -> list[slice]:
    """Group the channels of one call of the model: all if joint, else at most `_BATCH` samples."""
    if joint:
        return [slice(0, channels)]
    size = max(1, _BATCH // max(1, samples))
    return [slice(c, min(c + size, channels)) for c in range(0, channels, size)]


def _tensor(rows: Array, model: Denoiser) -> torch.Tensor:
    """Rows `(C, n)` as a batch `(C, 1, n)`, or `(1, C, n)` of joint channels, on the model's device."""
    parameter = next(model.parameters(), None)
    tensor = torch.from_numpy(np.ascontiguousarray(rows)).unsqueeze(0 if model.spec.joint_channels else 1)
    return tensor if parameter is None else tensor.to(parameter.device)


def _residual(model: Denoiser, noisy: Array, sigmas: list[float] | None) -> Array:
    """Return what the model removes from `(C, n)`, or from `(2C, n)` with gap masks, in one run."""
    parts = noisy.reshape(1 + model.spec.takes_gap_mask, -1, noisy.shape[-1])
    noisy = parts[0]
    channels, samples = noisy.shape
    extra = padded(samples, model.spec.multiple_of) - samples
    residual = np.empty_like(noisy)
    for rows in _groups(channels, samples if sigmas is None else _BATCH, joint=model.spec.joint_channels):
        batch = np.pad(parts[:, rows], ((0, 0), (0, 0), (0, extra)), "edge") if extra else parts[:, rows]
        given = torch.cat([_tensor(part, model) for part in batch], dim=1)
        answer = model(given) if sigmas is None else model(given, sigmas[rows.start])
        denoised = answer.flatten(0, 1)[:, :samples].cpu().numpy()
        np.subtract(noisy[rows], denoised, out=residual[rows])
    return residual


class _Whole:
    """A model that needs the whole signal: waits for it."""

    def __init__(self, model: Denoiser, channels: int, sigmas: list[float] | None) -> None:
        self._model, self._sigmas = model, sigmas
        self._channels = channels
        self._noisy = SampleQueue(channels * (1 + model.spec.takes_gap_mask))

    def __call__(self, block: Array, last: bool, /) -> Array:
        self._noisy.append(block)
        if not last or not self._noisy.size:
            return block[: self._channels, :0]
        return _residual(self._model, self._noisy.take(self._noisy.size), self._sigmas)


class _Windows:
    """A model that looks `halo` samples to each side: cut as `plan` would cut the whole signal."""

    def __init__(
        self, model: Denoiser, channels: int, tile: int, halo: int, sigmas: list[float] | None
    ) -> None:
        self._model, self._sigmas = model, sigmas
        self._tile, self._halo, self._multiple_of = tile, halo, model.spec.multiple_of
        self._channels = channels
        self._held = np.empty((channels * (1 + model.spec.takes_gap_mask), 0), np.float32)
        self._origin = 0  # the index of the first held sample
        self._start = 0  # the index of the first sample that is not finished

    def __call__(self, block: Array, last: bool, /) -> Array:
        self._held = np.concatenate([self._held, block], axis=-1)
        end = self._origin + self._held.shape[-1]
        done = []
        while self._start < end and (last or self._reach() <= end):
            cut = window(self._start, end, self._tile, self._halo, self._multiple_of)
            noisy = self._held[:, cut.read_start - self._origin : cut.read_stop - self._origin]
            done.append(_residual(self._model, noisy, self._sigmas)[:, cut.kept])
            self._start = cut.stop
        keep_from = window(self._start, self._start + 1, 1, self._halo, self._multiple_of).read_start
        self._held = self._held[:, keep_from - self._origin :].copy()
        self._origin = keep_from
        return joined(done, self._channels, self._held.dtype)

    def _reach(self) -> int:
        """How many samples the next window needs, if the signal does not end in it."""
        return padded(self._start + self._tile + self._halo, self._multiple_of)


class _Causal:
    """A model that carries state: whole hops go in as they come, its latency is taken out."""

    def __init__(self, model: CausalDenoiser, channels: int, block: int) -> None:
        self._model = model
        self._groups = _groups(channels, block, joint=model.spec.joint_channels)
        self._longest = padded(max(1, _BATCH // channels), model.hop)  # samples a call, of joint channels
        self._states = [
            model.initial_state(*((1, len_) if model.spec.joint_channels else (len_, 1)))
            for len_ in (rows.stop - rows.start for rows in self._groups)
        ]
        self._late = model.latency  # output samples still to be dropped
        self._ahead = SampleQueue(channels)  # what the model has not been given
        self._noisy = SampleQueue(channels)  # what the model has not answered

    def __call__(self, block: Array, last: bool, /) -> Array:
        self._noisy.append(block)
        self._ahead.append(block)
        hop = self._model.hop
        if last:  # zeros push the rest out, as in `forward`
            rest = self._noisy.size + self._late
            short = max(0, padded(rest, hop) - self._ahead.size)
            self._ahead.append(np.zeros((block.shape[0], short), np.float32))
        denoised = self._step(self._ahead.take(self._ahead.size // hop * hop))
        drop = min(self._late, denoised.shape[-1])
        self._late -= drop
        size = min(denoised.shape[-1] - drop, self._noisy.size)
        return self._noisy.take(size) - denoised[:, drop : drop + size]

    def _step(self, noisy: Array) -> Array:
        denoised = np.empty_like(noisy)
        if not noisy.size:
            return denoised
        for index, rows in enumerate(self._groups):
            for start in range(0, noisy.shape[-1], self._longest):
                cut = (rows, slice(start, start + self._longest))
                batch, self._states[index] = self._model.step(
                    _tensor(noisy[cut], self._model), self._states[index]
                )
                denoised[cut] = batch.flatten(0, 1).cpu().numpy()
        return denoised


class SampleQueue:
    """Samples in order: appended in blocks, taken in any other size.

    Args:
        channels: Number of channels.
    """

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
        """The first `size` samples, which leave the queue."""
        taken, wanted = [], size
        while wanted:
            block = self._blocks.popleft()
            if block.shape[-1] > wanted:
                self._blocks.appendleft(block[:, wanted:])
                block = block[:, :wanted]
            taken.append(block)
            wanted -= block.shape[-1]
        self.size -= size
        return joined(taken, self._channels, self.dtype)


def joined(blocks: Sequence[Array], channels: int, dtype: np.dtype[Any]) -> Array:
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks, axis=-1) if blocks else np.empty((channels, 0), dtype)


class FullBand:
    """A model whose rate is below the signal's: what it cannot see is turned down as the top of what it sees.

    The gain is the ratio of the energies that leave and enter the model above `_TOP_OF_BAND`, over the last
    `_FOLLOW_S`. What is not seen is what is left of the signal when its resampled copy is taken away, so the
    two bands are complements, and a gain of one gives back the input.

    Args:
        core: The model.
        channels: Number of channels.
        ratio: Samples at the model's rate for one of the signal's, below 1.
        spec: Of the model.
    """

    def __init__(self, core: Stage, channels: int, ratio: float, spec: InputSpec) -> None:
        from scipy.signal import butter

        assert spec.sample_rate is not None
        gains = 1 if spec.joint_channels else channels
        self._core, self._joint = core, spec.joint_channels
        self._down = resampler(ratio, channels, low_latency=True)
        self.delay_samples = self._down.delay_samples  # samples of the signal
        self._up = resampler(1 / ratio, channels + gains, low_latency=True)
        self._signal, self._inside = SampleQueue(channels), SampleQueue(channels)
        self._top = butter(4, _TOP_OF_BAND, "highpass", output="sos")
        self._ringing = np.zeros((len(self._top), 2, channels, 2))
        self._forget = math.exp(-1.0 / (_FOLLOW_S * spec.sample_rate))
        self._energy = np.zeros((2, gains, 1))

    def __call__(self, block: Array, last: bool, /) -> Array:
        self._signal.append(block)
        inside = self._down(block, last)
        self._inside.append(inside)
        removed = self._core(inside, last)
        inside = self._inside.take(removed.shape[-1])
        share = self._share(inside, removed)
        # Share by share: up(removed) + share * (signal - up(inside)), the share being smooth.
        up = self._up(np.concatenate([removed - share * inside, share]).astype(np.float32), last)
        size = min(up.shape[-1], self._signal.size)
        channels = len(block)
        residual: Array = up[:channels, :size] + up[channels:, :size] * self._signal.take(size)
        return residual

    def _share(self, inside: Array, removed: Array) -> Array:
        """How much of the unseen band to take away at each sample at the model's rate, `(gains, n)`."""
        from scipy.signal import lfilter, sosfilt

        if not inside.size:
            return np.empty((self._energy.shape[1], 0))
        pair = np.stack([inside, inside - removed]).astype(np.float64)
        top, self._ringing = sosfilt(self._top, pair, zi=self._ringing)
        power = top**2
        if self._joint:
            power = power.sum(axis=1, keepdims=True)
        forget = self._forget
        energy, self._energy = lfilter([1 - forget], [1, -forget], power, zi=self._energy)
        share: Array = 1.0 - np.sqrt(np.minimum((energy[1] + _FAINT) / (energy[0] + _FAINT), 1.0))
        return share


class Gaps:
    """Bridges NaN: a straight line from the last value before a gap to the first after it.

    The line takes at most `RAMP` samples, the last of the gap; before it the old value is held (0, the
    centre, where there is none; a short gap at the very start takes the value after it). So output waits for
    `RAMP` samples at most, and the rule does not depend on where blocks begin.

    Args:
        channels: Number of channels.
        tell: Give, behind the channels, as many that are 1 in a gap and 0 elsewhere.
    """

    def __init__(self, channels: int, tell: bool = False) -> None:
        self._tell = tell
        self._held = np.empty((channels, 0), np.float32)
        self._before = np.full(
            channels, np.nan, np.float32
        )  # the value that went out last; NaN at the very start

    def __call__(self, block: Array, last: bool, /) -> Array:
        block = np.concatenate([self._held, block], axis=-1) if self._held.size else block
        missing = np.isnan(block)
        if not missing.any():
            ready, filled = block.shape[-1], block
        else:
            filled = block.copy()
            ready = min(self._fill(filled[c], missing[c], self._before[c], last) for c in range(len(block)))
        self._held = block[:, ready:]
        if ready:
            self._before = filled[:, ready - 1].copy()
        told = np.concatenate([filled, missing.astype(np.float32)]) if self._tell else filled
        return told[:, :ready]

    @staticmethod
    def _fill(row: Array, missing: NDArray[np.bool_], before: float, last: bool) -> int:
        """Fill a row in place; gives how many of its values no later sample can change."""
        size = len(row)
        present = np.flatnonzero(~missing)
        end = int(present[-1]) + 1 if len(present) else 0  # from here on, nothing is known yet
        if np.isnan(before):
            before = row[present[0]] if len(present) and present[0] <= RAMP else 0.0
        known = np.concatenate([[-1], present])
        for at in np.flatnonzero(np.diff(known) > 1):
            left, right = int(known[at]), int(known[at + 1])
            _bridge(row, left, right, before if left < 0 else row[left])
        row[end:] = row[end - 1] if end else before
        return size if last else max(end, size - RAMP)


def _bridge(row: Array, left: int, right: int, value: float) -> None:
    start = max(left, right - RAMP - 1)
    row[left + 1 : start + 1] = value
    steps = np.arange(1, right - start, dtype=np.float32) / (right - start)
    row[start + 1 : right] = value + (row[right] - value) * steps
