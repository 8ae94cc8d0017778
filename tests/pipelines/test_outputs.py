"""Bytes at risk: what exists is replaced by nothing but its own newer self."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from denoise.errors import OutputError, UsageError
from denoise.io.atomic import replacing
from denoise.options import CleanOptions
from pipelines.batch.jobs import CleanJob
from pipelines.batch.run import run
from pipelines.batch.store import digest
from pipelines.cli.event_log import write_event
from pipelines.cli.group import cli


def test_another_folders_file_does_not_replace_an_earlier_result(
    tmp_path: Path, denoise: Any, manifest_rows: Any
) -> None:
    first, second, out = tmp_path / "y23", tmp_path / "y24", tmp_path / "out"
    for folder, level in ((first, 40), (second, 90)):
        folder.mkdir()
        Image.fromarray(np.full((16, 16), level, np.uint8)).save(folder / "IMG_0001.png")
    command = ("-o", out, "--model", "none")
    assert denoise("clean", first, *command).exit_code == 0
    before = (out / "IMG_0001.png").read_bytes()
    refused = denoise("clean", second, *command)
    assert refused.exit_code == 1
    assert (out / "IMG_0001.png").read_bytes() == before
    for word in (first / "IMG_0001.png", second / "IMG_0001.png", "--overwrite"):
        assert str(word) in refused.stdout
    (first / "IMG_0001.png").write_bytes((second / "IMG_0001.png").read_bytes())  # an edit is no other file
    assert denoise("clean", first, *command).exit_code == 0
    assert denoise("clean", second, *command, "--overwrite").exit_code == 0
    assert manifest_rows(out)[-1]["source"] == str(second / "IMG_0001.png")


@pytest.mark.parametrize(("changes", "status"), [(1, "ok"), (2, "failed")])
def test_an_input_that_changes_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: int, status: str
) -> None:
    source = tmp_path / "a.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(source)
    left = list(range(changes))
    execute = CleanJob.execute

    def grows(job: CleanJob, item: Any) -> Any:
        outcome = execute(job, item)
        if left:
            Image.fromarray(np.full((16, 16), left.pop() + 1, np.uint8)).save(source)
        return outcome

    monkeypatch.setattr(CleanJob, "execute", grows)
    options = CleanOptions(model="none")
    result = run(CleanJob(inputs=(source,), output=tmp_path / "out", options=options, workers=1))
    (entry,) = result.entries
    assert entry.status == status
    if status == "ok":
        assert entry.input_digest == digest(source)
        assert np.array_equal(Image.open(tmp_path / "out" / "a.png"), Image.open(source))
    else:
        assert "changed while it was read" in str(entry.error)


def test_an_input_that_becomes_a_pipe_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / name)
    execute = CleanJob.execute

    def replaces(job: CleanJob, item: Any) -> Any:
        (tmp_path / "b.png").unlink()
        os.mkfifo(tmp_path / "b.png")
        return execute(job, item)

    monkeypatch.setattr(CleanJob, "execute", replaces)
    options = CleanOptions(model="none")
    result = run(CleanJob(inputs=(tmp_path,), output=tmp_path.with_name("out"), options=options, workers=1))
    assert [entry.status for entry in result.entries] == ["ok", "failed"]
    assert "no regular file" in str(result.entries[1].error)


def test_an_input_that_is_removed_while_it_is_read_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / name)
    execute = CleanJob.execute

    def loses(job: CleanJob, item: Any) -> Any:
        if item.source.name == "a.png":
            item.source.unlink()
        return execute(job, item)

    monkeypatch.setattr(CleanJob, "execute", loses)
    inputs, options = (tmp_path / "a.png", tmp_path / "b.png"), CleanOptions(model="none")
    first, second = run(CleanJob(inputs=inputs, output=tmp_path / "out", options=options, workers=1)).entries
    assert (first.status, second.status) == ("failed", "ok")
    assert str(first.error).startswith(f"{inputs[0]}: cannot be read")


def test_a_file_that_is_refused_is_not_read_to_its_end_for_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF....WAVE")
    monkeypatch.setattr("pipelines.batch.worker.source_digest", lambda _: pytest.fail("it was read"))
    options = CleanOptions(model="none")
    (entry,) = run(CleanJob(inputs=(tmp_path,), output=tmp_path.parent / "o", options=options)).entries
    assert entry.status == "failed"


def test_two_reports_do_not_share_a_name(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(tmp_path / "a.png")
    for name in ("both", "-"):
        path = str(tmp_path / name) if name != "-" else name
        arguments = [str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--json", path, "--report", path]
        found = CliRunner().invoke(cli, ["clean", *arguments])
        assert found.exit_code == 2
        assert "is named by --json and --report" in found.output
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_report_replaces_nothing_but_a_report(tmp_path: Path, denoise: Any, snapshot: Any) -> None:
    photo, other = tmp_path / "a.png", tmp_path / "b.png"
    for path in (photo, other):
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)
    out, report = tmp_path / "out", tmp_path / "report.json"
    before = snapshot(tmp_path)
    for target in (photo, other, Path("/dev/null"), out / "denoise-manifest.jsonl", tmp_path):
        refused = denoise("clean", other, "-o", out, "--model", "none", "--json", target)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert str(target) in refused.stderr
    assert snapshot(tmp_path) == before
    assert Path("/dev/null").is_char_device()
    for _ in range(2):  # its own report it replaces
        assert denoise("clean", other, "-o", out, "--model", "none", "--json", report).exit_code == 0
    assert json.loads(report.read_text())["rows"][0]["status"] == "skipped"
    printed = denoise("clean", other, "-o", out, "--model", "none", "--json", "-")
    assert json.loads(printed.stdout)["rows"][0]["status"] == "skipped"


@pytest.mark.parametrize("option", ["--json", "--report", "--log-json"])
def test_a_report_has_no_name_of_a_result(tmp_path: Path, denoise: Any, snapshot: Any, option: str) -> None:
    """Lines of a log were once appended to the result of the same name."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("t,x\n" + "".join(f"{n / 10},{n % 7}\n" for n in range(80)))
    before = snapshot(tmp_path)
    for report in (tmp_path / "out" / "a.csv", tmp_path / "in" / ".." / "out" / "a.csv"):
        refused = denoise("clean", tmp_path / "in", "-o", tmp_path / "out", option, report)
        assert refused.exit_code == 2
        assert "is the name of a result" in refused.stderr
    assert snapshot(tmp_path) == before


def test_a_dash_is_standard_output_and_never_a_file(
    tmp_path: Path, denoise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--log-json -` once wrote a file of that name, and words once stood before the page of `--report -`."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((16, 16), np.uint8)).save("a.png")
    before = {"a.png"}
    clean = ("clean", "a.png", "-o", "b.png", "--model", "none", "--overwrite")
    lines = denoise(*clean, "--log-json", "-").stdout.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["start", "file", "end"]
    assert denoise(*clean, "--report", "-").stdout.startswith("<!doctype html>")
    assert denoise("score", "a.png", "a.png", "--report", "-").stdout.startswith("<!doctype html>")
    benchmark = ("benchmark", "a.png", "--noise", "gaussian", "--levels", "5", "--models", "none")
    for option, start in {
        "--csv": "model,modality",
        "--cases": "model,",
        "--markdown": "",
        "--latex": "\\begin{table}",
        "--report": "<!doctype html>",
    }.items():
        shown = denoise(*benchmark, option, "-")
        assert (shown.exit_code, shown.stdout[: len(start)]) == (0, start), option
    refusals = (
        (*benchmark, "--plot", "-"),
        (*benchmark, "--contact-sheet", "-"),
        (*clean, "--log-json", "-", "--json", "-"),
        ("clean", "a.png", "-o", "-", "--log-json", "-"),
        ("compress", "a.png", "-o", "-"),
        ("embed", "a.png", "-o", "-"),
    )
    for words in refusals:
        refused = denoise(*words)
        assert (refused.exit_code, refused.stdout) == (2, ""), words
    assert {path.name for path in tmp_path.iterdir()} == before | {"b.png"}


def test_a_log_is_never_appended_to_a_file_that_took_its_name(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    write_event(log, "start")
    log.write_bytes(b"t,x\n")
    with pytest.raises(UsageError, match="no earlier report"):
        write_event(log, "file")
    assert log.read_bytes() == b"t,x\n"


def test_no_path_steps_out_of_a_folder_that_is_not_there(tmp_path: Path, denoise: Any, snapshot: Any) -> None:
    """`new/../a.png` names nothing until `new` is made, and then the photo: guards saw nothing there."""
    photo = tmp_path / "a.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(photo)
    sly = tmp_path / "new" / ".." / "a.png"
    before = snapshot(tmp_path)
    commands = [
        ("clean", photo, "-o", tmp_path / "out", "--model", "none", "--json", sly),
        ("clean", photo, "-o", tmp_path / "out", "--model", "none", "--log-json", sly),
        ("clean", photo, "-o", sly, "--model", "none", "--overwrite"),
        ("benchmark", photo, "--noise", "gaussian", "--levels", "5", "--models", "none", "--csv", sly),
        ("compress", photo, "-o", sly.with_suffix(".dnz"), "--overwrite"),
        ("embed", photo, "-o", sly.with_suffix(".csv"), "--steps", "1"),
        ("info", photo, "--json", sly),
    ]
    for command in commands:
        refused = denoise(*command)
        assert refused.exit_code == 2, command
        assert "new is no folder to step out of" in refused.stderr
        assert snapshot(tmp_path) == before
    through = tmp_path / "out" / ".." / "results"
    (tmp_path / "out").mkdir()
    assert denoise("clean", photo, "-o", through, "--model", "none").exit_code == 0


def test_a_device_is_never_replaced(tmp_path: Path, denoise: Any) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "a.png")
    for target in ("/dev/full", "/dev/full/a.png"):
        refused = denoise("clean", tmp_path / "a.png", "-o", target)
        assert refused.exit_code == 2
        assert "/dev/full: is a device, pipe or socket; expected a folder" in refused.stderr
    with pytest.raises(OutputError, match="no regular file"), replacing("/dev/null"):
        pass
    assert Path("/dev/null").is_char_device()


def test_a_refused_run_leaves_no_folder(tmp_path: Path, denoise: Any, snapshot: Any) -> None:
    """Two files of one name once left an output folder with a manifest of failures."""
    sources = [tmp_path / name / "a.png" for name in ("one", "two")]
    for number, source in enumerate(sources):
        source.parent.mkdir()
        Image.fromarray(np.full((16, 16), number, np.uint8)).save(source)
    before = snapshot(tmp_path)
    refused = denoise("clean", *sources, "-o", tmp_path / "new" / "out", "--model", "none")
    assert refused.exit_code == 1
    assert "would be written there; rename one" in refused.stdout
    assert snapshot(tmp_path) == before
    sources[0].write_bytes(b"no picture")
    assert denoise("compress", sources[0], "-o", tmp_path / "new" / "out").exit_code == 1
    assert not (tmp_path / "new").exists()


def test_no_folder_gets_the_name_of_a_file(tmp_path: Path, denoise: Any, snapshot: Any) -> None:
    photos = [tmp_path / "in" / name for name in ("a.png", "b.png")]
    photos[0].parent.mkdir()
    for photo in photos:
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(photo)
    before, named = snapshot(tmp_path), tmp_path / "c.png"
    commands = [
        ("clean", *photos, "-o", named, "--model", "none"),
        ("clean", tmp_path / "in", "-o", named, "--model", "none"),
        ("watch", tmp_path / "in", "-o", named),
        ("compress", *photos, "-o", named.with_suffix(".dnz")),
    ]
    for command in commands:
        refused = denoise(*command)
        assert refused.exit_code == 2, command
        assert "is the name of a file, and these inputs need a folder" in refused.stderr
    assert snapshot(tmp_path) == before
    named.mkdir()
    assert denoise(*commands[0]).exit_code == 0
    assert (named / "b.png").is_file()
