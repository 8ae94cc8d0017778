"""Resampling of whole recordings, and of streams with little delay."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Protocol

import numpy as np

from denoise.arrays import Array, Floats

_TRANSITION = 0.1  # transition band as a share of the lower Nyquist frequency
_FOLDED = 0.08  # half of that band about the Nyquist frequency, for the filters that keep the whole band
_STOP_DB = 70.0
_MAX_PRODUCT = 1 << 18  # numbers in one matrix product: 1 MiB fits the cache
MAX_TERM = 1000  # of a ratio: beyond, the filter would have too many phases


def resample(array: Array, from_hz: float, to_hz: float) -> Floats:
    """Resample a whole recording `(C, n)` with soxr's linear-phase filter of very high quality.

    The result is a copy `(C, m)`, with m the nearest integer to `n * to_hz / from_hz`.
    """
    samples = np.asarray(array, dtype=np.float32)
    if from_hz == to_hz:
        return samples.copy()
    import soxr

    return np.ascontiguousarray(soxr.resample(samples.T, from_hz, to_hz, quality="VHQ").T)


class Resampler(Protocol):
    """Takes the next samples `(C, n)` and whether they are the last; returns what is finished, `(C, m)`.

    The delay of the filter is removed: output sample `n` has the time of input sample `n / ratio`.
    """

    delay_samples: int  # look-ahead in input samples; 0 if unknown

    def __call__(self, block: Array, last: bool, /) -> Array: ...


def resampler(
    ratio: float, channels: int, *, low_latency: bool = False, whole_band: bool = False
) -> Resampler:
    """Build a streaming resampler.

    Args:
        ratio: Output rate over input rate.
        low_latency: Use a filter with less than 4 ms of look-ahead at 48 kHz (soxr: 37 ms), which loses the
            topmost tenth of the band. Rates in no simple ratio use soxr all the same.
        whole_band: Keep that tenth of a signal that goes to a higher rate and back: the filters of both ways
            let an image past its Nyquist frequency through, and the second folds it back to where it was.
    """
    simple = Fraction(ratio).limit_denominator(MAX_TERM)
    exact = max(simple.as_integer_ratio()) <= MAX_TERM and abs(simple / Fraction(ratio) - 1) < 1e-12
    if low_latency and exact:
        return _Polyphase(simple.numerator, simple.denominator, channels, whole_band=whole_band)
    return _Soxr(ratio, channels)


class _Soxr:
    delay_samples = 0  # unknown

    def __init__(self, ratio: float, channels: int) -> None:
        import soxr

        self._stream = soxr.ResampleStream(1.0, ratio, channels, dtype="float32")

    def __call__(self, block: Array, last: bool, /) -> Array:
        frames: Array = self._stream.resample_chunk(np.ascontiguousarray(block.T), last=last)
        return frames.T


class _Polyphase:
    """Inserts zeros, filters and decimates, as one matrix product.

    Every `down` input samples give `up` output samples through the same `up` filters. The filters are
    symmetric, so the look-ahead is half their length.
    """

    def __init__(self, up: int, down: int, channels: int, *, whole_band: bool = False) -> None:
        self._up, self._down = up, down
        edge = 1 / max(up, down)  # the lower Nyquist frequency over that of the signal with zeros
        # Kaiser's formulas (1974) for the length and the window of such a filter.
        length = math.ceil((_STOP_DB - 7.95) / (2.285 * math.pi * _TRANSITION * edge)) + 1
        self._half = half = -(-length // 2)
        window = np.kaiser(2 * half + 1, 0.1102 * (_STOP_DB - 8.7))
        if whole_band:
            taps = up * window * _response(*_power_complementary(edge), half)
        else:
            cutoff = (1 - _TRANSITION / 2) * edge
            taps = window * np.sinc(cutoff * np.arange(-half, half + 1))
            taps *= up / taps.sum()
        self.delay_samples = self._before = -(-half // up)  # samples before a period in its first filter
        width = self._before + ((up - 1) * down + half) // up + 1
        at = np.arange(up) * down - (np.arange(width)[:, None] - self._before) * up + half
        inside = (at >= 0) & (at <= 2 * half)
        self._filters = np.where(inside, taps[at.clip(0, 2 * half)], 0).astype(np.float32)  # (width, up)
        self._history = np.zeros((channels, self._before), np.float32)  # from `_before` on, ahead of a period
        self._received = self._given = 0

    def __call__(self, block: Array, last: bool, /) -> Array:
        up, down, width = self._up, self._down, len(self._filters)
        samples = np.concatenate([self._history, block.astype(np.float32)], 1)
        self._received += block.shape[1]
        given = self._given
        known = self._received * up - (0 if last else self._half)
        self._given = max(given, -(-known // down))
        periods = -(-self._given // up) - given // up
        missing = (periods - 1) * down + width - samples.shape[1]
        padded = np.pad(samples, ((0, 0), (0, missing))) if missing > 0 else samples
        row, step = padded.strides
        shape = (len(padded), periods, width)
        windows = np.ndarray(shape, np.float32, padded, 0, (row, down * step, step))
        out = np.empty((len(padded), periods, up), np.float32)
        at_once = max(1, _MAX_PRODUCT // (len(padded) * width))
        for start in range(0, periods, at_once):
            part = slice(start, start + at_once)
            np.matmul(np.ascontiguousarray(windows[:, part]), self._filters, out=out[:, part])
        skipped = given % up
        self._history = samples[:, (self._given // up - given // up) * down :].copy()
        return out.reshape(len(out), -1)[:, skipped : skipped + self._given - given]


def _response(hz: Array, gains: Array, half: int) -> Array:
    """Return the middle `2 * half + 1` samples of the symmetric response that has gains between 0 and 1."""
    bins = 1 << (4 * half).bit_length()
    return np.fft.fftshift(np.fft.irfft(np.interp(np.linspace(0, 1, bins + 1), hz, gains)))[
        bins - half : bins + half + 1
    ]


def _power_complementary(edge: float) -> tuple[Array, Array]:
    """Return frequencies, 1 the Nyquist frequency, and gains whose squares at mirrored ones add up to one."""
    ramp = np.linspace(0.0, 1.0, 65)
    hz = edge * (1.0 + _FOLDED * (2.0 * ramp - 1.0))
    gains = np.cos(np.pi / 2 * np.sin(np.pi / 2 * ramp) ** 2)
    hz, ends = hz[hz < 1.0], np.interp([0.0, 1.0], hz, gains)
    return np.array([0.0, *hz, 1.0]), np.array([ends[0], *gains[: len(hz)], ends[1]])
