"""How samples are resized and randomly changed: one set of options for all tasks, each of which has its part of it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from acamkd_core.spec.base import SpecModel, refusal
from acamkd_core.spec.tasks import TaskName

CLASSIFIER_SIDE = 224  # ImageNet's classifiers are trained and compared at this size
Side = Annotated[int, Field(ge=8, le=8192)]


class ResizeSpec(SpecModel):
    """Resizing that keeps the aspect ratio, as the COCO recipes do: `{short: 800, max: 1333}`."""

    short: Side = Field(description="Pixels of an image's shorter side afterwards.")
    max: Side = Field(description="Limit of the longer side: an image that would exceed it gets this longer side.")

    @model_validator(mode="after")
    def _ordered(self) -> ResizeSpec:
        if self.max < self.short:
            raise refusal(f"max ({self.max}) is below short ({self.short})", field="max", hint="e.g. 800 and 1333")
        return self

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image of `size` afterwards; halves are rounded up, as mmdetection does."""
        factor = min(self.short / min(size), self.max / max(size))
        return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


class AugmentSpec(SpecModel):
    """Random changes of training samples, the same for teacher and student.

    Segmentation and detection resize to `size` (detection: or by `resize`), then take `scale` and `crop`; evaluation resizes
    only. Classification cuts a random window (`area`, `ratio`) and resizes it to `size`; evaluation resizes by `short_side`
    and cuts the middle.
    """

    size: tuple[Side, Side] | None = Field(
        default=None,
        description="Height and width to which every image is resized first (classification: of the network's input); "
        "automatic: the size of the first training image, to which all others are stretched (classification: 224 x 224, or less where the first image is smaller).",
    )
    scale: tuple[float, float] = Field(
        default=(1.0, 1.0), description="Range of the random scale (not for classification)."
    )
    resize: ResizeSpec | None = Field(
        default=None,
        description="Detection, instead of `size`: keep the aspect ratio, then pad at the right and the bottom to a "
        "multiple of `pad_to` (in training to the largest image of the batch). Padding is not scored; losses leave it out but for FCOS's, which takes it for background, and the means of feature terms.",
    )
    pad_to: int = Field(default=32, ge=1, le=512, description="What `resize` pads heights and widths to a multiple of.")
    crop: tuple[Side, Side] | None = Field(
        default=None,
        description="Height and width of the random crop; automatic: `size` (with `resize`: none). Padded where too small (not for classification).",
    )
    area: tuple[float, float] = Field(
        default=(0.08, 1.0),
        description="Classification: range of the random window's share of the image's area.",
    )
    ratio: tuple[float, float] = Field(
        default=(3 / 4, 4 / 3), description="Classification: range of the random window's width over height."
    )
    short_side: Side | None = Field(
        default=None,
        description="Classification: evaluation resizes the image's short side to this, then cuts `size` out of the middle; "
        "automatic: 256 / 224 of `size`.",
    )
    ssd: bool = Field(
        default=False,
        description="Detection: SSD's changes before resizing (colours, zoom-out, a window by overlap with an object), as "
        "SSDLite is trained; instead of `scale`, `crop` and `colour`.",
    )
    flip: float = Field(default=0.5, ge=0, le=1, description="Probability of a horizontal flip.")
    colour: float = Field(
        default=0.0, ge=0, le=1, description="Strength of colour jitter (brightness, contrast, saturation)."
    )

    @model_validator(mode="after")
    def _ordered(self) -> AugmentSpec:
        low, high = self.scale
        if not 0 < low <= high <= 16:
            raise refusal("scale needs 0 < low <= high <= 16", field="scale")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise refusal("area needs 0 < low <= high <= 1", field="area")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise refusal("ratio needs 0 < low <= high", field="ratio")
        if self.size is not None and self.short_side is not None and self.short_side < max(self.size):
            raise refusal(
                f"size {self.size[0]}x{self.size[1]} cannot be cut out of an image whose short side is {self.short_side}",
                field="short_side",
                hint=f"at least {max(self.size)}",
            )
        if self.ssd and (self.scale != (1.0, 1.0) or self.crop not in (None, self.size) or self.colour):
            raise refusal("ssd takes the place of scale, crop and colour", field="ssd", hint="leave those three out")
        if self.size is not None and self.resize is not None:
            raise refusal("give size or resize, not both", field="resize", hint="`resize` keeps the aspect ratio")
        return self

    def randomness(self, task: TaskName) -> list[str]:
        """What would have to be said for a sample to be the same in every epoch, and alone in its batch; empty if it is."""
        found = [] if self.flip == 0 else ["flip: 0"]
        found += [] if self.colour == 0 else ["colour: 0"]
        if task == "classification":
            return [*found, "a task without random windows"]
        found += [] if self.scale[0] == self.scale[1] == 1 else ["scale: [1, 1]"]
        found += [] if self.crop in (None, self.size) else ["no crop"]
        found += ["ssd: false"] if self.ssd else []
        return found + ([] if self.resize is None else ["size instead of resize, whose padding belongs to a batch"])

    def foreign(self, task: TaskName) -> str | None:
        """The first field that was changed and belongs to other tasks than this one."""
        others = ["scale", "crop"] if task == "classification" else ["area", "ratio", "short_side"]
        others += [] if task == "detection" else ["resize", "pad_to", "ssd"]
        return next((name for name in others if getattr(self, name) != type(self).model_fields[name].default), None)

    def automatic(self, task: TaskName, image: tuple[int, int]) -> dict[str, Any]:
        """Values of fields that are left out and follow from the data: `image` is height and width of its first image."""
        if self.resize is not None:
            return {}
        if task != "classification":
            return {"size": image, "crop": self.size or image}
        side = max(8, min(CLASSIFIER_SIDE, *image, self.short_side or CLASSIFIER_SIDE))
        size = self.size or (side, side)
        return {"size": size, "short_side": round(max(size) * 256 / 224)}

    @property
    def trained(self) -> tuple[int, int] | None:
        """Height and width of every training sample; None where they differ, or as long as only the data know."""
        return self.crop or self.size

    def fitted(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of an image of `size` after resizing, without padding."""
        return self.resize.fitted(size) if self.resize is not None else self.size or size

    def aspect(self) -> dict[str, int] | None:
        """`resize` and `pad_to` for readers of an exported file; None where every input has one size."""
        return None if self.resize is None else {**self.resize.model_dump(), "pad_to": self.pad_to}

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the network's input for a resized image of `size`."""
        if self.resize is None:
            return size
        height, width = (-(-side // self.pad_to) * self.pad_to for side in size)
        return height, width
