"""The way in: `Client()`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType

import httpx

from acamkd_core.client.errors import Unreachable
from acamkd_core.client.jobs import Jobs
from acamkd_core.client.resources import Datasets, Keys, Models, Workers
from acamkd_core.client.stream import follow
from acamkd_core.client.transport import Transport
from acamkd_core.spec.api import CompareAnswer, Health, StreamEvent

DEFAULT_URL = "http://127.0.0.1:8080"


class Client:
    """A server, as Python sees it. Usable as a context manager; calls from several threads are fine.

    Args:
        url: the server's address; automatic: ACAMKD_URL, else http://127.0.0.1:8080.
        api_key: automatic: ACAMKD_API_KEY; a loopback server needs none.
        timeout: seconds for one answer.

    Example:
        >>> job = Client().jobs.create("job.yaml", set={"seed": 1})  # doctest: +SKIP
        >>> job.wait(progress=True).artifacts["onnx"].download("out/")  # doctest: +SKIP
    """

    def __init__(self, url: str | None = None, api_key: str | None = None, *, timeout: float = 30.0) -> None:
        self.transport = Transport(
            url or os.environ.get("ACAMKD_URL") or DEFAULT_URL,
            api_key or os.environ.get("ACAMKD_API_KEY") or None,
            timeout=timeout,
        )
        self.jobs = Jobs(self.transport)
        self.datasets = Datasets(self.transport)
        self.models = Models(self.transport)
        self.workers = Workers(self.transport)
        self.keys = Keys(self.transport)

    @property
    def url(self) -> str:
        """The server's address."""
        return self.transport.url

    def compare(self, *refs: str, names: str = "val/miou") -> CompareAnswer:
        """Jobs side by side; the first is the baseline."""
        return self.jobs.compare(*refs, names=names)

    def events(self, *, after: str | None = None) -> Iterator[StreamEvent]:
        """What happens to all jobs of the project, from now on (or after `job:seq,...`), for ever."""
        return follow(self.transport, jobs=None, after=after)

    def health(self) -> Health:
        """Ready, degraded or unavailable, with the reasons. Raises Unreachable."""
        try:
            response = self.transport.http.get(f"{self.url}/readyz")
        except httpx.TransportError as error:
            raise Unreachable(self.url, str(error) or type(error).__name__) from None
        return Health.model_validate_json(response.content)

    def alive(self) -> bool:
        """Whether the server answers at all. Never raises."""
        try:
            return self.transport.http.get(f"{self.url}/healthz", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Closes all connections."""
        self.transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
