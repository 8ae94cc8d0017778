"""Who may talk to the server: this machine's browser, on its own page, with the token of this session."""

from __future__ import annotations

import hmac

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = ("/", "/favicon.ico")  # without a secret
_TICKETS = "/download/"  # whose address is the secret


class Guard:
    """Refuses foreign hosts, origins and requests without the token, and adds the headers of every answer.

    A page of another site can send requests to 127.0.0.1. Its Origin gives it away; a name that it makes
    point here (DNS rebinding) is not a host of ours; and it does not know the token, which is no cookie that
    a browser would add by itself. There are no CORS headers, so it cannot read an answer either.
    """

    def __init__(self, app: ASGIApp, port: int, token: str, policy: str) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._origins = {f"http://{host}" for host in self._hosts}
        self._token = f"Bearer {token}".encode()
        self._headers = {
            "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            status, sentence = refusal
            await JSONResponse({"error": sentence}, status)(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or hosts[0].decode("latin-1") not in self._hosts:
            return 421, "this server answers to 127.0.0.1 only"
        for origin in headers.get(b"origin", []):
            if origin.decode("latin-1") not in self._origins:
                return 403, "the request comes from another page"
        if any(site not in (b"same-origin", b"none") for site in headers.get(b"sec-fetch-site", [])):
            return 403, "the request comes from another page"
        path = scope["path"]
        if path in _OPEN or path.startswith(_TICKETS):
            return None
        given = headers.get(b"authorization", [])
        if len(given) != 1 or not hmac.compare_digest(given[0], self._token):
            return 401, "the token of this session is missing: open the address that denoise serve printed"
        return None
