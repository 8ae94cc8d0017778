"""Promises of every engine: the same bytes, rows and exit codes, from local folders and from stores."""

import functools
import http.server
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from denoise.options import CleanOptions
from pipelines.batch import run as batch
from pipelines.batch.discover import Item
from pipelines.batch.jobs import CleanJob, Outcome
from pipelines.cli.group import cli

cloudpickle = pytest.importorskip("cloudpickle")
distributed = pytest.importorskip("distributed")

ENGINES = {"inline": ["--workers", "1"], "pool": ["--workers", "2"], "dask": ["--engine", "dask"]}


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Two workers in processes of their own."""
    import dask.config

    # The worker processes have to find the class of the job that kills them.
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
    ):
        yield cluster.scheduler_address
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine files: eight pictures and one invalid file."""
    root = tmp_path / "in"
    (root / "below").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(8):
        name = f"below/{number}.png" if number % 2 else f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(root / name)
    (root / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    return root


def clean(engine: str, scheduler: str, source: object, out: object, *options: str) -> int:
    chosen = [*ENGINES[engine], *(["--scheduler", scheduler] if engine == "dask" else [])]
    arguments = ["clean", str(source), "-o", str(out), "--model", "median", "-q", *chosen, *options]
    result = CliRunner().invoke(cli, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code


def outputs(files: dict[str, bytes]) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Results, and the rows of the manifest without times and places."""
    rows = [json.loads(line) for line in files.pop("denoise-manifest.jsonl").splitlines()]
    kept = ("key", "status", "input_digest", "output_digest", "fingerprint", "metrics", "notes", "model")
    return files, sorted(({key: row[key] for key in kept} for row in rows), key=lambda row: str(row["key"]))


def local(out: Path) -> dict[str, bytes]:
    found = {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    found.pop(".denoise-lock", None)
    return found


def stored(place: str) -> dict[str, bytes]:
    fs, path = fsspec.core.url_to_fs(place)
    return {name.removeprefix(path).lstrip("/"): fs.cat_file(name) for name in fs.find(path)}


@pytest.fixture
def expected(folder: Path, tmp_path: Path) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    assert clean("inline", "", folder, tmp_path / "expected") == 1
    return outputs(local(tmp_path / "expected"))


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_same_bytes_rows_and_exit_code(
    engine: str, folder: Path, tmp_path: Path, scheduler: str, expected: tuple[Any, Any]
) -> None:
    out = tmp_path / engine
    assert clean(engine, scheduler, folder, out) == 1
    assert outputs(local(out)) == expected
    assert len(expected[0]) == 8
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    assert clean(engine, scheduler, folder, out) == 1  # the bad file is retried, the others are finished
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == times


@pytest.fixture
def memory() -> Iterator[str]:
    """A store in memory, empty before and after."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield "memory://"
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def test_a_store_gets_what_a_folder_gets(folder: Path, memory: str, expected: tuple[Any, Any]) -> None:
    for path in folder.rglob("*.png"):
        with fsspec.open(f"{memory}in/{path.relative_to(folder).as_posix()}", "wb") as file:
            file.write(path.read_bytes())
    assert clean("inline", "", f"{memory}in", f"{memory}out") == 1
    files, rows = outputs(stored(f"{memory}out"))
    assert files == expected[0]
    assert [row["output_digest"] for row in rows] == [row["output_digest"] for row in expected[1]]


def test_a_store_is_gone_on_with_and_cleared_of_what_a_killed_run_left(folder: Path, memory: str) -> None:
    assert clean("inline", "", folder, f"{memory}out") == 1
    done = stored(f"{memory}out")
    fs = fsspec.filesystem("memory")
    fs.rm_file("/out/2.png")
    before = {name: fs.info(name)["created"] for name in fs.find("/out") if name.endswith(".png")}
    assert clean("inline", "", folder, f"{memory}out") == 1
    after = {name: fs.info(name)["created"] for name in fs.find("/out") if name.endswith(".png")}
    assert stored(f"{memory}out")["2.png"] == done["2.png"]
    assert {name: after[name] for name in before} == before  # only the lost file was redone


def test_the_web_is_read_and_not_written(folder: Path, tmp_path: Path, expected: tuple[Any, Any]) -> None:
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        assert clean("inline", "", f"{address}/0.png", tmp_path / "out") == 0
        assert clean("inline", "", f"{address}/nowhere.png", tmp_path / "other") in (1, 2)
        assert clean("inline", "", folder, address) == 2
        server.shutdown()
    assert (tmp_path / "out" / "0.png").read_bytes() == expected[0]["0.png"]


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Print nothing."""


@dataclass(frozen=True, kw_only=True)
class Deadly(CleanJob):
    """A cleaning job whose worker is killed by the file `2.png`."""

    def execute(self, item: Item) -> Outcome:
        if item.source.name == "2.png":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(item)


def test_a_killed_dask_worker_loses_nothing(folder: Path, tmp_path: Path, scheduler: str) -> None:
    job = Deadly(
        inputs=(folder,),
        output=tmp_path / "out",
        options=CleanOptions(model="median"),
        engine="dask",
        scheduler=scheduler,
    )
    result = batch.run(job)
    assert result.counts == {"ok": 7, "failed": 2}
    (killed,) = (entry for entry in result.entries if entry.source.endswith("2.png"))
    assert "died" in str(killed.error)
    assert len(list((tmp_path / "out").rglob("*.png"))) == 7


def test_a_cluster_without_workers_ends_the_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.batch.engines.dask._LOST_S", 0.2)
    with distributed.LocalCluster(
        n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=50, protocol="tcp"
    ) as empty:
        job = CleanJob(
            inputs=(folder,), output=tmp_path / "out", engine="dask", scheduler=empty.scheduler_address
        )
        result = batch.run(job)
    assert result.stopped
    assert "no Dask worker is left" in result.stopped
    assert result.counts == {"unfinished": 9}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"engine": "dask", "timeout": 5.0}, "timeout"),
        ({"engine": "dask", "memory": 1 << 30}, "memory"),
        ({"engine": "local", "scheduler": "tcp://127.0.0.1:1"}, "scheduler"),
        ({"engine": "dask", "scheduler": "tcp://127.0.0.1:1", "workers": 2}, "workers"),
        ({"engine": "ray"}, "ray"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    from denoise.errors import UsageError

    with pytest.raises(UsageError, match=sentence):
        CleanJob(inputs=(tmp_path,), output=tmp_path / "out", **options)
