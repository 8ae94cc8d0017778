"""Packages of others as rows of a benchmark, with their defaults; * marks those given the noise level."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from denoise.arrays import Array
from denoise.errors import DenoiseError, reason
from denoise.infer.selection import Selection
from pipelines.benchmark.cases import Case


class Peer(NamedTuple):
    """A package of others."""

    modality: str  # kind of files that it cleans
    module: str  # the module to import
    clean: Callable[[Any, Case], Array]  # cleans a case with that module
    package: str = ""  # the package to install, if its name differs


def _bm3d(module: Any, case: Case) -> Array:
    """Dabov et al., 2007; in colour with the opponent transform."""
    sigma = float(np.std(case.noisy - case.clean.array))
    if len(case.noisy) != 3:
        return np.stack([module.bm3d(plane, sigma) for plane in case.noisy])
    return np.moveaxis(module.bm3d_rgb(np.moveaxis(case.noisy, 0, -1), sigma), -1, 0)


def _noisereduce(module: Any, case: Case) -> Array:
    """Sainburg et al., 2020."""
    return np.asarray(module.reduce_noise(y=case.noisy, sr=int(case.clean.sample_rate or 0)))


def _rnnoise(module: Any, case: Case) -> Array:
    """Valin, 2018; at 48 kHz, one channel after the other; its delay of two frames is taken back."""
    from denoise.dsp.resample import resample

    cleaned = []
    for channel in case.noisy:
        wide = resample(channel[None], case.clean.sample_rate or 0.0, 48_000.0)[0]
        size, state = module.FRAME_SIZE, module.create()
        frames = np.pad(wide * 32767, (0, -len(wide) % size + 2 * size)).clip(-32768, 32767).astype(np.int16)
        parts = [module.process_frame(state, frame)[0].ravel() for frame in frames.reshape(-1, size)]
        module.destroy(state)
        narrow = resample(np.concatenate(parts[2:])[None] / 32767, 48_000.0, case.clean.sample_rate or 0.0)[0]
        cleaned.append(narrow[: len(channel)])
    return np.stack(cleaned)


def _visushrink(module: Any, case: Case) -> Array:
    """Donoho and Johnstone, 1994: soft universal threshold, the level from the finest details."""

    def clean(channel: Array) -> Array:
        details = module.wavedec(channel, "db4")
        sigma = np.median(np.abs(details[-1])) / 0.6745
        threshold = sigma * np.sqrt(2 * np.log(len(channel)))
        kept = [details[0], *(module.threshold(d, threshold, "soft") for d in details[1:])]
        return np.asarray(module.waverec(kept, "db4"))[: len(channel)]

    return np.stack([clean(channel) for channel in case.noisy])


def _neurokit(module: Any, case: Case) -> Array:
    """Makowski et al., 2021: a high-pass and a filter against mains, for ECGs alone."""
    rate = case.clean.sample_rate or 0.0
    return np.stack([module.ecg_clean(channel, sampling_rate=rate) for channel in case.noisy])


PEERS: Mapping[str, Peer] = {
    "bm3d*": Peer("image", "bm3d", _bm3d),
    "noisereduce": Peer("audio", "noisereduce", _noisereduce),
    "rnnoise": Peer("audio", "pyrnnoise.rnnoise", _rnnoise, "pyrnnoise"),
    "PyWavelets": Peer("sensor", "pywt", _visushrink),
    "neurokit2-ecg": Peer("sensor", "neurokit2", _neurokit),
}


def missing() -> list[str]:
    """List the packages of peers that are not installed."""
    found = {peer.package or peer.module: find_spec(peer.module.partition(".")[0]) for peer in PEERS.values()}
    return [package for package, spec in found.items() if spec is None]


def installed(modality: str) -> dict[str, Callable[[Case], tuple[Array, Selection]]]:
    """Find the peers of a modality that can be imported, as functions of a case."""
    found = {}
    for name, peer in PEERS.items():
        if peer.modality == modality:
            try:
                found[name] = _bound(name, peer, importlib.import_module(peer.module))
            except ImportError:
                continue
    return found


def _bound(name: str, peer: Peer, module: ModuleType) -> Callable[[Case], tuple[Array, Selection]]:
    def denoise(case: Case) -> tuple[Array, Selection]:
        try:
            cleaned = peer.clean(module, case)
        except Exception as error:  # of a package of others: the file fails, the rest goes on
            raise DenoiseError(f"{name} fails: {reason(error)}") from error
        return cleaned.astype(case.noisy.dtype), Selection(name)

    return denoise
