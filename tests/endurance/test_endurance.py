"""Long runs: memory and handles stay flat, and workers that die again and again cost little work.

Each test prints its figures (`pytest --slow -s tests/endurance`). `DENOISE_SOAK_FILES`, `DENOISE_WATCH_S` and
`DENOISE_KILLS_S` set the sizes.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile as sf
from PIL import Image

from denoise.io.atomic import replacing
from pipelines.batch import run as batch
from pipelines.batch.discover import Item
from pipelines.batch.jobs import Job, Outcome
from pipelines.batch.store import MANIFEST_NAME

SOAK_FILES = int(os.environ.get("DENOISE_SOAK_FILES", "10000"))
WATCH_S = float(os.environ.get("DENOISE_WATCH_S", "3600"))
KILLS_S = float(os.environ.get("DENOISE_KILLS_S", "120"))
DRIVER_FILES = int(os.environ.get("DENOISE_DRIVER_FILES", "100000"))
GROWTH = 1.03  # of memory, from a quarter of the way to the end
DRIVER_BYTES = 300e6
EXTRA_WORK = 1.1


def arrive(folder: Path, number: int) -> None:
    """Put a small photo, recording or log into a folder, whole at once."""
    rng = np.random.default_rng(number)
    suffix = (".png", ".wav", ".csv", ".png")[number % 4]
    path = folder / f"{number % 100:02}" / f"{number}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    if suffix == ".png":
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(partial, "PNG")
    elif suffix == ".wav":
        sf.write(partial, rng.standard_normal(4000) / 10, 16000, format="WAV")
    else:
        rows = "\n".join(
            f"{time_s / 10},{value:.3f}" for time_s, value in enumerate(rng.standard_normal(100))
        )
        partial.write_text(f"time_s,x\n{rows}\n")
    partial.rename(path)


class Probe(threading.Thread):
    """Samples memory and open files of a process and its children until it ends."""

    def __init__(self, pid: int, done: Callable[[], int]) -> None:
        super().__init__(daemon=True)
        self._process, self._done = psutil.Process(pid), done
        self.samples: list[tuple[int, int, int]] = []  # files done, resident bytes, open files
        self.start()

    def run(self) -> None:
        with contextlib.suppress(psutil.Error):
            while self._process.is_running():
                family = [self._process, *self._process.children(recursive=True)]
                resident = sum(each.memory_info().rss for each in family)
                self.samples.append((self._done(), resident, sum(each.num_fds() for each in family)))
                time.sleep(1)

    def growth(self) -> tuple[float, int]:
        """Memory at the end over that after a quarter of the files, and how many more files are open."""
        last = max(done for done, _, _ in self.samples)
        early = [each for each in self.samples if 0.25 * last <= each[0] <= 0.4 * last]
        late = [each for each in self.samples if each[0] >= 0.85 * last]
        (_, memory, _), (_, later, _) = (np.median(part, axis=0) for part in (early, late))
        handles, more = (min(each[2] for each in part) for part in (early, late))  # between two files
        return float(later / memory), more - handles


def rows_of(out: Path) -> Callable[[], int]:
    """Count the rows of a manifest that are there."""
    path = out / MANIFEST_NAME
    return lambda: path.read_bytes().count(b"\n") if path.exists() else 0


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", *map(str, arguments)]


@pytest.mark.slow
def test_ten_thousand_files_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    for number in range(SOAK_FILES):
        arrive(tmp_path / "in", number)
    started = time.monotonic()
    run = command("clean", tmp_path / "in", "-o", tmp_path / "out", "--workers", 1, "-q", "--model", "none")
    process = subprocess.Popen(run)
    probe = Probe(process.pid, rows_of(tmp_path / "out"))
    assert process.wait() == 0
    memory, handles = probe.growth()
    seconds = time.monotonic() - started
    print(f"soak: {SOAK_FILES} files, {seconds:.0f} s, memory x {memory:.3f}, handles {handles:+}")
    assert rows_of(tmp_path / "out")() == SOAK_FILES
    assert memory < GROWTH
    assert handles <= 0


@pytest.mark.slow
def test_an_hour_of_watch_takes_no_more_memory_than_its_first_quarter(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    process = subprocess.Popen(command("watch", folder, "-o", out, "--settle", 1, "-q", "--model", "none"))
    probe = Probe(process.pid, rows_of(out))
    started, number = time.monotonic(), 0
    while time.monotonic() - started < WATCH_S:
        for _ in range(3):
            arrive(folder, number)
            number += 1
        time.sleep(2)
    deadline = time.monotonic() + 120
    while rows_of(out)() < number and time.monotonic() < deadline:
        time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    memory, handles = probe.growth()
    print(f"watch: {WATCH_S:.0f} s, {number} arrivals, memory x {memory:.3f}, handles {handles:+}")
    assert rows_of(out)() == number
    assert memory < GROWTH
    assert handles <= 0


# ---- Dask --------------------------------------------------------------------------------------------------


class Copy(Job):
    """Copy files, and record each attempt."""

    seconds: float = 0.0

    def reject_reason(self, modality: str) -> str | None:  # noqa: ARG002
        return None

    def settings(self, modality: str) -> dict[str, Any]:  # noqa: ARG002
        return {}

    def execute(self, item: Item) -> Outcome:
        time.sleep(type(self).seconds)
        with replacing(item.destination) as partial:
            partial.write_bytes(item.source.read_bytes())
        with (self.output.parent / "attempts").open("a") as log:
            log.write(f"{item.key}\n")
        return Outcome("copy")


class SlowCopy(Copy):
    """Take half a second for each file."""

    seconds = 0.5


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two workers in processes of their own, which a nanny starts again."""
    cloudpickle = pytest.importorskip("cloudpickle")
    distributed = pytest.importorskip("distributed")
    import dask.config

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None, silence_logs=50
        ) as found,
    ):
        yield found
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def copies(folder: Path, count: int) -> None:
    for number in range(count):
        path = folder / f"{number % 100:02}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x89PNG\r\n\x1a\n%d" % number)


def kill_one(cluster: Any, turn: int) -> None:
    """Kill a worker that is up: a nanny gives up one that dies as it starts."""
    up = [nanny for nanny in cluster.workers.values() if nanny.worker_address in cluster.scheduler.workers]
    if up:
        with contextlib.suppress(ProcessLookupError):
            os.kill(up[turn % len(up)].pid, signal.SIGKILL)


def killed_again_and_again(cluster: Any, folder: Path, *, kills_s: float, files: int) -> tuple[Any, float]:
    """Kill a worker every 5 s while files are copied; return the result, and attempts over files."""
    copies(folder / "in", files)
    stop = threading.Event()

    def kill() -> None:
        for turn in range(round(kills_s / 5)):
            if stop.wait(5):
                return
            kill_one(cluster, turn)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    result = batch.run(
        SlowCopy(
            inputs=(folder / "in",), output=folder / "out", engine="dask", scheduler=cluster.scheduler_address
        )
    )
    stop.set()
    thread.join()
    attempts = (folder / "attempts").read_text().count("\n")
    return result, attempts / files


@pytest.mark.slow
def test_a_dask_worker_that_is_killed_every_five_seconds_costs_a_tenth(cluster: Any, tmp_path: Path) -> None:
    files = round(KILLS_S * 2 / SlowCopy.seconds * 0.7)
    started = time.monotonic()
    result, share = killed_again_and_again(cluster, tmp_path, kills_s=KILLS_S, files=files)
    print(
        f"dask: {files} files in {time.monotonic() - started:.0f} s, {result.counts}, attempts x {share:.3f}"
    )
    assert result.counts == {"ok": files}
    assert share <= EXTRA_WORK


@pytest.mark.slow
def test_the_driver_of_a_hundred_thousand_files_stays_small(tmp_path: Path) -> None:
    """Everything but the work: workers here would only return these entries."""
    copies(tmp_path / "in", DRIVER_FILES)
    script = f"""
import json, pickle, secrets, sys
sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
from pathlib import Path
import distributed
import test_endurance
from pipelines.batch import run as batch
from pipelines.batch.manifest import Entry

def engine(_job, items, _expected_s):
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", protocol="tcp"):
        while items:
            item = items.popleft()
            item.destination.parent.mkdir(parents=True, exist_ok=True)
            digests = dict(input_digest=secrets.token_hex(32), output_digest=secrets.token_hex(32))
            metrics = dict(estimated_sigma_before=len(items) / 7, estimated_sigma_after=len(items) / 9)
            entry = Entry.of(item, "ok", seconds=len(items) / 3, model="photo", metrics=metrics, **digests)
            yield pickle.loads(pickle.dumps(entry))

batch.engines.run = engine
root = Path({str(tmp_path)!r})
counts = batch.run(test_endurance.Copy(inputs=(root / "in",), output=root / "out")).counts
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # of no parent
print(json.dumps([counts, int(peak.split()[1]) * 1024]))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    counts, peak_bytes = json.loads(run.stdout.splitlines()[-1])
    print(f"driver: {counts}, {peak_bytes / 1e6:.0f} MB")
    assert counts == {"ok": DRIVER_FILES}
    assert peak_bytes < DRIVER_BYTES
