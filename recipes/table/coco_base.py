"""COCO 2017: what the rows of all detectors share."""

from __future__ import annotations

from typing import Any

from recipes.table.base import ACAM_KD, FP32, Group, Job, Row, merge

TABLE = f"{ACAM_KD}, COCO table"
PYRAMID = ["p3", "p4", "p5", "p6", "p7"]
RESNETS = {
    "r50": "torchvision:ResNet50_Weights.IMAGENET1K_V1",
    "r101": "torchvision:ResNet101_Weights.IMAGENET1K_V1",
    "x101": "torchvision:ResNeXt101_64X4D_Weights.IMAGENET1K_V1",
}
# Some teachers have no presets of their own.
ARCHS: dict[str, Any] = {
    "retinanet-r50": "retinanet-r50-fpn",
    "retinanet-r101": "retinanet-r101-fpn",
    "retinanet-x101": "retinanet-x101-64x4d-fpn",
    "faster_rcnn-r50": "faster_rcnn-resnet50",
    "faster_rcnn-r101": "faster_rcnn-resnet101",
    "faster_rcnn-x101": {
        "family": "faster_rcnn",
        "backbone": "resnext101_64x4d",
        "roi_aligned": True,
        "roi_sampling_ratio": 0,
    },
    "reppoints-r50": "reppoints-r50-fpn",
    "reppoints-r101": "reppoints-r101-fpn",
    "reppoints-x101": "reppoints-x101-32x4d-dconv-fpn",
    "fcos-r50": "fcos-r50-fpn",
    "fcos-r101": {"family": "fcos", "backbone": "resnet101"},
    "fcos-x101": {"family": "fcos", "backbone": "resnext101_64x4d"},
}

BASE: Job = {
    "dataset": {
        "format": "coco", "root": "datasets/coco", "splits": {"train": "train2017", "val": "val2017"}, "empty_images": "skip",
    },
    "augment": {"resize": {"short": 800, "max": 1333}, "pad_to": 32, "flip": 0.5},
    "distill": [{"method": "acam", "at": PYRAMID, "levels": "sum", "masks": 6}],
    "optimizer": {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 1e-4},
    "schedule": {"epochs": 24, "policy": "multistep", "milestones": [16, 22], "warmup_iterations": 500},
    "batch": {"global_size": 16, "accumulate": 4, "workers": 8},
    "train": {"precision": "fp32", "grad_clip": 35},
    "evaluation": {"batch_size": 4},
    "checkpoint": {"select": "last"},
    "resources": {"gpus": 1},
}  # fmt: skip
STATED = ("SGD, momentum 0.9, weight decay 1e-4, 24 epochs (ACAM-KD).",)
DISTILLED = (
    "Neck and head start from the teacher's; 6 masks on every level of the pyramid; alpha = lambda = 1 (ACAM-KD).",
)
CHOSEN = (
    "lr 0.01 for 16 images, falling at epochs 16 and 22, warm-up of 500 iterations, short side 800 and long side at most 1333, "
    "flip, images without boxes left out, first stage frozen and batch norm on its ImageNet statistics, gradient norm at most 35: mmdetection's 2x schedule and the "
    "distillation configs of FGD and MasKD.",
    "The levels' losses are summed; the last checkpoint counts.",
    FP32,
)
DEVIATIONS = (
    "The warm-up starts at a tenth of the rate (mmdetection: a thousandth).",
    "16 images are four passes of four on one GPU; the losses are normalised in each pass, as on each of the code line's eight "
    "GPUs (--set resources.gpus=8 --set batch.accumulate=1).",
)
ROOT = {"dataset.root": "COCO as downloaded: annotations/instances_train2017.json, train2017/, val2017/"}


# mmdetection's files that fit a family here; the other teachers have to be one's own.
PUBLISHED = {
    "retinanet-r101": "retinanet_r101_fpn_2x_coco_20200131-5560aee8.pth",
    "retinanet-x101": "retinanet_x101_64x4d_fpn_1x_coco_20200130-366f5af1.pth",
    "faster_rcnn-r101": "faster_rcnn_r101_fpn_2x_coco_bbox_mAP-0.398_20200504_210455-1d2dac9c.pth",
    "faster_rcnn-x101": "faster_rcnn_x101_64x4d_fpn_1x_coco_20200204-833ee192.pth",
    "reppoints-r101": "reppoints_moment_r101_fpn_gn-neck+head_2x_coco_20200329-4fbc7310.pth",
    "reppoints-x101": "reppoints_moment_x101_fpn_dconv_c3-c5_gn-neck+head_2x_coco_20200329-f87da1ea.pth",
}


def teacher_file(recipe: str, published: str | None = None) -> dict[str, str]:
    """What belongs at the teacher's path."""
    own = f"a teacher of yours, e.g. from the recipe {recipe}: a .safetensors file or job:name"
    told = f"mmdetection's {published}, or {own}" if published else own[0].upper() + own[1:]
    return {"teacher.weights.file": told}


def term(method: str, **fields: Any) -> Job:
    """`distill` with one entry on the pyramid."""
    return {"distill": [{"method": method, "at": PYRAMID, **fields}]}


def pair_group(
    family: str, label: str, teacher: str, rows: tuple[Row, ...], *, mark: float | None, student: str = "",
    deviations: tuple[str, ...] = (), changes: Job | None = None,
) -> Group:  # fmt: skip
    """A teacher's backbone (`r101`, `x101`) to R50 in one family.

    Args:
        label: the family, as papers call it.
        mark: the teacher's printed mAP, in a paper or in mmdetection's list.
        student: what to say of the student behind its name.
        changes: of the group's job.
    """
    key = f"{family}-{teacher}"
    own = {"weights": {"file": f"weights/{family}_{teacher}.safetensors"}}
    published = {
        "weights": {"file": f"weights/{PUBLISHED.get(key)}", "layout": "mmdet"}, "expect": {"map": mark, "tolerance": 0.3},
    }  # fmt: skip
    job = {
        "teacher": {"arch": ARCHS[key], **(published if key in PUBLISHED else own)},
        "student": {
            "arch": ARCHS[f"{family}-r50"], "backbone_weights": RESNETS["r50"], "inherit": ["neck", "head"],
            "freeze": {"stages": 1, "norm": "eval"},
        },
    }  # fmt: skip
    name = f"{label}-{teacher.upper()}"
    return Group(
        title=f"COCO, {name} to {label}-R50",
        dataset="COCO 2017",
        task="detection",
        teacher=name if mark is None else f"{name} ({mark:.1f})",
        student=f"{label}-R50{student}",
        job=merge(merge(BASE, job), changes or {}),
        rows=rows,
        files=ROOT | teacher_file(f"coco-{family}-{teacher}-alone", PUBLISHED.get(key)),
        stated=STATED,
        stated_distilled=DISTILLED,
        chosen=CHOSEN,
        deviations=(*DEVIATIONS, *deviations),
    )


def teacher_group(
    family: str, label: str, teacher: str, source: str, mark: float | None, *, deviations: tuple[str, ...] = (),
    changes: Job | None = None,
) -> Group:  # fmt: skip
    """A teacher, trained by itself; `mark` is its printed mAP."""
    model = {
        "arch": ARCHS[f"{family}-{teacher}"], "backbone_weights": RESNETS[teacher], "freeze": {"stages": 1, "norm": "eval"},
    }  # fmt: skip
    return Group(
        title=f"COCO, {label}-{teacher.upper()}, the teacher",
        dataset="COCO 2017",
        task="detection",
        student=f"{label}-{teacher.upper()}",
        job=merge(merge(BASE, {"student": model}), changes or {}),
        rows=(Row(f"coco-{family}-{teacher}-alone", "alone", source, mark),),
        files=ROOT,
        chosen=("As the student: mmdetection's 2x schedule.", FP32),
        deviations=(*DEVIATIONS, *deviations),
    )
