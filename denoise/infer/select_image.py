"""Select the model for an image by its noise, blur and JPEG quality, and verify the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np

from denoise.arrays import Array, Doubles
from denoise.estimate.blocks import cut_blocks
from denoise.estimate.drawing import is_drawing
from denoise.estimate.hot_pixels import without_hot_pixels, without_salt_and_pepper
from denoise.estimate.image import blur_px, noise_sigma, speck_excess, speckled
from denoise.estimate.jpeg import jpeg_quality
from denoise.estimate.lens_blur import LensBlur, lens_blur
from denoise.estimate.real_noise import RealNoise, real_noise
from denoise.infer.selection import ModelsAtUse, PageSelector, Selection
from denoise.infer.verify import RAISED_NOISE, middle, reject_cleaned, reject_sharpened
from denoise.models.contract import Identity, InputSpec, Model
from denoise.models.table import AUTO, PICKS

if TYPE_CHECKING:  # most pictures do without torch
    from denoise.models.sharpen import Sharpener

# 8-bit units. Below FAINT an image is left as it is, above CLEAR it is cleaned completely, in between partly,
# so the correction fades in smoothly. Of the 68 photos of CBSD68, 67 measure 0.4 or less as they are, and all
# 0.6 or less as JPEGs of quality 90; with white noise of sigma 2 all measure 1.9 or more.
FAINT_SIGMA = 0.8
CLEAR_SIGMA = 1.6

# Photos as they are measure up to 1.08 with white noise of sigma 3 (24 crops of scikit-image, 5 photos of
# BSDS500), under a Gaussian blur of 1 px about 1.0 to 1.7: from 0.85 on, the softness of a lens counted as
# blur there, and photos lost up to 4 dB by sharpening. Below such noise two kernels that agree tell, and
# pictures that a hand shook measure 0.9 and more.
BLURRED_PX, _BLURRED_NOISY_PX = 0.85, 1.15
_NOISY = 2.0  # 8-bit units
MAX_SIGMA_TO_SHARPEN = 20.0  # 8-bit units: the sharpening model was trained up to this level

# A photo without any white noise has been through a camera, which softens it a little: it counts as blurred
# from this width on.
SOFT_PX = 1.5
_WHITE_TRACE = 0.5  # 8-bit units

# Smoothed noise: what the denoiser removes from flat parts is coarse and more than a trace of JPEG.
# More than the last is no noise: a pattern that the denoiser does not know. A JPEG with visible blocks is
# cleaned anyway, so fainter noise counts.
_SMOOTHED, _SMOOTHED_LEVEL, _MAX_SMOOTHED_LEVEL = 0.3, 1.2, 12.0
_SMOOTHED_LEVEL_JPEG = 0.9
_SMOOTHED_TRACE = 0.6  # 8-bit units: from here on sharpening would bring such noise out
# The same where the spectrum proves a blur. Noise that is as soft as the picture was enlarged with it, and
# the zeros of its spectrum are those of the enlargement: of such noise of 5 and more, 3.1 and more is
# removed, of what a camera smoothed after the lens at most 2.5 (6 pictures of scikit-image).
_ENLARGED = 2.8

# Quality. Of 51 pictures without noise, saved at 70, one loses by cleaning; saved at 85, a quarter of them.
COARSE_JPEG = 81.0

# 8-bit units. Texture is restored completely up to the first level of noise, not at all from the second on.
_TEXTURE_SIGMA = (4.0, 6.0)
_BAND_ROWS = 256  # rows of an image that are compared at a time
_BLOCK_PX = 16
_BRIGHTNESS_RANGES = 6  # of as many blocks each: noise mostly grows with the brightness
_MIN_BLOCKS = 8  # in such a range
# This share of the blocks of a brightness counts as flat. The quietest blocks of noise alone have a tenth
# less than the mean.
_FLAT_SHARE, _FLAT_EXCESS = 0.3, 1.1

_LEAVE, (_CLEAN, _SHARPEN) = "none", PICKS[AUTO]["image"]
_HOT = 8.0  # standard deviations of the noise: from here on a lone bright sample is named
_MEDIAN = "median"  # specks alone are replaced
_AS_IT_IS = ": left as it is"


@dataclass(frozen=True)
class ImageSelection(Selection):
    """The model for one image."""

    estimated_sigma: float = 0.0  # standard deviation of the noise in 8-bit units
    estimated_blur_px: float = 0.0  # blur as the standard deviation of a Gaussian, in pixels; 0 is sharp
    estimated_jpeg_quality: float = 100.0  # JPEG quality; 100 without traces of compression
    specks: bool = False  # it had salt and pepper; the figures are of the image without

    @property
    def sigma(self) -> float | None:
        """Noise of the whole image, specks included, in 8-bit units; None if it was not measured."""
        return None if self.specks else self.estimated_sigma

    def preserve_texture(self, noisy: Array, cleaned: Array, /) -> None:
        """Restore to `cleaned` `(C, H, W)`, in place, what was removed beyond the estimated noise."""
        gain = texture_gain(self, noisy, cleaned)
        for band in _bands(noisy) if gain < 1 else ():
            part = noisy[:, band] - gain * np.subtract(noisy[:, band], cleaned[:, band], dtype=np.float64)
            cleaned[:, band] = part if cleaned.dtype.kind == "f" else np.rint(part)


def select(
    sigma: float,
    blur_px: float,
    jpeg_quality: float = 100.0,
    *,
    sharpens: bool,
    smoothed_sigma: float = 0.0,
    lens: LensBlur | None = None,
    cleaner: str = _CLEAN,
) -> ImageSelection:
    """Select the model for an image.

    Args:
        sigma: Estimated standard deviation of white noise, 8-bit units.
        blur_px: Estimated blur.
        jpeg_quality: Estimated JPEG quality, 100 for none.
        sharpens: A model against blur is available.
        smoothed_sigma: Estimated noise that a camera or a program smoothed; sharpening would bring it out.
        lens: Blur that the spectrum proves, which needs no further evidence.
        cleaner: The model against noise.
    """
    coarse = jpeg_quality <= COARSE_JPEG
    blurred = blur_px >= (_least_blur_px(sigma) if sigma >= _WHITE_TRACE else SOFT_PX)
    if lens:
        blurred, blur_px, sigma = True, lens.width_px, max(sigma, lens.sigma)
        sharpens = sharpens and not lens.other_parts
    if smoothed_sigma or (coarse and sigma < _WHITE_TRACE):  # sharpening would bring out noise or blocks
        sharpens = False
    sigma = max(sigma, smoothed_sigma)
    strength = min(1.0, max(0.0, (sigma - FAINT_SIGMA) / (CLEAR_SIGMA - FAINT_SIGMA)))
    if coarse:
        strength = 1.0
    if blurred and sharpens and sigma <= MAX_SIGMA_TO_SHARPEN:
        model, strength, ending = _SHARPEN, 1.0, ""
    elif not strength:
        model, strength, ending = _LEAVE, 1.0, _AS_IT_IS
    else:
        model, ending = cleaner, f": cleaned by {100 * strength:.0f} %" if strength < 1 else ""
    kind = "smoothed noise" if smoothed_sigma else "noise"
    blur = f"blur of about {blur_px:.1f} px (standard deviation)" if blurred else "not blurred as a whole"
    if lens and lens.radius_px:
        blur = f"out of focus by a radius of about {lens.radius_px:.1f} px"
    if lens and lens.other_parts:
        blur = f"{blur} in parts, which differ"
    jpeg = f", JPEG of quality about {jpeg_quality:.0f}" if coarse else ""
    reason = f"{model}: {kind} of about {sigma:.2g}/255, {blur}{jpeg}{ending}"
    return ImageSelection(model, strength, reason, sigma, blur_px, jpeg_quality)


_DRAWN = ImageSelection(_LEAVE, 1.0, f"{_LEAVE}: a drawing or a screenshot{_AS_IT_IS}")


class ImageSelector(PageSelector):
    """Selects `none` or another model for each image.

    Args:
        models: By name, or what builds them: first the one against noise, then `photo-sharp` where blur is
            to be undone.
        estimator: The one against noise, exact enough to judge pictures that hardly have noise;
            None is the first of `models`.
    """

    spec = InputSpec("image", channels=3, halo=None)

    def __init__(self, models: Mapping[str, Model | partial[Model]], estimator: Model | None = None) -> None:
        super().__init__(ModelsAtUse({_LEAVE: Identity(), _MEDIAN: Identity(), **models}))
        self._cleaner = next(iter(models))
        self._estimator = (estimator or self.models[self._cleaner]).eval()

    def select(self, page: Array, peak: float | None) -> ImageSelection:
        """Select the model for a page `(C, H, W)` without alpha."""
        peak = peak or 1.0
        if page.dtype.kind == "f" and not np.isfinite(page).all():  # cleaning reports the pixel
            return select(0.0, 0.0, sharpens=False)
        if is_drawing(page):
            return _DRAWN
        sigma = noise_sigma(page, peak)
        bare = _without_specks(page, peak) if sigma > FAINT_SIGMA else page
        if bare is page:
            return self._select(page, peak, sigma)
        found = _DRAWN if is_drawing(bare) else self._select(bare, peak, noise_sigma(bare, peak))
        model = _MEDIAN if found.model == _LEAVE else found.model
        others = found.reason.removeprefix(f"{found.model}: ").removesuffix(_AS_IT_IS)
        return replace(
            found, model=model, reason=f"{model}: salt and pepper, and without them {others}", specks=True
        )

    def _select(self, page: Array, peak: float, sigma: float) -> ImageSelection:
        """Select the model for a page without specks, whose white noise is known."""
        sharpens = _SHARPEN in self.models
        quality = jpeg_quality(page, peak)
        lens = lens_blur(page, peak) if sharpens else None
        noise = self._real_noise(page, peak) if lens else None
        if noise and (noise.whiteness >= _SMOOTHED or noise.removed < _ENLARGED):
            return select(sigma, 0.0, quality, sharpens=True, lens=lens, cleaner=self._cleaner)
        blur = blur_px(page, peak, sigma)
        # White noise is to be removed, whatever else is there.
        if sigma > CLEAR_SIGMA and blur < _least_blur_px(sigma):
            return select(sigma, blur, quality, sharpens=False, cleaner=self._cleaner)
        noise = noise or self._real_noise(page, peak)
        coarse = noise.whiteness < _SMOOTHED
        level = _SMOOTHED_LEVEL_JPEG if quality <= COARSE_JPEG else _SMOOTHED_LEVEL
        smoothed = coarse and max(level, sigma) < noise.removed < _MAX_SMOOTHED_LEVEL
        if sharpens and blur >= _least_blur_px(sigma):
            white = not coarse or noise.removed < max(_SMOOTHED_TRACE, sigma)
            sharpens = white and self.models[_SHARPEN].confirms_blur(page, peak)
        smoothed_sigma = noise.sigma if smoothed else 0.0
        return select(
            sigma,
            blur,
            quality,
            sharpens=sharpens,
            smoothed_sigma=smoothed_sigma,
            cleaner=self._cleaner,
        )

    def repair(self, selection: Selection, noisy: Array, peak: float | None, /) -> Array:
        """Replace salt and pepper, and hot pixels, which a model turns into blotches, if it is cleaned."""
        if selection.model == _LEAVE:
            return noisy
        repaired = _without_specks(noisy, peak or 1.0) if _has_specks(selection) else noisy
        return repaired if selection.model == _MEDIAN else without_hot_pixels(repaired, peak or 1.0)

    def name_repair(
        self, selection: Selection, noisy: Array, repaired: Array, peak: float | None, /
    ) -> Selection:
        """Return the selection whose reason counts the hot pixels that were replaced, the noise aside."""
        if repaired is noisy or _has_specks(selection):
            return selection
        places = repaired != noisy
        above = np.subtract(noisy[places], repaired[places], dtype=np.float64)
        noise = selection.figures["estimated_sigma"] / 255 * (peak or 1.0)
        count = int(np.count_nonzero(above > _HOT * noise))
        if not count:
            return selection
        pixels = "hot pixel" if count == 1 else "hot pixels"
        return replace(selection, reason=f"{selection.reason}; {count} {pixels} replaced")

    def reject_reason(self, selection: Selection, before: Array, after: Array, peak: float | None, /) -> str:
        """Return why a result must not be used, by what it did to the image."""
        if selection.model in (_LEAVE, _MEDIAN):
            return ""
        noisy, result = (np.divide(middle(image), peak or 1.0, dtype=np.float32) for image in (before, after))
        figures = selection.figures
        if selection.model != _SHARPEN:  # what is left of a part of the noise would look like an outline
            sigma, coarse = figures["estimated_sigma"], figures["estimated_jpeg_quality"] <= COARSE_JPEG
            # Blocks and specks are not normally distributed.
            pointed = (coarse and sigma < FAINT_SIGMA) or speckled(before, peak or 1.0)
            return reject_cleaned(noisy, result, sigma, gaussian=not pointed, alike=coarse)
        result = noisy + selection.strength * (result - noisy)
        sigma = figures["estimated_sigma"]
        sharpener = cast("Sharpener", self.models[_SHARPEN])
        scale = peak or 1.0
        return reject_sharpened(
            noisy,
            result,
            sigma,
            sharpener.blur_width_px(before, scale),
            proven=sharpener.proves_blur(before, scale),
            linear=sharpener.blurs_light(before, scale),
        ) or sharpener.doubt(before, scale, noisy, result)

    def next_milder(self, selection: Selection, reason: str, /) -> Selection:
        """Return the next candidate: sharpen, sharpen by half, clean, leave as it is.

        Half of a wrong sharpening would show the contours twice, so it is tried against noise alone.
        """
        tried = f"{selection.reason}; {selection.model} was tried and dropped: {reason}"
        if selection.model == _SHARPEN and selection.strength > 0.5 and reason.startswith(RAISED_NOISE):
            model, strength = _SHARPEN, 0.5
        elif selection.model == _SHARPEN and selection.figures["estimated_sigma"] > CLEAR_SIGMA:
            model, strength = self._cleaner, 1.0
        else:
            model, strength = _MEDIAN if _has_specks(selection) else _LEAVE, 1.0
        used = "left as it is" if model == _LEAVE else f"{model} at {strength:.0%} instead"
        return replace(
            selection,
            model=model,
            strength=strength,
            reason=f"{tried}; {used}",
            dropped=(*selection.dropped, selection.model),
        )

    def _real_noise(self, page: Array, peak: float) -> RealNoise:
        return real_noise(page, peak, self._estimator.run)


def _has_specks(selection: Selection) -> bool:
    return isinstance(selection, ImageSelection) and selection.specks


def _without_specks(page: Array, peak: float) -> Array:
    """Replace salt and pepper; without them the page itself is returned."""
    excess = speck_excess(page, peak)
    return without_salt_and_pepper(page, peak, excess) if excess else page


def _least_blur_px(sigma: float) -> float:
    return BLURRED_PX if sigma < _NOISY else _BLURRED_NOISY_PX


def texture_gain(selection: ImageSelection, noisy: Array, cleaned: Array) -> float:
    """Return the share of a correction of `(C, H, W)` to keep, so that no more is removed than the noise.

    The power removed from flat areas is noise; any excess elsewhere, at the same brightness, was texture. If
    the correction contains all of the noise, the noise's share of its power minimises the error (least
    squares, texture and noise being independent). Strong noise hides texture and is removed completely.
    """
    faint, strong = _TEXTURE_SIGMA
    free = min(1.0, max(0.0, (selection.estimated_sigma - faint) / (strong - faint)))
    if selection.model in (_LEAVE, _MEDIAN, _SHARPEN) or free == 1 or min(noisy.shape[1:]) < _BLOCK_PX:
        return 1.0
    blocks = [_powers(noisy[:, band], cleaned[:, band]) for band in _bands(noisy)]
    power, brightness = np.concatenate(blocks, axis=1)
    if not power.any():
        return 1.0
    edges = np.quantile(brightness, np.linspace(0, 1, _BRIGHTNESS_RANGES + 1))
    ranges = [(brightness >= low) & (brightness <= high) for low, high in pairwise(edges)]
    ranges = [some for some in ranges if np.count_nonzero(some) >= _MIN_BLOCKS] or [brightness > -np.inf]
    centres = [brightness[some].mean() for some in ranges]
    flat = [_FLAT_EXCESS * np.quantile(power[some], _FLAT_SHARE) for some in ranges]
    noise = np.interp(brightness, centres, flat)
    return free + (1 - free) * min(1.0, float(noise.mean() / power.mean()))


def _powers(noisy: Array, cleaned: Array) -> Doubles:
    """Return the mean square that was removed from each block, and its brightness, `(2, N)`."""
    removed = np.subtract(noisy, cleaned, dtype=np.float64)
    both = (cut_blocks(values, _BLOCK_PX) for values in (np.square(removed), cleaned))
    return np.stack([values.mean(axis=(0, 2, 4), dtype=np.float64).ravel() for values in both])


def _bands(page: Array) -> list[slice]:
    return [slice(top, top + _BAND_ROWS) for top in range(0, page.shape[1], _BAND_ROWS)]
