"""From a model's name to cleaned arrays and files.

auto      which model an image needs
windows   the index plan that tiles and blocks share
tiles     which tiles: what memory allows, and wastes least
apply     one array, tile by tile
stream    one signal, block by block
gaps      pauses of a clock, and short gaps filled
files     one file to another
transformer for pipelines of scikit-learn
precision networks with fewer digits
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from denoise.errors import InputError, UsageError
from denoise.models import (
    AUDIO_PICKS,
    AUTO,
    AUTO_PICKS,
    DEFAULT_MODELS,
    HEART,
    LIVE_MODEL,
    MODELS,
    PRECISIONS,
    build,
)
from denoise.registry import unknown
from denoise.signal import MODALITIES

if TYPE_CHECKING:
    from denoise.models.base import Denoiser, InputSpec

__all__ = ["DEFAULT_MODELS", "Cleaner", "load"]


@dataclass(frozen=True)
class Cleaner:
    """A denoiser with its name and papers, ready for arrays.

    Args:
        name: What it was loaded by.
        model: The denoiser itself.
        digest: Tells apart models that would clean differently: of the weights file, or of the row and
            version.
        card: What is known about the weights: recipe, data, measured metrics. Empty for classical rows.
        notes: Sentences for the user about how it works on this machine.
    """

    name: str
    model: Denoiser
    digest: str
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> InputSpec:
        """What the model needs of its input."""
        return self.model.spec

    @property
    def takes_sigma(self) -> bool:
        """Whether the noise standard deviation can be given."""
        from denoise.models.base import SigmaDenoiser

        return isinstance(self.model, SigmaDenoiser)

    def clean(
        self,
        array: NDArray[Any],
        sample_rate: float | None = None,
        strength: float = 1.0,
        sigma: float | None = None,
    ) -> NDArray[Any]:
        """Clean an image or a signal in memory; the array itself is not touched.

        Integers mean their type's full scale (a sensor's signal: its own units). Float images are in 0..1,
        float audio in -1..1. The last of 2 or 4 channels of an image is taken for alpha and copied.

        Args:
            array: The noisy samples. In a sensor's signal NaN is a gap, and stays one.
            sample_rate: Hz, for signals; needed by a model that has a rate of its own.
            strength: 1 is fully cleaned, 0 is the input.
            sigma: Noise standard deviation, for a model that uses it: images on the 8-bit scale, signals in
                their own units.

        Shape:
            Images `(H, W)` or `(H, W, C)`, signals `(T,)` or `(T, C)`; the same comes back, in the same
            dtype.

        Raises:
            UsageError: The model cannot honour `strength`, `sigma` or `sample_rate`.
            InputError: The array is empty, of a wrong shape or type, or holds values that are not finite.
        """
        from denoise.infer.apply import apply
        from denoise.infer.stream import check_request

        check_request(self.name, self.model, strength, sigma)
        if self.spec.sample_rate is not None and sample_rate is None:
            raise UsageError(
                f"the model {self.name} works at {self.spec.sample_rate:g} Hz: give the sample_rate"
            )
        noisy = np.asarray(array)
        _check_array(noisy, self.spec.ndim, self.name)
        channelled = noisy.ndim == self.spec.ndim + 1
        planes = np.moveaxis(noisy, -1, 0) if channelled else noisy[None]
        cleaned = apply(
            self.model,
            planes,
            peak=_peak(noisy.dtype, self.spec.modality),
            keep=int(self.spec.ndim == 2 and len(planes) in (2, 4)),
            sample_rate=sample_rate,
            strength=strength,
            sigma=sigma,
        )
        return np.moveaxis(cleaned, 0, -1) if channelled else cleaned[0]


def _check_array(array: NDArray[Any], ndim: int, name: str) -> None:
    shapes = "(H, W) or (H, W, C)" if ndim == 2 else "(T,) or (T, C)"
    if array.ndim not in (ndim, ndim + 1):
        raise InputError(f"an array of shape {array.shape} came; the model {name} takes {shapes}")
    if array.dtype.kind not in "uif":
        raise InputError(f"an array of type {array.dtype} came; expected integers or floats")
    if not array.size:
        raise InputError(f"an array of shape {array.shape} came: it holds nothing to clean")


def _peak(dtype: np.dtype[Any], modality: str) -> float | None:
    """What full scale is in an array that comes without a file."""
    if modality == "sensor":
        return None
    if dtype.kind == "f":
        return 1.0
    limits = np.iinfo(dtype)
    if modality == "image":
        return float(limits.max)
    return float((int(limits.max) - int(limits.min) + 1) // 2)


def load(
    name_or_path: str | Path,
    modality: str | None = None,
    precision: str = PRECISIONS[0],
    remove: Collection[str] = (),
    keep: Collection[str] = (),
) -> Cleaner:
    """The denoiser of a name (`denoise models` lists them) or of a weights file.

    A name is looked up among the classical rows first, then among the shipped weights; anything else is a
    path. `auto` chooses among them for each image, or, asked for audio, for each recording.

    Args:
        name_or_path: Such as `photo`, `wavelet` or `mine.safetensors`.
        modality: Which of its kinds, for a name that has several.
        precision: Of `denoise.models.PRECISIONS`; `bf16` is about twice as fast on a CPU that multiplies it
            itself, and costs a few hundredths of a decibel.
        remove: Of a network for sensors, what to take out before it however faint it is: of
            `denoise.models.sensor.chain.STAGES`. By default, what is clearly present is removed, except
            slow wander.
        keep: Of the same, what stays in.

    Raises:
        UsageError: Nothing has this name, or what has it is for another modality; or no such precision.
        WeightsError: The file is not one of weights that this version can use.
    """
    from denoise.infer.precision import at_precision

    cleaner = at_precision(_load(name_or_path, modality), precision)
    return _with_stages(cleaner, remove, keep)


def _with_stages(cleaner: Cleaner, remove: Collection[str], keep: Collection[str]) -> Cleaner:
    spec = cleaner.spec
    if spec.modality == "sensor" and spec.halo and next(cleaner.model.parameters(), None) is not None:
        from denoise import weights
        from denoise.models.sensor.chain import SensorChain

        path = weights.pretrained().get(HEART.get(cleaner.name, ""))
        heart = weights.load(path)[0] if path else None
        digest = f"{cleaner.digest}+{weights.digest(path)}" if path else cleaner.digest
        return replace(cleaner, model=SensorChain(cleaner.model, heart, remove, keep), digest=digest)
    if remove or keep:
        what = "remove" if remove else "keep"
        raise UsageError(f"{what}: is for networks for sensors, and {cleaner.name} is none")
    return cleaner


def _load(name_or_path: str | Path, modality: str | None) -> Cleaner:
    from denoise import weights

    if modality is not None and modality not in MODALITIES:
        raise unknown("modality", modality, MODALITIES)
    name, shipped = str(name_or_path), weights.pretrained()
    if name == AUTO:
        return _load_automatic(modality)
    if name in MODELS:
        return _load_row(name, modality)
    if name in shipped:
        return _load_weights(shipped[name], name, modality)
    path = Path(name_or_path)
    if not path.exists() and not path.suffix and path.name == name:  # meant as a name
        raise unknown("model", name, [AUTO, *MODELS, *shipped])
    return _load_weights(path, name, modality)


def _load_automatic(modality: str | None) -> Cleaner:
    from denoise import weights
    from denoise.infer.select_image import Automatic

    if modality == "audio":
        return _load_automatic_audio()
    if modality not in (None, "image"):
        raise UsageError(f"the model {AUTO} cleans image and audio, not {modality}")
    picks = {name: path for name, path in weights.pretrained().items() if name in AUTO_PICKS}
    model = Automatic({name: weights.load(path)[0] for name, path in picks.items()})
    return Cleaner(AUTO, model, "sha256:" + "+".join(weights.digest(path) for path in picks.values()))


def _load_automatic_audio() -> Cleaner:
    from denoise.infer.select_audio import AutomaticAudio

    cleaners = [_load(name, "audio") for name in (*AUDIO_PICKS, LIVE_MODEL)]
    *picks, ear = (cleaner.model for cleaner in cleaners)
    model = AutomaticAudio(dict(zip(AUDIO_PICKS, picks, strict=True)), ear)
    return Cleaner(AUTO, model, "+".join(cleaner.digest for cleaner in cleaners))


def _load_row(name: str, modality: str | None) -> Cleaner:
    import denoise

    row = MODELS[name]
    if modality is None and len(row) > 1:
        raise UsageError(f"the model {name} cleans {', '.join(row)}: say which modality")
    return Cleaner(name, build(name, modality or next(iter(row))), f"builtin:{name}@{denoise.__version__}")


def _load_weights(path: Path, name: str, modality: str | None) -> Cleaner:
    from denoise import weights

    model, card = weights.load(path)
    if modality not in (None, model.spec.modality):
        raise UsageError(f"the model {name} cleans {model.spec.modality}, not {modality}")
    return Cleaner(name, model, f"sha256:{weights.digest(path)}", card)
