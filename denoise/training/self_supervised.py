"""Self-supervised (noisy, target) patches from a user's own files.

| method | needs | input and target of a patch |
|---|---|---|
| pairs | a clean file per noisy one | the file, the same part of the clean file |
| shots | several shots of one scene in a folder | one shot, another shot (Lehtinen et al. 2018) |
| neighbours | noise correlated along one axis | every second line, the lines between (Huang et al. 2021) |
| recorrupted | white noise | y + n/2, y - 2n with added noise n (Pang et al. 2021) |

If the noise of the target is independent of that of the input, a network that predicts the target predicts
the signal that both share, and the better predictor is the better denoiser. So the methods differ in their
patches only, and held-out data is scored the way it is trained. A wrong noise estimate would bias the score
as it biases training: a method that relies on one is cross-checked with `neighbours`, which needs none.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from denoise import io
from denoise.arrays import Floats
from denoise.errors import DenoiseError, InputError
from denoise.estimate import white_noise_sigma
from denoise.io.formats import readable_suffixes
from denoise.models.base import InputSpec
from denoise.signal import MODALITIES
from denoise.training.data import Pair

MIN_SIDE = 64  # pixels or samples a side; smaller files are skipped
_MAX_VALUES = 2**28  # float32 values of all files together (1 GiB); larger files are cropped to their centre
_MAX_FILES = 256
_MAX_SHOTS = 16  # per scene, and scenes with repeated shots
# Two files show the same scene if the power of their coarse difference is at most these shares: of the
# difference between two scenes, and of the whole difference, which is mostly fine-grained noise.
_SAME_SCENE, _COARSE_NOISE = 0.1, 0.5
_COARSE = 8  # averaging cell, pixels or samples a side, that suppresses noise and keeps the scene
_HELD_OUT = 5  # one scene in N is held out, or one N-th of a single scene
_MAX_PAIRS = 16
_MAX_SIDE = {2: 384, 1: 2**16}  # of a held-out pair, by number of axes
_TAPS = (-1 / 16, 9 / 16, 9 / 16, -1 / 16)  # cubic interpolation of a line from two on either side
_FIRST = len(_TAPS) - 1  # first line with two neighbours on either side
_MARGIN = 2 * _FIRST - 1  # extra lines of a window beyond two per line of a patch
_ADDED_SHARE = 0.5  # of the drawn noise, added to the input


@dataclass(frozen=True)
class Scene:
    """One recorded subject.

    Shape:
        `takes` is `(takes, C, *S)`, `noise` is `(2, C)`.
    """

    name: str  # name of its file, or of the folder of its shots
    # noisy and clean, all shots, or the single noisy recording, on the scale of the model's input
    takes: Floats
    sample_rate: float | None = None  # Hz, for signals
    noise: Floats | None = None  # noise variance of each channel at value zero, and its slope over the value


# ---- target methods --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TargetMethod:
    """A way to derive input and target."""

    description: str  # one phrase for the report
    split: Callable[[_Window], tuple[Tensor, Tensor]]  # derives both from a window of a scene's takes
    shrinks: bool = False  # whether input and target have half the lines of the window along an axis
    cross_check: str = ""  # second method to score by, if this one relies on a noise estimate

    def window_side(self, side: int) -> int:
        """Return the number of lines of a window that yields patches of `side` lines."""
        return 2 * side + _MARGIN if self.shrinks else side


@dataclass(frozen=True)
class _Window:
    """A crop of a scene, `(takes, C, *S)`, with the parameters of its split."""

    takes: Tensor
    noise: Tensor  # (2, C)
    axis: int
    generator: Generator


def _pairs(window: _Window) -> tuple[Tensor, Tensor]:
    return window.takes[0], window.takes[1]


def _shots(window: _Window) -> tuple[Tensor, Tensor]:
    one, other = torch.randperm(len(window.takes), generator=window.generator)[:2].tolist()
    return window.takes[one], window.takes[other]


def _neighbours(window: _Window) -> tuple[Tensor, Tensor]:
    """Return every second line, and the same lines interpolated from those between."""
    lines = window.takes[0].movedim(window.axis, 0)
    count = (len(lines) - _MARGIN) // 2
    target = torch.stack([tap * lines[2 * i :: 2][:count] for i, tap in enumerate(_TAPS)]).sum(0)
    return lines[_FIRST::2][:count].movedim(0, window.axis), target.movedim(0, window.axis)


def _recorrupted(window: _Window) -> tuple[Tensor, Tensor]:
    """Add drawn noise to the input and subtract it from the target, which decorrelates their noise.

    The variance is linear in the noisy value, so its expectation is the variance at the signal.
    """
    noisy = window.takes[0]
    offset, slope = (part.view(-1, *[1] * (noisy.ndim - 1)) for part in window.noise)
    variance = (offset + slope * noisy).clamp(min=0)
    added = variance.sqrt() * torch.randn(noisy.shape, generator=window.generator)
    return noisy + _ADDED_SHARE * added, noisy - added / _ADDED_SHARE


TARGET_METHODS: Mapping[str, TargetMethod] = {
    "pairs": TargetMethod("learned from clean files", _pairs),
    "shots": TargetMethod("learned from repeated shots (Noise2Noise)", _shots),
    "neighbours": TargetMethod("learned from neighbouring lines (Neighbor2Neighbor)", _neighbours, True),
    "recorrupted": TargetMethod(
        "learned from added white noise (Recorrupted-to-Recorrupted)", _recorrupted, cross_check="neighbours"
    ),
}


class SelfSupervisedPatches:
    """Seeded batches of `(noisy, target)` from scenes (implements `denoise.training.data.Batches`).

    Args:
        scenes: Scenes to draw from, in proportion to their size.
        method: A row of `TARGET_METHODS`.
        axes: Axes along which the method may split, of the takes without their first axis.
        side: Patch side in pixels or samples.
        flip: Mirror images and invert signals at random; no quarter turns, as the noise may have a direction.
    """

    def __init__(
        self, scenes: Sequence[Scene], method: str, axes: Sequence[int], side: int, channels: int, flip: bool
    ) -> None:
        self.scenes, self.method, self.axes = scenes, TARGET_METHODS[method], axes
        self.side, self.channels, self.flip = side, channels, flip
        self.files = sum(len(scene.takes) for scene in scenes)
        self.skipped: tuple[str, ...] = ()
        self.digest = _digest(scenes)
        self.weights = torch.tensor([float(scene.takes[0].size) for scene in scenes])

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw `size` patches: noisy and target, `(size, channels, *patch)` each."""
        picks = torch.multinomial(self.weights, size, replacement=True, generator=generator).tolist()
        drawn = [self._patch(self.scenes[i], generator) for i in picks]
        noisy, target = (torch.stack(side) for side in zip(*drawn, strict=True))
        return noisy, target

    def _patch(self, scene: Scene, generator: Generator) -> tuple[Tensor, Tensor]:
        def below(limit: int) -> int:
            return int(torch.randint(limit, (), generator=generator))

        axis = self.axes[below(len(self.axes))]
        count, *shape = scene.takes.shape[1:]
        sides = [self.side] * len(shape)
        sides[axis - 1] = self.method.window_side(self.side)
        starts = [below(n - side + 1) for n, side in zip(shape, sides, strict=True)]
        cut = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        pick = below(count)
        channels = slice(None) if count == self.channels else slice(pick, pick + 1)
        patches = self.method.split(_window(scene, channels, cut, axis, generator))
        mirrored = [a for a in (1, 2) if self.flip and len(shape) == 2 and below(2)]
        sign = -1 if self.flip and len(shape) == 1 and below(2) else 1
        noisy, target = (
            sign * patch.flip(mirrored).expand(self.channels, *patch.shape[1:]) for patch in patches
        )
        return noisy, target


def _window(
    scene: Scene, channels: slice, cut: tuple[slice, ...], axis: int, generator: Generator
) -> _Window:
    takes = torch.from_numpy(scene.takes[(slice(None), channels, *cut)])
    noise = np.zeros((2, scene.takes.shape[1]), np.float32) if scene.noise is None else scene.noise
    return _Window(takes, torch.from_numpy(noise[:, channels]), axis, generator)


def _digest(scenes: Sequence[Scene]) -> str:
    seen = hashlib.sha256()
    for scene in scenes:
        seen.update(f"{scene.name} {scene.takes.shape}".encode())
        seen.update(np.ascontiguousarray(scene.takes).data)
    return seen.hexdigest()


def held_out(scenes: Sequence[Scene], method: str, axes: Sequence[int]) -> list[Pair]:
    """Return the `(noisy, target, Hz)` pairs to score on: the centres of up to 16 scenes."""
    scenes = _spread(scenes, _MAX_PAIRS)
    found: list[Pair] = []
    generator = torch.Generator().manual_seed(0)
    for scene, axis in zip(scenes, itertools.cycle(axes), strict=False):
        shape = scene.takes.shape[2:]
        cut = _middle(shape, TARGET_METHODS[method].window_side(_MAX_SIDE[len(shape)]))
        noisy, target = TARGET_METHODS[method].split(_window(scene, slice(None), cut, axis, generator))
        found.append((noisy.contiguous().numpy(), target.contiguous().numpy(), scene.sample_rate))
    return found


def _middle(shape: Sequence[int], side: int) -> tuple[slice, ...]:
    return tuple(slice((n - min(n, side)) // 2, (n + min(n, side)) // 2) for n in shape)


def divide(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Scene]]:
    """Split scenes for training and scoring: every fifth is held out, or the last fifth of a single one."""
    if len(scenes) > 1:
        judged = scenes[_HELD_OUT // 2 :: _HELD_OUT] or scenes[-1:]
        return [scene for scene in scenes if not any(scene is other for other in judged)], list(judged)
    (scene,) = scenes
    axis = 2 + int(np.argmax(scene.takes.shape[2:]))
    cut = scene.takes.shape[axis] * (_HELD_OUT - 1) // _HELD_OUT
    parts = np.split(scene.takes, [cut], axis)
    learned, judged = ([replace(scene, takes=part)] for part in parts)
    return learned, judged


def max_patch_side(scene: Scene, method: str, axes: Sequence[int]) -> int:
    """Return the side of the largest patch that fits a scene."""
    sides = list(scene.takes.shape[2:])
    if TARGET_METHODS[method].shrinks:
        sides += [(scene.takes.shape[1 + axis] - _MARGIN) // 2 for axis in axes]
    return int(min(sides))


# ---- the noise -------------------------------------------------------------------------------------------

_BLOCK = {2: 16, 1: 32}  # pixels or samples a side, by number of axes
_FLAT_SHARE = 0.1  # of the blocks, taken to hold next to nothing but noise
_MAX_CLIPPED = 0.03  # share of values at the ends of the range; blocks above it are skipped
_LAGS = (1, 2, 3)
_MAX_BLOCKS = 10_000  # per channel


def correlation(scenes: Sequence[Scene], axis: int) -> float:
    """Estimate the correlation, -1 to 1, of the noise of neighbouring lines along an axis.

    Measured on the detrended flattest blocks; of the lags 1 to 3, the value farthest from zero.
    """
    products, power = np.zeros(len(_LAGS)), 0.0
    for scene in scenes:
        for channel in scene.takes[0]:
            flat = _flattest(channel)[0].swapaxes(1, axis)
            power += float(np.square(flat).mean())
            products += [float((flat[:, lag:] * flat[:, :-lag]).mean()) for lag in _LAGS]
    found = products / max(power, 1e-30)
    return float(found[np.argmax(np.abs(found))])


def with_noise_model(scene: Scene) -> Scene:
    """Return the scene with its noise variance; in images it may grow with the value, as shot noise does.

    The finest wavelet details of the whole give its strength, the flattest blocks its slope.
    """
    found = []
    for channel in scene.takes[0]:
        offset, slope = 1.0, 0.0
        if channel.ndim == 2:
            flat, level = _flattest(channel)
            variance = flat.var((1, 2))
            slope = max(0.0, float(((level - level.mean()) * variance).mean() / max(level.var(), 1e-12)))
            offset = float(variance.mean() - slope * level.mean())
        typical = max(offset + slope * float(channel.mean()), 1e-12)
        strength = white_noise_sigma(channel) ** 2 / typical
        found.append((strength * offset, strength * slope))
    return replace(scene, noise=np.array(found, np.float32).T.copy())


def _flattest(channel: Floats) -> tuple[Floats, Floats]:
    """Return the detrended blocks of a channel that vary least between their cells, and their means."""
    ndim, side = channel.ndim, _BLOCK[channel.ndim]
    axes = tuple(range(1, ndim + 1))
    windows = np.lib.stride_tricks.sliding_window_view(channel, (side,) * ndim)
    step = max(side // 2, math.ceil((channel.size / _MAX_BLOCKS) ** (1 / ndim)))
    blocks = windows[(slice(None, None, step),) * ndim].reshape(-1, *(side,) * ndim)
    clipped = ((blocks == channel.min()) | (blocks == channel.max())).mean(axes) > _MAX_CLIPPED
    blocks = blocks[~clipped] if not clipped.all() else blocks
    slope = (np.arange(side) - (side - 1) / 2).astype(np.float32)
    slope /= np.linalg.norm(slope)
    level = blocks.mean(axes)
    blocks = blocks - blocks.mean(axes, keepdims=True)
    for axis in axes:
        line = slope.reshape([-1 if a == axis else 1 for a in range(ndim + 1)])
        across = tuple(a for a in axes if a != axis)
        blocks = blocks - line * (blocks * line).sum(axis, keepdims=True).mean(across, keepdims=True)
    cells = blocks.reshape(len(blocks), *(4, side // 4) * ndim)
    coarse = np.square(cells.mean(tuple(range(2, cells.ndim, 2)))).reshape(len(blocks), -1).mean(1)
    chosen = np.argsort(coarse)[: max(1, round(_FLAT_SHARE * len(blocks)))]
    return blocks[chosen], level[chosen]


# ---- files -----------------------------------------------------------------------------------------------


def modalities(folder: Path) -> list[str]:
    """List the modalities of the files below a folder.

    Raises:
        InputError: No file can be read.
    """
    suffixes = {path.suffix.lower() for path in folder.glob("**/*") if path.is_file()}
    found = [m.name for m in MODALITIES.values() if suffixes & set(readable_suffixes(m.name))]
    if not found:
        raise InputError(f"{folder}: holds no images, recordings or sensor logs to adapt to")
    return found


def read(folder: Path, spec: InputSpec, clean: Path | None = None) -> tuple[str, list[Scene], list[str]]:
    """Read scenes, and return the target method they allow, the scenes, and notes on skipped files.

    The method is empty if there is a single noisy file per scene: then the noise decides (see `adapt`).

    Args:
        folder: Folder of noisy files. Files of one folder that show the same scene are repeated shots.
        spec: Input specification of the model to adapt.
        clean: Folder of clean files with the same relative names.

    Raises:
        InputError: No file is usable.
    """
    suffixes = readable_suffixes(spec.modality)
    files = sorted(p for p in folder.glob("**/*") if p.suffix.lower() in suffixes and p.is_file())
    if not files:
        raise InputError(f"{folder}: holds no {spec.modality} files, expected noisy ones to adapt to")
    reader = _Reader(spec, min(len(files), _MAX_FILES) * (2 if clean else 1))
    if clean:
        scenes = [
            scene for path in _spread(files) if (scene := reader.pair(path, clean / path.relative_to(folder)))
        ]
        method = "pairs"
    else:
        groups = [list(group) for _, group in itertools.groupby(files, key=lambda path: path.parent)]
        shots = [scene for group in _spread(groups, _MAX_SHOTS) if (scene := reader.shots(group))]
        method = "shots" if shots else ""
        scenes = shots or [scene for path in _spread(files) if (scene := reader.single(path))]
        unused = len(files) - sum(len(scene.takes) for scene in shots)
        if shots and unused:
            reader.notes.append(
                f"{folder}: {unused} files skipped: no repeated shots of the first, or over {_MAX_SHOTS}"
            )
    if not scenes:
        raise InputError(f"{folder}: {reader.notes[0]}")
    return method, scenes, reader.notes


def _spread(found: Sequence[Any], max_count: int = _MAX_FILES) -> Sequence[Any]:
    return found[:: max(1, -(-len(found) // max_count))]


class _Reader:
    """Reader of takes, cropped to a share of `_MAX_VALUES`, that collects notes on unusable files."""

    def __init__(self, spec: InputSpec, files: int) -> None:
        self.spec = spec
        self.max_values = _MAX_VALUES // files
        self.notes: list[str] = []

    def single(self, path: Path) -> Scene | None:
        take = self._read(path)
        return take and self._scene(path.name, [take[0]], take[1])

    def pair(self, path: Path, clean: Path) -> Scene | None:
        noisy, target = self._read(path), self._read(clean)
        if not noisy or not target:
            return None
        if noisy[0].shape != target[0].shape:
            self.notes.append(f"{path}: has shape {noisy[0].shape}, its clean file {target[0].shape}")
            return None
        return self._scene(path.name, [noisy[0], target[0]], noisy[1])

    def shots(self, files: Sequence[Path]) -> Scene | None:
        """Read the files of a folder that show the scene of its first one, if the second does."""
        if len(files) < 2 or not (first := self._read(files[0])):
            return None
        takes = [first[0]]
        for path in files[1:_MAX_SHOTS]:
            take = self._read(path)
            if take and take[0].shape == first[0].shape and _same_scene(first[0], take[0]):
                takes.append(take[0])
            elif len(takes) == 1:
                return None
        return self._scene(files[0].parent.name, takes, first[1])

    def _scene(self, name: str, takes: list[Floats], rate: float | None) -> Scene:
        stacked = np.stack(takes)
        if self.spec.scale:  # standardise signals as the model's caller does
            mean, deviation = takes[0].mean(-1, keepdims=True), takes[0].std(-1, keepdims=True)
            stacked = (stacked - mean) / np.maximum(deviation, 1e-12)
        return Scene(name, stacked, rate)

    def _read(self, path: Path) -> tuple[Floats, float | None] | None:
        try:
            array, info = io.read(path)
        except DenoiseError as error:
            self.notes.append(str(error))
            return None
        array, rate = array[: array.shape[0] - info.passthrough_channels], info.sample_rate
        side = round((self.max_values / len(array)) ** (1 / self.spec.ndim))
        array = array[(slice(None), *_middle(array.shape[1:], side))].astype(np.float32) / np.float32(
            info.peak or 1.0
        )
        if self.spec.sample_rate and rate and rate != self.spec.sample_rate:
            from denoise.dsp.resample import resample

            array, rate = resample(array, rate, self.spec.sample_rate), self.spec.sample_rate
        if not np.isfinite(array).all():
            self.notes.append(f"{path}: holds NaN or infinite samples, expected finite ones")
        elif min(array.shape[1:]) < MIN_SIDE:
            self.notes.append(f"{path}: has shape {array.shape[1:]}, expected at least {MIN_SIDE} a side")
        else:
            return array, rate
        return None


def _same_scene(one: Floats, other: Floats) -> bool:
    """Tell whether two recordings differ by fine-grained noise alone."""

    def coarse(take: Floats) -> Floats:
        for axis in range(1, take.ndim):
            count = take.shape[axis] // _COARSE * _COARSE
            take = np.take(take, range(count), axis)
            take = take.reshape(*take.shape[:axis], -1, _COARSE, *take.shape[axis + 1 :]).mean(axis + 1)
        return take

    first, second = coarse(one), coarse(other)
    axes = tuple(range(1, first.ndim))
    coarse_difference = (first - second).var(axes).sum()
    scenes, difference = first.var(axes).sum() + second.var(axes).sum(), (one - other).var(axes).sum()
    return bool(coarse_difference < min(_SAME_SCENE * scenes, _COARSE_NOISE * difference))
