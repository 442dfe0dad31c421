"""torchvision's weights that need no `arch`: the network of the table is the one that the weights are of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from acamkd_core.models.registry import build_model
from acamkd_core.models.weights import load_weights
from acamkd_core.spec.archs import FAMILY_TASKS, Arch
from acamkd_core.spec.errors import SpecInvalid
from acamkd_core.spec.job import parse_job
from acamkd_core.spec.models import WeightsSpec
from acamkd_core.spec.torchvision_models import NETWORKS
from acamkd_core.torchvision_compat import torchvision

ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
BUILDERS = {torchvision.models.get_model_weights(name).__name__: name for name in torchvision.models.list_models()}


@pytest.mark.parametrize("enum", NETWORKS)
def test_the_weights_fit_and_give_torchvisions_scores(enum: str, tmp_path: Path) -> None:
    name, (fields, classes) = BUILDERS[enum], NETWORKS[enum]
    published = torchvision.models.get_model_weights(name).DEFAULT.meta["categories"]
    arch = ARCH.validate_python(fields)
    detector = FAMILY_TASKS[arch.family] == "detection"
    assert classes == len(published) - (arch.family == "faster_rcnn")
    options = {} if not (detector or "deeplab" in name or "lraspp" in name) else {"weights_backbone": None}
    torch.manual_seed(0)
    with torch.device("meta" if detector else "cpu"):  # of detectors only the shapes are compared here
        theirs = torchvision.models.get_model(name, weights=None, num_classes=len(published), **options)
    if arch.family == "deeplabv3":  # the published networks have an auxiliary head
        theirs = torchvision.models.get_model(name, weights=None, num_classes=21, aux_loss=True, **options)
    state = {key: torch.zeros(one.shape) if one.is_meta else one for key, one in theirs.state_dict().items()}
    torch.save(state, tmp_path / "theirs.pth")
    ours = build_model(arch, num_classes=classes)
    report = load_weights(
        ours, WeightsSpec(file=str(tmp_path / "theirs.pth")), files={}, strict=True, field="teacher.weights"
    )
    assert not report.missing, report
    if detector:
        return  # test_retinanet.py, test_fcos.py and test_faster_rcnn.py compare the numbers
    images = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.inference_mode():
        wanted = theirs.eval()((images - mean) / std)
        found = ours.eval()(images).raw
        if isinstance(wanted, dict):
            wanted = wanted["out"]
            found = torch.nn.functional.interpolate(found, wanted.shape[2:], mode="bilinear", align_corners=False)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_teacher_needs_no_more_than_the_name() -> None:
    spec = parse_job(
        {
            "dataset": "./coco",
            "teacher": "torchvision:RetinaNet_ResNet50_FPN_Weights.COCO_V1",
            "student": "retinanet-mobilenet_v2",
            "distill": "acam",
        }
    )
    assert spec.teacher is not None
    assert spec.teacher.arch is not None
    assert (spec.teacher.arch.family, spec.task) == ("retinanet", "detection")
    assert "arch" not in spec.teacher.model_fields_set


def test_a_network_that_the_core_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(SpecInvalid) as error:
        parse_job(
            {
                "dataset": "./voc",
                "teacher": "torchvision:FCN_ResNet50_Weights.DEFAULT",
                "student": "mobile_deeplabv3",
                "distill": "logit",
            }
        )
    (problem,) = error.value.problems
    assert problem.field == "teacher.arch"
    assert "DeepLabV3_ResNet101_Weights" in (problem.hint or "")
