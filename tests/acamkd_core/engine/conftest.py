from __future__ import annotations

import pytest
import torch

from tests.acamkd_core.engine.world import World, go


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Scenes and a teacher, made once."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("world")
    result, _ = go(folder / "teacher", folder, exports=["safetensors"], seed=7)
    assert result.status == "succeeded", result.error
    return World(folder, folder / "teacher" / "exports" / "model.safetensors")
