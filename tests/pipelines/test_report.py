"""Reports: aligned tables, a bar on a terminal, plain lines elsewhere, and valid JSON."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path

import pytest

from denoise.errors import OutputError
from pipelines import report
from pipelines.batch.discover import Problem
from pipelines.batch.manifest import Entry
from pipelines.batch.run import Result


def entry(number: int, **changes: object) -> Entry:
    facts: dict[str, object] = {
        "modality": "image",
        "model": "m",
        "seconds": 1.5,
        "metrics": {"psnr_db": 30.0 + number},
    }
    return Entry(f"in/{number}.png", f"out/{number}.png", **({"status": "ok"} | facts | changes))  # type: ignore[arg-type]


def test_table_columns_are_in_line() -> None:
    lines = report.table(["name", "x"], [["a", "1.00"], ["longer", "-10.00"]]).splitlines()
    assert lines == ["  name         x", "  a         1.00", "  longer  -10.00"]


def test_summary_has_means_and_failures_with_reasons() -> None:
    failed = entry(3, status="failed", metrics={}, error="in/3.png: is torn")
    ignored = (Problem(Path("in/x.txt"), ""),)
    text = report.summary(Result((entry(0), entry(1), failed), ignored))
    assert "image: 2 files" in text
    assert text.index("mean") < text.index("Failed: 1\n  in/3.png: is torn")
    assert "30.50" in text
    assert "Ignored, of other kinds: 1 (.txt)" in text
    assert text.endswith("1 failed, 2 ok")


def test_a_long_table_is_cut_and_its_mean_is_of_all() -> None:
    text = report.summary(Result(tuple(entry(n) for n in range(100)), ()))
    assert "... and 60 more" in text
    assert f"{30 + 49.5:.2f}" in text
    assert len(text.splitlines()) < 50


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_entries(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    entries = [entry(0), entry(1, status="failed", error="why \udcff")]
    with report.progress(2) as on_entry:
        for found in entries:
            on_entry(found)
    shown = stream.getvalue()
    if terminal:
        assert "2/2" in shown
        assert "file" in shown
    else:
        assert shown == "[1/2] ok in/0.png: 1.50 s\n[2/2] failed in/1.png: why ?\n"


def test_json_holds_null_for_what_it_cannot_say(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "r.json"
    report.write_json(path, {"rows": [{"a": math.inf, "b": (1, math.nan)}]})
    assert json.loads(path.read_text()) == {"rows": [{"a": None, "b": [1, None]}]}


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="its folder cannot be made"):
        report.write_text(tmp_path / "file" / "r.json", "{}")
