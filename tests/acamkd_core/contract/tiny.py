"""The smallest real networks of every family, with a batch of their task. A new family needs one entry in NETWORKS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import torch
from pydantic import TypeAdapter
from torch import Tensor

from acamkd_core.datasets.base import ClassInfo
from acamkd_core.models.base import TaskModel
from acamkd_core.models.registry import FAMILIES, build_model
from acamkd_core.spec.archs import FAMILY_TASKS, Arch
from acamkd_core.tasks.base import Task
from acamkd_core.tasks.classification import ClassificationTask
from acamkd_core.tasks.detection import DetectionTask
from acamkd_core.tasks.detection_target import DetectionTarget
from acamkd_core.tasks.segmentation import SegmentationTask

ARCH: TypeAdapter[Arch] = TypeAdapter(Arch)
CLASSES, IMAGES = 4, 2
# Height and width. A pyramid's coarsest map (stride 128) has to have more than one position: a softmax over one teaches nothing.
SIZE = {"semantic_segmentation": 64, "detection": 160, "classification": 64}

# Student and teacher differ in every width and in the output stride, so that alignment has something to do (a small pair of
# ResNet classifiers differs in depth only).
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "deeplabv3": (
        {"width": 0.35, "output_stride": 16, "aspp_channels": 16, "aspp_rates": (2,)},
        {"backbone": "resnet18", "output_stride": 8, "aspp_channels": 24, "aspp_rates": (2,)},
    ),
    "mobile_deeplabv3": ({"width": 0.35, "output_stride": 16}, {"width": 0.5, "output_stride": 8}),
    "fcos": (
        {"backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 64, "head_depth": 1},
        {"backbone": "resnet18", "fpn_channels": 96, "head_depth": 1},
    ),
    "reppoints": (
        {"backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 64, "head_depth": 1},
        {"backbone": "resnet18", "fpn_channels": 96, "head_depth": 1},
    ),
    "faster_rcnn": (
        {"backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 16, "head_channels": 16},
        {"backbone": "resnet18", "fpn_channels": 24, "head_channels": 24},
    ),
    "ssdlite": ({"width": 0.35}, {"width": 0.5}),
    "pspnet": (
        {"backbone": "mobilenet_v2", "width": 0.35, "output_stride": 16, "psp_channels": 16},
        {"backbone": "resnet18", "output_stride": 8, "psp_channels": 24},
    ),
    "lraspp": (
        {"backbone": "mobilenet_v2", "width": 0.35, "output_stride": 32, "head_channels": 16},
        {"backbone": "mobilenet_v3_large", "output_stride": 16, "head_channels": 24},
    ),
    "mobilenet_v2": ({"width": 0.35}, {"width": 0.5}),
    "mobilenet_v3": ({"backbone": "mobilenet_v3_small"}, {"backbone": "mobilenet_v3_large"}),
    "resnet": ({"backbone": "resnet18"}, {"backbone": "resnet34"}),
    "timm": ({"backbone": "timm:test_resnet"}, {"backbone": "timm:test_convnext"}),
    "retinanet": (
        {"backbone": "mobilenet_v2", "width": 0.35, "fpn_channels": 16, "head_depth": 1},
        {"backbone": "resnet18", "fpn_channels": 24, "head_depth": 1},
    ),
}


@dataclass
class Tiny:
    """A student in training mode, a frozen teacher, what they are (`archs`, in this order), and one batch with targets."""

    task: Task
    task_name: str
    archs: tuple[Arch, Arch]
    student: TaskModel
    teacher: TaskModel
    images: Tensor
    targets: Any


def tasks_of() -> dict[str, str]:
    """Family to the task that it serves, of every registered family."""
    families = [get_args(arch.model_fields["family"].annotation)[0] for arch in FAMILIES]
    return {family: FAMILY_TASKS[family] for family in families}


def tiny(family: str) -> Tiny:
    """A fresh pair of networks; the same every time."""
    assert family in NETWORKS, f"add the smallest networks of {family} to NETWORKS in {__name__}"
    torch.manual_seed(0)
    first, second = (ARCH.validate_python({"family": family, **fields}) for fields in NETWORKS[family])
    student, teacher = (build_model(arch, num_classes=CLASSES) for arch in (first, second))
    name = tasks_of()[family]
    images = torch.rand(IMAGES, 3, SIZE[name], SIZE[name])
    task, targets = _batch(name, SIZE[name])
    return Tiny(task, name, (first, second), student.train(), teacher.eval().requires_grad_(False), images, targets)


def _batch(task: str, size: int) -> tuple[Task, Any]:
    classes = [ClassInfo(id=number, name=f"class {number}", color=(number, 0, 0)) for number in range(CLASSES)]
    if task == "detection":
        boxes = [torch.tensor([[4.0, 6.0, 40.0, 30.0], [20.0, 24.0, 28.0, 60.0]]), torch.tensor([[0.0, 0.0, 9.0, 9.0]])]
        labels = [torch.tensor([0, 3]), torch.tensor([1])]
        return DetectionTask(classes), [DetectionTarget(*one) for one in zip(boxes, labels, strict=True)]
    if task == "classification":
        return ClassificationTask(classes), torch.randint(0, CLASSES, (IMAGES,))
    assert task == "semantic_segmentation", f"add a batch of {task} to _batch in {__name__}"
    return SegmentationTask(classes, 255), torch.randint(0, CLASSES, (IMAGES, size, size), dtype=torch.uint8)
