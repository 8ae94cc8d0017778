"""Clean one file into another: the reader's blocks through the model into the writer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from denoise import io
from denoise.errors import InputError, UsageError
from denoise.infer import DEFAULT_MODELS, Cleaner, load
from denoise.infer.apply import apply
from denoise.infer.evaluate import Evaluator, evaluator, rescale
from denoise.infer.gaps import Timeline, check_fill
from denoise.infer.profile import NoiseProfile, profiled
from denoise.infer.select_audio import AutomaticAudio, Hearing, excerpts
from denoise.infer.select_image import Automatic, Decision
from denoise.infer.stages import DEFAULT_BLOCK
from denoise.infer.stream import Levels, Stream, check_request, limited
from denoise.io import Writer
from denoise.io.formats import modality_of
from denoise.io.sensor.columns import SensorReader
from denoise.models import PROFILED_MODEL
from denoise.signal import ImageInfo, SensorInfo, SignalInfo

__all__ = ["FileReport", "clean_file"]

Array = NDArray[Any]


@dataclass(frozen=True)
class FileReport:
    """What became of one file.

    Args:
        modality: A name in `denoise.signal.MODALITIES`.
        model: The name of the model that cleaned it: where `auto` decided, of the one it chose.
        seconds: How long it took, reading and writing included.
        metrics: With a reference its metrics, such as `psnr_db` (the output's) and `psnr_db_before` (the
            input's); without, the estimated noise, such as `estimated_sigma_before` and
            `estimated_sigma_after` (not of an image that `none` copied). Where `auto` decided, also what it
            went by, means over the pages: `estimated_sigma`, `estimated_blur_px`, `estimated_jpeg_quality`;
            or `speech_share`.
        notes: Sentences for the user about what was decided and converted.
        clipped: Samples that did not fit the file's range.
        cost: `s_per_mpx` (seconds a megapixel), or `real_time_factor` (seconds a second of signal), or
            `s_per_msample` for a log of unknown rate.
    """

    modality: str
    model: str
    seconds: float
    metrics: Mapping[str, float]
    notes: tuple[str, ...]
    clipped: int
    cost: Mapping[str, float]


def clean_file(
    source: str | Path,
    destination: str | Path,
    model: Cleaner | str | None = None,
    *,
    strength: float = 1.0,
    sigma: float | None = None,
    reference: str | Path | None = None,
    columns: tuple[str, ...] | None = None,
    exclude: tuple[str, ...] = (),
    sample_rate: float | None = None,
    time_unit: str | None = None,
    fill_gaps: int = 0,
    max_pixels: int = 500_000_000,
    block: int | None = None,
    max_attenuation_db: float | None = None,
    noise_profile: str | None = None,
) -> FileReport:
    """Clean a file; the source is only read, the destination appears complete or not at all.

    Memory is bounded by an image's page or by a signal's block, not by a signal's length; except that a model
    that needs the whole signal, and a reference, each hold it all.

    Args:
        source: The noisy file.
        destination: Where to write, in a format of the same modality.
        model: A loaded denoiser, or what `load` takes; by default the shipped one for the file's modality.
        strength: 1 is fully cleaned, 0 is the input.
        sigma: Noise standard deviation, for a model that uses it: images on the 8-bit scale, signals in their
            own units (audio: of full scale).
        reference: The noise-free truth, to measure against.
        columns: Columns of a sensor log to clean, names or globs; by default all that hold measurements.
        exclude: Which of them not to clean.
        sample_rate: Hz, for a sensor log that does not tell.
        time_unit: Of a sensor log's time column, if it is not in seconds and does not tell.
        fill_gaps: Samples of the longest gap in a sensor log that is filled; 0 leaves gaps as they are.
        max_pixels: The largest page that is opened.
        block: Samples a channel to read, and to give to the model, at a time.
        max_attenuation_db: Of a recording no part is turned down by more than this.
        noise_profile: Where noise alone is to be heard, `START:END` in seconds of the recording or a file of
            its own, for the model `audio`, which is then what is taken by default.

    Raises:
        UsageError: The call is wrong: names, options, or a destination that is the source.
        InputError: The file cannot be cleaned.
        OutputError: The result cannot be written.
    """
    started = time.perf_counter()
    source, destination = Path(source), Path(destination)
    modality = io.modality(source).name
    profile = NoiseProfile.parse(noise_profile) if noise_profile else None
    if profile and modality != "audio":
        raise UsageError(f"noise_profile is for audio; {source} is {modality}")
    cleaner = _cleaner(PROFILED_MODEL if profile and model is None else model, modality, source)
    if profile:
        with _naming(source):
            cleaner = profiled(cleaner, profile, source)
    check_request(cleaner.name, cleaner.model, strength, sigma)
    if modality == "audio":
        strength = limited(strength, max_attenuation_db)
    elif max_attenuation_db is not None:
        raise UsageError(f"max_attenuation_db is for audio; {source} is {modality}")
    check_fill(fill_gaps)
    _check_destination(source, destination, modality)
    options: dict[str, Any] = {"max_pixels": max_pixels}
    if modality != "image":
        options = {"block": block or DEFAULT_BLOCK}
    if modality == "sensor":
        named = {"columns": columns, "exclude": exclude}
        options |= named | {"sample_rate": sample_rate, "time_unit": time_unit}

    truth = Path(reference) if reference else None
    job = _Job(source, destination, cleaner, strength, sigma, truth, options, fill_gaps)
    with _naming(source):
        done = job.image() if modality == "image" else job.signal(block)
    seconds = time.perf_counter() - started
    return FileReport(
        modality,
        " and ".join(dict.fromkeys(decision.model for decision in done.decisions)) or cleaner.name,
        seconds,
        done.metrics | _figures(done.decisions),
        cleaner.notes + _reasons(done.decisions) + done.info.notes,
        done.clipped,
        _cost(done.info, done.size, seconds),
    )


class _Done(NamedTuple):
    """What came of a file: its pixels or samples, and what `auto` decided on it, or on each of its pages."""

    info: SignalInfo
    size: int
    metrics: dict[str, float]
    clipped: int
    decisions: tuple[Decision | Hearing, ...] = ()


@dataclass(frozen=True)
class _Job:
    source: Path
    destination: Path
    cleaner: Cleaner
    strength: float
    sigma: float | None
    reference: Path | None
    options: Mapping[str, Any]
    fill_gaps: int

    def image(self) -> _Done:
        """Clean every page."""
        pixels, decisions = 0, []
        with io.reader(self.source, **self.options) as pages:
            info = pages.info
            with (
                evaluator(info, self.reference, self.options) as scores,
                io.writer(self.destination, info) as sink,
            ):
                for page in pages:
                    now = pages.info  # pages of one file may differ in kind
                    colours = page.shape[0] - now.passthrough_channels
                    pixels += page.shape[1] * page.shape[2]
                    model = self.cleaner.model
                    if isinstance(model, Automatic):  # asked here, so that it can be told
                        decisions.append(model.decide(page[:colours], now.peak))
                    result = apply(
                        model,
                        page,
                        peak=now.peak,
                        keep=now.passthrough_channels,
                        strength=self.strength,
                        sigma=self.sigma,
                        decision=decisions[-1] if decisions else None,
                    )
                    if isinstance(now, ImageInfo) and now.alpha:
                        _restore_unseen(page, result, colours)
                    scores.update(
                        rescale(page[:colours], now.peak, info.peak),
                        rescale(result[:colours], now.peak, info.peak),
                        decisions[-1].estimated_sigma if decisions else None,
                    )
                    del page  # a large page is not held while its result is encoded
                    sink.write(result)
                    del result
            return _Done(_with_notes(info, sink), pixels, scores.result(), sink.clipped, tuple(decisions))

    def signal(self, block: int | None) -> _Done:
        """Clean every recording of a file."""
        if isinstance(self.cleaner.model, AutomaticAudio):
            return self._decided(self.cleaner.model, block)
        info, levels = self._levels(0)
        with io.writer(self.destination, info) as sink:
            parts = [self._recording(0, levels, sink, block)]
            for page in range(1, info.pages):
                parts.append(self._recording(page, self._levels(page)[1], sink, block))
        figures = [figure for _, figure, _ in parts]
        names = dict.fromkeys(name for figure in figures for name in figure)
        means = {name: float(np.mean([f[name] for f in figures if name in f])) for name in names}
        info = _with_notes(info, sink)
        info = replace(info, notes=info.notes + tuple(note for _, _, notes in parts for note in notes))
        return _Done(info, sum(samples for samples, _, _ in parts), means, sink.clipped)

    def _decided(self, model: AutomaticAudio, block: int | None) -> _Done:
        """Listen to the recording first, then clean it."""
        with io.reader(self.source, **self.options) as blocks:
            hearing = model.decide(excerpts(blocks, blocks.info.shape[-1], blocks.info.sample_rate or 0.0))
        cleaner = replace(self.cleaner, name=hearing.model, model=model.chosen(hearing))
        return replace(self, cleaner=cleaner).signal(block)._replace(decisions=(hearing,))

    def _recording(
        self, page: int, levels: Levels, sink: Writer, block: int | None
    ) -> tuple[int, dict[str, float], tuple[str, ...]]:
        options = self._page_options(page)
        with io.reader(self.source, **options) as blocks:
            info, spec = blocks.info, self.cleaner.spec
            if spec.sample_rate is not None and info.sample_rate is None:
                raise UsageError(
                    f"{self.source} does not tell its sample rate, and the model {self.cleaner.name} "
                    f"works at {spec.sample_rate:g} Hz: give the sample rate"
                )
            offset, scale = levels.offset_and_scale(spec)
            stream = Stream(
                self.cleaner.model,
                info.shape[0],
                info.sample_rate,
                self.strength,
                self.sigma,
                offset,
                scale,
                block or DEFAULT_BLOCK,
            )
            clock = info.clock if isinstance(info, SensorInfo) else None
            timeline = Timeline(stream, info.shape[0], clock, self.fill_gaps)
            stamps: Iterator[Array | None] = repeat(None)
            if isinstance(blocks, SensorReader) and clock and clock.pauses:
                stamps = blocks.stamps()
            samples = 0
            with evaluator(info, self.reference, options) as scores:
                for noisy, stamps_s in zip(blocks, stamps, strict=False):
                    samples += noisy.shape[-1]
                    _put(sink, scores, noisy, timeline.feed(noisy, stamps_s))
                _put(sink, scores, None, timeline.flush())
            notes = timeline.notes + _taken_out(stream.diagnostics)
            return samples, {**scores.result(), **stream.diagnostics}, notes

    def _levels(self, page: int) -> tuple[SignalInfo, Levels]:
        """A first pass; no further than to see that each channel varies, if that is all to know."""
        spec = self.cleaner.spec
        with io.reader(self.source, **self._page_options(page)) as blocks:
            info, levels = blocks.info, Levels(blocks.info.shape[0])
            for block in blocks:
                levels.update(block)
                if not (spec.centre or spec.scale) and levels.varies.all():
                    break
        return info, levels

    def _page_options(self, page: int) -> dict[str, Any]:
        """Name the recording of a log that holds several; the first needs no name."""
        return {**self.options, "recording": page} if page else dict(self.options)


def _restore_unseen(page: Array, result: Array, colours: int) -> None:
    """Colours under full transparency hold no noise, and may hold what a program put there: they stay."""
    unseen = page[colours] == 0
    if unseen.any():
        result[:colours, unseen] = page[:colours, unseen]


def _put(sink: Writer, scores: Evaluator, noisy: Array | None, cleaned: Array) -> None:
    scores.update(noisy, cleaned)
    if cleaned.shape[-1]:
        sink.write(cleaned)


def _figures(decisions: tuple[Decision | Hearing, ...]) -> dict[str, float]:
    """What was decided by, the mean over the pages."""
    figures = [decision.figures for decision in decisions]
    return {name: float(np.mean([f[name] for f in figures])) for name in figures[0]} if figures else {}


def _reasons(decisions: tuple[Decision | Hearing, ...]) -> tuple[str, ...]:
    """Why the image was treated as it was; of several pages, for the first of each kind."""
    if len(decisions) == 1:
        return (decisions[0].reason,)
    first = {decision.model: page for page, decision in reversed(list(enumerate(decisions)))}
    return tuple(f"page {page + 1}: {decisions[page].reason}" for page in sorted(first.values()))


def _taken_out(diagnostics: Mapping[str, float]) -> tuple[str, ...]:
    """What each stage of a chain took out of a recording, in dB of its variance."""
    parts = [
        f"{name.removeprefix('removed_').removesuffix('_db')} {value:.1f} dB"
        for name, value in diagnostics.items()
        if name.startswith("removed_")
    ]
    return (f"taken out, of the signal's variance: {', '.join(parts)}",) if parts else ()


def _with_notes(info: SignalInfo, sink: Writer) -> SignalInfo:
    """Writers that convert (16 bits to 8) say so in notes of their own."""
    return replace(info, notes=(*info.notes, *getattr(sink, "notes", ())))


def _cleaner(model: Cleaner | str | None, modality: str, source: Path) -> Cleaner:
    if not isinstance(model, Cleaner):
        return load(DEFAULT_MODELS[modality] if model is None else model, modality)
    if model.spec.modality != modality:
        raise UsageError(f"the model {model.name} is for {model.spec.modality}, {source} is {modality}")
    return model


def _check_destination(source: Path, destination: Path, modality: str) -> None:
    # Under the source's suffix even a misnamed file stays what it is.
    renamed = destination.suffix.lower() != source.suffix.lower()
    if renamed and modality_of(destination).name != modality:
        raise UsageError(f"{destination} cannot hold what {source} holds ({modality})")
    same = destination.resolve() == source.resolve()
    if same or (destination.exists() and source.exists() and destination.samefile(source)):
        raise UsageError(f"{destination} is the source itself: name another destination")


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Errors about the samples of a file say which file."""
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
