"""Cityscapes: DeepLabV3-R101 into DeepLabV3-R18, DeepLabV3-MobileNetV2 and PSPNet-R18."""

from __future__ import annotations

from typing import Any

from recipes.table.base import ACAM_KD, FP32, Group, Job, Row, merge

TABLE = f"{ACAM_KD}, Cityscapes table"
# CIRKD's networks eat blue, green, red in 0 to 255 minus this mean, undivided.
PREPROCESS = {"order": "bgr", "range": 255, "mean": [104.007, 116.669, 122.679], "std": [1, 1, 1]}
CWD_ON_FEATURES = "CIRKD's CWD runs also compare features (weight 50); here class scores only."
MASKD_AUX = "The authors mask the auxiliary head's scores too (0.4); here the main scores only."

BASE: Job = {
    "dataset": {"format": "cityscapes", "root": "datasets/cityscapes", "splits": {"train": "train", "val": "val"}},
    "augment": {"scale": [0.5, 2.0], "crop": [512, 1024], "flip": 0.5},
    "teacher": {
        "arch": "deeplabv3-resnet101-61.1m",
        "weights": {"file": "weights/deeplabv3_resnet101_citys_best_model.pth", "layout": "cirkd"},
        "preprocess": PREPROCESS,
        "expect": {"miou": 78.07, "tolerance": 0.3},
    },
    "distill": [{"method": "acam", "at": ["logits"], "weight": 1.0, "diversity_weight": 1.0, "masks": 19}],
    "optimizer": {"name": "sgd", "lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4},
    "schedule": {"iterations": 40000, "policy": "poly", "power": 0.9},
    "batch": {"global_size": 16, "workers": 8},
    "train": {"precision": "fp32", "sync_bn": True},
    "evaluation": {"every": 4000, "batch_size": 1},
    "checkpoint": {"select": "last"},
    "resources": {"gpus": 1},
}
STATED = ("SGD, lr 0.02, weight decay 5e-4, poly decay with power 0.9, 40,000 iterations (ACAM-KD).",)
DISTILLED = ("19 masks on the class scores; alpha = lambda = 1 (ACAM-KD).",)
CHOSEN = (
    "Batch 16, crop 512 x 1024, scale 0.5 to 2, flip, momentum 0.9, teacher in eval mode and its preprocessing: CIRKD, "
    "the code line of these numbers.",
    "The last checkpoint counts, scored on whole images at one scale.",
    FP32,
)
DEVIATIONS = (
    "Scales are drawn continuously (CIRKD: steps of 0.1); the rate decays to 0 (CIRKD: to 1e-4).",
    "One GPU sees all 16 images at once, as SyncBN does over eight (--set resources.gpus=8); short of memory, batch.accumulate "
    "splits them, and batch norm sees fewer.",
)
FILES = {
    "dataset.root": "Cityscapes as downloaded: leftImg8bit/ and gtFine/",
    "teacher.weights.file": "CIRKD's DeepLabV3-ResNet101 (78.07 mIoU), or a teacher of yours: a .safetensors file or job:name",
}
RESNET18 = {
    "student.backbone_weights.file": "CIRKD's resnet18-imagenet.pth: the deep stem has no torchvision weights",
}


def rows(prefix: str, alone: str, figures: dict[str, float]) -> tuple[Row, ...]:
    """The rows of a student: alone, CWD, MasKD, ACAM-KD."""
    return (
        Row(f"{alone}-alone", "alone", f"{TABLE}, student", figures["alone"]),
        Row(
            f"{prefix}-cwd", "cwd", f"{TABLE}, row CWD", figures["cwd"],
            {"distill": [{"method": "cwd", "at": ["logits"], "temperature": 4.0, "weight": 3.0}]}, (CWD_ON_FEATURES,),
        ),
        Row(
            f"{prefix}-maskd", "maskd", f"{TABLE}, row MasKD", figures["maskd"],
            {"distill": [{"method": "maskd", "at": ["logits"], "tokens": 8, "token_iterations": 10000}]}, (MASKD_AUX,),
        ),
        Row(f"{prefix}-acam", "acam", TABLE, figures["acam"]),
    )  # fmt: skip


def student(**fields: Any) -> Job:
    """The job of one student."""
    return merge(BASE, {"student": fields["model"], "task_loss": {"aux_weight": fields["aux"]}})


def resnet18(arch: str) -> dict[str, Any]:
    """A student whose backbone starts from CIRKD's ImageNet file."""
    weights = {"file": "weights/resnet18-imagenet.pth", "layout": "cirkd"}
    return {"arch": arch, "backbone_weights": weights, "preprocess": PREPROCESS}


AUX = "Auxiliary head with weight 0.4 (CIRKD's ResNet students)."
CITYSCAPES: tuple[Group, ...] = (
    Group(
        title="Cityscapes, DeepLabV3-R101 to DeepLabV3-R18",
        dataset="Cityscapes",
        task="semantic_segmentation",
        teacher="DeepLabV3-R101 (61.1M, 78.07)",
        student="DeepLabV3-R18 (13.6M)",
        job=student(model=resnet18("deeplabv3-resnet18-13.6m"), aux=0.4),
        rows=rows(
            "cityscapes-deeplabv3-r101-r18",
            "cityscapes-deeplabv3-r18",
            {"alone": 72.96, "cwd": 75.55, "maskd": 77.00, "acam": 77.53},
        ),
        files=FILES | RESNET18,
        stated=STATED,
        stated_distilled=DISTILLED,
        chosen=(*CHOSEN, AUX, "The student alone is printed as 72.96; CIRKD and others report 74.21."),
        deviations=DEVIATIONS,
    ),
    Group(
        title="Cityscapes, DeepLabV3-R101 to DeepLabV3-MobileNetV2",
        dataset="Cityscapes",
        task="semantic_segmentation",
        teacher="DeepLabV3-R101 (61.1M, 78.07)",
        student="DeepLabV3-MobileNetV2 (3.2M)",
        job=student(
            model={
                "arch": "deeplabv3-mobilenet_v2-3.2m",
                "backbone_weights": "torchvision:MobileNet_V2_Weights.IMAGENET1K_V1",
            },
            aux=0,
        ),
        rows=rows(
            "cityscapes-deeplabv3-r101-mobilenet_v2",
            "cityscapes-deeplabv3-mobilenet_v2",
            {"alone": 73.12, "cwd": 74.66, "maskd": 75.26, "acam": 76.21},
        ),
        files=FILES,
        stated=STATED,
        stated_distilled=DISTILLED,
        chosen=(*CHOSEN, "No auxiliary head (CIRKD's MobileNetV2 student)."),
        deviations=(
            *DEVIATIONS,
            "The backbone starts from torchvision's ImageNet weights with their own preprocessing (CIRKD: a file of its own).",
        ),
    ),
    Group(
        title="Cityscapes, DeepLabV3-R101 to PSPNet-R18",
        dataset="Cityscapes",
        task="semantic_segmentation",
        teacher="DeepLabV3-R101 (61.1M, 78.07)",
        student="PSPNet-R18 (12.9M)",
        job=student(model=resnet18("pspnet-resnet18-12.9m"), aux=0.4),
        rows=rows(
            "cityscapes-deeplabv3-r101-pspnet-r18",
            "cityscapes-pspnet-r18",
            {"alone": 72.55, "cwd": 74.36, "maskd": 75.34, "acam": 75.99},
        ),
        files=FILES | RESNET18,
        stated=STATED,
        stated_distilled=DISTILLED,
        chosen=(*CHOSEN, AUX),
        deviations=DEVIATIONS,
    ),
    Group(
        title="Cityscapes, the teacher",
        dataset="Cityscapes",
        task="semantic_segmentation",
        student="DeepLabV3-R101 (61.1M)",
        job=merge(
            BASE,
            {
                "student": {
                    "arch": "deeplabv3-resnet101-61.1m",
                    "backbone_weights": {"file": "weights/resnet101-imagenet.pth", "layout": "cirkd"},
                    "preprocess": PREPROCESS,
                },
                "task_loss": {"aux_weight": 0.4},
            },
        ),
        rows=(Row("cityscapes-deeplabv3-r101-alone", "alone", f"{TABLE}, teacher", 78.07),),
        files={
            "dataset.root": FILES["dataset.root"],
            "student.backbone_weights.file": "CIRKD's resnet101-imagenet.pth: the deep stem has no torchvision weights",
        },
        chosen=(
            "All settings are those of the students in CIRKD's code.",
            "The published file is the short way; this trains one of your own.",
        ),
        deviations=DEVIATIONS,
    ),
)
