"""Denoisers: one contract (`denoise.models.base`), classical rows and learned architectures behind it.

`MODELS` holds what needs no weights. A row says which modalities it takes, and the class for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from denoise.errors import UsageError
from denoise.registry import resolve, unknown

if TYPE_CHECKING:  # importing the table must not import torch
    from denoise.models.base import Denoiser

__all__ = [
    "AUDIO_PICKS",
    "AUTO",
    "AUTO_PICKS",
    "DEFAULT_MODELS",
    "HEART",
    "LIVE_MODEL",
    "MODELS",
    "PRECISIONS",
    "PROFILED_MODEL",
    "build",
]

MODELS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "none": {
            "image": "denoise.models.classical.filters:ImageIdentity",
            "audio": "denoise.models.classical.filters:AudioIdentity",
            "sensor": "denoise.models.classical.filters:SensorIdentity",
        },
        "median": {
            "image": "denoise.models.classical.filters:ImageMedian",
            "sensor": "denoise.models.classical.filters:SensorMedian",
        },
        "gaussian": {"image": "denoise.models.classical.filters:ImageGaussian"},
        "wiener": {
            "image": "denoise.models.classical.filters:ImageWiener",
            "audio": "denoise.models.classical.audio:AudioWiener",
        },
        "tv": {
            "image": "denoise.models.classical.filters:ImageTotalVariation",
            "sensor": "denoise.models.classical.filters:SensorTotalVariation",
        },
        "wavelet": {
            "image": "denoise.models.classical.filters:ImageWavelet",
            "sensor": "denoise.models.classical.filters:SensorWavelet",
        },
        "nlm": {"image": "denoise.models.classical.filters:NonLocalMeans"},
        "audio": {"audio": "denoise.models.classical.restoration:AudioRestoration"},
        "spectral-gate": {"audio": "denoise.models.classical.audio:SpectralGate"},
        "hampel": {"sensor": "denoise.models.classical.filters:SensorHampel"},
        "savgol": {"sensor": "denoise.models.classical.filters:SavitzkyGolay"},
        "butterworth": {"sensor": "denoise.models.classical.filters:Butterworth"},
    }
)

AUTO = "auto"  # decides for each image and each recording which of its picks it needs
AUTO_PICKS = ("photo", "photo-sharp")  # against noise, against blur
AUDIO_PICKS = ("speech", "audio")  # where somebody speaks, everywhere else
PROFILED_MODEL = "audio"  # what can be told how the noise sounds
LIVE_MODEL = "speech-live"  # what cleans sound while it comes, and listens for `AUTO`

HEART: Mapping[str, str] = MappingProxyType(
    {"sensor": "ecg"}
)  # by model, the one that takes over where there are heartbeats, both shipped

PRECISIONS = ("float32", "bf16")  # that trained models of images work in; the first is the default

DEFAULT_MODELS: Mapping[str, str] = MappingProxyType({"image": AUTO, "audio": "speech", "sensor": "sensor"})


def build(name: str, modality: str) -> Denoiser:
    """The denoiser of one row of `MODELS` for one modality.

    Raises:
        UsageError: There is no such row, or it does not take this modality.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    row = MODELS[name]
    if modality not in row:
        raise UsageError(f"model {name!r} cleans {' and '.join(row)}, not {modality}")
    denoiser: Denoiser = resolve(row[modality])()
    return denoiser
