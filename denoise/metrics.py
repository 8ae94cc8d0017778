"""Full-reference quality metrics, one row of `METRICS` each.

Arrays are `(C, *S)` of any dtype and are compared in float64. A pair with a NaN on either side (a gap) is
left out. Identical arrays give infinity where a metric is a ratio to the error.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from denoise.arrays import Array, Doubles
from denoise.errors import InputError, UsageError
from denoise.registry import unknown
from denoise.signal import MODALITIES

_CHUNK = 1 << 18  # samples per channel converted to float64 at a time


def _pair(reference: Array, estimate: Array) -> tuple[Array, Array]:
    """Return both as arrays `(C, *S)`; refuse a pair of different shapes."""
    reference, estimate = np.atleast_2d(reference), np.atleast_2d(estimate)
    if reference.shape != estimate.shape:
        raise InputError(
            f"the estimate has shape {estimate.shape}, the reference {reference.shape}: they must agree"
        )
    return reference, estimate


def _chunks(reference: Array, estimate: Array) -> Iterator[tuple[Doubles, Doubles]]:
    """Yield the pair in float64 pieces `(C, <= _CHUNK)`."""
    reference = reference.reshape(reference.shape[0], -1)
    estimate = estimate.reshape(estimate.shape[0], -1)
    for start in range(0, reference.shape[1], _CHUNK):
        piece = np.s_[:, start : start + _CHUNK]
        yield reference[piece].astype(np.float64), estimate[piece].astype(np.float64)


def _ratio_db(signal: float, error: float) -> float:
    """10 log10(signal / error); infinite if one of them is zero."""
    if error <= 0.0:
        return math.inf
    return 10.0 * math.log10(signal / error) if signal > 0.0 else -math.inf


class _Sums:
    """Per-channel sums from which MSE, PSNR, SNR and SI-SDR follow, gathered block by block.

    With r the reference, less its first sample, and d = estimate - reference: n, sum r, r^2, d, d^2, r d.
    Working with d rather than the estimate keeps small errors exact, and identical arrays at exactly zero.
    """

    def __init__(self) -> None:
        self._origin: Doubles | None = None
        self._sums: Doubles | None = None

    def update(self, reference: Array, estimate: Array) -> None:
        reference, estimate = _pair(reference, estimate)
        for r, e in _chunks(reference, estimate):
            valid = ~(np.isnan(r) | np.isnan(e))
            if self._origin is None or self._sums is None:
                first = r[np.arange(len(r)), valid.argmax(axis=1)]
                self._origin = np.where(valid.any(axis=1), first, 0.0)[:, None]
                self._sums = np.zeros((6, len(r)))
            elif len(r) != len(self._origin):
                raise InputError(f"a block has {len(r)} channels, those before it {len(self._origin)}")
            d = np.where(valid, e - r, 0.0)
            r = np.where(valid, r - self._origin, 0.0)
            products = (r, r * r, d, d * d, r * d)
            self._sums += np.stack([valid.sum(axis=1), *(p.sum(axis=1) for p in products)])

    def _get(self) -> Doubles:
        if self._sums is None or self._sums[0].sum() == 0:
            raise InputError("there is no pair of samples to compare: both arrays hold only gaps, or nothing")
        return self._sums

    def mse(self) -> float:
        n, _, _, _, dd, _ = self._get()
        return float(dd.sum() / n.sum())

    def snr_db(self) -> float:
        n, r, rr, _, dd, _ = self._non_empty()
        return self._mean_db(rr - r * r / n, dd)

    def si_sdr_db(self) -> float:
        n, r, rr, d, dd, rd = self._non_empty()
        rr, dd, rd = rr - r * r / n, dd - d * d / n, rd - r * d / n  # about the means
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = np.where(rr > 0.0, 1.0 + rd / rr, 1.0)  # of the reference that is nearest to the estimate
            error = np.where(rr > 0.0, dd - rd * rd / rr, dd)
        error = np.where(error <= 1e-14 * (dd + rr), 0.0, error)  # below the rounding of the sums
        return self._mean_db(rr, error, scale * scale * rr)

    def _non_empty(self) -> Doubles:
        sums = self._get()
        return sums[:, sums[0] > 0]

    @staticmethod
    def _mean_db(reference: Doubles, error: Doubles, target: Doubles | None = None) -> float:
        """Inverse of the mean error-to-target ratio of the channels that vary, in dB."""
        target = reference if target is None else target
        varying = reference > 0.0
        if not varying.any():
            return _ratio_db(0.0, float(error.sum()))
        error, target = error[varying], target[varying]
        if not target.all():
            return -math.inf
        return _ratio_db(1.0, float(np.mean(error / target)))


@dataclass(frozen=True)
class Metric:
    """Row of `METRICS`."""

    # scores two whole arrays; takes those of `peak` and `sample_rate` that `needs` names
    function: Callable[..., float]
    # modalities whose reports always show it; others measure it when it is named
    modalities: tuple[str, ...] = ()
    # streaming form: the metric from running sums and the peak, so that a long file needs no more memory than
    # a block. None scores each page of an image, and gathers the blocks of a signal
    from_sums: Callable[[_Sums, float | None], float] | None = None
    unit: str = ""  # unit of its values; empty for a ratio or an index
    needs: tuple[str, ...] = ()  # `peak` (the value that means full scale), `sample_rate` (Hz), both or none

    def __call__(
        self,
        reference: Array,
        estimate: Array,
        *,
        peak: float | None = None,
        sample_rate: float | None = None,
    ) -> float:
        """Score two whole arrays, with the one of `peak` and `sample_rate` that the metric needs."""
        given = {"peak": peak, "sample_rate": sample_rate}
        return self.function(reference, estimate, **{name: given[name] for name in self.needs})


class Scorer:
    """Scores one file against its reference, block by block.

    Args:
        modality: A name in `denoise.signal.MODALITIES`; `reported` lists its metrics.
        peak: The value that means full scale; needed for images.
        sample_rate: Hz; needed for the metrics of speech.
    """

    def __init__(self, modality: str, *, peak: float | None = None, sample_rate: float | None = None) -> None:
        self._rows = {name: METRICS[name] for name in reported(modality)}
        self._is_image = modality == "image"
        self._peak, self._sample_rate = peak, sample_rate
        self._sums = _Sums()
        self._blocks: list[tuple[Array, Array]] = []
        self._pages: dict[str, list[float]] = {
            name: [] for name, row in self._rows.items() if row.from_sums is None
        }

    def update(self, reference: Array, estimate: Array) -> None:
        """Add the next block `(C, n)` of a signal, or the next page `(C, H, W)` of an image.

        Raises:
            InputError: The two differ in shape.
        """
        self._sums.update(reference, estimate)
        if self._is_image:
            for name, values in self._pages.items():
                values.append(self._score(name, reference, estimate))
        elif self._pages:
            self._blocks.append((reference, estimate))

    def result(self) -> dict[str, float]:
        """Metrics over all samples; those without a streaming form are means over the pages of an image."""
        return {name: self._result(name, row) for name, row in self._rows.items()}

    def _result(self, name: str, row: Metric) -> float:
        if row.from_sums:
            return row.from_sums(self._sums, self._peak)
        if self._is_image:
            return float(np.mean(self._pages[name]))
        reference, estimate = (np.concatenate(side, axis=-1) for side in zip(*self._blocks, strict=True))
        return self._score(name, reference, estimate)

    def _score(self, name: str, reference: Array, estimate: Array) -> float:
        return self._rows[name](reference, estimate, peak=self._peak, sample_rate=self._sample_rate)


def score(
    reference: Array,
    estimate: Array,
    modality: str,
    *,
    peak: float | None = None,
    sample_rate: float | None = None,
) -> dict[str, float]:
    """Score two arrays by all metrics that a report shows for this modality.

    Raises:
        InputError: The two differ in shape, or hold nothing to compare.
        UsageError: An image came without its peak.
    """
    scorer = Scorer(modality, peak=peak, sample_rate=sample_rate)
    scorer.update(reference, estimate)
    return scorer.result()


def reported(modality: str) -> tuple[str, ...]:
    """Names of the metrics that reports show for a modality.

    Raises:
        UsageError: There is no such modality.
    """
    if modality not in MODALITIES:
        raise unknown("modality", modality, MODALITIES)
    return tuple(name for name, row in METRICS.items() if modality in row.modalities)


def finite_mean(values: Iterable[float | None]) -> float | None:
    """Mean of the finite values; None if there are none."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None


def metric(name: str) -> Metric:
    """Row of `METRICS` with this name, which is called with two arrays, the peak and the sample rate.

    Raises:
        UsageError: There is no such metric.
    """
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def _compared(reference: Array, estimate: Array) -> _Sums:
    sums = _Sums()
    sums.update(reference, estimate)
    return sums


def _needed(value: float | None, name: str, metric: str) -> float:
    if value is None:
        raise UsageError(f"{metric} needs {name}: it cannot be guessed from the samples")
    return value


def mse(reference: Array, estimate: Array) -> float:
    """Mean squared error over all samples and channels, in squared units of the samples."""
    return _compared(reference, estimate).mse()


def rmse(reference: Array, estimate: Array) -> float:
    """Root mean squared error over all samples and channels, in units of the samples."""
    return math.sqrt(_compared(reference, estimate).mse())


def psnr_db(reference: Array, estimate: Array, *, peak: float | None = None) -> float:
    """Peak signal-to-noise ratio: 10 log10(peak^2 / MSE), the MSE over all channels together.

    Args:
        peak: The value that means full scale (255, 65535, 1.0); never guessed.
    """
    return _psnr_db(_compared(reference, estimate), peak)


def _psnr_db(sums: _Sums, peak: float | None) -> float:
    return _ratio_db(_needed(peak, "peak", "PSNR") ** 2, sums.mse())


def snr_db(reference: Array, estimate: Array) -> float:
    """Signal-to-noise ratio: the variance of the reference over the mean squared error.

    About the mean, since the offset of a pressure or temperature log is no signal. Channels may have
    different units, so their noise-to-signal ratios are averaged; one with a constant reference is left out.
    """
    return _compared(reference, estimate).snr_db()


def si_sdr_db(reference: Array, estimate: Array) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al., "SDR - half-baked or well done?", 2019).

    The reference is scaled to be nearest to the estimate, both less their means, so neither gain nor offset
    counts. Channels are averaged as in `snr_db`.
    """
    return _compared(reference, estimate).si_sdr_db()


def seg_snr_db(reference: Array, estimate: Array, *, sample_rate: float | None = None) -> float:
    """Segmental SNR: the mean SNR of frames of 30 ms, each kept within -10..35 dB.

    Frames in which the reference is silent are left out (Hansen and Pellom, "An effective quality evaluation
    protocol for speech enhancement algorithms", 1998).

    Shape:
        `(C, n)`, both.
    """
    reference, estimate = _pair(reference, estimate)
    size = max(1, round(0.03 * _needed(sample_rate, "sample_rate", "segmental SNR")))
    # A remainder shorter than a frame is dropped.
    starts = np.arange(0, max(1, reference.shape[1] - size + 1), size)
    signal, error = np.zeros((2, reference.shape[0], len(starts)))
    for index, start in enumerate(starts):
        r = reference[:, start : start + size].astype(np.float64)
        d = estimate[:, start : start + size] - r
        signal[:, index] = np.nansum(np.where(np.isnan(d), 0.0, r) ** 2, 1)
        error[:, index] = np.nansum(d * d, 1)
    audible = signal > 0.0
    if not audible.any():
        return _ratio_db(0.0, float(error.sum()))
    with np.errstate(divide="ignore"):
        ratios_db = 10.0 * np.log10(signal[audible] / error[audible])
    return float(np.clip(ratios_db, -10.0, 35.0).mean())


def ssim(reference: Array, estimate: Array, *, peak: float | None = None) -> float:
    """Structural similarity, mean over pixels and channels (Wang et al., "Image quality assessment", 2004).

    Gaussian window of sigma 1.5 px cut at 11 px, K1 = 0.01, K2 = 0.03, population covariance, and a border of
    5 px left out, as in the paper. An image smaller than the window is scored with its edges mirrored. Works
    in strips, so a large image costs little memory.

    Shape:
        `(C, H, W)` or `(H, W)`, both.
    """
    full = _needed(peak, "peak", "SSIM")
    reference, estimate = _pair(reference, estimate)
    height, width = reference.shape[-2:]
    reference, estimate = reference.reshape(-1, height, width), estimate.reshape(-1, height, width)
    border_y, border_x = (_SSIM_RADIUS if size > 2 * _SSIM_RADIUS else 0 for size in (height, width))
    rows = max(1, _CHUNK // width)
    total, count = 0.0, 0
    for start in range(border_y, height - border_y, rows):
        stop = min(start + rows, height - border_y)
        top, bottom = max(0, start - _SSIM_RADIUS), min(height, stop + _SSIM_RADIUS)
        for r, e in zip(reference, estimate, strict=True):
            similarity = _ssim_map(r[top:bottom].astype(np.float64), e[top:bottom].astype(np.float64), full)
            inner = similarity[start - top : stop - top, border_x : width - border_x]
            valid = ~np.isnan(inner)
            total, count = total + float(inner[valid].sum()), count + int(valid.sum())
    if count == 0:
        raise InputError("there is no pair of pixels to compare: both images hold only gaps, or nothing")
    return total / count


_SSIM_RADIUS = 5  # px


def _ssim_map(reference: Doubles, estimate: Doubles, peak: float) -> Doubles:
    from scipy.ndimage import gaussian_filter

    def mean(image: Doubles) -> Doubles:
        return gaussian_filter(image, 1.5, radius=_SSIM_RADIUS, mode="reflect")

    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    mean_r, mean_e = mean(reference), mean(estimate)
    variance_r, variance_e = mean(reference**2) - mean_r**2, mean(estimate**2) - mean_e**2
    covariance = mean(reference * estimate) - mean_r * mean_e
    return ((2.0 * mean_r * mean_e + c1) * (2.0 * covariance + c2)) / (
        (mean_r**2 + mean_e**2 + c1) * (variance_r + variance_e + c2)
    )


def _extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"this metric needs the package {module}: pip install 'denoise-pipelines[metrics]'"
        ) from error


def pesq(reference: Array, estimate: Array, *, sample_rate: float | None = None) -> float:
    """Perceptual evaluation of speech quality, 1..4.6, mean over channels (ITU-T P.862.2, wide band).

    At 8 kHz the narrow-band measure (P.862) is used; other rates are resampled to 16 kHz. Needs the extra
    `metrics`.

    Raises:
        InputError: No speech was found.
        UsageError: The extra is not installed, or the rate is not given.
    """
    reference, estimate, rate = _speech(reference, estimate, sample_rate, "PESQ")
    module = _extra("pesq")
    try:
        figures = [
            module.pesq(rate, r, e, "nb" if rate == 8_000 else "wb")
            for r, e in zip(reference, estimate, strict=True)
        ]
    except module.PesqError as error:
        raise InputError(f"PESQ cannot score this recording: {type(error).__name__}") from error
    return float(np.mean(figures))


def estoi(reference: Array, estimate: Array, *, sample_rate: float | None = None) -> float:
    """Extended short-time objective intelligibility, about 0..1, mean over channels (Jensen and Taal, 2016).

    Needs the extra `metrics`.

    Raises:
        InputError: Less than 0.4 s of speech was found.
        UsageError: The extra is not installed, or the rate is not given.
    """
    reference, estimate, rate = _speech(reference, estimate, sample_rate, "ESTOI")
    module = _extra("pystoi")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # "not enough frames" comes as a warning and a 1e-5
        try:
            figures = [
                module.stoi(r, e, rate, extended=True) for r, e in zip(reference, estimate, strict=True)
            ]
        except RuntimeWarning as error:
            raise InputError(
                "ESTOI cannot score this recording: it holds less than 0.4 s of speech"
            ) from error
    return float(np.mean(figures))


def _speech(
    reference: Array, estimate: Array, sample_rate: float | None, name: str
) -> tuple[Doubles, Doubles, int]:
    """Return both as float64 `(C, n)` at 8 or 16 kHz, and the rate."""
    rate = _needed(sample_rate, "sample_rate", name)
    reference, estimate = (a.astype(np.float64) for a in _pair(reference, estimate))
    if rate in (8_000, 16_000):
        return reference, estimate, int(rate)
    import soxr

    return soxr.resample(reference.T, rate, 16_000).T, soxr.resample(estimate.T, rate, 16_000).T, 16_000


METRICS: Mapping[str, Metric] = {
    "psnr_db": Metric(psnr_db, ("image",), _psnr_db, "dB", needs=("peak",)),
    "ssim": Metric(ssim, ("image",), needs=("peak",)),
    "snr_db": Metric(snr_db, ("audio", "sensor"), lambda sums, _: sums.snr_db(), "dB"),
    "si_sdr_db": Metric(si_sdr_db, ("audio",), lambda sums, _: sums.si_sdr_db(), "dB"),
    "seg_snr_db": Metric(seg_snr_db, unit="dB", needs=("sample_rate",)),
    "mse": Metric(mse, (), lambda sums, _: sums.mse(), "squared units of the samples"),
    "rmse": Metric(rmse, ("sensor",), lambda sums, _: math.sqrt(sums.mse()), "units of the samples"),
    "pesq": Metric(pesq, needs=("sample_rate",)),
    "estoi": Metric(estoi, needs=("sample_rate",)),
}
