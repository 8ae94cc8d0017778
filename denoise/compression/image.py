"""Compress an image array into coded numbers, and back."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from denoise import weights
from denoise.arrays import Array, Doubles
from denoise.compression import fixed_point
from denoise.compression.entropy import Decoder, Encoder, Integers, levels, logistic, mixture
from denoise.errors import UnreadableError, WeightsError
from denoise.models.image_codec import BLOCK, CELL, ImageCodec

WEIGHTS = Path(__file__).parent / "photo.safetensors"
QUALITIES = 255  # the highest; quality q of the file is q / 255 of the network
_TILE = 1024  # pixels per side that a network takes at once, without its halo
_HALO = 128  # pixels on each side; more than the receptive field of any of its parts
_MANY = 1 << 19  # coefficients that are coded at once
_ERROR_BITS = 24.0  # bits that a squared error of one step is worth, chosen on photos of the training


@dataclass(frozen=True)
class Coded:
    """Coded numbers of an image."""

    hyper: bytes  # the hyper-code
    coefficients: bytes
    excess: bytes  # of both, by how much numbers exceed their tables


class ImageCompressor:
    """The shipped codec, or that of a weights file."""

    def __init__(self, path: Path = WEIGHTS) -> None:
        model, _ = weights.load(path)
        if not isinstance(model, ImageCodec):
            raise WeightsError(f"{path}: is no codec of images; expected the architecture image-codec")
        self.model, self.digest = model, bytes.fromhex(weights.digest(path))[:4]

    @torch.no_grad()
    def encode(self, image: Array, quality: int) -> Coded:
        """Code an image `(3, H, W)`, uint8, at a quality of 0..255."""
        height, width = image.shape[1:]
        x = torch.from_numpy(np.pad(image, ((0, 0), (0, -height % CELL), (0, -width % CELL)), "edge"))[None]
        at = torch.tensor([quality / QUALITIES])
        (steps,) = _tiled(lambda part: (self.model.analyse(part.float() / 255, at),), x, 1, BLOCK)
        (hyper,) = _tiled(lambda part: (self.model.hyper_code(part, at),), steps, BLOCK, CELL)
        code = hyper.round().clamp(-(2.0**15), 2.0**15)
        location, level = self._distribution(code, quality)
        off = steps.sub_(location).clamp_(-(2.0**19), 2.0**19).numpy().ravel()
        del location
        first, second = Encoder(), Encoder()
        for channel, counts in zip(code.numpy()[0].astype(np.int32), self._prior, strict=True):
            first.add(channel.ravel(), counts)
        for table, chosen in _groups(level):
            second.add(_cheapest(off[chosen], logistic(table)), logistic(table))
        (coded, excess), (rest, more) = first.finish(), second.finish()
        return Coded(
            coded, rest, len(excess).to_bytes(4, "little") + excess + more if excess or more else b""
        )

    @torch.no_grad()
    def decode(self, coded: Coded, height: int, width: int, quality: int, *, exact: bool = False) -> Array:
        """Return the image `(3, H, W)`, uint8.

        Args:
            exact: In fixed point: slower, and the same to the last bit on every machine.

        Raises:
            UnreadableError: The numbers are damaged.
        """
        rows, columns = -(-height // CELL), -(-width // CELL)
        channels = len(self._prior)
        size = int.from_bytes(coded.excess[:4], "little")
        first = Decoder(coded.hyper, coded.excess[4 : 4 + size], channels * rows * columns)
        planes = [first.take(rows * columns, counts) for counts in self._prior]
        code = torch.from_numpy(np.stack(planes).reshape(1, channels, rows, columns)).double()
        location, level = self._distribution(code, quality)
        second = Decoder(coded.coefficients, coded.excess[4 + size :], level.size)
        numbers = np.empty(level.size, np.int32)
        for table, chosen in _groups(level):
            numbers[chosen] = second.take(len(chosen), logistic(table))
        steps = location.add_(torch.from_numpy(numbers.reshape(location.shape)))
        del numbers, level, second
        at = torch.tensor([quality / QUALITIES])

        def run(part: Tensor) -> tuple[Tensor]:
            x = self._exact(part, quality) if exact else self.model.synthesise(part, at)
            if not bool(torch.isfinite(x).all()):
                raise UnreadableError("its coded numbers are damaged")
            return ((255 * x).round_().clamp_(0, 255).to(torch.uint8),)

        (pixels,) = _tiled(run, steps, BLOCK, 1)
        return pixels[0, :, :height, :width].numpy()

    @functools.cached_property
    def _prior(self) -> list[Doubles]:
        """Tables of the channels of the hyper-code."""
        parts = self.model.prior.double().view(3, -1, 3).numpy()
        return [mixture(*parts[:, channel]) for channel in range(parts.shape[1])]

    def _row(self, table: Tensor, quality: int) -> Doubles:
        """Interpolate a table of the model, the same on every machine."""
        rows = table.double().view(self.model.config()["rates"], -1).numpy()
        place = quality * (len(rows) - 1) / QUALITIES
        low = min(int(place), len(rows) - 2)
        return rows[low] + (place - low) * (rows[low + 1] - rows[low])

    def _distribution(self, code: Tensor, quality: int) -> tuple[Tensor, Array]:
        """Return the location of each coefficient, in steps, and the table of each, uint8, in order."""
        factor = fixed_point.on_grid(
            torch.from_numpy(fixed_point.exp(-self._row(self.model.log_hyper, quality)))
        )
        scale = self._row(self.model.log_scale, quality)

        def run(part: Tensor) -> tuple[Tensor, Tensor]:
            features = fixed_point.on_grid(part.double() * factor[:, None, None])
            location, spread = fixed_point.evaluate(self.model.hyper_synthesis, features).chunk(2, 1)
            table = levels(spread.numpy() + scale[:, None, None])
            # Locations are multiples of 2^-12 below 2^12, which float32 holds.
            return location.float(), torch.from_numpy(table.astype(np.uint8))

        location, level = _tiled(run, code, CELL, BLOCK)
        return location, level.numpy().ravel()

    def _exact(self, steps: Tensor, quality: int) -> Tensor:
        """Synthesise in fixed point."""
        model, on_grid, run = self.model, fixed_point.on_grid, fixed_point.evaluate

        def factor(table: Tensor) -> Tensor:
            return torch.from_numpy(fixed_point.exp(self._row(table, quality)))[:, None, None]

        features = run([model.synthesis_head], on_grid(steps * factor(model.log_input)))
        features = run(model.synthesis, on_grid(features * factor(model.log_coarse)))
        correction = run([model.synthesis_tail], on_grid(features * factor(model.log_fine)))
        linear = on_grid(steps * factor(model.log_inverse))
        linear = F.conv_transpose2d(linear, model.basis.double(), stride=BLOCK) / 255 + 0.5
        return linear + F.pixel_shuffle(correction * factor(model.log_tail), 4)


def _cheapest(values: Array, counts: Doubles) -> Integers:
    """Round to the nearest integer, or the next towards zero where bits and error together cost less."""
    bits, reach = -np.log2(counts / counts.sum()), len(counts) // 2
    nearest = np.rint(values)
    lower = nearest - np.sign(nearest)

    def cost(number: Array) -> Doubles:
        coded = bits[np.clip(number, -reach, reach).astype(int) + reach]
        return coded + _ERROR_BITS * np.square(values - number)

    return np.where(cost(lower) < cost(nearest), lower, nearest).astype(np.int32)


def _groups(level: Array) -> Iterator[tuple[int, Array]]:
    """Yield each table that is used, with the places of its numbers, some at a time."""
    blocks = range(0, level.size, _MANY)
    for table in sorted({int(each) for start in blocks for each in np.unique(level[start : start + _MANY])}):
        for start in blocks:
            found = np.flatnonzero(level[start : start + _MANY] == table)
            if found.size:
                yield table, start + found


def _tiled(
    run: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, cell_in: int, cell_out: int
) -> tuple[Tensor, ...]:
    """Run a network on tiles, each with a halo, whose parts in the middle are those of the whole.

    Args:
        cell_in: Pixels per value of the input on each axis.
        cell_out: Pixels per value of the output.
    """
    height, width = (side * cell_in for side in x.shape[2:])
    whole: tuple[Tensor, ...] = ()
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            y0, x0 = max(top - _HALO, 0), max(left - _HALO, 0)
            y1, x1 = min(top + _TILE + _HALO, height), min(left + _TILE + _HALO, width)
            part = x[:, :, y0 // cell_in : y1 // cell_in, x0 // cell_in : x1 // cell_in]
            made = run(part.contiguous(memory_format=torch.channels_last))
            size = height // cell_out, width // cell_out
            whole = whole or tuple(tile.new_empty(1, tile.shape[1], *size) for tile in made)
            bottom, right = min(top + _TILE, height), min(left + _TILE, width)
            rows = slice((top - y0) // cell_out, (bottom - y0) // cell_out)
            columns = slice((left - x0) // cell_out, (right - x0) // cell_out)
            place = slice(top // cell_out, bottom // cell_out), slice(left // cell_out, right // cell_out)
            for canvas, tile in zip(whole, made, strict=True):
                canvas[:, :, *place] = tile[:, :, rows, columns]
    return whole
