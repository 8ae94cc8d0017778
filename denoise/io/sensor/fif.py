"""FIF files of raw MEG and EEG (Elekta Neuromag, MNE), through MNE-Python (the extra `fif`).

Channels of signals become one recording; triggers, positions and other channels stay, as do measurement info
and annotations. The precision of the file is kept. The whole file is in memory.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from denoise.arrays import Array
from denoise.errors import UnsupportedError
from denoise.io.formats import optional_package
from denoise.io.limits import require_few
from denoise.io.sensor.base import naming_damage
from denoise.io.sensor.npz import ArchiveFormat, Member, loaded, require_new

_SIGNALS = {"bio", "dbs", "ecg", "ecog", "eeg", "emg", "eog", "gsr", "mag", "grad", "ref_meg", "resp"} | {
    "seeg",
    "temperature",
}


_BITS = {"short": 16, "int": 32}  # of the integers of a file; others hold floats


class _Fif:
    """Channels by name."""

    def members(self, path: Path) -> dict[str, Member]:
        raw = _open(path)
        require_few(len(raw.ch_names), "channels", f"{path}: ")
        with naming_damage(str(path), "a sound FIF file of raw data"):
            data = raw.get_data()
        rate = float(raw.info["sfreq"])
        found: dict[str, Member] = {}
        full = 2.0 ** (_BITS.get(raw.orig_format, 0) - 1)
        named = zip(raw.ch_names, raw.get_channel_types(), data, _units(raw), strict=True)
        for name, kind, values, unit in named:
            require_new(name, found, path)
            limits = (-full * unit, (full - 1) * unit) if full >= 1 else None
            found[name] = loaded(values, f"{path}: {name}", rate, limits)
            if kind not in _SIGNALS:
                found[name] = Member(None, f"{kind} channel", found[name].load)
        return found

    def save(self, source: Path, temporary: Path, changed: Mapping[str, bytes]) -> None:
        raw = _open(source)
        for name, samples in changed.items():
            raw._data[raw.ch_names.index(name)] = np.frombuffer(samples)
        if raw.orig_format in _BITS:  # MNE divides and drops the fraction: 2.9999999 would become 2
            units = _units(raw)[:, None]
            raw._data[:] = np.rint(raw._data / units) * units * (1 + 1e-12)
        with tempfile.TemporaryDirectory(dir=temporary.parent) as folder:
            whole = Path(folder) / "whole_raw.fif"  # MNE insists on such a name
            raw.save(whole, fmt=raw.orig_format, verbose="error")
            shutil.copyfile(whole, temporary)  # which keeps its permissions


def _units(raw: Any) -> Array:
    """Value of a count of each channel."""
    return np.array([channel["cal"] * channel["range"] for channel in raw.info["chs"]])


def _open(path: Path) -> Any:
    mne = optional_package("FIF", f"{path}: ")
    with naming_damage(str(path), "a sound FIF file of raw data"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on names that do not end in raw.fif
        raw = mne.io.read_raw_fif(path, preload=True, verbose="error")
    if len(raw.filenames) > 1:
        raise UnsupportedError(f"{path}: goes on in {raw.filenames[1]}; expected a file that is whole")
    return raw


FORMAT = ArchiveFormat(_Fif())
