"""Bytes at risk: what exists is replaced by nothing but its own newer self."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from denoise.errors import OutputError
from denoise.io.atomic import replacing
from denoise.options import CleanOptions
from pipelines.batch.jobs import CleanJob
from pipelines.batch.run import run
from pipelines.batch.store import digest
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
    late = denoise("clean", photo, "-o", out, "--model", "none", "--json", out / "a.png")
    assert late.exit_code == 2  # the result has the name by now
    assert np.array_equal(Image.open(out / "a.png"), Image.open(photo))
    printed = denoise("clean", other, "-o", out, "--model", "none", "--json", "-")
    assert json.loads(printed.stdout)["rows"][0]["status"] == "skipped"


def test_a_device_is_never_replaced() -> None:
    with pytest.raises(OutputError, match="no regular file"), replacing("/dev/null"):
        pass
    assert Path("/dev/null").is_char_device()
