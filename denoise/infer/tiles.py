"""Tile shapes: the largest that memory allows, with the least overlap.

The halo of a tile is computed twice. So few large tiles are fast, and small tiles need little memory: the
choice depends on the memory that a network may take.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from denoise.dsp.windows import padded
from denoise.machine import memory_bytes
from denoise.models.contract import Model

if TYPE_CHECKING:  # the model may run without torch
    from torch import nn

    from denoise.models.base import Denoiser

_PROBE_PX = 64  # side of the image for the measurement, unless the network's multiple is longer
_BAND_COPIES = 1.4  # measured: memory of a band, with what waits, relative to a whole run on as many pixels
_MIN_BAND_PX = 32  # rows; of fewer, most are computed again
_BANDS_PER_HALO = 5  # measured: bands as high as the halo cost a fifth more
_MORE_THREADS = 0.5  # gain by a second thread in one run, as a share of that by a second run
_COPIES_BEFORE = 2  # float32 values a channel while the network runs: the input read, and its memory layout
_COPIES_AFTER = 7  # and once it has run: those, its output, and the intermediate arrays of the result


@dataclass(frozen=True)
class Memory:
    """Memory limits for cleaning an image."""

    # for the page, its result and the network together, as far as `min_bytes` allows
    total_bytes: int = 672 * 2**20
    max_bytes: int = 224 * 2**20  # maximum for the network alone; beyond it larger tiles hardly gain
    min_bytes: int = 64 * 2**20  # minimum for the network alone, for pages of any size

    @property
    def is_short(self) -> bool:
        """True if there is less than usual, as in a small container."""
        return self.total_bytes < Memory.total_bytes

    def runs(self, threads: int) -> int:
        """Number of runs of the network side by side: one where memory is short."""
        return 1 if self.is_short else threads

    def for_network(self, held_bytes: int, runs: int = 1) -> int:
        """Memory left for each of some runs of the network beside a page and its result of `held_bytes`."""
        return min(self.max_bytes, max(self.min_bytes, (self.total_bytes - held_bytes) // runs))


# of a process that has loaded torch and a model, and of its other copies of a page
_OTHER_BYTES = 480 * 2**20
MEMORY = Memory(min(Memory.total_bytes, max(2 * Memory.min_bytes, memory_bytes() - _OTHER_BYTES)))


def tile_shape(height: int, width: int, halo: int, multiple_of: int, max_px: float) -> tuple[int, int]:
    """Select rows and columns to keep of one run: the least computation with runs of at most `max_px`.

    If even the smallest sensible tile (twice the halo) reads more, that is returned.
    """
    least = max(2 * halo, multiple_of, 16)
    best, best_area = None, 0
    rows = range(1, 1 + max(1, height // least))
    for across in range(1, 1 + max(1, width // least)):
        wide = _reads(width, across, halo, multiple_of)
        down = next((n for n in rows if wide * _reads(height, n, halo, multiple_of) <= max_px), None)
        if down is None:
            continue
        area = (width + 2 * halo * (across - 1)) * (height + 2 * halo * (down - 1))
        if best is None or area < best_area:
            best, best_area = (down, across), area
    down, across = best or (len(rows), max(1, width // least))
    return _kept(height, down, multiple_of), _kept(width, across, multiple_of)


def band_shape(
    height: int,
    width: int,
    halo: int,
    multiple_of: int,
    max_px: Callable[[int], float],
    threads: int,
    runs: int | None = None,
) -> tuple[int, int]:
    """Select the rows of a band and the columns to keep of a strip, for a run by bands of rows.

    Strips overlap, and each band computes again what the rows above lacked. Strips run side by side; the
    threads beyond one for each gain less.

    Args:
        max_px: Pixels that each of some strips side by side may hold.
        threads: To use in all.
        runs: Strips side by side at most; None is one a thread.
    """
    most = max(1, width // max(2 * halo, multiple_of))
    best = (math.inf, padded(_MIN_BAND_PX, multiple_of), _kept(width, most, multiple_of))
    for strips in range(1, 1 + most):
        wide, running = _reads(width, strips, halo, multiple_of), min(strips, runs or threads)
        speed = running * (1 + _MORE_THREADS * (threads / running - 1))
        lines = max_px(running) / _BAND_COPIES / wide - halo
        if lines < height:
            lines = lines // multiple_of * multiple_of
            if lines < _MIN_BAND_PX:
                continue
        again = 1 if lines >= height else 1 + halo / (_BANDS_PER_HALO * lines)
        cost = (width + 2 * halo * (strips - 1)) * again / speed
        best = min(best, (cost, int(min(lines, height)), _kept(width, strips, multiple_of)))
    return best[1:]


def _kept(size: int, parts: int, multiple_of: int) -> int:
    return padded(-(-size // parts), multiple_of)


def _reads(size: int, parts: int, halo: int, multiple_of: int) -> int:
    """Length of the longest read of N parts of an axis; a true edge has no halo."""
    cuts = min(parts - 1, 2)
    return padded(min(size, _kept(size, parts, multiple_of) + cuts * padded(halo, multiple_of)), multiple_of)


def bytes_per_pixel(model: Model) -> float:
    """Measure the memory of a run for each pixel that it reads, on a small image, once a model.

    A model without weights is a filter; its few arrays are counted as those of the tile itself.
    """
    copy = 4.0 * model.spec.channels
    found = model.bytes_per_px
    if found is None:
        if model not in _measured:
            _measured[model] = _measure(cast("Denoiser", model))
        found = _measured[model]
    return max(_COPIES_BEFORE * copy + found, _COPIES_AFTER * copy)


def _measure(model: Denoiser) -> float:
    import torch

    weight = next(model.parameters(), None)
    if weight is None:
        return 0.0
    side = padded(_PROBE_PX, model.spec.multiple_of)
    image = torch.zeros(1, model.spec.channels, side, side, device=weight.device)
    with torch.inference_mode(), _LiveBytes(model) as live:
        model(image.contiguous(memory_format=torch.channels_last))
    return live.peak / side**2


_measured: weakref.WeakKeyDictionary[Model, float] = weakref.WeakKeyDictionary()


class _LiveBytes:
    """Counts the bytes of the outputs of a network's layers while they are referenced."""

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
        from torch import Tensor

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
