"""Sharpening of photos: by a network, or by deconvolution with a kernel of any shape."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise.arrays import Array
from denoise.corruptions.blur import Defocus, GaussianBlur
from denoise.estimate.blur_kernel import (
    agreement,
    blur_kernel,
    normalised_sparsity,
    overlap,
    richest_window,
    width_px,
)
from denoise.estimate.edges import edge_spread
from denoise.estimate.image import noise_sigma
from denoise.estimate.lens_blur import lens_blur
from denoise.models.base import Denoiser
from denoise.models.deblur import Blurring, Deblurrer, wiener
from denoise.models.deconvolution import plug_and_play

_EIGHT_BIT = 255.0
_SIDE_PX = 37  # of a kernel
_WINDOW_PX = 512
_MIN_SIDE_PX = 96  # of an image that holds enough edges for a kernel
_MIN_WIDTH_PX = 1.8  # standard deviation; the network knows every blur below it
_BALANCE = 2000.0  # of the filter by whose result kernels are compared
_DISK_RADII_PX = np.arange(2, 12.1, 0.25)
_DISK = 0.88  # agreement with a disk from which on a kernel is taken for one
# Agreement of a wide kernel with that of the network, from which on the network may be used. It makes a photo
# worse whose path it does not know.
_AGREEMENT = 0.8
# Agreement of a wide kernel with that of the same picture, transposed and turned by half a turn. The estimate
# begins with a shift along the rows, so where the picture does not determine the kernel, the two differ. Of
# 22 crops of blurred training photos, 128 to 320 px wide, this drops 6 of 7 that became worse, and 3 others.
_REPEATED = 0.85
# Overlap of the two where their centroids put them. Where it is smaller, one of them lacks an end of the
# path, so the result is shifted, or wrong altogether. Of 45 training photos, shaken or moved along an arc, 38
# gave kernels that are alike, and six of these did harm; this drops five of the six, and one that gained
# 0.3 dB.
_IN_PLACE = 0.64
# Normalised sparsity of a picture with as few edges as noise (0.80), and how much denser the network may make
# them. Of 67 results on training photos and samples of scikit-image, under Gaussian blurs of 0 to 1.4 px and
# noise, these drop 29 of 30 that are worse than `photo`, by up to 19 dB, and 7 of 37 that are better.
_EDGELESS, _DENSER = 0.75, 0.04
# Spread of the edges over the picture. On 20 shaken and 20 moved photos of BSDS432 it is at most 1.47, on a
# macro photo of shallow focus, which got halos, 1.74; these chose the limit. Of 22 photos of CBSD68 with
# synthetic shallow focus one was sharpened before, and lost 2 dB.
_ALIKE = 1.55
_NOISY = 1.5  # 8-bit units: from here on the window is denoised first
# 8-bit units. An image that seems to have no noise went through a camera or JPEG, which left some that is not
# white.
_MIN_SIGMA, _SMOOTHED, _SMOOTHED_SIGMA = 1.0, 0.7, 2.5
_SATURATED = 0.985  # from here on light may be clipped
_HALO_PX = 96


class FreeBlur(NamedTuple):
    """Kernel `(k, k)` of any shape, and the noise of the image in 8-bit units."""

    kernel: Tensor
    sigma: float
    linear: bool = False  # the light was blurred, rather than the pixel values
    proven: bool = False  # by the spectrum


class _Found(NamedTuple):
    """Free kernel of a page, if it is the better one, and a contradiction to a blur of all of the page."""

    free: FreeBlur | None
    contradicts: bool


class Sharpener(Denoiser):
    """Sharpens one photo at a time.

    The network knows symmetric kernels up to a certain size, and is the best for these. For a photo that it
    finds blurred, a kernel of any shape is estimated as well, and again from the transposed photo. One filter
    inverts all three, and the sparsest result decides: for the network if a free kernel is like its own, else
    for a free one if both are alike. The disk of a lens that the spectrum proves needs no estimate. Limits
    were chosen on training photos.

    Args:
        network: Estimates and undoes symmetric blurs.
        prior: Denoises the guess during deconvolution; takes RGB and removes white noise of any level.
    """

    def __init__(self, network: Deblurrer, prior: Denoiser) -> None:
        super().__init__()
        self.network, self.prior = network, prior
        self.spec, self.precision = network.spec, prior.precision
        self._found = (-1, _Found(None, contradicts=False))  # of the last page, which may be tried twice

    def config(self) -> dict[str, Any]:
        """Return the config of the network."""
        return self.network.config()

    def forward(self, noisy: Tensor) -> Tensor:
        """Deblur a batch by the network."""
        return self.network(noisy)

    def confirms_blur(self, page: Array, peak: float) -> bool:
        """Ask the network, and whether the edges or the free kernel contradict it."""
        return self.network.confirms_blur(page, peak) and not self._find(page, peak).contradicts

    def proves_blur(self, page: Array, peak: float) -> bool:
        """Tell whether the spectrum proves the blur, or the kernel was found twice."""
        return self.free_blur(page, peak) is not None

    @torch.inference_mode()
    def doubt(self, page: Array, peak: float, before: Array, after: Array) -> str:
        """Return why a blur that the spectrum does not prove was none; empty if it may have been one.

        Sharpening makes edges fewer and steeper. A wrong kernel doubles those of bricks or cloth, and without
        edges a soft scene and a blurred one are alike.

        Args:
            before: Part of the page, in 0..1, and `after` that of the result.

        Shape:
            `(C, H, W)`, all three.
        """
        blur = self.free_blur(page, peak)
        if blur is not None and blur.proven:
            return ""
        rows, columns = richest_window(before.mean(0), _WINDOW_PX if blur else _WINDOW_PX // 2)
        window = torch.from_numpy(before[:, rows, columns].copy())[None].expand(-1, 3, -1, -1)
        margin = min(_SIDE_PX // 2, min(window.shape[2:]) // 4)
        smooth, sharp = self.clean(window)[0].mean(0).numpy(), after[:, rows, columns].mean(0)
        found, wanted = normalised_sparsity(sharp, margin), normalised_sparsity(smooth, margin)
        if blur is None and wanted > _EDGELESS:
            return "it has too few edges to tell a blur"
        return "it made the edges denser instead of sharper" if found > wanted + _DENSER * (not blur) else ""

    def blurs_light(self, page: Array, peak: float) -> bool:
        """Tell whether the light was blurred, rather than the pixel values."""
        free = self.free_blur(page, peak)
        return free is not None and free.linear

    def blur_width_px(self, page: Array, peak: float) -> float:
        """Return the standard deviation of the kernel of a page, mean of both axes."""
        blur = self.free_blur(page, peak)
        return width_px(blur.kernel.numpy()) if blur else self.network.blur_width_px(page, peak)

    def prepare(self, page: Array, peak: float) -> Denoiser:
        """Return the deconvolution of a page by its own kernel, or the prepared network."""
        blur = self.free_blur(page, peak)
        if blur:
            return _Deconvolver(self, blur)
        return self.network.prepare(page, peak)

    def free_blur(self, page: Array, peak: float) -> FreeBlur | None:
        """Return the kernel of an image `(C, H, W)`; None if the network undoes its blur as well."""
        return self._find(page, peak).free

    def _find(self, page: Array, peak: float) -> _Found:
        if min(page.shape[1:]) < _MIN_SIDE_PX:
            return _Found(None, contradicts=False)
        key = 0
        for plane in page:  # the channels of a photo lie interleaved: no copy of all of it
            key = zlib.crc32(np.ascontiguousarray(plane).data, key)
        if self._found[0] != key:
            self._found = key, self._compare(page, peak)
        return self._found[1]

    @torch.inference_mode()
    def _compare(self, page: Array, peak: float) -> _Found:
        if lens := lens_blur(page, peak):
            blur = Defocus(lens.radius_px) if lens.radius_px else GaussianBlur(lens.width_px)
            sigma = max(lens.sigma, noise_sigma(page, peak))
            return _Found(
                FreeBlur(blur.kernel(torch.Generator()), sigma, lens.linear, True), contradicts=False
            )
        if not self.network.confirms_blur(page, peak):
            return _Found(None, contradicts=False)
        if edge_spread(page, peak) > _ALIKE:
            return _Found(None, contradicts=True)
        luma = page.mean(0, dtype=np.float32) / np.float32(peak)
        rows, columns = richest_window(luma, _WINDOW_PX)
        sigma = noise_sigma(page, peak)
        window = torch.from_numpy(np.divide(page[:, rows, columns], peak, dtype=np.float32))[None]
        window = window.expand(-1, 3, -1, -1)
        even = self.network.estimate(window)
        smooth = self.clean(window) if sigma > _NOISY else window
        gray = smooth.mean(1)[0].numpy()
        found = blur_kernel(gray, _SIDE_PX)
        if width_px(found) < _MIN_WIDTH_PX:
            return _Found(None, contradicts=False)
        again = _turned(blur_kernel(_turned(gray), _SIDE_PX))
        shapes = [as_disk(kernel) for kernel in (found, again)]
        kernels = [torch.from_numpy(shape) for shape in shapes]
        frees = [Blurring(kernel[None], even.sigma) for kernel in kernels]
        *sparsities, of_network = (_sparsity(window, blurring) for blurring in (*frees, even))
        best = int(np.argmin(sparsities))
        like_network = agreement(found, even.kernel[0].numpy()) >= _AGREEMENT
        if sparsities[best] >= of_network and like_network:
            return _Found(None, contradicts=False)
        if agreement(found, again) < _REPEATED or overlap(*shapes) < _IN_PLACE:
            return _Found(None, contradicts=True)
        return _Found(FreeBlur(kernels[best], sigma), contradicts=False)

    def undo(self, noisy: Tensor, blur: FreeBlur) -> Tensor:
        """Undo one blur of a batch, with the prior."""
        sigma = max(blur.sigma, _MIN_SIGMA) if blur.sigma > _SMOOTHED else _SMOOTHED_SIGMA
        kernel, level = blur.kernel.to(noisy.device), sigma / _EIGHT_BIT
        known = (noisy.amax(1, keepdim=True) < _SATURATED).to(noisy.dtype)
        return plug_and_play(noisy, kernel, level, self.clean, known=known, linear=blur.linear)

    def clean(self, noisy: Tensor) -> Tensor:
        """Denoise a batch of any size by the prior."""
        height, width = noisy.shape[2:]
        multiple = self.prior.spec.multiple_of
        padded = F.pad(noisy, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        cleaned: Tensor = self.prior(padded.contiguous(memory_format=torch.channels_last))
        return cleaned[..., :height, :width]


class _Deconvolver(Denoiser):
    """Undoes one blur, tile by tile."""

    def __init__(self, sharpener: Sharpener, blur: FreeBlur) -> None:
        super().__init__()
        self.sharpener, self.blur = sharpener, blur
        multiple = sharpener.prior.spec.multiple_of
        self.spec = replace(sharpener.spec, multiple_of=multiple, halo=_HALO_PX)

    def forward(self, noisy: Tensor) -> Tensor:
        return self.sharpener.undo(noisy, self.blur)


def as_disk(kernel: Array) -> Array:
    """Return the disk of a lens out of focus that a kernel resembles; the kernel itself if there is none."""
    unused = torch.Generator()
    disks = [Defocus(float(radius)).kernel(unused).numpy() for radius in _DISK_RADII_PX]
    likeness = [agreement(kernel, disk) for disk in disks]
    best = int(np.argmax(likeness))
    return disks[best] if likeness[best] >= _DISK else kernel


def _turned(image: Array) -> Array:
    """Return an image transposed and turned by half a turn, which is its own inverse."""
    return image[::-1, ::-1].T.copy()


def _sparsity(window: Tensor, blur: Blurring) -> float:
    sharp = wiener(window, blur, _BALANCE).clamp(0, 1)
    return normalised_sparsity(sharp.mean(1)[0].numpy(), min(_SIDE_PX // 2, min(window.shape[2:]) // 4))
