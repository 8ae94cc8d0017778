"""Blur of a lens, out of focus or soft, proven by the spectrum of the image alone.

The power of a scene falls smoothly with frequency, about as a power law. A blur multiplies it by the squared
transfer function of its kernel, which for the disk of a lens out of focus has zeros in rings, and for a soft
lens falls as a Gaussian does. Each candidate is fitted to the power by radius, together with the power law
and the noise (least squares of the logarithm). A motion fits neither, and noise that
a camera smoothed has no such rings. A lens blurs light, of which pixel values are a curve, and programs blur
the values: both are tried, and the better explained one is taken.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from denoise.arrays import Array
from denoise.dsp.light import to_light

_EIGHT_BIT = 255.0
_TILE_PX = 128  # side of the windows that the power is averaged over
_MAX_TILES = 6  # per axis, spread over the image
_RINGS = slice(2, 64)  # of the 64 between no detail and half a cycle a pixel: the first are of the window
_RADII_PX = np.arange(1.0, 12.01, 0.25)  # of disks
_SIGMAS_PX = np.arange(0.5, 4.01, 0.25)  # of Gaussians
_SLOPE, _SLOPE_WEIGHT = 2.2, 0.05  # of the power law: of photos, and its prior against the misfit
_CURVE_WEIGHT = 0.01  # the same of the curvature of the noise, which JPEG and smoothing bend
_STEPS, _DAMPING = 40, 1e-3  # of the fit

# Chosen on photos of BSDS432, CLIC 2025, CID22 and wallpapers, as they are and blurred. A blur is proven if
# the fit without one is at least this bad, and the best fit with one leaves at most this share of its misfit.
# Cameras soften a little, which is no defect, so the blur must be this wide.
_MIN_MISFIT, _EXPLAINED = 0.1, 0.12
_MIN_RADIUS_PX, _MIN_SIGMA_PX = 1.9, 1.2
# The rings of a disk are evidence by themselves, if no Gaussian comes near: the same limits, the smallest
# radius, and the misfit relative to that of the best Gaussian.
_MIN_RINGED_MISFIT, _EXPLAINED_BY_RINGS, _MIN_RINGED_PX, _RINGED = 0.05, 0.3, 2.2, 0.45
# A small disk is taken for a Gaussian that is wider, which does harm, and a Gaussian for a disk that is
# narrower, which only gains less. So of similar misfits, up to this ratio, the disk counts as the better one.
_CAUTION = 2.0
# Below these widths (standard deviation, and radius) noise hides what tells a disk from a Gaussian. Ten
# photos out of focus by 1.5 to 2 px in light passed for Gaussians of 1.25 and 1.5 px, and seven of them
# became worse, by up to 7 dB. The sharpest edges told: 0.56 to 0.71 of that width in six, and under Gaussians
# 0.70 to 0.90 (5 photos of BSDS432). Such a blur is taken for a disk, narrower than the edges by a margin.
_SMALL_PX, _SMALL_RADIUS_PX, _NARROWER, _OF_EDGES = 1.75, 2.25, 0.75, 0.85
# A lens blurs alike in all directions: of the misfit along each of so many it leaves at most this share. On
# training photos it left 0.13, and 0.95 of a shaken one that the mean over the directions proved.
_DIRECTIONS, _EXPLAINED_ALONG = 4, 0.4

# A part contradicts if this blur fits it hardly better than none, and another one far better. Chosen on 15
# photos of BSDS432: blurred as a whole they have no such parts, with a half blurred otherwise nearly all do.
_MAX_SAMPLES, _SLOPE_STEP = 10_000, 1 / 255  # for the mean slope of light
_PART_PX, _MAX_PARTS = 160, 4  # side; at most so many per axis
_MIN_PART_MISFIT, _NO_BETTER, _BETTER = 0.06, 0.6, 3.0


@dataclass(frozen=True)
class LensBlur:
    """A proven blur."""

    radius_px: float  # radius of the disk of a lens out of focus; 0 for a soft lens
    width_px: float  # standard deviation of the kernel along each axis
    sigma: float  # standard deviation of the noise of the mean of the channels, in 8-bit units
    other_parts: int = 0  # number of parts, of at most 16, that have another blur or none
    linear: bool = False  # the light was blurred, rather than the pixel values


class _Fit(NamedTuple):
    """Best candidates for the power of one image, and their misfits relative to that of no blur."""

    misfit: float  # of no blur
    radius_px: float
    disk: float
    sigma_px: float
    gaussian: float
    noise: Array  # variance for each candidate, `(N,)`


def lens_blur(page: Array, peak: float) -> LensBlur | None:
    """Return the blur of an image `(C, H, W)`; None unless its spectrum proves one.

    Args:
        page: The image, at least 128 pixels a side; smaller ones prove nothing.
        peak: The value that means full scale.
    """
    if min(page.shape[1:]) < _TILE_PX:
        return None
    spectra = [_power(page, peak, linear) for linear in (False, True)]
    powers = [_by_radius(spectrum) for spectrum in spectra]
    if not all(power.min() > 0 for power in powers):
        return None
    misfits = [_fit(power, _transfers()[:1])[0][0] for power in powers]
    if max(misfits) < _MIN_RINGED_MISFIT:
        return None  # most pictures: saves the other fits
    values, light = (_compare(power) for power in powers)
    # Gaussians fit both alike, and so does a blur of less than two pixels: then the values are taken.
    linear = light.disk < min(values.disk, values.gaussian, light.gaussian)
    fit, spectrum = (light if linear else values), spectra[linear]
    index = _proven(fit)
    if not index or not all(_explains(_by_radius(spectrum, along), index) for along in range(_DIRECTIONS)):
        return None
    others = sum(_contradicts(part, peak, index, linear) for part in _parts(page))
    radius = fit.radius_px if index <= len(_RADII_PX) else 0.0
    width = radius / 2 or fit.sigma_px
    if radius <= _SMALL_RADIUS_PX and width <= _SMALL_PX:
        from denoise.estimate.edges import sharpest_edges_px  # which imports torch

        edges = sharpest_edges_px(page, peak)
        if radius:
            radius = min(radius, 2 * edges)
        elif edges < _NARROWER * width:
            linear = light.disk < values.disk
            fit, radius = light if linear else values, 2 * _OF_EDGES * edges
            index = 1 + int(np.searchsorted(_RADII_PX, fit.radius_px))
        width = radius / 2 or width
    noise = math.sqrt(fit.noise[index]) / (_light_slope(page, peak) if linear else 1.0)
    return LensBlur(radius, width, _EIGHT_BIT * noise, others, linear)


def _compare(power: Array) -> _Fit:
    misfit, noise = _fit(power, _transfers())
    count = 1 + len(_RADII_PX)
    disk, gaussian = int(np.argmin(misfit[1:count])), int(np.argmin(misfit[count:]))
    shares = misfit / misfit[0]
    return _Fit(
        float(misfit[0]),
        float(_RADII_PX[disk]),
        float(shares[1 + disk]),
        float(_SIGMAS_PX[gaussian]),
        float(shares[count + gaussian]),
        noise,
    )


def _proven(fit: _Fit) -> int:
    """Return the index of the candidate that is proven; 0 if none is."""
    disk = 1 + int(np.searchsorted(_RADII_PX, fit.radius_px))
    gaussian = 1 + len(_RADII_PX) + int(np.searchsorted(_SIGMAS_PX, fit.sigma_px))
    soft = fit.misfit > _MIN_MISFIT and min(fit.disk, fit.gaussian) < _EXPLAINED
    ringed = fit.radius_px > _MIN_RINGED_PX and fit.disk < _RINGED * fit.gaussian
    if ringed and fit.misfit > _MIN_RINGED_MISFIT and fit.disk < _EXPLAINED_BY_RINGS:
        return disk
    if fit.radius_px > _MIN_RADIUS_PX and fit.disk < _CAUTION * fit.gaussian and soft:
        return disk
    return gaussian if fit.sigma_px >= _MIN_SIGMA_PX and fit.gaussian < _EXPLAINED and soft else 0


def _explains(power: Array, index: int) -> bool:
    """Tell whether the candidate of this index explains the power along one direction."""
    if not power.min() > 0:
        return False
    misfit, _ = _fit(power, _transfers()[[0, index]])
    return bool(misfit[1] < _EXPLAINED_ALONG * misfit[0])


def _contradicts(part: Array, peak: float, index: int, linear: bool) -> bool:
    """Return whether a part has another blur than the candidate of this index, or none."""
    power = _by_radius(_power(part, peak, linear))
    if not power.min() > 0:
        return False
    misfit, _ = _fit(power, _transfers())
    here: float = misfit[index]
    return bool(here > _MIN_PART_MISFIT and here > _NO_BETTER * misfit[0] and here > _BETTER * misfit.min())


def _parts(page: Array) -> Iterator[Array]:
    """Yield parts spread over an image; none of one that is hardly larger than a part."""
    height, width = page.shape[1:]
    if max(height, width) < 2 * _PART_PX:
        return
    for top in _starts(height, _PART_PX, _PART_PX, _MAX_PARTS):
        for left in _starts(width, _PART_PX, _PART_PX, _MAX_PARTS):
            yield page[:, top : top + _PART_PX, left : left + _PART_PX]


def _power(page: Array, peak: float, linear: bool) -> Array:
    """Mean power of the detail of values or light, `(128, 65)`; white noise has its variance everywhere."""
    taper = np.outer(*[np.hanning(_TILE_PX).astype(np.float32)] * 2)
    corners = list(itertools.product(*(_starts(size) for size in page.shape[1:])))
    total = np.zeros((_TILE_PX, _TILE_PX // 2 + 1))
    for top, left in corners:
        tile = page[:, top : top + _TILE_PX, left : left + _TILE_PX].mean(0, dtype=np.float32) / peak
        tile = to_light(tile) if linear else tile
        total += np.square(np.abs(np.fft.rfft2((tile - tile.mean()) * taper)))
    return total / len(corners) / np.square(taper).sum()


def _light_slope(page: Array, peak: float) -> float:
    """Root mean square of the slope of light over pixel values, by which noise is multiplied."""
    step = math.ceil(math.sqrt(page[0].size / _MAX_SAMPLES))
    values = np.divide(page[:, ::step, ::step].mean(0), peak, dtype=np.float32)
    both = to_light(np.stack([values, values + np.float32(_SLOPE_STEP)]))
    return float(np.sqrt(np.square(both[1] - both[0]).mean())) / _SLOPE_STEP


def _by_radius(power: Array, along: int | None = None) -> Array:
    """Mean of a power at each frequency, along one of the directions or all, `(65,)`."""
    rows, columns = np.fft.fftfreq(_TILE_PX)[:, None], np.fft.rfftfreq(_TILE_PX)
    ring = np.rint(np.hypot(rows, columns) * _TILE_PX).astype(int)
    within = ring <= _TILE_PX // 2
    if along is not None:
        turns = np.arctan2(rows, columns) / np.pi * _DIRECTIONS
        within &= (np.rint(turns) % _DIRECTIONS == along) | (ring < _DIRECTIONS)
    sums, counts = (np.bincount(ring[within], weight) for weight in (power[within], None))
    return sums / counts


def _starts(size: int, side: int = _TILE_PX, step: int = _TILE_PX // 2, most: int = _MAX_TILES) -> list[int]:
    last = max(0, size - side)
    count = min(most, 1 + math.ceil(last / step))
    return [round(last * k / max(1, count - 1)) for k in range(count)]


@functools.cache
def _transfers() -> Array:
    """Transfer functions by radius: of no blur, of the disks, of the Gaussians, `(N, 65)`."""
    frequency = np.arange(_TILE_PX // 2 + 1) / _TILE_PX
    phase = 2 * np.pi * np.outer(_RADII_PX, frequency)
    # Bessel's integral of J1; importing scipy.special takes longer than the rest of the estimate. The
    # midpoint rule is exact to 1e-15 up to a phase of 60.
    angle = np.pi * (np.arange(128) + 0.5) / 128
    j1 = np.cos(angle - phase[..., None] * np.sin(angle)).mean(-1)
    disks = np.divide(2 * j1, phase, out=np.ones_like(phase), where=phase > 0)
    gaussians = np.exp(-2 * np.square(np.pi * np.outer(_SIGMAS_PX, frequency)))
    return np.concatenate([np.ones((1, len(frequency))), disks, gaussians])


def _fit(power: Array, transfers: Array) -> tuple[Array, Array]:
    """Fit a power law under each transfer function, plus noise, to the logarithm of a power.

    Levenberg and Marquardt's method, for all candidates at once.

    Shape:
        `(R,)`, `(N, R)` -> mean squared misfit and variance of the noise, `(N,)` each.
    """
    # The taper of the windows blurs the spectrum by one ring, which fills the zeros.
    squares = np.pad(np.square(transfers), ((0, 0), (1, 1)), mode="edge")
    leaky = squares[:, :-2] / 4 + squares[:, 1:-1] / 2 + squares[:, 2:] / 4
    shape, found = np.log(leaky[:, _RINGS]), np.log(power[_RINGS])
    frequency = np.arange(len(power))[_RINGS] / _TILE_PX
    log_frequency, square = np.log(frequency), np.square(frequency)
    weight = np.sqrt(frequency / frequency.sum())  # a ring holds as many samples as it is long
    prior = np.array([0, _SLOPE_WEIGHT, 0, _CURVE_WEIGHT])
    first = [found[2] + _SLOPE * log_frequency[2], _SLOPE, found[len(found) // 2 :].min(), 0.0]
    centre = np.array(first)
    terms = np.tile(
        centre, (len(transfers), 1)
    )  # log of the scene, its slope, log of the noise and of its curve

    def misfit_of(terms: Array) -> tuple[Array, Array, Array, Array]:
        scene = terms[:, :1] - terms[:, 1:2] * log_frequency + shape
        noise = terms[:, 2:3] - np.exp(terms[:, 3:]) * square
        both = np.logaddexp(scene, noise)
        misfit = weight * (found - both)
        cost = np.square(misfit).sum(1) + np.square(prior * (terms - centre)).sum(1)
        return cost, misfit, np.exp(scene - both), np.exp(noise - both)

    damping = np.full(len(terms), _DAMPING)
    cost, misfit, scene, noise = misfit_of(terms)
    for _ in range(_STEPS):
        curve = np.exp(terms[:, 3:]) * square
        slopes = weight * np.stack([scene, -scene * log_frequency, noise, -noise * curve], 1)  # (N, 4, R)
        gradient = (slopes @ misfit[:, :, None])[..., 0] - np.square(prior) * (terms - centre)
        normal = slopes @ slopes.transpose(0, 2, 1) + np.diag(np.square(prior))
        diagonal = np.einsum("nii->ni", normal)
        diagonal += damping[:, None] * (diagonal + 1e-6)
        step = np.linalg.solve(normal, gradient[..., None])[..., 0].clip(-2, 2)
        trial = misfit_of(terms + step)
        better = trial[0] < cost
        terms = np.where(better[:, None], terms + step, terms)
        cost, misfit, scene, noise = (
            np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(trial, (cost, misfit, scene, noise), strict=True)
        )
        damping = np.where(better, damping / 3, damping * 4).clip(1e-6, 1e6)
    middle = np.exp(terms[:, 2] - np.exp(terms[:, 3]) * np.square(frequency.mean()))
    return cost, middle
