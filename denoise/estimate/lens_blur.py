"""Blur of a lens, out of focus or soft, proven by the spectrum of the image alone.

The power of a scene falls smoothly with frequency, about as a power law. A blur multiplies it by the squared
transfer function of its kernel, which for the disk of a lens out of focus has zeros in rings, and for a soft
lens falls as a Gaussian does. Each candidate is fitted to the power by radius, together with the power law
and the noise (least squares of the logarithm). A motion fits neither, and noise that
a camera smoothed has no such rings.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from denoise.arrays import Array

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
# A lens blurs alike in all directions: of the misfit along each of so many it leaves at most this share. On
# training photos it left 0.13, and 0.95 of a shaken one that the mean over the directions proved.
_DIRECTIONS, _EXPLAINED_ALONG = 4, 0.4

# A part contradicts if this blur fits it hardly better than none, and another one far better. Chosen on 15
# photos of BSDS432: blurred as a whole they have no such parts, with a half blurred otherwise nearly all do.
_PART_PX, _MAX_PARTS = 160, 4  # side; at most so many per axis
_MIN_PART_MISFIT, _NO_BETTER, _BETTER = 0.06, 0.6, 3.0


@dataclass(frozen=True)
class LensBlur:
    """A proven blur."""

    radius_px: float  # radius of the disk of a lens out of focus; 0 if a Gaussian is nearly as likely
    width_px: float  # standard deviation of the kernel along each axis
    sigma: float  # standard deviation of the noise of the mean of the channels, in 8-bit units
    other_parts: int = 0  # number of parts, of at most 16, that have another blur or none


def lens_blur(page: Array, peak: float) -> LensBlur | None:
    """Return the blur of an image `(C, H, W)`; None unless its spectrum proves one.

    Args:
        page: The image, at least 128 pixels a side; smaller ones prove nothing.
        peak: The value that means full scale.
    """
    if min(page.shape[1:]) < _TILE_PX:
        return None
    spectrum = _power(page, peak)
    power = _by_radius(spectrum)
    if not power.min() > 0 or _fit(power, _transfers()[:1])[0][0] < _MIN_RINGED_MISFIT:
        return None  # most pictures: saves the other fits
    misfit, noise = _fit(power, _transfers())
    count = 1 + len(_RADII_PX)
    disk, gaussian = int(np.argmin(misfit[1:count])) + 1, int(np.argmin(misfit[count:])) + count
    radius, sigma = float(_RADII_PX[disk - 1]), float(_SIGMAS_PX[gaussian - count])

    def soft(index: int) -> bool:
        return bool(misfit[0] > _MIN_MISFIT and misfit[index] < _EXPLAINED * misfit[0])

    ringed = radius > _MIN_RINGED_PX and misfit[disk] < _RINGED * misfit[gaussian]
    if ringed and misfit[0] > _MIN_RINGED_MISFIT and misfit[disk] < _EXPLAINED_BY_RINGS * misfit[0]:
        best, width = disk, radius / 2
    elif radius > _MIN_RADIUS_PX and misfit[disk] < misfit[gaussian] and soft(disk):
        best, width, radius = disk, radius / 2, 0.0
    elif sigma >= _MIN_SIGMA_PX and soft(gaussian):
        best, width, radius = gaussian, sigma, 0.0
    else:
        return None
    if not all(_explains(_by_radius(spectrum, along), best) for along in range(_DIRECTIONS)):
        return None
    others = sum(_contradicts(part, peak, best) for part in _parts(page))
    return LensBlur(radius, width, _EIGHT_BIT * math.sqrt(noise[best]), others)


def _explains(power: Array, index: int) -> bool:
    """Tell whether the candidate of this index explains the power along one direction."""
    if not power.min() > 0:
        return False
    misfit, _ = _fit(power, _transfers()[[0, index]])
    return bool(misfit[1] < _EXPLAINED_ALONG * misfit[0])


def _contradicts(part: Array, peak: float, index: int) -> bool:
    """Return whether a part has another blur than the candidate of this index, or none."""
    power = _by_radius(_power(part, peak))
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


def _power(page: Array, peak: float) -> Array:
    """Mean power of the detail, `(128, 65)`; white noise has its variance everywhere."""
    taper = np.outer(*[np.hanning(_TILE_PX).astype(np.float32)] * 2)
    corners = list(itertools.product(*(_starts(size) for size in page.shape[1:])))
    total = np.zeros((_TILE_PX, _TILE_PX // 2 + 1))
    for top, left in corners:
        tile = page[:, top : top + _TILE_PX, left : left + _TILE_PX].mean(0, dtype=np.float32) / peak
        total += np.square(np.abs(np.fft.rfft2((tile - tile.mean()) * taper)))
    return total / len(corners) / np.square(taper).sum()


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
    from scipy.special import j1

    frequency = np.arange(_TILE_PX // 2 + 1) / _TILE_PX
    phase = 2 * np.pi * np.outer(_RADII_PX, frequency)
    disks = np.divide(2 * j1(phase), phase, out=np.ones_like(phase), where=phase > 0)
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
