"""Fixtures of the command line's tests."""

from tests.cli.running import server

__all__ = ["server"]
