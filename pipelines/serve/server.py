"""Routes of the server, and its start and end."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import unquote

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from denoise.errors import OutputError, UsageError
from pipelines.serve.guard import Guard
from pipelines.serve.job import ServeJob
from pipelines.serve.shelf import BusyError, Held, LimitError, Shelf
from pipelines.view.page import asset, content_policy, environment

_SWEEP_S = 30.0
_MAX_BODY = 100_000  # of a request that is no upload
_SCRIPTS = ("view.js", "serve.js")

Handler = Callable[[Request], Awaitable[Response]]


def application(job: ServeJob, shelf: Shelf, port: int, token: str) -> Guard:
    """Build the application for a port and the secret of the session."""
    routes = [
        Route("/", _page),
        Route("/api/models", _models),
        Route("/api/files", _handled(_list), methods=["GET"]),
        Route("/api/files", _handled(_upload), methods=["POST"]),
        Route("/api/files/{id}", _handled(_state), methods=["GET"]),
        Route("/api/files/{id}", _handled(_remove), methods=["DELETE"]),
        Route("/api/files/{id}/view", _handled(_view)),
        Route("/api/files/{id}/strength", _handled(_strength), methods=["POST"]),
        Route("/api/files/{id}/model", _handled(_model), methods=["POST"]),
        Route("/api/tickets", _handled(_ticket), methods=["POST"]),
        Route("/download/{ticket}", _handled(_download)),
    ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(_SWEEP_S)
                await run_in_threadpool(shelf.sweep)

        task = asyncio.create_task(sweep())
        yield
        task.cancel()

    app = Starlette(routes=routes, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.state.job, app.state.shelf = job, shelf
    return Guard(app, port, token, content_policy(_SCRIPTS, connect="'self'"))


def serve(job: ServeJob, on_start: Callable[[str], object]) -> None:
    """Serve until Ctrl-C or SIGTERM; then remove every file. `on_start` gets the address with the token.

    Raises:
        OutputError: The port is taken.
    """
    import uvicorn

    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", job.port))
        listening.listen()  # a browser that is faster than the start waits, rather than being refused
    except OSError as error:
        raise OutputError(f"port {job.port} of 127.0.0.1: {error.strerror}; choose another --port") from error
    port, token = listening.getsockname()[1], secrets.token_urlsafe(24)
    shelf = Shelf(job)
    config = uvicorn.Config(
        application(job, shelf, port, token),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    try:
        address = f"http://127.0.0.1:{port}/#{token}"  # what follows # is not sent
        on_start(address)
        if job.open:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):  # the way to end it
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        shelf.close()
        listening.close()


def _handled(handler: Callable[[Request, Shelf], Awaitable[Response]]) -> Handler:
    """Turn errors into sentences with their status."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request, request.app.state.shelf)
        except BusyError as error:
            return JSONResponse({"error": str(error)}, 429, {"Retry-After": "1"})
        except LimitError as error:
            return JSONResponse({"error": str(error)}, 413)
        except KeyError:
            return JSONResponse({"error": "is not here, or no longer"}, 404)
        except UsageError as error:
            return JSONResponse({"error": str(error)}, 400)
        except ClientDisconnect:
            return Response(status_code=400)

    return handle


async def _page(_request: Request) -> Response:
    import denoise

    html = (
        environment()
        .get_template("serve.html")
        .render(
            style=Markup(asset("view.css")),
            scripts=[Markup(asset(name)) for name in _SCRIPTS],
            version=denoise.__version__,
        )
    )
    return HTMLResponse(html)


async def _models(_request: Request) -> Response:
    from denoise.infer.catalogue import catalogue

    return JSONResponse([{"name": row.name, "cleans": row.modalities} for row in catalogue()])


async def _upload(request: Request, shelf: Shelf) -> Response:
    """Receive one file as the body; its name is a header, and no path of this machine."""
    job: ServeJob = request.app.state.job
    announced = request.headers.get("content-length", "0")
    if not announced.isdigit() or int(announced) > job.max_file:
        raise LimitError(f"the file is larger than {job.max_file:,} bytes (--max-file)")
    name = unquote(request.headers.get("x-name", "file")[:2000])
    held = shelf.open(name, request.headers.get("x-model", ""))
    complete = False
    try:
        with held.source.open("xb") as file:
            async for chunk in request.stream():
                held.size_bytes += len(chunk)
                if held.size_bytes > job.max_file:
                    raise LimitError(f"the file is larger than {job.max_file:,} bytes (--max-file)")
                if shelf.room() < 0:
                    raise LimitError(f"{job.max_total:,} bytes are here; remove some files first")
                await run_in_threadpool(file.write, chunk)
        if held.size_bytes == 0:
            raise UsageError(f"{held.name}: is empty")
        complete = True
    except OSError as error:
        raise LimitError(f"{held.name}: cannot be stored: {error.strerror}") from error
    finally:
        if not complete:
            shelf.release()
            held.status = "failed"
            shelf.remove(held.id)
    shelf.submit(held)
    return JSONResponse(held.state(), 201)


async def _list(_request: Request, shelf: Shelf) -> Response:
    return JSONResponse(shelf.states())


def _held(request: Request, shelf: Shelf) -> Held:
    return shelf.get(request.path_params["id"])


async def _state(request: Request, shelf: Shelf) -> Response:
    return JSONResponse(_held(request, shelf).state())


async def _remove(request: Request, shelf: Shelf) -> Response:
    held = _held(request, shelf)
    if held.status == "cleaning":
        raise BusyError(f"{held.name}: is being cleaned")
    await run_in_threadpool(shelf.remove, held.id)
    return Response(status_code=204)


async def _view(request: Request, shelf: Shelf) -> Response:
    held = _held(request, shelf)
    if held.entry is None or held.status == "cleaning":
        raise UsageError(f"{held.name}: has no result yet")
    return HTMLResponse(await run_in_threadpool(shelf.view, held))


async def _strength(request: Request, shelf: Shelf) -> Response:
    held, wanted = _held(request, shelf), (await _body(request)).get("strength")
    if isinstance(wanted, bool) or not isinstance(wanted, int | float) or not 0 <= wanted <= 1:
        raise UsageError("strength: expected a number from 0 to 1")
    await run_in_threadpool(partial(shelf.remix, held, float(wanted)))
    return JSONResponse(held.state())


async def _model(request: Request, shelf: Shelf) -> Response:
    held, model = _held(request, shelf), (await _body(request)).get("model")
    if not isinstance(model, str):
        raise UsageError("model: expected a name")
    shelf.clean_again(held, model)
    return JSONResponse(held.state(), 202)


async def _ticket(request: Request, shelf: Shelf) -> Response:
    ids = (await _body(request)).get("ids")
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise UsageError("ids: expected a list of files")
    return JSONResponse({"path": f"/download/{shelf.ticket(ids)}"})


async def _download(request: Request, shelf: Shelf) -> Response:
    path, name = await run_in_threadpool(shelf.redeem, request.path_params["ticket"])
    after = BackgroundTask(path.unlink, missing_ok=True) if path.parent == shelf.root else None  # an archive
    return FileResponse(path, media_type="application/octet-stream", filename=name, background=after)


async def _body(request: Request) -> dict[str, Any]:
    """Read a small JSON object."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY:
            raise LimitError("the request is too long")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UsageError("the request is no JSON") from error
    if not isinstance(data, dict):
        raise UsageError("the request is no JSON object")
    return data
