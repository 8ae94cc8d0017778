"""Catalogue of models: modalities, weights files, digests, and loading."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import denoise
from denoise import weights
from denoise.errors import UsageError
from denoise.models.table import (
    COMPANIONS,
    DEFAULT_MODELS,
    ENSEMBLES,
    MODELS,
    PICKS,
    PRECISIONS,
    RUNTIMES,
    THOROUGH_MODELS,
    build,
)
from denoise.registry import unknown
from denoise.signal import MODALITIES

if TYPE_CHECKING:  # listing the catalogue must not import torch
    from denoise.infer.cleaner import Cleaner
    from denoise.infer.selection import Selector
    from denoise.models.base import Denoiser
    from denoise.models.contract import Model


@dataclass(frozen=True)
class CatalogueRow:
    """One model, without its weights loaded."""

    name: str  # the argument of `--model`
    modalities: tuple[str, ...]  # names in `MODALITIES` that it cleans
    # every weights file its results depend on, by name: its own first, then the companion's; or those it
    # selects from. Empty for a classical method
    files: Mapping[str, Path] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)  # the card of its own weights file

    @property
    def path(self) -> Path | None:
        """Its own weights file."""
        return self.files.get(self.name)

    @property
    def kind(self) -> str:
        """`automatic`, `learned` or `classical`."""
        return "automatic" if self.name in PICKS else "learned" if self.files else "classical"

    @property
    def size_bytes(self) -> int:
        """Size of its own weights file; 0 without one."""
        return self.path.stat().st_size if self.path else 0

    @property
    def digest(self) -> str:
        """A text that changes when its results may: digests of all files, or the package's version."""
        joined = "+".join(map(weights.digest, self.files.values()))
        if self.kind == "learned":
            return joined
        what = f"{self.name}:{joined}" if joined else f"builtin:{self.name}"
        return f"{what}:{denoise.__version__}"

    def check(self, modality: str) -> None:
        """Refuse a modality that it does not clean.

        Raises:
            UsageError: It is for other modalities.
        """
        if modality not in self.modalities:
            raise UsageError(f"the model {self.name} cleans {' and '.join(self.modalities)}, not {modality}")


def catalogue() -> list[CatalogueRow]:
    """Return every shipped model, learned ones first."""
    return [find(name) for name in (*PICKS, *weights.pretrained(), *MODELS)]


def find(name: str) -> CatalogueRow:
    """Return the row of a name or of a weights file.

    Raises:
        UsageError: There is no such model or file.
        WeightsError: The file is of another format or version.
    """
    shipped = weights.pretrained()
    if name in PICKS:
        names = sum(PICKS[name].values(), ())
        files = {name: path for name, path in shipped.items() if name in names}
        picks = [*files, "none"]
        files["sound-kind"] = weights.DETECTOR  # decides which, so results depend on it
        return CatalogueRow(name, tuple(PICKS[name]), files, {"picks": picks})
    if name in MODELS:
        return CatalogueRow(name, tuple(MODELS[name]))
    if name not in shipped and not Path(name).exists() and not _names_a_file(name):
        raise unknown("model", name, [*PICKS, *MODELS, *shipped])
    files = {name: weights_path(name)}
    if (companion := COMPANIONS.get(name, "")) in shipped:
        files[companion] = shipped[companion]
    card = weights.card(files[name])
    return CatalogueRow(name, (card["modality"],), files, card)


def weights_path(name: str) -> Path:
    """Return the weights file of a shipped model, or the path of one.

    Raises:
        UsageError: There is no such trained model or file.
    """
    shipped = weights.pretrained()
    path = shipped.get(name, Path(name))
    if path.exists():
        return path
    if not _names_a_file(name):
        raise unknown("trained model", name, shipped)
    with suppress(OSError):
        beside = (other.name for other in path.parent.iterdir() if other.suffix == ".safetensors")
        if near := difflib.get_close_matches(path.name, beside, n=1, cutoff=0.7):
            raise UsageError(f"{name}: no such weights file; did you mean {path.with_name(near[0])}?")
    raise UsageError(f"{name}: no such weights file")


def _names_a_file(name: str) -> bool:
    """True for what is written as the path of a file, not as the name of a model."""
    return bool(Path(name).suffix) or len(Path(name).parts) > 1


def for_modality(name: str | None, modality: str) -> CatalogueRow:
    """Return the row of `name`, or of the default model of a modality.

    Raises:
        UsageError: The model is for other modalities.
    """
    row = find(name or DEFAULT_MODELS[modality])
    row.check(modality)
    return row


def load(
    name_or_path: str | Path,
    modality: str | None = None,
    precision: str = PRECISIONS[0],
    remove: Collection[str] = (),
    keep: Collection[str] = (),
    ensemble: int | None = None,
    runtime: str = RUNTIMES[0],
) -> Cleaner:
    """Load a model by name (`denoise models` lists them) or from a weights file.

    A name is looked up among the classical methods first, then among the shipped weights; anything else is a
    path. `auto` selects a model for each image or, with modality `audio`, for each recording, and `auto-fast`
    one of the fast ones.

    Args:
        name_or_path: Such as `photo`, `wavelet` or `mine.safetensors`.
        modality: One of the modalities of a model that has several.
        precision: One of `denoise.models.table.PRECISIONS`, for trained networks: `auto` is
            the fastest of int8, bf16 and float32 that the CPU has and the card of the network allows.
        remove: For a network for sensors: names in `denoise.models.sensor.chain.STAGES` to remove however
            faint. By default clearly present components are removed, except slow wander.
        keep: For a network for sensors: which of those to keep.
        ensemble: For networks of images against noise: number of flipped and transposed copies whose results
            are averaged, 1, 2 or 4; None is 4 for `photo-best`, else 1.
        runtime: One of `denoise.models.table.RUNTIMES`. `onnx` (ONNX Runtime, in float32) runs `photo`,
            `photo-fast`, and what `auto` does with them, and imports torch only to sharpen.

    Raises:
        UsageError: There is no such model, file, precision or ensemble, or the model is for another modality.
        WeightsError: The file is not a weights file that this version can use.
    """
    from denoise.infer.cleaner import Cleaner

    if ensemble not in (None, *ENSEMBLES):
        raise UsageError(f"ensemble is {ensemble}; expected one of {', '.join(map(str, ENSEMBLES))}")
    if modality is not None and modality not in MODALITIES:
        raise unknown("modality", modality, MODALITIES)
    row = find(str(name_or_path))
    if modality is None:
        if row.kind == "classical" and len(row.modalities) > 1:
            raise UsageError(f"the model {row.name} cleans {', '.join(row.modalities)}: give the modality")
        modality = row.modalities[0]
    row.check(modality)
    model: Model | Selector
    if runtime not in RUNTIMES:
        raise unknown("runtime", runtime, RUNTIMES)
    if runtime != RUNTIMES[0]:
        model, ensemble = _in_onnx(row, modality, precision, ensemble), None
    elif row.kind == "automatic":
        model = _selector(row, modality, precision, ensemble if modality == "image" else None)
        ensemble = ensemble if modality != "image" else None
    elif not row.path:
        model = build(row.name, modality)
    else:
        from denoise.infer.precision import at_precision, finer_precision

        loaded, *others = [weights.load(path) for path in row.files.values()]
        model = at_precision(*loaded, precision)
        companions = [at_precision(*other, finer_precision(precision)) for other in others]
        if row.card.get("architecture") == "sound-kind":
            raise UsageError(f"{row.name}: is a classifier of recordings, which cleans nothing")
        if modality == "sensor" and model.spec.halo:
            from denoise.models.sensor.chain import SensorChain
            from denoise.models.sensor.heartbeats import Heartbeats

            rates_hz = Heartbeats.rates_hz if row.card.get("name") in COMPANIONS.values() else None
            model = SensorChain(model, next(iter(companions), None), remove, keep, rates_hz=rates_hz)
            remove = keep = ()
        elif modality == "image" and companions and row.name not in THOROUGH_MODELS:
            model = _sharpener(model, companions[0])
        elif modality == "image":
            model = _averaged(model, ensemble or (ENSEMBLES[-1] if row.name in THOROUGH_MODELS else 1))
            ensemble = None
            if companions:
                from denoise.models.network_mean import NetworkMean

                model = NetworkMean(model, companions[0]).eval()
        elif modality == "audio":
            from denoise.models.field.chain import FieldChain
            from denoise.models.field.floor_gain import FloorGain

            model = FieldChain(model) if isinstance(model, FloorGain) else model
    if remove or keep:
        option = "remove" if remove else "keep"
        raise UsageError(f"{option}: requires a network for sensors, and {row.name} is none")
    if ensemble:
        raise UsageError(f"ensemble: requires a network for images against noise, and {row.name} is none")
    return Cleaner(row.name, model, row.digest, row.card)


def onnx_file(row: CatalogueRow, modality: str) -> Path | None:
    """Return the weights of the network against noise that ONNX Runtime runs for a row; None if it cannot."""
    from denoise.models.config import AutoencoderConfig, config_from
    from denoise.models.onnx_graph import has_graph

    name = PICKS[row.name][modality][0] if row.kind == "automatic" else row.name
    path = weights.pretrained().get(name) if modality == "image" and name not in COMPANIONS else None
    if path is None:
        return None
    card = weights.card(path)
    is_known = card["architecture"] == "autoencoder" and has_graph(
        config_from(AutoencoderConfig, card["config"], {})
    )
    return path if is_known else None


def _in_onnx(row: CatalogueRow, modality: str, precision: str, ensemble: int | None) -> Model | Selector:
    from denoise.models.onnx_network import OnnxNetwork

    path = onnx_file(row, modality)
    if path is None or precision not in PRECISIONS[:2] or (ensemble or 1) > 1:
        raise UsageError(
            f"runtime: ONNX Runtime runs photo and photo-fast, and auto with them, in float32 and without "
            f"ensemble; expected runtime {RUNTIMES[0]} for {row.name}"
        )
    parameters, card = weights.arrays(path)
    network = OnnxNetwork(card["config"], parameters)
    if row.kind != "automatic":
        return network
    from denoise.infer.select_image import ImageSelector

    return ImageSelector({path.stem: network, **_sharpeners(row, path, precision)})


def _sharpeners(row: CatalogueRow, prior: Denoiser | Path, precision: str) -> dict[str, partial[Model]]:
    """Return what loads the models against blur of an automatic row, whose networks few pictures need."""
    against_noise, *others = PICKS[row.name]["image"]
    names = [name for name in others if name in row.files and COMPANIONS.get(name) == against_noise]
    return {name: partial(_load_sharpener, row.files[name], prior, precision) for name in names}


def _load_sharpener(path: Path, prior: Denoiser | Path, precision: str) -> Model:
    from denoise.infer.precision import at_precision, finer_precision

    if isinstance(prior, Path):
        prior = at_precision(*weights.load(prior), finer_precision(precision))
    return _sharpener(weights.load(path)[0], prior)


def _sharpener(network: Denoiser, prior: Denoiser) -> Denoiser:
    from denoise.models.deblur import Deblurrer
    from denoise.models.sharpen import Sharpener

    return Sharpener(network, prior).eval() if isinstance(network, Deblurrer) else network


def _averaged(network: Denoiser, copies: int) -> Denoiser:
    from denoise.models.ensemble import FlipEnsemble

    return FlipEnsemble(network, copies).eval() if copies > 1 else network


def _selector(row: CatalogueRow, modality: str, precision: str, ensemble: int | None) -> Selector:
    if modality == "image":
        from denoise.infer.precision import at_precision, finer_precision
        from denoise.infer.select_image import ImageSelector

        against_noise = PICKS[row.name]["image"][0]
        network, card = weights.load(row.files[against_noise])
        estimator = at_precision(network, card, finer_precision(precision))
        cleaner = _averaged(at_precision(network, card, precision), ensemble or 1)
        return ImageSelector({against_noise: cleaner, **_sharpeners(row, estimator, precision)}, estimator)
    from denoise.infer.precision import at_precision
    from denoise.infer.select_audio import MUSIC, OTHER, SPEECH
    from denoise.infer.switch import AudioSelector
    from denoise.models.field.careful import Careful
    from denoise.models.field.chain import FieldChain
    from denoise.models.field.floor_gain import FloorGain

    for_speech, for_others = names = PICKS[row.name]["audio"]
    network = at_precision(*weights.load(row.files[for_others]), precision)
    assert isinstance(network, FloorGain)
    return AudioSelector(
        {
            SPEECH: load(for_speech, modality, precision).denoiser,
            MUSIC: FieldChain(network).eval(),
            OTHER: FieldChain(Careful(network.for_places())).eval(),
        },
        names,
    )
