"""Round the kernels of a network for images to 8 bits, so that the network hardly changes.

Rounding each weight to the nearest step loses up to 0.8 dB of a photo with little noise: features of the
picture, which must cancel, are far larger than those of its noise. Here each error is made up for by the
weights of the row that are still to be rounded, as far as the inputs of the layer are correlated, which
those of photos are (Frantar et al. 2023, "GPTQ: accurate post-training quantization").
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from denoise import weights
from denoise.errors import UsageError
from denoise.models.base import Denoiser
from denoise.models.layers import ResidualBlock
from denoise.training.calibrate import middle, photos_below, with_noise

_LEVELS = (0.0, 2.0, 5.0, 10.0, 20.0, 40.0)  # sigma on the 8-bit scale, in turns
_LEVEL_FLOOR = 2.0  # a photo counts by 1 / (level + this)^2: what it loses in dB is relative to its noise
_SIDE_PX = 160
_MAX_PHOTOS = 36
_POSITIONS = 2500  # of each photo and layer
_DAMPING = 0.01  # of the mean variance: makes up less by directions that the photos hardly have
_LARGEST = 127  # steps


def shrink(path: Path, data: Path) -> tuple[int, int]:
    """Store the kernels of the residual blocks in 8 bits; returns the file's bytes before and after.

    The first and the last layer and the changes of scale keep 16 bits: they are few, and rounding them costs
    most.

    Args:
        path: Weights file of a network for images; it is rewritten, with its card.
        data: Folder of clean photos, for the correlation of the inputs.

    Raises:
        UsageError: The network has no residual blocks of images, or the folder holds no photos.
    """
    network, _ = weights.load(path)
    kernels = {
        f"{block}.body.{place}": layer
        for block, module in network.named_modules()
        if isinstance(module, ResidualBlock)
        for place, layer in enumerate(module.body)
        if isinstance(layer, nn.Conv2d) and network.spec.ndim == 2
    }
    if not kernels:
        raise UsageError(f"{path}: has no residual blocks of a network for images, whose kernels are rounded")
    photos = photos_below(data)
    moments = _moments(network, kernels, photos[:: -(-len(photos) // _MAX_PHOTOS)])
    stored = {key: value.half() for key, value in network.state_dict().items()}
    for name, layer in kernels.items():
        key = f"{name}.weight"
        stored[key], stored[key + weights.SCALE] = rounded(layer.weight.detach(), moments[name])
    before = path.stat().st_size
    weights.replace_tensors(path, stored)
    return before, path.stat().st_size


def rounded(weight: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
    """Return a kernel as integers of the shape of `weight`, and the step of each row in half precision.

    Args:
        weight: Of shape `(rows, ...)`, of `n` values a row.
        moments: Second moments of the inputs that a row is multiplied with, `(n, n)`.
    """
    left = weight.flatten(1).double()
    step = (left.abs().amax(1) / _LARGEST).clamp(min=1e-7).half()
    steps = step.double()
    moments = moments.double().clone()
    variances = moments.diagonal()
    variances += _DAMPING * variances.mean() + 1e-12
    order = variances.argsort(descending=True)  # what matters most is rounded while the rest can make up
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moments[order][:, order]))
    factor = torch.linalg.cholesky(inverse, upper=True)
    left = left[:, order]
    result = torch.zeros_like(left)
    for column in range(left.shape[1]):
        value = (left[:, column] / steps).round().clamp(-_LARGEST, _LARGEST)
        result[:, order[column]] = value
        error = (left[:, column] - value * steps) / factor[column, column]
        left[:, column:] -= error[:, None] * factor[column, column:]
    return result.to(torch.int8).view_as(weight), step


def _moments(network: Denoiser, kernels: dict[str, nn.Conv2d], photos: Sequence[Path]) -> dict[str, Tensor]:
    """Measure the second moments of what each kernel is multiplied with, on photos with noise."""
    found: dict[str, Tensor] = {name: torch.zeros(()) for name in kernels}
    share = 1.0  # of the photo at hand

    def watch(name: str, layer: nn.Conv2d) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor]) -> None:
            windows = F.unfold(inputs[0], layer.kernel_size, padding=1)[0].T
            windows = windows[:: -(-len(windows) // _POSITIONS)]
            found[name] = found[name] + (share / len(windows)) * (windows.T @ windows)

        return layer.register_forward_pre_hook(hook)

    hooks = [watch(name, layer) for name, layer in kernels.items()]
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        for number, photo in enumerate(photos):
            level = _LEVELS[number % len(_LEVELS)]
            share = 1 / (level + _LEVEL_FLOOR) ** 2
            network(with_noise(middle(photo, network.spec.multiple_of, _SIDE_PX), level, generator))
    for hook in hooks:
        hook.remove()
    return found
