"""The door: who may speak to the server under which name, and what every answer tells the browser.

A page on a foreign site can make a browser send requests to a loopback server, and can rebind its own name to
127.0.0.1. So the Host must be one of ours and the Origin, when there is one, must be the server itself, with and
without keys. Written as plain ASGI, because streams must pass through without being buffered.
"""

from __future__ import annotations

import re
import time
import uuid
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from acamkd_core.spec.errors import ErrorInfo
from server.bodies import is_text
from server.errors import bug, problem_response, trace

log = structlog.get_logger("server.request")

UPLOAD_PATHS = frozenset({"/api/v1/datasets/upload"})  # counted by their route, against a limit of their own
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
CSP = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",  # onnxruntime-web compiles WebAssembly
        "style-src 'self' 'unsafe-inline'",  # the component library writes style attributes
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ]
)
SECURITY_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


def host_name(value: str) -> str | None:
    """The host of a `host[:port]` header without port and brackets, lower case; None when it is malformed."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?", value)
    return match.group(1).strip("[]").lower().rstrip(".") if match else None


def origin_allowed(origin: str, host_header: str, allowed: frozenset[str]) -> bool:
    """Whether a page of `origin` may call: the server's own pages, and the origins that the operator listed."""
    if origin in allowed:
        return True
    parts = urlsplit(origin)
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host_header.lower()


class Door:
    """Checks Host and Origin, adds the security headers and a request id, logs one line a request."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], origins: frozenset[str], max_body: int) -> None:
        self.app = app
        self.max_body = max_body
        self.hosts = frozenset(host.lower() for host in hosts) | LOOPBACK_NAMES
        self.origins = origins

    def _refusal(self, headers: Headers, path: str, query: bytes) -> tuple[int, ErrorInfo] | None:
        host = headers.get("host", "")
        if host_name(host) not in self.hosts:
            hint = "open the server under its own name, or list the name in ACAMKD_ALLOWED_HOSTS"
            return 421, ErrorInfo(
                code="request.wrong_host", message="this server does not answer to that host name", hint=hint
            )
        origin = headers.get("origin")
        if origin is not None and not origin_allowed(origin, host, self.origins):
            hint = "use the server's own dashboard, or list the origin in ACAMKD_ALLOWED_ORIGINS"
            return 403, ErrorInfo(
                code="request.foreign_origin", message="requests from other sites are refused", hint=hint
            )
        length = headers.get("content-length", "")
        if length.isascii() and length.isdigit() and int(length) > self.max_body and path not in UPLOAD_PATHS:
            return 413, ErrorInfo(code="request.too_large", message=f"a request has at most {self.max_body} bytes")
        if not is_text(path) or b"%00" in query:
            return 422, ErrorInfo(code="request.invalid", message="the address holds what is not text", field="path")
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = headers.get("x-request-id", "")
        if not _REQUEST_ID.match(request_id):
            request_id = uuid.uuid4().hex
        status = 0
        started = time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    answer.setdefault(name, value)
                answer["x-request-id"] = request_id
                if scope["path"].startswith("/api/"):
                    answer.setdefault("cache-control", "no-store")
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                if (refusal := self._refusal(headers, scope["path"], scope["query_string"])) is not None:
                    await problem_response(*refusal)(scope, receive, send_with_headers)
                else:
                    await self.app(scope, receive, send_with_headers)
            except Exception as error:
                log.error("bug", path=scope["path"], exception=trace(error))
                if status:  # the answer is under way: all that is left is to break it off
                    raise
                await bug()(scope, receive, send_with_headers)
            finally:
                log.info(
                    "request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status,
                    ms=round(1000 * (time.perf_counter() - started), 1),
                )
