"""Sharpening of photos by a kernel of any shape, or by the network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import denoise
from denoise.corruptions import parse
from denoise.corruptions.blur import Blur, convolve
from denoise.estimate.blur_kernel import agreement
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.models.sharpen import Sharpener, as_disk

Array = NDArray[Any]

PHOTOS = Path(__file__).parents[2] / "data" / "samples" / "reference" / "photos"


@pytest.fixture(scope="module")
def cleaner() -> Cleaner:
    return load("photo-sharp")


def sharpener(cleaner: Cleaner) -> Sharpener:
    assert isinstance(cleaner.model, Sharpener)
    return cleaner.model


def photo() -> Array:
    """Read a sharp crop, `(3, 176, 176)`, 8 bits: small, because the kernel costs most of the time."""
    return denoise.read(PHOTOS / "coffee.png")[0][:3, 84:260, 144:320]


def kernel_of(text: str, seed: int = 0) -> Array:
    blur = parse(text)
    assert isinstance(blur, Blur)
    return blur.kernel(torch.Generator().manual_seed(seed)).numpy()


def blurred(image: Array, kernel: Array, sigma: float) -> Array:
    moved = convolve(torch.from_numpy(image.astype(np.float32))[None], torch.from_numpy(kernel)[None])[
        0
    ].numpy()
    noise = np.random.default_rng(1).normal(0, sigma, image.shape)
    return np.clip(np.rint(moved + noise), 0, 255).astype(np.uint8)


def psnr_db(image: Array, other: Array) -> float:
    return float(10 * np.log10(255**2 / np.mean((image.astype(float) - other) ** 2)))


def test_a_shaken_photo_becomes_sharp(cleaner: Cleaner) -> None:
    kernel = kernel_of("shake:extent_px=13", 3)
    shaken = blurred(photo(), kernel, 1.0)
    found = sharpener(cleaner).free_blur(shaken, 255.0)
    assert found is not None
    assert agreement(found.kernel.numpy(), kernel) > 0.8
    result, _ = cleaner.apply(shaken, peak=255.0)
    assert psnr_db(result, photo()) > psnr_db(shaken, photo()) + 3


def test_a_sharp_photo_has_no_kernel(cleaner: Cleaner) -> None:
    assert sharpener(cleaner).free_blur(photo(), 255.0) is None


def test_two_kernels_that_contradict_each_other_confirm_no_blur(
    cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("denoise.models.sharpen.lens_blur", lambda *_: None)  # which would settle it
    soft = blurred(photo(), kernel_of("gaussian-blur:sigma_px=2"), 1.0)
    assert sharpener(cleaner).confirms_blur(soft, 255.0)
    wrong = kernel_of("shake:extent_px=20", 5)
    monkeypatch.setattr("denoise.models.sharpen.blur_kernel", lambda *_: wrong)
    other = soft[:, ::-1].copy()  # results are remembered for one page
    assert sharpener(cleaner).free_blur(other, 255.0) is None
    assert not sharpener(cleaner).confirms_blur(other, 255.0)


def test_a_photo_of_shallow_focus_confirms_no_blur(cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch) -> None:
    shaken = blurred(photo(), kernel_of("shake:extent_px=13", 3), 1.0)
    assert sharpener(cleaner).confirms_blur(shaken, 255.0)
    monkeypatch.setattr("denoise.models.sharpen.edge_spread", lambda *_: 1.7)
    other = shaken[:, ::-1].copy()  # results are remembered for one page
    assert not sharpener(cleaner).confirms_blur(other, 255.0)


@pytest.mark.parametrize("radius_px", [4.0, 6.5])
def test_a_lens_out_of_focus_is_undone_by_its_disk(cleaner: Cleaner, radius_px: float) -> None:
    disk = kernel_of(f"defocus:radius_px={radius_px}")
    soft = blurred(photo(), disk, 2.0)
    found = sharpener(cleaner).free_blur(soft, 255.0)
    assert found is not None
    assert agreement(found.kernel.numpy(), disk) > 0.98
    assert found.sigma == pytest.approx(2, abs=0.5)


def test_a_disk_is_recognised_and_a_path_is_not() -> None:
    disk, path = kernel_of("defocus:radius_px=5"), kernel_of("shake:extent_px=13", 3)
    rough = np.pad(disk, 3) + np.random.default_rng(0).uniform(0, 0.003, (disk.shape[0] + 6,) * 2)
    found = as_disk((rough / rough.sum()).astype(np.float32))
    assert agreement(found, disk) > 0.99
    assert as_disk(path) is path


def test_the_transposed_photo_decides_about_a_free_kernel(
    cleaner: Cleaner, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = kernel_of("shake:extent_px=13", 3), kernel_of("shake:extent_px=20", 5)
    shaken = blurred(photo(), path, 1.0)
    turned = path[::-1, ::-1].T.copy()
    moved = np.roll(np.pad(turned, 3), 3, 0)  # the same path, but the result would lie elsewhere
    # By the two free kernels and by the network's, whose result seems the sparsest, but which is no path.
    for second, used in ((turned, True), (other, False), (moved, False)):
        kernels, sparsities = iter([path, second]), iter([1.0, 1.0, 0.5])
        with monkeypatch.context() as patch:
            patch.setattr("denoise.models.sharpen.blur_kernel", lambda *_, of=kernels: next(of))
            patch.setattr("denoise.models.sharpen.normalised_sparsity", lambda *_, of=sparsities: next(of))
            shaken = shaken[:, ::-1].copy()  # results are remembered for one page
            found = sharpener(cleaner).free_blur(shaken, 255.0)
            assert (found is not None) == used
            assert sharpener(cleaner).confirms_blur(shaken, 255.0) == used
