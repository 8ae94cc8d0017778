"""HDF5 files, through h5py (the extra `hdf5`): data sets of numbers; MAT-files of version 7.3 too.

Samples are replaced in a copy; attributes, groups, chunks, filters and all other data sets stay. References
to other files (external and virtual data sets, links) are not followed.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from denoise.errors import TooLargeError, UnreadableError
from denoise.io.formats import optional_package
from denoise.io.limits import require_few, require_memory, require_plausible_size
from denoise.io.sensor.base import naming_damage
from denoise.io.sensor.npy import time_axis
from denoise.io.sensor.npz import RATE_NAMES, ArchiveFormat, Member, member
from denoise.io.sensor.survey import Declared

_MAX_DEPTH = 64  # of groups: names grow with the depth


class _Hdf5:
    """Data sets by their paths, and attributes that state a rate as `path@name`."""

    def members(self, path: Path) -> dict[str, Member]:
        h5py = optional_package("HDF5", f"{path}: ")
        found: dict[str, Member] = {}
        claimed = 0

        def visit(name: str, item: Any) -> None:
            nonlocal claimed
            require_few(len(found), "data sets", f"{path}: ")
            if name.count("/") > _MAX_DEPTH:
                raise TooLargeError(f"{path}: holds groups more than {_MAX_DEPTH} deep; expected fewer")
            found.update(self._rates(path, name, item))
            if isinstance(item, h5py.Dataset):
                found[name] = self._member(path, name, item)
                claimed += item.nbytes if found[name].layout else 0

        with naming_damage(str(path), "a sound HDF5 file"), h5py.File(path, "r") as file:
            found |= self._rates(path, "", file)
            file.visititems(visit)
        claim = f"{claimed} bytes of data sets"
        require_plausible_size(claimed, path.stat().st_size, claim, f"{path}: ")
        require_memory(claimed, f"{path}: ")
        if not any(member.layout for member in found.values()):
            raise UnreadableError(f"{path}: holds no data sets of numbers over time; expected sensor data")
        return found

    def _rates(self, path: Path, name: str, item: Any) -> dict[str, Member]:
        found = {}
        for key in filter(RATE_NAMES.fullmatch, item.attrs):
            value = np.asarray(item.attrs[key])
            if value.size == 1 and value.dtype.kind in "iuf":
                load = partial(_load, path, name)
                found[f"{name}@{key}"] = Member(None, "an attribute", load, float(value.item()))
        return found

    def _member(self, path: Path, name: str, item: Any) -> Member:
        load = partial(_load, path, name)
        if item.external or item.is_virtual:
            return Member(None, "in other files", load)
        if item.size == 1 and item.dtype.kind in "iuf":
            return Member(None, "a single value", load, float(np.asarray(item[()]).item()))
        axes = partial(time_axis, item.dtype, item.shape or (), False, 0)
        return replace(member(axes, f"{path}: {name}", load), declared=_declared(item))

    def save(self, _source: Path, temporary: Path, changed: Mapping[str, bytes]) -> None:
        with optional_package("HDF5").File(temporary, "r+") as file:
            for name, data in changed.items():
                item = file[name]
                item[...] = np.frombuffer(data, item.dtype).reshape(item.shape)


def _declared(item: Any) -> Declared:
    """Read what the attributes of a data set say of missing values.

    They are those of the NetCDF User's Guide (Attribute Conventions), of the packed numbers, if these are
    packed: a range of floats beside packed integers is of the unpacked ones, and not used.
    """

    if item.dtype.kind not in "iuf":
        return Declared()

    def numbers(*names: str) -> list[float]:
        found = [np.asarray(item.attrs[name]).ravel() for name in names if name in item.attrs]
        found = [each for each in found if each.dtype.kind in "iuf"]
        kinds = "iuf" if item.dtype.kind == "f" or "scale_factor" not in item.attrs else "iu"
        with np.errstate(over="ignore"):  # as the data set would hold them
            found = [each.astype(item.dtype) if item.dtype.kind == "f" else each for each in found]
        return [
            float(value) for each in found if each.dtype.kind in kinds for value in each if value == value
        ]

    codes = tuple(dict.fromkeys(numbers("_FillValue", "missing_value")))
    low, high = numbers("valid_min") or [-np.inf], numbers("valid_max") or [np.inf]
    if len(valid := numbers("valid_range")) == 2:
        low, high = [min(valid)], [max(valid)]
    return Declared(codes, low[0], high[0])


def _load(path: Path, name: str) -> io.BytesIO:
    with (
        naming_damage(f"{path}: {name}", "a sound HDF5 file"),
        optional_package("HDF5").File(path, "r") as file,
    ):
        return io.BytesIO(np.ascontiguousarray(file[name][()]).tobytes())


FORMAT = ArchiveFormat(_Hdf5())
