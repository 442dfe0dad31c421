"""COCO 2017: detectors on ResNet-101 and ResNeXt-101 into the same detector on ResNet-50."""

from __future__ import annotations

from typing import Any

from recipes.table.base import ACAM_KD, FGD, MASKD, Group, Job, Row
from recipes.table.coco_base import TABLE, pair_group, teacher_group, term
from recipes.table.ssdlite import SSDLITE

ABLATIONS = f"{ACAM_KD}, ablations on RetinaNet-R101 to R50"
RELEASED = "FGD's and MasKD's released results"
UNPRINTED = "ACAM-KD's tables have no FCOS; hold it against FGD and MasKD on R101"
NO_REGRESSION = "The authors also pull the student's box offsets to the teacher's; here the pyramid only."
MASKD_RATE = "The settings are those of the other rows (the authors: lr 0.02, warm-up of 1,000 iterations)."
FREEKD = (
    "The released code adds a plain MSE of weight 5 and leaves the coarse band out; here the paper's loss alone.",
)
FCOS_STUDENTS = (
    "Those results train with short sides 640 and 800, double the rate of biases, and start from caffe's ResNets; their "
    "students have FCOS's improvements (boxes over strides, centre sampling, GIoU) as this network has.",
)


def acam(**fields: Any) -> Job:
    """`distill` of an ACAM-KD row with other options."""
    return term("acam", levels="sum", masks=6, **fields)


RETINANET: tuple[Group, ...] = (
    pair_group(
        "retinanet", "RetinaNet", "r101",
        (
            Row("coco-retinanet-r50-alone", "alone", f"{TABLE}, student", 37.4),
            Row(
                "coco-retinanet-r101-r50-fgd", "fgd", f"{TABLE}, row FGD", 39.6,
                term("fgd", foreground_weight=1e-3, background_weight=5e-4, attention_weight=5e-4, global_weight=5e-6),
                ("gamma 5e-4 is the authors' config for this pair (the paper's text: 1e-3).",),
            ),
            Row(
                "coco-retinanet-r101-r50-maskd", "maskd", f"{TABLE}, row MasKD", 39.8,
                term("maskd", weight=7.0, tokens=6), (NO_REGRESSION, MASKD_RATE),
            ),
            Row("coco-retinanet-r101-r50-freekd", "freekd", f"{TABLE}, row FreeKD", 39.9, term("freekd"), FREEKD),
            Row("coco-retinanet-r101-r50-acam", "acam", TABLE, 41.2),
            Row(
                "coco-retinanet-r101-r50-acam-spatial", "acam", f"{ABLATIONS}, spatial masks only", 40.9,
                acam(channel=False),
            ),
            Row(
                "coco-retinanet-r101-r50-acam-channel", "acam", f"{ABLATIONS}, channel masks only", 40.4,
                acam(spatial=False),
            ),
            Row(
                "coco-retinanet-r101-r50-acam-student-query", "acam", f"{ABLATIONS}, query from the student", 41.0,
                acam(query="student"),
            ),
            Row(
                "coco-retinanet-r101-r50-acam-teacher-masks", "acam", f"{ABLATIONS}, learnable masks of the teacher alone", 39.9,
                acam(ablation="teacher_only"), ("How the paper builds this ablation is not printed: here the teacher is on both "
                "sides of the attention.",),
            ),
        ),
        mark=38.9, student=" (37.97M)",
    ),
    pair_group(
        "retinanet", "RetinaNet", "x101",
        (
            Row(
                "coco-retinanet-x101-r50-maskd", "maskd", f"{TABLE}, ResNeXt-101, row MasKD", 40.9,
                term("maskd", weight=7.0, tokens=6), (NO_REGRESSION, MASKD_RATE),
            ),
            Row(
                "coco-retinanet-x101-r50-freekd", "freekd", f"{TABLE}, ResNeXt-101, row FreeKD", 41.0, term("freekd"), FREEKD,
            ),
            Row("coco-retinanet-x101-r50-acam", "acam", f"{TABLE}, ResNeXt-101", 41.5),
        ),
        mark=41.0, student=" (37.97M)",
    ),
    teacher_group("retinanet", "RetinaNet", "r101", f"{TABLE}, teacher", 38.9),
    teacher_group("retinanet", "RetinaNet", "x101", f"{MASKD}, released results, teacher (64x4d, whose file is of a 1x schedule)", 41.0),
)  # fmt: skip

FCOS: tuple[Group, ...] = (
    pair_group(
        "fcos", "FCOS", "r101",
        (
            Row("coco-fcos-r50-alone", "alone", f"{RELEASED}, student", 38.5),
            Row(
                "coco-fcos-r101-r50-fgd", "fgd", f"{FGD}, released results", 42.7,
                term(
                    "fgd", temperature=0.8, foreground_weight=1.6e-3, background_weight=8e-4, attention_weight=8e-4,
                    global_weight=8e-6,
                ),
                ("Temperature 0.8 and the weights are the authors' config for FCOS.",),
            ),
            Row(
                "coco-fcos-r101-r50-maskd", "maskd", f"{MASKD}, released results", 42.2,
                term("maskd", weight=10.0, tokens=6), ("Weight 10 is the authors' config for FCOS.",),
            ),
            Row("coco-fcos-r101-r50-acam", "acam", UNPRINTED),
        ),
        mark=40.8, deviations=FCOS_STUDENTS,
    ),
    pair_group(
        "fcos", "FCOS", "x101", (Row("coco-fcos-x101-r50-acam", "acam", UNPRINTED),), mark=None, deviations=FCOS_STUDENTS
    ),
    teacher_group("fcos", "FCOS", "r101", f"{RELEASED}, teacher", 40.8, deviations=FCOS_STUDENTS),
    teacher_group("fcos", "FCOS", "x101", "No FCOS on ResNeXt-101 64x4d is in these papers", None),
)  # fmt: skip

RCNN_PYRAMID = ["p2", "p3", "p4", "p5", "p6"]
RCNN: dict[str, Any] = {"optimizer": {"lr": 0.02}}
CASCADE = (
    "FGD's and MasKD's ResNeXt-101 rows have a Cascade Mask R-CNN as their teacher (45.6), which is not built; ACAM-KD's teacher "
    "is not named closer. Here mmdetection's Faster R-CNN on ResNeXt-101 teaches (42.1).",
)
TWO_STAGE = (
    "Trained as torchvision does: smooth L1 (beta 1/9) on offsets and 2000 proposals an image (mmdetection: plain L1 and 1000).",
)
FGD_TWO_STAGE = {
    "foreground_weight": 5e-5, "background_weight": 2.5e-5, "attention_weight": 5e-5, "global_weight": 5e-7,
}  # fmt: skip


def rcnn(method: str, **fields: Any) -> Job:
    """`distill` with one entry on Faster R-CNN's pyramid."""
    own = {"levels": "sum", "masks": 6} if method == "acam" else {}
    return {"distill": [{"method": method, "at": RCNN_PYRAMID, **own, **fields}]}


FASTER_RCNN: tuple[Group, ...] = (
    pair_group(
        "faster_rcnn", "Faster R-CNN", "r101",
        (
            Row("coco-faster_rcnn-r50-alone", "alone", f"{TABLE}, student", 38.4),
            Row(
                "coco-faster_rcnn-r101-r50-fgd", "fgd", f"{TABLE}, row FGD", 40.4,
                {"distill": [{"method": "fgd", "at": RCNN_PYRAMID[:4], **FGD_TWO_STAGE}]},
                ("p2 to p5 and the weights are the authors' config for two stages.",),
            ),
            Row(
                "coco-faster_rcnn-r101-r50-maskd", "maskd", f"{TABLE}, row MasKD", 40.8,
                {"distill": [{"method": "maskd", "at": RCNN_PYRAMID[:4], "weight": 7.0, "tokens": 6}]},
                ("Weight 7 is RetinaNet's; p2 to p5, from which regions are pooled: p6 alone leads to no box.",),
            ),
            Row("coco-faster_rcnn-r101-r50-freekd", "freekd", f"{TABLE}, row FreeKD", 40.8,
                {"distill": [{"method": "freekd", "at": RCNN_PYRAMID[:4]}]}, FREEKD),
            Row("coco-faster_rcnn-r101-r50-acam", "acam", TABLE, 41.4, rcnn("acam")),
        ),
        mark=39.8, deviations=TWO_STAGE, changes=RCNN,
    ),
    pair_group(
        "faster_rcnn", "Faster R-CNN", "x101",
        (
            Row(
                "coco-faster_rcnn-x101-r50-maskd", "maskd", f"{TABLE}, ResNeXt-101, row MasKD", 42.4,
                {"distill": [{"method": "maskd", "at": RCNN_PYRAMID[:4], "weight": 7.0, "tokens": 6}]},
                ("Weight 7 is RetinaNet's; p2 to p5, from which regions are pooled: p6 alone leads to no box.",),
            ),
            Row("coco-faster_rcnn-x101-r50-freekd", "freekd", f"{TABLE}, ResNeXt-101, row FreeKD", 42.4,
                {"distill": [{"method": "freekd", "at": RCNN_PYRAMID[:4]}]}, FREEKD),
            Row("coco-faster_rcnn-x101-r50-acam", "acam", f"{TABLE}, ResNeXt-101", 42.6, rcnn("acam")),
        ),
        mark=42.1, deviations=(*TWO_STAGE, *CASCADE), changes=RCNN,
    ),
    teacher_group("faster_rcnn", "Faster R-CNN", "r101", f"{TABLE}, teacher", 39.8, deviations=TWO_STAGE, changes=RCNN),
    teacher_group(
        "faster_rcnn", "Faster R-CNN", "x101", "No Faster R-CNN on ResNeXt-101 is in these papers' tables", None, deviations=TWO_STAGE,
        changes=RCNN,
    ),
)  # fmt: skip

AFTER_NORM = "The authors compare the pyramid before its group norms, here the levels that the heads see."
REPPOINTS_MASKD = "Weight 10 is the authors' config for RepPoints."
NO_POINTS = "Their released config also pulls the student's points to the teacher's; here the pyramid only."
UNNAMED = (
    "FGD's and MasKD's ResNeXt-101 teacher is this one (32x4d, deformable convolutions behind c2); ACAM-KD's is not named closer.",
)
FROM_TIMM = (
    "The backbone starts from timm's ImageNet weights, mmdetection's from its own; its deformable convolutions start as ordinary ones.",
)
NO_STEAL = (
    "An object that no first box overlaps has no positive; in mmdetection every position that it does not overlap is its own.",
)

REPPOINTS: tuple[Group, ...] = (
    pair_group(
        "reppoints", "RepPoints", "r101",
        (
            Row("coco-reppoints-r50-alone", "alone", f"{TABLE}, student", 38.6),
            Row(
                "coco-reppoints-r101-r50-fgd", "fgd", f"{TABLE}, row FGD", 41.0,
                term("fgd", foreground_weight=1.6e-3, background_weight=8e-4, attention_weight=8e-4, global_weight=8e-6),
                ("The weights are the authors' config for RepPoints.", AFTER_NORM),
            ),
            Row(
                "coco-reppoints-r101-r50-maskd", "maskd", f"{TABLE}, row MasKD", 41.1, term("maskd", weight=10.0, tokens=6),
                (REPPOINTS_MASKD, NO_POINTS),
            ),
            Row("coco-reppoints-r101-r50-acam", "acam", TABLE, 42.5),
        ),
        mark=40.5, student=" (36.85M)", deviations=NO_STEAL,
    ),
    pair_group(
        "reppoints", "RepPoints", "x101",
        (
            Row(
                "coco-reppoints-x101-r50-maskd", "maskd", f"{TABLE}, ResNeXt-101, row MasKD", 41.8,
                term("maskd", weight=10.0, tokens=6), (REPPOINTS_MASKD, NO_POINTS),
            ),
            Row(
                "coco-reppoints-x101-r50-freekd", "freekd", f"{TABLE}, ResNeXt-101, row FreeKD", 42.4, term("freekd"), FREEKD,
            ),
            Row("coco-reppoints-x101-r50-acam", "acam", f"{TABLE}, ResNeXt-101", 42.8),
        ),
        mark=44.2, student=" (36.85M)", deviations=(*NO_STEAL, *UNNAMED),
    ),
    teacher_group("reppoints", "RepPoints", "r101", f"{TABLE}, teacher", 40.5, deviations=NO_STEAL),
    teacher_group(
        "reppoints", "RepPoints", "x101", "mmdetection's model zoo, which FGD's and MasKD's configs take their teacher from", 44.2,
        deviations=(*NO_STEAL, *FROM_TIMM), changes={"student": {"backbone_weights": "timm:resnext101_32x4d.gluon_in1k"}},
    ),
)  # fmt: skip

COCO: tuple[Group, ...] = (*RETINANET, *FASTER_RCNN, *REPPOINTS, *FCOS, *SSDLITE)
