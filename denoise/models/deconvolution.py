"""Non-blind deconvolution with a denoiser as the prior.

Two steps alternate: a Wiener filter inverts the blur, towards the guess where noise hides the scene, and a
denoiser removes noise and ringing (half-quadratic splitting; Zhang et al., "Plug-and-play image restoration
with deep denoiser prior", 2021). A blind denoiser cannot be told how strongly to smooth: white noise of a
falling level is added before each of its runs, which also hides the coloured noise of the inverse.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.corruptions.base import fast_length
from denoise.dsp.light import from_light, to_light

_FIRST_SIGMA, _LAST_SIGMA = 25 / 255, 1.5 / 255  # of the noise that is added to the guess
_WEIGHT = 0.8  # of the guess against the data
_FILLS = 3  # repetitions of filling the margin, in each turn
_SPARE_PX = 8  # of the margin, beyond the kernel


def plug_and_play(
    noisy: Tensor,
    kernel: Tensor,
    sigma: float,
    denoise: Callable[[Tensor], Tensor],
    turns: int = 5,
    known: Tensor | None = None,
    *,
    linear: bool = False,
) -> Tensor:
    """Undo a blur.

    Beyond its edges the picture is unknown: it repeats the edge at first, and is replaced by the reblurred
    guess in every turn (after Almeida and Figueiredo, "Deconvolving images with unknown boundaries", 2013).
    Pixels that are not `known`, such as saturated ones, are treated alike.

    Blur in linear light is no convolution of pixel values, whose noise and edges the denoiser knows. So the
    difference between the two blurs of the present guess is taken from the data (deferred correction).

    Args:
        kernel: Of sum 1 and odd size; its centroid stays in place.
        sigma: Standard deviation of the noise, in the scale of the images.
        denoise: Removes white noise of unknown level.
        turns: Number of runs of `denoise`.
        known: 1 where the blurred image holds the blur of the scene, 0 elsewhere; 1 everywhere by default.
        linear: The light was blurred, rather than the pixel values.

    Shape:
        `(B, C, H, W)` in 0..1, in and out; kernel `(k, k)`; known `(B, 1, H, W)`.
    """
    height, width = noisy.shape[2:]
    margin = kernel.shape[-1] // 2 + _SPARE_PX
    data = extend(F.pad(noisy, (margin,) * 4, mode="replicate"), margin)
    size = data.shape[2], data.shape[3]
    inside = (..., slice(margin, margin + height), slice(margin, margin + width))
    mask = data.new_zeros(len(data), 1, *size)
    mask[inside] = 1 if known is None else known
    blur = transfer(kernel, size)
    power, conjugate = blur.abs().square(), blur.conj()
    generator = torch.Generator().manual_seed(0)
    core = (..., slice(0, height + 2 * margin), slice(0, width + 2 * margin))
    guess, filled = data, data
    first, last = math.log10(_FIRST_SIGMA), math.log10(max(sigma, _LAST_SIGMA))
    for level in torch.logspace(first, last, turns).tolist():
        weight = _WEIGHT * (sigma / level) ** 2
        pull = weight * torch.fft.rfft2(guess)
        for _ in range(_FILLS):
            spectrum = (conjugate * torch.fft.rfft2(filled) + pull) / (power + weight)
            again = torch.fft.irfft2(blur * spectrum, s=size)
            wanted = data
            if linear:
                wanted = data + again - _blurred_light(torch.fft.irfft2(spectrum, s=size), blur)
            filled = wanted + (1 - mask) * (again - wanted)
        spectrum = (conjugate * torch.fft.rfft2(filled) + pull) / (power + weight)
        guess = torch.fft.irfft2(spectrum, s=size).clamp(-0.1, 1.1)
        fresh = torch.randn(guess[core].shape, generator=generator).to(guess)
        guess[core] = denoise(guess[core] + level * fresh)
    return guess[inside]


def _blurred_light(images: Tensor, blur: Tensor) -> Tensor:
    """Blur the light behind images whose size is that of the transfer function."""
    return from_light(torch.fft.irfft2(blur * torch.fft.rfft2(to_light(images)), s=images.shape[2:]))


def transfer(kernel: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the transfer function `(H, W // 2 + 1)` of a kernel whose centroid is moved to the origin."""
    radius = kernel.shape[-1] // 2
    offset = torch.arange(-radius, radius + 1, dtype=kernel.dtype, device=kernel.device)
    down, across = (float(kernel.sum(axis) @ offset) + radius for axis in (1, 0))
    rows = torch.fft.fftfreq(size[0], device=kernel.device)[:, None]
    columns = torch.fft.rfftfreq(size[1], device=kernel.device)
    phase = 2 * math.pi * (rows * down + columns * across)
    return torch.fft.rfft2(kernel, s=size) * torch.polar(torch.ones_like(phase), phase)


def extend(images: Tensor, margin: int) -> Tensor:
    """Extend `(..., H, W)` below and to the right by at least `margin` pixels, smoothly, to a period."""
    for axis in (-2, -1):
        size = images.shape[axis]
        more = fast_length(size + margin) - size
        shape = (more, 1) if axis == -2 else (more,)
        share = (torch.arange(1, more + 1, dtype=images.dtype, device=images.device) / (more + 1)).view(shape)
        share = 0.5 - 0.5 * torch.cos(math.pi * share)
        last, first = images.narrow(axis, size - 1, 1), images.narrow(axis, 0, 1)
        images = torch.cat([images, last + share * (first - last)], axis)
    return images
