"""Codes from the encoders of shipped denoisers, without training: pooled features of each layer.

What a denoiser must recognise in order to keep it describes its input (Vincent et al. 2008, "Extracting and
composing robust features with denoising autoencoders").
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from denoise import weights
from denoise.analysis.segments import Segmentation
from denoise.arrays import Floats
from denoise.errors import InputError
from denoise.registry import unknown

_BATCH_VALUES = 2**21  # values of the input per call of the network
_CELLS = 2  # parts of a picture on each axis whose features are averaged apart
_BANDS = 4  # parts of the spectrum of a recording, likewise


class _Source(NamedTuple):
    """Conversion of files to the input of an encoder."""

    cut: Segmentation  # by default
    layers: tuple[str, ...]  # modules whose outputs are pooled, the last one to run last
    level: float = 0.0  # root mean square to which segments are brought; 0 leaves them


SOURCES: Mapping[str, _Source] = {
    "photo": _Source(
        Segmentation("image", (96, 96), 3, whole=True),
        ("backbone.encoder.0", "backbone.encoder.1", "backbone.inner"),
    ),
    "speech": _Source(
        Segmentation("audio", (16_384,), sample_rate=16_000.0),
        ("network.encoder.1", "network.encoder.2", "network.encode_proj", "network.memory"),
        level=0.05,
    ),
    "sensor": _Source(
        Segmentation("sensor", (512,), standardise=True),
        tuple(f"backbone.encoder.{scale}" for scale in range(5)),
    ),
}


class _Reached(Exception):  # noqa: N818 - no error
    """The last layer has run; what comes after is not needed."""


class PretrainedEncoder:
    """Encoder of a shipped denoiser; a code is mean and spread of the features of its layers.

    Args:
        name: A row of `SOURCES`.
        cut: Segmentation of the files; None is that of the row.

    Raises:
        UsageError: There is no such encoder.
    """

    def __init__(self, name: str, cut: Segmentation | None = None) -> None:
        if name not in SOURCES:
            raise unknown("encoder", name, SOURCES)
        self.path = weights.pretrained()[name]
        self.cut = cut or SOURCES[name].cut
        self._source = SOURCES[name]
        self._model = weights.load(self.path)[0]

    @torch.no_grad()
    def encode(self, X: ArrayLike) -> Floats:
        """Encode segments `(n, *cut.shape)` as `(n, numbers)`."""
        x = torch.from_numpy(np.ascontiguousarray(X, np.float32))
        if tuple(x.shape[1:]) != self.cut.shape:
            raise InputError(f"X has items of shape {tuple(x.shape[1:])}; expected {self.cut.shape}")
        if self._source.level:
            rms = x.square().flatten(1).mean(1).sqrt().clamp(min=1e-5)
            x = x * (self._source.level / rms).view(-1, *[1] * (x.ndim - 1))
        multiple = self._model.spec.multiple_of
        pad = [amount for side in reversed(x.shape[2:]) for amount in (0, -side % multiple)]
        x = nn.functional.pad(x, pad, "replicate")
        step = max(1, _BATCH_VALUES // x[0].numel())
        return np.concatenate([self._features(part).numpy() for part in torch.split(x, step)])

    def _features(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        modules = dict(self._model.named_modules())
        last = self._source.layers[-1]

        def keep(module: nn.Module, _input: Any, output: Any) -> None:
            features = output[0] if isinstance(output, tuple) else output  # a GRU also returns its state
            found.append(_pooled(features, self.cut.modality))
            if module is modules[last]:
                raise _Reached

        hooks = [modules[layer].register_forward_hook(keep) for layer in self._source.layers]
        try:
            with suppress(_Reached):
                self._model.training_step(x, x)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat(found, 1)


def _pooled(features: Tensor, modality: str) -> Tensor:
    """Return mean and standard deviation of features over positions, `(B, C, H, W)` or `(B, time, C)`."""
    if features.ndim == 3:
        features = features.transpose(1, 2)[:, :, None]  # (B, C, 1, time)
    elif modality == "audio":  # (B, C, time, bins): bands count as features
        features = features.reshape(*features.shape[:3], _BANDS, -1).mean(4)
        features = features.permute(0, 1, 3, 2).flatten(1, 2)[:, :, None]
    cells = _CELLS if modality == "image" else 1
    means = nn.functional.adaptive_avg_pool2d(features, cells).flatten(1)
    return torch.cat([means, features.flatten(2).std(2, correction=0)], 1)
