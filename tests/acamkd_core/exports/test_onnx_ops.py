"""Region pooling: the graph's RoiAlign and torchvision's give the same, however cells are sampled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from acamkd_core.exports.onnx_ops import translations
from acamkd_core.graph_ops import pool_regions


class Pool(nn.Module):
    def __init__(self, sampling_ratio: int, aligned: bool) -> None:
        super().__init__()
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    def forward(self, maps: Tensor, regions: Tensor, here: Tensor) -> Tensor:
        return pool_regions(maps, regions, here, 8, sampling_ratio=self.sampling_ratio, aligned=self.aligned)


@pytest.mark.parametrize(("sampling_ratio", "aligned"), [(2, False), (2, True), (0, False), (0, True)])
def test_regions_are_pooled_alike(sampling_ratio: int, aligned: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 12, 16)  # of an image of 96 x 128
    low = torch.rand(40, 2) * 60
    regions = torch.cat([torch.randint(0, 2, (40, 1)).float(), low, low + torch.rand(40, 2) * 60], dim=1)
    regions[0, 1:] = 0  # as proposals are filled up
    regions[1, 1:] = torch.tensor([0.0, 40, 128, 43])  # wide and flat
    regions[2, 1:] = torch.tensor([120.0, 0, 128, 96])  # to the border
    here = torch.arange(40) % 3 != 0
    module = Pool(sampling_ratio, aligned).eval()
    expected = module(maps, regions, here)
    program = torch.onnx.export(
        module, (maps, regions, here), dynamo=True, opset_version=18, custom_translation_table=translations(), verbose=False
    )  # fmt: skip
    assert program is not None
    program.save(str(tmp_path / "pool.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "pool.onnx", providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    (found,) = session.run(None, dict(zip(names, (maps.numpy(), regions.numpy(), here.numpy()), strict=True)))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert expected[here].abs().sum() > 0
    assert expected[~here].abs().sum() == 0
