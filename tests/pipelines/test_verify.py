"""`denoise verify` finds exactly the outputs that differ from the manifest."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from denoise.io.atomic import replacing
from pipelines.batch.manifest import PENDING_NAME, Entry, Manifest
from pipelines.batch.store import digest
from pipelines.inspect.verify import verify

Run = Callable[..., Any]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output folder with three results, one below a folder."""
    root = tmp_path / "out"
    (root / "b").mkdir(parents=True)
    for key in ("a.png", "b/c.png", "d.csv"):
        (root / key).write_bytes(key.encode())
    record(root, *("a.png", "b/c.png", "d.csv"))
    return root


def record(root: Path, *keys: str, status: str = "ok") -> None:
    """Append a row for each of the outputs."""
    with Manifest(root).writing([]) as append:
        for key in keys:
            found = digest(root / key) if status == "ok" else None
            append(Entry(f"in/{key}", str(root / key), status, key=key, output_digest=found))


def statuses(root: Path) -> dict[str, str]:
    return {checked.key: checked.status for checked in verify(root)}


RIGHT = {"a.png": "right", "b/c.png": "right", "d.csv": "right"}


def test_what_a_run_leaves_is_right(media: Path, tmp_path: Path, denoise: Run) -> None:
    assert denoise("clean", media, "-o", tmp_path / "out", "--model", "none").exit_code == 0
    result = denoise("verify", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout == "4 right, 0 changed, 0 missing, 0 unfinished, 0 unknown, 0 leftover\n"


def test_one_bit_is_enough_to_be_changed(out: Path, denoise: Run) -> None:
    data = bytearray((out / "a.png").read_bytes())
    data[0] ^= 1
    (out / "a.png").write_bytes(data)
    (out / "d.csv").unlink()
    assert statuses(out) == {"a.png": "changed", "b/c.png": "right", "d.csv": "missing"}
    result = denoise("verify", out)
    assert result.exit_code == 1
    lines = [f"changed  {out / 'a.png'}", f"missing  {out / 'd.csv'}"]
    assert result.stdout.splitlines()[:-1] == lines


def test_what_is_not_in_the_manifest_is_told_but_is_no_fault(out: Path, denoise: Run) -> None:
    (out / "b" / "notes.txt").write_text("mine")
    with replacing(out / "b" / "e.png") as temporary:
        left = (out / "b" / temporary.name).relative_to(out).as_posix()
        assert statuses(out) == RIGHT | {"b/notes.txt": "unknown", left: "leftover"}
        assert denoise("verify", out).exit_code == 0


def test_the_last_good_row_counts(out: Path) -> None:
    (out / "a.png").write_bytes(b"cleaned anew")
    record(out, "a.png")
    record(out, "d.csv", status="failed")  # the old result still exists, and is correct
    assert statuses(out) == RIGHT


def test_what_an_interrupted_run_replaced_is_unfinished(out: Path, denoise: Run) -> None:
    (out / PENDING_NAME).write_text("\n".join(map(json.dumps, ["a.png", "d.csv", "new.png", "none.png"])))
    for key in ("a.png", "new.png"):
        (out / key).write_bytes(b"without a row")
    assert statuses(out) == RIGHT | {"a.png": "unfinished", "new.png": "unfinished"}
    assert denoise("verify", out).exit_code == 1


def test_a_pipe_in_place_of_a_result_is_not_waited_for(out: Path) -> None:
    (out / "a.png").unlink()
    os.mkfifo(out / "a.png")
    assert statuses(out) == RIGHT | {"a.png": "changed"}


def test_json_has_every_file(out: Path, tmp_path: Path, denoise: Run) -> None:
    (out / "d.csv").write_text("changed")
    printed = denoise("verify", out, "--json", "-")
    assert printed.exit_code == 1
    report = json.loads(printed.stdout)  # and nothing else
    assert report["counts"] == {
        "right": 2, "changed": 1, "missing": 0, "unfinished": 0, "unknown": 0, "leftover": 0
    }  # fmt: skip
    row = next(row for row in report["rows"] if row["key"] == "d.csv")
    assert row["found"] == digest(out / "d.csv") != row["expected"]
    denoise("verify", out, "--json", tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path, denoise: Run) -> None:
    result = denoise("verify", tmp_path)
    assert result.exit_code == 2
    assert "denoise-manifest.jsonl" in result.stderr


def test_the_originals_of_results_in_place_are_checked_too(media: Path, denoise: Run) -> None:
    assert denoise("clean", media, "--in-place", "--backup", ".orig", "--model", "none").exit_code == 0
    found = statuses(media)
    kept = [key for key in found if key.endswith(".orig")]
    assert len(kept) == 4
    assert set(found.values()) == {"right"}
    with (media / kept[0]).open("ab") as file:
        file.write(b"x")
    assert statuses(media) == found | {kept[0]: "changed"}
    assert denoise("verify", media).exit_code == 1
