"""Clean the recordings of a file of sound or of a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from denoise import io
from denoise.arrays import Array
from denoise.errors import NothingToCleanError, UsageError
from denoise.infer.cleaner import Cleaner
from denoise.infer.evaluate import evaluator
from denoise.infer.progress import report_share
from denoise.infer.result import (
    FileResult,
    as_before,
    copy,
    mean_figures,
    not_written,
    salvaged,
    stamped,
    stop_writing,
    writer_notes,
    writer_or_copy,
)
from denoise.infer.selection import Selection
from denoise.infer.stages import DEFAULT_BLOCK
from denoise.infer.stream import Levels, Stream
from denoise.infer.switch import AudioSelector, SwitchedStream
from denoise.infer.tally import EventTally
from denoise.io import Writer
from denoise.io.sensor.base import SensorReader
from denoise.io.sniff import sniff
from denoise.machine import release_memory
from denoise.models.sensor.chain import SensorChain
from denoise.models.sensor.check import HarmGate
from denoise.options import CleanOptions
from denoise.signal import AudioInfo, Clock, SensorInfo, SignalInfo

# Options that say how to read a log.
_READING = ("columns", "exclude", "sample_rate", "time_unit", "delimiter", "decimal", "keep_resolution")
_MIN_RESTRAINED = 0.05  # share of a correction that is left out, from which a note says so
_FEW_READINGS = 1000  # of a log whose noise may be left because too few of its parts tell it
_SAID = {"left_noise_db", "left_process_db"}  # each has a note that says why a column is left
_RELEASE_SAMPLES = 1 << 20  # after which holes between blocks in use, up to 300 MB, go back to the system
_NOTHING = "left as it is: there is nothing to remove"
_MAX_UNTOUCHED = 8  # columns that notes name as left as they are


def clean_recordings(source: Path, destination: Path, cleaner: Cleaner, options: CleanOptions) -> FileResult:
    """Clean a signal, or copy a log without a column that may be cleaned, or a video without sound."""
    try:
        return _clean_each(source, destination, cleaner, options)
    except NothingToCleanError as error:
        if sniff(source).name == "WFDB" or destination.suffix.lower() != source.suffix.lower():
            raise  # a record is several files
        copy(source, destination)
        info = SignalInfo(source, cleaner.spec.modality, (0, 0), "float64", None)
        note = str(error).removeprefix(f"{source}: ")
        return FileResult(info, 0, {}, (f"copied: {note}",), 0, (Selection("none"),))


def _clean_each(source: Path, destination: Path, cleaner: Cleaner, options: CleanOptions) -> FileResult:
    """Clean every recording of a file; an NPZ may hold several, of different lengths."""
    reading: dict[str, Any] = {"block": options.block or DEFAULT_BLOCK}
    of_reference = dict[str, Any]()
    if cleaner.spec.modality == "audio":
        reading["salvage"], of_reference["salvage"] = not options.strict, False
        if options.streams:
            reading["streams"] = options.streams
    elif cleaner.spec.modality == "sensor":
        reading |= {name: getattr(options, name) for name in _READING} | {"only_measurements": True}
    if cleaner.selector and destination.suffix.lower() == source.suffix.lower() and not options.reference:
        silent = _silent(source, reading)
        if silent is not None:  # which a packed file may hold for days
            copy(source, destination)
            selection = Selection("none", reason="none: silence throughout")
            return FileResult(silent, silent.shape[-1], {}, (*silent.notes, _NOTHING), 0, (selection,))
    info, levels = _measure_levels(source, cleaner, reading)
    samples, released, figures, notes, selections = 0, 0, [], [], list[Selection]()
    unchanged = _Unchanged(info)
    with writer_or_copy(source, destination, stamped(info, cleaner, options)) as sink:
        for recording in range(info.pages):
            if recording:
                reading["recording"] = recording
                _, levels = _measure_levels(source, cleaner, reading)
            with (
                io.reader(source, **reading) as blocks,
                evaluator(blocks.info, options.reference, reading | of_reference) as scores,
            ):
                stream = _open_stream(blocks.info, cleaner, levels, options)
                tally = EventTally(*levels.mean_and_deviation()) if info.modality == "sensor" else None
                takers = [taker for taker in (scores, tally, unchanged) if taker is not None]
                stamps: Iterator[Array | None] = repeat(None)
                if isinstance(blocks, SensorReader) and _pausing_clock(blocks.info):
                    stamps = blocks.stamps()
                for noisy, stamps_s in zip(blocks, stamps, strict=False):
                    samples += noisy.shape[-1]
                    _put(sink, takers, noisy, stream.feed(noisy, stamps_s))
                    if samples - released >= _RELEASE_SAMPLES:
                        release_memory()
                        released = samples
                    report_share(samples / max(info.pages * info.shape[-1], samples))
                _put(sink, takers, None, stream.feed(np.empty((blocks.info.shape[0], 0)), last=True))
                named = Selection(cleaner.name)
                selections.append(stream.selection if isinstance(stream, SwitchedStream) else named)
                info = blocks.info if salvaged(blocks.info) else info  # some damage shows at the end only
                notes += [*stream.notes, *_removal_note(stream.diagnostics), *(tally.notes if tally else ())]
                said = blocks.info.shape[0] == 1 and not _SAID.isdisjoint(stream.diagnostics)
                if tally and options.bounded_strength and isinstance(cleaner.model, SensorChain) and not said:
                    notes += _untouched_notes(tally, blocks.info)
                figures.append({**scores.result(), **stream.diagnostics, **(tally.metrics if tally else {})})
        copied = (
            bool(unchanged) and not salvaged(info) and destination.suffix.lower() == source.suffix.lower()
        )
        stop_writing(copied)  # encoding again would only lose
    if not copied:
        all_notes = (*info.notes, *writer_notes(sink), *notes)
        return FileResult(info, samples, mean_figures(figures), all_notes, sink.clipped, tuple(selections))
    all_notes = (*info.notes, *notes, _NOTHING)
    measured = as_before(mean_figures(figures))
    return FileResult(info, samples, measured, all_notes, 0, tuple(not_written(selections)))


def _open_stream(
    info: SignalInfo, cleaner: Cleaner, levels: Levels, options: CleanOptions
) -> Stream | SwitchedStream:
    if cleaner.spec.sample_rate is not None and info.sample_rate is None:
        raise UsageError(
            f"{info.source} has no sample rate, and the model {cleaner.name} works at "
            f"{cleaner.spec.sample_rate:g} Hz: give sample_rate (--sample-rate)"
        )
    block = options.block or DEFAULT_BLOCK
    if isinstance(cleaner.model, AudioSelector):
        assert info.sample_rate is not None
        return cleaner.model.stream(info.shape[0], info.sample_rate, options.bounded_strength, block=block)
    return Stream(
        cleaner.denoiser,
        info.shape[0],
        info.sample_rate,
        options.bounded_strength,
        options.sigma,
        *levels.offset_and_scale(cleaner.spec),
        block,
        _pausing_clock(info),
        options.fill_gaps,
        *((levels.bounds, levels.usual) if cleaner.spec.modality == "sensor" else ()),
    )


def _pausing_clock(info: SignalInfo) -> Clock | None:
    clock = info.clock if isinstance(info, SensorInfo) else None
    return clock if clock and clock.pauses else None


def _measure_levels(source: Path, cleaner: Cleaner, reading: Mapping[str, Any]) -> tuple[SignalInfo, Levels]:
    """Measure the level of each channel in a first pass, which ends early if only constancy matters.

    A stream that selects models measures by itself.
    """
    spec = cleaner.spec
    with io.reader(source, **reading) as blocks:
        levels = Levels(blocks.info.shape[0])
        for block in () if cleaner.selector else blocks:
            levels.update(block)
            if not (spec.centre or spec.removes_offset or spec.scale) and levels.varies.all():
                break
        return blocks.info, levels


def _silent(source: Path, reading: Mapping[str, Any]) -> SignalInfo | None:
    """Describe a recording whose channels are constant throughout; None for others, mostly at once."""
    with io.reader(source, **reading) as blocks:
        if blocks.info.pages > 1 or not blocks.info.shape[-1]:
            return None
        first = None
        for block in blocks:
            first = block[:, :1] if first is None and block.size else first
            if first is None or (block != first).any():
                return None
        return None if salvaged(blocks.info) else blocks.info


class _Unchanged:
    """True as long as the results of a recording differ from it by less than half a step of its samples."""

    def __init__(self, info: SignalInfo) -> None:
        self._same = isinstance(info, AudioInfo)
        coarse = isinstance(info, AudioInfo) and (info.bit_rate is not None or "16" in info.subtype)
        self._limit = 2.0**-16 if coarse else 2.0**-24
        self._waiting: Array | None = None  # of the input, whose results are still to come

    def __bool__(self) -> bool:
        return self._same

    def update(self, noisy: Array | None, cleaned: Array) -> None:
        """Compare the next results with the input that they come from."""
        if not self._same:
            return
        parts = [part for part in (self._waiting, noisy) if part is not None]
        waiting = np.concatenate(parts, axis=-1) if parts else cleaned
        count = cleaned.shape[-1]
        if count:
            self._same = float(np.abs(waiting[:, :count] - cleaned).max()) < self._limit
        self._waiting = waiting[:, count:] if self._same and waiting.shape[-1] > count else None


def _put(sink: Writer, takers: Sequence[Any], noisy: Array | None, cleaned: Array) -> None:
    for taker in takers:
        taker.update(noisy, cleaned)
    if cleaned.shape[-1]:
        sink.write(cleaned)


def _removal_note(diagnostics: Mapping[str, float]) -> tuple[str, ...]:
    """Variance that each stage of a chain removed from a recording, in dB."""
    parts = [
        f"{name.removeprefix('removed_').removesuffix('_db')} {value:.1f} dB"
        for name, value in diagnostics.items()
        if name.startswith("removed_")
    ]
    left = diagnostics.get("left_noise_db")
    restrained = diagnostics.get("restrained_share", 0.0)
    notes: tuple[str, ...] = (f"taken out, of the signal's variance: {', '.join(parts)}",) if parts else ()
    if restrained >= _MIN_RESTRAINED:
        level = f"{diagnostics['voice_snr_db']:.0f} dB above its noise"
        notes += (f"a good voice, {level}: {restrained:.0%} of the correction is left out",)
    if left is not None:
        what = f"{left:.1f} dB of the variance could be noise or events, and nothing tells which; see --model"
        notes = (f"{notes[0]}; left in: {what}", *notes[1:]) if parts else (f"left in: {what}", *notes)
    if (wanders := diagnostics.get("left_process_db")) is not None:
        notes += (
            f"left in: {wanders:.1f} dB of the variance could be noise, or a signal that wanders from "
            "reading to reading, as wind and weather do; --model wavelet smooths it",
        )
    if (sways := diagnostics.get("left_wander_db")) is not None:
        notes += (f"left in: slow wander, {sways:.1f} dB of the variance; --remove baseline takes it out",)
    return notes


def _untouched_notes(tally: EventTally, info: SignalInfo) -> tuple[str, ...]:
    """Say of each column that a chain left as it is, or nearly so, why."""
    channels = info.shape[0]
    columns = info.columns if isinstance(info, SensorInfo) else ()
    names = columns if len(columns) == channels else [f"channel {n + 1}" for n in range(channels)]
    notes = []
    for channel, (sigma, power_db, changed) in tally.untouched.items():
        left = f"hardly changed ({changed} of {info.shape[-1]} readings)" if changed else "left as it is"
        left = left if channels == 1 else f"{names[channel]} is {left}"
        figure = f"about {sigma:.2g} ({power_db:.0f} dB of the signal)"
        if not sigma:
            notes.append(f"{left}: no noise is found in it")
        elif power_db < HarmGate.full_db:
            notes.append(f"{left}: its noise, {figure}, is too faint to tell from the signal")
        else:
            few = f" by so few readings ({info.shape[-1]})" if info.shape[-1] < _FEW_READINGS else ""
            notes.append(f"{left}: what could be noise, {figure}, cannot be told from the signal{few}")
    more = len(notes) - _MAX_UNTOUCHED
    if more > 0:
        notes[_MAX_UNTOUCHED:] = [f"{more} more column{'s' * (more > 1)} left as they are, or nearly"]
    return tuple(notes)
