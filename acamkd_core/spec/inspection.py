"""What a dataset inspection says, as data: read by the server, the dashboard, the CLI and the SDK."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from acamkd_core.spec.errors import ErrorInfo

Severity = Literal["error", "warning"]


class Finding(ErrorInfo):
    """One kind of mistake in one split: how often, and in which files."""

    severity: Severity = Field(description="An error stops training; a warning is for the reader.")
    split: str | None = Field(default=None, description="Role of the split, or null for the whole dataset.")
    count: int = Field(description="How many files (or classes) are concerned.")
    files: list[str] = Field(default_factory=list, description="The first of them, relative to the dataset's folder.")


class SplitSummary(BaseModel):
    """One split in numbers."""

    role: str = Field(description="train, val, test or unlabelled.")
    images: int
    labelled: int = Field(description="Images that have readable labels.")
    pixels: int = Field(description="Labelled pixels, the ignored ones included; 0 where labels are no masks.")
    ignored: int = Field(description="Pixels with the ignore id; 0 where labels are no masks.")
    boxes: int = Field(default=0, description="Boxes, crowds included.")
    crowd: int = Field(default=0, description="Boxes that stand for a crowd of objects.")


class ClassSummary(BaseModel):
    """One class in numbers, by role of the split."""

    index: int = Field(description="Channel of the network's output.")
    id: int = Field(description="Id in the labels: mask value, category id, or position of the class folder.")
    name: str
    color: tuple[int, int, int]
    pixels: dict[str, int]
    boxes: dict[str, int] = Field(default_factory=dict, description="Boxes of the class without crowds, for detection.")
    images: dict[str, int] = Field(description="Images that contain the class.")


class SizeCount(BaseModel):
    """How many images have this size."""

    height: int
    width: int
    count: int


class ObjectSizes(BaseModel):
    """How many objects are about this large. COCO calls them small below 32 pixels and large from 96 on."""

    side: int = Field(description="From this side of a square of the object's area, in pixels of the stored image ...")
    below: int | None = Field(description="... to below this one; null: no limit.")
    boxes: dict[str, int] = Field(description="Boxes without crowds, by role of the split.")


class WorstFile(BaseModel):
    """A file in which much is wrong."""

    file: str = Field(description="Relative to the dataset's folder.")
    errors: int = Field(description="Mistakes in it that stop a training; every bad box counts.")
    warnings: int = Field(description="Other mistakes in it.")
    codes: list[str] = Field(description="Kinds of its findings.")


class InspectionReport(BaseModel):
    """Everything that was seen, findings first."""

    name: str
    digest: str
    format: str | None = Field(default=None, description="Format that the folder was read by; null in old reports.")
    task: str
    ignore_id: int | None = Field(default=None, description="Mask id without a class; null where labels are no masks.")
    findings: list[Finding]
    splits: list[SplitSummary]
    classes: list[ClassSummary]
    sizes: list[SizeCount] = Field(description="The 20 most frequent sizes.")
    object_sizes: list[ObjectSizes] = Field(default_factory=list, description="Sizes of objects, for detection.")
    worst_files: list[WorstFile] = Field(
        default_factory=list, description="The 20 files with most mistakes, those with errors first."
    )
    seconds: float
    contact_sheet: str | None = Field(default=None, description="Picture of some images with their labels.")

    @property
    def ok(self) -> bool:
        """Whether training may start."""
        return not any(finding.severity == "error" for finding in self.findings)
