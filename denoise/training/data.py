"""Seeded (noisy, target) patches from clean files."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from denoise import io
from denoise.arrays import Array, Floats
from denoise.corruptions import parse
from denoise.corruptions.audio import equalised
from denoise.errors import DenoiseError, InputError, UsageError
from denoise.io.archive import arrays_of
from denoise.io.formats import writable_suffixes
from denoise.registry import unknown
from denoise.signal import MODALITIES
from denoise.training.events import events
from denoise.training.recipe import Recipe, ValidateRecipe
from denoise.training.talkers import conversations, in_rooms

_EVENTS = "events"  # group of the patches of synthetic events
_CONVERSATION = "conversation"  # group of the patches of two talkers
Pair = tuple[Floats, Floats, float | None]  # noisy and target `(C, *S)`, Hz


class Batches(Protocol):
    """Source of training batches.

    Every draw uses the given generator, so a training step depends on seed and step number alone, and a
    resumed run gets the batches of an uninterrupted one.
    """

    files: int  # number of source files
    digest: str  # SHA-256 of their content
    skipped: tuple[str, ...]  # a sentence for each file that cannot be used

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw `size` patches: noisy and target, `(size, channels, *patch)` each."""
        ...


def files_below(folder: Path, include: tuple[str, ...], modality: str) -> list[Path]:
    """List the files of a modality that match one of the patterns, sorted."""
    suffixes = writable_suffixes(modality)
    try:
        found = {path for pattern in include for path in folder.glob(pattern)}
    except (ValueError, NotImplementedError, LookupError) as error:
        raise UsageError(f"data.include: {include} are no patterns below a folder: {error}") from error
    return sorted(path for path in found if path.suffix.lower() in suffixes and path.is_file())


def _read_one(path: Path, modality: str, sample_rate: float) -> Iterator[tuple[str, Array, float | None]]:
    """Yield the recordings or images of a file as `(name, (C, *S), Hz)`; images stay integers."""
    if path.suffix == ".npz":
        for name, values in arrays_of(path, "numeric arrays, time first").items():
            yield name, np.atleast_2d(values.astype(np.float32).T), None
        return
    array, info = io.read(path)
    array = array[: array.shape[0] - info.passthrough_channels]
    if modality == "image":
        if array.dtype != np.uint8:
            array = np.round(array * (255.0 / (info.peak or 1.0))).astype(np.uint8)
        yield path.as_posix(), np.ascontiguousarray(array), None
        return
    rate = info.sample_rate
    if sample_rate and rate and rate != sample_rate:
        from denoise.dsp.resample import resample

        array, rate = resample(array, rate, sample_rate), sample_rate
    yield path.as_posix(), array.astype(np.float32), rate


class CleanFiles(NamedTuple):
    """Contents of a folder that can be trained on."""

    names: list[str]
    arrays: list[Array]  # `(C, *S)` each
    digest: str  # SHA-256 of their content
    skipped: list[str]  # a sentence for each file that cannot be used


def read_clean(folder: Path, recipe: Recipe) -> CleanFiles:
    """Read everything usable below `folder`.

    Raises:
        InputError: No file is usable; the message says what was expected and found.
    """
    data, modality = recipe.data, recipe.modality
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; expected one of clean {modality} files to train on")
    files = files_below(folder, data.include, modality)
    names: list[str] = []
    arrays: list[Array] = []
    seen = hashlib.sha256()
    bad: list[str] = []
    for path in files:
        try:
            for name, array, _ in _read_one(path, modality, data.sample_rate):
                if not np.isfinite(array).all():
                    bad.append(f"{path}: holds NaN or infinite samples")
                    continue
                for scaled in _scaled(array, data.scales) if modality == "image" else (array,):
                    min_side = data.patch / (data.stretch if modality != "image" else 1)
                    if data.join or min(scaled.shape[1:]) >= min_side:
                        names.append(name)
                        arrays.append(scaled)
                seen.update(
                    f"{path.relative_to(folder).as_posix()} {name.rsplit('/')[-1]} {array.shape}".encode()
                )
                seen.update(hashlib.sha256(np.ascontiguousarray(array).data).digest())
        except DenoiseError as error:
            bad.append(str(error))
    if not arrays:
        total = sum(1 for p in folder.rglob("*") if p.is_file())
        why = f"; the first problem: {bad[0]}" if bad else ""
        raise InputError(
            f"{folder}: holds no {modality} of at least {data.patch} "
            f"{'pixels' if modality == 'image' else 'samples'} a side that matches {', '.join(data.include)} "
            f"({total} files, {len(files)} {modality} files){why}"
        )
    return CleanFiles(names, arrays, seen.hexdigest(), bad)


def _scaled(image: Array, scales: tuple[float, ...]) -> Iterator[Array]:
    from PIL import Image

    for scale in scales:
        if scale == 1.0:
            yield image
            continue
        size = (round(image.shape[2] * scale), round(image.shape[1] * scale))
        planes = [
            np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.LANCZOS)) for plane in image
        ]
        yield np.stack(planes)


class Patches:
    """Seeded batches of `(noisy, target)` from clean arrays (implements `Batches`).

    All arrays live on one device, where patches are cut and corrupted. A seed gives different noise on CPU
    and GPU.

    Args:
        arrays: Clean signals or images, `(C, *S)` each.
        folder: `{data}` of the corruption.
        folders: Number of arrays and odds of each folder, in order; by default one folder.
    """

    @classmethod
    def read(
        cls,
        data: Path | Mapping[Path, float],
        recipe: Recipe,
        channels: int,
        device: torch.device | None = None,
    ) -> Patches:
        """Read a folder of clean files, or several with the odds of each; `{data}` is the first."""
        odds = {data: 1.0} if isinstance(data, Path) else data
        read = [read_clean(folder, recipe) for folder in odds]
        digests = [files.digest for files in read]
        digest = digests[0] if len(read) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
        return cls(
            [name for files in read for name in files.names],
            [array for files in read for array in files.arrays],
            recipe,
            channels,
            next(iter(odds)),
            digest,
            device,
            [(len(files.names), share) for files, share in zip(read, odds.values(), strict=True)],
            tuple(sentence for files in read for sentence in files.skipped),
        )

    def __init__(
        self,
        names: list[str],
        arrays: list[Array],
        recipe: Recipe,
        channels: int,
        folder: Path,
        digest: str = "",
        device: torch.device | None = None,
        folders: Sequence[tuple[int, float]] = (),
        skipped: tuple[str, ...] = (),
    ) -> None:
        self.files, self.digest, self.skipped = len(set(names)), digest, skipped
        self.data, self.channels = recipe.data, channels
        self.ndim = MODALITIES[recipe.modality].ndim
        self.sample_rate = recipe.data.sample_rate or None
        if not recipe.data.corruption:
            raise UsageError(
                f"recipe {recipe.name}: [data] corruption is empty; expected one such as gaussian:sigma=0..50"
            )
        self.corruption = _corruption(recipe.data.corruption, folder)
        folders = folders or [(len(arrays), 1.0)]
        if recipe.data.join:
            ends = list(itertools.accumulate(count for count, _ in folders))
            starts = [0, *ends[:-1]]
            if len({len(array) for array in arrays}) > 1:  # the channels one after the other
                arrays = [array.reshape(1, -1) for array in arrays]
            arrays = [np.concatenate(arrays[i:j], axis=-1) for i, j in zip(starts, ends, strict=True)]
            names, folders = ["joined"] * len(folders), [(1, odds) for _, odds in folders]
        self.samples = torch.from_numpy(np.concatenate([array.ravel() for array in arrays])).to(device)
        self.shapes = torch.tensor([array.shape for array in arrays])
        self.offsets = self.shapes.prod(1).cumsum(0) - self.shapes.prod(1)
        try:
            found = [re.search(self.data.group, name) for name in names]
        except re.error as error:
            raise UsageError(
                f"group is {self.data.group!r}, expected a regular expression: {error}"
            ) from error
        self.groups = [match.group(0) if match else "" for match in found]
        made = ((_EVENTS, recipe.data.events), (_CONVERSATION, recipe.data.conversation))
        known = {*self.groups, *(group for group, share in made if share)}
        if foreign := recipe.data.corruptions.keys() - known:
            raise unknown(f"recipe {recipe.name}: group", min(foreign), known)
        self.corruptions = {
            group: _corruption(spec.replace("{corruption}", recipe.data.corruption), folder)
            for group, spec in recipe.data.corruptions.items()
        }
        self.weights = torch.tensor(self._weights(self.groups), dtype=torch.float64)
        if len(folders) > 1:
            parts = torch.split(self.weights, [count for count, _ in folders])
            self.weights = torch.cat(
                [odds * part / part.sum() for part, (_, odds) in zip(parts, folders, strict=True)]
            )

    def _weights(self, groups: list[str]) -> list[float]:
        """Compute the odds of each array: equal for all groups, by size within a group."""
        sizes = self.shapes.prod(1).double().tolist()
        if not self.data.group:
            return sizes
        totals: dict[str, float] = {}
        for group, size in zip(groups, sizes, strict=True):
            totals[group] = totals.get(group, 0.0) + size
        return [size / totals[group] for group, size in zip(groups, sizes, strict=True)]

    def batch(self, size: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Draw `size` patches: noisy and clean, `(size, channels, *patch)` each.

        With `max_joint_channels`, `(size // C, C, patch)` with C channels of one recording.
        """
        channels, weights, counts = self.channels, self.weights, self.shapes[:, 0]
        if self.data.max_joint_channels > 1:
            limit = min(self.data.max_joint_channels, int(counts.max()), size)
            channels = 1 + int(torch.randint(limit, (), generator=generator))
            weights, size = weights.where(counts >= channels, 0.0), size // channels
        picks = torch.multinomial(weights, size, replacement=True, generator=generator)
        target = self._cut(picks, channels, generator)
        generator = _on(target.device, generator)
        groups = self._synthesise(target, [self.groups[i] for i in picks.tolist()], generator)
        target = self._augment(target, generator)
        if self.corruptions:
            return self._by_group(target, groups, generator), target
        if not self.data.gray:
            return self.corruption(target, generator, self.sample_rate), target
        # A gray image is repeated in three identical channels, noise included.
        gray = _drawn(self.data.gray, size, generator)
        target[gray] = target[gray].mean(1, keepdim=True)
        noisy = torch.empty_like(target)
        for items, channels in ((~gray, self.channels), (gray, 1)):
            if items.any():
                noisy[items] = self.corruption(target[items, :channels], generator, self.sample_rate)
        return noisy, target

    def _by_group(self, target: Tensor, groups: list[str], generator: Generator) -> Tensor:
        noisy = torch.empty_like(target)
        for group in dict.fromkeys(groups):
            items = [index for index, other in enumerate(groups) if other == group]
            corruption = self.corruptions.get(group, self.corruption)
            noisy[items] = corruption(target[items], generator, self.sample_rate)
        return noisy

    def _cut(self, picks: Tensor, count: int, generator: Generator) -> Tensor:
        """Cut a patch at a random position of each picked array: `(B, channels, *patch)`."""
        data, device = self.data, self.samples.device
        shapes = self.shapes[picks]  # (B, 1 + axes)
        sides = torch.full((len(picks), 1), data.patch)
        if self.ndim == 1 and data.stretch > 1.0:
            factors = data.stretch ** (2 * torch.rand(len(picks), 1, generator=generator) - 1)
            sides = (data.patch * factors).round().long().minimum(shapes[:, 1:])

        def below(limits: Tensor) -> Tensor:
            return (torch.rand(limits.shape, generator=generator, dtype=torch.float64) * limits).long()

        if self.channels == 1:  # a random subset without replacement
            keys = torch.rand(len(picks), int(shapes[:, 0].max()), generator=generator)
            keys[torch.arange(keys.shape[1]) >= shapes[:, :1]] = 2.0
            channels = keys.argsort(1)[:, :count]
        else:  # a gray image repeats its only channel
            channels = torch.arange(self.channels).minimum(shapes[:, :1] - 1)
        strides = torch.cat([shapes[:, 2:], torch.ones_like(sides)], 1)  # of the axes, in samples
        first = self.offsets[picks, None] + channels * shapes[:, 1:].prod(1, keepdim=True)
        first = first + (below(shapes[:, 1:] - sides + 1) * strides).sum(1, keepdim=True)
        first, strides, sides = (t.to(device)[..., None] for t in (first, strides, sides))
        at = torch.arange(data.patch, device=device)
        if self.ndim == 2:
            patches = self.samples[first[..., None] + at[:, None] * strides[:, :1, :, None] + at]
            return patches / 255.0 if patches.dtype == torch.uint8 else patches
        place = at * ((sides - 1) / (data.patch - 1)).double()  # (B, 1, patch)
        before = place.long()
        patches, after = (self.samples[(first + before + i).clamp(max=len(self.samples) - 1)] for i in (0, 1))
        return patches.lerp(after, (place - before).to(patches))

    def _synthesise(self, x: Tensor, groups: list[str], generator: Generator) -> list[str]:
        """Replace patches by synthetic ones, rooms and conversations, in place; return the groups of all."""
        data, rate = self.data, self.sample_rate or 1.0
        groups = list(groups)

        def put(share: float, make: Callable[[Tensor], Tensor], group: str = "") -> None:
            """Replace a share of the patches by what is made for the mask of these."""
            if not share:
                return
            drawn = _drawn(share, len(x), generator)
            if drawn.any():
                x[drawn] = make(drawn)
            for place in drawn.nonzero().flatten().tolist() if group else ():
                groups[place] = group

        put(data.synthetic, lambda at: synthetic(int(at.sum()), data.patch, generator, x.shape[1]))
        put(data.events, lambda at: events(int(at.sum()), data.patch, generator), _EVENTS)
        put(data.rooms, lambda at: in_rooms(x[at], rate, generator))
        put(
            data.conversation,
            lambda at: conversations(x[at], x.roll(1, 0)[at], rate, generator),
            _CONVERSATION,
        )
        return groups

    def _augment(self, x: Tensor, generator: Generator) -> Tensor:
        data, count = self.data, x.shape[0]

        def chance(share: float) -> Tensor:
            return _drawn(share, count, generator).view(count, *[1] * (x.ndim - 1))

        if data.enlarge and self.ndim == 2:
            drawn = chance(data.enlarge).flatten()
            x[drawn] = _enlarged(x[drawn], generator)
        if data.flip and self.ndim == 2:
            x = torch.where(chance(0.5), x.flip(-1), x)
            x = torch.where(chance(0.5), x.flip(-2), x)
            x = torch.where(chance(0.5), x.transpose(-1, -2), x)
        elif data.flip:
            x = torch.where(chance(0.5), -x, x)
        if data.standardise:
            x = x - x.mean(-1, keepdim=True)
            deviation = x.std(-1, keepdim=True)
            x = torch.where(deviation > 1e-6, x / deviation.clamp(min=1e-6), x)
        if data.equalise_db:
            x = equalised(x, data.equalise_db, generator)
        low, high = data.level_db
        if (low, high) != (0.0, 0.0):
            level = low + (high - low) * torch.rand(count, generator=generator, device=generator.device)
            x = x * 10 ** (level.view(count, *[1] * (x.ndim - 1)) / 20)
        return x.contiguous()


def _drawn(share: float, count: int, generator: Generator) -> Tensor:
    """Draw a mask of `count` items, each marked with the probability `share`."""
    return torch.rand(count, generator=generator, device=generator.device) < share


def _enlarged(patches: Tensor, generator: Generator) -> Tensor:
    """The middle of each patch at the size of the whole, enlarged by a random factor of 1.2 to 2."""
    factors = 1.2 + 0.8 * torch.rand(len(patches), generator=generator, device=generator.device)
    for patch, factor in zip(patches, factors.tolist(), strict=True):
        side = round(patch.shape[-1] / factor)
        start = (patch.shape[-1] - side) // 2
        middle = patch[None, :, start : start + side, start : start + side]
        size = patch.shape[1:]
        patch.copy_(
            functional.interpolate(middle, size=size, mode="bicubic", align_corners=False)[0].clamp_(0, 1)
        )
    return patches


def _on(device: torch.device, generator: Generator) -> Generator:
    """Return the generator if it is on the device, else a new one there that it seeds."""
    if device == generator.device:
        return generator
    return Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


def synthetic(count: int, length: int, generator: Generator, channels: int = 1) -> Tensor:
    """Draw mixtures of steps, bumps, chirps (after Donoho & Johnstone 1994) and random walks.

    The channels of one signal mix the same components in proportions and signs of their own.

    Shape:
        `(count, channels, length)`.
    """

    device = generator.device

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=device)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, device=device)

    t = torch.linspace(0, 1, length, device=device)
    parts = 8
    centres, heights = rand(count, parts, 1), randn(count, parts, 1)
    steps = (heights * (t > centres)).sum(1)
    widths = 0.003 * 30 ** rand(count, parts, 1)
    bumps = (heights.abs() / (1 + ((t - centres) / widths).abs()) ** 4).sum(1)
    rate_low, rate_high = 2 * 20 ** rand(count, 1), 2 * 40 ** rand(count, 1)
    chirps = torch.sin(2 * math.pi * (rate_low * t + (rate_high - rate_low) * t**2 / 2 + rand(count, 1)))
    walks = randn(count, length).cumsum(1)
    smooth = walks.cumsum(1)
    kinds = torch.stack([steps, bumps, chirps, walks, smooth], 1)
    kinds = kinds / kinds.std(-1, keepdim=True).clamp(min=1e-6)
    mix = torch.softmax(3 * randn(count, channels, kinds.shape[1]), 2)
    return (mix * (2.0 * (rand(count, channels, 1) < 0.5) - 1.0)) @ kinds


def pairs(folder: Path, recipe: Recipe, spec: ValidateRecipe) -> Iterator[Pair]:
    """Yield validation pairs `(noisy, target, Hz)`, float, `(C, *S)`, the same ones every time.

    A folder with `clean/` and `noisy/` holds pairs; files of any other are corrupted by
    `validate.corruption`, seeded by their position.

    Raises:
        InputError: The folder holds nothing usable.
    """
    clean, noisy = folder / "clean", folder / "noisy"
    paired = clean.is_dir() and noisy.is_dir()
    root = clean if paired else folder
    files = files_below(root, ("**/*",), recipe.modality) if root.is_dir() else []
    if not files:
        raise InputError(f"{folder}: holds no {recipe.modality} files to validate on")
    if not paired and not spec.corruption:
        raise UsageError(
            f"recipe {recipe.name}: [validate] corruption is empty and {folder} has no clean/ and noisy/; "
            "expected one of them"
        )
    rate = recipe.data.sample_rate
    items = [(path, *item) for path in files for item in _read_one(path, recipe.modality, rate)]
    items = items[:: max(1, -(-len(items) // spec.items))]
    for index, (path, _, array, hz) in enumerate(items):
        target = _cropped(array, spec.crop)
        if paired:
            other = noisy / path.relative_to(clean)
            yield _cropped(next(_read_one(other, recipe.modality, rate))[1], spec.crop), target, hz
            continue
        generator = torch.Generator().manual_seed(index)
        x = torch.from_numpy(target)[None]
        if recipe.data.standardise:
            x = x - x.mean(-1, keepdim=True)
            x = x / x.std(-1, keepdim=True)
        corruption = _corruption(spec.corruption, folder)
        yield corruption(x, generator, hz)[0].numpy(), x[0].numpy(), hz


def _corruption(spec: str, folder: Path) -> Callable[[Tensor, Generator, float | None], Tensor]:
    """Build the corruption of a spec, in which `{data}` stands for the folder."""
    if spec == "none":
        return lambda x, _generator, _rate: x.clone()
    return parse(spec.replace("{data}", folder.as_posix()))


def _cropped(array: Array, crop: int) -> Floats:
    floats = array.astype(np.float32) / 255.0 if array.dtype == np.uint8 else array.astype(np.float32)
    if not crop:
        return floats
    window = tuple(
        slice((n - min(n, crop)) // 2, (n - min(n, crop)) // 2 + min(n, crop)) for n in array.shape[1:]
    )
    return np.ascontiguousarray(floats[(slice(None), *window)])
