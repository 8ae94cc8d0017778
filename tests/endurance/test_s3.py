"""Stores for real: s3fs against moto's server, with the process killed, errors and delays of the store."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

moto_server = pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")

FILES = 12
KEYS = int(os.environ.get("DENOISE_S3_KEYS", "100000"))


_OWN_HEADERS = ("transfer-encoding", "connection", "content-length", "server", "date")


class Store:
    """A server of moto, and a proxy before it that fails or waits as it is told."""

    def __init__(self) -> None:
        self.fail: Callable[[int], bool] = lambda _: False
        self.wait_s = 0.0
        self.requests = 0
        self._server = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self._server.start()
        self._behind = self._server.get_host_and_port()
        store = self

        class Proxy(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                store.requests += 1
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if store.wait_s:
                    time.sleep(store.wait_s)
                if store.fail(store.requests):
                    self._answer(500, {}, b"<Error><Code>InternalError</Code></Error>")
                    return
                # Without urllib: it calls a body without a type a form, which moto's server parses and drops.
                with contextlib.closing(http.client.HTTPConnection(*store._behind)) as behind:
                    behind.request(self.command, self.path, body, dict(self.headers))
                    answer = behind.getresponse()
                    self._answer(answer.status, answer.headers, answer.read())

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_one  # noqa: N815

            def _answer(self, code: int, headers: Any, body: bytes) -> None:
                self.send_response_only(code)
                for name, value in headers.items():
                    if name.lower() not in _OWN_HEADERS:
                        self.send_header(name, value)
                length = headers.get("Content-Length") if self.command == "HEAD" else None
                self.send_header("Content-Length", length or str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # a client that was killed
                    super().handle()

        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self._proxy.server_address[1]}"

    def reset(self) -> None:
        """Forget all buckets: the server keeps them for its process."""
        with contextlib.closing(http.client.HTTPConnection(*self._behind)) as behind:
            behind.request("POST", "/moto-api/reset")
            behind.getresponse().read()

    def close(self) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        self._server.stop()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "x"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    # Bodies as they are: the proxy reads no chunks.
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    monkeypatch.setenv("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    found = Store()
    found.reset()
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.address)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", found.address)
    s3fs.S3FileSystem.clear_instance_cache()
    fs = s3fs.S3FileSystem(endpoint_url=found.address)
    fs.mkdir("bucket")
    yield found
    found.close()
    s3fs.S3FileSystem.clear_instance_cache()


def fill(store: Store, folder: Path) -> dict[str, bytes]:
    """Put photos into the store; return what cleaning them on a disk gives."""
    (folder / "in").mkdir()
    rng = np.random.default_rng(0)
    fs = s3fs.S3FileSystem(endpoint_url=store.address)
    for number in range(FILES):
        path = folder / "in" / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(path)
        fs.put_file(str(path), f"bucket/in/{number}.png")
    assert finish(clean(folder / "in", folder / "out")) == (0, "")
    return {path.name: path.read_bytes() for path in (folder / "out").glob("*.png")}


def clean(source: object, out: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines.cli", "clean", str(source), "-o", str(out)]
    options = ["--model", "median", "--workers", "1", "-q"]
    return subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code of a run, and what it complained about."""
    _, errors = process.communicate()
    assert "Traceback" not in errors
    return process.returncode, errors


def results(store: Store) -> dict[str, bytes]:
    fs = s3fs.S3FileSystem(endpoint_url=store.address)
    fs.invalidate_cache()
    found = {name.rpartition("/")[2]: fs.cat_file(name) for name in fs.find("bucket/out")}
    rows = [json.loads(line) for line in found.pop("denoise-manifest.jsonl", b"").splitlines()]
    assert {row["key"] for row in rows if row["status"] == "ok"} <= found.keys()
    return found


@pytest.mark.slow
def test_a_killed_run_is_finished_by_the_next(store: Store, tmp_path: Path) -> None:
    expected = fill(store, tmp_path)
    kills = 0
    for attempt in range(6):
        process = clean("s3://bucket/in", "s3://bucket/out")
        before = store.requests
        while process.poll() is None and store.requests < before + 20 + 6 * attempt:
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        kills += finish(process)[0] == -signal.SIGKILL
        there = results(store)
        assert all(there[name] == expected[name] for name in there if name in expected)
    assert finish(clean("s3://bucket/in", "s3://bucket/out")) == (0, "")
    assert results(store) == expected
    print(f"s3: {kills} kills, {store.requests} requests")


@pytest.mark.slow
def test_a_store_that_fails_now_and_then_is_asked_again(store: Store, tmp_path: Path) -> None:
    expected = fill(store, tmp_path)
    store.fail = lambda number: number % 5 == 0
    codes = []
    for _ in range(5):
        codes.append(finish(clean("s3://bucket/in", "s3://bucket/out"))[0])
        if codes[-1] == 0:
            break
    store.fail = lambda _: False
    print(f"s3: every fifth request fails: exit codes {codes}")
    assert codes[-1] == 0
    assert results(store) == expected
    store.fail = lambda _: True  # and one that always fails
    code, errors = finish(clean("s3://bucket/in", "s3://bucket/new"))
    print(f"s3: all requests fail: exit code {code}: {errors.strip()[-200:]}")
    assert code in (2, 3)
    assert "s3://bucket" in errors


@pytest.mark.slow
def test_a_store_that_goes_away_during_a_run_stops_it(store: Store, tmp_path: Path) -> None:
    expected = fill(store, tmp_path)
    last = store.requests + 50  # after the listing and the first results
    store.fail = lambda number: number > last
    code, errors = finish(clean("s3://bucket/in", "s3://bucket/out"))
    print(f"s3: the store goes away: exit code {code}: {errors.strip()[-300:]}")
    assert code == 3
    assert "s3://bucket/out" in errors
    store.fail = lambda _: False
    assert 0 < len(results(store)) < FILES
    assert finish(clean("s3://bucket/in", "s3://bucket/out")) == (0, "")
    assert results(store) == expected


@pytest.mark.slow
def test_a_slow_store_only_takes_longer(store: Store, tmp_path: Path) -> None:
    expected = fill(store, tmp_path)
    store.wait_s = 0.3
    started = time.monotonic()
    assert finish(clean("s3://bucket/in", "s3://bucket/out")) == (0, "")
    store.wait_s = 0
    print(f"s3: 0.3 s a request: {FILES} files in {time.monotonic() - started:.0f} s")
    assert results(store) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_a_hundred_thousand_keys_are_listed() -> None:
    from moto.s3.models import s3_backends

    backend = next(iter(s3_backends.values()))["aws"]
    for number in range(KEYS):
        backend.put_object("bucket", f"many/{number % 1000:03}/{number}.txt", b"x")
    backend.put_object("bucket", "many/a.csv", b"time,x\n0,1\n1,2\n")
    script = """
import time
from pipelines.batch.remote import Remote
from pipelines.batch.store import Walk
started = time.monotonic()
sizes = Remote("s3://bucket/many")._sizes(True, print)
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # of no parent
print(len(sizes), time.monotonic() - started, int(peak.split()[1]) / 1000)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    keys, seconds, megabytes = map(float, run.stdout.split())
    print(f"s3: {keys:.0f} keys listed in {seconds:.0f} s, {megabytes:.0f} MB")
    assert keys == KEYS + 1
    assert megabytes < 240
