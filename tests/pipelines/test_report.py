"""Reports: aligned tables, a bar on a terminal, plain lines elsewhere, and valid JSON."""

import io
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from denoise.errors import OutputError, counted
from denoise.infer.apply import apply
from denoise.infer.file import clean_file
from denoise.models.table import build
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


def test_long_notes_of_a_terminal_go_on_in_the_next_line() -> None:
    note = "counters, angles and positions are left as they are: " + ", ".join(
        f"column_{n} (count in whole steps)" for n in range(9)
    )
    facts: dict[str, Any] = {"modality": "sensor", "model": "none", "metrics": {}, "notes": (note,)}
    result = Result((Entry("a.csv", "out/a.csv", "ok", 1.0, **facts),), ())
    lines = report.summary(result, width=80, wrap=True).splitlines()
    assert max(map(len, lines)) <= 80
    start = next(n for n, line in enumerate(lines) if line.startswith("  counters"))
    stop = lines.index("", start)
    assert stop > start + 1
    assert all(line.startswith("    ") for line in lines[start + 1 : stop])
    assert " ".join(line.strip() for line in lines[start:stop]) == note
    assert f"  {note}" in report.summary(result).splitlines()  # for programs


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


def test_what_a_mean_leaves_out_is_said() -> None:
    perfect = entry(1, metrics={"psnr_db": math.inf, "psnr_db_before": 20.0})
    text = report.summary(Result((entry(0), perfect), ()))
    assert "not in the mean, since not finite: 1 of psnr_db" in text
    assert "not in the mean" not in report.summary(Result((entry(0), entry(1)), ()))


def test_many_files_are_shown_as_medians_and_all_of_them_on_request() -> None:
    result = Result(tuple(entry(n) for n in range(21)), ())
    text = report.summary(result)
    assert "image: 21 files (m 21), medians" in text
    assert "40.00" in text
    assert "in/0.png" not in text
    assert report.summary(result, verbose=True).count(".png") == 21


def test_a_table_fits_the_width() -> None:
    names = ["psnr_db", "ssim", "estimated_sigma", "estimated_blur_px", "estimated_jpeg_quality"]
    figures = {name + side: 20.0 for name in names for side in ("_before", "_after")}
    entries = [entry(n, metrics=figures) for n in range(3)]
    entries += [replace(entries[0], source="in/" + "deep/" * 20 + "x" * 80 + ".png")]
    text = report.summary(Result(tuple(entries), ()))
    assert max(map(len, text.splitlines())) <= 80
    assert "20.00 -> 20.00" in text
    assert "xx.png" in text
    wide = report.summary(Result(tuple(entries), ()), verbose=True)
    assert "x" * 80 in wide
    assert "estimated_jpeg_quality" in wide


def test_a_jpeg_quality_is_shown_only_where_there_are_traces() -> None:
    entries = [entry(n, metrics={"estimated_sigma": 5.0, "estimated_jpeg_quality": 100.0}) for n in range(2)]
    assert report.figure_names(entries) == ["estimated_sigma"]
    assert "jpeg" not in report.summary(Result(tuple(entries), ()))
    entries.append(entry(2, metrics={"estimated_jpeg_quality": 80.0}))
    assert "estimated_jpeg_quality" in report.summary(Result(tuple(entries), ()), verbose=True)


def test_failures_are_grouped_by_their_cause() -> None:
    entries = [entry(n, status="failed", metrics={}, error=f"in/{n}.png: is empty") for n in range(9)]
    entries += [entry(9, status="failed", metrics={}, error="in/9.png: is torn")]
    shown = report.summary(Result(tuple(entries), ())).splitlines()
    assert shown[:3] == ["Failed: 10", "  is empty: 9 files", "    in/0.png"]
    assert shown[6:9] == ["    in/4.png", "    ... and 4 more", "  in/9.png: is torn"]
    assert report.summary(Result(tuple(entries), ()), colour=True).startswith("\x1b[31mFailed: 10\x1b[0m")


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
        assert "MB/s, 1 failed" in shown
    else:
        assert shown == "[1/2] ok in/0.png: 1.50 s\n[2/2] failed in/1.png: why ?\n"


def test_progress_shows_the_share_of_a_large_image(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with report.progress(1) as on_entry:
        apply(build("median", "image"), np.zeros((1, 64, 64), np.uint8), peak=255.0, tile=32)
        on_entry(entry(0))
    shown = stream.getvalue()
    assert all(f"{share}% of this file" in shown for share in (25, 50, 75))
    assert "100% of this file" not in shown
    assert "of this file" not in shown.rsplit("\r", 1)[-1]


@pytest.mark.parametrize(("others", "speed"), [(0, "x real time"), (1, "MB/s")])
def test_progress_of_recordings_is_in_times_of_real_time(
    monkeypatch: pytest.MonkeyPatch, others: int, speed: str
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with report.progress(2 + others) as on_entry:
        for found in [entry(0, duration_s=600.0)] * 2 + [entry(1)] * others:
            on_entry(found)
    assert re.search(rf"\d {speed}\]", stream.getvalue().rsplit("\r", 1)[-1])


def test_progress_shows_the_share_of_a_long_recording(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 40000), 8000)
    with report.progress(2) as on_entry:
        on_entry(entry(0))
        found = clean_file(tmp_path / "a.wav", tmp_path / "b.wav", "wiener", block=10000)
    shown = stream.getvalue()
    assert all(re.search(rf"\ra\.wav: [^\r]*{share}% of this file", shown) for share in (25, 50, 75))
    assert found.duration_s == 5


def test_json_holds_null_for_what_it_cannot_say(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "r.json"
    report.write_json(path, {"rows": [{"a": math.inf, "b": (1, math.nan)}]})
    assert json.loads(path.read_text()) == {"rows": [{"a": None, "b": [1, None]}]}


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="its folder cannot be made"):
        report.write_text(tmp_path / "file" / "r.json", "{}")


def test_printed_figures_are_those_of_the_json(tmp_path: Path, denoise: Callable[..., Any]) -> None:
    """The default of images measures more than it changes; each figure is printed as it is."""
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(96), np.arange(96)) * 1.2
    for name, sigma in (("noisy.png", 25), ("clean.png", 0)):
        values = ramp + rng.normal(0, sigma, ramp.shape)
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / name)
    result = denoise("clean", folder, "-v", "-o", tmp_path / "out", "--json", tmp_path / "r.json")
    lines = [line.split("  ") for line in result.stdout.splitlines()]
    table = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    header = next(line for line in table if line[0] == "file")
    for row in json.loads((tmp_path / "r.json").read_text())["rows"]:
        cells = dict(zip(header, next(line for line in table if line[0] == row["source"]), strict=True))
        figures = row["metrics"]
        for name in header[3:]:
            expected = [figures.get(f"{name}{side}") for side in ("_before", "_after")]
            if expected == [None, None]:
                expected = [figures.get(name)]
            shown = cells[name].split(" -> ")
            assert len(shown) == len(expected), (name, cells[name])
            for text, value in zip(shown, expected, strict=True):
                assert text == "-" if value is None else float(text) == pytest.approx(value, abs=0.006), name


def test_a_figure_without_a_pair_is_printed_alone() -> None:
    figures: dict[str, float | None] = {"psnr_db": 30.0, "psnr_db_before": 20.0, "speech_share": 0.5}
    figures |= {"estimated_sigma": 25.05, "estimated_sigma_before": 25.05, "estimated_sigma_after": 0.0}
    text = report.summary(Result((entry(0, metrics=figures),), ()))
    row = next(line for line in text.splitlines() if "0.png" in line)
    assert re.split(r" {2,}", row.strip())[3:] == ["20.00 -> 30.00", "0.5", "25.05 -> 0.00"]


def test_one_thing_has_no_plural() -> None:
    assert [counted(number, "group") for number in (0, 1, 2)] == ["0 groups", "1 group", "2 groups"]
