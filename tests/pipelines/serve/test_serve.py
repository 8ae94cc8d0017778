"""The server: what a person gets from its page, and what everybody else is refused."""

import http.client
import io
import json
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile as sf
import uvicorn
from browser import Browser
from PIL import Image

from denoise.infer.file import clean_file
from denoise.infer.remix import remix_file
from pipelines.serve.job import ServeJob
from pipelines.serve.server import application
from pipelines.serve.shelf import Held, Shelf, clean_name
from tests.io.sensor.makers import make_fit

TOKEN = "a-token-of-the-tests"
LIMITS = {"max_file": 2_000_000, "max_total": 3_000_000, "max_files": 6}


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """A server in a thread of this process."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.shelf = Shelf(ServeJob(**LIMITS))  # type: ignore[arg-type]
        app = application(self.shelf.job, self.shelf, self.port, TOKEN)
        self._server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.shelf.close()

    def send(
        self, method: str, path: str, body: bytes | str | None = None, host: str | None = None, **headers: str
    ) -> Reply:
        """Send a request with the token, unless `headers` has another; an empty header is left out."""
        fields = {"Authorization": f"Bearer {TOKEN}", "Host": host or f"127.0.0.1:{self.port}"}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        raw = body.encode() if isinstance(body, str) else body
        if raw is not None and "Content-Length" not in fields:
            fields["Content-Length"] = str(len(raw))
        for name, value in fields.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders(raw)
        answer = connection.getresponse()
        reply = Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        connection.close()
        return reply

    def upload(self, name: str, data: bytes, model: str = "median") -> Reply:
        while True:
            reply = self.send("POST", "/api/files", data, X_Name=name, X_Model=model)
            if reply.status != 429:
                return reply
            time.sleep(0.02)

    def cleaned(self, name: str, data: bytes, model: str = "median") -> dict[str, Any]:
        state: dict[str, Any] = self.upload(name, data, model).json()
        while state["status"] in ("waiting", "cleaning"):
            time.sleep(0.02)
            state = self.send("GET", f"/api/files/{state['id']}").json()
        return state

    def download(self, *names: str) -> Reply:
        path = self.send("POST", "/api/tickets", json.dumps({"ids": names})).json()["path"]
        return self.send("GET", path, Authorization="")


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()
    assert not server.shelf.root.exists()


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    yield running
    for name in list(running.shelf._held):
        while running.shelf._held[name].status == "cleaning":
            time.sleep(0.02)
        running.shelf.remove(name)
    assert running.shelf._busy == 0


@pytest.fixture(scope="module")
def photo() -> bytes:
    rng = np.random.default_rng(0)
    data = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (40, 60, 3), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


# ---- what it is for ------------------------------------------------------------------------------


def test_a_photo_comes_back_as_the_command_would_clean_it(
    server: Server, photo: bytes, tmp_path: Path
) -> None:
    state = server.cleaned("holiday/a.png", photo)
    assert (state["status"], state["model"], state["modality"]) == ("ok", "median", "image")
    (tmp_path / "a.png").write_bytes(photo)
    clean_file(tmp_path / "a.png", tmp_path / "b.png", "median")
    reply = server.download(state["id"])
    assert reply.body == (tmp_path / "b.png").read_bytes()
    assert reply.headers["content-disposition"] == 'attachment; filename="a.png"'
    view = server.send("GET", f"/api/files/{state['id']}/view").body.decode()
    assert 'class="slider"' in view
    assert str(server.shelf.root) not in view


def test_the_state_tells_how_far_a_photo_is(
    server: Server, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = list[float]()
    monkeypatch.setattr(Held, "share", property(lambda _: shares[-1], lambda _, share: shares.append(share)))
    assert server.cleaned("a.png", photo, "photo")["share"] == 1
    assert len(shares) > 2
    assert shares == sorted(shares)


def test_strength_mixes_without_the_model(
    server: Server, photo: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = server.cleaned("a.png", photo)
    monkeypatch.setattr("denoise.infer.file.clean_file", lambda *_: pytest.fail("the model ran again"))
    path = f"/api/files/{state['id']}/strength"
    assert server.send("POST", path, json.dumps({"strength": 0.4})).json()["strength"] == 0.4
    mixed = np.asarray(Image.open(io.BytesIO(server.download(state["id"]).body))).astype(int)
    (tmp_path / "a.png").write_bytes(photo)
    monkeypatch.undo()
    clean_file(tmp_path / "a.png", tmp_path / "b.png", "median", strength=0.4)
    assert np.abs(mixed - np.asarray(Image.open(tmp_path / "b.png"))).max() <= 1
    server.send("POST", path, json.dumps({"strength": 0}))
    assert server.download(state["id"]).body == photo
    shown = server.send("GET", f"/api/files/{state['id']}/view").body.decode()
    assert "(strength 100 %)" in shown  # the figures were not measured again


def test_what_cannot_be_mixed_says_why(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    sf.write(path, np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    state = server.cleaned("a.wav", path.read_bytes()[:9000], "spectral-gate")
    assert state["status"] == "salvaged"
    reply = server.send("POST", f"/api/files/{state['id']}/strength", json.dumps({"strength": 0.5}))
    assert reply.status == 400
    assert reply.json()["error"].startswith("a.wav: cut short")


def test_another_model_replaces_the_result(server: Server, photo: bytes) -> None:
    state = server.cleaned("a.png", photo)
    first = server.download(state["id"]).body
    reply = server.send("POST", f"/api/files/{state['id']}/model", json.dumps({"model": "gaussian"}))
    assert reply.status == 202
    while server.send("GET", f"/api/files/{state['id']}").json()["status"] == "cleaning":
        time.sleep(0.02)
    assert server.send("GET", f"/api/files/{state['id']}").json()["model"] == "gaussian"
    assert server.download(state["id"]).body != first


def test_all_results_come_as_one_archive(server: Server, photo: bytes) -> None:
    names = [server.cleaned(name, photo)["id"] for name in ("d/a.png", "d/A.png", "../../b.png")]
    with zipfile.ZipFile(io.BytesIO(server.download(*names).body)) as archive:
        assert archive.namelist() == ["d/a.png", "d/A (2).png", "b.png"]
        assert archive.testzip() is None


def test_a_bad_file_says_why_and_costs_nothing_else(server: Server, photo: bytes) -> None:
    state = server.cleaned("broken.png", photo[:60])
    assert state["status"] == "failed"
    assert state["error"]
    assert str(server.shelf.root) not in state["error"]
    assert server.send("POST", "/api/tickets", json.dumps({"ids": [state["id"]]})).status == 400
    assert server.cleaned("a.png", photo)["status"] == "ok"


def _animation(path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (24, 32), dtype=np.uint8)) for _ in range(2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _ride(path: Path) -> None:
    rng = np.random.default_rng(0)
    make_fit(path, np.rint(200 + rng.normal(0, 20, 300)).astype(int))


@pytest.mark.parametrize(
    ("name", "make", "written"), [("a.gif", _animation, "a.webp"), ("a.fit", _ride, "a.csv")]
)
def test_a_result_has_the_suffix_that_the_command_would_give(
    server: Server, tmp_path: Path, name: str, make: Callable[[Path], None], written: str
) -> None:
    from denoise import io as files

    make(tmp_path / name)
    clean_file(tmp_path / name, tmp_path / written, "median")
    state = server.cleaned(name, (tmp_path / name).read_bytes())
    assert (state["status"], state["name"]) == ("ok", name)
    reply = server.download(state["id"])
    assert written in reply.headers["content-disposition"]
    assert reply.body == (tmp_path / written).read_bytes()
    noisy, clean = (
        files.read(tmp_path / each, **({"columns": ["power"]} if name == "a.fit" else {}))[0]
        for each in (name, written)
    )
    for strength in (0.5, 0.0):
        path = f"/api/files/{state['id']}/strength"
        assert server.send("POST", path, json.dumps({"strength": strength})).status == 200
        (tmp_path / f"mixed-{written}").write_bytes(server.download(state["id"]).body)
        mixed, _ = files.read(
            tmp_path / f"mixed-{written}", **({"columns": ["power"]} if name == "a.fit" else {})
        )
        np.testing.assert_allclose(mixed, noisy + strength * (clean.astype(float) - noisy), atol=0.51)
    assert server.send("GET", f"/api/files/{state['id']}/view").status == 200


@pytest.mark.parametrize(("suffix", "model"), [("wav", "spectral-gate"), ("csv", "median")])
def test_remixes_are_what_the_strength_gives(tmp_path: Path, suffix: str, model: str) -> None:
    rng = np.random.default_rng(0)
    source = tmp_path / f"a.{suffix}"
    values = 0.1 * rng.standard_normal(4000) + np.sin(np.arange(4000) / 40) / 2
    if suffix == "wav":
        sf.write(source, values, 8000, subtype="FLOAT")
    else:
        source.write_text("time_s,x\n" + "".join(f"{n / 50},{v:.6f}\n" for n, v in enumerate(values)))
    clean_file(source, tmp_path / f"full.{suffix}", model)
    clean_file(source, tmp_path / f"half.{suffix}", model, strength=0.5)
    remix_file(source, tmp_path / f"full.{suffix}", tmp_path / f"mix.{suffix}", 0.5)

    def samples(name: str) -> np.ndarray:
        from denoise import io as files

        return files.read(tmp_path / f"{name}.{suffix}")[0]

    assert np.abs(samples("mix") - samples("half")).max() < 1e-5
    assert np.abs(samples("mix") - samples("full")).max() > 1e-3


# ---- what it refuses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "127.0.0.1.evil.example:{port}",
        "0.0.0.0:{port}",
    ],
)
def test_other_hosts_are_refused(server: Server, host: str) -> None:
    """A name that an attacker makes point to this machine (DNS rebinding)."""
    for path in ("/", "/api/models"):
        assert server.send("GET", path, host=host.format(port=server.port)).status == 421


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_names_of_this_machine_are_not(server: Server, host: str) -> None:
    assert server.send("GET", "/", host=f"{host}:{server.port}").status == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "null", "file://"]
)
def test_other_origins_are_refused(server: Server, photo: bytes, origin: str) -> None:
    origin = origin.format(port=server.port)
    assert server.send("POST", "/api/files", photo, Origin=origin).status == 403
    assert server.send("GET", "/api/models", Origin=origin).status == 403
    assert not server.shelf._held


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_requests_of_other_sites_are_refused(server: Server, site: str) -> None:
    assert server.send("GET", "/", Sec_Fetch_Site=site).status == 403


@pytest.mark.parametrize(
    "value",
    ["", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, f"Basic {TOKEN}", f"bearer {TOKEN}"],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/models"), ("POST", "/api/files"), ("DELETE", "/api/files/x")]
)
def test_nothing_works_without_the_token(server: Server, value: str, method: str, path: str) -> None:
    assert server.send(method, path, Authorization=value).status == 401


def test_the_token_is_nowhere_in_the_page(server: Server) -> None:
    reply = server.send("GET", "/", Authorization="")
    assert reply.status == 200
    assert TOKEN.encode() not in reply.body
    assert "set-cookie" not in reply.headers


def test_no_answer_allows_other_origins(server: Server) -> None:
    origin = f"http://127.0.0.1:{server.port}"
    for method, path in (("OPTIONS", "/api/files"), ("GET", "/api/models"), ("GET", "/")):
        headers = server.send(method, path, Origin=origin, Access_Control_Request_Method="POST").headers
        assert not [name for name in headers if name.startswith("access-control")]


def test_every_answer_has_the_headers_of_safety(server: Server) -> None:
    for path, status in (("/", 200), ("/api/models", 200), ("/api/files/x", 404), ("/nothing", 404)):
        reply = server.send("GET", path)
        assert reply.status == status
        assert reply.headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["x-frame-options"] == "DENY"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cache-control"] == "no-store"
        assert "server" not in reply.headers


@pytest.mark.parametrize(
    "name",
    [
        "../../../etc/cron.d/x.png",
        "/etc/passwd.png",
        "C:\\Windows\\x.png",
        "..%2f..%2fx.png",
        "a/../../x.png",
        "\\\\host\\share\\x.png",
    ],
)
def test_names_never_leave_the_folder_of_the_session(server: Server, photo: bytes, name: str) -> None:
    before = {path for path in server.shelf.root.parent.iterdir() if path.suffix == ".png"}
    state = server.cleaned(name, photo)
    assert state["status"] == "ok"
    assert ".." not in state["name"].split("/")
    assert not state["name"].startswith(("/", "\\"))
    inside = {path.name for path in (server.shelf.root / state["id"]).iterdir()}
    assert inside == {"input.png", "cleaned.png"}
    assert {path for path in server.shelf.root.parent.iterdir() if path.suffix == ".png"} == before


def test_names_are_text_in_the_view(server: Server, photo: bytes) -> None:
    name = "<img src=x onerror=hit()>\"'.png"
    state = server.cleaned(name, photo)
    view = server.send("GET", f"/api/files/{state['id']}/view").body.decode()
    assert "<img src=x" not in view
    assert "&lt;img src=x onerror=hit()&gt;" in view


@pytest.mark.parametrize(
    "name", ["a\r\nX-Evil: 1.png", "a\x00b.png", "\x1b[2J.png", "." * 50, "x" * 5000 + ".png", ""]
)
def test_strange_names_become_plain_ones(name: str) -> None:
    made = clean_name(name)
    assert made.isprintable()
    assert 0 < len(made) <= 120
    assert "\n" not in made


@pytest.mark.parametrize(
    "model", ["/etc/passwd", "../x.safetensors", "http://evil.example/x.safetensors", "nothing"]
)
def test_models_are_names_and_no_paths(server: Server, photo: bytes, model: str) -> None:
    reply = server.send("POST", "/api/files", photo, X_Name="a.png", X_Model=model)
    assert reply.status == 400
    assert "unknown model" in reply.json()["error"]
    assert not server.shelf._held


def test_a_file_above_the_limit_is_refused_before_it_is_read(server: Server) -> None:
    reply = server.send("POST", "/api/files", b"", Content_Length=str(LIMITS["max_file"] + 1))
    assert reply.status == 413
    assert "2,000,000" in reply.json()["error"]
    assert not server.shelf._held


def test_a_file_that_announces_less_than_it_sends_is_cut_off(server: Server) -> None:
    body = b"".join(b"10000\r\n" + bytes(0x10000) + b"\r\n" for _ in range(40)) + b"0\r\n\r\n"
    try:
        status = server.send(
            "POST", "/api/files", body, X_Model="median", Transfer_Encoding="chunked", Content_Length=""
        ).status
    except (ConnectionError, http.client.HTTPException):
        status = 413  # it closed the connection on the way
    assert status == 413
    assert not server.shelf._held


def test_the_session_holds_no_more_than_it_may(server: Server, photo: bytes) -> None:
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (700, 700, 3), dtype=np.uint8)).save(
        noise, "PNG"
    )
    assert server.cleaned("a.png", noise.getvalue(), "none")["status"] == "ok"
    assert server.cleaned("b.png", noise.getvalue(), "none")["status"] == "ok"
    assert server.upload("c.png", noise.getvalue(), "none").status == 413
    for name in list(server.shelf._held):
        assert server.send("DELETE", f"/api/files/{name}").status == 204
    for number in range(LIMITS["max_files"]):
        assert server.cleaned(f"{number}.png", photo)["status"] == "ok"
    assert server.upload("more.png", photo).status == 413


def test_more_than_one_file_a_core_waits(
    server: Server, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, cores = threading.Event(), server.shelf._workers._max_workers
    monkeypatch.setattr("denoise.infer.file.clean_file", lambda *_: go.wait() and 1 / 0)
    replies = [server.send("POST", "/api/files", photo, X_Name="a.png") for _ in range(cores + 1)]
    go.set()
    assert [reply.status for reply in replies] == [201] * cores + [429]
    assert replies[-1].headers["retry-after"] == "1"


def test_an_upload_that_breaks_off_leaves_nothing(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.putrequest("POST", "/api/files")
    connection.putheader("Authorization", f"Bearer {TOKEN}")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"half")
    until = time.monotonic() + 30
    while not server.shelf._busy:
        assert time.monotonic() < until
        time.sleep(0.02)
    connection.close()
    while server.shelf._held or server.shelf._busy or any(server.shelf.root.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("strength", '{"strength": 2}'),
        ("strength", '{"strength": -0.1}'),
        ("strength", '{"strength": NaN}'),
        ("strength", '{"strength": 1' + 400 * "0" + "}"),
        ("strength", '{"strength": "1"}'),
        ("strength", '{"strength": true}'),
        ("strength", "[]"),
        ("strength", "nonsense"),
        ("strength", "[" * 90_000),
        ("model", '{"model": "/etc/passwd"}'),
        ("model", '{"model": 1}'),
    ],
)
def test_wrong_requests_get_a_sentence(server: Server, photo: bytes, path: str, body: str) -> None:
    name = server.cleaned("a.png", photo)["id"]
    reply = server.send("POST", f"/api/files/{name}/{path}", body)
    assert reply.status == 400
    assert reply.json()["error"]
    assert server.send("POST", f"/api/files/{name}/{path}", " " * 200_000).status == 413


@pytest.mark.parametrize(
    "path",
    [
        "/api/files/..",
        "/api/files/%2e%2e%2f",
        "/api/files/x/view",
        "/download/x",
        "/download/..%2f..%2fetc%2fpasswd",
        "/../../etc/passwd",
    ],
)
def test_what_is_not_here_is_not_found(server: Server, path: str) -> None:
    assert server.send("GET", path).status == 404


def test_a_ticket_works_once(server: Server, photo: bytes) -> None:
    name = server.cleaned("a.png", photo)["id"]
    path = server.send("POST", "/api/tickets", json.dumps({"ids": [name]})).json()["path"]
    assert server.send("GET", path, Authorization="").status == 200
    assert server.send("GET", path, Authorization="").status == 404


def test_old_files_are_removed(server: Server, photo: bytes) -> None:
    state = server.cleaned("a.png", photo)
    server.shelf.get(state["id"]).started -= server.shelf.job.keep_for - 60
    server.shelf.sweep()
    assert server.send("GET", f"/api/files/{state['id']}").status == 200
    server.shelf.get(state["id"]).started -= 60
    server.shelf.sweep()
    assert server.send("GET", f"/api/files/{state['id']}").status == 404
    assert not any(server.shelf.root.iterdir())


def test_only_the_owner_may_enter_the_folder(server: Server) -> None:
    assert server.shelf.root.stat().st_mode & 0o077 == 0


# ---- the page in a browser -----------------------------------------------------------------------


@pytest.mark.browser
def test_the_page_cleans_mixes_and_removes(server: Server, photo: bytes) -> None:
    encoded = list(photo)
    with Browser() as browser:
        browser.open(f"http://127.0.0.1:{server.port}/#{TOKEN}")
        assert browser.evaluate("location.href") == f"http://127.0.0.1:{server.port}/"
        browser.wait("document.querySelectorAll('#model option').length > 5")
        browser.evaluate("document.querySelector('#model').value = 'median'")
        hostile = "<img src=x onerror=window.hit=1>.png"
        files = f"[new File([new Uint8Array({encoded})], 'a'), {json.dumps(hostile)}]"
        browser.evaluate(f"addFiles([{files}, [new File(['no picture'], 'b'), 'b.png']])")
        browser.wait("document.querySelectorAll('.badge.ok, .badge.failed').length === 2")
        assert browser.evaluate("document.querySelector('#count').textContent") == "1 of 2 done, 1 failed"
        assert browser.evaluate("document.querySelector('.item-name').textContent") == hostile
        assert browser.evaluate("window.hit") is None
        assert browser.evaluate("document.querySelector('.model').value") == "median"
        browser.drag(".compare .slider", (0.5, 0.5), (0.2, 0.5))
        first = browser.evaluate("document.querySelector('.two').src")
        browser.evaluate(
            "(range => { range.value = 0; range.dispatchEvent(new Event('change')) })"
            "(document.querySelector('.strength'))"
        )
        browser.wait(f"document.querySelector('.two').src !== {json.dumps(first)}")
        assert browser.evaluate("document.querySelector('.two').src === document.querySelector('.one').src")
        browser.evaluate("window.old = true; location.reload()")
        browser.wait("!window.old && document.querySelectorAll('.badge.ok, .badge.failed').length === 2")
        assert browser.evaluate("document.querySelector('.model').value") == "median"
        assert browser.evaluate("document.querySelector('.strength').value") == "0"
        browser.click("#remove-all")
        browser.wait("!document.querySelector('.item')")
        browser.wait("document.querySelector('#tools').hidden")
        assert browser.problems == []
        outside = [
            url
            for url in browser.requests
            if not url.startswith((f"http://127.0.0.1:{server.port}/", "data:"))
        ]
        assert outside == []
    assert not server.shelf._held
