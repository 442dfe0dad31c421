"""What the SDK raises: refusals of the server, and a server that cannot be reached."""

from __future__ import annotations

from typing import Any

import httpx
from pydantic import ValidationError

from acamkd_core.spec.api import Problem
from acamkd_core.spec.errors import CoreError, ErrorInfo


class ApiError(CoreError):
    """The server refused. `status` is the HTTP status; `problems` holds every mistake with its field path."""

    def __init__(self, problem: Problem, *, status: int, request_id: str | None = None) -> None:
        super().__init__(problem.code, problem.message, hint=problem.hint, field=problem.field, value=problem.value)
        self.status = status
        self.request_id = request_id
        self.problems: list[ErrorInfo] = problem.problems or [self.info]


class Unreachable(CoreError):
    """Nobody answered at the server's address, or the connection broke."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            "server.unreachable",
            f"no answer from {url}: {reason}",
            hint="start one with `acamkd up`, or set ACAMKD_URL",
            value=url,
        )


def api_error(response: httpx.Response) -> ApiError:
    """The error behind an answer with status 400 or more. The body must have been read."""
    request_id = response.headers.get("x-request-id")
    try:
        problem = Problem.model_validate(_json(response))
    except (ValueError, ValidationError):
        # Not one of ours: a proxy, or something else that listens on that port.
        problem = Problem(
            code="http.error",
            message=f"{response.request.method} {response.request.url.path} was answered with {response.status_code}",
            hint="is this address an acamkd server?",
            value=str(response.request.url),
        )
    return ApiError(problem, status=response.status_code, request_id=request_id)


def _json(response: httpx.Response) -> Any:
    return response.json()
