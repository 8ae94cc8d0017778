"""Describe files: format, estimated noise, and the cost of cleaning them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from denoise import io
from denoise.errors import DenoiseError, UsageError, reason
from denoise.models.table import AUTO
from denoise.options import CleanOptions
from denoise.signal import AudioInfo, ImageInfo, SensorInfo, SignalInfo
from pipelines.batch import discover, forecast
from pipelines.batch.discover import Source
from pipelines.batch.forecast import Cost
from pipelines.batch.jobs import CleanJob
from pipelines.batch.worker import with_path

_MAX_PX = 100_000_000  # pages above this are not decoded for an estimate
_MAX_S = 60.0  # of an audio file
_MAX_SAMPLES = 1 << 18  # of a sensor log
_BLOCK = 1 << 16  # samples at a time


@dataclass(frozen=True)
class FileInfo:
    """Description of one file."""

    source: Path  # path of the file
    # reason why it cannot be cleaned, in one sentence, or None. With an error the rest is empty
    error: str | None = None
    format: str | None = None  # format by its first bytes, such as `PNG`
    modality: str | None = None  # a name in `denoise.signal.MODALITIES`
    size_bytes: int = 0  # size of the file
    # size, rate, channels, depth, columns: units are in the names
    facts: Mapping[str, Any] = field(default_factory=dict)
    kept: tuple[str, ...] = ()  # parts besides the samples that a cleaned file keeps
    # the estimate, as `denoise.estimate.NoiseEstimator` names it
    noise: Mapping[str, float] = field(default_factory=dict)
    model: str | None = None  # model that `clean` uses by default
    decision: str | None = None  # reason of the selection, for a model that is selected per file
    cost: Cost = field(default_factory=Cost)  # estimated cost of cleaning it
    notes: tuple[str, ...] = ()  # conversions that cleaning would make

    def row(self) -> dict[str, Any]:
        """Return the form of `--json`."""
        return asdict(self) | {"source": str(self.source), "cost": self.cost.row()}


def describe(inputs: Iterable[Path]) -> Iterator[FileInfo]:
    """Describe files, and every file below folders that `clean` would process.

    Noise is estimated on a bounded part: the first page, the first minute, the first 262144 samples.
    """
    for path in inputs:
        try:
            found = discover.find([path])
        except UsageError as error:
            yield FileInfo(path, str(error))
            continue
        for problem in found.problems:
            yield FileInfo(problem.path, problem.error)
        yield from map(_describe, found.sources)


def _describe(source: Source) -> FileInfo:
    try:
        return _probe(source)
    except DenoiseError as error:
        sentence = str(error)
    except Exception as error:  # a defect, ours or a decoder's, fails one file
        sentence = f"unexpected {type(error).__name__}: {reason(error)}"
    return FileInfo(source.path, with_path(sentence, source.path), size_bytes=source.size_bytes)


def _probe(source: Source) -> FileInfo:
    damaged = {"salvage": True} if io.modality(source.path).name == "audio" else {}
    info = io.probe(source.path, **damaged)
    describe: Mapping[str, Callable[[Any], Facts]] = {"image": _image, "audio": _audio, "sensor": _log}
    facts, kept = describe[info.modality](info)
    model = CleanJob(inputs=(), output=Path()).row(info.modality).name
    noise, selected, decision = _noise(info, model)
    job = CleanJob(inputs=(), output=Path(), options=CleanOptions(model=selected))
    samples = math.prod(info.shape[1:]) * info.pages
    return FileInfo(
        source.path,
        format=io.sniff(source.path).name,
        modality=info.modality,
        size_bytes=source.size_bytes,
        facts=facts,
        kept=kept,
        noise=noise,
        model=model,
        decision=decision,
        cost=forecast.estimate(
            discover.mirrored(source, job.output), job.seconds_per_million(info.modality), samples
        ),
        notes=info.notes if noise else (*info.notes, f"above {_MAX_PX:g} pixels noise is not estimated"),
    )


Facts = tuple[dict[str, Any], tuple[str, ...]]  # and names of the parts that are kept


def _image(info: ImageInfo) -> Facts:
    channels, height, width = info.shape
    found = info.metadata
    kept: dict[str, Any] = {
        "EXIF": found.exif,
        "ICC profile": found.icc,
        "XMP": found.xmp,
        "resolution": found.dpi,
        "alpha": info.passthrough_channels,
    }
    kept |= dict.fromkeys((*info.texts, *filter(None, [info.own.get("beside")])), True)
    facts = {"width_px": width, "height_px": height, "channels": channels, "dtype": info.dtype}
    return facts | {"pages": info.pages}, tuple(name for name, value in kept.items() if value)


def _audio(info: AudioInfo) -> Facts:
    from denoise.io.audio.tags import names

    channels, samples = info.shape
    rate = info.sample_rate or 1.0
    facts: dict[str, Any] = {"sample_rate_hz": rate, "duration_s": samples / rate, "channels": channels}
    facts["encoding"] = info.subtype
    if info.pages > 1:
        facts["tracks"] = [_track(info, number) for number in range(info.pages)]
    return facts, names(info.tags, info.container)


def _track(info: AudioInfo, number: int) -> dict[str, Any]:
    with io.reader(info.source, recording=number, salvage=True) as reader:
        track = AudioInfo.of(reader.info)
        return _audio(replace(track, pages=1))[0]


def _log(info: SensorInfo) -> Facts:
    channels, samples = info.shape
    facts = {"samples": samples, "channels": channels, "sample_rate_hz": info.sample_rate}
    facts["duration_s"] = samples / info.sample_rate if info.sample_rate else None
    facts |= {"recordings": info.pages} if info.pages > 1 else {}
    others = tuple(name for name in info.names if name not in info.columns)
    return facts | {"columns": list(info.columns), "time_column": info.time_column}, others


def _noise(info: SignalInfo, model: str) -> tuple[dict[str, float], str, str | None]:
    """Estimate the noise; return it with the model that the image needs, and the reason for an `auto` one."""
    from denoise.estimate import NoiseEstimator
    from denoise.infer.catalogue import load
    from denoise.infer.runtime import runtime_for

    estimator = NoiseEstimator(info.modality, info.peak, info.sample_rate)
    if info.modality == "image":
        if math.prod(info.shape[1:]) > _MAX_PX:
            return {}, model, None
        with io.reader(info.source) as pages:
            page = next(iter(pages))[: info.shape[0] - info.passthrough_channels]
        estimator.update(page)
        noise = estimator.result()
        if model != AUTO:
            return noise, model, None
        runtime = runtime_for(CleanOptions(), [info.source])
        selection = load(model, "image", runtime=runtime).select(page, info.peak)
        return noise, selection.model, selection.reason
    blocks = _MAX_SAMPLES if info.modality == "sensor" else round(_MAX_S * (info.sample_rate or 1))
    damaged = {"salvage": True} if info.modality == "audio" else {}
    with io.reader(info.source, block=min(blocks, _BLOCK), **damaged) as reader:
        for block in islice(reader, -(-blocks // _BLOCK)):
            estimator.update(block)
    return estimator.result(), model, None
