"""A user's own noisy files become (noisy, target) patches: with clean files, with repeated shots, or alone.

| way | what is there | the input of a patch, and its target |
|---|---|---|
| pairs | a clean file for each noisy one | itself, and the same part of the clean file |
| shots | several shots of one scene in a folder | itself, and another shot (Lehtinen et al. 2018) |
| neighbours | noise smeared along one axis | every second line, and those between (Huang et al. 2021) |
| recorrupted | white noise | noisier by n, and less so by as much: y + n/2, y - 2n (Pang et al. 2021) |

Where the noise of the target has nothing to do with that of the input, a network that learns to predict the
target learns to predict what both share, the signal; and the better of two networks is the one that predicts
the target better. So the ways differ in their patches only, and what is held out is judged as it is trained.
A wrong estimate of the noise would mislead the judge as it does the training: where there is one, neighbours,
which need none, must agree.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from denoise import io
from denoise.errors import DenoiseError, InputError
from denoise.estimate import white_noise_sigma
from denoise.models.base import InputSpec
from denoise.signal import MODALITIES
from denoise.training.data import Pair

__all__ = [
    "WAYS",
    "OwnPatches",
    "Scene",
    "correlation",
    "divide",
    "held_out",
    "longest_side",
    "modalities",
    "read",
    "with_noise",
]

Array = NDArray[np.float32]

LEAST = 64  # pixels or samples a side; smaller files are left out
_MOST_VALUES = 2**28  # of all files together, as float32: a gibibyte; of larger files their middle is taken
_MOST_FILES = 256
_MOST_SHOTS = 16  # of a scene, and scenes of them
# Of two shots of a scene the coarse difference has this share of the power at most: of what two scenes differ
# by, and of their whole difference, which is noise and mostly fine.
_SAME_SCENE, _COARSE_NOISE = 0.1, 0.5
_COARSE = 8  # pixels or samples a side over which is averaged, so that mostly the scene is left
_HELD_OUT = 5  # one scene of so many is held out, or that part of a single one
_MOST_PAIRS = 16
_MOST_SIDE = MappingProxyType({2: 384, 1: 2**16})  # of a held-out pair, by number of axes
_TAPS = (-1 / 16, 9 / 16, 9 / 16, -1 / 16)  # a line from the two before and the two behind it: cubic
_FIRST = len(_TAPS) - 1  # of the lines that have two on each side
_MARGIN = 2 * _FIRST - 1  # lines beyond two for each one of a patch
_MORE = 0.5  # of the noise that is added to the input


@dataclass(frozen=True)
class Scene:
    """One thing that was recorded.

    Args:
        name: Of its file, or of the folder of its shots.
        takes: Noisy and clean, or all shots, or the one noisy recording, in the scale that the model sees.
        sample_rate: Hz, of signals.
        noise: Variance of the noise of each channel at zero, and by how much it grows with the value.

    Shape:
        `takes` is `(takes, C, *S)`, `noise` is `(2, C)`.
    """

    name: str
    takes: Array
    sample_rate: float | None = None
    noise: Array | None = None


# ---- the ways --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How input and target are found.

    Args:
        told: What is done, for the report.
        split: Gives both from a window of a scene's takes.
        shrinks: Whether they have half as many lines along an axis.
        judge: The way by which a model is judged as well, where its own relies on an estimate of the noise.
    """

    told: str
    split: Callable[[_Window], tuple[Tensor, Tensor]]
    shrinks: bool = False
    judge: str = ""

    def reach(self, side: int) -> int:
        """Lines of a window from which patches of `side` lines can be split."""
        return 2 * side + _MARGIN if self.shrinks else side


@dataclass(frozen=True)
class _Window:
    """A part of a scene, `(takes, C, *S)`, and what decides how it is split."""

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
    """Every second line, and the same lines as those between them tell."""
    lines = window.takes[0].movedim(window.axis, 0)
    count = (len(lines) - _MARGIN) // 2
    target = torch.stack([tap * lines[2 * i :: 2][:count] for i, tap in enumerate(_TAPS)]).sum(0)
    return lines[_FIRST::2][:count].movedim(0, window.axis), target.movedim(0, window.axis)


def _recorrupted(window: _Window) -> tuple[Tensor, Tensor]:
    """With noise of the same variance added to the input and taken from the target, they share none.

    The variance is linear in the noisy value, so its mean is that at the signal.
    """
    noisy = window.takes[0]
    least, growth = (part.view(-1, *[1] * (noisy.ndim - 1)) for part in window.noise)
    variance = (least + growth * noisy).clamp(min=0)
    added = variance.sqrt() * torch.randn(noisy.shape, generator=window.generator)
    return noisy + _MORE * added, noisy - added / _MORE


WAYS: Mapping[str, Way] = MappingProxyType(
    {
        "pairs": Way("learned from clean files", _pairs),
        "shots": Way("learned from repeated shots (Noise2Noise)", _shots),
        "neighbours": Way("learned from neighbouring lines (Neighbor2Neighbor)", _neighbours, True),
        "recorrupted": Way(
            "learned from added white noise (Recorrupted-to-Recorrupted)", _recorrupted, judge="neighbours"
        ),
    }
)


class OwnPatches:
    """Seeded batches of `(noisy, target)` from scenes: `denoise.training.data.Batches`.

    Args:
        scenes: What to draw from, larger ones more often.
        way: A row of `WAYS`.
        axes: Along which the way may split, of the takes without their first axis.
        side: Of a patch, in pixels or samples.
        channels: That the model sees together.
        flip: Mirror images (never by a quarter turn: the noise may have a direction) and signals at random.
    """

    def __init__(
        self, scenes: Sequence[Scene], way: str, axes: Sequence[int], side: int, channels: int, flip: bool
    ) -> None:
        self.scenes, self.way, self.axes = scenes, WAYS[way], axes
        self.side, self.channels, self.flip = side, channels, flip
        self.files = sum(len(scene.takes) for scene in scenes)
        self.digest = _digest(scenes)
        self.weights = torch.tensor([float(scene.takes[0].size) for scene in scenes])

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """`size` patches, noisy and their targets, `(size, channels, *patch)`."""
        picks = torch.multinomial(self.weights, size, replacement=True, generator=generator).tolist()
        drawn = [self._patch(self.scenes[i], generator) for i in picks]
        noisy, target = (torch.stack(side) for side in zip(*drawn, strict=True))
        return noisy, target

    def _patch(self, scene: Scene, generator: Generator) -> tuple[Tensor, Tensor]:
        def below(most: int) -> int:
            return int(torch.randint(most, (), generator=generator))

        axis = self.axes[below(len(self.axes))]
        count, *shape = scene.takes.shape[1:]
        sides = [self.side] * len(shape)
        sides[axis - 1] = self.way.reach(self.side)
        starts = [below(n - side + 1) for n, side in zip(shape, sides, strict=True)]
        cut = tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))
        pick = below(count)
        channels = slice(None) if count == self.channels else slice(pick, pick + 1)
        patches = self.way.split(_window(scene, channels, cut, axis, generator))
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


def held_out(scenes: Sequence[Scene], way: str, axes: Sequence[int]) -> list[Pair]:
    """The `(noisy, target, Hz)` to judge by: of up to 16 scenes the middle."""
    scenes = _spread(scenes, _MOST_PAIRS)
    found: list[Pair] = []
    generator = torch.Generator().manual_seed(0)
    for scene, axis in zip(scenes, itertools.cycle(axes), strict=False):
        shape = scene.takes.shape[2:]
        cut = _middle(shape, WAYS[way].reach(_MOST_SIDE[len(shape)]))
        noisy, target = WAYS[way].split(_window(scene, slice(None), cut, axis, generator))
        found.append((noisy.contiguous().numpy(), target.contiguous().numpy(), scene.sample_rate))
    return found


def _middle(shape: Sequence[int], side: int) -> tuple[slice, ...]:
    return tuple(slice((n - min(n, side)) // 2, (n + min(n, side)) // 2) for n in shape)


def divide(scenes: Sequence[Scene]) -> tuple[list[Scene], list[Scene]]:
    """Scenes to train on and to judge by: each fifth one, or the last fifth of a single one."""
    if len(scenes) > 1:
        judged = scenes[_HELD_OUT // 2 :: _HELD_OUT] or scenes[-1:]
        return [scene for scene in scenes if not any(scene is other for other in judged)], list(judged)
    (scene,) = scenes
    axis = 2 + int(np.argmax(scene.takes.shape[2:]))
    cut = scene.takes.shape[axis] * (_HELD_OUT - 1) // _HELD_OUT
    parts = np.split(scene.takes, [cut], axis)
    learned, judged = ([replace(scene, takes=part)] for part in parts)
    return learned, judged


def longest_side(scene: Scene, way: str, axes: Sequence[int]) -> int:
    """Of the patches that a scene has room for."""
    sides = list(scene.takes.shape[2:])
    if WAYS[way].shrinks:
        sides += [(scene.takes.shape[1 + axis] - _MARGIN) // 2 for axis in axes]
    return int(min(sides))


# ---- the noise -------------------------------------------------------------------------------------------

_BLOCK = MappingProxyType({2: 16, 1: 32})  # pixels or samples a side, by number of axes
_FLATTEST = 0.1  # the share of the blocks in which there is next to nothing but noise
_LIMITED = 0.03  # the share of values at the end of the range that spoils a block
_LAGS = (1, 2, 3)
_MOST_BLOCKS = 10_000  # of a channel


def correlation(scenes: Sequence[Scene], axis: int) -> float:
    """By how much the noise of neighbouring lines along an axis is the same, from -1 to 1.

    Told in the flattest blocks, of what is left there without a slope; of lines one to three apart, the
    farthest from zero.
    """
    products, power = np.zeros(len(_LAGS)), 0.0
    for scene in scenes:
        for channel in scene.takes[0]:
            flat = _flattest(channel)[0].swapaxes(1, axis)
            power += float(np.square(flat).mean())
            products += [float((flat[:, lag:] * flat[:, :-lag]).mean()) for lag in _LAGS]
    found = products / max(power, 1e-30)
    return float(found[np.argmax(np.abs(found))])


def with_noise(scene: Scene) -> Scene:
    """The scene with the variance of its white noise; of images it may grow with the value, as shot noise.

    How strong it is, the finest details of the whole say; how it grows, the flattest blocks.
    """
    found = []
    for channel in scene.takes[0]:
        least, growth = 1.0, 0.0
        if channel.ndim == 2:
            flat, level = _flattest(channel)
            variance = flat.var((1, 2))
            growth = max(0.0, float(((level - level.mean()) * variance).mean() / max(level.var(), 1e-12)))
            least = float(variance.mean() - growth * level.mean())
        typical = max(least + growth * float(channel.mean()), 1e-12)
        strength = white_noise_sigma(channel) ** 2 / typical
        found.append((strength * least, strength * growth))
    return replace(scene, noise=np.array(found, np.float32).T.copy())


def _flattest(channel: Array) -> tuple[Array, Array]:
    """The blocks of a channel that vary the least between their cells, without their slopes; their means."""
    ndim, side = channel.ndim, _BLOCK[channel.ndim]
    axes = tuple(range(1, ndim + 1))
    windows = np.lib.stride_tricks.sliding_window_view(channel, (side,) * ndim)
    step = max(side // 2, math.ceil((channel.size / _MOST_BLOCKS) ** (1 / ndim)))
    blocks = windows[(slice(None, None, step),) * ndim].reshape(-1, *(side,) * ndim)
    limited = ((blocks == channel.min()) | (blocks == channel.max())).mean(axes) > _LIMITED
    blocks = blocks[~limited] if not limited.all() else blocks
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
    chosen = np.argsort(coarse)[: max(1, round(_FLATTEST * len(blocks)))]
    return blocks[chosen], level[chosen]


# ---- files -----------------------------------------------------------------------------------------------


def modalities(folder: Path) -> list[str]:
    """Of the files below a folder.

    Raises:
        InputError: There are none that can be read.
    """
    suffixes = {path.suffix.lower() for path in folder.glob("**/*") if path.is_file()}
    found = [m.name for m in MODALITIES.values() if suffixes & {*m.suffixes, *m.read_only}]
    if not found:
        raise InputError(f"{folder}: holds no images, recordings or sensor logs to adapt to")
    return found


def read(folder: Path, spec: InputSpec, clean: Path | None = None) -> tuple[str, list[Scene], list[str]]:
    """The way that the files allow, their scenes, and sentences about what was left out.

    The way is empty where there is but one noisy file of each: then it is for the noise to decide.

    Args:
        folder: Of noisy files. Those in one folder that show the same scene are repeated shots of it.
        spec: Of the model to adapt.
        clean: Folder of clean files, with the same names below it as the noisy ones have.

    Raises:
        InputError: There is nothing to adapt to.
    """
    suffixes = MODALITIES[spec.modality].suffixes + MODALITIES[spec.modality].read_only
    files = sorted(p for p in folder.glob("**/*") if p.suffix.lower() in suffixes and p.is_file())
    if not files:
        raise InputError(f"{folder}: holds no {spec.modality} files, expected noisy ones to adapt to")
    reader = _Reader(spec, min(len(files), _MOST_FILES) * (2 if clean else 1))
    if clean:
        scenes = [
            scene for path in _spread(files) if (scene := reader.pair(path, clean / path.relative_to(folder)))
        ]
        way = "pairs"
    else:
        groups = [list(group) for _, group in itertools.groupby(files, key=lambda path: path.parent)]
        shots = [scene for group in _spread(groups, _MOST_SHOTS) if (scene := reader.shots(group))]
        way = "shots" if shots else ""
        scenes = shots or [scene for path in _spread(files) if (scene := reader.alone(path))]
        unused = len(files) - sum(len(scene.takes) for scene in shots)
        if shots and unused:
            reader.notes.append(
                f"{folder}: {unused} files are no repeated shots of the first in their folder, or too many"
            )
    if not scenes:
        raise InputError(f"{folder}: {reader.notes[0]}")
    return way, scenes, reader.notes


def _spread(found: Sequence[Any], most: int = _MOST_FILES) -> Sequence[Any]:
    return found[:: max(1, -(-len(found) // most))]


class _Reader:
    """Reads takes of at most so many values, and keeps sentences about those that cannot be used."""

    def __init__(self, spec: InputSpec, files: int) -> None:
        self.spec = spec
        self.most = _MOST_VALUES // files
        self.notes: list[str] = []

    def alone(self, path: Path) -> Scene | None:
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
        """All files of a folder that show what its first does, if its second does."""
        if len(files) < 2 or not (first := self._read(files[0])):
            return None
        takes = [first[0]]
        for path in files[1:_MOST_SHOTS]:
            take = self._read(path)
            if take and take[0].shape == first[0].shape and _same_scene(first[0], take[0]):
                takes.append(take[0])
            elif len(takes) == 1:
                return None
        return self._scene(files[0].parent.name, takes, first[1])

    def _scene(self, name: str, takes: list[Array], rate: float | None) -> Scene:
        stacked = np.stack(takes)
        if self.spec.scale:  # signals of any unit, as the model is given them
            mean, deviation = takes[0].mean(-1, keepdims=True), takes[0].std(-1, keepdims=True)
            stacked = (stacked - mean) / np.maximum(deviation, 1e-12)
        return Scene(name, stacked, rate)

    def _read(self, path: Path) -> tuple[Array, float | None] | None:
        try:
            array, info = io.read(path)
        except DenoiseError as error:
            self.notes.append(str(error))
            return None
        array, rate = array[: array.shape[0] - info.keep], info.sample_rate
        side = round((self.most / len(array)) ** (1 / self.spec.ndim))
        array = array[(slice(None), *_middle(array.shape[1:], side))].astype(np.float32) / np.float32(
            info.peak or 1.0
        )
        if self.spec.sample_rate and rate and rate != self.spec.sample_rate:
            from denoise.io.audio.codec import resample

            array, rate = resample(array, rate, self.spec.sample_rate), self.spec.sample_rate
        if not np.isfinite(array).all():
            self.notes.append(f"{path}: holds NaN or infinite samples, expected finite ones")
        elif min(array.shape[1:]) < LEAST:
            self.notes.append(f"{path}: is of {array.shape[1:]}, expected {LEAST} a side and more")
        else:
            return array, rate
        return None


def _same_scene(one: Array, other: Array) -> bool:
    """Whether two recordings differ by noise alone: not in what is coarse."""

    def coarse(take: Array) -> Array:
        for axis in range(1, take.ndim):
            count = take.shape[axis] // _COARSE * _COARSE
            take = np.take(take, range(count), axis)
            take = take.reshape(*take.shape[:axis], -1, _COARSE, *take.shape[axis + 1 :]).mean(axis + 1)
        return take

    first, second = coarse(one), coarse(other)
    axes = tuple(range(1, first.ndim))
    apart = (first - second).var(axes).sum()
    scenes, all_of_it = first.var(axes).sum() + second.var(axes).sum(), (one - other).var(axes).sum()
    return bool(apart < min(_SAME_SCENE * scenes, _COARSE_NOISE * all_of_it))
