"""The rows of the papers' tables, one file a dataset."""

from recipes.table.base import Group, Row
from recipes.table.cityscapes import CITYSCAPES
from recipes.table.coco import COCO
from recipes.table.imagenet import IMAGENET
from recipes.table.missing import MISSING
from recipes.table.voc import VOC

GROUPS: tuple[Group, ...] = (*COCO, *CITYSCAPES, *VOC, *IMAGENET)

__all__ = ["GROUPS", "MISSING", "Group", "Row"]
