"""ImageNet: MobileNetV2 as its paper trains it, and taught by a ResNet-50."""

from __future__ import annotations

from recipes.table.base import FP32, MOBILENET_V2, Group, Job, Row, merge

UNPRINTED = "Nobody printed a number for this pair; hold it against the student alone"

BASE: Job = {
    "dataset": {"format": "image_folder", "root": "datasets/imagenet", "splits": {"train": "train", "val": "val"}},
    "augment": {"size": [224, 224], "short_side": 256, "flip": 0.5},
    "teacher": {
        "arch": "resnet50", "weights": "torchvision:ResNet50_Weights.IMAGENET1K_V1",
        "expect": {"top1": 76.13, "tolerance": 0.3},
    },
    "optimizer": {"name": "sgd", "lr": 0.045, "momentum": 0.9, "weight_decay": 4e-5},
    "schedule": {"epochs": 300, "policy": "multistep", "milestones": list(range(10, 300, 10)), "gamma": 0.817},
    "batch": {"global_size": 256, "workers": 16},
    "train": {"precision": "fp32"},
    "evaluation": {"batch_size": 64},
    "checkpoint": {"select": "last"},
    "resources": {"gpus": 1},
}  # fmt: skip


def group(width: str, size: str, expected: float, *taught: Row) -> Group:
    """MobileNetV2 of one width."""
    return Group(
        title=f"ImageNet, MobileNetV2 {width}",
        dataset="ImageNet",
        task="classification",
        teacher="ResNet-50 (76.13)" if taught else None,
        student=f"MobileNetV2 {width} ({size})",
        job=merge(BASE, {"student": {"arch": f"mobilenet_v2-{width}"}}),
        rows=(Row(f"imagenet-mobilenet_v2_{width}-alone", "alone", f"{MOBILENET_V2}, ImageNet table", expected), *taught),
        files={"dataset.root": "ImageNet: train/<class>/ and val/<class>/ (the validation images sorted into their classes)"},
        stated=(
            "224 x 224; weight decay 4e-5, rate 0.045 falling by 0.98 every epoch (MobileNetV2).",
        ),
        chosen=(
            "SGD with momentum for 300 epochs, batch 256, random windows and flips: torchvision's reference for MobileNetV2, "
            "which reports 71.88 (the paper: RMSProp, 96 images on each of 16 GPUs, asynchronous).",
            FP32,
        ),
        deviations=("The rate falls by 0.817 every ten epochs (0.98 to the tenth), which keeps the job readable.",),
    )  # fmt: skip


IMAGENET: tuple[Group, ...] = (
    group(
        "1.0", "3.4M", 72.0,
        Row(
            "imagenet-resnet50-mobilenet_v2_1.0-logit", "logit", UNPRINTED,
            job={"distill": [{"method": "logit", "at": ["logits"], "temperature": 1.0}]},
        ),
        Row(
            "imagenet-resnet50-mobilenet_v2_1.0-acam", "acam", UNPRINTED,
            job={"distill": [{"method": "acam", "at": ["c5"], "masks": 6}]},
            deviations=("ACAM-KD on the last map (7 x 7): class scores have no positions.",),
        ),
    ),
    group("1.4", "6.9M as printed", 74.7),
)  # fmt: skip
