"""Kernel of any shape that blurred an image, such as a hand's tremor, estimated from the image alone.

Sharp images have few edges, and steep ones. Two estimates alternate, from coarse scales to fine ones: the
image with the fewest edges that gives the input when it is blurred by the present kernel, and the kernel that
blurs the edges of this image into those of the input (after Xu, Zheng and Jia, "Unnatural L0 sparse
representation for natural image deblurring", 2013, and Pan et al., "Deblurring text images via L0-regularized
intensity and gradient prior", 2014).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.arrays import Array
from denoise.corruptions.base import fast_length

_COARSEST_PX = 5  # side of a kernel at the coarsest scale
_SCALE = math.sqrt(2)  # between successive scales
_TURNS = 5  # of image and kernel, at each scale
_EDGE_COST, _MIN_EDGE_COST, _COST_DECAY = 4e-3, 1e-4, 1.1  # of an edge pixel against the squared misfit
_MAX_COUPLING = 1e5  # of the gradients to those that are kept; doubled up to here in each turn
_STEADY = 2.0  # weight of the squared kernel
_STEPS = 20  # of conjugate gradients
# Of the maximum of a kernel: its parts reach the first share, and end where they fall below the second.
# Else the centroid is off, which shifts the result. In small images these faint ends are not above the noise.
_CLEAR, _FAINT, _FAINT_PIXELS = 0.05, 0.02, 100_000
_SMALL = 0.1  # of the weight of the heaviest piece of a kernel: pieces below it are noise
_CLIPPED = 0.97  # from here on light may be saturated, whose blur is unknown


def blur_kernel(gray: Array, side: int) -> Array:
    """Estimate the kernel that blurred an image; its centre is its centroid, to a pixel.

    An image without blur gives a kernel of about a pixel, or one that another part of it does not give.

    Args:
        gray: The image, with little noise.
        side: Odd number of pixels that the kernel may be high and wide.

    Shape:
        `(H, W)` in 0..1 -> `(side, side)` of sum 1.
    """
    image = torch.from_numpy(np.array(gray, np.float32))
    scales = 1 + max(0, math.floor(math.log(side / _COARSEST_PX, _SCALE)))
    cost, kernel = _EDGE_COST, None
    faint = _FAINT if image.numel() >= _FAINT_PIXELS else _CLEAR
    for scale in reversed(range(scales)):
        factor = _SCALE**-scale
        sides = max(3, round(side * factor) | 1)
        blurred = _resized(image, [max(sides, round(size * factor)) for size in image.shape])
        kernel = _first_kernel(sides) if kernel is None else _resized(kernel, [sides, sides])
        kernel = kernel.clamp(min=0) / kernel.clamp(min=0).sum()
        kernel, cost = _at_one_scale(blurred, kernel, cost, faint)
    assert kernel is not None
    return kernel.numpy()


def _at_one_scale(blurred: Tensor, kernel: Tensor, cost: float, faint: float) -> tuple[Tensor, float]:
    height, width = blurred.shape
    side = len(kernel)
    data = _periodic(blurred, 2 * side)
    inside = torch.zeros_like(data)
    inside[:height, :width] = (blurred < _CLIPPED).float()
    fade = torch.zeros_like(data)
    fade[:height, :width] = torch.outer(_fading(height, side // 2), _fading(width, side // 2))
    fade = fade * inside
    filled = data
    for _ in range(_TURNS):
        transfer = _transfer(kernel, data.shape)
        latent = _fewest_edges(filled, transfer, cost)
        # The blur of what lies beyond the picture, or is saturated, is taken from the present guess.
        again = torch.fft.irfft2(torch.fft.rfft2(latent) * transfer, s=data.shape)
        filled = torch.where(inside > 0, data, again)
        kernel = _pruned(_kernel_between(latent, filled, side, fade), faint)
        cost = max(cost / _COST_DECAY, _MIN_EDGE_COST)
    return kernel, cost


def _fewest_edges(blurred: Tensor, transfer: Tensor, cost: float) -> Tensor:
    """Return the image that, blurred, is the input, at a cost for each pixel with a gradient.

    The gradients and their thresholded copies are coupled more and more tightly (half-quadratic splitting).
    """
    size = blurred.shape
    wanted = transfer.conj() * torch.fft.rfft2(blurred)
    power = transfer.abs().square()
    rows, columns = torch.fft.fftfreq(size[0])[:, None], torch.fft.rfftfreq(size[1])
    steep = 4 * (torch.sin(math.pi * rows).square() + torch.sin(math.pi * columns).square())
    image, coupling = blurred, 2 * cost
    while coupling < _MAX_COUPLING:
        down, across = _gradients(image)
        edges = down.square() + across.square() >= cost / coupling
        down, across = down * edges, across * edges
        curvature = down.roll(1, 0) - down + across.roll(1, 1) - across
        spectrum = (wanted + coupling * torch.fft.rfft2(curvature)) / (power + coupling * steep)
        image = torch.fft.irfft2(spectrum, s=size)
        coupling *= 2
    return image


def _kernel_between(sharp: Tensor, blurred: Tensor, side: int, fade: Tensor) -> Tensor:
    """Fit the kernel that blurs the gradients of one image into those of the other (least squares).

    The normal equations need the correlations of the gradients at a few lags only, so each step is small.
    """
    size, radius = sharp.shape, side // 2
    spectra = [torch.fft.rfft2(_gradients(image) * fade) for image in (sharp, blurred)]
    own = torch.fft.irfft2(spectra[0].abs().square().sum(0), s=size)
    cross = torch.fft.irfft2((spectra[0].conj() * spectra[1]).sum(0), s=size)
    wanted = cross.roll((radius, radius), (0, 1))[:side, :side]
    lags = 4 * radius + 1
    length = fast_length(lags + 2 * radius)
    weights = torch.fft.rfft2(own.roll((2 * radius, 2 * radius), (0, 1))[:lags, :lags], s=(length, length))
    middle = slice(2 * radius, 2 * radius + side)

    def normal(kernel: Tensor) -> Tensor:
        spectrum = weights * torch.fft.rfft2(kernel, s=(length, length))
        correlated: Tensor = torch.fft.irfft2(spectrum, s=(length, length))[middle, middle]
        return correlated + _STEADY * kernel

    kernel, rest = torch.zeros_like(wanted), wanted.clone()
    step, power = rest, rest.square().sum()
    for _ in range(_STEPS):
        if not power > 0:
            break
        image = normal(step)
        size_of_step = power / (step * image).sum()
        kernel, rest = kernel + size_of_step * step, rest - size_of_step * image
        power, before = rest.square().sum(), power
        step = rest + power / before * step
    return kernel


def _pruned(kernel: Tensor, faint: float) -> Tensor:
    """Return a kernel of sum 1 without noise, centred on its centroid; its parts end at the share `faint`."""
    from scipy import ndimage

    kernel = kernel.clamp(min=0)
    share, nearby = (kernel / kernel.max()).numpy(), np.ones((3, 3))
    connected = ndimage.binary_propagation(share >= _CLEAR, nearby, share >= faint)
    kernel = kernel * torch.from_numpy(connected)
    pieces, count = ndimage.label(connected, nearby)
    weights = ndimage.sum_labels(kernel.numpy(), pieces, range(count + 1))
    if not count:
        return _delta(len(kernel))
    kernel = kernel * torch.from_numpy((weights >= _SMALL * weights.max())[pieces])
    kernel = kernel / kernel.sum()
    offset = torch.arange(len(kernel), dtype=kernel.dtype) - len(kernel) // 2
    down, across = (round(float(kernel.sum(axis) @ offset)) for axis in (1, 0))
    return kernel.roll((-down, -across), (0, 1))


def _first_kernel(side: int) -> Tensor:
    """Return a small shift, because from a single pixel the kernel would not grow."""
    kernel = _delta(side) / 2
    return kernel + kernel.roll(-1, 1)


def _delta(side: int) -> Tensor:
    kernel = torch.zeros(side, side)
    kernel[side // 2, side // 2] = 1
    return kernel


def _gradients(image: Tensor) -> Tensor:
    """Return the differences to the next row and column, `(2, H, W)`, of a periodic image."""
    return torch.stack([image.roll(-1, 0) - image, image.roll(-1, 1) - image])


def _transfer(kernel: Tensor, size: torch.Size) -> Tensor:
    whole = torch.zeros(size)
    whole[: len(kernel), : len(kernel)] = kernel
    return torch.fft.rfft2(whole.roll((-(len(kernel) // 2),) * 2, (0, 1)))


def _periodic(image: Tensor, margin: int) -> Tensor:
    """Extend an image below and to the right to a smooth period: its mirror images, faded into each other."""
    for _ in range(2):
        more = fast_length(len(image) + margin) - len(image)
        index = torch.arange(more).clamp(max=len(image) - 1)
        share = (0.5 - 0.5 * torch.cos(math.pi * torch.arange(1, more + 1) / (more + 1)))[:, None]
        mirrored = image.flip(0)[index] * (1 - share) + image[index.flip(0)] * share
        image = torch.cat([image, mirrored]).T
    return image.contiguous()


def _fading(size: int, margin: int) -> Tensor:
    """Return 1, fading to 0 within a margin on both sides, `(size,)`."""
    margin = min(margin, size // 4)
    ramp = 0.5 - 0.5 * torch.cos(math.pi * torch.arange(1, margin + 1) / (margin + 1))
    return torch.cat([ramp, torch.ones(size - 2 * margin), ramp.flip(0)])


def _resized(image: Tensor, size: list[int]) -> Tensor:
    if list(image.shape) == size:
        return image
    wide = F.interpolate(image[None, None], size=size, mode="bicubic", antialias=True, align_corners=False)
    return wide[0, 0]


# ---- judging a kernel ------------------------------------------------------------------------------------


def normalised_sparsity(gray: Array, margin: int) -> float:
    """Mean of the gradients over their root mean square: low for a sharp image, high for one that rings.

    Of several attempts to undo a blur, the best has the lowest (Krishnan, Tay and Fergus, "Blind
    deconvolution using a normalized sparsity measure", 2011).

    Args:
        margin: Pixels at each edge to leave out, which ring.

    Shape:
        `(H, W)`.
    """
    inner = gray[margin : len(gray) - margin, margin : gray.shape[1] - margin]
    slopes = np.stack([np.diff(inner, axis=0)[:, :-1], np.diff(inner, axis=1)[:-1]])
    power = float(np.square(slopes).mean())
    return float(np.abs(slopes).mean()) / math.sqrt(power) if power > 0 else 1.0


def agreement(kernel: Array, other: Array) -> float:
    """Correlation of two kernels, at the shift where it is largest: 1 if they are equal."""
    size = [len(kernel) + len(other)] * 2
    spectrum = np.fft.rfft2(kernel, size) * np.fft.rfft2(other, size).conj()
    return float(np.fft.irfft2(spectrum, size).max() / (np.linalg.norm(kernel) * np.linalg.norm(other)))


def overlap(kernel: Array, other: Array) -> float:
    """Correlation of two kernels with their middles on each other."""
    side = max(len(kernel), len(other))
    first, second = (np.pad(some, (side - len(some)) // 2) for some in (kernel, other))
    return float((first * second).sum() / (np.linalg.norm(first) * np.linalg.norm(second)))


def width_px(kernel: Array) -> float:
    """Standard deviation of a kernel in pixels, root mean square of both axes."""
    offset = np.arange(len(kernel))
    variances = []
    for axis in (0, 1):
        share = kernel.sum(axis)
        variances.append(float(share @ np.square(offset - share @ offset)))
    return math.sqrt(sum(variances) / 2)


def richest_window(gray: Array, side: int) -> tuple[slice, slice]:
    """Find the window of at most `side` pixels with the most structure, and few saturated pixels.

    Shape:
        `(H, W)` in 0..1.
    """
    height, width = gray.shape
    tall, wide = min(side, height), min(side, width)
    best, place = -1.0, (0, 0)
    for top in _places(height, tall):
        for left in _places(width, wide):
            part = gray[top : top + tall, left : left + wide]
            clear = part < _CLIPPED
            down = np.abs(np.diff(part, axis=0)) * (clear[1:] & clear[:-1])
            across = np.abs(np.diff(part, axis=1)) * (clear[:, 1:] & clear[:, :-1])
            usable = float(down.mean() + across.mean())
            if usable > best:
                best, place = usable, (top, left)
    return slice(place[0], place[0] + tall), slice(place[1], place[1] + wide)


def _places(size: int, part: int) -> list[int]:
    count = 1 + math.ceil((size - part) / max(1, part // 2))
    return sorted({round((size - part) * k / max(1, count - 1)) for k in range(count)})
