"""COCO 2017: SSDLite of the MobileNetV2 paper."""

from __future__ import annotations

from recipes.table.base import FP32, MOBILENET_V2, Group, Row, merge
from recipes.table.coco_base import BASE, ROOT, teacher_file

SSDLITE_BASE = merge(
    BASE,
    {
        "augment": {"resize": None, "pad_to": None, "size": [320, 320], "ssd": True},
        "student": {
            "arch": "ssdlite-mobilenet_v2",
            "backbone_weights": "torchvision:MobileNet_V2_Weights.IMAGENET1K_V1",
        },
        "teacher": {
            "arch": "retinanet-r50-fpn",
            "weights": {"file": "weights/retinanet_r50.safetensors"},
            "size": [640, 640],
        },
        # At twice the student's size these have the grids of its maps.
        "distill": [{"method": "acam", "at": ["m1", "m2", "m3"], "teacher_at": ["p5", "p6", "p7"], "masks": 6}],
        "optimizer": {"lr": 0.15, "weight_decay": 4e-5},
        "schedule": {"epochs": 660, "policy": "cosine", "milestones": None, "warmup_iterations": 1000},
        "batch": {"global_size": 192, "accumulate": 2},
        "train": {"grad_clip": None},
        "evaluation": {"batch_size": 32},
    },
)
SSDLITE = (
    Group(
        title="COCO, SSDLite-MobileNetV2",
        dataset="COCO 2017",
        task="detection",
        teacher="RetinaNet-R50",
        student="SSDLite-MobileNetV2 (4.3M)",
        job=SSDLITE_BASE,
        rows=(
            Row("coco-ssdlite-mobilenet_v2-alone", "alone", f"{MOBILENET_V2}, COCO table", 22.1),
            Row(
                "coco-retinanet-r50-ssdlite-mobilenet_v2-acam", "acam",
                "Nobody printed a number for this pair; hold it against the student alone",
                deviations=(
                    "The teacher sees the student's view at 640 x 640: stretched to a square as SSD does, and smaller than the "
                    "800 x 1333 that it was trained on.",
                ),
            ),
        ),
        files=ROOT | teacher_file("coco-retinanet-r50-alone"),
        stated=("320 x 320 (MobileNetV2).",),
        chosen=(
            "SGD, lr 0.15 for 192 images, weight decay 4e-5, cosine over 660 epochs: torchvision's reference for SSDLite (the "
            "paper trained with TensorFlow's detection code and RMSProp).",
            "SSD's changes of images (crop by overlap, zoom-out, colours); torchvision's reference takes the crop alone.",
            FP32,
        ),
    ),
)  # fmt: skip
