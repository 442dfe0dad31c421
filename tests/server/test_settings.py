"""The example file names every setting with its default, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from server.settings import Settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"


def example() -> dict[str, str]:
    lines = [line for line in EXAMPLE.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_the_example_file_is_complete_and_true(monkeypatch: pytest.MonkeyPatch) -> None:
    values = example()
    shared = {f"ACAMKD_{name.upper()}" for name in Settings.model_fields}
    assert shared <= set(values)
    plain = Settings()
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert Settings() == plain


def test_lists_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACAMKD_ALLOWED_HOSTS", "a.example, b.example,")
    assert Settings().allowed_hosts == ("a.example", "b.example")
    monkeypatch.setenv("ACAMKD_PORT", "70000")
    with pytest.raises(ValidationError, match="port"):
        Settings()


def test_the_secret_is_not_printed() -> None:
    assert "hush" not in repr(Settings(storage_secret="hush"))
