"""Pages: complete without network, inert whatever files are called, small, and sorted with failures first."""

import base64
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from click.testing import Result as ClickResult
from PIL import Image, ImageOps

from pipelines.batch.jobs import CleanJob
from pipelines.batch.manifest import Entry
from pipelines.batch.run import Result
from pipelines.report import number
from pipelines.view import Page, as_html, chart
from pipelines.view.budget import Budget
from pipelines.view.page import Chart, Column, Row
from pipelines.view.photo import Mark, PhotoView, photo_view
from pipelines.view.reports import batch_page, compare, metric_title
from pipelines.view.sound import sound_view
from pipelines.view.trace import trace_view

Denoise = Callable[..., ClickResult]

HOSTILE = "</script><script>hit()</script><img src=x onerror=hit()>\"'&{{7*7}}\x1b[2J\u202e.png"


def size_of(view: object) -> int:
    return sum(len(text) for text in re.findall(r"data:[^'\"\s]+", repr(view)))


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    clean = np.kron(rng.integers(60, 200, (30, 40, 3)), np.ones((20, 20, 1)))
    for name, sigma in (("noisy.png", 25), ("clean.png", 0)):
        noisy = clean + sigma * rng.standard_normal(clean.shape)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / name)
    return tmp_path / "noisy.png", tmp_path / "clean.png"


def pictures(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("files", [1, 100, 500])
def test_a_view_of_noise_fits_its_share_of_the_page(photos: tuple[Path, Path], files: int) -> None:
    budget = Budget.for_files(files)
    view = photo_view(*photos, budget)
    assert size_of(view) <= 4 / 3 * budget.size_bytes + 1000
    assert size_of(view) >= 0.2 * budget.size_bytes or view.scale == 1


def test_500_files_of_any_kind_make_a_page_below_25_mb(photos: tuple[Path, Path], tmp_path: Path) -> None:
    rng, clean = np.random.default_rng(0), np.zeros((480_000, 20))
    pairs = {"image": photos}
    for kind, suffix in (("audio", "wav"), ("sensor", "npy")):
        pairs[kind] = (tmp_path / f"before.{suffix}", tmp_path / f"after.{suffix}")
    noise = 0.1 * rng.standard_normal(clean.shape)
    for audio, log, values in zip(pairs["audio"], pairs["sensor"], (noise, clean + 0.3 * noise), strict=True):
        sf.write(audio, values[:, 0], 48000)
        np.save(log, values[:20_000].T)
    for kind, pair in pairs.items():
        view, missing = compare(kind, *pair, Budget.for_files(500), {})
        assert missing is None
        row = Row("a", "ok", kind, view=view)
        empty = as_html(Page("a", [], [], [replace(row, view=None, missing="none")]))
        assert 500 * (len(as_html(Page("a", [], [], [row]))) - len(empty)) < 24e6, kind


def test_crops_show_the_pixels_of_their_place(photos: tuple[Path, Path]) -> None:
    view = photo_view(*photos, Budget())
    width, height = view.side
    original = np.asarray(Image.open(photos[1]))[view.top : view.top + height, view.left : view.left + width]
    assert np.abs(pictures(view.crops[1]).astype(int) - original).mean() < 4  # lossy
    removed = pictures(view.crops[2]).astype(float)
    assert abs(removed.mean() - 128) < 3
    assert view.gain == 2  # twice 25/255 fits 127 with nearly all of its spread; four times does not
    assert 2 * 20 < removed.std() < 2 * 26


def test_the_outline_of_places_is_their_common_edge() -> None:
    whole = PhotoView(8, 4, 1.0, "", marks=(Mark(0.25, 0.0, 0.25, 0.5), Mark(0.375, 0.0, 0.25, 0.5)))
    edges = set(re.findall(r"M([\d.]+) ([\d.]+)([HV])([\d.]+)", whole.outline))
    across = {(x0, x1) for x0, y, way, x1 in edges if way == "H" and y == "0"}
    assert across == {("0.25", "0.375"), ("0.375", "0.5"), ("0.5", "0.625")}
    assert {x for x, *_, way, _ in edges if way == "V"} == {"0.25", "0.625"}  # none where they overlap


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_shown_upright(tmp_path: Path, orientation: int) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path, exif=exif)
    view = photo_view(path, None, Budget())
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    assert (view.height, view.width) == expected.shape[:2]
    assert np.abs(pictures(view.before).astype(int) - expected).mean() < 3


def test_twelve_bits_in_sixteen_are_not_shown_black(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 4095, 64).astype(np.uint16), (64, 1))
    Image.fromarray(ramp).save(tmp_path / "a.png")
    shown = pictures(photo_view(tmp_path / "a.png", None, Budget()).before)
    assert shown.max() > 240
    assert 110 < shown.mean() < 145


def test_the_excerpt_of_a_recording_is_where_most_was_removed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clean = 0.2 * np.sin(np.arange(60 * 16000) / 10)
    noisy = clean.copy()
    noisy[40 * 16000 : 44 * 16000] += 0.2 * rng.standard_normal(4 * 16000)
    for name, signal in (("noisy.wav", noisy), ("clean.wav", clean)):
        sf.write(tmp_path / name, signal, 16000)
    view = sound_view(tmp_path / "noisy.wav", tmp_path / "clean.wav", Budget.for_files(300))
    assert view.start_s <= 41
    assert view.stop_s >= 43
    assert [name for name, _ in view.clips] == ["before", "after", "removed"]
    assert size_of(view) <= 4 / 3 * Budget.for_files(300).size_bytes
    assert view.duration_s == 60


def test_a_trace_shows_gaps_and_the_fate_of_peaks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal(500)
    before[100], before[300] = 40.0, -40.0
    after = before.copy()
    after[300] = 0.0
    for name, values in (("a.csv", before), ("b.csv", after)):
        cells = [f"{value:.6f}" for value in values]
        cells[200:210] = [""] * 10
        lines = [f"{n / 10:.1f},{cell}\n" for n, cell in enumerate(cells)]
        (tmp_path / name).write_text("time_s,x\n" + "".join(lines))
    view = trace_view(tmp_path / "a.csv", tmp_path / "b.csv", Budget())
    (channel,) = view.channels
    assert [(round(500 * at), kept) for at, _, kept in channel.peaks] == [(100, True), (300, False)]
    assert view.unit == "s"
    assert view.span == pytest.approx(50.0)
    levels = np.frombuffer(base64.b64decode(channel.before), "<u2").astype(float)
    assert (levels[200:210] == 65535).all()
    shown = channel.low + levels / 65534 * (channel.high - channel.low)
    known = np.r_[0:200, 210:500]
    assert np.abs(shown[known] - before[known]).max() < 1e-3
    assert channel.paths[0].count("M") == 2
    assert channel.removed == pytest.approx(abs(before[300]), rel=1e-3)


def test_a_long_trace_keeps_its_extremes(tmp_path: Path) -> None:
    values = np.zeros((1, 300_000))
    values[0, 123_456] = 1.0
    np.save(tmp_path / "a.npy", values)
    view = trace_view(tmp_path / "a.npy", None, Budget(20_000))
    levels = np.frombuffer(base64.b64decode(view.channels[0].before), "<u2")
    assert levels.size < 10_000
    assert levels.argmax() / levels.size == pytest.approx(123_456 / 300_000, abs=0.001)
    assert levels.max() - np.median(levels) > 50_000


def test_names_and_notes_are_text() -> None:
    row = Row(
        HOSTILE, "ok", HOSTILE, ((HOSTILE, HOSTILE),), HOSTILE, HOSTILE, (HOSTILE,), ((HOSTILE, HOSTILE),)
    )
    drawings = [
        chart.dumbbells([(HOSTILE, 1, 2)], HOSTILE),
        chart.lines({HOSTILE: [(1, 2), (2, 3)]}, HOSTILE, HOSTILE),
        chart.scatter({HOSTILE: (1, 2), "b": (2, 3)}, HOSTILE, HOSTILE),
        chart.histogram([1.0, 2.0], HOSTILE),
    ]
    charts = [Chart(HOSTILE, drawing) for drawing in drawings]
    html = as_html(Page(HOSTILE, [(HOSTILE, HOSTILE)], [Column(HOSTILE)], [row], charts, [HOSTILE]))
    assert "<script>hit" not in html
    assert "<img src=x" not in html
    assert html.count("<script>") == 1
    assert "49?" not in html
    assert "\x1b" not in html
    assert "\u202e" not in html


def test_the_policy_of_a_page_allows_its_own_script_and_nothing_else() -> None:
    html = as_html(Page("a", [], [], []))
    assert "Previews" not in html  # it has none
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    script = re.search(r"<script>(.*)</script>", html, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;;" in policy[1]
    assert "unsafe" not in policy[1]
    assert policy[1].startswith("default-src &#39;none&#39;")
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", html)
    assert not re.search(r"\sstyle=|\son\w+=", html.replace(script[0], ""))  # both would be blocked


def test_failures_come_first_then_what_gained_least(tmp_path: Path) -> None:
    def entry(name: str, status: str, gain: float | None = None, error: str | None = None) -> Entry:
        metrics = {"mean_shift": 0.00161, "peaks": 34.0}
        metrics |= {} if gain is None else {"psnr_db_before": 20.0, "psnr_db": 20.0 + gain}
        facts = {"modality": "image", "model": "photo", "metrics": metrics, "error": error}
        return Entry(f"in/{name}", None, status, 1.0, **facts)

    entries = (
        entry("much.png", "ok", 9.0),
        entry("bad.png", "failed", error="in/bad.png: is empty"),
        entry("worse.png", "ok", -1.0),
        entry("half.png", "salvaged", 3.0, "in/half.png: in part"),
    )
    page = batch_page(CleanJob(inputs=(tmp_path,), output=tmp_path / "out"), Result(entries, ()))
    assert [row.name for row in page.rows] == ["bad.png", "half.png", "worse.png", "much.png"]
    assert page.rows[0].error == "is empty"
    assert ("+3.00", "image: PSNR, dB, median gain") in page.facts
    figures = (("mean shift", "0.00161"), ("peaks", "34"), ("PSNR, dB", "20.00 → 29.00"))
    assert page.rows[3].figures == figures


def test_figures_have_names_for_people() -> None:
    names = ("psnr_db", "si_sdr_db", "estimated_sigma", "estimated_noise_dbfs", "estimated_jpeg_quality")
    assert [*map(metric_title, names)] == [
        "PSNR, dB",
        "SI-SDR, dB",
        "estimated noise",
        "estimated noise, dBFS",
        "estimated JPEG quality",
    ]
    assert [number(value, "+") for value in (-0.0, 3.0, -0.01, 68811.7)] == [
        "0.00",
        "+3.00",
        "-0.01",
        "+68812",
    ]


def test_scores_count_files_in_whole_numbers() -> None:
    ticks = re.findall(r'text-anchor="end">([^<]*)<', chart.histogram([30.0, 41.0], "PSNR, dB"))
    assert ticks == ["0", "1"]


def test_a_file_that_cannot_be_shown_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nonsense")
    view, missing = compare("image", tmp_path / "a.png", None, Budget(), {})
    assert view is None
    assert missing
    assert "a.png" in missing


def test_reports_of_commands_replace_only_reports(media: Path, tmp_path: Path, denoise: Denoise) -> None:
    report, out = tmp_path / "r.html", tmp_path / "out"
    arguments = ("clean", media, "-o", out, "--model", "none", "--report", report)
    assert denoise(*arguments).exit_code == 0
    html = report.read_text("utf-8")
    assert html.count("<article") == 4
    assert "süb dir/b c.png" in html
    assert html.count("<audio") == 3
    assert denoise(*arguments).exit_code == 0  # an earlier report
    assert denoise("score", media, out, "--report", report).exit_code == 0
    html = report.read_text("utf-8")
    assert "Scores of 4 files" in html
    assert "mean RMSE" not in html  # of a log it has units of its own
    benchmark = ("--noise", "gaussian", "--levels", "15,50", "--models", "median,none", "--report", report)
    assert denoise("benchmark", media / "a.png", *benchmark).exit_code == 0
    html = report.read_text("utf-8")
    assert "Benchmark of 2 models" in html
    assert html.count('class="line"') == 2
    report.write_text("mine")
    refused = denoise(*arguments)
    assert refused.exit_code == 2
    assert report.read_text() == "mine"


def test_anomalies_are_outlined(tmp_path: Path, denoise: Denoise) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "good").mkdir()
    for name in (*(f"good/{n}" for n in range(6)), "odd"):
        values = np.sin(np.arange(2000) / 5) + 0.05 * rng.standard_normal(2000)
        if name == "odd":
            values[1000:1040] += 3
        np.save(tmp_path / f"{name}.npy", values[None])
    report = tmp_path / "r.html"
    fit = ("--fit-on", tmp_path / "good", "--window", 32, "--steps", 30, "--code-size", 4)
    result = denoise("anomalies", tmp_path / "odd.npy", *fit, "-o", tmp_path / "a.json", "--report", report)
    assert result.exit_code == 0, result.output
    html = report.read_text("utf-8")
    places = [float(share) for share in re.findall(r'class="mark" data-a="([\d.]+)"', html)]
    assert any(abs(share - 0.5) < 0.03 for share in places)


def test_what_was_salvaged_of_a_recording_is_shown(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(64000)
    sf.write(tmp_path / "whole.flac", noise, 16000)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "whole.flac").read_bytes()[:60_000])
    view, missing = compare("audio", tmp_path / "cut.flac", tmp_path / "whole.flac", Budget(), {})
    assert missing is None
    assert view is not None
    assert 1 < view.stop_s < 4


def test_a_histogram_counts_the_values_alone_and_shows_zero() -> None:
    drawn = chart.histogram([4.5, 4.6, 9.0], "gain", shown=[0.0])
    counts = [int(number) for number in re.findall(r"<title>(\d+) files", drawn)]
    assert sum(counts) == 3
    assert "<title>1 files, 9 to 10" in drawn
    assert ">0<" in drawn
