"""Protocols, oracle methods that are given the blur, and the contact sheet."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure
from PIL import Image

from denoise.corruptions import corrupt, parse
from denoise.infer.file import clean_file
from denoise.infer.select_image import ImageSelector
from denoise.infer.selection import Selection
from pipelines.benchmark import contact_sheet, figures, peers, protocols
from pipelines.benchmark import run as benchmark
from pipelines.benchmark.deconvolution import NON_BLIND, Blurred, deconvolve
from pipelines.benchmark.job import BenchmarkJob
from pipelines.benchmark.page import benchmark_page
from pipelines.benchmark.protocols import PROTOCOLS, Protocol
from pipelines.benchmark.significance import Comparison, comparisons
from pipelines.benchmark.titles import noise_title

Run = Callable[..., Any]


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Rectangles of many sizes on a ramp, `(3, H, W)` in 0..1: edges, corners and flat areas."""
    rng = np.random.default_rng(seed)
    out = np.empty((3, height, width), np.float32)
    out[:] = np.linspace(0.3, 0.7, width)
    for _ in range(40):
        top, left = rng.integers(0, height), rng.integers(0, width)
        tall, wide = rng.integers(3, 30, 2)
        out[:, top : top + tall, left : left + wide] = rng.uniform(0.1, 0.9, (3, 1, 1))
    return out


def shown(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def psnr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((reference - estimate) ** 2)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(2):
        pixels = np.rint(picture(72, 96, number) * 255).astype(np.uint8).transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


SMALL = Protocol(
    {"none": (), "gaussian": (10, 25), "defocus": (2,)}, then=("", "jpeg:quality=90"), means=True
)


# ---- protocols -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_is_of_corruptions_of_its_modality_and_each_cell_has_a_name_of_its_own(name: str) -> None:
    conditions = PROTOCOLS[name].conditions()
    assert len({str(condition) for condition in conditions}) == len(conditions)
    for condition in conditions:
        assert condition.group
        if condition.noise:
            assert PROTOCOLS[name].modality in condition.noise.modalities
            assert str(parse(str(condition))) == str(condition)


def test_the_robustness_protocol_has_a_clean_file_and_every_kind_of_damage() -> None:
    named = {spec.partition(":")[0] for spec in PROTOCOLS["robustness"].sweeps}
    assert named >= {
        "none", "gaussian", "poisson-gaussian", "correlated", "camera", "jpeg", "salt-pepper",
        "gaussian-blur", "defocus", "motion-blur",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "give one of the two"),
        (("--noise", "gaussian", "--protocol", "robustness"), "give one of the two"),
        (("--protocol", "robustnes"), "did you mean robustness"),
        (("--protocol", "robustness", "--levels", "5"), "has its own levels"),
        ((), "such as --noise gaussian"),
    ],
)
def test_a_noise_or_a_protocol_is_asked_for(
    photos: Path, denoise: Run, options: tuple[str, ...], sentence: str
) -> None:
    result = denoise("benchmark", photos, "--models", "none", *options)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_every_row_of_a_markdown_table_has_a_cell_for_each_column(
    photos: Path, tmp_path: Path, denoise: Run
) -> None:
    out = ("--markdown", tmp_path / "r.md", "--latex", tmp_path / "r.tex")
    result = denoise(
        "benchmark", photos, "--noise", "gaussian", "--levels", "15,25", "--models", "none", *out
    )
    assert result.exit_code == 0, result.output
    tables = [part.splitlines() for part in (tmp_path / "r.md").read_text().split("\n\n") if part[0] == "|"]
    assert any("(noisy)" in row for rows in tables for row in rows)
    for rows in tables:
        assert {row.count("|") for row in rows} == {rows[0].count("|")}, rows
    (noisy,) = [line for line in (tmp_path / "r.tex").read_text().splitlines() if "(noisy)" in line]
    assert noisy.count("&") == 5


def test_a_protocol_gives_gains_in_text_json_and_markdown(
    photos: Path, tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "PROTOCOLS", {"small": SMALL})
    out = ("--json", tmp_path / "r.json", "--markdown", tmp_path / "r.md")
    result = denoise("benchmark", photos, "--protocol", "small", "--models", "none,median", *out)
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert {row["noise"] for row in rows} == {str(condition) for condition in SMALL.conditions()}
    assert all(row["cost"]["s_per_mpx"] > 0 for row in rows)

    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tmp_path / "r.md").read_text().splitlines()
        if line.startswith("|")
    ]
    assert lines[0] == ["degradation", "level", "input", "none", "median"]
    cells = {(line[0], line[1]): line[2:] for line in lines[2:]}
    assert cells["none", ""][:2] == ["", "same"]  # no gain is possible on a clean file
    by_noise = {(row["model"], row["noise"]): row for row in rows}
    median = by_noise["median", "gaussian:sigma=25"]
    gain = median["metrics"]["psnr_db"] - median["noisy_metrics"]["psnr_db"]
    assert gain > 2
    assert cells["gaussian", "25"] == [
        f"{median['noisy_metrics']['psnr_db']:.2f}", "+0.00", f"{gain:+.2f}"
    ]  # fmt: skip
    sweep = [float(cells["gaussian", level][2]) for level in ("10", "25")]
    assert float(cells["gaussian", "mean"][2]) == pytest.approx(np.mean(sweep), abs=0.011)
    for word in ("gaussian + jpeg:quality=90", "seconds a megapixel"):
        assert word in result.stdout
        assert word in (tmp_path / "r.md").read_text()


# ---- real pairs ------------------------------------------------------------------------------------------


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint(pixels * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(path)
    return path


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Three pairs: one by the names, one by the folders, and one that a median filter spoils."""
    folder = tmp_path / "pairs"
    clean = picture(72, 96)
    specks = np.random.default_rng(0).uniform(size=clean.shape[1:]) < 0.03
    for noisy, truth in (("a_noisy.png", "a_clean.bmp"), ("x/noisy/b.png", "x/clean/b.png")):
        save(folder / noisy, np.where(specks, 1.0, clean))
        save(folder / truth, clean)
    checks = np.tile(np.indices((72, 96)).sum(0) % 2, (3, 1, 1)) * 1.0
    save(folder / "c_noisy.png", np.where(specks, 0.5, checks))
    save(folder / "c_clean.png", checks)
    return folder


def test_real_pairs_give_the_gain_of_each_file_and_the_share_that_became_worse(
    pairs: Path, tmp_path: Path, denoise: Run
) -> None:
    out = tmp_path / "r.json"
    result = denoise("benchmark", pairs, "--protocol", "real", "--models", "median,none", "--json", out)
    assert result.exit_code == 0, result.output
    median, none = json.loads(out.read_text())["rows"]
    assert [case["key"] for case in median["cases"]] == ["a", "c", "x/b"]
    cases = {case["key"]: case for case in median["cases"]}
    noisy, clean = (shown(pairs / name) / 255 for name in ("a_noisy.png", "a_clean.bmp"))
    assert cases["a"]["before"] == pytest.approx(psnr_db(clean, noisy))
    assert cases["a"]["gain"] == cases["x/b"]["gain"] == pytest.approx(median["median_gain"])
    assert cases["a"]["gain"] > 3
    assert (median["worst_file"], median["worst_gain"]) == ("c", cases["c"]["gain"])
    assert cases["c"]["gain"] < -3
    assert median["worse_share"] == pytest.approx(1 / 3)
    assert median["metrics"]["psnr_db"] == pytest.approx(np.mean([c["after"] for c in cases.values()]))
    assert (none["worst_gain"], none["worse_share"], none["decisions"]) == (0, 0, {"none": 3})
    line = next(line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["median"])
    assert line[5:8] == [f"{cases['c']['gain']:+.2f}", "33.3", "%"]


def test_named_metrics_stand_beside_the_usual_ones(tmp_path: Path, denoise: Run) -> None:
    rng, out = np.random.default_rng(0), tmp_path / "r.json"
    tone = np.sin(np.arange(16_000) * 0.3) * np.linspace(0.1, 0.5, 16_000)
    soundfile.write(tmp_path / "a_clean.wav", tone, 16_000)
    soundfile.write(tmp_path / "a_noisy.wav", tone + rng.normal(0, 0.05, tone.size), 16_000)
    common = ("benchmark", tmp_path, "--models", "none", "--json", out, "--metrics")
    for condition in (["--protocol", "real"], ["--noise", "white", "--levels", "20"]):
        result = denoise(*common, "seg_snr_db", *condition)
        assert result.exit_code == 0, result.output
        (row, *_) = json.loads(out.read_text())["rows"]
        assert row["metrics"]["seg_snr_db"] == row["noisy_metrics"]["seg_snr_db"]
        assert 5 < row["metrics"]["seg_snr_db"] < 30
    result = denoise(*common, "pesk", "--protocol", "real")
    assert result.exit_code == 2
    assert "pesq" in result.output


def test_an_image_of_a_real_pair_is_measured_as_it_is_written(tmp_path: Path, denoise: Run) -> None:
    clean = picture(72, 96)
    save(tmp_path / "a_noisy.jpg", clean + np.random.default_rng(0).normal(0, 0.1, clean.shape))
    save(tmp_path / "a_clean.png", clean)
    clean_file(tmp_path / "a_noisy.jpg", tmp_path / "a.jpg", "median")
    denoise("benchmark", tmp_path, "--protocol", "real", "--models", "median", "--json", tmp_path / "r.json")
    (row,) = json.loads((tmp_path / "r.json").read_text())["rows"]
    written, truth = (shown(tmp_path / name) / 255 for name in ("a.jpg", "a_clean.png"))
    assert row["metrics"]["psnr_db"] == pytest.approx(psnr_db(truth, written))


def test_real_pairs_are_cleaned_by_default_as_clean_does_and_decisions_are_counted(
    pairs: Path, tmp_path: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drop(_: ImageSelector, selection: Selection, *__: object) -> str:
        return "it was a test" if selection.model == "photo" else ""

    monkeypatch.setattr(ImageSelector, "reject_reason", drop)
    save(pairs / "d_clean.png", picture(64, 64))
    save(pairs / "d_noisy.png", picture(64, 64) + np.random.default_rng(0).normal(0, 0.06, (3, 64, 64)))
    out = tmp_path / "r.json"
    result = denoise("benchmark", pairs, "--protocol", "real", "--json", out)
    assert result.exit_code == 0, result.output
    (row,) = json.loads(out.read_text())["rows"]
    assert row["model"] == "auto"
    assert (row["decisions"], row["dropped"]) == ({"none": 4}, {"photo": 1})
    (reason,) = (case["reason"] for case in row["cases"] if case["dropped"])
    assert "photo was tried and dropped: it was a test" in reason
    assert "photo dropped" in result.stdout


def test_files_of_other_depths_are_compared_at_full_scale(tmp_path: Path, denoise: Run) -> None:
    clean = picture(48, 48)[0]
    Image.fromarray(np.rint(clean * 65535).astype(np.uint16)).save(tmp_path / "a_noisy.png")
    Image.fromarray(np.rint(clean * 255).astype(np.uint8)).save(tmp_path / "a_clean.png")
    denoise("benchmark", tmp_path, "--protocol", "real", "--models", "none", "--json", tmp_path / "r.json")
    (row,) = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert row["metrics"]["psnr_db"] == pytest.approx(59, abs=1)  # of rounding to 8 bits


def test_pairs_of_every_kind_take_part(media: Path, tmp_path: Path, denoise: Run) -> None:
    for name in ("a.png", "t.wav", "s.csv"):
        for side in ("noisy", "clean"):
            (tmp_path / "pairs" / side).mkdir(exist_ok=True, parents=True)
            shutil.copy(media / name, tmp_path / "pairs" / side / name)
    out = tmp_path / "r.json"
    result = denoise("benchmark", tmp_path / "pairs", "--protocol", "real", "--models", "none", "--json", out)
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text())["rows"]
    assert [(row["modality"], row["files"], row["worst_gain"]) for row in rows] == [
        ("image", 1, 0), ("audio", 1, 0), ("sensor", 1, 0)
    ]  # fmt: skip
    assert "none   100.00  100.00  +0.00" in result.stdout  # a perfect input


def test_a_pair_that_does_not_fit_is_named_and_the_others_count(pairs: Path, denoise: Run) -> None:
    save(pairs / "lonely_clean.png", picture(20, 20))
    save(pairs / "plain.png", picture(20, 20))
    save(pairs / "d_noisy.png", picture(20, 20))
    save(pairs / "d_clean.png", picture(20, 24))
    save(pairs / "a_noisy.webp", picture(72, 96))
    result = denoise("benchmark", pairs, "--protocol", "real", "--models", "none")
    assert result.exit_code == 1
    assert "image, real pairs: PSNR, dB, 3 files" in result.stdout
    failed = [line for line in result.stdout.splitlines() if line.startswith("Failed: ")]
    assert len(failed) == 4
    for sentence in (
        "lonely_clean.png: has no noisy partner; expected a_noisy.jpg beside a_clean.jpg",
        "plain.png: its name says neither noisy nor clean",
        "a_noisy.webp: ",
        f"d_noisy.png: its shape is (3, 20, 20); {pairs / 'd_clean.png'} has (3, 20, 24)",
    ):
        assert any(sentence in line for line in failed), sentence


# ---- given the blur ----------------------------------------------------------------------------------------

BLURS = ("gaussian-blur:sigma_px=1.5", "defocus:radius_px=2.5", "motion-blur:length_px=9")


@pytest.mark.parametrize("blur", BLURS)
def test_the_kernel_given_is_the_one_that_blurred(blur: str) -> None:
    """An impulse that is corrupted with the same seed is the kernel."""
    noise = parse(f"{blur}+gaussian:sigma=3+gaussian:sigma=4")
    truth = Blurred.by(noise, seed=7)
    assert truth.sigma == pytest.approx(5)
    reach = len(truth.kernel) // 2
    impulse = np.zeros((1, 41, 61), np.float32)
    impulse[0, 20, 30] = 1
    spread = corrupt(impulse, parse(blur), seed=7, peak=1.0)[0]
    around = spread[20 - reach : 21 + reach, 30 - reach : 31 + reach]
    np.testing.assert_allclose(around, truth.kernel, atol=1e-6)
    if blur.startswith("motion"):
        assert not np.allclose(Blurred.by(noise, seed=8).kernel, truth.kernel, atol=1e-3)


@pytest.mark.parametrize("name", NON_BLIND)
@pytest.mark.parametrize("blur", BLURS)
def test_knowing_the_blur_gains_also_at_the_edges(name: str, blur: str) -> None:
    clean = picture(64, 80)
    noise = parse(f"{blur}+gaussian:sigma=1")
    blurred = corrupt(clean, noise, seed=3, peak=1.0)
    restored = deconvolve(name, blurred, Blurred.by(noise, seed=3))
    assert restored.shape == clean.shape
    assert psnr_db(clean, restored) > psnr_db(clean, blurred) + 1.5
    frame = np.ones(clean.shape, bool)
    frame[:, 8:-8, 8:-8] = False
    assert psnr_db(clean[frame], restored[frame]) > psnr_db(clean[frame], blurred[frame]) + 0.5


def test_a_wrong_kernel_does_not_help() -> None:
    clean = picture(72, 96)
    noise = parse("defocus:radius_px=2.5+gaussian:sigma=1")
    blurred = corrupt(clean, noise, seed=3, peak=1.0)
    wrong = Blurred(Blurred.by(parse("motion-blur:length_px=11,angle_deg=45"), 0).kernel, 1.0)
    assert psnr_db(clean, deconvolve("oracle-wiener", blurred, wrong)) < psnr_db(clean, blurred)


@pytest.mark.parametrize("name", ["oracle-wiener", "told-wiener"])  # the latter is its former name
def test_non_blind_rows_stand_beside_blind_ones_and_need_a_blur(
    name: str, photos: Path, denoise: Run
) -> None:
    asked = ("benchmark", photos, "--models", f"none,{name}", "--noise")
    result = denoise(*asked, "gaussian-blur:sigma_px=1.5+gaussian:sigma=1")
    assert result.exit_code == 0, result.output
    line = next(line for line in result.stdout.splitlines() if line.split()[0] == name)
    assert float(line.split()[2]) > 1
    refused = denoise(*asked, "gaussian", "--levels", "5")
    assert refused.exit_code == 2
    assert "gaussian:sigma=5: a non-blind method needs a noise that begins with a blur" in refused.stderr


# ---- the contact sheet -----------------------------------------------------------------------------------


def test_crops_are_where_most_happens_and_where_nothing_does() -> None:
    clean = np.full((1, 400, 700), 0.5, np.float32)
    clean[:, 150:250, 420:520] = picture(100, 100)[:1]
    clean[:, :, :200] = 1.0  # clipped: camera noise is invisible there
    clean[:, 300:, 200:] += 0.01 * (np.arange(500) % 2)
    crop = contact_sheet.Crop.of(clean)
    top, left = crop.detail
    assert top <= 150
    assert top + contact_sheet.CROP_PX >= 250
    assert left <= 420
    assert left + contact_sheet.CROP_PX >= 520
    strip = clean[:, crop.flat[0] :, crop.flat[1] :][:, : contact_sheet.FLAT_PX, : contact_sheet.CROP_PX]
    assert (strip == 0.5).all()


def test_the_sheet_shows_native_pixels_and_what_was_removed(
    tmp_path: Path, denoise: Run, photos: Path
) -> None:
    sheet = tmp_path / "sheet.png"
    command = ("benchmark", photos, "--noise", "gaussian", "--levels", "20", "--contact-sheet", sheet)
    assert denoise(*command, "--models", "none,median,gaussian").exit_code == 0
    first = sheet.read_bytes()
    drawn, clean = shown(sheet), shown(photos / "0.png")
    cell = contact_sheet.CROP_PX + contact_sheet.GAP_PX
    top = contact_sheet.GAP_PX + 2 * contact_sheet.LINE_PX

    def column(number: int) -> np.ndarray:
        left = contact_sheet.GAP_PX + number * cell
        return drawn[top : top + 72, left : left + 96]

    assert drawn.shape[1] == contact_sheet.GAP_PX + 4 * cell  # clean, input, best classical, removed
    assert (column(0) == clean).all()
    inner = (clean > 80) & (clean < 175)  # where four sigmas of noise do not clip
    assert (column(1) - clean)[inner].std() == pytest.approx(20, rel=0.1)
    removed = column(1) - column(2)
    expected = np.clip(127.5 + contact_sheet.RESIDUAL_GAIN * removed, 0, 255)
    assert abs(column(3) - expected)[inner].max() <= 5  # of rounding, four times as strong

    assert denoise(*command, "--models", "none,median,gaussian").exit_code == 0
    assert sheet.read_bytes() == first


def test_the_sheet_has_a_row_for_each_level_and_only_the_first_files(photos: Path, tmp_path: Path) -> None:
    job = BenchmarkJob(inputs=(photos,), noise="gaussian", levels=(5, 20, 50), models=("median",))
    few = contact_sheet.ContactSheet(tmp_path / "few.png", max_rows=3)
    all_of_them = contact_sheet.ContactSheet(tmp_path / "all.png")
    for sheet in (few, all_of_them):
        benchmark.benchmark(job, sheet)
        sheet.write()
    heights = [shown(tmp_path / name).shape[0] - contact_sheet.GAP_PX for name in ("few.png", "all.png")]
    assert heights[1] == 2 * heights[0]


@pytest.mark.parametrize(
    ("file", "noise", "path", "sentence"),
    [
        ("t.wav", "white", "s.png", "a contact sheet shows images, and the inputs are audio"),
        ("a.png", "gaussian:sigma=5", "s.jpg", "s.jpg: a contact sheet is written as .png"),
    ],
)
def test_a_sheet_that_cannot_be_is_refused(
    media: Path, tmp_path: Path, denoise: Run, file: str, noise: str, path: str, sentence: str
) -> None:
    sheet = tmp_path / path
    result = denoise(
        "benchmark", media / file, "--noise", noise, "--models", "none", "--contact-sheet", sheet
    )
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert not sheet.exists()


def test_a_log_that_is_not_changed_counts_as_one_that_hardly_is(tmp_path: Path) -> None:
    wave = np.sin(np.arange(3000) / 40)
    rough = wave + np.random.default_rng(0).normal(0, 0.1, 3000)
    for family, signal in (("rough", rough), ("coarse", np.round(wave))):
        (tmp_path / family).mkdir()
        np.savez(tmp_path / family / "a.npz", x=signal, sample_rate=10.0)
    job = BenchmarkJob(inputs=(tmp_path,), protocol="sensor", models=("median", "none"))
    rows = {row.model: row for row in benchmark.benchmark(job).rows if row.noise == "none"}
    assert rows["none"].fidelity == 60
    median = rows["median"]
    assert median.headline is not None
    assert median.fidelity == pytest.approx((60 + median.headline) / 2)  # a median keeps steps as they are


# ---- the document ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_document_has_a_line_for_each_cell_of_a_protocol(name: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text()
    listed = {
        tuple(cell.strip() for cell in line.split("|")[1:3]) for line in text.splitlines() if "|" in line
    }
    for condition in PROTOCOLS[name].conditions():
        assert (condition.group, "" if condition.level is None else f"{condition.level:g}") in listed


# ---- for papers ------------------------------------------------------------------------------------------


def case(key: str, seed: int, gain: float) -> benchmark.FileCase:
    return benchmark.FileCase(key, "", seed, 20.0, 20.0 + gain, {}, {}, "m", 1.0, "", (), None, None)


def row(model: str, gains: np.ndarray) -> benchmark.BenchmarkRow:
    """A model's gains, of files by seeds."""
    cases = tuple(case(str(f), s, float(g)) for (f, s), g in np.ndenumerate(gains))
    return benchmark.BenchmarkRow(model, "image", "n", None, len(gains), {}, {}, {}, cases=cases)


def test_the_interval_is_over_files_and_not_over_the_noises_drawn_for_them() -> None:
    """Noises of one file are no independent files: drawing more must not make the mean look certain."""
    files = np.random.default_rng(0).normal(3.0, 1.0, (30, 1))
    (once,) = comparisons([row("a", files)])
    (often,) = comparisons([row("a", np.repeat(files, 20, axis=1))])
    assert often.interval == pytest.approx(once.interval)
    assert once.interval is not None
    low, high = once.interval
    standard_error = files.std(ddof=1) / np.sqrt(30)
    assert (high - low) == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    assert low < once.gain < high


def test_models_are_compared_file_by_file() -> None:
    """A small but steady difference counts although the files differ by far more; chance does not."""
    rng = np.random.default_rng(1)
    files = rng.normal(5.0, 3.0, (20, 1))
    steady, chance = files + rng.normal(0.2, 0.05, files.shape), files + rng.normal(0.0, 0.2, files.shape)
    first, better, same = comparisons([row("a", files), row("b", steady), row("c", chance)])
    assert (first.against, first.p_value) == (None, None)
    assert better.difference == pytest.approx(0.2, abs=0.03)
    assert better.p_value == pytest.approx(2 * 2**-19)  # all signs agree: exact, and doubled by Holm
    assert same.p_value is not None
    assert same.p_value > 0.05
    assert same.difference_interval is not None
    assert same.difference_interval[0] < 0 < same.difference_interval[1]


def test_files_for_papers(photos: Path, tmp_path: Path, denoise: Run) -> None:
    out = {name: tmp_path / name for name in ("t.tex", "c.csv", "p.svg", "p.pdf", "r.json")}
    result = denoise(
        "benchmark", photos, "--noise", "gaussian", "--levels", "10,30", "--models", "median,none",
        "--seeds", 2, "--latex", out["t.tex"], "--cases", out["c.csv"], "--plot", out["p.svg"],
        "--json", out["r.json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    table = list(csv.DictReader(out["c.csv"].read_text().splitlines()))
    assert len(table) == 2 * 2 * 2 * 2  # files, seeds, levels, models
    assert len({line["noisy_psnr_db"] for line in table}) == 2 * 2 * 2  # the same noise for both models
    found = json.loads(out["r.json"].read_text())
    mean = np.mean(
        [float(line["psnr_db"]) for line in table if line["model"] == "median" and line["level"] == "10.0"]
    )
    assert found["rows"][0]["metrics"]["psnr_db"] == pytest.approx(mean)
    assert found["rows"][0]["files"] == 2
    assert found["comparisons"][1]["against"] == "median"
    tex = out["t.tex"].read_text()
    assert tex.count(r"\toprule") == 2
    assert r"\caption{image, gaussian: PSNR, dB, 2 files}" in tex
    assert "model & sigma 10 & gain" in tex
    assert r"\begin{tabular}{ll" in tex  # the names of noises and models
    again = (
        "--latex",
        out["t.tex"],
        "--cases",
        out["c.csv"],
        "--markdown",
        tmp_path / "t.md",
        "--plot",
        out["p.pdf"],
    )
    for _ in range(2):  # an earlier report is replaced
        result = denoise(
            "benchmark", photos, "--noise", "gaussian", "--levels", 10, "--models", "none", *again
        )
        assert result.exit_code == 0, result.output
    drawn = out["p.svg"].read_text()
    for label in (
        "gaussian: sigma, 8-bit units",
        "PSNR, dB",
        "seconds a megapixel",
        "mean gain in PSNR, dB",
        "median",
        "input",
    ):
        assert f">{label}</text>" in drawn


@pytest.mark.parametrize(
    ("spec", "title"),
    [
        ("gaussian:snr_db=5", "gaussian, SNR 5 dB"),
        (
            "correlated:sigma=5,width_px=2+jpeg:quality=30",
            "correlated, sigma 5, width 2 px + jpeg, quality 30",
        ),
        ("snr_db=5", "SNR 5 dB"),
        ("pink", "pink"),
    ],
)
def test_tables_put_noises_in_words(spec: str, title: str) -> None:
    assert noise_title(spec) == title


@pytest.mark.parametrize(
    ("noise", "modality", "label"),
    [
        ("correlated:sigma=5,width_px=2", "image", "correlated: sigma, 8-bit units"),
        ("gaussian-blur:sigma_px=2+gaussian:sigma=5", "image", "gaussian-blur: sigma, pixels"),
        ("gaussian:snr_db=5", "sensor", "gaussian: SNR, dB"),
        ("salt-pepper:fraction=0.02", "image", "salt-pepper: fraction of 1"),
        ("camera:iso=400", "image", "camera: ISO"),
    ],
)
def test_the_axis_of_levels_names_what_is_swept_and_its_unit(noise: str, modality: str, label: str) -> None:
    metrics = {"psnr_db": 30.0, "snr_db": 10.0}
    row = benchmark.BenchmarkRow("median", modality, noise, 5, 1, metrics, metrics, {})
    axes = Figure().subplots()
    compared = [Comparison("median", modality, noise, 1, 1.0, None)]
    figures._draw_levels(axes, [row], compared)
    assert axes.get_xlabel() == label


def test_the_page_names_levels_and_costs_as_plots_do() -> None:
    metrics, cost = {"snr_db": 10.0}, {"real_time_factor": 0.1, "s_per_msample": 2.0}
    rows = [
        benchmark.BenchmarkRow(model, "sensor", f"gaussian:snr_db={level}", level, 1, metrics, metrics, cost)
        for model in ("median", "savgol")
        for level in (5, 10)
    ]
    page = benchmark_page(rows, [])
    assert "gaussian: SNR, dB" in page.charts[0].drawing
    assert page.notes == ["Cost is in seconds a million samples."]


def test_peers_take_part_and_one_that_fails_fails_its_file(
    media: Path, denoise: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_module: Any, _case: Any) -> Any:
        raise ValueError("too short")

    monkeypatch.setitem(peers.PEERS, "broken*", peers.Peer("audio", "math", broken))
    monkeypatch.setitem(peers.PEERS, "missing", peers.Peer("sensor", "no_such_module", broken))
    result = denoise("benchmark", media, "--noise", "gaussian:snr_db=10", "--models", "none", "--peers")
    assert result.exit_code == 1
    assert "PyWavelets" in result.stdout
    assert "broken* fails: too short" in result.stdout
    assert "missing" not in result.stdout
    assert "not installed: " in result.stderr
    assert "no_such_module" in result.stderr


def test_a_given_noise_level_is_the_true_one_and_a_soft_threshold_helps() -> None:
    clean = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (1, 2048)), axis=1)
    noisy = clean + np.random.default_rng(1).normal(0, 0.5, clean.shape)
    found = SimpleNamespace(noisy=noisy, clean=SimpleNamespace(array=clean, sample_rate=100.0))
    cleaned = peers.installed("sensor")["PyWavelets"](found)[0]  # type: ignore[arg-type]
    assert cleaned.shape == noisy.shape
    assert np.std(cleaned - clean) < 0.7 * np.std(noisy - clean)
    given = SimpleNamespace(bm3d=lambda plane, sigma: plane - sigma)
    np.testing.assert_allclose(peers._bm3d(given, found)[0], noisy[0] - np.std(noisy - clean))
