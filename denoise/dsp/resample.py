"""Other sample rates block by block, as little late as can be."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Resampler", "resampler"]

Array = NDArray[Any]

_TRANSITION = 0.1  # share of the lower Nyquist frequency in which the filter falls
_STOP_DB = 70.0
_AT_ONCE = 1 << 18  # numbers in one product: 1 MiB, which stays in the cache
_LARGEST = 1000  # terms of a ratio: beyond, the filter would have too many phases


class Resampler(Protocol):
    """Takes the next samples `(C, n)` and whether they are the last; gives what is finished `(C, m)`.

    Its own delay is taken out: sample `n` out lies at the time of sample `n / ratio` in.
    """

    waits: int  # for so many samples behind one, where that is known

    def __call__(self, block: Array, last: bool, /) -> Array: ...


def resampler(ratio: float, channels: int, *, prompt: bool = False) -> Resampler:
    """What gives `ratio` samples for one.

    Args:
        ratio: Of the rates, that behind to that before.
        channels: Number of channels.
        prompt: Wait for less than 4 ms of sound at 48 kHz, where soxr waits for 37 ms; the topmost tenth of
            the band is the price. Of rates in no simple ratio soxr is taken all the same.
    """
    simple = Fraction(ratio).limit_denominator(_LARGEST)
    if prompt and max(simple.as_integer_ratio()) <= _LARGEST and abs(simple / Fraction(ratio) - 1) < 1e-12:
        return _Polyphase(simple.numerator, simple.denominator, channels)
    return _Soxr(ratio, channels)


class _Soxr:
    waits = 0  # unknown

    def __init__(self, ratio: float, channels: int) -> None:
        import soxr

        self._stream = soxr.ResampleStream(1.0, ratio, channels, dtype="float32")

    def __call__(self, block: Array, last: bool, /) -> Array:
        frames: Array = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last)
        return frames.T


class _Polyphase:
    """`up` zeros are put in, a filter fills them, and each `down`-th sample is kept.

    Of every `down` samples `up` come out, always by the same filters: one product of matrices for all. A
    filter is as long before a sample as behind it, so it waits for the half of it.
    """

    def __init__(self, up: int, down: int, channels: int) -> None:
        from scipy.signal import firwin, kaiser_beta, kaiserord

        self._up, self._down = up, down
        edge = 1 / max(up, down)  # the lower Nyquist frequency, that of the filled signal being 1
        self._half = half = -(-kaiserord(_STOP_DB, _TRANSITION * edge)[0] // 2)
        window = ("kaiser", kaiser_beta(_STOP_DB))
        taps = up * firwin(2 * half + 1, (1 - _TRANSITION / 2) * edge, window=window)
        self.waits = self._before = -(-half // up)  # samples before a period that its first one needs
        width = self._before + ((up - 1) * down + half) // up + 1
        at = np.arange(up) * down - (np.arange(width)[:, None] - self._before) * up + half
        inside = (at >= 0) & (at <= 2 * half)
        self._filters = np.where(inside, taps[at.clip(0, 2 * half)], 0).astype(np.float32)  # (width, up)
        self._held = np.zeros((channels, self._before), np.float32)  # from before the current period on
        self._received = self._given = 0

    def __call__(self, block: Array, last: bool, /) -> Array:
        up, down, width = self._up, self._down, len(self._filters)
        held = np.concatenate([self._held, block.astype(np.float32)], 1)
        self._received += block.shape[1]
        given = self._given
        known = self._received * up - (0 if last else self._half)
        self._given = max(given, -(-known // down))
        periods = -(-self._given // up) - given // up
        missing = (periods - 1) * down + width - held.shape[1]
        whole = np.pad(held, ((0, 0), (0, missing))) if missing > 0 else held
        row, step = whole.strides
        shape = (len(whole), periods, width)
        windows = np.ndarray(shape, np.float32, whole, 0, (row, down * step, step))
        out = np.empty((len(whole), periods, up), np.float32)
        at_once = max(1, _AT_ONCE // (len(whole) * width))
        for start in range(0, periods, at_once):
            part = slice(start, start + at_once)
            np.matmul(np.ascontiguousarray(windows[:, part]), self._filters, out=out[:, part])
        skipped = given % up
        self._held = held[:, (self._given // up - given // up) * down :].copy()
        return out.reshape(len(out), -1)[:, skipped : skipped + self._given - given]


def resample(array: NDArray[Any], from_hz: float, to_hz: float) -> NDArray[np.float32]:
    """Resample a whole recording in memory with soxr's linear-phase filter of very high quality.

    Args:
        array: The samples; not changed.
        from_hz: Their sample rate, Hz.
        to_hz: The new sample rate, Hz.

    Shape:
        `(C, n)` in, `(C, m)` out with m the nearest whole number to `n * to_hz / from_hz`.
    """
    samples = np.asarray(array, dtype=np.float32)
    if from_hz == to_hz:
        return samples.copy()
    import soxr

    return np.ascontiguousarray(soxr.resample(samples.T, from_hz, to_hz, quality="VHQ").T)
