"""PSPNet: pooled by hand, under another project's tensor names, and the counts of the Cityscapes tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from acamkd_core.engine.profile import count_macs, count_parameters
from acamkd_core.models.base import TaskModel
from acamkd_core.models.pspnet import GridPooling
from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.archs import Arch
from acamkd_core.spec.errors import CoreError
from acamkd_core.spec.labels import arch_label
from acamkd_core.spec.models import Preprocess
from acamkd_core.spec.presets import PRESETS
from tests.acamkd_core.models.cirkd_reference import CirkdPSPNet
from tests.acamkd_core.models.conftest import scramble
from tests.acamkd_core.models.test_families import build

ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)


def grid_means(x_CHW: np.ndarray, cells: int) -> np.ndarray:
    """Mean of each cell; cell i of n covers floor(i L / n) to ceil((i + 1) L / n)."""
    _, height, width = x_CHW.shape

    def span(index: int, length: int) -> slice:
        return slice(index * length // cells, -(-(index + 1) * length // cells))

    return np.array(
        [
            [[channel[span(i, height), span(j, width)].mean() for j in range(cells)] for i in range(cells)]
            for channel in x_CHW
        ]
    )


def spread(x_CNN: np.ndarray, size: tuple[int, int], *, align_corners: bool) -> np.ndarray:
    """Bilinear interpolation, position by position."""
    cells = x_CNN.shape[1]

    def weights(length: int) -> np.ndarray:
        matrix = np.zeros((length, cells))
        for at in range(length):
            where = at * (cells - 1) / (length - 1) if align_corners else (at + 0.5) * cells / length - 0.5
            where = min(max(where, 0.0), cells - 1)
            low = min(int(where), cells - 2)
            matrix[at, low] += 1 - (where - low)
            matrix[at, low + 1] += where - low
        return matrix

    return np.einsum("hi,cij,wj->chw", weights(size[0]), x_CNN, weights(size[1]))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("cells", "size"), [(2, (7, 9)), (3, (6, 9)), (6, (7, 11)), (6, (4, 5))])
def test_a_grid_is_pooled_and_spread_as_by_hand(cells: int, size: tuple[int, int], align_corners: bool) -> None:
    pooling = GridPooling(4, 4, cells, align_corners=align_corners).double().eval()
    with torch.no_grad():
        pooling.get_submodule("1").weight.copy_(torch.eye(4)[:, :, None, None])  # the convolution lets all through
    x = torch.rand(1, 4, *size, dtype=torch.float64)  # positive: the ReLU does too
    by_hand = spread(grid_means(x[0].numpy(), cells), size, align_corners=align_corners)
    norm = 1 / np.sqrt(1 + 1e-5)  # batch norm at its initial statistics
    np.testing.assert_allclose(pooling(x)[0].detach().numpy(), by_hand * norm, rtol=1e-12)


def test_a_network_under_cirkds_names_computes_the_same(tmp_path: Path) -> None:
    theirs = CirkdPSPNet(num_classes=6).eval()
    scramble(theirs)
    torch.save({f"module.{key}": value for key, value in theirs.state_dict().items()}, tmp_path / "x.pth")
    arch = ARCH.validate_python(PRESETS["pspnet-resnet18-12.9m"])
    raw = Preprocess(mean=(0, 0, 0), std=(1, 1, 1))
    ours = build_model(arch, num_classes=6, preprocess=raw).eval()
    report = load_weights(ours, tmp_path / "x.pth", strict=True)
    assert report.layout == "cirkd_pspnet"
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    images = torch.rand(1, 3, 65, 97)
    with torch.no_grad():
        scores, auxiliary = theirs(images)
        out = ours(images)
        torch.testing.assert_close(out.raw, scores, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(ours.aux_head(out.features["c4"]), auxiliary, rtol=1e-5, atol=1e-5)
    with pytest.raises(CoreError) as error:
        load_weights(build_model(arch, num_classes=5), tmp_path / "x.pth", strict=True)
    assert error.value.code == "weights.other_classes"


def test_parameters_by_hand() -> None:
    """The paper's head on ResNet-50: four 1x1 convolutions to 512, a 3x3 from 4096 to 512, scores."""
    model = build("pspnet-resnet50", 19, device="meta")
    norm = 2
    stages = 4 * (2048 * 512 + norm * 512)
    bottleneck = 4096 * 512 * 9 + norm * 512
    classifier = 512 * 19 + 19
    assert count_parameters(model.get_submodule("psp_head")) == stages + bottleneck + classifier
    aux = 1024 * 256 * 9 + norm * 256 + 256 * 19 + 19
    trunk = 25_557_032 - (2048 * 1000 + 1000)  # torchvision's ResNet-50 without its classifier
    assert count_parameters(model) == trunk + stages + bottleneck + classifier + aux


@pytest.mark.parametrize(
    ("preset", "millions", "printed"),
    [
        ("deeplabv3-resnet101-61.1m", 61.1, 2371.7),
        ("deeplabv3-resnet18-13.6m", 13.6, 572.0),
        ("deeplabv3-mobilenet_v2-3.2m", 3.2, 128.9),
        ("pspnet-resnet18-12.9m", 12.9, 507.4),
    ],
)
def test_the_cityscapes_tables_counts(preset: str, millions: float, printed: float) -> None:
    """Parameters as printed; multiply-adds as printed once a convolution's output is sized as if nothing were dilated.

    A dilated 3x3 convolution is padded by its dilation d, so it keeps a map of H positions; the published counter
    (CIRKD's `utils/flops.py`) leaves the dilation out of the formula and counts H + 2 d - 2. It counts the auxiliary
    head too. 507.35 was printed as 507.4.
    """
    model = build(preset, 19, device="meta").train()  # in training mode the auxiliary head runs
    assert round(count_parameters(model) / 1e6, 1) == millions
    ours = count_macs(model, 1024, 2048)
    theirs = true = 0

    def count(conv: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal theirs, true
        assert isinstance(conv, nn.Conv2d)
        without_dilation = [
            (length + 2 * int(padding) - kernel) // stride + 1
            for length, padding, kernel, stride in zip(
                inputs[0].shape[2:], conv.padding, conv.kernel_size, conv.stride, strict=True
            )
        ]
        theirs += conv.weight.numel() * without_dilation[0] * without_dilation[1]
        true += conv.weight.numel() * output.shape[2] * output.shape[3]

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    model(torch.empty(2, 3, 1024, 2048, device="meta"))
    assert theirs / 1e9 == pytest.approx(printed, abs=0.06)
    aux = model.get_submodule("aux_head") if "mobilenet" not in preset else None
    aux_macs = sum(conv.weight.numel() for conv in aux.modules() if isinstance(conv, nn.Conv2d)) if aux else 0
    assert ours == true - aux_macs * 128 * 256


def test_one_training_image_is_refused_with_a_grid_of_one_cell_only() -> None:
    fields = {"family": "pspnet", "backbone": "mobilenet_v2", "width": 0.35, "psp_channels": 16, "output_stride": 16}
    with pytest.raises(CoreError) as error:
        build(fields).train()(torch.rand(1, 3, 64, 64))
    assert error.value.code == "model.batch_of_one"
    assert build({**fields, "bins": (2, 3)}).train()(torch.rand(1, 3, 64, 64)).raw.shape == (1, 5, 4, 4)


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 0.5},
        {"backbone": "mobilenet_v2", "deep_stem": True},
        {"bins": ()},
        {"bins": (0, 2)},
        {"output_stride": 32},
    ],
)
def test_settings_without_effect_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ARCH.validate_python({"family": "pspnet", **fields})


def test_the_class_scores_can_be_entered_at_the_psp_map() -> None:
    model: TaskModel = build({"family": "pspnet", "backbone": "mobilenet_v2", "width": 0.35, "psp_channels": 16}).eval()
    out = model(torch.rand(1, 3, 48, 48))
    psp, logits = model.head(out.features["c5"])
    assert torch.equal(psp, out.features["psp"])
    assert torch.equal(logits, out.raw)
    assert torch.equal(F.conv2d(psp, model.head.classifier.weight, model.head.classifier.bias), logits)


def test_its_short_name() -> None:
    assert arch_label(ARCH.validate_python(PRESETS["pspnet-resnet18-12.9m"])) == "PSPNet-R18"
