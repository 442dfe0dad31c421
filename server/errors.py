"""Every refusal as one shape: `application/problem+json` with a code, a sentence, a hint and the field.

`CoreError` says what the user did wrong; its code decides the HTTP status. Bugs of ours become a 500 that says
nothing of the inside; the log has it, under the request's id.
"""

from __future__ import annotations

import traceback
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from starlette.exceptions import HTTPException

from acamkd_core.spec.api import Problem
from acamkd_core.spec.errors import CoreError, ErrorInfo, SpecInvalid

log = structlog.get_logger("server.errors")

# The last word of a code, e.g. `job.not_found`, says what kind of refusal it is; everything else is a 422.
STATUS_BY_SUFFIX = {
    "not_found": 404,
    "exists": 409,
    "conflict": 409,
    "not_allowed": 409,
    "in_use": 409,
    "unauthorized": 401,
    "forbidden": 403,
    "too_large": 413,
    "wrong_type": 415,
    "range": 416,
    "wrong_host": 421,
    "unavailable": 503,
    "disk_full": 507,
    "name_taken": 409,
    "illegal_transition": 409,
    "idempotency_conflict": 409,
}
STATUS_BY_CODE = {"storage.missing": 404, "storage.full": 507, "storage.corrupt": 500}


def status_of(code: str) -> int:
    """HTTP status of an error code."""
    return STATUS_BY_CODE.get(code) or STATUS_BY_SUFFIX.get(code.rpartition(".")[2], 422)


def problem_body(info: ErrorInfo, problems: list[ErrorInfo] | None = None) -> dict[str, Any]:
    """`Problem` as JSON-ready data."""
    return Problem(**info.model_dump(), problems=problems or [info]).model_dump(mode="json")


def problem_response(
    status: int, info: ErrorInfo, problems: list[ErrorInfo] | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error answer."""
    return JSONResponse(
        problem_body(info, problems), status_code=status, headers=headers, media_type="application/problem+json"
    )


def trace(error: BaseException) -> str:
    """A traceback as text. Loggers that draw local variables take a minute for one, and print keys."""
    return "".join(traceback.format_exception(error)).rstrip()


async def _core_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, CoreError)
    problems = error.problems if isinstance(error, SpecInvalid) else None
    status = status_of(error.code)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return problem_response(status, error.info, problems, headers)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = []
    for item in error.errors():
        where, *path = item["loc"]
        value = item.get("input")
        problems.append(
            ErrorInfo(
                code={"missing": "request.missing", "extra_forbidden": "request.unknown_key"}.get(
                    item["type"], "request.invalid"
                ),
                message=item["msg"].removeprefix("Value error, "),
                field=".".join(str(part) for part in path) or str(where),
                value=value if isinstance(value, (str, int, float, bool)) else None,
            )
        )
    return problem_response(422, problems[0], problems)


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = 422 if error.status_code == 400 else error.status_code  # 400: a body that no parser reads
    code = {404: "route.not_found", 405: "route.method", 413: "request.too_large", 422: "request.invalid"}.get(
        status, "request.http"
    )
    info = ErrorInfo(code=code, message=str(error.detail))
    return problem_response(status, info, headers=dict(error.headers or {}))


async def _database_error(request: Request, error: Exception) -> JSONResponse:
    # The transaction is gone: nothing of the request was kept, and saying so with a 5xx lets clients try again.
    log.error("database_error", path=request.url.path, exception=trace(error))
    if isinstance(error, IntegrityError):
        info = ErrorInfo(code="request.conflict", message="another request changed the same thing", hint="try again")
        return problem_response(409, info)
    busy = isinstance(error, OperationalError)
    info = ErrorInfo(
        code="database.unavailable" if busy else "server.error",
        message="the database did not accept the change; nothing was saved",
        hint="try again in a moment",
    )
    return problem_response(503 if busy else 500, info)


def bug() -> JSONResponse:
    """The answer to a mistake of ours: nothing of the inside, and where to look."""
    info = ErrorInfo(
        code="server.error",
        message="the server failed on this request; nothing was saved",
        hint="the server's log has the details under the request id of the X-Request-Id header",
    )
    return problem_response(500, info)


def install(app: FastAPI) -> None:
    """Registers the handlers. Bugs are answered by the door, which is outermost and adds the headers."""
    app.add_exception_handler(CoreError, _core_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(SQLAlchemyError, _database_error)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route: the statuses with which it may refuse."""
    meaning = {
        401: "A key is needed, or is not known.",
        403: "The request comes from another site.",
        404: "No such thing in this project.",
        409: "The state or an earlier request forbids it.",
        413: "Too large.",
        415: "Not a media type that this route reads.",
        416: "The range lies outside the file.",
        421: "The server does not answer to this host name.",
        422: "The input is wrong; every problem is listed with its field.",
        500: "The server failed; nothing was saved.",
        503: "A part of the platform is not available.",
    }
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"model": Problem, "description": meaning[status], "content": content} for status in statuses}
