"""Rows that no job can express, and what is missing."""

from acamkd_core.spec.recipes import NotExpressible

MISSING: tuple[NotExpressible, ...] = (
    NotExpressible(rows="CIRKD on Cityscapes (76.38, 75.42, 74.73)", why="the method is not built"),
    NotExpressible(
        rows="ACAM-KD's ablation with a fixed teacher mask (RetinaNet-R101 to R50, 39.8)",
        why="a mask that is read off the teacher and never learnt is no option of `acam`",
    ),
    NotExpressible(
        rows="Cascade Mask R-CNN X101 as Faster R-CNN's teacher, in FGD's and MasKD's tables",
        why="the family is not built; the X101 rows here have a teacher of the student's own family",
    ),
)
