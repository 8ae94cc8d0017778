"""Blind noise estimates for images, recordings and sensor logs, block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from denoise.arrays import Array
from denoise.dsp.scale import sample_range
from denoise.estimate.image import noise_sigma
from denoise.registry import unknown
from denoise.signal import MODALITIES

_GAUSSIAN_MAD = 0.6744897501960817  # median of |x| for a standard normal x: norm.ppf(3/4)
_FRAME_S = 0.02
_DEFAULT_RATE = 48_000.0  # Hz, for recordings without a sample rate
_ROUNDINGS = 16.0  # details below 16 rounding steps of the largest sample are not noise


def white_noise_sigma(samples: Array) -> float:
    """Return the standard deviation of white noise in one channel `(*S)`, of one or two axes; NaN is ignored.

    The finest diagonal details of a natural image (or the details of a slow signal) are mostly noise, and a
    median ignores the few edges (Donoho and Johnstone, "Ideal spatial adaptation by wavelet shrinkage",
    1994). Flat areas, such as borders and saturated sky, carry no noise and are ignored; if most of the
    channel is flat, the result is 0.
    """
    import pywt

    values = np.asarray(samples)
    if values.dtype != np.float32:
        values = values.astype(np.float64)
    finite = np.abs(values[np.isfinite(values)])
    if finite.size < 2:
        return 0.0
    details = pywt.dwtn(values, "db2", mode="symmetric")["d" * values.ndim]
    size = np.abs(details[np.isfinite(details)])
    rough = size[size > _ROUNDINGS * np.finfo(values.dtype).eps * finite.max()]
    if 2 * rough.size < size.size or rough.size == 0:
        return 0.0
    return float(np.median(rough)) / _GAUSSIAN_MAD


class NoiseEstimator:
    """Estimates the noise of one file from its blocks, in memory bounded by a block.

    Results, by modality:

    - image: `estimated_sigma`, the standard deviation of the noise in 8-bit units, mean over pages; see
      `denoise.estimate.image`.
    - audio: `estimated_noise_dbfs`, the 10 % quantile of the frame levels in dB relative to full scale; minus
      infinity for digital silence.
    - sensor: `estimated_sigma`, the white-noise standard deviation in the log's units, mean over channels.
    """

    def __init__(self, modality: str, peak: float | None = None, sample_rate: float | None = None) -> None:
        if modality not in MODALITIES:
            raise unknown("modality", modality, MODALITIES)
        peak = 1.0 if peak is None else peak
        self._part: _ImageSigma | _NoiseFloor | _SensorSigma
        if modality == "image":
            self._part = _ImageSigma(peak)
        elif modality == "audio":
            self._part = _NoiseFloor(max(1, round(_FRAME_S * (sample_rate or _DEFAULT_RATE))), peak)
        else:
            self._part = _SensorSigma()

    def update(self, block: Array) -> None:
        """Add the next block `(C, *S)`, in the dtype of the file."""
        self._part.update(np.asarray(block))

    def result(self) -> dict[str, float]:
        """Return the estimate so far."""
        return self._part.result()


class _ImageSigma:
    """Mean of the sigmas of all pages."""

    def __init__(self, peak: float) -> None:
        self._peak = peak
        self._sigmas: list[float] = []

    def update(self, page: Array) -> None:
        black, white = sample_range(page, self._peak)
        self._sigmas.append(noise_sigma(page, white - black))

    def result(self) -> dict[str, float]:
        return {"estimated_sigma": float(np.mean(self._sigmas)) if self._sigmas else 0.0}


class _Rechunk:
    """Re-blocks a stream into chunks of one size, so that results do not depend on the blocks."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.rest: Array | None = None

    def feed(self, block: Array) -> Iterator[Array]:
        start = 0
        if self.rest is not None:
            start = min(self._size - self.rest.shape[-1], block.shape[-1])
            first = np.concatenate([self.rest, block[:, :start]], axis=-1)
            if first.shape[-1] < self._size:
                self.rest = first
                return
            self.rest = None
            yield first
        whole = start + (block.shape[-1] - start) // self._size * self._size
        for at in range(start, whole, self._size):
            yield block[:, at : at + self._size]
        if whole < block.shape[-1]:
            self.rest = block[:, whole:].copy()


class _NoiseFloor:
    """A low quantile of the frame powers, from a histogram of decibels."""

    _quantile = 0.1
    _low_db, _high_db, _step_db = -150.0, 30.0, 0.1

    def __init__(self, frame: int, peak: float) -> None:
        self._chunks = _Rechunk(frame * 512)  # many frames at once
        self._frame = frame
        self._peak = peak
        self._counts = np.zeros(round((self._high_db - self._low_db) / self._step_db) + 1, dtype=np.int64)

    def update(self, block: Array) -> None:
        for chunk in self._chunks.feed(block):
            self._counts += self._count(chunk)

    def _count(self, chunk: Array) -> NDArray[np.int64]:
        frame = max(1, min(self._frame, chunk.shape[-1]))  # a shorter recording is one frame
        samples = chunk.shape[-1] // frame * frame
        frames = chunk[:, :samples].astype(np.float64).reshape(chunk.shape[0], -1, frame)
        frames -= frames.mean(axis=(1, 2), keepdims=True)  # an offset is no noise
        power = ((frames / self._peak) ** 2).mean(axis=(0, 2))
        level_db = 10.0 * np.log10(np.maximum(power, 10.0 ** (self._low_db / 10.0)))
        bins = np.rint((np.minimum(level_db, self._high_db) - self._low_db) / self._step_db).astype(np.int64)
        return np.bincount(bins, minlength=self._counts.size)

    def result(self) -> dict[str, float]:
        counts = self._counts.copy()
        rest = self._chunks.rest
        if rest is not None:
            counts += self._count(rest)
        index = int(np.searchsorted(np.cumsum(counts), self._quantile * counts.sum()))  # 0 without counts
        return {"estimated_noise_dbfs": self._low_db + index * self._step_db if index else -math.inf}


class _SensorSigma:
    """Mean of `white_noise_sigma` over channels and chunks."""

    _chunk = 1 << 16

    def __init__(self) -> None:
        self._chunks = _Rechunk(self._chunk)
        self._total = 0.0  # sum of sigma x samples
        self._samples = 0

    def update(self, block: Array) -> None:
        for chunk in self._chunks.feed(block):
            self._total += self._sum(chunk)
            self._samples += chunk.size

    def _sum(self, chunk: Array) -> float:
        return sum(white_noise_sigma(channel) for channel in chunk) * float(chunk.shape[-1])

    def result(self) -> dict[str, float]:
        total, samples = self._total, self._samples
        rest = self._chunks.rest
        if rest is not None:
            total, samples = total + self._sum(rest), samples + rest.size
        return {"estimated_sigma": total / samples if samples else 0.0}
