"""Time of a batch relative to its model, and its number of processes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.batch.engines import table as engines
from pipelines.batch.jobs import CleanJob

Run = Callable[..., Any]


def test_overhead_sets_the_batch_against_the_model_alone(tmp_path: Path, media: Path, denoise: Run) -> None:
    before = sorted(media.rglob("*"))
    report = tmp_path / "report.json"
    result = denoise("models", "overhead", "median", media, "--json", report)
    assert result.exit_code == 0, result.output
    found = json.loads(report.read_text())
    assert found["files"] == 3  # two images and a log: median is not for audio
    assert found["ratio"] == found["batch_seconds"] / found["model_seconds"] > 1
    assert found["first_seconds"] >= 0
    assert sorted(media.rglob("*")) == before


def test_overhead_needs_files_of_the_model(media: Path, denoise: Run) -> None:
    result = denoise("models", "overhead", "speech", media / "a.png")
    assert result.exit_code == 2
    assert "speech cleans none of" in result.output


@pytest.mark.parametrize(
    ("cores", "files", "seconds", "memory", "expected"),
    [
        (8, 100, 1.0, None, 1),  # finished before a second process would start
        (8, 100, 1000.0, None, 8),
        (8, 3, 1000.0, None, 3),
        (8, 100, 1000.0, 4 << 30, 2),  # limited by memory
        (8, 100, 1000.0, 1 << 20, 1),
    ],
)
def test_there_are_as_many_workers_as_pay(
    tmp_path: Path,
    cores: int,
    files: int,
    seconds: float,
    memory: int | None,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "cores", lambda: cores)
    monkeypatch.setattr(engines, "memory_bytes", lambda: 64 << 30)
    job = CleanJob(inputs=(tmp_path,), output=tmp_path / "out", memory=memory)
    assert engines._worker_count(job, files, seconds) == expected
