"""Pascal VOC: Mobile DeepLabv3 of the MobileNetV2 paper, with and without atrous branches."""

from __future__ import annotations

from recipes.table.base import FP32, MOBILENET_V2, Group, Job, Row, merge
from recipes.table.cityscapes import PREPROCESS

TABLE = f"{MOBILENET_V2}, VOC 2012 table, output stride 16, one scale"
UNPRINTED = "Nobody printed a number for this pair; hold it against the student alone"

BASE: Job = {
    "dataset": {"format": "voc", "root": "datasets/VOCdevkit", "labels": "masks", "splits": {"train": "trainaug", "val": "val"}},
    "augment": {"size": [512, 512], "scale": [0.5, 2.0], "crop": [512, 512], "flip": 0.5},
    "teacher": {
        "arch": "deeplabv3-resnet101-61.1m",
        "weights": {"file": "weights/deeplabv3_resnet101_pascal_aug_best_model.pth", "layout": "cirkd"},
        "preprocess": PREPROCESS,
    },
    "distill": [{"method": "acam", "at": ["logits"], "masks": 21}],
    "optimizer": {"name": "sgd", "lr": 0.007, "momentum": 0.9, "weight_decay": 4e-5},
    "schedule": {"iterations": 30000, "policy": "poly", "power": 0.9},
    "batch": {"global_size": 16, "workers": 8},
    "train": {"precision": "fp32"},
    "evaluation": {"every": 3000, "batch_size": 8},
    "checkpoint": {"select": "last"},
    "resources": {"gpus": 1},
}  # fmt: skip


def group(title: str, arch: str, student: str, name: str, expected: float) -> Group:
    """A student alone (printed), and under ACAM-KD (not printed)."""
    weights = "torchvision:MobileNet_V2_Weights.IMAGENET1K_V1"
    return Group(
        title=title,
        dataset="VOC 2012",
        task="semantic_segmentation",
        teacher="DeepLabV3-R101 (77.67 in CIRKD's list)",
        student=student,
        job=merge(BASE, {"student": {"arch": arch, "backbone_weights": weights}}),
        rows=(
            Row(f"voc-{name}-alone", "alone", TABLE, expected),
            Row(f"voc-deeplabv3-r101-{name}-acam", "acam", UNPRINTED),
        ),
        files={
            "dataset.root": "VOCdevkit with VOC2012 in it; trainaug needs SBD's masks among those of SegmentationClass "
            "and its list in ImageSets/Segmentation (--set dataset.splits.train=train does without)",
            "teacher.weights.file": "CIRKD's DeepLabV3-ResNet101 for VOC (77.67 mIoU), or a teacher of yours",
        },
        stated=(
            "Output stride 16, 320-channel map, no decoder; trained on VOC 2012 with the extra annotations (SBD).",
        ),
        chosen=(
            "SGD, lr 0.007, poly decay with power 0.9, 30,000 iterations, batch 16, scale 0.5 to 2, flip: DeepLabv3 (Chen "
            "et al. 2017), whose protocol the paper follows; weight decay 4e-5 of its code for MobileNets.",
            FP32,
        ),
        deviations=(
            "Images are stretched to 512 x 512, in training and in evaluation (the papers crop 513 and score whole images).",
            "The backbone knows ImageNet only; the released network of the printed number had seen COCO too: expect less.",
        ),
    )


VOC: tuple[Group, ...] = (
    group("VOC 2012, Mobile DeepLabv3", "mobile_deeplabv3", "Mobile DeepLabv3 (2.11M)", "mobile_deeplabv3", 75.32),
    group(
        "VOC 2012, Mobile DeepLabv3 with ASPP", "mobile_deeplabv3-aspp", "Mobile DeepLabv3 with ASPP (4.52M)",
        "mobile_deeplabv3_aspp", 75.70,
    ),
)  # fmt: skip
