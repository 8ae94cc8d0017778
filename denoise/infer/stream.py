"""Clean signals of any length block by block, in memory that the block bounds.

What flows through the stages is the *residual*, the noise that the model would remove: the output is the
input minus `strength` times the residual. So whatever the model cannot see (gaps, the channel's offset) stays
in the output untouched, and `strength=0` is the input itself. Of sound, the band above what the model sees is
the input's own, turned down as the model turns down the top of what it sees.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from denoise.dsp.resample import resampler
from denoise.errors import DenoiseError, InputError, UsageError
from denoise.infer.stages import (
    DEFAULT_BLOCK,
    RAMP,
    FullBand,
    Gaps,
    SampleQueue,
    Stage,
    core_of,
    joined,
    tile_of,
)
from denoise.models.base import CausalDenoiser, Denoiser, InputSpec, SigmaDenoiser

__all__ = ["Levels", "Stream", "check_request", "limited"]

Array = NDArray[Any]

_SAME_RATE = (
    1e-3  # a model cannot tell rates closer than this part; nothing accumulates, so none need be resampled
)


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


def check_request(name: str, model: object, strength: float, sigma: float | None) -> None:
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
    if not isinstance(model, SigmaDenoiser):
        raise UsageError(
            f"the model {name} finds the noise level itself: it takes no sigma (given: {sigma:g})"
        )


class _HasDenoiser(Protocol):
    """A `Cleaner`."""

    @property
    def denoiser(self) -> Denoiser: ...


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
        channels: Number of channels. With `spec.joint_channels` they go through the model together; else each
            is cleaned on its own.
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
        model: Denoiser | _HasDenoiser,
        channels: int = 1,
        sample_rate: float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
        offset: ArrayLike = 0.0,
        scale: ArrayLike = 1.0,
        block: int | None = None,
    ) -> None:
        model = (model if isinstance(model, Denoiser) else model.denoiser).for_sample_rate(sample_rate)
        name, spec = type(model).__name__, model.spec
        check_request(name, model, strength, sigma)
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
        core: Stage = core_of(model.eval(), channels, block, sigmas)
        self._stages: list[Stage] = [Gaps(channels, spec.takes_gap_mask)] if self._gaps_allowed else []
        self._first = self._piece  # is longer, so that the model has a whole block behind every piece
        if ratio == 1.0:
            self._stages.append(core)
        elif ratio < 1.0 and spec.modality == "audio":
            full = FullBand(core, channels, ratio, spec)
            self._stages.append(full)
            self._first += full.delay_samples
        else:
            low_latency = spec.modality == "audio"
            to_model, back = (resampler(r, channels, low_latency=low_latency) for r in (ratio, 1 / ratio))
            self._stages += [to_model, core, back]
            self._first += to_model.delay_samples
        if not self._gain.any():
            self._stages = [_nothing]  # spare the model's time

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """What the model found and took out so far: figures by name."""
        return self._model.diagnostics()

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
        longest = 4 * tile_of(self._block, model.spec.halo or 0)
        waiting = most = 0
        for _ in range(math.ceil(max(longest, model.spec.sample_rate or 0) / self._block)):
            silence = np.zeros((1, stream._first), np.float32)
            waiting += silence.shape[-1] - stream.feed(silence).shape[-1]
            most = max(most, waiting)
        return most + self._piece - 1 + (RAMP if self._gaps_allowed else 0)

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
        return joined(done, self._channels, self._waiting.dtype)

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


def _nothing(block: Array, _last: bool, /) -> Array:
    return np.zeros_like(block)


def _rate_ratio(spec: InputSpec, sample_rate: float | None) -> float:
    """Samples at the model's rate for one of the signal's."""
    if sample_rate is not None and not 0 < sample_rate < float("inf"):
        raise UsageError(f"the sample rate is {sample_rate}; it must be a positive number of Hz")
    if spec.sample_rate is None or sample_rate is None:
        return 1.0
    ratio = spec.sample_rate / sample_rate
    return 1.0 if abs(ratio - 1) < _SAME_RATE else ratio


class _Idle(Denoiser):
    """Gives back what it gets, in a model's place."""

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
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
