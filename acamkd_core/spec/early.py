"""Mistakes between the parts of a job that its words alone show: refused when it is read, not after hours of teaching."""

from __future__ import annotations

from acamkd_core.spec.archs import FAMILY_TASKS, Arch, DeepLabV3Arch, MobileDeepLabV3Arch, PSPNetArch
from acamkd_core.spec.errors import ErrorInfo
from acamkd_core.spec.models import Expect, StudentSpec
from acamkd_core.spec.tasks import TASKS, TaskName


def other_metric(expect: Expect, task: TaskName) -> ErrorInfo | None:
    """A teacher's expected score in a metric that the task does not have."""
    primary = TASKS[task].metric
    if getattr(expect, primary) is not None:
        return None
    return ErrorInfo(
        code="teacher.other_metric",
        message=f"the metric of {task.replace('_', ' ')} is {primary}",
        hint=f"write expect: {{{primary}: ...}}",
        field="teacher.expect",
    )


def lone_image(student: StudentSpec, images: int) -> ErrorInfo | None:
    """A network whose batch norm sees one value a channel, and a forward pass of one image."""
    arch = student.arch
    pools = isinstance(arch, (DeepLabV3Arch, MobileDeepLabV3Arch)) or (isinstance(arch, PSPNetArch) and 1 in arch.bins)
    if images > 1 or not pools or student.freeze.norm == "eval":
        return None
    return ErrorInfo(
        code="model.batch_of_one",
        message="this network cannot train on one image at a time: the batch norm of its image-level branch needs at least two "
        "values a channel",
        hint="at least 2 images a forward pass and process (batch.global_size / batch.accumulate / processes)",
        field="batch.global_size",
    )


def nothing_to_inherit(inherit: tuple[str, ...], student: Arch | None, teacher: Arch | None) -> ErrorInfo | None:
    """A part that one of two networks does not have, or that is another thing in each; None where they are not known."""
    if student is None or teacher is None:
        return None
    detectors = FAMILY_TASKS[student.family] == "detection"
    for part in inherit:
        if part == "neck" and not (hasattr(student, "fpn_channels") and hasattr(teacher, "fpn_channels")):
            hint = "only RetinaNet, FCOS, RepPoints and Faster R-CNN have a neck"
        elif part == "head" and detectors and student.family != teacher.family:
            hint = "a detector's head is shared by networks of one family"
        else:
            continue
        return ErrorInfo(
            code="student.inherit_nothing",
            message=f"a student of family {student.family} cannot inherit the {part} of a {teacher.family}",
            hint=hint,
            field="student.inherit",
            value=part,
        )
    return None
