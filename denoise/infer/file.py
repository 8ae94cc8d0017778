"""Clean one file into another: reader, model, writer."""

from __future__ import annotations

import base64
import html
import io as io_bytes
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from denoise import io
from denoise.arrays import Array
from denoise.errors import InputError, NothingToCleanError, TooLargeError, UsageError
from denoise.estimate.drawing import is_drawing
from denoise.infer.catalogue import load
from denoise.infer.cleaner import Cleaner
from denoise.infer.evaluate import evaluator, rescale
from denoise.infer.profile import NoiseProfile, profiled
from denoise.infer.progress import cleaning, report_share
from denoise.infer.selection import PageSelector, Selection
from denoise.infer.stages import DEFAULT_BLOCK
from denoise.infer.stream import Levels, Stream, check_request
from denoise.infer.switch import AudioSelector, SwitchedStream
from denoise.infer.tally import EventTally
from denoise.io import Writer
from denoise.io.atomic import replacing
from denoise.io.formats import modality_of
from denoise.io.image.codec import ImageWriter
from denoise.io.limits import require_plausible_page
from denoise.io.sensor.base import SensorReader
from denoise.io.sniff import sniff
from denoise.models.sensor.chain import SensorChain
from denoise.models.sensor.check import HarmGate
from denoise.options import CleanOptions
from denoise.registry import unknown
from denoise.signal import AudioInfo, Clock, ImageInfo, Page, SensorInfo, SignalInfo

# Options that say how to read a log.
_READING = ("columns", "exclude", "sample_rate", "time_unit", "delimiter", "decimal", "keep_resolution")
_MIN_RESTRAINED = 0.05  # share of a correction that is left out, from which a note says so
_MAX_UNTOUCHED = 8  # columns that notes name as left as they are


@dataclass(frozen=True, repr=False)
class FileReport:
    """Result of cleaning one file.

    Args:
        modality: Name in `denoise.signal.MODALITIES`.
        model: Name of the model that cleaned it; with `auto`, of the one that it selected.
        seconds: Duration, reading and writing included.
        metrics: With a reference its metrics, such as `psnr_db` (of the output) and `psnr_db_before` (of the
            input); without, the estimated noise, such as `estimated_sigma_before` and
            `estimated_sigma_after` (not of an image that `none` copied). With `auto` also the means of
            `estimated_sigma`, `estimated_blur_px` and `estimated_jpeg_quality` over the pages, or
            `speech_share`.
        notes: Sentences for the user about what was selected and converted.
        clipped: Number of samples outside the range of the file.
        salvaged: Sentence that says how much of a damaged recording was cleaned; None of a whole file.
        cost: `s_per_mpx` (seconds per megapixel), `real_time_factor` (seconds per second of signal), or
            `s_per_msample` for a log of unknown rate.
        precision: Arithmetic of the network, a name in `denoise.models.table.PRECISIONS`.
        source: Input.
        destination: Result.
        selections: Choice of `auto` for a recording, or for each page.
        duration_s: Duration of a recording, seconds; None of other files.
    """

    modality: str
    model: str
    seconds: float
    metrics: Mapping[str, float]
    notes: tuple[str, ...]
    clipped: int
    cost: Mapping[str, float]
    salvaged: str | None = None
    precision: str | None = None
    source: Path | None = None
    destination: Path | None = None
    selections: tuple[Selection, ...] = ()
    duration_s: float | None = None

    def __repr__(self) -> str:
        pairs = {
            name.removesuffix("_before"): value for name, value in self.metrics.items() if "_before" in name
        }
        changes = [
            f"{name} {before:.4g} -> {self.metrics.get(f'{name}_after', self.metrics.get(name, before)):.4g}"
            for name, before in pairs.items()
        ]
        facts = [f"{self.modality} by {self.model}", *changes[:2], f"{self.seconds:.2f} s"]
        return f"<FileReport {self.source.name if self.source else ''}: {', '.join(facts)}>"

    def _repr_html_(self) -> str | None:
        """Draw both files for a notebook; None if they are gone."""
        if not (self.source and self.destination and self.source.is_file() and self.destination.is_file()):
            return None
        from denoise.plot import before_after

        drawn = io_bytes.BytesIO()
        before_after(self.source, self.destination).savefig(drawn, format="png", dpi=90)
        picture = base64.b64encode(drawn.getvalue()).decode("ascii")
        shown = f'<img alt="before and after" src="data:image/png;base64,{picture}">'
        return f"<p>{html.escape(repr(self))}</p>{shown}"


def clean_file(
    source: str | Path,
    destination: str | Path,
    model: Cleaner | str | None = None,
    options: CleanOptions | None = None,
    **changes: Any,
) -> FileReport:
    """Clean a file; the source is only read, the destination appears complete or not at all.

    Memory is bounded by an image's page or by a signal's block, not by a signal's length; except that a model
    that needs the whole signal, and a reference, each hold it all.

    Args:
        source: Noisy file.
        destination: File to write, in a format of the same modality.
        model: Loaded denoiser, or in place of `options.model` a name or a weights file.
        options: How to clean; `reference` is one file.
        changes: Options by name, in place of those of `options`, such as `strength=0.9`.

    Raises:
        UsageError: The options cannot be honoured, or the destination is the source.
        InputError: The file cannot be cleaned.
        OutputError: The result cannot be written.
    """
    started = time.perf_counter()
    source, destination = Path(source), Path(destination)
    known = [field.name for field in fields(CleanOptions)]
    for name in changes.keys() - set(known):
        raise unknown("option", name, known)
    options = replace(options or CleanOptions(), **changes)
    modality = io.modality(source).name
    options.check_modality(modality, source)
    options.check_duration(source, modality)
    if not isinstance(model, Cleaner):
        model = load_cleaner(replace(options, model=model or options.model), modality)
    elif model.spec.modality != modality:
        raise UsageError(f"the model {model.name} is for {model.spec.modality}, {source} is {modality}")
    check_request(model.name, model.model, options.strength, options.sigma)
    _check_destination(source, destination, modality)
    with _with_path(source), cleaning(source):
        if options.noise_profile:
            model = profiled(model, NoiseProfile.parse(options.noise_profile), source)
        clean = _clean_image if modality == "image" else _clean_signal
        result = clean(source, destination, model, options)
    seconds = time.perf_counter() - started
    return FileReport(
        modality,
        " and ".join(dict.fromkeys(selection.model for selection in result.selections)),
        seconds,
        result.metrics | _mean_figures([selection.figures for selection in result.selections]),
        model.notes + _reasons(result.selections, modality, options.streams) + result.notes,
        result.clipped,
        _cost(result.info, result.size, seconds),
        _salvaged(result.info),
        model.precision_of([selection.model for selection in result.selections]),
        source,
        destination,
        result.selections,
        result.size / info.sample_rate if modality == "audio" and (info := result.info).sample_rate else None,
    )


def load_cleaner(options: CleanOptions, modality: str) -> Cleaner:
    """Load the model that the options choose for files of a modality."""
    given = options.precision, options.remove, options.keep, options.ensemble
    return load(options.model_for(modality), modality, *given)


class _Result(NamedTuple):
    """Result for a file."""

    info: SignalInfo  # facts of the input
    size: int  # pixels, or samples of a channel
    metrics: dict[str, float]  # figures by name
    notes: tuple[str, ...]  # of the reader, the writer and the stream
    clipped: int  # samples outside the range of the file
    selections: tuple[Selection, ...]  # choice of `auto` for a recording, or for each page


def _clean_image(source: Path, destination: Path, cleaner: Cleaner, options: CleanOptions) -> _Result:
    """Clean every page of an image."""
    pixels, selections, chosen, change = 0, list[Selection](), None, _Change()
    reading: dict[str, Any] = {"max_pixels": options.max_pixels}
    if destination.suffix.lower() == ".dng":
        reading["camera_space"] = True
    with io.reader(source, **reading) as pages:
        info = pages.info
        with (
            evaluator(info, options.reference, reading) as scores,
            _writer(source, destination, _finer(_stamped(info, cleaner, options))) as sink,
        ):
            for page in pages:
                _require_plausible(source, page, cleaner)
                now = pages.info  # pages of one file may differ in kind
                colours = page.shape[0] - now.passthrough_channels
                pixels += page.shape[1] * page.shape[2]
                result, selection = _clean_page(page, now, cleaner, options, chosen)
                selections.append(selection)
                if isinstance(info, ImageInfo) and info.animated and selection.model != "none":
                    chosen = chosen or selection  # one choice for all frames, or they would flicker
                if isinstance(now, ImageInfo) and now.alpha:
                    _restore_transparent(page, result, colours)
                scores.update(
                    rescale(page[:colours], now.peak, info.peak),
                    rescale(result[:colours], now.peak, info.peak),
                    selection.sigma,
                )
                change.update(page, result, _writing_loss(sink, result) if cleaner.selector else 0.0)
                del page  # a large page is not held while its result is encoded
                sink.write(result)
                del result
            untouched = options.strength == 0 or all(selection.model == "none" for selection in selections)
            kept = untouched or not (change.gains or (options.stamp and not cleaner.selector))
            copied = kept and destination.suffix.lower() == source.suffix.lower()
            _stop_writing(copied)
    # Notes say what reading and writing turn into something else.
    notes, clipped = ((), 0) if copied else (info.notes + _writer_notes(sink), sink.clipped)
    figures = scores.result()
    if copied and not untouched:
        notes = ("left as it is: to write it again would lose more than that gains",)
        figures, selections = _as_before(figures), _not_written(selections)
    return _Result(info, pixels, figures, notes, clipped, tuple(selections))


def _as_before(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of a file that was copied: after is what was before."""
    before = {name.removesuffix("_before"): figures[name] for name in figures if name.endswith("_before")}
    after = {f"{name}_after" if f"{name}_after" in figures else name: before[name] for name in before}
    return {**figures, **after}


def _not_written(selections: Sequence[Selection]) -> list[Selection]:
    """Return the selections of a file that was copied although models changed it: the models were dropped."""
    return [
        replace(
            selection,
            model="none",
            reason=selection.reason
            and f"none: {selection.model} was tried, and not written: "
            + selection.reason.removeprefix(f"{selection.model}: "),
            dropped=(*selection.dropped, selection.model),
        )
        if selection.model != "none"
        else selection
        for selection in selections
    ]


class _Change:
    """Mean square of what is removed from the pages, and of what writing them loses, in squared steps."""

    def __init__(self) -> None:
        self._removed = self._lost = 0.0

    def update(self, page: Array, result: Array, loss: float) -> None:
        """Add a page, in bands of rows: differences of a large one would take more memory than it does."""
        step = 1.0 if page.dtype.kind in "iu" else 2.0**-16
        for top in range(0, page.shape[1], 256):
            rows = slice(top, top + 256)
            difference = np.subtract(result[:, rows], page[:, rows], dtype=np.float32) / step
            self._removed += float(np.square(difference).sum(dtype=np.float64))
        self._lost += loss * page.size

    @property
    def gains(self) -> bool:
        """True if more is won than lost; about half of what is removed was an error of the picture."""
        return self._removed > 2 * self._lost


def _writing_loss(sink: Writer, result: Array) -> float:
    return sink.writing_loss(result) if isinstance(sink, ImageWriter) else 0.0


def _finer(info: SignalInfo) -> SignalInfo:
    """Have a result compressed finer than its source, if that is coarse."""
    return replace(info, finer=True) if isinstance(info, ImageInfo) else info


def _require_plausible(source: Path, page: Array, cleaner: Cleaner) -> None:
    """Refuse a page of a small file that takes much memory to clean; a drawing is left as it is."""
    channels, height, width = page.shape
    layout = Page(height, width, channels, str(page.dtype))
    try:
        require_plausible_page(layout, layout.working_bytes, source.stat().st_size, f"{source}: ")
    except TooLargeError:
        if not (isinstance(cleaner.model, PageSelector) and is_drawing(page)):
            raise


def _clean_page(
    page: Array, info: SignalInfo, cleaner: Cleaner, options: CleanOptions, chosen: Selection | None
) -> tuple[Array, Selection]:
    """Clean a page; bands of a multispectral camera each on its own, as gray images."""
    clean = partial(
        cleaner.apply, peak=info.peak, strength=options.strength, sigma=options.sigma, selection=chosen
    )
    if not (isinstance(info, ImageInfo) and info.bands):
        return clean(page, keep=info.passthrough_channels)
    parts = [clean(page[band : band + 1]) for band in range(len(page))]
    return np.concatenate([result for result, _ in parts]), parts[0][1]


def _clean_signal(source: Path, destination: Path, cleaner: Cleaner, options: CleanOptions) -> _Result:
    """Clean a signal, or copy a log without a column that may be cleaned, or a video without sound."""
    try:
        return _clean_recordings(source, destination, cleaner, options)
    except NothingToCleanError as error:
        if sniff(source).name == "WFDB" or destination.suffix.lower() != source.suffix.lower():
            raise  # a record is several files
        _copy(source, destination)
        info = SignalInfo(source, cleaner.spec.modality, (0, 0), "float64", None)
        note = str(error).removeprefix(f"{source}: ")
        return _Result(info, 0, {}, (f"copied: {note}",), 0, (Selection("none"),))


def _clean_recordings(source: Path, destination: Path, cleaner: Cleaner, options: CleanOptions) -> _Result:
    """Clean every recording of a file; an NPZ may hold several, of different lengths."""
    reading: dict[str, Any] = {"block": options.block or DEFAULT_BLOCK}
    of_reference = dict[str, Any]()
    if cleaner.spec.modality == "audio":
        reading["salvage"], of_reference["salvage"] = not options.strict, False
        if options.streams:
            reading["streams"] = options.streams
    elif cleaner.spec.modality == "sensor":
        reading |= {name: getattr(options, name) for name in _READING} | {"only_measurements": True}
    info, levels = _measure_levels(source, cleaner, reading)
    samples, figures, notes, selections = 0, [], [], list[Selection]()
    unchanged = _Unchanged(info)
    with _writer(source, destination, _stamped(info, cleaner, options)) as sink:
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
                    report_share(samples / max(info.pages * info.shape[-1], samples))
                _put(sink, takers, None, stream.feed(np.empty((blocks.info.shape[0], 0)), last=True))
                named = Selection(cleaner.name)
                selections.append(stream.selection if isinstance(stream, SwitchedStream) else named)
                info = blocks.info if _salvaged(blocks.info) else info  # some damage shows at the end only
                notes += [*stream.notes, *_removal_note(stream.diagnostics), *(tally.notes if tally else ())]
                said = "left_noise_db" in stream.diagnostics and blocks.info.shape[0] == 1
                if tally and options.bounded_strength and isinstance(cleaner.model, SensorChain) and not said:
                    notes += _untouched_notes(tally, blocks.info)
                figures.append({**scores.result(), **stream.diagnostics, **(tally.metrics if tally else {})})
        copied = (
            bool(unchanged) and not _salvaged(info) and destination.suffix.lower() == source.suffix.lower()
        )
        _stop_writing(copied)  # encoding again would only lose
    if not copied:
        all_notes = (*info.notes, *_writer_notes(sink), *notes)
        return _Result(info, samples, _mean_figures(figures), all_notes, sink.clipped, tuple(selections))
    all_notes = (*info.notes, *notes, "left as it is: there is nothing to remove")
    measured = _as_before(_mean_figures(figures))
    return _Result(info, samples, measured, all_notes, 0, tuple(_not_written(selections)))


def _stamped(info: SignalInfo, cleaner: Cleaner, options: CleanOptions) -> SignalInfo:
    """Add what is done to a file, if it is asked for."""
    if not options.stamp:
        return info
    import denoise

    facts = {"program": "denoise", "version": denoise.__version__, "model": cleaner.name}
    return replace(info, stamp=(*facts.items(), ("strength", f"{options.bounded_strength:g}")))


class _UnchangedError(Exception):
    """Nothing is changed: the input takes the place of what was written."""


def _stop_writing(unchanged: bool) -> None:
    if unchanged:
        raise _UnchangedError


@contextmanager
def _writer(source: Path, destination: Path, info: SignalInfo) -> Iterator[Writer]:
    """Open the destination; a block that raises `_UnchangedError` makes it a copy of the source instead."""
    try:
        with io.writer(destination, info) as sink:
            yield sink
    except _UnchangedError:
        _copy(source, destination)


def _copy(source: Path, destination: Path) -> None:
    """Copy a file that needs no change: encoding it again would change a JPEG, and drop what is unknown."""
    with replacing(destination) as partial:
        shutil.copyfile(source, partial)


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
        levels.bounds if cleaner.spec.modality == "sensor" else None,
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


def _restore_transparent(page: Array, result: Array, colours: int) -> None:
    """Keep colours under full transparency: they hold no noise, and may hold data of a program."""
    transparent = page[colours] == 0
    if transparent.any():
        result[:colours, transparent] = page[:colours, transparent]


def _salvaged(info: SignalInfo) -> str | None:
    return info.salvaged if isinstance(info, AudioInfo) else None


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


def _mean_figures(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each figure over the pages or recordings that have it."""
    names = dict.fromkeys(name for found in figures for name in found)
    return {name: float(np.mean([found[name] for found in figures if name in found])) for name in names}


def _reasons(
    selections: Sequence[Selection], modality: str, streams: Sequence[int] | None
) -> tuple[str, ...]:
    """Reason of each selection; of several parts of a file, for the first of each kind."""
    if len(selections) == 1:
        return (selections[0].reason,) if selections[0].reason else ()
    first = {selection.model: part for part, selection in reversed(list(enumerate(selections)))}
    parts = sorted(part for part in first.values() if selections[part].reason)
    word = {"image": "page", "audio": "track"}.get(modality, "recording")
    numbers = streams or range(1, len(selections) + 1)
    return tuple(f"{word} {numbers[part]}: {selections[part].reason}" for part in parts)


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
        share = f"{left:.1f} dB of the variance"
        notes += (f"left in: {share} could be noise or events, and nothing tells which; see --model",)
    if (sways := diagnostics.get("left_wander_db")) is not None:
        notes += (f"left in: slow wander, {sways:.1f} dB of the variance; --remove baseline takes it out",)
    return notes


def _untouched_notes(tally: EventTally, info: SignalInfo) -> tuple[str, ...]:
    """Say of each column that a chain left as it is, why."""
    channels = info.shape[0]
    columns = info.columns if isinstance(info, SensorInfo) else ()
    names = columns if len(columns) == channels else [f"channel {n + 1}" for n in range(channels)]
    notes = []
    for channel, (sigma, power_db) in tally.untouched.items():
        left = "left as it is" if channels == 1 else f"{names[channel]} is left as it is"
        figure = f"about {sigma:.2g} ({power_db:.0f} dB of the signal)"
        if not sigma:
            notes.append(f"{left}: no noise is found in it")
        elif power_db < HarmGate.full_db:
            notes.append(f"{left}: its noise, {figure}, is too faint to tell from the signal")
        else:
            notes.append(f"{left}: what could be noise, {figure}, cannot be told from the signal")
    more = len(notes) - _MAX_UNTOUCHED
    if more > 0:
        notes[_MAX_UNTOUCHED:] = [f"{more} more column{'s' * (more > 1)} left as they are"]
    return tuple(notes)


def _writer_notes(sink: Writer) -> tuple[str, ...]:
    """Notes of a writer that converts, such as 16 bits to 8."""
    return tuple(getattr(sink, "notes", ()))


def _check_destination(source: Path, destination: Path, modality: str) -> None:
    # Under the source's suffix even a misnamed file stays what it is.
    renamed = destination.suffix.lower() != source.suffix.lower()
    if renamed and modality_of(destination, modality).name != modality:
        raise UsageError(f"{destination} cannot hold what {source} holds ({modality})")
    same = destination.resolve() == source.resolve()
    if same or (destination.exists() and source.exists() and destination.samefile(source)):
        raise UsageError(f"{destination} is the source itself: name another destination")


@contextmanager
def _with_path(source: Path) -> Iterator[None]:
    """Name the file in errors about its samples."""
    try:
        yield
    except InputError as error:
        if str(source) in str(error):
            raise
        raise type(error)(f"{source}: {error}") from error


def _cost(info: SignalInfo, size: int, seconds: float) -> dict[str, float]:
    if not size:
        return {}
    if info.modality == "image":
        return {"s_per_mpx": seconds / size * 1e6}
    if info.sample_rate:
        return {"real_time_factor": seconds * info.sample_rate / size}
    return {"s_per_msample": seconds / size * 1e6}
