"""HTTP with retries. Only calls that may safely be repeated are repeated."""

from __future__ import annotations

import ipaddress
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter

import acamkd_core
from acamkd_core.client.errors import ApiError, Unreachable, api_error
from acamkd_core.spec.api import Problem
from acamkd_core.spec.errors import CoreError

M = TypeVar("M", bound=BaseModel)

RETRIES = 3
FIRST_DELAY, LONGEST_DELAY = 0.2, 5.0
_TRANSIENT = frozenset({429, 502, 503, 504})
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})


def is_loopback(url: str) -> bool:
    """Whether a server's address is this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def backoff(attempt: int, retry_after: str | None = None) -> float:
    """Seconds before try number `attempt` + 1 (from 0): doubled each time, half of it at random."""
    if retry_after is not None and retry_after.isdigit():
        return min(float(retry_after), LONGEST_DELAY)
    delay: float = min(FIRST_DELAY * 2**attempt, LONGEST_DELAY)
    return delay * (0.5 + random.random() / 2)


class Transport:
    """One connection pool to one server.

    Args:
        url: the server's address, without `/api/v1`.
        api_key: sent as a bearer token when given.
        timeout: seconds for one answer.
    """

    def __init__(self, url: str, api_key: str | None, *, timeout: float = 30.0) -> None:
        url = url.rstrip("/")
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise CoreError(
                "client.url", f"{url!r} is not a server's address", hint="e.g. http://127.0.0.1:8080", value=url
            )
        self.url = url
        headers = {"User-Agent": f"acamkd/{acamkd_core.__version__}"}
        if api_key and (key := api_key.strip()):  # a file's last line break is no part of a key
            if not (key.isascii() and key.isprintable()):
                raise CoreError("client.api_key", "the API key holds characters that no key has", hint="ACAMKD_API_KEY")
            headers["Authorization"] = f"Bearer {key}"
        self.http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers=headers,
            timeout=httpx.Timeout(timeout, connect=5.0),
            trust_env=not is_loopback(url),  # a proxy of the environment cannot reach this machine's loopback
        )

    def close(self) -> None:
        """Closes all connections."""
        self.http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool | None = None,
        headers: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> httpx.Response:
        """One call. `repeatable` overrides the method's own nature (a POST with an Idempotency-Key is).

        Raises:
            ApiError: the server refused.
            Unreachable: no answer, after the retries.
        """
        tries = RETRIES if (method in _IDEMPOTENT if repeatable is None else repeatable) else 0
        attempt = 0
        while True:
            try:
                response = self.http.request(method, path, headers=headers, **arguments)
            except httpx.TransportError as error:
                # Nothing was sent when the connection itself failed: that may be repeated whatever the method is.
                unsent = isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout))
                if attempt >= (RETRIES if unsent else tries):
                    raise Unreachable(self.url, str(error) or type(error).__name__) from None
                time.sleep(backoff(attempt))
            else:
                if response.status_code < 400:
                    return response
                if response.status_code not in _TRANSIENT or attempt >= tries:
                    raise api_error(response)
                time.sleep(backoff(attempt, response.headers.get("retry-after")))
            attempt += 1

    def get(self, model: type[M], path: str, **params: Any) -> M:
        """GET as a read model; parameters that are None are left out."""
        return self._parse(model, self.request("GET", path, params=_given(params)))

    def send(self, model: type[M], method: str, path: str, *, json: Any = None, **arguments: Any) -> M:
        """A call with a JSON body (or none) as a read model."""
        if json is not None:
            arguments["json"] = json
        return self._parse(model, self.request(method, path, **arguments))

    def _parse(self, model: type[M], response: httpx.Response) -> M:
        try:
            return TypeAdapter(model).validate_json(response.content)
        except ValueError:
            problem = Problem(
                code="http.not_understood",
                message=f"the answer to {response.request.url.path} is not what this version understands",
                hint="client and server should have the same version",
                value=self.url,
            )
            raise ApiError(problem, status=response.status_code) from None

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, read_timeout: float = 30.0, **params: Any
    ) -> Iterator[httpx.Response]:
        """A GET whose body is read bit by bit. No retries: callers know where they were.

        Raises:
            ApiError: the server refused.
            Unreachable: the connection could not be made, or broke while it was read.
        """
        try:
            with self.http.stream(
                "GET", path, params=_given(params), headers=headers, follow_redirects=True,
                timeout=httpx.Timeout(read_timeout, connect=5.0),
            ) as response:  # fmt: skip
                if response.status_code >= 400:
                    response.read()
                    raise api_error(response)
                yield response
        except httpx.TransportError as error:
            raise Unreachable(self.url, str(error) or type(error).__name__) from None


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}
