"""CrossKD: Wang, Chen, Zheng, Li, Cheng, Hou, "CrossKD: Cross-Head Knowledge Distillation for Object Detection", CVPR 2024,
arXiv 2306.11369.

A detector's head is two towers of convolutions (classes, boxes) that serve all levels of the pyramid. The student goes
through the first i stages of its own head, the rest of the teacher's frozen head makes predictions of what comes out, and
those have to equal the teacher's: the student's own predictions hear of the labels alone. With f_i behind stage i, before
its ReLU, C_T the teacher's stages after i, and mu, sigma of each channel over the images and positions of a level:

    f^  = (f_i^S - mu(f_i^S)) / sigma(f_i^S) * sigma(f_i^T) + mu(f_i^T)       the student's map in the teacher's scale
    p^  = C_T(ReLU(f^))                                                       cross-head predictions: class logits, boxes
    L_class = 1/A sum_{a,k} w_a |sig(p^_ak) - sig(p_ak)|^beta BCE(p^_ak, sig(p_ak))
    L_box   = 1/A sum_a w_a max_k sig(p_ak) (1 - GIoU(b^_a, b_a))
    L = weight * (class_weight L_class + box_weight L_box)

w_a is 0 for anchors that count in no loss (RetinaNet's in the padding, or between background and object; RepPoints' likewise, by
the teacher's first boxes), A the batch's positive anchors (FCOS: the sum of the positive positions' centre-ness), at least 1. Towers of 4: i = 3, beta 1, both weights 1; the authors' FCOS
takes i = 2, 0.4 and 0.75. The student's gradient goes into its tower up to stage i, its neck and its backbone.

Choices the paper leaves open: where the heads' channels differ, a 1x1 convolution on each tower's map, the same for all
levels; where maps differ in size the student's is resized; unlabelled images are taught like labelled ones.
Deviations: population instead of sample deviations, and their eps inside the root (a map of one value has no sample
deviation), over the images of all processes; GIoU for FCOS too, whose authors' setting is IoU (the boxes of this FCOS are trained by GIoU).

The student's first stages, and the teacher's, are computed a second time here: the networks do not publish them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from acamkd_core.methods.align import channel_moments, constant, full_precision, match_size, refuse_far
from acamkd_core.methods.base import LevelPair, Method, StepContext
from acamkd_core.methods.dense import dense_heads, over_all
from acamkd_core.spec.methods import CrosskdTerm
from acamkd_core.torchvision_compat import torchvision

EPS = 1e-12
STAGE = 3


def in_scale_of(student_NCHW: Tensor, teacher_NCHW: Tensor) -> Tensor:
    """The student's map with the teacher's mean and deviation in every channel."""
    (of_student, mean_s), (of_teacher, mean_t) = (channel_moments(one) for one in (student_NCHW, teacher_NCHW))
    return (student_NCHW - mean_s) * (of_student + EPS).rsqrt() * of_teacher.sqrt() + mean_t


def quality_focal_loss(found_NAK: Tensor, wanted_NAK: Tensor, weights_NA: Tensor, beta: float) -> Tensor:
    """Sum of binary cross-entropies to sig(wanted), by how far apart both probabilities are. Both are logits."""
    target = wanted_NAK.sigmoid()
    each = F.binary_cross_entropy_with_logits(found_NAK, target, reduction="none")
    return (weights_NA.unsqueeze(2) * (found_NAK.sigmoid() - target).abs().pow(beta) * each).sum()


def box_loss(found_NA4: Tensor, wanted_NA4: Tensor, weights_NA: Tensor) -> Tensor:
    """Weighted sum of 1 - GIoU."""
    each: Tensor = torchvision.ops.generalized_box_iou_loss(found_NA4, wanted_NA4, reduction="none")
    return (weights_NA * each).sum()


def enter(stages: Sequence[nn.Module], maps: list[Tensor], until: int) -> list[Tensor]:
    """Maps behind the first `until` stages, before the last one's ReLU."""
    for number, stage in enumerate(stages[:until]):
        maps = [stage(F.relu(one) if number else one) for one in maps]
    return maps


class Crosskd(Method):
    """`crosskd`: terms `crosskd/class`, `crosskd/box`."""

    name = "crosskd"
    reads_raw = True
    options: CrosskdTerm

    def __init__(self, options: CrosskdTerm, pairs: list[LevelPair], *, num_classes: int) -> None:
        super().__init__(options, pairs, num_classes=num_classes)
        student, teacher = pairs[0].student.channels, pairs[0].teacher.channels
        # A tower's maps have the pyramid's channels.
        self.adapters = nn.ModuleList(nn.Conv2d(student, teacher, 1) for _ in range(2 if student != teacher else 0))

    def forward(self, ctx: StepContext) -> dict[str, Tensor]:
        """Raises CoreError: the codes of `dense_heads`."""
        for pair in self.pairs:
            have, want = (
                out.features[name].shape[-2:]
                for out, name in ((ctx.student, pair.name), (ctx.teacher, pair.teacher_name))
            )
            refuse_far((have[0], have[1]), (want[0], want[1]), level=pair.name)
        own, other, boxes = dense_heads(ctx, self.name)
        sizes = [getattr(target, "size", None) for target in ctx.targets]
        stage = min(STAGE, own.depth, other.depth) if self.options.stage is None else self.options.stage
        names = [pair.teacher_name for pair in self.pairs]
        crossed = []
        for number, (mine, theirs) in enumerate(zip(own.towers(), other.towers(), strict=True)):
            students = enter(mine, [ctx.student.features[pair.name] for pair in self.pairs], stage)
            with torch.no_grad():
                teachers = enter(theirs, [constant(ctx.teacher.features[name]) for name in names], stage)
            maps = [self._fitted(*one, number, stage) for one in zip(self.pairs, students, teachers, strict=True)]
            for module in theirs[stage:]:
                maps = [F.relu(module(one)) for one in maps]
            crossed.append(maps)
        found_logits, found_boxes = other.predictions(other.finish(names, *crossed), names)
        logits, wanted_boxes = other.predictions(ctx.teacher.raw, names)
        with torch.autocast(logits.device.type, enabled=False):
            weights, own_mass = other.assign(ctx.teacher.raw, names, boxes, sizes)
            mass = over_all(own_mass)
            options, weights = self.options, weights.to(logits)
            confidence = logits.sigmoid().amax(dim=2)
            classes = quality_focal_loss(found_logits, logits, weights, options.beta)
            placed = box_loss(found_boxes, wanted_boxes, weights * confidence)
            return {
                "crosskd/class": options.weight * options.class_weight * classes / mass,
                "crosskd/box": options.weight * options.box_weight * placed / mass,
            }

    def _fitted(self, pair: LevelPair, student: Tensor, teacher: Tensor, tower: int, stage: int) -> Tensor:
        """The student's map of one level as the teacher's head wants it."""
        student, teacher = full_precision(student), full_precision(teacher)
        with torch.autocast(student.device.type, enabled=False):
            if len(self.adapters):
                student = self.adapters[tower](student)
            student = match_size(student, (teacher.shape[-2], teacher.shape[-1]), level=pair.name)
            student = in_scale_of(student, teacher)
            return F.relu(student) if stage else student
