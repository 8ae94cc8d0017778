"""Which tiles an image is cut into: the largest that memory allows, in the shape that wastes least.

What a tile reads beyond what it keeps is computed twice. So few large tiles are fast, and small tiles are
small: the choice is how much memory a network may hold while it runs.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from denoise.dsp.windows import padded
from denoise.models.base import Denoiser

__all__ = ["MEMORY", "Memory", "bytes_per_pixel", "tile_shape"]

_PROBE_PX = 64  # side of the image that a network is measured on, where its multiple is not longer
_COPIES_BEFORE = 2  # float32 values a channel while the network runs: of what was read, and as it lies for it
_COPIES_AFTER = 7  # and once it has run: those, its answer, and what the result is computed through


@dataclass(frozen=True)
class Memory:
    """What an image may take while it is cleaned.

    Args:
        total_bytes: Of the page, its result and the network together, as far as `least_bytes` lets it.
        most_bytes: For the network alone; beyond it larger tiles hardly gain.
        least_bytes: For the network alone, however large the page is.
    """

    total_bytes: int = 672 * 2**20
    most_bytes: int = 224 * 2**20
    least_bytes: int = 64 * 2**20

    def for_network(self, held_bytes: int) -> int:
        """What is left beside a page and its result of `held_bytes`."""
        return min(self.most_bytes, max(self.least_bytes, self.total_bytes - held_bytes))


MEMORY = Memory()


def tile_shape(height: int, width: int, halo: int, multiple_of: int, most_px: float) -> tuple[int, int]:
    """Rows and columns to keep of one run, so that the least is computed and no run reads over `most_px`.

    Where even the smallest sensible tile (twice the halo) reads more, that is the answer.
    """
    least = max(2 * halo, multiple_of, 16)
    best, best_area = None, 0
    rows = range(1, 1 + max(1, height // least))
    for across in range(1, 1 + max(1, width // least)):
        wide = _reads(width, across, halo, multiple_of)
        down = next((n for n in rows if wide * _reads(height, n, halo, multiple_of) <= most_px), None)
        if down is None:
            continue
        area = (width + 2 * halo * (across - 1)) * (height + 2 * halo * (down - 1))
        if best is None or area < best_area:
            best, best_area = (down, across), area
    down, across = best or (len(rows), max(1, width // least))
    return _kept(height, down, multiple_of), _kept(width, across, multiple_of)


def _kept(size: int, parts: int, multiple_of: int) -> int:
    return padded(-(-size // parts), multiple_of)


def _reads(size: int, parts: int, halo: int, multiple_of: int) -> int:
    """The longest that any of so many parts of an axis reads; a true edge has no halo."""
    cuts = min(parts - 1, 2)
    return padded(min(size, _kept(size, parts, multiple_of) + cuts * padded(halo, multiple_of)), multiple_of)


def bytes_per_pixel(model: Denoiser) -> float:
    """How much memory a run needs for each pixel that it reads; measured on a small image, once a model.

    A model without weights is a filter, for whose few arrays those of the tile itself stand.
    """
    copy = 4.0 * model.spec.channels
    weight = next(model.parameters(), None)
    if weight is None:
        return _COPIES_AFTER * copy
    if model not in _measured:
        side = padded(_PROBE_PX, model.spec.multiple_of)
        image = torch.zeros(1, model.spec.channels, side, side, device=weight.device)
        with torch.inference_mode(), _LiveBytes(model) as live:
            model(image.contiguous(memory_format=torch.channels_last))
        _measured[model] = live.peak / side**2
    return max(_COPIES_BEFORE * copy + _measured[model], _COPIES_AFTER * copy)


_measured: weakref.WeakKeyDictionary[Denoiser, float] = weakref.WeakKeyDictionary()


class _LiveBytes:
    """Counts the bytes of what the layers of a network give, for as long as something refers to them."""

    def __init__(self, model: nn.Module) -> None:
        self.peak = self._now = 0
        self._held: set[int] = set()
        self._hooks = [layer.register_forward_hook(self._hold) for layer in model.modules()]

    def __enter__(self) -> _LiveBytes:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _hold(self, _layer: nn.Module, _inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        storage = output.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key not in self._held:
            self._held.add(key)
            self._now += size
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._held.discard(key)
        self._now -= size
