"""bfloat16 inference, for CPUs that are faster with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from denoise.errors import UsageError
from denoise.infer.cleaner import Cleaner
from denoise.infer.selection import Selector
from denoise.models.base import Denoiser
from denoise.models.table import PRECISIONS

__all__ = ["Bfloat16", "at_precision", "has_bf16"]


class Bfloat16(Denoiser):
    """Runs the layers of a network in bfloat16: 8 bits of mantissa, half the memory, sums in float32.

    A network that predicts the noise subtracts it from an input of full precision, so the image itself is not
    rounded; an error of 0.4 % of the noise is far below what the network leaves.
    """

    def __init__(self, model: Denoiser) -> None:
        super().__init__()
        self.model, self.spec = model, model.spec

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise a batch; float32 in and out."""
        with torch.autocast(noisy.device.type, torch.bfloat16):
            denoised: Tensor = self.model(noisy)
        return denoised.float()

    def confirms_blur(self, page: NDArray[Any], peak: float) -> bool:
        """Ask the model."""
        return self.model.confirms_blur(page, peak)

    def blur_width_px(self, page: NDArray[Any], peak: float) -> float:
        """Ask the model."""
        return self.model.blur_width_px(page, peak)

    def prepare(self, page: NDArray[Any], peak: float) -> Denoiser:
        """Prepare the model for a page."""
        return Bfloat16(self.model.prepare(page, peak)).eval()


def at_precision(cleaner: Cleaner, precision: str) -> Cleaner:
    """Return the cleaner at one of `PRECISIONS`, with a note if that brings no gain.

    Raises:
        UsageError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    if precision == PRECISIONS[0]:
        return cleaner
    selector = cleaner.selector
    if cleaner.spec.modality != "image" or not (selector or _is_trained(cleaner.denoiser)):
        note = f"{precision} is for trained models of images: {cleaner.name} worked in {PRECISIONS[0]}"
        return replace(cleaner, notes=(*cleaner.notes, note))
    note = f"this CPU has no native {precision}, so it is slower than {PRECISIONS[0]} here"
    model: Denoiser | Selector = (
        _reduced(cleaner.denoiser)
        if not selector
        else type(selector)({name: _reduced(pick) for name, pick in selector.models.items()})
    )
    return replace(
        cleaner,
        model=model,
        digest=f"{cleaner.digest}+{precision}",
        notes=cleaner.notes if has_bf16() else (*cleaner.notes, note),
    )


def has_bf16() -> bool:
    """Return whether the processor has native bfloat16 (AVX512-BF16, AMX, or Arm's)."""
    if torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _is_trained(model: Denoiser) -> bool:
    return next(model.parameters(), None) is not None


def _reduced(model: Denoiser) -> Denoiser:
    return Bfloat16(model).eval() if _is_trained(model) else model
