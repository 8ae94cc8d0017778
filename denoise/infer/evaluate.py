"""Quality of a cleaned file: metrics, or noise estimates without a reference."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from denoise import io
from denoise.arrays import Array
from denoise.dsp.scale import sample_range
from denoise.errors import InputError, UnfitReferenceError
from denoise.estimate import NoiseEstimator
from denoise.estimate.image import noise_sigma
from denoise.infer.stages import SampleQueue
from denoise.io import Reader
from denoise.metrics import Scorer
from denoise.signal import SensorInfo, SignalInfo


class Evaluator(Protocol):
    """Accumulates figures from the input and the output of a file."""

    def update(self, noisy: Array | None, cleaned: Array, known_sigma: float | None = None, /) -> None:
        """Add a page, or the next samples; the output of a signal lags its input.

        Args:
            noisy: Input; None once it has ended.
            cleaned: Output.
            known_sigma: Noise of a page in 8-bit units, where it was estimated before.
        """

    def result(self) -> dict[str, float]:
        """Figures by name; `_before` and `_after` mark pairs."""


@contextmanager
def evaluator(info: SignalInfo, reference: Path | None, options: Mapping[str, Any]) -> Iterator[Evaluator]:
    """Open the reference, if there is one, and choose how a file is measured.

    Args:
        info: Facts of the noisy file.
        reference: Noise-free file; None estimates the noise instead.
        options: Options of its reader, as of the noisy file's.

    Raises:
        UnfitReferenceError: The reference is of another modality or shape, or cannot be read.
    """
    if reference is None:
        yield _PageNoise(info.peak or 1.0) if info.modality == "image" else _SignalNoise(info)
        return
    with ExitStack() as stack:
        try:
            if (found := io.modality(reference).name) != info.modality:
                raise InputError(f"{reference} is {found}, expected {info.modality} as {info.source}")
            truth, order = open_partner(reference, info, options)
            comparison = _Comparison(info, stack.enter_context(truth), order)
        except InputError as error:
            raise UnfitReferenceError(f"the reference does not fit: {error}") from error
        yield comparison


def open_partner(
    path: Path, info: SignalInfo, options: Mapping[str, Any]
) -> tuple[Reader, Sequence[int] | slice]:
    """Open a file to compare with that of `info`, and order its channels as that has them: by name.

    Raises:
        InputError: It cannot be read, or a column of a log has no partner.
    """
    found = io.reader(path, **options)
    if not (isinstance(info, SensorInfo) and isinstance(found.info, SensorInfo)):
        return found, slice(None)
    names, others = info.columns, found.info.columns
    if names == others or not (names and others):  # an NPY has no names
        return found, slice(None)
    unpaired = InputError(
        f"{path}: its columns are {_listed(others)}; {info.source} has {_listed(names)}; "
        "expected the same names"
    )
    known = {*names} <= {*found.info.names} and {*others} <= {*info.names}
    if not known or (info.pages > 1 and {*names} != {*others}):
        raise unpaired
    if {*names} != {*others}:  # what a column is may be told differently in each
        found = io.reader(path, **{**options, "columns": names})
        assert isinstance(found.info, SensorInfo)
        others = found.info.columns
    if sorted(names) != sorted(others) or len({*names}) < len(names) or len(names) != info.shape[0]:
        raise unpaired
    return found, [others.index(name) for name in names]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


class _SignalNoise:
    """Noise of a signal before and after, as estimated."""

    def __init__(self, info: SignalInfo) -> None:
        self._before, self._after = (
            NoiseEstimator(info.modality, info.peak, info.sample_rate) for _ in range(2)
        )

    def update(self, noisy: Array | None, cleaned: Array, _known_sigma: float | None = None, /) -> None:
        if noisy is not None and noisy.size:
            self._before.update(noisy)
        if cleaned.size:
            self._after.update(cleaned)

    def result(self) -> dict[str, float]:
        before, after = self._before.result(), self._after.result()
        return {f"{k}_before": v for k, v in before.items()} | {f"{k}_after": v for k, v in after.items()}


class _PageNoise:
    """Estimates of the noise of pages; an unchanged page is measured once, or not at all."""

    def __init__(self, peak: float) -> None:
        self._peak = peak
        self._before: list[float] = []
        self._after: list[float] = []

    def update(self, noisy: Array | None, cleaned: Array, known_sigma: float | None = None, /) -> None:
        assert noisy is not None
        bands = (np.s_[:, top : top + 256] for top in range(0, noisy.shape[1], 256))  # a page may be large
        unchanged = all(np.array_equal(noisy[rows], cleaned[rows]) for rows in bands)
        if unchanged and known_sigma is None:
            return
        black, white = sample_range(noisy, self._peak)
        before = noise_sigma(noisy, white - black) if known_sigma is None else known_sigma
        self._before.append(before)
        self._after.append(before if unchanged else noise_sigma(cleaned, white - black))

    def result(self) -> dict[str, float]:
        if not self._before:
            return {}
        return {
            "estimated_sigma_before": float(np.mean(self._before)),
            "estimated_sigma_after": float(np.mean(self._after)),
        }


class _Comparison:
    """Metrics of input and output against the reference, which is read in step with them."""

    def __init__(self, info: SignalInfo, truth: Reader, order: Sequence[int] | slice) -> None:
        self._info, self._truth, self._order = info, truth, order
        self._blocks = iter(truth)
        self._before, self._after = (
            Scorer(info.modality, peak=info.peak, sample_rate=info.sample_rate) for _ in range(2)
        )
        self._pending = SampleQueue(_shape(info)[0])  # reference of samples that are not cleaned yet
        if _shape(info) != _shape(truth.info) or info.pages != truth.info.pages:
            raise self._mismatch()

    def update(self, noisy: Array | None, cleaned: Array, _known_sigma: float | None = None, /) -> None:
        if noisy is not None and noisy.size:
            truth = self._next(noisy)
            self._before.update(truth, noisy)
            if self._info.modality == "image":
                self._after.update(truth, cleaned)
                return
            self._pending.append(truth)
        if cleaned.size:
            self._after.update(self._pending.take(cleaned.shape[-1]), cleaned)

    def result(self) -> dict[str, float]:
        before = {f"{key}_before": value for key, value in self._before.result().items()}
        return self._after.result() | before

    def _next(self, noisy: Array) -> Array:
        truth = next(self._blocks, None)
        if truth is not None:
            truth = truth[: truth.shape[0] - self._truth.info.passthrough_channels][self._order]
        if truth is None or truth.shape != noisy.shape:
            raise self._mismatch()
        return rescale(truth, self._truth.info.peak, self._info.peak)

    def _mismatch(self) -> UnfitReferenceError:
        return UnfitReferenceError(
            f"{self._truth.info.source} has shape {_shape_text(self._truth.info)}, "
            f"{self._info.source} has {_shape_text(self._info)}; expected the same"
        )


def rescale(array: Array, peak: float | None, new_peak: float | None) -> Array:
    """Scale an image from one full-scale value to another."""
    return array if peak is None or new_peak is None or peak == new_peak else array * (new_peak / peak)


def _shape(info: SignalInfo) -> tuple[int, ...]:
    """Shape of the channels that are cleaned."""
    return (info.shape[0] - info.passthrough_channels, *info.shape[1:])


def _shape_text(info: SignalInfo) -> str:
    pages = f" on {info.pages} pages" if info.pages > 1 else ""
    return f"{_shape(info)}{pages}"
