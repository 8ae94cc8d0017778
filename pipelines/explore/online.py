"""Judge every row of sensor logs by the rows before it."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from denoise import io
from denoise.analysis.anomalies import not_judged
from denoise.analysis.online import OnlineDetector, times_of
from denoise.errors import UsageError
from pipelines.batch.discover import Problem, Source
from pipelines.explore.jobs import AnomaliesJob
from pipelines.explore.segments import Files, find
from pipelines.report import check_outputs, write_csv

ONLINE_QUANTILE = 0.999
_COLUMNS = ("file", "recording", "row", "start_s", "score", "p_value", "anomalous")
_MAX_SHOWN = 5  # rows of a file


class StrangeRow(NamedTuple):
    """Anomalous row: its score, its number from 0, and its time in seconds, if the log has a clock."""

    score: float
    row: int
    start_s: float | None


@dataclass(frozen=True)
class OnlineFile:
    """Number of rows of a file, of anomalous ones, the strangest of these, and what was not judged."""

    source: Source
    rows: int
    anomalous: int
    strangest: tuple[StrangeRow, ...]
    notes: tuple[str, ...]  # sentences about columns that are not judged


@dataclass(frozen=True)
class OnlineResult:
    """Files in order, and those that could not be read."""

    files: tuple[OnlineFile, ...]
    problems: tuple[Problem, ...]


def judge_rows(job: AnomaliesJob) -> OnlineResult:
    """Write one line with score and p-value for each row of the inputs, in their order.

    Raises:
        UsageError: The output is no .csv, or exists, or there are no sensor logs.
    """
    if job.output is None:
        raise UsageError("--online writes a line per row: expected -o FILE.csv")
    check_outputs({job.output: (".csv",)}, job.inputs, job.overwrite)
    if job.kind not in (None, "sensor"):
        raise UsageError(f"--online judges the rows of sensor logs, not {job.kind} files")
    logs = find(job.inputs, "sensor", recursive=job.recursive, columns=job.columns, judged=True)
    quantile = ONLINE_QUANTILE if job.quantile is None else job.quantile
    judged: list[OnlineFile] = []

    def lines() -> Iterator[Sequence[object]]:
        for source, rows in logs.each(lambda source: list(_rows(source, logs, quantile))):
            strange = [StrangeRow(row.score, row.row, row.start_s) for row in rows if row.anomalous]
            strangest = tuple(heapq.nlargest(_MAX_SHOWN, strange))
            notes = not_judged(io.probe(source.path, **logs.options))
            judged.append(OnlineFile(source, len(rows), len(strange), strangest, notes))
            yield from ([source.path, *row] for row in rows)

    write_csv(job.output, _COLUMNS, lines())
    return OnlineResult(tuple(judged), tuple(logs.problems))


class _Row(NamedTuple):
    recording: int
    row: int
    start_s: float | None
    score: float
    p_value: float
    anomalous: bool


def _rows(source: Source, logs: Files, quantile: float) -> Iterator[_Row]:
    path: Path = source.path
    for recording in range(io.probe(path, **logs.options).pages):
        options = {**logs.options, "recording": recording} if recording else logs.options
        with io.reader(path, **options) as blocks:
            detector, row, start = OnlineDetector(blocks.info.shape[0]), 0, math.nan
            for block, times in zip(blocks, times_of(blocks), strict=False):
                for values, time in zip(block.T, times.tolist(), strict=True):
                    found = detector.update(values, time)
                    start = time if math.isnan(start) else start
                    alarm = found.score > 0 and found.p_value <= 1 - quantile
                    yield _Row(recording, row, None if math.isnan(time) else time - start, *found, alarm)
                    row += 1
