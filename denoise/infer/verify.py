"""Check a cleaned or sharpened image against its input, without a reference.

A model can be wrong about an image: take the softness of a camera for blur, or texture for noise. What it did
can be judged without a reference. Noise in flat parts must not grow. What was removed must look like noise,
without the outlines of the picture. A sharpened picture, blurred again, must give the input.
"""

from __future__ import annotations

import math

import numpy as np

from denoise.arrays import Array
from denoise.dsp.light import from_light, to_light
from denoise.estimate.blocks import cut_blocks
from denoise.infer.texture import is_certain, texture_reason

RAISED_NOISE = "it raised the noise"  # the only reason that a smaller correction helps against

_EIGHT_BIT = 255.0
_BLOCK_PX = 16
_FLAT_SHARE = 0.25  # of the blocks, those with the gentlest coarse structure
_CLIPPED = (0.02, 0.98)  # blocks darker or brighter hold clipped noise
_MIN_BLOCKS = 8
_KERNEL_RADIUS = 8  # pixels, of the blur that is fitted between output and input
_REGULARISE = 1e-4  # of the power of the picture, which keeps the fit stable
_PART_PX = 1024

# Limits, set on training photos with noise of the in-camera chain, and moved with real pairs in view.
_VISIBLE = 2.5  # 8-bit units of flat detail: sharpening may raise the noise up to this, not above
_WIDE_PX = 1.2  # standard deviation of a wide blur
_VISIBLE_WIDE = 6.0  # the same after a wide blur, whose flat parts may hold texture
_VISIBLE_PROVEN = 12.0  # the same after a blur that is certain: grass behind it comes back in full
_GROWTH = 1.05  # of the flat detail, beyond rounding
_ROUNDING = 0.3  # 8-bit units
_OUTLINES = 0.55  # correlation of what went with the detail left, if texture; camera noise has 0.52 at most
_REBLUR = 2.5  # 8-bit units beyond the noise


# ---- decisions -------------------------------------------------------------------------------------------


def middle(image: Array) -> Array:
    """Cut the part that is checked, at most 1024 x 1024 pixels, from the middle of an image `(C, H, W)`."""
    height, width = image.shape[1:]
    top, left = (max(0, size - _PART_PX) // 2 for size in (height, width))
    return image[:, top : top + _PART_PX, left : left + _PART_PX]


def reject_cleaned(
    before: Array, after: Array, sigma: float = 0.0, *, gaussian: bool = True, alike: bool = False
) -> str:
    """Return why the result of a denoiser must not be used; empty if it may.

    Args:
        before: The input.
        after: The result.
        sigma: Estimated noise, 8-bit units.
        gaussian: The noise is normally distributed, unlike specks and the blocks of JPEG.
        alike: The noise may be the same in all channels, as in a JPEG.

    Shape:
        `(C, H, W)` in 0..1, both.
    """
    luma = before.mean(0)
    detail_before, detail_after = _detail(luma), _detail(after.mean(0))
    flat = flat_blocks(luma)
    noise, left = (_level(detail, flat) for detail in (detail_before, detail_after))
    if left > _GROWTH * noise + _ROUNDING:
        return f"{RAISED_NOISE} of flat parts from {noise:.1f} to {left:.1f}/255"
    share = _correlation(detail_before - detail_after, detail_after)
    if share > _OUTLINES and not is_certain(before - after, sigma):
        return f"it removed outlines ({share:.0%} correlation)"
    texture = texture_reason(before, after, sigma, gaussian=gaussian, alike=alike)
    return f"what it removed is texture rather than noise: {texture}" if texture else ""


def reject_sharpened(
    before: Array,
    after: Array,
    sigma: float,
    blur_width_px: float = 0.0,
    *,
    proven: bool = False,
    linear: bool = False,
) -> str:
    """Return why the result of a deblurring model must not be used; empty if it may.

    Args:
        before: The input.
        after: The result.
        sigma: Noise of the input, 8-bit units.
        blur_width_px: Standard deviation of the blur that was undone.
        proven: The blur is certain, so detail that came out of it is no noise.
        linear: The light was blurred, rather than the pixel values.

    Shape:
        `(C, H, W)` in 0..1, both.
    """
    # A wide blur flattens texture, so look where the result is flat.
    wide = proven or blur_width_px >= _WIDE_PX
    flat = flat_blocks((after if wide else before).mean(0))
    noise, left = (flat_detail(image, flat) for image in (before, after))
    visible = _VISIBLE_PROVEN if proven else _VISIBLE_WIDE if wide else _VISIBLE
    if left > max(visible, _GROWTH * noise + _ROUNDING):
        return f"{RAISED_NOISE} of flat parts from {noise:.1f} to {left:.1f}/255"
    radius = max(_KERNEL_RADIUS, math.ceil(4 * blur_width_px))
    error = reblur_error(before, after, radius, linear=linear)
    if error > sigma + _REBLUR:
        return f"blurred again, the result is {error:.1f}/255 off the input"
    return ""


# ---- measurements ----------------------------------------------------------------------------------------


def flat_blocks(luma: Array) -> Array:
    """Find the blocks of 16 x 16 pixels that are flat but not clipped, by the means of their quarters.

    Noise hardly changes means over 8 x 8 pixels, so the choice does not favour blocks of little noise.

    Shape:
        `(H, W)` in 0..1 -> `(H // 16, W // 16)`, boolean; all False if there are too few blocks.
    """
    rows, columns = (size // _BLOCK_PX for size in luma.shape)
    means = cut_blocks(luma, _BLOCK_PX // 2).mean((1, 3))[: 2 * rows, : 2 * columns]
    quarters = means.reshape(rows, 2, columns, 2)
    spread = quarters.max((1, 3)) - quarters.min((1, 3))
    level = quarters.mean((1, 3))
    usable = (level > _CLIPPED[0]) & (level < _CLIPPED[1])
    if np.count_nonzero(usable) < _MIN_BLOCKS:
        return np.zeros_like(usable)
    return usable & (spread <= np.quantile(spread[usable], _FLAT_SHARE))


def flat_detail(image: Array, flat: Array) -> float:
    """Measure the fine detail of flat blocks, in 8-bit units: noise, blocking, or what sharpening made of it.

    Detail is the difference to the mean of 3 x 3 pixels, in the luma; the median over the blocks is taken.

    Shape:
        `(C, H, W)` in 0..1; `flat` as `flat_blocks` returns it.
    """
    return _level(_detail(image.mean(0)), flat)


def reblur_error(
    before: Array, after: Array, kernel_radius: int = _KERNEL_RADIUS, *, linear: bool = False
) -> float:
    """Distance of the input from the best blur of the output, in 8-bit units.

    The blur is the kernel of this radius that fits best in the least-squares sense, by the spectra
    of both (a Wiener estimate, cut to its support). What remains is the noise of the input, and whatever the
    output invented. Of light it is measured in pixel values again.

    Shape:
        `(C, H, W)` in 0..1, both.
    """
    gray = [image.mean(0) for image in (before, after)]
    light = [to_light(image) if linear else image for image in gray]
    level = light[0].mean()
    x, y = (image - image.mean() for image in light)
    window = np.outer(*(np.hanning(size) for size in x.shape)).astype(np.float32)
    spectra = [np.fft.rfft2(image * window) for image in (x, y)]
    power = np.square(np.abs(spectra[1]))
    if not power.any():
        return _EIGHT_BIT * float(np.sqrt(np.square(x).mean()))
    kernel = np.fft.irfft2(spectra[0] * spectra[1].conj() / (power + _REGULARISE * power.mean()), s=x.shape)
    support = np.zeros_like(kernel)
    radius = min(kernel_radius, min(x.shape) // 4)
    reach = np.r_[0 : radius + 1, -radius:0]
    support[np.ix_(reach, reach)] = kernel[np.ix_(reach, reach)]
    blurred = np.fft.irfft2(np.fft.rfft2(y) * np.fft.rfft2(support), s=x.shape)
    inner = (slice(radius, -radius or None),) * 2
    again = blurred + level
    error = (gray[0] - (from_light(again) if linear else again))[inner]
    return _EIGHT_BIT * float(np.sqrt(np.square(error).mean())) if error.size else 0.0


def _level(detail: Array, flat: Array) -> float:
    power = cut_blocks(np.square(detail), _BLOCK_PX).mean((1, 3))
    return _EIGHT_BIT * math.sqrt(float(np.median(power[flat]))) if flat.any() else 0.0


def _correlation(removed: Array, detail: Array) -> float:
    power = float(np.square(removed).mean() * np.square(detail).mean())
    return float((removed * detail).mean()) / math.sqrt(power) if power > 0 else 0.0


def _detail(luma: Array) -> Array:
    """Difference to the mean of 3 x 3 pixels."""
    padded = np.pad(luma, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return luma - (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9
