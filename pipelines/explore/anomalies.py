"""Find files that differ from normal ones, by a detector that is given or fitted on normal files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from denoise.analysis.anomalies import AnomalyDetector, FileAnomalies, anomalies
from denoise.analysis.embedding import AutoencoderEmbedding
from denoise.analysis.segments import Segment, Segmentation
from denoise.errors import UsageError
from pipelines.batch.discover import Source, refuse_overlap
from pipelines.explore import heat_map
from pipelines.explore.embed import refuse_existing
from pipelines.explore.jobs import AnomaliesJob
from pipelines.explore.segments import MAX_SAMPLED, Files, default_segmentation, find, fit_embedding, sample
from pipelines.report import write_json, writing

__all__ = ["SUFFIXES", "AnomalyResult", "Check", "find_anomalies", "ranges"]

SUFFIXES = (".json", ".csv")
_TILE_PX = 16
_WHOLE_PX = 32  # a side up to which pictures are looked at as a whole
_MAX_EXCERPTS = 5000  # excerpts for the threshold, and for the check
_N_PARTS = (
    5  # parts of the normal data: three are learned from, one gives the threshold, one is for the check
)


@dataclass(frozen=True)
class Check:
    """False alarms on normal excerpts that neither the model nor the threshold has seen."""

    excerpts: int
    alarms: int
    expected: float


@dataclass(frozen=True)
class AnomalyResult:
    """Result of a search for anomalies.

    Args:
        cut: Segmentation of the files.
        quantile: Share of normal ones that are to pass.
        threshold: Of the scores of excerpts.
        rows: Each file with what was found.
        files: All of them, with what went wrong.
        check: On held-out normal data; None where the model says what is normal.
        normal: The normal files, with what went wrong; None likewise.
    """

    cut: Segmentation
    quantile: float
    threshold: float
    rows: tuple[tuple[Source, FileAnomalies], ...]
    files: Files
    check: Check | None
    normal: Files | None

    @property
    def problems(self) -> list[str]:
        """A sentence for each file that could not be read, normal ones included."""
        every = [*self.files.problems, *(self.normal.problems if self.normal else ())]
        return [problem.error for problem in every]


def find_anomalies(job: AnomaliesJob) -> AnomalyResult:
    """Write the report of files.

    Raises:
        UsageError: The call cannot work: nothing to compare with, an output of another kind or already
            there, or nothing to read.
        OutputError: An output cannot be written.
    """
    _check(job)
    options = {"columns": job.columns} if job.columns else {}
    check, normal = None, None
    if job.fit_on is None:
        assert job.model is not None
        detector, cut = AnomalyDetector.load(job.model, job.quantile)
        files = find(job.inputs, cut.modality, recursive=job.recursive, options=options)
    else:
        normal = find([job.fit_on], job.kind, recursive=job.recursive, options=options)
        files = find(job.inputs, normal.modality, recursive=job.recursive, options=options)
        detector, cut, check = _learned(job, normal)
    if job.heat_maps and cut.modality != "image":
        raise UsageError(f"{job.heat_maps}: heat maps are of pictures, not of {cut.modality}")
    rows = tuple(files.each(lambda source: anomalies(source.path, (detector, cut), options=files.options)))
    judged = AnomalyResult(cut, detector.quantile, detector.threshold_, rows, files, check, normal)
    if job.save_model:
        job.save_model.parent.mkdir(parents=True, exist_ok=True)
        detector.save(job.save_model, job.save_model.stem, cut)
    if job.output.suffix.lower() == ".json":
        write_json(job.output, _report(judged))
    else:
        _write_csv(job.output, judged)
    if job.heat_maps:
        for source, found in rows:
            if found.anomalous:
                path = job.heat_maps / source.relative.with_name(f"{source.relative.name}.png")
                heat_map.draw(path, source.path, detector, cut)
    return judged


def _check(job: AnomaliesJob) -> None:
    if job.model is None and job.fit_on is None:
        raise UsageError(
            "nothing says what is normal: expected --fit-on DIR of normal files, or --model FILE"
        )
    if job.output.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{job.output}: the report is written as {' or '.join(SUFFIXES)}")
    if job.save_model and job.save_model.suffix.lower() != ".safetensors":
        raise UsageError(f"{job.save_model}: a model is written as .safetensors")
    if job.save_model and not job.fit_on:
        raise UsageError(f"{job.save_model}: nothing is learned without --fit-on")
    for path in filter(None, (job.output, job.save_model, job.heat_maps)):
        if path is not job.heat_maps or (path.is_dir() and any(path.iterdir())):
            refuse_existing(path, job.overwrite)
        for folder in filter(None, (*job.inputs, job.fit_on)):
            if folder.is_dir():
                refuse_overlap(folder, path)


def _learned(job: AnomaliesJob, normal: Files) -> tuple[AnomalyDetector, Segmentation, Check]:
    """A detector from normal files, and its false alarms on those of them that it has not seen."""
    embedding = None
    if job.model:
        embedding, cut = AutoencoderEmbedding.load(job.model)
    else:
        cut = _cut(job, normal)
    learned, held_out, unseen = _parts(normal, cut, job.seed)
    if embedding is None:
        embedding = fit_embedding(learned, cut, job.code_size, job.seed, steps=job.steps)
    detector = AnomalyDetector(0.99 if job.quantile is None else job.quantile, job.tail, seed=job.seed)
    detector.calibrate(embedding, learned, held_out)
    if math.isinf(detector.threshold_):
        raise UsageError(
            f"{len(held_out)} normal excerpts for the threshold cannot tell what one in "
            f"{1 / (1 - detector.quantile):.0f} is like: expected more normal files, smaller windows, or a "
            "lower --quantile"
        )
    alarms = int(np.count_nonzero(detector.measure(unseen).score > detector.threshold_))
    return detector, cut, Check(len(unseen), alarms, (1 - detector.quantile) * len(unseen))


def _cut(job: AnomaliesJob, normal: Files) -> Segmentation:
    """Choose windows or tiles that overlap by half, so that nothing lies only at an edge."""
    cut = default_segmentation(normal, job.window)
    if cut.modality == "image" and not job.window:
        sides = [min(page.info.shape[1:]) for _, page in normal.each(lambda s: normal.excerpts(s, cut))]
        if max(sides, default=0) > _WHOLE_PX:
            cut = default_segmentation(normal, _TILE_PX)
    step = 0 if cut.whole else max(1, min(cut.size) // 2)
    return replace(cut, step=step, standardise=job.standardise)


def _parts(normal: Files, cut: Segmentation, seed: int) -> tuple[NDArray[np.float32], ...]:
    """Segments to learn from, for the threshold, for the check: of different files where there are five."""
    if len(normal.sources) < _N_PARTS:
        every = sample(normal, cut, seed=seed)  # in their order: neighbours overlap, and stay together
        parts = [every[part] for part in _shares(len(every))]
    else:
        order = np.random.default_rng(seed).permutation(len(normal.sources))
        parts = []
        for part in _shares(len(order)):
            some = replace(normal, sources=[normal.sources[index] for index in np.sort(order[part])])
            parts.append(sample(some, cut, _MAX_EXCERPTS if parts else MAX_SAMPLED, seed))
    if min(map(len, parts)) < 1:
        total = sum(map(len, parts))
        raise UsageError(f"the normal files have {total} excerpts; expected 100 or so to learn from")
    return tuple(parts)


def _shares(count: int) -> tuple[slice, slice, slice]:
    held = count // _N_PARTS
    return slice(2 * held, None), slice(0, held), slice(held, 2 * held)


def ranges(found: FileAnomalies) -> list[dict[str, Any]]:
    """List anomalous places: merged windows of signals that touch, every tile of images."""
    merged: list[dict[str, Any]] = []
    flagged = [
        (excerpt, float(score))
        for excerpt, score, flag in zip(found.excerpts, found.measured.score, found.flags, strict=True)
        if flag
    ]
    for excerpt, score in sorted(flagged, key=lambda pair: (pair[0].page, pair[0].channel, pair[0].start)):
        last = merged[-1] if merged else None
        place = (excerpt.page, excerpt.channel)
        if (
            last is not None
            and len(excerpt.start) == 1
            and (last["page"], last["channel"]) == place
            and excerpt.start[0] <= last["stop"][0]
        ):
            last["stop"], last["stop_s"] = list(excerpt.stop), excerpt.stop_s
            last["score"] = max(last["score"], score)
        else:
            merged.append({**_place(excerpt), "score": score})
    return merged


def _place(excerpt: Segment) -> dict[str, Any]:
    return {
        "page": excerpt.page,
        "channel": excerpt.channel,
        "start": list(excerpt.start),
        "stop": list(excerpt.stop),
        "start_s": excerpt.start_s,
        "stop_s": excerpt.stop_s,
    }


def _windows(found: FileAnomalies) -> Iterator[dict[str, Any]]:
    measured, flags = found.measured, found.flags
    for index, excerpt in enumerate(found.excerpts):
        row = {
            **_place(excerpt),
            "score": float(measured.score[index]),
            "p_value": float(measured.p_value[index]),
            "error": float(measured.error[index]),
        }
        if measured.elbo is not None:
            row["elbo"] = float(measured.elbo[index])
        yield {**row, "anomalous": bool(flags[index])}


def _report(judged: AnomalyResult) -> dict[str, Any]:
    """The form of the `.json`."""
    check = judged.check
    return {
        "quantile": judged.quantile,
        "threshold": judged.threshold if math.isfinite(judged.threshold) else None,
        "window": {"size": judged.cut.size, "step": judged.cut.step, "sample_rate": judged.cut.sample_rate},
        "held_out": None
        if check is None
        else {"windows": check.excerpts, "alarms": check.alarms, "expected": check.expected},
        "rows": [_row(source, found) for source, found in judged.rows],
        "failed": [
            {"file": str(problem.path), "error": problem.error}
            for problem in [*judged.files.problems, *(judged.normal.problems if judged.normal else ())]
        ],
    }


def _row(source: Source, found: FileAnomalies) -> dict[str, Any]:
    measured = found.measured
    row = {
        "file": str(source.path),
        "anomalous": found.anomalous,
        "p_value": found.p_value,
        "score": float(measured.score.max()),
        "error": float(measured.error.mean()),
    }
    if measured.elbo is not None:
        row["elbo"] = float(measured.elbo.mean())
    return {
        **row,
        "left_out": found.left_out,
        "channels": list(found.pages[0].channels),
        "ranges": ranges(found),
        "windows": list(_windows(found)),
    }


def _write_csv(path: Path, judged: AnomalyResult) -> None:
    """A row a window."""
    image = judged.cut.modality == "image"
    axes = ("row_px", "column_px") if image else ("sample",)
    with writing(path) as partial, partial.open("w", newline="", encoding="utf-8") as text:
        writer = csv.writer(text, lineterminator="\n")
        names = [f"{name}_{end}" for end in ("start", "stop") for name in axes]
        seconds = [] if image else ["start_s", "stop_s"]
        judgements = ["score", "p_value", "error", "elbo", "anomalous", "file_p_value", "file_anomalous"]
        writer.writerow(["file", "page", "channel", *names, *seconds, *judgements])
        for source, found in judged.rows:
            for row in _windows(found):
                writer.writerow(
                    [
                        source.path,
                        row["page"],
                        row["channel"],
                        *row["start"],
                        *row["stop"],
                        *(row[name] for name in seconds),
                        *(row.get(name, "") for name in judgements[:5]),
                        found.p_value,
                        found.anomalous,
                    ]
                )
