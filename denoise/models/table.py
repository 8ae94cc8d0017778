"""The classical denoisers by name, and which models other parts use by default.

A row of `MODELS` names the class for each modality it takes. Trained models are in `denoise.infer.catalogue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from denoise.errors import UsageError
from denoise.machine import has_amx, has_bf16, has_int8
from denoise.registry import Extensible, resolve, unknown
from denoise.signal import MODALITIES

if TYPE_CHECKING:  # the table is light: it must not import torch
    from denoise.models.base import Denoiser


def _add(rows: dict[str, Mapping[str, str]], name: str, target: str) -> None:
    """Add the row of an entry point, whose name is that of the model and the modality: `mine.image`."""
    model, _, modality = name.rpartition(".")
    if model and modality in MODALITIES:
        rows[model] = {**rows.get(model, {}), modality: target}


_FILTERS = "denoise.models.classical.filters"

MODELS: Mapping[str, Mapping[str, str]] = Extensible(
    {
        "none": {
            "image": f"{_FILTERS}:ImageIdentity",
            "audio": f"{_FILTERS}:AudioIdentity",
            "sensor": f"{_FILTERS}:SensorIdentity",
        },
        "median": {"image": f"{_FILTERS}:ImageMedian", "sensor": f"{_FILTERS}:SensorMedian"},
        "gaussian": {"image": f"{_FILTERS}:ImageGaussian"},
        "wiener": {
            "image": f"{_FILTERS}:ImageWiener",
            "audio": "denoise.models.classical.audio:AudioWiener",
        },
        "tv": {"image": f"{_FILTERS}:ImageTotalVariation", "sensor": f"{_FILTERS}:SensorTotalVariation"},
        "wavelet": {"image": f"{_FILTERS}:ImageWavelet", "sensor": f"{_FILTERS}:SensorWavelet"},
        "nlm": {"image": f"{_FILTERS}:NonLocalMeans"},
        "audio": {"audio": "denoise.models.classical.restoration:AudioRestoration"},
        "spectral-gate": {"audio": "denoise.models.classical.audio:SpectralGate"},
        "hampel": {"sensor": f"{_FILTERS}:SensorHampel"},
        "savgol": {"sensor": f"{_FILTERS}:SavitzkyGolay"},
        "butterworth": {"sensor": f"{_FILTERS}:Butterworth"},
    },
    "denoise.models",
    _add,
)

AUTO, AUTO_FAST = "auto", "auto-fast"

# What these select from: for each image, against noise and against blur; for each passage of a recording, for
# speech and for everything else.
PICKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    AUTO: {"image": ("photo", "photo-sharp"), "audio": ("speech", "field")},
    AUTO_FAST: {"image": ("photo-fast",), "audio": ("speech-live", "field")},
}
PROFILED_MODEL = "audio"  # accepts a noise profile
LIVE_MODEL = "speech-live"  # for live audio

THOROUGH_MODELS = ("photo-best",)  # by default run on all copies; see also `denoise.models.network_mean`
ENSEMBLES = (1, 2, 4)  # numbers of copies of a picture, see `denoise.models.ensemble`

# The shipped model that accompanies another: `ecg` takes over on heartbeats, `photo` is the prior of
# deconvolution, and half of `photo-best` on noise that a camera smoothed.
COMPANIONS: Mapping[str, str] = {"sensor": "ecg", "photo-sharp": "photo", "photo-best": "photo"}

# Of trained models; the first is the default.
PRECISIONS = ("auto", "float32", "bf16", "int8")
RUNTIMES = ("torch", "onnx")  # what runs networks; the first is the reference, and runs all

DEFAULT_MODELS: Mapping[str, str] = {"image": AUTO, "audio": AUTO, "sensor": "sensor"}
FAST_MODELS: Mapping[str, str] = {"image": AUTO_FAST, "audio": AUTO_FAST, "sensor": "sensor"}  # of `--fast`


def build(name: str, modality: str) -> Denoiser:
    """Build the denoiser of a row of `MODELS` for a modality.

    Raises:
        UsageError: There is no such row, or it does not clean this modality.
    """
    if name not in MODELS:
        raise unknown("model", name, MODELS)
    row = MODELS[name]
    if modality not in row:
        raise UsageError(f"model {name!r} cleans {' and '.join(row)}, not {modality}")
    return resolve(row[modality])()


def resolved_precision(precision: str) -> str:
    """Return the fastest of int8, bf16 and float32 that this CPU has for `auto`; any other name as it is.

    int8 takes 0.8 of the time of bf16 in vectors; beside AMX it was not measured.

    Raises:
        UsageError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    auto, float32, bf16, int8 = PRECISIONS
    if precision != auto:
        return precision
    if has_int8() and not has_amx():
        return int8
    return bf16 if has_bf16() else float32
