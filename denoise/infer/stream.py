"""Clean signals of any length in blocks, in bounded memory.

The *residual* flows through the stages, the noise that the model would remove: the output is the input minus
`strength` times the residual. So gaps and the offset of a channel stay in the output, and `strength=0` is the
input itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from functools import cached_property
from numbers import Real
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike

from denoise.arrays import Array, Doubles, Mask, with_gaps
from denoise.dsp.resample import MAX_TERM, resampler
from denoise.errors import DenoiseError, InputError, UsageError
from denoise.infer.gaps import ClockPauses, GapFiller
from denoise.infer.stages import (
    DEFAULT_BLOCK,
    MAX_RAMP,
    FullBand,
    GapBridge,
    SampleQueue,
    Stage,
    concat,
    make_core,
    tile_length,
)
from denoise.models.base import CausalDenoiser, Denoiser
from denoise.models.contract import InputSpec, check_request
from denoise.signal import Clock

# Models cannot distinguish sample rates this close, relatively, and the error does not accumulate, so such
# input is not resampled.
_SAME_RATE = 1e-3
_MIN_OFFSET = 0.2  # of the standard deviation
_MIN_SECONDS = 0.03  # shorter recordings stay: less than any model looks ahead, and too little to tell noise
# Opus codes silence as 2e-34: powers of such values are subnormal numbers, which a CPU multiplies fifty times
# as slowly as others.
_SILENT = 1e-15  # of full scale, -300 dB


def check_finite(block: Array, start: int, *, gaps_allowed: bool = False) -> None:
    """Check samples `(C, n)`, the first of which is number `start` of a signal.

    Raises:
        InputError: A sample is infinite, or NaN where gaps are not allowed.
    """
    bad = np.isinf(block) if gaps_allowed else ~np.isfinite(block)
    if bad.any():
        at = int(bad.any(axis=0).argmax())
        channel = int(bad[:, at].argmax())
        raise InputError(
            f"sample {start + at} of channel {channel + 1} is {block[channel, at]}; "
            f"expected {'finite numbers, or NaN for gaps' if gaps_allowed else 'finite numbers'}"
        )


class _HasDenoiser(Protocol):
    """A `Cleaner`."""

    @property
    def denoiser(self) -> Denoiser: ...


MAX_MAGNITUDE = 1e150  # of samples, whose squares are summed
_EXTREMES = 8  # readings at either end of the range that may be glitches
_ROUNDING = 1e-12  # of a constant, relative
_GIANT = 10.0  # ranges of all other readings; a few giants are farther from them
_TAIL, _FAR_GIANT = 0.05, 100.0  # tails of readings, and ranges of the rest; more giants are farther
_SOME = 4096  # readings that tell the rest, evenly spread
_FAR = 30.0  # standard deviations of the other readings; farther extremes do not count


class Levels:
    """Accumulates mean, standard deviation and range of each channel in float64.

    NaN counts as missing. Parts are merged as by Chan, Golub and LeVeque (1983), so a large offset costs no
    digits. The extreme readings count only if they are like the others: a glitch of a million, or a start
    stamp above the samples, does not set the scale.
    """

    def __init__(self, channels: int) -> None:
        self._count = np.zeros(channels)
        self._mean = np.zeros(channels)
        self._squares = np.zeros(channels)
        self._low = np.full(channels, np.inf)
        self._high = np.full(channels, -np.inf)
        self._some, self._stride, self._seen = np.empty((channels, 0)), 1, 0
        self._extremes = np.empty((channels, 0))  # the lowest and highest of each so far, not counted yet

    def update(self, block: Array) -> None:
        """Add the next samples `(C, n)`.

        Raises:
            InputError: One is so large that its square is infinite.
        """
        values = np.asarray(block, np.float64)
        present = ~np.isnan(values)
        self._low = np.minimum(self._low, np.where(present, values, np.inf).min(axis=-1, initial=np.inf))
        self._high = np.maximum(self._high, np.where(present, values, -np.inf).max(axis=-1, initial=-np.inf))
        largest = max(self._high.max(initial=0), -self._low.min(initial=0))
        if MAX_MAGNITUDE < largest < np.inf:
            raise InputError(f"a sample has the magnitude {largest:.3g}; expected {MAX_MAGNITUDE:g} at most")
        spread = values[:, -self._seen % self._stride :: self._stride]
        self._some, self._seen = np.concatenate([self._some, spread], axis=-1), self._seen + values.shape[-1]
        while self._some.shape[-1] > _SOME:
            self._some, self._stride = self._some[:, ::2], 2 * self._stride
        values = np.concatenate([self._extremes, values], axis=-1)
        self._extremes = np.full((len(values), 2 * _EXTREMES), np.nan)
        for row, extremes in zip(values, self._extremes, strict=True):
            places = np.flatnonzero(~np.isnan(row))
            if places.size > extremes.size:
                order = np.argpartition(row[places], (_EXTREMES, places.size - _EXTREMES - 1))
                places = places[np.concatenate([order[:_EXTREMES], order[-_EXTREMES:]])]
            extremes[: places.size] = row[places]
            row[places] = np.nan
        totals = self._count, self._mean, self._squares
        self._count, self._mean, self._squares = _merged(*totals, values)

    @property
    def varies(self) -> Mask:
        """Mask of the channels that hold two different values; the others have nothing to clean."""
        return self._low < self._high

    def offset_and_scale(self, spec: InputSpec, zero: float = 0.0, full: float = 1.0) -> tuple[Array, Array]:
        """Return `offset` and `scale` of a `Stream`; a constant channel gets scale 0.

        Args:
            zero: Value of silence, for a model that does not want its input centred.
            full: Full scale, for a model that does not want its input scaled.
        """
        mean, deviation = self.mean_and_deviation()
        offset = mean if spec.centre else np.full_like(mean, zero)
        if spec.removes_offset:  # a small one costs less than digital silence that is no longer silent
            offset = np.where(np.abs(mean - zero) > _MIN_OFFSET * deviation, mean, offset)
        scale = deviation if spec.scale else np.full_like(mean, full)
        return offset, np.where(self.varies, scale, 0.0)

    def mean_and_deviation(self) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of each channel."""
        deviation = np.sqrt(self._squares / np.maximum(self._count, 1))[:, None]
        far = np.abs(self._extremes - self._mean[:, None]) > _FAR * deviation
        some = deviation > _ROUNDING * np.abs(self._mean[:, None])
        extremes = np.where(far & some, np.nan, self._extremes)
        count, mean, squares = _merged(self._count, self._mean, self._squares, extremes)
        return mean, np.sqrt(squares / np.maximum(count, 1))

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest reading of each channel."""
        return self._low, self._high

    @property
    def usual(self) -> tuple[Array, Array]:
        """Lowest and highest reading of each channel, giants aside that are far beyond all or most others."""
        ends = [_usual(*rows) for rows in zip(self._extremes, self._some, *self.bounds, strict=True)]
        low, high = np.reshape(ends, (-1, 2)).T
        return low, high


def _usual(extremes: Doubles, some: Doubles, low: float, high: float) -> tuple[float, float]:
    """Find the range of the readings of a channel without giants, from the extremes, some others, and all."""
    extremes, some = np.sort(extremes[~np.isnan(extremes)]), some[~np.isnan(some)]
    if extremes.size < 2 * _EXTREMES:
        return low, high
    below, above = extremes[:_EXTREMES], extremes[: -_EXTREMES - 1 : -1]
    alone = [
        (start, stop)
        for i, start in enumerate(below)
        for j, stop in enumerate(above)
        if (not i or start - below[i - 1] > _GIANT * (stop - start) > 0.0)
        and (not j or above[j - 1] - stop > _GIANT * (stop - start) > 0.0)
    ]
    low, high = min(alone, key=lambda ends: ends[1] - ends[0])
    start, stop = np.quantile(some, (_TAIL, 1.0 - _TAIL))
    far = _FAR_GIANT * (stop - start)
    if far > 0.0 and (low < start - far or high > stop + far):
        near = some[(some >= start - far) & (some <= stop + far)]
        low, high = near.min(), near.max()
    return low, high


def _merged(count: Array, mean: Array, squares: Array, values: Array) -> tuple[Array, Array, Array]:
    """Return count, mean and sum of squared deviations of each channel with more values `(C, n)`."""
    present = ~np.isnan(values)
    more = present.sum(axis=-1)
    total = count + more
    safe = np.maximum(total, 1)
    mean_more = np.where(present, values, 0).sum(axis=-1) / np.maximum(more, 1)
    squares_more = (np.where(present, values - mean_more[:, None], 0) ** 2).sum(axis=-1)
    shift = np.where(more > 0, mean_more - mean, 0)
    squares = squares + squares_more + shift**2 * count * more / safe
    return total, mean + shift * more / safe, squares


class Stream:
    """Cleans a signal that comes in blocks; the result does not depend on the blocks' sizes.

    Output lags input by at most `latency_samples`; `flush` returns the rest. Output has as many samples as
    input, in the same places. A model of another sample rate works at its own: the noise it finds is
    resampled to the signal's rate and subtracted, and audio above the model's band is attenuated as the top
    of that band is. NaN marks a gap: it is bridged for the model and is a gap again in the output, unless it
    is short enough to be filled. The bridge is a straight line; for a gap of more than 4096 samples, the last
    value is held before it.

    >>> import numpy as np
    >>> import denoise
    >>> stream = denoise.Stream(denoise.load("speech"), sample_rate=48_000)
    >>> block = np.zeros((1, 480), np.float32)  # 10 ms of one channel
    >>> ready = [stream.feed(block) for _ in range(100)]
    >>> sum(part.shape[1] for part in ready) >= 48_000 - stream.latency_samples
    True
    >>> sum(part.shape[1] for part in [*ready, stream.flush()])
    48000

    Args:
        model: A denoiser of signals. One with `spec.halo` None that carries no state needs everything at
            once: then all output comes from `flush`, and memory grows with the signal.
        channels: Number of channels. With `spec.joint_channels` they go through the model together; else each
            is cleaned on its own.
        sample_rate: Hz; None means that of the model.
        strength: 1 is fully cleaned, 0 is the input.
        sigma: Noise standard deviation in the signal's own units, for a model that uses it.
        offset: Value to subtract before the model, per channel or for all (its mean, if `spec.centre` or
            `spec.removes_offset`).
        scale: Value to divide by before the model, per channel or for all (its standard deviation, if
            `spec.scale`); 0 leaves a channel as it is.
        block: Samples per channel in one call of the model, at the model's rate: large blocks are faster,
            small ones lag less. None takes the minimum for a model that carries state.
        clock: Clock of the samples, if it pauses: the sides of a pause are cleaned as those of a gap.
        fill_gaps: Length in samples of the longest gap to fill.
        bounds: Lowest and highest value of the output, per channel or for all: those of the input keep what
            is not negative from becoming so.
        usual: Lowest and highest reading but for giants, per channel or for all: a reading between them that
            would change by more than they differ stays, and so does a giant that would not come near them.

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
        clock: Clock | None = None,
        fill_gaps: int = 0,
        bounds: tuple[ArrayLike, ArrayLike] | None = None,
        usual: tuple[ArrayLike, ArrayLike] | None = None,
    ) -> None:
        _check_rate(sample_rate)
        model = (model if isinstance(model, Denoiser) else model.denoiser).for_sample_rate(sample_rate)
        name, spec = type(model).__name__, model.spec
        check_request(name, model, strength, sigma)
        if spec.ndim != 1:
            raise UsageError(f"the model {name} is for images; a stream needs one for signals")
        if channels < 1:
            raise UsageError(f"channels is {channels}; a stream needs at least 1")
        if block is None:
            block = model.hop if isinstance(model, CausalDenoiser) else DEFAULT_BLOCK
        if block < 1:
            raise UsageError(f"block is {block}; it must be at least one sample")
        ratio = _rate_ratio(spec, sample_rate)

        self.model, self._block, self._sample_rate = model, block, sample_rate
        self._channels = channels
        self._offset = np.broadcast_to(np.asarray(offset, np.float64), (channels,))[:, None]
        gain = np.broadcast_to(np.asarray(scale, np.float64), (channels,))[:, None]
        self._divisor = np.where(gain > 0, gain, 1.0)
        self._gain = strength * gain
        self._bounds, self._usual = (
            [np.broadcast_to(np.asarray(end), (channels,))[:, None] for end in ends or ()]
            for ends in (bounds, usual)
        )
        self._gaps_allowed = spec.modality == "sensor"
        self._pieces, self._per_piece = 1, block / ratio
        self._checked = 0  # samples
        rate = sample_rate or spec.sample_rate
        self._min_samples = _MIN_SECONDS * rate if rate and spec.modality == "audio" else 0.0
        self._closed = False
        self._pauses = ClockPauses(clock) if clock else None
        self._filler = GapFiller(channels, fill_gaps) if fill_gaps else None
        self._waiting, self._dry, self._residual = (SampleQueue(channels) for _ in range(3))

        sigmas = None if sigma is None else [sigma / s for s in self._divisor[:, 0]]
        core: Stage = make_core(model.eval(), channels, block, sigmas)
        self._stages: list[Stage] = [GapBridge(channels, spec.takes_gap_mask)] if self._gaps_allowed else []
        # The first piece is longer, so that the model has a whole block with every piece.
        self._next = max(1, math.ceil(self._per_piece))
        if ratio == 1.0:
            self._stages.append(core)
        elif ratio < 1.0 and spec.modality == "audio":
            full = FullBand(core, channels, ratio, spec)
            self._stages.append(full)
            self._next += full.delay_samples
        else:
            audio = spec.modality == "audio"
            to_model, back = (
                resampler(r, channels, low_latency=audio, whole_band=audio) for r in (ratio, 1 / ratio)
            )
            self._stages += [to_model, core, back]
            self._next += to_model.delay_samples
        if not self._gain.any():
            self._stages = [_no_residual]

    @property
    def diagnostics(self) -> Mapping[str, float]:
        """Figures by name of what the model removed so far."""
        return self.model.diagnostics()

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user about gaps that were filled."""
        return self._filler.notes if self._filler else ()

    @cached_property
    def latency_samples(self) -> int | None:
        """Maximum lag of the output in samples, without filling of gaps; None if all comes from `flush`.

        It is measured on silence with a stand-in of the same latency, hop and halo as the model.
        """
        model = self.model
        causal = isinstance(model, CausalDenoiser)
        if model.spec.halo is None and not causal:
            return None
        idle = _IdleCausal(model) if isinstance(model, CausalDenoiser) else _Idle(model.spec)
        stream = Stream(idle, 1, self._sample_rate, block=self._block)
        longest = 4 * tile_length(self._block, model.spec.halo or 0)
        lag = max_lag = 0
        for _ in range(math.ceil(max(longest, model.spec.sample_rate or 0) / self._block)):
            silence = np.zeros((1, stream._next), np.float32)
            lag += silence.shape[-1] - stream.feed(silence).shape[-1]
            max_lag = max(max_lag, lag)
        return max_lag + math.ceil(self._per_piece) - 1 + (MAX_RAMP if self._gaps_allowed else 0)

    @torch.inference_mode()
    def feed(self, block: Array, stamps_s: Doubles | None = None, *, last: bool = False) -> Array:
        """Take the next samples, and return the finished ones.

        Args:
            block: The samples.
            stamps_s: Their time stamps in seconds, for a `clock` that pauses.
            last: The signal ends with this block.

        Shape:
            `(C, n)` in, `(C, m)` out: float64 for float64, float32 for float32.

        Raises:
            InputError: A sample is infinite, or NaN in audio.
        """
        block = with_gaps(block)
        if block.ndim != 2 or block.shape[0] != self._channels:
            raise UsageError(f"the block has shape {block.shape}; this stream takes ({self._channels}, n)")
        if self._closed:
            raise UsageError("this stream has ended; a new signal needs a new stream")
        self._closed = last
        # A copy, because callers refill the buffer they record into.
        block = np.array(block, np.float32 if block.dtype == np.float32 else np.float64)
        if self._pauses:
            block = self._pauses.insert(block, stamps_s)
        if self._filler:
            block = self._filler(block, last)
        self._waiting.append(block)
        if last and self._checked + self._waiting.size < self._min_samples:
            self._gain = np.zeros_like(self._gain)
        done = []
        while last or self._waiting.size >= self._next:
            final = self._waiting.size < self._next
            piece = self._waiting.take(min(self._next, self._waiting.size))
            self._next = self._piece_length()
            flow = self._normalise(piece)
            for stage in self._stages:
                flow = stage(flow, final)
            done.append(self._subtract(flow, final))
            if final:
                break
        cleaned = concat(done, self._channels, self._waiting.dtype)
        return self._pauses.remove(cleaned) if self._pauses else cleaned

    def flush(self) -> Array:
        """End the signal, and return the rest of the output `(C, k)`."""
        nothing = np.empty((self._channels, 0), self._waiting.dtype)
        return nothing if self._closed else self.feed(nothing, last=True)

    def _piece_length(self) -> int:
        """Return the length of the next piece: together they follow the blocks of the model at any rate."""
        done = math.ceil(self._pieces * self._per_piece - 1e-6)
        self._pieces += 1
        return max(1, math.ceil(self._pieces * self._per_piece - 1e-6) - done)

    def _normalise(self, piece: Array) -> Array:
        check_finite(piece, self._checked, gaps_allowed=self._gaps_allowed)
        self._checked += piece.shape[-1]
        self._dry.append(piece)
        with np.errstate(over="ignore"):  # a value beyond float32 gives an infinite result, which is reported
            scaled: Array = ((piece - self._offset) / self._divisor).astype(np.float32)
        scaled[np.abs(scaled) < _SILENT] = 0
        return scaled

    def _subtract(self, residual: Array, last: bool) -> Array:
        self._residual.append(residual)
        if last and (short := self._dry.size - self._residual.size) > 0:
            self._residual.append(np.zeros((self._channels, short), np.float32))
        size = min(self._dry.size, self._residual.size)
        dry = self._dry.take(size)
        out: Array = dry - self._gain * self._residual.take(size)
        if self._usual:
            low, high = self._usual
            with np.errstate(invalid="ignore"):
                inside = (low <= dry) & (dry <= high)
                wild = np.where(inside, np.abs(out - dry), np.maximum(low - out, out - high)) > high - low
            out = np.where(wild, dry, out)
        if self._bounds:
            out = np.clip(out, *self._bounds)
        out = out.astype(dry.dtype)
        if np.isinf(out).any() or (np.isnan(out) & ~np.isnan(dry)).any():
            raise DenoiseError("the model returned a value that is not a finite number")
        return out


def _no_residual(block: Array, _last: bool, /) -> Array:
    return np.zeros_like(block)


def _check_rate(sample_rate: object) -> None:
    if sample_rate is not None and not (
        isinstance(sample_rate, Real) and 0 < float(sample_rate) < float("inf")
    ):
        raise UsageError(f"the sample rate is {sample_rate!r}; it must be a positive number of Hz")


def _rate_ratio(spec: InputSpec, sample_rate: float | None) -> float:
    """Return the model's rate over the signal's."""
    if spec.sample_rate is None or sample_rate is None:
        return 1.0
    ratio = spec.sample_rate / sample_rate
    if abs(ratio - 1) < _SAME_RATE:
        return 1.0
    if spec.modality != "audio":
        return ratio
    # A ratio of small numbers has a filter with little delay; the way back inverts the same ratio.
    smaller = Fraction(min(ratio, 1 / ratio)).limit_denominator(MAX_TERM)
    if not smaller:
        raise UsageError(
            f"the sample rate is {sample_rate:g} Hz; expected one nearer to that of the model, "
            f"{spec.sample_rate:g} Hz"
        )
    return float(smaller if ratio < 1 else 1 / smaller)


class _Idle(Denoiser):
    """A stand-in for a model, which returns its input."""

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, noisy: torch.Tensor) -> torch.Tensor:
        return noisy


class _IdleCausal(CausalDenoiser):
    """A stand-in of the same latency as a causal model."""

    def __init__(self, model: CausalDenoiser) -> None:
        super().__init__()
        self.spec, self.hop, self.latency = model.spec, model.hop, model.latency

    def initial_state(self, batch: int, channels: int = 1) -> None:
        """Return no state."""

    def step(self, block: torch.Tensor, state: None) -> tuple[torch.Tensor, None]:
        return block, state
