"""Clean noisy images, audio recordings and sensor logs.

>>> import denoise
>>> cleaner = denoise.load("median", "sensor")
>>> cleaner.clean([0, 0, 9, 0, 0]).tolist()
[0, 0, 0, 0, 0]

Importing this is light: each name loads what it needs when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from denoise.errors import (
    DenoiseError,
    InputError,
    OutputError,
    TooLargeError,
    UnreadableError,
    UnsupportedError,
    UsageError,
    WeightsError,
)

if TYPE_CHECKING:
    from denoise import corruptions, metrics
    from denoise.analysis.anomalies import AnomalyDetector, anomalies
    from denoise.analysis.codes import embed, reconstruct
    from denoise.analysis.embedding import AutoencoderEmbedding
    from denoise.analysis.segments import Cut
    from denoise.infer import Cleaner, load
    from denoise.infer.file import FileReport, clean_file
    from denoise.infer.stream import Stream
    from denoise.infer.transformer import SignalDenoiser
    from denoise.io import probe, read, write
    from denoise.training.adapt import Adaptation, adapt

    __version__: str

__all__ = [
    "Adaptation",
    "AnomalyDetector",
    "AutoencoderEmbedding",
    "Cleaner",
    "Cut",
    "DenoiseError",
    "FileReport",
    "InputError",
    "OutputError",
    "SignalDenoiser",
    "Stream",
    "TooLargeError",
    "UnreadableError",
    "UnsupportedError",
    "UsageError",
    "WeightsError",
    "__version__",
    "adapt",
    "anomalies",
    "clean_file",
    "corruptions",
    "embed",
    "load",
    "metrics",
    "probe",
    "read",
    "reconstruct",
    "write",
]

_LAZY = {
    "AnomalyDetector": "denoise.analysis.anomalies:AnomalyDetector",
    "AutoencoderEmbedding": "denoise.analysis.embedding:AutoencoderEmbedding",
    "Adaptation": "denoise.training.adapt:Adaptation",
    "Cleaner": "denoise.infer:Cleaner",
    "Cut": "denoise.analysis.segments:Cut",
    "FileReport": "denoise.infer.file:FileReport",
    "SignalDenoiser": "denoise.infer.transformer:SignalDenoiser",
    "Stream": "denoise.infer.stream:Stream",
    "anomalies": "denoise.analysis.anomalies:anomalies",
    "adapt": "denoise.training.adapt:adapt",
    "clean_file": "denoise.infer.file:clean_file",
    "corruptions": "denoise.corruptions",
    "embed": "denoise.analysis.codes:embed",
    "load": "denoise.infer:load",
    "metrics": "denoise.metrics",
    "probe": "denoise.io:probe",
    "read": "denoise.io:read",
    "reconstruct": "denoise.analysis.codes:reconstruct",
    "write": "denoise.io:write",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _LAZY:
        module, _, attribute = _LAZY[name].partition(":")
        value = importlib.import_module(module)
        value = getattr(value, attribute) if attribute else value
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("denoise-pipelines")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+source"
