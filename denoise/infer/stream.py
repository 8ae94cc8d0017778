"""Clean signals of any length block by block, in memory that the block bounds.

What flows through the stages is the *residual*, the noise that the model would remove: the output is the
input minus `strength` times the residual. So whatever the model cannot see (gaps, the channel's offset) stays
in the output untouched, and `strength=0` is the input itself. Of sound, the band above what the model sees is
the input's own, turned down as the model turns down the top of what it sees.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from denoise.errors import DenoiseError, InputError, UsageError
from denoise.infer import Cleaner
from denoise.infer.resample import resampler
from denoise.infer.windows import padded, window
from denoise.models.base import CausalDenoiser, Denoiser, InputSpec

__all__ = ["DEFAULT_BLOCK", "Levels", "SampleQueue", "Stream", "check_request", "limited"]

Array = NDArray[Any]

DEFAULT_BLOCK = 65536  # samples a channel at the model's rate: 4 s of speech
_BATCH = 4 * DEFAULT_BLOCK  # samples in one call of the model; more channels than that take several calls
_RAMP = (
    4096  # samples: the longest gap that is bridged from end to end, and how long output is held back for it
)
_SAME_RATE = (
    1e-3  # a model cannot tell rates closer than this part; nothing accumulates, so none need be resampled
)

_TOP_OF_BAND = 0.625  # of the model's Nyquist frequency: what lies above stands for what it cannot see
_FOLLOW_S = 0.010  # time constant of that energy: sibilants begin at once, hiss does not flutter
_FAINT = 1e-11  # power, full scale being 1 (-110 dB), below which there is nothing to turn down


def limited(strength: float, max_attenuation_db: float | None) -> float:
    """The strength at which no part is turned down by more than `max_attenuation_db`; None sets no limit.

    What is left in of the input is in phase with the output, so the two add up: with a gain g of the model,
    `1 - strength + strength * g` is never below `1 - strength`.

    Raises:
        UsageError: The limit is no number of 0 or more.
    """
    if max_attenuation_db is None:
        return strength
    if not max_attenuation_db >= 0.0:
        raise UsageError(f"max_attenuation_db is {max_attenuation_db}; it must be 0 dB or more")
    return float(min(strength, 1.0 - 10.0 ** (-max_attenuation_db / 20.0)))


def check_request(name: str, spec: InputSpec, strength: float, sigma: float | None) -> None:
    """Refuse a strength or a sigma that the model `name` cannot honour.

    Raises:
        UsageError: `strength` is outside 0..1, `sigma` is not a level, or the model takes none.
    """
    if not 0.0 <= strength <= 1.0:
        raise UsageError(f"strength is {strength}; it must be from 0 (the input) to 1 (fully cleaned)")
    if sigma is None:
        return
    if not 0.0 <= sigma < float("inf"):
        raise UsageError(f"sigma is {sigma}; it must be a finite number of 0 or more")
    if not spec.uses_sigma:
        raise UsageError(
            f"the model {name} finds the noise level itself: it takes no sigma (given: {sigma:g})"
        )


class Levels:
    """Mean, standard deviation and constancy of each channel, gathered block by block in float64.

    NaN counts as missing. Parts are merged as by Chan, Golub and LeVeque (1983), so a large offset costs no
    digits.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        self._count = np.zeros(channels)
        self._mean = np.zeros(channels)
        self._squares = np.zeros(channels)
        self._low = np.full(channels, np.inf)
        self._high = np.full(channels, -np.inf)

    def update(self, block: Array) -> None:
        """Take in the next samples `(C, n)`."""
        values = np.asarray(block, np.float64)
        present = ~np.isnan(values)
        count = present.sum(axis=-1)
        total = self._count + count
        safe = np.maximum(total, 1)
        mean = np.where(present, values, 0).sum(axis=-1) / np.maximum(count, 1)
        squares = (np.where(present, values - mean[:, None], 0) ** 2).sum(axis=-1)
        shift = np.where(count > 0, mean - self._mean, 0)
        self._squares += squares + shift**2 * self._count * count / safe
        self._mean += shift * count / safe
        self._count = total
        self._low = np.minimum(self._low, np.where(present, values, np.inf).min(axis=-1, initial=np.inf))
        self._high = np.maximum(self._high, np.where(present, values, -np.inf).max(axis=-1, initial=-np.inf))

    @property
    def varies(self) -> NDArray[np.bool_]:
        """Which channels hold two different values: the others have nothing to clean."""
        return self._low < self._high

    def offset_and_scale(self, spec: InputSpec, zero: float = 0.0, full: float = 1.0) -> tuple[Array, Array]:
        """What a `Stream` is to subtract from and divide each channel by; a constant channel gets scale 0.

        Args:
            spec: Whether the model wants its input centred and scaled.
            zero: The value that means silence, where the model does not want it centred.
            full: The value that means full scale, where the model does not want it scaled.
        """
        deviation = np.sqrt(self._squares / np.maximum(self._count, 1))
        offset = self._mean if spec.centre else np.full_like(self._mean, zero)
        scale = deviation if spec.scale else np.full_like(self._mean, full)
        return offset, np.where(self.varies, scale, 0.0)


class Stream:
    """Cleans a signal that comes in blocks of any size; what comes out does not depend on the blocks' sizes.

    Output lags input by at most `latency_samples`; `flush` gives the rest. As many samples come out as went
    in, and each belongs to the input sample of the same number. A model of another sample rate works at its
    own: the noise it finds is brought back to the signal's rate and subtracted; of sound, the band that it
    cannot see is turned down as the top of the one that it sees. NaN marks a gap: it is bridged for the model
    and is a gap again in the output. A gap is bridged by a straight line; of one longer than 4096 samples,
    only the end, after the value before it has been held.

    >>> import numpy as np
    >>> import denoise
    >>> stream = denoise.Stream(denoise.load("speech"), sample_rate=48_000)
    >>> heard = np.zeros((1, 480), np.float32)  # 10 ms of one channel
    >>> ready = [stream.feed(heard) for _ in range(100)]
    >>> sum(block.shape[1] for block in ready) >= 48_000 - stream.latency_samples
    True
    >>> sum(block.shape[1] for block in [*ready, stream.flush()])
    48000

    Args:
        model: A denoiser of signals. One with `spec.halo` None that carries no state needs everything at
            once: then all output comes from `flush`, and memory grows with the signal.
        channels: Number of channels. Where `spec.linked`, they go through the model together; else each is
            cleaned on its own.
        sample_rate: Hz; None means that of the model.
        strength: 1 is fully cleaned, 0 is the input.
        sigma: Noise standard deviation in the signal's own units, for a model that uses it.
        offset: What to subtract before the model, per channel or for all (its mean, where `spec.centre`).
        scale: What to divide by before the model, per channel or for all (its standard deviation, where
            `spec.scale`); 0 leaves a channel as it is.
        block: Samples a channel that the model is given at a time, at the model's rate: many cost less time
            each, few wait less. None takes the fewest there can be of a model that carries state.

    Raises:
        UsageError: The model is not one for signals, or cannot honour `strength`, `sigma` or `sample_rate`.
    """

    def __init__(
        self,
        model: Denoiser | Cleaner,
        channels: int = 1,
        sample_rate: float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
        offset: ArrayLike = 0.0,
        scale: ArrayLike = 1.0,
        block: int | None = None,
    ) -> None:
        model = (model.model if isinstance(model, Cleaner) else model).at_rate(sample_rate)
        name, spec = type(model).__name__, model.spec
        check_request(name, spec, strength, sigma)
        if spec.ndim != 1:
            raise UsageError(f"the model {name} is for images; a stream needs one for signals")
        if channels < 1:
            raise UsageError(f"a stream of {channels} channels was asked for; it needs at least one")
        if block is None:
            block = model.hop if isinstance(model, CausalDenoiser) else DEFAULT_BLOCK
        if block < 1:
            raise UsageError(f"block is {block}; it must be at least one sample")
        ratio = _rate_ratio(spec, sample_rate)

        self._model, self._block, self._sample_rate = model, block, sample_rate
        self._channels = channels
        self._offset = np.broadcast_to(np.asarray(offset, np.float64), (channels,))[:, None]
        gain = np.broadcast_to(np.asarray(scale, np.float64), (channels,))[:, None]
        self._divisor = np.where(gain > 0, gain, 1.0)
        self._gain = strength * gain
        self._gaps_allowed = spec.modality == "sensor"
        self._piece = max(1, round(block / ratio))
        self._seen = 0
        self._closed = False
        self._waiting = SampleQueue(channels)
        self._dry = SampleQueue(channels)
        self._residual = SampleQueue(channels)

        sigmas = None if sigma is None else [sigma / s for s in self._divisor[:, 0]]
        core: _Stage = _core(model.eval(), channels, block, sigmas)
        self._stages: list[_Stage] = [_Gaps(channels, spec.gaps)] if self._gaps_allowed else []
        self._first = self._piece  # is longer, so that the model has a whole block behind every piece
        if ratio == 1.0:
            self._stages.append(core)
        elif ratio < 1.0 and spec.modality == "audio":
            full = _FullBand(core, channels, ratio, spec)
            self._stages.append(full)
            self._first += full.waits
        else:
            prompt = spec.modality == "audio"
            to_model, back = (resampler(r, channels, prompt=prompt) for r in (ratio, 1 / ratio))
            self._stages += [to_model, core, back]
            self._first += to_model.waits
        if not self._gain.any():
            self._stages = [_nothing]  # spare the model's time

    @property
    def findings(self) -> Mapping[str, float]:
        """What the model found and took out so far: figures by name."""
        return self._model.findings()

    @cached_property
    def latency_samples(self) -> int | None:
        """The most samples that can have gone in and not come out; None where `flush` gives everything.

        The model's own latency and block, and what the resamplers hold back, which is measured: on silence,
        and with a model in this one's place that costs nothing.
        """
        model = self._model
        causal = isinstance(model, CausalDenoiser)
        if model.spec.halo is None and not causal:
            return None
        idle = _IdleCausal(model) if isinstance(model, CausalDenoiser) else _Idle(model.spec)
        stream = Stream(idle, 1, self._sample_rate, block=self._block)
        longest = 4 * _tile(self._block, model.spec.halo or 0)
        waiting = most = 0
        for _ in range(math.ceil(max(longest, model.spec.sample_rate or 0) / self._block)):
            silence = np.zeros((1, stream._first), np.float32)
            waiting += silence.shape[-1] - stream.feed(silence).shape[-1]
            most = max(most, waiting)
        return most + self._piece - 1 + (_RAMP if self._gaps_allowed else 0)

    def feed(self, block: Array) -> Array:
        """Take the next samples and give what is finished.

        Shape:
            `(C, n)` in, `(C, m)` out: float64 for float64, float32 for float32.

        Raises:
            InputError: A sample is infinite, or NaN in audio.
        """
        block = np.asarray(block)
        if block.ndim != 2 or block.shape[0] != self._channels:
            raise UsageError(f"a block of shape {block.shape} came; this stream takes ({self._channels}, n)")
        if self._closed:
            raise UsageError("this stream was flushed; a new signal needs a new stream")
        # A copy: callers refill the buffer they record into.
        self._waiting.append(np.array(block, np.float32 if block.dtype == np.float32 else np.float64))
        done = []
        while self._waiting.size >= self._first:
            done.append(self._advance(self._waiting.take(self._first), last=False))
            self._first = self._piece
        return _joined(done, self._channels, self._waiting.dtype)

    def flush(self) -> Array:
        """Say that the signal has ended, and get the rest of the output `(C, k)`."""
        if self._closed:
            return np.empty((self._channels, 0), self._dry.dtype)
        self._closed = True
        return self._advance(self._waiting.take(self._waiting.size), last=True)

    @torch.inference_mode()
    def _advance(self, piece: Array, *, last: bool) -> Array:
        self._check(piece)
        self._dry.append(piece)
        with np.errstate(over="ignore"):  # a value beyond float32 shows as an infinite result below
            flow = ((piece - self._offset) / self._divisor).astype(np.float32)
        for stage in self._stages:
            flow = stage(flow, last)
        self._residual.append(flow)
        if last and (short := self._dry.size - self._residual.size) > 0:
            self._residual.append(np.zeros((self._channels, short), np.float32))
        size = min(self._dry.size, self._residual.size)
        dry = self._dry.take(size)
        out: Array = (dry - self._gain * self._residual.take(size)).astype(dry.dtype)
        if np.isinf(out).any() or (np.isnan(out) & ~np.isnan(dry)).any():
            raise DenoiseError("the model gave a value that is not a finite number")
        return out

    def _check(self, piece: Array) -> None:
        bad = np.isinf(piece) if self._gaps_allowed else ~np.isfinite(piece)
        if bad.any():
            at = int(bad.any(axis=0).argmax())
            channel = int(bad[:, at].argmax())
            raise InputError(
                f"sample {self._seen + at} of channel {channel + 1} is {piece[channel, at]}; "
                f"expected {'finite numbers, or NaN for gaps' if self._gaps_allowed else 'finite numbers'}"
            )
        self._seen += piece.shape[-1]


class _Stage(Protocol):
    """Takes the next samples `(C, n)` and whether they are the last; gives what is finished `(C, m)`."""

    def __call__(self, block: Array, last: bool, /) -> Array: ...


def _nothing(block: Array, _last: bool, /) -> Array:
    return np.zeros_like(block)


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
        return _joined(taken, self._channels, self.dtype)


def _joined(blocks: Sequence[Array], channels: int, dtype: np.dtype[Any]) -> Array:
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate(blocks, axis=-1) if blocks else np.empty((channels, 0), dtype)


def _rate_ratio(spec: InputSpec, sample_rate: float | None) -> float:
    """Samples at the model's rate for one of the signal's."""
    if sample_rate is not None and not 0 < sample_rate < float("inf"):
        raise UsageError(f"the sample rate is {sample_rate}; it must be a positive number of Hz")
    if spec.sample_rate is None or sample_rate is None:
        return 1.0
    ratio = spec.sample_rate / sample_rate
    return 1.0 if abs(ratio - 1) < _SAME_RATE else ratio


class _FullBand:
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

    def __init__(self, core: _Stage, channels: int, ratio: float, spec: InputSpec) -> None:
        from scipy.signal import butter

        assert spec.sample_rate is not None
        gains = 1 if spec.linked else channels
        self._core, self._linked = core, spec.linked
        self._down = resampler(ratio, channels, prompt=True)
        self.waits = self._down.waits  # samples of the signal
        self._up = resampler(1 / ratio, channels + gains, prompt=True)
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
        if self._linked:
            power = power.sum(axis=1, keepdims=True)
        forget = self._forget
        energy, self._energy = lfilter([1 - forget], [1, -forget], power, zi=self._energy)
        share: Array = 1.0 - np.sqrt(np.minimum((energy[1] + _FAINT) / (energy[0] + _FAINT), 1.0))
        return share


class _Idle(Denoiser):
    """Gives back what it gets, in a model's place."""

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, noisy: torch.Tensor, sigma: float | None = None) -> torch.Tensor:  # noqa: ARG002
        return noisy


class _IdleCausal(CausalDenoiser):
    """The same, as late as the model."""

    def __init__(self, model: CausalDenoiser) -> None:
        super().__init__()
        self.spec, self.hop, self.latency = model.spec, model.hop, model.latency

    def initial_state(self, batch: int, channels: int = 1) -> None:
        """None: it remembers nothing."""

    def step(self, block: torch.Tensor, state: None) -> tuple[torch.Tensor, None]:
        return block, state


class _Gaps:
    """Bridges NaN: a straight line from the last value before a gap to the first after it.

    The line takes at most `_RAMP` samples, the last of the gap; before it the old value is held (0, the
    centre, where there is none; a short gap at the very start takes the value after it). So output waits for
    `_RAMP` samples at most, and the rule does not depend on where blocks begin.

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
            before = row[present[0]] if len(present) and present[0] <= _RAMP else 0.0
        known = np.concatenate([[-1], present])
        for at in np.flatnonzero(np.diff(known) > 1):
            left, right = int(known[at]), int(known[at + 1])
            _bridge(row, left, right, before if left < 0 else row[left])
        row[end:] = row[end - 1] if end else before
        return size if last else max(end, size - _RAMP)


def _bridge(row: Array, left: int, right: int, value: float) -> None:
    start = max(left, right - _RAMP - 1)
    row[left + 1 : start + 1] = value
    steps = np.arange(1, right - start, dtype=np.float32) / (right - start)
    row[start + 1 : right] = value + (row[right] - value) * steps


def _core(model: Denoiser, channels: int, block: int, sigmas: list[float] | None) -> _Stage:
    """The stage that runs the model, as the model can be run."""
    if isinstance(model, CausalDenoiser):
        if sigmas is not None:
            raise UsageError(f"the model {type(model).__name__} carries state and takes no sigma")
        return _Causal(model, channels, block)
    if model.spec.halo is None:
        return _Whole(model, channels, sigmas)
    tile = _tile(max(1, block // channels) if model.spec.linked else block, model.spec.halo)
    return _Windows(model, channels, tile, model.spec.halo, sigmas)


def _tile(block: int, halo: int) -> int:
    """Samples that are kept of one run: where blocks may be large, an eighth is read beside them."""
    return max(block, 2 * halo, min(16 * halo, 4 * block))


def _groups(channels: int, samples: int, *, linked: bool = False) -> list[slice]:
    """Channels that go through the model together: linked ones all, others below `_BATCH` samples a call."""
    if linked:
        return [slice(0, channels)]
    size = max(1, _BATCH // max(1, samples))
    return [slice(c, min(c + size, channels)) for c in range(0, channels, size)]


def _tensor(rows: Array, model: Denoiser) -> torch.Tensor:
    """Rows `(C, n)` as a batch `(C, 1, n)`, or `(1, C, n)` of linked channels, where the model lives."""
    parameter = next(model.parameters(), None)
    tensor = torch.from_numpy(np.ascontiguousarray(rows)).unsqueeze(0 if model.spec.linked else 1)
    return tensor if parameter is None else tensor.to(parameter.device)


def _residual(model: Denoiser, noisy: Array, sigmas: list[float] | None) -> Array:
    """What the model would remove from `(C, n)`, in one run; with `spec.gaps`, from half of `(2C, n)`."""
    parts = noisy.reshape(1 + model.spec.gaps, -1, noisy.shape[-1])
    noisy = parts[0]
    channels, samples = noisy.shape
    extra = padded(samples, model.spec.multiple_of) - samples
    residual = np.empty_like(noisy)
    for rows in _groups(channels, samples if sigmas is None else _BATCH, linked=model.spec.linked):
        batch = np.pad(parts[:, rows], ((0, 0), (0, 0), (0, extra)), "edge") if extra else parts[:, rows]
        sigma = None if sigmas is None else sigmas[rows.start]
        given = torch.cat([_tensor(part, model) for part in batch], dim=1)
        denoised = model(given, sigma).flatten(0, 1)[:, :samples].cpu().numpy()
        np.subtract(noisy[rows], denoised, out=residual[rows])
    return residual


class _Whole:
    """A model that needs the whole signal: waits for it."""

    def __init__(self, model: Denoiser, channels: int, sigmas: list[float] | None) -> None:
        self._model, self._sigmas = model, sigmas
        self._channels = channels
        self._noisy = SampleQueue(channels * (1 + model.spec.gaps))

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
        self._held = np.empty((channels * (1 + model.spec.gaps), 0), np.float32)
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
        return _joined(done, self._channels, self._held.dtype)

    def _reach(self) -> int:
        """How many samples the next window needs, if the signal does not end in it."""
        return padded(self._start + self._tile + self._halo, self._multiple_of)


class _Causal:
    """A model that carries state: whole hops go in as they come, its latency is taken out."""

    def __init__(self, model: CausalDenoiser, channels: int, block: int) -> None:
        self._model = model
        self._groups = _groups(channels, block, linked=model.spec.linked)
        self._longest = padded(max(1, _BATCH // channels), model.hop)  # samples a call, of linked channels
        self._states = [
            model.initial_state(*((1, len_) if model.spec.linked else (len_, 1)))
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
