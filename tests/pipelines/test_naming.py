"""Where results go and what they are called: beside, in place, by a template, in another format."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from denoise.errors import UsageError
from denoise.io import write
from denoise.signal import AudioInfo
from pipelines.batch import run as batch
from pipelines.batch import store
from pipelines.batch.jobs import CleanJob
from pipelines.batch.naming import Naming, is_backup_suffix
from pipelines.cli.group import cli


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def clean(*arguments: object, stdin: bytes | None = None) -> Result:
    words = ["clean", "--model", "median", "-q", *map(str, arguments)]
    return CliRunner().invoke(cli, words, input=stdin)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_results_of_single_files_lie_beside_them(tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a.png"), picture(tmp_path / "sub" / "b.tif", 1)
    assert clean(first, second).exit_code == 0
    assert names(tmp_path) == {"a.png", "a.clean.png", "sub"}
    assert names(tmp_path / "sub") == {"b.tif", "b.clean.tif"}
    again = clean(first)
    assert again.exit_code == 1  # nothing that is there is replaced
    assert "--overwrite" in again.output + (again.stderr or "")
    folder = clean(tmp_path)
    assert folder.exit_code == 2
    assert "--in-place" in folder.output
    out, two = (tmp_path.with_name(f"{tmp_path.name}_{name}") for name in ("out", "two"))
    assert clean(tmp_path, "-o", out).exit_code == 0  # in which results are no inputs
    assert {path.name for path in out.rglob("?.*")} == {"a.png", "b.tif"}
    picture(tmp_path / "other.clean.png")  # no result of a file that is there
    assert clean(tmp_path, tmp_path / "a.clean.png", "-o", two).exit_code == 0
    assert names(two) >= {"a.png", "other.clean.png", "a.clean.png"}


def test_patterns_and_lists_name_inputs(tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "b.png", "c d.png")):
        picture(tmp_path / name, number)
    assert clean(tmp_path / "[ab].png", "-o", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") >= {"a.png", "b.png"}
    listed = b"\0".join(str(tmp_path / name).encode() for name in ("a.png", "c d.png"))
    assert clean("--files-from", "-", "-0", "-o", tmp_path / "two", stdin=listed).exit_code == 0
    assert names(tmp_path / "two") >= {"a.png", "c d.png"}
    (tmp_path / "list").write_text(f"{tmp_path / 'b.png'}\n", "utf-8-sig")  # as editors on Windows save it
    assert clean("--files-from", tmp_path / "list", "-o", tmp_path / "three").exit_code == 0
    assert names(tmp_path / "three") >= {"b.png"}
    assert clean("-0", tmp_path / "a.png", "-o", tmp_path / "four").exit_code == 2


def test_a_listed_file_that_is_gone_has_failed_and_the_rest_is_cleaned(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    listed = b"\0".join(str(tmp_path / name).encode() for name in ("gone.png", "a.png"))
    for place in (("-o", tmp_path / "out"), ("--in-place",), ()):
        result = clean("--files-from", "-", "-0", *place, stdin=listed)
        assert result.exit_code == 1
        assert "gone.png: no such file or folder, though the list names it" in result.output
    assert names(tmp_path / "out") >= {"a.png"}
    assert names(tmp_path) >= {"a.png", "a.clean.png"}
    assert clean(tmp_path / "gone.png", tmp_path / "a.png", "-o", tmp_path / "two").exit_code == 2


def test_a_name_of_a_list_is_no_pattern(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", 1)
    listed = b"\0".join(str(tmp_path / name).encode() for name in ("[ac].png", "b.png"))
    result = clean("--files-from", "-", "-0", "-o", tmp_path / "out", stdin=listed)
    assert result.exit_code == 1
    assert "[ac].png: no such file or folder, though the list names it" in result.output
    assert "b.png" in names(tmp_path / "out")
    assert "a.png" not in names(tmp_path / "out")


def test_a_name_that_is_too_long_fails_alone(tmp_path: Path) -> None:
    """Names have at most 255 bytes: 255 itself is one of them, but has no room for a template."""
    long = picture(tmp_path / "in" / f"{'a' * 251}.png").name
    picture(tmp_path / "in" / "b.png", 1)
    assert clean(tmp_path / "in", "-o", tmp_path / "same").exit_code == 0
    assert names(tmp_path / "same") >= {long, "b.png"}
    (tmp_path / "list").write_text(f"{tmp_path / 'in' / 'b.png'}\n{tmp_path / ('a' * 256)}\n")
    (tmp_path / "out").mkdir()
    for number, (settings, fresh) in enumerate(
        (
            ((tmp_path / "in", "-o", tmp_path / "out", "--template", "{stem}_x{ext}"), "out/b_x.png"),
            ((tmp_path / "in", "-o", tmp_path / "new", "--template", "{stem}_x{ext}"), "new/b_x.png"),
            ((tmp_path / "in", "--in-place", "--backup", ".orig"), "in/b.png.orig"),
            (("--files-from", tmp_path / "list", "-o", tmp_path / "three"), "three/b.png"),
            (("--files-from", tmp_path / "list"), "in/b.clean.png"),
            ((tmp_path / "in" / long, tmp_path / "in" / "b.png", "--overwrite"), "in/b.clean.png"),
        )
    ):
        result = clean(*settings)
        assert result.exit_code == 1, (number, result.output)
        assert (tmp_path / fresh).exists(), number
        assert "a" * 200 in result.output.replace("\n", "")


def test_templates_and_formats_name_results(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.tif")
    (tmp_path / "in" / "t.csv").write_text("x\n" + "\n".join(f"{n % 7}.5" for n in range(80)) + "\n")
    arguments = (tmp_path / "in", "-o", tmp_path / "out", "--template", "{stem}_x{ext}", "--format", "png")
    result = CliRunner().invoke(cli, ["clean", "-q", "--sample-rate", "10", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") >= {"a_x.png", "t_x.csv"}  # a format is for files of its kind
    for wrong in ("plain", "{name}", "sub/{stem}", "{stem"):
        with pytest.raises(UsageError, match="template"):
            Naming(wrong).check()


def test_in_place_keeps_the_original_and_is_done_once(tmp_path: Path) -> None:
    path = picture(tmp_path / "in" / "a.png")
    before = path.read_bytes()
    path.chmod(0o640)
    arguments = (tmp_path / "in", "--in-place", "--backup", ".orig")
    assert clean(*arguments).exit_code == 0
    after = path.read_bytes()
    assert after != before
    assert path.stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "in" / "a.png.orig").read_bytes() == before
    assert clean(*arguments).exit_code == 0
    assert path.read_bytes() == after  # not cleaned twice
    assert CliRunner().invoke(cli, ["verify", str(tmp_path / "in")]).exit_code == 0
    other = clean(*arguments, "--strength", "0.5")
    assert other.exit_code == 1
    assert path.read_bytes() == after
    assert clean(*arguments, "--overwrite").exit_code == 0
    assert path.read_bytes() == after  # from the original, not from the result


@pytest.mark.parametrize("options", [(), ("--backup", ".orig")])
def test_the_time_of_a_file_is_kept_in_place(tmp_path: Path, options: tuple[str, ...]) -> None:
    path = picture(tmp_path / "a.png")
    os.utime(path, (1e9, 1e9))
    before = path.read_bytes()
    assert clean(path, "--in-place", "--keep-mtime", *options).exit_code == 0
    assert path.read_bytes() != before
    assert path.stat().st_mtime == 1e9
    assert clean(path, "--in-place", "--overwrite", *options).exit_code == 0
    assert path.stat().st_mtime > 1e9


def test_no_link_and_no_folder_leads_to_a_file_twice_in_place(tmp_path: Path) -> None:
    path = picture(tmp_path / "in" / "sub" / "a.png")
    (tmp_path / "in" / "album.png").symlink_to(path)
    (tmp_path / "in" / "more").symlink_to(path.parent)
    assert clean(tmp_path / "in", "--in-place").exit_code == 0
    after = path.read_bytes()
    assert len((tmp_path / "in" / store.MANIFEST_NAME).read_text().splitlines()) == 1
    for inputs in ((tmp_path / "in" / "album.png",), (path.parent,), (path,), (path, tmp_path)):
        assert clean(*inputs, "--in-place").exit_code == 0
        assert path.read_bytes() == after
    assert clean(path, "--in-place", "--strength", "0.5").exit_code == 1
    assert path.read_bytes() == after


def test_a_backup_whose_name_is_too_long_is_refused(tmp_path: Path) -> None:
    path = picture(tmp_path / f"{'n' * 250}.png")
    before = path.read_bytes()
    found = clean(path, "--in-place", "--backup", ".original")
    assert found.exit_code == 1
    assert ".original: cannot be written: File name too long" in found.output
    assert path.read_bytes() == before


@pytest.mark.parametrize("options", [(), ("--in-place",)])
def test_what_is_elsewhere_needs_an_output(options: tuple[str, ...]) -> None:
    found = clean("http://127.0.0.1:1/a.png", *options)
    assert found.exit_code == 2
    assert "-o" in found.output


def test_what_fails_in_place_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = picture(tmp_path / "a.png")
    before = path.read_bytes()
    job = CleanJob(inputs=(path,), output=tmp_path, in_place=True, backup=".orig", workers=1)

    def fail(path: Path, **_: object) -> None:
        if ".orig" not in path.name:  # the backup is complete
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "utime", fail)
    result = batch.run(job)
    assert result.stopped or result.counts["failed"] == 1
    assert path.read_bytes() == before
    assert (tmp_path / "a.png.orig").read_bytes() == before
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


@pytest.mark.parametrize(
    ("text", "fits"),
    [(".orig", True), (".bak", True)]
    + [(text, False) for text in ("orig", ".png", "", ".log", ".orig.TXT", ".gz", ".xls")],
)
def test_a_backup_is_never_an_input(text: str, fits: bool) -> None:
    assert is_backup_suffix(text) == fits


@pytest.mark.parametrize("suffix", [".png", ".csv", ".gif"])
def test_images_and_logs_go_through_pipes(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / f"a{suffix}"
    if suffix != ".csv":
        picture(source)
    else:
        source.write_text("t_s,x\n" + "\n".join(f"{n / 10},{n % 7}.25" for n in range(80)) + "\n")
    result = tmp_path / f"b{'.webp' if suffix == '.gif' else suffix}"
    assert clean(source, "-o", result).exit_code == 0
    command = [sys.executable, "-m", "pipelines.cli", "clean", "--model", "median", "-q", "-", "-o", "-"]
    with source.open("rb") as stdin:
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=True)
    assert done.stdout == result.read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".csv", ".wav"])
def test_the_result_of_one_file_goes_to_standard_output(tmp_path: Path, suffix: str) -> None:
    source, report = tmp_path / f"a{suffix}", tmp_path / "report.json"
    if suffix == ".csv":
        source.write_text("t_s,x\n" + "\n".join(f"{n / 10},{n % 7}.25" for n in range(80)) + "\n")
    elif suffix == ".wav":
        noise = np.random.default_rng(0).normal(0, 0.1, (1, 8000)).astype(np.float32)
        write(source, noise, AudioInfo(source, "audio", noise.shape, "int16", 1.0, 16_000.0))
    else:
        picture(source)
    result = tmp_path / f"b{suffix}"
    assert clean(source, "-o", result, "--model", "none").exit_code == 0
    shown = clean(source, "-o", "-", "--model", "none", "--json", report)
    assert (shown.exit_code, shown.stdout_bytes) == (0, result.read_bytes())
    (row,) = json.loads(report.read_text())["rows"]
    assert row["output"] == "-"
    assert row["output_digest"] == hashlib.sha256(result.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["bad.png"], 1, "bad.png: ends early"),
        (["."], 2, "takes one file"),
        (["a.png", "bad.png"], 2, "takes one file"),
        (["*.png"], 2, "takes one file"),
        (["a.png", "--template", "{stem}x{ext}"], 2, "--template cannot be used"),
        (["a.png", "--files-from", "a.png"], 2, "--files-from cannot be used"),
        (["a.png", "--json", "-"], 2, "write the report to a file"),
    ],
)
def test_standard_output_takes_one_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "a.png").read_bytes()[:400])
    found = clean(*options, "-o", "-", "--model", "none")
    assert (found.exit_code, found.stdout_bytes) == (code, b"")
    assert words in found.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "bad.png"]


@pytest.mark.parametrize(
    "command",
    ["corrupt a.png --noise gaussian:sigma=5", "compress a.png", "decompress a.dnz", "anomalies a.png"],
)
def test_no_folder_is_named_like_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    (tmp_path / "a.dnz").write_bytes(b"")
    option = ["--fit-on", "a.png", "--heat-maps"] if command.startswith("anomalies") else ["-o"]
    found = CliRunner().invoke(cli, [*command.split(), *option, "-"])
    assert (found.exit_code, found.stdout) == (2, "")
    assert "-: is standard output" in found.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.dnz", "a.png"]


@pytest.mark.parametrize("suffix", [".flac", ".m4a"])
def test_recordings_of_all_formats_go_through_pipes(tmp_path: Path, suffix: str) -> None:
    source, result = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 30_000)).astype(np.float32)
    write(source, noise, AudioInfo(source, "audio", noise.shape, "float32", 1.0, 48_000.0))
    command = [sys.executable, "-m", "pipelines.cli", "clean", "--model", "spectral-gate", "-q"]
    subprocess.run([*command, str(source), "-o", str(result)], check=True)
    with source.open("rb") as stdin:
        done = subprocess.run([*command, "-", "-o", "-"], stdin=stdin, capture_output=True, check=True)
    assert done.stdout == result.read_bytes()
