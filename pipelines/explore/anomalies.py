"""Find files that differ from normal ones, by a detector that is given or fitted on normal files."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise import io
from denoise.analysis.anomalies import HELD_OUT, AnomalyDetector, FileAnomalies, anomalies
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.segments import Segment, Segmentation, Segments
from denoise.arrays import Floats
from denoise.errors import UsageError
from denoise.signal import SensorInfo
from pipelines.batch.discover import Problem, Source
from pipelines.explore import heat_map
from pipelines.explore.jobs import AnomaliesJob
from pipelines.explore.segments import Files, default_segmentation, find, fit_embedding, sample_segments
from pipelines.report import check_outputs, write_csv, write_json

SUFFIXES = (".json", ".csv")
_TILE_PX = 16
_WHOLE_PX = 32  # maximum side of pictures that are analysed whole
_MAX_HELD_OUT = 5000  # segments for the threshold
_MIN_UNITS, _STRETCHES = 5, 10  # files or pages below which they are cut, and parts that these have in all


@dataclass(frozen=True)
class HeldOut:
    """False alarms on unknown normal segments: of each file, or stretch, by the threshold of the others."""

    windows: int
    alarms: int
    expected: float


@dataclass(frozen=True)
class AnomalyResult:
    """Result of a search for anomalies."""

    cut: Segmentation  # segmentation of the files
    quantile: float  # share of normal segments, and of normal files, that pass
    threshold: float  # score above which a segment is an anomaly
    rows: tuple[tuple[Source, FileAnomalies], ...]  # each file with its result
    problems: tuple[Problem, ...]  # files that could not be read, normal ones included
    held_out: HeldOut | None  # check on normal data; None where the model brings its threshold


def find_anomalies(job: AnomaliesJob) -> AnomalyResult:
    """Write the report of files.

    Raises:
        UsageError: There is no model and no normal file, an output is of another kind or exists, or no file
            can be read.
    """
    if job.model is None and job.fit_on is None:
        raise UsageError(
            "nothing says what is normal: expected --fit-on DIR of normal files, or --model FILE"
        )
    if job.save_model and not job.fit_on:
        raise UsageError(f"{job.save_model}: nothing is fitted without --fit-on")
    outputs = {job.output: SUFFIXES, job.save_model: (".safetensors",), job.heat_maps: ()}
    check_outputs(outputs, (*job.inputs, *filter(None, [job.fit_on])), job.overwrite)
    walk: dict[str, Any] = {"recursive": job.recursive, "columns": job.columns, "judged": True}
    held_out, normal = None, None
    if job.fit_on is None:
        assert job.model is not None
        detector, cut = AnomalyDetector.load(job.model, job.quantile)
        files = find(job.inputs, cut.modality, **walk)
    else:
        normal = find([job.fit_on], job.kind, **walk)
        files = find(job.inputs, normal.modality, **walk)
        detector, cut, held_out = _fit(job, normal)
    if job.heat_maps and cut.modality != "image":
        raise UsageError(f"{job.heat_maps}: heat maps are of pictures, not of {cut.modality}")
    rows = tuple(files.each(lambda source: anomalies(source.path, (detector, cut), options=files.options)))
    problems = (*files.problems, *(normal.problems if normal else ()))
    result = AnomalyResult(cut, detector.quantile, detector.threshold_, rows, problems, held_out)
    if job.save_model:
        job.save_model.parent.mkdir(parents=True, exist_ok=True)
        detector.save(job.save_model, job.save_model.stem, cut)
    if job.output and job.output.suffix.lower() == ".json":
        write_json(job.output, _report(result))
    elif job.output:
        _write_csv(job.output, result)
    if job.heat_maps:
        for source, found in rows:
            if found.anomalous:
                path = job.heat_maps / source.relative.with_name(f"{source.relative.name}.png")
                heat_map.draw(path, source.path, detector, cut)
    return result


def _fit(job: AnomaliesJob, normal: Files) -> tuple[AnomalyDetector, Segmentation, HeldOut]:
    """Fit a detector on normal files, and count its false alarms on held-out ones."""
    embedding = None
    if job.model:
        embedding, cut = AutoencoderEmbedding.load(job.model)
    else:
        cut = _segmentation(job, normal)
    items, calibration, units = _split(normal, cut, job.seed)
    if embedding is None:
        embedding = fit_embedding(items, cut, job.code_size, job.seed, steps=job.steps)
    detector = AnomalyDetector(0.99 if job.quantile is None else job.quantile, job.tail, seed=job.seed)
    detector.calibrate(embedding, items, calibration, units)
    detector.columns_, detector.sample_rates_ = _columns_and_rates(normal)
    if math.isinf(detector.threshold_):
        raise UsageError(
            f"{len(calibration)} normal segments are too few for a threshold "
            f"that one in {1 / (1 - detector.quantile):.0f} exceeds: expected more normal files, "
            "smaller windows, or a lower --quantile"
        )
    expected = (1 - detector.quantile) * len(calibration)
    return detector, cut, HeldOut(len(calibration), detector.false_alarms_ or 0, expected)


def _columns_and_rates(normal: Files) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Collect the names of the columns of logs, but for their clocks, and their least and largest rate."""
    names, rates = dict[str, None](), list[float]()
    if normal.modality == "sensor":
        for _, info in normal.each(lambda source: io.probe(source.path, **normal.options)):
            assert isinstance(info, SensorInfo)
            names |= dict.fromkeys(name for name in info.names if name != info.time_column)
            rates += [info.sample_rate] if info.sample_rate else []
    return tuple(names), (min(rates), max(rates)) if rates else ()


def _segmentation(job: AnomaliesJob, normal: Files) -> Segmentation:
    """Choose windows or tiles that overlap by half, so that no anomaly lies only at an edge."""
    cut = default_segmentation(normal, job.window)
    if cut.modality == "image" and not job.window:
        pages = normal.each(lambda source: Segments(source.path, cut, normal.options).info)
        if max((min(info.shape[1:]) for _, info in pages), default=0) > _WHOLE_PX:
            cut = default_segmentation(normal, _TILE_PX)
    step = 0 if cut.whole else max(1, min(cut.size) // 2)
    return replace(cut, step=step, standardise=job.standardise)


def _split(normal: Files, cut: Segmentation, seed: int) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Split segments into those for training and for the threshold, with the unit of each of these.

    A unit is a file or a page, whole; fewer than five are cut into stretches without common samples.
    """
    found = sample_segments(normal, cut, seed=seed)
    ends: dict[tuple[Path, int], int] = {}
    for path, segment in found:
        ends[path, segment.page] = max(ends.get((path, segment.page), 0), segment.stop[0])
    most = 1 if len(ends) >= _MIN_UNITS else -(-_STRETCHES // len(ends))
    units: dict[tuple[Path, int, int], list[Floats]] = {}
    for path, segment in found:
        end = ends[path, segment.page]
        length = end / max(1, min(most, end // (2 * (segment.stop[0] - segment.start[0]))))
        part = int(segment.start[0] / length)
        if segment.stop[0] <= (part + 1) * length:
            units.setdefault((path, segment.page, part), []).append(segment.values)
    order = np.random.default_rng(seed).permutation(len(units))
    count = max(round(HELD_OUT * len(units)), min(_MIN_UNITS, len(units) // 2))
    every = list(units.values())
    training = [values for index in order[count:] for values in every[index]]
    held = [every[index] for index in order[:count]]
    if len(training) < 1 or count < 2:
        raise UsageError(f"the normal files have {len(found)} segments; expected about 100 for training")
    numbers = np.repeat(np.arange(count), [len(values) for values in held])
    calibration: Floats = np.concatenate(held)
    kept = slice(None, None, -(-len(calibration) // _MAX_HELD_OUT))
    return np.stack(training), calibration[kept], numbers[kept]


def ranges(found: FileAnomalies) -> list[dict[str, Any]]:
    """List anomalous places: merged windows of signals that touch, every tile of images."""
    merged: list[dict[str, Any]] = []
    flagged = [pair for pair, flag in zip(_scored(found), found.flags, strict=True) if flag]
    for segment, score in sorted(flagged, key=lambda pair: (pair[0].page, pair[0].channel, pair[0].start)):
        last = merged[-1] if merged else None
        if (
            last is not None
            and len(segment.start) == 1
            and (last["page"], last["channel"]) == (segment.page, segment.channel)
            and segment.start[0] <= last["stop"][0]
        ):
            last["stop"], last["stop_s"] = list(segment.stop), segment.stop_s
            last["score"] = max(last["score"], score)
        else:
            merged.append({**_place(segment), "score": score})
    return merged


def _scored(found: FileAnomalies) -> Iterator[tuple[Segment, float]]:
    return zip(found.segments, found.measured.score.tolist(), strict=True)


def _place(segment: Segment) -> dict[str, Any]:
    return {
        "page": segment.page,
        "channel": segment.channel,
        "start": list(segment.start),
        "stop": list(segment.stop),
        "start_s": segment.start_s,
        "stop_s": segment.stop_s,
    }


def _windows(found: FileAnomalies) -> Iterator[dict[str, Any]]:
    measured, flags = found.measured, found.flags
    for index, (segment, score) in enumerate(_scored(found)):
        row = {
            **_place(segment),
            "score": score,
            "p_value": float(measured.p_value[index]),
            "error": float(measured.error[index]),
        }
        if measured.elbo is not None:
            row["elbo"] = float(measured.elbo[index])
        yield {**row, "anomalous": bool(flags[index])}


def _report(result: AnomalyResult) -> dict[str, Any]:
    """Make the `.json` report."""
    cut = result.cut
    return {
        "quantile": result.quantile,
        "threshold": result.threshold if math.isfinite(result.threshold) else None,
        "window": {"size": cut.size, "step": cut.step, "sample_rate": cut.sample_rate},
        "held_out": asdict(result.held_out) if result.held_out else None,
        "rows": [_row(source, found) for source, found in result.rows],
        "failed": [{"file": str(problem.path), "error": problem.error} for problem in result.problems],
    }


def _row(source: Source, found: FileAnomalies) -> dict[str, Any]:
    measured = found.measured
    elbo = {} if measured.elbo is None else {"elbo": float(measured.elbo.mean())}
    return {
        "file": str(source.path),
        "anomalous": found.anomalous,
        "p_value": found.p_value,
        "score": float(measured.score.max()),
        "error": float(measured.error.mean()),
        **elbo,
        "left_out": found.left_out,
        "channels": list(found.pages[0].channels),
        "notes": list(found.notes),
        "ranges": ranges(found),
        "windows": list(_windows(found)),
    }


def _write_csv(path: Path, result: AnomalyResult) -> None:
    """Write one row per window."""
    image = result.cut.modality == "image"
    axes = ("row_px", "column_px") if image else ("sample",)
    places = [f"{name}_{end}" for end in ("start", "stop") for name in axes]
    figures = ["score", "p_value", "error", "elbo", "anomalous"]
    names = [*([] if image else ["start_s", "stop_s"]), *figures]
    rows = (
        [source.path, row["page"], row["channel"], *row["start"], *row["stop"]]
        + [row.get(name, "") for name in names]
        + [found.p_value, found.anomalous]
        for source, found in result.rows
        for row in _windows(found)
    )
    write_csv(path, ["file", "page", "channel", *places, *names, "file_p_value", "file_anomalous"], rows)
