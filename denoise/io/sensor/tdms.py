"""TDMS files of LabVIEW, through npTDMS (the extra `tdms`).

Groups, channels and properties are kept, the data of a channel in one piece. A channel whose numbers the file
scales is written as scaled, so its properties for that go. The whole file is in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from denoise.errors import UnreadableError
from denoise.io.formats import optional_package
from denoise.io.limits import require_few
from denoise.io.sensor.base import naming_damage
from denoise.io.sensor.npz import ArchiveFormat, Member, loaded

_SCALING = ("NI_Scal", "NI_Number_Of_Scales")  # begins of the names of properties that tell how to scale


class _Tdms:
    """Channels by the names of their groups and their own: `Group/Channel`."""

    def members(self, path: Path) -> dict[str, Member]:
        found: dict[str, Member] = {}
        with _open(path) as file, naming_damage(str(path), "a sound TDMS file"):
            channels = _channels(file)
            require_few(len(channels), "channels", f"{path}: ")
            for name, channel in channels.items():
                step_s = channel.properties.get("wf_increment", 0.0)
                rate = 1.0 / step_s if isinstance(step_s, float) and 0 < step_s < np.inf else None
                found[name] = loaded(np.asarray(channel[:]), f"{path}: {name}", rate)
        if not any(member.layout for member in found.values()):
            raise UnreadableError(f"{path}: holds no channels of numbers; expected sensor data")
        return found

    def save(self, source: Path, temporary: Path, changed: Mapping[str, bytes]) -> None:
        tdms = optional_package("TDMS")
        with _open(source) as file, tdms.TdmsWriter(str(temporary)) as out:
            out.write_segment([tdms.RootObject(file.properties)])
            for group in file.groups():
                out.write_segment([tdms.GroupObject(group.name, group.properties)])
            for name, channel in _channels(file).items():
                data, properties = np.asarray(channel[:]), dict(channel.properties)
                if name in changed:
                    data = np.frombuffer(changed[name], data.dtype)
                properties = {key: value for key, value in properties.items() if not key.startswith(_SCALING)}
                out.write_segment([tdms.ChannelObject(channel.group_name, channel.name, data, properties)])


def _open(path: Path) -> Any:
    tdms = optional_package("TDMS", f"{path}: ")
    tdms.log.log_manager.set_level(logging.CRITICAL)  # it warns of damage on the terminal
    with naming_damage(str(path), "a sound TDMS file"):
        file = tdms.TdmsFile.read(path)
    if file.file_status.incomplete_final_segment:
        file.close()
        raise UnreadableError(f"{path}: its last segment is incomplete; expected a whole TDMS file")
    return file


def _channels(file: Any) -> dict[str, Any]:
    """Channels by group and name; the second pair that reads the same has `#2` behind it."""
    found: dict[str, Any] = {}
    for group in file.groups():
        for channel in group.channels():
            name, number = f"{group.name}/{channel.name}", 1
            while name in found:
                number += 1
                name = f"{group.name}/{channel.name}#{number}"
            found[name] = channel
    return found


FORMAT = ArchiveFormat(_Tdms())
