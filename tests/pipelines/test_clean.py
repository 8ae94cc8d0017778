"""`denoise clean`, end to end on small real files."""

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soundfile as sf
from PIL import Image

from denoise.io import atomic

Run = Callable[..., Any]


def statuses(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {Path(row["source"]).name: row["status"] for row in rows}


def test_a_mixed_folder_comes_out_as_it_went_in(
    media: Path, tmp_path: Path, denoise: Run, manifest_rows: Run, snapshot: Run
) -> None:
    before, out = snapshot(media), tmp_path / "out"
    result = denoise("clean", media, "-o", out, "--model", "none", "--json", tmp_path / "r.json")
    assert result.exit_code == 0
    assert snapshot(media) == before
    assert snapshot(out).keys() == before.keys()
    for name in ("a.png", "süb dir/b c.png"):
        assert np.array_equal(np.asarray(Image.open(out / name)), np.asarray(Image.open(media / name)))
    assert np.array_equal(sf.read(out / "t.wav")[0], sf.read(media / "t.wav")[0])

    rows = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert rows == manifest_rows(out)
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["modality"] for row in rows} == {"image", "audio", "sensor"}
    for row in rows:
        assert row["model"] == "none"
        assert row["error"] is None
        assert all(name.startswith("estimated_") for name in row["metrics"])
        assert (Path(row["source"]).is_file(), Path(row["output"]).is_file()) == (True, True)
    for title in ("image: 2 files", "audio: 1 file", "sensor: 1 file", "4 ok"):
        assert title in result.stdout
    assert f"[4/4] ok {media / 't.wav'}" in result.stderr


def test_the_same_command_again_does_nothing_and_a_changed_setting_redoes(
    media: Path, tmp_path: Path, denoise: Run, manifest_rows: Run, snapshot: Run
) -> None:
    command = ("clean", media, "-o", tmp_path / "out", "--model", "median")
    denoise(*command)
    first, rows = snapshot(tmp_path / "out"), manifest_rows(tmp_path / "out")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in first}
    again = denoise(*command, "--json", tmp_path / "r.json")
    assert again.exit_code == 0
    assert set(statuses(json.loads((tmp_path / "r.json").read_text())["rows"]).values()) == {"skipped"}
    assert manifest_rows(tmp_path / "out") == rows
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in first} == times

    weaker = denoise(*command, "--strength", "0.5")
    assert weaker.exit_code == 0
    assert "3 ok" in weaker.stdout
    changed = snapshot(tmp_path / "out")
    assert all(changed[name] != first[name] for name in first)
    assert "4 ok" in denoise(*command[:-1], "none").stdout  # a changed model, too


def test_files_that_the_model_is_not_for_are_listed_and_left_alone(
    media: Path, tmp_path: Path, denoise: Run
) -> None:
    result = denoise("clean", media, "-o", tmp_path / "out", "--model", "savgol")
    assert result.exit_code == 0
    assert [path.name for path in (tmp_path / "out").glob("*.*") if path.suffix != ".jsonl"] == ["s.csv"]
    assert "Ignored, of other kinds: 3 (.png .wav)" in result.stdout
    named = denoise("clean", media / "a.png", "-o", tmp_path / "out", "--model", "savgol")
    assert named.exit_code == 1
    assert f"{media / 'a.png'}: is image; model savgol cleans sensor" in named.stdout


def test_a_reference_gives_figures_before_and_after(media: Path, tmp_path: Path, denoise: Run) -> None:
    truth = tmp_path / "truth"
    truth.mkdir()
    ramp = np.add.outer(np.arange(24), np.arange(32))[..., None] * [1.0, 2.0, 3.0]
    Image.fromarray(ramp.astype(np.uint8)).save(truth / "a.png")
    options = ("--model", "median", "--reference", truth, "--json", tmp_path / "r.json")
    assert denoise("clean", media, "-o", tmp_path / "out", *options).exit_code == 0
    rows = {Path(row["source"]).name: row for row in json.loads((tmp_path / "r.json").read_text())["rows"]}
    figures = rows["a.png"]["metrics"]
    assert figures["psnr_db"] > figures["psnr_db_before"] + 3  # a median of a ramp with noise
    assert figures["ssim"] > figures["ssim_before"]
    assert "estimated_sigma_before" in rows["b c.png"]["metrics"]
    assert any("estimates" in note for note in rows["b c.png"]["notes"])


@pytest.mark.parametrize("other", ["b.wav", "small.png"])
def test_a_reference_that_does_not_fit_costs_no_result(
    media: Path, tmp_path: Path, denoise: Run, other: str
) -> None:
    Image.new("RGB", (7, 8)).save(tmp_path / "small.png")
    soundfile.write(tmp_path / "b.wav", np.zeros(800), 8000)
    options = ("--model", "none", "--reference", tmp_path / other, "--json", tmp_path / "r.json")
    assert denoise("clean", media / "a.png", "-o", tmp_path / "out.png", *options).exit_code == 0
    assert (tmp_path / "out.png").exists()
    (row,) = json.loads((tmp_path / "r.json").read_text())["rows"]
    assert any("the reference does not fit" in note and "estimates" in note for note in row["notes"])


def test_one_file_goes_to_a_name(media: Path, tmp_path: Path, denoise: Run) -> None:
    target = tmp_path / "elsewhere" / "clean.png"
    assert denoise("clean", media / "a.png", "-o", target, "--model", "none").exit_code == 0
    assert np.array_equal(np.asarray(Image.open(target)), np.asarray(Image.open(media / "a.png")))


def test_a_dry_run_touches_nothing(media: Path, tmp_path: Path, denoise: Run, snapshot: Run) -> None:
    before = snapshot(tmp_path)
    result = denoise("clean", media, "-o", tmp_path / "out", "--model", "none", "--dry-run")
    assert result.exit_code == 0
    assert f"{media / 'a.png'} -> {tmp_path / 'out' / 'a.png'}" in result.stdout
    assert "4 planned" in result.stdout
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "out").exists()
    assert " -> output/a.png" in denoise("clean", media, "--dry-run").stdout  # a plan needs no place yet


def test_a_pool_of_two_writes_the_same_bytes(
    media: Path, tmp_path: Path, denoise: Run, snapshot: Run
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert denoise("clean", media, "-o", one, "--model", "median").exit_code == 0
    assert denoise("clean", media, "-o", two, "--model", "median", "--workers", "2").exit_code == 0
    assert len(snapshot(one)) == 3
    assert snapshot(two) == snapshot(one)


@pytest.mark.parametrize("workers", [1, 2])
def test_results_have_the_time_of_their_inputs_on_request(
    media: Path, tmp_path: Path, denoise: Run, workers: int
) -> None:
    when_ns = 1_000_000_000_123_456_789
    os.utime(media / "a.png", ns=(when_ns, when_ns))
    for out, options in ((tmp_path / "kept", ["--keep-mtime"]), (tmp_path / "new", [])):
        command = ("clean", media, "-o", out, "--model", "none", "--workers", workers, *options)
        assert denoise(*command).exit_code == 0
        assert ((out / "a.png").stat().st_mtime_ns == when_ns) is bool(options)
        assert (out / "s.csv").stat().st_mtime_ns != when_ns


def test_killed_in_mid_batch_and_resumed_it_ends_the_same(
    media: Path, tmp_path: Path, denoise: Run, snapshot: Run
) -> None:
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    command = ("clean", media, "--model", "median", "-o")
    denoise(*command, undisturbed)
    script = f"""
import os, signal
from denoise.io import atomic
replace = os.replace
def replace_and_die(partial, path):
    replace(partial, path)
    if str(path).endswith("s.csv"):  # its bytes exist, its row does not
        os.kill(os.getpid(), signal.SIGKILL)
os.replace = replace_and_die
from pipelines.cli.group import cli
cli({[str(word) for word in (*command, out)]!r})
"""
    root = str(Path(__file__).parents[2])
    died = subprocess.run([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": root}, check=False)
    assert died.returncode < 0
    assert (out / "s.csv").exists()
    resumed = denoise(*command, out)
    assert resumed.exit_code == 0
    assert "1 skipped" in resumed.stdout
    assert snapshot(out) == snapshot(undisturbed)


# ---- bad input -------------------------------------------------------------------------------------------


def png(side: int = 16) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def wav(samples: np.ndarray[Any, Any], subtype: str = "PCM_16") -> bytes:
    buffer = io.BytesIO()
    sf.write(buffer, samples, 8000, subtype=subtype, format="WAV")
    return buffer.getvalue()


def tiff(pixels: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "TIFF")
    return buffer.getvalue()


BAD: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zero-length image": ("bad.png", lambda: b"", "empty"),
    "zero-length sound": ("bad.wav", lambda: b"", "empty"),
    "zero-length log": ("bad.csv", lambda: b"", "empty"),
    "truncated": ("bad.png", lambda: png()[:400], ""),
    "text renamed": ("bad.png", lambda: b"hello, I am no image\n", "text"),
    "a program renamed": ("bad.png", lambda: b"\x7fELF" + bytes(100), "program"),
    "decompression bomb": ("bad.png", lambda: png(64), "max-pixels"),
    "NaN pixel": ("bad.tif", lambda: tiff(np.full((8, 8), np.nan, np.float32)), "finite"),
    "infinite sample": ("bad.wav", lambda: wav(np.array([0.1, np.inf, 0.2]), "FLOAT"), "finite"),
    "ragged rows": ("bad.csv", lambda: b"t,x\n0,1\n1,2,3\n2,3\n", "3"),
    "no numbers": ("bad.csv", lambda: b"a,b\nx,y\nz,w\n", "number"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_costs_one_sentence_and_the_rest_goes_on(
    media: Path, tmp_path: Path, denoise: Run, manifest_rows: Run, case: str
) -> None:
    name, content, expected = BAD[case]
    (media / name).write_bytes(content())
    out = tmp_path / "out"
    result = denoise("clean", media, "-o", out, "--model", "none", "--max-pixels", "1000")
    assert result.exit_code == 1
    rows = manifest_rows(out)
    assert statuses(rows) == dict.fromkeys(("a.png", "b c.png", "t.wav", "s.csv"), "ok") | {name: "failed"}
    (failed,) = (row for row in rows if row["status"] == "failed")
    assert str(media / name) in failed["error"]
    assert expected in failed["error"]
    assert "\n" not in failed["error"]
    assert "unexpected" not in failed["error"]
    assert "Traceback" not in result.output
    assert failed["error"] in result.stdout
    assert not (out / name).exists()


def test_a_file_that_may_not_be_read_is_listed(
    media: Path, tmp_path: Path, denoise: Run, manifest_rows: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open

    def guarded(path: Path, *rest: Any, **named: Any) -> Any:
        if path == media / "a.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *rest, **named)

    monkeypatch.setattr(Path, "open", guarded)
    assert denoise("clean", media, "-o", tmp_path / "out", "--model", "none").exit_code == 1
    failed = [row for row in manifest_rows(tmp_path / "out") if row["status"] == "failed"]
    assert [row["error"] for row in failed] == [f"{media / 'a.png'}: cannot be read: Permission denied"]


def test_what_a_file_is_its_bytes_tell_and_not_its_name(media: Path, tmp_path: Path, denoise: Run) -> None:
    (media / "t.wav").rename(media / "t.png")
    (media / "a.png").rename(media / "a.dat")
    assert denoise("clean", media, "-o", tmp_path / "out", "--model", "none").exit_code == 0
    assert (tmp_path / "out" / "t.png").read_bytes()[:4] == b"RIFF"
    assert (tmp_path / "out" / "a.dat").read_bytes()[1:4] == b"PNG"


def test_a_damaged_recording_is_salvaged_and_the_exit_code_says_so(
    media: Path, tmp_path: Path, denoise: Run, manifest_rows: Run
) -> None:
    folder, out = tmp_path / "recordings", tmp_path / "out"
    folder.mkdir()
    (folder / "t.wav").write_bytes((media / "t.wav").read_bytes())
    cut = folder / "cut.wav"
    cut.write_bytes(cut.with_name("t.wav").read_bytes()[:-3000])
    command = ("clean", folder, "-o", out, "--model", "spectral-gate")
    result = denoise(*command)
    assert result.exit_code == 1
    assert statuses(manifest_rows(out)) == {"t.wav": "ok", "cut.wav": "salvaged"}
    length = sf.info(cut).frames
    assert sf.info(out / "cut.wav").frames == length < sf.info(folder / "t.wav").frames
    row = next(row for row in manifest_rows(out) if row["status"] == "salvaged")
    rate, whole = sf.info(cut).samplerate, sf.info(folder / "t.wav").frames
    assert f"salvaged {length / rate:.1f} of about {whole / rate:.1f} s: cut short" in row["error"]
    assert f"Salvaged: 1\n  {cut}: salvaged" in result.stdout

    again = denoise(*command)  # only what is whole is done
    assert again.exit_code == 1
    assert "1 salvaged, 1 skipped" in again.stdout
    assert denoise("verify", out).exit_code == 0
    strict = denoise(*command, "--strict", "--quiet")
    assert strict.exit_code == 1
    assert strict.stderr.startswith(f"{cut}: cut short")
    quiet = denoise(*command, "--quiet")
    assert quiet.stderr.startswith(f"{cut}: salvaged")


def test_recordings_may_not_last_longer_than_is_asked_for(media: Path, tmp_path: Path, denoise: Run) -> None:
    (media / "long").mkdir()
    (media / "t.wav").rename(media / "long" / "t.wav")
    command = ("clean", media, "-o", tmp_path / "out", "--model", "none", "--max-duration")
    result = denoise(*command, "0.2")
    assert result.exit_code == 1
    assert f"{media / 'long' / 't.wav'}: lasts 0.25 s, expected at most 0.2 s" in result.stdout
    assert "3 ok" in result.stdout
    assert not (tmp_path / "out" / "long").exists()
    assert denoise(*command, "0.25").exit_code == 0


def test_a_full_disk_stops_the_batch(
    media: Path, tmp_path: Path, denoise: Run, manifest_rows: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = atomic._sync

    def full(path: Path) -> None:
        if path.name.startswith(".t.wav"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    monkeypatch.setattr(atomic, "_sync", full)
    out = tmp_path / "out"
    report = tmp_path / "r.json"
    result = denoise("clean", media, "-o", out, "--model", "none", "--json", report)
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == (
        f"Error: {out / 't.wav'}: cannot be written: No space left on device; 1 of 4 files are left: "
        "the same command goes on with them"
    )
    assert "3 ok, 1 unfinished" in result.stdout
    assert statuses(json.loads(report.read_text())["rows"])["t.wav"] == "unfinished"
    assert {row["status"] for row in manifest_rows(out)} == {"ok"}
    monkeypatch.undo()
    assert "1 ok, 3 skipped" in denoise("clean", media, "-o", out, "--model", "none").stdout


def test_silence_and_constants_come_back_as_they_were(tmp_path: Path, denoise: Run) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "silence.wav").write_bytes(wav(np.zeros(500)))
    Image.new("RGB", (20, 20), (10, 20, 30)).save(source / "flat.png")
    (source / "flat.csv").write_text("t,x\n" + "".join(f"{n},5.0\n" for n in range(50)))
    assert denoise("clean", source / "silence.wav", "-o", out, "--model", "wiener").exit_code == 0
    rest = (source / "flat.png", source / "flat.csv")
    assert denoise("clean", *rest, "-o", out, "--model", "median").exit_code == 0
    assert not sf.read(out / "silence.wav")[0].any()
    assert np.array_equal(
        np.asarray(Image.open(out / "flat.png")), np.asarray(Image.open(source / "flat.png"))
    )
    assert (out / "flat.csv").read_bytes() == (source / "flat.csv").read_bytes()


# ---- wrong usage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Missing argument"),
        (("missing.png", "-o", "out"), "missing.png: no such file or folder"),
        (("in", "-o", "in/out"), "the output is inside the input"),
        (("in", "in/süb dir", "-o", "out", "--model", "nope"), "unknown model 'nope'"),
        (("in", "-o", "out", "--model", "medain"), "did you mean median?"),
        (("in", "-o", "out", "--strength", "1.5"), "not in the range"),
        (("in", "-o", "out", "--model", "none", "--reference", "nowhere"), "nowhere: no such file or folder"),
        (("in", "-o", "out", "--model", "none", "--reference", "in/a.png"), "the reference is one file"),
        (("in", "-o", "out", "--model", "none", "--sigma", "5"), "sigma"),
        (("in", "-o", "out", "--model", "gone.safetensors"), "gone.safetensors: no such weights file"),
        (("in/a.png", "-o", "out.wav", "--model", "none"), "a name for audio"),
    ],
)
def test_wrong_usage_exits_with_2_before_anything_is_written(
    media: Path,
    tmp_path: Path,
    denoise: Run,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    monkeypatch.chdir(media.parent)
    result = denoise("clean", *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_weights_file_of_another_kind_exits_with_1(media: Path, tmp_path: Path, denoise: Run) -> None:
    weights = tmp_path / "other.safetensors"
    weights.write_bytes(b"not weights at all, really")
    result = denoise("clean", media, "-o", tmp_path / "out", "--model", weights)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {weights}: is not a weights file")
    assert not (tmp_path / "out").exists()


def test_the_rest_of_a_run_gets_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, denoise: Run, snapshot: Run
) -> None:
    rng, out = np.random.default_rng(0), tmp_path / "out"
    (tmp_path / "in").mkdir()
    for number in range(10):  # more than are cleaned without torch
        noisy = np.clip(rng.normal(128, 25, (64, 64, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / "in" / f"{number}.png")
    command = ("clean", tmp_path / "in", "-o", out, "--model", "photo-fast")
    denoise(*command)
    whole = snapshot(out)
    for number in (2, 5, 7):
        (out / f"{number}.png").unlink()
    denoise(*command)
    assert snapshot(out) == whole
