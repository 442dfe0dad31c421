"""Fixtures of the SDK's tests."""

from collections.abc import Iterator

import pytest

from acamkd_core.client import Client
from tests.cli.running import RunningServer, server

__all__ = ["server"]


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    """The SDK on the module's server."""
    with Client(server.url) as made:
        yield made
