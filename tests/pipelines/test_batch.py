"""A stopped batch: repeating the command ends with the bytes of an undisturbed run."""

import json
import multiprocessing
import os
import pickle
import secrets
import signal
import subprocess
import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from denoise.errors import InputError, UsageError
from denoise.io.atomic import replacing
from pipelines.batch import run as batch
from pipelines.batch.discover import Item
from pipelines.batch.engines import pool
from pipelines.batch.jobs import Job, Outcome
from pipelines.batch.lock import CLAIM_PREFIX
from pipelines.batch.manifest import Entry
from pipelines.batch.store import MANIFEST_NAME, Local

NAMES = [f"{n} ö.png" for n in range(6)]

# A job that reverses bytes, and acts on MOMENT when it gets there. It starts fast, without torch.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from denoise.io.atomic import replacing
from pipelines.batch import run as batch
from pipelines.cli.group import LazyGroup
from pipelines.batch.jobs import Job, Outcome
import click, json

class Turn(Job):
    def reject_reason(self, modality): return None
    def settings(self, modality): return {}
    def execute(self, item):
        with replacing(item.destination) as partial:
            partial.write_bytes(item.source.read_bytes()[::-1])
            at("written", item)
        at("replaced", item)
        return Outcome("turn")

def at(moment, item):
    flag = Path(os.environ["FLAG"])
    if os.environ.get("MOMENT") != f"{moment} {item.source.name[0]}":
        return
    action, _, times = os.environ["ACTION"].partition(" ")
    if times == "once" and flag.exists():
        return
    flag.write_text(str(os.getpid()))
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "exit":
        os._exit(7)
    if action == "grow":
        hoard = []
        while True:
            hoard.append(bytearray(os.urandom(1 << 20)) * 8)
    time.sleep(600)

@click.group(cls=LazyGroup)
def cli(): pass

@click.command()
def turn():
    limits = json.loads(os.environ["LIMITS"])
    result = batch.run(
        Turn(inputs=(Path(sys.argv[2]),), output=Path(sys.argv[3]), workers=int(sys.argv[4]), **limits)
    )
    print(json.dumps(result.counts))

if __name__ == "__main__":
    LazyGroup.get_command = lambda *_: turn
    cli(["turn"])
"""


@dataclass
class Turned:
    """A folder of inputs, its output, and the way to start a batch in a process of its own."""

    script: Path
    source: Path
    out: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(
        self, moment: str = "", action: str = "kill", workers: int = 1, **limits: float
    ) -> subprocess.Popen[str]:
        flag = self.script.with_name("flag")
        flag.unlink(missing_ok=True)
        environment = os.environ | {"MOMENT": moment, "ACTION": action, "FLAG": str(flag)}
        environment["LIMITS"] = json.dumps(limits)
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        process = subprocess.Popen(
            [sys.executable, self.script, "turn", self.source, self.out, str(workers)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(
        self, moment: str = "", workers: int = 1, action: str = "kill", **limits: float
    ) -> tuple[int, str]:
        process = self.start(moment, action, workers, **limits)
        output, _ = process.communicate(timeout=300)
        return process.returncode, output

    def failures(self) -> list[str]:
        """Errors of the failed files in the manifest."""
        rows = [json.loads(line) for line in (self.out / MANIFEST_NAME).read_text().splitlines()]
        return [row["error"] for row in rows if row["status"] == "failed"]

    def waiting_pid(self) -> int:
        """Wait until the batch is at the moment; return its process."""
        flag = self.script.with_name("flag")
        deadline = time.monotonic() + 300
        while not (flag.exists() and flag.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return int(flag.read_text())

    def assert_complete(self) -> None:
        """Expect every output, correct, and nothing else."""
        found = {path.name: path.read_bytes() for path in self.out.iterdir()}
        found.pop(MANIFEST_NAME)
        assert found == {path.name: path.read_bytes()[::-1] for path in self.source.iterdir()}


@pytest.fixture
def turned(tmp_path: Path) -> Iterator[Turned]:
    source = tmp_path / "in"
    source.mkdir()
    for number, name in enumerate(NAMES):
        (source / name).write_bytes(bytes([number, 1, 2]) * 1000)
    script = tmp_path / "turn.py"
    script.write_text(SCRIPT)
    turned = Turned(script, source, tmp_path / "out")
    yield turned
    for process in turned.started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("moment", ["written 3", "replaced 3"])
def test_a_killed_batch_goes_on_where_it_was(turned: Turned, moment: str) -> None:
    code, _ = turned.run(moment)
    assert code == -signal.SIGKILL
    finished = {path.name for path in turned.out.iterdir() if path.suffix == ".png"}
    assert finished == set(NAMES[: 3 + (moment == "replaced 3")])
    code, output = turned.run()
    assert (code, json.loads(output)) == (0, {"skipped": 3, "ok": 3})
    turned.assert_complete()


def test_a_pool_writes_what_one_process_writes(turned: Turned) -> None:
    code, output = turned.run(workers=2)
    assert (code, json.loads(output)) == (0, {"ok": 6})
    turned.assert_complete()


@pytest.mark.parametrize(
    ("action", "workers", "limits", "sentence"),
    [
        (
            "kill",
            2,
            {},
            "the process that worked on it was killed by signal 9 (the system does so to save memory), twice",
        ),
        ("exit", 2, {"memory": 2_000_000_000}, "the process that worked on it ended with exit code 7, twice"),
        ("wait", 1, {"timeout": 1.5}, "took longer than 1.5 s, twice"),
        ("grow", 2, {"memory": 200_000_000}, "needs more than 200 MB of memory, twice"),
    ],
)
def test_a_worker_that_dies_hangs_or_grows_costs_only_its_file(
    turned: Turned, action: str, workers: int, limits: dict[str, float], sentence: str
) -> None:
    code, output = turned.run("written 2", workers, action, **limits)
    assert (code, json.loads(output)) == (0, {"ok": 5, "failed": 1})
    assert turned.failures() == [f"{turned.source / NAMES[2]}: {sentence}"]
    assert not list(turned.out.glob(".*"))
    code, output = turned.run()
    assert json.loads(output) == {"ok": 1, "skipped": 5}
    turned.assert_complete()


def test_a_worker_that_dies_once_costs_nothing(turned: Turned) -> None:
    code, output = turned.run("written 2", 2, "kill once")
    assert (code, json.loads(output)) == (0, {"ok": 6})
    turned.assert_complete()


def test_workers_that_never_begin_are_no_fault_of_the_files(
    turned: Turned, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def start(*_: object) -> pool._Worker:
        started.append(1)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=os._exit, args=(3,))
        process.start()
        theirs.close()
        return pool._Worker(process, ours)

    monkeypatch.setattr(pool, "_start", start)
    with pytest.raises(UsageError, match=r"workers exit before processing any file: .* exit code 3"):
        batch.run(Turn(inputs=(turned.source,), output=turned.out, workers=2))
    assert len(started) <= 4


@pytest.mark.parametrize(
    ("workers", "number", "code"),
    [(1, signal.SIGINT, 130), (2, signal.SIGINT, 130), (1, signal.SIGTERM, 143), (2, signal.SIGTERM, 143)],
)
def test_interrupt_leaves_no_half_file(turned: Turned, workers: int, number: int, code: int) -> None:
    process = turned.start("written 3", "wait", workers)
    turned.waiting_pid()
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == code
    assert errors == "Interrupted: the same command goes on with the rest.\n"
    names = {path.name for path in turned.out.iterdir()} - {MANIFEST_NAME, ".denoise-unfinished"}
    assert names <= set(NAMES) - {NAMES[3]}
    for name in names:
        assert (turned.out / name).read_bytes() == (turned.source / name).read_bytes()[::-1]
    assert turned.run()[0] == 0
    turned.assert_complete()


def test_workers_do_not_outlive_a_killed_batch(turned: Turned) -> None:
    process = turned.start("written 1", "wait", workers=2)
    worker = turned.waiting_pid()
    os.kill(worker, 0)  # it exists
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("the worker is still there")


class Turn(Job):
    """Run the same job in this process; call `hurt` in the middle of a write."""

    hurt: Callable[[Item], None] = staticmethod(lambda _: None)

    def reject_reason(self, modality: str) -> str | None:  # noqa: ARG002
        return None

    def settings(self, modality: str) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def execute(self, item: Item) -> Outcome:
        with replacing(item.destination) as partial:
            partial.write_bytes(item.source.read_bytes()[::-1])
            type(self).hurt(item)
        return Outcome("turn")


def hurting(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def hurt(item: Item) -> None:
        if item.source.name == NAMES[3]:
            raise error

    monkeypatch.setattr(Turn, "hurt", staticmethod(hurt))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InputError("it is torn"), "{source}: it is torn"),
        (ValueError("two\nlines"), "{source}: unexpected ValueError: two"),
        (MemoryError(), "{source}: there is not enough memory for it"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "{source}: there is not enough memory for it",
        ),
        (OSError(13, "Permission denied"), "{output}: cannot be written: Permission denied"),
    ],
)
def test_one_bad_file_costs_one_file(
    turned: Turned, monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str
) -> None:
    hurting(monkeypatch, error)
    result = batch.run(Turn(inputs=(turned.source,), output=turned.out))
    assert result.counts == {"ok": 5, "failed": 1}
    (failed,) = (entry for entry in result.entries if entry.status == "failed")
    expected = sentence.format(source=turned.source / NAMES[3], output=turned.out / NAMES[3])
    assert failed.error == expected
    assert {path.name for path in turned.out.iterdir()} == {*NAMES, "denoise-manifest.jsonl"} - {NAMES[3]}

    monkeypatch.undo()
    assert batch.run(Turn(inputs=(turned.source,), output=turned.out)).counts == {"ok": 1, "skipped": 5}
    turned.assert_complete()


def test_a_collision_of_names_fails_those_files_alone(turned: Turned) -> None:
    other = turned.source.with_name("other")
    other.mkdir()
    (other / NAMES[3]).write_bytes(b"another file")
    result = batch.run(Turn(inputs=(turned.source, other), output=turned.out))
    assert result.counts == {"ok": 5, "failed": 2}
    assert {entry.source for entry in result.entries if entry.status == "failed"} == {
        str(turned.source / NAMES[3]),
        str(other / NAMES[3]),
    }
    assert not (turned.out / NAMES[3]).exists()


def test_a_full_disk_stops_the_batch_and_the_rest_is_listed(
    turned: Turned, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurting(monkeypatch, OSError(28, "No space left on device"))
    result = batch.run(Turn(inputs=(turned.source,), output=turned.out))
    assert result.counts == {"ok": 3, "unfinished": 3}
    assert result.stopped == (
        f"{turned.out / NAMES[3]}: cannot be written: No space left on device; 3 of 6 files are left: "
        "the same command goes on with them"
    )
    monkeypatch.undo()
    assert batch.run(Turn(inputs=(turned.source,), output=turned.out)).counts == {"ok": 3, "skipped": 3}
    turned.assert_complete()


def test_two_runs_do_not_write_to_one_folder(turned: Turned) -> None:
    process = turned.start("written 3", "wait")
    turned.waiting_pid()
    with pytest.raises(UsageError, match=f"out: another run \\(process {process.pid}\\) is writing 0 ö.png"):
        batch.run(Turn(inputs=(turned.source,), output=turned.out))
    process.kill()
    process.wait()
    assert list(turned.out.glob(f"{CLAIM_PREFIX}*"))  # stale: the kernel released its lock
    assert batch.run(Turn(inputs=(turned.source,), output=turned.out)).counts == {"ok": 3, "skipped": 3}
    turned.assert_complete()


def test_missing_room_is_found_before_work(turned: Turned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Local, "free_bytes", lambda _: 17_999)
    with pytest.raises(UsageError, match="out: the results need about 18 kB, and the disk has 18 kB left"):
        batch.run(Turn(inputs=(turned.source,), output=turned.out))
    assert not turned.out.exists()
    monkeypatch.setattr(Local, "free_bytes", lambda _: 18_000)
    batch.run(Turn(inputs=(turned.source,), output=turned.out))
    monkeypatch.setattr(Local, "free_bytes", lambda _: 3000)  # replaced outputs free space
    assert batch.run(Turn(inputs=(turned.source,), output=turned.out, overwrite=True)).counts == {"ok": 6}
    monkeypatch.setattr(Local, "free_bytes", lambda _: 0)  # all is done
    assert batch.run(Turn(inputs=(turned.source,), output=turned.out)).counts == {"skipped": 6}


def test_an_output_is_kept_when_its_redoing_fails(turned: Turned, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Turn(inputs=(turned.source,), output=turned.out)
    batch.run(job)
    (turned.source / NAMES[3]).write_bytes(b"new input")
    before = (turned.out / NAMES[3]).read_bytes()
    hurting(monkeypatch, InputError("it is torn"))
    assert batch.run(job).counts == {"skipped": 5, "failed": 1}
    assert (turned.out / NAMES[3]).read_bytes() == before
    monkeypatch.undo()
    assert batch.run(job).counts == {"skipped": 5, "ok": 1}
    turned.assert_complete()


def test_overwrite_does_every_file_anew(turned: Turned) -> None:
    turned.out.mkdir()
    (turned.out / NAMES[0]).write_bytes(b"somebody's own")
    job = Turn(inputs=(turned.source,), output=turned.out)
    assert batch.run(job).counts == {"failed": 1, "ok": 5}
    assert (turned.out / NAMES[0]).read_bytes() == b"somebody's own"
    assert batch.run(Turn(inputs=(turned.source,), output=turned.out, overwrite=True)).counts == {"ok": 6}
    turned.assert_complete()


def test_an_output_folder_that_cannot_be_made_stops_before_work(turned: Turned) -> None:
    turned.out.write_text("a file where a folder should be")
    with pytest.raises(UsageError, match=r"out: is a file; expected a folder"):
        batch.run(Turn(inputs=(turned.source,), output=turned.out))


def test_inputs_are_never_written(turned: Turned) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in turned.source.iterdir()}
    batch.run(Turn(inputs=(turned.source,), output=turned.out))
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in turned.source.iterdir()} == before


def test_memory_hardly_grows_with_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts of a file that are needed before it is processed go when its result comes."""
    files, grown = 1000, []
    (tmp_path / "in").mkdir()
    for number in range(files):
        (tmp_path / "in" / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    def engine(_job: Job, items: deque[Item], _expected_s: float) -> Iterator[Entry]:
        before, _ = tracemalloc.get_traced_memory()
        while items:
            digests = {name: secrets.token_hex(32) for name in ("input_digest", "output_digest")}
            # The texts are those of another process, as unpickling makes them.
            yield pickle.loads(pickle.dumps(Entry.of(items.popleft(), "ok", model="none", **digests)))
        grown.append((tracemalloc.get_traced_memory()[0] - before) / files)

    monkeypatch.setattr(batch.engines, "run", engine)
    tracemalloc.start()
    result = batch.run(Turn(inputs=(tmp_path / "in",), output=tmp_path / "out"))
    tracemalloc.stop()
    assert result.counts == {"ok": files}
    assert grown[0] < 500, grown
