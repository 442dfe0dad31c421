from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    fleet = Bench(tmp_path)
    yield fleet
    fleet.close()
