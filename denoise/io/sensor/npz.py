"""Files of named arrays: signals become channels, the others are left as they are.

A format is an `Archive`: it lists its arrays, and puts new bytes into a copy of the file. NPZ is the format
of numpy; MAT and HDF5 have modules of their own. One array at a time is in memory.
"""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from denoise.arrays import Array, Doubles
from denoise.errors import UnreadableError, UnsupportedError
from denoise.io.limits import require_few, require_memory, require_plausible_size
from denoise.io.sensor.base import (
    PIECE,
    LogOptions,
    SensorReader,
    SensorWriter,
    check_recording,
    naming_damage,
    sensor_info,
)
from denoise.io.sensor.columns import choose, decimals_note, describe, find_clock
from denoise.io.sensor.kinds import domain_of
from denoise.io.sensor.npy import ArrayLayout, floats, npy_layout, time_axis
from denoise.io.sensor.survey import CodeSurvey, ColumnSurvey, Declared
from denoise.signal import Clock, Domain, SensorInfo

RATE_NAMES = re.compile(
    r"fs|sr|sfreq|f_s|rate|sample_?rate|sampling_?(?:rate|frequency)|frequency|samplerate_hz|fs_hz"
)


@dataclass(frozen=True)
class Member:
    """One array of an archive."""

    layout: ArrayLayout | None  # layout of its samples in the bytes of `load`; None if it is no signal
    reject_reason: str  # its kind, if it is no signal
    load: Callable[[], io.BytesIO]  # reads its bytes
    value: float | None = None  # the number, if it is a single one
    sample_rate: float | None = None  # Hz, if the file states it for this array
    stamp_type: str = ""  # of an array of times in seconds since 1970: their type in the file
    shown_whole: bool = False  # numbers without decimals, of a type that holds them
    declared: Declared | None = None  # what the file says of its missing values


def member(layout: Callable[[str], ArrayLayout], label: str, load: Callable[[], io.BytesIO]) -> Member:
    """Make a member of an array; one that is no signal keeps the reason."""
    try:
        return Member(layout(label), "", load)
    except UnsupportedError as error:
        return Member(None, str(error).removeprefix(f"{label}: ").partition(";")[0], load)


def require_new(name: str, found: Mapping[str, Member], path: Path) -> None:
    """Refuse a second array of a name: results go by names, and one would take the place of the other.

    Raises:
        UnsupportedError: The name is in `found`.
    """
    if name in found:
        raise UnsupportedError(f"{path}: two arrays are named {name!r}; expected different names")


def loaded(
    values: Array,
    label: str,
    sample_rate: float | None = None,
    limits: tuple[float, float] | None = None,
) -> Member:
    """Make a member of an array in memory, as other libraries decode it; dates become seconds.

    Args:
        limits: The smallest and the largest value that the file can hold, if its numbers are narrower.
    """
    stamp_type = str(values.dtype) if values.dtype.kind == "M" else ""
    if stamp_type:
        missing = np.isnat(values)
        values = values.astype("datetime64[us]").astype(np.int64) / 1e6
        values[missing] = np.nan

    def load() -> io.BytesIO:
        return io.BytesIO(np.ascontiguousarray(values).tobytes())

    found = member(lambda name: time_axis(values.dtype, values.shape, False, 0, name), label, load)
    if found.layout and limits:
        found = replace(found, layout=replace(found.layout, limits=limits))
    return replace(found, sample_rate=sample_rate, stamp_type=stamp_type)


class Archive(Protocol):
    """One format of named arrays."""

    def members(self, path: Path) -> dict[str, Member]:
        """List the arrays in the order of the file, from their headers alone."""

    def save(self, source: Path, temporary: Path, changed: Mapping[str, bytes]) -> tuple[str, ...] | None:
        """Put the new bytes of arrays into `temporary`, a copy of the source; return notes, if any."""


@dataclass(frozen=True)
class _Recording:
    """Arrays that are cleaned together, their channels stacked in a block."""

    members: tuple[str, ...]
    samples: int
    domains: tuple[Domain, ...]  # of each channel


@dataclass(frozen=True)
class _Layout:
    """The arrays of a file, and the recordings that they form."""

    members: Mapping[str, Member]
    recordings: tuple[_Recording, ...]


class ArchiveReader(SensorReader):
    """Reads the chosen arrays of one recording."""

    def __init__(self, info: SensorInfo, block: int, recording: _Recording) -> None:
        super().__init__(info, block)
        self._recording = recording

    def pieces(self) -> Iterator[Doubles]:
        """Stack the channels of all arrays of the recording."""
        members: Mapping[str, Member] = self.info.own.members
        loaded = [(_signal(members[name]), members[name].load()) for name in self._recording.members]
        step = max(PIECE // len(self._recording.domains), 1)
        for start in range(0, self._recording.samples, step):
            stop = min(start + step, self._recording.samples)
            yield np.concatenate([floats(layout.get(file, start, stop)) for layout, file in loaded])

    def stamp_pieces(self, clock: Clock) -> Iterator[Doubles]:
        """Read the array of times."""
        member: Member = self.info.own.members[clock.name]
        yield from _signal(member).pieces(member.load())


def _signal(member: Member) -> ArrayLayout:
    assert member.layout is not None
    return member.layout


class ArchiveWriter(SensorWriter):
    """Writes the archive again with the chosen arrays replaced, the others as they are."""

    def __init__(self, path: Path, info: SensorInfo, archive: Archive, converts: bool) -> None:
        self._archive, self._converts = archive, converts
        self._layout: _Layout = info.own
        domains = [each.domains for each in self._layout.recordings]
        shapes = [(len(each.domains), each.samples) for each in self._layout.recordings]
        super().__init__(path, info, shapes, domains)
        self._loaded: dict[str, io.BytesIO] = {}
        self._changed: set[str] = set()

    def open(self, temporary: Path, stack: ExitStack) -> None:
        """Copy the source; changed arrays are put in at the end."""
        self._temporary = temporary
        shutil.copyfile(self.info.source, temporary)
        stack.callback(self._loaded.clear)

    def put(self, block: Doubles, recording: int, start: int) -> None:
        """Replace the samples that differ; after the last, drop the arrays that did not change."""
        here, channel = self._layout.recordings[recording], 0
        for name in here.members:
            layout = _signal(self._layout.members[name])
            place = slice(channel, channel + layout.channels)
            channel += layout.channels
            if name not in self._loaded:
                self._loaded[name] = self._layout.members[name].load()
            clipped, changed = layout.replace(
                self._loaded[name], start, block[place], here.domains[place], self.path
            )
            self.clipped += clipped
            if changed:
                self._changed.add(name)
        if start + block.shape[1] == here.samples:
            for name in set(here.members) - self._changed:
                del self._loaded[name]

    def finish(self) -> None:
        """Write the changed arrays, if there are any, or all to another format."""
        changed = {name: self._loaded[name].getvalue() for name in self._changed}
        if changed or self._converts:
            self.notes = self._archive.save(self.info.source, self._temporary, changed) or ()


@dataclass(frozen=True)
class ArchiveFormat:
    """An archive as a format of `denoise.io.sensor.codec`."""

    archive: Archive
    converts: bool = False  # True if it saves another format

    def reader(self, path: Path, options: LogOptions, recording: int, block: int) -> ArchiveReader:
        """Open one recording."""
        members = self.archive.members(path)
        surveys = _survey(members)
        clock = find_clock(surveys, options.time_unit)
        for survey in surveys:
            if survey.stamp_type and survey.numeric:  # stamps are no measurements
                survey.numeric, survey.reject_reason = False, survey.stamp_type
        chosen = choose(path, surveys, clock, options)
        domains = {surveys[index].name: _domains(surveys[index]) for index in chosen}
        layouts = {name: _signal(members[name]) for name in domains}
        recordings = _recordings(members, domains)
        check_recording(path, recording, len(recordings))
        chosen_one = recordings[recording]
        here = clock if clock and _samples(members[clock.name]) == chosen_one.samples else None
        given = options.sample_rate
        stated_name, stated = _stated_rate(members)
        own_rate = members[chosen_one.members[0]].sample_rate
        notes = [f"{name}: {layout.note}" for name, layout in layouts.items() if layout.note]
        if own_rate and not given:
            notes += [f"sample rate {own_rate:g} Hz as the file states it"]
        elif stated and not given:
            notes += [f"sample rate {stated:g} Hz from {stated_name!r}"]
        notes += describe(surveys, chosen, clock, given)
        notes += decimals_note([name for name in domains if members[name].shown_whole])
        info = sensor_info(
            path,
            (len(chosen_one.domains), chosen_one.samples),
            sample_rate=given or own_rate or stated or (here.sample_rate if here else None),
            pages=len(recordings),
            notes=tuple(notes),
            names=tuple(members),
            columns=chosen_one.members,
            clock=here,
            time_column=clock.name if clock else None,
            domains=chosen_one.domains,
            own=_Layout(members, recordings),
        )
        return ArchiveReader(info, block, chosen_one)

    def writer(self, path: Path, info: SensorInfo) -> ArchiveWriter:
        """Open a copy of the source for its new samples."""
        return ArchiveWriter(path, info, self.archive, self.converts)


def _samples(member: Member) -> int:
    return member.layout.samples if member.layout else 0


def _domains(survey: ColumnSurvey) -> tuple[Domain, ...]:
    """Return the domain of each channel of an array; several channels have only codes."""
    listed = survey.listed
    return (domain_of(survey),) if listed.single else tuple(map(listed.domain, range(len(listed.codes))))


def _survey(members: Mapping[str, Member]) -> list[ColumnSurvey]:
    surveys = []
    for name, member in members.items():
        survey = ColumnSurvey(name, "s" if member.stamp_type else None, member.stamp_type)
        surveys.append(survey)
        layout = member.layout
        if layout is None:
            survey.numeric, survey.reject_reason = False, member.reject_reason
            continue
        survey.listed = CodeSurvey(layout.channels, declared=member.declared)
        for piece in layout.pieces(member.load()):
            if layout.channels == 1:
                survey.add(piece[0])
            else:  # a table of channels is neither a time column nor a flag
                survey.listed.add(piece)
                survey.values += int(np.isfinite(piece).sum())
                survey.integers = survey.increasing = False
            if np.isinf(piece).any() and not survey.infinite:
                survey.infinite = f"array {name!r}"
    return surveys


def _stated_rate(members: Mapping[str, Member]) -> tuple[str, float]:
    """Find a single number with the name of a rate, such as `fs`; return name and Hz, or 0."""
    for name, member in members.items():
        last = name.lower().rpartition("/")[2].rpartition("@")[2]
        if RATE_NAMES.fullmatch(last) and member.value and np.isfinite(member.value) and member.value > 0:
            return name, member.value
    return "", 0.0


def _recordings(
    members: Mapping[str, Member], domains: Mapping[str, tuple[Domain, ...]]
) -> tuple[_Recording, ...]:
    """Group the arrays with domains: in one recording if their lengths and rates agree, else one for each."""
    kinds = {(_samples(members[name]), members[name].sample_rate) for name in domains}
    groups = [tuple(domains)] if len(kinds) == 1 else [(name,) for name in domains]
    return tuple(
        _Recording(group, _samples(members[group[0]]), tuple(chain(*(domains[name] for name in group))))
        for group in groups
    )


class _Npz:
    """A ZIP of `.npy` files, as `numpy.savez` writes it."""

    def members(self, path: Path) -> dict[str, Member]:
        found: dict[str, Member] = {}
        with naming_damage(str(path), "a sound NPZ archive"):
            archive = zipfile.ZipFile(path)  # closed with the last member that loads from it
            require_few(len(archive.infolist()), "arrays", f"{path}: ")
            claimed = sum(entry.file_size for entry in archive.infolist())
            claim = f"{claimed} bytes of arrays"
            require_plausible_size(claimed, path.stat().st_size, claim, f"{path}: ")
            require_memory(claimed, f"{path}: ")
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                require_new(name, found, path)
                if entry.flag_bits & 1:
                    raise UnsupportedError(f"{path}: {name!r} is encrypted; expected a plain NPZ")
                found[name] = self._member(path, archive, entry, name)
        if not found:
            raise UnreadableError(f"{path}: the archive holds no arrays; expected sensor data")
        return found

    def _member(self, path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> Member:
        def load() -> io.BytesIO:
            with naming_damage(f"{path}: {entry.filename}", "a sound NPZ archive"):
                return io.BytesIO(archive.read(entry))

        if name == entry.filename:
            return Member(None, "not an array", load)
        with archive.open(entry) as file:
            found = member(lambda label: npy_layout(file, entry.file_size, label), f"{path}: {name}", load)
        if found.layout and found.layout.samples > 1:
            return found
        reason = found.reject_reason or "a single value"
        return Member(None, reason, load, _single(load, entry.file_size))

    def save(self, source: Path, temporary: Path, changed: Mapping[str, bytes]) -> None:
        with zipfile.ZipFile(source) as old, zipfile.ZipFile(temporary, "w") as new:
            new.comment = old.comment
            for entry in old.infolist():
                name = entry.filename.removesuffix(".npy")
                data = changed.get(name) or old.read(entry)
                new.writestr(copy(entry), data, compress_type=entry.compress_type)


def _single(load: Callable[[], io.BytesIO], size_bytes: int) -> float | None:
    """Read the number of an `.npy` with one element."""
    if size_bytes >= 1024:
        return None
    try:
        value = np.load(load(), allow_pickle=False)
    except ValueError:
        return None
    return float(value.item()) if value.size == 1 and value.dtype.kind in "iuf" else None


FORMAT = ArchiveFormat(_Npz())
