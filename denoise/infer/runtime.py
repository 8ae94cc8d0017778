"""Runtime of networks: ONNX Runtime for a few small pictures, which it has cleaned before torch is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from denoise import io
from denoise.errors import DenoiseError
from denoise.infer.catalogue import for_modality, onnx_file
from denoise.models.table import PRECISIONS, RUNTIMES
from denoise.options import CleanOptions
from denoise.signal import ImageInfo

_TORCH, _ONNX = RUNTIMES
# Pixels of all pictures together. Torch takes 1.5 CPU seconds to load, and then, where it has int8, half of
# the time of ONNX Runtime for each picture.
_MOST_PX = 500_000
_MOST_FILES = 8  # whose headers are read


def runtime_for(options: CleanOptions, images: Sequence[Path]) -> str:
    """Return the runtime, a name in `RUNTIMES`, that cleans all images of a job in the least time.

    Args:
        options: A precision that they name is torch's.
        images: Local files; of what is unknown about one, its pages say it.
    """
    if (
        options.precision != PRECISIONS[0]
        or (options.ensemble or 1) > 1
        or not 0 < len(images) <= _MOST_FILES
    ):
        return _TORCH
    row = for_modality(options.model_for("image"), "image")
    if not find_spec("onnxruntime") or not onnx_file(row, "image"):
        return _TORCH
    return _ONNX if sum(map(_pixels, images)) <= _MOST_PX else _TORCH


def _pixels(path: Path) -> int:
    """Number of pixels of all pages; 0 of a file that cannot be read, which its own turn will tell."""
    with suppress(DenoiseError, OSError):
        info = io.probe(path)
        if isinstance(info, ImageInfo):
            return sum(page.height * page.width for page in info.layouts)
    return 0
