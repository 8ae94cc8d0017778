"""Runs that write to one folder at the same time, and outputs that vanish under a run."""

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from denoise.errors import UsageError
from denoise.io.atomic import replacing
from denoise.options import CleanOptions
from pipelines.batch import lock
from pipelines.batch.jobs import CleanJob
from pipelines.batch.manifest import PENDING_NAME
from pipelines.batch.run import run
from pipelines.batch.scratch import scratch
from pipelines.batch.store import MANIFEST_NAME

RUNS = 6


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(RUNS):
        Image.fromarray(np.full((16, 16), number, np.uint8)).save(folder / f"{number}.png")
    return folder


def job(inputs: Path, output: Path, **settings: Any) -> CleanJob:
    options = CleanOptions(model="none")
    return CleanJob(inputs=(inputs,), output=output, options=options, workers=1, **settings)


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_runs_whose_outputs_differ_share_a_folder(
    photos: Path, tmp_path: Path, manifest_rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `xargs -P 6 -I{} denoise clean {} -o out` starts them: all are at work before one ends."""
    together = threading.Barrier(RUNS)
    execute = CleanJob.execute

    def wait(self: CleanJob, item: Any) -> Any:
        together.wait(60)
        return execute(self, item)

    monkeypatch.setattr(CleanJob, "execute", wait)
    out = tmp_path / "out"
    with ThreadPoolExecutor(RUNS) as threads:
        results = list(threads.map(lambda path: run(job(path, out)), sorted(photos.iterdir())))
    assert [result.counts for result in results] == [{"ok": 1}] * RUNS
    assert sorted(row["key"] for row in manifest_rows(out)) == [f"{n}.png" for n in range(RUNS)]
    assert hidden(out) == []
    assert run(job(photos, out)).counts == {"skipped": RUNS}


def test_an_output_that_another_run_writes_is_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with lock.claimed(out, ["0.png"]):
        with pytest.raises(UsageError, match=rf"process {os.getpid()}\) is writing 0.png"):
            run(job(photos, out))
        assert run(job(photos / "1.png", out)).counts == {"ok": 1}
    with lock.exclusive(out), pytest.raises(UsageError, match="is writing there"):
        run(job(photos / "1.png", out))
    with lock.claimed(out, ["0.png"]), pytest.raises(UsageError), lock.exclusive(out):
        pass
    assert hidden(out) == []


def test_runs_in_a_folder_and_in_one_inside_it_exclude_each_other(photos: Path, tmp_path: Path) -> None:
    whole, inside = (
        CleanJob(
            inputs=(folder,), output=folder, options=CleanOptions(model="none"), workers=1, in_place=True
        )
        for folder in (tmp_path, photos)
    )
    for claim, other in (
        (lock.claimed(tmp_path, ["in/0.png"]), inside),
        (lock.claimed(photos, ["0.png"]), whole),
    ):
        with claim, pytest.raises(UsageError, match=r"is writing (in/)?0.png"):
            run(other)
    with lock.claimed(tmp_path, ["in/8.png"]), lock.claimed(tmp_path, ["0.png"]):
        assert run(inside).counts == {"ok": RUNS}
    assert hidden(tmp_path) == hidden(photos) == []


def test_the_claim_of_a_dead_run_blocks_nobody_and_goes(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for number, content in enumerate((b"", b'{"process": 1, "names": null}', b"\xff")):
        (out / f"{lock.CLAIM_PREFIX}{number}").write_bytes(content)
    assert run(job(photos, out)).counts == {"ok": RUNS}
    assert hidden(out) == []


def test_leftovers_of_a_dead_run_go_and_those_of_a_live_one_stay(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / PENDING_NAME).write_text('"8.png"\n"9.png"\n')
    alive, dead = (out / f".{number}.png.0123abcd.part" for number in (8, 9))
    for path in (alive, dead):
        path.write_bytes(b"x")
    with lock.claimed(out, ["8.png"]):
        (claim,) = out.glob(f"{lock.CLAIM_PREFIX}*")
        claim.write_text(json.dumps({"process": os.getpid() + 1, "names": ["8.png"]}))  # of another process
        assert run(job(photos / "1.png", out)).counts == {"ok": 1}
    assert [path.exists() for path in (alive, dead)] == [True, False]


def test_a_single_file_with_a_name_leaves_no_manifest_unless_asked(
    photos: Path, tmp_path: Path, denoise: Any, manifest_rows: Any
) -> None:
    out = tmp_path / "here"
    out.mkdir()
    stray = out / ".b.png.0123abcd.part"
    stray.write_bytes(b"of a killed run")
    command = ("clean", photos / "1.png", "-o", out / "b.png", "--model", "none")
    assert denoise(*command).exit_code == 0
    assert [path.name for path in out.iterdir()] == ["b.png"]
    again = denoise(*command)
    assert again.exit_code == 1
    assert "is there already" in again.stdout
    assert denoise(*command, "--overwrite", "--manifest").exit_code == 0
    (row,) = manifest_rows(out)
    assert (row["key"], row["status"]) == ("b.png", "ok")
    assert denoise(*command).exit_code == 0  # there is a manifest now, which proves it
    assert len(manifest_rows(out)) == 1
    assert denoise("clean", photos / "2.png", "-o", out / "c.png", "--model", "none").exit_code == 0
    assert len(manifest_rows(out)) == 2  # and stays complete


def test_a_folder_that_is_removed_during_a_run_ends_it_and_the_rerun_finishes(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, manifest_rows: Any
) -> None:
    out, execute = tmp_path / "out", CleanJob.execute

    def remove(self: CleanJob, item: Any) -> Any:
        if item.key == "2.png":
            shutil.rmtree(out)
            out.mkdir()
        return execute(self, item)

    monkeypatch.setattr(CleanJob, "execute", remove)
    result = run(job(photos, out))
    assert f"{MANIFEST_NAME}: was removed or replaced during the run" in str(result.stopped)
    assert (out / "2.png").exists()
    monkeypatch.undo()
    assert run(job(photos, out)).counts == {"ok": RUNS}  # the result without a row is ours, too
    assert len(manifest_rows(out)) == RUNS
    assert hidden(out) == []


@pytest.mark.parametrize(
    "name", [b"a\nb.png", b"a\xff\xfe.png", "ü".encode() * 120 + b".png", b"\xff" * 240 + b".png"]
)
def test_no_name_keeps_a_temporary_file(photos: Path, tmp_path: Path, name: bytes) -> None:
    source, out = photos / os.fsdecode(name), tmp_path / "out"
    source.write_bytes((photos / "0.png").read_bytes())
    out.mkdir()
    with replacing(out / source.name) as stray:
        pass
    (out / source.name).replace(stray)  # as a killed run leaves it
    (out / PENDING_NAME).write_text(json.dumps(source.name) + "\n")
    assert run(job(source, out)).counts == {"ok": 1}
    assert hidden(out) == []


def test_temporary_folders_of_a_killed_process_are_removed_by_the_next() -> None:
    kill = (
        "import os; from pipelines.batch.scratch import scratch\n"
        "with scratch() as folder:\n"
        "    (folder / 'input.png').write_bytes(b'private')\n"
        "    print(folder, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    with scratch() as alive:
        killed = Path(
            subprocess.run([sys.executable, "-c", kill], capture_output=True, text=True).stdout.strip()
        )
        assert (killed / "input.png").exists()
        assert stat.S_IMODE(killed.stat().st_mode) == 0o700
        with scratch():
            assert alive.exists()
        assert [path.name for path in alive.parent.glob(f"{killed.name}*")] == []
    assert not alive.exists()
